"""Accepting clients: first packets on the raw socket, TLS where asked for, then a message stream.

TLS begins only when nothing was read past the SSLRequest, so that bytes sent ahead in clear text
can't be taken for encrypted ones (CVE-2021-3935).
Source: PostgreSQL documentation, "Message Flow", sections "SSL Session Encryption" and
"GSSAPI Session Encryption".
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import ssl
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from gateway.errors import AuthorizationFailed, GatewayError, ProtocolViolation, QueryCanceled
from gateway.net.carrier import Carrier, LoopCarrier
from gateway.net.connect import tune
from gateway.net.stream import MessageStream
from gateway.protocol import messages
from gateway.protocol.startup import (
    CancelRequest,
    GssencRequest,
    NoPacket,
    SslRequest,
    StartupMessage,
    packet_length,
    read_packet,
)

_log = logging.getLogger(__name__)

_TLS_CLIENT_HELLO = 0x16
_ALPN = "postgresql"
_ACCEPTS_PER_TURN = 64
_PAUSE_WITHOUT_DESCRIPTORS_S = 0.2


@dataclass(slots=True)
class Deadline:
    """When a login must be over: ``seconds`` after the connect."""

    timeout: asyncio.Timeout
    seconds: float

    def allow(self, seconds: float) -> None:
        """Another time, from the connect too."""
        until = self.timeout.when()
        if until is not None:
            self.timeout.reschedule(until - self.seconds + seconds)
            self.seconds = seconds


@dataclass(slots=True)
class Arrival:
    """A client that has sent its startup or cancel request."""

    stream: MessageStream
    request: StartupMessage | CancelRequest
    peer: str
    tls: ssl.SSLObject | None
    deadline: Deadline | None = None


@dataclass(frozen=True, slots=True)
class Tls:
    """TLS towards clients: the context, and whether it is demanded."""

    context: ssl.SSLContext
    required: bool


class Listener:
    """A listening socket and the clients that are still sending their first packets.

    ``on_arrival`` takes a client over; ``admit`` says whether one more may come in, and
    ``timeout_s`` bounds the time up to the end of ``on_arrival``. ``carrier`` makes the transports
    of those without TLS.
    """

    def __init__(
        self,
        sock: socket.socket,
        on_arrival: Callable[[Arrival], Awaitable[None]],
        *,
        tls: Tls | None,
        timeout_s: float,
        in_progress_max: int,
        carrier: Carrier | None = None,
    ) -> None:
        self.tls = tls
        self.timeout_s = timeout_s
        self.in_progress_max = in_progress_max
        self._carrier = carrier or LoopCarrier()
        self._sock = sock
        self._on_arrival = on_arrival
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop = asyncio.get_running_loop()
        self._accepting = False

    @property
    def address(self) -> tuple[str, int]:
        """Host and port really bound; port 0 for a Unix socket."""
        name = self._sock.getsockname()
        return (name, 0) if isinstance(name, str) else (name[0], name[1])

    @property
    def in_progress(self) -> int:
        """Clients between their connect and the end of their login."""
        return len(self._tasks)

    def start(self) -> None:
        """Accept clients from now on."""
        self._sock.setblocking(False)
        self._resume()

    def duplicate(self) -> socket.socket:
        """The same listening socket, for another process."""
        return self._sock.dup()

    def close(self) -> None:
        """Accept no more; those in progress go on."""
        self._pause()
        self._sock.close()

    async def abandon(self) -> None:
        """Drop the clients in progress."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # --- accepting ---

    def _resume(self) -> None:
        if not self._accepting and self._sock.fileno() >= 0:
            self._accepting = True
            self._loop.add_reader(self._sock, self._accept)

    def _pause(self) -> None:
        if self._accepting:
            self._accepting = False
            self._loop.remove_reader(self._sock)

    def _accept(self) -> None:
        """Take what waits, a bounded number at a turn so that traffic goes on between."""
        for _ in range(_ACCEPTS_PER_TURN):
            if len(self._tasks) >= self.in_progress_max:
                self._pause()
                return
            try:
                sock, name = self._sock.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                _log.error("cannot accept clients: %s", error)
                self._pause()
                self._loop.call_later(_PAUSE_WITHOUT_DESCRIPTORS_S, self._resume)
                return
            task = self._loop.create_task(self._receive(sock, _peer_name(name)))
            self._tasks.add(task)
            task.add_done_callback(self._received)

    def _received(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._resume()

    # --- one client's first packets ---

    async def _receive(self, sock: socket.socket, peer: str) -> None:
        stream: MessageStream | None = None
        handed_over = False
        try:
            async with asyncio.timeout(self.timeout_s) as deadline:
                _tune(sock)
                direct = await _begins_with_tls(self._loop, sock)
                stream, tls = await self._greet(sock, direct)
                if direct:
                    _require_alpn(tls)
                request = await _request(stream)
                if isinstance(request, StartupMessage):
                    self._require_tls(tls)
                until = Deadline(deadline, self.timeout_s)
                await self._on_arrival(Arrival(stream, request, peer, tls, until))
                handed_over = True
        except NoPacket as error:
            _log.info("client %s: %s", peer, error.message)
        except GatewayError as error:
            _log.info("client %s: %s", peer, error.message)
            if stream is not None:
                stream.write(messages.error_response(error, fatal=True))
            else:
                with suppress(OSError):
                    sock.send(messages.error_response(error, fatal=True))
        except TimeoutError:
            _log.info("client %s did not finish its login in time", peer)
            if stream is not None:
                late = QueryCanceled("canceling authentication due to timeout")
                stream.write(messages.error_response(late, fatal=True))
        except (OSError, EOFError) as error:
            _log.debug("client %s left during its login: %r", peer, error)
        finally:
            if not handed_over:
                if stream is not None:
                    stream.close()
                else:
                    sock.close()

    async def _greet(
        self, sock: socket.socket, direct: bool
    ) -> tuple[MessageStream, ssl.SSLObject | None]:
        """Answer SSL and GSS requests; the stream of what follows, inside TLS or not."""
        if direct:
            return await self._direct_tls(sock)
        refused: set[type[object]] = set()
        while True:
            head = await _receive_exactly(self._loop, sock, 8)
            request = _negotiation(head)
            if request is None:
                return await self._plain(sock, head), None
            if type(request) in refused:
                raise ProtocolViolation("the same encryption was asked for twice")
            _refuse_stuffing(sock)
            if isinstance(request, SslRequest) and self.tls is not None:
                await self._loop.sock_sendall(sock, b"S")
                return await self._encrypted(sock, self.tls.context)
            refused.add(type(request))
            await self._loop.sock_sendall(sock, b"N")

    async def _plain(self, sock: socket.socket, head: bytes) -> MessageStream:
        _, stream = await self._carrier.carry(sock, MessageStream(head))
        return stream

    async def _encrypted(
        self, sock: socket.socket, context: ssl.SSLContext
    ) -> tuple[MessageStream, ssl.SSLObject]:
        # Not the protocol that is returned: on uvloop that is the TLS layer itself.
        stream = MessageStream()
        transport, _ = await self._loop.connect_accepted_socket(
            lambda: stream, sock, ssl=context, ssl_handshake_timeout=self.timeout_s
        )
        tls: ssl.SSLObject = transport.get_extra_info("ssl_object")
        return stream, tls

    async def _direct_tls(self, sock: socket.socket) -> tuple[MessageStream, ssl.SSLObject]:
        """TLS from the first byte."""
        if self.tls is None:
            raise ProtocolViolation("this server has no TLS: set listen.tls or use sslmode=disable")
        return await self._encrypted(sock, self.tls.context)

    def _require_tls(self, tls: ssl.SSLObject | None) -> None:
        if self.tls is not None and self.tls.required and tls is None:
            raise AuthorizationFailed(
                "this server accepts connections inside TLS only", hint="Use sslmode=require."
            )


def open_tcp(host: str, port: int, backlog: int, *, shared: bool = False) -> socket.socket:
    """A listening TCP socket; ``shared`` ones may have the same address, and share its clients.

    With a ``backlog`` of 0 it keeps the address and takes nobody. Raises OSError when the address
    can't be had.
    """
    family, kind, protocol, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    sock = socket.socket(family, kind, protocol)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind(address)
        if backlog:
            sock.listen(backlog)
    except OSError as error:
        sock.close()
        raise OSError(error.errno, f"can't listen on {host}:{port}: {error.strerror}") from None
    except BaseException:
        sock.close()
        raise
    return sock


def open_unix(folder: str, port: int, backlog: int) -> socket.socket:
    """A listening Unix socket by PostgreSQL's naming; a stale one is replaced."""
    path = Path(folder) / f".s.PGSQL.{port}"
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if path.is_socket() and not _answers(path):
            path.unlink()
        sock.bind(str(path))
        os.chmod(path, 0o777)  # noqa: PTH101 - who may log in is decided by passwords
        sock.listen(backlog)
    except BaseException:
        sock.close()
        raise
    return sock


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
        return True


def _peer_name(name: object) -> str:
    return f"{name[0]}:{name[1]}" if isinstance(name, tuple) else "local"


def _tune(sock: socket.socket) -> None:
    sock.setblocking(False)
    if sock.family != socket.AF_UNIX:
        tune(sock)


async def _readable(loop: asyncio.AbstractEventLoop, sock: socket.socket) -> None:
    """Wait until a read would not block."""
    ready = asyncio.Event()
    loop.add_reader(sock, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(sock)


async def _begins_with_tls(loop: asyncio.AbstractEventLoop, sock: socket.socket) -> bool:
    """Whether a TLS handshake is the first that arrives; nothing is taken from the socket."""
    await _readable(loop, sock)
    first = sock.recv(1, socket.MSG_PEEK)
    return bool(first) and first[0] == _TLS_CLIENT_HELLO


def _require_alpn(tls: ssl.SSLObject | None) -> None:
    """Direct TLS is for those who name our protocol in the handshake (ALPACA)."""
    if tls is None or tls.selected_alpn_protocol() != _ALPN:
        raise ProtocolViolation("direct TLS needs the ALPN protocol 'postgresql'")


async def _receive_exactly(
    loop: asyncio.AbstractEventLoop, sock: socket.socket, count: int
) -> bytes:
    """``count`` bytes and not one more. Raises EOFError when the peer leaves before."""
    data = b""
    while len(data) < count:
        part = await loop.sock_recv(sock, count - len(data))
        if not part:
            raise EOFError
        data += part
    return data


def _negotiation(head: bytes) -> SslRequest | GssencRequest | None:
    """The encryption request that the first eight bytes are, None for any other packet."""
    if packet_length(head) != 8:
        return None
    request = read_packet(head)
    return request if isinstance(request, SslRequest | GssencRequest) else None


def _refuse_stuffing(sock: socket.socket) -> None:
    """A client waits for our answer: bytes that are there before it are an attack."""
    with suppress(BlockingIOError, InterruptedError):
        if sock.recv(1, socket.MSG_PEEK):
            raise ProtocolViolation("received unencrypted data after an encryption request")


async def _request(stream: MessageStream) -> StartupMessage | CancelRequest:
    """The packet after any encryption request."""
    head = await stream.read_exactly(4)
    body = await stream.read_exactly(packet_length(head) - 4)
    request = read_packet(head + body)
    if not isinstance(request, StartupMessage | CancelRequest):
        raise ProtocolViolation("an encryption request inside an encrypted connection")
    return request
