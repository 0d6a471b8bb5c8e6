"""The table map: which relations live in the meta database, which in the industries' databases."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from gateway.router.statement import Name

PUBLIC: tuple[str, ...] = ("public",)
"""The search path that is reckoned with when the session has set none."""

_SYSTEM_SCHEMAS = frozenset(("pg_catalog", "information_schema", "pg_toast"))
_STATISTICS = "pg_stat"
_SEQUENCE = "_seq"
_NAMES = (
    "aggregate aios am amop amproc attrdef attribute auth_members authid "
    "available_extension_versions available_extensions backend_memory_contexts cast class "
    "collation config constraint conversion cursors database db_role_setting default_acl "
    "depend description enum event_trigger extension file_settings foreign_data_wrapper "
    "foreign_server foreign_table group hba_file_rules ident_file_mappings index indexes "
    "inherits init_privs language largeobject largeobject_metadata locks matviews namespace "
    "opclass operator opfamily parameter_acl partitioned_table policies policy "
    "prepared_statements prepared_xacts proc publication publication_namespace "
    "publication_rel publication_tables range replication_origin replication_origin_status "
    "replication_slots rewrite roles rules seclabel seclabels sequence sequences settings "
    "shadow shdepend shdescription shmem_allocations shmem_allocations_numa shseclabel "
    "subscription subscription_rel tables tablespace timezone_abbrevs timezone_names "
    "transform trigger ts_config ts_config_map ts_dict ts_parser ts_template type user "
    "user_mapping user_mappings views wait_events "
)
_CATALOGS = frozenset(f"pg_{name}" for name in _NAMES.split())
"""The catalogs and views of PostgreSQL 15 to 18, but for those of statistics."""
_PLACEMENTS_MAX = 20_000


class Place(StrEnum):
    """Which databases can run a statement, for all that its tables say."""

    ANYWHERE = "anywhere"  # no table, or the system catalogs, which every database has
    META = "meta"
    INDUSTRY = "industry"
    BOTH = "both"  # tables that lie in different databases: none can


@dataclass(frozen=True, slots=True)
class Parent:
    """A table without the tenant column: a column of it names a row of one that has it."""

    table: str
    column: str


@dataclass(frozen=True)
class Placement:
    """Where all the relations of a statement are."""

    place: Place
    only_shared: bool = False
    """It reads nothing but tables that the industries' databases have their part of too."""
    open: bool = False
    """They are all the meta database's, and hold nothing that is one owner's alone."""
    tables: frozenset[str] = frozenset()
    """The relations, as errors show them."""


_Names = tuple[frozenset[Name], frozenset[Name], bool, tuple[str, ...]]


@dataclass(frozen=True)
class TableMap:
    """Every relation that is not listed is an industry's.

    ``shared`` are meta tables of which each industry's database has the subset that joins need;
    ``open`` are meta tables that service logins which act for some owners may use without a key;
    ``views`` stand for the relations they read; ``parents`` are by (table, column).
    """

    meta: frozenset[tuple[str, str]] = frozenset()
    shared: frozenset[tuple[str, str]] = frozenset()
    open: frozenset[tuple[str, str]] = frozenset()
    views: Mapping[tuple[str, str], tuple[Name, ...]] = field(default_factory=dict)
    parents: Mapping[tuple[str, str], Parent] = field(default_factory=dict)
    _known: dict[_Names, Placement] = field(default_factory=dict, compare=False, repr=False)
    """Placements worked out before."""

    def placement(
        self,
        reads: frozenset[Name],
        writes: frozenset[Name],
        locks: bool,
        path: tuple[str, ...],
    ) -> Placement:
        """Where a statement's relations are. ``locks``: it locks the rows that it reads."""
        names = (reads, writes, locks, path)
        known = self._known.get(names)
        if known is None:
            if len(self._known) >= _PLACEMENTS_MAX:
                self._known.clear()
            known = self._known[names] = self._place(*names)
        return known

    def _place(
        self,
        reads: frozenset[Name],
        writes: frozenset[Name],
        locks: bool,
        path: tuple[str, ...],
    ) -> Placement:
        relations = self.expanded(reads | writes, path)
        if not relations:
            return Placement(Place.ANYWHERE)
        tables = frozenset(map(_shown, relations))
        meta = {name for name in relations if self.is_meta(name, path)}
        if not meta:
            return Placement(Place.INDUSTRY, tables=tables)
        shared = {name for name in meta if self.is_shared(name, path)}
        reads_its_part = shared == meta and not self.expanded(writes, path) & meta
        if len(meta) == len(relations):
            open_to_all = all(self.found(name, self.open, path) for name in meta)
            return Placement(Place.META, reads_its_part and not locks, open_to_all, tables)
        return Placement(Place.INDUSTRY if reads_its_part else Place.BOTH, tables=tables)

    def found(
        self, name: Name, entries: Iterable[tuple[str, str]], path: tuple[str, ...]
    ) -> tuple[str, str] | None:
        """The one of ``entries`` that ``name`` means on this search path, None if none does."""
        schema, table = name
        for candidate in (schema,) if schema is not None else path:
            if (candidate, table) in entries:
                return (candidate, table)
        return None

    def is_meta(self, name: Name, path: tuple[str, ...]) -> bool:
        """Whether the relation lives in the meta database."""
        if self.found(name, self.meta, path) is not None:
            return True
        of_table = _table_of_sequence(name)
        return of_table is not None and self.found(of_table, self.meta, path) is not None

    def is_shared(self, name: Name, path: tuple[str, ...]) -> bool:
        """Whether each industry's database has what joins need of it."""
        return self.found(name, self.shared, path) is not None

    def expanded(self, names: Iterable[Name], path: tuple[str, ...]) -> set[Name]:
        """The relations themselves in place of the listed views; system catalogs left out."""
        relations: set[Name] = set()
        for name in names:
            view = self.found(name, self.views, path) if self.views else None
            for relation in self.views[view] if view is not None else (name,):
                if not _is_system(relation):
                    relations.add(relation)
        return relations


def _is_system(name: Name) -> bool:
    schema, table = name
    if schema is not None:
        return schema in _SYSTEM_SCHEMAS
    return table in _CATALOGS or table.startswith(_STATISTICS)


def _table_of_sequence(name: Name) -> Name | None:
    """``User`` of ``User_id_seq``, as PostgreSQL names the sequences of serial columns."""
    schema, sequence = name
    if not sequence.endswith(_SEQUENCE):
        return None
    table, _, column = sequence.removesuffix(_SEQUENCE).rpartition("_")
    return (schema, table) if table and column else None


def _shown(name: Name) -> str:
    schema, table = name
    return f'"{table}"' if schema in (None, "public") else f'{schema}."{table}"'


def named(text: str) -> tuple[str, str]:
    """``Lead`` or ``crm.Lead`` as settings write it."""
    schema, dot, table = text.rpartition(".")
    return (schema, table) if dot else ("public", text)


def search_path(value: str) -> tuple[str, ...]:
    """The schemas of a search_path setting, in order."""
    return tuple(map(_folded, value.split(",")))


def _folded(name: str) -> str:
    """An identifier as PostgreSQL reads it: in lower case unless it is quoted."""
    name = name.strip()
    return name[1:-1].replace('""', '"') if name[:1] == '"' else name.lower()
