"""What befalls one client of a line on a shared server, those before and behind it never feel."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from gateway.admin.operations import carry_out
from gateway.pool.core import ServerState
from gateway.pool.pool import Pool
from gateway.pool.sharing import is_kept
from gateway.protocol import messages
from gateway.session.client import ClientSession
from gateway.session.inbox import UNIT_MAX_BYTES
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
from tests.wire import Message, Place, Wire, bind, describe, execute, parse_, run, sqlstates

TABLES = (
    "CREATE TABLE item AS SELECT n AS id, 'item ' || n AS name FROM generate_series(1, 1000) n",
    "CREATE TABLE passing AS SELECT 1 AS id",
)
SHARE_MS = 1000.0


def named(number: int) -> str:
    return f"SELECT name FROM item WHERE id = {number}"


def query(number: int) -> bytes:
    return messages.query(named(number))


def rows(told: list[Message]) -> list[bytes | None]:
    return [one.cells[0] for one in told if one.tag == "D"]


class Lane:
    """A gateway whose database has one server, and clients that get in line there."""

    def __init__(self, worker: Worker, url: str, where: Place) -> None:
        self.worker = worker
        self.url = url
        self.place = where
        self.wires: list[Wire] = []
        self._holder: Wire | None = None

    @property
    def pool(self) -> Pool:
        return pool_of(self.worker, self.url)

    async def clients(self, count: int) -> list[Wire]:
        new = [await Wire.logged_in(self.place) for _ in range(count)]
        self.wires += new
        return new

    def believe_short(self, *texts: str) -> None:
        """Have the gateway take these reads for short ones."""
        for text in texts:
            timing = self.worker.context.facts.facts(text.encode()).timing
            assert timing is not None, text
            for _ in range(100):
                timing.took(0.0)

    async def send(self, *units: tuple[Wire, bytes], rides: int | None = None) -> None:
        """Have these wait, in order, then all served at once: the first, and those behind it."""
        if self._holder is None:
            (self._holder,) = await self.clients(1)
        await self._holder.query("BEGIN")
        for waiting, (wire, data) in enumerate(units, 1):
            wire.send(data)
            await eventually(lambda at=waiting: len(self.pool.core.queue) == at)  # type: ignore[misc]
        before = self.pool.counters.rides
        await self._holder.query("COMMIT")
        if rides is not None:
            assert self.pool.counters.rides - before == rides

    async def answers(self, *wires: Wire) -> list[list[Message]]:
        return list(await asyncio.gather(*(wire.until("Z") for wire in wires)))


@pytest.fixture
async def lane(provisioned: Provisioned, fresh_database: FreshDatabase) -> AsyncIterator[Lane]:
    url = await fresh_database("lane")
    for sql in TABLES:
        await past_the_gateway(url, sql)
    pool = {"max": 1, "share_depth": 8, "share_ms": SHARE_MS}
    settings = moved(changed(provisioned.settings, pool=pool), "LAW", url)
    async with running(settings) as worker:
        lane = Lane(worker, url, place(worker, provisioned.owner_on("law")))
        await knows_its_tables(worker, url, lane.place)
        lane.believe_short(named(1))
        yield lane
        for wire in lane.wires:
            wire.fin()
        await rest(worker)


async def test_errors_of_those_in_line_are_their_own(lane: Lane) -> None:
    wrong = {
        "22012": "SELECT 1 / (id - id) FROM item WHERE id = 4",
        "42703": "SELECT nothing FROM item WHERE id = 4",
        "42P01": "SELECT id FROM nowhere WHERE id = 4",
        "22P02": "SELECT id FROM item WHERE id = $1::int",
    }
    lane.believe_short(*wrong.values())
    asked = [(sqlstate, way) for sqlstate in wrong for way in ("Q", "P")]
    for at in range(0, len(asked), 3):
        expected: list[list[str]] = []
        units: list[tuple[Wire, bytes]] = []
        wires = await lane.clients(7)
        for number, wire in enumerate(wires):
            if number % 2 == 0:
                units.append((wire, query(number + 1)))
                expected.append([])
                continue
            sqlstate, way = asked[(at + number // 2) % len(asked)]
            text = wrong[sqlstate]
            alone = way == "P" or "$1" in text
            values = (b"x",) if "$1" in text else ()
            data = run(text, *values) + messages.SYNC if alone else messages.query(text)
            units.append((wire, data))
            expected.append([sqlstate])
        await lane.send(*units, rides=6)
        told = await lane.answers(*wires)
        assert [sqlstates(one) for one in told] == expected
        for number in range(0, 7, 2):
            assert rows(told[number]) == [f"item {number + 1}".encode()]


async def test_who_must_look_at_changed_tables_first_gets_in_no_line(lane: Lane) -> None:
    """Its unit can't be sent in one piece: what it waits for would come before the others' turns,
    and what it sends then behind them."""
    text = "SELECT id, name FROM item WHERE id = $1::int"
    (looking, ahead, behind) = await lane.clients(3)
    looking.send(parse_("mine", text) + describe("S", "mine") + messages.SYNC)
    await looking.until("Z")
    lane.pool.reconnect()
    await ahead.query("ALTER TABLE passing ADD COLUMN more int")
    lane.believe_short(text)
    again = bind("mine", [b"5"]) + describe("P") + execute() + messages.SYNC
    await lane.send((ahead, query(3)), (looking, again), (behind, query(7)))
    told = await lane.answers(ahead, looking, behind)
    assert [rows(one) for one in told] == [[b"item 3"], [b"5"], [b"item 7"]]
    assert "".join(one.tag for one in told[1]) == "2TDCZ"


@pytest.mark.parametrize("how", ["named", "unnamed"])
async def test_nobody_relies_on_what_another_one_in_line_prepares(lane: Lane, how: str) -> None:
    """The other one's may fail, and then each is told what PostgreSQL has to say of his own."""
    name = "mine" if how == "named" else ""
    text = "SELECT id FROM passing WHERE id = $1::int"
    wires = await lane.clients(4)
    for wire in wires[1:]:
        wire.send(parse_(name, text) + messages.SYNC)
        await wire.until("Z")
    lane.pool.reconnect()
    await past_the_gateway(lane.url, "DROP TABLE passing")
    lane.believe_short(text)
    again = bind(name, [b"1"]) + describe("P") + execute() + messages.SYNC
    await lane.send((wires[0], query(3)), *((wire, again) for wire in wires[1:]))
    told = await lane.answers(*wires)
    assert rows(told[0]) == [b"item 3"]
    assert [sqlstates(one) for one in told[1:]] == [["42P01"]] * 3


CHANGES = "SELECT id FROM changing WHERE id = 1 LIMIT 1"
SLOW = "SELECT count(*) FROM item a, item b WHERE a.id < 1000 AND a.name < b.name"
ZONE = "Asia/Kathmandu"


@pytest.fixture
async def changing(lane: Lane) -> Lane:
    """Where a view changes the time zone of who reads it, which no text of a statement tells."""
    await past_the_gateway(
        lane.url,
        f"CREATE VIEW changing AS SELECT id, set_config('TimeZone', '{ZONE}', false) FROM item",
    )
    lane.believe_short(CHANGES, SLOW)
    return lane


async def zone(wire: Wire) -> str | None:
    return await wire.value("SHOW TimeZone")


async def test_who_changes_the_session_unseen_keeps_its_server(changing: Lane) -> None:
    """Those behind ask elsewhere, for their own settings; the change is its own, as ever."""
    wires = await changing.clients(5)
    before = await zone(wires[1])
    assert before != ZONE
    text = "SELECT id, now()::text FROM item WHERE id = 7"
    changing.believe_short(text)
    units = [messages.query(CHANGES.replace("id FROM", "* FROM"))]
    changing.believe_short(CHANGES.replace("id FROM", "* FROM"))
    units += [messages.query(text)] * 4
    await changing.send(*zip(wires, units, strict=True), rides=4)
    told = await changing.answers(*wires)
    assert ["S" in [each.tag for each in one] for one in told] == [True] + [False] * 4
    assert [rows(one) for one in told] == [[b"1"]] + [[b"7"]] * 4
    offset = str(next(each for each in told[1] if each.tag == "D").cells[1])
    assert "+05:45" not in offset
    assert await zone(wires[0]) == ZONE
    assert [await zone(wire) for wire in wires[1:]] == [before] * 4


async def test_a_read_whose_client_has_left_changes_nobodys_session(changing: Lane) -> None:
    """Not of those behind it in line, nor of who has the server next."""
    wires = await changing.clients(5)
    before = await zone(wires[0])
    change = CHANGES.replace("id FROM", "* FROM")
    text = "SELECT id, now()::text FROM item WHERE id = 7"
    changing.believe_short(change, text)
    units = [messages.query(sql) for sql in (SLOW, change, text, text, text)]
    changing.pool.sharing.plain.told([], changing.pool.schema.changes, 1e12)  # as just made
    await changing.send(*zip(wires, units, strict=True), rides=4)
    wires[1].rst()
    left = wires.pop(1)
    told = await changing.answers(*wires)
    assert all("+05:45" not in str(one) for one in told[1:])
    assert [await zone(wire) for wire in wires] == [before] * 4
    assert left.pid not in {one.number for one in changing.worker.context.registry}


@pytest.mark.parametrize("how", ["leaves", "is ended"])
async def test_who_keeps_its_server_may_go_at_any_time(changing: Lane, how: str) -> None:
    """Before what stands behind it in line has been answered."""
    wires = await changing.clients(4)
    change = CHANGES.replace("id FROM", "* FROM")
    changing.believe_short(change)
    units = [messages.query(change), *[messages.query(SLOW)] * 3]
    await changing.send(*zip(wires, units, strict=True), rides=3)
    await wires[0].until("Z")
    (server,) = changing.pool.core.servers(ServerState.BUSY)
    await eventually(lambda: is_kept(server))
    if how == "leaves":
        wires[0].rst()
    else:
        carry_out(
            changing.worker.context,
            Instruction(Deed.KILL, Scope(Kind.CLIENT, str(wires[0].pid))),
        )
        assert sqlstates(await wires[0].until("Z")) == ["57P01"]
    told = await changing.answers(*wires[1:])
    assert [len(rows(one)) for one in told] == [1] * 3
    assert len({rows(one)[0] for one in told}) == 1


async def test_a_server_with_lines_all_the_time_is_looked_at_too(lane: Lane) -> None:
    """As often as any, for unseen changes; never in front of those in line."""
    interval = lane.worker.context.terms.audit_interval
    probes = lane.worker.context.counters.probes
    (server,) = lane.pool.core.servers(ServerState.IDLE)
    server.audited_at = server.turns - interval + 3
    wires = await lane.clients(7)
    await lane.send(*((wire, query(3)) for wire in wires), rides=6)
    assert [rows(one) for one in await lane.answers(*wires)] == [[b"item 3"]] * 7
    await eventually(lambda: lane.pool.core.count(ServerState.IDLE) == 1)
    assert lane.worker.context.counters.probes == probes + 1
    assert server.audited_at == server.turns


async def test_notices_are_the_ones_who_caused_them(lane: Lane) -> None:
    await past_the_gateway(
        lane.url,
        "CREATE FUNCTION said(int) RETURNS int LANGUAGE plpgsql STABLE AS"
        " $$BEGIN RAISE NOTICE 'of %', $1; RETURN $1; END$$",
    )
    await past_the_gateway(
        lane.url,
        "CREATE VIEW saying AS SELECT said(id::int) AS id FROM item",
    )
    text = "SELECT id FROM saying WHERE id = 1 LIMIT 1"
    lane.believe_short(text)
    wires = await lane.clients(5)
    asked = [text if at % 2 == 0 else named(at) for at in range(5)]
    units = [(wire, messages.query(sql)) for wire, sql in zip(wires, asked, strict=True)]
    await lane.send(*units, rides=4)
    told = await lane.answers(*wires)
    for sql, one in zip(asked, told, strict=True):
        assert bool([each for each in one if each.tag == "N"]) == (sql == text)


async def test_who_does_not_read_its_answer_keeps_nobody_waiting(lane: Lane) -> None:
    """The head of a line whose client has stopped reading: the others are served elsewhere."""
    big = "SELECT repeat(a.name, 1000) FROM item a, item b WHERE a.id > 3"
    lane.believe_short(big)
    lane.pool.resize(lane.pool.limits.model_copy(update={"max": 2, "share_ms": 20.0}))
    stalled, second, *others = await lane.clients(6)
    await second.query("BEGIN")
    await lane.send((stalled, messages.query(big)), *((one, query(5)) for one in others), rides=2)
    await second.query("COMMIT")
    told = await lane.answers(*others)
    assert [rows(one) for one in told] == [[b"item 5"]] * len(others)
    (server,) = lane.pool.core.servers(ServerState.BUSY)
    assert server.client_number == stalled.pid, "it goes on, for as long as it takes"


async def test_what_those_in_line_send_ahead_is_bounded(lane: Lane) -> None:
    """They are not read on while it has nowhere to go; then all of it is answered."""
    lane.believe_short(SLOW)
    ahead, behind = await lane.clients(2)
    await lane.send((ahead, messages.query(SLOW)), (behind, query(3)), rides=1)
    long = messages.query(f"SELECT length('{'x' * 65536}')")
    everybody = list(lane.worker.context.registry)
    sessions = {one.number: one for one in everybody if isinstance(one, ClientSession)}
    for wire in (ahead, behind):
        wire.send(*[long] * 40)
    await eventually(lambda: all(sessions[one.pid]._read_paused for one in (ahead, behind)))
    for wire in (ahead, behind):
        assert len(sessions[wire.pid]._inbox.data) < 2 * UNIT_MAX_BYTES
    for wire in (ahead, behind):
        told = await wire.until("Z", 41)
        assert rows(told)[1:] == [b"65536"] * 40


async def test_a_time_limit_of_a_session_is_its_own(lane: Lane) -> None:
    """Who has other settings than the server gets in no line; in line, each has his own time."""
    slow = "SELECT count(*) FROM item a, item b, item c WHERE a.id < 1000 AND c.id < 20"
    lane.believe_short(slow)
    limited = await lane.clients(3)
    free = await lane.clients(2)
    for wire in limited:
        await wire.query("SET statement_timeout = 100")
    await lane.send((free[0], messages.query(slow)), (limited[0], query(3)), (free[1], query(4)))
    told = await lane.answers(free[0], limited[0], free[1])
    assert [sqlstates(one) for one in told] == [[], [], []]
    await limited[0].query("SELECT 1")
    units = [query(1), messages.query(slow), query(3)]
    await lane.send(*zip(limited, units, strict=True))
    told = await lane.answers(*limited)
    assert [sqlstates(one) for one in told] == [[], ["57014"], []]


async def test_a_line_is_no_longer_than_a_short_read(lane: Lane) -> None:
    """Altogether, by what they took lately, but for the last one: who comes next waits for it."""
    text = "SELECT name FROM item WHERE id = 3 AND id < 4"
    timing = lane.worker.context.facts.facts(text.encode()).timing
    assert timing is not None
    for _ in range(8):
        timing.took(0.3 * SHARE_MS / 1000)
    wires = await lane.clients(8)
    before = lane.pool.counters.rides
    await lane.send(*((wire, messages.query(text)) for wire in wires))
    assert [rows(one) for one in await lane.answers(*wires)] == [[b"item 3"]] * 8
    assert lane.pool.counters.rides - before == 6, "not two lines of four"


async def test_old_servers_are_replaced_behind_a_line(lane: Lane) -> None:
    (server,) = lane.pool.core.servers(ServerState.IDLE)
    server.life_ends_at = 0.0
    wires = await lane.clients(6)
    await lane.send(*((wire, query(3)) for wire in wires))
    assert [rows(one) for one in await lane.answers(*wires)] == [[b"item 3"]] * 6
    await eventually(lambda: server.lost)


async def test_everybody_in_line_sees_what_he_has_written(lane: Lane) -> None:
    wires = await lane.clients(6)
    for number, wire in enumerate(wires, 1):
        await wire.query(f"UPDATE item SET name = 'mine {number}' WHERE id = {number}")
    await lane.send(*((wire, query(number)) for number, wire in enumerate(wires, 1)), rides=5)
    told = await lane.answers(*wires)
    assert [rows(one) for one in told] == [[f"mine {number}".encode()] for number in range(1, 7)]
