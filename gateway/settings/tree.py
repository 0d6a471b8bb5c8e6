"""YAML nodes to plain values, with the line and column that each came from.

Here it is decided what a file means: YAML 1.2's core types, ``${VAR}`` references, merge keys, no
key twice, no tags.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import yaml

from gateway.settings.interpolate import interpolate
from gateway.settings.problems import Path, Problem, dotted
from gateway.settings.syntax import (
    DEPTH_MAX,
    MAPPING,
    NODES_MAX,
    PLAIN,
    QUOTED,
    SEQUENCE,
    TOO_DEEP,
    TOO_MANY,
    Position,
    Unreadable,
    compose,
    position_of,
)

_MERGE = "<<"
_TAGS = frozenset({PLAIN, QUOTED, MAPPING, SEQUENCE, "tag:yaml.org,2002:str"})
_CONSTANTS: Mapping[str, bool | None] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_INT = re.compile(r"[-+]?[0-9]{1,18}")
_FLOAT = re.compile(r"[-+]?(\.[0-9]{1,40}|[0-9]{1,40}(\.[0-9]{0,40})?)([eE][-+]?[0-9]{1,3})?")


@dataclass(frozen=True, slots=True)
class Place:
    """Where an option stands. ``text`` is what an unquoted value says, references replaced."""

    key: Position | None
    value: Position
    text: str | None = field(default=None, repr=False)


@dataclass(slots=True)
class Tree:
    """One file: its values, the place of each, and what was found wrong while reading.

    ``broken`` are the paths whose values could not be read; nothing more is to be said of them.
    """

    name: str
    value: object = field(default=None, repr=False)
    places: dict[Path, Place] = field(default_factory=dict)
    broken: set[Path] = field(default_factory=set)
    found: list[tuple[Position, Problem]] = field(default_factory=list)

    @property
    def texts(self) -> dict[Path, str]:
        """The unquoted values, as text."""
        return {path: place.text for path, place in self.places.items() if place.text is not None}

    def lines(self, problems: list[Problem]) -> list[str]:
        """``file:line:column: option: what is wrong``, for these and the found ones, in order."""
        located = [*self.found, *((self._position(problem), problem) for problem in problems)]
        located.sort(key=lambda item: (item[0].line, item[0].column))
        return [self._line(position, problem) for position, problem in located]

    def _position(self, problem: Problem) -> Position:
        """Of the option, or of the nearest block around it when the option itself is not there."""
        path = problem.path
        while path not in self.places:
            path = path[:-1]
        place = self.places[path]
        if place.key and (problem.on_key or path != problem.path):
            return place.key
        return place.value

    def _line(self, position: Position, problem: Problem) -> str:
        option = dotted(problem.path)
        return f"{self.name}:{position}: {option}{': ' if option else ''}{problem.message}"


def parse(name: str, text: str, environ: Mapping[str, str]) -> Tree:
    """The tree of a YAML text. ``name`` is the file's, for the messages.

    Never raises: a text that is no YAML gives a tree with the one problem that stopped the reading,
    whose ``broken`` holds the empty path.
    """
    tree = Tree(name)
    tree.places[()] = Place(None, Position(1, 1))
    try:
        node = compose(text)
        _Builder(tree, environ).build(node)
    except Unreadable as error:
        tree.broken.add(())
        tree.found = [(error.position, Problem((), error.message))]
    return tree


def typed(text: str) -> object:
    """An unquoted scalar by YAML 1.2's core schema: null, true, false, a number, or text."""
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    if _INT.fullmatch(text):
        return int(text)
    if _FLOAT.fullmatch(text) and math.isfinite(number := float(text)):
        return number
    return text


def is_text(text: str) -> bool:
    """No NUL, and no lone surrogate such as an undecodable byte of the environment becomes."""
    return not re.search("[\0\ud800-\udfff]", text)


class _Builder:
    """Fills one tree from the nodes of its text."""

    def __init__(self, tree: Tree, environ: Mapping[str, str]) -> None:
        self._tree = tree
        self._environ = environ
        self._nodes_left = NODES_MAX

    def build(self, node: yaml.Node | None) -> None:
        if node is None or (node.tag == PLAIN and typed(node.value) is None):
            raise Unreadable(Position(1, 1), "the file is empty")
        if not isinstance(node, yaml.MappingNode):
            message = "the file should be a block of options, such as 'listen:'"
            raise Unreadable(position_of(node.start_mark), message)
        self._tree.value = self._value((), node, None)

    def _value(self, path: Path, node: yaml.Node, key: Position | None) -> object:
        self._spend(node, len(path))
        position = position_of(node.start_mark)
        if node.tag not in _TAGS:
            self._tree.places[path] = Place(key, position)
            return self._broken(path, position, "YAML tags (!...) are not used here")
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(path, node, key)
        self._tree.places[path] = Place(key, position)
        if isinstance(node, yaml.MappingNode):
            return self._mapping(path, node)
        return [self._value((*path, n), item, None) for n, item in enumerate(node.value)]

    def _scalar(self, path: Path, node: yaml.ScalarNode, key: Position | None) -> object:
        plain = node.tag == PLAIN
        position = position_of(node.start_mark)
        try:
            text = interpolate(node.value, self._environ)
        except ValueError as error:
            self._tree.places[path] = Place(key, position)
            return self._broken(path, position, str(error))
        if not is_text(text):
            self._tree.places[path] = Place(key, position)
            return self._broken(path, position, "is not valid text")
        self._tree.places[path] = Place(key, position, text if plain else None)
        return typed(text) if plain else text

    def _mapping(self, path: Path, node: yaml.MappingNode) -> dict[str, object]:
        value: dict[str, object] = {}
        merged: list[yaml.Node] = []
        for key_node, value_node in node.value:
            position = position_of(key_node.start_mark)
            if _is_merge(key_node):
                merged.append(value_node)
                continue
            name = key_node.value
            if not isinstance(name, str) or not is_text(name):
                self._find(path, position, "the name of an option should be plain text")
            elif name in value:
                self._find((*path, name), position, "is written twice")
            else:
                value[name] = self._value((*path, name), value_node, position)
        for name, key_node, value_node in self._merged(path, merged, 0):
            if name not in value:
                position = position_of(key_node.start_mark)
                value[name] = self._value((*path, name), value_node, position)
        return value

    def _merged(
        self, path: Path, sources: list[yaml.Node], depth: int
    ) -> Iterator[tuple[str, yaml.Node, yaml.Node]]:
        """What merge keys bring in, nearest first; mistakes in it are found at its anchor."""
        for source in sources:
            self._spend(source, depth)
            if isinstance(source, yaml.SequenceNode):
                yield from self._merged(path, source.value, depth + 1)
            elif isinstance(source, yaml.MappingNode):
                yield from self._own_then_merged(path, source, depth + 1)
            else:
                position = position_of(source.start_mark)
                self._find(path, position, "'<<' should be followed by an alias of a block")

    def _own_then_merged(
        self, path: Path, source: yaml.MappingNode, depth: int
    ) -> Iterator[tuple[str, yaml.Node, yaml.Node]]:
        inner: list[yaml.Node] = []
        for key_node, value_node in source.value:
            if _is_merge(key_node):
                inner.append(value_node)
            elif isinstance(key_node.value, str) and is_text(key_node.value):
                yield key_node.value, key_node, value_node
        yield from self._merged(path, inner, depth)

    def _spend(self, node: yaml.Node, depth: int) -> None:
        """Bounds what aliases multiply, and ends an alias that contains itself."""
        self._nodes_left -= 1
        if depth > DEPTH_MAX:
            raise Unreadable(position_of(node.start_mark), TOO_DEEP)
        if self._nodes_left < 0:
            raise Unreadable(position_of(node.start_mark), TOO_MANY)

    def _broken(self, path: Path, position: Position, message: str) -> object:
        """Reports a value that can't be read; None stands in for it."""
        self._tree.broken.add(path)
        self._find(path, position, message)
        return None

    def _find(self, path: Path, position: Position, message: str) -> None:
        self._tree.found.append((position, Problem(path, message)))


def _is_merge(key: yaml.Node) -> bool:
    return key.tag == PLAIN and key.value == _MERGE
