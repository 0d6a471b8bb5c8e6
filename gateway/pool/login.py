"""Opening a server connection: connect, authenticate, wait for the first ReadyForQuery.

Source: PostgreSQL documentation, "Message Flow", section "Start-up". The server is untrusted
input: lengths are bounded, its proof is checked, its errors may lack any field.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, replace

from gateway.clock import Clock
from gateway.errors import ConnectFailed, GatewayError, ProtocolViolation
from gateway.net.carrier import Carrier
from gateway.net.connect import open_server, second_sslmode
from gateway.net.stream import MessageStream
from gateway.net.tls import ClientContexts, peer_binding
from gateway.pool.server import ServerConnection
from gateway.protocol import messages
from gateway.protocol.passwords import md5_answer
from gateway.protocol.scram import KeyCache, ScramClient
from gateway.protocol.startup import PROTOCOL_3_0
from gateway.settings.dsn import ChannelBinding, Dsn

_MESSAGE_MAX_BYTES = 64 * 1024
_SQLSTATE_UNKNOWN = "XX000"


@dataclass(slots=True)
class _Greeting:
    """What the server told before its first ReadyForQuery."""

    pid: int
    secret: bytes
    parameters: dict[bytes, bytes]


class ServerRefused(ConnectFailed):
    """The server answered the login with an error; ``server_sqlstate`` is its own code."""

    def __init__(self, message: str, server_sqlstate: str, hint: str) -> None:
        super().__init__(message, hint=hint)
        self.server_sqlstate = server_sqlstate

    @property
    def may_pass(self) -> bool:
        """Whether the server may take us later: it starts, stops, or is full."""
        return self.server_sqlstate.startswith(("57P", "53"))


@dataclass(frozen=True, slots=True)
class Opening:
    """What all logins of a worker share: derived keys and TLS contexts are made once."""

    clock: Clock
    keys: KeyCache
    contexts: ClientContexts
    carrier: Carrier | None = None
    """Makes the transports of connections without TLS; asyncio's loop when None."""


async def open_connection(
    dsn: Dsn, opening: Opening, timeout_s: float, startup: Mapping[str, str]
) -> ServerConnection:
    """A logged-in connection to ``dsn``. Raises ConnectFailed, with its cause, in ``timeout_s``.

    ``startup`` are the startup parameters besides user and database.
    """
    try:
        async with asyncio.timeout(timeout_s):
            return await _open_once_or_twice(dsn, opening, timeout_s, startup)
    except TimeoutError:
        raise ConnectFailed(
            f"no connection to {dsn.place} within {timeout_s:g} s",
            hint="Is the database up and reachable from the gateway?",
        ) from None
    except OSError as error:
        raise ConnectFailed(f"{dsn.place} broke off the login: {error}") from None


async def _open_once_or_twice(
    dsn: Dsn, opening: Opening, timeout_s: float, startup: Mapping[str, str]
) -> ServerConnection:
    """A refused login may be taken with TLS, or without, where sslmode leaves it open."""
    contexts, carrier = opening.contexts, opening.carrier
    transport, stream = await open_server(dsn, MessageStream, timeout_s, contexts, carrier)
    in_tls = transport.get_extra_info("ssl_object") is not None
    try:
        return await _log_in(dsn, transport, stream, opening, startup)
    except ServerRefused:
        second = second_sslmode(dsn, in_tls)
        if second is None:
            raise
    other = replace(dsn, sslmode=second)
    transport, stream = await open_server(other, MessageStream, timeout_s, contexts, carrier)
    return await _log_in(other, transport, stream, opening, startup)


async def _log_in(
    dsn: Dsn,
    transport: asyncio.Transport,
    stream: MessageStream,
    opening: Opening,
    startup: Mapping[str, str],
) -> ServerConnection:
    try:
        return await _dialogue(dsn, transport, stream, opening, startup)
    except ProtocolViolation as error:
        transport.abort()
        raise ConnectFailed(
            f"{dsn.place} broke the protocol in its login: {error.message}"
        ) from None
    except BaseException:
        transport.abort()
        raise


async def _dialogue(
    dsn: Dsn,
    transport: asyncio.Transport,
    stream: MessageStream,
    opening: Opening,
    startup: Mapping[str, str],
) -> ServerConnection:
    parameters = {"user": dsn.user, "database": dsn.database, **startup}
    stream.write(messages.startup(parameters, PROTOCOL_3_0))
    await _authenticate(dsn, transport, stream, opening.keys)
    greeting = await _greeting(dsn, stream)
    server = ServerConnection(
        transport, greeting.pid, greeting.secret, greeting.parameters, opening.clock()
    )
    rest = stream.hand_over(server)
    if rest:
        server.data_received(rest)
    return server


async def _authenticate(
    dsn: Dsn, transport: asyncio.Transport, stream: MessageStream, keys: KeyCache
) -> None:
    """Answer what the server asks for, up to AuthenticationOk."""
    scram: ScramClient | None = None
    while True:
        tag, body = await _next(dsn, stream)
        if tag != ord("R") or len(body) < 4:
            raise ConnectFailed(f"{dsn.place} sent a message of type 0x{tag:02x} in its login")
        code, data = int.from_bytes(body[:4], "big"), body[4:]
        if code == 0:
            _require_proof(dsn, scram)
            return
        if code == 3:
            stream.write(messages.password(dsn.password.encode()))
        elif code == 5 and len(data) == 4:
            stream.write(messages.password(md5_answer(dsn.password, dsn.user, data)))
        elif code == 10:
            scram = _scram(dsn, transport, data, keys)
            stream.write(messages.sasl_initial(scram.mechanism, scram.first()))
        elif code == 11 and scram is not None:
            stream.write(messages.sasl_response(await _respond(scram, data)))
        elif code == 12 and scram is not None:
            scram.verify(data)
        else:
            raise ConnectFailed(
                f"{dsn.place} asks for authentication method {code}, which the gateway can't do",
                hint="Use scram-sha-256, md5 or password in pg_hba.conf.",
            )


async def _respond(scram: ScramClient, server_first: bytes) -> bytes:
    """The key derivation takes milliseconds: it must not stop the loop."""
    return await asyncio.get_running_loop().run_in_executor(None, scram.respond, server_first)


def _scram(dsn: Dsn, transport: asyncio.Transport, data: bytes, keys: KeyCache) -> ScramClient:
    offered = [name.decode("ascii", "replace") for name in data.split(b"\0") if name]
    binding = None
    if dsn.channel_binding != ChannelBinding.DISABLE:
        binding = peer_binding(transport)
    return ScramClient(
        "",
        dsn.password,
        channel_binding=binding,
        offered=offered,
        require_channel_binding=dsn.channel_binding == ChannelBinding.REQUIRE,
        cache=keys,
    )


def _require_proof(dsn: Dsn, scram: ScramClient | None) -> None:
    """AuthenticationOk counts only after the exchange that was begun, or asked for, is complete."""
    if scram is not None and not scram.verified:
        raise ConnectFailed(f"{dsn.place} ended the SCRAM exchange without its proof")
    if scram is None and dsn.channel_binding == ChannelBinding.REQUIRE:
        raise ConnectFailed(f"{dsn.place} did not use SCRAM, but channel_binding=require is set")


async def _greeting(dsn: Dsn, stream: MessageStream) -> _Greeting:
    """ParameterStatus and BackendKeyData up to ReadyForQuery."""
    greeting = _Greeting(0, b"\0\0\0\0", {})
    while True:
        tag, body = await _next(dsn, stream)
        if tag == ord("S"):
            name, value = messages.read_parameter_status(body)
            greeting.parameters[name] = value
        elif tag == ord("K"):
            greeting.pid, greeting.secret = messages.read_key_data(body)
        elif tag == ord("Z"):
            return greeting
        else:
            raise ConnectFailed(f"{dsn.place} sent a message of type 0x{tag:02x} in its login")


async def _next(dsn: Dsn, stream: MessageStream) -> tuple[int, bytes]:
    """The next message that matters. Raises ServerRefused for an ErrorResponse."""
    while True:
        try:
            tag, body = await stream.read_message(_MESSAGE_MAX_BYTES)
        except ConnectFailed:
            raise
        except GatewayError as error:
            raise ConnectFailed(f"{dsn.place}: {error.message}") from None
        if tag == ord("E"):
            raise _refusal(dsn, messages.read_fields(body))
        if tag not in (ord("N"), ord("v")):
            return tag, body


def _refusal(dsn: Dsn, fields: dict[str, str]) -> ServerRefused:
    text = fields.get("M", "an error without a message")
    return ServerRefused(
        f"{dsn.place} refused the gateway's login as {dsn.user}: {text}",
        fields.get("C", _SQLSTATE_UNKNOWN),
        fields.get("H", "See the user, password and database in the gateway's settings."),
    )
