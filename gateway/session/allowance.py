"""What a client's login, owner and industry may use: shares of the pools, rates, times, places.

Read off the settings once per client and target, so that where nothing is limited a statement pays
nothing for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from gateway.clock import Clock
from gateway.errors import RateExceeded, TooManyClients
from gateway.pool.fairness import NOBODY, Bound, Tenant
from gateway.pool.seats import Seats, key_of
from gateway.router.identity import Login, LoginKind
from gateway.router.route import Route
from gateway.session.rates import Rates
from gateway.settings.model import Limits, Settings

_ONE = 1 - 1e-6
"""A token, give or take what is lost in rounding."""


class Tally:
    """How often something was refused, in all."""

    __slots__ = ("refusals",)

    def __init__(self) -> None:
        self.refusals = 0


class Bucket:
    """A token bucket of all workers: ``rate`` statements per second, ``burst`` at once."""

    __slots__ = ("_clock", "_key", "_rates", "burst", "name", "rate", "tally")

    def __init__(
        self, name: str, rate: float, burst: float, rates: Rates, clock: Clock, tally: Tally
    ) -> None:
        self.name = name
        self.rate = rate
        self.burst = burst
        self.tally = tally
        self._rates = rates
        self._clock = clock
        self._key = key_of(name)

    def missing_s(self) -> float:
        """How long until there is a token; 0 when there is one now."""
        tokens = self.burst - self._rates.owed_s(self._key, self._clock()) * self.rate
        return 0.0 if tokens >= _ONE else (1 - tokens) / self.rate

    def take(self, statements: int) -> None:
        """So many have run; more than there were tokens for are owed."""
        self._rates.spend(self._key, statements / self.rate, self._clock())


@dataclass(frozen=True, slots=True)
class Allowance:
    """What one client may use on its way to one shard."""

    tenant: Tenant
    buckets: tuple[Bucket, ...] = ()

    def take_one(self) -> None:
        """A statement, or a transaction's first. Raises RateExceeded when it comes too soon."""
        for bucket in self.buckets:
            missing_s = bucket.missing_s()
            if missing_s:
                bucket.tally.refusals += 1
                raise RateExceeded(
                    f"too many statements of {bucket.name}:"
                    f" {bucket.rate:g} per second, {bucket.burst:g} at once",
                    hint=f"Send it again in {missing_s:.2g} s.",
                )
        self.take(1)

    def take(self, statements: int) -> None:
        """So many more have run."""
        for bucket in self.buckets:
            bucket.take(statements)


UNLIMITED = Allowance(NOBODY)


@dataclass(frozen=True, slots=True)
class _Named:
    """Limits, and whom they are for, for people."""

    name: str
    limits: Limits


class Budgets:
    """The limits in force, and how much of them is used, by all workers together.

    Clients are counted in ``seats``, statements in ``rates``, servers by the pools.
    """

    def __init__(
        self,
        clock: Clock,
        seats: Seats | None = None,
        rates: Rates | None = None,
    ) -> None:
        self.epoch = 0
        """Changes when the limits do: allowances made before are out of date."""
        self._clock = clock
        self._settings: Settings | None = None
        self._seats: dict[int, tuple[str, ...]] = {}
        self._table = seats or Seats.private()
        self._rates = rates or Rates.private()
        self._tally = Tally()

    def configure(self, settings: Settings) -> None:
        """Follow the settings after a reload."""
        self._settings = settings
        self.epoch += 1

    def allowance(self, login: Login, target: Route) -> Allowance:
        """What a client of ``login`` may use where ``target`` leads."""
        assert self._settings is not None
        named = list(self._named(login, target.owner, target.shard.industry))
        return Allowance(
            self._tenant(login, target, [one.limits for one in named], self._bounds(named)),
            tuple(self._bucket(one) for one in named if one.limits.rate is not None),
        )

    def _tenant(
        self, login: Login, target: Route, levels: list[Limits], bounds: tuple[Bound, ...]
    ) -> Tenant:
        assert self._settings is not None
        operator = login.kind is LoginKind.OPERATOR
        query_ms = next(
            (x.query_timeout_ms for x in levels if x.query_timeout_ms is not None), None
        )
        queue_ms = next(
            (x.queue_timeout_ms for x in levels if x.queue_timeout_ms is not None), None
        )
        idle_s = next(
            (
                x.idle_transaction_timeout_s
                for x in levels
                if x.idle_transaction_timeout_s is not None
            ),
            None,
        )
        return Tenant(
            login.name if operator or target.owner is None else target.owner,
            self._settings.fairness.plans.get(target.plan or "", 1.0),
            bounds,
            operator,
            None if queue_ms is None else queue_ms / 1000,
            None if query_ms is None else query_ms / 1000,
            idle_s,
            query_ms is not None or idle_s is not None,
        )

    def _named(self, login: Login, owner: str | None, industry: str | None) -> Iterator[_Named]:
        """The limits that hold, the first one's times before the others'.

        An operator's are those under its own name only, so that it always gets in.
        """
        assert self._settings is not None
        limits = self._settings.limits
        operator = login.kind is LoginKind.OPERATOR
        if owner is not None and not operator:
            yield _Named(f'owner "{owner}"', limits.owners.get(owner, limits.every_owner))
        default = Limits() if operator else limits.every_login
        yield _Named(f'login "{login.name}"', limits.logins.get(login.name, default))
        if industry in limits.industries and not operator:
            yield _Named(f"industry {industry}", limits.industries[industry])

    def _bounds(self, named: list[_Named]) -> tuple[Bound, ...]:
        return tuple(
            (one.name, one.limits.servers) for one in named if one.limits.servers is not None
        )

    def _bucket(self, one: _Named) -> Bucket:
        rate = one.limits.rate
        assert rate is not None
        burst = max(1.0, float(one.limits.burst or rate))
        return Bucket(one.name, rate, burst, self._rates, self._clock, self._tally)

    @property
    def refusals(self) -> int:
        """Statements that came too soon."""
        return self._tally.refusals

    # --- clients ---

    def login_timeout_s(
        self, login: Login, owner: str | None, industry: str | None = None
    ) -> float | None:
        """How long the login may take in all; None for as long as any."""
        levels = self._named(login, owner, industry)
        return next((x.limits.login_timeout_s for x in levels if x.limits.login_timeout_s), None)

    def seat(self, number: int, login: Login, owner: str | None, industry: str | None) -> None:
        """Count the client of this number until it `leave`s. Raises TooManyClients."""
        taken: list[str] = []
        for one in self._named(login, owner, industry):
            if (most := one.limits.clients) is None:
                continue
            taken.append(one.name)
            if self._table.take(key_of(one.name)) > most:
                for name in taken:
                    self._table.give(key_of(name))
                raise TooManyClients(
                    f"too many clients of {one.name}",
                    hint=f"At most {most} may be connected at a time.",
                )
        if taken:
            self._seats[number] = tuple(taken)

    def counted(self, number: int) -> tuple[str, ...]:
        """Under what names a client is counted."""
        return self._seats.get(number, ())

    def count(self, number: int, names: Iterable[str]) -> None:
        """Count a client that another worker has let in."""
        if names := tuple(names):
            self._seats[number] = names
            for name in names:
                self._table.take(key_of(name))

    def leave(self, number: int) -> None:
        """A client has gone."""
        for name in self._seats.pop(number, ()):
            self._table.give(key_of(name))
