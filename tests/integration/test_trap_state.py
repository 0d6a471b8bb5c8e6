"""Traps about what a session leaves on a server, or what changes behind a server's back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

import pytest

from gateway.directory.owners import add_login, open_meta, set_password
from gateway.router.identity import LoginKind
from gateway.settings.dsn import parse
from gateway.worker import Worker
from tests.conftest import FreshDatabase, Provisioned
from tests.running import changed, eventually, moved, past_the_gateway, place, rest, running
from tests.wire import Place, Refused, Wire

LEFT = {
    "temporary table": (
        "CREATE TEMP TABLE left_behind (a int)",
        "SELECT count(*) FROM pg_class WHERE relname = 'left_behind'",
    ),
    "temporary function": (
        "CREATE FUNCTION pg_temp.left_behind() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "SELECT count(*) FROM pg_proc WHERE proname = 'left_behind'",
    ),
    "session advisory lock": (
        "SELECT pg_advisory_lock(1)",
        "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'",
    ),
    "cursor that is held": (
        "DECLARE left_behind CURSOR WITH HOLD FOR SELECT 1",
        "SELECT count(*) FROM pg_cursors WHERE name = 'left_behind'",
    ),
    "channel": ("LISTEN left_behind", "SELECT count(*) FROM pg_listening_channels()"),
    "PREPARE": (
        "PREPARE left_behind AS SELECT 1",
        "SELECT count(*) FROM pg_prepared_statements WHERE name = 'left_behind'",
    ),
    "setting": (
        "SET work_mem = '9MB'",
        "SELECT count(*) FROM pg_settings WHERE name = 'work_mem' AND source = 'session'",
    ),
    "custom setting": (
        "SET my.left_behind = 'x'",
        "SELECT count(*) FROM (SELECT current_setting('my.left_behind', true) AS v) AS s"
        " WHERE v <> ''",
    ),
    "role": (
        "SET ROLE pg_monitor",
        "SELECT count(*) FROM (SELECT 1) AS s WHERE current_user = 'pg_monitor'",
    ),
    "session user": (
        "SET SESSION AUTHORIZATION pg_monitor",
        "SELECT count(*) FROM (SELECT 1) AS s WHERE session_user = 'pg_monitor'",
    ),
    "read-only as the default": (
        "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
        "SELECT count(*) FROM pg_settings"
        " WHERE name = 'default_transaction_read_only' AND setting = 'on'",
    ),
    "search_path emptied as by pg_dump": (
        "SELECT pg_catalog.set_config('search_path', '', false)",
        "SELECT count(*) FROM (SELECT 1) AS s WHERE current_setting('search_path') = ''",
    ),
    "sequence": (
        "CREATE TEMP SEQUENCE left_behind; SELECT nextval('left_behind')",
        "SELECT count(*) FROM pg_class WHERE relname = 'left_behind'",
    ),
}
"""What is left, and how many of it a session sees: none, unless it is the one that made it."""


@dataclass(frozen=True, slots=True)
class House:
    """A gateway with one server for everybody, over a database of its own."""

    worker: Worker
    url: str
    place: Place

    @asynccontextmanager
    async def clients(self) -> AsyncIterator[tuple[Wire, Wire]]:
        """Two clients; nothing may be left of them afterwards."""
        one, other = await Wire.logged_in(self.place), await Wire.logged_in(self.place)
        try:
            yield one, other
        finally:
            one.fin()
            other.fin()
        await rest(self.worker)


@pytest.fixture(scope="module")
async def house(provisioned: Provisioned, fresh_database: FreshDatabase) -> AsyncIterator[House]:
    url = await fresh_database("state")
    settings = moved(changed(provisioned.settings, pool={"max": 1}), "LAW", url)
    async with running(settings) as worker:
        yield House(worker, url, place(worker, provisioned.owner_on("law")))


@pytest.mark.parametrize("what", LEFT)
@pytest.mark.parametrize("goodbye", ["Terminate", "FIN", "RST", "DISCARD ALL"])
async def test_trap_nothing_is_left_on_a_shared_connection(
    house: House, what: str, goodbye: str
) -> None:
    make, count = LEFT[what]
    async with house.clients() as (one, other):
        await one.query(make)
        assert await one.value(count) == "1", "it was never there"
        if goodbye == "Terminate":
            await one.close()
        elif goodbye == "DISCARD ALL":
            await one.query("DISCARD ALL")
            assert await one.value(count) == "0"
        else:
            {"FIN": Wire.fin, "RST": Wire.rst}[goodbye](one)
        assert await other.value(count) == "0"
        assert await other.value("SELECT pg_try_advisory_xact_lock(1)") == "t"


async def test_trap_a_library_that_was_loaded_is_not_left_on_a_shared_connection(
    house: House,
) -> None:
    """What LOAD did only the end of the server process takes away."""
    async with house.clients() as (one, other):
        await one.query("LOAD 'plpgsql'")
        used = await one.value("SELECT pg_backend_pid()")
        await one.close()
        assert await other.value("SELECT pg_backend_pid()") != used


UNDONE = (
    "SELECT set_config('work_mem', '9MB', true)",
    "BEGIN; SET work_mem = '9MB'; ROLLBACK",
    "BEGIN; SELECT set_config('work_mem', '9MB', false); ROLLBACK",
    "BEGIN; SAVEPOINT s; SET work_mem = '9MB'; ROLLBACK TO SAVEPOINT s; COMMIT",
    "BEGIN; SAVEPOINT s; SET work_mem = '9MB'; RELEASE s; ROLLBACK",
    "BEGIN; SET LOCAL work_mem = '9MB'; COMMIT",
    "BEGIN; SET work_mem = '9MB'; SELECT 1/0; COMMIT",
    "SET work_mem = '9MB'; SELECT 1/0",
    "SET work_mem = '9MB'; RESET ALL",
    "BEGIN; SET work_mem = '9MB'; RESET ALL; COMMIT",
    "BEGIN; SET work_mem = '9MB'; COMMIT; DISCARD ALL",
    "DO $$ BEGIN SET work_mem = '9MB'; RAISE division_by_zero; END $$",
    "DO $$ BEGIN SET LOCAL work_mem = '9MB'; END $$",
)


@pytest.mark.parametrize("sql", UNDONE)
async def test_trap_a_setting_that_was_undone_is_not_in_the_proxys_copy(
    house: House, sql: str
) -> None:
    """Another client uses the server in between, so that A's copy is put back on it."""
    async with house.clients() as (one, other):
        before = await other.value("SHOW work_mem")
        for step in [sql] if "DISCARD ALL" not in sql else sql.split("; "):
            await one.query(step)
        await one.query("ROLLBACK")
        await other.query("SET work_mem = '8MB'")
        assert await one.value("SHOW work_mem") == before


QUOTED = (
    "x'; DROP TABLE t; --",
    "it's",
    "back\\slash",
    '"double"',
    "a, b",
    "",
    " $$ ",
    "é 漢",
    "x'; DROP TABLE t; --",
    "$1",
)


async def test_trap_any_value_of_a_setting_comes_back_as_it_was(house: House) -> None:
    names = ("my.value", "application_name", "search_path")
    async with house.clients() as (one, other):
        for value in QUOTED:
            literal, name = value.replace("'", "''"), value.replace('"', '""') or "x"
            await one.query(f"SET my.value = '{literal}'; SET application_name = '{literal}'")
            await one.query(f"""SET search_path = "{name}", "$user", public""")
            before = [await one.value(f"SHOW {setting}") for setting in names]
            assert before[0] == value
            await other.query("SET my.value = 'theirs'; SET search_path = pg_catalog")
            assert [await one.value(f"SHOW {setting}") for setting in names] == before


async def test_trap_a_database_made_dropped_and_made_again_is_served_without_a_restart(
    provisioned: Provisioned, house: House
) -> None:
    url = f"{house.url}_again"
    name = url.rpartition("/")[2]
    async with running(moved(provisioned.settings, "LAW", url)) as worker:
        where = place(worker, provisioned.owner_on("law"))
        for turn in range(3):
            with pytest.raises(Refused, match="does not exist"):
                await (await Wire.logged_in(where)).value("SELECT 1")
            await past_the_gateway(house.url, f'CREATE DATABASE "{name}"')
            wire = await Wire.logged_in(where)
            await wire.query(f"CREATE TABLE turn AS SELECT {turn} AS number")
            assert await wire.value("SELECT number FROM turn") == str(turn)
            await past_the_gateway(house.url, f'DROP DATABASE "{name}" WITH (FORCE)')
            wire.fin()
        await eventually(lambda: not len(worker.context.registry))


async def test_trap_a_changed_password_is_asked_for_without_a_restart(
    provisioned: Provisioned, house: House
) -> None:
    """Within the time that the news take; the session that is logged in goes on."""
    name, meta = "state_password", provisioned.url("meta")
    owner = provisioned.owner_on("law").owner
    where = replace(house.place, user=name, password="first")
    async with open_meta(parse(meta)) as connection:
        await add_login(connection, name, LoginKind.OWNER, owner=owner, password="first")
        try:
            wire = await Wire.logged_in(where)
            await set_password(connection, name, "second")
            await until_refused(where)
            await (await Wire.logged_in(replace(where, password="second"))).close()
            assert await wire.value("SELECT 'still here'") == "still here"
            await wire.close()
        finally:
            await connection.execute("DELETE FROM gateway.login WHERE name = $1", name)
    await until_refused(replace(where, password="second"))
    await rest(house.worker)


async def until_refused(where: Place) -> None:
    """Log in again and again until the password is wrong; not for long."""
    with pytest.raises(Refused) as refused:
        async with asyncio.timeout(5):
            while True:
                await (await Wire.logged_in(where)).close()
    assert refused.value.sqlstate == "28P01"
