"""A TCP proxy that misbehaves on request, to stand between a gateway and a server or a client.

What a test sets holds for every connection from then on, those that are open too.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit, urlunsplit

HOST = "127.0.0.1"
_CHUNK_BYTES = 65536
_RST = struct.pack("ii", 1, 0)


@dataclass(eq=False)
class _Link:
    """One connection: both its ends, and how much the server may still say."""

    client: asyncio.StreamWriter
    server: asyncio.StreamWriter
    task: asyncio.Task[None]
    said_bytes: int = 0

    def reset(self) -> None:
        """RST to both ends."""
        for writer in (self.client, self.server):
            sock: socket.socket | None = writer.get_extra_info("socket")
            with contextlib.suppress(OSError, ValueError):  # closed already
                if sock is not None:
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RST)
            writer.transport.abort()
        if self.task is not asyncio.current_task():
            self.task.cancel()


@dataclass
class FaultProxy:
    """``host`` and ``port`` are the real server; clients connect to ``own_port``."""

    host: str
    port: int
    own_port: int = 0
    latency_s: float = 0.0
    """Held back before it goes on, each way."""
    cut_after_bytes: int | None = None
    """Both ends get a FIN once the server has said so much on a connection."""
    half_open: bool = False
    """Every byte, and every end, is swallowed; nobody is told."""
    refusing: bool = False
    """New connections are reset at once."""
    accepted: int = 0
    _reading: asyncio.Event = field(default_factory=asyncio.Event)
    _links: set[_Link] = field(default_factory=set)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    @property
    def stopped(self) -> bool:
        """Nothing is read, so that buffers fill up behind it."""
        return not self._reading.is_set()

    @stopped.setter
    def stopped(self, stopped: bool) -> None:
        (self._reading.clear if stopped else self._reading.set)()

    @property
    def links(self) -> int:
        """Connections that are open."""
        return len(self._links)

    def heal(self) -> None:
        """Behave from now on; a connection that lost bytes is reset, as it can't go on."""
        if self.half_open:
            self.reset()
        self.latency_s, self.cut_after_bytes = 0.0, None
        self.half_open = self.refusing = self.stopped = False

    def reset(self) -> None:
        """RST to both ends of every connection."""
        for link in list(self._links):
            link.reset()

    def url(self, url: str) -> str:
        """A database URL that leads through here."""
        parts = urlsplit(url)
        login = parts.netloc.rpartition("@")[0]
        return urlunsplit(parts._replace(netloc=f"{login}@{HOST}:{self.own_port}"))

    # --- at work ---

    async def arrived(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, to its end."""
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.accepted += 1
        link = _Link(writer, writer, task)
        try:
            if self.refusing:
                return link.reset()
            there, link.server = await asyncio.open_connection(self.host, self.port)
            self._links.add(link)
            async with asyncio.TaskGroup() as ways:
                ways.create_task(self._pass(reader, link.server, link, says=False))
                ways.create_task(self._pass(there, writer, link, says=True))
        except (OSError, asyncio.CancelledError):
            link.reset()  # the end of our task, whoever wanted it
        finally:
            self._links.discard(link)
            self._tasks.discard(task)
            link.client.close()
            link.server.close()

    async def _pass(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, link: _Link, *, says: bool
    ) -> None:
        """Bytes of one way, up to its end, which is told as well."""
        while True:
            await self._reading.wait()
            data = await _read(source)
            await asyncio.sleep(self.latency_s)
            await self._reading.wait()
            if self.half_open:
                await self._swallow(source)
            if says:
                data = self._allowed(data, link)
            if not data or sink.transport.is_closing():
                return sink.close()
            sink.write(data)
            with contextlib.suppress(ConnectionError):
                await sink.drain()
            if self._is_cut(link):
                return sink.close()

    async def _swallow(self, source: asyncio.StreamReader) -> None:
        """All that comes, for ever: healing resets the connection."""
        while await _read(source):
            pass
        await asyncio.Event().wait()

    def _allowed(self, data: bytes, link: _Link) -> bytes:
        """As much as may pass before the cut."""
        if self.cut_after_bytes is None:
            return data
        allowed = data[: max(0, self.cut_after_bytes - link.said_bytes)]
        link.said_bytes += len(data)
        return allowed

    def _is_cut(self, link: _Link) -> bool:
        return self.cut_after_bytes is not None and link.said_bytes >= self.cut_after_bytes

    async def close(self) -> None:
        """End every connection."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _read(source: asyncio.StreamReader) -> bytes:
    """What has come; nothing at the end, however it came."""
    try:
        return await source.read(_CHUNK_BYTES)
    except ConnectionError:
        return b""


@asynccontextmanager
async def fault_proxy(host: str, port: int) -> AsyncIterator[FaultProxy]:
    """One that runs, on a free port of the loopback address."""
    proxy = FaultProxy(host, port)
    proxy.stopped = False
    server = await asyncio.start_server(proxy.arrived, HOST, 0, backlog=1024)
    proxy.own_port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        await proxy.close()
