"""Transactions of a service login over several databases: all of it is committed, or nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import asyncpg
import psycopg
import pytest

from gateway.demo.binaries import find_postgres
from gateway.demo.postgres import FAST, Cluster
from gateway.demo.seed import SeedLogin
from gateway.protocol import messages
from tests.conftest import Provisioned
from tests.integration.conftest import Gateway, StartGateway
from tests.running import changed, moved, past_the_gateway, rest, running
from tests.running import place as where
from tests.wire import (
    Message,
    Place,
    Wire,
    bind,
    describe,
    execute,
    parse_,
    run,
    send_cancel,
    sqlstate,
)

FLUSH = b"H\0\0\0\4"
SYNC = b"S\0\0\0\4"
ON = {"routing": {"two_phase": True, "two_phase_resolve_interval_s": 0.3}}
LAW, HOSPITAL = "law", "hospital"
MEMO = "two-phase"


@pytest.fixture(autouse=True)
async def nothing_left(provisioned: Provisioned) -> AsyncIterator[None]:
    """What a test that fails leaves prepared, fails no other test."""
    yield
    for gid in await prepared(provisioned):
        for shard in (LAW, HOSPITAL, "medical_1", "medical_2", "meta"):
            with suppress(asyncpg.FeatureNotSupportedError, asyncpg.UndefinedObjectError):
                await past_the_gateway(provisioned.url(shard), f"ROLLBACK PREPARED '{gid}'")


@pytest.fixture
async def branching(
    start_gateway: StartGateway, provisioned: Provisioned
) -> AsyncIterator[Gateway]:
    """A gateway that lets transactions branch; at the end nothing is leased, prepared or logged."""
    gateway = await start_gateway(ON)
    yield gateway
    await rest(gateway.worker)
    assert await prepared(provisioned) == []
    url = provisioned.url("meta")
    left = await past_the_gateway(url, "SELECT * FROM gateway.two_phase WHERE decision = 'commit'")
    assert not left
    for shard in (LAW, HOSPITAL, "medical_1", "medical_2"):
        await past_the_gateway(
            provisioned.url(shard), f"""DELETE FROM "Lead" WHERE "name" LIKE '{MEMO}%'"""
        )
    await past_the_gateway(url, f"""DELETE FROM "Session" WHERE "sessionToken" LIKE '{MEMO}%'""")


@pytest.fixture
async def wire(branching: Gateway, service: SeedLogin) -> AsyncIterator[Wire]:
    place = Place("127.0.0.1", branching.port, service.user, service.password, "crm")
    connection = await Wire.logged_in(place)
    yield connection
    await connection.close()


async def prepared(provisioned: Provisioned) -> list[str]:
    rows = await past_the_gateway(
        provisioned.url("meta"), "SELECT gid FROM pg_prepared_xacts WHERE gid LIKE 'gateway%'"
    )
    return [row["gid"] for row in rows]


def status(messages: list[Message]) -> bytes:
    assert messages[-1].tag == "Z"
    return messages[-1].body


def tag(messages: list[Message]) -> bytes:
    return next(one.body for one in messages if one.tag == "C").rstrip(b"\0")


def insert(owner: int, name: str) -> str:
    return f"""INSERT INTO "Lead" ("userId", "name", "email")
        VALUES ({owner}, '{MEMO} {name}', 'a@b')"""


def session(owner: int, name: str) -> str:
    return (
        'INSERT INTO "Session" ("sessionToken", "userId", "expires")'
        f" VALUES ('{MEMO} {name}', {owner}, now())"
    )


async def leads(provisioned: Provisioned, shard: str, name: str) -> int:
    rows = await past_the_gateway(
        provisioned.url(shard), f"""SELECT 1 FROM "Lead" WHERE "name" = '{MEMO} {name}'"""
    )
    return len(rows)


async def sessions(provisioned: Provisioned, name: str) -> int:
    rows = await past_the_gateway(
        provisioned.url("meta"),
        f"""SELECT 1 FROM "Session" WHERE "sessionToken" = '{MEMO} {name}'""",
    )
    return len(rows)


async def test_meta_and_two_industries_commit_together(
    wire: Wire, provisioned: Provisioned, branching: Gateway
) -> None:
    law, hospital = provisioned.owner_id_on(LAW), provisioned.owner_id_on(HOSPITAL)
    assert status(await wire.query("BEGIN")) == b"T"
    for text in (insert(law, "one"), insert(hospital, "one"), session(law, "one")):
        said = await wire.query(text)
        assert (sqlstate(said), status(said)) == (None, b"T"), said
    assert await leads(provisioned, LAW, "one") == 0
    # Back to a branch that is there: it sees what it wrote.
    text = f"""SELECT current_database(), count(*) FROM "Lead"
        WHERE "userId" = {law} AND "name" = '{MEMO} one'"""
    found = next(one.cells for one in await wire.query(text) if one.tag == "D")
    assert found == [b"crm_law", b"1"]
    said = await wire.query("COMMIT")
    assert (tag(said), status(said)) == (b"COMMIT", b"I")
    assert await leads(provisioned, LAW, "one") == await leads(provisioned, HOSPITAL, "one") == 1
    assert await sessions(provisioned, "one") == 1
    assert branching.worker.context.two_phase.commits == 1
    assert await wire.value("SELECT 1") == "1"


async def test_rollback_and_an_error_in_any_branch_undo_all(
    wire: Wire, provisioned: Provisioned
) -> None:
    law, hospital = provisioned.owner_id_on(LAW), provisioned.owner_id_on(HOSPITAL)
    for end in ("ROLLBACK", "COMMIT"):
        await wire.query("BEGIN")
        await wire.query(insert(law, "two"))
        await wire.query(insert(hospital, "two"))
        if end == "COMMIT":
            broken = await wire.query(f'SELECT 1/0 FROM "Lead" WHERE "userId" = {law}')
            assert (sqlstate(broken), status(broken)) == ("22012", b"E")
            assert sqlstate(await wire.query(insert(hospital, "two"))) == "25P02"
        said = await wire.query(end)
        assert (tag(said), status(said)) == (b"ROLLBACK", b"I")
    assert await leads(provisioned, LAW, "two") == await leads(provisioned, HOSPITAL, "two") == 0


async def test_savepoints_hold_on_all_branches(wire: Wire, provisioned: Provisioned) -> None:
    law, hospital = provisioned.owner_id_on(LAW), provisioned.owner_id_on(HOSPITAL)
    one, two = provisioned.owner_id_on("medical_1"), provisioned.owner_id_on("medical_2")
    script = [
        ("BEGIN", b"T"),
        (insert(law, "kept"), b"T"),
        ("SAVEPOINT s", b"T"),
        (insert(law, "dropped"), b"T"),
        (insert(hospital, "dropped"), b"T"),  # a branch younger than the savepoint
        ("SELECT 1/0", b"E"),
        ("RELEASE s", b"E"),
        ("SAVEPOINT t", b"E"),
        ("ROLLBACK TO s", b"T"),
        (insert(hospital, "kept"), b"T"),
        (insert(one, "kept"), b"T"),  # joins behind a ROLLBACK TO
        ("SAVEPOINT u", b"T"),
        (insert(law, "dropped"), b"T"),
        ("ROLLBACK TO u", b"T"),
        ("RELEASE s", b"T"),
        (insert(two, "kept"), b"T"),  # and behind a RELEASE
        ("ROLLBACK TO s", b"E"),
        ("ROLLBACK", b"I"),
    ]
    for text, expected in script:
        said = await wire.query(text)
        assert status(said) == expected, (text, said)
    for text, _ in script[:-2]:
        await wire.query(text)
    assert tag(await wire.query("COMMIT")) == b"COMMIT"
    for shard in (LAW, HOSPITAL, "medical_1", "medical_2"):
        assert await leads(provisioned, shard, "kept") == 1
        assert await leads(provisioned, shard, "dropped") == 0


async def test_settings_and_isolation_hold_on_all_branches(
    wire: Wire, provisioned: Provisioned
) -> None:
    law, hospital = provisioned.owner_id_on(LAW), provisioned.owner_id_on(HOSPITAL)
    await wire.query("BEGIN ISOLATION LEVEL SERIALIZABLE")
    await wire.query("SET LOCAL lock_timeout = '7s'")
    await wire.query(insert(law, "set"))
    await wire.query("SET LOCAL statement_timeout = '8s'")
    await wire.query("SELECT set_config('myapp.person', 'ann', true)")
    await wire.query(insert(hospital, "set"))
    for setting, value in (
        ("transaction_isolation", "serializable"),
        ("lock_timeout", "7s"),
        ("statement_timeout", "8s"),
        ("myapp.person", "ann"),
    ):
        assert await wire.value(f"SHOW {setting}") == value
    await wire.query("SET work_mem = '5MB'")
    await wire.query(insert(law, "set"))
    assert await wire.value("SHOW work_mem") == "5MB"
    assert await wire.value("SELECT current_database()") == "crm_law"
    assert status(await wire.query("COMMIT")) == b"I"
    assert await wire.value("SHOW work_mem") == "5MB"
    assert await wire.value("SHOW statement_timeout") == "0"
    # An owner that is said by a setting, in the middle of a transaction, is heeded too.
    await wire.query("BEGIN")
    await wire.query(insert(law, "set"))
    await wire.query(f"SET LOCAL gateway.owner = '{hospital}'")
    found = await wire.query('SELECT current_database() FROM "Lead" LIMIT 1')
    assert next(one.cells for one in found if one.tag == "D") == [b"crm_hospital"]
    await wire.query("COMMIT")


async def test_extended_protocol_in_units_of_many_shapes(
    wire: Wire, provisioned: Provisioned
) -> None:
    law, hospital = provisioned.owner_id_on(LAW), provisioned.owner_id_on(HOSPITAL)
    into = """INSERT INTO "Lead" ("userId", "name", "email") VALUES ($1, $2, 'a@b')"""
    values = [str(law).encode(), b"two-phase ext"], [str(hospital).encode(), b"two-phase ext"]
    # BEGIN with the first statement, a statement with what belongs elsewhere, COMMIT with another.
    wire.send(run("BEGIN") + run(into, *values[0]) + SYNC)
    said = await wire.until("Z")
    assert [one.tag for one in said] == list("12nC12nCZ"), said
    wire.send(run(into, *values[0]) + run(into, *values[1]) + SYNC)
    said = await wire.until("Z")
    assert [one.tag for one in said] == list("12nC12nCZ"), said
    wire.send(parse_("s", into) + describe("S", "s") + FLUSH)
    assert [one.tag for one in await wire.until("n")] == ["1", "t", "n"]
    wire.send(bind("s", values[0]) + execute() + SYNC)
    assert [one.tag for one in await wire.until("Z")] == list("2CZ")
    wire.send(run(into, *values[1]) + run("COMMIT") + SYNC)
    said = await wire.until("Z")
    assert [one.tag for one in said] == list("12nC12nCZ"), said
    assert status(said) == b"I"
    assert await leads(provisioned, LAW, "ext") == 3
    assert await leads(provisioned, HOSPITAL, "ext") == 2


async def test_what_stands_behind_an_error_in_a_pipeline_is_skipped(
    wire: Wire, provisioned: Provisioned
) -> None:
    law, hospital = provisioned.owner_id_on(LAW), provisioned.owner_id_on(HOSPITAL)
    await wire.query("BEGIN")
    await wire.query(insert(law, "skipped"))
    wire.send(run("SELECT 1/0") + run(insert(hospital, "skipped")) + run("COMMIT") + SYNC)
    said = await wire.until("Z")
    assert [one.tag for one in said if one.tag != "1"][-2:] == ["E", "Z"], said
    assert (sqlstate(said), status(said)) == ("22012", b"E")
    await wire.query("ROLLBACK")
    await wire.query("BEGIN")
    await wire.query(insert(law, "skipped"))
    await wire.query(insert(hospital, "skipped"))
    wire.send(run("SELECT 1/0") + run("COMMIT") + SYNC)
    assert status(await wire.until("Z")) == b"E"
    assert tag(await wire.query("COMMIT")) == b"ROLLBACK"
    assert await leads(provisioned, LAW, "skipped") == 0
    # Without a transaction nothing is done in two databases at once.
    wire.send(run(insert(law, "skipped")) + run(insert(hospital, "skipped")) + SYNC)
    said = await wire.until("Z")
    assert (sqlstate(said), status(said)) == ("0A000", b"I")
    assert await leads(provisioned, LAW, "skipped") == 0


async def test_one_writer_needs_no_second_phase(
    wire: Wire, provisioned: Provisioned, branching: Gateway
) -> None:
    law, hospital = provisioned.owner_id_on(LAW), provisioned.owner_id_on(HOSPITAL)
    reads = f'SELECT count(*) FROM "Lead" WHERE "userId" = {hospital}'
    for texts in ([insert(law, "solo"), reads], [reads, insert(law, "solo")], [reads]):
        await wire.query("BEGIN")
        for text in [*texts, f'SELECT count(*) FROM "Session" WHERE "userId" = {law}']:
            assert status(await wire.query(text)) == b"T"
        assert tag(await wire.query("COMMIT")) == b"COMMIT"
    assert await leads(provisioned, LAW, "solo") == 2
    assert branching.worker.context.two_phase.commits == 0


async def test_what_cannot_be_prepared_fails_as_postgresql_says(
    wire: Wire, provisioned: Provisioned
) -> None:
    law, hospital = provisioned.owner_id_on(LAW), provisioned.owner_id_on(HOSPITAL)
    await wire.query("BEGIN")
    await wire.query(insert(law, "temp"))
    await wire.query("CREATE TEMP TABLE scratch (id int)")
    await wire.query(insert(hospital, "temp"))
    said = await wire.query("COMMIT")
    assert (sqlstate(said), status(said)) == ("0A000", b"I")
    assert "temporary objects" in said[0].fields["M"]
    assert await leads(provisioned, LAW, "temp") == await leads(provisioned, HOSPITAL, "temp") == 0
    assert await wire.value("SELECT 1") == "1"


@pytest.mark.parametrize(
    "text",
    [
        "COMMIT AND CHAIN",
        "PREPARE TRANSACTION 'mine'",
        "SELECT 1; COMMIT",
        "SET CONSTRAINTS ALL IMMEDIATE",
        "SELECT " + " + ".join(["1"] * 40_000),
    ],
)
async def test_what_cannot_be_done_on_all_branches_is_refused(
    wire: Wire, provisioned: Provisioned, text: str
) -> None:
    await wire.query("BEGIN")
    await wire.query(insert(provisioned.owner_id_on(LAW), "refused"))
    await wire.query(insert(provisioned.owner_id_on(HOSPITAL), "refused"))
    said = await wire.query(text)
    assert (sqlstate(said), status(said)) == ("0A000", b"E")
    assert tag(await wire.query("COMMIT")) == b"ROLLBACK"
    assert await leads(provisioned, LAW, "refused") == 0


async def test_drivers(branching: Gateway, provisioned: Provisioned, service: SeedLogin) -> None:
    law, hospital = provisioned.owner_id_on(LAW), provisioned.owner_id_on(HOSPITAL)
    dsn = branching.dsn(service.user, "crm")
    into = """INSERT INTO "Lead" ("userId", "name", "email") VALUES ({}, '{}', 'a@b')"""
    connection = await asyncpg.connect(dsn)
    for _ in range(3):
        async with connection.transaction():
            for owner in (law, hospital, law):
                await connection.execute(into.format("$1", f"{MEMO} driver"), owner)
                async with connection.transaction():
                    counted = 'SELECT count(*) FROM "Session" WHERE "userId" = $1'
                    await connection.fetchval(counted, owner)
    with pytest.raises(asyncpg.DivisionByZeroError):
        async with connection.transaction():
            await connection.execute(into.format("$1", f"{MEMO} driver"), law)
            await connection.execute(into.format("$1", f"{MEMO} driver"), hospital)
            await connection.fetchval("SELECT 1/0")
    await connection.close()

    def with_psycopg() -> None:
        with psycopg.connect(dsn) as other:
            for owner in (law, hospital):
                other.execute(into.format("%s", f"{MEMO} driver"), (owner,))
            other.commit()
            for owner in (hospital, law):
                other.execute(into.format("%s", f"{MEMO} driver"), (owner,))
            other.rollback()

    await asyncio.to_thread(with_psycopg)
    assert await leads(provisioned, LAW, "driver") == 7
    assert await leads(provisioned, HOSPITAL, "driver") == 4


async def test_a_client_that_vanishes_leaves_nothing(
    branching: Gateway, provisioned: Provisioned, service: SeedLogin
) -> None:
    place = Place("127.0.0.1", branching.port, service.user, service.password, "crm")
    law, hospital = provisioned.owner_id_on(LAW), provisioned.owner_id_on(HOSPITAL)
    lasts = (insert(hospital, "gone"), "SELECT pg_sleep(5)", "SAVEPOINT s", "COMMIT")
    for number, last in enumerate(lasts):
        wire = await Wire.logged_in(place)
        await wire.query("BEGIN")
        await wire.query(insert(law, "gone"))
        await wire.query(session(law, f"gone {number}"))
        wire.send(b"Q" + (len(last) + 5).to_bytes(4, "big") + last.encode() + b"\0")
        await wire.close()
        await rest(branching.worker)
        seen = await leads(provisioned, LAW, "gone")
        assert seen == await sessions(provisioned, f"gone {number}")
        assert seen == 0 or last == "COMMIT"
    assert not branching.worker.context.two_phase.under_way


# --- in doubt ---


async def left_behind(provisioned: Provisioned, transaction: str, name: str) -> list[str]:
    """A lead prepared in two databases as by a gateway that died; the branches' names."""
    gids = [f"gateway_{transaction}_{number}" for number in (1, 2)]
    for shard, gid in zip((LAW, HOSPITAL), gids, strict=True):
        connection = await asyncpg.connect(provisioned.url(shard))
        await connection.execute(
            f"BEGIN; {insert(provisioned.owner_id_on(shard), name)}; PREPARE TRANSACTION '{gid}'"
        )
        await connection.close()
    return gids


async def resolved(gateway: Gateway, still: list[str], provisioned: Provisioned) -> None:
    """Rounds until only these are prepared: a round is nothing while the gateway's own is on."""
    async with asyncio.timeout(10):
        while True:
            await gateway.worker.context.resolver.round(0.0)
            if sorted(await prepared(provisioned)) == sorted(still):
                return
            await asyncio.sleep(0.05)


async def until_ended(provisioned: Provisioned) -> None:
    async with asyncio.timeout(10):
        while await prepared(provisioned):  # noqa: ASYNC110 - a database tells
            await asyncio.sleep(0.05)


async def log_name(provisioned: Provisioned) -> str:
    found = await past_the_gateway(
        provisioned.url("meta"), "SELECT name FROM gateway.two_phase_name"
    )
    return str(found[0]["name"])


async def test_the_log_decides_what_becomes_of_what_a_crash_left(
    start_gateway: StartGateway, provisioned: Provisioned
) -> None:
    name, meta = await log_name(provisioned), provisioned.url("meta")
    one, other, foreign = f"{name}_a_1", f"{name}_a_2", "0123456789ab_a_3"
    gids = await left_behind(provisioned, one, "logged")
    await left_behind(provisioned, other, "unlogged")
    foreigners = await left_behind(provisioned, foreign, "foreign")
    await past_the_gateway(
        meta,
        f"INSERT INTO gateway.two_phase VALUES ('{one}', '{{{','.join(gids)}}}', 'commit')",
    )
    gateway = await start_gateway({"routing": {"two_phase": True}})
    console = await asyncpg.connect(gateway.dsn("operator", "gateway"))
    seen = await console.fetch("SHOW TWO_PHASE")
    assert sorted((row["transaction"], row["decision"]) for row in seen) == sorted(
        [(gid, "commit") for gid in gids]
        + [(f"gateway_{other}_{number}", None) for number in (1, 2)]
    )
    assert {row["database"].rpartition("/")[2] for row in seen} == {"crm_law", "crm_hospital"}
    await console.close()

    await resolved(gateway, foreigners, provisioned)
    for shard, gid in zip((LAW, HOSPITAL), foreigners, strict=True):
        assert await leads(provisioned, shard, "logged") == 1
        assert await leads(provisioned, shard, "unlogged") == 0
        url = provisioned.url(shard)
        await past_the_gateway(url, f"ROLLBACK PREPARED '{gid}'")
        await past_the_gateway(url, f"""DELETE FROM "Lead" WHERE "name" = '{MEMO} logged'""")
    decided = "SELECT transaction, decision FROM gateway.two_phase"
    async with asyncio.timeout(10):
        while (one, "commit") in map(tuple, await past_the_gateway(meta, decided)):
            await gateway.worker.context.resolver.round(0.0)
    assert (other, "abort") in map(tuple, await past_the_gateway(meta, decided))


async def test_a_decision_that_comes_second_is_not_written(
    wire: Wire, provisioned: Provisioned, branching: Gateway
) -> None:
    """The resolver was faster: what it has aborted is not committed by anybody."""
    law, hospital = provisioned.owner_id_on(LAW), provisioned.owner_id_on(HOSPITAL)
    two_phase = branching.worker.context.two_phase
    name = f"{await log_name(provisioned)}_{two_phase._instance}_1"
    await past_the_gateway(
        provisioned.url("meta"), f"INSERT INTO gateway.two_phase VALUES ('{name}', '{{}}', 'abort')"
    )
    await wire.query("BEGIN")
    await wire.query(insert(law, "late"))
    await wire.query(insert(hospital, "late"))
    said = await wire.query("COMMIT")
    assert (sqlstate(said), status(said)) == ("25P02", b"I")
    assert await leads(provisioned, LAW, "late") == await leads(provisioned, HOSPITAL, "late") == 0


async def test_a_log_that_cannot_be_written(
    wire: Wire, provisioned: Provisioned, branching: Gateway
) -> None:
    law, hospital, meta = (
        provisioned.owner_id_on(LAW),
        provisioned.owner_id_on(HOSPITAL),
        provisioned.url("meta"),
    )
    await past_the_gateway(meta, "ALTER TABLE gateway.two_phase RENAME TO two_phase_lost")
    try:
        await wire.query("BEGIN")
        await wire.query(insert(law, "lost"))
        await wire.query(insert(hospital, "lost"))
        said = await wire.query("COMMIT")
        assert (sqlstate(said), status(said)) == ("40003", b"I")
        assert len(await prepared(provisioned)) == 2
    finally:
        await past_the_gateway(meta, "ALTER TABLE gateway.two_phase_lost RENAME TO two_phase")
    await until_ended(provisioned)
    assert await leads(provisioned, LAW, "lost") == await leads(provisioned, HOSPITAL, "lost") == 0
    assert await wire.value("SELECT 1") == "1"


async def test_a_server_that_is_lost_takes_the_whole_transaction_with_it(
    branching: Gateway, provisioned: Provisioned, service: SeedLogin
) -> None:
    place = Place("127.0.0.1", branching.port, service.user, service.password, "crm")
    law, hospital = provisioned.owner_id_on(LAW), provisioned.owner_id_on(HOSPITAL)
    for parked in (True, False):
        wire = await Wire.logged_in(place)
        await wire.query("BEGIN")
        await wire.query(insert(law, "killed"))
        pid = await wire.value("SELECT pg_backend_pid()")
        await wire.query(insert(hospital, "killed"))
        if not parked:
            pid = await wire.value("SELECT pg_backend_pid()")
        await past_the_gateway(provisioned.url("meta"), f"SELECT pg_terminate_backend({pid})")
        heard = await wire.until("")
        assert [one.fields["S"] for one in heard if one.tag == "E"] == ["FATAL"], heard
        await rest(branching.worker)
    assert await leads(provisioned, LAW, "killed") == 0
    assert await leads(provisioned, HOSPITAL, "killed") == 0


async def test_a_branch_that_cannot_be_had_fails_the_statement(
    start_gateway: StartGateway, provisioned: Provisioned, service: SeedLogin
) -> None:
    limits = {"pool": {"max": 1, "queue_timeout_ms": 200}}
    gateway = await start_gateway({**ON, **limits})
    place = Place("127.0.0.1", gateway.port, service.user, service.password, "crm")
    law, hospital = provisioned.owner_id_on(LAW), provisioned.owner_id_on(HOSPITAL)
    holder, wire = await Wire.logged_in(place), await Wire.logged_in(place)
    await holder.query("BEGIN")
    await holder.query(insert(hospital, "full"))
    await wire.query("BEGIN")
    await wire.query(insert(law, "full"))
    await wire.query("SAVEPOINT s")
    said = await wire.query(insert(hospital, "full"))
    assert (sqlstate(said), status(said)) == ("53300", b"E")
    assert status(await wire.query("ROLLBACK TO s")) == b"T"
    await holder.query("ROLLBACK")
    assert sqlstate(await wire.query(insert(hospital, "full"))) is None
    assert tag(await wire.query("ROLLBACK")) == b"ROLLBACK"
    await holder.close()
    await wire.close()
    await rest(gateway.worker)


async def test_a_cancel_hits_the_branch_that_runs_and_fails_all(
    wire: Wire, provisioned: Provisioned, branching: Gateway
) -> None:
    await wire.query("BEGIN")
    await wire.query(insert(provisioned.owner_id_on(LAW), "cancelled"))
    await wire.query(insert(provisioned.owner_id_on(HOSPITAL), "cancelled"))
    wire.send(messages.query("SELECT pg_sleep(20)"))
    await asyncio.sleep(0.2)
    session = next(iter(branching.worker.context.registry))
    await send_cancel("127.0.0.1", branching.port, session.number, session.secret)
    said = await wire.until("Z")
    assert (sqlstate(said), status(said)) == ("57014", b"E")
    assert tag(await wire.query("COMMIT")) == b"ROLLBACK"
    assert await leads(provisioned, LAW, "cancelled") == 0


async def test_a_server_without_prepared_transactions_is_named(
    provisioned: Provisioned, service: SeedLogin, cluster_folder: Path
) -> None:
    settings = {**FAST, "max_prepared_transactions": "0"}
    cluster = Cluster(find_postgres(), cluster_folder / "unprepared", settings=settings)
    await cluster.initdb()
    await cluster.start()
    try:
        there = changed(moved(provisioned.settings, "HOSPITAL", cluster.dsn()), **ON)
        async with running(there) as worker:
            wire = await Wire.logged_in(where(worker, service, "crm"))
            await wire.query("BEGIN")
            await wire.query(insert(provisioned.owner_id_on(LAW), "unprepared"))
            said = await wire.query(insert(provisioned.owner_id_on(HOSPITAL), "unprepared"))
            assert (sqlstate(said), status(said)) == ("0A000", b"E")
            assert "max_prepared_transactions" in said[0].fields["H"]
            assert tag(await wire.query("COMMIT")) == b"ROLLBACK"
            await wire.close()
            await rest(worker)
    finally:
        await cluster.stop()
