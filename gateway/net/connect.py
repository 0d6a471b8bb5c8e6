"""Opens connections to PostgreSQL: address, socket, SSLRequest, TLS, then a transport.

The request for TLS is made on the raw socket, and one byte of answer is read and never more, so
that bytes slipped in before the handshake can't be taken for the server's (CVE-2021-23222).
Sources: PostgreSQL documentation, "SSL Session Encryption" and "Canceling Requests in Progress"
(message flow), "SSL Mode Descriptions" (libpq).
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import struct
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from gateway.clock import monotonic
from gateway.errors import ConfigError, ConnectFailed
from gateway.net.carrier import Carrier, LoopCarrier
from gateway.net.tls import OUT_OF_DESCRIPTORS, ClientContexts
from gateway.settings.dsn import Dsn, SslMode

P = TypeVar("P", bound=asyncio.BaseProtocol)

_SSL_REQUEST = struct.pack("!ii", 8, 80877103)
_CANCEL_CODE = 80877102

# A peer that vanished without a word is noticed after a minute: 30 s of silence, 3 probes.
_KEEPALIVE = {"TCP_KEEPIDLE": 30, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 3}


class OutOfDescriptors(ConnectFailed):
    """The gateway has too many files and sockets open; this says nothing about the database."""

    sqlstate = "53000"


async def open_server(
    address: Dsn,
    factory: Callable[[], P],
    timeout_s: float,
    contexts: ClientContexts | None = None,
    carrier: Carrier | None = None,
) -> tuple[asyncio.Transport, P]:
    """A connection to a server, ready for the startup message, in TLS as its sslmode says.

    Each address of the host is tried in turn, for an even part of what is left of ``timeout_s``.
    ``factory`` may be called more than once; only the last one made gets the connection.
    sslmode=allow gives a plain connection, see second_sslmode. ``contexts`` saves making a TLS
    context each time; ``carrier`` makes the transport where there is no TLS. Raises ConnectFailed,
    and OutOfDescriptors when that is the cause.
    """
    deadline = monotonic() + timeout_s
    contexts = contexts or ClientContexts()
    try:
        tls = contexts.get(address.sslmode, address.sslrootcert, address.sslcert, address.sslkey)
        async with asyncio.timeout(timeout_s):
            places = await _places(address)
        opening = _Opening(address, factory, tls, carrier or LoopCarrier())
        return await _first_to_answer(opening, places, deadline)
    except (OSError, ConfigError) as error:
        raise _failed(address, error) from None


def second_sslmode(address: Dsn, in_tls: bool) -> SslMode | None:
    """The sslmode for a second try, when the server refused the *login* on the first connection.

    libpq's allow (plain, then TLS) and prefer (TLS, then plain) go beyond the connection:
    pg_hba.conf may take a login only in the other way. None where there is no second try.
    """
    if address.host.startswith("/"):
        return None
    if address.sslmode is SslMode.ALLOW and not in_tls:
        return SslMode.REQUIRE
    if address.sslmode is SslMode.PREFER and in_tls:
        return SslMode.DISABLE
    return None


async def send_cancel(
    address: Dsn,
    pid: int,
    secret: bytes,
    timeout_s: float,
    contexts: ClientContexts | None = None,
) -> None:
    """Asks a server to cancel what its process ``pid`` runs, if ``secret`` is that one's key.

    Returns when the server has closed the connection, which it does after sending the signal; it
    never says whether there was anything to cancel. Raises ConnectFailed when that is in doubt.
    """
    deadline = monotonic() + timeout_s
    ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    transport, _ = await open_server(address, lambda: _UntilEof(ended), timeout_s, contexts)
    request = struct.pack("!iiI", 12 + len(secret), _CANCEL_CODE, pid & 0xFFFFFFFF) + secret
    try:
        transport.write(request)
        async with asyncio.timeout(deadline - monotonic()):
            await ended
    except OSError as error:
        raise _failed(address, error) from None
    finally:
        transport.abort()


class _UntilEof(asyncio.Protocol):
    """Waits for the peer to close; whatever it says is dropped."""

    def __init__(self, ended: asyncio.Future[None]) -> None:
        self._ended = ended

    def eof_received(self) -> None:
        self._end(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(exc)

    def _end(self, exc: Exception | None) -> None:
        if self._ended.done():
            return
        if exc is None:
            self._ended.set_result(None)
        else:
            self._ended.set_exception(exc)


# --- where: the addresses of a host ----------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Place:
    """One socket address."""

    family: socket.AddressFamily
    sockaddr: tuple[Any, ...] | str

    def __str__(self) -> str:
        return self.sockaddr if isinstance(self.sockaddr, str) else str(self.sockaddr[0])


async def _places(address: Dsn) -> list[_Place]:
    """The host's socket addresses; a folder is that of a Unix socket, as in libpq."""
    if address.host.startswith("/"):
        return [_Place(socket.AF_UNIX, f"{address.host}/.s.PGSQL.{address.port}")]
    try:
        return await _looked_up(address.host, address.port)
    except UnicodeError:
        raise ConnectionError("that can't be a host name") from None
    except socket.gaierror:
        # The resolver does not say when it was us who could open no more; this does.
        socket.socket().close()
        raise


async def _looked_up(host: str, port: int) -> list[_Place]:
    """getaddrinfo, in a thread only when there is something to look up."""
    stream = socket.SOCK_STREAM
    try:
        found = socket.getaddrinfo(host, port, type=stream, flags=socket.AI_NUMERICHOST)
    except socket.gaierror:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=stream)
    return [_Place(family, sockaddr) for family, _, _, _, sockaddr in found]


# --- how: plain or TLS -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Opening(Generic[P]):
    """What is being opened: the same for every address of the host."""

    address: Dsn
    factory: Callable[[], P]
    tls: ssl.SSLContext | None
    carrier: Carrier


class _HandshakeFailed(ConnectionError):
    """The server granted TLS, and then no TLS came about."""


async def _first_to_answer(
    opening: _Opening[P], places: list[_Place], deadline: float
) -> tuple[asyncio.Transport, P]:
    failures: list[tuple[_Place, OSError]] = []
    for place in places:
        share_s = (deadline - monotonic()) / (len(places) - len(failures))
        try:
            async with asyncio.timeout(share_s):
                return await _open_at(place, opening)
        except OSError as error:  # which a timeout is too
            if error.errno in OUT_OF_DESCRIPTORS:
                raise
            failures.append((place, error))
    if len(failures) == 1:
        raise failures[0][1]
    raise ConnectionError("; ".join(f"{place}: {_cause(error)}" for place, error in failures))


async def _open_at(place: _Place, opening: _Opening[P]) -> tuple[asyncio.Transport, P]:
    """In TLS or plain by libpq's rules; prefer takes plain where TLS can't be had."""
    mode = opening.address.sslmode
    if place.family == socket.AF_UNIX or mode in (SslMode.DISABLE, SslMode.ALLOW):
        return await _open_once(place, opening, ask_tls=False)
    try:
        return await _open_once(place, opening, ask_tls=True)
    except _HandshakeFailed:
        if mode is not SslMode.PREFER:
            raise
    return await _open_once(place, opening, ask_tls=False)


async def _open_once(
    place: _Place, opening: _Opening[P], *, ask_tls: bool
) -> tuple[asyncio.Transport, P]:
    sock = await _connected(place)
    try:
        in_tls = ask_tls and await _tls_granted(sock, opening.address.sslmode)
        protocol = opening.factory()
    except BaseException:
        sock.close()
        raise
    # From here on the socket is a transport's, and only that may close it.
    try:
        if in_tls:
            return await _in_tls(sock, protocol, opening)
        return await opening.carrier.carry(sock, protocol)
    except BaseException:
        # A transport given up during its handshake may live on for long; at its end it leaves.
        with suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)
        raise


async def _connected(place: _Place) -> socket.socket:
    sock = socket.socket(place.family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        if place.family != socket.AF_UNIX:
            tune(sock)
        await asyncio.get_running_loop().sock_connect(sock, place.sockaddr)
        if place.family == socket.AF_UNIX:
            _check_queued(sock)
    except BaseException:
        sock.close()
        raise
    return sock


def tune(sock: socket.socket) -> None:
    """Send at once, and notice within a minute when the peer is gone; for both directions."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEPALIVE.items():
        if hasattr(socket, name):  # not every system has all of them
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def _check_queued(sock: socket.socket) -> None:
    """A Unix socket whose server has a full queue only looks connected to the loops."""
    try:
        sock.getpeername()
    except OSError:
        raise ConnectionError("the server's queue of new connections is full") from None


async def _tls_granted(sock: socket.socket, mode: SslMode) -> bool:
    """Sends SSLRequest and reads its one byte of answer.

    An ErrorResponse ('E') is not read: nobody has said yet who wrote it (CVE-2024-10977).
    """
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(sock, _SSL_REQUEST)
    answer = await loop.sock_recv(sock, 1)
    if answer == b"S":
        _refuse_stuffing(sock)
        return True
    if answer == b"N" and mode is SslMode.PREFER:
        return False
    if answer == b"N":
        raise ConnectionError(f"the server does not offer TLS, which sslmode={mode} demands")
    if answer == b"E":
        raise ConnectionError("the server answered the request for TLS with an error")
    if answer == b"":
        raise ConnectionError("the server closed the connection when asked for TLS")
    raise ConnectionError("the server's answer to the request for TLS is not PostgreSQL's")


def _refuse_stuffing(sock: socket.socket) -> None:
    """After 'S' it is the client's turn: bytes that are there already are somebody else's."""
    try:
        early = sock.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return
    if early:
        raise ConnectionError("unencrypted bytes came after the server's agreement to TLS")


async def _in_tls(
    sock: socket.socket, protocol: P, opening: _Opening[P]
) -> tuple[asyncio.Transport, P]:
    host = opening.address.host
    try:
        return await asyncio.get_running_loop().create_connection(
            lambda: protocol, sock=sock, ssl=opening.tls, server_hostname=host
        )
    except (OSError, ValueError) as error:  # ValueError: a name that TLS can't send
        raise _HandshakeFailed(f"the TLS handshake failed: {_cause(error)}") from None


# --- what went wrong -------------------------------------------------------------------------


def _failed(address: Dsn, error: OSError | ConfigError) -> ConnectFailed:
    if isinstance(error, OSError) and error.errno in OUT_OF_DESCRIPTORS:
        return OutOfDescriptors(
            f"could not connect to {address.place}: the gateway ran out of file descriptors",
            hint="Raise its limit of open files (ulimit -n, LimitNOFILE), or lower its bounds"
            " on connections.",
        )
    return ConnectFailed(f"could not connect to {address.place}: {_cause(error)}")


def _cause(error: Exception) -> str:
    """The error in words, without the noise that Python's own text has."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the server's certificate is not accepted: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return error.reason or "TLS error"
    if isinstance(error, socket.gaierror):
        return f"host name look-up failed: {error.strerror}"
    if isinstance(error, OSError) and error.errno is not None:
        return os.strerror(error.errno)
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return str(error) or "the server closed the connection"
