"""`gateway provision` and `gateway owners ...` on a real, empty meta database."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import asyncpg
import pytest
import yaml
from typer.testing import CliRunner, Result

from gateway.cli import app
from gateway.settings.load import load
from gateway.worker import Worker
from tests.conftest import FreshDatabase
from tests.integration.conftest import HOST

Command = Callable[..., Awaitable[Result]]


@pytest.fixture
async def meta(fresh_database: FreshDatabase) -> str:
    """A database of the test's own; it is also the only industry's."""
    return await fresh_database("cli")


@pytest.fixture
def config(meta: str, tmp_path: Path) -> Path:
    file = tmp_path / "gateway.yaml"
    settings = {
        "listen": {"port": 0},
        "http": {"port": None},
        "meta": {"primary": meta},
        "industries": {"LAW": {"shards": [{"primary": meta}]}},
    }
    file.write_text(yaml.safe_dump(settings))
    return file


@pytest.fixture
def command(config: Path) -> Command:
    """``await command("owners", "list")`` runs the command line."""

    async def run(*words: str, text: str | None = None) -> Result:
        arguments = [*words, "--config", str(config)]
        result = await asyncio.to_thread(CliRunner().invoke, app, arguments, input=text)
        assert "Traceback" not in result.output
        return result

    return run


async def good(result: Awaitable[Result]) -> list[str]:
    """The lines of a command that must succeed."""
    done = await result
    assert (done.exit_code, done.stderr) == (0, "")
    return done.stdout.splitlines()


async def bad(result: Awaitable[Result]) -> str:
    """The one line of a command that must fail."""
    done = await result
    assert done.exit_code == 1
    (line,) = done.stderr.splitlines()
    return str(line)


@pytest.fixture
async def owner(meta: str, command: Command) -> str:
    """The id of an owner in a provisioned meta database."""
    lines = await good(command("provision"))
    assert "tables ready for meta, law" in lines[0]
    connection = await asyncpg.connect(meta)
    try:
        await connection.execute(
            """INSERT INTO "User" ("id", "email", "name", "industry")
               VALUES (7, 'ann@example.com', 'Ann', 'LAW')"""
        )
    finally:
        await connection.close()
    return "7"


@pytest.fixture
async def worker(config: Path, owner: str) -> AsyncIterator[Worker]:
    """A gateway on the provisioned database."""
    settings = load(config, {})
    worker = Worker(settings, lambda: settings)
    await worker.start()
    yield worker
    await worker.stop()


async def log_in(worker: Worker, user: str, password: str) -> str:
    """Whom PostgreSQL thinks we are, through the gateway."""
    connection = await asyncpg.connect(
        host=HOST, port=worker.address[1], user=user, password=password, database="law"
    )
    try:
        return str(await connection.fetchval("SELECT current_database()"))
    finally:
        await connection.close()


async def opens(worker: Worker, user: str, password: str, expected: bool) -> None:
    """Wait until the password opens the gateway, or no longer does. Raises TimeoutError."""
    async with asyncio.timeout(5):
        while True:
            try:
                await log_in(worker, user, password)
            except asyncpg.InvalidPasswordError:
                opened = False
            else:
                opened = True
            if opened is expected:
                return


async def test_a_login_made_here_opens_the_gateway(
    command: Command, owner: str, worker: Worker, meta: str
) -> None:
    said = await good(command("owners", "add", "ann", "--owner", owner, text="first secret\n"))
    assert said == ['added owner login "ann"']
    assert await log_in(worker, "ann", "first secret") == meta.rpartition("/")[2]
    assert await good(command("owners", "disable", "ann")) == ['disabled "ann"']
    await opens(worker, "ann", "first secret", False)
    await good(command("owners", "enable", "ann"))
    lines = await good(command("owners", "password", "ann", "--generate"))
    made = lines[1].removeprefix("password: ")
    assert len(made) == 24
    await opens(worker, "ann", made, True)
    await opens(worker, "ann", "first secret", False)


async def test_logins_are_listed_and_shown(command: Command, owner: str) -> None:
    await good(command("owners", "add", "ann", "--owner", owner, "--generate"))
    await good(
        command(
            *("owners", "add", "root", "--kind", "operator", "--no-password"),
            *("--valid-until", "2031-05-01"),
        )
    )
    header, ann, root = await good(command("owners", "list"))
    assert header.split("\t")[:4] == ["name", "kind", "owner", "industry"]
    assert ann.split("\t") == ["ann", "owner", "7", "LAW", "scram", "", ""]
    assert root.split("\t") == ["root", "operator", "", "", "none", "2031-05-01 00:00:00Z", ""]
    assert len(await good(command("owners", "list", "--kind", "operator"))) == 2
    shown = dict(line.split("\t") for line in await good(command("owners", "show", "ann")))
    assert (shown["owner"], shown["industry"], shown["shard"]) == ("7", "LAW", "by hash slot")


async def test_api_keys_are_made_listed_and_revoked(command: Command, owner: str) -> None:
    await good(command("owners", "add", "ann", "--owner", owner, "--no-password"))
    made = "\n".join(await good(command("owners", "key", "add", "ann")))
    match = re.fullmatch(r"id: (\S+)\nkey: (\S+)", made)
    assert match is not None
    listed = (await good(command("owners", "key", "list", "ann")))[1]
    assert listed.startswith(match[1] + "\t")
    assert match[2] not in listed
    assert await good(command("owners", "key", "revoke", match[1])) == [f'revoked "{match[1]}"']
    assert (await good(command("owners", "key", "list", "ann")))[1].endswith("\tyes")


async def test_grants_of_a_service_login(command: Command, owner: str) -> None:
    await good(command("owners", "add", "app", "--kind", "service", "--generate"))
    said = await good(command("owners", "grant", "add", "app", "owner", owner))
    assert said == ['"app" may act for owner 7']
    await good(command("owners", "grant", "add", "app", "all"))
    assert await good(command("owners", "grant", "list", "app")) == [
        "scope\tid",
        "all\t",
        "owner\t7",
    ]
    await good(command("owners", "grant", "remove", "app", "all"))
    assert len(await good(command("owners", "grant", "list", "app"))) == 2


async def test_what_can_not_be_done_is_one_line(command: Command, owner: str) -> None:
    assert await bad(command("owners", "show", "nobody")) == 'gateway: no login "nobody"'
    add = command("owners", "add", "x", "--owner", "999", "--generate")
    assert await bad(add) == 'gateway: no owner "999" in the meta database'
    assert await bad(command("owners", "grant", "add", "nobody", "all")) == (
        'gateway: no login "nobody"'
    )


async def test_a_database_without_tables_says_what_to_do(command: Command) -> None:
    assert "run `gateway provision`" in await bad(command("owners", "list"))
