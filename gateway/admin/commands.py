"""The console's commands: one table, which help, hints and the console itself read."""

from __future__ import annotations

import asyncio
import difflib
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

from gateway.admin import views
from gateway.admin.actions import ACTIONS, action
from gateway.admin.errors import CommandSyntax, ReloadFailed
from gateway.admin.explaining import USAGE, understood
from gateway.admin.fleet import Fleet
from gateway.admin.habits import habit
from gateway.admin.merge import Merge, added, concatenated, first, highest, of_the_leader
from gateway.admin.order import Conversation, Order
from gateway.admin.view import Row, View
from gateway.admin.views import Views
from gateway.admin.words import Kind, Statement
from gateway.errors import ConfigError
from gateway.router.explain import Step

_ROWS_PER_TURN = 100


@dataclass(frozen=True, slots=True)
class Command:
    """One command: its words, what it is for, its columns, and what it does.

    ``merge`` makes one table of all workers'; None where one worker can speak for the gateway.
    """

    words: str
    help: str
    columns: tuple[str, ...]
    run: Callable[[Views], Awaitable[Iterable[Row]]]
    merge: Merge | None = None
    run_for: Callable[[Views, Statement], Awaitable[Iterable[Row]]] | None = None
    """What it does with the tokens behind its words, if it takes any."""

    @property
    def tag(self) -> str:
        return self.words.partition(" ")[0]


def understand(statement: Statement, all_views: Views, talk: Conversation) -> Order:
    """What a statement asks for. Raises CommandSyntax with a hint when nothing is known of it."""
    statement, limit = _without_limit(statement)
    words = " ".join(token.text for token in statement if token.kind is Kind.WORD)
    command = _BY_WORDS.get(words) if len(words.split()) == len(statement) else None
    if command is not None:
        return _order(command, all_views, limit)
    command = _BY_WORDS.get(" ".join(token.text for token in statement[:2]))
    if command is not None and command.run_for is not None:
        return _order_for(command, command.run_for, statement[2:], all_views, limit)
    order = action(statement, all_views) or habit(statement, talk)
    if order is None:
        raise _unknown(statement)
    return order


def _order(command: Command, all_views: Views, limit: int | None) -> Order:
    notices: list[str] = []

    async def run() -> Iterable[Row]:
        rows = await command.run(all_views)
        if command.merge is not None and all_views.fleet is not None:
            own = await _taken(rows)
            tables = [own, *await _elsewhere(all_views.fleet, command.words, notices)]
            rows = command.merge(command.columns, tables)
        return islice(rows, limit)

    return Order(command.tag, run, command.columns, notices)


def _order_for(
    command: Command,
    run_for: Callable[[Views, Statement], Awaitable[Iterable[Row]]],
    rest: Statement,
    all_views: Views,
    limit: int | None,
) -> Order:
    """A command for what its last words say; one worker can speak for the gateway."""

    async def run() -> Iterable[Row]:
        return islice(await run_for(all_views, rest), limit)

    return Order(command.tag, run, command.columns)


async def _elsewhere(fleet: Fleet, words: str, notices: list[str]) -> list[list[Row]]:
    """The other workers' tables; who has none to give is named in ``notices``."""
    answers = await fleet.rows(words)
    silent = [f"worker {number}" for number, rows in answers.items() if rows is None]
    if silent:
        notices.append(f"no answer from {', '.join(silent)}: not counted here")
    return [rows for rows in answers.values() if rows is not None]


async def _taken(rows: Iterable[Row]) -> list[Row]:
    """All rows, with turns for the traffic in between."""
    iterator, taken = iter(rows), list[Row]()
    while part := list(islice(iterator, _ROWS_PER_TURN)):
        taken += part
        await asyncio.sleep(0)
    return taken


async def own_rows(words: str, all_views: Views) -> list[Row]:
    """This worker's part of a command's table. Raises KeyError for an unknown one."""
    return await _taken(await _BY_WORDS[words].run(all_views))


def _without_limit(statement: Statement) -> tuple[Statement, int | None]:
    """The statement without a ``LIMIT n`` at its end, and n."""
    if len(statement) < 3 or statement[-2].text != "LIMIT" or statement[-2].kind is not Kind.WORD:
        return statement, None
    number = statement[-1].text
    if not (number.isascii() and number.isdigit()):
        raise CommandSyntax(f"LIMIT needs a number, not {statement[-1].raw}")
    return statement[:-2], int(number)


def _unknown(statement: Statement) -> CommandSyntax:
    written = " ".join(token.raw for token in statement)
    known = [*_BY_WORDS, *(one.word for one in ACTIONS)]
    near = difflib.get_close_matches(written.upper(), known, n=1, cutoff=0.8)
    advice = f"Did you mean {near[0]}? " if near else ""
    return CommandSyntax(
        f"unknown command: {written[:100]}", hint=f"{advice}SHOW HELP lists the commands."
    )


# --- the commands ---


def _at_once(rows: Callable[[Views], Iterable[Row]]) -> Callable[[Views], Awaitable[Iterable[Row]]]:
    """A command that has nothing to wait for."""

    async def run(all_views: Views) -> Iterable[Row]:
        return rows(all_views)

    return run


async def _usage(all_views: Views) -> Iterable[Row]:
    return [("usage", USAGE)]


async def _route(all_views: Views, rest: Statement) -> Iterable[Row]:
    return await all_views.route(understood(rest))


async def _reload(all_views: Views) -> Iterable[Row]:
    try:
        changes = await all_views.reload()
    except ConfigError as error:
        raise ReloadFailed(
            "the settings can't be used; nothing has changed", detail="\n".join(error.problems)
        ) from None
    return [(change,) for change in changes or ["nothing changed"]]


def _help(all_views: Views) -> Iterator[Row]:
    told = [(command.words, command.help) for command in COMMANDS]
    return _HELP.rows([*told, *((f"{one.word} {one.usage}", one.help) for one in ACTIONS)], 0.0)


_HELP: View[tuple[str, str]] = View(
    command=lambda one, now: one[0], purpose=lambda one, now: one[1]
)

COMMANDS = (
    Command(
        "SHOW POOLS",
        "what each pool of server connections is doing now",
        views.POOLS.columns,
        _at_once(Views.pools),
        added(
            ("pool", "database", "role", "mode", "retiring"),
            max=highest,
            longest_wait_ms=highest,
            last_error=first,
        ),
    ),
    Command(
        "SHOW STATS",
        "what each pool has done since it was made",
        views.STATS.columns,
        _at_once(Views.stats),
        added(("pool",)),
    ),
    Command(
        "SHOW TOTALS",
        "what the gateway has done since its start",
        views.TOTALS.columns,
        _at_once(Views.totals),
        added(("name",)),
    ),
    Command(
        "SHOW CLIENTS",
        "every client, those longest connected first",
        views.CLIENT_COLUMNS,
        _at_once(Views.clients),
        concatenated,
    ),
    Command(
        "SHOW SERVERS",
        "every server connection",
        views.SERVER_COLUMNS,
        _at_once(Views.servers),
        concatenated,
    ),
    Command(
        "SHOW OWNERS",
        "the owners that clients are connected for",
        views.OWNERS.columns,
        Views.owners,
        added(("owner",), endpoint=first),
    ),
    Command(
        "SHOW PINS",
        "why clients keep their server between transactions",
        views.PINS.columns,
        _at_once(Views.pins),
        added(("reason",), leader="oldest_s", oldest_s=highest, statement=of_the_leader),
    ),
    Command(
        "SHOW ROUTES",
        "every database by industry and shard, with its hash slots",
        views.ROUTES.columns,
        _at_once(Views.routes),
    ),
    Command(
        "SHOW ROUTE",
        "FOR OWNER x LOGIN y STATEMENT 's': where that goes, and why; nothing is run",
        Step._fields,
        _usage,
        run_for=_route,
    ),
    Command(
        "SHOW HEALTH",
        "every database: who answers, its role, its lag",
        views.HEALTH.columns,
        _at_once(Views.health),
    ),
    Command(
        "SHOW PAUSES",
        "what operators have paused, drained or disabled, and who waits for it",
        views.PAUSES.columns,
        _at_once(Views.pauses),
        added(("what", "of", "name", "gateway", "reach"), ends_s=highest, longest_wait_ms=highest),
    ),
    Command(
        "SHOW GATEWAYS",
        "the gateways on the same meta database, a line for each worker",
        views.GATEWAYS.columns,
        Views.all_gateways,
    ),
    Command(
        "SHOW WORKERS",
        "the gateway's worker processes and what each has to do",
        views.WORKERS.columns,
        _at_once(Views.workers),
        concatenated,
    ),
    Command(
        "SHOW TWO_PHASE",
        "transactions over several databases that are prepared and not ended, oldest first",
        views.TWO_PHASE.columns,
        Views.two_phase,
    ),
    Command(
        "SHOW CONFIG",
        "every setting with its default; secrets are hidden",
        views.CONFIG.columns,
        _at_once(Views.config),
    ),
    Command(
        "SHOW VERSION",
        "which gateway this is, and its state",
        views.VERSION.columns,
        _at_once(Views.version),
    ),
    Command(
        "SHOW HELP",
        "this list; every SHOW takes LIMIT n at its end",
        _HELP.columns,
        _at_once(_help),
    ),
    Command(
        "RELOAD",
        "read the settings anew; with a mistake in them nothing changes",
        ("change",),
        _reload,
    ),
)
_BY_WORDS = {command.words: command for command in COMMANDS}
