"""LISTENs of a session that moves to another process: who hears what, without a gap.

The successor listens before the session parts. A marker that the shared listeners of both processes
hear draws the line: what came before it the client is told by the one, what comes after it is kept
by the other until the client has arrived there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

from gateway.errors import GatewayError
from gateway.pool.listening import Listening
from gateway.pool.pool import Pool
from gateway.session.context import Context
from gateway.session.listens import Listens
from gateway.session.standing import endpoints

_LINE_S = 4.0
"""Longest time until both have heard a marker: the client waits for it."""
_BEGIN_S = 3.0
"""Longest time until the successor has."""
_KEPT_MAX_BYTES = 8 * 1024 * 1024

Told = Mapping[str, Any]


class Refused(Exception):
    """The successor can't hear this, now at least."""


class Successor(Protocol):
    """The process that sessions move to."""

    async def give(self, told: Told) -> None:
        """Have it do something. Raises OSError when it has gone, Refused."""


class Spot(NamedTuple):
    """Which pool's notifications: a database of an endpoint, and the role that listens."""

    host: str
    port: int
    database: str
    user: str

    @classmethod
    def of(cls, pool: Pool) -> Spot:
        """Where a pool is."""
        return cls(*pool.dsn.address, pool.dsn.user)

    def pool(self, context: Context) -> Pool:
        """The same here. Raises ValueError where there is none."""
        address = (self.host, self.port, self.database)
        for endpoint in endpoints(context.snapshot):
            for operator in (False, True) if endpoint.address == address else ():
                pool = context.pools.get(endpoint, operator=operator)
                if pool.dsn.user == self.user:
                    return pool
        raise ValueError(f"no pool of {self.user} at {self.host}:{self.port}/{self.database}")


class HandingOn:
    """The end that a session leaves."""

    def __init__(self, successor: Successor) -> None:
        self._successor = successor
        self._heard: set[Spot] = set()
        """Where the successor listens already."""
        self._asked: dict[Spot, asyncio.Task[None]] = {}

    def ready(self, listens: Listens) -> bool:
        """Whether the successor has a connection to listen on; if not it is asked to get one."""
        if listens.listening is None:
            return True
        spot = Spot.of(listens.listening.pool)
        if spot not in self._heard and spot not in self._asked:
            self._asked[spot] = asyncio.ensure_future(self._ask(spot))
        return spot in self._heard

    async def _ask(self, spot: Spot) -> None:
        try:
            await self._successor.give({"what": "listener", "spot": spot})
            self._heard.add(spot)
        except (Refused, OSError):
            pass  # it connects yet; we look again
        finally:
            del self._asked[spot]

    async def draw_line(self, number: int, listens: Listens) -> None:
        """The successor hears the channels of session ``number`` from now on, and nobody here.

        Raises Refused, OSError, GatewayError; then the session stays, and hears all itself.
        """
        listening = listens.listening
        if listening is None or not listens.channels:
            return
        spot, channels = Spot.of(listening.pool), frozenset(listens.channels)
        marker = listening.new_marker()
        told = {
            "what": "line",
            "spot": spot,
            "number": number,
            "channels": [channel.hex() for channel in channels],
            "marker": marker.hex(),
        }
        try:
            async with asyncio.timeout(_LINE_S):
                ended = await listening.end_at(listens, channels, marker)
                await self._successor.give(told)
                await ended
        except (Refused, OSError, GatewayError, TimeoutError) as error:
            self._heard.discard(spot)
            heard_at = listens.listening or listening  # a reload or failover may have moved it
            heard_at.rejoin(listens, channels & listens.channels)  # it may have left meanwhile
            listening.forget_marker(marker)
            if isinstance(error, TimeoutError):
                raise Refused("the line was not drawn in time") from None
            raise


class Absent:
    """Hears what is for a session that has not arrived yet."""

    def __init__(self, listening: Listening, channels: frozenset[bytes]) -> None:
        self._listening = listening
        self._channels = channels
        self._heard: list[tuple[int, bytes, bytes]] = []
        self._kept_bytes = 0
        self._missed = False

    async def begin(self, marker: bytes) -> None:
        """Hear all that follows the marker, which is sent now.

        Raises GatewayError, TimeoutError.
        """
        began = asyncio.Event()
        try:
            async with asyncio.timeout(_BEGIN_S):
                await self._listening.draw_line(self, self._channels, marker, began.set)
                await began.wait()
        except BaseException:
            self._listening.give_up_line(self, self._channels, marker)
            raise

    def drop(self) -> None:
        """Nobody comes any more."""
        for channel in self._channels:
            self._listening.unsubscribe(self, channel)

    def arrive(self, listens: Listens) -> None:
        """The session is there, and hears itself from now on."""
        listens.moved(self._listening, self._channels)
        for channel in self._channels:
            self._listening.replace(channel, self, listens)
        for heard in self._heard:
            listens.notified(*heard)
        if self._missed:
            listens.notifications_missed()

    # --- Subscriber ---

    def notified(self, pid: int, channel: bytes, payload: bytes) -> None:
        self._kept_bytes += len(payload)
        if self._kept_bytes > _KEPT_MAX_BYTES:
            self._missed = True
            self._heard.clear()
        else:
            self._heard.append((pid, channel, payload))

    def all_notified(self) -> None:
        """They wait for the session."""

    def notifications_missed(self) -> None:
        self._missed = True

    def heard_at(self, listening: Listening) -> None:
        self._listening = listening


class Arriving:
    """The end that sessions come to."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._absent: dict[int, Absent] = {}
        self._connecting: dict[Spot, asyncio.Task[None]] = {}
        self._used: dict[Spot, Listening] = {}

    async def listener(self, told: Told) -> None:
        """Have a connection to listen on. Raises Refused while there is none, ValueError."""
        spot = Spot(*told["spot"])
        listening = self._used[spot] = self._listening(spot)
        if listening.pid is not None:
            return
        if spot not in self._connecting:
            self._connecting[spot] = asyncio.ensure_future(self._connect(spot, listening))
        raise Refused("it connects yet")

    async def _connect(self, spot: Spot, listening: Listening) -> None:
        try:
            await listening.connect()
        except GatewayError:
            pass  # the predecessor asks again
        finally:
            del self._connecting[spot]

    async def line(self, told: Told) -> None:
        """Hear for a session that comes soon. Raises Refused when that can't be, ValueError."""
        number = told["number"]
        channels = frozenset(map(bytes.fromhex, told["channels"]))
        before = self._absent.pop(number, None)
        if before is not None:
            before.drop()
        absent = Absent(self._listening(Spot(*told["spot"])), channels)
        try:
            await absent.begin(bytes.fromhex(told["marker"]))
        except (GatewayError, TimeoutError) as error:
            raise Refused(f"it does not listen: {error!r}") from None
        self._absent[number] = absent

    def arrived(self, number: int, listens: Listens) -> bool:
        """The session is there; whether somebody has heard for it."""
        absent = self._absent.pop(number, None)
        if absent is not None:
            absent.arrive(listens)
        return absent is not None

    def close(self) -> None:
        """Nobody comes any more."""
        for task in self._connecting.values():
            task.cancel()
        for absent in self._absent.values():
            absent.drop()
        self._absent.clear()
        for listening in self._used.values():
            listening.rest()

    def _listening(self, spot: Spot) -> Listening:
        """Raises ValueError where there is no such pool."""
        return self._context.pools.listening(spot.pool(self._context))


class Heard(NamedTuple):
    """What a session listens to."""

    listening: Listening
    channels: frozenset[bytes]

    def rejoin(self, listens: Listens) -> None:
        """Nobody has heard for the session: it hears again, and is told of the gap."""
        listens.moved(self.listening, self.channels)
        self.listening.rejoin(listens, self.channels)


def pack(listens: Listens) -> Told | None:
    """What a session listens to, as JSON carries it; None for nothing."""
    listening = listens.listening
    if listening is None or not listens.channels:
        return None
    channels = [channel.hex() for channel in sorted(listens.channels)]
    return {"spot": Spot.of(listening.pool), "channels": channels}


def unpack(told: Told | None, context: Context) -> Heard | None:
    """What `pack` has told of. Raises ValueError when it can't be heard here."""
    if told is None:
        return None
    listening = context.pools.listening(Spot(*told["spot"]).pool(context))
    return Heard(listening, frozenset(map(bytes.fromhex, told["channels"])))
