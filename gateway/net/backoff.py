"""How long to wait before the next attempt, so that many gateways don't all knock at once."""

from __future__ import annotations

from gateway.clock import jittered

JITTER = 0.5
"""Each pause is spread over plus and minus this part of itself."""


class Backoff:
    """Pauses that double from ``min_s`` to ``max_s`` (seconds), each jittered."""

    __slots__ = ("_max_s", "_min_s", "_next_s")

    def __init__(self, min_s: float, max_s: float) -> None:
        self._min_s = min_s
        self._max_s = max_s
        self._next_s = min_s

    def next_s(self) -> float:
        """The pause before the next attempt, in seconds; the one after it is twice as long."""
        pause_s = self._next_s
        self._next_s = min(self._max_s, pause_s * 2)
        return jittered(pause_s, JITTER)

    def reset(self) -> None:
        """Start again from the shortest pause: things work."""
        self._next_s = self._min_s
