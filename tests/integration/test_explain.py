"""SHOW ROUTE and `gateway route` say where a statement goes, and there it goes."""

from __future__ import annotations

import asyncio
from pathlib import Path

import asyncpg
import yaml
from typer.testing import CliRunner

from gateway.cli import app
from gateway.router.identity import LoginKind
from tests.conftest import Provisioned
from tests.integration.conftest import Gateway
from tests.wire import Place, Wire

LEADS = 'SELECT current_database() FROM "Lead" WHERE "userId" = {} LIMIT 1'


async def test_the_console_says_where_statements_go(
    gateway: Gateway, provisioned: Provisioned
) -> None:
    service = next(one for one in provisioned.logins.values() if one.kind is LoginKind.SERVICE)
    place = Place("127.0.0.1", gateway.port, service.user, service.password, "crm")
    wire = await Wire.logged_in(place)
    console = await asyncpg.connect(gateway.dsn("operator", "gateway"))
    try:
        for shard in ("law", "medical_1", "medical_2"):
            owner = provisioned.owner_on(shard).owner
            statement = LEADS.format(owner)
            rows = await console.fetch(
                f"SHOW ROUTE FOR LOGIN {service.user} STATEMENT '{statement}'"
            )
            steps = {row["step"]: row["found"] for row in rows}
            assert steps["target"].startswith(f"{shard} ("), steps
            assert steps["rule"] == f"tenant key {owner}"
            assert steps["served by"].startswith("the primary")
            assert await wire.value(statement) == f"crm_{shard}"
            assert (await console.fetch(f"SHOW ROUTE FOR OWNER {owner} LIMIT 1"))[0]["step"] == (
                "login"
            )
        refused = await console.fetch("SHOW ROUTE FOR STATEMENT 'DROP TABLE \"Lead\"'")
        assert any("refused, 0A000" in row["found"] for row in refused)
        assert (await wire.query('SELECT 1 FROM "Lead" WHERE false'))[0].fields["C"] == "0A000"
    finally:
        await console.close()
        await wire.close()


async def test_the_command_line_needs_no_gateway(provisioned: Provisioned, tmp_path: Path) -> None:
    owner = str(provisioned.owner_on("medical_2").owner)
    settings = provisioned.settings.model_dump(mode="json", include={"industries", "meta"})
    settings["meta"]["primary"] = provisioned.url("meta")
    for name, industry in settings["industries"].items():
        for number, shard in enumerate(provisioned.settings.industries[name].shards):
            industry["shards"][number]["primary"] = shard.primary.get_secret_value()
    file = tmp_path / "gateway.yaml"
    file.write_text(yaml.safe_dump(settings))
    words = ["route", "--owner", owner, "--config", str(file), 'SELECT * FROM "Lead"']
    done = await asyncio.to_thread(CliRunner().invoke, app, words)
    assert (done.exit_code, done.stderr) == (0, "")
    lines = [line.split("\t") for line in done.stdout.splitlines()]
    assert lines[0] == ["step", "found"]
    steps = {line[0]: line[1] for line in lines}
    assert steps["target"].startswith("medical_2 (")
    assert "hash slot" in steps[f"owner {owner}"] or "placement" in steps[f"owner {owner}"]
    nothing = await asyncio.to_thread(CliRunner().invoke, app, ["route", "--config", str(file)])
    assert (nothing.exit_code, "whose route" in nothing.stderr) == (2, True)
    unknown = [*words[:3], "--login", "nobody", "--config", str(file)]
    failed = await asyncio.to_thread(CliRunner().invoke, app, unknown)
    assert (failed.exit_code, failed.stderr) == (1, 'gateway: login "nobody" does not exist\n')
