"""PAUSE, DRAIN, KILL and their like: how they are read, and what they ask of every worker."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.admin.actions import action
from gateway.admin.errors import CommandSyntax, NothingLikeIt
from gateway.admin.view import Row
from gateway.admin.views import Views
from gateway.admin.words import statements
from gateway.clock import monotonic
from gateway.session.standing import Deed, Instruction, Kind, Scope
from tests.unit.admin.samples import make_views


class Others:
    """Workers besides this one: they write down what they are asked for."""

    def __init__(self) -> None:
        self.heard: list[Instruction] = []
        self.silent = False

    async def carry_out(self, instruction: Instruction) -> dict[int, list[Row] | None]:
        self.heard.append(instruction)
        ended: list[Row] = [("9",)] if instruction.deed is Deed.KILL else []
        return {2: None if self.silent else ended}


async def run(text: str, all_views: Views | None = None) -> list[str]:
    """Carry a command out; what it had to say."""
    (statement,) = statements(text)
    order = action(statement, all_views or make_views())
    assert order is not None
    assert list(await order.run()) == []
    return order.notices


@pytest.mark.parametrize(
    ("text", "scope"),
    [
        ("PAUSE", Scope(Kind.ALL)),
        ("pause law", Scope(Kind.SHARD, "law")),
        ("PAUSE DATABASE medical_1", Scope(Kind.SHARD, "medical_1")),
        ("PAUSE SHARD 'medical_2'", Scope(Kind.SHARD, "medical_2")),
        ("PAUSE medical", Scope(Kind.INDUSTRY, "MEDICAL")),
        ("PAUSE DATABASE MEDICAL", Scope(Kind.INDUSTRY, "MEDICAL")),
        ('PAUSE INDUSTRY "Law"', Scope(Kind.INDUSTRY, "LAW")),
        ("PAUSE OWNER 7", Scope(Kind.OWNER, "7")),
        ("PAUSE OWNER 8d1f-77a0-4c", Scope(Kind.OWNER, "8d1f-77a0-4c")),
        ("PAUSE OWNER 'O''Neil & Sons' FOR 30s TIMEOUT 5", Scope(Kind.OWNER, "O'Neil & Sons")),
    ],
)
async def test_what_is_paused(text: str, scope: Scope) -> None:
    all_views = make_views()
    await run(text, all_views)
    assert list(all_views.context.pauses.standing.pauses) == [scope]


@pytest.mark.parametrize(
    ("times", "seconds"),
    [("", 300), ("FOR 30s", 30), ("FOR 500ms", 0.5), ("FOR 2min", 120), ("FOR 1h TIMEOUT 1", 3600)],
)
async def test_for_how_long(times: str, seconds: float) -> None:
    all_views = make_views()
    before = monotonic()
    (notice,) = await run(f"PAUSE law {times}", all_views)
    (ends_at,) = all_views.context.pauses.standing.pauses.values()
    assert before + seconds <= ends_at <= monotonic() + seconds
    assert f"{seconds:g} s" in notice


@pytest.mark.parametrize(
    "text",
    [
        "PAUSE law FOR soon",
        "PAUSE law FOR 0s",
        "PAUSE ENDPOINT law-replica-1",
        "PAUSE CLIENT 7",
        "PAUSE 'law' 'dentist'",
        "DRAIN",
        "DRAIN DATABASE law",
        "KILL",
        "RESUME law FOR 3s here = there",
        "DISABLE OWNER 7",
    ],
)
async def test_what_can_not_be_read(text: str) -> None:
    with pytest.raises(CommandSyntax):
        await run(text)


@pytest.mark.parametrize(
    "text",
    [
        "PAUSE nowhere",
        "PAUSE INDUSTRY medical_1",
        "RESUME",
        "RESUME law",
        "DRAIN ENDPOINT law",
        "DRAIN law-replica-9",
        "KILL CLIENT 77",
        "ENABLE DATABASE nowhere",
    ],
)
async def test_what_is_not_there(text: str) -> None:
    with pytest.raises(NothingLikeIt):
        await run(text)


async def test_an_endpoint_is_named_without_quotes() -> None:
    all_views = make_views()
    await run("DRAIN ENDPOINT law-replica-1", all_views)
    await run("RECONNECT law-replica-1", all_views)
    assert all_views.context.pauses.standing.drained == {"law-replica-1"}
    assert all_views.context.pools.suspended == {("standby", 5433, "law")}
    await run("UNDRAIN law-replica-1", all_views)
    assert not all_views.context.pools.suspended


async def test_every_worker_is_asked_and_who_is_silent_is_named() -> None:
    others = Others()
    all_views = replace(make_views(), fleet=others)  # type: ignore[arg-type]
    await run("PAUSE law", all_views)
    assert [one.deed for one in others.heard] == [Deed.PAUSE, Deed.RUNNING]
    await run("KILL CLIENT 9", all_views)
    others.silent = True
    assert await run("RESUME law", all_views) == [
        "no answer from worker 2: it may not have followed"
    ]
    assert others.heard[-1].deed is Deed.RESUME
