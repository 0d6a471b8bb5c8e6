"""What the demo prints: commands a shell takes as they are, and a plan that covers every shard."""

from __future__ import annotations

import shlex
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from gateway.demo.guide import psql_lines, psql_program, tour_table
from gateway.demo.seed import choose_tenants, make_logins
from gateway.demo.tour import Seen, one_per_shard, plan
from gateway.router.identity import LoginKind
from tests.unit.demo.test_tenants import ALL

LOGINS = make_logins(choose_tenants(60, ALL.industries), ALL)


def test_one_owner_per_shard() -> None:
    owners = one_per_shard(LOGINS)
    assert [owner.shard for owner in owners] == sorted(set(ALL.shards) - {"meta"})


def test_the_tour_goes_everywhere_and_as_every_kind_of_login() -> None:
    stops = plan(LOGINS, ALL)
    assert {stop.login.kind for stop in stops} == set(LoginKind)
    assert {stop.expected for stop in stops} == {
        shard.primary.database for shard in ALL.shards.values() if shard.industry
    }


def test_a_stop_that_went_wrong_is_shown_with_its_reason() -> None:
    stop = plan(LOGINS, ALL)[0]
    table = tour_table([Seen(stop, "law", 12, 3.2), Seen(stop, problem="[FATAL] no [/such] thing")])
    console = Console(width=200, record=True, file=StringIO())
    console.print(table)
    right, wrong = [line for line in console.export_text().splitlines() if "owner_" in line]
    assert "ok" in right
    assert "[FATAL] no [/such] thing" in wrong


def test_commands_are_one_shell_line_each() -> None:
    lines = list(psql_lines(LOGINS, "127.0.0.1", 6432, "gateway", "/opt/my pg/bin/psql"))
    assert len(lines) == 16 + 4
    for _, command in lines:
        words = shlex.split(command)
        assert words[0].startswith("PGPASSWORD=")
        assert "/opt/my pg/bin/psql" in words
        assert "\n" not in command
    service = next(command for purpose, command in lines if "web app" in purpose)
    assert "PGOPTIONS=-c gateway.owner=" in " ".join(shlex.split(service))


def test_psql_of_the_installation_when_none_is_on_the_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert psql_program(Path("/opt/pg/bin")) == "/opt/pg/bin/psql"
