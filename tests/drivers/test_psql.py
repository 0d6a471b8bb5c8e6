"""psql through an operator login: what it prints must be what it prints directly."""

from __future__ import annotations

import asyncio
import fcntl
import os
import pty
import re
import select
import subprocess
import termios
from collections.abc import AsyncIterator
from dataclasses import replace
from difflib import unified_diff
from pathlib import Path
from time import monotonic, sleep

import pytest

from tests.conftest import FreshDatabase, Provisioned
from tests.drivers.programs import (
    Programs,
    Sides,
    both_sides,
    newest_programs,
    programs_here,
)

POOL_MAX = 2

CONTENT = """
    CREATE TABLE fruit (id int PRIMARY KEY, name text NOT NULL, kind text, price numeric(6,2));
    INSERT INTO fruit VALUES (1, 'apple', 'pome', 1.20), (2, 'pear', 'pome', 1.50),
        (3, 'plum', 'stone', 2), (4, E'tab\\there', NULL, NULL), (5, '', 'stone', 0);
    CREATE INDEX fruit_kind ON fruit (kind);
    CREATE SEQUENCE numbers;
    CREATE VIEW cheap AS SELECT * FROM fruit WHERE price < 2;
    CREATE FUNCTION twice(int) RETURNS int LANGUAGE sql AS 'SELECT $1 * 2';
    CREATE TYPE mood AS ENUM ('sad', 'glad');
    CREATE DOMAIN positive AS int CHECK (VALUE > 0);
    CREATE SCHEMA other; CREATE TABLE other.table_of_another_schema ();
    COMMENT ON TABLE fruit IS 'it''s fruit';
"""

DESCRIBE = (
    *("\\d", "\\d+", "\\d fruit", "\\d+ fruit", "\\dS pg_class", "\\d other.*", "\\d no_such"),
    *("\\dt", "\\dt+ *.*fruit*", "\\dv+", "\\di+", "\\ds", "\\dm", "\\df+", "\\df tw*", "\\dT+"),
    *("\\dD", "\\dn+", "\\du", "\\dp", "\\z", "\\dx+", "\\do pg_catalog.=", "\\dRp+", "\\dRs"),
    *("\\dy", "\\des", "\\dew", "\\dF", "\\dFd", "\\dl", "\\dO", "\\dconfig work_mem", "\\drds"),
    *("\\dL", "\\dA", "\\dAc", "\\dX", "\\dC integer", "\\dd", "\\ddp", "\\dg+", "\\dE", "\\dP"),
    *("\\sf twice", "\\sv cheap", "\\encoding", "\\pset null", "\\dc", "\\da count", "\\dto"),
)

SCRIPTS = {
    "the \\d family": "\n".join(DESCRIBE) + "\n",
    "the \\d family in a failed transaction": "BEGIN;\nSELECT 1/0;\n\\d\n\\d fruit\nROLLBACK;\n",
    "\\gdesc": (
        "SELECT id, name, price * 2 AS twice, now() AS at FROM fruit \\gdesc\n"
        "SELECT $1::int + 1 \\gdesc\nCREATE TABLE not_made () \\gdesc\nSELECT nothing \\gdesc\n"
        "SELECT 1 AS a, 'x'::mood AS b \\gdesc\nBEGIN;\nSELECT 2 AS in_transaction \\gdesc\n"
        "SELECT 1/0;\nSELECT 3 \\gdesc\nROLLBACK;\n"
    ),
    "\\crosstabview": (
        "SELECT kind, name, price FROM fruit WHERE kind IS NOT NULL ORDER BY 1, 2\n"
        "\\crosstabview kind name price\nSELECT 1, 2 \\crosstabview\n"
    ),
    "\\gexec": (
        "SELECT format('CREATE TABLE made_%s (a int)', n), format('DROP TABLE made_%s', n)"
        " FROM generate_series(1, 3) n \\gexec\nSELECT 'SELECT 1/0', 'SELECT 2' \\gexec\n"
        "BEGIN;\nSELECT 'SELECT ' || n FROM generate_series(1, 4) n \\gexec\nCOMMIT;\n"
    ),
    "\\gset and variables": (
        "SELECT id AS the_id, name AS the_name FROM fruit WHERE id = 2 \\gset of_\n"
        "\\echo :of_the_id :'of_the_name'\nSELECT * FROM fruit WHERE id = :of_the_id;\n"
        "SELECT 1/0;\n\\echo :ERROR :SQLSTATE :ROW_COUNT :LAST_ERROR_MESSAGE\n"
    ),
    "\\gx and \\g to a command": "SELECT * FROM fruit \\gx\nSELECT 1 AS a, 2 AS b \\g | cat -n\n",
    "rows in parts": (
        "\\set FETCH_COUNT 7\nSELECT generate_series(1, 40) AS n;\nSELECT 1 WHERE false;\n"
        "SELECT 1/(20 - n) FROM generate_series(1, 40) n;\nBEGIN;\nSELECT generate_series(1, 15);\n"
        "SELECT 'nested';\nCOMMIT;\nUPDATE fruit SET price = price RETURNING id;\n"
        "WITH x AS (SELECT 1) SELECT * FROM x;\n"
    ),
    "on error, roll back to a savepoint": (
        "\\set ON_ERROR_ROLLBACK on\nBEGIN;\nCREATE TABLE kept_until_the_end (a int);\n"
        "SELECT 1/0;\nINSERT INTO kept_until_the_end VALUES (1);\nTABLE kept_until_the_end;\n"
        "RELEASE nothing;\nTABLE kept_until_the_end;\nROLLBACK;\n"
    ),
    "without autocommit": (
        "\\set AUTOCOMMIT off\nSELECT 1;\nCREATE TABLE never_committed ();\n"
        "SELECT 1/0;\nSELECT 2;\nROLLBACK;\nSELECT to_regclass('never_committed');\nCOMMIT;\n"
    ),
    "errors in full": (
        "\\set VERBOSITY verbose\nSELECT 1/0;\nINSERT INTO fruit VALUES (1, 'again');\n"
        "SELECT * FORM fruit;\n\\set VERBOSITY sqlstate\nSELECT nothing;\n\\errverbose\n"
        "DO $$ BEGIN RAISE WARNING 'w' USING HINT = 'h', DETAIL = 'd'; END $$;\n"
    ),
    "cursors": (
        "BEGIN;\nDECLARE c SCROLL CURSOR FOR SELECT id FROM fruit ORDER BY id;\nFETCH 2 FROM c;\n"
        "FETCH PRIOR FROM c;\nFETCH LAST FROM c;\nMOVE FIRST FROM c;\nFETCH RELATIVE 2 FROM c;\n"
        "CLOSE c;\nCOMMIT;\nFETCH c;\n"
        "DECLARE h SCROLL CURSOR WITH HOLD FOR SELECT generate_series(1, 9);\nFETCH 3 FROM h;\n"
        "SELECT 'between';\nFETCH BACKWARD 2 FROM h;\nFETCH ABSOLUTE -1 FROM h;\nCLOSE h;\n"
    ),
    "copy from and to the script": (
        "CREATE TEMP TABLE copied (a int, b text);\nCOPY copied FROM STDIN;\n1\tone\n2\ttwo\n\\.\n"
        "COPY copied TO STDOUT WITH (FORMAT csv, HEADER);\nCOPY copied FROM STDIN;\nx\ty\n\\.\n"
        "SELECT count(*) FROM copied;\nDROP TABLE copied;\n"
    ),
    "notifications": "LISTEN here;\nNOTIFY here, 'first';\nSELECT 1;\nUNLISTEN *;\nNOTIFY here;\n",
    "several statements at once": "SELECT 1\\; SELECT 2\\; SELECT 1/0\\; SELECT 3;\nSELECT 4;\n",
}

NEW_SCRIPTS = {
    "\\bind": (
        "SELECT $1::int + $2::int AS sum \\bind 40 2 \\g\nSELECT $1 \\bind x \\g\n"
        "SELECT $1::int \\bind nonsense \\g\nINSERT INTO fruit VALUES ($1, $2) \\bind 9 fig \\g\n"
        "DELETE FROM fruit WHERE id = $1 RETURNING name \\bind 9 \\g\nSELECT 1 \\bind \\g\n"
        "BEGIN \\bind \\g\nSELECT 1/$1::int \\bind 0 \\g\nSELECT 2 \\bind \\g\nROLLBACK;\n"
    ),
    "\\parse and \\bind_named": (
        "SELECT name FROM fruit WHERE id = $1 \\parse by_id\n\\bind_named by_id 1 \\g\n"
        "\\bind_named by_id 3 \\g\nSELECT 1 \\parse by_id\n\\close_prepared by_id\n"
        "\\bind_named by_id 1 \\g\nSELECT nothing \\parse wrong\n\\bind_named wrong \\g\n"
        "\\close_prepared never_there\nSELECT 5 \\parse ''\n\\bind_named '' \\g\n"
    ),
    "pipelines": (
        "\\startpipeline\nSELECT $1::int \\bind 1 \\sendpipeline\nSELECT 2 \\bind \\sendpipeline\n"
        "\\flushrequest\n\\getresults\n\\syncpipeline\nSELECT 1/$1::int \\bind 0 \\sendpipeline\n"
        "SELECT 3 \\bind \\sendpipeline\n\\syncpipeline\nSELECT 4 \\bind \\sendpipeline\n"
        "\\endpipeline\nSELECT 5;\n"
    ),
    "\\watch": (
        "SELECT count(*) FROM fruit \\watch interval=0.05 count=3\n"
        "BEGIN;\nSELECT 'in a transaction' \\watch i=0.02 c=3\nCOMMIT;\n"
        "SELECT 1/0 \\watch i=0.02 c=3\nSELECT 1 WHERE false \\watch i=0.02 c=9 m=1\n"
    ),
    "rows in chunks": "\\set FETCH_COUNT 3\nSELECT n FROM generate_series(1, 10) n \\bind \\g\n",
}


@pytest.fixture(scope="module")
async def sides(provisioned: Provisioned, fresh_database: FreshDatabase) -> AsyncIterator[Sides]:
    url = await fresh_database("psql")
    await programs_here().done("psql", "-Xq", "-v", "ON_ERROR_STOP=1", url, stdin=CONTENT)
    async with both_sides(provisioned, url, POOL_MAX) as sides:
        yield sides


def alike(text: str) -> str:
    """What psql printed but for what can't be the same twice."""
    text = re.sub(r'user "\w+"', "user", text)
    text = re.sub(r'(port|PID) "?\d+"?', r"\1", text)
    text = re.sub(r"^\w{3} \w{3} +\d+ [\d:]+ \d{4} \(every", "(every", text, flags=re.MULTILINE)
    return re.sub(r"(lo_import|lo_unlink|LINE|object) \d{4,}", r"\1", text)


async def printed(programs: Programs, url: str, script: str) -> str:
    said = await programs.run("psql", "-X", "-a", url, stdin=script)
    return f"{alike(said.text)}exit {said.status}"


async def compare(programs: Programs, sides: Sides, script: str) -> str:
    """Run a script on both sides, which must print the same; what they printed."""
    direct = await printed(programs, sides.direct, script)
    through = await printed(programs, sides.through, script)
    assert through == direct, "\n".join(unified_diff(direct.splitlines(), through.splitlines()))
    return direct


@pytest.mark.parametrize("what", SCRIPTS)
async def test_prints_the_same(sides: Sides, what: str) -> None:
    await compare(programs_here(), sides, SCRIPTS[what])


@pytest.mark.parametrize("what", [*SCRIPTS, *NEW_SCRIPTS])
async def test_the_newest_prints_the_same(sides: Sides, what: str) -> None:
    await compare(newest_programs(), sides, (SCRIPTS | NEW_SCRIPTS)[what])


@pytest.mark.parametrize("kind", ["owner", "service"])
async def test_other_logins_print_the_same(sides: Sides, kind: str) -> None:
    """All scripts in one session."""
    everything = _BETWEEN.join((SCRIPTS | NEW_SCRIPTS).values())
    await compare(newest_programs(), replace(sides, through=sides.others[kind]), everything)


_BETWEEN = (
    "ROLLBACK;\n\\set AUTOCOMMIT on\n\\set ON_ERROR_ROLLBACK off\n\\unset FETCH_COUNT\n"
    "\\set VERBOSITY default\n"
)


# --- files -----------------------------------------------------------------------------------

FORMS = ("", "WITH (FORMAT csv, HEADER, NULL 'none')", "WITH (FORMAT binary)")


@pytest.mark.parametrize("form", FORMS)
async def test_copy_to_a_file_and_back(sides: Sides, form: str, tmp_path: Path) -> None:
    there, back, piped = (tmp_path / name for name in ("there", "back", "piped"))
    script = (
        f"\\copy fruit TO '{there}' {form}\n"
        f"CREATE TEMP TABLE again (LIKE fruit);\n\\copy again FROM '{there}' {form}\n"
        f"\\copy (SELECT * FROM again ORDER BY id) TO '{back}' {form}\n"
        "\\copy again FROM '/no/such/file'\n\\copy no_such_table FROM '/dev/null'\n"
        f"\\copy again (id) FROM '{there}'\nSELECT count(*) FROM again;\nDROP TABLE again;\n"
        f"\\copy (SELECT 1) TO PROGRAM 'cat >{piped}'\n\\copy fruit TO STDOUT\n"
    )
    text = await compare(programs_here(), sides, script)
    assert "COPY 5" in text
    assert there.read_bytes() == back.read_bytes() != b""
    assert piped.read_bytes() == b"1\n"


async def test_results_go_to_files(sides: Sides, tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("g", "o")]
    script = f"SELECT * FROM fruit \\g {files[0]}\n\\o {files[1]}\nSELECT 1;\n\\d fruit\n\\o\n"
    written = []
    for url in (sides.direct, sides.through):
        await printed(programs_here(), url, script)
        written.append([one.read_text() for one in files])
    assert written[0] == written[1]
    assert "apple" in written[0][0]


async def test_large_objects_are_imported_and_exported(sides: Sides, tmp_path: Path) -> None:
    """Each command is a transaction of many function calls, by the protocol's own message."""
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(bytes(range(256)) * 5_000)
    script = (
        f"\\lo_import '{source}' 'it is a comment'\n\\set id :LASTOID\n\\lo_export :id '{target}'\n"
        "SELECT count(*) FROM pg_largeobject_metadata WHERE oid = :id;\n"
        "BEGIN;\nSELECT lo_put(:id, 5, 'put');\nSELECT lo_get(:id, 3, 8);\nROLLBACK;\n"
        "SELECT lo_get(:id, 3, 8);\n\\lo_unlink :id\n\\lo_export :id '/dev/null'\n\\lo_list\n"
    )
    await compare(programs_here(), sides, script)
    assert target.read_bytes() == source.read_bytes()


# --- at a terminal ---------------------------------------------------------------------------


class Terminal:
    """psql as somebody types into it."""

    def __init__(self, url: str) -> None:
        self._ours, theirs = pty.openpty()
        self._process = subprocess.Popen(
            [programs_here().folder / "psql", "-X", url],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
            env={**os.environ, "TERM": "dumb", "PAGER": "cat", "PSQL_HISTORY": os.devnull},
        )
        os.close(theirs)
        self._unseen = ""

    def types(self, keys: str) -> None:
        os.write(self._ours, keys.encode())

    def shows(self, text: str, timeout_s: float = 20) -> str:
        """Wait until ``text`` has been shown; all that was shown since the last wait, up to it."""
        end = monotonic() + timeout_s
        while text not in self._unseen:
            ready, _, _ = select.select([self._ours], [], [], max(0, end - monotonic()))
            assert ready, f"{text!r} is not in {self._unseen!r}"
            self._unseen += os.read(self._ours, 65536).decode()
        shown, text, self._unseen = self._unseen.partition(text)
        return shown + text

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._ours)


def completed(url: str) -> list[list[str]]:
    """What psql makes of a TAB in several places, then of a Ctrl-C."""
    terminal = Terminal(url)
    try:
        terminal.shows("=# ")
        shown = []
        for line in (
            "TABLE fru\t;",
            "SELECT name FROM fruit WHERE pri\t> 1 ORDER BY id;",
            "SET work_\t= '5MB';",
            "SHOW work_\t;",
            "SELECT * FROM other.table_of\t;",
            "BEGIN;",
            "ALTER TABLE fruit RENAME COLUMN ki\tTO sort;",
            "SELECT 1/0;",
            "TABLE fru\t;",
            "ROLLBACK;",
        ):
            terminal.types(f"{line}\n")
            shown.append(terminal.shows("# "))
        terminal.types("SELECT pg_sleep(60);\n")
        terminal.shows("pg_sleep(60);")
        sleep(0.5)
        terminal.types("\x03")
        shown.append(terminal.shows("canceling statement due to user request"))
        terminal.shows("# ")
        terminal.types("SELECT 'alive' || 7;\n")
        shown.append(terminal.shows("alive7"))
        return [re.sub(r"[^ -~\n]|\w+=[*!]?# ", " ", one).split() for one in shown]
    finally:
        terminal.close()


async def test_tab_completion_and_interrupts_are_as_directly(sides: Sides) -> None:
    direct = await asyncio.to_thread(completed, sides.direct)
    assert await asyncio.to_thread(completed, sides.through) == direct


async def test_watch_goes_on_until_it_is_interrupted(sides: Sides) -> None:
    """The psql of any version: Ctrl-C ends the repetition, the session goes on."""

    def watched(url: str) -> None:
        terminal = Terminal(url)
        try:
            terminal.shows("=# ")
            terminal.types("SELECT 'turn' || 1 AS what \\watch 0.05\n")
            for _ in range(3):
                terminal.shows("turn1")
            terminal.types("\x03")
            terminal.types("SELECT 'over' || 1;\n")
            terminal.shows("over1")
        finally:
            terminal.close()

    for url in (sides.direct, sides.through):
        await asyncio.to_thread(watched, url)
