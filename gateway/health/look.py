"""One look at one endpoint: asks a PostgreSQL what it is and how far it is, on its own connection.

Any role may ask all of it but the timeline that a standby receives, which takes pg_monitor; without
that, a standby's timeline is known a little later, from its own restart points.
Sources: PostgreSQL documentation, "Recovery Information Functions", "Backup Control Functions",
"Control Data Functions", pg_stat_wal_receiver.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import asyncpg

from gateway.health.lsn import end_of_written
from gateway.net.driver import careful_settings, connect_arguments
from gateway.settings.dsn import Dsn

APPLICATION_NAME = "gateway health"

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

_POSITION = """
    SELECT in_recovery,
           (CASE WHEN in_recovery THEN pg_last_wal_replay_lsn()
                 ELSE pg_current_wal_insert_lsn() END - '0/0')::int8 AS lsn,
           (CASE WHEN in_recovery THEN pg_last_wal_receive_lsn() END - '0/0')::int8 AS received,
           CASE WHEN NOT in_recovery THEN NULL
                WHEN pg_last_wal_receive_lsn() <= pg_last_wal_replay_lsn() THEN 0
                ELSE extract(epoch FROM clock_timestamp() - pg_last_xact_replay_timestamp())
           END::float8 AS delay_s,
           CASE WHEN NOT in_recovery
                THEN pg_walfile_name(pg_current_wal_insert_lsn()) END AS wal_file,
           current_setting('wal_block_size')::int8 AS page_bytes,
           pg_size_bytes(current_setting('wal_segment_size')) AS segment_bytes,
           (SELECT received_tli FROM pg_stat_wal_receiver)::int8 AS received_timeline,
           {control}
      FROM (SELECT pg_is_in_recovery() AS in_recovery) AS role"""

_CONTROL = """
           (SELECT greatest(r.min_recovery_end_timeline, c.timeline_id)
              FROM pg_control_recovery() r, pg_control_checkpoint() c)::int8 AS control_timeline,
           (SELECT system_identifier FROM pg_control_system()) AS system_id"""
_NO_CONTROL = "NULL::int8 AS control_timeline, NULL::int8 AS system_id"

_QUERY = _POSITION.format(control=_CONTROL)
_QUERY_WITHOUT_CONTROL = _POSITION.format(control=_NO_CONTROL)

# asyncpg's ways to say that a connection is no more.
LOST = (
    OSError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    asyncpg.PostgresConnectionError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
)


@dataclass(frozen=True, slots=True)
class Found:
    """What a PostgreSQL says of itself; as `EndpointStatus`, where each is explained."""

    in_recovery: bool
    lsn: int | None
    received_lsn: int | None
    replay_delay_s: float | None
    timeline: int | None
    system_id: int | None


class Looker:
    """Keeps one connection to an endpoint and asks over it. ``on_lost`` hears of its unasked end.

    Not bounded in time by itself: whoever calls ``look`` does that, and calls ``drop`` afterwards.
    """

    def __init__(self, dsn: Dsn, timeout_s: float, on_lost: Callable[[], None]) -> None:
        settings = careful_settings(APPLICATION_NAME, timeout_s)
        self._dsn = dsn
        self._arguments = connect_arguments(dsn, timeout_s, settings)
        self._on_lost = on_lost
        self._connection: Connection | None = None
        self._lookup: asyncio.Task[object] | None = None
        self._query = _QUERY

    async def look(self) -> Found:
        """What the endpoint is now. Raises OSError or asyncpg's errors.

        A connection that was ended meanwhile says nothing about the server: another one is tried.
        """
        if self._connection is not None:
            try:
                return await self._ask(self._connection)
            except LOST:
                self.drop()
        return await self._ask(await self._connect())

    def drop(self) -> None:
        """Ends the connection at once."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.remove_termination_listener(self._ended)
            connection.terminate()

    def close(self) -> None:
        """Ends the connection, and the wait for a name."""
        self.drop()
        if self._lookup is not None:
            self._lookup.cancel()

    async def _connect(self) -> Connection:
        await self._resolve()
        connection: Connection = await asyncpg.connect(**self._arguments)
        connection.add_termination_listener(self._ended)
        self._connection = connection
        self._query = _QUERY  # what a role may ask may have changed
        return connection

    async def _resolve(self) -> None:
        """Waits for the host's name to be found, first and once.

        A look-up that hangs holds a thread; the next look waits for the same one.
        """
        if self._dsn.host.startswith("/"):
            return
        if self._lookup is None or self._lookup.done():
            self._lookup = asyncio.ensure_future(_resolved(self._dsn.host, self._dsn.port))
            self._lookup.add_done_callback(_heard)
        await asyncio.shield(self._lookup)

    async def _ask(self, connection: Connection) -> Found:
        try:
            row = await connection.fetchrow(self._query)
        except (asyncpg.InsufficientPrivilegeError, asyncpg.UndefinedFunctionError):
            if self._query is _QUERY_WITHOUT_CONTROL:
                raise
            self._query = _QUERY_WITHOUT_CONTROL
            row = await connection.fetchrow(self._query)
        assert row is not None
        return _found(row)

    def _ended(self, connection: object) -> None:
        if connection is self._connection:
            self._connection = None
            self._on_lost()


async def _resolved(host: str, port: int) -> object:
    try:
        return await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except socket.gaierror:
        # The resolver does not say when it was us who could open no more; this does.
        socket.socket().close()
        raise


def _heard(lookup: asyncio.Task[object]) -> None:
    """A name look-up that nobody waits for any more may fail in silence."""
    if not lookup.cancelled():
        lookup.exception()


def _found(row: asyncpg.Record) -> Found:
    lsn, wal_file = row["lsn"], row["wal_file"]
    if lsn is not None and not row["in_recovery"]:
        lsn = end_of_written(lsn, row["page_bytes"], row["segment_bytes"])
    # Both of a standby's are on the way of what it replays, so the later one is right.
    followed = [row[name] for name in ("received_timeline", "control_timeline") if row[name]]
    return Found(
        in_recovery=row["in_recovery"],
        lsn=lsn,
        received_lsn=row["received"],
        replay_delay_s=row["delay_s"],
        timeline=int(wal_file[:8], 16) if wal_file else max(followed, default=None),
        system_id=row["system_id"],
    )
