"""What operators have ordered that stays so: pauses, drained endpoints, disabled databases. Pure.

Every worker has the same, and so has their supervisor, for workers that come later.
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
}


class Deed(StrEnum):
    """What is to be done."""

    PAUSE = "pause"
    RESUME = "resume"
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

    def plain(self) -> list[Any]:
        """As JSON carries it."""
        return [self.deed, self.scope.kind, self.scope.name, self.ends_at]

    @classmethod
    def of(cls, plain: Iterable[Any]) -> Instruction:
        """What `plain` wrote. Raises ValueError."""
        deed, kind, name, ends_at = plain
        return cls(Deed(deed), Scope(Kind(kind), name), ends_at)


class Standing:
    """The instructions in force."""

    __slots__ = ("disabled", "drained", "pauses")

    def __init__(self, instructions: Iterable[Instruction] = ()) -> None:
        self.pauses: dict[Scope, float] = {}
        """When each of them ends by itself."""
        self.drained: set[str] = set()
        """Endpoints that get no new work, by name."""
        self.disabled: set[Scope] = set()
        """Databases and industries that take no new clients."""
        for instruction in instructions:
            self.apply(instruction)

    def apply(self, instruction: Instruction) -> None:
        """What it changes here; most deeds leave nothing behind."""
        handler = _APPLY.get(instruction.deed)
        if handler is not None:
            handler(self, instruction)

    def instructions(self, now: float) -> list[Instruction]:
        """What to tell somebody who comes later."""
        pauses = [
            Instruction(Deed.PAUSE, scope, ends_at)
            for scope, ends_at in self.pauses.items()
            if ends_at > now
        ]
        drained = [
            Instruction(Deed.DRAIN, Scope(Kind.ENDPOINT, name)) for name in sorted(self.drained)
        ]
        disabled = [Instruction(Deed.DISABLE, scope) for scope in sorted(self.disabled, key=str)]
        return [*pauses, *drained, *disabled]

    def expire(self, now: float) -> list[Scope]:
        """End the pauses whose time is up; which."""
        ended = [scope for scope, ends_at in self.pauses.items() if ends_at <= now]
        for scope in ended:
            del self.pauses[scope]
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

    # --- what each deed changes ---

    def _pause(self, instruction: Instruction) -> None:
        self.pauses[instruction.scope] = instruction.ends_at

    def _resume(self, instruction: Instruction) -> None:
        if instruction.scope.kind is Kind.ALL:
            self.pauses.clear()
        self.pauses.pop(instruction.scope, None)

    def _drain(self, instruction: Instruction) -> None:
        self.drained.add(instruction.scope.name)

    def _undrain(self, instruction: Instruction) -> None:
        self.drained.discard(instruction.scope.name)

    def _disable(self, instruction: Instruction) -> None:
        self.disabled.add(instruction.scope)

    def _enable(self, instruction: Instruction) -> None:
        self.disabled.discard(instruction.scope)


_APPLY: dict[Deed, Callable[[Standing, Instruction], None]] = {
    Deed.PAUSE: Standing._pause,
    Deed.RESUME: Standing._resume,
    Deed.DRAIN: Standing._drain,
    Deed.UNDRAIN: Standing._undrain,
    Deed.DISABLE: Standing._disable,
    Deed.ENABLE: Standing._enable,
}


def endpoints(snapshot: Snapshot) -> Iterator[Endpoint]:
    """Every endpoint of every shard."""
    for shard in snapshot.shards.values():
        yield from (shard.primary, *shard.replicas)
