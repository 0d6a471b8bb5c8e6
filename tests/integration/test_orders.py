"""Orders given on the console of one gateway hold for all on the same meta database."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import pytest

from gateway.directory import board
from gateway.settings.dsn import parse
from gateway.settings.model import Settings
from gateway.worker import Worker
from tests.conftest import Provisioned
from tests.fault_proxy import FaultProxy, fault_proxy
from tests.fleet import Fleet, fleet
from tests.integration.conftest import revealed
from tests.running import eventually, place, running

pytestmark = pytest.mark.usefixtures("nothing_ordered")

HERE_S = 2.0
"""Longest time that an order may take to be followed elsewhere; it takes some milliseconds."""


@dataclass(frozen=True, slots=True)
class Pair:
    """Two gateways; ``proxy`` stands between the first one and the meta database."""

    first: Worker
    second: Worker
    provisioned: Provisioned
    proxy: FaultProxy
    stack: AsyncExitStack

    async def client(
        self, worker: Worker, user: str = "", database: str = ""
    ) -> asyncpg.Connection:
        login = self.provisioned.logins[user] if user else self.provisioned.owner_on("law")
        there = place(worker, login, database or None)
        where = f"{there.host}:{there.port}/{there.database}"
        connection = await asyncpg.connect(f"postgresql://{there.user}:{there.password}@{where}")
        self.stack.push_async_callback(connection.close, timeout=1)
        return connection

    async def console(self, worker: Worker) -> asyncpg.Connection:
        return await self.client(worker, "operator", "gateway")


def behind(proxy: FaultProxy, settings: Settings) -> Settings:
    """The same, with another way to the meta database."""
    plain = revealed(settings)
    plain["meta"]["primary"] = proxy.url(plain["meta"]["primary"])
    plain["directory"]["lookup_timeout_ms"] = 500
    return Settings.model_validate(plain)


@pytest.fixture
async def pair(provisioned: Provisioned) -> AsyncIterator[Pair]:
    dsn = parse(provisioned.url("meta"))
    async with AsyncExitStack() as stack:
        proxy = await stack.enter_async_context(fault_proxy(dsn.host, dsn.port))
        first = await stack.enter_async_context(running(behind(proxy, provisioned.settings)))
        second = await stack.enter_async_context(running(provisioned.settings))
        for worker in (first, second):
            await eventually(lambda worker=worker: worker.context.directory.connected)  # type: ignore[misc]
        yield Pair(first, second, provisioned, proxy, stack)


def parked(worker: Worker) -> int:
    return len(worker.context.pauses)


async def still_waits(asked: asyncio.Task[object]) -> bool:
    """Whether an answer is not there after a moment."""
    await asyncio.wait([asked], timeout=0.2)
    return not asked.done()


def ask(connection: asyncpg.Connection, sql: str = "SELECT 1") -> asyncio.Task[object]:
    return asyncio.create_task(connection.fetchval(sql))


def told(connection: asyncpg.Connection) -> list[str]:
    """What the console says besides rows, from now on."""
    texts: list[str] = []
    connection.add_log_listener(lambda _, message: texts.append(message.message))
    return texts


async def test_trap_a_pause_is_complete_when_nothing_runs_at_any_gateway(pair: Pair) -> None:
    here, there = await pair.console(pair.first), await pair.console(pair.second)
    busy, other = await pair.client(pair.second), await pair.client(pair.second)
    own = await pair.client(pair.first)
    await busy.execute("BEGIN")
    await busy.execute("SELECT 1")
    pausing = asyncio.create_task(here.execute("PAUSE INDUSTRY LAW FOR 1h TIMEOUT 30s"))
    for worker in (pair.first, pair.second):
        await eventually(lambda at=worker: bool(at.context.pauses.standing.pauses), HERE_S)  # type: ignore[misc]
    asked = [ask(other), ask(own)]
    await eventually(lambda: parked(pair.first) == parked(pair.second) == 1)
    assert await still_waits(pausing), "a transaction is open at the other gateway"
    await busy.execute("COMMIT")
    await asyncio.wait_for(pausing, HERE_S)
    assert all([await still_waits(one) for one in asked])
    (row,) = await there.fetch("SHOW PAUSES")
    assert (row["what"], row["name"], row["reach"]) == ("paused", "LAW", "all gateways")
    assert row["gateway"].endswith(f":{pair.first.address[1]}")
    assert 3590 < float(row["ends_s"]) <= 3600
    await there.execute("RESUME INDUSTRY LAW")
    assert await asyncio.gather(*asked) == [1, 1]
    assert not await here.fetch("SHOW PAUSES")


async def test_a_pause_that_is_given_up_names_who_runs_something_and_ends_everywhere(
    pair: Pair,
) -> None:
    console, busy = await pair.console(pair.first), await pair.client(pair.second)
    await busy.execute("BEGIN")
    await busy.execute("SELECT 1")
    with pytest.raises(asyncpg.LockNotAvailableError, match="something runs there") as caught:
        await console.execute("PAUSE DATABASE law TIMEOUT 1s")
    assert caught.value.detail is not None
    assert f":{pair.second.address[1]}, worker 1" in caught.value.detail
    assert "has a transaction open" in caught.value.detail
    for worker in (pair.first, pair.second):
        await eventually(lambda worker=worker: not worker.context.pauses.standing.pauses)  # type: ignore[misc]
    await busy.execute("COMMIT")


async def test_a_pause_ends_by_itself_everywhere(pair: Pair) -> None:
    console, client = await pair.console(pair.first), await pair.client(pair.second)
    await console.execute("PAUSE FOR 1s")
    asked = ask(client)
    assert await still_waits(asked)
    assert await asyncio.wait_for(asked, 3) == 1
    await eventually(lambda: not pair.first.context.pauses.standing.pauses)


async def test_drain_disable_reconnect_and_kill_reach_every_gateway(pair: Pair) -> None:
    console, client = await pair.console(pair.first), await pair.client(pair.second)
    await console.execute("DISABLE INDUSTRY DENTIST")
    login = pair.provisioned.owner_on("dentist").user
    with pytest.raises(asyncpg.PostgresError, match="not currently accepting"):
        await pair.client(pair.second, login)
    await console.execute("ENABLE INDUSTRY DENTIST")
    await pair.client(pair.second, login)
    before = await client.fetchval("SELECT pg_backend_pid()")
    await console.execute("RECONNECT DATABASE law")
    assert await client.fetchval("SELECT pg_backend_pid()") != before
    number = (await pair.client(pair.second)).get_server_pid()
    assert number not in [one.number for one in pair.first.context.registry]
    with pytest.raises(asyncpg.UndefinedObjectError, match="no client"):
        await console.execute(f"KILL CLIENT {number}")
    texts = told(console)
    await console.execute("KILL DATABASE law")
    await eventually(client.is_closed)
    assert any("1 clients ended" in text for text in texts)
    await console.execute("RESUME")
    assert await (await pair.client(pair.second)).fetchval("SELECT 1") == 1


async def test_a_gateway_that_comes_later_knows_what_stands(pair: Pair) -> None:
    console = await pair.console(pair.first)
    await console.execute("PAUSE DATABASE law FOR 1h")
    await console.execute("DISABLE INDUSTRY DENTIST")
    before = await _gateways(console)
    async with running(pair.provisioned.settings) as third:
        asked = ask(await pair.client(third))
        assert await still_waits(asked)
        with pytest.raises(asyncpg.PostgresError, match="not currently accepting"):
            await pair.client(third, pair.provisioned.owner_on("dentist").user)
        assert len(await _gateways(console) - before) == 1
        await console.execute("RESUME DATABASE law")
        assert await asked == 1
    assert await _gateways(console) == before, "who stops says so"


async def _gateways(console: asyncpg.Connection) -> set[str]:
    return {row["gateway"] for row in await console.fetch("SHOW GATEWAYS")}


async def test_trap_a_gateway_that_starts_without_the_meta_database_learns_before_it_serves(
    pair: Pair,
) -> None:
    console = await pair.console(pair.second)
    await console.execute("PAUSE DATABASE law FOR 1h")
    dsn = parse(pair.provisioned.url("meta"))
    async with fault_proxy(dsn.host, dsn.port) as proxy:
        proxy.refusing = True
        async with running(behind(proxy, pair.provisioned.settings)) as third:
            with pytest.raises((asyncpg.PostgresError, OSError)):
                await pair.client(third)
            proxy.heal()
            asked = None
            while asked is None:
                try:
                    asked = ask(await pair.client(third))
                except asyncpg.PostgresError:
                    await asyncio.sleep(0.05)
            assert await still_waits(asked)
            await console.execute("RESUME")
            assert await asked == 1


async def test_without_the_meta_database_an_order_stays_at_home_and_says_so(pair: Pair) -> None:
    here, there = await pair.console(pair.first), await pair.console(pair.second)
    own, other = await pair.client(pair.first), await pair.client(pair.second)
    for one in (own, other):
        await one.execute("SELECT 1")
    await there.execute("PAUSE INDUSTRY LAW FOR 1h")
    await eventually(lambda: bool(pair.first.context.pauses.standing.pauses), HERE_S)
    pair.proxy.refusing = True
    pair.proxy.reset()
    texts = told(here)
    await here.execute("RESUME INDUSTRY LAW")
    assert any("other gateways were not told" in text for text in texts)
    assert await own.fetchval("SELECT 1") == 1
    asked = ask(other)
    assert await still_waits(asked)
    await here.execute("PAUSE DATABASE law FOR 1h")
    assert sum("other gateways were not told" in text for text in texts) == 2
    (row,) = await here.fetch("SHOW PAUSES")
    assert row["reach"] == "this gateway"
    mine = ask(own)
    assert await still_waits(mine)
    pair.proxy.heal()
    assert await asyncio.wait_for(asked, 15) == 1, "the end of an order is told later"
    assert await still_waits(mine)
    await here.execute("RESUME")
    assert await mine == 1


async def test_a_pause_is_not_complete_without_a_gateway_that_is_cut_off(pair: Pair) -> None:
    console = await pair.console(pair.second)
    name = next(
        row["gateway"]
        for row in await console.fetch("SHOW GATEWAYS")
        if row["gateway"].endswith(f":{pair.first.address[1]}")
    )
    with pytest.raises(asyncpg.UndefinedObjectError, match="no silent gateway"):
        await console.execute(f"FORGET GATEWAY '{name}'")
    pair.proxy.refusing = True
    pair.proxy.reset()
    with pytest.raises(asyncpg.LockNotAvailableError, match="does not answer") as caught:
        await console.execute("PAUSE DATABASE law TIMEOUT 60s")
    assert name in str(caught.value.hint)
    assert not await console.fetch("SHOW PAUSES")
    await console.execute(f"FORGET GATEWAY '{name}'")
    await console.execute("PAUSE DATABASE law FOR 1h TIMEOUT 5s")
    pair.proxy.heal()
    await eventually(lambda: bool(pair.first.context.pauses.standing.pauses))
    await console.execute("RESUME")


@asynccontextmanager
async def process(pair: Pair, folder: Path) -> AsyncIterator[Fleet]:
    """A third gateway, which can be killed."""
    async with fleet(pair.provisioned.settings, folder, {"workers": 1}) as one:
        yield one


async def test_a_gateway_that_is_killed_in_the_middle_leaves_no_pause_for_ever(
    pair: Pair, tmp_path: Path
) -> None:
    operator = pair.provisioned.logins["operator"]
    console, client = await pair.console(pair.first), await pair.client(pair.first)
    await client.execute("BEGIN")
    await client.execute("SELECT 1")
    async with process(pair, tmp_path) as third:
        admin = await asyncpg.connect(third.url(operator, "gateway"))
        doomed = await asyncpg.connect(third.url(pair.provisioned.owner_on("law")))
        await doomed.execute("BEGIN")
        await doomed.execute("SELECT 1")
        pausing = asyncio.create_task(admin.execute("PAUSE DATABASE law FOR 2s TIMEOUT 60s"))
        await eventually(lambda: bool(pair.first.context.pauses.standing.pauses), HERE_S)
        third.end()
        with pytest.raises((asyncpg.PostgresError, OSError)):
            await pausing
        await client.execute("COMMIT")
        assert await still_waits(asked := ask(client))
        assert await asyncio.wait_for(asked, 5) == 1, "the pause's own time is up"
        with pytest.raises(asyncpg.LockNotAvailableError) as caught:
            await console.execute("PAUSE DATABASE law TIMEOUT 500ms")
        assert f":{third.port}, worker 1 (process " in str(caught.value.detail)
        assert "has not answered" in str(caught.value.detail)
        assert not await console.fetch("SHOW PAUSES")


async def test_trap_orders_can_not_be_made_up(pair: Pair) -> None:
    """Whoever may connect to the meta database can ring the bell, and that is all."""
    meta = await asyncpg.connect(pair.provisioned.url("meta"))
    reads = 0
    read = pair.second.context.directory.board.exchange

    async def counted(
        me: board.Signature, heard: int, told: Mapping[int, Sequence[str]]
    ) -> list[board.Order]:
        nonlocal reads
        reads += 1
        return await read(me, heard, told)

    pair.second.context.directory.board.exchange = counted  # type: ignore[method-assign]
    for number in range(300):
        await meta.execute("SELECT pg_notify($1, $2)", board.CHANNEL, f'["pause", {number}]')
    await eventually(lambda: reads > 0)
    assert reads < 150, "what rings without end is answered at its own pace"
    assert not await (await pair.console(pair.second)).fetch("SHOW PAUSES")
    for table in ("operator_order", "worker"):
        may = f"has_table_privilege('public', 'gateway.{table}', 'SELECT, INSERT, UPDATE, DELETE')"
        assert await meta.fetchval(f"SELECT {may}") is False
    await meta.close()


async def test_two_operators_pause_the_same_and_each_waits_for_all(pair: Pair) -> None:
    here, there = await pair.console(pair.first), await pair.console(pair.second)
    busy = await pair.client(pair.second)
    await busy.execute("BEGIN")
    await busy.execute("SELECT 1")
    first = asyncio.create_task(here.execute("PAUSE DATABASE law FOR 1h TIMEOUT 30s"))
    await eventually(lambda: bool(pair.second.context.pauses.standing.pauses), HERE_S)
    second = asyncio.create_task(there.execute("PAUSE DATABASE law FOR 2h TIMEOUT 400ms"))
    assert await still_waits(first), "another pause has taken the place of this one"
    with pytest.raises(asyncpg.LockNotAvailableError, match="something runs there"):
        await second
    with pytest.raises(asyncpg.LockNotAvailableError, match="not paused any more"):
        await first
    await busy.execute("COMMIT")
