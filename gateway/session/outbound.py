"""From a linked client to its server: books what will be owed for each message of a chunk.

No I/O: a chunk goes in, the bytes to send come out; most often they are the chunk itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from gateway.errors import GatewayError, ProtocolViolation
from gateway.pool.prepared import LISTS_PREPARED, Statement, executed
from gateway.pool.server import IDLE, ServerConnection
from gateway.protocol import messages, replies
from gateway.protocol.framing import HEADER_BYTES, message_size
from gateway.protocol.octets import cut, holds, same, string_end
from gateway.protocol.replies import Expected
from gateway.router.facts import (
    UNKNOWN_FACTS,
    Effect,
    Facts,
    FactsCache,
    StatementFacts,
    Verb,
)
from gateway.router.statement import Timing
from gateway.session.holdings import Holdings, needs_new_process, taints
from gateway.session.listens import Listens
from gateway.session.raising import raise_sql
from gateway.session.resets import as_batch, restores, steps
from gateway.session.sql_prepared import close, exchange, look_again, outdated
from gateway.session.state import Pin
from gateway.session.translate import Heeder, InDoubt, Translator

WHOLE_MAX_BYTES = 256 * 1024
"""Messages up to this size are read whole; of longer ones only the beginning."""

_HEADER_BYTES = HEADER_BYTES  # as a C integer
_NO_EFFECT = Effect.NONE
_LISTS_PREPARED = LISTS_PREPARED
_EXPECT_EXECUTE, _EXPECT_SYNC = replies.CLIENT_EXECUTE, replies.CLIENT_SYNC
_BIND, _DESCRIBE, _EXECUTE, _PARSE, _QUERY, _SYNC = b"BDEPQS"
_PORTAL, _STATEMENT = b"PS"
_SEQUENCES = Effect.SEQUENCE_READ | Effect.SEQUENCE_WRITE
_FORGETTING = Effect.DISCARD | Effect.SQL_DEALLOCATE
_ALL = (None, "ALL")
_TEMPORARY = Pin.TEMPORARY
_ALONE = "alone"
"""As if it were a setting: nobody else's statements are those of who sees its tables alone."""
_COPY_DATA = ord("d")
_FAILED = ord("E")
_FLUSH = messages.message(b"H")
_ENDING = messages.message(b"E", bytes(5)) + messages.SYNC
_DESCRIBED_ENDING = messages.message(b"D", b"P\0") + _ENDING
_ENDING_BYTES, _DESCRIBED_ENDING_BYTES = len(_ENDING), len(_DESCRIBED_ENDING)
_FIRST_IN_BATCH = frozenset(
    [Verb.DISCARD, Verb.COMMIT_PREPARED, Verb.ROLLBACK_PREPARED, Verb.UTILITY]
)
_SHORT_BYTES = 512
_DRAWS_ALONE = 16
"""So often a client that has not asked for currval yet draws from sequences on a server that has
forgotten others' draws: it may be one that asks, and then is told of its own."""
_ENCODINGS_WITH_BACKSLASHES = frozenset(
    [b"SJIS", b"SHIFT_JIS_2004", b"BIG5", b"GBK", b"UHC", b"GB18030", b"JOHAB"]
)


class Guard(Protocol):
    """Says which statements name another owner than the client's own."""

    def of_text(self, facts: Facts, text: bytes) -> GatewayError | None:
        """What stands against a text that is run as it is."""

    def of_bind(self, message: bytes, *, complete: bool) -> GatewayError | None:
        """What stands against the values of a Bind."""


class NewProcessNeeded(Exception):
    """A statement tells a process without a past from others; nothing of its unit was sent."""


class Outbound(Heeder):
    """The client's half of one link after the other.

    ``on_facts`` hears the facts of every statement with effects, and its text.
    ``on_foreign_sequences`` is told when the client asked for a sequence's value that this server
    drew for somebody else.
    ``on_answer`` is told when what `waiting` waits for has come.
    ``on_alone`` is told of a statement that wants a database for itself: what to send before it.
    """

    __slots__ = (
        "_await_executes",
        "_draws_alone",
        "_facts",
        "_holdings",
        "_listens",
        "_number",
        "_on_alone",
        "_on_answer",
        "_on_facts",
        "_on_foreign_sequences",
        "_restore",
        "guard",
        "last_statement",
        "preamble",
        "renewable",
        "rest",
        "sent",
        "skip",
        "stamp",
        "sync_due",
        "terminated",
        "translator",
        "waiting",
    )

    def __init__(
        self,
        number: int,
        facts: FactsCache,
        holdings: Holdings,
        listens: Listens,
        on_facts: Callable[[Facts, bytes], None],
        on_foreign_sequences: Callable[[], None],
        on_answer: Callable[[], None],
        on_alone: Callable[[ServerConnection, Facts], bytes],
    ) -> None:
        self._number = number
        self._facts = facts
        self._holdings = holdings
        self._listens = listens
        self._on_facts = on_facts
        self._on_foreign_sequences = on_foreign_sequences
        self._on_answer = on_answer
        self._on_alone = on_alone
        self._restore: tuple[str, ...] = ()
        """What gives back the startup settings that the statement run or bound last resets."""
        self._await_executes = False
        """A statement of this transaction may ask for copy data, for all that is known, or make
        the server forget what it has prepared: each Execute is answered before the next message."""
        self._draws_alone = _DRAWS_ALONE
        """How many draws from sequences may still be kept apart from others' on trust."""
        self.translator: Translator
        self.guard: Guard | None = None
        self.preamble = b""
        """What is to be sent first, booked already."""
        self.renewable = False
        """The server was others' before, and may be given up for a new one."""
        self.rest = b""
        """The beginning of a message that must be whole before it is sent."""
        self.skip = 0
        """Bytes still to come of a message whose beginning has been sent."""
        self.stamp: str | None = None
        """By what the server is to know whose work may write; None: by nothing."""
        self.sync_due = False
        """Extended messages were sent without a Sync behind them."""
        self.sent = False
        """Something was sent since the last ReadyForQuery."""
        self.last_statement = b""
        """The text last run or parsed, for the log; shortened."""
        self.terminated = False
        """The client has said goodbye."""
        self.waiting = False
        """What the client's next message means depends on an answer, or it was the last one."""

    def book(self, server: ServerConnection, data: bytes) -> bytes:
        """Book a chunk; what to send for it. Raises ProtocolViolation, NewProcessNeeded."""
        if server.replies.doubtful:
            raise ProtocolViolation(
                "a Sync was sent into a COPY that failed: what follows can't be told apart any more"
            )
        end = len(data)
        done = 0
        changed: list[bytes] = [self.preamble] if self.preamble else []
        pos = min(self.skip, end)
        self.skip -= pos
        ended = False
        while not ended:
            try:  # around all messages, for it costs as much as some
                while end - pos >= _HEADER_BYTES and not self.waiting:
                    tag = data[pos]
                    if _HANDLERS[tag] is None:
                        raise unknown_message(tag)
                    size = message_size(data, pos)
                    following = min(pos + size, end)
                    part = following < pos + size
                    if part and end - pos < WHOLE_MAX_BYTES and tag != _COPY_DATA:
                        break
                    instead = self._booked(server, tag, data, pos, following, size)
                    if instead is not None:
                        if done < pos:
                            changed.append(cut(data, done, pos))
                        changed.append(instead)
                        done = following
                    self.skip = pos + size - following
                    pos = following
                    if tag == _BIND and self._ends_plainly(server, data, pos, end):
                        pos = end
                ended = True
            except InDoubt as doubt:
                changed += (data[done:pos], doubt.before, _FLUSH)
                done = pos
                self._wait(server)
        self.rest = data[pos:] if pos < end else b""
        self.preamble = b""
        if changed:
            if done < pos:
                changed.append(cut(data, done, pos))
            return b"".join(changed)
        return data if pos == end else data[:pos]

    def lone_read(self, server: ServerConnection, data: bytes) -> Timing | None:
        """How long the SELECT takes lately that is all of ``data``.

        None if it is not all, or leaves something in the session, or could not be sent a second
        time as if for the first. Nothing is booked.
        """
        if data[0] != _QUERY:
            return self._lone_bind(server, data)
        if message_size(data, 0) != len(data):
            return None
        return self._timing(server, cut(data, _HEADER_BYTES, len(data) - 1))

    def _lone_bind(self, server: ServerConnection, data: bytes) -> Timing | None:
        """The same of messages up to a Sync that bind one statement, without a named Parse."""
        timing: Timing | None = None
        parsed = bound = False
        pos, end = 0, len(data)
        while end - pos >= _HEADER_BYTES:
            tag, following = data[pos], pos + message_size(data, pos)
            if following > end:
                return None
            at = pos + _HEADER_BYTES
            if tag == _SYNC:
                return timing if bound and following == end else None
            if tag == _PARSE:
                text_end = string_end(data, at + 1)
                if parsed or bound or not at < text_end < following or data[at]:
                    return None
                parsed = True
                timing = self._timing(server, cut(data, at + 1, text_end))
            elif tag == _BIND:
                name_at = string_end(data, at) + 1
                name_end = string_end(data, name_at) if name_at > 0 else -1
                if bound or not at < name_end < following or (parsed and name_end > name_at):
                    return None
                bound = True
                if not parsed:
                    name = cut(data, name_at, name_end)
                    timing = self._timing_of(self.translator.at_hand(server, name))
            elif tag == _DESCRIBE:
                if data[at] != _PORTAL and not (
                    parsed and data[at] == _STATEMENT and not data[at + 1]
                ):
                    return None
            elif tag != _EXECUTE:
                return None
            pos = following
        return None

    def _timing_of(self, statement: Statement | None) -> Timing | None:
        """How long the reads of a statement take; None if it is something else."""
        if statement is None or statement.lists_prepared:
            return None
        facts = statement.facts
        return facts.timing if facts.effects is _NO_EFFECT else None

    def _timing(self, server: ServerConnection, text: bytes) -> Timing | None:
        """The same of a text."""
        facts = self._facts_of(server, text)
        quiet = facts.effects is _NO_EFFECT and not holds(text, _LISTS_PREPARED)
        return facts.timing if quiet else None

    def all_answered(self) -> None:
        """The server owes nothing and is in no transaction."""
        self.sent = False
        self._await_executes = False
        self.translator.all_answered()

    def _wait(self, server: ServerConnection) -> None:
        """Take nothing more from the client before all that was sent is answered."""
        self.waiting = True
        server.replies.call_back(self._go_on)

    def _go_on(self) -> None:
        self.waiting = False
        self._on_answer()

    # --- one message each: what to send in its place, None for itself ---

    def _booked(
        self, server: ServerConnection, tag: int, data: bytes, pos: int, following: int, size: int
    ) -> bytes | None:
        """The message at ``pos``, of which there is what stands before ``following``.

        Those that make up most transactions are reached without the table.
        """
        if tag == _SYNC:
            return self._sync(server, b"", size)
        if tag == _EXECUTE and not (self._restore or self._await_executes):
            return self._execute(server, b"", size)
        message = cut(data, pos, following)
        if tag == _BIND:
            return self._bind(server, message, size)
        if tag == _DESCRIBE:
            return self._describe(server, message, size)
        if tag == _QUERY:
            if server.replies.sync_due:
                self._end_failed_batch(server)
            return self._query(server, message, size)
        if tag == _PARSE:
            return self._parse(server, message, size)
        handler = _HANDLERS[tag]
        assert handler is not None
        return handler(self, server, message, size)

    def _ends_plainly(self, server: ServerConnection, data: bytes, pos: int, end: int) -> bool:
        """Book what stands behind nearly every Bind, if it is all there is: Describe and Execute of
        the unnamed portal and a Sync, or the last two."""
        rest = end - pos
        if rest != _ENDING_BYTES and rest != _DESCRIBED_ENDING_BYTES:
            return False
        start = _DESCRIBED_ENDING_BYTES - rest
        if not same(data, pos, _DESCRIBED_ENDING, start, rest):
            return False
        if self._restore or self._await_executes or self.skip or server.replies.copy_in:
            return False
        if not start:
            self.translator.describe_bound(server)
        elif self.translator.undescribed is not None:
            return False
        self._execute(server, b"", 0)
        self._sync(server, b"", 0)
        return True

    def _query(self, server: ServerConnection, message: bytes, size: int) -> bytes | None:
        text = cut(message, _HEADER_BYTES, max(_HEADER_BYTES, len(message) - 1))
        facts = self._facts_of(server, text) if len(message) == size else UNKNOWN_FACTS
        self.last_statement = text if size < _SHORT_BYTES else text[:_SHORT_BYTES]
        if self.guard is not None and (facts.keyed or holds(text, b"*/") or holds(text, b"--")):
            error = self.guard.of_text(facts, text)
            if error is not None:
                server.replies.expect(self.translator.query(server))
                return messages.query(raise_sql(error))
        if facts.effects is _NO_EFFECT:
            before = self._heeded(server, facts, text)
            if holds(text, _LISTS_PREPARED):
                before += self.translator.close_others(server)
            server.replies.expect(self.translator.query(server))
            return before + message if before else None
        return self._query_with_effects(server, message, text, facts)

    def _end_failed_batch(self, server: ServerConnection) -> None:
        """A message comes without a Sync before it: raises InDoubt until it is known where to.

        What is put in before it would be a part of the batch, and in a failed transaction fail:
        then the message is skipped; a Query would have been answered, and a refused Parse have done
        away with the unnamed statement. There a Sync changes nothing.
        """
        owed = server.replies
        if owed.skipping:
            return
        if owed.head is not None:
            raise InDoubt
        if server.status == _FAILED and not server.last_command:
            server.prepared.sync_sent()
            owed.expect(Expected(replies.SYNC, silent=True))
            raise InDoubt(messages.SYNC)

    def _lacks(self, server: ServerConnection) -> bool:
        """Whether something may have to be put in before a message."""
        if server.tells_foreign_sequences(self._number):
            return True
        return server.sql_prepared != self._holdings.sql_prepared

    def _query_with_effects(
        self, server: ServerConnection, message: bytes, text: bytes, facts: Facts
    ) -> bytes | None:
        """A Query that may leave something in the session, or needs to find it there."""
        if facts.effects & Effect.SQL_DEALLOCATE:
            self.translator.settled(server, facts)
        if server.replies.head is not None and self._restores(facts):
            raise InDoubt
        before = self._heeded(server, facts, text)
        if LISTS_PREPARED in text:
            before += self.translator.close_others(server)
        if self._restore and not server.replies.skipping and _may_reset(server, facts):
            before += self.translator.query_as_batch(server)
            message = as_batch(server, text, self._restore)
            if _forgets_prepared(facts):
                self._wait(server)
            return before + message
        expected = self.translator.query(server)
        if facts.effects & Effect.SQL_EXECUTE:
            execution = self.translator.execute(executed(facts), text)
            if execution is not None and not server.replies.sync_due:
                before += self.translator.before_query(server, execution.statement)
                failed, names = expected.fail, execution.names
                server.replies.expect(Expected(replies.QUERY, on_failed=failed, renamed=names))
                return before + messages.message(b"Q", execution.text + b"\0")
        if facts.effects & Effect.SQL_DEALLOCATE:
            needed, text = self.translator.deallocate(server, facts)
            if text:
                before += needed
                message = messages.message(b"Q", text + b"\0")
        server.replies.expect(expected)
        if _forgets_prepared(facts):
            self._wait(server)
        return before + message if before or facts.effects & Effect.SQL_DEALLOCATE else None

    def _facts_of(self, server: ServerConnection, text: bytes) -> Facts:
        """What a text is; unknown where a backslash means other than the scanner assumes."""
        if holds(text, b"\\") and reads_backslashes(server.parameters):
            return UNKNOWN_FACTS
        return self._facts.facts(text)

    def heed(self, server: ServerConnection, facts: Facts, text: bytes) -> bytes:
        """A statement with these facts comes next: what must be sent before it, booked."""
        return self._heeded(server, facts, text)

    def sees_alone(self) -> bool:
        """Whether tables may be others to this client than to everybody: its own temporary ones
        hide others, or it has not committed what it changed."""
        holdings = self._holdings
        return holdings.schema_changed or (len(holdings.pins) > 0 and _TEMPORARY in holdings.pins)

    def close_by_sql(self, server: ServerConnection, name: bytes) -> bool:
        """Book the Close of what SQL may have prepared; whether it is to be sent."""
        return close(server, self._holdings, name.decode("utf-8", "surrogateescape"))

    def _heeded(self, server: ServerConnection, facts: Facts, text: bytes) -> bytes:
        stamp = before = b""
        if server.status == _FAILED and server.replies.sync_due and self._lacks(server):
            self._end_failed_batch(server)
        if self._holdings.sql_described:
            self._look_again(server, facts)
        if not facts.read_only and self.stamp is not None and server.stamp != self.stamp:
            stamp = self._stamped(server, self.stamp, facts)
        quiet = facts.effects is _NO_EFFECT
        self._restore = () if quiet else self._restores(facts)
        if not quiet or self._holdings.reads_sequences:
            if self.renewable and needs_new_process(facts) and self._nothing_sent(server):
                raise NewProcessNeeded
            self._on_facts(facts, text)
            if facts.effects & Effect.COPY_IN or not facts.known or _forgets_prepared(facts):
                self._await_executes = True
            if facts.effects & _SEQUENCES:
                before = self._without_foreign_sequences(server, facts)
                if before and facts.effects & Effect.SEQUENCE_READ:
                    self._on_foreign_sequences()
            if facts.effects & Effect.ALONE:
                before += self._on_alone(server, facts)
            if facts.effects & Effect.SETTING and _resets_all(facts):
                server.stamp = None
            if taints(facts):
                self._holdings.effects |= Effect.LOAD
                server.tainted = True
        if facts.draws and not facts.read_only:
            if not before and (self._holdings.reads_sequences or self._draws_alone):
                before = self._without_foreign_sequences(server, facts)
                self._draws_alone -= bool(before and self._draws_alone)
            server.drew = True
        if server.sql_prepared or self._holdings.sql_prepared:
            before += exchange(server, self._holdings, facts)
        if facts.changes_schema or (self._holdings.schema_changed and _goes_back(facts)):
            self._holdings.tables_change()
            server.schema.changes += 1
        if self._listens.channels and (shown := self._listens.show(server, facts)):
            self._holdings.effects |= Effect.LISTEN
            before += shown
        return stamp + before if stamp else before

    def _look_again(self, server: ServerConnection, facts: Facts) -> None:
        """Tables may have changed since the server is ours: raises InDoubt until it is known what
        statements prepared by SQL now return, of those that are needed and not there."""
        if server.status == _FAILED or server.replies.skipping:
            return
        names = outdated(server, self._holdings, facts)
        if names and server.replies.head is not None:
            raise InDoubt
        if names:
            raise InDoubt(look_again(server, self._holdings, names))

    def _nothing_sent(self, server: ServerConnection) -> bool:
        """Whether this link is at its beginning, and the server not ours by a pin."""
        owed = server.replies
        return not (self.sent or self._holdings.pins) and (owed.idle or owed.only_own)

    def _stamped(self, server: ServerConnection, stamp: str, facts: Facts) -> bytes:
        """Tell the server whose work it is; in a transaction that stays as it was at its BEGIN.

        Not in front of what writes nothing of an owner's and must come first in its batch.
        """
        if server.status != IDLE or (facts.single and facts.first in _FIRST_IN_BATCH):
            return b""
        return server.prepare_stamp(stamp)

    def _restores(self, facts: Facts) -> tuple[str, ...]:
        """What is to follow a statement that resets settings."""
        if not facts.effects or not facts.effects & Effect.SETTING:
            return ()
        return restores(self._holdings.startup, facts)

    def _function(self, server: ServerConnection, message: bytes, size: int) -> bytes | None:
        self._holdings.effects |= Effect.UNKNOWN
        server.replies.expect(replies.CLIENT_FUNCTION)
        return None

    def _parse(self, server: ServerConnection, message: bytes, size: int) -> bytes | None:
        self.sync_due = True
        self.last_statement = message if size < _SHORT_BYTES else message[:_SHORT_BYTES]
        if len(message) < size:
            return self._parse_unseen(server, message)
        scope = server.schema.scope(self._holdings.scope)
        if self.sees_alone():
            scope = (*scope, (_ALONE, str(self._number)))
        instead = self.translator.parse(server, message, scope)
        self._restore = ()
        return instead

    def _parse_unseen(self, server: ServerConnection, message: bytes) -> bytes | None:
        """Too long to keep: it stays on this server, and so does the client."""
        name, _ = messages.read_cstring(message, _HEADER_BYTES)
        before = self._heeded(server, UNKNOWN_FACTS, b"")
        self._holdings.effects |= Effect.UNKNOWN
        self._holdings.pin(Pin.PREPARED)
        self.translator.parse_unseen(server, name)
        return before + message if before else None

    def _bind(self, server: ServerConnection, message: bytes, size: int) -> bytes | None:
        self.sync_due = True
        if self.guard is not None and self.translator.keyed:
            error = self.guard.of_bind(message, complete=len(message) == size)
            if error is not None:
                return server.prepare_step(raise_sql(error), _do_nothing)
        return self.translator.bind(server, message, size)

    def _describe(self, server: ServerConnection, message: bytes, size: int) -> bytes | None:
        self.sync_due = True
        return self.translator.describe(server, message)

    def _execute(self, server: ServerConnection, message: bytes, size: int) -> bytes | None:
        self.sync_due = True
        server.replies.expect(_EXPECT_EXECUTE)
        then = b""
        if self._restore:
            then = steps(server, self._restore)
            self._restore = ()
        if not self._await_executes:
            return message + then if then else None
        self._wait(server)
        return message + then + _FLUSH

    def _close(self, server: ServerConnection, message: bytes, size: int) -> bytes | None:
        self.sync_due = True
        return self.translator.close(server, message)

    def _sync(self, server: ServerConnection, message: bytes, size: int) -> bytes | None:
        if server.replies.swallows_sync():
            return b""  # the server would ignore it, unless its copy had just failed
        before = b""
        if self.translator.undescribed is not None:
            before = self.translator.describe_unnamed(server)
        self.sync_due = False
        server.prepared.sync_sent()
        server.replies.expect(_EXPECT_SYNC)
        return before + messages.SYNC if before else None

    def _copy_end(self, server: ServerConnection, message: bytes, size: int) -> bytes | None:
        server.replies.copy_ended()
        return None

    def _as_it_is(self, server: ServerConnection, message: bytes, size: int) -> bytes | None:
        """Flush and copy data: nothing is owed for them."""
        return None

    def _terminate(self, server: ServerConnection, message: bytes, size: int) -> bytes | None:
        self.terminated = self.waiting = True
        return b""

    def _without_foreign_sequences(self, server: ServerConnection, facts: Facts) -> bytes:
        """currval must not tell what another client drew: the server forgets it first.

        Not where it would make a transaction's mode come too late, for it takes a snapshot: then a
        currval that asks later finds nothing.
        """
        if not server.tells_foreign_sequences(self._number):
            return b""
        between = server.status == IDLE and server.replies.idle
        if not between and any(map(_says_a_mode, facts.statements)):
            return b""
        return server.discard_sequences()


def _says_a_mode(statement: StatementFacts) -> bool:
    return statement.transaction is not None


def _may_reset(server: ServerConnection, facts: Facts) -> bool:
    """Whether a statement that resets settings can succeed, as far as the last answer tells."""
    if facts.effects & Effect.DISCARD:
        return server.status == IDLE
    return server.status != _FAILED


def _forgets_prepared(facts: Facts) -> bool:
    """Whether it is DISCARD or DEALLOCATE ALL, or holds one."""
    return bool(facts.effects & _FORGETTING) and any(
        one.effects & _FORGETTING and one.name in _ALL for one in facts.statements
    )


def _resets_all(facts: Facts) -> bool:
    """Whether the gateway's own settings are reset too."""
    return any("*" in one.setting_names for one in facts.statements)


def _goes_back(facts: Facts) -> bool:
    """Whether a part of the running transaction is undone, and its changes of tables with it."""
    return any(one.verb is Verb.ROLLBACK_TO for one in facts.statements)


def _do_nothing() -> None:
    pass


def reads_backslashes(parameters: Mapping[bytes, bytes]) -> bool:
    """Whether a backslash may be an escape in '...', or the second byte of a character."""
    return (
        parameters.get(b"standard_conforming_strings") != b"on"
        or parameters.get(b"client_encoding") in _ENCODINGS_WITH_BACKSLASHES
    )


def unknown_message(tag: int) -> ProtocolViolation:
    """The error for a message type that no client may send."""
    return ProtocolViolation(f"invalid frontend message type {tag}")


_Handler = Callable[[Outbound, ServerConnection, bytes, int], bytes | None]
_BY_TAG: dict[bytes, _Handler] = {
    b"Q": Outbound._query,
    b"F": Outbound._function,
    b"P": Outbound._parse,
    b"B": Outbound._bind,
    b"D": Outbound._describe,
    b"E": Outbound._execute,
    b"C": Outbound._close,
    b"S": Outbound._sync,
    b"H": Outbound._as_it_is,
    b"d": Outbound._as_it_is,
    b"c": Outbound._copy_end,
    b"f": Outbound._copy_end,
    b"X": Outbound._terminate,
}
_HANDLERS = tuple(_BY_TAG.get(bytes([tag])) for tag in range(256))
