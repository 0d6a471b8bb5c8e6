"""Cancel requests reach the statement they are for, and never anyone else's."""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import AsyncIterator

import asyncpg
import psycopg
import pytest

from gateway.protocol import messages
from gateway.protocol.startup import PROTOCOL_3_0, PROTOCOL_3_2
from gateway.worker import Worker
from tests.conftest import FreshDatabase, Provisioned
from tests.running import changed, eventually, moved, place, pool_of, rest, running
from tests.wire import Place, Wire, run, send_cancel, sqlstates

RACES = int(os.environ.get("GATEWAY_TEST_CANCEL_RACES", "600"))
"""Rounds of the race below; each takes about ten milliseconds."""

SLEEP = messages.query("SELECT pg_sleep(60)")
CANCELED = "57014"


@pytest.fixture(scope="module")
async def url(fresh_database: FreshDatabase) -> str:
    return await fresh_database("cancel")


@pytest.fixture(scope="module")
async def gateway(provisioned: Provisioned, url: str) -> AsyncIterator[Worker]:
    """One server for everybody: whoever is hit by a stray cancel is the next client."""
    settings = moved(changed(provisioned.settings, pool={"max": 1}), "LAW", url)
    async with running(settings) as worker:
        yield worker


@pytest.fixture
def through(provisioned: Provisioned, gateway: Worker) -> Place:
    return place(gateway, provisioned.owner_on("law"))


@pytest.mark.parametrize("version", [PROTOCOL_3_0, PROTOCOL_3_2], ids=["3.0", "3.2"])
async def test_a_running_statement_is_cancelled(
    version: int, through: Place, gateway: Worker
) -> None:
    wire = await Wire.logged_in(through, version=version)
    for statement in (SLEEP, run("SELECT pg_sleep(60)") + messages.SYNC):
        wire.send(statement)
        await asyncio.sleep(0.05)
        began = time.monotonic()
        await send_cancel(through.host, through.port, wire.pid, wire.secret)
        heard = await wire.until("Z")
        assert sqlstates(heard) == [CANCELED]
        assert time.monotonic() - began < 5
        assert await wire.value("SELECT 'goes on'") == "goes on"
    await wire.close()
    await rest(gateway)


async def test_psycopg_cancels(through: Place) -> None:
    connection = await psycopg.AsyncConnection.connect(
        host=through.host,
        port=through.port,
        user=through.user,
        password=through.password,
        dbname=through.database,
    )
    async with connection:
        task = asyncio.create_task(connection.execute("SELECT pg_sleep(60)"))
        await asyncio.sleep(0.1)
        await connection.cancel_safe()
        with pytest.raises(psycopg.errors.QueryCanceled):
            await task
        await connection.rollback()
        cursor = await connection.execute("SELECT 1")
        assert await cursor.fetchone() == (1,)


async def test_asyncpg_cancels(through: Place) -> None:
    connection = await asyncpg.connect(
        host=through.host,
        port=through.port,
        user=through.user,
        password=through.password,
        database=through.database,
    )
    try:
        with pytest.raises(TimeoutError):
            await connection.execute("SELECT pg_sleep(60)", timeout=0.1)
        assert await connection.fetchval("SELECT 1") == 1
    finally:
        await connection.close()


async def test_who_waits_for_a_server_is_cancelled_and_leaves_the_queue(
    through: Place, gateway: Worker, url: str
) -> None:
    holder, waiter, next_one = [await Wire.logged_in(through) for _ in range(3)]
    await holder.query("BEGIN")
    for statement in (SLEEP, run("SELECT pg_sleep(60)") + messages.SYNC):
        waiter.send(statement)
        queue = pool_of(gateway, url).core.queue
        await eventually(lambda queue=queue: len(queue) == 1)  # type: ignore[misc]
        await send_cancel(through.host, through.port, waiter.pid, waiter.secret)
        heard = await waiter.until("Z")
        assert sqlstates(heard) == [CANCELED]
        assert heard[-1].body == b"I"
        assert not queue
    next_one.send(messages.query("SELECT 'served'"))
    await holder.query("COMMIT")
    assert [one.tag for one in await next_one.until("Z")] == ["T", "D", "C", "Z"]
    for wire in (holder, waiter, next_one):
        await wire.close()
    await rest(gateway)


async def test_a_wrong_key_is_ignored(through: Place, gateway: Worker) -> None:
    wire, other = await Wire.logged_in(through), await Wire.logged_in(through)
    unknown = gateway.context.counters.cancels_unknown
    wire.send(messages.query("SELECT pg_sleep(0.5)"))
    wrong = [
        (wire.pid, bytes(4)),
        (wire.pid, other.secret),
        (wire.pid, wire.secret + b"\0"),
        (wire.pid, wire.secret[:-1]),
        (wire.pid + 1000, wire.secret),
        (-1, wire.secret),
        (wire.pid, bytes(256)),
    ]
    for pid, secret in wrong:
        await send_cancel(through.host, through.port, pid, secret)
    assert sqlstates(await wire.until("Z")) == []
    assert gateway.context.counters.cancels_unknown == unknown + len(wrong)
    await send_cancel(through.host, through.port, other.pid, other.secret)
    for one in (wire, other):
        assert await one.value("SELECT 'unharmed'") == "unharmed"
        await one.close()
    await rest(gateway)


async def test_keys_are_unguessable_and_not_used_twice(through: Place) -> None:
    wires = [await Wire.logged_in(through) for _ in range(20)]
    assert len({wire.pid for wire in wires}) == len({wire.secret for wire in wires}) == 20
    for wire in wires:
        await wire.close()


async def test_trap_a_stale_cancel_never_hits_the_next_client(
    through: Place, gateway: Worker
) -> None:
    """A's cancels come at any moment around the end of its statement; B takes over at once.

    Both share one server. B must never be told that its statement was cancelled, and A only when
    the cancel came in time.
    """
    chance = random.Random(1)
    a, b = await Wire.logged_in(through), await Wire.logged_in(through)
    cancelled = 0
    cancels: list[asyncio.Task[None]] = []

    async def cancel_soon(delay_s: float) -> None:
        await asyncio.sleep(delay_s)
        await send_cancel(through.host, through.port, a.pid, a.secret)

    for number in range(RACES):
        length_s = chance.choice((0.0, 0.002, 0.006, 0.012))
        a.send(messages.query(f"SELECT pg_sleep({length_s})"))
        delays_s = [chance.uniform(0, length_s) for _ in range(chance.choice((1, 1, 3)))]
        cancels = [asyncio.create_task(cancel_soon(delay_s)) for delay_s in delays_s]
        b.send(messages.query(f"SELECT {number} FROM pg_sleep(0.0005)"))
        of_a, of_b = await asyncio.gather(a.until("Z"), b.until("Z"))
        assert sqlstates(of_b) == [], f"round {number}: B was hit"
        assert [one.cells for one in of_b if one.tag == "D"] == [[str(number).encode()]]
        assert sqlstates(of_a) in ([], [CANCELED])
        cancelled += bool(sqlstates(of_a))
        await asyncio.gather(*cancels)
    print(f"{RACES} rounds, A cancelled in {cancelled}, B never")
    assert 0 < cancelled < RACES, "there was no race"
    for wire in (a, b):
        await wire.close()
    await rest(gateway)


async def test_trap_a_cancel_is_over_when_its_connection_ends(through: Place) -> None:
    """As DBD::Pg does: cancel what has ended already, then run the next statement."""
    wire = await Wire.logged_in(through)
    assert sqlstates(await wire.query("BEGIN; SELECT 1")) == []
    for number in range(100):
        await send_cancel(through.host, through.port, wire.pid, wire.secret)
        heard = await wire.query("SELECT pg_sleep(0.002)")
        assert sqlstates(heard) == [], f"round {number}: the next statement was hit"
    await wire.close()


async def test_trap_a_flood_of_cancels_leaks_nothing(through: Place, gateway: Worker) -> None:
    wire = await Wire.logged_in(through)
    descriptors = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    wire.send(SLEEP)
    await asyncio.sleep(0.05)
    await asyncio.gather(
        *(send_cancel(through.host, through.port, wire.pid, wire.secret) for _ in range(100)),
        *(send_cancel(through.host, through.port, wire.pid, b"wrong") for _ in range(100)),
    )
    assert sqlstates(await wire.until("Z")) == [CANCELED]
    assert await wire.value("SELECT 'goes on'") == "goes on"
    await rest(gateway, clients=1)
    await eventually(lambda: len(os.listdir("/proc/self/fd")) <= descriptors)  # noqa: PTH208
    await wire.close()
    await rest(gateway)
