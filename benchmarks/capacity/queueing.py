"""Waiting times of queues, by Erlang's formulas. Pure."""

from __future__ import annotations

import math


def erlang_c(servers: float, load: float) -> float:
    """The chance to have to wait before ``servers``, of which ``load`` are busy on average.

    1 when there are too few. A. K. Erlang, 1917; by the usual recursion over Erlang's B.
    """
    count = max(1, math.floor(servers))
    if load >= count:
        return 1.0
    blocked = 1.0
    for number in range(1, count + 1):
        blocked = load * blocked / (number + load * blocked)
    return blocked / (1 - load / count * (1 - blocked))


def wait(servers: float, load: float, service_s: float) -> float:
    """Mean seconds in the queue, for random arrivals and service times (M/M/c); inf when full."""
    if load <= 0:
        return 0.0
    count = max(1, math.floor(servers))
    if load >= count:
        return math.inf
    return erlang_c(count, load) * service_s / (count - load)


def shared(cores: float, load: float, service_s: float) -> float:
    """Mean seconds for ``service_s`` of CPU on ``cores`` of which ``load`` are busy.

    ``cores`` below 1 are a slower core.
    """
    if cores <= 0 or load >= cores:
        return math.inf
    slower = min(1.0, cores)
    return service_s / slower + wait(cores, load / slower, service_s / slower)
