"""A connection during its slow beginning: whole messages, awaited one by one.

When the login is over the transport is handed to the relay's protocol class with what was read
too much, and this object is forgotten.
"""

from __future__ import annotations

import asyncio
from typing import Protocol, cast

from gateway.errors import ProtocolViolation
from gateway.protocol.framing import HEADER_BYTES, message_size

_BUFFER_MAX_BYTES = 64 * 1024


class Receiver(Protocol):
    """What a transport calls once the beginning is over: asyncio.Protocol but for its base class,
    which a class that is compiled ahead of time can't have."""

    def data_received(self, data: bytes) -> None: ...

    def eof_received(self) -> bool | None: ...

    def connection_lost(self, exc: Exception | None) -> None: ...

    def pause_writing(self) -> None: ...

    def resume_writing(self) -> None: ...


class MessageStream(asyncio.Protocol):
    """Awaitable reads over a transport, bounded in memory. One reader at a time."""

    def __init__(self, received: bytes = b"") -> None:
        self._buffer = bytearray(received)
        self._wanted = 0
        self._reader: asyncio.Future[None] | None = None
        self._lost = False
        self._paused = False
        self.transport: asyncio.Transport | None = None

    # --- asyncio.Protocol ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if len(self._buffer) > max(_BUFFER_MAX_BYTES, self._wanted) and self.transport:
            self.transport.pause_reading()
            self._paused = True
        self._wake()

    def eof_received(self) -> bool:
        self._lost = True
        self._wake()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost = True
        self._wake()

    def _wake(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

    # --- the dialogue ---

    def write(self, data: bytes) -> None:
        """Send ``data`` to the peer."""
        if self.transport is not None and not self._lost:
            self.transport.write(data)

    async def read_exactly(self, count: int) -> bytes:
        """The next ``count`` bytes. Raises ConnectionResetError when the peer leaves before."""
        await self._fill(count)
        data = bytes(self._buffer[:count])
        del self._buffer[:count]
        return data

    async def read_message(self, size_max: int) -> tuple[int, bytes]:
        """Tag and body of the next message. Raises ProtocolViolation when it is over ``size_max``
        bytes, ConnectionResetError when the peer leaves before its end."""
        await self._fill(HEADER_BYTES)
        size = message_size(bytes(self._buffer[:HEADER_BYTES]), 0)
        if size > size_max:
            raise ProtocolViolation(f"a message of {size} bytes is too long at this point")
        message = await self.read_exactly(size)
        return message[0], message[HEADER_BYTES:]

    def hand_over(self, protocol: Receiver) -> bytes:
        """Make ``protocol`` the transport's; returns what was received and not read.

        The new protocol gets no ``connection_made``. Raises ConnectionResetError when the peer
        has already gone.
        """
        if self._lost or self.transport is None:
            raise ConnectionResetError("the peer has gone")
        self.transport.set_protocol(cast(asyncio.Protocol, protocol))
        self._resume()
        rest = bytes(self._buffer)
        self._buffer.clear()
        return rest

    def close(self) -> None:
        """Send what is queued, then close."""
        if self.transport is not None:
            self.transport.close()

    async def _fill(self, count: int) -> None:
        self._wanted = count
        while len(self._buffer) < count:
            if self._lost:
                raise ConnectionResetError("the peer closed the connection")
            self._resume()
            self._reader = asyncio.get_running_loop().create_future()
            try:
                await self._reader
            finally:
                self._reader = None

    def _resume(self) -> None:
        if self._paused and self.transport is not None:
            self._paused = False
            self.transport.resume_reading()
