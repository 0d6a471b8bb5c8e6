"""The table of commands, the hints made from it, and what is said by habit."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.admin.actions import ACTIONS
from gateway.admin.commands import COMMANDS, Command, understand
from gateway.admin.errors import CommandSyntax, ReloadFailed
from gateway.admin.order import Conversation, Order
from gateway.admin.view import Row
from gateway.admin.views import Views
from gateway.admin.words import statements
from gateway.errors import ConfigError
from tests.unit.admin.samples import make_views


def conversation() -> Conversation:
    return Conversation("op", "gateway", 7, {"server_version": "14.0 (gateway 9)"})


def order(text: str, views: Views | None = None, talk: Conversation | None = None) -> Order:
    (statement,) = statements(text)
    return understand(statement, views or make_views(), talk or conversation())


async def rows(
    text: str, views: Views | None = None, talk: Conversation | None = None
) -> list[Row]:
    return list(await order(text, views, talk).run())


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.words)
async def test_every_command_gives_rows_that_fit_its_columns(command: Command) -> None:
    understood = order(command.words)
    assert understood.columns == command.columns
    assert understood.tag == command.words.split()[0]
    for row in await understood.run():
        assert len(row) == len(command.columns)


async def test_help_lists_every_command_once() -> None:
    listed = [row[0] for row in await rows("SHOW HELP")]
    actions = [f"{one.word} {one.usage}" for one in ACTIONS]
    assert listed == [*(command.words for command in COMMANDS), *actions]


@pytest.mark.parametrize("text", ["show routes", "Show\n ROUTES", "SHOW /* all */ ROUTES -- now"])
async def test_case_space_and_comments_do_not_matter(text: str) -> None:
    assert await rows(text) == await rows("SHOW ROUTES")


async def test_limit_ends_the_rows() -> None:
    everything = await rows("SHOW ROUTES")
    assert await rows("show routes limit 2") == everything[:2]
    assert await rows("show routes limit 0") == []
    assert await rows("show routes limit 1000") == everything


@pytest.mark.parametrize(
    "text", ["show routes limit x", "show routes limit ²", "show routes limit -1"]
)
def test_a_limit_that_is_no_number_is_refused(text: str) -> None:
    with pytest.raises(CommandSyntax):
        order(text)


@pytest.mark.parametrize(
    ("text", "near"),
    [
        ("SHOW POLS", "SHOW POOLS"),
        ("show client", "SHOW CLIENTS"),
        ("relod", "RELOAD"),
        ("SHOW POOLS now", "SHOW POOLS"),
        ("'SHOW' POOLS", "SHOW POOLS"),
    ],
)
def test_what_is_nearly_a_command_gets_a_hint(text: str, near: str) -> None:
    with pytest.raises(CommandSyntax) as caught:
        order(text)
    assert caught.value.hint == f"Did you mean {near}? SHOW HELP lists the commands."


@pytest.mark.parametrize(
    "text", ["DROP TABLE x", "SHOW nothing_like_it", "SHOW nope", "= 1", "LIMIT 5"]
)
def test_what_is_no_command_is_refused_with_a_way_on(text: str) -> None:
    with pytest.raises(CommandSyntax) as caught:
        order(text)
    assert caught.value.hint == "SHOW HELP lists the commands."
    assert caught.value.sqlstate == "42601"


# --- RELOAD ---


async def test_reload_says_what_changed() -> None:
    assert await rows("reload", make_views(reload=lambda: ["pool changed", "log changed"])) == [
        ("pool changed",),
        ("log changed",),
    ]
    assert await rows("RELOAD", make_views(reload=list)) == [("nothing changed",)]


async def test_reload_of_a_bad_file_shows_every_problem() -> None:
    def fail() -> list[str]:
        raise ConfigError(["f:1:1: a: wrong", "f:2:2: b: wrong"])

    with pytest.raises(ReloadFailed) as caught:
        await rows("RELOAD", make_views(reload=fail))
    assert caught.value.sqlstate == "F0000"
    assert caught.value.detail == "f:1:1: a: wrong\nf:2:2: b: wrong"


# --- habits ---


@pytest.mark.parametrize(
    ("text", "column", "value"),
    [
        ("SELECT 1", "?column?", "1"),
        ("select 2.5 as half", "half", "2.5"),
        ("SELECT 'it''s' \"Alias\"", "Alias", "it's"),
        ("select pg_catalog.version()", "version", "PostgreSQL 14.0 (gateway 9)"),
        ("SELECT current_user", "current_user", "op"),
        ("select current_database() as db", "db", "gateway"),
        ("SELECT current_schema()", "current_schema", None),
        ("SELECT pg_backend_pid()", "pg_backend_pid", "7"),
        ("SHOW server_version", "server_version", "14.0 (gateway 9)"),
        ("show transaction_read_only", "transaction_read_only", "off"),
        ("SHOW TRANSACTION ISOLATION LEVEL", "transaction_isolation", "read committed"),
    ],
)
async def test_small_questions_of_drivers_are_answered(
    text: str, column: str, value: str | None
) -> None:
    assert order(text).columns == (column,)
    assert await rows(text) == [(value,)]


@pytest.mark.parametrize(
    "text", ["SELECT", "SELECT now()", "SELECT 1, 2", "SELECT * FROM x", "SELECT 1 1", "DEALLOCATE"]
)
def test_other_questions_are_not(text: str) -> None:
    with pytest.raises(CommandSyntax):
        order(text)


@pytest.mark.parametrize(
    ("text", "tag"),
    [
        ("SET search_path = 'a'", "SET"),
        ("BEGIN", "BEGIN"),
        ("START TRANSACTION READ ONLY", "START TRANSACTION"),
        ("COMMIT", "COMMIT"),
        ("END", "COMMIT"),
        ("ROLLBACK", "ROLLBACK"),
        ("RESET ALL", "RESET"),
        ("UNLISTEN *", "UNLISTEN"),
        ("CLOSE ALL", "CLOSE CURSOR ALL"),
        ("DISCARD ALL", "DISCARD ALL"),
    ],
)
async def test_what_drivers_say_around_commands_is_accepted(text: str, tag: str) -> None:
    understood = order(text)
    assert (understood.tag, understood.columns) == (tag, None)
    assert list(await understood.run()) == []


async def test_the_transaction_status_follows() -> None:
    talk = conversation()
    for text, status in [
        ("BEGIN", b"T"),
        ("SAVEPOINT a", b"T"),
        ("ROLLBACK TO SAVEPOINT a", b"T"),
        ("COMMIT", b"I"),
        ("START TRANSACTION", b"T"),
        ("ROLLBACK", b"I"),
    ]:
        await rows(text, talk=talk)
        assert talk.status == status, text


async def test_a_driver_can_drop_its_prepared_statements() -> None:
    talk = conversation()
    talk.statements = {"_pg3_0": None, "Up": None, "b": None, "c": None}
    await rows("DEALLOCATE _PG3_0", talk=talk)
    await rows('DEALLOCATE PREPARE "Up"', talk=talk)
    assert set(talk.statements) == {"b", "c"}
    await rows("DEALLOCATE ALL", talk=talk)
    assert talk.statements == {}


# --- the page ---


def test_the_page_shows_every_command_with_the_columns_it_has_now() -> None:
    page = (Path(__file__).parents[3] / "docs" / "console.md").read_text()
    for command in COMMANDS:
        _, heading, part = page.partition(f"### {command.words}\n")
        assert heading, f"docs/console.md has no section on {command.words}"
        headers = [
            line for line in part.partition("\n### ")[0].splitlines() if _is_header(line, command)
        ]
        assert headers, f"docs/console.md shows other columns of {command.words}"


def _is_header(line: str, command: Command) -> bool:
    return tuple(cell.strip() for cell in line.split("|")) == command.columns
