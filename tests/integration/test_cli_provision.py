"""`gateway provision` and `gateway sync-users`, as typed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner, Result

from gateway.cli import app
from gateway.demo.postgres import Cluster
from gateway.migrate.connect import connected
from gateway.settings.dsn import parse

Command = Callable[..., Awaitable[Result]]
ADD = """INSERT INTO "User" ("email", "name", "industry") VALUES ('a@x', 'A', 'LAW')"""


@pytest.fixture
def command(postgres: Cluster, tmp_path: Path) -> Command:
    file = tmp_path / "gateway.yaml"
    settings = {
        "meta": {"primary": postgres.dsn("typed_meta")},
        "industries": {"LAW": {"shards": [{"primary": postgres.dsn("typed_law")}]}},
    }
    file.write_text(yaml.safe_dump(settings))

    async def run(*words: str) -> Result:
        arguments = [*words, "--config", str(file)]
        result = await asyncio.to_thread(CliRunner().invoke, app, arguments)
        assert "Traceback" not in result.output
        assert postgres.password not in result.output
        return result

    return run


async def test_users_follow_as_asked_for(command: Command, postgres: Cluster) -> None:
    done = await command("provision")
    assert done.exit_code == 0, done.output
    assert "law: users follow by subscription gateway_law_" in done.stdout
    done = await command("provision", "--user-sync", "trigger", "--hub", "typed_hub")
    assert done.exit_code == 0, done.output
    assert "law: users follow by `gateway sync-users`" in done.stdout
    assert "typed_hub: hub of 2 databases" in done.stdout
    async with connected(parse(postgres.dsn("typed_meta"))) as meta:
        await meta.execute(ADD)
    done = await command("sync-users", "--once")
    assert (done.exit_code, done.stdout) == (0, "1 changes delivered\n")
    async with connected(parse(postgres.dsn("typed_hub"))) as hub:
        assert await hub.fetchval('SELECT "email" FROM "User"') == "a@x"
    async with connected(parse(postgres.dsn("typed_law"))) as law:
        assert await law.fetchval('SELECT "email" FROM "User"') == "a@x"
    done = await command("provision", "--user-sync", "none", "--no-epoch-check")
    assert done.exit_code == 0, done.output
    done = await command("sync-users", "--once")
    assert (done.exit_code, done.stdout) == (0, "0 changes delivered\n")


async def test_mistakes_are_told_in_one_line(command: Command) -> None:
    done = await command("provision", "--user-sync", "sometimes")
    assert done.exit_code == 1
    assert done.stderr == ("gateway: --user-sync is auto, logical, trigger, none, not sometimes\n")
