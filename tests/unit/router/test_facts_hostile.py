"""Statements written to bring the parser down: the process lives, in little time and memory.

Each test runs a process of its own, on a stack a quarter of the usual size and with a bound on its
memory, so that a crash is a failed test and not the end of the test run.
"""

from __future__ import annotations

import subprocess
import sys

_PREAMBLE = """
import resource, threading, time
resource.setrlimit(resource.RLIMIT_AS, (3 << 30, 3 << 30))
from gateway.router import sqlparse
from gateway.router.facts import FactsCache

def ask(text, seconds=4.0):
    cache = FactsCache(100, 10_000_000)
    began = time.process_time()
    facts = cache.facts(text.encode())
    assert time.process_time() - began < seconds, text[:60]
    return facts

def main():
"""
_RUN = """
threading.stack_size(2 << 20)
thread = threading.Thread(target=main)
thread.start()
thread.join()
"""


def _in_a_process(body: str) -> str:
    indented = "".join(f"    {line}\n" for line in body.strip().splitlines())
    done = subprocess.run(
        [sys.executable, "-c", _PREAMBLE + indented + _RUN],
        capture_output=True,
        text=True,
        timeout=100,
    )
    last = done.stdout.splitlines()[-1:]
    assert done.returncode == 0, f"died with {done.returncode} at {last}: {done.stderr[-2000:]}"
    assert not done.stderr, f"failed at {last}: {done.stderr[-2000:]}"
    return done.stdout


# What is repeated, before it, and after it; {closing} is repeated as often as what is repeated.
NESTING = {
    "additions": ("SELECT 1", "+1", ""),
    "operators": ("SELECT a", "@b", ""),
    "concatenations": ("SELECT a", "||b", ""),
    "casts": ("SELECT 1", "::a", ""),
    "parentheses": ("SELECT ", "(", ")"),
    "parentheses, left open": ("", "(", ""),
    "cases": ("SELECT ", "CASE WHEN 1=1 THEN ", " END"),
    "negations": ("SELECT ", "NOT ", ""),
    "minus signs": ("SELECT ", "- ", ""),
    "arrays": ("SELECT ARRAY", "[", "]"),
    "subscripts": ("SELECT a", "[1]", ""),
    "fields": ("SELECT (a)", ".b", ""),
    "calls": ("SELECT ", "f(", ")"),
    "rows": ("SELECT ", "ROW(", ")"),
    "ands": ("SELECT 1", " AND 1", ""),
    "ors of ands": ("SELECT 1", " OR (1 AND 1)", ""),
    "joins": ("SELECT * FROM a", " JOIN a ON 1=1", ""),
    "cross joins": ("SELECT * FROM a", ",a", ""),
    "natural joins": ("SELECT * FROM a", " NATURAL JOIN a", ""),
    "unions": ("SELECT 1", " UNION SELECT 1", ""),
    "excepts": ("TABLE a", " EXCEPT TABLE a", ""),
    "subqueries": ("SELECT ", "(SELECT ", ")"),
    "parenthesised queries": ("", "(SELECT ", ")"),
    "subqueries in FROM": ("SELECT * FROM ", "(SELECT * FROM ", ") a"),
    "subqueries in WHERE": ("SELECT 1 WHERE ", "EXISTS (SELECT 1 WHERE ", ")"),
    "common table expressions": ("", "WITH a AS (", ") SELECT 1"),
    "time zones": ("SELECT a", " AT TIME ZONE b", ""),
    "collations": ("SELECT a", " COLLATE c", ""),
    "null tests": ("SELECT a", " ISNULL", ""),
    "explains": ("", "EXPLAIN ", ""),
    "prepares": ("", "PREPARE a AS ", ""),
    "schemas": ("", "CREATE SCHEMA a ", ""),
    "comments": ("SELECT 1 ", "/*", "*/"),
    "empty comments": ("SELECT 1 ", "/**/", ""),
    "comments of a line": ("SELECT 'a'", "--\n'a'", ""),
    "comments, left open": ("SELECT 1 ", "/*", ""),
    "statements": ("", "SELECT 1;", ""),
    "semicolons": ("", ";", ""),
    "quotes": ("SELECT ", "''", ""),
    "quotes, one over": ("SELECT '", "''", ""),
    "dollar quotes": ("SELECT ", "$a$", ""),
    "at signs": ("SELECT ", "@", ""),
    "json": ("SELECT ", "json_array(", ")"),
    "in lists": ("SELECT 1 WHERE 1 IN ", "(1 IN ", ")"),
    "merges": ("", "WITH a AS (MERGE INTO t USING s ON true WHEN MATCHED THEN DELETE) ", ""),
    "rules": ("", "CREATE RULE a AS ON INSERT TO t DO ALSO ", ""),
    "settings": ("SET a = 1", ",1", ""),
    "values": ("VALUES (1)", ",(1)", ""),
    "parameters": ("SELECT $1", ",$1", ""),
    "tenant keys": ("SELECT 1 FROM t WHERE \"userId\" = '1'", " OR \"userId\" = '1'", ""),
    "rows of an insert": ('INSERT INTO t ("userId") VALUES (1)', ",(1)", ""),
    "grouping sets": ("SELECT 1 GROUP BY ", "GROUPING SETS (", ")"),
}  # fmt: skip


def test_trap_anything_repeated_to_64_kib() -> None:
    _in_a_process(
        f"""
for what, (head, unit, tail) in {NESTING!r}.items():
    print(what, flush=True)
    for size in (2_000, 8_192, 8_300, 65_536):
        times = (size - len(head) - 1) // len(unit + tail)
        for inside in ("1", ""):
            text = head + unit * times + inside + tail * times
            assert len(text) <= sqlparse.TEXT_BYTES_MAX
            ask(text)
"""
    )


def test_trap_updates_of_several_columns_nested_do_not_take_all_memory() -> None:
    _in_a_process(
        """
text = "SELECT 1"
for _ in range(60):
    text = f"WITH x AS (UPDATE t SET (a, b) = ({text})) SELECT 1"
    ask(text, seconds=1.0)
    ask(text.replace("SET (", "SET/* ) = */("), seconds=1.0)
assert not ask(text).known
columns = ",".join(["c"] * 8000)
assert not ask(f"UPDATE t SET ({columns}) = ({columns})", seconds=1.0).known
upsert = "INSERT INTO t VALUES (1) ON CONFLICT (a) DO UPDATE SET"
assert not ask(f"{upsert} ({columns}) = ({columns})", seconds=1.0).known
assert ask("UPDATE t SET (a, b, c) = (1, 2, 3), (d, e) = (SELECT 1, 2) WHERE (a, b) = (1, 2)").known
"""
    )


def test_rows_named_again_and_again_are_not_read_each_time() -> None:
    _in_a_process(
        """
rows = ",(1)" * 7_000
again = ' AND l."userId" = v.x' * 1_400
ask(f"SELECT 1 FROM lead l, (VALUES (1){rows}) v(x) WHERE true{again}")
columns = ',"userId"' * 3_500
ask(f'INSERT INTO t ("userId"{columns}) VALUES (1){rows}')
ask(f'SELECT 1 FROM t WHERE ("userId"{columns}) IN ((1){rows})')
names = ",".join(f"a{n} AS (SELECT 1)" for n in range(3_000))
ask(f"WITH {names} SELECT 1")
"""
    )


def test_memory_does_not_grow_with_the_number_of_texts() -> None:
    out = _in_a_process(
        """
from gateway.router import facts
facts.UNPARSABLE_MAX = 1_000
cache = FactsCache(100, 400_000)
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
def round(start):
    for number in range(start, start + 2_000):
        cache.facts(b"SELECT a%d FROM t WHERE \\"userId\\" = '%d'" % (number, number))
        cache.facts(b"SELECT * FROM t WHERE \\"userId\\" = '%d'" % number)
        cache.facts(b"SELEC %d" % number)
        cache.facts(b"SELECT 'not closed %d" % number)
for start in range(0, 4_000, 2_000):
    round(start)
before = peak()
for start in range(10_000, 22_000, 2_000):
    round(start)
print(peak() - before)
"""
    )
    assert int(out) < 3_000, f"grew by {out} KiB"


def test_long_texts_leave_no_memory_or_threads_behind() -> None:
    out = _in_a_process(
        """
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
def round(start):
    for number in range(start, start + 8):
        ask(f"SELECT {number}" + "+1" * 30_000)
        ask(f"INSERT INTO t VALUES ({number})" + ",(1)" * 5_000)
round(0)
before = peak()
round(1_000)
print(peak() - before)
assert threading.active_count() == 2
"""
    )
    assert int(out) < 30_000, f"grew by {out} KiB"
