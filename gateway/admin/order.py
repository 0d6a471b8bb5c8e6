"""An order: one statement, understood; and the conversation that it is part of."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass, field

from gateway.admin.view import Row

STATEMENTS_MAX = 1000
"""Prepared statements, and portals, that one console may hold."""


@dataclass(frozen=True, slots=True)
class Order:
    """What to do: ``run`` does it and gives the rows, if it has ``columns``.

    ``tag`` is what CommandComplete says; SELECT gets its number of rows.
    """

    tag: str
    run: Callable[[], Awaitable[Iterable[Row]]]
    columns: tuple[str, ...] | None = None
    notices: list[str] = field(default_factory=list)
    """What ``run`` has to say besides the rows."""


@dataclass(slots=True)
class Portal:
    """An order that was bound, and the rows still to come once it runs."""

    order: Order | None
    """None for an empty statement."""
    rows: Iterator[Row] | None = None


@dataclass(slots=True)
class Conversation:
    """What a console session keeps between its messages.

    ``parameters`` are the settings it reports. ``status`` is ReadyForQuery's.
    """

    user: str
    database: str
    number: int
    parameters: dict[str, str]
    status: bytes = b"I"
    statements: dict[str, Order | None] = field(default_factory=dict)
    portals: dict[str, Portal] = field(default_factory=dict)
