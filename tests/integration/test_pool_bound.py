"""Many clients over few servers: never more than allowed, everyone served, own rows only."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

import asyncpg
import psycopg
import pytest

from gateway.protocol import messages
from gateway.worker import Worker
from tests.conftest import FreshDatabase, Provisioned
from tests.running import (
    backends,
    changed,
    figures,
    moved,
    past_the_gateway,
    place,
    pool_of,
    rest,
    running,
    unhandled,
)
from tests.wire import Place, Wire, bind, execute, parse_, run

CLIENTS = 200
POOL_MAX = 5
ROUNDS = 8


@dataclass(frozen=True, slots=True)
class House:
    """A gateway with a pool of five over a database of its own."""

    worker: Worker
    url: str
    place: Place


@pytest.fixture(scope="module")
async def house(provisioned: Provisioned, fresh_database: FreshDatabase) -> AsyncIterator[House]:
    url = await fresh_database("bound")
    await past_the_gateway(url, "CREATE TABLE tagged (client int, round int)")
    settings = moved(changed(provisioned.settings, pool={"max": POOL_MAX}), "LAW", url)
    async with running(settings) as worker:
        yield House(worker, url, place(worker, provisioned.owner_on("law")))


async def with_asyncpg(where: Place, client: int) -> None:
    """Named prepared statements, some of them inside transactions."""
    connection = await asyncpg.connect(
        host=where.host,
        port=where.port,
        user=where.user,
        password=where.password,
        database=where.database,
    )
    try:
        insert = await connection.prepare("INSERT INTO tagged VALUES ($1, $2) RETURNING client")
        own = await connection.prepare("SELECT round FROM tagged WHERE client = $1 ORDER BY 1")
        for round_ in range(ROUNDS):
            async with connection.transaction():
                assert await insert.fetchval(client, round_) == client
                assert await connection.fetchval("SELECT $1::int", client) == client
            rows = await own.fetch(client)
            assert [row["round"] for row in rows] == list(range(round_ + 1))
    finally:
        await connection.close()


async def with_psycopg(where: Place, client: int) -> None:
    """Unnamed and named statements, transactions that roll back, now and then an error."""
    connection = await psycopg.AsyncConnection.connect(
        host=where.host,
        port=where.port,
        user=where.user,
        password=where.password,
        dbname=where.database,
        prepare_threshold=3,
    )
    async with connection:
        for round_ in range(ROUNDS):
            await connection.execute("INSERT INTO tagged VALUES (%s, -1)", (client,))
            await connection.rollback()
            await connection.execute("INSERT INTO tagged VALUES (%s, %s)", (client, round_))
            await connection.commit()
            cursor = await connection.execute(
                "SELECT round, %s::int FROM tagged WHERE client = %s ORDER BY 1", (client, client)
            )
            rows = await cursor.fetchall()
            assert rows == [(before, client) for before in range(round_ + 1)]
            await connection.commit()
            with pytest.raises(psycopg.errors.DivisionByZero):
                await connection.execute("SELECT 1 / %s", (0,))
            await connection.rollback()


async def with_bare_messages(where: Place, client: int) -> None:
    """Pipelines and simple queries, whose every answer carries the client's tag."""
    tag = str(client).encode()
    wire = await Wire.logged_in(where)
    wire.send(parse_("own", "SELECT count(*), $1::int FROM tagged WHERE client = $1"))
    for round_ in range(ROUNDS):
        values = [tag, str(round_).encode()]
        wire.send(
            run("INSERT INTO tagged VALUES ($1::int, $2::int) RETURNING client", *values),
            messages.SYNC,
            bind("own", [tag]),
            execute(),
            messages.SYNC,
            messages.query(f"BEGIN; SELECT {client}"),
            messages.query(f"SELECT {client}; COMMIT"),
        )
        heard = await wire.until("Z", 4)
        assert "E" not in [one.tag for one in heard]
        rows = [one.cells for one in heard if one.tag == "D"]
        assert rows == [[tag], [str(round_ + 1).encode(), tag], [tag], [tag]]
    await wire.close()


KINDS: tuple[Callable[[Place, int], Awaitable[None]], ...] = (
    with_asyncpg,
    with_psycopg,
    with_bare_messages,
)


async def test_two_hundred_clients_over_a_pool_of_five(house: House) -> None:
    with backends(house.url) as watch:
        async with asyncio.timeout(90):
            await asyncio.gather(
                *(KINDS[client % len(KINDS)](house.place, client) for client in range(CLIENTS))
            )
    counters = pool_of(house.worker, house.url).counters
    print(
        f"most backends {watch.most} of {POOL_MAX} in {watch.samples} samples;"
        f" {counters.checkouts} checkouts, {counters.waits} of them waited"
    )
    assert watch.most <= POOL_MAX
    assert counters.waits > CLIENTS
    assert counters.timeouts == counters.rejections == 0
    rows = await past_the_gateway(
        house.url, "SELECT client, count(*), count(DISTINCT round) FROM tagged GROUP BY client"
    )
    assert {tuple(row) for row in rows} == {(one, ROUNDS, ROUNDS) for one in range(CLIENTS)}
    await rest(house.worker)
    assert figures(pool_of(house.worker, house.url))["idle"] <= POOL_MAX


async def test_the_queue_is_bounded_in_length_and_time(
    provisioned: Provisioned, house: House
) -> None:
    """Who waits too long, or finds it full, is told so and may go on."""
    settings = house.worker.context.settings
    short = changed(settings, pool={"max": 1, "queue_timeout_ms": 300, "queue_max": 2})
    async with running(short) as worker:
        where = place(worker, provisioned.owner_on("law"))
        holder, *waiters = [await Wire.logged_in(where) for _ in range(4)]
        await holder.query("BEGIN")
        for waiter in waiters:
            waiter.send(messages.query("SELECT 'waited'"))
            await asyncio.sleep(0.05)
        full = await waiters[2].until("Z")
        assert [one.tag for one in full] == ["E", "Z"]
        assert full[0].fields["C"] == "53300"
        late = await waiters[0].until("Z")
        assert late[0].fields["C"] == "53300"
        assert "0.3 s" in late[0].fields["M"]
        assert (await waiters[1].until("Z"))[0].fields["C"] == "53300"
        await holder.query("COMMIT")
        for wire in (holder, *waiters):
            assert await wire.value("SELECT 'served'") == "served"
            await wire.close()
        await rest(worker)


async def test_trap_a_pool_and_its_successor_share_the_bound_in_a_reload(
    provisioned: Provisioned, fresh_database: FreshDatabase
) -> None:
    """A changed URL gives the database a new pool while clients still hold servers of the old."""
    url = await fresh_database("successor")
    base = moved(changed(provisioned.settings, pool={"max": 3}), "LAW", url)
    with unhandled() as problems:
        reread = [base]
        worker = Worker(base, lambda: reread[0])
        await worker.start()
        try:
            where = place(worker, provisioned.owner_on("law"))
            holders = [await Wire.logged_in(where) for _ in range(3)]
            others = [await Wire.logged_in(where) for _ in range(6)]
            for holder in holders:
                await holder.query("BEGIN")
            reread[0] = moved(base, "LAW", f"{url}?connect_timeout=7")
            with backends(url) as watch:
                worker.reload()
                for other in others:
                    other.send(messages.query("SELECT 'served'"))
                await asyncio.sleep(0.5)
                for holder in holders:
                    await holder.query("COMMIT")
                for other in others:
                    assert (await other.until("Z"))[-1].tag == "Z"
                    assert await other.value("SELECT 'again'") == "again"
            assert watch.most == 3
            for wire in (*holders, *others):
                await wire.close()
            await rest(worker)
        finally:
            await worker.stop()
    assert not problems
