"""The process around the worker: its signals, its exit status, its log."""

from __future__ import annotations

import asyncio
import json
import os
import re
import resource
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg
import psycopg
import pytest
import yaml

from gateway.demo.postgres import free_port
from tests.certificates import issue
from tests.conftest import Provisioned
from tests.integration.conftest import HOST, merged, revealed

TIMEOUT_S = 30
SOFT_LIMIT = 200
_FEW_DESCRIPTORS = ("/bin/sh", "-c", f'ulimit -S -n {SOFT_LIMIT} && exec "$@"', "sh")


@dataclass
class Child:
    """A `gateway serve` of its own, and its settings file."""

    process: Process
    provisioned: Provisioned
    file: Path
    port: int
    lines: list[str] = field(default_factory=list)

    def dsn(self, user: str, database: str, password: str | None = None) -> str:
        password = password or self.provisioned.logins[user].password
        return f"postgresql://{user}:{password}@{HOST}:{self.port}/{database}"

    def owner_dsn(self) -> str:
        owner = self.provisioned.owner_on("law")
        return self.dsn(owner.user, owner.database)

    def write(self, overrides: dict[str, Any]) -> None:
        """The settings with some changed, into the file."""
        settings = merged(revealed(self.provisioned.settings), overrides)
        self.file.write_text(yaml.safe_dump(_plain(settings)))

    def kill(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    async def log(self, pattern: str) -> str:
        """The next line of the log that fits; those before it are kept in ``lines``."""
        assert self.process.stderr is not None
        async with asyncio.timeout(TIMEOUT_S):
            while line := (await self.process.stderr.readline()).decode().rstrip("\n"):
                self.lines.append(line)
                if re.search(pattern, line):
                    return line
        raise AssertionError(f"{pattern} was not logged: {self.lines}")

    async def end(self) -> int:
        """Its exit status, once it has ended; the rest of its log is in ``lines``."""
        async with asyncio.timeout(TIMEOUT_S):
            _, rest = await self.process.communicate()
        self.lines += rest.decode().splitlines()
        assert self.process.returncode is not None
        return self.process.returncode


StartChild = Callable[..., Awaitable[Child]]


def _plain(value: Any) -> Any:
    """Without the types that YAML doesn't know."""
    return json.loads(json.dumps(value))


@pytest.fixture
async def start_child(provisioned: Provisioned, tmp_path: Path) -> AsyncIterator[StartChild]:
    """``await start_child({...})`` runs a gateway process with these options."""
    async with AsyncExitStack() as stack:

        async def start(overrides: dict[str, Any] | None = None, *, ready: bool = True) -> Child:
            file = tmp_path / "gateway.yaml"
            ports = {"listen": {"port": free_port()}, "http": {"port": free_port()}}
            options = merged(ports, overrides or {})
            settings = merged(revealed(provisioned.settings), options)
            file.write_text(yaml.safe_dump(_plain(settings)))
            serve = (sys.executable, "-m", "gateway", "serve", "--config", str(file))
            process = await asyncio.create_subprocess_exec(*_FEW_DESCRIPTORS, *serve, stderr=PIPE)
            stack.push_async_callback(_stop, process)
            child = Child(process, provisioned, file, settings["listen"]["port"])
            if ready:
                await child.log("ready: listening")
            return child

        yield start


async def _stop(process: Process) -> None:
    if process.returncode is None:
        process.kill()
        await process.communicate()


# --- SIGHUP ---


async def test_sighup_reloads_settings_and_log_level(start_child: StartChild) -> None:
    child = await start_child()
    keep = {"listen": {"port": child.port}, "http": {"port": None}}
    child.write({**keep, "pool": {"max": 7}, "log": {"level": "debug"}})
    child.kill(signal.SIGHUP)
    said = (await child.log("reloaded: ")).split("reloaded: ")[1].split("; ")
    assert re.fullmatch(r"http\.port: \d+ -> none \(needs a restart\)", said[0])
    assert said[1:] == ["log.level: info -> debug", "pool.max: 20 -> 7"]
    connection = await asyncpg.connect(child.dsn("operator", "gateway"))
    options = {row[0]: row[1] for row in await connection.fetch("SHOW CONFIG")}
    assert options["pool.max"] == "7"
    await connection.close()
    connection = await asyncpg.connect(child.owner_dsn())
    await connection.execute("SELECT 1")
    await connection.close()
    assert "DEBUG" in await child.log("-> law: ")


async def test_sighup_with_a_bad_file_changes_nothing(start_child: StartChild) -> None:
    child = await start_child({"pool": {"max": 6}})
    child.file.write_text(child.file.read_text() + "listne: 1\nplo: 2\n")
    child.kill(signal.SIGHUP)
    assert "ERROR" in await child.log("not reloaded, nothing has changed: .*listne")
    await child.log("not reloaded, nothing has changed: .*plo")
    connection = await asyncpg.connect(child.dsn("operator", "gateway"))
    options = {row[0]: row[1] for row in await connection.fetch("SHOW CONFIG")}
    assert options["pool.max"] == "6"
    with pytest.raises(asyncpg.PostgresError, match="nothing has changed") as caught:
        await connection.fetch("RELOAD")
    assert caught.value.sqlstate == "F0000"
    await connection.close()


# --- SIGTERM and SIGINT ---


async def test_sigterm_lets_a_transaction_end_and_takes_nobody_new(
    start_child: StartChild,
) -> None:
    child = await start_child()
    busy = await asyncpg.connect(child.owner_dsn())
    idle = await psycopg.AsyncConnection.connect(child.owner_dsn())
    transaction = busy.transaction()
    await transaction.start()
    child.kill(signal.SIGTERM)
    await child.log("draining")
    async with asyncio.timeout(10):
        with pytest.raises((OSError, asyncpg.PostgresError)):
            while True:  # it says so before it closes the door
                await (await asyncpg.connect(child.owner_dsn())).close()
    with pytest.raises(psycopg.errors.AdminShutdown):
        await idle.execute("SELECT 1")
    assert await busy.fetchval("SELECT 1") == 1
    assert child.process.returncode is None
    await transaction.commit()
    assert await child.end() == 0
    busy.terminate()


async def test_sigterm_without_clients_ends_at_once(start_child: StartChild) -> None:
    child = await start_child()
    child.kill(signal.SIGTERM)
    async with asyncio.timeout(5):
        assert await child.end() == 0


async def test_a_second_sigterm_stops_at_once(start_child: StartChild) -> None:
    child = await start_child()
    busy = await asyncpg.connect(child.owner_dsn())
    await busy.transaction().start()
    child.kill(signal.SIGTERM)
    await child.log("draining")
    child.kill(signal.SIGTERM)
    async with asyncio.timeout(10):
        assert await child.end() == 0
    busy.terminate()


async def test_sigint_stops_at_once_and_says_why_to_clients(start_child: StartChild) -> None:
    child = await start_child()
    busy = await psycopg.AsyncConnection.connect(child.owner_dsn())
    await busy.execute("SELECT 1")
    child.kill(signal.SIGINT)
    async with asyncio.timeout(10):
        assert await child.end() == 0
    with pytest.raises(psycopg.errors.AdminShutdown):
        await busy.execute("SELECT 1")


async def test_the_end_leaves_no_server_connection(
    start_child: StartChild, provisioned: Provisioned
) -> None:
    child = await start_child()
    client = await asyncpg.connect(child.owner_dsn())
    pid = await client.fetchval("SELECT pg_backend_pid()")
    child.kill(signal.SIGINT)
    assert await child.end() == 0
    direct = await asyncpg.connect(provisioned.url("law"))
    alive = await direct.fetchval("SELECT count(*) FROM pg_stat_activity WHERE pid = $1", pid)
    await direct.close()
    client.terminate()
    assert alive == 0


# --- TLS ---


async def test_the_console_works_inside_tls(start_child: StartChild, tmp_path: Path) -> None:
    certificate_file, key_file = issue("localhost", names=("localhost",)).write(tmp_path, "server")
    tls = {"mode": "require", "certificate_file": certificate_file, "key_file": key_file}
    child = await start_child({"listen": {"tls": tls}})
    dsn = child.dsn("operator", "gateway") + "?sslmode=require"
    async with asyncio.timeout(TIMEOUT_S):
        connection = await psycopg.AsyncConnection.connect(dsn, autocommit=True)
    rows = await (await connection.execute("SHOW ROUTES; SHOW VERSION")).fetchall()
    assert len(rows) == len(child.provisioned.snapshot.shards)
    await connection.close()
    with pytest.raises(psycopg.OperationalError, match="inside TLS only"):
        await psycopg.AsyncConnection.connect(child.dsn("operator", "gateway") + "?sslmode=disable")


# --- starting ---


async def test_bad_settings_end_it_with_every_mistake(start_child: StartChild) -> None:
    child = await start_child({"pool": {"max": 0, "min": -1}}, ready=False)
    assert await child.end() == 2
    assert len(child.lines) == 2
    assert all(line.startswith(f"{child.file}:") for line in child.lines)


@pytest.mark.parametrize("section", ["listen", "http"])
async def test_a_taken_port_ends_it_with_one_line(start_child: StartChild, section: str) -> None:
    holder = await asyncio.start_server(lambda reader, writer: None, HOST, 0)
    port = holder.sockets[0].getsockname()[1]
    child = await start_child({section: {"port": port}}, ready=False)
    assert await child.end() == 1
    holder.close()
    (line,) = [one for one in child.lines if one.startswith("gateway: ")]
    assert line.startswith("gateway: can't start: ")
    assert "Traceback" not in "\n".join(child.lines)


async def test_a_meta_database_that_is_away_does_not_keep_it_from_starting(
    start_child: StartChild,
) -> None:
    away = f"postgresql://nobody@{HOST}:{free_port()}/meta"
    child = await start_child({"meta": {"primary": away}})
    child.kill(signal.SIGTERM)
    assert await child.end() == 0


async def test_it_takes_all_the_descriptors_it_may(start_child: StartChild) -> None:
    child = await start_child()
    soft, hard = resource.prlimit(child.process.pid, resource.RLIMIT_NOFILE)
    assert soft == hard > SOFT_LIMIT


async def test_json_logs_are_one_object_a_line(start_child: StartChild) -> None:
    child = await start_child({"log": {"format": "json"}})
    with pytest.raises(asyncpg.InvalidPasswordError):
        await asyncpg.connect(child.dsn("operator", "gateway", "wrong"))
    child.kill(signal.SIGTERM)
    assert await child.end() == 0
    events = [json.loads(line) for line in child.lines]
    assert {"time", "level", "logger", "message"} <= set(events[0])
    (failed,) = [event for event in events if "login failed" in event["message"]]
    assert (failed["level"], failed["logger"]) == ("warning", "gateway.session.login")


async def test_without_a_file_the_environment_is_enough(
    provisioned: Provisioned, start_child: StartChild
) -> None:
    port = free_port()
    environ = {
        **os.environ,
        "GATEWAY_LISTEN_PORT": str(port),
        "GATEWAY_HTTP_PORT": str(free_port()),
        "DATABASE_URL_META": provisioned.url("meta"),
        **{
            f"DATABASE_URL_{shard.name.upper()}": provisioned.url(shard.name)
            for shard in provisioned.snapshot.shards.values()
            if shard.industry is not None
        },
    }
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gateway", "serve"), stderr=PIPE, env=environ
    )
    child = Child(process, provisioned, Path(), port)
    try:
        await child.log("ready: listening")
        for shard in ("law", "medical_1", "medical_2"):
            owner = provisioned.owner_on(shard)
            connection = await asyncpg.connect(child.dsn(owner.user, owner.database))
            assert await connection.fetchval("SELECT current_database()") == f"crm_{shard}"
            await connection.close()
    finally:
        child.kill(signal.SIGINT)
        await child.end()
