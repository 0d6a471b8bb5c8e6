"""Clients whose statements wait for the end of a pause, bounded in number and in time.

None of what waits here has been sent. When a pause ends they go on in the order in which they came,
no more at a time than the queues of their pools have room for. No I/O and no clock of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

from gateway.clock import Clock
from gateway.errors import GatewayError, Paused
from gateway.router.topology import Shard
from gateway.session.standing import Instruction, Kind, Scope, Standing
from gateway.settings.model import Pause

_HINT = "Try again when the maintenance is over; the console's SHOW PAUSES says until when."


class Parked(Protocol):
    """Whoever waits. Called at most once per wait."""

    def try_again(self) -> None:
        """Find the way anew."""

    def turned_away(self, error: GatewayError) -> None:
        """There is no waiting any longer."""


@dataclass(frozen=True, slots=True)
class _Place:
    """What somebody waits for, and since when."""

    shards: tuple[Shard, ...]
    owners: frozenset[str]
    since: float


class Pauses:
    """The instructions in force, and who waits because of them.

    ``has_room`` says whether the pools of a shard can take more who wait for a server.
    """

    __slots__ = (
        "_carried_out",
        "_clock",
        "_has_room",
        "_parked",
        "_releasing",
        "heard",
        "known",
        "refusals",
        "settings",
        "standing",
        "taken",
    )

    def __init__(self, settings: Pause, clock: Clock, has_room: Callable[[Shard], bool]) -> None:
        self.settings = settings
        self.standing = Standing()
        self.heard = 0
        """The newest order of all gateways that is followed here."""
        self.known = False
        """Whether it is known what stood on the notice board when we came."""
        self._carried_out: set[int] = set()
        """Orders of all gateways that arrived before they were read on the notice board."""
        self._clock = clock
        self._has_room = has_room
        self._parked: dict[Parked, _Place] = {}
        self._releasing = False
        """Some may be parked whom no pause covers any more."""
        self.refusals = 0
        """Clients that were told the error, for they had waited too long or were too many."""
        self.taken = 0
        """Clients that waited, whatever became of it."""

    def __len__(self) -> int:
        return len(self._parked)

    def cover(self, shards: Sequence[Shard], owners: Collection[str] = ()) -> bool:
        """Whether such work has to wait now."""
        return self.standing.pauses_work(shards, owners)

    def park(self, client: Parked, shards: Sequence[Shard], owners: Collection[str] = ()) -> None:
        """The client waits from now on, behind all others. Raises Paused when they are too many."""
        if len(self._parked) >= self.settings.hold_clients_max:
            self.refusals += 1
            names = _names(shards, owners)
            raise Paused(f"too many clients wait for the end of a pause of {names}", hint=_HINT)
        self.taken += 1
        self._parked[client] = _Place(tuple(shards), frozenset(owners), self._clock())

    def leave(self, client: Parked) -> None:
        """It waits no more."""
        if self._parked:
            self._parked.pop(client, None)

    def first_time(self, number: int) -> bool:
        """Whether an order is new here: our own gateway's come by two ways."""
        if not number:
            return True
        if number <= self.heard or number in self._carried_out:
            return False
        self._carried_out.add(number)
        return True

    def heard_all(self, number: int) -> None:
        """Every order up to this one is followed."""
        self.heard = max(self.heard, number)
        self._carried_out = {one for one in self._carried_out if one > self.heard}

    def orders(self) -> list[Instruction]:
        """The instructions in force now."""
        return self.standing.instructions(self._clock())

    def waiting(self, scope: Scope) -> tuple[int, float]:
        """How many wait for the end of a pause, and for how many seconds the first of them has."""
        since = [
            place.since
            for place in self._parked.values()
            if (scope.kind is Kind.OWNER and scope.name in place.owners)
            or any(scope.covers(shard) for shard in place.shards)
        ]
        return len(since), self._clock() - since[0] if since else 0.0

    def changed(self) -> None:
        """Other pauses are in force: who need not wait any more goes on."""
        self._releasing = True
        self._release()

    def close(self, error: GatewayError) -> None:
        """The gateway is being stopped: nobody waits for the end of a pause any more."""
        parked, self._parked = list(self._parked), {}
        for client in parked:
            client.turned_away(error)

    def tick(self) -> list[Scope]:
        """What time does; the pauses that ended by themselves."""
        now = self._clock()
        ended = self.standing.expire(now) if self.standing.pauses else []
        if ended:
            self._releasing = True
        if self._parked:
            self._turn_away(now - self.settings.hold_ms_max / 1000)
            self._release()
        return ended

    def _turn_away(self, before: float) -> None:
        for client, place in list(self._parked.items()):
            if place.since > before:
                return
            del self._parked[client]
            self.refusals += 1
            client.turned_away(
                Paused(
                    "a pause lasts longer than a statement may wait:"
                    f" {_names(place.shards, place.owners)}",
                    detail=f"pause.hold_ms_max is {self.settings.hold_ms_max}.",
                    hint=_HINT,
                )
            )

    def _release(self) -> None:
        """Let those go on whom no pause covers, as far as their pools have room."""
        if not self._releasing:
            return
        full: set[str] = set()
        for client, place in list(self._parked.items()):
            if self.cover(place.shards, place.owners) or client not in self._parked:
                continue
            names = {shard.name for shard in place.shards}
            if names & full or not all(map(self._has_room, place.shards)):
                full |= names  # nobody behind it goes first
                continue
            del self._parked[client]
            client.try_again()
        self._releasing = bool(full)


class Passage:
    """A coroutine's way past a pause."""

    def __init__(self, pauses: Pauses) -> None:
        self._pauses = pauses
        self._passed: asyncio.Future[None] | None = None

    async def wait(self, shards: Sequence[Shard], owners: Collection[str] = ()) -> None:
        """Returns once none of the shards and owners is paused. Raises Paused."""
        while self._pauses.cover(shards, owners):
            self._passed = asyncio.get_running_loop().create_future()
            self._pauses.park(self, shards, owners)
            try:
                await self._passed
            finally:
                self._pauses.leave(self)

    def try_again(self) -> None:
        if self._passed is not None and not self._passed.done():
            self._passed.set_result(None)

    def turned_away(self, error: GatewayError) -> None:
        if self._passed is not None and not self._passed.done():
            self._passed.set_exception(error)


def _names(shards: Sequence[Shard], owners: Collection[str]) -> str:
    return ", ".join([*(shard.name for shard in shards), *(f"owner {one}" for one in owners)])
