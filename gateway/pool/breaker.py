"""When to try to connect to a server that could not be reached: a circuit breaker. Pure.

CLOSED: as many connects as are wanted. A connect that fails opens it. OPEN: none, for a pause that
doubles with each failed trial and is jittered, so that many gateways don't all knock at once.
HALF_OPEN: the pause is over, and one connect is the trial. Its success closes, its failure opens.

Only connects count: what a client's statements or startup settings do, or the end of a connection,
says nothing of the server. Nothing is banned for ever: an open breaker always becomes half-open.
"""

from __future__ import annotations

from enum import StrEnum

from gateway.clock import jittered

JITTER = 0.25
"""Each pause is spread over plus and minus this part of itself."""


class State(StrEnum):
    """Whether connects may be begun."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


class Breaker:
    """Of one server and role. Times are seconds on one clock that never goes back."""

    __slots__ = ("_next_s", "_opened_at", "_retry_at", "max_s", "min_s", "state", "trips")

    def __init__(self, min_s: float, max_s: float) -> None:
        self.min_s = min_s
        """The first pause; ``max_s`` is the longest."""
        self.max_s = max_s
        self.state = State.CLOSED
        self.trips = 0
        """How often it has opened after it was closed."""
        self._next_s = min_s
        self._opened_at = 0.0
        self._retry_at = 0.0

    @property
    def tripped(self) -> bool:
        """Whether the last that is known of the server is a connect that failed."""
        return self.state is not State.CLOSED

    def rests(self, now: float) -> bool:
        """Whether no connect may be begun yet."""
        return self.state is State.OPEN and now < self._retry_at

    def allows(self, wanted: int, under_way: int, now: float) -> int:
        """How many connects of those wanted may be begun now, with so many under way."""
        if self.state is State.CLOSED:
            return wanted
        if under_way or self.rests(now):
            return 0
        self.state = State.HALF_OPEN
        return min(1, wanted)

    def succeeded(self) -> None:
        """A connect has succeeded."""
        self.state = State.CLOSED
        self._next_s = self.min_s

    def failed(self, began: float, now: float) -> None:
        """A connect has failed that was begun at ``began``.

        Several that were begun before the first of them failed are one failure.
        """
        if self.tripped and began <= self._opened_at:
            return
        self.trips += self.state is State.CLOSED
        self.state = State.OPEN
        self._opened_at = now
        self._retry_at = now + jittered(min(self._next_s, self.max_s), JITTER)
        self._next_s = min(self._next_s * 2, self.max_s)
