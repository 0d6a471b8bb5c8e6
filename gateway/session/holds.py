"""Clients whose statements wait for a database that has gone, bounded in number and in time.

None of what waits here has been sent. Each tick they find their way anew: to the same database, if
it is back, or to the one that took its place. No I/O and no clock of its own.
"""

from __future__ import annotations

from typing import Protocol

from gateway.clock import Clock
from gateway.settings.model import Failover


class Held(Protocol):
    """Whoever waits."""

    def try_again(self) -> None:
        """Find the way anew."""


class Holds:
    """Who waits now, and who has waited since when."""

    __slots__ = ("_clock", "_since", "_waiting", "refusals", "settings", "taken")

    def __init__(self, settings: Failover, clock: Clock) -> None:
        self.settings = settings
        self._clock = clock
        self._since: dict[Held, float] = {}
        self._waiting: dict[Held, None] = {}
        self.refusals = 0
        """Clients that were told the error, for they had waited long enough or were too many."""
        self.taken = 0
        """Clients that waited, whatever became of it."""

    def __len__(self) -> int:
        return len(self._waiting)

    def take(self, client: Held) -> bool:
        """Whether the client may wait, once more; if not it is to be told."""
        now = self._clock()
        known = client in self._since
        full = not known and len(self._since) >= self.settings.hold_clients_max
        if full or now - self._since.get(client, now) >= self.settings.hold_ms / 1000:
            self.refusals += bool(self.settings.hold_ms)
            self.leave(client)
            return False
        self.taken += not known
        self._since.setdefault(client, now)
        self._waiting[client] = None
        return True

    def leave(self, client: Held) -> None:
        """It waits no more: it has been served, told, or is gone."""
        if self._since:
            self._since.pop(client, None)
            self._waiting.pop(client, None)

    def tick(self) -> None:
        """Let everybody try again."""
        if not self._waiting:
            return
        clients, self._waiting = list(self._waiting), {}
        for client in clients:
            client.try_again()
