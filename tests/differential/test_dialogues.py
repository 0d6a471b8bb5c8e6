"""Dialogues that once differed, or that chance seldom makes: each by name."""

from __future__ import annotations

import asyncio

import pytest

from tests.differential.changed_tables import CHANGED_TABLES
from tests.differential.script import (
    COPY_DONE,
    FLUSH,
    SYNC,
    How,
    Leave,
    Script,
    Step,
    bind,
    close,
    copy_data,
    copy_fail,
    describe,
    execute,
    function_call,
    parse,
    query,
    run,
    say,
)
from tests.differential.talk import Part
from tests.differential.twins import Twins
from tests.wire import Place, Wire

A, B, C, D = 0, 1, 2, 3


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
_BY_SQL = "PREPARE sa AS SELECT * FROM item ORDER BY id"
_CHANGED_TABLE, _CHANGED_BACK = (
    f"ALTER TABLE item RENAME COLUMN {old} TO {new}" for old, new in ("vw", "wv")
)
_USES: dict[str, tuple[Part | str, ...]] = {
    "executed": ("EXECUTE sa",),
    "executed in a transaction": ("BEGIN", "EXECUTE sa", "COMMIT"),
    "executed among others": ("SELECT 1; EXECUTE sa; SELECT 2",),
    "executed into a table": ("BEGIN; CREATE TABLE extra AS EXECUTE sa; ROLLBACK",),
    "executed by Parse": (parse("", "EXECUTE sa"), bind("", ""), execute(""), SYNC),
    "bound": (bind("", "sa"), describe("P", ""), execute(""), SYNC),
    "described": (describe("S", "sa"), SYNC),
}
_USES_WHEN_FAILED: dict[str, tuple[Part | str, ...]] = {
    "executed": ("EXECUTE sa",),
    "bound": (bind("", "sa"), execute(""), SYNC),
    "described": (describe("S", "sa"), SYNC),
    "closed": (close("S", "sa"), SYNC),
    "executed in what is skipped": (
        describe("S", "none"),
        *run("EXECUTE sa"),
        SYNC,
        *run("EXECUTE sb"),
        SYNC,
    ),
    "closed in what is skipped": (describe("S", "none"), close("S", "sa"), SYNC),
    "deallocated": ("DEALLOCATE sa",),
}
_FAILED_ELSEWHERE = (
    (A, say(_BY_SQL)),
    (B, say("BEGIN")),
    (A, say("BEGIN")),
    (A, say("SELECT 1 / 0")),
)
"""What A prepared is where B is, and A in a failed transaction on another server."""


def _prepared_elsewhere(*use: Part | str) -> tuple[tuple[int, Step], ...]:
    """A uses what it prepared by SQL, where that is and elsewhere, while its table changes."""
    return (
        (A, say(_BY_SQL)),
        (A, say(*use)),
        (B, say("BEGIN")),
        (C, say(_CHANGED_TABLE)),
        (A, say(*use)),
        (A, say(*use)),
        (A, say("ROLLBACK")),
        (A, say("PREPARE sb AS SELECT * FROM item ORDER BY id")),
        (B, say("COMMIT")),
        (A, say(*use)),
        (A, say("ROLLBACK")),
        (A, say("BEGIN", "EXECUTE sb", "COMMIT")),
        (C, say(_CHANGED_BACK)),
        (A, say(*use)),
        (A, say("ROLLBACK")),
        (A, say("EXECUTE sb")),
    )


_SKIPPED: dict[str, tuple[Part, ...]] = {
    "Query": (query("SELECT 1"),),
    "Close": (close("S", ""),),
    "Parse": (parse("", "SELECT 2"),),
    "Query and Parse": (query("SELECT 1"), parse("", "SELECT 2")),
    "many of both": (query("SELECT 1"), parse("", "SELECT 2")) * 30,
}

_TOKYO = "SET TimeZone = 'Asia/Tokyo'"

_COPY = "COPY part (n) FROM STDIN"
_FIVE = "SELECT generate_series(1, 5)"


def _behind_a_copy(begun: tuple[Part, ...], *end: Part, cuts: int) -> tuple[tuple[int, Step], ...]:
    """The end of a copy, a Query and a batch that only a Flush ends, in pieces; then more."""
    batch = (*run("SELECT 2"), FLUSH)
    return (
        (A, say(*begun)),
        (A, say(*end, query("SELECT 1"), *batch, cuts=cuts)),
        (A, say(SYNC)),
        (A, say("SELECT 3")),
    )


DIALOGUES: dict[str, tuple[tuple[int, Step], ...]] = {
    **CHANGED_TABLES,
    **{
        f"prepared by SQL, {how}, elsewhere, after its table changed": _prepared_elsewhere(*use)
        for how, use in _USES.items()
    },
    "prepared by SQL like another's from before its table changed": (
        (A, say(_BY_SQL)),
        (B, say("BEGIN")),
        (C, say(_CHANGED_TABLE)),
        (D, say(_BY_SQL)),
        (C, say("BEGIN")),
        (B, say("COMMIT")),
        (D, say("EXECUTE sa")),
        (A, say("EXECUTE sa")),
        (C, say("COMMIT")),
        (D, say("DEALLOCATE sa; " + _BY_SQL)),
        (D, say("EXECUTE sa")),
        (A, say("EXECUTE sa")),
    ),
    "prepared by SQL, then without its table, elsewhere": (
        (A, say("PREPARE sa AS SELECT * FROM shape")),
        (A, say("PREPARE sb AS SELECT * FROM shape")),
        (B, say("BEGIN")),
        (C, say("DROP TABLE shape")),
        (A, say("PREPARE sa AS SELECT 1")),
        (A, say("EXECUTE sa")),
        (A, say(parse("", "EXECUTE sa"), bind("", ""), execute(""), SYNC)),
        (A, say(bind("", "sa"), execute(""), SYNC)),
        (A, say(describe("S", "sa"), SYNC)),
        (A, say("DEALLOCATE sa")),
        (A, say("EXECUTE sa")),
        (A, say(*run("DEALLOCATE sb"), SYNC)),
        (B, say("COMMIT")),
        (A, say("EXECUTE sa")),
        (A, say("EXECUTE sb")),
    ),
    **{
        f"prepared by SQL, {how} in a failed transaction, elsewhere": (
            *_FAILED_ELSEWHERE,
            (A, say(*use)),
            (A, say("ROLLBACK")),
            (A, say("EXECUTE sa")),
            (B, say("COMMIT")),
            (A, say("EXECUTE sa")),
        )
        for how, use in _USES_WHEN_FAILED.items()
    },
    **{
        f"prepared by SQL, then without its table, elsewhere, and {text} in a transaction": (
            (A, say("PREPARE sa AS SELECT * FROM shape")),
            (A, say("PREPARE sb AS SELECT 1")),
            (B, say("BEGIN")),
            (C, say("DROP TABLE shape")),
            (A, say("BEGIN")),
            (A, say("DECLARE cur CURSOR FOR SELECT generate_series(1, 3)")),
            (A, say("FETCH cur")),
            (A, say(text)),
            (A, say("FETCH cur")),
            (A, say("SHOW work_mem")),
            (A, say("EXECUTE sb")),
            (A, say("COMMIT")),
            (A, say("SHOW work_mem")),
            (A, say("EXECUTE sb")),
        )
        for text in ("SET LOCAL work_mem = '5MB'", "SET work_mem = '5MB'", "DO $$ BEGIN END $$")
    },
    "described elsewhere after its table changed": (
        (A, say(parse("a", "SELECT * FROM item WHERE id = $1"), describe("S", "a"), SYNC)),
        (B, say("BEGIN")),
        (C, say(_CHANGED_TABLE)),
        (A, say(describe("S", "a"), SYNC)),
        (A, say(bind("", "a", [b"5"]), describe("P", ""), execute(""), SYNC)),
    ),
    "prepared by SQL, executed in what is skipped, elsewhere": (
        (A, say(_BY_SQL)),
        (B, say("BEGIN")),
        (A, say(describe("S", "none"), FLUSH)),
        (A, say(*run("EXECUTE sa"), FLUSH)),
        (A, say(bind("", "sa"), execute(""), SYNC)),
        (A, say("EXECUTE sa")),
    ),
    "another's, prepared by SQL, deallocated in a failed transaction": (
        (A, say(_BY_SQL)),
        (B, say("BEGIN")),
        (B, say("SELECT 1 / 0")),
        (B, say("DEALLOCATE sa")),
        (B, say("ROLLBACK")),
        (B, say("EXECUTE sa")),
        (A, say("EXECUTE sa")),
    ),
    "another's, prepared by SQL, closed in a failed transaction": (
        (A, say(_BY_SQL)),
        (B, say("BEGIN")),
        (B, say("SELECT 1 / 0")),
        (B, say(close("S", "sa"), SYNC)),
        (B, say("ROLLBACK")),
        (A, say("EXECUTE sa")),
        (A, say(close("S", "sa"), SYNC)),
        (A, say("EXECUTE sa")),
    ),
    **{
        f"behind the {end[0].shown} of {how}, in {cuts + 1} pieces": _behind_a_copy(
            begun, *end, cuts=cuts
        )
        for how, begun in {"a Query": (query(_COPY),), "a batch": (*run(_COPY), SYNC)}.items()
        for end in ((COPY_DONE,), (copy_fail("no"), SYNC))
        for cuts in (1, 2)
    },
    "a name prepared twice, elsewhere, while the table of the first is locked": (
        (A, say(parse("a", "SELECT * FROM item WHERE id = $1"), SYNC)),
        (B, say("BEGIN")),
        (B, say("LOCK TABLE item IN ACCESS EXCLUSIVE MODE")),
        (A, say(parse("a", "SELECT $1"), SYNC)),
        (A, say(parse("a", "SELECT nonsense"), SYNC)),
        (B, say("COMMIT")),
        (A, say(bind("", "a", [b"1"]), execute(""), SYNC)),
    ),
    "a statement that nobody asked about, executed elsewhere after its table changed": (
        (B, say(parse("a", "INSERT INTO item VALUES ($1, 'bound') RETURNING *"), SYNC)),
        (A, say("CREATE TEMP TABLE tmp (); ALTER TABLE item RENAME COLUMN v TO w")),
        (B, say(bind("", "a", [b"6"]), describe("P", ""), execute(""), SYNC)),
        (B, say(bind("", "a", [b"6"]), execute(""), SYNC)),
    ),
    "notices that name a table by its number": (
        (A, say("SET client_min_messages = debug1")),
        (A, say("CREATE TEMP TABLE tmp (a int, b text)")),
    ),
    "SET of what is reported, in a transaction": (
        (A, say("BEGIN")),
        (A, say(_TOKYO)),
        (A, say("COMMIT")),
    ),
    "SETs that fail or warn, in a transaction": tuple(
        (A, say(sql))
        for wrong in ("SET no_such_setting = 1", "SET work_mem = 'much'", "SET LOCAL plpgsql.x = 1")
        for sql in ("BEGIN", wrong, "SELECT 1", "ROLLBACK")
    ),
    "SET TRANSACTION behind a SAVEPOINT": tuple(
        (A, say(sql))
        for mode in ("ISOLATION LEVEL SERIALIZABLE", "READ ONLY", "DEFERRABLE")
        for sql in ("BEGIN", "SAVEPOINT a", f"SET TRANSACTION {mode}", "SELECT 1", "ROLLBACK")
    ),
    "the same by Parse": ((A, say("BEGIN")), (A, say(*run(_TOKYO), SYNC)), (A, say("COMMIT"))),
    "SAVEPOINT by Parse, released twice": (
        (A, say("BEGIN")),
        (A, say(*run("SAVEPOINT a"), SYNC)),
        (A, say("RELEASE a")),
        (A, say("RELEASE a")),
        (A, say("ROLLBACK")),
    ),
    "a mode with the first draw, on a server that others drew on": (
        (B, say("INSERT INTO item (v) VALUES ('b') RETURNING v")),
        (C, say("INSERT INTO item (v) VALUES ('c') RETURNING v")),
        (A, say("BEGIN")),
        (A, say("BEGIN ISOLATION LEVEL REPEATABLE READ; INSERT INTO item VALUES (7, 'seven')")),
        (A, say("COMMIT")),
    ),
    **{
        f"leaves while it waits, which {how}": (
            (A, say("BEGIN")),
            (B, say("BEGIN")),
            (C, say(f"SELECT length('{'y' * 300_000}')")),
            (C, Leave(how)),
            (A, say("COMMIT")),
            (B, say("COMMIT")),
        )
        for how in How
    },
    **{
        f"a draw in a failed transaction, behind {how}, on a server that others drew on": (
            (B, say("INSERT INTO item (v) VALUES ('b') RETURNING v")),
            (C, say("INSERT INTO item (v) VALUES ('c') RETURNING v")),
            *begun,
            (A, say("SELECT 1")),
            (A, say("ROLLBACK")),
        )
        for how, begun in {
            "a Describe": (
                (A, say("BEGIN")),
                (A, say(*run("CLOSE ALL"), SYNC)),
                (A, say("SELECT 1 / 0")),
                (A, say(describe("P", ""), query("SELECT lastval()"), query("SELECT 2"), SYNC)),
            ),
            "all of it": (
                (A, say("BEGIN", "SELECT 1 / 0", close("S", "none"), "SELECT lastval()")),
                (A, say(close("S", "none"), "ROLLBACK; SELECT lastval()")),
            ),
            "a ROLLBACK": (
                (A, say("BEGIN", "SELECT 1 / 0")),
                (A, say(*run("ROLLBACK"), "SELECT lastval()", SYNC)),
            ),
        }.items()
    },
    **{
        f"a draw refused at its Parse, behind {how}, where others drew": (
            (B, say("INSERT INTO item (v) VALUES ('b') RETURNING v")),
            (C, say("INSERT INTO item (v) VALUES ('c') RETURNING v")),
            (A, say("BEGIN", parse("", "SHOW work_mem"), SYNC)),
            (A, say("SELECT 1 / 0", parse("", "ROLLBACK"), SYNC)),
            (A, say(*begun, parse("", "INSERT INTO item (v) VALUES ('a')"), SYNC)),
            (A, say(*_use(""))),
            (A, say("ROLLBACK")),
        )
        for how, begun in {
            "a Close": (close("P", "p"),),
            "a Close and a Flush": (close("P", "p"), FLUSH),
            "a Close and a Sync": (close("P", "p"), SYNC),
        }.items()
    },
    "a mode behind a Close of what nobody has, on a server that others drew on": (
        (B, say("INSERT INTO item (v) VALUES ('b') RETURNING v")),
        (C, say("INSERT INTO item (v) VALUES ('c') RETURNING v")),
        (
            A,
            say(close("S", ""), close("S", "a"), query("BEGIN ISOLATION LEVEL SERIALIZABLE"), SYNC),
        ),
        (A, say("COMMIT")),
    ),
    "an unnamed portal goes on behind a Parse that may draw, where others drew": (
        (B, say("INSERT INTO item (v) VALUES ('b') RETURNING v")),
        (C, say("INSERT INTO item (v) VALUES ('c') RETURNING v")),
        (A, say("BEGIN")),
        (A, say(parse("", _FIVE), bind("", ""), execute("", 1), SYNC)),
        (A, say(parse("", "INSERT INTO item (v) VALUES ('a') RETURNING v"), SYNC)),
        (A, say(execute("", 2), SYNC)),
        (A, say(*_use(""))),
        (A, say("COMMIT")),
    ),
    "a write in a failed transaction, where others drew": (
        (B, say("INSERT INTO item (v) VALUES ('b') RETURNING v")),
        (C, say("INSERT INTO item (v) VALUES ('c') RETURNING v")),
        (A, say("BEGIN")),
        (A, say("SELECT nonsense")),
        (A, say("INSERT INTO item (v) VALUES ('a') RETURNING v")),
        (A, say("COMMIT")),
    ),
    "LOAD in a transaction": (
        (A, say("SELECT 1")),
        (A, say("BEGIN")),
        (A, say("LOAD 'plpgsql'")),
        (A, say("SELECT 1")),
        (A, say("COMMIT")),
    ),
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
    **{
        f"{forget} and a Parse behind it": (
            (A, say(parse("b", "SELECT 1"), SYNC)),
            (A, say(forget, parse("b", "SELECT 2"), SYNC)),
            (A, say(*_use("b"))),
            (A, say(*run(forget), parse("c", "SELECT 3"), SYNC)),
            (A, say(*_use("c"))),
            (A, say(*_use("b"))),
        )
        for forget in ("DISCARD ALL", "DEALLOCATE ALL", "DEALLOCATE ALL; SELECT 1")
    },
    "a name prepared and closed in what is skipped": (
        (A, say(execute("none"), parse("a", "SELECT 1"), close("S", "a"), SYNC)),
        (A, say(parse("a", "SELECT 2"), SYNC)),
        (A, say(*_use("a"))),
        (A, say(execute("none"), close("S", "a"), parse("a", "SELECT 3"), close("S", "a"), SYNC)),
        (A, say(*_use("a"))),
    ),
    **{
        f"{first} and an error, then {' | '.join(then)}, in a pipeline": (
            (A, say("BEGIN")),
            (A, say(first)),
            (A, say(describe("S", "none"), *then, SYNC)),
            (A, say("SELECT 3")),
        )
        for first in ("SELECT 1", "SELECT v FROM item WHERE id = 2")
        for then in (("SELECT 2",), ("COMMIT",), ("SELECT 2", "COMMIT", "SELECT nextval('seq')"))
    },
    **{
        f"{begin} behind a Parse without a Sync": (
            (A, say(SYNC, parse("a", begin), query(begin), SYNC)),
            (A, say(describe("S", "a"), query("COMMIT"), SYNC)),
        )
        for begin in ("BEGIN", "START TRANSACTION")
    },
    **{
        f"{text} behind a Parse": (
            (A, say("SELECT 1")),
            (A, say(parse("", "SELECT 1"), query(text), SYNC)),
            (A, say(parse("a", "SELECT 1"), SYNC)),
        )
        for text in ("COMMIT PREPARED 'one'", "VACUUM shape", "DISCARD ALL")
    },
    "a step of the gateway's that failed is not listed": (
        (A, say(*run("SELECT 1"), query("DISCARD ALL"), SYNC)),
        (A, say("SELECT name FROM pg_prepared_statements")),
        (A, say(*run("SELECT 1"), query("RESET ALL"), *run("TABLE pg_prepared_statements"), SYNC)),
    ),
    "unnamed statement and a BEGIN": (
        (A, say(parse("", "SELECT 1"), SYNC)),
        (A, say("BEGIN")),
        (A, say(*_use(""))),
        (A, say("ROLLBACK")),
        (A, say(parse("", "SELECT 1"), SYNC)),
        (A, say("BEGIN", "ROLLBACK")),
        (A, say(*_use(""))),
    ),
    "unnamed write on a server that is stamped anew": (
        (C, say("BEGIN", "SELECT 1")),
        (B, say(function_call(177, b"40", b"2"))),
        (A, say(parse("", "UPDATE item SET v = 'new' WHERE id > 3"), SYNC)),
        (A, say(*_use(""))),
        (A, say(*_use(""))),
        (C, say("COMMIT")),
    ),
    "two wait for the server of one who leaves": (
        (A, say("LISTEN c1")),
        (C, say("BEGIN")),
        (A, say("SELECT 1; PREPARE TRANSACTION 'one'")),
        (D, say("SELECT gid FROM pg_prepared_xacts WHERE database = current_database()")),
        (C, Leave(How.GOODBYE)),
    ),
    "sequences forgotten and drawn from in one text": (
        (A, say("DISCARD SEQUENCES; SELECT nextval('seq')")),
        (B, say("SELECT currval('seq')")),
        (B, say("SELECT lastval()")),
    ),
}

_STARTUP = {"options": "-c work_mem=7MB -c search_path=s1,public", "TimeZone": "Asia/Tokyo"}
_RESETS = (
    "RESET work_mem",
    "RESET TimeZone",
    "SET TimeZone TO DEFAULT",
    "SET TIME ZONE LOCAL",
    "SET search_path TO DEFAULT",
    "RESET ALL",
    "DISCARD ALL",
    "RESET application_name",
)
_LOOK = "SELECT current_setting('TimeZone'), current_setting('work_mem'), current_schemas(false)"
_CHANGED = say("SET TimeZone = 'UTC'", "SET work_mem = '5MB'", "SET search_path = public")


def _resets(reset: str) -> dict[str, tuple[Step, ...]]:
    """Ways to run a statement that resets settings."""
    return {
        "what startup said": (say(reset),),
        "a change": (_CHANGED, say(reset)),
        "by the extended protocol": (_CHANGED, say(*run(reset), SYNC)),
        "in a pipeline": (
            _CHANGED, say(*run(reset), *run("SET work_mem = '6MB'"), *run(_LOOK), SYNC),
        ),
        "prepared before": (
            say(parse("r", reset), SYNC), _CHANGED, say(*_use("r"), query(_LOOK)),
            say(close("S", "r"), SYNC),
        ),
        "in a transaction": (
            say("BEGIN"), _CHANGED, say("SAVEPOINT a"), say(reset), say(_LOOK),
            say("ROLLBACK TO a"), say("COMMIT"),
        ),
        "after an error without Sync": (say(parse("", "SELECT nonsense"), query(reset), SYNC),),
        "skipped in a pipeline": (
            say("BEGIN"), say(describe("S", "none"), query("COMMIT"), query(reset), SYNC),
            say(query("COMMIT"), query(reset)),
        ),
        "before a Sync": (say(parse("", "SELECT 1"), query(reset), query("SELECT 2"), SYNC),),
        "in transactions of a pipeline": (
            say("BEGIN", "SELECT 1", reset, "COMMIT", reset, "BEGIN", "SELECT 1/0", reset, "END"),
        ),
        "and the unnamed statement": (
            say(parse("", "SELECT 1"), SYNC), say(reset), say(*_use("")),
        ),
    }  # fmt: skip


def _looked_after(way: str) -> Script:
    """All resets in one way, one after the other, each looked at."""
    steps = [
        step
        for reset in _RESETS
        for step in (*_resets(reset)[way], say(_LOOK), say("SELECT now() IS NULL"))
    ]
    return Script(tuple((A, step) for step in steps), (_STARTUP, {}, {}, {}))


_BEFORE_SET_TRANSACTION = (
    say("BEGIN"),
    say("RESET ALL"),
    say("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE"),
    say("SHOW work_mem"),
    say("COMMIT"),
)


@pytest.mark.parametrize("name", DIALOGUES)
async def test_a_dialogue_is_as_with_the_server(twins: Twins, name: str) -> None:
    await twins.play(Script(DIALOGUES[name], ({"application_name": "one"}, {}, {}, {})))


@pytest.mark.parametrize("name", DIALOGUES)
async def test_a_dialogue_of_a_service_login_too(roaming_twins: Twins, name: str) -> None:
    await roaming_twins.play(Script(DIALOGUES[name]))


@pytest.mark.parametrize("way", _resets(""))
async def test_a_reset_goes_back_to_what_startup_said(twins: Twins, way: str) -> None:
    await twins.play(_looked_after(way))


async def test_a_reset_takes_no_snapshot(twins: Twins) -> None:
    steps = tuple((A, step) for step in _BEFORE_SET_TRANSACTION)
    await twins.play(Script(steps, ({"options": "-c work_mem=7MB"}, {}, {}, {})))


async def _asked_for_rows(place: Place) -> str:
    """Message types of a COPY that no Sync stands behind until its rows were asked for."""
    wire = await Wire.logged_in(place)
    wire.send(*(part.data for part in run(_COPY) if part.tag != "D"))
    async with asyncio.timeout(10):
        heard = await wire.until("G")
        wire.send(*(part.data for part in (copy_data(b"1\n"), COPY_DONE, SYNC)))
        heard += await wire.until("Z")
    await wire.close()
    return "".join(one.tag for one in heard)


async def test_rows_are_asked_for_without_a_sync(twins: Twins, roaming_twins: Twins) -> None:
    for both in (twins, roaming_twins):
        await both.play(Script(()))
        assert [await _asked_for_rows(place) for place in both.places] == ["12GCZ"] * 2
