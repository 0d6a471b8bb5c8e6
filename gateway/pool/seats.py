"""How much of each limit is taken, in memory that all workers share: clients, and servers held.

A row per worker, which alone writes it: a hash table from names to counts. Who takes a seat counts
itself first and then adds up all rows, so two workers never let one too many in; at the same
instant both may refuse the last one. Names are known by 64 bits of a hash.
"""

from __future__ import annotations

import hashlib
import mmap
import os
from collections.abc import Iterator

from gateway.pool.fairness import Others

SLOTS = 131_072
"""Names that a worker can count, now and lately."""

_WORD_BYTES = 8
_ROW_BYTES = 2 * _WORD_BYTES * SLOTS
"""A multiple of a page. Only pages that are used take memory."""
_PROBES_MAX = 4096


def new_seats(rows: int) -> int:
    """Makes a table for ``rows`` workers; its file descriptor, for `Seats` in any process."""
    descriptor = os.memfd_create("gateway-seats")
    os.ftruncate(descriptor, rows * _ROW_BYTES)
    return descriptor


class Seats:
    """The seats of all workers, and the row of this one."""

    __slots__ = ("_cells", "_memory", "_row", "_rows")

    def __init__(self, memory: mmap.mmap, row: int) -> None:
        self._memory = memory
        self._cells = memoryview(memory).cast("Q")
        self._row = row
        self._rows = range(len(memory) // _ROW_BYTES)

    @classmethod
    def private(cls) -> Seats:
        """Of a worker that is alone."""
        return cls(mmap.mmap(-1, _ROW_BYTES), 0)

    @classmethod
    def shared(cls, descriptor: int, row: int) -> Seats:
        """Maps the table; the descriptor may be closed afterwards."""
        return cls(mmap.mmap(descriptor, 0), row)

    def empty(self, row: int) -> None:
        """Nobody sits there: its worker has died, or begins."""
        self._memory.madvise(mmap.MADV_REMOVE, row * _ROW_BYTES, _ROW_BYTES)

    def take(self, key: int) -> int:
        """One more here, of the name that ``key`` stands for; how many all workers have with it."""
        at = self._find(self._row, key)
        if at < 0:
            at = self._free(key)
            self._cells[at] = key
        self._cells[at + 1] += 1
        return self.total(key)

    def give(self, key: int) -> None:
        """One less here."""
        at = self._find(self._row, key)
        if at >= 0 and self._cells[at + 1]:
            self._cells[at + 1] -= 1

    def total(self, key: int) -> int:
        """How many all workers have."""
        return sum(self._count(row, key) for row in self._rows)

    def elsewhere(self, key: int) -> int:
        """How many all other workers have."""
        return sum(self._count(row, key) for row in self._rows if row != self._row)

    def _count(self, row: int, key: int) -> int:
        at = self._find(row, key)
        return self._cells[at + 1] if at >= 0 else 0

    def _find(self, row: int, key: int) -> int:
        for at in self._probes(row, key):
            held = self._cells[at]
            if held == key:
                return at
            if not held:
                break
        return -1

    def _free(self, key: int) -> int:
        """A place of ours for a name that has none: never used, or of one that nobody has now."""
        for at in self._probes(self._row, key):
            if not self._cells[at + 1]:
                return at
        raise OverflowError("more names than a worker can have clients")

    def _probes(self, row: int, key: int) -> Iterator[int]:
        """Where a name may be in a row, up to the first place that was never used."""
        begin = row * 2 * SLOTS
        for step in range(_PROBES_MAX):
            yield begin + 2 * ((key + step) % SLOTS)


class SharedBound(Others):
    """One bound on the servers of a pool, ``name``, which ``parts`` workers share."""

    __slots__ = ("_key", "_parts", "_queue", "_seats")

    def __init__(self, seats: Seats, name: str, parts: int) -> None:
        self._seats = seats
        self._key = key_of(name)
        self._queue = key_of(f"queue of {name}")
        self._parts = parts

    def held(self) -> int:
        return self._seats.elsewhere(self._key)

    def waiting(self) -> bool:
        return self._seats.elsewhere(self._queue) > 0

    def part(self, maximum: int) -> int:
        return maximum // self._parts

    def take(self) -> int:
        return self._seats.take(self._key)

    def give(self) -> None:
        self._seats.give(self._key)

    def wait(self, waits: bool) -> None:
        (self._seats.take if waits else self._seats.give)(self._queue)


def key_of(name: str) -> int:
    """What stands for a name in shared memory, never 0."""
    digest = hashlib.blake2b(name.encode("utf-8", "surrogateescape"), digest_size=_WORD_BYTES)
    return int.from_bytes(digest.digest()) or 1
