"""Prepared statements: one per text, parameter types and scope, shared by all who parse it.

Clients know a statement by their own names; servers know it by the gateway's.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection
from itertools import count
from typing import NamedTuple
from weakref import ref

from gateway.protocol import messages
from gateway.protocol.replies import Expected, Replies
from gateway.router.facts import UNKNOWN_FACTS, Effect, Facts, FactsCache, Verb

NAME_PREFIX = b"__gateway_"
"""What every name that servers know begins with."""

Scope = tuple[tuple[str, str], ...]
"""The settings that change what a text means: two clients share a statement only within one."""


_ESCAPES_ALLOWED = ("standard_conforming_strings", "off")
"""A backslash in '...' is then an escape, which the scanner of facts does not assume."""


def executed(facts: Facts) -> bytes | None:
    """The name of the statement that a text executes by SQL, when that is all it does."""
    if not facts.single or facts.first is not Verb.EXECUTE:
        return None
    name = facts.statements[0].executes
    return None if name is None else name.encode()


_NEVER = -1
"""`Described.checked_at` of what is to be looked at first."""


class Described:
    """The columns of a statement as its clients know them, and whether they still hold.

    ``checked_at`` is `Schema.changes` when they were last seen; ``refusal`` is the error that the
    server has for it since, if they are others or it can't be prepared any more.
    ``parameters`` is the ParameterDescription that came with them at first.
    """

    __slots__ = ("checked_at", "columns", "parameters", "refusal")

    def __init__(self, columns: int, checked_at: int) -> None:
        self.columns = columns
        self.checked_at = checked_at
        self.refusal = b""
        self.parameters = b""

    def unchecked(self) -> Described:
        """The same columns, and nothing known of now."""
        same = Described(self.columns, _NEVER)
        same.parameters = self.parameters
        return same


class BySql(NamedTuple):
    """A statement prepared by SQL: the text that did it, and `Schema.changes` at that time.

    A server's is the client's own only if both are the same: of tables that have changed since, an
    equal text may return something else, and a server refuses to go on with what it had prepared.
    """

    text: str
    changes: int


LISTS_PREPARED = b"pg_prepared_statements"
"""A text with this may ask what is prepared."""


class Statement:
    """A text with its parameter types. ``body`` is a Parse message's, from the text on."""

    __slots__ = (
        "__weakref__",
        "body",
        "deallocates",
        "described",
        "executes",
        "facts",
        "generation",
        "lists_prepared",
        "name",
        "needs",
        "scope",
        "stands_for",
    )

    def __init__(self, name: bytes, body: bytes, facts: Facts, scope: Scope = ()) -> None:
        self.name = name
        self.body = body
        self.facts = facts
        self.scope = scope
        self.executes = executed(facts)
        self.deallocates = bool(facts.effects & Effect.SQL_DEALLOCATE)
        self.needs: Statement | None = None
        """What it executes by SQL, by the name that servers know that by."""
        self.stands_for: Statement | None = None
        """The client's own text, where this is one for servers only."""
        self.described: dict[Schema, Described] = {}
        """What it returns, by the tables it was prepared for."""
        self.lists_prepared = LISTS_PREPARED in body
        self.generation = 0
        """Of those that are shared now, `Statements.generation`."""

    def parse_message(self, name: bytes) -> bytes:
        """The Parse that makes it known to a server under ``name``."""
        return messages.message(b"P", name + b"\0" + self.body)


_CHANGES_MAX = 64

IN_DOUBT = Statement(b"", b"", UNKNOWN_FACTS)
"""Any statement or none; it is nobody's own."""


class Change(Expected):
    """A message that makes ``statement``, or none, the unnamed one, and its awaited answer.

    ``owed`` is the queue of the server that it is sent to.
    """

    __slots__ = ("_owed", "skipped", "statement")

    def to(self, kind: int, statement: Statement | None, owed: Replies) -> None:
        """Be the one of a message of that kind."""
        self.be_plain(kind)
        self.statement = statement
        self.skipped = False
        self._owed = owed

    def fail(self) -> None:
        """It was skipped, and all is as before; or refused, and there is none any more."""
        self.skipped = self._owed.skipped
        self.statement = None


def change_to(kind: int, statement: Statement | None, owed: Replies) -> Change:
    """A new `Change`: compiled, a call of the class would cost as much again."""
    change = Change.__new__(Change)
    change.to(kind, statement, owed)
    return change


class Unnamed:
    """The unnamed statement of a client or a server, also while messages may yet fail."""

    __slots__ = ("_changes", "_settled")

    def __init__(self) -> None:
        self._settled: Statement | None = None
        self._changes: list[Change] = []

    @property
    def statement(self) -> Statement | None:
        """What it is unless a message under way fails; None when there is none, or IN_DOUBT."""
        return self.now()

    def now(self) -> Statement | None:
        """The same, for the hot path: compiled, a property is looked up by name."""
        changes = self._changes
        if not changes:
            return self._settled
        last = changes[-1]
        return self._before() if last.skipped else last.statement

    def _before(self) -> Statement | None:
        """What it is, since the last message was skipped."""
        for change in reversed(self._changes):
            if not change.skipped:
                return change.statement
        return self._settled

    def change(self, change: Change, alone: bool) -> None:
        """``change`` is being sent. ``alone``: no other is under way any more."""
        if alone:
            self._settled = self.now()
            if len(self._changes) == 1:
                self._changes[0] = change
            else:
                self._changes = [change]
            return
        if len(self._changes) >= _CHANGES_MAX:
            self.become(IN_DOUBT)
        self._changes.append(change)

    def become(self, statement: Statement | None) -> None:
        """So it is for sure."""
        self._settled = statement
        if self._changes:
            self._changes = []


class Statements:
    """All statements of a worker that a client or a server still knows."""

    def __init__(self, facts: FactsCache) -> None:
        self._facts = facts
        self._shared: dict[Scope, dict[bytes, ref[Statement]]] = {}
        """By scope and body, as WeakValueDictionaries, whose look-ups are interpreted."""
        self._numbers = count(1)
        self.kept_bytes = 0
        """Of all their bodies: texts and parameter types."""
        self.generation = 1
        """How often all were forgotten, and once more."""

    def get(self, body: bytes, scope: Scope) -> Statement:
        """The shared statement of a Parse message's body."""
        of_scope = self._shared.get(scope)
        known = None if of_scope is None else of_scope.get(body)
        statement = None if known is None else known()
        return self._keep(body, scope) if statement is None else statement

    def _keep(self, body: bytes, scope: Scope) -> Statement:
        """A new one, for as long as anybody has it."""
        shared = self._shared
        of_scope = shared.setdefault(scope, {})

        def gone(dead: ref[Statement]) -> None:
            if of_scope.get(body) is dead:
                del of_scope[body]
                if shared.get(scope) is of_scope:
                    self.kept_bytes -= len(body)
                    if not of_scope:
                        del shared[scope]

        statement = self.private(body, scope)
        statement.generation = self.generation
        if body not in of_scope:
            self.kept_bytes += len(body)
        of_scope[body] = ref(statement, gone)
        return statement

    def private(self, body: bytes, scope: Scope = ()) -> Statement:
        """A statement nobody else is given."""
        text_end = body.find(b"\0")
        text = body[:text_end] if text_end >= 0 else body
        odd = b"\\" in text and _ESCAPES_ALLOWED in scope
        facts = UNKNOWN_FACTS if odd else self._facts.facts(text)
        return Statement(b"%b%x" % (NAME_PREFIX, next(self._numbers)), body, facts, scope)

    def forget(self) -> None:
        """What is prepared from now on is read anew; who has a statement keeps it."""
        self._shared.clear()
        self.kept_bytes = 0
        self.generation += 1

    def __len__(self) -> int:
        return sum(map(len, self._shared.values()))


class Schema:
    """How often the tables of a database are known to have changed.

    A text parsed after a change gets a statement of its own: a client's own Parse sees the tables
    as they are, not as they were when another client parsed the same text.
    """

    __slots__ = ("changes",)

    def __init__(self) -> None:
        self.changes = 0

    def scope(self, scope: Scope) -> Scope:
        """``scope``, narrowed to the tables as they are now."""
        return (*scope, ("", str(self.changes))) if self.changes else scope


class Prepared:
    """What one server has prepared, least recently used first."""

    __slots__ = ("_known", "_pending", "batch")

    def __init__(self) -> None:
        self._known: OrderedDict[Statement, None] = OrderedDict()
        self._pending: dict[Statement, int] = {}
        self.batch = 0
        """How many Syncs were sent."""

    def __len__(self) -> int:
        return len(self._known)

    def has(self, statement: Statement) -> bool:
        """Whether it is known, or will be unless its Parse fails; it counts as used."""
        if statement not in self._known:
            return False
        self._known.move_to_end(statement)
        return True

    def in_doubt(self, statement: Statement) -> bool:
        """Whether its Parse is unanswered and a Sync has gone out since: it may yet fail alone."""
        batch = self._pending.get(statement)
        return batch is not None and batch != self.batch

    def add(self, statement: Statement) -> None:
        """Its Parse is being sent."""
        self._known[statement] = None
        self._pending[statement] = self.batch

    def forget(self, statement: Statement) -> None:
        """Its Parse failed, or it was closed."""
        self._known.pop(statement, None)
        self._pending.pop(statement, None)

    def sync_sent(self) -> None:
        """An error before this Sync does not make the server skip what comes after it."""
        self.batch += 1

    def all_answered(self) -> None:
        """The server has answered everything: what has not failed is known."""
        if self._pending:
            self._pending.clear()

    def clear(self) -> None:
        """The server has forgotten all."""
        self._known.clear()
        self._pending.clear()

    def all_but(self, kept: Collection[Statement]) -> list[Statement]:
        """Take out those that are not to be kept; they are to be closed."""
        taken = [statement for statement in self._known if statement not in kept]
        for statement in taken:
            self.forget(statement)
        return taken

    def surplus(self, maximum: int) -> list[Statement]:
        """Take out the least recently used beyond ``maximum``; they are to be closed."""
        taken = []
        while len(self._known) > maximum:
            statement, _ = self._known.popitem(last=False)
            self._pending.pop(statement, None)
            taken.append(statement)
        return taken
