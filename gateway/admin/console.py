"""The admin console: commands over the wire protocol, so that psql and every driver can send them.

Source: PostgreSQL documentation, "Frontend/Backend Protocol", sections "Message Flow: Simple
Query" and "Extended Query". All columns are text, whose text and binary formats are the same bytes.
"""

from __future__ import annotations

import asyncio
import logging
import struct
from collections.abc import Awaitable, Callable, Iterable, Iterator
from itertools import islice

from gateway.admin.commands import understand
from gateway.admin.errors import (
    CommandSyntax,
    DuplicatePortal,
    DuplicateStatement,
    InternalError,
    NotText,
    Remark,
    TooManyStatements,
    UnknownPortal,
    UnknownStatement,
    WrongParameters,
)
from gateway.admin.operator import Operator
from gateway.admin.order import STATEMENTS_MAX, Conversation, Order, Portal
from gateway.admin.version import gateway_version
from gateway.admin.view import Row
from gateway.admin.views import Views
from gateway.admin.wire import Wire
from gateway.admin.words import Statement, statements
from gateway.errors import (
    FeatureNotSupported,
    GatewayError,
    ProtocolViolation,
    QueryCanceled,
    ShuttingDown,
)
from gateway.net.listener import Arrival
from gateway.net.stream import MessageStream
from gateway.protocol import messages
from gateway.protocol.startup import StartupMessage
from gateway.router.identity import Login
from gateway.session.registry import Registry

_log = logging.getLogger(__name__)

MESSAGE_MAX_BYTES = 64 * 1024
"""Longer messages end the connection; commands are tiny."""

_ROWS_PER_TURN = 100
"""Rows made before traffic gets its turn."""

_LIKE_POSTGRES = "14.0"
"""What clients that look at the version should take the console for."""

_PORTAL_SUSPENDED = messages.message(b"s")


class Console:
    """Opens console sessions on the state of one worker."""

    def __init__(self, views: Views) -> None:
        self._views = views

    def open(self, arrival: Arrival, login: Login, registry: Registry) -> None:
        """Take a logged-in operator's connection over.

        Raises FeatureNotSupported for a replication connection, ConnectionResetError when the
        operator has gone.
        """
        startup = arrival.request
        assert isinstance(startup, StartupMessage)
        if "replication" in startup.parameters:
            raise FeatureNotSupported("there is nothing to replicate in the console")
        number, secret = registry.new_key(startup.minor)
        operator = Operator(
            number=number,
            secret=secret,
            login=login,
            peer=arrival.peer,
            application=startup.parameters.get("application_name", ""),
            connected_at=self._views.context.clock(),
        )
        talk = Conversation(
            user=login.name,
            database=startup.parameters.get("database") or login.name,
            number=number,
            parameters=_parameters(operator),
        )
        arrival.stream.write(_welcome(talk, secret))
        session = ConsoleSession(operator, self._views, talk, registry)
        session.start(arrival.stream)
        self._views.context.counters.logins += 1


def _parameters(operator: Operator) -> dict[str, str]:
    """What PostgreSQL reports to a client that has just logged in."""
    return {
        "application_name": operator.application,
        "client_encoding": "UTF8",
        "DateStyle": "ISO, MDY",
        "default_transaction_read_only": "off",
        "in_hot_standby": "off",
        "integer_datetimes": "on",
        "IntervalStyle": "postgres",
        "is_superuser": "off",
        "server_encoding": "UTF8",
        "server_version": f"{_LIKE_POSTGRES} (gateway {gateway_version()})",
        "session_authorization": operator.login.name,
        "standard_conforming_strings": "on",
        "TimeZone": "UTC",
    }


def _welcome(talk: Conversation, secret: bytes) -> bytes:
    """From AuthenticationOk to the first ReadyForQuery."""
    reports = (
        messages.parameter_status(name.encode(), value.encode())
        for name, value in talk.parameters.items()
    )
    key = messages.backend_key_data(talk.number, secret)
    return b"".join([messages.AUTHENTICATION_OK, *reports, key, messages.READY_IDLE])


class ConsoleSession(Operator):
    """One operator's connection; it is what the registry counts, cancels and ends."""

    def __init__(
        self, operator: Operator, views: Views, talk: Conversation, registry: Registry
    ) -> None:
        super().__init__(
            operator.number,
            operator.secret,
            operator.login,
            operator.peer,
            operator.application,
            operator.connected_at,
        )
        self._views = views
        self._talk = talk
        self._registry = registry
        self._wire = Wire()
        self._skipping_to_sync = False
        self._waiting = True
        """Nothing under way: the next message is awaited."""
        self._draining: ShuttingDown | None = None
        self._ended = False
        self._task: asyncio.Task[None] | None = None
        self._command: asyncio.Future[Iterable[Row]] | None = None
        """What is being carried out."""

    # --- life ---

    def start(self, stream: MessageStream) -> None:
        """Begin, on the connection of ``stream``."""
        self._wire.take_over(stream)
        self._registry.add(self)
        self._task = asyncio.get_running_loop().create_task(self._serve())
        self._task.add_done_callback(self._over)

    def cancel(self) -> None:
        """Give up a PAUSE that waits; all other commands are over at once."""
        if self._command is not None:
            self._command.cancel()

    def drain(self, error: ShuttingDown) -> None:
        """End the session once the command under way is answered."""
        self._draining = error
        if self._waiting:
            self.end(error)

    def end(self, error: GatewayError) -> None:
        """Tell the operator why and close."""
        if self._task is not None and not self._ended:
            self._ended = True
            self._wire.write(messages.error_response(error, fatal=True))
            self._task.cancel()

    async def _serve(self) -> None:
        try:
            while self._draining is None:
                self._waiting = True
                tag, body = await self._wire.read_message(MESSAGE_MAX_BYTES)
                self._waiting = False
                if tag == _TERMINATE:
                    return
                await self._take(tag, body)
            self._wire.write(messages.error_response(self._draining, fatal=True))
        except ProtocolViolation as error:
            _log.info("console of %s from %s: %s", self.login.name, self.peer, error.message)
            self._wire.write(messages.error_response(error, fatal=True))
        except ConnectionResetError:
            pass

    def _over(self, task: asyncio.Task[None]) -> None:
        self._ended = True
        self._registry.remove(self)
        self._wire.close()

    # --- messages ---

    async def _take(self, tag: int, body: bytes) -> None:
        handler = _HANDLERS.get(tag)
        if handler is None:
            raise ProtocolViolation(f"invalid frontend message type {tag}")
        if self._skipping_to_sync and tag != _SYNC:
            return
        try:
            await handler(self, body)
        except ProtocolViolation:
            raise
        except GatewayError as error:
            self._refuse(tag, error)
        except (ConnectionResetError, asyncio.CancelledError):
            raise
        except Exception:
            _log.exception("a console command failed")
            self._refuse(tag, InternalError("the command failed; the gateway's log says why"))

    def _refuse(self, tag: int, error: GatewayError) -> None:
        self._wire.write(messages.error_response(error, fatal=False))
        if tag in _SIMPLE:
            self._ready()
        else:
            self._skipping_to_sync = True

    def _ready(self) -> None:
        if self._talk.status == b"I":
            self._talk.portals.clear()
        self._wire.write(messages.ready_for_query(self._talk.status))

    async def _query(self, body: bytes) -> None:
        """A Query: each of its statements in turn, up to the first that fails."""
        raw, _ = messages.read_cstring(body, 0)
        found = statements(_decoded(raw))
        if not found:
            self._wire.write(messages.EMPTY_QUERY)
        for statement in found:
            order = self._understand(statement)
            if order.columns is not None:
                self._wire.write(messages.row_description(order.columns))
            await self._execute_portal(Portal(order), 0)
        self._ready()

    async def _function_call(self, body: bytes) -> None:
        raise FeatureNotSupported("the console has no functions to call")

    async def _parse(self, body: bytes) -> None:
        raw_name, position = messages.read_cstring(body, 0)
        raw, _ = messages.read_cstring(body, position)
        name = _decoded(raw_name)
        held = self._talk.statements
        if name and name in held:
            raise DuplicateStatement(f'prepared statement "{name}" already exists')
        _require_room(held)
        found = statements(_decoded(raw))
        if len(found) > 1:
            raise CommandSyntax("cannot insert multiple commands into a prepared statement")
        held[name] = self._understand(found[0]) if found else None
        self._wire.write(messages.PARSE_COMPLETE)

    async def _bind(self, body: bytes) -> None:
        raw_portal, position = messages.read_cstring(body, 0)
        raw_name, position = messages.read_cstring(body, position)
        if _parameter_count(body, position):
            raise WrongParameters("the console's commands take no parameters")
        portal, held = _decoded(raw_portal), self._talk.portals
        if portal and portal in held:
            raise DuplicatePortal(f'portal "{portal}" already exists')
        _require_room(held)
        held[portal] = Portal(self._statement(_decoded(raw_name)))
        self._wire.write(messages.BIND_COMPLETE)

    async def _describe(self, body: bytes) -> None:
        kind, name = _target(body)
        if kind == b"S":
            order = self._statement(name)
            self._wire.write(messages.parameter_description(()))
        else:
            order = self._portal(name).order
        columns = None if order is None else order.columns
        described = messages.NO_DATA if columns is None else messages.row_description(columns)
        self._wire.write(described)

    async def _execute(self, body: bytes) -> None:
        raw, position = messages.read_cstring(body, 0)
        if len(body) != position + 4:
            raise ProtocolViolation("malformed Execute")
        rows_max = int.from_bytes(body[position:], "big", signed=True)
        await self._execute_portal(self._portal(_decoded(raw)), max(0, rows_max))

    async def _close(self, body: bytes) -> None:
        kind, name = _target(body)
        held = self._talk.statements if kind == b"S" else self._talk.portals
        held.pop(name, None)
        self._wire.write(messages.CLOSE_COMPLETE)

    async def _flush(self, body: bytes) -> None:
        """Answers are never held back."""

    async def _sync(self, body: bytes) -> None:
        self._skipping_to_sync = False
        self._ready()

    async def _ignore(self, body: bytes) -> None:
        """Copy data after a failed COPY: PostgreSQL drops it too."""

    # --- orders ---

    def _understand(self, statement: Statement) -> Order:
        return understand(statement, self._views, self._talk)

    def _statement(self, name: str) -> Order | None:
        try:
            return self._talk.statements[name]
        except KeyError:
            raise UnknownStatement(f'prepared statement "{name}" does not exist') from None

    def _portal(self, name: str) -> Portal:
        try:
            return self._talk.portals[name]
        except KeyError:
            raise UnknownPortal(f'portal "{name}" does not exist') from None

    async def _execute_portal(self, portal: Portal, rows_max: int) -> None:
        """Run a portal's order, or go on with it, for at most ``rows_max`` rows (0: all)."""
        order = portal.order
        if order is None:
            self._wire.write(messages.EMPTY_QUERY)
            return
        if portal.rows is None:
            self.commands += 1
            _log.debug("console of %s from %s: %s", self.login.name, self.peer, order.tag)
            portal.rows = iter(await self._carry_out(order))
            self._tell(order.notices)
        sent = await self._send_rows(portal.rows, rows_max)
        if rows_max and sent == rows_max:
            self._wire.write(_PORTAL_SUSPENDED)
            return
        tag = f"SELECT {sent}" if order.tag == "SELECT" else order.tag
        self._wire.write(messages.command_complete(tag))

    async def _carry_out(self, order: Order) -> Iterable[Row]:
        """Its rows. Raises QueryCanceled, and what the order raises."""
        self._command = asyncio.ensure_future(order.run())
        try:
            await asyncio.wait([self._command])
            if self._command.cancelled():
                raise QueryCanceled("canceling statement due to user request")
            return self._command.result()
        finally:
            self._command.cancel()
            self._command = None

    def _tell(self, notices: list[str]) -> None:
        for text in notices:
            self._wire.write(messages.notice_response(Remark(text)))
        notices.clear()

    async def _send_rows(self, rows: Iterator[Row], rows_max: int) -> int:
        """Write up to ``rows_max`` rows (0: all) a slice at a time; how many there were."""
        sent = 0
        while True:
            size = min(_ROWS_PER_TURN, rows_max - sent) if rows_max else _ROWS_PER_TURN
            part = [messages.data_row(row) for row in islice(rows, size)]
            if not part:
                return sent
            self._wire.write(b"".join(part))
            sent += len(part)
            await self._wire.flushed()


def _require_room(held: dict[str, Order | None] | dict[str, Portal]) -> None:
    if len(held) >= STATEMENTS_MAX:
        raise TooManyStatements(
            f"the console holds {STATEMENTS_MAX} statements or portals at most",
            hint="Close some of them, or send DEALLOCATE ALL.",
        )


def _decoded(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise NotText("invalid byte sequence for encoding UTF8") from None


def _target(body: bytes) -> tuple[bytes, str]:
    """What a Describe or Close is about: S or P, and the name."""
    kind = body[:1]
    if kind not in (b"S", b"P"):
        raise ProtocolViolation("a Describe or Close is for neither a statement nor a portal")
    raw, _ = messages.read_cstring(body, 1)
    return kind, _decoded(raw)


def _parameter_count(body: bytes, position: int) -> int:
    """The number of parameter values in a Bind whose format codes begin at ``position``."""
    try:
        (formats,) = struct.unpack_from("!h", body, position)
        (count,) = struct.unpack_from("!h", body, position + 2 + 2 * max(0, formats))
    except struct.error:
        raise ProtocolViolation("malformed Bind") from None
    return int(count)


_TERMINATE, _SYNC = b"XS"
_SIMPLE = b"QF"
"""Messages that are answered with a ReadyForQuery of their own."""

_MESSAGES: dict[bytes, Callable[[ConsoleSession, bytes], Awaitable[None]]] = {
    b"Q": ConsoleSession._query,
    b"F": ConsoleSession._function_call,
    b"P": ConsoleSession._parse,
    b"B": ConsoleSession._bind,
    b"D": ConsoleSession._describe,
    b"E": ConsoleSession._execute,
    b"C": ConsoleSession._close,
    b"H": ConsoleSession._flush,
    b"S": ConsoleSession._sync,
    b"d": ConsoleSession._ignore,
    b"c": ConsoleSession._ignore,
    b"f": ConsoleSession._ignore,
}
_HANDLERS = {tag[0]: handler for tag, handler in _MESSAGES.items()}
