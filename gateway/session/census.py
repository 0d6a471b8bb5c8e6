"""How many clients each worker has, in memory that all workers of the gateway share.

A row per worker, which alone writes it, so that nobody waits for anybody. Two workers that let the
last client in at the same instant may let in one too many.
"""

from __future__ import annotations

import mmap
import os
from array import array

_CELL_BYTES = 8


def new_census(rows: int) -> int:
    """Makes a table for ``rows`` workers; its file descriptor, for `Census` in any process."""
    descriptor = os.memfd_create("gateway-clients")
    os.ftruncate(descriptor, rows * _CELL_BYTES)
    return descriptor


class Census:
    """The clients of all workers, and the row of this one."""

    __slots__ = ("_cells", "_row")

    def __init__(self, cells: memoryview, row: int) -> None:
        self._cells = cells
        self._row = row
        cells[row] = 0

    @classmethod
    def private(cls) -> Census:
        """Of a worker that is alone."""
        return cls(memoryview(array("q", [0])), 0)

    @classmethod
    def shared(cls, descriptor: int, row: int) -> Census:
        """Maps the table; the descriptor may be closed afterwards. The row starts at nothing."""
        return cls(memoryview(mmap.mmap(descriptor, 0)).cast("q"), row)

    def note(self, clients: int) -> None:
        """This worker has so many now."""
        self._cells[self._row] = clients

    def nobody(self, row: int) -> None:
        """The worker of a row has died."""
        self._cells[row] = 0

    @property
    def total(self) -> int:
        """The clients of all workers."""
        return sum(self._cells)
