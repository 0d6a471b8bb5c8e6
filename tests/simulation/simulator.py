"""A pool at work on a virtual clock: the pool's own core, loads made by a seeded generator.

Nothing is measured but virtual seconds, so that a run says the same on any machine.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import count

from gateway.errors import PoolExhausted
from gateway.pool.core import PoolCore, ServerState
from gateway.pool.fairness import Tenant

Draw = Callable[[random.Random], float]
"""Draws a time in seconds."""

TICK_S = 0.1
"""How often the pool looks at the clock, as in the worker."""


def always(seconds: float) -> Draw:
    """The same time each time."""
    return lambda rng: seconds


def exponential(mean_s: float) -> Draw:
    """Times of a memoryless process."""
    return lambda rng: rng.expovariate(1 / mean_s)


@dataclass(frozen=True, slots=True)
class Load:
    """Clients of one owner: each asks, waits for its server, uses it, and thinks.

    ``open`` clients do not wait for their answer before the next one comes: arrivals of a Poisson
    process.
    """

    tenant: Tenant
    clients: int
    service: Draw
    think: Draw
    open: bool = False
    name: str = ""
    """In the scores; the tenant's key when empty."""


@dataclass(slots=True)
class Score:
    """What a run has shown: waits and server time in virtual seconds, by owner."""

    waits: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    served_s: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    refused_of: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    accounts_max: int = 0

    @property
    def refused(self) -> int:
        """Requests that found the queue full, or too full of their owner's."""
        return sum(self.refused_of.values())

    def wait_p(self, part: float, *owners: str) -> float:
        """The wait that this part of an owner's requests did not exceed; of several, of all."""
        waits = sorted(wait for owner in owners for wait in self.waits[owner])
        return waits[min(len(waits) - 1, int(part * len(waits)))]


@dataclass(slots=True, eq=False)
class _Request:
    load: Load
    came: float


class Simulation:
    """One pool of ``servers`` under ``loads``."""

    def __init__(
        self,
        servers: int,
        loads: list[Load],
        seed: int = 1,
        queue_max: int = 2000,
        warm_up_s: float = 1.0,
    ) -> None:
        self.core = PoolCore(0, servers, queue_max)
        for server in range(servers):
            self.core.opening += 1
            self.core.opened(server)
            self.core.settle(server, ServerState.BUSY)
        self.score = Score()
        self._rng = random.Random(seed)
        self._warm_up_s = warm_up_s
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers: Iterator[int] = count()
        self.now = 0.0
        for load in loads:
            for _ in range(load.clients):
                self._think(load)
        self._at(TICK_S, self._tick)

    def run(self, seconds: float) -> Score:
        """Goes on for so many virtual seconds; the score so far."""
        until = self.now + seconds
        while self._events and self._events[0][0] <= until:
            self.now, _, event = heappop(self._events)
            event()
        self.now = until
        return self.score

    def _at(self, when: float, event: Callable[[], None]) -> None:
        heappush(self._events, (when, next(self._numbers), event))

    def _think(self, load: Load) -> None:
        self._at(self.now + load.think(self._rng), lambda: self._ask(load))

    def _ask(self, load: Load) -> None:
        if load.open:
            self._think(load)
        request = _Request(load, self.now)
        server = self.core.checkout(None, load.tenant, self.now)
        if server is not None:
            self._run(server, request)
            return
        try:
            self.core.enqueue(request, self.now, load.tenant)
        except PoolExhausted:
            self.score.refused_of[load.name or load.tenant.key] += 1
            if not load.open:
                self._at(self.now + TICK_S, lambda: self._ask(load))

    def _run(self, server: int, request: _Request) -> None:
        load = request.load
        service_s = load.service(self._rng)
        if self.now >= self._warm_up_s:
            name = load.name or load.tenant.key
            self.score.waits[name].append(self.now - request.came)
            self.score.served_s[name] += service_s
        self._at(self.now + service_s, lambda: self._done(server, load))

    def _done(self, server: int, load: Load) -> None:
        if not load.open:
            self._think(load)
        served = self.core.settle(server, ServerState.BUSY, self.now)
        if served is not None:
            self._run(server, served[0])
        self._serve_idle()

    def _serve_idle(self) -> None:
        while (idle := self.core.serve_idle(self.now)) is not None:
            server, request, _ = idle
            self._run(server, request)

    def _tick(self) -> None:
        self.core.fair.rest(self.now, self.core.live)
        self._serve_idle()
        self.score.accounts_max = max(self.score.accounts_max, self.core.fair.accounts)
        self._at(self.now + TICK_S, self._tick)
