"""What one client's session holds on its server: settings that move with it, pins that hold it.

Statements are noted as they pass; at the end of a transaction that may have changed something the
server is asked (docs/decisions/0001-ask-the-server.md), and what it says is taken over here.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import reduce
from operator import or_
from typing import Any, Final

from gateway.clock import Clock
from gateway.pool.prepared import BySql, Described, Schema
from gateway.router.facts import Const, Effect, Facts, FactsCache
from gateway.router.gist import READ_MAX_BYTES, gist
from gateway.session.pinned import Held, Pinned
from gateway.session.state import (
    LASTING,
    Found,
    Pin,
    Settings,
    custom_names,
    idle_limit_s,
    merged,
    probe_sql,
    scope_of,
)

_ASK = (
    Effect.SETTING
    | Effect.ROLE
    | Effect.SQL_PREPARE
    | Effect.LISTEN
    | Effect.TEMP
    | Effect.ADVISORY_LOCK
    | Effect.HOLD_CURSOR
    | Effect.DISCARD
    | Effect.UNKNOWN
)
"""After these the server is asked what the session now holds."""

_ASK_WHILE_PINNED = (
    _ASK
    | Effect.SQL_DEALLOCATE
    | Effect.UNLISTEN
    | Effect.ADVISORY_UNLOCK
    | Effect.DROP
    | Effect.CURSOR
)
"""With what may end a pin."""

_PINS = {
    Effect.LOAD: Pin.LOADED,
    Effect.SEQUENCE_READ: Pin.SEQUENCE,
    Effect.RANDOM_SEED: Pin.RANDOM_SEED,
}
"""State the server can't be asked for."""

_CAUSES = {
    Pin.TEMPORARY: Effect.TEMP,
    Pin.ADVISORY_LOCK: Effect.ADVISORY_LOCK,
    Pin.HELD_CURSOR: Effect.HOLD_CURSOR,
    Pin.SQL_PREPARED: Effect.SQL_PREPARE,
    Pin.LISTEN: Effect.LISTEN,
    Pin.LOADED: Effect.LOAD,
    Pin.SEQUENCE: Effect.SEQUENCE_READ,
    Pin.RANDOM_SEED: Effect.RANDOM_SEED,
}
"""What a statement must have done to be shown as the one that pinned."""

_MAY_PIN = reduce(or_, _CAUSES.values()) | Effect.UNKNOWN
_SAID_MAX = 16
"""So many statements of a transaction are remembered as what may have pinned."""

_OF_THE_PROCESS = Effect.LOAD | Effect.SESSION_COUNT

_KEPT_BY_THE_PROCESS = frozenset(
    {
        "dblink_connect",
        "dblink_connect_u",
        "pg_backup_start",
        "pg_create_logical_replication_slot",
        "pg_create_physical_replication_slot",
        "pg_replication_origin_session_setup",
    }
)
"""Functions that leave something until their server process ends, or is told by its own client."""

_PLPGSQL_SETTINGS = frozenset(
    f"plpgsql.{name}"
    for name in (
        "variable_conflict",
        "print_strict_params",
        "check_asserts",
        "extra_warnings",
        "extra_errors",
    )
)
"""Others of its prefix are taken only by a process that has not loaded it yet."""

_TEMPORARY_SCHEMA = "pg_temp"
_TO_TEMPORARY = (Const(_TEMPORARY_SCHEMA),)

_CHANGES_MEANING = Effect.SETTING | Effect.SETTING_LOCAL | Effect.ROLE | Effect.UNKNOWN
"""A PREPARE in the same transaction may depend on settings that another server won't have."""

NOTHING: Final[frozenset[str]] = frozenset()
"""One for all: an empty set of its own is the half of what an idle client's holdings take."""

_ELSEWHERE = -1
"""`BySql.changes` of what another process's servers have: none of ours has it."""
_SQL_PREPARED_MAX = 100
"""Beyond so many a client keeps its server rather than have them all prepared again."""


class Holdings:
    """Settings and pins of one session.

    ``pinned`` is told of pins that come and go. ``reads_sequences``: this client may ask
    for currval later, so it keeps its server after a write.
    """

    __slots__ = (
        "_clock",
        "_deallocated",
        "_facts",
        "_pinned",
        "_said",
        "_touched",
        "effects",
        "idle_limit_s",
        "pins",
        "reads_sequences",
        "schema_changed",
        "scope",
        "settings",
        "sql_described",
        "sql_prepared",
        "startup",
        "unseen",
    )

    def __init__(
        self,
        startup: Settings,
        facts: FactsCache,
        clock: Clock,
        pinned: Pinned,
        *,
        reads_sequences: bool,
    ) -> None:
        self.settings = startup
        """What the client's session differs in from a fresh one."""
        self.scope = scope_of(startup)
        self.idle_limit_s = idle_limit_s(startup)
        """After which an idle client is ended, by its own setting; 0: never."""
        self.pins: dict[Pin, Held] = {}
        """Why the client keeps its server."""
        self.schema_changed = False
        """The running transaction may change tables."""
        self.unseen = False
        """A function may have changed settings on this server that no query lists."""
        self.sql_prepared: dict[str, BySql] = {}
        """Statements prepared by SQL, by name."""
        self.sql_described: dict[tuple[str, Schema], Described] = {}
        """What they return, by their name and the tables they were prepared for."""
        self._deallocated: frozenset[str | None] = frozenset()
        """What the running transaction may have prepared anew under an old name."""
        self.effects = Effect(0)
        """What the statements of the running transaction may have done to the session."""
        self.startup = startup
        """What the client asked for when it connected."""
        self._facts = facts
        self._touched = NOTHING
        self._clock = clock
        self._pinned = pinned
        self._said: tuple[tuple[Facts, bytes], ...] = ()
        """What of the running transaction may pin, in order."""
        self.reads_sequences = reads_sequences

    @property
    def movable(self) -> bool:
        """Whether all of it could be given to another server."""
        return not (self.pins or self.effects or self.unseen or self.schema_changed)

    def pack(self) -> Mapping[str, Any]:
        """What the session holds, as JSON carries it."""
        return {
            "settings": self.settings,
            "prepared": {name: made.text for name, made in self.sql_prepared.items()},
            "touched": sorted(self._touched),
            "sequences": self.reads_sequences,
        }

    def unpack(self, packed: Mapping[str, Any]) -> None:
        """Hold what another one's `pack` has told."""
        self.settings = tuple((name, value) for name, value in packed["settings"])
        self.scope = scope_of(self.settings)
        self.idle_limit_s = idle_limit_s(self.settings)
        prepared = packed["prepared"].items()
        self.sql_prepared = {name: BySql(text, _ELSEWHERE) for name, text in prepared}
        self._touched = frozenset(packed["touched"])
        self.reads_sequences = packed["sequences"]

    def note(self, facts: Facts, text: bytes) -> None:
        """A statement with these facts is being run; ``text`` may be empty, or end with NUL."""
        if not self.effects:
            self._said = ()
        self.effects |= facts.effects
        if facts.effects & _MAY_PIN and len(self._said) < _SAID_MAX:
            # A long one is not kept: nothing of it is shown but its verb.
            self._said += ((facts, text if len(text) <= READ_MAX_BYTES else b""),)
        if self.reads_sequences and Pin.SEQUENCE not in self.pins and facts.draws:
            self.pin(Pin.SEQUENCE, gist(facts, text))
        if facts.effects & Effect.SQL_DEALLOCATE:
            self._deallocated = self._deallocated.union(one.name for one in facts.statements)
        if facts.effects & Effect.SETTING:
            for statement in facts.statements:
                self._touched = self._touched.union(statement.setting_names)

    def tables_change(self) -> None:
        """A statement may change tables. What was prepared by SQL before it in this transaction is
        for tables that are no more: nobody can be asked what it returned, and its server knows."""
        self.schema_changed = True
        if self.effects & Effect.SQL_PREPARE:
            self.pin(Pin.SQL_PREPARED)

    def pin(self, pin: Pin, statement: str = "") -> None:
        """Hold the client to its server; ``statement`` is what did it, if that is known here."""
        if pin not in self.pins:
            held = Held(self._clock(), statement or self._cause(pin))
            self.pins[pin] = held
            self._pinned.add(pin, self, held)

    def _cause(self, pin: Pin) -> str:
        """The first statement of the transaction that may have pinned so, as it may be shown."""
        for wanted in (_CAUSES.get(pin, Effect.NONE), Effect.UNKNOWN):
            for facts, text in self._said:
                if facts.effects & wanted:
                    return gist(facts, text)
        return ""

    def unpin(self, pin: Pin) -> None:
        """That holds it no longer."""
        del self.pins[pin]
        self._pinned.remove(pin, self)

    def end(self) -> None:
        """The client has gone."""
        for pin in list(self.pins):
            self.unpin(pin)

    def settle(self) -> None:
        """What was run may have done nothing more than what is known by now."""
        self.effects = Effect(0)
        self._said = ()
        self._deallocated = frozenset()

    def forget_prepared(self) -> None:
        """DEALLOCATE ALL or DISCARD ALL has succeeded."""
        self.sql_prepared = {}
        self.sql_described = {}

    def transaction_ended(self) -> bool:
        """Pin for what the server can't tell; whether it is to be asked for the rest."""
        effects = self.effects
        if self.sql_prepared and effects & Effect.SQL_DEALLOCATE:
            effects |= Effect.SQL_PREPARE
        if not effects:
            return False
        for effect, pin in _PINS.items():
            if effects & effect:
                self.pin(pin)
        if effects & (_ASK_WHILE_PINNED if self.pins else _ASK) and not self.whole_session:
            return True
        self.settle()
        return False

    @property
    def whole_session(self) -> bool:
        """The pool is in session mode: the server is the client's until it leaves."""
        return Pin.SESSION_MODE in self.pins

    def question(self) -> str:
        """The query that asks the server."""
        return probe_sql(custom_names(self.settings, self._touched))

    def take(
        self, found: Found, prepared_before: Mapping[str, BySql], schema_changes: int
    ) -> dict[str, BySql]:
        """The server's answer; what PREPARE has left there. LISTENs are no pin yet: they may be
        moved.

        ``prepared_before`` is what it had left there, perhaps another client's, until ours ran.
        """
        self.unseen = self.unseen or bool(self.effects & Effect.UNKNOWN)
        effects = self.effects
        settings = merged(self.startup, found.settings)
        settings_changed, self.settings = settings != self.settings, settings
        self.scope = scope_of(settings)
        self.idle_limit_s = idle_limit_s(settings)
        prepared = self._take_prepared(prepared_before, dict(found.prepared), schema_changes)
        pins = found.pins - {Pin.LISTEN, Pin.SQL_PREPARED}
        if dict(settings).get("search_path", "").startswith(_TEMPORARY_SCHEMA):
            pins |= {Pin.TEMPORARY}
        may_mean_other = settings_changed or bool(pins & {Pin.TEMPORARY})
        if effects & Effect.SQL_PREPARE and effects & _CHANGES_MEANING:
            may_mean_other = True
        if self.sql_prepared and (may_mean_other or not self._can_prepare_again()):
            pins |= {Pin.SQL_PREPARED}
        for held in list(self.pins):
            if held not in LASTING and held not in pins:
                self.unpin(held)
        for pin in pins:
            self.pin(pin)
        said = self._said if found.channels else ()  # a LISTEN may pin later, when it is placed
        self.settle()
        self._said = said
        return prepared

    def _take_prepared(
        self, before: Mapping[str, BySql], found: Mapping[str, str], schema_changes: int
    ) -> dict[str, BySql]:
        """What our statements have prepared and deallocated on a server."""
        anew = {
            name
            for name, made in self.sql_prepared.items()
            if name in self._deallocated and before.get(name) == made
        }
        kept = {
            name: made
            for name, made in before.items()
            if found.get(name) == made.text and name not in anew
        }
        new = {
            name: BySql(text, schema_changes) for name, text in found.items() if name not in kept
        }
        for name in before.keys() - kept.keys():
            self.sql_prepared.pop(name, None)
        self.sql_prepared.update(new)
        self.sql_described = {
            key: known
            for key, known in self.sql_described.items()
            if key[0] in self.sql_prepared and key[0] not in new
        }
        return kept | new

    def _can_prepare_again(self) -> bool:
        """Whether all that we prepared may be prepared on another server, to the same effect.

        Each text must be a PREPARE and nothing else, not the string that it was a part of.
        """
        if len(self.sql_prepared) > _SQL_PREPARED_MAX or Pin.SQL_PREPARED in self.pins:
            return False
        return all(
            len(facts.statements) == 1 and facts.effects == Effect.SQL_PREPARE
            for facts in (
                self._facts.facts(one.text.encode()) for one in self.sql_prepared.values()
            )
        )

    def agrees(self, found: Found) -> bool:
        """Whether an audit found nothing but what we know of, or what PREPARE left there before."""
        pins = found.pins - {Pin.SQL_PREPARED}
        return found.settings == self.settings and pins <= set(self.pins)

    def difference(self, found: Found) -> str:
        """What an audit found that we don't know of, without values."""
        changed = {name for name, _ in set(found.settings) ^ set(self.settings)}
        return ", ".join(sorted(changed | {str(pin) for pin in found.pins - set(self.pins)}))

    def no_answer(self) -> None:
        """The server could not say what it holds."""
        self.pin(Pin.UNKNOWN)
        self.settle()


def taints(facts: Facts) -> bool:
    """Whether it leaves what DISCARD ALL does not take away: a library, or a function's doing."""
    if facts.effects & Effect.LOAD or (facts.effects & Effect.SETTING and _is_reserved(facts)):
        return True
    return bool(facts.effects & Effect.UNKNOWN) and any(
        name in _KEPT_BY_THE_PROCESS for one in facts.statements for _, name in one.functions
    )


def needs_new_process(facts: Facts) -> bool:
    """Whether it tells what other clients have left in a process: a library, a temporary schema.

    Also who asks how many sessions there have been must be one of them.
    """
    if facts.effects & _OF_THE_PROCESS:
        return True
    return bool(facts.effects & Effect.SETTING) and (_is_reserved(facts) or _goes_to_temp(facts))


def _is_reserved(facts: Facts) -> bool:
    return any(
        name.startswith("plpgsql.") and name not in _PLPGSQL_SETTINGS
        for one in facts.statements
        for name in one.setting_names
    )


def _goes_to_temp(facts: Facts) -> bool:
    """Whether the session's own temporary schema becomes the current one."""
    return any(
        change.name == "search_path" and change.values[:1] == _TO_TEMPORARY
        for one in facts.statements
        for change in one.settings
    )
