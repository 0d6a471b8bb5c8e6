"""When each limit's burst is whole again, in memory that all workers share.

One table for all, a place being a name and a moment in nanoseconds; who has none, or one that has
passed, has its whole burst. Nobody locks: of two workers that count at the same instant one may be
forgotten, so a rate may be exceeded by a statement now and then, and nobody is refused for it. The
algorithm is the leaky bucket as a meter, written as a "theoretical arrival time". Source: ITU-T
I.371, generic cell rate algorithm.
"""

from __future__ import annotations

import mmap
import os

PLACES = 131_072
"""Owners and logins with a rate whose bursts are not whole at a time."""

_WORD_BYTES = 8
_TABLE_BYTES = 2 * _WORD_BYTES * PLACES
"""Only pages that are used take memory."""
_PROBES_MAX = 64
_NS = 1_000_000_000


def new_rates() -> int:
    """Makes a table; its file descriptor, for `Rates` in any process."""
    descriptor = os.memfd_create("gateway-rates")
    os.ftruncate(descriptor, _TABLE_BYTES)
    return descriptor


class Rates:
    """The table. Seconds are those of one clock, the same in all processes."""

    __slots__ = ("_cells",)

    def __init__(self, memory: mmap.mmap) -> None:
        self._cells = memoryview(memory).cast("Q")

    @classmethod
    def private(cls) -> Rates:
        """Of a worker that is alone."""
        return cls(mmap.mmap(-1, _TABLE_BYTES))

    @classmethod
    def shared(cls, descriptor: int) -> Rates:
        """Maps the table; the descriptor may be closed afterwards."""
        return cls(mmap.mmap(descriptor, 0))

    def owed_s(self, key: int, now: float) -> float:
        """For how long nothing may be spent until all is saved again."""
        at = self._find(key, int(now * _NS))
        if self._cells[at] != key:
            return 0.0
        return max(0.0, self._cells[at + 1] / _NS - now)

    def spend(self, key: int, seconds: float, now: float) -> None:
        """So much more is owed."""
        now_ns = int(now * _NS)
        at = self._find(key, now_ns)
        whole_at = self._cells[at + 1] if self._cells[at] == key else 0
        self._cells[at] = key
        self._cells[at + 1] = max(whole_at, now_ns) + int(seconds * _NS)

    def _find(self, key: int, now_ns: int) -> int:
        """The key's place, or one to put it: its first that means nothing any more.

        Where there is none, somebody else's, who has its whole burst again by that.
        """
        cells, free = self._cells, -1
        for step in range(_PROBES_MAX):
            at = 2 * ((key + step) % PLACES)
            held = cells[at]
            if held == key:
                return at
            if free < 0 and cells[at + 1] <= now_ns:
                free = at
            if not held:
                break
        return free if free >= 0 else 2 * (key % PLACES)
