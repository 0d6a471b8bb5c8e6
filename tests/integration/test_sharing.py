"""Short reads of several clients on one server: own answers only, whatever the others do."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable

import asyncpg
import pytest

from gateway.admin.operations import carry_out, still_running
from gateway.pool.core import ServerState
from gateway.pool.pool import Pool
from gateway.protocol import messages
from gateway.session.standing import Deed, Instruction, Kind, Scope
from gateway.worker import Worker
from tests.conftest import FreshDatabase, Provisioned
from tests.running import (
    changed,
    eventually,
    knows_its_tables,
    moved,
    past_the_gateway,
    place,
    pool_of,
    rest,
    running,
)
from tests.wire import Place, Wire, run, send_cancel, sqlstates

CLIENTS = 24
DEPTH = 4
ROUNDS = 40
ITEMS = "CREATE TABLE item AS SELECT n AS id, 'item ' || n AS name FROM generate_series(1, 1000) n"
SLOW = (
    "SELECT count(*) FROM item a, item b, item c"
    " WHERE a.id < 1001 AND b.id < 1001 AND c.id < 21 AND a.name < b.name"
)


class House:
    """A gateway with one database, two servers for it, and lines of four."""

    def __init__(self, worker: Worker, url: str, place: Place) -> None:
        self.worker = worker
        self.url = url
        self.place = place

    @property
    def pool(self) -> Pool:
        return pool_of(self.worker, self.url)


@pytest.fixture
async def house(provisioned: Provisioned, fresh_database: FreshDatabase) -> AsyncIterator[House]:
    url = await fresh_database("sharing")
    await past_the_gateway(url, ITEMS)
    pool = {"max": 2, "share_depth": DEPTH, "share_ms": 200.0}
    settings = moved(changed(provisioned.settings, pool=pool), "LAW", url)
    async with running(settings) as worker:
        house = House(worker, url, place(worker, provisioned.owner_on("law")))
        await knows_its_tables(worker, url, house.place)
        yield house
        await rest(worker)


async def learn(house: House) -> None:
    """Have the gateway see that the reads are short."""
    wire = await Wire.logged_in(house.place)
    for number in range(1, 6):
        await simple(wire, number)
        await unnamed(wire, number)
        await failing(wire, number)
    await wire.close()
    connection = await connect(house.place)
    for number in range(1, 6):
        await prepared(connection, number)
    await connection.close()


def believe_short(house: House, *texts: str) -> None:
    """Have the gateway take these reads for short ones."""
    for text in texts:
        timing = house.worker.context.facts.facts(text.encode()).timing
        assert timing is not None
        for _ in range(8):
            timing.took(0.0001)


async def connect(where: Place) -> asyncpg.Connection:
    return await asyncpg.connect(
        host=where.host,
        port=where.port,
        user=where.user,
        password=where.password,
        database=where.database,
    )


async def simple(wire: Wire, number: int) -> None:
    name = await wire.value(f"SELECT name FROM item WHERE id = {number}")
    assert name == f"item {number}"


async def unnamed(wire: Wire, number: int) -> None:
    wire.send(run("SELECT name FROM item WHERE id = $1::int", str(number).encode()), messages.SYNC)
    told = await wire.until("Z")
    assert "".join(one.tag for one in told) == "12TDCZ"
    assert told[3].cells == [f"item {number}".encode()]


async def failing(wire: Wire, number: int) -> None:
    wire.send(messages.query(f"SELECT 1 / (id - {number}) FROM item WHERE id = {number}"))
    told = await wire.until("Z")
    assert [one.fields["C"] for one in told if one.tag == "E"] == ["22012"]


Way = Callable[[Wire, int], Awaitable[None]]


async def ask(house: House, over: asyncio.Event, client: int, *ways: Way) -> int:
    """One client that asks in these ways, one after the other; how often until it is over."""
    chance = random.Random(client)
    wire = await Wire.logged_in(house.place)
    rounds = 0
    while not over.is_set():
        await chance.choice(ways)(wire, chance.randint(1, 1000))
        rounds += 1
    await wire.close()
    return rounds


async def prepared(connection: asyncpg.Connection, number: int) -> None:
    sql = "SELECT name FROM item WHERE id = $1"
    assert await connection.fetchval(sql, number) == f"item {number}"


async def test_everybody_hears_his_own_answer(house: House) -> None:
    await learn(house)
    kinds: list[Callable[[Wire, int], Awaitable[None]]] = [simple, unnamed, failing]

    async def by_wire(client: int) -> None:
        chance = random.Random(client)
        wire = await Wire.logged_in(house.place)
        for _ in range(ROUNDS):
            await chance.choice(kinds)(wire, chance.randint(1, 1000))
        await wire.close()

    async def by_driver(client: int) -> None:
        chance = random.Random(client)
        connection = await connect(house.place)
        for at in range(ROUNDS):
            number = chance.randint(1, 1000)
            await prepared(connection, number)
            if at % 20 == 10:
                async with connection.transaction():
                    sql = "UPDATE item SET name = name WHERE id = $1 RETURNING name"
                    assert await connection.fetchval(sql, number) == f"item {number}"
        await connection.close()

    await asyncio.gather(*map(by_wire, range(CLIENTS)), *map(by_driver, range(CLIENTS)))
    assert house.pool.counters.rides > CLIENTS


async def test_who_leaves_or_cancels_disturbs_nobody(house: House) -> None:
    """Cancels and clients that vanish in the middle, at any time; the others see no error."""
    await learn(house)
    over = asyncio.Event()

    async def cancelling(client: int) -> int:
        chance = random.Random(client)
        wire = await Wire.logged_in(house.place)
        cancelled = 0
        for _ in range(ROUNDS):
            number = chance.randint(1, 1000)
            wire.send(messages.query(f"SELECT name FROM item WHERE id = {number}"))
            await asyncio.sleep(chance.random() / 200)
            await send_cancel(house.place.host, house.place.port, wire.pid, wire.secret)
            told = await wire.until("Z")
            if told[0].tag == "E":
                assert told[0].fields["C"] == "57014"
                cancelled += 1
            else:
                assert told[1].cells == [f"item {number}".encode()]
        await wire.close()
        return cancelled

    async def vanishing(client: int) -> None:
        chance = random.Random(client)
        for _ in range(ROUNDS // 3):
            wire = await Wire.logged_in(house.place)
            wire.send(messages.query("SELECT name FROM item WHERE id = 7"))
            await asyncio.sleep(chance.random() / 100)
            wire.rst()

    async with asyncio.TaskGroup() as group:
        calm = [
            group.create_task(ask(house, over, client, simple, unnamed))
            for client in range(CLIENTS)
        ]
        await asyncio.gather(*map(cancelling, range(6)), *map(vanishing, range(4)))
        over.set()
    assert all(task.result() > 0 for task in calm)
    assert house.pool.counters.rides > CLIENTS


async def test_a_server_that_dies_has_the_others_ask_elsewhere(house: House) -> None:
    await learn(house)
    over = asyncio.Event()
    lost = 0

    async def steady(client: int) -> None:
        nonlocal lost
        chance = random.Random(client)
        wire = await Wire.logged_in(house.place)
        while not over.is_set():
            number = chance.randint(1, 1000)
            wire.send(messages.query(f"SELECT name FROM item WHERE id = {number}"))
            told = await wire.until("ZE")
            if told[-1].tag == "E":
                assert told[-1].fields["C"] in ("57P01", "08006")
                lost += 1
                wire.rst()
                wire = await Wire.logged_in(house.place)
            else:
                assert told[1].cells == [f"item {number}".encode()]
        await wire.close()

    async with asyncio.TaskGroup() as group:
        for client in range(CLIENTS):
            group.create_task(steady(client))
        for _ in range(10):
            await asyncio.sleep(0.1)
            await past_the_gateway(
                house.url,
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
                " AND backend_type = 'client backend' LIMIT 1",
            )
        over.set()
    assert lost <= 10, "more than one client saw the death of one server"
    assert house.pool.counters.rides > CLIENTS


async def test_a_slow_read_keeps_nobody_in_line(house: House) -> None:
    """It was short before: who got in line behind it is served elsewhere."""
    wires = [await Wire.logged_in(house.place) for _ in range(7)]
    short = "SELECT name FROM item WHERE id = 5"
    believe_short(house, SLOW, short)
    await wires[0].query("SELECT 1")
    house.pool.sharing.short_s = 0.02
    holders, slow, others = wires[:2], wires[2], wires[3:]
    for holder in holders:
        await holder.query("BEGIN")
    for asked, one in enumerate((slow, *others)):
        one.send(messages.query(SLOW if one is slow else short))
        await eventually(lambda at=asked: len(house.pool.core.queue) == at + 1)  # type: ignore[misc]
    await holders[0].query("COMMIT")
    await eventually(lambda: house.pool.counters.rides > 0)
    await holders[1].query("COMMIT")
    told = await asyncio.gather(*(one.until("Z") for one in others))
    assert [one[1].cells for one in told] == [[b"item 5"]] * len(others)
    assert house.pool.core.count(ServerState.BUSY) == 1, "the slow one goes on"
    assert (await slow.until("Z"))[1].cells == [b"9990000"]
    for one in wires:
        await one.close()


async def test_a_pause_waits_for_an_owners_read_in_line_behind_another_owners(
    provisioned: Provisioned, fresh_database: FreshDatabase
) -> None:
    """For what was sent will be run: an owner's move may not go on before that."""
    url = await fresh_database("owners")
    await past_the_gateway(url, ITEMS)
    first, second = [one for one in provisioned.owners if one.shard == "medical_1"][:2]
    pool = {"max": 1, "share_depth": DEPTH, "share_ms": 1000.0}
    settings = moved(changed(provisioned.settings, pool=pool), "MEDICAL", url)
    short = "SELECT name FROM item WHERE id = 5"
    async with running(settings) as worker:
        house = House(worker, url, place(worker, first, "medical"))
        await knows_its_tables(worker, url, house.place)
        holder, ahead = [await Wire.logged_in(house.place) for _ in range(2)]
        behind = await Wire.logged_in(place(worker, second, "medical"))
        believe_short(house, SLOW, short)
        await holder.query("BEGIN")
        for waiting, (wire, sql) in enumerate(((ahead, SLOW), (behind, short))):
            wire.send(messages.query(sql))
            await eventually(lambda at=waiting: len(house.pool.core.queue) == at + 1)  # type: ignore[misc]
        paused = Scope(Kind.OWNER, str(second.owner))
        assert not still_running(worker.context, paused)
        await holder.query("COMMIT")
        assert house.pool.counters.rides == 1
        assert still_running(worker.context, paused)
        assert (await ahead.until("Z"))[1].cells == [b"9990000"]
        assert (await behind.until("Z"))[1].cells == [b"item 5"]
        assert not still_running(worker.context, paused)
        for wire in (holder, ahead, behind):
            await wire.close()
        await rest(worker)


async def test_orders_and_new_bounds_disturb_nobody_in_line(house: House) -> None:
    """Connections replaced, the bound lowered and raised, all paused: nobody hears of it."""
    await learn(house)
    over = asyncio.Event()

    pool, context = house.pool, house.worker.context
    everything = Scope(Kind.ALL)
    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(ask(house, over, client, simple, unnamed, failing))
            for client in range(CLIENTS)
        ]
        for number in range(1, 400):
            if number > 20 and pool.counters.rides > CLIENTS:
                break
            await asyncio.sleep(0.05)
            pool.reconnect()
            pool.resize(pool.limits.model_copy(update={"max": 1 + number % 2}))
            carry_out(context, Instruction(Deed.PAUSE, everything))
            assert everything in context.pauses.standing.pauses
            await eventually(lambda: not still_running(context, everything))
            assert not any(server.line for server in pool.core.servers(ServerState.BUSY))
            carry_out(context, Instruction(Deed.RESUME, everything))
        over.set()
    assert all(task.result() > 0 for task in tasks)
    assert pool.counters.rides > CLIENTS


async def test_who_may_hold_one_server_only_rides_with_nobody_of_his_own(
    provisioned: Provisioned, fresh_database: FreshDatabase
) -> None:
    """An owner's bound is on statements at a time, in line or not."""
    url = await fresh_database("bounded")
    await past_the_gateway(url, "CREATE TABLE item AS SELECT 1 AS id, 'item 1' AS name")
    owner = provisioned.owner_on("law")
    settings = changed(
        moved(provisioned.settings, "LAW", url),
        pool={"max": 2, "share_depth": DEPTH, "share_ms": 200.0},
        limits={"owners": {str(owner.owner): {"servers": 1}}},
    )
    async with running(settings) as worker:
        house = House(worker, url, place(worker, owner))
        wires = [await Wire.logged_in(house.place) for _ in range(8)]
        believe_short(house, "SELECT name FROM item WHERE id = 1")

        async def ask(wire: Wire) -> None:
            for _ in range(20):
                await simple(wire, 1)

        await asyncio.gather(*map(ask, wires))
        assert house.pool.counters.waits > 0
        assert house.pool.counters.rides == 0
        for wire in wires:
            await wire.close()
        await rest(worker)


async def test_who_waits_in_vain_behind_full_lines_hears_so(house: House) -> None:
    """The queue's bound on time holds for who waits; who is in line is answered."""
    await learn(house)
    house.pool.limits = house.pool.limits.model_copy(update={"queue_timeout_ms": 300})
    holders = [await Wire.logged_in(house.place) for _ in range(2)]
    others = [await Wire.logged_in(house.place) for _ in range(6)]
    for holder in holders:
        await holder.query("BEGIN")
    for wire in others:
        wire.send(messages.query("SELECT name FROM item WHERE id = 7"))
    told = await asyncio.gather(*(wire.until("Z") for wire in others))
    assert [sqlstates(one) for one in told] == [["53300"]] * len(others)
    for wire in others:
        wire.send(messages.query("SELECT name FROM item WHERE id = 7"))
    await eventually(lambda: len(house.pool.core.queue) == len(others))
    await holders[0].query("COMMIT")
    told = await asyncio.gather(*(wire.until("Z") for wire in others))
    assert [one[1].cells for one in told] == [[b"item 7"]] * len(others)
    assert house.pool.counters.rides > 0
    for wire in (*holders, *others):
        await wire.close()
