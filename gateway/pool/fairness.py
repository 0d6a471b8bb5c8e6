"""Whose turn it is for a server: by the server time that owners have used, not by who came first.

Start-time fair queueing on real service time: an owner's next turn has a start tag on a virtual
clock, and the least tag goes first. What a turn takes is guessed when it begins and put right when
it ends. Only time for which somebody waits is counted: what nobody else wanted is free. The bound
and its argument are in docs/fairness.md. Source: Goyal, Vin and Cheng, "Start-time Fair Queuing",
SIGCOMM 1996.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from heapq import heappop, heappush
from typing import Any
from weakref import WeakValueDictionary

from gateway.errors import PoolExhausted

Waiter = Any
"""Whoever waits, by identity or hash. No type variable: a class of C types has no such base."""

Bound = tuple[str, int]
"""Whom a bound is for, such as ``owner 17``, and how many servers of a pool they may hold."""

_FIRST_GUESS_S = 0.005
"""What a turn takes, as long as none has ended."""
CREDIT_S = 1.0
"""How much server time an owner saves by not using any: its first turns go before others' of
owners who have used their part."""
_LATEST = 0.25
"""How much the latest turn counts in the guess of the next one."""
_QUEUE_PART = 4
"""An owner may have so many times as many clients in the queue as there are places left."""
_CREDIT_S = CREDIT_S  # as a C number


@dataclass(frozen=True)
class Tenant:
    """For whom a client works: who pays for its server time, and what it is allowed."""

    key: str = ""
    """The owner's id, or the login's name where there is none. Fairness is between these."""
    weight: float = 1.0
    bounds: tuple[Bound, ...] = ()
    """On the servers that it may hold, together with others of the same name."""
    operator: bool = False
    queue_timeout_s: float | None = None
    """In place of the pool's; this one and those below."""
    query_timeout_s: float | None = None
    idle_transaction_timeout_s: float | None = None
    hurried: bool = False
    """Whether it has one of the last two."""


NOBODY = Tenant(operator=True)
"""The gateway itself, for operators as well: a login asks a server what it has to say."""


class Others:
    """What the other workers of the gateway do under a bound, and what they are told of us."""

    __slots__ = ()

    def held(self) -> int:
        """How many servers they hold together."""
        raise NotImplementedError

    def waiting(self) -> bool:
        """Whether somebody waits there for room."""
        raise NotImplementedError

    def part(self, maximum: int) -> int:
        """How many are ours whoever waits."""
        raise NotImplementedError

    def take(self) -> int:
        """We hold one more; how many all workers hold with it."""
        raise NotImplementedError

    def give(self) -> None:
        """We hold one less."""

    def wait(self, waits: bool) -> None:
        """Somebody waits here, or nobody any more."""


class Meter:
    """How many servers of a pool some clients hold together, and who waits because of that."""

    __slots__ = ("__weakref__", "chance", "held", "kept", "maximum", "others", "parked")

    def __init__(self, maximum: int, others: Others | None = None) -> None:
        self.maximum = maximum
        self.others = others
        """Where other workers' clients count as well."""
        self.held = 0
        self.kept = 0
        """Accounts that wait for room."""
        self.chance = False
        """The next one may be had though it is others' turn as much as ours."""
        self.parked: list[tuple[float, int, Account]] = []
        """A heap, as that of the queue."""

    @property
    def full(self) -> bool:
        """Whether no more may be held."""
        return self.held >= self.maximum or (self.others is not None and self._is_others())

    def _is_others(self) -> bool:
        """Other workers hold the rest; or somebody waits there, and we have our part."""
        others = self.others
        assert others is not None
        if self.held + others.held() >= self.maximum:
            return True
        return not self.chance and self.held >= others.part(self.maximum) and others.waiting()

    def take(self) -> bool:
        """One more is held; False where another worker was quicker."""
        self.held += 1
        if self.others is None:
            return True
        self.chance = False
        if self.others.take() <= self.maximum:
            return True
        self.give()
        return False

    def give(self) -> None:
        """One less is."""
        self.held -= 1
        if self.others is not None:
            self.others.give()

    def keep(self, more: int) -> None:
        """So many more accounts wait for room, or less."""
        before, self.kept = self.kept, self.kept + more
        if self.others is not None and bool(before) != bool(self.kept):
            self.others.wait(bool(self.kept))


class Place:
    """Where a client stands in its owner's line; ``waiter`` is None when it has left."""

    __slots__ = ("account", "since", "tenant", "waiter")

    def __init__(self, waiter: Waiter, account: Account, tenant: Tenant, since: float) -> None:
        self.waiter = waiter
        self.account = account
        self.tenant = tenant
        self.since = since


_GONE_MAX = 16
"""So many places that nobody has any more are kept in a line."""


class Account:
    """One owner in one pool: its clients that wait, and what it has used, on the virtual clock."""

    __slots__ = (
        "_first",
        "_line",
        "entry",
        "finish",
        "guess_s",
        "held",
        "key",
        "meters",
        "parked_at",
        "tag",
        "waiting",
        "weight",
    )

    def __init__(self, key: Hashable, guess_s: float) -> None:
        self.key = key
        self.weight = 1.0
        self.finish = -CREDIT_S
        """When it has paid for what it used."""
        self.guess_s = guess_s
        self.held = 0
        """Turns that have not ended."""
        self.meters: tuple[Meter, ...] = ()
        self.parked_at: Meter | None = None
        self.tag = 0.0
        self.entry = 0
        """Number of its valid entry in the queue's heap, or in that of ``parked_at``; 0: none."""
        self.waiting = 0
        """Its clients that wait."""
        self._line: list[Place] = []
        """They, as they came, from ``_first`` on; and some who have left."""
        self._first = 0

    def enter(self, place: Place) -> None:
        """One more waits."""
        self._line.append(place)
        self.waiting += 1

    def first(self) -> Place:
        """Who came first; somebody waits."""
        line = self._line
        while line[self._first].waiter is None:
            self._first += 1
        return line[self._first]

    def left(self, place: Place) -> None:
        """One waits no more."""
        place.waiter = None
        self.waiting -= 1
        if not self.waiting:
            self._line = []
            self._first = 0
        elif len(self._line) > 2 * self.waiting + _GONE_MAX:
            self._line = [one for one in self._line if one.waiter is not None]
            self._first = 0


class Turn:
    """A server that an account holds."""

    __slots__ = ("account", "guess_s", "meters", "since", "tenant")

    def __init__(
        self,
        tenant: Tenant,
        account: Account | None,
        meters: tuple[Meter, ...],
        guess_s: float,
        since: float,
    ) -> None:
        self.tenant = tenant
        self.account = account
        self.meters = meters
        self.guess_s = guess_s
        self.since = since


class FairQueue:
    """Clients that wait, by owner. Seconds are those of one clock, which never goes back."""

    __slots__ = (
        "_accounts",
        "_entries",
        "_guess_s",
        "_heap",
        "_idle",
        "_meters",
        "_own_timeouts",
        "_seen_s",
        "_shared",
        "contended_since",
        "everybody",
        "others_of",
        "owners_waiting",
        "places",
        "ready",
        "virtual",
    )

    def __init__(self) -> None:
        self.places: dict[Waiter, Place] = {}
        """Everybody who waits, as they came."""
        self.owners_waiting = 0
        """Owners with clients in the queue."""
        self.ready = 0
        """How many of them no bound of their own keeps back."""
        self.contended_since = 0.0
        """Since when somebody is ready, if anybody is."""
        self.virtual = 0.0
        self.everybody: Meter | None = None
        """All that are not operators, where operators have servers of their own."""
        self.others_of: Callable[[str], Others] | None = None
        """For a bound's name, where several workers share it."""
        self._accounts: dict[Hashable, Account] = {}
        self._meters: WeakValueDictionary[str, Meter] = WeakValueDictionary()
        self._heap: list[tuple[float, int, Account]] = []
        self._idle: list[tuple[float, int, Account]] = []
        self._entries = 0
        self._guess_s = _FIRST_GUESS_S
        self._own_timeouts: dict[Waiter, float] = {}
        self._seen_s = 0.0
        self._shared: list[Meter] = []
        """Bounds of all workers that somebody is kept back by here, or lately was."""

    # --- figures ---

    def __len__(self) -> int:
        return len(self.places)

    @property
    def accounts(self) -> int:
        """Owners that something is known of."""
        return len(self._accounts)

    # --- who waits ---

    def add(self, waiter: Waiter, tenant: Tenant, now: float, room: int) -> None:
        """Wait; ``room`` places are left in the queue. Raises PoolExhausted.

        Nobody gets the last places of a queue that is full of his own clients.
        """
        self._seen_s = now
        account = self._account(tenant)
        own = 0 if tenant is NOBODY else account.waiting
        if room <= 0 or own >= _QUEUE_PART * room:
            self._forget_if_idle(account)
            raise _full(len(self.places), tenant, own if room > 0 else 0)
        if not account.waiting:
            self.owners_waiting += 1
            account.meters = self._meters_of(tenant)
        place = self.places[waiter] = Place(waiter, account, tenant, now)
        account.enter(place)
        if tenant.queue_timeout_s is not None:
            self._own_timeouts[waiter] = tenant.queue_timeout_s
        if account.parked_at is None:
            if not self.ready:
                self.contended_since = now
            self.ready += 1
            if not account.entry:
                self._place(account)

    def leave(self, waiter: Waiter) -> bool:
        """Stop waiting; False when it did not wait."""
        place = self.places.get(waiter)
        if place is None:
            return False
        account = place.account
        self._left(place)
        if not account.waiting:
            self._withdraw(account)
        return True

    def clear(self) -> list[Waiter]:
        """Everybody leaves; who it was, as they came."""
        waiters = list(self.places)
        for waiter in waiters:
            self.leave(waiter)
        return waiters

    def overdue(self, before: float) -> list[Waiter]:
        """Who came at ``before`` or earlier; they leave."""
        late: list[Waiter] = []
        for waiter, place in self.places.items():
            if place.since > before:
                break
            late.append(waiter)
        for waiter in late:
            self.leave(waiter)
        return late

    def expired(self, timeout_s: float, now: float) -> list[tuple[Waiter, float]]:
        """Who has waited for ``timeout_s``, or for a time of its own, and for how long it might;
        they leave."""
        late: list[tuple[Waiter, float]] = []
        for waiter, place in self.places.items():
            if place.since > now - timeout_s:
                break
            if waiter not in self._own_timeouts:
                late.append((waiter, timeout_s))
        for waiter, own_s in self._own_timeouts.items():
            if now - self.places[waiter].since >= own_s:
                late.append((waiter, own_s))
        for waiter, _ in late:
            self.leave(waiter)
        return late

    def _left(self, place: Place) -> None:
        """Somebody is out of the line, for whatever reason."""
        account = place.account
        del self.places[place.waiter]
        if self._own_timeouts:
            self._own_timeouts.pop(place.waiter, None)
        if account.parked_at is None:
            self.ready -= 1
        account.left(place)
        if not account.waiting:
            self.owners_waiting -= 1

    def _withdraw(self, account: Account) -> None:
        """Nobody of the account waits any more: others that were kept back may have its chance."""
        account.entry = 0
        if account.parked_at is not None:
            account.parked_at.keep(-1)
            account.parked_at = None
        for meter in account.meters:
            self._unpark(meter)
        self._forget_if_idle(account)

    # --- turns ---

    def begin(self, tenant: Tenant, now: float) -> Turn | None:
        """A turn without waiting, for somebody with bounds; None when one of them is reached."""
        meters = self._meters_of(tenant)
        if _first_full(meters) is not None or _take(meters) is not None:
            return None
        return Turn(tenant, None, meters, 0.0, now)

    def first(self, now: float) -> Waiter | None:
        """Whose turn it is, who goes on waiting; None when nobody is ready."""
        account = self._first(now)
        return None if account is None else account.first().waiter

    def next(self, now: float) -> tuple[Waiter, float, Turn] | None:
        """Whose turn it is, since when they wait, and the turn; None when nobody is ready."""
        while (account := self._first(now)) is not None:
            served = self._try(account, now)
            if served is not None:
                return served
        return None

    def follow(self, waiter: Waiter, now: float) -> tuple[Waiter, float, Turn] | None:
        """The same for whom `first` has just named; None where another worker was quicker."""
        account = self.places[waiter].account
        assert self._heap[0][1] == account.entry
        return self._try(account, now)

    def _try(self, account: Account, now: float) -> tuple[Waiter, float, Turn] | None:
        """The turn of the first account, unless a bound of all workers refuses it by now."""
        refusing = _take(account.meters) if account.meters else None
        if refusing is None:
            return self._serve(account, now)
        heappop(self._heap)
        account.entry = 0
        self._park(account, refusing)
        return None

    def _first(self, now: float) -> Account | None:
        """Whose turn it is; its entry is the first in the heap then."""
        self._seen_s = now
        heap = self._heap
        while heap:
            tag, entry, account = heap[0]
            if entry != account.entry:
                heappop(heap)
                continue
            full = _first_full(account.meters) if account.meters else None
            if full is None and (tag >= account.finish or len(heap) == 1):
                return account
            heappop(heap)
            account.entry = 0
            if full is not None:
                self._park(account, full)
            else:
                self._place(account)  # it has been charged more since
        return None

    def _serve(self, account: Account, now: float) -> tuple[Waiter, float, Turn]:
        place = account.first()
        waiter = place.waiter
        self._left(place)
        if account.tag > self.virtual:
            self.virtual = account.tag
        guess_s = account.guess_s
        account.finish = self._paid(account) + guess_s / account.weight
        account.held += 1
        if account.waiting and len(self._heap) == 1:
            account.tag = max(self.virtual, account.finish)  # its entry stays: nobody is beside it
        else:
            heappop(self._heap)
            account.entry = 0
            if account.waiting:
                self._place(account)
        if self._idle:
            self._forget_idle()
        turn = Turn(place.tenant, account, account.meters, guess_s, now)
        return waiter, place.since, turn

    def end(self, held: Turn | Tenant, now: float) -> None:
        """A server came free that was held by a turn, or had been had without waiting."""
        self._seen_s = now
        if isinstance(held, Tenant):
            self._charge_late(held, 0.0, now)
            return
        turn = held
        for meter in turn.meters:
            meter.give()
            self._unpark(meter)
        account = turn.account
        if account is None:
            self._charge_late(turn.tenant, turn.since, now)
            return
        took_s = max(0.0, now - turn.since)
        account.held -= 1
        account.finish += (took_s - turn.guess_s) / account.weight
        account.guess_s += _LATEST * (took_s - account.guess_s)
        self._guess_s += _LATEST * (took_s - self._guess_s)
        if account.waiting:
            self._advance(account)
        elif not account.held:
            self._forget_if_idle(account)

    def _advance(self, account: Account) -> None:
        """Who was charged too much has its turn sooner; who has others beside it, that is."""
        if account.finish < account.tag and account.tag > self.virtual and len(self._heap) > 1:
            self._place(account)

    def _charge_late(self, tenant: Tenant, since: float, now: float) -> None:
        """Of a server that was had while nobody waited, the time since somebody does."""
        if not self.ready or tenant is NOBODY:
            return
        account = self._account(tenant)
        took_s = max(0.0, now - max(since, self.contended_since))
        account.finish = self._paid(account) + took_s / account.weight
        self._forget_if_idle(account)

    def rest(self, now: float, servers: int) -> None:
        """Time passes. While nobody waits, virtual time runs as if one owner had all servers."""
        if not self.ready:
            self.virtual += max(0.0, now - self._seen_s) * servers
            self._forget_idle()
        self._seen_s = now

    def _paid(self, account: Account) -> float:
        """Up to when an account has paid: what it did not use is saved up to a bound."""
        return max(self.virtual - _CREDIT_S, account.finish)

    # --- accounts ---

    def _account(self, tenant: Tenant) -> Account:
        """Who pays. Clients that other bounds hold for than for the owner's others stand apart."""
        key: Hashable = tenant.key
        if tenant.bounds or tenant.operator:
            key = (tenant.key, tenant.bounds, tenant.operator)
        account = self._accounts.get(key)
        if account is None:
            account = self._accounts[key] = Account(key, self._guess_s)
        account.weight = tenant.weight
        return account

    def _place(self, account: Account) -> None:
        """Into the heap, where it belongs now; an older entry counts no more."""
        self._entries += 1
        account.entry = self._entries
        account.tag = max(self.virtual, account.finish)
        heap = self._heap if account.parked_at is None else account.parked_at.parked
        heappush(heap, (account.tag, account.entry, account))

    def _forget_if_idle(self, account: Account) -> None:
        if account.held or account.waiting:
            return
        if account.finish <= self.virtual - _CREDIT_S:
            self._forget(account)
        else:
            self._entries += 1
            heappush(self._idle, (account.finish, self._entries, account))

    def _forget_idle(self) -> None:
        """Drop those who have paid for all they used."""
        floor = self.virtual - _CREDIT_S
        while self._idle and self._idle[0][0] <= floor:
            _, _, account = heappop(self._idle)
            paid = account.finish <= floor
            if paid and not account.held and not account.waiting:
                self._forget(account)

    def _forget(self, account: Account) -> None:
        if self._accounts.get(account.key) is account:
            del self._accounts[account.key]

    # --- bounds ---

    def _meters_of(self, tenant: Tenant) -> tuple[Meter, ...]:
        own: tuple[Meter, ...] = ()
        if tenant.bounds:
            own = tuple(self._meter(name, maximum) for name, maximum in tenant.bounds)
        if self.everybody is None or tenant.operator:
            return own
        return (*own, self.everybody)

    def _meter(self, name: str, maximum: int) -> Meter:
        meter = self._meters.get(name)
        if meter is None:
            others = None if self.others_of is None else self.others_of(name)
            meter = self._meters[name] = Meter(maximum, others)
        elif meter.maximum != maximum:
            self.rebound(meter, maximum)
        return meter

    def rebound(self, meter: Meter, maximum: int) -> None:
        """A bound has changed."""
        meter.maximum = maximum
        for _ in range(min(maximum - meter.held, len(meter.parked))):
            self._unpark(meter)

    def _park(self, account: Account, meter: Meter) -> None:
        """Keep an account back until ``meter`` has room; another's chance is not lost by that."""
        account.parked_at = meter
        if meter.others is not None and not meter.kept:
            self._shared.append(meter)
        meter.keep(1)
        self._place(account)
        self.ready -= account.waiting
        for other in account.meters:
            if other is not meter:
                self._unpark(other)

    def look_again(self) -> bool:
        """Other workers may have left room; whether somebody is kept back by a bound of all.

        Whoever asks for it at regular times, in each worker, has his chance where all want more
        than their part.
        """
        self._shared = [meter for meter in self._shared if meter.kept]
        for meter in self._shared:
            meter.chance = True
            self._unpark(meter)
        return bool(self._shared)

    def _unpark(self, meter: Meter) -> None:
        """Let the first that ``meter`` keeps back try again, if there is room."""
        while meter.parked and not meter.full:
            _, entry, account = heappop(meter.parked)
            if entry != account.entry:
                continue
            account.parked_at = None
            meter.keep(-1)
            if not self.ready:
                self.contended_since = self._seen_s
            self.ready += account.waiting
            self._place(account)
            return


def _first_full(meters: tuple[Meter, ...]) -> Meter | None:
    """The first of some bounds that is reached."""
    return next((meter for meter in meters if meter.full), None)


def _take(meters: tuple[Meter, ...]) -> Meter | None:
    """One more under all of some bounds; the one that refused, and nothing is taken then."""
    for at, meter in enumerate(meters):
        if not meter.take():
            for taken in meters[:at]:
                taken.give()
            return meter
    return None


def _full(waiting: int, tenant: Tenant, own: int) -> PoolExhausted:
    hint = "Raise pool.max or pool.queue_max, or send less at a time."
    if own:
        whose = f'"{tenant.key}"' if tenant.key else "the gateway"
        return PoolExhausted(
            f"too many clients of {whose} wait for a database connection ({own})", hint=hint
        )
    return PoolExhausted(f"too many clients wait for a database connection ({waiting})", hint=hint)
