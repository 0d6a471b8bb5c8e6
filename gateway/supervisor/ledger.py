"""Who holds how many permits of each bound, and who gets the next: plain bookkeeping, no I/O.

Every call returns the orders that follow from it. What was granted counts as held until the worker
has given it back, and what a dead worker held until somebody has looked that its connections are
gone; so the connections of all workers together are never more than the bound.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from gateway.pool.permits import UNLIMITED, PoolKey

PATIENCE_S = 0.2
"""A worker that has nothing, not even by right, waits so long until another one must give."""


@dataclass(frozen=True, slots=True)
class Grant:
    """So many more permits for a worker."""

    worker: int
    key: PoolKey
    count: int


@dataclass(frozen=True, slots=True)
class Limit:
    """What a worker should leave to others; takes the place of the last one.

    ``ceiling``: come down to so many as they come free. ``share``: so many are its own by right.
    ``lend``: so many others wait for, to be taken from what is idle.
    """

    worker: int
    key: PoolKey
    ceiling: int
    share: int
    lend: int


Order = Grant | Limit


@dataclass(slots=True)
class _Holder:
    """A worker's part of a bound."""

    held: int = 0
    want: int = 0
    since: float = 0.0
    """When it began to want, or last gave one back."""
    told: Limit | None = None
    leaving: bool = False
    """It is to give everything back, as its clients leave it."""

    def least(self, share: int) -> int:
        """How many others can't take from it while it uses them."""
        return 0 if self.leaving else share

    @property
    def may_take(self) -> bool:
        """Whether it wants more and has not to give."""
        return self.want > 0 and (self.told is None or self.held < self.told.ceiling)


@dataclass(slots=True)
class _Bound:
    """One bound and everybody who counts against it."""

    maximum: int = 0
    quarantined: int = 0
    holders: dict[int, _Holder] = field(default_factory=dict)

    @property
    def taken(self) -> int:
        return self.quarantined + sum(holder.held for holder in self.holders.values())

    @property
    def free(self) -> int:
        return max(0, self.maximum - self.taken)


class Ledger:
    """The permits of all bounds. ``seats`` is the number of workers that share each of them.

    Times are seconds on a clock that never goes back.
    """

    def __init__(self, seats: int) -> None:
        self._seats = seats
        self._bounds: dict[PoolKey, _Bound] = {}
        self._workers: set[int] = set()
        self._leaving: set[int] = set()
        self.granting = True
        """False while it is not known yet what others hold."""

    # --- figures ---

    def taken(self, key: PoolKey) -> int:
        """Permits that are held or quarantined."""
        bound = self._bounds.get(key)
        return bound.taken if bound is not None else 0

    def free(self, key: PoolKey) -> int:
        """Permits that nobody has."""
        bound = self._bounds.get(key)
        return bound.free if bound is not None else 0

    def held(self, worker: int) -> int:
        """All permits of a worker."""
        bounds = self._bounds.values()
        return sum(bound.holders[worker].held for bound in bounds if worker in bound.holders)

    @property
    def quarantined(self) -> int:
        """Permits of dead workers whose connections may still be there."""
        return sum(bound.quarantined for bound in self._bounds.values())

    # --- what happens ---

    def set_bounds(self, bounds: Mapping[PoolKey, int], now: float) -> list[Order]:
        """New settings. A bound that is not named any more is one of nothing."""
        for key in self._bounds.keys() | bounds.keys():
            self._bound(key).maximum = bounds.get(key, 0)
        self._drop_unused()
        return self.balance(now)

    def join(self, worker: int, held: Mapping[PoolKey, int], now: float) -> list[Order]:
        """A worker is there, with what it held under a supervisor before us."""
        self._workers.add(worker)
        for key, count in held.items():
            self._holder(worker, key).held = count
        return self.balance(now)

    def want(self, worker: int, key: PoolKey, count: int, now: float) -> list[Order]:
        """A worker wants so many more than it holds."""
        if worker not in self._workers:
            return []
        holder = self._holder(worker, key)
        if not holder.want:
            holder.since = now
        holder.want = count
        return self._balanced(key, self._bound(key), now)

    def back(self, worker: int, key: PoolKey, count: int, now: float) -> list[Order]:
        """A worker has given permits back; their connections are gone."""
        if worker not in self._workers:
            return []
        holder = self._holder(worker, key)
        holder.held = max(0, holder.held - count)
        holder.since = now  # who had one last waits behind who has had none
        return self._balanced(key, self._bound(key), now)

    def leave(self, worker: int, now: float) -> tuple[dict[PoolKey, int], list[Order]]:
        """A worker has died: what it held, which is in quarantine from now on."""
        self._workers.discard(worker)
        self._leaving.discard(worker)
        left: dict[PoolKey, int] = {}
        for key, bound in self._bounds.items():
            holder = bound.holders.pop(worker, None)
            if holder is not None and holder.held:
                left[key] = holder.held
                bound.quarantined += holder.held
        return left, self.balance(now)

    def retire(self, worker: int, now: float) -> list[Order]:
        """A worker's clients are leaving for its successor: nothing is its own by right."""
        self._leaving.add(worker)
        for bound in self._bounds.values():
            if worker in bound.holders:
                bound.holders[worker].leaving = True
        return self.balance(now)

    def quarantine(self, key: PoolKey) -> bool:
        """Take a free permit out of use; False when there is none."""
        bound = self._bound(key)
        if not bound.free:
            return False
        bound.quarantined += 1
        return True

    def confirm_gone(self, key: PoolKey, count: int, now: float) -> list[Order]:
        """So many quarantined connections are surely gone."""
        bound = self._bound(key)
        bound.quarantined = max(0, bound.quarantined - count)
        return self._balanced(key, bound, now)

    def balance(self, now: float) -> list[Order]:
        """What is due by now; called also when time has passed."""
        orders: list[Order] = []
        for key, bound in self._bounds.items():
            orders += self._balanced(key, bound, now)
        return orders

    # --- decisions ---

    def _balanced(self, key: PoolKey, bound: _Bound, now: float) -> list[Order]:
        if not self.granting:
            return []
        orders = [*self._grants(key, bound), *self._limits(key, bound, now)]
        if bound.free:  # for those who no longer have to give
            orders += self._grants(key, bound)
        return orders

    def _grants(self, key: PoolKey, bound: _Bound) -> list[Order]:
        """Free permits go to who has least, one by one; among equals to who has waited longest."""
        granted: dict[int, int] = {}
        for _ in range(bound.free):
            wanting = [worker for worker, holder in bound.holders.items() if holder.may_take]
            if not wanting:
                break
            worker = min(wanting, key=lambda one: _poorest_first(bound.holders[one]))
            holder = bound.holders[worker]
            holder.held += 1
            holder.want -= 1
            granted[worker] = granted.get(worker, 0) + 1
        return [Grant(worker, key, count) for worker, count in granted.items()]

    def _limits(self, key: PoolKey, bound: _Bound, now: float) -> list[Order]:
        """What each worker should leave to others, where that has changed."""
        share = bound.maximum // self._seats
        ceilings = self._ceilings(bound, share, now)
        wanted = sum(holder.want for holder in bound.holders.values())
        orders: list[Order] = []
        for worker, holder in bound.holders.items():
            ceiling = ceilings.get(worker, UNLIMITED)
            limit = Limit(worker, key, ceiling, holder.least(share), wanted - holder.want)
            if limit != (holder.told or Limit(worker, key, UNLIMITED, 0, 0)):
                holder.told = limit
                orders.append(limit)
        return orders

    def _ceilings(self, bound: _Bound, share: int, now: float) -> dict[int, int]:
        """Down to how many those must come who have more than others, or all of them, may bear."""
        left = {worker: holder.held for worker, holder in bound.holders.items()}
        for _ in range(bound.taken - bound.maximum):
            _take_one(left, {})
        lacking = {
            worker: _lack(holder, holder.least(share), now)
            for worker, holder in bound.holders.items()
            if holder.want
        }
        givers = {worker: held for worker, held in left.items() if not lacking.get(worker)}
        least = {worker: holder.least(share) for worker, holder in bound.holders.items()}
        for worker, lack in lacking.items():
            has_nothing = not bound.holders[worker].held
            for _ in range(lack):
                _take_one(givers, {} if has_nothing and not share else least)
        left |= givers
        return {
            worker: count for worker, count in left.items() if count < bound.holders[worker].held
        }

    # --- parts ---

    def _bound(self, key: PoolKey) -> _Bound:
        bound = self._bounds.get(key)
        if bound is None:
            bound = self._bounds[key] = _Bound()
        return bound

    def _holder(self, worker: int, key: PoolKey) -> _Holder:
        holders = self._bound(key).holders
        if worker not in holders:
            holders[worker] = _Holder(leaving=worker in self._leaving)
        return holders[worker]

    def _drop_unused(self) -> None:
        unused = [key for key, bound in self._bounds.items() if not (bound.maximum or bound.taken)]
        for key in unused:
            del self._bounds[key]


def _poorest_first(holder: _Holder) -> tuple[int, float]:
    return holder.held, holder.since


def _lack(holder: _Holder, share: int, now: float) -> int:
    """How many others must give to this worker, even if they could use them."""
    if share:
        return min(holder.want, max(0, share - holder.held))
    return int(not holder.held and now - holder.since >= PATIENCE_S)


def _take_one(left: dict[int, int], least: Mapping[int, int]) -> None:
    """One from who has most, nobody coming below its ``least``: 0 where nothing is said."""
    able: Iterable[int] = [w for w, count in left.items() if count > least.get(w, 0)]
    giver = max(able, key=lambda worker: left[worker], default=None)
    if giver is not None:
        left[giver] -= 1
