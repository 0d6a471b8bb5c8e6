"""A read whose server dies before it has answered is asked again, when that is provably safe."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import asyncpg
import pytest

from gateway.admin.metrics import WorkerCollector
from gateway.errors import ShuttingDown
from gateway.health.look import Connection
from gateway.protocol import messages
from gateway.router.identity import LoginKind
from gateway.settings.dsn import parse
from gateway.worker import Worker
from tests.conftest import Provisioned
from tests.fault_proxy import FaultProxy, fault_proxy
from tests.running import (
    SETTLE_S,
    changed,
    eventually,
    moved,
    past_the_gateway,
    place,
    rest,
    running,
)
from tests.wire import EOF, Message, Place, Wire, bind, execute, parse_

SYNC = b"S\0\0\0\4"
READ = 'SELECT name FROM "Thing" ORDER BY 1'
ROWS = [b"one", b"two"]


@dataclass(frozen=True, slots=True)
class House:
    """A gateway that reaches LAW's database through a proxy only."""

    worker: Worker
    proxy: FaultProxy
    provisioned: Provisioned
    url: str

    async def client(self, kind: LoginKind = LoginKind.OWNER) -> Wire:
        """Logged in, and known to be served."""
        where = place(self.worker, self.provisioned.owner_on("law"))
        if kind is LoginKind.SERVICE:
            logins = self.provisioned.logins.values()
            app = next(one for one in logins if one.kind is kind)
            owner = self.provisioned.owner_on("law").owner
            startup = (("options", f"-c gateway.owner={owner}"),)
            where = Place(where.host, where.port, app.user, app.password, "crm", startup)
        wire = await Wire.logged_in(where)
        assert rows(await wire.query(READ)) == ROWS
        return wire

    async def lose_the_answer(self) -> None:
        """What is under way has run, and its answer never comes; then the connection is reset."""
        await asyncio.sleep(0.1)
        self.proxy.heal()

    @property
    def repeated(self) -> int:
        """Reads asked again since the test began."""
        return self.worker.context.counters.reads_repeated


@pytest.fixture(scope="module")
async def shared(provisioned: Provisioned) -> AsyncIterator[House]:
    url = provisioned.url("law")
    dsn = parse(url)
    await past_the_gateway(url, 'CREATE TABLE "Thing" (name text)')
    await past_the_gateway(url, """INSERT INTO "Thing" VALUES ('one'), ('two')""")
    async with fault_proxy(dsn.host, dsn.port) as proxy:
        settings = moved(changed(provisioned.settings, pool={"max": 3}), "LAW", proxy.url(url))
        async with running(settings) as worker:
            yield House(worker, proxy, provisioned, url)
    await past_the_gateway(url, 'DROP TABLE "Thing"')


@pytest.fixture
async def house(shared: House) -> AsyncIterator[House]:
    """The same for all; each test leaves it at rest."""
    context = shared.worker.context
    context.counters.reads_repeated = 0
    before = context.settings
    yield shared
    shared.proxy.heal()
    context.settings, context.holds.settings = before, before.failover
    await rest(shared.worker)


def rows(heard: list[Message]) -> list[bytes | None]:
    return [one.cells[0] for one in heard if one.tag == "D"]


def told(heard: list[Message]) -> str:
    """The SQLSTATE of the error, empty when there is none."""
    return next((one.fields["C"] for one in heard if one.tag == "E"), "")


def waited(worker: Worker) -> float:
    """How often clients have waited for a database, as the metrics tell."""
    families = {one.name: one for one in WorkerCollector(worker.views).collect()}
    return next(
        sample.value
        for sample in families["gateway_holds"].samples
        if sample.labels == {"reason": "failover"}
    )


SHAPES = {
    "simple": messages.query(READ),
    "unnamed": parse_("", READ) + bind("") + execute() + SYNC,
    "named in the same batch": parse_("new", f"{READ} LIMIT 9") + bind("new") + execute() + SYNC,
    "prepared before": bind("known") + execute() + SYNC,
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", [LoginKind.OWNER, LoginKind.SERVICE])
async def test_a_read_whose_answer_is_lost_is_asked_again(
    house: House, kind: LoginKind, shape: str
) -> None:
    wire, waited_before = await house.client(kind), waited(house.worker)
    wire.send(parse_("known", READ) + SYNC)
    await wire.until("Z")
    house.proxy.half_open = True
    wire.send(SHAPES[shape])
    await house.lose_the_answer()
    heard = await wire.until("Z")
    assert rows(heard) == ROWS
    assert not told(heard)
    assert house.repeated == 1
    assert waited(house.worker) == waited_before + 1
    name = "new" if shape.startswith("named") else "known"
    wire.send(bind(name) + execute() + SYNC)
    assert rows(await wire.until("Z")) == ROWS, "what it prepared is there still"
    await wire.close()


WAITING = "FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"


@asynccontextmanager
async def locked(house: House) -> AsyncIterator[Connection]:
    """The table can't be read; by a connection that is not the gateway's."""
    locking: Connection = await asyncpg.connect(house.url)
    try:
        async with locking.transaction():
            await locking.execute('LOCK TABLE "Thing"')
            yield locking
    finally:
        await locking.close()


async def some(locking: Connection, what: str) -> None:
    """Until a count of what waits for the table is above nothing."""
    async with asyncio.timeout(SETTLE_S):
        while not await locking.fetchval(f"SELECT count({what}) {WAITING}"):
            await locking.execute("SELECT pg_sleep(0.01), pg_stat_clear_snapshot()")


@pytest.mark.parametrize("shape", ["simple", "prepared before"])
@pytest.mark.parametrize("kind", [LoginKind.OWNER, LoginKind.SERVICE])
async def test_a_read_is_asked_again_when_its_server_is_ended(
    house: House, kind: LoginKind, shape: str
) -> None:
    """57P01 of a shutdown, in place of an answer."""
    wire = await house.client(kind)
    wire.send(parse_("known", READ) + SYNC)
    await wire.until("Z")
    async with locked(house) as locking:
        wire.send(SHAPES[shape])
        await some(locking, "pg_terminate_backend(pid) OR NULL")
    heard = await wire.until("Z")
    assert rows(heard) == ROWS
    assert not told(heard)
    await wire.close()


async def test_a_read_is_asked_again_once_only(house: House) -> None:
    """One that kills its server does so twice at most."""
    wire = await house.client()
    async with locked(house) as locking:
        wire.send(SHAPES["simple"])
        await some(locking, "*")
        await some(locking, "pg_terminate_backend(pid) OR NULL")
        await eventually(lambda: house.repeated == 1)
        await some(locking, "*")
        house.proxy.reset()
        assert told(await wire.until("Z")) == "08006"
    assert house.repeated == 1


async def test_the_first_read_of_a_transaction_without_a_place_is_asked_again(
    house: House,
) -> None:
    wire = await house.client(LoginKind.SERVICE)
    assert not told(await wire.query("BEGIN READ ONLY"))
    house.proxy.half_open = True
    wire.send(SHAPES["simple"])
    await house.lose_the_answer()
    heard = await wire.until("Z")
    assert rows(heard) == ROWS
    assert heard[-1].body == b"T", "in the transaction"
    assert await wire.value("SHOW transaction_read_only") == "on"
    assert not told(await wire.query("COMMIT"))
    await wire.close()


TRUE_ERRORS = {
    "a write": ([], """INSERT INTO "Thing" VALUES ('three')"""),
    "a function that may do anything": ([], 'SELECT name, random() FROM "Thing"'),
    "a locking read": ([], 'SELECT name FROM "Thing" FOR UPDATE'),
    "in a transaction": (["BEGIN", 'SELECT 1 FROM "Thing"'], READ),
    "in a transaction's first batch": ([], f"BEGIN; {READ}"),
    "on a server that is the client's": (["CREATE TEMP TABLE mine (a int)"], READ),
}


@pytest.mark.parametrize("what", TRUE_ERRORS)
async def test_all_else_gets_the_true_error_at_once(house: House, what: str) -> None:
    before, last = TRUE_ERRORS[what]
    wire = await house.client()
    for text in before:
        assert not told(await wire.query(text))
    house.proxy.half_open = True
    wire.send(messages.query(last))
    await house.lose_the_answer()
    heard = await wire.until("Z")
    assert told(heard) == "08006"
    assert heard[-1] is EOF
    assert house.repeated == 0


async def test_a_read_on_a_primary_that_is_one_no_more_is_asked_again(house: House) -> None:
    reading, writing = await house.client(), await house.client()
    law = house.worker.context.snapshot.shards["law"].primary
    async with locked(house) as locking:
        reading.send(SHAPES["simple"])
        writing.send(messages.query('UPDATE "Thing" SET name = name'))
        while await locking.fetchval(f"SELECT count(*) {WAITING}") < 2:
            await locking.execute("SELECT pg_sleep(0.01), pg_stat_clear_snapshot()")
        house.worker.context.pools.fence(law, ShuttingDown("it is no primary any more"))
        assert told(await writing.until("Z")) == "57P01"
    assert rows(await reading.until("Z")) == ROWS
    await reading.close()


async def test_trap_what_was_told_in_part_is_not_asked_again_nor_torn_rows_filled(
    house: House,
) -> None:
    """A row of which a part has been passed on is not completed with an error's bytes."""
    wire = await house.client()
    house.proxy.cut_after_bytes = 100_000
    heard = await wire.query("SELECT repeat('x', 1000) FROM generate_series(1, 10000)")
    *whole, torn, end = heard
    assert set(rows(whole)) == {b"x" * 1000}
    assert end is EOF
    assert set(torn.body[6:]) <= set(b"x")
    assert house.repeated == 0
    house.proxy.heal()


async def test_a_cancelled_read_is_not_asked_again(house: House) -> None:
    wire = await house.client()
    house.proxy.half_open = True
    wire.send(SHAPES["simple"])
    await asyncio.sleep(0.1)
    session = next(iter(house.worker.context.registry))
    session.cancel()
    house.proxy.heal()
    assert told(await wire.until("Z")) == "08006"
    assert house.repeated == 0


@pytest.mark.parametrize(
    "failover", [{"repeat_reads_ms": 0}, {"repeat_reads_ms": 50}, {"hold_ms": 0}]
)
async def test_by_the_settings_it_is_told_at_once(house: House, failover: dict[str, int]) -> None:
    """Never, not as late as this, and not without a place to wait in."""
    context = house.worker.context
    context.settings = changed(context.settings, failover=failover)
    context.holds.settings = context.settings.failover
    wire = await house.client()
    house.proxy.half_open = True
    wire.send(SHAPES["simple"])
    await house.lose_the_answer()
    assert told(await wire.until("Z")) == "08006"
    assert house.repeated == 0
