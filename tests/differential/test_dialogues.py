"""Dialogues that once differed, or that chance seldom makes: each by name."""

from __future__ import annotations

import pytest

from tests.differential.script import (
    SYNC,
    Script,
    Step,
    bind,
    close,
    describe,
    execute,
    parse,
    query,
    say,
)
from tests.differential.talk import Part
from tests.differential.twins import Twins

A, B = 0, 1


def _use(name: str) -> tuple[Part, ...]:
    return (bind("", name), execute(""), SYNC)


def _unnamed_after(
    *refused: Part, of: int, then: tuple[Part, ...] = ()
) -> tuple[tuple[int, Step], ...]:
    """Somebody's unnamed statement, a pipeline of A that fails, and A uses the unnamed one."""
    return (
        (of, say(parse("", "SELECT 'before'"), SYNC)),
        (A, say(*refused, SYNC, *then)),
        (A, say(*_use(""))),
    )


_NOTHING = bind("", "no such statement")
_SKIPPED: dict[str, tuple[Part, ...]] = {
    "Query": (query("SELECT 1"),),
    "Close": (close("S", ""),),
    "Parse": (parse("", "SELECT 2"),),
    "Query and Parse": (query("SELECT 1"), parse("", "SELECT 2")),
    "many of both": (query("SELECT 1"), parse("", "SELECT 2")) * 30,
}

DIALOGUES: dict[str, tuple[tuple[int, Step], ...]] = {
    **{
        f"skipped {what}, unnamed of {whose}": _unnamed_after(_NOTHING, *parts, of=client)
        for what, parts in _SKIPPED.items()
        for whose, client in (("its own", A), ("another", B))
    },
    "refused Parse drops the unnamed": _unnamed_after(parse("", "SELECT nonsense"), of=A),
    "refused Parse, then skipped Query": _unnamed_after(
        parse("", "SELECT nonsense"), query("SELECT 1"), of=A
    ),
    "skipped Query, then one that runs": _unnamed_after(
        _NOTHING, query("SELECT 1"), of=A, then=(query("SELECT 2"),)
    ),
    "refused Query": (
        (A, say(parse("", "SELECT 'own'"), SYNC)),
        (A, say("SELEC")),
        (A, say(*_use(""))),
    ),
    "described unnamed is never another's": (
        (B, say(parse("", "SELECT 'of B'"), SYNC)),
        (A, say(*_use(""))),
        (A, say(describe("S", ""), SYNC)),
    ),
    "unnamed kept in a failed transaction": (
        (A, say("BEGIN")),
        (A, say(parse("", "SELECT 'own'"), SYNC)),
        (A, say(execute("none"), query("SELECT 1"), SYNC)),
        (A, say(*_use(""))),
    ),
    "own values of a sequence after another client has drawn": (
        (A, say("SELECT currval('seq')")),
        (A, say("SELECT nextval('seq')")),
        (B, say("SELECT nextval('seq')")),
        (A, say("SELECT currval('seq'), lastval()")),
        (B, say("SELECT currval('seq'), lastval()")),
    ),
    "sequences forgotten and drawn from in one text": (
        (A, say("DISCARD SEQUENCES; SELECT nextval('seq')")),
        (B, say("SELECT currval('seq')")),
        (B, say("SELECT lastval()")),
    ),
}


@pytest.mark.parametrize("name", DIALOGUES)
async def test_a_dialogue_is_as_with_the_server(twins: Twins, name: str) -> None:
    await twins.play(Script(DIALOGUES[name]))
