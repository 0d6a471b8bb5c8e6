"""One connection to a PostgreSQL, logged in: its replies go to the client linked to it.

Hot path: the bytes of a chunk go on in one piece; only messages that change what is owed, or that
nobody may see, are looked at.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from gateway.errors import GatewayError, ProtocolViolation, QueryCanceled, ServerUnavailable
from gateway.net.ends import End, wire_of
from gateway.pool.prepared import NAME_PREFIX, BySql, Prepared, Schema, Unnamed
from gateway.protocol import messages, replies
from gateway.protocol.framing import ALL_TAGS, HEADER_BYTES, message_size, tag_set, walk
from gateway.protocol.octets import cut, same
from gateway.protocol.replies import Expected, Replies
from gateway.router.statement import Timing

IDLE = ord("I")
"""ReadyForQuery's status outside of a transaction."""

_READY_BYTES = len(messages.READY_IDLE)
_WHOLE_MAX_BYTES = 1024 * 1024
"""Messages that must be seen whole are streamed, unseen, beyond this."""

Setting = tuple[str, str]


class LinkedClient(End):
    """What a server connection needs of the client it serves. This one hears nothing of it."""

    __slots__ = ()

    def forward(self, data: bytes) -> None:
        """Bytes for the client, whole messages or parts of big ones, in order."""

    def server_ready(self, status: int) -> None:
        """Nothing is owed any more; ``status`` is ReadyForQuery's."""

    def server_reported(self, name: bytes, value: bytes) -> bool:
        """A ParameterStatus arrives; whether it tells the client something new."""
        return False

    def server_notified(self, body: bytes) -> None:
        """A NotificationResponse arrives; it is the client's to pass on."""

    def server_failed(self, fields: dict[str, str]) -> None:
        """An ErrorResponse for the client goes by; ``fields`` by their one-letter code."""

    def end(self, error: GatewayError) -> None:
        """Tell the client why and close it."""

    def server_fenced(self, error: GatewayError) -> None:
        """The server is no primary any more: leave it, or tell the client and close it."""
        self.end(error)

    def server_stale(self, *, answered: bool) -> bytes:
        """Its work was refused, for the epoch it is stamped with is over: the error to be told.

        ``answered``: the client has heard a part of the answer. Empty when the client has left the
        server, to do the work elsewhere.
        """
        return b""

    def server_forgot_prepared(self) -> None:
        """All prepared statements of the session are gone, at the client's own command."""

    def server_lost(self, error: ServerUnavailable) -> None:
        """The connection has ended; it is no longer linked."""

    def server_full(self) -> None:
        """The server takes no more for now."""

    def server_drained(self) -> None:
        """The server takes more again."""


class Rider(LinkedClient):
    """A client in line: it has sent behind the one that is linked (sharing.py)."""

    __slots__ = ()

    def turn_came(self, server: ServerConnection) -> None:
        """What the server sends next is its answer: it is to link itself."""

    def ask_elsewhere(self) -> None:
        """Its turn does not come here; of what it sent nothing has been told."""


@dataclass(slots=True)
class Answer:
    """What came back for a query the gateway put in itself."""

    rows: list[list[bytes | None]] = field(default_factory=list)
    error: dict[str, str] | None = None
    error_body: bytes = b""
    """Of the ErrorResponse, as it came."""


class ServerConnection(End):
    """A PostgreSQL connection after its login."""

    __slots__ = (
        "_held",
        "_owner_lost",
        "_paused",
        "_skip",
        "_skip_silent",
        "_wire",
        "audited_at",
        "cancels",
        "client",
        "client_number",
        "closing",
        "drew",
        "holds_ready",
        "last_command",
        "last_error",
        "life_ends_at",
        "line",
        "lost",
        "opened_at",
        "parameters",
        "pid",
        "pinned",
        "prepared",
        "ready_held",
        "replies",
        "schema",
        "secret",
        "sequences_of",
        "settings",
        "spoke",
        "sql_prepared",
        "stamp",
        "status",
        "tainted",
        "timed_out_s",
        "timing",
        "transport",
        "turn_at",
        "turn_is_over",
        "turns",
        "unnamed",
        "used_at",
    )

    def __init__(
        self,
        transport: asyncio.Transport,
        pid: int,
        secret: bytes,
        parameters: dict[bytes, bytes],
        now: float,
    ) -> None:
        self.transport = transport
        self._wire = wire_of(transport)
        self.pid = pid
        self.secret = secret
        self.parameters = parameters
        self.replies = Replies()
        self.line: list[Rider] = []
        """Who has sent behind the linked client."""
        self.turn_at = 0.0
        """Since when the linked client has its turn, where others wait."""
        self.timing: Timing | None = None
        """Where to note how long that is, if it is one read."""
        self.turn_is_over = False
        """The linked client has all of its answer, and the next one in line is not linked yet."""
        self.status = IDLE
        self.client: LinkedClient | None = None
        self.client_number = 0
        self.drew = False
        """The linked client may have drawn from a sequence."""
        self.sequences_of = _NOBODY
        """Whose sequence values currval and lastval would tell, of clients linked before."""
        self.holds_ready = False
        """The linked client passes the last ReadyForQuery of its transaction on itself."""
        self.ready_held = False
        """Such a one has come, and the client doesn't know of it."""
        self.settings: tuple[Setting, ...] = ()
        """What of the session's settings differs from a fresh connection's, as replayed."""
        self.prepared: Prepared = Prepared()
        self.stamp: str | None = ""
        """Whose work it does and by which epoch, as last told; None when that isn't known."""
        self.spoke = False
        """The linked client has heard something since it was linked or ready."""
        self.schema = Schema()
        """What all connections of the pool know of changes of its tables."""
        self.sql_prepared: dict[str, BySql] = {}
        """What PREPARE has left on it, by name: the text that did it."""
        self.unnamed = Unnamed()
        self.tainted = False
        """Its client has left in it what no cleaning takes away: only its process's end does."""
        self.pinned = False
        """Its client keeps it between transactions, for what the session holds."""
        self.timed_out_s = 0.0
        """The running statement is being cancelled for it took longer than this; else 0."""
        self.turns = 0
        """How often everything owed had been answered."""
        self.audited_at = 0
        """After which turn it was last asked what its session holds, as a sample."""
        self.cancels = 0
        """Cancel requests under way: until they are over it may hit whoever is linked."""
        self.closing = False
        self.lost = False
        self.last_error = ""
        self.last_command = b""
        """The tag of the last CommandComplete, or the last error: empty."""
        self.opened_at = now
        self.used_at = now
        self.life_ends_at = 0.0
        self._owner_lost: Callable[[ServerConnection], None] | None = None
        self._held = b""
        self._paused = False
        self._skip = 0
        self._skip_silent = False

    def on_lost(self, callback: Callable[[ServerConnection], None]) -> None:
        """Whom to tell, once, when the connection has ended."""
        self._owner_lost = callback

    def tells_foreign_sequences(self, number: int) -> bool:
        """Whether currval and lastval may tell what another client than ``number`` drew."""
        return not self.drew and self.sequences_of not in (_NOBODY, number)

    def discard_sequences(self) -> bytes:
        """Have it forget all values drawn: bytes to be sent first."""
        self.sequences_of = _NOBODY

        def kept() -> None:
            self.sequences_of = _SEVERAL

        def on_answer(answer: Answer) -> None:
            if answer.error is not None:
                kept()

        if self.replies.sync_due:
            return self.prepare_step("DISCARD SEQUENCES", kept)
        if self.status != _IN_TRANSACTION or not self.replies.idle:
            return self.prepare_ask("DISCARD SEQUENCES", on_answer)
        # A Query would do away with the transaction's unnamed portal; this can't fail there.
        batch = self.prepare_step("DISCARD SEQUENCES", kept)
        self.replies.expect(Expected(replies.SYNC, silent=True))
        return batch + messages.SYNC

    # --- the client's side ---

    def link(self, client: LinkedClient, number: int) -> None:
        """Replies go to ``client`` from now on; ``number`` names it in views."""
        self.client = client
        self.client_number = number
        self.spoke = False

    def next_in_line(self) -> None:
        """What comes next is for the next one in line."""
        self.turn_is_over = False
        rider = self.line.pop(0)
        rider.turn_came(self)

    def unlink(self) -> None:
        """Nobody's: what arrives is dropped or, where it can't be right, ends the connection."""
        self.client = None
        self.pinned = self.holds_ready = self.ready_held = False
        if self.drew:
            mine = self.sequences_of in (_NOBODY, self.client_number)
            self.sequences_of = self.client_number if mine else _SEVERAL
            self.drew = False
        self.client_number = 0
        if self._paused:
            self.resume_reading()

    def pause_reading(self) -> None:
        """Its client takes no more for now."""
        self._paused = True
        self.transport.pause_reading()

    def resume_reading(self) -> None:
        """Whoever has it takes more again."""
        self._paused = False
        self.transport.resume_reading()

    def write(self, data: bytes) -> None:
        """Send bytes; what they are owed must be in ``replies`` before."""
        if self._wire is not None:
            self._wire.write(data)
        elif not self.lost:
            self.transport.write(data)

    def ask(self, sql: str, on_answer: Callable[[Answer], None]) -> None:
        """Run a query of the gateway's own; its answer reaches nobody else.

        ``on_answer`` is not called when the connection ends before.
        """
        self.write(self.prepare_ask(sql, on_answer))

    def prepare_ask(self, sql: str, on_answer: Callable[[Answer], None]) -> bytes:
        """As `ask`, but returns the bytes, to be sent in one write with what follows."""
        answer = Answer()

        def on_message(tag: int, body: bytes) -> None:
            if tag == _D:
                answer.rows.append(messages.read_data_row(body))
            elif tag == _E and answer.error is None:
                answer.error, answer.error_body = messages.read_fields(body), body
            elif tag == _Z:
                on_answer(answer)

        self.unnamed.become(None)  # as any simple Query does
        self.replies.expect(Expected(replies.QUERY, silent=True, on_message=on_message))
        return messages.query(sql)

    def prepare_stamp(self, stamp: str) -> bytes:
        """Have it know whose work follows: bytes to be sent first."""
        sql = f"SET gateway.stamp = {_quoted(stamp)}"

        def failed() -> None:
            self.stamp = None

        def on_answer(answer: Answer) -> None:
            if answer.error is not None:
                failed()

        if self.replies.sync_due:
            self.stamp = None  # it goes back if the batch fails
            return self.prepare_step(sql, failed)
        self.stamp = stamp
        return self.prepare_ask(sql, on_answer)

    def prepare_step(
        self, sql: str, on_failed: Callable[[], None], *, silent: bool = True
    ) -> bytes:
        """A command of the gateway's own inside a client's batch, as bytes to be sent.

        Not ``silent``: it is the client's, who hears how it ends.

        A simple Query would commit there what the batch has done so far. An error ends the batch
        and is the client's. ``on_failed`` is called, perhaps more than once, when it did not run.
        """
        for kind in _STEP_KINDS:
            unheard = silent or kind != replies.EXECUTE
            self.replies.expect(Expected(kind, silent=unheard, on_failed=on_failed))
        parse = messages.message(b"P", STEP + messages.cstring(sql) + b"\0\0")
        return _STEP_BEFORE + parse + _STEP_AFTER

    @property
    def mid_message(self) -> bool:
        """Whether the client has got the beginning of a message, and waits for the rest."""
        return self._skip > 0 and not self._skip_silent

    # --- the end ---

    def close(self) -> None:
        """Say goodbye and let the server hang up, so that it is gone when we hear of it."""
        if self.closing or self.lost:
            return
        self.closing = True
        self.client = None
        self.resume_reading()
        if not self._in_step():
            self._hang_up()
            return
        self.transport.write(messages.TERMINATE)

    def _in_step(self) -> bool:
        return self.replies.idle and not self._skip

    def _hang_up(self) -> None:
        if self.transport.can_write_eof():
            self.transport.write_eof()
        else:
            self.transport.close()

    def abort(self) -> None:
        """Drop the connection now."""
        self.closing = True
        self.transport.abort()

    # --- asyncio.Protocol ---

    def data_received(self, data: bytes) -> None:
        if self._held:
            data = self._held + data
            self._held = b""
        if self.closing:
            return
        try:
            self._scan(data)
        except GatewayError as error:
            self.last_error = error.message
            self.abort()

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        client, self.client = self.client, None
        if client is not None:
            client.server_lost(self._loss(exc))
        while self.line:
            self.line.pop(0).ask_elsewhere()
        if self._owner_lost is not None:
            self._owner_lost(self)
            self._owner_lost = None

    def _loss(self, exc: Exception | None) -> ServerUnavailable:
        cause = self.last_error or (str(exc) if exc else "the server closed the connection")
        return ServerUnavailable(
            f"the connection to the database was lost: {cause}",
            hint="Nothing more is known of the running transaction: check before you repeat it.",
        )

    def pause_writing(self) -> None:
        if self.client is not None:
            self.client.server_full()

    def resume_writing(self) -> None:
        if self.client is not None:
            self.client.server_drained()

    # --- the relay ---

    def _scan(self, data: bytes) -> None:
        """Walk the messages of a chunk; forward all but the silent ones in as few pieces."""
        end = len(data)
        pos = min(self._skip, end)
        self._skip -= pos
        start = pos if self._skip_silent else 0
        while True:
            head = self.replies.head
            silent = head is not None and head.silent
            pos = walk(data, pos, end, ALL_TAGS if silent else _STOPS)
            if end - pos < _HEADER_BYTES:
                break
            following = pos + message_size(data, pos)
            if following > end:
                if (silent or _STOPS[data[pos]]) and following - pos <= _WHOLE_MAX_BYTES:
                    break
                self._stream(data, pos, following - end, silent)
                if silent:
                    self._forward(data, start, pos)
                    start = end
                pos = end
                break
            tag = data[pos]
            if silent and tag != _A and not self._is_clients_error(head, tag):
                assert head is not None
                self._forward(data, start, pos)
                start = following
                self._take_silent(head, tag, data[pos + HEADER_BYTES : following])
            elif tag == _A:
                self._forward(data, start, pos)
                start = following
                if self.client is not None:
                    self.client.server_notified(data[pos + HEADER_BYTES : following])
            elif tag == _E and self.stamp and _STALE in data[pos:following]:
                instead = self._stale()
                if instead:
                    self._forward(data, start, pos)
                    self._forward(instead, 0, len(instead))
                start = following
                self._observe(tag, data, pos, following)
            elif tag == _E and self.timed_out_s:
                self._forward(data, start, pos)
                start = following
                error = _timed_out(data[pos:following], self.timed_out_s)
                self._forward(error, 0, len(error))
                self._observe(tag, data, pos, following)
            elif tag == _E and head is not None and (head.renamed is not None or head.error):
                error = _reworded(data[pos + HEADER_BYTES : following], head)
                self._observe(tag, data, pos, following)  # the client may leave at it
                self._forward(data, start, pos)
                start = following
                self._forward(error, 0, len(error))
            else:
                self._observe(tag, data, pos, following)
            pos = following
            if tag == _Z and self.line and not silent:
                self._forward(data, start, pos)
                start = pos
                self._turn_over()
            if self.replies.synthetic_due:
                self._forward(data, start, pos)
                start = pos
                self.give_synthetic()
            if tag == _Z and not silent and self.replies.is_idle():
                if self.holds_ready and self.status == _IDLE and start < pos:
                    self.ready_held = True
                    self._forward(data, start, pos - _READY_BYTES)
                else:
                    self._forward(data, start, pos)
                start = pos
                self._ready()
        self._forward(data, start, pos)
        self._held = data[pos:] if pos < end else b""

    def _stale(self) -> bytes:
        """What the client hears of work that was refused for its epoch; nothing if it goes on
        elsewhere, and what of its answer had not been passed on yet is dropped."""
        return self.client.server_stale(answered=self.spoke) if self.client is not None else b""

    def give_synthetic(self) -> None:
        """Tell the client what the gateway answers itself and whose turn it is."""
        reply = self.replies.take_synthetic()
        if self.client is not None:
            self.spoke = True
            self.client.forward(reply)

    def _is_clients_error(self, head: Expected | None, tag: int) -> bool:
        """An error of a message put in for the client's next one is the client's."""
        if tag != _E or head is None or head.kind == replies.QUERY:
            return False
        return not head.unheard

    def _stream(self, data: bytes, pos: int, missing: int, silent: bool) -> None:
        """A message too big to keep: what there is of it decides, the rest passes unseen."""
        tag = data[pos]
        if silent:
            raise ProtocolViolation("the server's answer to the gateway's own query is too long")
        if _STOPS[tag]:
            if tag not in (_E, _N):
                raise ProtocolViolation(f"the server sent too long a message of type {chr(tag)}")
            self._observe(tag, data, pos, len(data))
        self._skip = missing
        self._skip_silent = silent

    def _forward(self, data: bytes, start: int, end: int) -> None:
        if end <= start:
            return
        if self.client is not None:
            self.spoke = True
            self.client.forward(cut(data, start, end))

    def _turn_over(self) -> None:
        """The linked client has its answer; others are in line."""
        if self.status != _IDLE:
            raise ProtocolViolation("what was to be a read by itself began a transaction")
        self.turns += 1
        self.timed_out_s = 0.0
        self.turn_is_over = True
        if self.client is not None:
            self.client.server_ready(self.status)
        if self.turn_is_over:
            raise ProtocolViolation("a client keeps the server that others are in line for")

    def _ready(self) -> None:
        self.turns += 1
        self.spoke = False
        self.timed_out_s = 0.0
        self.prepared.all_answered()
        if self.client is not None:
            self.client.server_ready(self.status)

    def _take_silent(self, head: Expected, tag: int, body: bytes) -> None:
        """A message of an answer to the gateway's own query."""
        _OBSERVERS[tag](self, tag, body)
        if head.on_message is not None:
            head.on_message(tag, body)

    def _observe(self, tag: int, data: bytes, pos: int, following: int) -> None:
        """Book a message that changes what is owed or known."""
        kind = _ANSWERS[tag]
        if tag == _Z and following - pos == _READY_BYTES:
            self.status = data[following - 1]
            self.replies.on_ready()
        elif tag == _C:
            if self._is_last_command(data, pos + _HEADER_BYTES, following):
                self.replies.on_command_end()
            else:
                self._on_command_end(tag, cut(data, pos + _HEADER_BYTES, following))
        elif kind and (kind != _DESCRIBE or not self._is_described()):
            self.replies.on_reply(kind)
        else:
            _OBSERVERS[tag](self, tag, data[pos + _HEADER_BYTES : following])

    def _is_last_command(self, data: bytes, pos: int, following: int) -> bool:
        """Whether a command's tag is that of the last one, and of none that takes things away."""
        last, size = self.last_command, following - pos
        if not size or size != len(last) or data[pos] == _D or data[pos] == _R:
            return False
        return same(data, pos, last, 0, size)

    def _is_described(self) -> bool:
        """Whether somebody wants to read the description that arrives."""
        head = self.replies.head
        return head is not None and head.on_message is not None

    # --- what each message means; called through _OBSERVERS ---

    def _on_ready(self, tag: int, body: bytes) -> None:
        if len(body) != 1:
            raise ProtocolViolation("a ReadyForQuery without a status")
        self.status = body[0]
        self.replies.on_ready()

    def _on_error(self, tag: int, body: bytes) -> None:
        fields = messages.read_fields(body)
        self.last_error = fields.get("M", "an error without a message")
        self.last_command = b""
        head = self.replies.head
        self.replies.on_error()
        own = head is not None and head.silent and (head.kind == replies.QUERY or head.unheard)
        if self.client is not None and not own:
            self.client.server_failed(fields)

    def _on_parameter(self, tag: int, body: bytes) -> None:
        name, value = messages.read_parameter_status(body)
        self.parameters[name] = value
        if self.client is None:
            return
        news = self.client.server_reported(name, value)
        head = self.replies.head
        if news and head is not None and head.silent:
            self.client.forward(messages.parameter_status(name, value))

    def _on_command_end(self, tag: int, body: bytes) -> None:
        self.replies.on_command_end()
        self.last_command = body
        if body and (body[0] == _D or body[0] == _R) and body in _FORGET:
            self._forget(body)

    def _forget(self, body: bytes) -> None:
        """A command has ended that takes away what the session has had, by its tag."""
        if body in _FORGET_STAMP:
            self.stamp = None
        if body in _FORGET_SEQUENCES:
            self.sequences_of = _NOBODY  # ``drew`` stays: a draw may have been sent behind it
        if body in _FORGET_PREPARED:
            self.prepared.clear()
            self.sql_prepared = {}
            if self.client is not None:
                self.client.server_forgot_prepared()

    def _on_reply(self, tag: int, body: bytes) -> None:
        self.replies.on_reply(_ANSWERS[tag])

    def _on_description(self, tag: int, body: bytes) -> None:
        head = self.replies.head
        self.replies.on_reply(replies.DESCRIBE)
        if head is not None and head.on_message is not None and not head.silent:
            head.on_message(tag, body)

    def _on_copy_in(self, tag: int, body: bytes) -> None:
        self.replies.on_copy_in()

    def _on_copy_both(self, tag: int, body: bytes) -> None:
        self.replies.doubtful = True

    def _on_other(self, tag: int, body: bytes) -> None:
        """Rows, copy data, notices: nothing is booked."""

    def _on_unexpected(self, tag: int, body: bytes) -> None:
        raise ProtocolViolation(f"the server sent a message of type 0x{tag:02x} after its login")


def _timed_out(message: bytes, limit_s: float) -> bytes:
    """The same ErrorResponse, or what the client is told when it is the gateway's own cancel."""
    if _CANCELED not in message:
        return message
    error = QueryCanceled(
        "canceling statement due to query timeout",
        hint=f"The gateway's query_timeout_ms for it is {limit_s * 1000:g}.",
    )
    return messages.error_response(error, fatal=False)


def _is_consequence(body: bytes) -> bool:
    """Whether an error says no more than that something before it has failed."""
    return messages.read_fields(body).get("C") in _CONSEQUENCES


def _reworded(body: bytes, head: Expected) -> bytes:
    """An ErrorResponse that calls something by the client's name for it, or is another one."""
    if head.error and _is_consequence(body):
        return head.error
    if head.renamed is None:
        return messages.message(b"E", body)
    before, after = head.renamed
    return messages.message(b"E", body.replace(b'"%b"' % before, b'"%b"' % after))


def _quoted(text: str) -> str:
    """An SQL string constant that means ``text`` whatever standard_conforming_strings is."""
    return "E'" + text.replace("\\", "\\\\").replace("'", "''") + "'"


# As C integers, for the hot methods.
_A, _C, _D, _E, _N, _R, _S, _Z = b"ACDENRSZ"
_IDLE, _HEADER_BYTES, _DESCRIBE = IDLE, HEADER_BYTES, replies.DESCRIBE

STEP = NAME_PREFIX + b"step\0"
"""What `prepare_step` prepares; a batch that failed may have left it."""
_STEP_BEFORE = messages.message(b"C", b"S" + STEP)
"""It may be there still from a batch that failed."""
_STEP_AFTER = b"".join(
    (
        messages.message(b"B", STEP + STEP + b"\0\0\0\0\0\0"),
        messages.message(b"E", STEP + b"\0\0\0\0"),
        messages.message(b"C", b"P" + STEP),
        messages.message(b"C", b"S" + STEP),
    )
)
_STEP_KINDS = (
    replies.CLOSE,
    replies.PARSE,
    replies.BIND,
    replies.EXECUTE,
    replies.CLOSE,
    replies.CLOSE,
)

_CONSEQUENCES = frozenset(["26000", "25P02"])
"""No such prepared statement; the transaction has failed."""

_NOBODY, _SEVERAL = 0, -1
_IN_TRANSACTION = ord("T")

_FORGET_STAMP = frozenset([b"DISCARD ALL\0", b"RESET\0"])
_CANCELED = b"\0C57014\0"
_STALE = b"\0CRG001\0"
"""In an ErrorResponse: the work was stamped with an epoch that is over (decisions/0004)."""

_FORGET_SEQUENCES = frozenset([b"DISCARD ALL\0", b"DISCARD SEQUENCES\0"])

_FORGET_PREPARED = frozenset([b"DEALLOCATE ALL\0", b"DISCARD ALL\0"])
"""Command tags after which the session has no prepared statement any more."""

_FORGET = _FORGET_STAMP | _FORGET_SEQUENCES | _FORGET_PREPARED
"""All of them begin with D or R."""

_KINDS = {
    b"1": replies.PARSE,
    b"2": replies.BIND,
    b"3": replies.CLOSE,
    b"T": replies.DESCRIBE,
    b"n": replies.DESCRIBE,
}
_ANSWERS = bytes(_KINDS.get(bytes([tag]), 0) for tag in range(256))
"""By tag, what is answered by a message that mostly need not be read."""

_PASSED_UNSEEN = tag_set(b"DdcHNtV")
_STOPS = bytes(1 - flag for flag in _PASSED_UNSEEN)
"""What must be seen whole, unknown types included."""

_KNOWN: dict[bytes, Callable[[ServerConnection, int, bytes], None]] = {
    b"Z": ServerConnection._on_ready,
    b"E": ServerConnection._on_error,
    b"S": ServerConnection._on_parameter,
    b"C": ServerConnection._on_command_end,
    b"I": ServerConnection._on_command_end,
    b"s": ServerConnection._on_command_end,
    b"1": ServerConnection._on_reply,
    b"2": ServerConnection._on_reply,
    b"3": ServerConnection._on_reply,
    b"T": ServerConnection._on_description,
    b"n": ServerConnection._on_description,
    b"G": ServerConnection._on_copy_in,
    b"W": ServerConnection._on_copy_both,
    **{bytes([tag]): ServerConnection._on_other for tag in tuple(b"ADNHdctV")},
}
_OBSERVERS = tuple(_KNOWN.get(bytes([tag]), ServerConnection._on_unexpected) for tag in range(256))
