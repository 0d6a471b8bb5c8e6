"""Commands that do something to the gateway's work: PAUSE, DRAIN, KILL and the like.

One table says what each is called, what may follow it, and what it does: in every worker of every
gateway on the same meta database.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from gateway.admin import operations
from gateway.admin.errors import CommandSyntax, NothingLikeIt, StillRunning
from gateway.admin.order import Order
from gateway.admin.view import Row
from gateway.admin.views import Views
from gateway.admin.words import Kind as Token
from gateway.admin.words import Statement
from gateway.clock import monotonic
from gateway.directory.board import Seen
from gateway.errors import DirectoryUnavailable
from gateway.router.topology import Snapshot
from gateway.session.standing import Deed, Instruction, Kind, Scope, endpoints

_POLL_S = 0.05
_FOLLOW_S = 3.0
"""Longest wait for other gateways to follow what they need not finish."""
_LISTED_MAX = 20
_TIME = re.compile(r"(\d+(?:\.\d+)?)(MS|S|MIN|H)?")
_UNITS_S = {"MS": 0.001, "S": 1.0, None: 1.0, "MIN": 60.0, "H": 3600.0}


@dataclass(frozen=True, slots=True)
class Asked:
    """What a command was told: for what, and its times in seconds."""

    scope: Scope
    for_s: float | None = None
    timeout_s: float | None = None


@dataclass(frozen=True, slots=True)
class Action:
    """One command: what may follow its word, what it is for, and what it does."""

    word: str
    usage: str
    help: str
    kinds: tuple[Kind, ...]
    """What it can be about; ALL where it needs no name."""
    run: Callable[[Views, Asked, list[str]], Awaitable[None]]
    timed: bool = False
    """Whether FOR and TIMEOUT may follow."""


def action(statement: Statement, all_views: Views) -> Order | None:
    """The order for a statement that begins with an action's word, else None.

    Raises CommandSyntax; what it names is looked for when it is run.
    """
    found = _BY_WORD.get(statement[0].text) if statement[0].kind is Token.WORD else None
    if found is None:
        return None
    words, for_s, timeout_s = statement[1:], None, None
    if found.timed:
        words, timeout_s = _time_behind(words, "TIMEOUT")
        words, for_s = _time_behind(words, "FOR")
    kind, name = _named(found, words)
    notices: list[str] = []

    async def run() -> Iterable[Row]:
        scope = _scope(found, kind, name, all_views.context.snapshot)
        await found.run(all_views, Asked(scope, for_s, timeout_s), notices)
        return ()

    return Order(found.word, run, None, notices)


# --- reading a command ---


def _time_behind(words: Statement, word: str) -> tuple[Statement, float | None]:
    """The words without ``word`` and a time at their end, and the time in seconds."""
    if len(words) < 2 or words[-2].text != word or words[-2].kind is not Token.WORD:
        return words, None
    match = _TIME.fullmatch(words[-1].text.upper())
    if match is None or not float(match[1]):
        raise CommandSyntax(
            f"{word} needs a time, not {words[-1].raw}", hint="Such as 30s, 500ms, 5min or 1h."
        )
    return words[:-2], float(match[1]) * _UNITS_S[match[2]]


def _named(found: Action, words: Statement) -> tuple[Kind | None, str]:
    """Of which kind, if that is said, and the name; quoted or not, hyphens and all."""
    kind = None
    if len(words) > 1 and words[0].kind is Token.WORD:
        kind = _KINDS.get(words[0].text)
    rest = words if kind is None else words[1:]
    plain = all(token.kind is Token.WORD or token.raw == "-" for token in rest)
    name = "".join(token.raw for token in rest) if plain else rest[0].text
    if (not plain and len(rest) > 1) or (kind is not None and kind not in found.kinds):
        raise _misused(found)
    if not name and Kind.ALL not in found.kinds:
        raise _misused(found)
    return (Kind.ALL, "") if not name else (kind, name)


def _misused(found: Action) -> CommandSyntax:
    return CommandSyntax(f"{found.word} is followed by: {found.usage or 'nothing'}")


_KINDS = {
    "CLIENT": Kind.CLIENT,
    "DATABASE": Kind.SHARD,
    "ENDPOINT": Kind.ENDPOINT,
    "GATEWAY": Kind.GATEWAY,
    "INDUSTRY": Kind.INDUSTRY,
    "OWNER": Kind.OWNER,
    "SHARD": Kind.SHARD,
}


def _scope(found: Action, kind: Kind | None, name: str, snapshot: Snapshot) -> Scope:
    """What is meant. Raises NothingLikeIt."""
    if kind is None:
        kinds = tuple(one for one in found.kinds if one not in _MUST_BE_SAID)
    else:  # clients know an industry by the name of a database, too
        kinds = (kind, Kind.INDUSTRY) if kind is Kind.SHARD else (kind,)
    for one in kinds:
        known = _known(one, name, snapshot)
        if known is not None:
            return Scope(one, known)
    what = f"no {kind.value}" if kind is not None else "nothing"
    raise NothingLikeIt(
        f'there is {what} named "{name}"', hint="SHOW ROUTES lists industries and databases."
    )


_MUST_BE_SAID = (Kind.ALL, Kind.OWNER, Kind.CLIENT, Kind.GATEWAY)
"""A name without a kind is none of these: any could be."""


def _known(kind: Kind, name: str, snapshot: Snapshot) -> str | None:
    """The name as the topology spells it; None when it has no such thing."""
    if kind is Kind.SHARD:
        return name if name in snapshot.shards else None
    if kind is Kind.INDUSTRY:
        same = (one for one in snapshot.industries if one.lower() == name.lower())
        return next(same, None)
    if kind is Kind.ENDPOINT:
        return next((one.name for one in endpoints(snapshot) if one.name == name), None)
    return name


# --- in every worker of every gateway ---


async def _order(
    all_views: Views, deed: Deed, scope: Scope, notices: list[str], limit_s: float = 0.0
) -> tuple[Instruction, list[Row]]:
    """Have all gateways carry it out: what was ordered, and what our workers have to tell."""
    ends_at = monotonic() + limit_s if limit_s else 0.0
    instruction = Instruction(deed, scope, ends_at)
    if all_views.gateways is not None:
        instruction = replace(instruction, gateway=all_views.gateways.name)
        try:
            instruction = await all_views.gateways.give(instruction)
        except DirectoryUnavailable as error:
            notices.append(f"other gateways were not told: {error}")
    return instruction, await _everywhere(all_views, instruction, notices)


async def _everywhere(all_views: Views, instruction: Instruction, notices: list[str]) -> list[Row]:
    """Have all our workers carry an instruction out; what they have to tell."""
    rows = operations.carry_out(all_views.context, instruction)
    if all_views.fleet is None:
        return rows
    for number, others in (await all_views.fleet.carry_out(instruction)).items():
        if others is None:
            notices.append(f"no answer from worker {number}: it may not have followed")
        else:
            rows += others
    return rows


async def _of_others(all_views: Views, instruction: Instruction) -> list[Seen]:
    """How far the other workers are, our gateway's too. Raises DirectoryUnavailable."""
    if all_views.gateways is None or not instruction.number:
        return []
    return await all_views.gateways.others()


async def _followed(
    all_views: Views, instruction: Instruction, notices: list[str]
) -> list[tuple[Seen, Sequence[str]]]:
    """What others have to tell that have followed; who has not in time is named."""
    gives_up_at = monotonic() + _FOLLOW_S
    try:
        while True:
            others = await _of_others(all_views, instruction)
            missing = [one for one in others if one.heard < instruction.number]
            if all(one.silent for one in missing) or monotonic() >= gives_up_at:
                break
            await asyncio.sleep(_POLL_S)
    except DirectoryUnavailable as error:
        notices.append(f"it can't be seen whether other gateways have followed: {error}")
        return []
    notices += [f"{one} has not answered for {one.silent_s:.0f} s" for one in missing]
    return [(one, one.told.get(instruction.number, ())) for one in others]


@dataclass(frozen=True, slots=True)
class _Unsettled:
    """What keeps a pause from being complete, a line each; ``silent`` who is waited for in vain."""

    lines: list[str]
    silent: list[Seen]


async def _unsettled(all_views: Views, scope: Scope) -> _Unsettled:
    """What runs still in any gateway, and who has not said. Raises StillRunning."""
    pause = all_views.context.pauses.standing.order(Deed.PAUSE, scope)
    if pause is None:  # another operator's PAUSE may have taken its place, and serves as well
        raise StillRunning(
            f"{scope} is not paused any more, and something ran there until then",
            hint="Somebody has resumed it, or its time is up: PAUSE ... FOR gives it more.",
        )
    running = Instruction(Deed.RUNNING, pause.scope)
    lines = [row[0] or "" for row in await _everywhere(all_views, running, [])]
    try:
        others = await _of_others(all_views, pause)
    except DirectoryUnavailable as error:
        return _Unsettled([*lines, f"what runs in other gateways can't be known: {error}"], [])
    missing = [one for one in others if one.heard < pause.number]
    for one in others:
        lines += [f"{one}: {line}" for line in one.told.get(pause.number, ())]
    lines += [f"{one} has not answered for {one.silent_s:.1f} s" for one in missing]
    return _Unsettled(lines, [one for one in missing if one.silent])


async def _pause(all_views: Views, asked: Asked, notices: list[str]) -> None:
    """Park new work, and wait until what runs has ended. Raises StillRunning."""
    limit_s = asked.for_s or all_views.context.pauses.settings.limit_s
    gives_up_at = monotonic() + (asked.timeout_s or limit_s)
    pause, _ = await _order(all_views, Deed.PAUSE, asked.scope, notices, limit_s)
    try:
        while (found := await _unsettled(all_views, asked.scope)).lines:
            if found.silent or monotonic() >= gives_up_at:
                raise _still(asked.scope, found)
            await asyncio.sleep(_POLL_S)
    except BaseException:
        await asyncio.shield(_give_up(all_views, pause))
        raise
    notices.append(f"paused for {limit_s:g} s at most: RESUME ends it")


async def _give_up(all_views: Views, pause: Instruction) -> None:
    """End a pause, unless another one has taken its place."""
    if all_views.context.pauses.standing.order(Deed.PAUSE, pause.scope) == pause:
        await _order(all_views, Deed.GIVE_UP, pause.scope, [])


def _still(scope: Scope, found: _Unsettled) -> StillRunning:
    more = len(found.lines) - _LISTED_MAX
    detail = "\n".join([*found.lines[:_LISTED_MAX], *([f"and {more} more"] if more > 0 else [])])
    if not found.silent:
        return StillRunning(
            f"{scope} is not paused: something runs there still",
            detail=detail,
            hint="KILL CLIENT ends one of them; PAUSE waits for longer with another TIMEOUT.",
        )
    name = found.silent[0].who.gateway
    return StillRunning(
        f"{scope} is not paused: gateway {name} may serve on, and does not answer",
        detail=detail,
        hint="It has gone, or can't reach the meta database. Stop or mend it;"
        f" once it serves nobody, FORGET GATEWAY '{name}' and repeat this.",
    )


async def _resume(all_views: Views, asked: Asked, notices: list[str]) -> None:
    pauses = all_views.context.pauses.standing.pauses
    if asked.scope not in pauses and not (asked.scope.kind is Kind.ALL and pauses):
        raise NothingLikeIt(f"{asked.scope} is not paused", hint="SHOW PAUSES lists what is.")
    await _just(Deed.RESUME)(all_views, asked, notices)


async def _drain(all_views: Views, asked: Asked, notices: list[str]) -> None:
    """Raises NothingLikeIt for a primary, whose work has nowhere else to go."""
    context = all_views.context
    for shard in context.snapshot.shards.values():
        primary = context.health.primary_of(shard)
        if primary.name == asked.scope.name:
            raise NothingLikeIt(
                f"{primary.name} is a primary: its work can't go elsewhere",
                hint=f"PAUSE DATABASE {shard.name} makes it wait.",
            )
    await _just(Deed.DRAIN)(all_views, asked, notices)


def _just(deed: Deed) -> Callable[[Views, Asked, list[str]], Awaitable[None]]:
    """An action that is one instruction."""

    async def run(all_views: Views, asked: Asked, notices: list[str]) -> None:
        instruction, _ = await _order(all_views, deed, asked.scope, notices)
        await _followed(all_views, instruction, notices)

    return run


async def _kill(all_views: Views, asked: Asked, notices: list[str]) -> None:
    """End clients; a database is paused as well, as PgBouncer does it."""
    if asked.scope.kind is Kind.CLIENT:
        await _kill_client(all_views, asked.scope, notices)
        return
    limit_s = all_views.context.pauses.settings.limit_s
    await _order(all_views, Deed.PAUSE, asked.scope, notices, limit_s)
    kill, ended = await _order(all_views, Deed.KILL, asked.scope, [])
    clients = len(ended)
    for _, told in await _followed(all_views, kill, notices):
        clients += len(told)
    notices.append(f"{clients} clients ended; paused until RESUME, {limit_s:g} s at most")


async def _kill_client(all_views: Views, scope: Scope, notices: list[str]) -> None:
    """One of our own: another gateway's clients have numbers of their own. Raises NothingLikeIt."""
    if not await _everywhere(all_views, Instruction(Deed.KILL, scope), notices):
        raise NothingLikeIt(f"there is no client {scope.name}", hint="SHOW CLIENTS lists them.")


async def _forget(all_views: Views, asked: Asked, notices: list[str]) -> None:
    """Wait no more for a gateway that has gone. Raises NothingLikeIt, DirectoryUnavailable."""
    name, gateways = asked.scope.name, all_views.gateways
    if gateways is None or not await gateways.forget(name):
        raise NothingLikeIt(
            f'there is no silent gateway named "{name}"', hint="SHOW GATEWAYS lists them."
        )


_PLACES = (Kind.SHARD, Kind.INDUSTRY)

ACTIONS = (
    Action(
        "PAUSE",
        "[DATABASE x | INDUSTRY y | OWNER z] [FOR 30s] [TIMEOUT 10s]",
        "let new work wait, and return when what runs has ended",
        (Kind.ALL, *_PLACES, Kind.OWNER),
        _pause,
        timed=True,
    ),
    Action(
        "RESUME",
        "[DATABASE x | INDUSTRY y | OWNER z]",
        "end a pause, or all of them: what waited goes on, in order",
        (Kind.ALL, *_PLACES, Kind.OWNER),
        _resume,
    ),
    Action(
        "DRAIN",
        "ENDPOINT x",
        "no new work to a replica; its connections close as they come free",
        (Kind.ENDPOINT,),
        _drain,
    ),
    Action("UNDRAIN", "ENDPOINT x", "end that", (Kind.ENDPOINT,), _just(Deed.UNDRAIN)),
    Action(
        "RECONNECT",
        "[DATABASE x | INDUSTRY y | ENDPOINT z]",
        "replace server connections by new ones as they come free",
        (Kind.ALL, *_PLACES, Kind.ENDPOINT),
        _just(Deed.RECONNECT),
    ),
    Action(
        "KILL",
        "CLIENT n | DATABASE x | INDUSTRY y",
        "end a client; or pause a database and end all clients of it at once",
        (*_PLACES, Kind.CLIENT),
        _kill,
    ),
    Action(
        "DISABLE",
        "DATABASE x | INDUSTRY y",
        "turn new clients away, but for operators; those connected go on",
        _PLACES,
        _just(Deed.DISABLE),
    ),
    Action("ENABLE", "DATABASE x | INDUSTRY y", "end that", _PLACES, _just(Deed.ENABLE)),
    Action(
        "FORGET",
        "GATEWAY x",
        "wait no more for a gateway that has gone without a word",
        (Kind.GATEWAY,),
        _forget,
    ),
)
_BY_WORD = {one.word: one for one in ACTIONS}
