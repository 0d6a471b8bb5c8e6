"""What became of transactions over several databases, in the meta database.

A decision is one row, written once: whoever comes second learns what the first one wrote. No row
means that nothing is decided, and may be decided to be an abort (docs/decisions/0007-two-phase.md).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from gateway.directory.meta import describe
from gateway.errors import DirectoryUnavailable
from gateway.net import driver
from gateway.settings.dsn import Dsn

_CONNECTIONS_MAX = 4

DRIVER_ERRORS = (
    OSError,
    TimeoutError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
)
"""What asyncpg raises when a database is away, or says no."""

_DECIDE = """
    INSERT INTO gateway.two_phase (transaction, branches, decision) VALUES ($1, $2, $3)
    ON CONFLICT (transaction) DO UPDATE SET decision = gateway.two_phase.decision
    RETURNING decision
"""
_ABORTS_KEPT = "1 day"
"""Far longer than anybody takes from his first PREPARE to his decision, who must find it."""


class Decision(StrEnum):
    """How a transaction ends."""

    COMMIT = "commit"
    ABORT = "abort"


@dataclass(frozen=True, slots=True)
class Entry:
    """A transaction that was decided to be committed, and its branches' gids."""

    transaction: str
    branches: tuple[str, ...]


class TwoPhaseLog:
    """The log in the meta database at ``dsn``. Nothing takes longer than ``timeout_s``.

    Everything here raises DirectoryUnavailable when the meta database does not answer, or has no
    such table: then it can't be known whether a decision was written.
    """

    def __init__(self, dsn: Dsn, timeout_s: float) -> None:
        self._dsn = dsn
        self._timeout_s = timeout_s
        self._pool: asyncpg.Pool[asyncpg.Record] | None = None
        self._name = ""
        self._closed = False

    async def close(self) -> None:
        """Close all connections, for good."""
        self._closed = True
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.terminate()

    async def name(self) -> str:
        """What tells this log's transactions from those of other gateways with other logs."""
        if not self._name:
            async with self._connection() as connection:
                self._name = await connection.fetchval("SELECT name FROM gateway.two_phase_name")
        return self._name

    async def decide(
        self, transaction: str, decision: Decision, branches: Sequence[str] = ()
    ) -> Decision:
        """Write a decision; what is decided, which is the first that was written."""
        async with self._connection() as connection:
            found = await connection.fetchval(_DECIDE, transaction, list(branches), decision.value)
            return Decision(found)

    async def forget(self, transaction: str) -> None:
        """All branches are committed."""
        async with self._connection() as connection:
            await connection.execute(
                "DELETE FROM gateway.two_phase WHERE transaction = $1 AND decision = 'commit'",
                transaction,
            )

    async def commits(self, older_than_s: float) -> list[Entry]:
        """What was to be committed and may not all be yet; aborts of old are dropped."""
        async with self._connection() as connection:
            await connection.execute(
                "DELETE FROM gateway.two_phase WHERE decision = 'abort'"
                f" AND decided_at < now() - interval '{_ABORTS_KEPT}'"
            )
            rows = await connection.fetch(
                "SELECT transaction, branches FROM gateway.two_phase WHERE decision = 'commit'"
                " AND decided_at <= now() - make_interval(secs => $1)",
                older_than_s,
            )
        return [Entry(row["transaction"], tuple(row["branches"])) for row in rows]

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[bool]:
        """Whether we are the one who resolves now: one at a time, of all workers and instances."""
        async with self._connection() as connection:
            key = "hashtext('gateway two-phase resolver')"
            mine = bool(await connection.fetchval(f"SELECT pg_try_advisory_lock({key})"))
            try:
                yield mine
            finally:
                if mine and not connection.is_closed():
                    await connection.execute(f"SELECT pg_advisory_unlock({key})")

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[PoolConnectionProxy[asyncpg.Record]]:
        if self._closed:
            raise DirectoryUnavailable("the gateway is being stopped")
        try:
            if self._pool is None:
                self._pool = await asyncpg.create_pool(
                    **_arguments(self._dsn, self._timeout_s),
                    command_timeout=self._timeout_s,
                    min_size=0,
                    max_size=_CONNECTIONS_MAX,
                    reset=_no_reset,
                )
            async with self._pool.acquire(timeout=self._timeout_s) as connection:
                yield connection
        except DRIVER_ERRORS as error:
            raise DirectoryUnavailable(
                f"the log of two-phase commits can't be used: {describe(error)}",
                hint="It is in the meta database, made by `gateway provision`.",
            ) from error


def _arguments(dsn: Dsn, timeout_s: float) -> dict[str, Any]:
    settings = driver.careful_settings("gateway two-phase log", timeout_s)
    lasting = {"default_transaction_read_only": "off", "synchronous_commit": "on"}
    return driver.connect_arguments(dsn, timeout_s, settings | lasting)


async def _no_reset(_connection: object) -> None:
    """Nothing is left behind."""


async def connect(dsn: Dsn, timeout_s: float) -> asyncpg.Connection[asyncpg.Record]:
    """A connection to one of the databases, to end what is prepared there. Raises as asyncpg."""
    async with asyncio.timeout(timeout_s):
        return await asyncpg.connect(**_arguments(dsn, timeout_s), command_timeout=timeout_s)
