"""The C declarations beside the hot modules tell of all that their classes hold.

An attribute that is not declared works too, but is looked up in a dictionary each time.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import gateway

_PACKAGE = Path(gateway.__file__).parent
_CLASS = re.compile(r"^cdef class (\w+)", re.MULTILINE)
_ATTRIBUTE = re.compile(r"^    cdef (?:public |readonly )?\w+ (\w+)$", re.MULTILINE)


def _slots(source: Path) -> dict[str, set[str]]:
    """By class, the attributes that its ``__slots__`` or, of a dataclass, its fields name."""
    found: dict[str, set[str]] = {}
    for one in ast.parse(source.read_text()).body:
        if not isinstance(one, ast.ClassDef):
            continue
        is_data = any("dataclass" in ast.unparse(each) for each in one.decorator_list)
        for line in one.body:
            if is_data and isinstance(line, ast.AnnAssign):
                found.setdefault(one.name, set()).add(ast.unparse(line.target))
            if isinstance(line, ast.Assign) and ast.unparse(line.targets[0]) == "__slots__":
                found[one.name] = set(ast.literal_eval(line.value))
    return found


def _declared(declarations: Path) -> Iterator[tuple[str, set[str]]]:
    """By class, the attributes declared."""
    _, *classes = re.split(r"^(?=cdef class )", declarations.read_text(), flags=re.MULTILINE)
    for text in classes:
        name = _CLASS.search(text)
        assert name is not None
        yield name[1], set(_ATTRIBUTE.findall(text))


@pytest.mark.parametrize(
    "declarations", sorted(_PACKAGE.rglob("*.pxd")), ids=lambda path: str(path.name)
)
def test_every_slot_is_declared(declarations: Path) -> None:
    slots = _slots(declarations.with_suffix(".py"))
    for name, declared in _declared(declarations):
        missing = slots.get(name, set()) - declared
        assert not missing, f"{declarations.name} lacks attributes of {name}: {sorted(missing)}"
