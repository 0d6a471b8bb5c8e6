"""What operators have ordered that stays so: pauses, drained endpoints, disabled databases. Pure.

Every worker has the same, and so has their supervisor, for workers that come later. What all
gateways are to follow has a number, and stands on the notice board (gateway/directory/board.py).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from gateway.router.topology import Endpoint, Shard, Snapshot

Address = tuple[str, int, str]


class Kind(StrEnum):
    """What an instruction is about."""

    ALL = "all"
    SHARD = "database"
    INDUSTRY = "industry"
    OWNER = "owner"
    ENDPOINT = "endpoint"
    CLIENT = "client"
    GATEWAY = "gateway"


@dataclass(frozen=True, slots=True)
class Scope:
    """A part of the gateway: one thing of a kind by its name, or all."""

    kind: Kind
    name: str = ""

    def covers(self, shard: Shard, owners: Collection[str] = ()) -> bool:
        """Whether work of these owners in this shard is part of it."""
        return _COVERS[self.kind](self.name, shard, owners)

    def __str__(self) -> str:
        return f"{self.kind} {self.name}" if self.name else "everything"


_COVERS: dict[Kind, Callable[[str, Shard, Collection[str]], bool]] = {
    Kind.ALL: lambda name, shard, owners: True,
    Kind.SHARD: lambda name, shard, owners: shard.name == name,
    Kind.INDUSTRY: lambda name, shard, owners: shard.industry == name,
    Kind.OWNER: lambda name, shard, owners: name in owners,
    Kind.ENDPOINT: lambda name, shard, owners: False,
    Kind.CLIENT: lambda name, shard, owners: False,
    Kind.GATEWAY: lambda name, shard, owners: False,
}


class Deed(StrEnum):
    """What is to be done."""

    PAUSE = "pause"
    RESUME = "resume"
    GIVE_UP = "give up"
    """A pause that could not be had: the end of that one and no other."""
    DRAIN = "drain"
    UNDRAIN = "undrain"
    DISABLE = "disable"
    ENABLE = "enable"
    RECONNECT = "reconnect"
    KILL = "kill"
    RUNNING = "running"
    """Nothing; who still runs something there is asked for."""


@dataclass(frozen=True, slots=True)
class Instruction:
    """One order for every worker. ``ends_at`` is on the machine's monotonic clock; 0: never."""

    deed: Deed
    scope: Scope
    ends_at: float = 0.0
    gateway: str = ""
    """On whose console it was given."""
    number: int = 0
    """Among those of all gateways; 0 for one that concerns only ours."""

    def plain(self) -> list[Any]:
        """As JSON carries it."""
        scope = self.scope
        return [self.deed, scope.kind, scope.name, self.ends_at, self.gateway, self.number]

    @classmethod
    def of(cls, plain: Iterable[Any]) -> Instruction:
        """What `plain` wrote, in this version or in one before. Raises ValueError."""
        deed, kind, name, ends_at, *rest = plain
        return cls(Deed(deed), Scope(Kind(kind), name), ends_at, *rest)


ENDS = {
    Deed.PAUSE: Deed.PAUSE,
    Deed.RESUME: Deed.PAUSE,
    Deed.GIVE_UP: Deed.PAUSE,
    Deed.DRAIN: Deed.DRAIN,
    Deed.UNDRAIN: Deed.DRAIN,
    Deed.DISABLE: Deed.DISABLE,
    Deed.ENABLE: Deed.DISABLE,
}
"""What each deed takes the place of, if the scope is the same. What stands replaces itself."""


def ends_all(instruction: Instruction) -> bool:
    """Whether it ends whatever its deed can end, of any scope."""
    return instruction.deed is Deed.RESUME and instruction.scope.kind is Kind.ALL


class Standing:
    """The instructions in force."""

    __slots__ = ("_orders", "disabled", "drained", "pauses")

    def __init__(self, instructions: Iterable[Instruction] = ()) -> None:
        self._orders: dict[tuple[Deed, Scope], Instruction] = {}
        self.pauses: dict[Scope, float] = {}
        """When each of them ends by itself; 0: never."""
        self.drained: set[str] = set()
        """Endpoints that get no new work, by name."""
        self.disabled: set[Scope] = set()
        """Databases and industries that take no new clients."""
        for instruction in instructions:
            self.apply(instruction)

    def apply(self, instruction: Instruction) -> None:
        """What it changes here; some deeds leave nothing behind."""
        deed, scope = instruction.deed, instruction.scope
        ended = ENDS.get(deed)
        if ended is None:
            return
        if deed is ended:
            self._orders[deed, scope] = instruction
        else:
            everything = ends_all(instruction)
            self._remove(lambda one: one.deed is ended and (everything or one.scope == scope))
        self._sort()

    def keep(self, numbers: Collection[int]) -> bool:
        """Drop the orders of all gateways but these; whether there were any."""
        dropped = self._remove(lambda one: one.number > 0 and one.number not in numbers)
        self._sort()
        return dropped

    def replace(self, instructions: Iterable[Instruction], *, but_shared: bool) -> None:
        """These are in force in place of what was; ``but_shared`` orders of all gateways stay."""
        self._remove(lambda one: not (but_shared and one.number))
        for instruction in instructions:
            if not (but_shared and instruction.number):
                self.apply(instruction)
        self._sort()

    def order(self, deed: Deed, scope: Scope) -> Instruction | None:
        """The one of this kind that is in force."""
        return self._orders.get((deed, scope))

    def instructions(self, now: float) -> list[Instruction]:
        """What to tell somebody who comes later."""
        pauses = [one for one in self._of(Deed.PAUSE) if not _is_over(one.ends_at, now)]
        others = [*self._of(Deed.DRAIN), *self._of(Deed.DISABLE)]
        return [
            *pauses,
            *sorted(others, key=lambda one: (one.deed is Deed.DISABLE, str(one.scope))),
        ]

    def expire(self, now: float) -> list[Scope]:
        """End the pauses whose time is up; which."""
        ended = [scope for scope, ends_at in self.pauses.items() if _is_over(ends_at, now)]
        for scope in ended:
            del self._orders[Deed.PAUSE, scope]
        self._sort()
        return ended

    def pauses_work(self, shards: Iterable[Shard], owners: Collection[str] = ()) -> bool:
        """Whether work of these owners, wherever, or any in these shards, has to wait."""
        if not self.pauses:
            return False
        if any(Scope(Kind.OWNER, owner) in self.pauses for owner in owners):
            return True
        return any(scope.covers(shard) for shard in shards for scope in self.pauses)

    def is_disabled(self, shard: Shard) -> bool:
        """Whether new clients are turned away that would start in this shard."""
        return any(scope.covers(shard) for scope in self.disabled)

    def quiet(self, snapshot: Snapshot, primaries: Iterable[Endpoint]) -> frozenset[Address]:
        """Addresses that get no work at all: all their shards are paused, or they are drained.

        What is a primary now gets its work even if it was drained as a replica.
        """
        busy: set[Address] = set()
        idle: set[Address] = set()
        for shard in snapshot.shards.values():
            places = idle if self.pauses_work((shard,)) else busy
            places.update(endpoint.address for endpoint in (shard.primary, *shard.replicas))
        return frozenset(idle - busy) | self.drained_addresses(snapshot, primaries)

    def drained_addresses(
        self, snapshot: Snapshot, primaries: Iterable[Endpoint]
    ) -> frozenset[Address]:
        """Where drained endpoints are, but for those that are somebody's primary now."""
        if not self.drained:
            return frozenset()
        found = {one.address for one in endpoints(snapshot) if one.name in self.drained}
        return frozenset(found - {primary.address for primary in primaries})

    # --- keeping ---

    def _of(self, deed: Deed) -> list[Instruction]:
        return [one for one in self._orders.values() if one.deed is deed]

    def _remove(self, unwanted: Callable[[Instruction], bool]) -> bool:
        """Whether there were any."""
        before = len(self._orders)
        self._orders = {key: one for key, one in self._orders.items() if not unwanted(one)}
        return len(self._orders) < before

    def _sort(self) -> None:
        """What statements look at, out of the instructions."""
        self.pauses = {one.scope: one.ends_at for one in self._of(Deed.PAUSE)}
        self.drained = {one.scope.name for one in self._of(Deed.DRAIN)}
        self.disabled = {one.scope for one in self._of(Deed.DISABLE)}


def endpoints(snapshot: Snapshot) -> Iterator[Endpoint]:
    """Every endpoint of every shard."""
    for shard in snapshot.shards.values():
        yield from (shard.primary, *shard.replicas)


def _is_over(ends_at: float, now: float) -> bool:
    return 0 < ends_at <= now
