"""One client on one server connection of its own, byte for byte: replication connections.

They can't be shared: the whole session is one long conversation. It counts against the pool's
bound for as long as it lasts.
"""

from __future__ import annotations

import asyncio

from gateway.clock import Clock
from gateway.errors import GatewayError, ServerUnavailable, ShuttingDown
from gateway.pool.pool import Pool
from gateway.pool.server import LinkedClient, ServerConnection
from gateway.protocol import messages
from gateway.router.identity import Login
from gateway.session.registry import Registry

WRITE_HIGH_BYTES = 128 * 1024


class PassthroughSession(LinkedClient, asyncio.Protocol):
    """A client and its own server; `start` begins the traffic."""

    def __init__(
        self,
        transport: asyncio.Transport,
        server: ServerConnection,
        pool: Pool,
        registry: Registry,
        login: Login,
        clock: Clock,
        *,
        number: int,
        secret: bytes,
    ) -> None:
        self.number = number
        self.secret = secret
        self.login = login
        self.connected_at = clock()
        self._transport = transport
        self._server = server
        self._pool = pool
        self._registry = registry
        self._closed = False

    def start(self, rest: bytes) -> None:
        """Begin, with what the client sent ahead."""
        self._transport.set_write_buffer_limits(high=WRITE_HIGH_BYTES)
        self._server.replies.doubtful = True
        self._server.on_lost(lambda server: self._pool.outside_ended())
        self._server.link(self, self.number)
        self._registry.add(self)
        if rest:
            self._server.write(rest)

    def cancel(self) -> asyncio.Task[None]:
        return self._pool.cancel(self._server)

    def drain(self, error: ShuttingDown) -> None:
        self.end(error)

    def end(self, error: GatewayError) -> None:
        self._transport.write(messages.error_response(error, fatal=True))
        self._close()

    def _close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._registry.remove(self)
        self._transport.close()
        self._server.abort()

    # --- the client's side: asyncio.Protocol ---

    def data_received(self, data: bytes) -> None:
        self._server.write(data)

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._close()

    def pause_writing(self) -> None:
        self._server.pause_reading()

    def resume_writing(self) -> None:
        self._server.resume_reading()

    # --- the server's side: LinkedClient ---

    def forward(self, data: bytes) -> None:
        self._transport.write(data)

    def server_full(self) -> None:
        self._transport.pause_reading()

    def server_drained(self) -> None:
        self._transport.resume_reading()

    def server_lost(self, error: ServerUnavailable) -> None:
        self._close()
