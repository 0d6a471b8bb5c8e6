"""News of changes in the meta database: LISTEN on a connection of its own, always mended.

The triggers that provisioning installs send NOTIFY, which PostgreSQL delivers after the commit
(documentation, "NOTIFY"). Whenever news may have been missed, that is told too.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Mapping
from enum import StrEnum
from types import MappingProxyType

import asyncpg

from gateway.directory.meta import describe
from gateway.net.backoff import Backoff

logger = logging.getLogger(__name__)

CHANNEL = "gateway_invalidate"

# Asks the very session whether it listens: a pooler that put us elsewhere is found out as well.
_STILL_LISTENING = "SELECT $1 IN (SELECT pg_catalog.pg_listening_channels())"


class Kind(StrEnum):
    """What an invalidation is about."""

    LOGIN = "login"
    OWNER = "owner"
    ALL = "all"


def parse_payload(payload: str) -> tuple[Kind, str]:
    """``login:NAME``, ``owner:ID`` or ``all`` as (kind, key); what isn't understood means all."""
    kind, _, key = payload.partition(":")
    if key and kind in (Kind.LOGIN.value, Kind.OWNER.value):
        return Kind(kind), key
    if payload != Kind.ALL.value:
        logger.warning("invalidation not understood, all answers are dropped: %.100r", payload)
    return Kind.ALL, ""


class InvalidationListener:
    """Keeps one connection listening. Callbacks run on the event loop and must not raise.

    ``on_invalidate(kind, key)`` for each notification; ``on_gap()`` whenever some may have been
    missed: when the connection is lost, and again once the next one listens. A dead peer is noticed
    after ``keepalive_s`` plus ``timeout_s`` at the latest. ``others`` take the payloads of further
    channels.
    """

    def __init__(
        self,
        connect: Callable[[], Awaitable[asyncpg.Connection[asyncpg.Record]]],
        on_invalidate: Callable[[Kind, str], None],
        on_gap: Callable[[], None],
        *,
        timeout_s: float,
        keepalive_s: float = 5.0,
        others: Mapping[str, Callable[[str], None]] = MappingProxyType({}),
    ) -> None:
        self._connect = connect
        self._on_invalidate = on_invalidate
        self._on_gap = on_gap
        self._timeout_s = timeout_s
        self._keepalive_s = keepalive_s
        self._others = others
        self._backoff = Backoff(0.05, 5.0)
        self._task: asyncio.Task[None] | None = None
        self._failing = False
        self.connected = False
        self.connects = 0
        self.notifications = 0

    def start(self) -> None:
        """Begin, and go on until ``close``."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def close(self) -> None:
        """Stop listening."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def _run(self) -> None:
        while True:
            try:
                await self._listen()
            except Exception as error:  # whatever it is, we must listen again
                self._failed(error)
            await asyncio.sleep(self._backoff.next_s())

    async def _listen(self) -> None:
        """One connection, from its opening to its loss."""
        connection = await self._connect()
        lost = asyncio.Event()
        connection.add_termination_listener(lambda _connection: lost.set())
        try:
            async with asyncio.timeout(self._timeout_s):
                await connection.add_listener(CHANNEL, self._notified)
                for channel in self._others:
                    await connection.add_listener(channel, self._told)
            self._listening()
            while not await _set_within(lost, self._keepalive_s):
                await self._check(connection)
                self._backoff.reset()
            raise ConnectionResetError("the connection was closed")
        finally:
            connection.terminate()
            self._lost()

    def _listening(self) -> None:
        logger.info("meta database: listening for changes")
        self._failing = False
        self.connects += 1
        self.connected = True
        self._on_gap()

    def _lost(self) -> None:
        if self.connected:
            self.connected = False
            self._on_gap()

    def _failed(self, error: Exception) -> None:
        """One log line when it turns bad, not one for each attempt."""
        if not self._failing:
            self._failing = True
            logger.warning("meta database: not listening for changes: %s", describe(error))

    async def _check(self, connection: asyncpg.Connection[asyncpg.Record]) -> None:
        async with asyncio.timeout(self._timeout_s):
            if not await connection.fetchval(_STILL_LISTENING, CHANNEL):
                raise ConnectionResetError("the session no longer listens")

    def _notified(self, _connection: object, _pid: int, _channel: str, payload: object) -> None:
        self.notifications += 1
        self._on_invalidate(*parse_payload(str(payload)))

    def _told(self, _connection: object, _pid: int, channel: str, payload: object) -> None:
        self._others[channel](str(payload))


async def _set_within(event: asyncio.Event, seconds: float) -> bool:
    """True as soon as ``event`` is set, False after ``seconds`` without it."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return False
    return True
