"""Traps by which one client gets, or spoils, what is another's: two of them share one server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

import pytest

from gateway.pool.core import ServerState
from gateway.protocol import messages
from gateway.settings.model import Settings
from gateway.worker import Worker
from tests.conftest import FreshDatabase, Provisioned
from tests.running import (
    changed,
    eventually,
    moved,
    past_the_gateway,
    place,
    pool_of,
    rest,
    running,
)
from tests.wire import (
    COPY_DONE,
    Message,
    Place,
    Script,
    Wire,
    bind,
    close_,
    copy_data,
    copy_fail,
    describe,
    execute,
    parse_,
    run,
    send_cancel,
    sqlstates,
    transcript,
)

QUERY, SYNC, FLUSH = messages.query, messages.SYNC, messages.FLUSH

SERVER_STATEMENTS_MAX = 3
CLIENT_STATEMENTS_MAX = 50


@dataclass(frozen=True, slots=True)
class House:
    """A gateway with one server for everybody, over a database of its own."""

    worker: Worker
    url: str
    place: Place

    async def clients(self, number: int) -> list[Wire]:
        return [await Wire.logged_in(self.place) for _ in range(number)]

    async def leave(self, *wires: Wire) -> None:
        """All say goodbye; nothing may be left of them."""
        for wire in wires:
            await wire.close()
        await rest(self.worker)


def one_server(settings: Settings, url: str) -> Settings:
    limits = {
        "max": 1,
        "server_statements_max": SERVER_STATEMENTS_MAX,
        "client_statements_max": CLIENT_STATEMENTS_MAX,
    }
    return moved(changed(settings, pool=limits), "LAW", url)


@pytest.fixture(scope="module")
async def house(provisioned: Provisioned, fresh_database: FreshDatabase) -> AsyncIterator[House]:
    url = await fresh_database("rows")
    async with running(one_server(provisioned.settings, url)) as worker:
        yield House(worker, url, place(worker, provisioned.owner_on("law")))


def tags(heard: list[Message]) -> str:
    return "".join(one.tag for one in heard)


def cells(heard: list[Message]) -> list[bytes | None]:
    """The first cell of every row."""
    return [one.cells[0] for one in heard if one.tag == "D"]


# --- when a server is given back -------------------------------------------------------------


async def test_trap_a_pipeline_keeps_its_server_up_to_its_last_sync(house: House) -> None:
    """B wants the only server all the time while A's Syncs come back one by one."""
    a, b = await house.clients(2)
    for turn in range(20):
        steps = [run(f"SELECT '{turn}.{n}' FROM pg_sleep(0.002)") + SYNC for n in range(10)]
        a.send(*steps)
        for n in range(5):
            b.send(QUERY(f"SELECT 'b {turn}.{n}'"))
        of_a, of_b = await asyncio.gather(a.until("Z", 10), b.until("Z", 5))
        assert cells(of_a) == [f"{turn}.{n}".encode() for n in range(10)]
        assert cells(of_b) == [f"b {turn}.{n}".encode() for n in range(5)]
    await house.leave(a, b)


@pytest.mark.parametrize("kilobytes", [60, 200, 800, 4_000])
async def test_trap_rows_still_on_their_way_to_a_slow_client_reach_nobody_else(
    house: House, kilobytes: int
) -> None:
    """A asks and does not read; B takes the server over as soon as it is free."""
    a, b = await house.clients(2)
    for turn in range(3):
        a.send(QUERY(f"SELECT repeat('a', 1000) || {turn} FROM generate_series(1, {kilobytes})"))
        await asyncio.sleep(0.02)
        b.send(QUERY("SELECT 'b'"))
        reading = asyncio.create_task(b.until("Z"))
        await asyncio.sleep(0.05)
        of_a = await a.until("Z")
        assert cells(of_a) == [b"a" * 1000 + b"%d" % turn] * kilobytes
        assert cells(await reading) == [b"b"]
    await house.leave(a, b)


# --- copies ----------------------------------------------------------------------------------

COPY = "COPY copied FROM STDIN"
LATE = (copy_data(b"666\n"), copy_fail("late"), COPY_DONE, copy_data(b"667\n"))


@pytest.mark.parametrize(
    "begin", [QUERY(COPY), run(COPY) + FLUSH], ids=["simple query", "extended query"]
)
async def test_trap_late_copy_data_after_an_error_is_not_put_into_the_next_copy(
    house: House, begin: bytes
) -> None:
    await past_the_gateway(house.url, "CREATE TABLE copied (a int)")
    a, b = await house.clients(2)
    a.send(begin)
    await a.until("G")
    a.send(copy_data(b"not a number\n"), copy_data(b"664\n"), COPY_DONE)
    assert tags(await a.until("E"))[-1] == "E"
    if begin == QUERY(COPY):
        await a.until("Z")
    else:
        a.send(*LATE, SYNC)  # skipped by the server up to the Sync
        assert tags(await a.until("Z")) == "Z"
    b.send(QUERY(COPY))
    await b.until("G")
    a.send(*LATE, SYNC)  # B's copy is under way on what was A's server
    b.send(copy_data(b"1\n"))
    assert tags(await a.until("Z")) == "Z"
    b.send(copy_data(b"2\n"), COPY_DONE)
    assert tags(await b.until("Z")) == "CZ"
    assert cells(await a.query("SELECT a FROM copied ORDER BY a")) == [b"1", b"2"]
    await a.query("DROP TABLE copied")
    await house.leave(a, b)


async def test_trap_a_late_sync_does_not_end_the_next_clients_batch(house: House) -> None:
    """Every Sync beyond what was asked is answered, and by the gateway."""
    await past_the_gateway(house.url, "CREATE TABLE undone (a int)")
    a, b = await house.clients(2)
    await a.query("SELECT no_such_column")
    b.send(run("INSERT INTO undone VALUES (1)"), FLUSH)
    await b.until("C")
    a.send(SYNC, SYNC, SYNC)
    assert tags(await a.until("Z", 3)) == "ZZZ"
    b.send(run("SELECT no_such_column"), SYNC)
    assert tags(await b.until("Z"))[-2:] == "EZ"
    assert cells(await a.query("SELECT count(*) FROM undone")) == [b"0"], "A's Sync committed it"
    await a.query("DROP TABLE undone")
    await house.leave(a, b)


# --- prepared statements ---------------------------------------------------------------------


async def test_trap_a_parse_that_the_server_skipped_is_not_taken_for_prepared(
    house: House,
) -> None:
    a, b = await house.clients(2)
    a.send(run("SELECT no_such_column"), parse_("mine", "SELECT 41 + 1"), SYNC)
    assert tags(await a.until("Z")) == "EZ"
    b.send(run("SELECT 41 + 1", name="theirs"), SYNC)
    assert cells(await b.until("Z")) == [b"42"]
    a.send(bind("mine"), execute(), SYNC)
    assert sqlstates(await a.until("Z")) == ["26000"]
    a.send(run("SELECT 41 + 1", name="mine"), SYNC)
    assert cells(await a.until("Z")) == [b"42"]
    await house.leave(a, b)


async def test_trap_a_parse_that_was_never_sent_is_not_taken_for_prepared(house: House) -> None:
    """A's Parse is cancelled in the queue: no server has seen it."""
    a, b = await house.clients(2)
    await b.query("BEGIN")
    a.send(parse_("mine", "SELECT 40 + 3"), SYNC)
    queue = pool_of(house.worker, house.url).core.queue
    await eventually(lambda: len(queue) == 1)
    await send_cancel(house.place.host, house.place.port, a.pid, a.secret)
    assert sqlstates(await a.until("Z")) == ["57014"]
    b.send(run("SELECT 40 + 3", name="theirs"), SYNC, QUERY("COMMIT"))
    assert cells(await b.until("Z", 2)) == [b"43"]
    a.send(bind("mine"), execute(), SYNC)
    assert sqlstates(await a.until("Z")) == ["26000"]
    await house.leave(a, b)


async def test_trap_a_failed_parse_is_forgotten_by_everybody(house: House) -> None:
    """The same text is right once the table is there: for A, for B, on the same server."""
    a, b = await house.clients(2)
    step = run("SELECT a FROM made_later", name="early") + SYNC
    for wire in (a, b):
        wire.send(step)
        assert sqlstates(await wire.until("Z")) == ["42P01"]
    await past_the_gateway(house.url, "CREATE TABLE made_later AS SELECT 7 AS a")
    for wire in (a, b):
        wire.send(step)
        assert cells(await wire.until("Z")) == [b"7"]
    await past_the_gateway(house.url, "DROP TABLE made_later")
    await house.leave(a, b)


async def test_trap_nothing_is_evicted_in_the_middle_of_a_batch(house: House) -> None:
    """Far more statements in one batch than a server may keep; then all of them once more."""
    a, b = await house.clients(2)
    numbers = range(SERVER_STATEMENTS_MAX * 4)
    parses = b"".join(parse_(f"s{n}", f"SELECT {n}") for n in numbers)
    binds = b"".join(bind(f"s{n}", portal=f"p{n}") for n in numbers)
    executes = b"".join(execute(f"p{n}") for n in numbers)
    of_b = b"".join(parse_(f"s{n}", f"SELECT -{n}") for n in numbers)
    for turn in range(3):
        b.send(of_b if turn == 0 else b"", *(bind(f"s{n}") + execute() for n in numbers), SYNC)
        assert cells(await b.until("Z")) == [f"-{n}".encode().replace(b"-0", b"0") for n in numbers]
        a.send(parses if turn == 0 else b"", binds, executes, SYNC)
        heard = await a.until("Z")
        assert sqlstates(heard) == []
        assert cells(heard) == [str(n).encode() for n in numbers]
    await house.leave(a, b)


async def test_trap_a_portal_outlives_the_eviction_of_its_statement(house: House) -> None:
    """A portal left open in a transaction is read on, whatever is prepared meanwhile."""
    (a,) = await house.clients(1)
    await a.query("BEGIN")
    a.send(parse_("rows", "SELECT generate_series(1, 6)"), bind("rows", portal="p"))
    a.send(execute("p", 2), SYNC)
    assert cells(await a.until("Z")) == [b"1", b"2"]
    for n in range(SERVER_STATEMENTS_MAX * 2):
        a.send(run(f"SELECT 'other {n}'", name=f"other {n}"), SYNC)
        await a.until("Z")
    a.send(execute("p", 3), SYNC, execute("p"), SYNC)
    assert cells(await a.until("Z", 2)) == [b"3", b"4", b"5", b"6"]
    await a.query("COMMIT")
    await house.leave(a)


MAKE_TWO_MEANINGS = """
    CREATE ROLE rows_alice; CREATE ROLE rows_bob;
    CREATE SCHEMA rows_alice; CREATE SCHEMA rows_bob;
    CREATE TABLE rows_alice.what AS SELECT 1 AS v;
    CREATE TABLE rows_bob.what AS SELECT 'two'::text AS v;
    GRANT ALL ON SCHEMA rows_alice TO rows_alice; GRANT ALL ON SCHEMA rows_bob TO rows_bob;
    GRANT ALL ON rows_alice.what TO rows_alice; GRANT ALL ON rows_bob.what TO rows_bob
"""
DROP_TWO_MEANINGS = """
    RESET ROLE; DROP SCHEMA rows_alice, rows_bob CASCADE; DROP ROLE rows_alice, rows_bob
"""


async def test_trap_one_plan_is_not_shared_by_other_search_paths_or_roles(house: House) -> None:
    """The same text and name; what it means, and even its type, depends on the session."""
    by_path = await house.clients(2)
    by_role = await house.clients(2)
    await by_path[0].query(MAKE_TWO_MEANINGS)
    for wire, who in zip(by_path, ("rows_alice", "rows_bob"), strict=True):
        await wire.query(f"SET search_path = {who}")
    for wire, who in zip(by_role, ("rows_alice", "rows_bob"), strict=True):
        await wire.query(f"""SET search_path = "$user"; SET ROLE {who}""")
    everybody = (*by_path, *by_role)
    for wire in everybody:
        wire.send(parse_("same", "SELECT v FROM what"), SYNC)
        assert tags(await wire.until("Z")) == "1Z"
    for _ in range(3):
        for wire, value in zip(everybody, (b"1", b"two") * 2, strict=True):
            wire.send(bind("same"), describe("P"), execute(), SYNC)
            assert cells(await wire.until("Z")) == [value]
    assert tags(await by_path[0].query(DROP_TWO_MEANINGS))[-2:] == "CZ"
    await house.leave(*everybody)


async def test_trap_statement_caches_are_bounded(house: House) -> None:
    """Thousands of texts, named and unnamed, leave no more than the bounds behind."""
    (a,) = await house.clients(1)
    texts = 3_000
    for first in range(0, texts, 100):
        for n in range(first, first + 100):
            a.send(run(f"SELECT {n}, 'named'", name="n"), close_("S", "n"), SYNC)
            a.send(run(f"SELECT {n}, 'unnamed'"), SYNC)
        assert len(cells(await a.until("Z", 200))) == 200
    assert len(house.worker.context.statements) <= SERVER_STATEMENTS_MAX + 300
    core = pool_of(house.worker, house.url).core
    await a.query("SELECT 1")
    await eventually(lambda: core.count(ServerState.IDLE) == 1)
    server = core.servers(ServerState.IDLE)[0]
    assert len(server.prepared) <= SERVER_STATEMENTS_MAX
    kept = cells(await a.query("SELECT count(*) FROM pg_prepared_statements"))
    assert int(kept[0] or 0) <= SERVER_STATEMENTS_MAX
    assert len(house.worker.context.statements) <= SERVER_STATEMENTS_MAX + 100, "kept for ever"
    assert house.worker.context.statements.kept_bytes <= 50 * (SERVER_STATEMENTS_MAX + 100)
    for n in range(CLIENT_STATEMENTS_MAX):
        a.send(parse_(f"kept {n}", f"SELECT {n}"), SYNC)
    assert tags(await a.until("Z", CLIENT_STATEMENTS_MAX)) == "1Z" * CLIENT_STATEMENTS_MAX
    a.send(parse_("one too many", "SELECT 'x'"), bind("one too many"), SYNC)
    heard = await a.until("Z")
    assert tags(heard) == "EZ"
    assert sqlstates(heard) == ["53400"]
    a.send(close_("S", "kept 0"), parse_("in its place", "SELECT 'x'"), bind("in its place"))
    a.send(execute(), SYNC)
    assert cells(await a.until("Z")) == [b"x"]
    await house.leave(a)


# --- Flush -----------------------------------------------------------------------------------


async def test_trap_a_driver_that_flushes_is_answered_and_keeps_its_server(house: House) -> None:
    """Parse, Describe, Flush; the answer; Bind, Execute, Flush; the answer; and Sync at last."""
    await past_the_gateway(house.url, "CREATE TABLE flushed (a int)")
    a, b = await house.clients(2)
    for turn in range(10):
        insert = f"INSERT INTO flushed VALUES ($1) RETURNING a, {turn}"
        a.send(parse_(f"s{turn}", insert), describe("S", f"s{turn}"), FLUSH)
        assert tags(await a.until("T")) == "1tT"
        b.send(QUERY("SELECT count(*) FROM flushed"))
        a.send(bind(f"s{turn}", [b"%d" % turn]), execute(), FLUSH)
        assert tags(await a.until("C")) == "2DC"
        a.send(SYNC)
        assert tags(await a.until("Z")) == "Z"
        assert cells(await b.until("Z")) == [b"%d" % (turn + 1)], "B was let in between"
    await past_the_gateway(house.url, "DROP TABLE flushed")
    await house.leave(a, b)


# --- what the gateway puts in ----------------------------------------------------------------

Disturb = Callable[[int], Awaitable[None]]


async def nobody(turn: int) -> None:
    """Nobody else is there."""


def in_a_session(disturb: Disturb) -> Script:
    """What A does: ``disturb`` has a turn before each step."""

    async def script(wire: Wire) -> None:
        await wire.query("SET work_mem = '7MB'; SET application_name = 'A'")
        wire.send(parse_("s", "SELECT $1::text, current_setting('work_mem')"), SYNC)
        await wire.until("Z")
        for n in range(10):
            await disturb(n)
            wire.send(bind("s", [b"%d" % n]), describe("P"), execute(), SYNC)
            await wire.until("Z")
            await disturb(n)
            wire.send(describe("S", "s"), bind("s", [b"x", b"y"]), execute(), SYNC, SYNC)
            await wire.until("Z", 2)
            await disturb(n)
            await wire.query("SHOW work_mem; SELECT 1/0")

    return script


async def test_trap_answers_to_what_the_gateway_puts_in_are_nobodys(house: House) -> None:
    """Each step of A needs settings and statements put in first; it hears what PostgreSQL says."""
    (b,) = await house.clients(1)

    async def disturb(turn: int) -> None:
        """B uses the server, with settings and more statements than it keeps."""
        await b.query(f"SET work_mem = '{turn + 1}MB'; SET application_name = 'B {turn}'")
        for n in range(SERVER_STATEMENTS_MAX + 1):
            b.send(run(f"SELECT {n}", name=f"{turn} {n}"), close_("S", f"{turn} {n}"), SYNC)
            assert cells(await b.until("Z")) == [b"%d" % n]

    direct = await transcript(Place.of(house.url), in_a_session(nobody))
    assert await transcript(house.place, in_a_session(disturb)) == direct
    await house.leave(b)


# --- notifications ---------------------------------------------------------------------------


async def test_trap_notifications_do_not_cross_databases(
    provisioned: Provisioned, fresh_database: FreshDatabase
) -> None:
    """Two databases of one server, the same channel; shared listeners, and pinned ones."""
    urls = {industry: await fresh_database("notify") for industry in ("LAW", "DENTIST")}
    for limit in (1, 3):
        settings = changed(provisioned.settings, pool={"max": limit})
        for industry, url in urls.items():
            settings = moved(settings, industry, url)
        async with running(settings) as worker:
            places = [place(worker, provisioned.owner_on(name)) for name in ("law", "dentist")]
            law, dentist = [await Wire.logged_in(one) for one in places]
            for wire in (law, dentist):
                await wire.query("LISTEN news")
            for wire, text in ((law, "law"), (dentist, "dentist"), (law, "end"), (dentist, "end")):
                await wire.query(f"NOTIFY news, '{text}'")
            for wire, own in ((law, b"law"), (dentist, b"dentist")):
                await heard_of(wire, 2)
                bodies = [one.body for one in wire.seen if one.tag == "A"]
                assert [body[4:].split(b"\0")[1] for body in bodies] == [own, b"end"]
                wire.fin()
            await rest(worker)


async def heard_of(wire: Wire, notifications: int) -> None:
    """Read on until so many have come."""
    while sum(one.tag == "A" for one in wire.seen) < notifications:
        await wire.message()


async def test_trap_notifications_do_not_go_to_whoever_has_the_server_next(house: House) -> None:
    """A listened on the only server and has left, in each of the ways."""
    for leave in (Wire.fin, Wire.rst, None):
        a, b = await house.clients(2)
        await a.query("LISTEN mine")
        if leave is None:
            await a.query("UNLISTEN *")
        else:
            leave(a)
        await b.query("SELECT 1")
        assert cells(await b.query("SELECT count(*) FROM pg_listening_channels()")) == [b"0"]
        await past_the_gateway(house.url, "NOTIFY mine, 'for A'")
        await b.query("SELECT 2")
        assert "A" not in tags(b.seen)
        a.fin()
        await house.leave(b)
