"""Prepared statements of one client on whatever server it gets.

Each method takes one of the client's messages, books in the server's reply queue what will be
owed, and returns what to send in its place: None for the message as it is. What the server lacks
is put in before; what it has already is answered by the gateway in its turn.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

from gateway.errors import GatewayError, ProtocolViolation
from gateway.pool.prepared import (
    IN_DOUBT,
    NAME_PREFIX,
    Change,
    Described,
    Prepared,
    Scope,
    Statement,
    Statements,
    Unnamed,
    change_to,
)
from gateway.pool.server import STEP, ServerConnection
from gateway.protocol import messages, replies
from gateway.protocol.framing import HEADER_BYTES
from gateway.protocol.octets import cut, same, string_end, with_name
from gateway.protocol.replies import Expected
from gateway.router.facts import UNKNOWN_FACTS, Effect, Facts, StatementFacts, Verb
from gateway.session.described import (
    STALE,
    STALE_ERROR,
    describe_anew,
    describe_first,
    keeping,
)
from gateway.session.sql_execute import calling

_HEADER_BYTES = HEADER_BYTES  # as a C integer
_FAILED = ord("E")
_STATEMENT = ord("S")
_UNKNOWN_NAME = b"?"
_ERROR = ord("E")
_EXECUTIONS_MAX = 100
_DESCRIBE_UNNAMED_BYTES = _HEADER_BYTES + 2
_PARSE = replies.PARSE  # as a C integer
_ALONE, _BOUND, _DESCRIBED = replies.CLIENT_QUERY, replies.CLIENT_BIND, replies.CLIENT_DESCRIBE
_STALE_BIND = Expected(replies.BIND, error=STALE_ERROR)
_TAKE_STEP = messages.message(b"C", b"S" + STEP) + messages.message(b"P", STEP + b"\0\0\0")
"""So that this name is taken, by an empty text."""
UNSEEN_BODY = b"\0"
"""Of a statement whose text was too long to be kept; no Parse can be made of it."""


class Heeder:
    """Who hears the facts of every statement that is parsed, bound or described."""

    __slots__ = ()

    def heed(self, server: ServerConnection, facts: Facts, text: bytes) -> bytes:
        """What must be sent before, booked. ``text`` may be empty, or go on behind a NUL."""
        return b""

    def sees_alone(self) -> bool:
        """Whether tables may be others to this client than to everybody."""
        return False

    def close_by_sql(self, server: ServerConnection, name: bytes) -> bool:
        """Book the Close of what SQL may have prepared; whether it is to be sent."""
        server.replies.expect(replies.CLIENT_CLOSE)
        return True


class Execution(NamedTuple):
    """An EXECUTE by SQL: of what, its text for the server; the server's name and the client's."""

    statement: Statement
    text: bytes
    names: tuple[bytes, bytes]


class TooManyStatements(GatewayError):
    """A client has prepared more statements than it may and closed none."""

    sqlstate = "53400"


class InDoubt(Exception):
    """What a message means depends on an answer that is still under way; it was not booked.

    ``before`` is to be sent now, and was booked.
    """

    def __init__(self, before: bytes = b"") -> None:
        super().__init__()
        self.before = before


class Translator:
    """The names one client gave, and the statements they mean."""

    __slots__ = (
        "_alone",
        "_binds",
        "_bound",
        "_changing",
        "_executions",
        "_heeder",
        "_maximum",
        "_named",
        "_shared",
        "_unnamed",
        "keyed",
        "undescribed",
    )

    def __init__(self, shared: Statements, maximum: int, heeder: Heeder) -> None:
        self._shared = shared
        self._maximum = maximum
        self._heeder = heeder
        self._named: dict[bytes, Statement] = {}
        self._unnamed = Unnamed()
        self.keyed = False
        """Some statement that was parsed may name an owner."""
        self.undescribed: Statement | None = None
        """The unnamed one of this batch, as long as nobody has asked what it returns."""
        self._binds: dict[bytes, tuple[bytes, Expected]] = {}
        """What to expect of a Bind of each name."""
        self._bound: Statement | None = None
        """Behind the unnamed portal."""
        self._executions: dict[bytes, Statement] = {}
        """By the body of an EXECUTE by SQL, what servers know it as."""
        self._changing: dict[bytes, int] = {}
        """In which batch a name was last prepared or closed, as long as that may fail."""
        self._alone: dict[Statement, Described] = {}
        """What statements that are others' too return to this client alone, in this transaction."""

    def __len__(self) -> int:
        return len(self._named)

    def statement(self, name: bytes) -> Statement | None:
        """What the client itself prepared under that name; empty for the unnamed one."""
        found = self._named.get(name) if name else self._unnamed.statement
        return found if found is None else found.stands_for or found

    def at_hand(self, server: ServerConnection, name: bytes) -> Statement | None:
        """What the client prepared under that name, if a server can be sent it in one piece, to
        the same end whatever becomes of what was sent there before; never the unnamed one."""
        statement = self._named.get(name) if name else None
        if statement is None or statement.executes is not None:
            return None
        if server.prepared.has(statement):
            return None if server.prepared.in_doubt(statement) else statement
        known = statement.described.get(server.schema)
        sure = known is None or known.checked_at == server.schema.changes
        return statement if sure else None

    @property
    def movable(self) -> bool:
        """Whether another process would understand all that is prepared."""
        unnamed = self._unnamed.statement
        if unnamed is IN_DOUBT or self._changing:
            return False
        own = (*self._named.values(), *(() if unnamed is None else (unnamed,)))
        return not any(NAME_PREFIX in (one.stands_for or one).body for one in own)

    def pack(self) -> list[Any]:
        """What is prepared, as JSON carries it: names, texts with types, scopes."""
        named = dict(self._named)
        if (unnamed := self._unnamed.statement) is not None:
            named[b""] = unnamed
        real = ((name, one.stands_for or one) for name, one in named.items())
        return [[name.hex(), one.body.hex(), one.scope] for name, one in real]

    def unpack(self, packed: list[Any]) -> None:
        """Know what another one's `pack` has told."""
        for name, body, scope in packed:
            pairs = tuple((setting, value) for setting, value in scope)
            statement = self._shared.get(bytes.fromhex(body), pairs)
            self.keyed = self.keyed or statement.facts.keyed
            self._named[bytes.fromhex(name)] = statement
        for name, statement in self._named.items():
            if statement.executes is not None:
                self._named[name] = self._executing(statement)
        self._unnamed.become(self._named.pop(b"", None))

    def forget_all(self) -> None:
        """DEALLOCATE ALL or DISCARD ALL has succeeded; the unnamed statement outlives them."""
        self._named.clear()
        self._binds.clear()

    def all_answered(self) -> None:
        """Nothing is under way that may yet fail."""
        if self._changing:
            self._changing.clear()
        if self._alone:
            self._alone.clear()

    def _known(self, server: ServerConnection, name: bytes) -> Statement | None:
        """What a name means. Raises InDoubt when a batch before this one may yet change that."""
        if name in self._changing:
            if server.replies.head is None:
                self._changing.clear()
            elif self._changing[name] != server.prepared.batch:
                raise InDoubt
        return self._named.get(name)

    def settled(self, server: ServerConnection, facts: Facts) -> None:
        """Raises InDoubt when a batch before this one may change what a DEALLOCATE names."""
        for one in facts.statements:
            if one.name is not None:
                self._known(server, one.name.encode())

    def close_others(self, server: ServerConnection) -> bytes:
        """What to send before a statement that asks what is prepared: it finds no other's."""
        server.replies.expect(Expected(replies.CLOSE, silent=True))
        others = _close(server, server.prepared.all_but(set(self._named.values())))
        return messages.message(b"C", b"S" + STEP) + others

    def _heed_use(self, server: ServerConnection, statement: Statement) -> bytes:
        """A statement is parsed, bound or described: what must be sent before, booked."""
        before = self._heeder.heed(server, statement.facts, statement.body)
        if self.undescribed is not None and self.undescribed is not statement:
            before += self.describe_unnamed(server)
        return before + self.close_others(server) if statement.lists_prepared else before

    # --- the client's messages ---

    def query(self, server: ServerConnection) -> Expected:
        """A simple Query does away with the unnamed statement; what to expect of it."""
        if server.line or server.replies.is_idle():  # in a line it can't be skipped
            self._unnamed.become(None)
            server.unnamed.become(None)
            return _ALONE
        return self._replace_unnamed(server, replies.QUERY, None)

    def answered_query(self) -> None:
        """A simple Query was answered without a server."""
        self._unnamed.become(None)

    def query_as_batch(self, server: ServerConnection) -> bytes:
        """What to send before messages that stand for a simple Query."""
        _expect_silently(server, self._replace_unnamed(server, replies.CLOSE, None))
        return messages.message(b"C", b"S\0")

    def deallocate(self, server: ServerConnection, facts: Facts) -> tuple[bytes, bytes]:
        """DEALLOCATE by SQL of a statement that the protocol prepared.

        What to send before, and the text with the server's name for it. Empty when it names none
        of those, or fails anyway: the server then knows best.
        """
        name = facts.statements[0].name if len(facts.statements) == 1 else None
        statement = self._named.get(name.encode()) if name else None
        if name is None or statement is None or server.status == _FAILED:
            return b"", b""
        before = b""
        if not server.prepared.has(statement):  # any text will do, and an empty one can't fail
            server.replies.expect(Expected(replies.PARSE, silent=True))
            before = messages.message(b"P", statement.name + bytes(4))
        server.prepared.forget(statement)
        del self._named[name.encode()]
        return before, b'DEALLOCATE "' + statement.name + b'"'

    def parse(self, server: ServerConnection, message: bytes, scope: Scope) -> bytes | None:
        """Parse. Raises InDoubt."""
        end = string_end(message, _HEADER_BYTES)
        if end < 0:
            raise ProtocolViolation("a string in a Parse is not terminated")
        name = cut(message, _HEADER_BYTES, end)
        if not name:
            self.undescribed = None
        known = self._known(server, name) if name else None
        statement = None if name else self._said_again(message, end + 1, scope)
        if statement is None:
            statement = self._shared.get(cut(message, end + 1, len(message)), scope)
        self.keyed = self.keyed or statement.facts.keyed
        if statement.deallocates:
            self.settled(server, statement.facts)
        before = self._heed_use(server, statement)
        parsed = statement
        if statement.deallocates:
            parsed, needed = self._deallocating(server, statement)
            before += needed
        if statement.executes is not None:
            parsed = self._executing(statement)
            before += self._needed(server, parsed)
        if not name:
            self._parse_unnamed(server, parsed)
            self.undescribed = None if server.schema in parsed.described else parsed
            if parsed is statement:
                return before + message if before else None
            return before + parsed.parse_message(b"")
        if known is not None:
            return before + self._parse_again(server, known, name, statement.body)
        if len(self._named) >= self._maximum:
            return before + self._one_too_many(server)
        return before + self._parse_named(server, name, parsed)

    def _said_again(self, message: bytes, at: int, scope: Scope) -> Statement | None:
        """The client's unnamed statement, if a Parse has it once more, from ``at`` on."""
        last = self._unnamed.now()
        if last is None or last.generation != self._shared.generation:
            return None
        if last.scope is not scope and last.scope != scope:
            return None
        size = len(last.body)
        again = len(message) - at == size and same(message, at, last.body, 0, size)
        return last if again else None

    def _one_too_many(self, server: ServerConnection) -> bytes:
        """What to send in place of a Parse: the server must know that the batch has failed."""
        error = TooManyStatements(
            f"a client may have at most {self._maximum} prepared statements",
            hint="Close those no longer used, or raise pool.client_statements_max.",
        )
        told = messages.error_response(error, fatal=False)
        server.replies.expect(Expected(replies.PARSE, error=told))
        return messages.message(b"D", b"S" + STALE + b"\0")

    def execute(self, name: bytes | None, text: bytes) -> Execution | None:
        """EXECUTE by SQL of a statement that the protocol prepared; None when it is none."""
        statement = self._named.get(name) if name else None
        if name is None or statement is None:
            return None
        instead = calling(text, name, statement.name)
        return None if instead is None else Execution(statement, instead, (statement.name, name))

    def before_query(self, server: ServerConnection, statement: Statement) -> bytes:
        """What to send so that a simple Query finds a statement, or says why it doesn't."""
        if server.prepared.has(statement):
            return b""

        def on_message(tag: int, body: bytes) -> None:
            if tag == _ERROR:
                server.replies.blame(messages.message(b"E", body))

        parse = _send_parse(server, statement, silent=True, on_message=on_message)
        server.prepared.sync_sent()
        server.replies.expect(Expected(replies.SYNC, silent=True))
        return parse + messages.SYNC

    def _executing(self, statement: Statement) -> Statement:
        """What to parse in place of an EXECUTE by SQL, by what its name means now."""
        statement = statement.stands_for or statement
        text, end, types = statement.body.partition(b"\0")
        execution = self.execute(statement.executes, text)
        if execution is None:
            return statement
        known = self._executions.get(statement.body)
        if known is None or known.needs is not execution.statement:
            known = self._shared.private(execution.text + end + types)
            known.needs, known.stands_for = execution.statement, statement
            if len(self._executions) >= _EXECUTIONS_MAX:
                self._executions.clear()
            self._executions[statement.body] = known
        return known

    def _needed(self, server: ServerConnection, statement: Statement) -> bytes:
        """What to send before a statement that executes another one."""
        if statement.needs is None or server.prepared.has(statement.needs):
            return b""
        return _send_parse(server, statement.needs, silent=True)

    def _deallocating(
        self, server: ServerConnection, statement: Statement
    ) -> tuple[Statement, bytes]:
        """What to parse in place of a DEALLOCATE, and what to send before."""
        before, text = self.deallocate(server, statement.facts)
        if not text:
            return statement, b""
        types = statement.body[statement.body.index(b"\0") :]
        return self._shared.private(text + types), before

    def bind(self, server: ServerConnection, message: bytes, length: int) -> bytes | None:
        """Bind; ``message`` may be cut off behind the names, ``length`` is its full size."""
        at = string_end(message, _HEADER_BYTES) + 1
        end = string_end(message, at) if at > 0 else -1
        if end < 0:
            raise ProtocolViolation("a string in a Bind is not terminated")
        name = cut(message, at, end)
        statement = self._named.get(name) if name else None
        before, real = self._resolve(server, name, statement)
        if not name:
            statement = self._unnamed.now()
        if at == _HEADER_BYTES + 1:
            self._bound = statement
        server.replies.expect(_STALE_BIND if real is STALE else self._bind_of(name, real))
        if real == name:
            return before + message if before else None
        renamed = with_name(message, length, at, end, real)
        return before + renamed if before else renamed

    def describe(self, server: ServerConnection, message: bytes) -> bytes | None:
        """Describe of a statement or a portal."""
        if len(message) == _HEADER_BYTES or message[_HEADER_BYTES] != _STATEMENT:
            if len(message) == _DESCRIBE_UNNAMED_BYTES:
                self.describe_bound(server)
            else:
                server.replies.expect(_DESCRIBED)
            return None
        name, _ = messages.read_cstring(message, _HEADER_BYTES + 1)
        statement = self._named.get(name) if name else None
        before, real = self._resolve(server, name, statement)
        if not name:
            statement = self._unnamed.now()
        if real is STALE:
            known = None if statement is None else self._described(server, statement)
            told = STALE_ERROR if known is None else known.parameters + STALE_ERROR
            expected = Expected(replies.DESCRIBE, error=told)
        else:
            expected = self._describe_of(server, statement)
        server.replies.expect(expected)
        return before + messages.message(b"D", b"S" + real + b"\0")

    def describe_bound(self, server: ServerConnection) -> None:
        """Describe of the unnamed portal."""
        server.replies.expect(self._describe_of(server, self._bound))

    def _describe_of(self, server: ServerConnection, statement: Statement | None) -> Expected:
        """What to expect of a client's Describe; the first answer about a statement is kept."""
        if statement is self.undescribed:
            self.undescribed = None
        if statement is None or server.schema in statement.described:
            return _DESCRIBED
        return keeping(server, statement)

    def describe_unnamed(self, server: ServerConnection) -> bytes:
        """What to send, booked, to learn what the unnamed statement returns: before anything that
        may change its tables, or the end of the batch, which it may outlive."""
        statement, self.undescribed = self.undescribed, None
        if statement is None or server.unnamed.now() is not statement:
            return b""
        return describe_first(server, statement, b"")

    def close(self, server: ServerConnection, message: bytes) -> bytes | None:
        """Close of a statement or a portal; the server keeps a shared statement."""
        name, _ = messages.read_cstring(message, _HEADER_BYTES + 1)
        if message[_HEADER_BYTES : _HEADER_BYTES + 1] != b"S" or not name:
            expected = replies.CLIENT_CLOSE
            if message[_HEADER_BYTES : _HEADER_BYTES + 1] == b"S":
                expected = self._replace_unnamed(server, replies.CLOSE, None)
            server.replies.expect(expected)
            return None
        statement = self._named.pop(name, None)
        if statement is None and not name.startswith(NAME_PREFIX):
            return None if self._heeder.close_by_sql(server, name) else b""
        self._binds.pop(name, None)
        self._changing[name] = server.prepared.batch

        def restore() -> None:
            # Not there any more when its own Parse has failed before.
            if statement is not None and name in self._changing:
                self._named[name] = statement

        server.replies.expect(
            Expected(replies.SYNTHETIC, reply=messages.CLOSE_COMPLETE, on_failed=restore)
        )
        return b""

    # --- Parse ---

    def parse_unseen(self, server: ServerConnection, name: bytes) -> None:
        """A Parse too long to keep: it is known to this server alone, by the client's name."""
        if name:
            server.replies.expect(replies.CLIENT_PARSE)
        else:
            self._parse_unnamed(server, Statement(b"", UNSEEN_BODY, UNKNOWN_FACTS))

    def holds_unseen(self) -> bool:
        """Whether the unnamed statement is too long to be kept: only its server has it."""
        statement = self._unnamed.now()
        return statement is not None and statement.body == UNSEEN_BODY

    def _parse_unnamed(self, server: ServerConnection, statement: Statement) -> None:
        server.replies.expect(self._replace_unnamed(server, _PARSE, statement))

    def _replace_unnamed(
        self, server: ServerConnection, kind: int, statement: Statement | None
    ) -> Change:
        """A message is sent that makes this the unnamed statement; its answer, to be expected."""
        change = _change_unnamed(server, kind, statement)
        self._unnamed.change(change, server.replies.head is None)
        return change

    def _parse_named(self, server: ServerConnection, name: bytes, statement: Statement) -> bytes:
        if server.prepared.in_doubt(statement):
            statement = self._shared.private(statement.body)
        self._named[name] = statement
        self._changing[name] = server.prepared.batch

        def undo() -> None:
            self._changing.pop(name, None)
            if self._named.get(name) is statement:
                del self._named[name]

        if not server.prepared.has(statement):
            parse = _send_parse(server, statement, silent=False, undo=undo)
            known = server.schema in statement.described
            return parse if known else parse + describe_first(server, statement, statement.name)
        if server.status == _FAILED:
            # The real server refuses it here, in its own words.
            refused = _change_unnamed(server, _PARSE, statement)

            def undo_both() -> None:
                undo()
                refused.fail()

            server.replies.expect(Expected(replies.PARSE, on_failed=undo_both))
            return statement.parse_message(b"")
        server.replies.expect(
            Expected(replies.SYNTHETIC, reply=messages.PARSE_COMPLETE, on_failed=undo)
        )
        return b""

    def _parse_again(
        self, server: ServerConnection, statement: Statement, name: bytes, body: bytes
    ) -> bytes:
        """The name is taken. Have the server say so itself, after it has looked at the text."""
        taken, before = statement.name, b""
        if not server.prepared.has(statement):  # to parse it could fail, or wait for a lock
            taken, before = STEP[:-1], _TAKE_STEP
            server.replies.expect(Expected(replies.CLOSE, silent=True))
            server.replies.expect(Expected(replies.PARSE, silent=True))
        server.replies.expect(Expected(replies.PARSE, renamed=(taken, name)))
        return before + messages.message(b"P", taken + b"\0" + body)

    # --- Bind and Describe ---

    def _resolve(
        self, server: ServerConnection, name: bytes, statement: Statement | None
    ) -> tuple[bytes, bytes]:
        """What to send before a message that names a statement, and the server's name for it."""
        if not name:
            return self._resolve_unnamed(server)
        if statement is None:
            self._known(server, name)
            return self._resolve_unknown(server, name)
        if statement.executes is not None:
            statement = self._executing(statement)
        missing = not server.prepared.has(statement)
        if missing and self._outdated(server, statement):
            return b"", STALE
        before = self._heed_use(server, statement)
        if statement.needs is not None:
            before += self._needed(server, statement)
        if missing:
            before += _send_parse(server, statement, silent=True)
        return before, statement.name

    def _outdated(self, server: ServerConnection, statement: Statement) -> bool:
        """Whether tables have changed so that a server that knew the statement would refuse it.

        Raises InDoubt to have the server asked. Not what executes another one: that is looked at.
        """
        known = None if statement.executes is not None else self._described(server, statement)
        if known is None or server.status == _FAILED or server.replies.skipping:
            return False
        if known.checked_at != server.schema.changes:
            raise InDoubt(describe_anew(server, statement, known))
        return bool(known.refusal)

    def _described(self, server: ServerConnection, statement: Statement) -> Described | None:
        """What is known of what it returned at first, and returns now to this client."""
        known = statement.described.get(server.schema)
        if known is None or not self._heeder.sees_alone():
            return known
        if statement not in self._alone:
            self._alone[statement] = known.unchecked()
        return self._alone[statement]

    def _resolve_unknown(self, server: ServerConnection, name: bytes) -> tuple[bytes, bytes]:
        """The client's own by SQL, or the server's "does not exist"; never somebody else's."""
        if name.startswith(NAME_PREFIX):
            return b"", _UNKNOWN_NAME
        return self._heeder.heed(server, _executing_by_sql(name), b""), name

    def _bind_of(self, name: bytes, real: bytes) -> Expected:
        """What to expect of a Bind: an error calls the statement by the client's name."""
        if real in (name, _UNKNOWN_NAME):
            return _BOUND
        known = self._binds.get(name)
        if known is None or known[0] != real:
            known = (real, Expected(replies.BIND, renamed=(real, name)))
            self._binds[name] = known
        return known[1]

    def _resolve_unnamed(self, server: ServerConnection) -> tuple[bytes, bytes]:
        statement = self._unnamed.now()
        if statement is None or statement is IN_DOUBT:
            return self._without_unnamed(server), b""
        if statement.executes is not None:
            statement = self._executing(statement)
        missing = server.unnamed.now() is not statement
        if missing and statement.body == UNSEEN_BODY:
            return self._without_unnamed(server), b""
        if missing and self._outdated(server, statement):
            return b"", STALE
        before = self._heed_use(server, statement)
        if statement.needs is not None:
            before += self._needed(server, statement)
        # What was put in front may have dropped it.
        if server.unnamed.now() is statement or statement.body == UNSEEN_BODY:
            return before, b""
        _expect_silently(server, _change_unnamed(server, _PARSE, statement))
        return before + statement.parse_message(b""), b""

    def _without_unnamed(self, server: ServerConnection) -> bytes:
        """What to send so that a message that names it fails, as PostgreSQL has it."""
        if server.unnamed.now() is None:
            return b""
        _expect_silently(server, _change_unnamed(server, replies.CLOSE, None))
        return messages.message(b"C", b"S\0")


def _change_unnamed(server: ServerConnection, kind: int, statement: Statement | None) -> Change:
    """A message that changes a server's unnamed statement is sent; its answer, to be expected."""
    change = change_to(kind, statement, server.replies)
    server.unnamed.change(change, server.replies.head is None)
    return change


def _expect_silently(server: ServerConnection, change: Change) -> None:
    """A message of the gateway's own changes the unnamed statement."""
    change.silent = True
    server.replies.expect(change)


def _executing_by_sql(name: bytes) -> Facts:
    """The facts of a message that means a statement prepared by SQL, if there is one."""
    text = name.decode("utf-8", "surrogateescape")
    one = StatementFacts(Verb.EXECUTE, Effect.SQL_EXECUTE, name=text, executes=text)
    return Facts.of((one,))


def close_surplus(server: ServerConnection, maximum: int) -> bytes:
    """Closes, unseen, what a server has prepared beyond ``maximum``."""
    if len(server.prepared) <= maximum:
        return b""
    return _close(server, server.prepared.surplus(maximum))


def _close(server: ServerConnection, statements: Sequence[Statement]) -> bytes:
    """Closes, unseen, what a server is no longer counted to know."""
    for one in statements:
        still_there = partial(server.prepared.add, one)
        server.replies.expect(Expected(replies.CLOSE, silent=True, on_failed=still_there))
    return b"".join(messages.message(b"C", b"S" + one.name + b"\0") for one in statements)


def _send_parse(
    server: ServerConnection,
    statement: Statement,
    *,
    silent: bool,
    undo: Callable[[], None] | None = None,
    on_message: Callable[[int, bytes], None] | None = None,
) -> bytes:
    """Make a statement known to a server; ``undo`` if that fails."""
    prepared: Prepared = server.prepared

    def failed() -> None:
        prepared.forget(statement)
        if undo is not None:
            undo()

    prepared.add(statement)
    server.replies.expect(
        Expected(
            replies.PARSE,
            silent=silent,
            on_failed=failed,
            on_message=on_message,
            unheard=on_message is not None,
        )
    )
    return statement.parse_message(statement.name)
