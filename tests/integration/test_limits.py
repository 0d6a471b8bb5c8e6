"""One owner's flood over a small pool, and the limits of owners, logins and industries."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import pytest

from gateway.demo.seed import SeedLogin
from gateway.pool.core import ServerState
from gateway.router.identity import LoginKind
from gateway.worker import Worker
from tests.conftest import FreshDatabase, Provisioned
from tests.integration.conftest import with_overrides
from tests.running import moved, place, pool_of, rest, running
from tests.wire import Refused, Wire

FLOOD_CLIENTS = 60
POOL_MAX = 5
STATEMENT = "SELECT pg_sleep(0.01)"

Start = Callable[[Mapping[str, Any]], Any]


@pytest.fixture(scope="module")
async def together(fresh_database: FreshDatabase) -> str:
    """A database that all owners share."""
    return await fresh_database("together")


@pytest.fixture
def start(provisioned: Provisioned, together: str) -> Start:
    """``async with start({...}) as worker``: all industries of one shard in one database."""

    @asynccontextmanager
    async def begin(overrides: Mapping[str, Any]) -> AsyncIterator[Worker]:
        settings = provisioned.settings
        for name, industry in settings.industries.items():
            if len(industry.shards) == 1:
                settings = moved(settings, name, together)
        async with running(with_overrides(settings, overrides)) as worker:
            yield worker

    return begin


@pytest.fixture
def owners(provisioned: Provisioned) -> list[SeedLogin]:
    """Those who live there."""
    shared = provisioned.snapshot.industries
    return [one for one in provisioned.owners if len(shared[one.industry or ""].shards) == 1]


@pytest.fixture
def operator(provisioned: Provisioned) -> SeedLogin:
    return next(one for one in provisioned.logins.values() if one.kind is LoginKind.OPERATOR)


async def told(request: Awaitable[Any]) -> Refused:
    """The error that comes of it."""
    with pytest.raises(Refused) as caught:
        await request
    return caught.value


# --- fairness ---


async def _ask_all_the_time(wire: Wire, until: float) -> int:
    asked = 0
    while time.monotonic() < until:
        await wire.value(STATEMENT)
        asked += 1
    return asked


async def _ask_now_and_then(wire: Wire, until: float) -> list[float]:
    took: list[float] = []
    while time.monotonic() < until:
        began = time.monotonic()
        await wire.value(STATEMENT)
        took.append(time.monotonic() - began)
        await asyncio.sleep(0.1)
    return took


async def test_a_flood_of_one_owner_over_a_pool_of_five(
    start: Start, owners: list[SeedLogin], together: str
) -> None:
    """Light owners wait for a few statements; the flood's own clients for dozens."""
    heavy, *light = owners[:16]
    async with start({"pool": {"max": POOL_MAX}}) as worker:
        calm = [await Wire.logged_in(place(worker, one)) for one in light]
        flood = [await Wire.logged_in(place(worker, heavy)) for _ in range(FLOOD_CLIENTS)]
        until = time.monotonic() + 3.0
        asked, took = await asyncio.gather(
            asyncio.gather(*(_ask_all_the_time(wire, until) for wire in flood)),
            asyncio.gather(*(_ask_now_and_then(wire, until) for wire in calm)),
        )
        times = sorted(one for each in took for one in each)
        median, late = times[len(times) // 2], times[int(len(times) * 0.99)]
        each_s = 3.0 / (sum(asked) / FLOOD_CLIENTS)
        print(
            f"flood: {sum(asked)} statements, {each_s * 1000:.0f} ms each; light owners:"
            f" {len(times)}, median {median * 1000:.0f} ms, p99 {late * 1000:.0f} ms"
        )
        assert sum(asked) > FLOOD_CLIENTS
        assert median < each_s / 2
        assert pool_of(worker, together).counters.timeouts == 0
        for wire in (*calm, *flood):
            await wire.close()
        await rest(worker)


# --- servers ---


async def test_an_owner_holds_so_many_servers_and_leaves_the_others_idle(
    start: Start, owners: list[SeedLogin], together: str
) -> None:
    heavy, other = owners[:2]
    limits = {"every_owner": {"servers": 2}}
    async with start({"pool": {"max": POOL_MAX}, "limits": limits}) as worker:
        holders = [await Wire.logged_in(place(worker, heavy)) for _ in range(3)]
        for wire in holders[:2]:
            await wire.query("BEGIN")
        third = asyncio.create_task(holders[2].value("SELECT 'third'"))
        await asyncio.sleep(0.3)
        assert not third.done()
        assert pool_of(worker, together).core.total < POOL_MAX, "none was opened for it"
        someone = await Wire.logged_in(place(worker, other))
        assert await someone.value("SELECT 'another owner'") == "another owner"
        await holders[0].query("COMMIT")
        assert await third == "third"
        await holders[1].query("COMMIT")
        for wire in (*holders, someone):
            await wire.close()
        await rest(worker)


async def test_who_leaves_or_is_cancelled_gives_its_chance_to_the_next(
    start: Start, owners: list[SeedLogin]
) -> None:
    limits = {"owners": {owners[0].owner: {"servers": 1, "queue_timeout_ms": 400}}}
    async with start({"limits": limits}) as worker:
        holder, leaves, stays, late = [
            await Wire.logged_in(place(worker, owners[0])) for _ in range(4)
        ]
        await holder.query("BEGIN")
        leaving = asyncio.create_task(leaves.value("SELECT 'leaves'"))
        await asyncio.sleep(0.05)
        staying = asyncio.create_task(stays.value("SELECT 'stays'"))
        await asyncio.sleep(0.05)
        leaving.cancel()
        leaves.rst()
        await holder.close()
        assert await staying == "stays"
        await stays.query("BEGIN")
        error = await told(late.value("SELECT 'late'"))
        assert error.sqlstate == "53300"
        assert "0.4 s" in str(error)
        for wire in (stays, late):
            await wire.close()
        await rest(worker)


async def test_operators_have_servers_of_their_own(
    start: Start, owners: list[SeedLogin], operator: SeedLogin
) -> None:
    pool = {"max": 3, "operator_reserve": 1, "queue_timeout_ms": 500}
    async with start({"pool": pool}) as worker:
        holders = [await Wire.logged_in(place(worker, one)) for one in owners[:3]]
        for wire in holders[:2]:
            await wire.query("BEGIN")
        assert (await told(holders[2].value("SELECT 1"))).sqlstate == "53300"
        somebody = owners[0].industry or ""
        admin = await Wire.logged_in(place(worker, operator, somebody.lower()))
        assert await admin.value("SELECT 'in'") == "in"
        for wire in (*holders, admin):
            await wire.close()
        await rest(worker)


# --- clients ---


async def test_clients_are_counted_by_owner_login_and_industry(
    start: Start, owners: list[SeedLogin]
) -> None:
    first, second, third, fourth = owners[:4]
    limits = {
        "owners": {first.owner: {"clients": 1}},
        "logins": {second.user: {"clients": 1}},
        "industries": {third.industry: {"clients": 1}},
    }
    async with start({"limits": limits}) as worker:
        for login in (first, second, third):
            if login.industry == third.industry and login is not third:
                continue
            inside = await Wire.logged_in(place(worker, login))
            error = await told(Wire.logged_in(place(worker, login)))
            assert error.sqlstate == "53300"
            assert "too many clients of" in str(error)
            await inside.close()
            await rest(worker)
            again = await Wire.logged_in(place(worker, login))
            await again.close()
            await rest(worker)
        both = [await Wire.logged_in(place(worker, fourth)) for _ in range(2)]
        for wire in both:
            await wire.close()


# --- rates ---


async def test_who_sends_too_many_statements_is_told_when_to_send_the_next(
    start: Start, owners: list[SeedLogin]
) -> None:
    limits = {"every_owner": {"rate": 1, "burst": 5}}
    async with start({"limits": limits}) as worker:
        wire = await Wire.logged_in(place(worker, owners[0]))
        for _ in range(5):
            assert await wire.value("SELECT 'burst'") == "burst"
        error = await told(wire.value("SELECT 'too soon'"))
        assert error.sqlstate == "53R01"
        assert "1 per second, 5 at once" in str(error)
        await asyncio.sleep(1.1)
        assert await wire.value("SELECT 'in time'") == "in time"
        other = await Wire.logged_in(place(worker, owners[1]))
        assert await other.value("SELECT 'its own'") == "its own"
        await asyncio.sleep(1.1)
        await wire.query("BEGIN")
        for _ in range(30):
            assert await wire.value("SELECT 'within'") == "within"
        await wire.query("COMMIT")
        assert (await told(wire.value("SELECT 1"))).sqlstate == "53R01", "what ran is counted"
        for one in (wire, other):
            await one.close()


# --- times ---


async def test_a_statement_that_runs_too_long_is_cancelled(
    start: Start, owners: list[SeedLogin], together: str
) -> None:
    limits = {"owners": {owners[1].owner: {"query_timeout_ms": 0}}}
    async with start({"pool": {"query_timeout_ms": 300}, "limits": limits}) as worker:
        wire = await Wire.logged_in(place(worker, owners[0]))
        began = time.monotonic()
        error = await told(wire.value("SELECT pg_sleep(5)"))
        assert error.sqlstate == "57014"
        assert "canceling statement due to query timeout" in str(error)
        assert time.monotonic() - began < 2.0
        assert await wire.value("SELECT 'goes on'") == "goes on"
        free = await Wire.logged_in(place(worker, owners[1]))
        assert await free.value("SELECT 'slow' FROM pg_sleep(0.8)") == "slow"
        assert pool_of(worker, together).counters.query_timeouts == 1
        for one in (wire, free):
            await one.close()
        await rest(worker)


async def test_a_quick_statement_after_another_is_not_taken_for_a_slow_one(
    start: Start, owners: list[SeedLogin]
) -> None:
    async with start({"pool": {"query_timeout_ms": 300}}) as worker:
        wire = await Wire.logged_in(place(worker, owners[0]))
        await wire.query("BEGIN")
        for _ in range(12):
            await wire.query("SELECT pg_sleep(0.06)")
        await wire.query("COMMIT")
        assert await wire.value("SELECT 'all'") == "all"
        await wire.close()


async def test_an_owner_may_leave_transactions_idle_for_longer_or_shorter(
    start: Start, owners: list[SeedLogin]
) -> None:
    limits = {"owners": {owners[0].owner: {"idle_transaction_timeout_s": 0.3}}}
    async with start({"limits": limits}) as worker:
        short, ordinary = [await Wire.logged_in(place(worker, one)) for one in owners[:2]]
        for wire in (short, ordinary):
            await wire.query("BEGIN")
        last = await short.message()
        assert last.fields["C"] == "25P03"
        await ordinary.query("COMMIT")
        await ordinary.close()
        await rest(worker)


@pytest.mark.parametrize("level", ["owners", "industries"])
async def test_a_login_that_takes_longer_than_its_owner_or_industry_may_is_ended(
    start: Start, owners: list[SeedLogin], level: str
) -> None:
    """Its server has to be waited for: somebody else holds the only one."""
    name = owners[0].owner if level == "owners" else owners[0].industry
    limits = {level: {name: {"login_timeout_s": 0.3}}}
    async with start({"pool": {"max": 1}, "limits": limits}) as worker:
        holder = await Wire.logged_in(place(worker, owners[1]))
        await holder.query("BEGIN")
        error = await told(
            Wire.logged_in(place(worker, owners[0]), {"application_name": "not known yet"})
        )
        assert error.sqlstate == "57014"
        await holder.query("COMMIT")
        await holder.close()
        await rest(worker)


# --- weights ---


async def test_the_weight_of_an_owner_is_its_plans(
    start: Start, provisioned: Provisioned, owners: list[SeedLogin]
) -> None:
    meta = await asyncpg.connect(provisioned.url("meta"))
    row = await meta.fetchrow("SELECT id, plan FROM gateway.owner WHERE plan IS NOT NULL")
    assert row is not None
    try:
        login = next(one for one in provisioned.owners if one.owner == row["id"])
        async with start({"fairness": {"plans": {row["plan"]: 3.0, "HEAVY": 7.0}}}) as worker:
            wire = await Wire.logged_in(place(worker, login))
            assert await _weight(worker, wire) == 3.0
            async with meta.transaction():
                await _subscribe(meta, row["id"], "HEAVY")
            for _ in range(100):
                if await _weight(worker, wire) == 7.0:
                    break
                await asyncio.sleep(0.05)
            assert await _weight(worker, wire) == 7.0
            await wire.close()
    finally:
        await _subscribe(meta, row["id"], row["plan"])
        await meta.close()


async def _subscribe(meta: asyncpg.Connection[Any], owner: str, plan: str) -> None:
    await meta.execute(
        'UPDATE "UserSubscription" SET "plan" = $2 WHERE "userId" = $1', int(owner), plan
    )


async def _weight(worker: Worker, wire: Wire) -> float:
    """The weight of the only client's owner, as its server knows it."""
    await wire.query("BEGIN")
    core = next(pool.core for pool in worker.context.pools if pool.core.in_use)
    (server,) = core.servers(ServerState.BUSY)
    weight = core.tenant(server).weight
    await wire.query("COMMIT")
    return weight
