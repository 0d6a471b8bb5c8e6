"""Fragments about what a session keeps from message to message, and what takes it away.

Portals, cursors, settings under savepoints, LISTEN in transactions that roll back, statements
prepared by SQL; and Queries where extended messages have no Sync behind them.
"""

from __future__ import annotations

from hypothesis import strategies as st

from tests.differential.script import (
    FLUSH,
    SYNC,
    Say,
    Step,
    bind,
    close,
    describe,
    execute,
    parse,
    query,
    run,
    say,
    without_later_portals,
)
from tests.differential.talk import Part
from tests.differential.texts import (
    BEGINS,
    CHANGES,
    CURSORS,
    ENDS,
    ERRORS,
    LARGE_OBJECTS,
    LISTENS,
    LOCKS,
    PREPARED,
    READS,
    SETTINGS,
    SHAPES,
    SHOWS,
    SQL,
    TEMPORARY,
    WITHIN,
    WRITES,
    one,
)

Steps = st.SearchStrategy[tuple[Step, ...]]

PARAMETER_TEXTS = one(
    "SELECT length($1::text)",
    "SELECT $1::int + 1",
    "SELECT $1",
    "SELECT $1::text, current_schemas(false)",
    "INSERT INTO item VALUES ($1, 'bound') RETURNING *",
    "SELECT generate_series(1, $1)",
    "SELECT * FROM item WHERE id = $1",
    "UPDATE item SET v = $1 WHERE id = 3",
    "SELECT set_config('work_mem', $1, false)",
)

_ROWS = one(
    "SELECT n FROM generate_series(1, 5) AS n",
    "SELECT n, repeat('r', 2000) FROM generate_series(1, 40) AS n",
    "SELECT 10 / (n - 3) FROM generate_series(1, 5) AS n",
    "SELECT * FROM item ORDER BY id",
    "UPDATE item SET v = v || '?' RETURNING id",
    "COPY (SELECT n FROM generate_series(1, 3) AS n) TO STDOUT",
    "SELECT 1 WHERE false",
)


# --- portals ---------------------------------------------------------------------------------

_OF_A_PORTAL = st.one_of(
    st.builds(execute, one("p", "q", "cur"), st.sampled_from([0, 1, 2])),
    st.builds(execute, one("p", "q"), st.sampled_from([1, 2])),
    st.builds(describe, st.just("P"), one("p", "q", "cur")),
    st.builds(close, st.just("P"), one("p", "q", "cur")),
    st.just(SYNC),
    st.just(FLUSH),
)


@st.composite
def _portals(draw: st.DrawFn) -> tuple[Step, ...]:
    """Two portals of a transaction taken from by turns, with other statements in between."""
    begun = say(
        *(parse("", draw(_ROWS)), bind("p", "", binary=draw(st.booleans()))),
        *(parse("", draw(st.one_of(_ROWS, SQL))), bind("q", ""), SYNC),
    )
    turns: list[Step] = []
    for _ in range(draw(st.integers(2, 5))):
        some = draw(st.lists(_OF_A_PORTAL, min_size=1, max_size=3))
        turns.append(say(*without_later_portals(some), draw(st.sampled_from([SYNC, SYNC, FLUSH]))))
        if draw(st.booleans()):
            turns.append(say(draw(st.one_of(CURSORS, SQL))))
    return (say(draw(BEGINS)), begun, *turns, say(SYNC), say(draw(ENDS)))


# --- transactions ----------------------------------------------------------------------------

_KEPT = st.one_of(CHANGES, CHANGES, SHOWS, SETTINGS, LISTENS, LISTENS, CURSORS, PREPARED, LOCKS)
"""What a transaction's end may take back, or not."""


@st.composite
def _taken_back(draw: st.DrawFn) -> tuple[Step, ...]:
    """Session state changed under savepoints, some of which are rolled back, then looked at."""
    texts = [draw(BEGINS), draw(_KEPT), "SAVEPOINT a", draw(_KEPT)]
    texts += draw(st.lists(st.one_of(WITHIN, _KEPT, ERRORS), min_size=1, max_size=4))
    texts += [draw(one("ROLLBACK TO a", "RELEASE a", "ROLLBACK TO b")), draw(_KEPT), draw(ENDS)]
    texts += [draw(_KEPT), draw(SHOWS)]
    return tuple(draw(_ways(text)) for text in texts)


_ONES = st.one_of(BEGINS, ENDS, WITHIN, WRITES, ERRORS, CHANGES, SHOWS, READS)
_COMMANDS_IN_STRINGS: Steps = st.lists(_ONES, min_size=2, max_size=6).map(
    lambda texts: (say("; ".join(texts)),)
)
"""Transaction commands within strings, which are a transaction until one of those comes."""


def _ways(text: str) -> st.SearchStrategy[Say]:
    """One statement, by a Query or by the extended protocol."""
    by_name = say(parse("b", text), bind("", "b"), execute(""), close("S", "b"), SYNC)
    return st.sampled_from([say(text), say(text), say(*run(text), SYNC), by_name])


_LARGE: Steps = st.lists(LARGE_OBJECTS, min_size=2, max_size=5).map(
    lambda texts: tuple(map(say, ("BEGIN", *texts, "COMMIT")))
)


# --- statements by SQL ------------------------------------------------------------------------


def _by_sql(text: str, between: list[Say], use: Say, end: Say) -> tuple[Step, ...]:
    return (say(f"PREPARE sa AS {text}"), use, *between, use, end)


_USES = st.sampled_from(
    [
        say("EXECUTE sa"),
        say("BEGIN; EXECUTE sa; COMMIT"),
        say(describe("S", "sa"), SYNC),
        # Without a Describe: see the documented differences.
        say(parse("", "EXECUTE sa"), bind("", ""), execute(""), SYNC),
        say(bind("", "sa"), describe("P", ""), execute(""), SYNC),
        say("CREATE TABLE extra AS EXECUTE sa"),
    ]
)
_BY_SQL: Steps = st.builds(
    _by_sql,
    one(
        "SELECT * FROM item ORDER BY id",
        "SELECT * FROM place",
        "SELECT * FROM shape",
        "UPDATE item SET v = 'by sql'",
    ),
    st.lists(st.one_of(SQL, SETTINGS, TEMPORARY, SHAPES).map(say), min_size=1, max_size=3),
    _USES,
    st.sampled_from([say("DEALLOCATE sa"), say(*run("DEALLOCATE sa"), SYNC), say("EXECUTE sa")]),
)


# --- without a Sync --------------------------------------------------------------------------

_OPEN: st.SearchStrategy[tuple[Part, ...]] = st.one_of(
    st.sampled_from([(describe("P", ""),), (close("S", "a"),), (close("P", "p"),)]),
    st.builds(lambda text: (parse("a", text),), st.one_of(READS, SHAPES, SETTINGS)),
    st.builds(run, SQL),
    st.builds(run, WRITES),
    st.just((FLUSH,)),
)
"""Messages that no Sync follows."""


@st.composite
def _without_sync(draw: st.DrawFn) -> tuple[Step, ...]:
    """Queries behind such messages, within a transaction or not, failed or not."""
    steps = [say(draw(one("BEGIN", "BEGIN; SELECT 1 / 0", "SELECT 1", "SAVEPOINT a")))]
    for _ in range(draw(st.integers(1, 3))):
        parts = draw(_OPEN)
        if draw(st.booleans()):
            steps.append(say(*parts, FLUSH))
            parts = ()
        steps.append(say(*parts, query(draw(SQL))))
    return (*steps, say(SYNC), say(draw(ENDS)))


# --- big parameters ---------------------------------------------------------------------------


def _big(text: str, sizes: list[int], name: str, cuts: int) -> tuple[Step, ...]:
    uses = [part for size in sizes for part in (bind("", name, (b"7" * size,)), execute(""))]
    return (say(parse(name, text), *uses, SYNC, cuts=cuts),)


_BIG: Steps = st.builds(
    _big,
    PARAMETER_TEXTS,
    st.lists(st.sampled_from([1, 8000, 70_000, 300_000]), min_size=1, max_size=3),
    one("", "a"),
    st.sampled_from([0, 1, 3]),
)

STATES: Steps = st.one_of(
    _portals(),
    _portals(),
    _taken_back(),
    _taken_back(),
    _COMMANDS_IN_STRINGS,
    _COMMANDS_IN_STRINGS,
    _BY_SQL,
    _without_sync(),
    _without_sync(),
    _LARGE,
    _BIG,
)
"""All of these."""
