"""When each owner last wrote, known to all workers of the machine at no cost worth speaking of.

A table of times in shared memory: a row per worker, which alone writes it, and in each row a slot
per hash of an owner's id. Two owners with one slot only send each other's reads to the primary. The
largest time of a slot over all rows is the owner's *mark*; positions.py says what it proves.

While a write is on its way its end is not known, so its slot holds a time to come (`LEASE_S` ahead,
renewed), which no look at the primary can have started after. Three things follow:

- The end is noted when the report of the server has arrived. Whether the client has it already does
  not matter: until the end is noted the owner's reads stay on the primary.
- A client that dies in the middle is an end like any other: ``end`` at that time. If its write is
  committed later, nobody was told of it, and it is seen when replicas have it.
- A worker that dies leaves its slots as they are. Once the lease is over they are plain times, and
  looks at the primary pass them.

A new table begins with everybody marked: what was written before is not known, so all has to be
replayed that was there when the table was made.
"""

from __future__ import annotations

import mmap
import os
import sys
import tempfile
import zlib

SLOTS = 65_536
"""Slots per row, 8 bytes each."""

LEASE_S = 60.0
"""How long a write that has not ended counts as newer than anything, unless renewed, in seconds."""

_CELL_BYTES = 8


def new_table(rows: int, now: float) -> int:
    """Makes a table for ``rows`` workers; its file descriptor, for `Marks` in any process.

    The file has no name and is gone with its last user. Raises OSError.
    """
    descriptor = _unnamed_file()
    os.ftruncate(descriptor, _CELL_BYTES * (1 + rows * SLOTS))
    with mmap.mmap(descriptor, 0) as memory, memoryview(memory).cast("d") as cells:
        cells[0] = now
    return descriptor


def _unnamed_file() -> int:
    if sys.platform == "linux":
        return os.memfd_create("gateway-marks")
    else:  # noqa: RET505 - the type checker looks at one of them only
        with tempfile.TemporaryFile() as file:
            return os.dup(file.fileno())


class Marks:
    """The marks of all workers, and the row of this one.

    An owner is any text that stands for one reader and its writes: an owner's id, or a login that
    acts for nobody. Times are seconds on the machine's monotonic clock.
    """

    __slots__ = ("_cells", "_own", "_rows", "_under_way")

    def __init__(self, descriptor: int, row: int) -> None:
        """Maps the table; the descriptor may be closed afterwards. No two live workers share a row.

        Raises ValueError for a row that the table does not have, OSError when it can't be mapped.
        """
        self._cells = memoryview(mmap.mmap(descriptor, 0)).cast("d")
        self._rows = range(1, len(self._cells), SLOTS)
        if not 0 <= row < len(self._rows):
            raise ValueError(f"the table has no row {row}")
        self._own = self._rows[row]
        self._under_way: dict[int, int] = {}

    @classmethod
    def private(cls, now: float) -> Marks:
        """A table for this process alone. Raises OSError."""
        descriptor = new_table(1, now)
        try:
            return cls(descriptor, 0)
        finally:
            os.close(descriptor)

    def begin(self, owner: str, now: float) -> None:
        """A transaction that may write goes to a server. Each begin needs its end."""
        slot = slot_of(owner)
        self._under_way[slot] = self._under_way.get(slot, 0) + 1
        self._cells[self._own + slot] = now + LEASE_S

    def end(self, owner: str, now: float) -> None:
        """It ended: committed, rolled back, or nobody will ever know, as server or client died.

        To be called at or after the time when the server's report arrived.
        """
        slot = slot_of(owner)
        left = self._under_way.pop(slot, 1) - 1
        if left:
            self._under_way[slot] = left
        else:
            self._cells[self._own + slot] = now

    def mark(self, owner: str, now: float) -> None:
        """Something wrote for the owner up to now that ``begin`` was not told of."""
        slot = slot_of(owner)
        if slot not in self._under_way:
            self._cells[self._own + slot] = now

    def renew(self, now: float) -> None:
        """Prolongs what is under way. To be called more often than every LEASE_S."""
        for slot in self._under_way:
            self._cells[self._own + slot] = now + LEASE_S

    def marked_at(self, owner: str) -> float:
        """The time of the owner's last write; a time to come while one is under way."""
        cells, slot = self._cells, slot_of(owner)
        latest = cells[0]
        for row in self._rows:
            at = cells[row + slot]
            if at > latest:
                latest = at
        return latest

    @property
    def under_way(self) -> int:
        """Writes of this worker that have begun and not ended."""
        return sum(self._under_way.values())


def slot_of(owner: str) -> int:
    """The owner's slot, the same in every process."""
    return zlib.crc32(owner.encode("utf-8", "surrogatepass")) % SLOTS
