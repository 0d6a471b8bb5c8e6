"""Dialogues about statements whose tables have changed, on servers that do not know them yet."""

from __future__ import annotations

from tests.differential.script import (
    FLUSH,
    SYNC,
    Step,
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

A, B, C, D = 0, 1, 2, 3
Steps = tuple[tuple[int, Step], ...]

_ALL = "SELECT * FROM shape"
_PREPARE = f"PREPARE a AS {_ALL}"
_ADD, _TAKE_BACK = "ALTER TABLE shape ADD COLUMN c int", "ALTER TABLE shape DROP COLUMN c"
_DROP, _OTHER = "DROP TABLE shape", "CREATE TABLE extra (e int)"


_TAKES_ITS_SERVER = say("BEGIN", "SELECT 1")
"""Whoever comes next gets the other one of two."""


def _use(name: str) -> tuple[Part, ...]:
    return (bind("", name), execute(""), SYNC)


_USES: dict[str, tuple[tuple[Part | str, ...], tuple[Part | str, ...]]] = {
    "a Parse": ((parse("a", _ALL), SYNC), _use("a")),
    "a Parse, described": ((parse("a", _ALL), describe("S", "a"), SYNC), _use("a")),
    "SQL": ((_PREPARE,), ("EXECUTE a",)),
    "SQL, by Parse": ((_PREPARE,), (parse("", "EXECUTE a"), bind("", ""), execute(""), SYNC)),
    "SQL, by Bind": ((_PREPARE,), _use("a")),
}
"""How a statement is prepared, and how it is used."""


def _batch(*texts: str) -> tuple[Part | str, ...]:
    return (*(part for text in texts for part in run(text)), SYNC)


_UNNAMED: dict[str, tuple[tuple[Part, ...], ...]] = {
    "parsed": ((parse("", _ALL), SYNC),),
    "parsed and executed": ((parse("", _ALL), *_use("")),),
    "parsed and flushed": ((parse("", _ALL), FLUSH), (SYNC,)),
    "parsed behind another": (
        (parse("", "SELECT 1"), bind("", ""), execute(""), parse("", _ALL), SYNC),
    ),
    "parsed before a named one": ((parse("", _ALL), parse("n", "SELECT 1"), *_use("n")),),
}
_SETTINGS = (
    "SET LOCAL work_mem = '5MB'",
    "SET work_mem = '5MB'",
    "DO $$ BEGIN END $$",
    "SET search_path = s1",
)


def _in_its_transaction(change: str, made: tuple[Part | str, ...], *use: Part | str) -> Steps:
    """A changes tables, and in the same transaction uses what the server does not know yet."""
    return (
        (A, say(*made)),
        (B, _TAKES_ITS_SERVER),
        (A, say("BEGIN", "SAVEPOINT s")),
        (A, say(change)),
        (A, say(*use)),
        (A, say(*use)),
        (A, say("ROLLBACK TO s")),
        (A, say("SET LOCAL work_mem = '5MB'")),
        (A, say(*use)),
        (A, say("ROLLBACK")),
        (A, say(*use)),
        (A, say("BEGIN", change, "COMMIT")),
        (A, say(*use)),
        (B, say("COMMIT")),
        (A, say(*use)),
    )


def _by_another(change: str, made: tuple[Part | str, ...], *use: Part | str) -> Steps:
    """C changes tables while A is in a transaction, on a server that does not know A's yet."""
    return (
        (A, say(*made)),
        (B, _TAKES_ITS_SERVER),
        (A, say("BEGIN")),
        (B, say("COMMIT")),
        (C, say(change)),
        (A, say(*use)),
        (A, say(*use)),
        (A, say("COMMIT")),
        (A, say(*use)),
    )


def _behind_a_batch(begun: str, *then: Part | str) -> Steps:
    """A's statement is of a table that is no more, and a batch without a Sync is under way."""
    return (
        (A, say(_PREPARE)),
        (A, say("PREPARE b AS SELECT 1")),
        (B, _TAKES_ITS_SERVER),
        (C, say(_DROP)),
        (A, say(begun)),
        (A, say(*run("INSERT INTO item VALUES (7, 'seven')"), FLUSH)),
        (A, say(*then)),
        (A, say("SELECT count(*) FROM item")),
        (A, say(SYNC)),
        (A, say("ROLLBACK")),
        (A, say(*run("SELECT 1"), *then, "SELECT 2", SYNC)),
        (A, say("SELECT count(*) FROM item")),
    )


_USED = (bind("", "a"), describe("P", ""), execute(""), SYNC)
_CLOSES_OTHERS = say("SELECT count(*) FROM pg_prepared_statements")
"""So that a server does not know the statements of other clients any more."""

_SEEN_ALONE: dict[str, Steps] = {
    "its table hidden from another who uses it too": (
        (A, say(parse("a", _ALL), SYNC)),
        (B, say(parse("a", _ALL), SYNC)),
        (D, _TAKES_ITS_SERVER),
        (A, say("CREATE TEMP TABLE shape (t int)")),
        (A, say(*_USED)),
        (D, say("COMMIT")),
        (D, _CLOSES_OTHERS),
        (B, say(*_USED)),
        (A, say(*_USED)),
        (A, say("DROP TABLE shape")),
        (A, say(*_USED)),
        (B, say(*_USED)),
    ),
    "its table changed by another who fails": (
        (A, say(parse("a", _ALL), SYNC)),
        (B, say(parse("a", _ALL), SYNC)),
        (D, _TAKES_ITS_SERVER),
        (A, say("BEGIN", _ADD)),
        (A, say(*_USED)),
        (D, say("COMMIT")),
        (D, _CLOSES_OTHERS),
        (B, say(*_USED)),
        (A, say("ROLLBACK")),
        (B, say(*_USED)),
        (A, say(*_USED)),
    ),
    "made where a temporary table hides its table, and by another too": (
        (A, say("CREATE TEMP TABLE shape (t int)")),
        (A, say(parse("a", _ALL), SYNC)),
        (A, say(*_USED)),
        (B, say(parse("a", _ALL), SYNC)),
        (B, say(*_USED)),
        (C, say(_OTHER)),
        (D, _CLOSES_OTHERS),
        (B, say(*_USED)),
        (A, say("DROP TABLE shape")),
        (A, say(*_USED)),
        (B, _TAKES_ITS_SERVER),
        (D, say(parse("b", _ALL), SYNC)),
        (D, say(bind("", "b"), execute(""), SYNC)),
        (B, say(*_USED)),
    ),
}

CHANGED_TABLES: dict[str, Steps] = {
    **_SEEN_ALONE,
    **{
        f"unnamed, {how}, elsewhere behind {change}": (
            *((A, say(*step)) for step in steps),
            (B, _TAKES_ITS_SERVER),
            (C, say(change)),
            (A, say(*_use(""))),
            (A, say(bind("", ""), describe("P", ""), execute(""), SYNC)),
            (B, say("COMMIT")),
            (A, say(*_use(""))),
        )
        for how, steps in _UNNAMED.items()
        for change in (_ADD, _OTHER, _DROP)
    },
    "unnamed, elsewhere, its table changed in the transaction that parsed it": (
        (A, say(parse("b", "BEGIN"), parse("a", _ADD), parse("c", "COMMIT"), SYNC)),
        (A, say(*_use("b"))),
        (A, say(parse("", _ALL), SYNC)),
        (A, say(*_use("a"))),
        (A, say(*_use("c"))),
        (B, _TAKES_ITS_SERVER),
        (A, say(*_use(""))),
    ),
    **{
        f"prepared by {how}, then {change} and its first use elsewhere": _in_its_transaction(
            change, made, *use
        )
        for how, (made, use) in _USES.items()
        for change in (_ADD, _OTHER, _DROP)
    },
    **{
        f"prepared by {how}, used elsewhere behind {change} of another": _by_another(
            change, made, *use
        )
        for how, (made, use) in _USES.items()
        for change in (_ADD, _OTHER, _DROP)
    },
    **{
        f"prepared by {how}, changed and used elsewhere in a pipeline": (
            (A, say(*made)),
            (B, _TAKES_ITS_SERVER),
            (A, say(*_batch("BEGIN", _ADD)[:-1], *use)),
            (A, say(*use)),
            (A, say("ROLLBACK")),
            (A, say(*use)),
        )
        for how, (made, use) in _USES.items()
        if how != "SQL"
    },
    **{
        f"prepared by SQL, and then {change} in one {what}": (
            *((A, say(*step)) for step in steps),
            (B, _TAKES_ITS_SERVER),
            (A, say("EXECUTE a")),
            (A, say(*_use("a"))),
            (B, say("COMMIT")),
            (A, say("EXECUTE a")),
            (C, say(back)),
            (A, say("EXECUTE a")),
            (A, say("DEALLOCATE a")),
            (A, say("EXECUTE a")),
        )
        for change, back in ((_ADD, _TAKE_BACK), (_DROP, "CREATE TABLE shape (a int, b text)"))
        for what, steps in {
            "transaction": (("BEGIN",), (_PREPARE,), (change,), ("COMMIT",)),
            "batch": (_batch(_PREPARE, change),),
            "text": ((f"{_PREPARE}; {change}",),),
            "transaction, rolled back": (
                ("BEGIN", "SAVEPOINT s", change),
                ("PREPARE a AS SELECT * FROM item",),
                ("ROLLBACK TO s",),
                ("COMMIT",),
                (change,),
            ),
        }.items()
    },
    **{
        f"executed by SQL and named {name!r} by Parse, elsewhere behind {change}": (
            (A, say(parse("a", _ALL), SYNC)),
            (A, say("PREPARE b AS SELECT * FROM item")),
            (A, say(parse(name, f"EXECUTE {of}"), SYNC)),
            (B, _TAKES_ITS_SERVER),
            (C, say(change)),
            (A, say(*_use(name))),
            (A, say(f"EXECUTE {of}")),
        )
        for of, name, change in (
            ("a", "x", _OTHER),
            ("a", "", _OTHER),
            ("b", "x", _OTHER),
            ("b", "", _ADD),
        )
    },
    "executed by SQL, made by Parse, elsewhere without its table": (
        (A, say(parse("a", _ALL), SYNC)),
        (B, _TAKES_ITS_SERVER),
        (C, say(_DROP)),
        (A, say("EXECUTE a")),
        (A, say("BEGIN", "EXECUTE a", "ROLLBACK")),
        (B, say("COMMIT")),
        (A, say("EXECUTE a")),
    ),
    **{
        f"without its table, {how}, behind a batch{where}": _behind_a_batch(begun, *then)
        for how, then in {
            "executed": ("EXECUTE a",),
            "executed twice": ("EXECUTE a", "EXECUTE a"),
            "executed among others": ("SELECT 1; EXECUTE a",),
            "another executed": ("EXECUTE b", "EXECUTE a"),
            "another executed and rows copied": ("EXECUTE b; COPY item TO STDOUT", "EXECUTE a"),
            "bound": (bind("", "a"), execute(""), query("SELECT 1")),
            "closed": (close("S", "a"), query("EXECUTE a")),
        }.items()
        for where, begun in {"": "SELECT 1", " in a transaction": "BEGIN"}.items()
    },
    **{
        f"without its table, elsewhere, and {text} in a batch{where}": (
            (A, say(_PREPARE)),
            (A, say("PREPARE b AS SELECT * FROM place")),
            (B, _TAKES_ITS_SERVER),
            *gone,
            (A, say(begun)),
            (A, say(*run("SELECT 1"), *dropped, *run(text), SYNC)),
            (A, say("SHOW work_mem")),
            (A, say("EXECUTE b")),
            (A, say("COMMIT")),
            (A, say("EXECUTE a")),
            (A, say("EXECUTE b")),
            (A, say("SHOW work_mem")),
        )
        for text in _SETTINGS
        for where, begun, gone, dropped in (
            ("", "SELECT 1", ((C, say(_DROP)),), ()),
            (" in a transaction", "BEGIN", ((C, say(_DROP)),), ()),
            (" behind the DROP", "SELECT 1", (), run(_DROP)),
            (" behind the DROP in a transaction", "BEGIN", (), run(_DROP)),
        )
    },
}
