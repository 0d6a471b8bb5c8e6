"""The C declarations beside the hot modules tell of all that their classes hold.

One that is missing would be an error only when it is first set, in compiled code.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import gateway

_PACKAGE = Path(gateway.__file__).parent
_CLASS = re.compile(r"^cdef class (\w+)", re.MULTILINE)
_BASE = re.compile(r"^cdef class \w+\((\w+)\)", re.MULTILINE)
_ATTRIBUTE = re.compile(r"^    cdef (?:public |readonly )?\w+ (\w+)$", re.MULTILINE)


def _slots(source: Path) -> dict[str, set[str]]:
    """By class, the attributes that it sets, or that ``__slots__`` or a dataclass's fields name."""
    found: dict[str, set[str]] = {}
    for one in ast.parse(source.read_text()).body:
        if not isinstance(one, ast.ClassDef):
            continue
        found[one.name] = _set_in(one)
        is_data = any("dataclass" in ast.unparse(each) for each in one.decorator_list)
        for line in one.body:
            if is_data and isinstance(line, ast.AnnAssign):
                found[one.name].add(ast.unparse(line.target))
            if isinstance(line, ast.Assign) and ast.unparse(line.targets[0]) == "__slots__":
                found[one.name] |= set(ast.literal_eval(line.value))
    return found


def _set_in(one: ast.ClassDef) -> set[str]:
    """What its methods assign to ``self``."""
    return {
        node.attr
        for node in ast.walk(one)
        if isinstance(node, ast.Attribute)
        and isinstance(node.ctx, ast.Store)
        and ast.unparse(node.value) == "self"
    }


def _classes(declarations: Path) -> dict[str, str]:
    """The declarations of each class."""
    _, *texts = re.split(r"^(?=cdef class )", declarations.read_text(), flags=re.MULTILINE)
    return {name[1]: text for text in texts if (name := _CLASS.match(text)) is not None}


_ALL = {name: text for each in _PACKAGE.rglob("*.pxd") for name, text in _classes(each).items()}


def _declared(text: str) -> set[str]:
    """The attributes declared of a class, those of its base too."""
    base = _BASE.match(text)
    inherited = _declared(_ALL[base[1]]) if base is not None else set()
    return inherited | set(_ATTRIBUTE.findall(text))


_BESIDE_PYTHON = [one for one in _PACKAGE.rglob("*.pxd") if not one.with_suffix(".pyx").exists()]
"""Those of a .pyx belong to it, not to the interpreted module of that name."""


@pytest.mark.parametrize("declarations", sorted(_BESIDE_PYTHON), ids=lambda path: str(path.name))
def test_every_slot_is_declared(declarations: Path) -> None:
    slots = _slots(declarations.with_suffix(".py"))
    for name, text in _classes(declarations).items():
        missing = slots.get(name, set()) - _declared(text)
        assert not missing, f"{declarations.name} lacks attributes of {name}: {sorted(missing)}"
