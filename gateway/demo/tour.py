"""A look at every database through the gateway, as its clients see it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter

import asyncpg

from gateway.demo.seed import SeedLogin
from gateway.router.identity import LoginKind
from gateway.router.topology import Snapshot

_TIMEOUT_S = 15


@dataclass(frozen=True, slots=True)
class Stop:
    """One client connection to try: who connects, on whose behalf, and where it has to land.

    ``database`` is what the client names, ``expected`` the database it should find itself in;
    ``owner`` is whose leads it counts, None to count all.
    """

    login: SeedLogin
    database: str
    expected: str
    owner: str | None
    options: str = ""


@dataclass(frozen=True, slots=True)
class Seen:
    """What a stop showed. ``problem`` is empty when all was right; times are in milliseconds."""

    stop: Stop
    database: str = ""
    leads: int = 0
    connect_ms: float = 0
    problem: str = ""


def one_per_shard(logins: Sequence[SeedLogin]) -> list[SeedLogin]:
    """The first owner login of each industry and shard, sorted by name of the shard."""
    first: dict[str, SeedLogin] = {}
    for login in logins:
        if login.kind is LoginKind.OWNER and login.shard is not None:
            first.setdefault(login.shard, login)
    return [first[shard] for shard in sorted(first)]


def plan(logins: Sequence[SeedLogin], snapshot: Snapshot) -> list[Stop]:
    """An owner per shard, then a service login acting for the last of them, then an operator."""

    def real(shard: str | None) -> str:
        return snapshot.shards[shard or ""].primary.database

    owners = one_per_shard(logins)
    guest = owners[-1]
    stops = [Stop(owner, owner.database, real(owner.shard), owner.owner) for owner in owners]
    for login in logins:
        if login.kind is LoginKind.SERVICE:
            options = f"-c gateway.owner={guest.owner}"
            stops.append(Stop(login, login.database, real(guest.shard), guest.owner, options))
        elif login.kind is LoginKind.OPERATOR:
            assert guest.shard is not None
            stops.append(Stop(login, guest.shard, real(guest.shard), None))
    return stops


async def visit(stop: Stop, host: str, port: int) -> Seen:
    """Connects, asks where it is and counts leads."""
    try:
        database, leads, connect_ms = await _look(stop, host, port)
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        return Seen(stop, problem=str(error) or type(error).__name__)
    problem = ""
    if database != stop.expected:
        problem = f"should be in {stop.expected}"
    elif leads == 0:
        problem = "found no leads"
    return Seen(stop, database, leads, connect_ms, problem)


async def _look(stop: Stop, host: str, port: int) -> tuple[str, int, float]:
    started = perf_counter()
    connection = await asyncpg.connect(
        host=host,
        port=port,
        user=stop.login.user,
        password=stop.login.password,
        database=stop.database,
        timeout=_TIMEOUT_S,
        command_timeout=_TIMEOUT_S,
        server_settings={"options": stop.options} if stop.options else None,
    )
    connect_ms = (perf_counter() - started) * 1000
    try:
        database: str = await connection.fetchval("SELECT current_database()")
        if stop.owner is None:
            leads: int = await connection.fetchval('SELECT count(*) FROM "Lead"')
        else:
            leads = await connection.fetchval(
                'SELECT count(*) FROM "Lead" WHERE "userId" = $1', int(stop.owner)
            )
    finally:
        await connection.close(timeout=_TIMEOUT_S)
    return database, leads, connect_ms
