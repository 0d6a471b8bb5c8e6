"""Leave to have server connections: how much of a bound the pools of one address and role may use.

A worker that is alone has all of it. Among several workers the bound is the supervisor's; a worker
holds a part of it, asks for more only to open a connection, and gives back what it has no use for.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

PoolKey = tuple[tuple[str, int, str], str]
"""Address and database role: endpoints with the same one share a bound."""

UNLIMITED = 2**31


class Borrower(Protocol):
    """A pool, as its purse sees it."""

    def permits_changed(self) -> None:
        """More may be opened now, or others wait for what is here."""


class Purse:
    """The permits of one bound; pools that share it never have more connections than it holds.

    Two pools share one while a reload replaces the first by the second.
    """

    def __init__(self, held: int) -> None:
        self.shared = False
        """Whether more can be had from elsewhere."""
        self.exhausted = False
        """Nothing is left here, and more has been asked for: there is no use in asking again."""
        self.held = held
        self.ceiling = UNLIMITED
        """How many connections to come down to, as they come free."""
        self.share = held
        """How many are ours whatever others wish."""
        self.lend = 0
        """How many others wait for: idle connections beyond our share are theirs."""
        self._used: dict[Borrower, int] = {}

    def ask(self, who: Borrower, used: int, wanted: int) -> int:
        """How many of ``wanted`` connections ``who``, which has ``used``, may open now."""
        self._used[who] = used
        allowed = max(0, min(wanted, self.held - self.used))
        self._used[who] += allowed
        return allowed

    def report(self) -> None:
        """Say exactly what is missing; called a few times a second."""

    @property
    def used(self) -> int:
        """Permits that connections stand for."""
        return sum(self._used.values())

    def resize(self, maximum: int) -> None:
        """The bound in the settings has changed."""
        self.held = self.share = maximum

    def forget(self, who: Borrower) -> None:
        """A pool that has gone."""
        self._used.pop(who, None)

    def opened(self, pid: int, secret: bytes) -> None:
        """A connection has logged in to this server process."""

    def gone(self, pid: int) -> None:
        """That connection has ended."""


OpenPurse = Callable[[PoolKey, int], Purse]
"""The purse of a key; the number is the bound in the settings."""


def alone(key: PoolKey, maximum: int) -> Purse:
    """The purse of a worker that is alone."""
    return Purse(maximum)


class Lender(Protocol):
    """Where permits come from."""

    @property
    def connected(self) -> bool:
        """False while it can't be reached."""

    def want(self, key: PoolKey, count: int) -> None:
        """So many more permits are wanted now, in place of what was said before."""

    def back(self, key: PoolKey, count: int) -> None:
        """So many permits are not ours any more."""

    def opened(self, key: PoolKey, pid: int, secret: bytes) -> None:
        """What to look for on the server, should we die."""

    def gone(self, key: PoolKey, pid: int) -> None:
        """Not to be looked for any more."""


class SharedPurse(Purse):
    """A part of a bound that several workers share. It starts empty.

    While the lender can't be reached it keeps what it holds.
    """

    def __init__(self, key: PoolKey, lender: Lender) -> None:
        super().__init__(0)
        self.shared = True
        self.key = key
        self.servers: dict[int, bytes] = {}
        """Server processes that we are logged in to, with their cancel keys."""
        self._lender = lender
        self._wanted: dict[Borrower, int] = {}
        self._told = 0

    def ask(self, who: Borrower, used: int, wanted: int) -> int:
        allowed = super().ask(who, used, wanted)
        self._wanted[who] = wanted - allowed
        self._settle()
        return allowed

    def resize(self, maximum: int) -> None:
        """The lender knows."""

    def forget(self, who: Borrower) -> None:
        super().forget(who)
        self._wanted.pop(who, None)
        self._settle()

    def opened(self, pid: int, secret: bytes) -> None:
        self.servers[pid] = secret
        self._lender.opened(self.key, pid, secret)

    def gone(self, pid: int) -> None:
        if self.servers.pop(pid, None) is not None:
            self._lender.gone(self.key, pid)

    # --- the lender's side ---

    def granted(self, count: int) -> None:
        """More permits are ours."""
        self.held += count
        self._told = max(0, self._told - count)
        self.exhausted = False
        self._changed()
        self._settle()

    def limited(self, ceiling: int, share: int, lend: int) -> None:
        """What others need has changed."""
        self.ceiling, self.share, self.lend = ceiling, share, lend
        self._changed()

    def introduced(self) -> None:
        """The lender is another one: it knows what we hold, but not what we want."""
        self._told = 0
        self.exhausted = False
        self.ceiling, self.lend = UNLIMITED, 0
        self._changed()

    def _changed(self) -> None:
        for who in list(self._used):
            who.permits_changed()

    def report(self) -> None:
        missing = self._settle()
        if missing != self._told and self._lender.connected:
            self._tell(missing)

    def _settle(self) -> int:
        """Give back what nobody here will use, and ask for more at the first lack; how much lacks.

        How the lack grows and shrinks is told by `report` only: it changes with every client.
        """
        wanted = sum(self._wanted.values())
        spare = self.held - self.used
        missing = max(0, wanted - spare)
        if not self._lender.connected:
            return missing
        if spare > wanted:
            self.held -= spare - wanted
            self._lender.back(self.key, spare - wanted)
        if missing and not self._told:
            self._tell(missing)
        self.exhausted = missing > 0 and spare <= 0
        return missing

    def _tell(self, missing: int) -> None:
        self._told = missing
        self._lender.want(self.key, missing)
