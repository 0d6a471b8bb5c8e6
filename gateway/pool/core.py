"""One pool's decisions: who gets a server, when to open one, which to give up. No I/O, no clock.

A server is in exactly one state; `_move` is the only way from one to the next, so that the count
that the bound is checked against can't drift. Whoever calls does the I/O afterwards.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from enum import StrEnum
from typing import Generic, TypeVar

from gateway.errors import PoolExhausted

S = TypeVar("S", bound=Hashable)
W = TypeVar("W", bound=Hashable)


class ServerState(StrEnum):
    """Where a server connection is in its life."""

    IDLE = "idle"
    BUSY = "busy"
    CLEANING = "cleaning"
    CLOSING = "closing"


class PoolCore(Generic[S, W]):
    """Servers by state, and the queue of clients that wait for one.

    ``maximum`` bounds all servers together, those being opened and closed included.
    """

    __slots__ = (
        "_servers",
        "maximum",
        "minimum",
        "opening",
        "outside",
        "queue",
        "queue_max",
        "retired",
    )

    def __init__(self, minimum: int, maximum: int, queue_max: int) -> None:
        self.minimum = minimum
        self.maximum = maximum
        self.queue_max = queue_max
        self.opening = 0
        self.outside = 0
        """Connections that count against the bound but are nobody's to lease."""
        self.retired = False
        self.queue: OrderedDict[W, float] = OrderedDict()
        self._servers: dict[ServerState, dict[S, None]] = {state: {} for state in ServerState}

    # --- figures ---

    def count(self, state: ServerState) -> int:
        """Servers in ``state``."""
        return len(self._servers[state])

    def servers(self, state: ServerState) -> list[S]:
        """The servers in ``state``, longest there first."""
        return list(self._servers[state])

    @property
    def in_use(self) -> int:
        """Clients served, and clients that wait."""
        return len(self._servers[ServerState.BUSY]) + len(self.queue)

    @property
    def live(self) -> int:
        """Servers that work or will again without a new connect."""
        return sum(map(len, self._servers.values())) - self.count(ServerState.CLOSING)

    @property
    def total(self) -> int:
        """Everything that counts against the bound."""
        return sum(map(len, self._servers.values())) + self.opening + self.outside

    @property
    def excess(self) -> int:
        """Servers over a lowered bound, those left out that are being closed already."""
        return max(0, self.total - self.count(ServerState.CLOSING) - self.maximum)

    # --- clients ---

    def checkout(self, preferred: S | None = None) -> S | None:
        """The preferred server if it is idle, else the idle one used last; now it is busy.

        None when all are taken; who waits then is served by `settle`, so none is idle meanwhile.
        """
        idle = self._servers[ServerState.IDLE]
        if not idle:
            return None
        server = preferred if preferred in idle else next(reversed(idle))
        self._move(server, ServerState.IDLE, ServerState.BUSY)
        return server

    def enqueue(self, waiter: W, now: float) -> None:
        """Wait for a server, behind all others. Raises PoolExhausted when the queue is full.

        ``now``, in seconds, never goes back.
        """
        if len(self.queue) >= self.queue_max:
            raise PoolExhausted(
                f"too many clients wait for a database connection ({self.queue_max})",
                hint="Raise pool.max or pool.queue_max, or send less at a time.",
            )
        self.queue[waiter] = now

    def retire(self) -> list[W]:
        """Take nobody any more; those who wait are out, in order, to be sent elsewhere."""
        self.retired = True
        self.minimum = 0
        waiters = list(self.queue)
        self.queue.clear()
        return waiters

    def leave(self, waiter: W) -> bool:
        """Stop waiting; False when the waiter wasn't in the queue."""
        return self.queue.pop(waiter, None) is not None

    def overdue(self, before: float) -> list[W]:
        """Waiters that came at ``before`` or earlier, taken out of the queue."""
        late: list[W] = []
        while self.queue:
            waiter, since = next(iter(self.queue.items()))
            if since > before:
                break
            self.queue.popitem(last=False)
            late.append(waiter)
        return late

    # --- servers ---

    def opens_wanted(self) -> int:
        """How many connects to begin now: for those who wait, else up to the minimum."""
        if self.retired:
            return 0
        room = self.maximum - self.total
        wanted = max(len(self.queue), self.minimum - self.live) - self.opening
        return max(0, min(room, wanted))

    def opened(self, server: S) -> None:
        """A connect succeeded; the server is busy until `settle` says for whom."""
        self.opening -= 1
        self._servers[ServerState.BUSY][server] = None

    def settle(self, server: S, state: ServerState) -> W | None:
        """A server in ``state`` came free: the waiter it now belongs to, or None and it is idle."""
        if self.queue:
            waiter, _ = self.queue.popitem(last=False)
            self._move(server, state, ServerState.BUSY)
            return waiter
        self._move(server, state, ServerState.IDLE)
        return None

    def to_cleaning(self, server: S) -> None:
        """A used server is being brought back to its first state."""
        self._move(server, ServerState.BUSY, ServerState.CLEANING)

    def to_closing(self, server: S) -> None:
        """A server is being closed, from whatever state; it counts until `gone`.

        One that has gone already stays so.
        """
        if self.gone(server):
            self._servers[ServerState.CLOSING][server] = None

    def gone(self, server: S) -> bool:
        """Its connection has ended; False when the pool did not know the server."""
        for servers in self._servers.values():
            if server in servers:
                del servers[server]
                return True
        return False

    def surplus(self) -> int:
        """Idle servers to close so that a lowered bound is met."""
        return min(self.count(ServerState.IDLE), self.excess)

    def _move(self, server: S, before: ServerState, after: ServerState) -> None:
        del self._servers[before][server]
        self._servers[after][server] = None
