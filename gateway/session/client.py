"""One logged-in client: gathers what it sends, gets a server for it, relays, gives the server back.

The client is in one of four phases. IDLE: nothing under way. SEEKING: a unit is complete and its
route or a server is awaited. LINKED: a server is ours. CLOSED. Hot are `data_received` and
`forward` while LINKED; everything else runs once per transaction or less.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from enum import IntEnum

from gateway.errors import (
    GatewayError,
    ProtocolViolation,
    QueryCanceled,
    ServerUnavailable,
    ShuttingDown,
)
from gateway.pool.listening import Listening
from gateway.pool.pool import Pool
from gateway.pool.server import IDLE, Answer, ServerConnection
from gateway.protocol import messages, replies
from gateway.protocol.framing import HEADER_BYTES, message_size
from gateway.router.facts import Effect, Facts
from gateway.router.identity import Login, LoginKind, Owner
from gateway.router.route import Asked, NeedOwner, Reject, Route, owner_not_found, route
from gateway.session.context import Context
from gateway.session.listens import Listens
from gateway.session.state import (
    LASTING,
    Pin,
    Settings,
    changes_identity,
    custom_names,
    ordered,
    probe_sql,
    read_probe,
    replay_sql,
    scope_of,
)
from gateway.session.translate import Translator, close_surplus

_log = logging.getLogger(__name__)

UNIT_MAX_BYTES = 64 * 1024
"""A unit is gathered up to this size before a server is asked for; more is streamed."""

WHOLE_MAX_BYTES = 256 * 1024
"""Statements up to this size are read whole; of longer ones only the beginning."""

WRITE_HIGH_BYTES = 128 * 1024

PROBED = (
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

PROBED_WHILE_PINNED = (
    Effect.SQL_DEALLOCATE | Effect.UNLISTEN | Effect.ADVISORY_UNLOCK | Effect.DROP | Effect.CURSOR
)
"""What may end a pin."""

PINNING = {
    Effect.LOAD: Pin.LOADED,
    Effect.SEQUENCE_READ: Pin.SEQUENCE,
    Effect.RANDOM_SEED: Pin.RANDOM_SEED,
}
"""State the server can't be asked for."""


class Phase(IntEnum):
    """Where a client is between its statements."""

    IDLE = 0
    SEEKING = 1
    LINKED = 2
    CLOSED = 3


class ClientSession(asyncio.Protocol):
    """A client after its login; `start` begins its traffic."""

    def __init__(
        self,
        context: Context,
        transport: asyncio.Transport,
        login: Login,
        asked: Asked,
        *,
        number: int,
        secret: bytes,
        startup_settings: Settings,
        parameters: dict[bytes, bytes],
        peer: str,
        application: str,
    ) -> None:
        self.number = number
        self.secret = secret
        self.login = login
        self.asked = asked
        self.peer = peer
        self.application = application
        self.phase = Phase.IDLE
        self.settings = startup_settings
        self.parameters = parameters
        self.pins: dict[Pin, float] = {}
        self.connected_at = context.clock()
        self.active_at = self.connected_at
        self.transactions = 0
        self.last_route: Route | None = None
        self.server: ServerConnection | None = None
        self.listens: Listens | None = None
        self._startup_settings = startup_settings
        self._context = context
        self._transport = transport
        self._pool: Pool | None = None
        self._inbox = b""
        self._skip = 0
        """Bytes still to come of a message begun: streamed on when LINKED, else dropped."""
        self._ready_missed = False
        self._skipping_to_sync = False
        self._sync_due = False
        self._sent = False
        self._effects = Effect(0)
        self._touched: set[str] = set()
        self._preamble = b""
        self._translator = Translator(
            context.statements, context.settings.pool.client_statements_max, self._note
        )
        self._scope = scope_of(startup_settings)
        self._reads_sequences = login.name in context.sequence_readers
        self._preferred: ServerConnection | None = None
        """The server whose sequences we drew from, and which currval would need."""
        self._input_held = False
        self._server_full = False
        self._read_paused = False
        self._write_paused = False
        self._fatal_seen = False
        self._draining: ShuttingDown | None = None
        self._seeking: asyncio.Task[None] | None = None

    # --- life ---

    def start(self, rest: bytes) -> None:
        """Begin, with what the client sent ahead."""
        self._transport.set_write_buffer_limits(high=WRITE_HIGH_BYTES)
        self._context.registry.add(self)
        if rest:
            self.data_received(rest)

    def drain(self, error: ShuttingDown) -> None:
        """End the session as soon as no transaction runs."""
        self._draining = error
        if self.phase is Phase.IDLE:
            self.end(error)

    def end(self, error: GatewayError) -> None:
        """Tell the client why and close."""
        if self.phase is not Phase.CLOSED:
            self._context.counters.errors_of_gateway += 1
            self._transport.write(messages.error_response(error, fatal=True))
            self._close()

    def cancel(self) -> None:
        """Stop what the client runs or waits for; nothing when it is idle."""
        if self.phase is Phase.LINKED and not self._input_held:
            assert self.server is not None
            assert self._pool is not None
            if self._sent:
                self._pool.cancel(self.server)
        elif self.phase is Phase.SEEKING:
            self._stop_seeking()
            self._refuse_unit(QueryCanceled("canceling statement due to user request"))

    def _close(self) -> None:
        if self.phase is Phase.CLOSED:
            return
        self._leave_server()
        if self.listens is not None:
            self.listens.end()
        self.phase = Phase.CLOSED
        self._inbox = b""
        self._context.registry.remove(self)
        self._transport.close()

    def _leave_server(self) -> None:
        """Give up whatever of a server we have or wait for, cleanly."""
        self._stop_seeking()
        server, pool = self.server, self._pool
        self.server = None
        if server is None or pool is None:
            return
        unfinished = self._skip > 0 or self._sync_due or not server.replies.idle
        if unfinished or server.status != IDLE or self.pins or self._effects or self._input_held:
            pool.abandon(
                server,
                mid_message=self._skip > 0,
                sync_due=self._sync_due,
            )
        else:
            pool.release(server)

    def _stop_seeking(self) -> None:
        if self._seeking is not None:
            self._seeking.cancel()
            self._seeking = None
        if self._pool is not None:
            self._pool.give_up(self)

    # --- asyncio.Protocol ---

    def data_received(self, data: bytes) -> None:
        self._context.counters.bytes_from_clients += len(data)
        self._receive(data)

    def _receive(self, data: bytes) -> None:
        if self._inbox:
            data = self._inbox + data
            self._inbox = b""
        try:
            if self.phase is Phase.LINKED and not self._input_held:
                self._relay(data)
            elif self.phase is not Phase.CLOSED:
                self._inbox = data
                self._begin()
        except GatewayError as error:
            _log.warning("client %d (%s): %s", self.number, self.login.name, error.message)
            self.end(error)
        self._pace()

    def eof_received(self) -> bool:
        self._close()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._close()

    def pause_writing(self) -> None:
        self._write_paused = True
        if self.server is not None:
            self.server.transport.pause_reading()

    def resume_writing(self) -> None:
        self._write_paused = False
        if self.server is not None:
            self.server.transport.resume_reading()

    def _pace(self) -> None:
        """Stop reading the client while its bytes have nowhere to go."""
        waiting = self.phase is Phase.SEEKING or self._input_held
        full = self._server_full or (waiting and len(self._inbox) > UNIT_MAX_BYTES)
        if full == self._read_paused or self.phase is Phase.CLOSED:
            return
        self._read_paused = full
        if full:
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()

    # --- idle: what comes in, and does it need a server? ---

    def _begin(self) -> None:
        """Work off the inbox up to the first unit that needs a server."""
        while self.phase is Phase.IDLE and self._inbox:
            if self._skip:
                self._drop_skipped()
                continue
            if len(self._inbox) < HEADER_BYTES:
                return
            tag = self._inbox[0]
            size = message_size(self._inbox, 0)
            handler = _WHEN_IDLE[tag]
            if handler is None:
                raise _unknown_message(tag)
            if self._skipping_to_sync and tag not in b"SX":
                handler = ClientSession._drop
            if not handler(self, size):
                return

    def _drop_skipped(self) -> None:
        dropped = min(self._skip, len(self._inbox))
        self._inbox = self._inbox[dropped:]
        self._skip -= dropped

    def _drop(self, size: int) -> bool:
        """A message without meaning here, such as copy data after a failed COPY."""
        self._skip = size
        return True

    def _answer_sync(self, size: int) -> bool:
        """Nothing runs, so a lone Sync needs no server."""
        if len(self._inbox) < size:
            return False
        self._inbox = self._inbox[size:]
        self._skipping_to_sync = False
        self._transport.write(messages.READY_IDLE)
        return True

    def _terminate(self, size: int) -> bool:
        self._close()
        return False

    def _begin_query(self, size: int) -> bool:
        if len(self._inbox) >= min(size, UNIT_MAX_BYTES):
            self._seek()
        return False

    def _begin_extended(self, size: int) -> bool:
        if len(self._inbox) >= UNIT_MAX_BYTES or self._unit_complete():
            self._seek()
        return False

    def _unit_complete(self) -> bool:
        """Whether the inbox holds a message that makes a server answer."""
        pos, end = 0, len(self._inbox)
        while end - pos >= HEADER_BYTES:
            size = message_size(self._inbox, pos)
            if size > end - pos:
                return False
            if self._inbox[pos] in b"SHQFX":
                return True
            pos += size
        return False

    # --- seeking: route, then a server ---

    def _seek(self) -> None:
        """Find the target of what is in the inbox and ask its pool for a server."""
        self.phase = Phase.SEEKING
        self.active_at = self._context.clock()
        if self.login.owner is not None or self.asked.owner is not None:
            owner = self._context.directory.peek_owner(self.asked.owner or self.login.owner or "")
        else:
            owner = None
        self._take_outcome(owner)

    def _take_outcome(self, owner: Owner | None) -> None:
        outcome = route(self._context.snapshot, self.login, self.asked, owner)
        if isinstance(outcome, Route):
            self._acquire(outcome)
        elif isinstance(outcome, NeedOwner):
            self._seeking = asyncio.get_running_loop().create_task(self._look_up(outcome.owner))
        else:
            assert isinstance(outcome, Reject)
            self._refuse_unit(outcome.error)

    async def _look_up(self, owner_id: str) -> None:
        try:
            owner = await self._context.directory.owner(owner_id)
            if owner is None:
                raise owner_not_found(owner_id)
        except GatewayError as error:
            self._seeking = None
            self._refuse_unit(error)
            return
        self._seeking = None
        self._take_outcome(owner)

    def _acquire(self, target: Route) -> None:
        self.last_route = target
        self._pool = self._context.pools.get(
            target.endpoint, operator=self.login.kind is LoginKind.OPERATOR
        )
        try:
            server = self._pool.acquire(self, self._preferred)
        except GatewayError as error:
            self._refuse_unit(error)
            return
        if server is not None:
            self.granted(server)

    def granted(self, server: ServerConnection) -> None:
        """A server is ours: make it as our session left the last one, then send on."""
        assert self.last_route is not None
        self.phase = Phase.LINKED
        self.server = server
        self._sent = False
        server.link(self, self.number)
        self._preamble = close_surplus(server, self._context.settings.pool.server_statements_max)
        if self._write_paused:
            server.transport.pause_reading()
        if _log.isEnabledFor(logging.DEBUG):
            _log.debug(
                "client %d (%s) -> %s: %s",
                self.number,
                self.login.name,
                self.last_route.endpoint.name,
                self.last_route.reason,
            )
        if self._context.session_mode(self.last_route.endpoint):
            self._pin(Pin.SESSION_MODE)
        if server.settings == self.settings:
            self._send_inbox()
        else:
            self._replay(server)

    def refused(self, error: GatewayError) -> None:
        """There is no server for this unit."""
        self._refuse_unit(error)

    def _refuse_unit(self, error: GatewayError) -> None:
        """Answer the unit with an error; the session goes on."""
        self.phase = Phase.IDLE
        if self._draining is not None:
            self.end(self._draining)
            return
        self._context.counters.errors_of_gateway += 1
        self._transport.write(messages.error_response(error, fatal=False))
        tag, size = self._inbox[0], message_size(self._inbox, 0)
        if tag in b"QF":
            self._transport.write(messages.READY_IDLE)
            self._drop(size)
        else:
            self._skipping_to_sync = True
        self._resume_input()

    def _resume_input(self) -> None:
        """Go on with what the client sent meanwhile."""
        try:
            self._begin()
        except GatewayError as error:
            self.end(error)
        self._pace()

    # --- linked: the client's settings first ---

    def _replay(self, server: ServerConnection) -> None:
        """Give the server our settings; a change of role is waited for before anything runs."""
        sql = replay_sql(server.settings, self.settings)
        wait = not self._inbox or changes_identity(server.settings, self.settings)
        self._context.counters.replays += 1
        self._input_held = True

        def on_answer(answer: Answer) -> None:
            self._replayed(server, answer)

        request = server.prepare_ask(sql, on_answer)
        if wait:
            server.write(self._preamble + request)
            self._preamble = b""
        else:
            self._preamble += request
            server.settings = self.settings
            self._input_held = False
            self._send_inbox()

    def _replayed(self, server: ServerConnection, answer: Answer) -> None:
        if answer.error is not None:
            text = answer.error.get("M", "")
            server.dirty = True
            server.last_error = f"the session's settings could not be restored: {text}"
            server.abort()
        elif self._input_held and self.server is server:
            server.settings = self.settings
            self._input_held = False
            self._send_inbox()

    def _send_inbox(self) -> None:
        data, self._inbox = self._inbox, b""
        try:
            self._relay(data)
        except GatewayError as error:
            self.end(error)
        self._pace()

    # --- linked: from the client to the server ---

    def _relay(self, data: bytes) -> None:
        """Book what the server will owe for each message, and pass the chunk on in one write.

        Handlers may have something else sent in the place of a message.
        """
        server = self.server
        assert server is not None
        end = len(data)
        sent = 0
        changed: list[bytes] = [self._preamble] if self._preamble else []
        pos = min(self._skip, end)
        self._skip -= pos
        while end - pos >= HEADER_BYTES:
            tag = data[pos]
            handler = _WHEN_LINKED[tag]
            if handler is None:
                raise _unknown_message(tag)
            size = message_size(data, pos)
            following = min(pos + size, end)
            if pos + size > end and tag != _COPY_DATA and size <= WHOLE_MAX_BYTES:
                break
            instead = handler(self, server, data[pos:following], size)
            if self.phase is not Phase.LINKED:
                return
            if instead is not None:
                changed += (data[sent:pos], instead)
                sent = following
            self._skip = pos + size - following
            pos = following
        self._inbox = data[pos:] if pos < end else b""
        self._preamble = b""
        if changed:
            data = b"".join((*changed, data[sent:pos]))
        elif pos < end:
            data = data[:pos]
        if data:
            self._sent = True
            server.write(data)
        if server.replies.synthetic_due:
            server.give_synthetic()
        if self._ready_missed and not self._skip and server.replies.idle:
            self.server_ready(server.status)

    def _on_query(self, server: ServerConnection, message: bytes, size: int) -> bytes | None:
        facts = self._context.facts.facts(message[HEADER_BYTES:-1])
        self._translator.query(server)
        instead = b""
        if facts.effects:
            self._note(facts)
            instead = self._before_query(server, facts, message)
        server.replies.expect(replies.CLIENT_QUERY)
        return instead or None

    def _before_query(self, server: ServerConnection, facts: Facts, message: bytes) -> bytes:
        """What to send in place of a Query that concerns what other servers know of us."""
        if facts.effects & Effect.SEQUENCE_READ:
            before = self._without_foreign_sequences(server)
            return before + message if before else b""
        if facts.effects & Effect.SQL_DEALLOCATE:
            before, text = self._translator.deallocate(server, facts)
            return before + messages.message(b"Q", text + b"\0") if text else b""
        return b""

    def _without_foreign_sequences(self, server: ServerConnection) -> bytes:
        """currval must not tell what another client drew: the server forgets it first.

        It then says "not yet defined", once: this login's clients keep their servers from now on.
        """
        if self._sent or self.pins or server.previous_client == self.number:
            return b""
        self._context.sequence_readers.add(self.login.name)
        return server.prepare_ask("DISCARD SEQUENCES", lambda answer: None)

    def _on_function(self, server: ServerConnection, message: bytes, size: int) -> bytes | None:
        self._effects |= Effect.UNKNOWN
        server.replies.expect(replies.CLIENT_FUNCTION)
        return None

    def _on_parse(self, server: ServerConnection, message: bytes, size: int) -> bytes | None:
        self._sync_due = True
        if len(message) < size:
            return self._parse_unseen(server, message)
        instead = self._translator.parse(server, message, self._scope)
        if self._effects & Effect.SEQUENCE_READ:
            before = self._without_foreign_sequences(server)
            instead = before + (message if instead is None else instead) if before else instead
        return instead

    def _parse_unseen(self, server: ServerConnection, message: bytes) -> bytes | None:
        """Too long to keep: it stays on this server, and so do we."""
        name, _ = messages.read_cstring(message, HEADER_BYTES)
        self._effects |= Effect.UNKNOWN
        self._pin(Pin.PREPARED)
        self._translator.parse_unseen(server, name)
        return None

    def _on_bind(self, server: ServerConnection, message: bytes, size: int) -> bytes | None:
        self._sync_due = True
        return self._translator.bind(server, message, size)

    def _on_describe(self, server: ServerConnection, message: bytes, size: int) -> bytes | None:
        self._sync_due = True
        return self._translator.describe(server, message)

    def _on_execute(self, server: ServerConnection, message: bytes, size: int) -> bytes | None:
        self._sync_due = True
        server.replies.expect(replies.CLIENT_EXECUTE)
        return None

    def _on_close(self, server: ServerConnection, message: bytes, size: int) -> bytes | None:
        self._sync_due = True
        return self._translator.close(server, message)

    def _on_sync(self, server: ServerConnection, message: bytes, size: int) -> bytes | None:
        self._sync_due = False
        server.prepared.sync_sent()
        server.replies.expect(replies.CLIENT_SYNC)
        return None

    def _on_copy_end(self, server: ServerConnection, message: bytes, size: int) -> bytes | None:
        server.replies.copy_ended()
        return None

    def _on_passed(self, server: ServerConnection, message: bytes, size: int) -> bytes | None:
        """Flush and copy data: nothing is owed for them."""
        return None

    def _on_terminate(self, server: ServerConnection, message: bytes, size: int) -> bytes | None:
        self._close()
        return None

    def _note(self, facts: Facts) -> None:
        """Remember what a statement may leave in the session."""
        if facts.effects or self._reads_sequences:
            self._effects |= facts.effects
            if facts.effects & (Effect.NOTIFY | Effect.UNLISTEN):
                self._note_notify(facts)
            if self._reads_sequences and _draws_from_sequences(facts):
                self._pin(Pin.SEQUENCE)
            for statement in facts.statements:
                self._touched.update(statement.setting_names)

    def _note_notify(self, facts: Facts) -> None:
        if self.listens is not None:
            self.listens.note(facts)
        if facts.effects & Effect.NOTIFY and self.server is not None and self._pool is not None:
            self._pool.notifiers[self.server.pid] = self.number

    # --- linked: from the server to the client (LinkedClient) ---

    def forward(self, data: bytes) -> None:
        self._context.counters.bytes_to_clients += len(data)
        self._transport.write(data)

    def server_reported(self, name: bytes, value: bytes) -> bool:
        news = self.parameters.get(name) != value
        if news:
            self.parameters[name] = value
            self._effects |= Effect.SETTING
        return news

    def server_notified(self, body: bytes) -> None:
        assert self._pool is not None
        if self.listens is None:
            self.listens = Listens(self._transport.write, self._is_between, self.end)
        self.listens.from_server(body, self._pool.client_of)

    def server_failed(self, fields: dict[str, str]) -> None:
        self._context.counters.errors_from_servers += 1
        self._fatal_seen = self._fatal_seen or fields.get("V", fields.get("S")) == "FATAL"

    def server_full(self) -> None:
        self._server_full = True
        self._pace()

    def server_drained(self) -> None:
        self._server_full = False
        self._pace()

    def server_ready(self, status: int) -> None:
        """All is answered: keep the server, ask what the session holds, or give it back."""
        self._ready_missed = self._skip > 0
        if status != IDLE or self._skip:
            return
        self._sent = False
        self._context.counters.transactions += 1
        self.transactions += 1
        if self.listens is not None:
            assert self.server is not None
            self.listens.transaction_ended(self.server.last_command)
        self._pin_what_cannot_be_asked()
        if self._effects & Effect.SEQUENCE_WRITE:
            self._preferred = self.server
        probed = PROBED | PROBED_WHILE_PINNED if self.pins else PROBED
        if self._effects & probed and Pin.SESSION_MODE not in self.pins:
            self._probe()
        else:
            self._effects = Effect(0)
            self._part()

    def server_forgot_prepared(self) -> None:
        self._translator.forget_all()
        if self.listens is not None and self.server is not None:
            self.listens.all_discarded(self.server.last_command)

    def server_lost(self, error: ServerUnavailable) -> None:
        """The server has gone; what was not sent yet gets another, all else ends with the truth."""
        self.server = None
        self._input_held = False
        if not self._sent and not self.pins and self._inbox:
            self._seek()
        elif self._fatal_seen:
            self._close()
        else:
            self.end(error)

    # --- the end of a transaction ---

    def _pin_what_cannot_be_asked(self) -> None:
        for effect, pin in PINNING.items():
            if self._effects & effect:
                self._pin(pin)

    def _pin(self, pin: Pin) -> None:
        if pin not in self.pins:
            self.pins[pin] = self._context.clock()
            counts = self._context.counters.pins
            counts[pin] = counts.get(pin, 0) + 1

    def _probe(self) -> None:
        """Ask the server what the session holds; the client's next message waits for the answer."""
        server = self.server
        assert server is not None
        self._input_held = True
        self._context.counters.probes += 1
        names = custom_names(self.settings, self._touched)
        server.ask(probe_sql(names), self._probed)

    def _probed(self, answer: Answer) -> None:
        server = self.server
        if server is None or self.phase is not Phase.LINKED:
            return
        self._input_held = False
        self._effects = Effect(0)
        if answer.error is not None:
            self._pin(Pin.UNKNOWN)
        else:
            assert self._pool is not None
            found = read_probe(answer.rows, self._pool.dsn.user)
            server.settings = found.settings
            self.settings = ordered({**dict(self._startup_settings), **dict(found.settings)})
            self._scope = scope_of(self.settings)
            listening = self._context.pools.listening(self._pool)
            if found.channels and listening.possible:
                self._repin(found.pins - {Pin.LISTEN})
                self._move_listens(server, listening, found.channels)
                return
            self._repin(found.pins)
        self._part()

    def _move_listens(
        self, server: ServerConnection, listening: Listening, channels: frozenset[bytes]
    ) -> None:
        """Have the shared listener hear our channels, so that they don't hold the server."""
        if self.listens is None:
            self.listens = Listens(self._transport.write, self._is_between, self.end)
        self._input_held = True
        work = self._listens_moved(self.listens.move(server, listening, channels))
        self._seeking = asyncio.get_running_loop().create_task(work)

    async def _listens_moved(self, move: Coroutine[None, None, None]) -> None:
        try:
            await move
        except GatewayError as error:
            _log.warning("client %d keeps its server for LISTEN: %s", self.number, error.message)
            self._pin(Pin.LISTEN)
        self._seeking = None
        self._input_held = False
        self._part()

    def _is_between(self) -> bool:
        """Whether the client is between two transactions."""
        server = self.server
        return server is None or (server.status == IDLE and server.replies.idle)

    def _repin(self, found: frozenset[Pin]) -> None:
        for pin in [held for held in self.pins if held not in LASTING and held not in found]:
            del self.pins[pin]
        for pin in found:
            self._pin(pin)

    def _part(self) -> None:
        """Between two transactions: give the server back unless something holds us to it."""
        if self._draining is not None:
            self.end(self._draining)
            return
        server, pool = self.server, self._pool
        assert server is not None
        assert pool is not None
        if self.pins:
            if server.settings != self.settings:
                self._replay(server)
            else:
                self._receive(b"")
            return
        self.server = None
        self.phase = Phase.IDLE
        self._server_full = False
        pool.release(server)
        self._resume_input()


def _draws_from_sequences(facts: Facts) -> bool:
    """Whether a later currval could tell of it: nextval, or a write with a column's default."""
    return bool(facts.effects & Effect.SEQUENCE_WRITE) or not facts.read_only


def _unknown_message(tag: int) -> ProtocolViolation:
    return ProtocolViolation(f"invalid frontend message type {tag}")


_COPY_DATA = ord("d")

_LinkedHandler = Callable[[ClientSession, ServerConnection, bytes, int], bytes | None]
_IdleHandler = Callable[[ClientSession, int], bool]

_LINKED: dict[bytes, _LinkedHandler] = {
    b"Q": ClientSession._on_query,
    b"F": ClientSession._on_function,
    b"P": ClientSession._on_parse,
    b"B": ClientSession._on_bind,
    b"D": ClientSession._on_describe,
    b"E": ClientSession._on_execute,
    b"C": ClientSession._on_close,
    b"S": ClientSession._on_sync,
    b"H": ClientSession._on_passed,
    b"d": ClientSession._on_passed,
    b"c": ClientSession._on_copy_end,
    b"f": ClientSession._on_copy_end,
    b"X": ClientSession._on_terminate,
}
_WHEN_LINKED = tuple(_LINKED.get(bytes([tag])) for tag in range(256))

_IDLE: dict[bytes, _IdleHandler] = {
    b"Q": ClientSession._begin_query,
    b"F": ClientSession._begin_query,
    b"P": ClientSession._begin_extended,
    b"B": ClientSession._begin_extended,
    b"D": ClientSession._begin_extended,
    b"E": ClientSession._begin_extended,
    b"C": ClientSession._begin_extended,
    b"S": ClientSession._answer_sync,
    b"H": ClientSession._drop,
    b"d": ClientSession._drop,
    b"c": ClientSession._drop,
    b"f": ClientSession._drop,
    b"X": ClientSession._terminate,
}
_WHEN_IDLE = tuple(_IDLE.get(bytes([tag])) for tag in range(256))
