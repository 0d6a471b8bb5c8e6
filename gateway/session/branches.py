"""One database's part of a transaction over several: its server while it is not the client's.

The server stays leased; its transaction is open. What it hears is the gateway's own business.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from gateway.errors import GatewayError, IdleInTransaction, ServerUnavailable
from gateway.pool.pool import Pool
from gateway.pool.server import IDLE, Answer, LinkedClient, ServerConnection
from gateway.router.route import Route
from gateway.router.topology import Shard

OPEN = ord("T")
_SEVERED = "the answer did not come in time"


@dataclass(slots=True)
class Stay:
    """What is known of a branch: where it is, and what was done there."""

    shard: Shard
    owner: str | None
    soft: bool
    """Nothing has bound the transaction to it."""
    wrote: bool
    """Not all that was run there provably only reads."""
    written: set[str]
    """The tables that it has written."""


class Branch(LinkedClient):
    """A server that is kept for a transaction which goes on elsewhere.

    ``on_end`` is told once when it can't be kept: why.
    """

    __slots__ = ("_answered", "_on_end", "lost", "pool", "server", "stamp", "stay", "target")

    def __init__(
        self,
        server: ServerConnection,
        pool: Pool,
        target: Route,
        stay: Stay,
        on_end: Callable[[GatewayError], None],
    ) -> None:
        self.server = server
        self.pool = pool
        self.target = target
        self.stay = stay
        self.stamp: str | None = None
        """By what the server was told whose work it does."""
        self.lost: GatewayError | None = None
        """Why the server is gone, if it is."""
        self._on_end = on_end
        self._answered: asyncio.Future[Answer] | None = None
        server.link(self, server.client_number)

    @property
    def open(self) -> bool:
        """Whether its transaction is open and has not failed."""
        return self.lost is None and self.server.status == OPEN

    async def ask(self, sql: str, timeout_s: float) -> Answer:
        """Run a query of the gateway's own. Raises ServerUnavailable; the server is lost then."""
        if self.lost is not None:
            raise self.lost
        answered: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._answered = answered

        def on_answer(answer: Answer) -> None:
            if not answered.done():
                answered.set_result(answer)

        self.server.ask(sql, on_answer)
        try:
            return await asyncio.wait_for(answered, timeout_s)
        except TimeoutError:
            self.lost = ServerUnavailable(f"{self.pool.name}: {_SEVERED}")
            self.pool.abandon(self.server, mid_message=True, sync_due=False)
            raise self.lost from None

    def leave(self, *, clean: bool) -> None:
        """Give the server back; ``clean``: its session is as the next one may find it."""
        if self.lost is not None:
            return
        self.lost = ServerUnavailable("the server was given back")
        if clean and self.server.status == IDLE and self.server.replies.idle:
            self.pool.release(self.server)
        else:
            self.pool.abandon(self.server, mid_message=False, sync_due=False)

    # --- LinkedClient ---

    def end(self, error: GatewayError) -> None:
        if not isinstance(error, IdleInTransaction):  # its client is busy elsewhere, or has its own
            self._on_end(error)

    def server_lost(self, error: ServerUnavailable) -> None:
        self.lost = error
        if self._answered is not None and not self._answered.done():
            self._answered.set_exception(error)
        else:
            self._on_end(error)
