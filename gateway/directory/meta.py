"""The gateway's own connections to the meta database, and nothing of a client's on them.

Clients' settings never reach these connections (CVE-2025-12819): every setting is fixed here, names
and ids travel as parameters only, and the search path is pg_catalog, so queries must name schemas.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeAlias, TypeVar

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from gateway.clock import Clock
from gateway.directory import cancels
from gateway.directory.rows import (
    ApiKey,
    MalformedRow,
    Row,
    WrongQuery,
    api_keys_of,
    grants_of,
    login_of,
    owner_of,
)
from gateway.errors import DirectoryUnavailable
from gateway.net import driver
from gateway.net.backoff import Backoff
from gateway.router.identity import Grant, Login, Owner
from gateway.settings.dsn import ChannelBinding, Dsn
from gateway.settings.model import Directory as DirectorySettings

logger = logging.getLogger(__name__)

T = TypeVar("T")
PooledConnection: TypeAlias = "PoolConnectionProxy[asyncpg.Record]"

API_KEYS_QUERY = """
    SELECT hash,
           CASE WHEN isfinite(valid_until)
                THEN extract(epoch FROM valid_until - now())::float8 END AS remaining_s
    FROM gateway.api_key
    WHERE login = $1 AND NOT disabled AND (valid_until IS NULL OR valid_until > now())
"""

CANCEL_QUERY = f"SELECT pg_catalog.pg_notify('{cancels.CHANNEL}', $1)"

GRANTS_QUERY = "SELECT scope, value FROM gateway.login_grant WHERE login = $1"

# The value can't be of the type the query casts it to, so there is no such login or owner.
_NO_SUCH_VALUE = (
    asyncpg.InvalidTextRepresentationError,
    asyncpg.NumericValueOutOfRangeError,
    asyncpg.CharacterNotInRepertoireError,
    asyncpg.UntranslatableCharacterError,
)
_NOT_PROVISIONED = (asyncpg.UndefinedTableError, asyncpg.InvalidSchemaNameError)
_CONNECTION_LOST = (
    OSError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # what asyncpg raises between a server's farewell and its close
    asyncpg.PostgresConnectionError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
)
# What opens the pause between attempts: the server is away or won't have us.
_OUTAGE = (
    *_CONNECTION_LOST,
    TimeoutError,
    asyncpg.CannotConnectNowError,
    asyncpg.TooManyConnectionsError,
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
)


def connect_arguments(dsn: Dsn, timeout_s: float) -> dict[str, Any]:
    """What asyncpg's ``connect`` and ``create_pool`` take for ``dsn``; timeouts in seconds."""
    settings = driver.careful_settings("gateway directory", timeout_s)
    return driver.connect_arguments(dsn, timeout_s, settings) | {"command_timeout": timeout_s}


class MetaDatabase:
    """Look-ups of logins, owners, API keys and grants, on a small pool that mends itself.

    Each look-up ends within ``lookup_timeout_ms``. After a failed connection further ones fail at
    once until a short, growing, jittered pause is over, so an outage costs neither time nor load.
    """

    def __init__(self, dsn: Dsn, settings: DirectorySettings, clock: Clock) -> None:
        self._dsn = dsn
        self._settings = settings
        self._clock = clock
        self._timeout_s = settings.lookup_timeout_ms / 1000
        self._pool: asyncpg.Pool[asyncpg.Record] | None = None
        self._backoff = Backoff(0.05, 1.0)
        self._lost_at: float | None = None
        self._retry_at = 0.0
        self._failing: set[str] = set()
        self._renew = False
        self.lookups = 0
        self.failures = 0

    async def open(self) -> None:
        """Make the pool; the first look-up connects."""
        if self._dsn.channel_binding is ChannelBinding.REQUIRE:
            logger.warning(
                "meta database: directory look-ups can't do channel_binding=require;"
                " what protects them is sslmode=%s",
                self._dsn.sslmode.value,
            )
        self._pool = await asyncpg.create_pool(
            **connect_arguments(self._dsn, self._timeout_s),
            min_size=0,
            max_size=self._settings.connections_max,
            reset=_no_reset,
        )

    async def close(self) -> None:
        """Close all connections, by force when they don't close in a second."""
        pool, self._pool = self._pool, None
        if pool is None:
            return
        try:
            async with asyncio.timeout(1):
                await pool.close()
        except (TimeoutError, OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            pool.terminate()

    def renew_connections(self) -> None:
        """Replace each connection before its next use, and try at once, whatever failed before.

        Called when the listening connection was lost or made: the primary may be another server.
        """
        self._renew = True
        self._retry_at = 0.0

    async def connect(self) -> asyncpg.Connection[asyncpg.Record]:
        """A connection outside the pool, with the same fixed settings. Raises what asyncpg does."""
        async with asyncio.timeout(self._timeout_s):
            return await asyncpg.connect(**connect_arguments(self._dsn, self._timeout_s))

    async def pass_cancel_on(self, payload: str) -> None:
        """Notify all gateways of cancel requests. Raises DirectoryUnavailable.

        It may arrive twice when a connection is lost.
        """
        await self._rows("cancel request", CANCEL_QUERY, payload)
        self._succeeded("cancel request")

    # -- look-ups: None for "no such"; DirectoryUnavailable when it can't be known.
    # A row that can't be used is logged and counts as "no such".

    async def login(self, name: str) -> Login | None:
        """The login of that name."""
        query = self._settings.login_query
        return await self._answer("login", query, name, lambda rows: login_of(name, rows))

    async def owner(self, owner_id: str) -> Owner | None:
        """The owner of that id."""
        query = self._settings.owner_query
        return await self._answer("owner", query, owner_id, lambda rows: owner_of(owner_id, rows))

    async def api_keys(self, login: str) -> tuple[ApiKey, ...] | None:
        """The login's usable API keys. A meta database without the table has none."""
        try:
            return await self._answer(
                "API key", API_KEYS_QUERY, login, lambda rows: api_keys_of(rows, self._clock())
            )
        except NotProvisioned:
            return None

    async def grants(self, login: str) -> tuple[Grant, ...] | None:
        """For whom the login may act. A meta database without the table grants nothing."""
        try:
            return await self._answer("grant", GRANTS_QUERY, login, grants_of)
        except NotProvisioned:
            return None

    async def _answer(
        self, what: str, query: str, key: str, read: Callable[[Sequence[Row]], T | None]
    ) -> T | None:
        rows = await self._rows(what, query, key)
        try:
            answer = read(rows)
        except MalformedRow as error:
            logger.error("meta database: %s of %r can't be used: %s", what, key, error)
            answer = None
        except WrongQuery as error:
            self.failures += 1
            raise self._failed(what, error) from error
        self._succeeded(what)
        return answer

    async def _rows(self, what: str, query: str, key: str) -> Sequence[Row]:
        async def fetch(connection: PooledConnection) -> Sequence[Row]:
            try:
                return [dict(record) for record in await connection.fetch(query, key)]
            except _NO_SUCH_VALUE:
                return []

        self.lookups += self._clock() >= self._retry_at
        try:
            return await self._asked(what, fetch)
        except DirectoryUnavailable:
            self.failures += 1
            raise

    async def in_transaction(
        self, what: str, work: Callable[[PooledConnection], Awaitable[T]]
    ) -> T:
        """What ``work`` gives, done in a transaction that may write; it may be done twice.

        Raises DirectoryUnavailable, NotProvisioned.
        """

        async def transaction(connection: PooledConnection) -> T:
            try:
                await connection.execute("BEGIN READ WRITE")
                result = await work(connection)
                await connection.execute("COMMIT")
            except BaseException:
                _drop(connection)
                raise
            return result

        result = await self._asked(what, transaction)
        self._succeeded(what)
        return result

    async def _asked(self, what: str, ask: Callable[[PooledConnection], Awaitable[T]]) -> T:
        """What ``ask`` gives. Raises DirectoryUnavailable, NotProvisioned."""
        asked_at = self._clock()
        if asked_at < self._retry_at:
            raise _unavailable()
        try:
            async with asyncio.timeout(self._timeout_s):
                answer = await self._on_a_connection(ask)
        except _NOT_PROVISIONED as error:
            failure = self._failed(what, error)
            raise NotProvisioned(failure.message, hint=failure.hint) from error
        except DirectoryUnavailable:
            raise
        except Exception as error:  # whatever the driver meets, to us it is an answer we don't have
            if isinstance(error, _OUTAGE):
                self._lost(asked_at)
            raise self._failed(what, error) from error
        self._backoff.reset()
        self._lost_at = None
        self._retry_at = 0.0
        return answer

    def _lost(self, asked_at: float) -> None:
        """Ask nothing for a while when this look-up was begun after the last loss, and lost too.

        One loss alone says little: a process that was stopped for seconds finds all that it had
        asked out of time at once, and the meta database as well as ever.
        """
        now = self._clock()
        if self._lost_at is not None and asked_at >= self._lost_at:
            self._retry_at = now + self._backoff.next_s()
        self._lost_at = now

    async def _on_a_connection(self, ask: Callable[[PooledConnection], Awaitable[T]]) -> T:
        """What ``ask`` gives; it asks again on another connection when this one was dead.

        That is safe, for what is asked here may be done twice; and it ends, for no more can be dead
        than the pool holds, and to open a new one is not tried twice.
        """
        attempts_max = self._settings.connections_max + 1
        for attempt in range(1, attempts_max + 1):
            async with (await self._usable_pool()).acquire() as connection:
                try:
                    return await ask(connection)
                except _CONNECTION_LOST:
                    _drop(connection)
                    if attempt == attempts_max:
                        raise
                except asyncpg.PostgresError:
                    raise
                except BaseException:
                    # Cut off in the middle: closing is surer than making it usable again.
                    _drop(connection)
                    raise
        raise AssertionError("the last attempt returns or raises")

    async def _usable_pool(self) -> asyncpg.Pool[asyncpg.Record]:
        if self._pool is None:
            raise _unavailable()
        if self._renew:
            self._renew = False
            await self._pool.expire_connections()
        return self._pool

    def _failed(self, what: str, error: Exception) -> DirectoryUnavailable:
        """Note a failure: one log line when things turn bad, not one for each look-up."""
        if what not in self._failing:
            self._failing.add(what)
            logger.error("meta database: %s look-up failed: %s", what, describe(error))
        return _unavailable()

    def _succeeded(self, what: str) -> None:
        if what in self._failing:
            self._failing.remove(what)
            logger.info("meta database: %s look-up works again", what)


class NotProvisioned(DirectoryUnavailable):
    """The gateway's own tables aren't there, or its role may not use them."""


def describe(error: BaseException) -> str:
    """An error for the log, in one line."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _unavailable() -> DirectoryUnavailable:
    return DirectoryUnavailable("the meta database can't be asked now", hint="Try again later.")


def _drop(connection: PooledConnection) -> None:
    """Close a pooled connection at once; one that broke by itself has left the pool already."""
    with contextlib.suppress(asyncpg.InterfaceError):
        connection.terminate()


async def _no_reset(_connection: object) -> None:
    """Look-ups leave nothing behind, so a used connection needs no cleaning (and no round trip)."""
