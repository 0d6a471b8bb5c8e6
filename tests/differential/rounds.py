"""Random rounds of clients that stand in line for a server.

What one is told never depends on the others: each writes rows and tables of its own, and reads
those and tables that nobody writes. So their order is free, and every answer known.
"""

from __future__ import annotations

from functools import cache

from hypothesis import strategies as st

from tests.differential.round import GATES, Deed, Meeting, Round, Unit, What
from tests.differential.script import (
    FLUSH,
    SYNC,
    Say,
    bind,
    close,
    describe,
    execute,
    parse,
    query,
    run,
    say,
)
from tests.differential.talk import Part

CLIENTS = 8
ROUNDS_MAX = 8

_LIMIT = "SET statement_timeout = 1000"
_SLOW = (
    "SELECT count(*) FROM item a, item b, item c, item d, item e"
    " WHERE a.id + b.id + c.id + d.id + e.id > 5"
)
"""Longer than the limit."""

_SETTINGS = (
    "",
    "SET TimeZone = 'Asia/Tokyo'",
    "SET search_path = s1, public",
    "SET DateStyle = 'SQL, DMY'; SET extra_float_digits = 0",
)

_READS = (
    "SELECT 1 AS one, 'two' AS two, NULL, 1.5",
    "SELECT v FROM item WHERE id = {r}",
    "SELECT id, v FROM item WHERE id > {r} ORDER BY id LIMIT 5",
    "SELECT n, v FROM own WHERE client = {k} ORDER BY n",
    "SELECT count(*), max(v) FROM own WHERE client = {k}",
    "SELECT at, day, span FROM moment",
    "SELECT at::text, day::text FROM moment WHERE nr = {r}",
    "SELECT current_setting('TimeZone'), current_setting('search_path')",
    "SELECT current_setting('DateStyle'), current_setting('extra_float_digits')",
    "SELECT * FROM place",
    "SELECT * FROM own_{k} ORDER BY 1",
    "SELECT * FROM item WHERE id < 0",
    "SELECT id, repeat(v, 400) FROM item",
    "SELECT repeat('r', 300000)",
    "VALUES ({r}, 'a'), (2, 'b')",
    "SELECT a.id, b.v FROM item a JOIN item b ON b.id = a.id + {k} ORDER BY 1",
)
_FAILING = (
    "SELECT 1 / (id - id) FROM item WHERE id = {r}",
    "SELECT 100 / (20 - id) FROM item ORDER BY id",
    "SELECT v::int FROM item WHERE id = {r}",
    "SELECT no_such_column FROM item",
    "SELECT * FROM no_such_table",
    "SELECT 'x'::int",
)
_UNSEEN = (
    "SELECT * FROM for_now",
    "SELECT * FROM telling WHERE id = {r}",
)
_CHANGING = (
    "SELECT * FROM to_kathmandu",
    "SELECT * FROM to_german",
)
"""Who has read one has other settings, and stands in line with few."""
_GATED = ("SELECT id, {r} FROM gate_a", "SELECT id, {r} FROM gate_b")
_OF_ONE = (
    "SELECT v FROM item WHERE id = $1::int",
    "SELECT n, v FROM own WHERE client = {k} AND n <> $1::int ORDER BY n",
    "SELECT *, $1::int FROM own_{k}",
    "SELECT *, $1::int FROM place",
    "SELECT at, day, $1::int FROM moment",
    "SELECT 10 / $1::int",
    "SELECT *, $1::int FROM for_now",
    "SELECT id, $1::int FROM gate_a",
    "SELECT id, $1::int FROM gate_b",
)
"""Reads with one parameter."""

_WRITES = (
    "INSERT INTO own VALUES ({k}, 9, 'nine') ON CONFLICT DO NOTHING RETURNING *",
    "INSERT INTO own VALUES ({k}, 1, 'twice')",
    "UPDATE own SET v = v || '!' WHERE client = {k} AND n = {r} RETURNING v",
    "DELETE FROM own WHERE client = {k} AND n = 9 RETURNING n",
    "WITH new AS (UPDATE own SET v = 'x' WHERE client = {k} RETURNING n) SELECT count(*) FROM new",
    "SELECT * FROM own WHERE client = {k} FOR UPDATE",
    "INSERT INTO own_{k} VALUES ({r}, 'more')",
)
_SHAPES = (
    "ALTER TABLE own_{k} ADD COLUMN c int DEFAULT 3",
    "ALTER TABLE own_{k} DROP COLUMN IF EXISTS c",
    "ALTER TABLE own_{k} ALTER COLUMN a TYPE text",
    "ALTER TABLE own_{k} RENAME COLUMN b TO w",
    "DROP TABLE own_{k}",
    "CREATE TABLE own_{k} (a int, z date)",
)
_OTHERS = (
    *(one for one in _SETTINGS if one),
    *["RESET ALL"] * 4,
    "RESET TimeZone",
    "SELECT set_config('TimeZone', 'Asia/Tokyo', false)",
    "BEGIN",
    "BEGIN",
    "COMMIT",
    "ROLLBACK",
    "SET LOCAL TimeZone = 'Asia/Tokyo'",
    "BEGIN; SET LOCAL search_path = s1; SELECT * FROM place; COMMIT",
    "PREPARE sa AS SELECT 'sql of {k}', at FROM moment",
    "EXECUTE sa",
    "DEALLOCATE sa",
    "CREATE TEMP TABLE tmp (a int)",
    "CREATE TEMP TABLE place AS SELECT 'temporary of {k}' AS name",
    "SELECT * FROM tmp",
    "DROP TABLE IF EXISTS tmp",
    "DISCARD TEMP",
    "DISCARD ALL",
    "SHOW TimeZone",
    "SELECT 1; SELECT * FROM item WHERE id = {r}",
    "COPY (SELECT n, v FROM own WHERE client = {k}) TO STDOUT",
    "SELEC 1",
    "",
)

_R = st.integers(1, 3)
_VALUES = st.sampled_from([b"1", b"2", b"7", b"0", b"x", None])
_CUTS = st.sampled_from([0, 0, 0, 0, 0, 1, 3])


def _text(client: int, *texts: str) -> st.SearchStrategy[str]:
    return st.builds(lambda text, r: text.format(k=client, r=r), st.sampled_from(texts), _R)


# --- one read, and nothing else --------------------------------------------------------------


def _plain(text: str) -> tuple[Part, ...]:
    return (query(text),)


def _unnamed(text: str) -> tuple[Part, ...]:
    return (*run(text), SYNC)


def _undescribed(text: str) -> tuple[Part, ...]:
    return (parse("", text), bind("", "", binary=True), execute(""), SYNC)


def _statement_described(text: str) -> tuple[Part, ...]:
    return (parse("", text), describe("S", ""), bind("", ""), execute(""), SYNC)


def _limited(text: str) -> tuple[Part, ...]:
    return (parse("", text), bind("", ""), describe("P", ""), execute("", 2), SYNC)


def _twice(text: str) -> tuple[Part, ...]:
    return (parse("", text), bind("", ""), execute("", 1), execute(""), SYNC)


_WAYS = st.sampled_from(
    [
        _plain, _plain, _plain, _unnamed, _unnamed,
        _undescribed, _statement_described, _limited, _twice,
    ]
)  # fmt: skip


def _bound(name: str, value: bytes | None, *, described: bool) -> tuple[Part, ...]:
    """Bind of what was prepared before, up to a Sync."""
    shown = (describe("P", ""),) if described else ()
    return (bind("", name, (value,)), *shown, execute(""), SYNC)


_NAMES = st.sampled_from(["a", "a", "b"])
_USES = st.builds(_bound, _NAMES, _VALUES, described=st.booleans())
_UNNAMED_USES = st.builds(_bound, st.just(""), _VALUES, described=st.booleans())


def _with_value(text: str, value: bytes | None) -> tuple[Part, ...]:
    return (*run(text, value), SYNC)


def _lone(client: int) -> st.SearchStrategy[Unit]:
    """One read and nothing else: what may stand in line."""

    def written(*texts: str) -> st.SearchStrategy[tuple[Part, ...]]:
        return st.builds(lambda way, text: way(text), _WAYS, _text(client, *texts))

    parts = st.one_of(
        written(*_READS),
        written(*_READS),
        written(*_READS),
        written(*_FAILING),
        written(*_UNSEEN, *_UNSEEN, *_CHANGING),
        st.builds(_with_value, _text(client, *_OF_ONE), _VALUES),
        _USES,
        _USES,
    )
    return st.builds(lambda parts, cuts: Unit(Say(parts, cuts), lone=True), parts, _CUTS)


def _gated(client: int) -> st.SearchStrategy[Unit]:
    """Reads of a gate."""
    parts = st.builds(
        lambda way, text: way(text),
        st.sampled_from([_plain, _plain, _unnamed]),
        _text(client, *_GATED),
    )
    return parts.map(lambda parts: Unit(Say(parts), lone=True))


# --- everything else --------------------------------------------------------------------------


def _prepared(name: str, text: str) -> tuple[Part, ...]:
    """A name gets another meaning."""
    return (close("S", name), parse(name, text), describe("S", name), SYNC)


def _prepared_and_used(
    first: tuple[Part, ...], name: str, text: str, value: bytes | None
) -> tuple[Part, ...]:
    """In one batch; where the name is not closed first it may be taken."""
    return (*first, parse(name, text), bind("", name, (value,)), execute(""), SYNC)


def _others(client: int) -> st.SearchStrategy[Unit]:
    """What may stand in no line."""
    reads, of_one = _text(client, *_READS, *_FAILING), _text(client, *_OF_ONE[:-2])
    effects = _text(client, *_OTHERS, *_WRITES, *_WRITES, *_SHAPES)
    parts = st.one_of(
        effects.map(_plain),
        effects.map(_plain),
        effects.map(_unnamed),
        st.builds(_prepared, _NAMES, of_one),
        st.builds(
            lambda name, text, value: _prepared_and_used((close("S", name),), name, text, value),
            _NAMES,
            of_one,
            _VALUES,
        ),
        st.builds(
            lambda name, text, value: _prepared_and_used((), name, text, value),
            st.sampled_from(["a", "c", "d", "e"]),
            of_one,
            _VALUES,
        ),
        of_one.map(lambda text: (parse("", text), SYNC)),
        _UNNAMED_USES,
        st.builds(lambda one, two: (*run(one), *run(two), SYNC), reads, effects),
        st.builds(lambda one, two: (*_plain(one), *_unnamed(two)), reads, reads),
        st.builds(lambda one, two: (*_unnamed(one), *_plain(two)), reads, effects),
        reads.map(lambda text: (parse("", text), bind("", ""), FLUSH, execute(""), SYNC)),
    )
    return st.builds(lambda parts, cuts: Unit(Say(parts, cuts)), parts, _CUTS)


@cache
def _units(client: int) -> st.SearchStrategy[Unit]:
    lone = _lone(client)
    return st.one_of(*[lone] * 10, _others(client), *[_gated(client)] * 2)


# --- what happens in line ---------------------------------------------------------------------

_WHATS = st.sampled_from(
    [
        *[What.CANCEL] * 4, *[What.LATE_CANCEL] * 4, *[What.MORE] * 4,
        What.RST, What.FIN, What.GOODBYE, What.KILL, What.RENEW,
    ]
)  # fmt: skip
_WHEN_ALL_WAIT = st.sampled_from([What.CANCEL, What.RST, What.FIN, What.GOODBYE])


@st.composite
def _deeds(
    draw: st.DrawFn, units: tuple[tuple[int, Unit], ...], gate: str, limited: bool
) -> tuple[Deed, ...]:
    """Deeds, mostly of those in line; more often of who reads this gate than by chance."""
    inside = [client for client, unit in units if gate and gate in repr(unit)]
    clients = [client for client, _ in units] + inside * 3
    deeds = []
    whats = st.lists(_WHATS, max_size=3) if gate else st.lists(_WHEN_ALL_WAIT, max_size=1)
    for what in draw(whats):
        if what is What.MORE:
            client = draw(st.sampled_from([*clients, *range(CLIENTS)]))
            deeds.append(Deed(what, client, draw(_unit_of(client, limited))))
        else:
            deeds.append(Deed(what, draw(st.sampled_from(clients))))
    return tuple(deeds)


def _unit_of(client: int, limited: bool) -> st.SearchStrategy[Unit]:
    """A client with a limit of time reads what takes longer, and waits at no gate."""
    if not limited:
        return _units(client)
    slow = st.sampled_from([_plain, _unnamed]).map(lambda way: Unit(Say(way(_SLOW)), lone=True))
    return st.one_of(slow, *[_lone(client).filter(lambda unit: "gate_" not in repr(unit))] * 9)


@st.composite
def _rounds(draw: st.DrawFn, common: str, limited: bool) -> Round:
    settings = draw(_mostly(common))
    clients = draw(st.permutations(range(CLIENTS)))[: draw(st.integers(3, CLIENTS))]
    units = tuple((client, draw(_unit_of(client, limited))) for client in clients)
    stages = tuple(draw(_deeds(units, gate, limited)) for gate in ("", *GATES))
    alike_first = draw(st.sampled_from([True, True, False]))
    return Round(settings, units, (stages[0], stages[1], stages[2]), alike_first)


# --- meetings ---------------------------------------------------------------------------------


def _mostly(common: str) -> st.SearchStrategy[str]:
    """The settings that most have, for only those stand in one line."""
    return st.sampled_from([*[common] * 26, *_SETTINGS])


@st.composite
def _openings(draw: st.DrawFn, client: int, common: str, limited: bool) -> tuple[Say, ...]:
    """What a client sends before all rounds: its settings, and what it prepares."""
    settings = _LIMIT if limited else draw(_mostly(common))
    texts = _OF_ONE[:-2] if limited else _OF_ONE
    prepared = [say(parse(name, draw(_text(client, *texts))), SYNC) for name in ("a", "b")]
    if draw(st.integers(0, 11)) == 11:
        prepared.append(say(f"PREPARE sa AS SELECT 'sql of {client}', at FROM moment"))
    return ((say(settings),) if settings else ()) + tuple(prepared)


_SERVICES = st.one_of(
    st.just((False,) * CLIENTS),
    st.just((True,) * CLIENTS),
    st.tuples(*[st.booleans()] * CLIENTS),
)


@st.composite
def meetings(draw: st.DrawFn) -> Meeting:
    """Clients, mostly of one login, on one server or two; and their rounds."""
    limited = draw(st.integers(0, 23)) == 23
    common = _LIMIT if limited else draw(st.sampled_from(["", "", *_SETTINGS]))
    openings = tuple(draw(_openings(client, common, limited)) for client in range(CLIENTS))
    rounds = draw(st.lists(_rounds(common, limited), min_size=2, max_size=ROUNDS_MAX))
    servers, blind = draw(st.sampled_from([1, 1, 2])), draw(st.booleans())
    return Meeting(servers, draw(_SERVICES), openings, tuple(rounds), blind)
