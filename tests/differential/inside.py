"""The inside of the gateway that a dialogue runs through: who waits, and what servers hold.

Nothing here decides what is equal; it tells when to look, and what a server must not keep.
"""

from __future__ import annotations

import asyncio

from gateway.pool.core import ServerState
from gateway.pool.pool import Pool
from gateway.pool.server import STEP, Answer, ServerConnection
from gateway.session.client import ClientSession
from gateway.worker import Worker
from tests.running import pool_of, rest

_ANSWER_S = 8.0

_LEFT = """
SELECT 'setting', name FROM pg_catalog.pg_settings WHERE source = 'session'
  AND name NOT LIKE 'transaction_%'
UNION ALL SELECT 'setting', 'role' WHERE pg_catalog.current_setting('role') <> 'none'
UNION ALL SELECT 'temporary', relname FROM pg_catalog.pg_class
  WHERE relnamespace = pg_catalog.pg_my_temp_schema()
UNION ALL SELECT 'lock', objid::text FROM pg_catalog.pg_locks
  WHERE locktype = 'advisory' AND pid = pg_catalog.pg_backend_pid()
UNION ALL SELECT 'cursor', name FROM pg_catalog.pg_cursors WHERE is_holdable
UNION ALL SELECT 'prepared', name FROM pg_catalog.pg_prepared_statements
UNION ALL SELECT 'listens', pg_catalog.pg_listening_channels()
"""


class Different(AssertionError):
    """The gateway said something else than PostgreSQL, or left something behind."""


class Halfway(Exception):
    """A client waits for a server in the middle of a step, one of whose transactions has ended.

    What it has done others see already, and the twin can't be made to stop there.
    """


class Inside:
    """A worker, and its pool of one database."""

    def __init__(self, worker: Worker, url: str) -> None:
        self._worker = worker
        self._url = url

    @property
    def clients(self) -> int:
        """How many are connected."""
        return len(self._worker.context.registry)

    @property
    def _pool(self) -> Pool | None:
        """None before the first client."""
        try:
            return pool_of(self._worker, self._url)
        except StopIteration:
            return None

    def session(self, number: int) -> ClientSession | None:
        """The session of the client that BackendKeyData told this number."""
        return next((one for one in self._sessions() if one.number == number), None)

    def _sessions(self) -> list[ClientSession]:
        return [one for one in self._worker.context.registry if isinstance(one, ClientSession)]

    def in_transition(self) -> bool:
        """Whether a server comes, goes or comes free by itself."""
        pool = self._pool
        if pool is None:
            return False
        core = pool.core
        changing = core.count(ServerState.CLEANING) + core.count(ServerState.CLOSING)
        own = any(server.replies.only_own for server in core.servers(ServerState.BUSY))
        moving = any(session._task is not None for session in self._sessions())
        return bool(core.opening or changing or own or moving)

    def is_parked(self, number: int) -> bool:
        """Whether a client waits for a server that only another client can give back."""
        pool, session = self._pool, self.session(number)
        if pool is None or session is None or self.in_transition():
            return False
        return session in pool.core.queue

    def forget_sequences(self) -> None:
        """As a gateway that has just started: an earlier dialogue's tables are gone."""
        self._worker.context.sequence_readers.clear()

    async def flush_listener(self) -> None:
        """Return when every notification sent so far has reached the gateway."""
        pool = self._pool
        server = pool and self._worker.context.pools.listening(pool)._server
        if server and not server.lost and not server.closing:
            await _ask(server, "SELECT 1")

    async def close_idle(self) -> None:
        """Let the next dialogue begin with new servers."""
        pool = self._pool
        if pool is not None:
            for server in pool.core.servers(ServerState.IDLE):
                pool._close(server)
            await rest(self._worker)

    async def look_at_servers(self) -> None:
        """Nothing that the gateway does not know of may be left on a server. Raises Different."""
        await rest(self._worker)
        await self.look_at_idle_servers()

    async def look_at_idle_servers(self) -> None:
        """The same of those that nobody has."""
        pool = self._pool
        for server in pool.core.servers(ServerState.IDLE) if pool else ():
            answer = await _ask(server, _LEFT)
            assert answer.error is None, answer.error
            _compare(server, {(kind, name) for kind, name in map(_words, answer.rows)})


def _compare(server: ServerConnection, left: set[tuple[str, str]]) -> None:
    """What a server holds with what the gateway believes that it holds."""
    known = {name for name, _ in server.settings}
    settings = {name.lower() for kind, name in left if kind == "setting"}
    others = {kind for kind, _ in left} - {"setting", "prepared"}
    if others or not settings <= known:
        raise Different(f"left on a server: {sorted(left)}; known: {sorted(known)}")
    prepared = {name for kind, name in left if kind == "prepared"} - {STEP[:-1].decode()}
    believed = {one.name.decode() for one in server.prepared._known} | set(server.sql_prepared)
    if prepared != believed:
        raise Different(f"a server has prepared {sorted(prepared)}, believed: {sorted(believed)}")


def _words(row: list[bytes | None]) -> tuple[str, str]:
    kind, name = row
    return (kind or b"").decode(), (name or b"").decode()


async def _ask(server: ServerConnection, sql: str) -> Answer:
    answered: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
    server.ask(sql, answered.set_result)
    async with asyncio.timeout(_ANSWER_S):
        return await answered
