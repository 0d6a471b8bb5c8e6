"""The way of a client that acts for many owners: where each transaction finds its place.

A transaction begins without a place: BEGIN and what else needs no table is answered by the gateway
itself, or run wherever it is, until a statement says whose it is. That one decides; what was
answered before is then run in front of it, and the transaction stays there. No I/O.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from gateway.errors import NoRoute, TransactionFailed
from gateway.protocol import messages
from gateway.protocol.framing import HEADER_BYTES
from gateway.router.demand import Demand, ParentKey
from gateway.router.identity import Grant, Login, Owner
from gateway.router.roaming import (
    MATCHES_NOTHING,
    SAID_NOTHING,
    NeedParent,
    Said,
    Unsaid,
    elsewhere,
    foreign_key_value,
    route_demand,
)
from gateway.router.route import Asked, Outcome, Reject, Route
from gateway.router.statement import Const, Effect, Facts, StatementFacts, Verb
from gateway.router.tables import Place
from gateway.router.topology import Shard
from gateway.router.values import canonical
from gateway.session.context import Context
from gateway.session.demands import Demands, Path, said_in
from gateway.session.gate import Elsewhere, NeedPassage, Objection
from gateway.session.holdings import Holdings
from gateway.session.repeated import repeatable_set, repeated, with_constants
from gateway.session.state import Pin, Settings
from gateway.session.unit import Ask, Unit, begins_reads
from gateway.settings.model import KeyMismatch

_log = logging.getLogger(__name__)

_INDUSTRY: Final = Place.INDUSTRY
_SELECT: Final = Verb.SELECT
_NO_EFFECTS: Final = Effect.NONE
_BEGUN_MAX = 200
"""Statements that are kept to be run when a transaction finds its place."""

_HEARD_ELSEWHERE = Effect.LISTEN | Effect.UNLISTEN | Effect.NOTIFY
_READS_ANEW = ("read committed", "read uncommitted")
_QUERY = ord("Q")
_SAID_BY_SETTING = ("owner", "industry", "role")


class Peek:
    """What the directory knows now, and what it was asked for this decision."""

    __slots__ = ("_context", "_grants", "_login", "_owners", "_parents")

    def __init__(self, context: Context, login: Login) -> None:
        self._context = context
        self._login = login
        self._grants: tuple[Grant, ...] | None = None
        self._owners: dict[str, Owner] = {}
        self._parents: dict[ParentKey, str] = {}

    @property
    def grants(self) -> tuple[Grant, ...] | None:
        if self._grants is not None:
            return self._grants
        return self._context.directory.peek_grants(self._login.name)

    def owner(self, owner_id: str) -> Owner | None:
        return self._owners.get(owner_id) or self._context.directory.peek_owner(owner_id)

    def parent(self, key: ParentKey) -> str | None:
        found = self._parents.get(key)
        return found if found is not None else self._context.parents.peek(key)

    def learn(
        self,
        grants: tuple[Grant, ...] | None = None,
        owner: Owner | None = None,
        parent: tuple[ParentKey, str] | None = None,
    ) -> None:
        """An answer that was waited for; good until `forget`, whatever becomes of the caches."""
        if grants is not None:
            self._grants = grants
        if owner is not None:
            self._owners[owner.id] = owner
        if parent is not None:
            self._parents[parent[0]] = parent[1]

    @property
    def is_plain(self) -> bool:
        """Whether it has nothing but what the directory knows now."""
        return self._grants is None and not self._owners and not self._parents

    def forget(self) -> None:
        """The decision is made."""
        if not self.is_plain:
            self._grants = None
            self._owners = {}
            self._parents = {}


class Roaming:
    """One client's way."""

    def __init__(
        self,
        context: Context,
        login: Login,
        asked: Asked,
        holdings: Holdings,
        prepared: Callable[[bytes], Facts | None],
    ) -> None:
        self._context = context
        self._login = login
        self._startup = Said(asked.owner, asked.industry, asked.role, "gateway.owner at startup")
        self._holdings = holdings
        self._settings: Settings | None = None
        self._session = SAID_NOTHING
        self._demands = Demands(context, holdings, prepared)
        self.peek = Peek(context, login)
        self.begun: list[bytes] = []
        """What the transaction began with: to be run again wherever it finds its place."""
        self.local = False
        """The gateway itself has answered all of ``begun``: no server knows of the transaction."""
        self.failed = False
        """A transaction that no server knows of has failed."""
        self.soft = False
        """The linked server may still be left for another: nothing has bound the transaction."""
        self.bound: Shard | None = None
        self.last: Shard | None = None
        self.owner: str | None = None
        """Whose the last statement was that said so; None when it was several owners'."""
        self.keys: frozenset[str] = frozenset()
        """Whose statements a route was found for last."""
        self.inside: frozenset[str] = frozenset()
        """Whose work the running transaction has done so far."""
        self.role: str | None = None
        """The role that was said for the last statement."""
        self._savepoints: list[str] = []
        self._marks: dict[str, tuple[int, Said, Path | None]] = {}
        """By savepoint: how much had begun, what was said then, and the search path."""
        self._written: set[str] = set()
        """Tables that the running transaction has written."""
        self._sets = False
        self._front = 0
        self.front_sets = False
        """Whether what is to be run in front of the first statement may fail."""
        self._matches_nothing = False
        """What is sent now has keys that are NULL: it has found nothing, and may run again."""
        self._idle_pin = False
        """Outside of a transaction, on a server that the session keeps."""
        self._said_here = SAID_NOTHING
        """Of the running transaction: SET LOCAL, or a comment at its BEGIN."""

    # --- to another process ---

    def pack(self) -> Mapping[str, Any]:
        """Where the session stands without a server, as JSON carries it."""
        return {
            "begun": [text.hex() for text in self.begun],
            "stands": [self.local, self.failed, self._sets],
            "savepoints": self._savepoints,
            "marks": [
                [name, size, _listed(then), path]
                for name, (size, then, path) in self._marks.items()
            ],
            "said": _listed(self._said_here),
            "path": self._demands.path_here,
            "last": [None if self.last is None else self.last.name, self.owner, self.role],
        }

    def unpack(self, packed: Mapping[str, Any]) -> None:
        """Stand where another one's `pack` has told."""
        self.begun = [bytes.fromhex(text) for text in packed["begun"]]
        self.local, self.failed, self._sets = packed["stands"]
        self._savepoints = packed["savepoints"]
        self._said_here = _unlisted(packed["said"])
        self._demands.path_here = _path(packed.get("path"))
        for name, size, said, path in packed.get("marks", ()):
            self._marks[name] = (size, _unlisted(said), _path(path))
        last, self.owner, self.role = packed["last"]
        self.last = self._context.snapshot.shards.get(last)

    # --- without a server ---

    @property
    def ready(self) -> bytes:
        """ReadyForQuery, as the client must hear it while it has no server."""
        if self.failed:
            return _READY_FAILED
        return _READY_BEGUN if self.local else messages.READY_IDLE

    @property
    def front(self) -> Sequence[bytes]:
        """What the transaction began with, before what the server that is linked now is sent."""
        return self.begun[: self._front]

    @property
    def front_sql(self) -> str:
        """The same in one string."""
        return b";\n".join(self.front).decode("utf-8", "surrogateescape")

    @property
    def begun_for_reads(self) -> bool:
        """Whether a transaction that has no place yet was begun READ ONLY, as a standby can."""
        facts = [self._context.facts.facts(text) for text in self.begun]
        if not facts or not begins_reads(facts[0]):
            return False
        later = [one.transaction for more in facts[1:] for one in more.statements]
        said = [one for one in later if one is not None]
        return not any(one.isolation or one.read_only is False for one in said)

    def answer(self, unit: Unit) -> bytes | None:
        """The gateway's own answer to a unit that needs no server yet; None when it needs one.

        Raises TransactionFailed.
        """
        if not unit.asks:
            return None
        ask = unit.asks[0]
        alone = unit.size == HEADER_BYTES + len(ask.text) + 1
        simple = unit.end == _QUERY and alone and ask.facts.single
        statement = ask.facts.statements[0] if simple else None
        if self.failed:
            return self._answer_failed(statement)
        if statement is None or (not self.local and statement.verb is not Verb.BEGIN):
            return None
        handler = _LOCAL.get(statement.verb)
        tag = handler(self, ask.text, statement) if handler is not None else ""
        if not tag:
            return None
        return messages.command_complete(tag) + self.ready

    def _answer_failed(self, statement: StatementFacts | None) -> bytes:
        verb = statement.verb if statement is not None else Verb.UNKNOWN
        if verb in (Verb.COMMIT, Verb.ROLLBACK):
            self.end()
            return messages.command_complete("ROLLBACK") + messages.READY_IDLE
        known = statement is not None and statement.name in self._savepoints
        if verb is Verb.ROLLBACK_TO and known:
            self.failed = False
            assert statement is not None
            self._roll_back_to(b"", statement)
            return messages.command_complete("ROLLBACK") + self.ready
        raise TransactionFailed(
            "current transaction is aborted, commands ignored until end of transaction block"
        )

    def _begin(self, text: bytes, statement: StatementFacts) -> str:
        if self.local:
            return ""
        said = said_in(text)
        self.begun = [text]
        self.local = True
        self._said_here = said
        return "START TRANSACTION" if b"START" in text.upper().split() else "BEGIN"

    def _finish(self, text: bytes, statement: StatementFacts) -> str:
        if statement.transaction is not None and statement.transaction.chain:
            return ""
        self.end()
        return statement.verb.value

    def _savepoint(self, text: bytes, statement: StatementFacts) -> str:
        if len(self.begun) >= _BEGUN_MAX or statement.name is None:
            return ""
        self.begun.append(text)
        self._savepoints.append(statement.name)
        self._mark(statement.name)
        return "SAVEPOINT"

    def _mark(self, name: str) -> None:
        if len(self._marks) < _BEGUN_MAX:
            self._marks[name] = (len(self.begun), self._said_here, self._demands.path_here)

    def _roll_back_to(self, text: bytes, statement: StatementFacts) -> str:
        """What came behind the savepoint has never been."""
        mark = self._marks.get(statement.name or "")
        if mark is None:
            return ""
        size, self._said_here, self._demands.path_here = mark
        self._cut(size)
        return "ROLLBACK"

    def _cut(self, size: int) -> None:
        del self.begun[size:]
        self._marks = {name: one for name, one in self._marks.items() if one[0] <= size}

    def _release(self, text: bytes, statement: StatementFacts) -> str:
        name = statement.name
        if name is None or name not in self._marks or len(self.begun) >= _BEGUN_MAX:
            return ""
        size = self._marks[name][0]
        self._marks = {one: mark for one, mark in self._marks.items() if mark[0] < size}
        self.begun.append(text)
        return "RELEASE"

    def _set(self, text: bytes, statement: StatementFacts) -> str:
        if len(self.begun) >= _BEGUN_MAX or not self._will_be_taken(statement):
            return ""
        self._heed_settings(statement)
        self._demands.heed_path(statement)
        self.begun.append(text)
        self._sets = True
        return "SET"

    def _will_be_taken(self, statement: StatementFacts) -> bool:
        """Whether any server does what it says, with nothing to tell the client but that."""
        if not repeatable_set(statement) or (self._savepoints and not statement.settings):
            return False
        return all(change.name.startswith("gateway.") for change in statement.settings)

    def _heed_settings(self, statement: StatementFacts) -> None:
        """SET LOCAL gateway.owner and its like hold for the rest of the transaction."""
        for change in statement.settings:
            space, _, name = change.name.partition(".")
            if space == "gateway" and name in _SAID_BY_SETTING and len(change.values) == 1:
                value = change.values[0]
                if isinstance(value, Const):
                    self._said_here = _with(
                        self._said_here, name, value.value, f"SET {change.name}"
                    )

    # --- decisions ---

    def route(self, asks: list[Ask]) -> Outcome | NeedParent:
        """Where these go, in one transaction that has no place yet.

        Raises GatewayError for a statement that goes nowhere, Incomplete.
        """
        wanted = self._demands.together(asks)
        outcome = self._route(self._said(asks), wanted)
        self._matches_nothing = _matches_nothing(outcome)
        self.keys = _owners_of(outcome, wanted)
        return outcome

    def linked(self, target: Route, asks: list[Ask]) -> None:
        """A server of ``target`` is ours, and these will be sent."""
        self.peek.forget()
        self.bound = self.last = target.shard
        self.owner = target.owner
        self.inside = self.keys
        self.soft = True
        self._front, self.front_sets = len(self.begun), self._sets
        for ask in asks:
            self._note(ask)

    def stay(self, target: Route) -> None:
        """The session keeps the server of ``target`` for what it holds; a transaction begins."""
        self.bound = target.shard
        self.soft = False
        self._idle_pin = True

    def unlinked(self) -> None:
        """The server is given up, and the client has not noticed any of it."""
        self.bound = None
        self.local = bool(self.begun)

    def unsent(self) -> None:
        """The server is given up before it was sent anything that it was linked for."""
        self._cut(self._front)
        self._sets = self.front_sets
        self.unlinked()

    def check(self, ask: Ask) -> Objection | None:
        """What stands against sending a statement to the server that is linked; None: nothing.

        Raises GatewayError, Incomplete.
        """
        bound = self.bound
        assert bound is not None
        self._matches_nothing = False
        wanted = self._demands.together([ask])
        if self._runs_anywhere(ask, wanted):
            self._note(ask)
            return None
        said = self._said([ask])
        outcome = self._route(said, wanted)
        if isinstance(outcome, Unsaid) and self._follows(wanted, bound):
            if not wanted.owners:
                self._note(ask)
                return None
            # It names owners all the same, for rows that it makes perhaps: do they live here?
            outcome = self._route(said, replace(wanted, opaque=False))
        if isinstance(outcome, NeedParent) and outcome.key.table in self._written:
            self._note(ask)  # a row that this transaction has made, perhaps: nobody else sees it
            return None
        if not isinstance(outcome, Route):
            return outcome
        if outcome.shard.name == bound.name or self._reads_its_part(wanted, bound):
            owners = _owners_of(outcome, wanted)
            if not owners <= self.inside:
                if self._context.pauses.cover((), owners - self.inside):
                    return NeedPassage(owners - self.inside)
                self.inside |= owners
            self.peek.forget()
            if wanted.owners:
                self.owner = outcome.owner
            self._matches_nothing = _matches_nothing(outcome)
            self._note(ask)
            return None
        return self._conflict(ask, bound, outcome)

    def _conflict(self, ask: Ask, bound: Shard, wanted: Route) -> Objection | None:
        """What to do with a statement that belongs to another database than the one bound to."""
        if self.soft:
            return Elsewhere.SWITCH
        return Reject(elsewhere(bound, wanted, self._why_bound()))

    def end(self) -> None:
        """The transaction is over."""
        self.begun = []
        self.local = self.failed = self.soft = self._sets = self._idle_pin = False
        self.bound = None
        self.inside = frozenset()
        self._savepoints = []
        self._marks = {}
        self._written.clear()
        self._said_here = SAID_NOTHING
        self._demands.path_here = None

    def fail(self) -> None:
        """The gateway has refused a statement of a transaction that no server knows of."""
        self.failed = self.local

    # --- helpers ---

    def _runs_anywhere(self, ask: Ask, wanted: Demand) -> bool:
        """Neither tables nor a comment of its own say where it belongs."""
        if wanted.place is not Place.ANYWHERE or said_in(ask.text).owner is not None:
            return False
        return not wanted.at_home or (not self.soft and not ask.facts.effects & _HEARD_ELSEWHERE)

    def _route(self, said: Said, wanted: Demand) -> Outcome | NeedParent:
        context = self._context
        owner = _lone_owner(said, wanted)
        if owner is not None:
            known = context.routes.of(self._login, owner, context.snapshot, context.clock())
            if known is not None:
                return known
        outcome = self._decide(said, wanted)
        if owner is not None and isinstance(outcome, Route) and self.peek.is_plain:
            context.routes.keep(self._login, owner, context.snapshot, outcome)
        return outcome

    def _decide(self, said: Said, wanted: Demand) -> Outcome | NeedParent:
        mismatch = self._context.settings.routing.key_mismatch
        outcome = route_demand(
            self._context.snapshot,
            self._login,
            said,
            wanted,
            self.peek,
            self.bound or self.last,
            mismatch,
        )
        if mismatch is KeyMismatch.LOG and isinstance(outcome, Route) and said.owner is not None:
            foreign = wanted.owners - {said.owner}
            if foreign:
                _log.warning("%s", foreign_key_value(said.owner, said.source, foreign).message)
        return outcome

    def _follows(self, wanted: Demand, bound: Shard) -> bool:
        """Whether a statement that says nothing of whose it is just follows its transaction."""
        if self.soft or wanted.place is not Place.INDUSTRY or bound.industry is None:
            return False
        return not self._idle_pin or Pin.TEMPORARY in self._holdings.pins

    def _reads_its_part(self, wanted: Demand, bound: Shard) -> bool:
        """A key of its own owner into a table of which every industry has its part."""
        if not wanted.only_shared or not wanted.owners or self.soft or bound.industry is None:
            return False
        industry_part = Demand(Place.INDUSTRY, wanted.owners, keyed=True)
        outcome = self._route(SAID_NOTHING, industry_part)
        return isinstance(outcome, Route) and outcome.shard.name == bound.name

    def _why_bound(self) -> str:
        pins = self._holdings.pins
        if pins and not self.begun:
            return f"the connection, held by: {', '.join(pins)},"
        return "the open transaction"

    def _said(self, asks: list[Ask]) -> Said:
        """What was said besides the statements: the comment first, then SETs, then the startup."""
        self._follow_settings()
        said = SAID_NOTHING
        for ask in asks:
            here = said_in(ask.text)
            if here is SAID_NOTHING:
                continue
            if said is not SAID_NOTHING and said.owner != here.owner:
                raise NoRoute(
                    "statements sent together name two owners in their comments",
                    hint="Send a Sync between them.",
                )
            said = here
        found = _first_of(said, self._said_here, self._session, self._startup)
        self.role = found.role
        if found.owner is None:
            return found
        same = canonical(self._context.settings.routing.key_type, found.owner)
        if same is None or same == found.owner:
            return found
        return replace(found, owner=same)

    def _follow_settings(self) -> None:
        settings = self._holdings.settings
        if settings is self._settings:
            return
        self._settings = settings
        values = dict(settings)
        self._session = SAID_NOTHING
        for name in _SAID_BY_SETTING:
            value = values.get(f"gateway.{name}")
            if value:
                self._session = _with(self._session, name, value, f"SET gateway.{name}")

    def _note(self, ask: Ask) -> None:
        """It is sent: what it means for where the transaction may still go."""
        if self._idle_pin and ask.facts.first is Verb.BEGIN:
            self._idle_pin = False
        if ask.pending:
            return
        for statement in ask.facts.statements:
            if statement.writes:
                self._written.update({table for _, table in statement.writes})
            if statement.verb is Verb.ROLLBACK_TO and statement.name in self._marks:
                _, self._said_here, self._demands.path_here = self._marks[statement.name]
            if statement.settings:
                self._demands.heed_path(with_constants(ask, statement))
        if not self.soft:
            return
        if not ask.facts.known:
            self.soft = False
            return
        for statement in ask.facts.statements:
            only_reads = statement.verb is _SELECT and statement.effects is _NO_EFFECTS
            again = None if only_reads else repeated(ask, statement)
            if again is not None:
                self._keep(ask, *again)
            elif statement.effects or not (self._matches_nothing or self._harmless(statement)):
                self.soft = False

    def _harmless(self, statement: StatementFacts) -> bool:
        """It only reads, and nothing but what every database has: the system's tables, or those of
        which each industry has its part."""
        if not statement.read_only:
            return False
        keying = self._demands.keying()
        found = keying.tables.placement(statement.reads, frozenset(), False, keying.path)
        return found.place is Place.ANYWHERE or (found.only_shared and self._reads_anew())

    def _reads_anew(self) -> bool:
        """Whether each statement sees what is committed by then, wherever the ones before ran."""
        level = dict(self._holdings.settings).get("default_transaction_isolation")
        for text in self.begun:
            for statement in self._context.facts.facts(text).statements:
                if statement.transaction is not None and statement.transaction.isolation:
                    level = statement.transaction.isolation
        return level is None or level.lower() in _READS_ANEW

    def _keep(self, ask: Ask, text: bytes, statement: StatementFacts) -> None:
        if not ask.facts.single or len(self.begun) >= _BEGUN_MAX:
            self.soft = False
            return
        if statement.settings or statement.verb is Verb.SET:
            self._heed_settings(statement)
            self._sets = True
        self.begun.append(text)
        if statement.verb is Verb.SAVEPOINT and statement.name is not None:
            self._mark(statement.name)


def _lone_owner(said: Said, wanted: Demand) -> str | None:
    """The owner whose key alone decides where a statement goes; None when there is more to it."""
    if said.owner is not None or said.industry is not None or wanted.place is not _INDUSTRY:
        return None
    if len(wanted.owners) != 1 or wanted.parents or wanted.opaque:
        return None
    (owner,) = wanted.owners
    return owner


def _owners_of(outcome: Outcome | NeedParent, wanted: Demand) -> frozenset[str]:
    """Whose a statement is, as far as it says so."""
    owner = outcome.owner if isinstance(outcome, Route) else None
    if owner is None or owner in wanted.owners:
        return wanted.owners
    return wanted.owners | {owner}


def _listed(said: Said) -> list[str | None]:
    return [said.owner, said.industry, said.role, said.source]


def _unlisted(values: Sequence[Any]) -> Said:
    said = Said(*values)
    return SAID_NOTHING if said == SAID_NOTHING else said


def _path(packed: Sequence[str] | None) -> Path | None:
    return None if packed is None else tuple(packed)


def _matches_nothing(outcome: Outcome | NeedParent) -> bool:
    return isinstance(outcome, Route) and outcome.reason is MATCHES_NOTHING


def _with(said: Said, name: str, value: str, source: str) -> Said:
    return Said(
        value if name == "owner" else said.owner,
        value if name == "industry" else said.industry,
        value if name == "role" else said.role,
        source if name == "owner" or not said.source else said.source,
    )


def _first_of(*said: Said) -> Said:
    """Each of the three from the first that says it."""
    if said[0] is SAID_NOTHING and said[1] is SAID_NOTHING and said[2] is SAID_NOTHING:
        return said[3]
    owner = next((one for one in said if one.owner is not None), SAID_NOTHING)
    industry = next((one.industry for one in said if one.industry is not None), None)
    role = next((one.role for one in said if one.role is not None), None)
    return Said(owner.owner, industry, role, owner.source)


_LOCAL: dict[Verb, Callable[[Roaming, bytes, StatementFacts], str]] = {
    Verb.BEGIN: Roaming._begin,
    Verb.COMMIT: Roaming._finish,
    Verb.ROLLBACK: Roaming._finish,
    Verb.SAVEPOINT: Roaming._savepoint,
    Verb.ROLLBACK_TO: Roaming._roll_back_to,
    Verb.RELEASE: Roaming._release,
    Verb.SET: Roaming._set,
}
_READY_BEGUN = messages.ready_for_query(b"T")
_READY_FAILED = messages.ready_for_query(b"E")
