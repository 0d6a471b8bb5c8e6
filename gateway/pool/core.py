"""One pool's decisions: who gets a server, when to open one, which to give up. No I/O, no clock.

A server is in exactly one place, the stack of idle ones or the dictionary of another state, so the
count that the bound is checked against can't drift. Who waits is next when `FairQueue` says so.
Whoever calls does the I/O afterwards.
"""

from __future__ import annotations

from collections.abc import Collection
from enum import StrEnum
from typing import Any

from gateway.pool.fairness import NOBODY, FairQueue, Meter, Place, Tenant, Turn, Waiter

Server = Any
"""A server connection, by its hash."""

_UNBOUNDED = 1 << 30
"""More than anybody can hold: what was in force once need not be taken apart."""

_Held = Tenant | Turn | None
"""Who has a server: after a wait or with bounds, a turn; else a tenant; nobody while it is idle."""


class ServerState(StrEnum):
    """Where a server connection is in its life."""

    IDLE = "idle"
    BUSY = "busy"
    CLEANING = "cleaning"
    CLOSING = "closing"


class PoolCore:
    """Servers by state, and the queue of clients that wait for one.

    ``maximum`` bounds all servers together, those being opened and closed included.
    """

    __slots__ = (
        "_busy",
        "_cleaning",
        "_closing",
        "_held",
        "_idle",
        "_maximum",
        "_reserve",
        "_rides",
        "fair",
        "minimum",
        "opening",
        "outside",
        "queue_max",
        "retired",
    )

    def __init__(self, minimum: int, maximum: int, queue_max: int) -> None:
        self.minimum = minimum
        self.queue_max = queue_max
        self.opening = 0
        self.outside = 0
        """Connections that count against the bound but are nobody's to lease."""
        self.retired = False
        self.fair = FairQueue()
        self._maximum = maximum
        self._reserve = 0
        self._idle: list[Server] = []
        """The one used last is the last: a pop takes it, where a dictionary would make a pair."""
        self._busy: dict[Server, _Held] = {}
        self._cleaning: dict[Server, _Held] = {}
        self._closing: dict[Server, _Held] = {}
        self._held = {
            ServerState.BUSY: self._busy,
            ServerState.CLEANING: self._cleaning,
            ServerState.CLOSING: self._closing,
        }
        self._rides: dict[Server, list[Turn]] = {}
        """Of busy servers that several share, the turns behind the one that is served."""

    # --- bounds ---

    @property
    def maximum(self) -> int:
        """Servers at most."""
        return self._maximum

    @maximum.setter
    def maximum(self, maximum: int) -> None:
        self._maximum = maximum
        self._bound_everybody()

    @property
    def reserve(self) -> int:
        """How many of ``maximum`` are for operators only; one is everybody's in any case."""
        return self._reserve

    @reserve.setter
    def reserve(self, reserve: int) -> None:
        self._reserve = reserve
        self._bound_everybody()

    def _bound_everybody(self) -> None:
        fair = self.fair
        if not self._reserve and fair.everybody is None:
            return
        others = max(1, self._maximum - self._reserve) if self._reserve else _UNBOUNDED
        if fair.everybody is None:
            fair.everybody = Meter(others)
        fair.rebound(fair.everybody, others)

    # --- figures ---

    def count(self, state: ServerState) -> int:
        """Servers in ``state``."""
        return len(self._in(state))

    def servers(self, state: ServerState) -> list[Server]:
        """The servers in ``state``, longest there first."""
        return list(self._in(state))

    def _in(self, state: ServerState) -> Collection[Server]:
        return self._idle if state is ServerState.IDLE else self._held[state]

    @property
    def queue(self) -> dict[Waiter, Place]:
        """Everybody who waits, as they came."""
        return self.fair.places

    def tenant(self, server: Server) -> Tenant:
        """For whom a busy server works."""
        held = self._busy[server]
        if isinstance(held, Turn):
            return held.tenant
        return held if held is not None else NOBODY

    @property
    def in_use(self) -> int:
        """Clients served, and clients that wait."""
        riding = sum(map(len, self._rides.values())) if self._rides else 0
        return len(self._busy) + riding + len(self.fair)

    @property
    def live(self) -> int:
        """Servers that work or will again without a new connect."""
        return self._living()

    def _living(self) -> int:
        return len(self._idle) + len(self._busy) + len(self._cleaning)

    @property
    def total(self) -> int:
        """Everything that counts against the bound."""
        return self.counted()

    def counted(self) -> int:
        """The same, for the hot path: compiled, a property is looked up by name."""
        return self._living() + len(self._closing) + self.opening + self.outside

    def full(self) -> bool:
        """Whether there is no room for one more."""
        return self.counted() >= self._maximum

    @property
    def excess(self) -> int:
        """Servers over a lowered bound, those left out that are being closed already."""
        return max(0, self.over())

    def over(self) -> int:
        """How many more there are than the bound allows; less than 0 while there is room."""
        return self._living() + self.opening + self.outside - self._maximum

    # --- clients ---

    def checkout(
        self, preferred: Server | None = None, tenant: Tenant = NOBODY, now: float = 0.0
    ) -> Server | None:
        """The preferred server if it is idle, else the idle one used last; now it is busy.

        None when all are taken, or the tenant may not have one more; who waits then is served by
        `settle` or `serve_idle`, so none is idle beside somebody who may have it.
        """
        if not self._idle:
            return None
        held: Tenant | Turn | None = tenant
        if tenant.bounds or self.fair.everybody is not None:
            held = self.fair.begin(tenant, now)
            if held is None:
                return None
        if preferred is not None and preferred in self._idle:
            server = preferred
            self._idle.remove(server)
        else:
            server = self._idle.pop()
        self._busy[server] = held
        return server

    def enqueue(self, waiter: Waiter, now: float, tenant: Tenant = NOBODY) -> None:
        """Wait for a server. Raises PoolExhausted when the queue is full.

        ``now``, in seconds, never goes back.
        """
        self.fair.add(waiter, tenant, now, self.queue_max - len(self.fair))

    def retire(self) -> list[Waiter]:
        """Take nobody any more; those who wait are out, in order, to be sent elsewhere."""
        self.retired = True
        self.minimum = 0
        return self.fair.clear()

    def leave(self, waiter: Waiter) -> bool:
        """Stop waiting; False when the waiter wasn't in the queue."""
        return self.fair.leave(waiter)

    def overdue(self, before: float) -> list[Waiter]:
        """Waiters that came at ``before`` or earlier, taken out of the queue."""
        return self.fair.overdue(before)

    # --- servers ---

    def opens_wanted(self) -> int:
        """How many connects to begin now: for those who wait, else up to the minimum."""
        if self.retired:
            return 0
        room = self.maximum - self.total
        wanted = max(self.fair.ready, self.minimum - self.live) - self.opening
        return max(0, min(room, wanted))

    def opened(self, server: Server) -> None:
        """A connect succeeded; the server is busy until `settle` says for whom."""
        self.opening -= 1
        self._busy[server] = None

    def settle(
        self, server: Server, state: ServerState, now: float = 0.0
    ) -> tuple[Waiter, float] | None:
        """A server in ``state``, not idle, came free: who has it now, and since when they waited.

        None when nobody does, and it is idle. More may be idle that others may have now: see
        `serve_idle`.
        """
        self._end(self._held[state].pop(server), now)
        return self._serve(server, now)

    def release(self, server: Server, now: float = 0.0) -> tuple[Waiter, float] | None:
        """As `settle`, of a busy server."""
        self._end(self._busy.pop(server), now)
        return self._serve(server, now)

    def serve_idle(self, now: float) -> tuple[Server, Waiter, float] | None:
        """Somebody may have an idle server now that no bound keeps back any more."""
        if not self._idle or not self.fair.ready:
            return None
        server = self._idle.pop()
        served = self._serve(server, now)
        return None if served is None else (server, *served)

    def _serve(self, server: Server, now: float) -> tuple[Waiter, float] | None:
        served = self.fair.next(now) if self.fair.ready else None
        if served is None:
            self._idle.append(server)
            return None
        waiter, since, turn = served
        self._busy[server] = turn
        return waiter, since

    def crowded(self) -> bool:
        """Whether somebody may have a server, and none lies idle."""
        return self.fair.ready > 0 and not self._idle

    def first(self, now: float) -> Waiter | None:
        """Who is to be served next, and goes on waiting; None when nobody may have a server."""
        return self.fair.first(now) if self.fair.ready else None

    def ride(self, server: Server, waiter: Waiter, now: float) -> float:
        """The `first` one follows on a busy server; since when he waited. -1: he may not, after
        all, and goes on waiting."""
        served = self.fair.follow(waiter, now)
        if served is None:
            return -1.0
        _, since, turn = served
        rides = self._rides.get(server)
        if rides is None:
            rides = self._rides[server] = []
        rides.append(turn)
        return since

    def pass_on(self, server: Server, now: float) -> None:
        """A shared server is busy for the next one now, on his account."""
        rides = self._rides[server]
        self._end(self._busy[server], now)
        turn = self._busy[server] = rides.pop(0)
        turn.since = now
        if not rides:
            del self._rides[server]

    def end_line(self, server: Server, now: float) -> None:
        """Nobody follows on a server any more."""
        for turn in self._rides.pop(server, ()):
            turn.since = now
            self.fair.end(turn, now)

    def to_cleaning(self, server: Server) -> None:
        """A used server is being brought back to its first state, on its user's account."""
        self._cleaning[server] = self._busy.pop(server)

    def to_closing(self, server: Server, now: float = 0.0) -> None:
        """A server is being closed, from whatever state; it counts until `gone`.

        One that has gone already stays so.
        """
        if self.gone(server, now):
            self._closing[server] = None

    def gone(self, server: Server, now: float = 0.0) -> bool:
        """Its connection has ended; False when the pool did not know the server."""
        if server in self._idle:
            self._idle.remove(server)
            return True
        for servers in self._held.values():
            if server in servers:
                self._end(servers.pop(server), now)
                self.end_line(server, now)
                return True
        return False

    def surplus(self) -> int:
        """Idle servers to close so that a lowered bound is met."""
        return min(self.count(ServerState.IDLE), self.excess)

    def _end(self, held: _Held, now: float) -> None:
        """Whoever had a server has it no more."""
        if held is not None and (self.fair.ready or isinstance(held, Turn)):
            self.fair.end(held, now)
