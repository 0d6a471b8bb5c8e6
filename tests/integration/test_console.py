"""The console as operators use it: psql and real drivers on a gateway with real databases."""

from __future__ import annotations

import asyncio
import os
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import psycopg
import pytest

from gateway.admin.actions import ACTIONS
from gateway.admin.commands import COMMANDS
from gateway.errors import ConfigError
from gateway.router.identity import LoginKind
from tests.integration.conftest import Gateway, StartGateway, until, with_overrides

TIMEOUT_S = 30


def console(gateway: Gateway, **options: str) -> str:
    return gateway.dsn("operator", "gateway", **options)


async def psql(dsn: str, *commands: str, script: str | None = None) -> tuple[int, str, str]:
    """Exit status, standard output (unaligned, no header) and standard error."""
    arguments = [word for command in commands for word in ("-c", command)]
    process = await asyncio.create_subprocess_exec(
        "psql", "-XAtq", dsn, *arguments, stdin=PIPE, stdout=PIPE, stderr=PIPE, env=dict(os.environ)
    )
    async with asyncio.timeout(TIMEOUT_S):
        out, errors = await process.communicate((script or "").encode())
    assert process.returncode is not None
    return process.returncode, out.decode(), errors.decode()


@asynccontextmanager
async def connected(dsn: str) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    connection: asyncpg.Connection[asyncpg.Record] = await asyncpg.connect(dsn)
    try:
        yield connection
    finally:
        await connection.close()


async def show(gateway: Gateway, command: str) -> list[dict[str, str | None]]:
    """What a console command answers, through asyncpg."""
    async with connected(console(gateway)) as connection:
        return [dict(row) for row in await connection.fetch(command)]


# --- psql ---


@pytest.mark.parametrize("command", [command.words for command in COMMANDS])
async def test_psql_gets_an_answer_to_every_command(gateway: Gateway, command: str) -> None:
    status, _, errors = await psql(console(gateway), command)
    assert (status, errors) == (0, "")


async def test_psql_shows_every_database_of_the_topology(gateway: Gateway) -> None:
    _, out, _ = await psql(console(gateway), "show routes")
    rows = [line.split("|") for line in out.splitlines()]
    shards = gateway.provisioned.snapshot.shards
    assert {row[1] for row in rows} == set(shards)
    slots = {row[1]: row[2] for row in rows}
    assert (slots["medical_1"], slots["medical_2"], slots["law"]) == ("0-511", "512-1023", "0-1023")


async def test_psql_sends_several_commands_in_one_string(gateway: Gateway) -> None:
    status, out, errors = await psql(
        console(gateway), "SET x = 1; select 1; BEGIN; show version; COMMIT;"
    )
    assert (status, errors) == (0, "")
    assert out.splitlines()[0] == "1"
    assert out.splitlines()[1].endswith("|ready")


async def test_psql_tells_what_was_meant(gateway: Gateway) -> None:
    status, out, errors = await psql(console(gateway), "show poools")
    assert (status, out) == (1, "")
    assert errors == (
        "ERROR:  unknown command: show poools\n"
        "HINT:  Did you mean SHOW POOLS? SHOW HELP lists the commands.\n"
    )


async def test_psql_goes_on_after_an_error(gateway: Gateway) -> None:
    script = "oops;\nselect 'still here';\n\\conninfo\n"
    status, out, errors = await psql(console(gateway), script=script)
    assert status == 0
    assert errors.startswith("ERROR:  unknown command: oops")
    first, second = out.splitlines()
    assert first == "still here"
    assert 'connected to database "gateway" as user "operator"' in second


async def test_psql_greets_without_a_warning_of_its_version(gateway: Gateway) -> None:
    process = await asyncio.create_subprocess_exec(
        "psql", "-X", console(gateway), stdin=PIPE, stdout=PIPE, stderr=PIPE
    )
    out, errors = await process.communicate(b"\\q\n")
    assert b"WARNING" not in out + errors


# --- drivers ---


async def test_asyncpg_prepares_reads_in_parts_and_resets_in_its_pool(gateway: Gateway) -> None:
    async with asyncpg.create_pool(console(gateway), min_size=1, max_size=2) as pool:
        for _ in range(3):
            async with pool.acquire() as connection:
                assert await connection.fetchval("SELECT 1") == "1"
                statement = await connection.prepare("SHOW HELP")
                assert len(await statement.fetch()) == len(COMMANDS) + len(ACTIONS)
                async with connection.transaction():
                    cursor = [row async for row in connection.cursor("SHOW HELP", prefetch=5)]
                assert len(cursor) == len(COMMANDS) + len(ACTIONS)
                with pytest.raises(asyncpg.PostgresSyntaxError, match="unknown command"):
                    await connection.fetch("SHOW nothing")


async def test_psycopg_runs_commands_in_and_out_of_transactions(gateway: Gateway) -> None:
    async with await psycopg.AsyncConnection.connect(console(gateway)) as connection:
        for _ in range(8):  # more often than it takes psycopg to prepare
            cursor = await connection.execute("SHOW VERSION")
            row = await cursor.fetchone()
            assert row is not None
            assert row[-1] == "ready"
        statuses = [connection.info.transaction_status.name]
        await connection.commit()
        statuses.append(connection.info.transaction_status.name)
        assert statuses == ["INTRANS", "IDLE"]
        binary = connection.cursor(binary=True)
        await binary.execute("SELECT 'text'")
        assert await binary.fetchone() == ("text",)
        with pytest.raises(psycopg.errors.SyntaxError):
            await connection.execute("DROP DATABASE meta")
        await connection.rollback()


async def test_psycopg_works_without_a_loop_too(gateway: Gateway) -> None:
    def use() -> int:
        with psycopg.connect(console(gateway), autocommit=True) as connection:
            return len(connection.execute("SHOW HELP").fetchall())

    assert await asyncio.to_thread(use) == len(COMMANDS) + len(ACTIONS)


# --- who may ---


@pytest.mark.parametrize("kind", [LoginKind.OWNER, LoginKind.SERVICE])
async def test_who_is_no_operator_is_refused(gateway: Gateway, kind: LoginKind) -> None:
    login = next(one for one in gateway.provisioned.logins.values() if one.kind is kind)
    with pytest.raises(asyncpg.InsufficientPrivilegeError, match="may not use the console"):
        await asyncpg.connect(gateway.dsn(login.user, "gateway"))


async def test_a_wrong_password_is_refused_as_everywhere(gateway: Gateway) -> None:
    with pytest.raises(asyncpg.InvalidPasswordError):
        await asyncpg.connect(gateway.dsn("operator", "gateway", password="wrong"))


# --- what it shows ---


async def test_it_shows_clients_servers_owners_and_pools_at_work(gateway: Gateway) -> None:
    owner = gateway.provisioned.owner_on("law")
    dsn = gateway.dsn(owner.user, owner.database, application_name="the app")
    async with connected(dsn) as client:
        pid = str(await client.fetchval("SELECT pg_backend_pid()"))
        (idle,) = [row for row in await show(gateway, "SHOW CLIENTS") if row["login"] == owner.user]
        assert (idle["state"], idle["owner"], idle["endpoint"]) == ("idle", owner.owner, "law")
        assert idle["application"] == "the app"
        async with client.transaction():
            await client.execute("SELECT 1")
            clients = await show(gateway, "SHOW CLIENTS")
            (row,) = [row for row in clients if row["login"] == owner.user]
            assert row["state"] == "in transaction"
            (server,) = [
                one for one in await show(gateway, "SHOW SERVERS") if one["client"] == row["client"]
            ]
            assert server["pid"] == row["server_pid"]
            assert (server["state"], server["transaction"]) == ("busy", "open")
            (pool,) = [
                one for one in await show(gateway, "SHOW POOLS") if one["pool"] == server["pool"]
            ]
            assert (pool["active"], pool["waiting"]) == ("1", "0")
        (seen,) = [one for one in await show(gateway, "SHOW OWNERS") if one["owner"] == owner.owner]
        assert (seen["clients"], seen["linked"], seen["endpoint"]) == ("1", "0", "law")
    assert pid.isdigit()


async def test_it_shows_why_a_client_is_pinned(gateway: Gateway) -> None:
    owner = gateway.provisioned.owner_on("law")
    async with connected(gateway.dsn(owner.user, owner.database)) as client:
        await client.execute("CREATE TEMP TABLE t (a text DEFAULT 'secret') -- /* all mine */")
        async with asyncio.timeout(5):
            while True:  # the gateway asks the server what the session holds after it has answered
                clients = await show(gateway, "SHOW CLIENTS")
                (row,) = [row for row in clients if row["login"] == owner.user]
                if row["state"] == "pinned":
                    break
        assert row["pins"] == "temporary object"
        pins = {row["reason"]: row for row in await show(gateway, "SHOW PINS")}
        assert pins["temporary object"]["clients"] == "1"
        assert pins["temporary object"]["statement"] == "CREATE TEMP TABLE t (a text DEFAULT ?)"


async def test_no_password_is_ever_shown(gateway: Gateway) -> None:
    passwords = {login.password for login in gateway.provisioned.logins.values()}
    for command in COMMANDS:
        shown = str(await show(gateway, command.words))
        assert not any(password in shown for password in passwords)
        assert "postgresql://" not in shown


async def test_a_cancel_request_does_nothing_to_a_console(gateway: Gateway) -> None:
    async with await psycopg.AsyncConnection.connect(
        console(gateway), autocommit=True
    ) as connection:
        await connection.cancel_safe()
        cursor = await connection.execute("SELECT 1")
        assert await cursor.fetchone() == ("1",)


async def test_a_console_leaves_nothing_behind(gateway: Gateway) -> None:
    registry = gateway.worker.context.registry
    await until(lambda: len(registry) == 0)
    connections = [await asyncpg.connect(console(gateway)) for _ in range(3)]
    assert len(registry) == 3
    await connections[0].close()
    connections[1].terminate()
    connections[2].terminate()
    await until(lambda: len(registry) == 0)


# --- RELOAD ---


async def test_reload_applies_the_new_settings_and_says_what_changed(
    start_gateway: StartGateway,
) -> None:
    gateway = await start_gateway()
    gateway.reread[0] = with_overrides(gateway.provisioned.settings, {"pool": {"max": 7}})
    assert await show(gateway, "RELOAD") == [{"change": "pool.max: 20 -> 7"}]
    options = {row["setting"]: row["value"] for row in await show(gateway, "SHOW CONFIG")}
    assert options["pool.max"] == "7"
    assert await show(gateway, "RELOAD") == [{"change": "nothing changed"}]


async def test_a_bad_file_changes_nothing_and_shows_every_mistake(
    start_gateway: StartGateway,
) -> None:
    gateway = await start_gateway()
    settings = gateway.worker.context.settings
    gateway.reread[0] = ConfigError(["f:1:1: a: wrong", "f:2:2: b: wrong"])
    with pytest.raises(asyncpg.PostgresError) as caught:
        await show(gateway, "RELOAD")
    assert caught.value.sqlstate == "F0000"
    assert caught.value.as_dict()["detail"] == "f:1:1: a: wrong\nf:2:2: b: wrong"
    assert gateway.worker.context.settings is settings


# --- the end of the gateway ---


async def test_stopping_the_gateway_ends_its_consoles(start_gateway: StartGateway) -> None:
    gateway = await start_gateway()
    connection = await asyncpg.connect(console(gateway))
    await gateway.worker.stop()
    await until(connection.is_closed)


async def test_draining_the_gateway_does_not_wait_for_an_idle_console(
    start_gateway: StartGateway,
) -> None:
    gateway = await start_gateway({"listen": {"shutdown_timeout_s": 60}})
    connection = await asyncpg.connect(console(gateway))
    async with asyncio.timeout(5):
        await gateway.worker.drain()
    await until(connection.is_closed)
