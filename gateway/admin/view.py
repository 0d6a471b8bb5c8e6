"""A view: columns by name, each with where its value comes from, so that the two can't drift."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")
Cell = str | int | float | None
Row = tuple[str | None, ...]
"""A row as the console sends it: text, None for NULL."""


class View(Generic[T]):
    """How rows are read off things, at a time on the worker's clock."""

    def __init__(self, **cells: Callable[[T, float], Cell]) -> None:
        self._cells = tuple(cells.values())
        self.columns = tuple(cells)

    def rows(self, things: Iterable[T], now: float) -> Iterator[Row]:
        """A row for each thing, made when it is taken."""
        for thing in things:
            yield tuple(_text(cell(thing, now)) for cell in self._cells)


def _text(cell: Cell) -> str | None:
    if isinstance(cell, bool):
        return "yes" if cell else "no"
    if isinstance(cell, float):
        return f"{cell:.1f}"
    return None if cell is None else str(cell)
