"""PostgreSQL's own programs through an operator login: dumps, pgbench, upkeep, replication."""

from __future__ import annotations

import os
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.conftest import FreshDatabase, Provisioned
from tests.drivers.programs import Sides, both_sides, newest_programs, programs_here
from tests.running import past_the_gateway, pool_of

POOL_MAX = 4
CONTENT = """
    CREATE TYPE mood AS ENUM ('sad', 'glad');
    CREATE TYPE pair AS (a int, b text);
    CREATE DOMAIN positive AS int CHECK (VALUE > 0);
    CREATE SCHEMA "two words";
    CREATE TABLE parent (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, what mood, more pair);
    CREATE TABLE "two words".child (
        id serial PRIMARY KEY, parent int REFERENCES parent, n positive,
        twice int GENERATED ALWAYS AS (n * 2) STORED, body bytea, said text
    );
    CREATE TABLE parts (at date, v int) PARTITION BY RANGE (at);
    CREATE TABLE parts_2025 PARTITION OF parts FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
    INSERT INTO parent (what, more)
        SELECT 'glad', (n, 'b' || n)::pair FROM generate_series(1, 50) n;
    INSERT INTO "two words".child (parent, n, body, said)
        SELECT 1 + n % 50, n, decode(md5(n::text), 'hex'), repeat(E'tab\\there \\\\N é', n % 9)
        FROM generate_series(1, 2000) n;
    INSERT INTO parts SELECT '2025-01-01'::date + n, n FROM generate_series(0, 300) n;
    CREATE INDEX ON "two words".child (said);
    CREATE VIEW glad AS SELECT * FROM parent WHERE what = 'glad';
    CREATE MATERIALIZED VIEW sums AS SELECT parent, sum(n) FROM "two words".child GROUP BY 1;
    CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN new; END $$;
    CREATE TRIGGER touched BEFORE UPDATE ON parent FOR EACH ROW EXECUTE FUNCTION touch();
    SELECT lo_from_bytea(4711, 'a large object');
    COMMENT ON TABLE parent IS 'it''s the parent';
"""


@pytest.fixture(scope="module")
async def sides(provisioned: Provisioned, fresh_database: FreshDatabase) -> AsyncIterator[Sides]:
    url = await fresh_database("programs")
    await programs_here().done("psql", "-Xq", "-v", "ON_ERROR_STOP=1", url, stdin=CONTENT)
    async with both_sides(provisioned, url, POOL_MAX) as sides:
        yield sides


def without_keys(dump: str) -> str:
    """A plain dump but for the key that each one makes up."""
    return re.sub(r"^\\(un)?restrict .*\n", "", dump, flags=re.MULTILINE)


async def plain(url: str) -> str:
    return without_keys(await programs_here().done("pg_dump", url))


# --- dump and restore ------------------------------------------------------------------------


async def test_plain_dumps_are_the_same(sides: Sides) -> None:
    direct = await plain(sides.direct)
    for url in (sides.through, *sides.others.values()):
        assert await plain(url) == direct
    assert direct.count("\n") > 2_300
    inserts = ("--inserts", "--data-only", "--rows-per-insert=7")
    of_both = [
        without_keys(await programs_here().done("pg_dump", *inserts, url))
        for url in (sides.direct, sides.through)
    ]
    assert of_both[0] == of_both[1]


@pytest.mark.parametrize(
    "form", [("-Fc",), ("-Fd", "-j2"), ("-Ft",), ("-Fd", "-j3", "--blobs")], ids=" ".join
)
async def test_archives_hold_the_same_and_are_restored_by_several_at_once(
    sides: Sides,
    form: tuple[str, ...],
    tmp_path: Path,
    fresh_database: FreshDatabase,
    provisioned: Provisioned,
) -> None:
    """Dumped through the gateway; restored through it, too, and compared with the original."""
    programs = programs_here()
    archive = str(tmp_path / "archive")
    await programs.done("pg_dump", *form, "-f", archive, sides.through)
    direct = await plain(sides.direct)
    in_text = without_keys(await programs.done("pg_restore", "-f", "-", archive))
    assert rows_of(in_text) == rows_of(direct)
    several = () if form == ("-Ft",) else ("-j2",)
    url = await fresh_database("restored")
    async with both_sides(provisioned, url, POOL_MAX) as other:
        await programs.done("pg_restore", "--exit-on-error", *several, "-d", other.through, archive)
    assert await plain(url) == direct


def rows_of(dump: str) -> list[str]:
    """The lines of a dump, sorted: archives may keep them in another order."""
    return sorted(line for line in dump.splitlines() if not line.startswith("--"))


async def test_trap_the_empty_search_path_of_pg_dump_reaches_nobody(sides: Sides) -> None:
    programs = programs_here()
    for _ in range(2):
        await programs.done("pg_dump", "-f", "/dev/null", sides.through)
        for _ in range(POOL_MAX):
            shown = await programs.done("psql", "-XAtc", "SHOW search_path", sides.through)
            assert shown == '"$user", public\n'


# --- pgbench ---------------------------------------------------------------------------------

CLIENTS = 8


@pytest.mark.parametrize("script", ["tpcb-like", "simple-update", "select-only"])
@pytest.mark.parametrize("mode", ["simple", "extended", "prepared"])
async def test_pgbench_over_a_pool_smaller_than_its_clients(
    sides: Sides, mode: str, script: str
) -> None:
    programs = programs_here()
    await programs.done("pgbench", "-i", "-q", "-s", "1", sides.through)
    said = await programs.done(
        "pgbench",
        *("-M", mode, "-b", script, "-c", str(CLIENTS), "-j", str(CLIENTS)),
        *("-t", "40", "--no-vacuum", "--max-tries=10", sides.through),
    )
    done = CLIENTS * 40
    assert f"number of transactions actually processed: {done}/{done}" in said
    assert "number of failed transactions: 0 (0.000%)" in said
    if script != "select-only":
        [row] = await past_the_gateway(
            sides.direct,
            "SELECT (SELECT count(*) FROM pgbench_history) AS written,"
            " (SELECT sum(abalance) FROM pgbench_accounts) AS accounts,"
            " (SELECT sum(delta) FROM pgbench_history) AS history",
        )
        assert row["written"] == done
        assert row["accounts"] == row["history"]


async def test_pgbench_in_pipelines(sides: Sides, tmp_path: Path) -> None:
    script = tmp_path / "pipeline.sql"
    script.write_text(
        "\\startpipeline\nBEGIN;\n"
        "UPDATE pgbench_tellers SET tbalance = tbalance + 1 WHERE tid = :client_id + 1;\n"
        "SELECT 1;\nCOMMIT;\n\\endpipeline\n"
    )
    programs = programs_here()
    await programs.done("pgbench", "-i", "-q", "-s", "1", sides.through)
    for mode in ("extended", "prepared"):
        said = await programs.done(
            "pgbench",
            *("-M", mode, "-f", str(script), "-c", str(CLIENTS), "-j", str(CLIENTS)),
            *("-t", "40", "--no-vacuum", sides.through),
        )
        assert "number of failed transactions: 0 (0.000%)" in said
    rows = await past_the_gateway(sides.direct, "SELECT sum(tbalance) AS sum FROM pgbench_tellers")
    assert rows[0]["sum"] == 2 * CLIENTS * 40


# --- upkeep ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "command",
    [
        ("vacuumdb", "--analyze", "-j2"),
        ("vacuumdb", "--full", "-t", "parent"),
        ("vacuumdb", "--analyze-in-stages"),
        ("reindexdb", "-j2"),
        ("reindexdb", "--concurrently", "-t", "parent"),
        ("clusterdb",),
    ],
    ids=" ".join,
)
async def test_upkeep_says_and_does_the_same(sides: Sides, command: tuple[str, ...]) -> None:
    name, *arguments = command
    await past_the_gateway(sides.direct, "CLUSTER parent USING parent_pkey")
    said = [
        await programs_here().done(name, *arguments, "-d", url)
        for url in (sides.direct, sides.through)
    ]
    assert said[0] == said[1]


async def test_a_database_and_a_role_are_made_and_dropped(sides: Sides) -> None:
    programs = programs_here()
    by = f"--maintenance-db={sides.through}"
    await programs.done("createdb", by, "made_by_createdb", "it is a comment")
    here = "SELECT count(*) AS n FROM pg_database WHERE datname = 'made_by_createdb'"
    assert (await past_the_gateway(sides.direct, here))[0]["n"] == 1
    await programs.done("dropdb", by, "--force", "made_by_createdb")
    assert (await past_the_gateway(sides.direct, here))[0]["n"] == 0
    said = await programs.run("dropdb", by, "made_by_createdb")
    assert said.status == 1
    assert "does not exist" in said.text


async def test_pg_isready(sides: Sides) -> None:
    said = await programs_here().done("pg_isready", "-d", sides.through)
    assert said.endswith(" - accepting connections\n")


# --- replication -----------------------------------------------------------------------------


def for_replication(sides: Sides) -> str:
    """Programs that copy a server name no database: an owner says which server."""
    base, _, _ = sides.through.rpartition("/")
    return f"{base}?options=-c%20gateway.owner%3D{sides.owner}"


async def test_a_replication_connection_takes_the_place_of_an_idle_server(
    sides: Sides, tmp_path: Path
) -> None:
    """Of a pool all of whose servers are idle, more often than it has servers."""
    programs = programs_here()
    await programs.done("pg_dump", "-Fd", "-j3", "-f", str(tmp_path / "dump"), sides.through)
    slot = ("--slot=placed", "-d", for_replication(sides))
    for _ in range(POOL_MAX + 1):
        await programs.done("pg_receivewal", "--create-slot", *slot)
        await programs.done("pg_receivewal", "--drop-slot", *slot)
    assert pool_of(sides.worker, sides.direct).core.total <= POOL_MAX


@pytest.mark.parametrize("wal", ["fetch", "stream"])
async def test_a_base_backup_is_whole(sides: Sides, wal: str, tmp_path: Path) -> None:
    programs = programs_here()
    target = str(tmp_path / "backup")
    await programs.done(
        "pg_basebackup",
        *("-D", target, "-X", wal, "--checkpoint=fast", "-d", for_replication(sides)),
    )
    assert "successfully verified" in await programs.done("pg_verifybackup", target)


async def test_wal_is_received(sides: Sides, tmp_path: Path) -> None:
    programs = programs_here()
    await past_the_gateway(sides.direct, "SELECT pg_switch_wal()")
    [row] = await past_the_gateway(sides.direct, "SELECT pg_current_wal_insert_lsn()::text AS lsn")
    await past_the_gateway(sides.direct, "CREATE TABLE logged AS SELECT generate_series(1, 1000)")
    slot = ("--slot=programs", "-d", for_replication(sides))
    await programs.done("pg_receivewal", "--create-slot", *slot)
    try:
        await past_the_gateway(sides.direct, "DROP TABLE logged")
        [row] = await past_the_gateway(sides.direct, "SELECT pg_current_wal_lsn()::text AS lsn")
        end = ("--endpos", row["lsn"], "--no-loop")
        await programs.done("pg_receivewal", "-D", str(tmp_path), *end, *slot)
        assert any(len(name) >= 24 for name in os.listdir(tmp_path))  # noqa: PTH208
    finally:
        await programs.done("pg_receivewal", "--drop-slot", *slot)


async def test_changes_are_decoded(sides: Sides, tmp_path: Path) -> None:
    """Logical replication names a database; one more client of it works meanwhile."""
    programs = programs_here()
    output = tmp_path / "changes"
    slot = ("--slot=programs_logical", "-d", sides.through)
    await programs.done("pg_recvlogical", "--create-slot", "--plugin=pgoutput", *slot)
    try:
        await programs.done("psql", "-Xqc", "CREATE TABLE decoded (a int)", sides.through)
        [row] = await past_the_gateway(sides.direct, "SELECT pg_current_wal_lsn()::text AS lsn")
        await programs.done(
            "pg_recvlogical",
            *("--start", "-f", str(output), "--endpos", row["lsn"], "--no-loop"),
            *("-o", "proto_version=1", "-o", "publication_names=none", *slot),
        )
    finally:
        await programs.done("pg_recvlogical", "--drop-slot", *slot)
        await programs.done("psql", "-Xqc", "DROP TABLE decoded", sides.through)
    assert output.exists()


async def test_the_newest_programs_work_too(sides: Sides) -> None:
    """Those of the wheel against whichever server there is: other queries, other protocol."""
    programs = newest_programs()
    assert "accepting connections" in await programs.done("pg_isready", "-d", sides.through)
    dumps = [
        without_keys(await programs.done("pg_dump", url)) for url in (sides.direct, sides.through)
    ]
    assert dumps[0] == dumps[1]
    await programs.done("pgbench", "-i", "-q", "-s", "1", sides.through)
    said = await programs.done(
        "pgbench",
        *(
            "-M",
            "prepared",
            "-c",
            str(CLIENTS),
            "-j",
            str(CLIENTS),
            "-t",
            "20",
            "-n",
            sides.through,
        ),
    )
    assert "number of failed transactions: 0 (0.000%)" in said
