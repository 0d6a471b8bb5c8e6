"""Dialogues on the wire: each is held with PostgreSQL and through the gateway, and must be equal.

Every byte counts: tags, order, error fields, statuses. Only the backend's own key may differ.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator
from itertools import chain

import pytest

from gateway.protocol import messages
from gateway.protocol.startup import PROTOCOL_3_2
from gateway.worker import Worker
from tests.conftest import Provisioned
from tests.running import changed, place, rest, running
from tests.wire import (
    COPY_DONE,
    EOF,
    Message,
    Place,
    Refused,
    Script,
    Wire,
    bind,
    close_,
    copy_data,
    copy_fail,
    describe,
    execute,
    function_call,
    parse_,
    run,
    transcript,
)

SHARD = "technology"
SYNC, FLUSH, QUERY = messages.SYNC, messages.FLUSH, messages.query
INT4 = 23
INT4PL = 177
"""The function behind integer addition."""


@pytest.fixture(scope="module")
async def gateway(provisioned: Provisioned) -> AsyncIterator[Worker]:
    """One server connection, so that what one dialogue leaves behind meets the next."""
    async with running(changed(provisioned.settings, pool={"max": 1})) as worker:
        yield worker
        await rest(worker)


@pytest.fixture
def direct(provisioned: Provisioned) -> Place:
    return Place.of(provisioned.url(SHARD))


@pytest.fixture
def through(provisioned: Provisioned, gateway: Worker) -> Place:
    return place(gateway, provisioned.owner_on(SHARD))


# --- scripts: what a client sends, and for what it waits --------------------------------------


def sends(*steps: bytes, readies: int = 1) -> Script:
    """All in one write, then wait for so many ReadyForQuery."""

    async def script(wire: Wire) -> None:
        wire.send(*steps)
        await wire.until("Z", readies)

    return script


def one_by_one(*steps: bytes, readies: int = 1) -> Script:
    """Each message in a write of its own, with a pause for it to arrive alone."""

    async def script(wire: Wire) -> None:
        for step in steps:
            wire.send(step)
            await wire.sent()
        await wire.until("Z", readies)

    return script


def split(*steps: bytes, readies: int = 1) -> Script:
    """Byte by byte."""
    return one_by_one(*(bytes([byte]) for byte in b"".join(steps)), readies=readies)


def queries(*texts: str) -> Script:
    """Simple queries, each after the answer to the one before."""

    async def script(wire: Wire) -> None:
        for text in texts:
            await wire.query(text)

    return script


async def flush_without_sync(wire: Wire) -> None:
    """As asyncpg does: Parse, Describe, Flush, and only after the answer the rest."""
    wire.send(parse_("flushed", "SELECT $1::int + 1"), describe("S", "flushed"), FLUSH)
    await wire.until("Tn")
    wire.send(bind("flushed", [b"41"]), execute(), FLUSH)
    await wire.until("C")
    wire.send(close_("S", "flushed"), SYNC)
    await wire.until("Z")


async def flush_after_error(wire: Wire) -> None:
    wire.send(parse_("", "SELECT no_such_column"), FLUSH)
    await wire.until("E")
    wire.send(bind(""), execute(), FLUSH, SYNC, SYNC)
    await wire.until("Z", 2)


async def copy_in(wire: Wire) -> None:
    await wire.query("BEGIN; CREATE TABLE copied (a int, b text)")
    wire.send(QUERY("COPY copied FROM STDIN"))
    await wire.until("G")
    rows = b"".join(b"%d\trow %d\n" % (n, n) for n in range(2000))
    for at in range(0, len(rows), 1000):
        wire.send(copy_data(rows[at : at + 1000]))
    wire.send(COPY_DONE)
    await wire.until("Z")
    await wire.query("SELECT count(*), sum(a) FROM copied")
    await wire.query("COPY copied TO STDOUT (FORMAT binary)")
    await wire.query("ROLLBACK")


async def copy_in_refused(wire: Wire) -> None:
    """The server stops in the middle; what is still under way must not reach a later query."""
    await wire.query("BEGIN; CREATE TABLE refused (a int)")
    wire.send(QUERY("COPY refused FROM STDIN"))
    await wire.until("G")
    wire.send(copy_data(b"no number\n"))
    await wire.until("Z")
    wire.send(copy_data(b"1\n"), copy_data(b"2\n"), COPY_DONE, QUERY("ROLLBACK"))
    await wire.until("Z")
    await wire.query("SELECT 1")


async def copy_in_given_up(wire: Wire) -> None:
    await wire.query("BEGIN; CREATE TABLE given_up (a int)")
    wire.send(QUERY("COPY given_up FROM STDIN"))
    await wire.until("G")
    wire.send(copy_data(b"1\n"), copy_fail("changed my mind"))
    await wire.until("Z")
    await wire.query("ROLLBACK")


async def copy_in_extended(wire: Wire) -> None:
    """As libpq does: Sync behind Execute, which the copy swallows, and Sync behind CopyDone."""
    await wire.query("BEGIN; CREATE TABLE extended (a int)")
    wire.send(parse_("", "COPY extended FROM STDIN"), bind(""), execute(), SYNC)
    await wire.until("G")
    wire.send(copy_data(b"1\n2\n"), COPY_DONE, SYNC)
    await wire.until("Z")
    await wire.query("SELECT sum(a) FROM extended")
    await wire.query("ROLLBACK")


def copy_ahead(sql: str, *data: bytes, readies: int = 2) -> Script:
    """Everything in one write, Sync before and behind the data, as if the copy could not fail."""

    async def script(wire: Wire) -> None:
        wire.send(QUERY("BEGIN; CREATE TABLE ahead (a int)"))
        await wire.until("Z")
        wire.send(parse_("", sql), bind(""), execute(), SYNC, *data, SYNC)
        await wire.until("Z", readies)
        await wire.query("SELECT count(*) FROM ahead")
        await wire.query("ROLLBACK")
        await wire.query("SELECT 'in step'")

    return script


async def copy_that_fails_late(wire: Wire) -> None:
    """As libpq does when rows are refused: it goes on, and its Sync comes behind CopyDone."""
    await wire.query("BEGIN; CREATE TABLE late (a int)")
    wire.send(parse_("", "COPY late FROM STDIN"), bind(""), describe("P"), execute(), SYNC)
    await wire.until("G")
    wire.send(copy_data(b"no number\n"), copy_data(b"1\n"))
    await wire.until("E")
    wire.send(copy_data(b"2\n"), COPY_DONE, SYNC)
    await wire.until("Z")
    await wire.query("ROLLBACK")
    wire.send(copy_data(b"stray"), COPY_DONE)
    await wire.query("SELECT 'in step'")


async def suspended_portal(wire: Wire) -> None:
    wire.send(parse_("", "SELECT generate_series(1, 10)"), bind(""), execute("", 4), FLUSH)
    await wire.until("s")
    wire.send(execute("", 4), execute(), SYNC)
    await wire.until("Z")


async def one_statement_again_and_again(wire: Wire) -> None:
    wire.send(parse_("again", "SELECT $1::int * 2", [INT4]), describe("S", "again"), SYNC)
    await wire.until("Z")
    for number in (b"1", b"21", None):
        wire.send(bind("again", [number]), describe("P"), execute(), SYNC)
        await wire.until("Z")
    wire.send(parse_("again", "SELECT 1"), SYNC)
    await wire.until("Z")
    wire.send(bind("again", [b"4"], binary=True), execute(), close_("S", "again"), SYNC)
    await wire.until("Z")
    wire.send(bind("again", [b"4"]), execute(), SYNC)
    await wire.until("Z")


async def failed_parse(wire: Wire) -> None:
    for step in (
        parse_("failed", "SELECT no_such_column"),
        bind("failed"),
        parse_("failed", "SELECT 5") + bind("failed") + execute(),
    ):
        wire.send(step, SYNC)
        await wire.until("Z")


async def unnamed_in_two_steps(wire: Wire) -> None:
    """What the gateway asks the server in between must not cost the client its statement."""
    for sql in ("SET work_mem = '6MB'", "SHOW work_mem", "CREATE TEMP TABLE u ()", "TABLE u"):
        wire.send(parse_("", sql), describe("S"), SYNC)
        await wire.until("Z")
        wire.send(bind(""), execute(), SYNC)
        await wire.until("Z")


async def large_parameter(wire: Wire) -> None:
    size = 3_000_000
    wire.send(run("SELECT length($1), right($1, 5)", b"x" * size), SYNC)
    await wire.until("Z")
    wire.send(run("SELECT $1::text", b"y" * size), SYNC)
    await wire.until("Z")


def cut_in_the_names(sql: str, *steps: bytes) -> Script:
    """Inside a transaction, messages too large to keep arrive with a break near their beginning."""

    async def script(wire: Wire) -> None:
        await wire.query("BEGIN")
        await wire.query(sql)
        for step in steps:
            for at in (5, 6, 8):
                wire.send(step[:at])
                await wire.sent()
                await asyncio.sleep(0.02)
                wire.send(step[at:], SYNC)
                await wire.until("Z", 2 if step[:1] == b"Q" else 1)
        await wire.query("ROLLBACK")

    return script


async def large_statement(wire: Wire) -> None:
    """Too large to be understood: what it does to the session must be noticed all the same."""
    await wire.query(LARGE_TEXT)
    await wire.query("SHOW work_mem; RESET work_mem")
    wire.send(run(LARGE_TEXT), SYNC)
    await wire.until("Z")
    await wire.query("SHOW work_mem; RESET work_mem")
    wire.send(parse_("large", LARGE_TEXT), describe("S", "large"), SYNC)
    await wire.until("Z")
    wire.send(bind("large"), execute(), SYNC)
    await wire.until("Z")
    await wire.query("SHOW work_mem")


LARGE_TEXT = f"SELECT set_config('work_mem', '8MB', false), length('{'z' * 400_000}')"
NO_SUCH = run("SELECT no_such_column")
SLOW_NOTICE = "DO $$ BEGIN RAISE NOTICE 'one'; RAISE WARNING 'two' USING HINT = 'three'; END $$"

DIALOGUES: dict[str, Script] = {
    "simple query": queries("SELECT 1 AS a, 'x' AS b, NULL AS c"),
    "several statements in one query": queries("SELECT 1; SELECT 2; SELECT 1/0; SELECT 3"),
    "empty query": queries("", ";", "  -- only a comment"),
    "no rows": queries("SELECT 1 WHERE false", "CREATE TABLE IF NOT EXISTS x ()", "DROP TABLE x"),
    "error with position, detail and hint": queries(
        "SELECT * FORM t", "SELECT lengthh('x')", 'INSERT INTO "User" VALUES (NULL)'
    ),
    "transaction": queries("BEGIN", "SELECT 1", "COMMIT"),
    "failed transaction": queries("BEGIN", "SELECT 1/0", "SELECT 1", "ROLLBACK", "SELECT 1"),
    "savepoints": queries(
        "BEGIN", "SAVEPOINT a", "SELECT 1/0", "ROLLBACK TO a", "SELECT 2", "COMMIT"
    ),
    "set and show": queries(
        "SET work_mem = '5MB'", "SHOW work_mem", "RESET work_mem", "SHOW work_mem"
    ),
    "set that rolls back": queries(
        "BEGIN", "SET work_mem = '7MB'", "ROLLBACK", "SHOW work_mem", "SHOW DateStyle"
    ),
    "a reported setting": queries(
        "SET TimeZone = 'Asia/Tokyo'", "SHOW TimeZone", "SET DateStyle = 'German'", "RESET ALL"
    ),
    "temporary table": queries(
        "CREATE TEMP TABLE t (a int)",
        "INSERT INTO t VALUES (1), (2)",
        "SELECT sum(a) FROM t",
        "DISCARD ALL",
        "SELECT * FROM t",
    ),
    "prepared by SQL": queries(
        "PREPARE p AS SELECT $1::int", "EXECUTE p (4)", "DEALLOCATE p", "EXECUTE p (4)"
    ),
    "cursor with hold": queries(
        "DECLARE c CURSOR WITH HOLD FOR SELECT generate_series(1, 5)",
        "FETCH 2 FROM c",
        "CLOSE c",
        "FETCH 2 FROM c",
    ),
    "notices": queries(SLOW_NOTICE, "DROP TABLE IF EXISTS never_there"),
    "listen and notify": queries("LISTEN nobody_speaks", "UNLISTEN *"),
    "extended query": sends(run("SELECT $1::int + 1", b"41"), SYNC),
    "extended query, message by message": one_by_one(
        parse_("", "SELECT $1::int + 1"), bind("", [b"41"]), describe("P"), execute(), SYNC
    ),
    "extended query, byte by byte": split(run("SELECT $1::int + 1", b"41"), SYNC),
    "simple query, byte by byte": split(QUERY("SELECT 'bytes'")),
    "pipeline in one Sync": sends(*(run(f"SELECT {n}") for n in range(50)), SYNC),
    "pipeline with many Syncs": sends(
        *chain.from_iterable((run(f"SELECT {n}"), SYNC) for n in range(50)), readies=50
    ),
    "pipeline with errors in between": sends(
        run("SELECT 1"), SYNC, NO_SUCH, run("SELECT 2"), SYNC, run("SELECT 3"), SYNC, readies=3
    ),
    "pipeline of simple queries": sends(
        *(QUERY(f"SELECT {n}") for n in range(20)), QUERY("SELECT 1/0"), readies=21
    ),
    "pipeline of both protocols": sends(
        QUERY("SELECT 1"), run("SELECT 2"), SYNC, QUERY("SELECT 3"), readies=3
    ),
    "transaction in a pipeline": sends(
        run("BEGIN"), run("SELECT 1"), SYNC, run("SELECT 2"), SYNC, run("COMMIT"), SYNC, readies=3
    ),
    "failed transaction in a pipeline": sends(
        run("BEGIN"), NO_SUCH, SYNC, run("SELECT 2"), SYNC, run("COMMIT"), SYNC, readies=3
    ),
    "implicit transaction that fails": sends(
        run("CREATE TABLE never_made (a int)"), NO_SUCH, SYNC, QUERY("TABLE never_made"), readies=2
    ),
    "same statement parsed twice in a pipeline": sends(
        parse_("twice", "SELECT 1"),
        parse_("twice", "SELECT 2"),
        bind("twice"),
        execute(),
        SYNC,
        bind("twice"),
        execute(),
        SYNC,
        readies=2,
    ),
    "failed Parse, then its name": failed_parse,
    "unnamed statement, parsed and run in two steps": unnamed_in_two_steps,
    "statement that does not exist": sends(bind("unknown"), execute(), SYNC),
    "describe of what does not exist": sends(
        describe("S", "unknown"), SYNC, describe("P", "unknown"), SYNC, readies=2
    ),
    "unnamed statement lives until the next": sends(
        parse_("", "SELECT 7"), SYNC, bind(""), execute(), SYNC, QUERY("SELECT 8"), readies=3
    ),
    "a name again after its Parse failed": sends(
        parse_("again", "SELECT no_such_column"),
        SYNC,
        parse_("again", "SELECT 2"),
        bind("again"),
        execute(),
        SYNC,
        close_("S", "again"),
        SYNC,
        readies=3,
    ),
    "a name again after its Parse failed, with more in between": sends(
        parse_("again", "SELECT no_such_column"),
        SYNC,
        run("SELECT 1"),
        parse_("again", "SELECT 2"),
        bind("again"),
        execute(),
        close_("S", "again"),
        SYNC,
        readies=2,
    ),
    "a name again after its Close was skipped": sends(
        parse_("kept", "SELECT 1"),
        SYNC,
        NO_SUCH,
        close_("S", "kept"),
        SYNC,
        bind("kept"),
        execute(),
        SYNC,
        NO_SUCH,
        close_("S", "kept"),
        SYNC,
        parse_("kept", "SELECT 2"),
        SYNC,
        bind("kept"),
        execute(),
        close_("S", "kept"),
        SYNC,
        readies=6,
    ),
    "close of what does not exist": sends(close_("S", "unknown"), close_("P", "unknown"), SYNC),
    "lone Sync and Flush": sends(SYNC, FLUSH, SYNC, readies=2),
    "Flush without Sync": flush_without_sync,
    "Flush after an error": flush_after_error,
    "portal in parts": suspended_portal,
    "statement used again and again": one_statement_again_and_again,
    "empty statement, extended": sends(run(""), SYNC),
    "wrong number of parameters": sends(
        parse_("", "SELECT $1::int"), bind("", [b"1", b"2"]), execute(), SYNC
    ),
    "function call": sends(
        function_call(INT4PL, b"40", b"2"), function_call(INT4PL, b"x", b"2"), readies=2
    ),
    "function call in a transaction": sends(
        QUERY("BEGIN"), function_call(INT4PL, b"1", None), QUERY("COMMIT"), readies=3
    ),
    "copy in": copy_in,
    "copy in that the server refuses": copy_in_refused,
    "copy in that the client gives up": copy_in_given_up,
    "copy in, extended": copy_in_extended,
    "copy in, extended, all in one write": copy_ahead(
        "COPY ahead FROM STDIN", copy_data(b"1\n"), copy_data(b"2\n"), COPY_DONE, readies=1
    ),
    "copy in that fails before its data": copy_ahead(
        "COPY ahead (no_such_column) FROM STDIN", copy_data(b"1\n"), COPY_DONE
    ),
    "copy in that fails at its data": copy_ahead(
        "COPY ahead FROM STDIN", copy_data(b"1\nx\n"), copy_data(b"2\n"), COPY_DONE, readies=1
    ),
    "copy in that the client gives up, extended": copy_ahead(
        "COPY ahead FROM STDIN", copy_data(b"1\n"), copy_fail("no more"), readies=1
    ),
    "copy from a file, extended": copy_ahead("COPY ahead FROM '/dev/null'"),
    "copy in, and more in the same batch": copy_ahead(
        "COPY ahead FROM STDIN",
        copy_data(b"1\n"),
        COPY_DONE,
        run("SELECT sum(a) FROM ahead"),
        readies=1,
    ),
    "copy in that fails late": copy_that_fails_late,
    "copy out": queries("COPY (SELECT generate_series(1, 3000)) TO STDOUT", "SELECT 1"),
    "copy data without a copy": sends(copy_data(b"stray"), COPY_DONE, SYNC),
    "large parameter": large_parameter,
    "large statement": large_statement,
    "large messages cut in their names": cut_in_the_names(
        "SELECT 1",
        parse_("", LARGE_TEXT) + bind("") + execute(),
        parse_("", "SELECT length($1)") + bind("", [b"x" * 400_000]) + execute(),
        QUERY(LARGE_TEXT),
        parse_("large", LARGE_TEXT) + bind("large") + execute() + close_("S", "large"),
    ),
    "large result": queries("SELECT repeat('r', 1000) FROM generate_series(1, 5000)"),
}


@pytest.mark.parametrize("name", DIALOGUES)
async def test_dialogue_is_as_with_the_server(name: str, direct: Place, through: Place) -> None:
    script = DIALOGUES[name]
    expected = await transcript(direct, script)
    assert expected
    for _ in range(2):
        heard = await transcript(through, script)
        assert shown(heard) == shown(expected)


def shown(heard: list[Message]) -> list[object]:
    """Messages as a reader of a failed test wants them."""
    return [(one.tag, one.fields if one.tag in "EN" else one.body) for one in heard]


# --- login -----------------------------------------------------------------------------------

STARTUPS: dict[str, dict[str, str]] = {
    "nothing": {},
    "application name": {"application_name": "a test"},
    "time zone and date style": {"TimeZone": "Asia/Tokyo", "datestyle": "German"},
    "client encoding": {"client_encoding": "LATIN1"},
    "options": {"options": "-c work_mem=7MB -c TimeZone=Europe/Zurich --extra-float-digits=1"},
    "options with escapes": {
        "options": r"-c application_name=two\ words\\ -csearch_path=pg_catalog"
    },
    "interval style": {"IntervalStyle": "iso_8601", "standard_conforming_strings": "off"},
}


@pytest.mark.parametrize("name", STARTUPS)
async def test_parameters_are_reported_as_by_the_server(
    name: str, direct: Place, through: Place
) -> None:
    parameters = STARTUPS[name]
    told = []
    for where in (direct, through):
        wire = await Wire.logged_in(where, parameters)
        settings = ("work_mem", "extra_float_digits", "search_path", "TimeZone", "application_name")
        shows = [await wire.value(f"SHOW {setting}") for setting in settings]
        told.append((wire.parameters, shows))
        await wire.close()
    assert told[0] == told[1]


@pytest.mark.parametrize(
    "parameters",
    [
        {"work_mem": "lots"},
        {"no_such_setting": "1"},
        {"options": "-c TimeZone=Nowhere/Land"},
        {"client_encoding": "KLINGON"},
    ],
    ids=str,
)
async def test_an_invalid_startup_setting_gives_the_servers_own_error(
    parameters: dict[str, str], direct: Place, through: Place
) -> None:
    refusals = []
    for where in (direct, through):
        with pytest.raises(Refused) as caught:
            await Wire.logged_in(where, parameters)
        refusals.append({code: caught.value.fields.get(code) for code in "SVCMDH"})
    assert refusals[0] == refusals[1]


@pytest.mark.parametrize(
    ("version", "options", "newest", "unknown"),
    [
        (0x30009, {}, PROTOCOL_3_2, []),
        (0x30000, {"_pq_.foo": "1"}, 0x30000, [b"_pq_.foo"]),
        (0x30063, {"_pq_.foo": "1", "_pq_.bar": ""}, PROTOCOL_3_2, [b"_pq_.foo", b"_pq_.bar"]),
    ],
)
async def test_what_is_too_new_is_negotiated_down(
    version: int, options: dict[str, str], newest: int, unknown: list[bytes], through: Place
) -> None:
    wire = await Wire.connect(through.host, through.port)
    said = await wire.log_in(through, options, version=version)
    assert said[0].tag == "v"
    names = b"".join(name + b"\0" for name in unknown)
    assert said[0].body == struct.pack("!ii", newest, len(unknown)) + names
    assert said[-1].tag == "Z"
    assert await wire.value("SELECT 'works'") == "works"
    assert len(wire.secret) == (32 if newest == PROTOCOL_3_2 else 4)
    await wire.close()


async def test_what_is_known_is_not_negotiated(through: Place) -> None:
    for version, key_bytes in ((0x30000, 4), (PROTOCOL_3_2, 32)):
        wire = await Wire.connect(through.host, through.port)
        said = await wire.log_in(through, version=version)
        assert "v" not in [one.tag for one in said]
        assert len(wire.secret) == key_bytes
        await wire.close()


async def test_the_login_is_in_the_servers_order(direct: Place, through: Place) -> None:
    tags = []
    for where in (direct, through):
        wire = await Wire.connect(where.host, where.port)
        said = await wire.log_in(where)
        tags.append([one.tag for one in said if one.tag != "S"])
        await wire.close()
    assert tags[0] == tags[1] == ["R", "R", "R", "R", "K", "Z"]


@pytest.mark.parametrize("version", [0x20000, 0x40000, 0x00000])
async def test_another_major_version_is_refused(version: int, through: Place) -> None:
    wire = await Wire.connect(through.host, through.port)
    wire.send(messages.startup({"user": through.user}, version))
    heard = await wire.until("E")
    assert heard[-1].fields["C"] in ("0A000", "08P01")
    assert "3.0" in heard[-1].fields["M"]
    assert (await wire.message()).tag == "EOF"
    wire.fin()


@pytest.mark.parametrize("first", [messages.TERMINATE * 2, b"GET / HTTP/1.1\r\n\r\n"])
async def test_what_is_no_startup_packet_is_hung_up_on_without_a_word(
    first: bytes, direct: Place, through: Place
) -> None:
    for server in (direct, through):
        wire = await Wire.connect(server.host, server.port)
        wire.send(first)
        assert await wire.message() is EOF
        wire.rst()
