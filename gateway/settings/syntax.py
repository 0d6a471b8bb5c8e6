"""YAML text to nodes, bounded in depth and number; and syntax errors without quotes from the text.

PyYAML reads the syntax. What it says of an error may quote a part of a password, so its words are
taken and its quotations are not.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import yaml
from yaml.composer import Composer
from yaml.error import Mark
from yaml.parser import Parser
from yaml.reader import Reader, ReaderError
from yaml.resolver import BaseResolver
from yaml.scanner import Scanner

DEPTH_MAX = 32
NODES_MAX = 50_000
"""Values in one file. Who follows aliases counts them again at each."""

PLAIN = "plain"
QUOTED = "quoted"
MAPPING = "mapping"
SEQUENCE = "sequence"
"""Tags of nodes that the file gives none; a scalar's only tells whether it was quoted."""

TOO_DEEP = "blocks are nested too deeply"
TOO_MANY = "the file holds too many values"


@dataclass(frozen=True, slots=True)
class Position:
    """Line and column, both counted from 1."""

    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.line}:{self.column}"


class Unreadable(Exception):
    """The text can't be read any further."""

    def __init__(self, position: Position, message: str) -> None:
        super().__init__(message)
        self.position = position
        self.message = message


class _Loader(Reader, Scanner, Parser, Composer, BaseResolver):
    """PyYAML up to nodes: bounded in depth, and leaving the types of scalars to us."""

    def __init__(self, text: str) -> None:
        Reader.__init__(self, text)
        Scanner.__init__(self)
        Parser.__init__(self)
        Composer.__init__(self)
        BaseResolver.__init__(self)
        self._depth = 0
        self._nodes = 0

    def compose_node(self, parent: yaml.Node | None, index: object) -> yaml.Node | None:
        self._depth += 1
        self._nodes += 1
        if self._depth > DEPTH_MAX or self._nodes > NODES_MAX:
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise Unreadable(position_of(mark), TOO_DEEP if self._depth > DEPTH_MAX else TOO_MANY)
        node = super().compose_node(parent, index)  # type: ignore[arg-type]
        self._depth -= 1
        return node

    def resolve(self, kind: type[yaml.Node], value: object, implicit: object) -> str:
        """The tag of a node without one."""
        if kind is not yaml.ScalarNode:
            return MAPPING if kind is yaml.MappingNode else SEQUENCE
        return PLAIN if isinstance(implicit, tuple) and implicit[0] else QUOTED


def compose(text: str) -> yaml.Node | None:
    """The one document of ``text``, None when it has none. Raises Unreadable."""
    try:
        return _Loader(text).get_single_node()
    except ReaderError as error:
        before = text[: error.position]
        at = Position(before.count("\n") + 1, error.position - before.rfind("\n"))
        raise Unreadable(at, "a control character can't be used here") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise Unreadable(position_of(mark), _syntax_message(error)) from None
    except (yaml.YAMLError, ValueError, OverflowError):
        # PyYAML lets a few oversized numbers of escapes and directives through to int() and chr().
        raise Unreadable(Position(1, 1), "is not valid YAML") from None


def _syntax_message(error: yaml.MarkedYAMLError) -> str:
    """PyYAML's words, less whatever they quote from the text: it may be part of a password."""
    problem = error.problem or "unexpected text"
    if r"'\t'" in problem:
        return "a tab can't be used here; indent with spaces"
    if "undefined alias" in problem:
        return "no such anchor above; a value that starts with '*' should be put in quotes"
    if "another document" in problem or "single document" in (error.context or ""):
        return "a file should hold one YAML document"
    problem = re.sub(r"""(, but)? (found|got) (['"])(?!<).*\3""", "", problem)
    problem = re.sub(r"""(?<= character) (['"]).*\1""", "", problem)
    problem = re.sub(r"""(['"])(?!<).*\1""", "another character", problem)
    return f"is not valid YAML: {problem}; text with special characters should be put in quotes"


def position_of(mark: Mark | None) -> Position:
    """A mark of PyYAML, which counts from 0, as a position."""
    return Position(mark.line + 1, mark.column + 1) if mark else Position(1, 1)
