"""A console's connection: awaitable reads, and writes that wait for a slow reader."""

from __future__ import annotations

import asyncio

from gateway.net.stream import MessageStream

_WRITE_HIGH_BYTES = 64 * 1024


class Wire(MessageStream):
    """A stream that can be waited for when the peer reads slowly."""

    def __init__(self) -> None:
        super().__init__()
        self._writable = asyncio.Event()
        self._writable.set()

    def take_over(self, stream: MessageStream) -> None:
        """Go on where ``stream`` stands. Raises ConnectionResetError when the peer has gone."""
        transport = stream.transport
        rest = stream.hand_over(self)
        assert transport is not None
        self.connection_made(transport)
        transport.set_write_buffer_limits(high=_WRITE_HIGH_BYTES)
        self.data_received(rest)

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self._writable.set()
        super().connection_lost(exc)

    async def flushed(self) -> None:
        """Give traffic a turn, and wait until the peer takes more.

        Raises ConnectionResetError when it has gone.
        """
        await asyncio.sleep(0)
        await self._writable.wait()
        if self._lost:
            raise ConnectionResetError("the peer has gone")
