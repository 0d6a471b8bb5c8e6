"""One table out of several workers' tables: their rows one after another, or added up."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from gateway.admin.view import Row

Merge = Callable[[Sequence[str], Sequence[Sequence[Row]]], Iterator[Row]]
"""Columns, and the rows of each worker, to the rows of the gateway."""

_Texts = Sequence[str | None]


def concatenated(columns: Sequence[str], tables: Sequence[Sequence[Row]]) -> Iterator[Row]:
    """All rows, worker by worker."""
    for table in tables:
        yield from table


def added(keys: Sequence[str], leader: str = "", **others: Callable[[_Texts], str | None]) -> Merge:
    """Rows with the same ``keys`` become one; what is neither a key nor in ``others`` is a number.

    ``others`` say how the values of a column become one. ``leader`` is the column whose highest
    value puts its row in front of the others.
    """

    def merge(columns: Sequence[str], tables: Sequence[Sequence[Row]]) -> Iterator[Row]:
        rules = _rules(columns, keys, others)
        places = [columns.index(key) for key in keys]
        groups: dict[tuple[str | None, ...], list[Row]] = {}
        for table in tables:
            for row in table:
                groups.setdefault(tuple(row[place] for place in places), []).append(row)
        for rows in groups.values():
            if leader:
                rows.sort(key=_by(columns.index(leader)), reverse=True)
            cells = zip(rules, zip(*rows, strict=True), strict=True)
            yield tuple(rule(values) for rule, values in cells)

    return merge


def _rules(
    columns: Sequence[str],
    keys: Sequence[str],
    others: Mapping[str, Callable[[_Texts], str | None]],
) -> list[Callable[[_Texts], str | None]]:
    known = {**dict.fromkeys(keys, first), **others}
    return [known.get(column, total) for column in columns]


def _by(place: int) -> Callable[[Row], float]:
    return lambda row: float(row[place] or "-inf")


def of_the_leader(values: _Texts) -> str | None:
    """That of the row in front."""
    return values[0]


def first(values: _Texts) -> str | None:
    """The first that there is."""
    return next((value for value in values if value is not None), None)


def total(values: _Texts) -> str | None:
    """Their sum."""
    numbers = [int(value) for value in values if value is not None]
    return str(sum(numbers)) if numbers else None


def highest(values: _Texts) -> str | None:
    """The greatest number."""
    return max((value for value in values if value is not None), key=float, default=None)
