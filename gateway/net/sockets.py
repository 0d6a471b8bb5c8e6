"""The gateway's own transports: plain connections, served by a small loop inside asyncio's.

One epoll holds all of them, and asyncio's loop watches that epoll as if it were one file. So an
event costs a table look-up and a call, and a connection at rest costs an object and no buffer: what
arrives is read where all connections read, what is sent goes straight to the socket, and only what
that does not take is kept. docs/decisions/0011-sockets.md says what is gained.
"""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress
from typing import Any, Final

from gateway.net.calls import READABLE, WRITABLE, Poll, receive, send
from gateway.net.ends import End, Wire, end_of
from gateway.net.stream import Receiver

_READ_BYTES = 16 * 1024
_READ_MUCH_BYTES = 128 * 1024
"""At a time, of a connection whose last read brought all that was asked for."""
_READS_PER_TURN = 4
"""After so many full reads of one connection it is the others' turn."""
_LOOKS_PER_TURN = 4
"""After so many busy looks it is asyncio's turn: clients that come, timers, tasks."""
_BUSY = 8
"""So many connections ready at once make it likely that there are more by now."""
_PIECE_BYTES, _MUCH_BYTES = 4 * 1024, 24 * 1024
"""What comes in pieces of such a size, as large results do, which PostgreSQL sends 8 KiB at a time,
would cost a wake-up each: it is read by the clock, as long as a tick brings much."""
_PIECES, _PIECES_AGAIN = 32, -512
"""After so many in a row; after one tick that did not bring much, after many more."""
_TICK_NS = 250_000
_GATHER_MAX_BYTES = 16 * 1024
"""What a receiver writes in pieces is gathered and sent as one, up to this size."""
_HIGH_BYTES = 64 * 1024
"""What may wait to be sent before the source is asked to pause, unless told otherwise."""
_READABLE, _WRITABLE = READABLE, WRITABLE  # as C integers
_BYTES = READABLE | WRITABLE


class Sockets:
    """All connections of one event loop that are read and written here."""

    __slots__ = ("_by_fd", "_closed", "_count", "_loop", "_paced", "_poll", "_unsent", "busy")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._poll = Poll()
        self._by_fd: list[SocketTransport | None] = []
        """A descriptor is a small number: the place of its transport."""
        self._count = 0
        self._closed = False
        self._paced: list[SocketTransport] = []
        """Those that are read by the clock."""
        self.busy = False
        """Receivers are being called: what they write is sent when they are done."""
        self._unsent: SocketTransport | None = None
        """The first of those that have something to send then, each knowing the next."""
        loop.add_reader(self._poll.fileno(), self._turn)

    def __len__(self) -> int:
        return self._count

    def open(self, sock: socket.socket, receiver: Receiver) -> SocketTransport:
        """Begin to read a connected, non-blocking socket, which is the transport's from now on.

        Raises OSError, and then the socket is still the caller's.
        """
        transport = SocketTransport(self, self._loop, sock, receiver)
        self._poll.add(transport.fd, _READABLE)
        while len(self._by_fd) <= transport.fd:
            self._by_fd.append(None)
        self._by_fd[transport.fd] = transport
        self._count += 1
        return transport

    def close(self) -> None:
        """Stop when the last connection has ended; none may be opened any more."""
        if not self._closed:
            self._closed = True
            self._stop_if_empty()

    # --- the transports' side ---

    def watch(self, transport: SocketTransport, mask: int) -> None:
        """Have a transport told of what is in ``mask`` and of nothing else."""
        if not mask:
            self._poll.remove(transport.fd)
        elif transport.watched:
            self._poll.change(transport.fd, mask)
        else:
            self._poll.add(transport.fd, mask)
        transport.watched = mask

    def tell_again(self, transport: SocketTransport) -> None:
        """It has left something unread: the epoll is to tell of it in the next turn."""
        self._poll.change(transport.fd, transport.watched)

    def pace(self, transport: SocketTransport) -> bool:
        """Read a connection at every tick; False where there is no clock for that."""
        if not self._paced and not self._poll.wake_in(_TICK_NS):
            return False
        while len(self._by_fd) <= self._poll.timer():
            self._by_fd.append(None)
        self._paced.append(transport)
        return True

    def forget(self, transport: SocketTransport) -> None:
        """It has ended. Its descriptor is still open: another copy would keep it in the epoll."""
        if transport.watched:
            with suppress(OSError):
                self._poll.remove(transport.fd)
            transport.watched = 0
        self._by_fd[transport.fd] = None
        self._count -= 1
        if self._closed:
            self._stop_if_empty()

    def send_later(self, transport: SocketTransport) -> None:
        """It has something to send when the receiver that is being called is done."""
        transport.next_unsent, self._unsent = self._unsent, transport

    def _stop_if_empty(self) -> None:
        if not self._count:
            self._loop.remove_reader(self._poll.fileno())
            self._poll.close()

    # --- the loop ---

    def _turn(self) -> None:
        """Serve who is ready, for a bounded number of looks."""
        poll = self._poll
        self.busy = True
        try:
            for _ in range(_LOOKS_PER_TURN):
                count = poll.look()
                for number in range(count):
                    fd = poll.fd(number)
                    transport = self._by_fd[fd]
                    if transport is not None:
                        transport.serve(poll.mask(number))
                    elif fd == poll.timer():
                        self._tick()
                    if self._unsent is not None:
                        self._send()
                if count < _BUSY or self._closed:
                    break
        finally:
            self.busy = False
            self._send()

    def _tick(self) -> None:
        paced, self._paced = self._paced, []
        for transport in paced:
            if transport.serve_paced():
                self._paced.append(transport)
        if self._paced:
            self._poll.wake_in(_TICK_NS)

    def _send(self) -> None:
        while self._unsent is not None:
            transport = self._unsent
            self._unsent, transport.next_unsent = transport.next_unsent, None
            transport.send_now()


class SocketTransport(Wire):
    """One plain connection, with the methods of asyncio.Transport that the gateway uses."""

    __slots__ = (
        "_blocked",
        "_closing",
        "_end",
        "_ended",
        "_full",
        "_high",
        "_later",
        "_loop",
        "_more",
        "_out",
        "_paced",
        "_pieces",
        "_read_paused",
        "_receiver",
        "_sender_paused",
        "_sent",
        "_sock",
        "_sockets",
        "_unsent",
        "_write_ended",
        "fd",
        "next_unsent",
        "watched",
    )

    def __init__(
        self,
        sockets: Sockets,
        loop: asyncio.AbstractEventLoop,
        sock: socket.socket,
        receiver: Receiver,
    ) -> None:
        self.fd = sock.fileno()
        self.watched = _READABLE
        """What the epoll tells of; 0 when it does not hold the descriptor."""
        self.next_unsent: SocketTransport | None = None
        self._sockets = sockets
        self._loop = loop
        self._sock = sock
        self._receiver: Receiver = receiver
        self._end: End | None = end_of(receiver)
        """The receiver too, if it can be called without a look-up."""
        self._read_paused = False
        self._full = False
        """The last read brought all that was asked for."""
        self._paced = False
        """It is read by the clock, and the epoll tells nothing of what arrives."""
        self._pieces = 0
        """How many reads in a row have brought a piece of something large."""
        self._out = b""
        """What is to be sent next, of which ``_sent`` bytes have been."""
        self._sent = 0
        self._more: list[bytes] | None = None
        """What is to be sent after it."""
        self._unsent = 0
        """Bytes of both."""
        self._later = False
        """It stands in the list of those that send when a receiver is done."""
        self._blocked = False
        """The socket takes no more until it is told to be writable."""
        self._high = _HIGH_BYTES
        self._sender_paused = False
        self._write_ended = False
        self._closing = False
        self._ended = False

    # --- asyncio.Transport ---

    def write(self, data: bytes) -> None:
        """Send ``data``; what the socket does not take now is kept."""
        if self._closing or self._write_ended or not data:
            return
        if not self._unsent:
            self._out = data
            self._sent = 0
        elif self._more is None:
            self._more = [data]
        else:
            self._more.append(data)
        self._unsent += len(data)
        if self._blocked:
            self._pause_sender()
        elif not self._sockets.busy or self._unsent > _GATHER_MAX_BYTES:
            self.send_now()
        elif not self._later:
            self._later = True
            self._sockets.send_later(self)

    def get_write_buffer_size(self) -> int:
        """Bytes that the socket has not taken yet."""
        return self._unsent

    def set_write_buffer_limits(self, high: int | None = None) -> None:
        """Ask the receiver to pause its source when more than ``high`` bytes wait."""
        self._high = _HIGH_BYTES if high is None else high

    def pause_reading(self) -> None:
        """Read no more. The epoll is told only if something arrives meanwhile."""
        self._read_paused = True

    def resume_reading(self) -> None:
        """Read again."""
        if self._read_paused:
            self._read_paused = False
            if not self._closing:
                self._watch()

    def is_reading(self) -> bool:
        """Whether what arrives is read."""
        return not (self._read_paused or self._closing)

    def is_closing(self) -> bool:
        """Whether it has ended, or ends as soon as all is sent."""
        return self._closing

    def can_write_eof(self) -> bool:
        """Whether one direction can be closed alone."""
        return True

    def write_eof(self) -> None:
        """Close our direction once all is sent; the peer may go on."""
        if not self._write_ended and not self._closing:
            self._write_ended = True
            if not self._unsent:
                self._shut_down()

    def close(self) -> None:
        """Read no more, send what is kept, then end."""
        if self._closing:
            return
        self._closing = True
        if not self._unsent:
            self._finish(None)
        elif not self._later:
            self._watch()

    def abort(self) -> None:
        """End now; what is kept is lost."""
        self._finish(None)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """``socket`` and ``peername``; there is nothing else."""
        if name == "socket":
            return self._sock
        if name == "peername":
            return self._sock.getpeername()
        return default

    def set_protocol(self, receiver: Receiver) -> None:
        """Who is told of what happens, from now on."""
        self._receiver = receiver
        self._end = end_of(receiver)

    def get_protocol(self) -> Receiver:
        """Who is told of what happens."""
        return self._receiver

    # --- what happens ---

    def serve(self, mask: int) -> None:
        """The epoll has told something. An error of the receiver ends this connection only."""
        try:
            if self._unsent and not self._later and mask != _READABLE:
                self.send_now()
            if mask != _WRITABLE and not self._ended:
                taken = self._read(mask)
                if not _PIECE_BYTES <= taken < _MUCH_BYTES:
                    self._pieces = 0
                elif self._pieces < _PIECES:
                    self._pieces += 1
                else:
                    self._read_by_the_clock()
        except Exception as error:
            self._fail(error)

    def _read_by_the_clock(self) -> None:
        self._pieces = 0
        if self.watched & _READABLE and self._sockets.pace(self):
            self._paced = True
            self._watch()

    def serve_paced(self) -> bool:
        """A tick has come: read what has arrived; whether to be called at the next one, too."""
        if self._ended:
            return False
        try:
            if self._read(_READABLE) >= _MUCH_BYTES and not self._ended:
                return True
            self._paced = False
            self._pieces = _PIECES_AGAIN
            self._watch()
        except Exception as error:
            self._fail(error)
        return False

    def send_now(self) -> None:
        """Send what the socket takes, and see to the rest."""
        self._later = False
        try:
            while self._unsent:
                self._join()
                count = send(self.fd, self._out, self._sent)
                self._unsent -= count
                self._sent += count
                if self._sent < len(self._out):
                    break
        except OSError as error:
            self._finish(error)
            return
        self._blocked = self._unsent > 0
        try:
            self._after_sending()
        except Exception as error:
            self._fail(error)

    def _join(self) -> None:
        """Have in ``_out`` what is to be sent next, in one piece if that is a small one."""
        if self._sent == len(self._out):
            self._out = b""
            self._sent = 0
        small = not self._sent and len(self._out) <= _GATHER_MAX_BYTES
        if self._more is not None and small:
            self._out = b"".join([self._out, *self._more])
            self._more = None

    def _after_sending(self) -> None:
        if self._blocked:
            if not self.watched & _WRITABLE:
                self._watch()
            self._pause_sender()
            return
        self._out = b""
        if self._closing:
            self._finish(None)
            return
        if self.watched & _WRITABLE:
            self._watch()
        if self._write_ended:
            self._shut_down()
        if self._sender_paused:
            self._sender_paused = False
            self._receiver.resume_writing()

    def _pause_sender(self) -> None:
        if self._unsent > self._high and not self._sender_paused and not self._closing:
            self._sender_paused = True
            self._receiver.pause_writing()

    def _read(self, mask: int) -> int:
        """Hand on what has arrived: until a read is short, or it is the others' turn; bytes.

        After a short read nothing is left, unless the epoll has told of more than bytes: their end.
        """
        taken = 0
        for _ in range(_READS_PER_TURN):
            if self._read_paused or self._closing:
                self._watch()
                return taken
            size = _READ_MUCH_BYTES if self._full else _READ_BYTES
            try:
                data = receive(self.fd, size)
            except OSError as error:
                self._finish(error)
                return taken
            if data is None:
                return taken
            if not data:
                self._peer_ended()
                return taken
            count = len(data)
            taken += count
            self._full = count >= _READ_BYTES
            if self._end is not None:
                self._end.data_received(data)
            else:
                self._receiver.data_received(data)
            if count < size and not mask & ~_BYTES:
                return taken
        if self.watched & _READABLE:
            self._sockets.tell_again(self)
        return taken

    def _peer_ended(self) -> None:
        """The peer sends no more: for PostgreSQL's protocol that is the end of both directions."""
        self._receiver.eof_received()
        self.close()

    def _watch(self) -> None:
        """Have the epoll tell of what is wanted."""
        if self._ended:
            return
        mask = 0 if self._read_paused or self._closing or self._paced else _READABLE
        if self._blocked:
            mask |= _WRITABLE
        if mask != self.watched:
            self._sockets.watch(self, mask)

    def _shut_down(self) -> None:
        with suppress(OSError):  # the peer may have gone
            self._sock.shutdown(socket.SHUT_WR)

    # --- the end ---

    def _fail(self, error: Exception) -> None:
        """An error of the gateway's own."""
        self._loop.call_exception_handler(
            {
                "message": "a connection is closed for an error of its receiver",
                "exception": error,
                "transport": self,
                "protocol": self._receiver,
            }
        )
        self._finish(error)

    def _finish(self, error: Exception | None) -> None:
        """Nothing more is read or sent; the receiver is told in a moment."""
        if self._ended:
            return
        self._ended = self._closing = True
        self._blocked = False
        self._out = b""
        self._more = None
        self._unsent = 0
        self._sockets.forget(self)
        self._loop.call_soon(self._lost, error)

    def _lost(self, error: Exception | None) -> None:
        try:
            self._receiver.connection_lost(error)
        finally:
            self._receiver = _NOBODY
            self._end = None
            self._sock.close()


_NOBODY: Final = asyncio.Protocol()
"""The receiver of a connection that has ended, so that neither keeps the other in memory."""
