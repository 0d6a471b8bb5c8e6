"""A short lease of a server for one query of the gateway's own, awaited."""

from __future__ import annotations

import asyncio

from gateway.errors import GatewayError, ServerUnavailable, ShuttingDown
from gateway.pool.pool import Pool, Waiter
from gateway.pool.server import Answer, ServerConnection


class Visit(Waiter):
    """One visit to a pool: `lease`, `ask` as often as needed, then `leave` or `abandon`."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._granted: asyncio.Future[ServerConnection] | None = None
        self._answered: asyncio.Future[Answer] | None = None
        self._server: ServerConnection | None = None
        self._lost = ServerUnavailable("no server is leased")

    async def lease(self) -> ServerConnection:
        """A server, ours until we leave. Raises GatewayError when there is none in time."""
        self._granted = asyncio.get_running_loop().create_future()
        server = self._pool.acquire(self)
        if server is not None:
            self.granted(server)
        try:
            return await self._granted
        except asyncio.CancelledError:
            self._pool.give_up(self)
            self.leave()
            raise

    async def ask(self, sql: str) -> Answer:
        """Run a query. Raises ServerUnavailable when the connection ends meanwhile."""
        if self._server is None:
            raise self._lost
        answered: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._answered = answered

        def on_answer(answer: Answer) -> None:
            if not answered.done():
                answered.set_result(answer)

        self._server.ask(sql, on_answer)
        return await answered

    def leave(self) -> None:
        """Give the server back: its session is as the next one may find it."""
        if self._server is not None:
            self._pool.release(self._server)
            self._server = None

    def abandon(self) -> None:
        """Give the server back to be cleaned."""
        if self._server is not None:
            self._pool.abandon(self._server, mid_message=False, sync_due=False)
            self._server = None

    # --- Waiter ---

    def granted(self, server: ServerConnection) -> None:
        if self._granted is None or self._granted.done():
            self._pool.release(server)
            return
        self._server = server
        server.link(self, 0)
        self._granted.set_result(server)

    def refused(self, error: GatewayError) -> None:
        if self._granted is not None and not self._granted.done():
            self._granted.set_exception(error)

    def sent_elsewhere(self) -> None:
        self.refused(ShuttingDown("the pool is being closed"))

    # --- LinkedClient ---

    def server_lost(self, error: ServerUnavailable) -> None:
        self._server = None
        self._lost = error
        if self._answered is not None and not self._answered.done():
            self._answered.set_exception(error)
