"""Which clients of a worker keep a server for what, since when, and by which statement."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, MutableMapping
from typing import NamedTuple

from gateway.session.state import Pin


class Held(NamedTuple):
    """What holds one client to its server."""

    since: float
    """On the clock."""
    statement: str
    """That did it, without the values in it (router/gist.py); empty where none is known for it."""


class Reason(NamedTuple):
    """A pin, of all clients together."""

    pin: Pin
    total: int
    """Times since the start."""
    clients: int
    oldest: Held | None


class Pinned:
    """All pins of now. ``totals`` counts them since the start, by reason."""

    __slots__ = ("_now", "totals")

    def __init__(self, totals: MutableMapping[str, int]) -> None:
        self.totals = totals
        self._now: dict[Pin, dict[Hashable, Held]] = {}

    def add(self, pin: Pin, client: Hashable, held: Held) -> None:
        """A client, which has no such pin yet, keeps its server from now on."""
        self.totals[pin] = self.totals.get(pin, 0) + 1
        self._now.setdefault(pin, {})[client] = held

    def remove(self, pin: Pin, client: Hashable) -> None:
        """It no longer does for this."""
        self._now[pin].pop(client, None)

    def reasons(self) -> Iterator[Reason]:
        """Each reason that there has been; who came first is the oldest."""
        for pin, clients in self._now.items():
            oldest = next(iter(clients.values()), None)
            yield Reason(pin, self.totals[pin], len(clients), oldest)
