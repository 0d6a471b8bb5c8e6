"""docs/traps.md names a test for every trap; what it and the two -shown.md name exists."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
DOCUMENT = (TESTS.parent / "docs" / "traps.md").read_text()
SHOWN = ("routing-shown.md", "transparency-shown.md")

CLOSED = ("Who gets in", "Somebody else's rows", "State", "Cancel", "Routing", "Met here")
MAY_BE_OPEN = ("Pools and failover", "Moving data")
TRAPS_MIN = {
    "Who gets in": 9,
    "Somebody else's rows": 8,
    "State": 5,
    "Cancel": 2,
    "Routing": 5,
    "Met here": 9,
}
"""As many as there are: a row is never removed."""


def _sections() -> dict[str, list[tuple[str, str]]]:
    """The rows (trap, tests) of each section."""
    sections: dict[str, list[tuple[str, str]]] = {}
    for line in DOCUMENT.splitlines():
        if line.startswith("## "):
            rows = sections.setdefault(line[3:], [])
        elif line.startswith("| ") and not line.startswith("| trap |"):
            trap, tests = line.strip("| ").split(" | ")
            rows.append((trap, tests))
    return sections


ROWS = [(name, *row) for name, rows in _sections().items() for row in rows]


@cache
def _tests_of(path: Path) -> frozenset[str]:
    """The test ids in a file, without parameters."""
    found = set()
    for node in ast.parse(path.read_text()).body:
        names = [f"{node.name}::"] if isinstance(node, ast.ClassDef) else [""]
        inside = node.body if isinstance(node, ast.ClassDef) else [node]
        found |= {
            names[0] + one.name
            for one in inside
            if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef)
            and one.name.startswith("test")
        }
    return frozenset(found)


def test_all_sections_are_there_with_all_their_traps() -> None:
    sections = _sections()
    assert set(sections) == {*CLOSED, *MAY_BE_OPEN}
    for name, least in TRAPS_MIN.items():
        assert len(sections[name]) >= least, name


@pytest.mark.parametrize(("section", "trap", "tests"), ROWS, ids=[row[1][:40] for row in ROWS])
def test_a_trap_has_tests_that_exist(section: str, trap: str, tests: str) -> None:
    if tests == "open":
        assert section in MAY_BE_OPEN
        return
    ids = re.findall(r"`([^`]+)`", tests)
    assert ids
    for one in ids:
        path, _, name = one.partition("::")
        assert name in _tests_of(TESTS / path), one


@pytest.mark.parametrize("document", SHOWN)
def test_what_is_said_to_show_it_exists(document: str) -> None:
    text = (TESTS.parent / "docs" / document).read_text()
    ids = re.findall(r"`([^`]+\.py)::([^`]+)`", text)
    assert len(ids) > 50
    missing = [(path, name) for path, name in ids if name not in _tests_of(TESTS / path)]
    assert not missing
