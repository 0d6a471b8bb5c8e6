"""What PostgreSQL's own functions do to a session, reviewed by hand.

Stable and immutable functions leave nothing behind and may run on a replica. Each volatile one is
in exactly one list here (a test says so when a new PostgreSQL brings another), and none of them is
taken for read-only.

A function is known by name alone. An unqualified name of a built-in is taken for the built-in:
PostgreSQL looks in pg_catalog first, unless a search_path names pg_catalog after other schemas or a
function of the same name fits the argument types better.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from gateway.router import builtin_functions
from gateway.router.sqltree import names
from gateway.router.statement import Effect

VOLATILE: Final = names(builtin_functions.VOLATILE)
STABLE: Final = names(builtin_functions.STABLE)

HARMLESS: Final = names(
    """
    array_sample array_shuffle bernoulli clock_timestamp current_query gen_random_uuid random
    random_normal system timeofday uuidv4 uuidv7
    pg_sleep pg_sleep_for pg_sleep_until
    amvalidate brinhandler bthandler dsnowball_init dsnowball_lexize ginhandler gisthandler
    hashhandler heap_tableam_handler spghandler currtid2
    """
)
"""Volatile only because their result changes, or not callable from SQL."""

TRIGGERS: Final = names(
    """
    RI_FKey_cascade_del RI_FKey_cascade_upd RI_FKey_check_ins RI_FKey_check_upd RI_FKey_noaction_del
    RI_FKey_noaction_upd RI_FKey_restrict_del RI_FKey_restrict_upd RI_FKey_setdefault_del
    RI_FKey_setdefault_upd RI_FKey_setnull_del RI_FKey_setnull_upd
    suppress_redundant_updates_trigger tsvector_update_trigger tsvector_update_trigger_column
    unique_key_recheck
    """
)
"""Trigger functions: an error when called."""

MONITORING: Final = names(
    """
    pg_available_wal_summaries pg_blocking_pids pg_collation_actual_version pg_control_checkpoint
    pg_control_init pg_control_recovery pg_control_system pg_current_logfile
    pg_current_wal_flush_lsn pg_current_wal_insert_lsn pg_current_wal_lsn
    pg_database_collation_actual_version pg_database_size pg_get_aios pg_get_backend_memory_contexts
    pg_get_loaded_modules pg_get_multixact_members pg_get_sequence_data pg_get_shmem_allocations
    pg_get_shmem_allocations_numa pg_get_wait_events pg_get_wal_replay_pause_state
    pg_get_wal_resource_managers pg_get_wal_summarizer_state pg_hba_file_rules
    pg_ident_file_mappings pg_indexes_size pg_is_in_recovery pg_is_wal_replay_paused
    pg_isolation_test_session_is_blocked pg_jit_available pg_last_committed_xact
    pg_last_wal_receive_lsn pg_last_wal_replay_lsn pg_last_xact_replay_timestamp pg_lock_status
    pg_logical_slot_peek_binary_changes pg_logical_slot_peek_changes pg_ls_archive_statusdir
    pg_ls_dir pg_ls_logdir pg_ls_logicalmapdir pg_ls_logicalsnapdir pg_ls_replslotdir
    pg_ls_summariesdir pg_ls_tmpdir pg_ls_waldir pg_notification_queue_usage pg_partition_ancestors
    pg_partition_tree pg_prepared_xact pg_read_binary_file pg_read_file pg_read_file_old
    pg_relation_size pg_replication_origin_progress pg_replication_origin_session_is_setup
    pg_replication_origin_session_progress pg_safe_snapshot_blocking_pids pg_sequence_last_value
    pg_show_all_file_settings pg_show_replication_origin_status pg_stat_clear_snapshot pg_stat_file
    pg_stat_force_next_flush pg_stat_get_backend_io pg_stat_get_backend_wal pg_stat_get_io
    pg_stat_get_recovery_prefetch pg_stat_get_xact_blocks_fetched pg_stat_get_xact_blocks_hit
    pg_stat_get_xact_function_calls pg_stat_get_xact_function_self_time
    pg_stat_get_xact_function_total_time pg_stat_get_xact_numscans pg_stat_get_xact_tuples_deleted
    pg_stat_get_xact_tuples_fetched pg_stat_get_xact_tuples_hot_updated
    pg_stat_get_xact_tuples_inserted pg_stat_get_xact_tuples_newpage_updated
    pg_stat_get_xact_tuples_returned pg_stat_get_xact_tuples_updated pg_stat_have_stats
    pg_table_size pg_tablespace_size pg_total_relation_size pg_wal_summary_contents
    pg_xact_commit_timestamp pg_xact_commit_timestamp_origin pg_xact_status txid_status
    """
)
"""They look at this server: another one would say something else."""

SERVER_WIDE: Final = names(
    """
    brin_desummarize_range brin_summarize_new_values brin_summarize_range gin_clean_pending_list
    pg_cancel_backend pg_clear_attribute_stats pg_clear_relation_stats pg_create_restore_point
    pg_drop_replication_slot pg_export_snapshot pg_import_system_collations
    pg_log_backend_memory_contexts pg_log_standby_snapshot pg_logical_emit_message
    pg_logical_slot_get_binary_changes pg_logical_slot_get_changes pg_nextoid pg_promote
    pg_reload_conf pg_replication_origin_advance pg_replication_origin_create
    pg_replication_origin_drop pg_replication_slot_advance pg_restore_attribute_stats
    pg_restore_relation_stats pg_rotate_logfile pg_rotate_logfile_old pg_stat_reset
    pg_stat_reset_backend_stats pg_stat_reset_replication_slot pg_stat_reset_shared
    pg_stat_reset_single_function_counters pg_stat_reset_single_table_counters pg_stat_reset_slru
    pg_stat_reset_subscription_stats pg_switch_wal pg_sync_replication_slots pg_terminate_backend
    pg_wal_replay_pause pg_wal_replay_resume
    """
)
"""They change the server or the data, and nothing in the session."""

TRANSACTION_LOCKS: Final = names(
    """
    pg_advisory_xact_lock pg_advisory_xact_lock_shared pg_try_advisory_xact_lock
    pg_try_advisory_xact_lock_shared
    """
)
"""Advisory locks that end with the transaction."""

ASSIGN_XID: Final = names("pg_current_xact_id txid_current")
"""Called stable, but they write to the log and fail on a replica."""

WITH_EFFECT: Final[Mapping[Effect, frozenset[str]]] = {
    Effect.SETTING: names("set_config"),
    Effect.RANDOM_SEED: names("setseed"),
    Effect.SEQUENCE_READ: names("currval lastval"),
    Effect.SEQUENCE_WRITE: names("nextval setval"),
    Effect.NOTIFY: names("pg_notify"),
    Effect.CURSOR: names("cursor_to_xml cursor_to_xmlschema"),
    Effect.ADVISORY_LOCK: names(
        "pg_advisory_lock pg_advisory_lock_shared pg_try_advisory_lock pg_try_advisory_lock_shared"
    ),
    Effect.ADVISORY_UNLOCK: names(
        "pg_advisory_unlock pg_advisory_unlock_all pg_advisory_unlock_shared"
    ),
    Effect.LARGE_OBJECT: names(
        """
        lo_close lo_creat lo_create lo_export lo_from_bytea lo_get lo_import lo_lseek lo_lseek64
        lo_open lo_put lo_tell lo_tell64 lo_truncate lo_truncate64 lo_unlink loread lowrite
        """
    ),
    # They run SQL given as text, belong to one session (backups, temporary slots, origins), or are
    # for the server's own use.
    Effect.UNKNOWN: names(
        """
        query_to_xml query_to_xml_and_xmlschema query_to_xmlschema ts_rewrite ts_stat
        pg_backup_start pg_backup_stop pg_copy_logical_replication_slot
        pg_copy_physical_replication_slot pg_create_logical_replication_slot
        pg_create_physical_replication_slot pg_replication_origin_session_reset
        pg_replication_origin_session_setup pg_replication_origin_xact_reset
        pg_replication_origin_xact_setup
        pg_extension_config_dump pg_stop_making_pinned_objects plpgsql_call_handler
        plpgsql_inline_handler plpgsql_validator
        binary_upgrade_add_sub_rel_state binary_upgrade_create_empty_extension
        binary_upgrade_logical_slot_has_caught_up binary_upgrade_replorigin_advance
        binary_upgrade_set_missing_value binary_upgrade_set_next_array_pg_type_oid
        binary_upgrade_set_next_heap_pg_class_oid binary_upgrade_set_next_heap_relfilenode
        binary_upgrade_set_next_index_pg_class_oid binary_upgrade_set_next_index_relfilenode
        binary_upgrade_set_next_multirange_array_pg_type_oid
        binary_upgrade_set_next_multirange_pg_type_oid binary_upgrade_set_next_pg_authid_oid
        binary_upgrade_set_next_pg_enum_oid binary_upgrade_set_next_pg_tablespace_oid
        binary_upgrade_set_next_pg_type_oid binary_upgrade_set_next_toast_pg_class_oid
        binary_upgrade_set_next_toast_relfilenode binary_upgrade_set_record_init_privs
        """
    ),
}
"""Those that leave something in the session."""

EFFECTS: Final[Mapping[str, Effect]] = {
    **dict.fromkeys(VOLATILE, Effect.UNKNOWN),
    **dict.fromkeys(
        HARMLESS | TRIGGERS | MONITORING | SERVER_WIDE | TRANSACTION_LOCKS | ASSIGN_XID, Effect.NONE
    ),
    **{name: effect for effect, group in WITH_EFFECT.items() for name in group},
}
"""Every built-in that isn't plainly harmless: what it leaves behind. None of them is read-only."""

READ_ONLY: Final = STABLE - ASSIGN_XID
"""Built-ins that any replica may run."""
