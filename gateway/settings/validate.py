"""Plain values to Settings, with every mistake found at once and told in plain words."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Collection, Mapping
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from gateway.settings.checks import cross_checks
from gateway.settings.model import INDUSTRIES, NAME_PATTERN, SLOTS_PATTERN, Settings
from gateway.settings.options import places_of, section_at
from gateway.settings.problems import Path, Problem, did_you_mean

ERRORS_MAX = 1000
"""Mistakes put into words at most; it takes a moment each."""

# Takes the place of what is spoiled, so that the rest can be checked.
_STAND_IN = {"primary": "postgresql://unknown@unknown/"}
# What pydantic says when text is wanted and something else, such as a number, is there.
_WANTS_TEXT = frozenset({"string_type", "literal_error", "enum"})
# What it says when a block is wanted; an empty one reads as null.
_WANTS_BLOCK: Mapping[str, type[dict[str, Any]] | type[list[Any]]] = {
    "model_type": dict,
    "model_attributes_type": dict,
    "dict_type": dict,
    "list_type": list,
}
_PATTERNS = {
    NAME_PATTERN: "should be made of letters, digits, '_' and '-', and start with a letter",
    SLOTS_PATTERN: "should be ranges such as 0-511 or 0-99,200-299",
}


def validate(
    value: object, texts: Mapping[Path, str], broken: Collection[Path]
) -> tuple[Settings | None, list[Problem]]:
    """The settings in ``value``, or what is wrong with them.

    ``texts`` says how unquoted values were written, for options that want text. ``broken`` are
    places that the reader has reported already; nothing is said about them again.
    """
    settings, errors = _typed(value)
    if errors:
        value = _as_wanted(value, errors, texts)
        settings, errors = _typed(value)
    problems = [_problem(error, value) for error in errors[:ERRORS_MAX]]
    sound = settings
    if sound is None:
        spoiled = {problem.path for problem in problems} | set(broken)
        sound, _ = _typed(_without(value, spoiled))
    if sound is not None:
        problems += cross_checks(sound)
    problems = [problem for problem in problems if not _within(problem.path, broken)]
    return (None if problems or broken else settings), problems


def _typed(value: object) -> tuple[Settings | None, list[ErrorDetails]]:
    """JSON is pydantic's strict way of reading what came from a file."""
    try:
        return Settings.model_validate_json(json.dumps(value), strict=True), []
    except ValidationError as error:
        return None, error.errors(include_url=False, include_input=False)


def _as_wanted(
    value: object, errors: list[ErrorDetails], texts: Mapping[Path, str]
) -> dict[str, Any]:
    """``value`` with text where text is wanted, and empty blocks for blocks left empty."""
    value = copy.deepcopy(value)
    for error in errors:
        path = error["loc"]
        if error["type"] in _WANTS_TEXT and path in texts:
            _put(value, path, texts[path])
        elif (empty := _WANTS_BLOCK.get(error["type"])) and _get(value, path) is None:
            _put(value, path, empty())
    return value  # type: ignore[return-value]


def _without(value: object, spoiled: Collection[Path]) -> object:
    """``value`` with the spoiled places gone, so that the rest can still be checked."""
    value = copy.deepcopy(value)
    for path in spoiled:
        match path:
            case ("meta", *_):
                _put(value, ("meta",), dict(_STAND_IN))
            case ("industries", str(name), *_):
                _remove(value, ("industries", name))
            case ("operator_role" | "hub" as section, *_):
                _remove(value, (section,))
            case _:
                _remove(value, path)
    if not _get(value, ("industries",)):
        _put(value, ("industries",), {"unknown": {"shards": [dict(_STAND_IN)]}})
    return value


def _get(value: Any, path: Path) -> Any:
    for part in path:
        if isinstance(value, dict) and isinstance(part, str):
            value = value.get(part)
        elif isinstance(value, list) and isinstance(part, int) and part < len(value):
            value = value[part]
        else:
            return None
    return value


def _put(value: Any, path: Path, new: object) -> None:
    block = _get(value, path[:-1])
    if path and isinstance(block, dict | list):
        block[path[-1]] = new  # type: ignore[index]


def _remove(value: Any, path: Path) -> None:
    block = _get(value, path[:-1])
    if path and isinstance(block, dict):
        block.pop(path[-1], None)


def _within(path: Path, places: Collection[Path]) -> bool:
    return any(path[:length] in places for length in range(len(path) + 1))


def _problem(error: ErrorDetails, value: object) -> Problem:
    path = error["loc"]
    if path[-1:] == ("[key]",) and _get(value, path) is None:
        return Problem(path[:-1], _message(error, value), on_key=True)
    return Problem(path, _message(error, value), on_key=error["type"] == "extra_forbidden")


def _message(error: ErrorDetails, value: object) -> str:
    """One mistake in words; of what stands in the file, only the names of options are used."""
    words = _WORDS.get(error["type"])
    if words is None:
        return error["msg"]
    return words(error.get("ctx", {}), error["loc"], value)


_Words = Callable[[dict[str, Any], Path, object], str]


def _fixed(text: str) -> _Words:
    return lambda ctx, path, value: text


def _unknown(ctx: dict[str, Any], path: Path, value: object) -> str:
    name = str(path[-1])
    section = section_at(path[:-1])
    siblings = list(section.model_fields) if section else []
    meant = did_you_mean(name, siblings)
    if not meant and len(path) == 1:
        meant = did_you_mean(name, INDUSTRIES, under="industries.")
    if not meant and (elsewhere := places_of(name)):
        meant = f" (did you mean '{elsewhere[0]}'?)"
    return f"unknown option{meant}"


def _one_of(ctx: dict[str, Any], path: Path, value: object) -> str:
    known = [word.strip("'") for word in str(ctx["expected"]).replace(" or ", ", ").split(", ")]
    written = _get(value, path)
    meant = did_you_mean(written, known) if isinstance(written, str) else ""
    return f"should be one of {', '.join(known)}{meant}"


_WORDS: Mapping[str, _Words] = {
    "missing": _fixed("is required"),
    "extra_forbidden": _unknown,
    "enum": _one_of,
    "literal_error": _one_of,
    "int_type": _fixed("should be a whole number"),
    "int_from_float": _fixed("should be a whole number"),
    "float_type": _fixed("should be a number"),
    "bool_type": _fixed("should be true or false"),
    "string_type": _fixed("should be text"),
    "model_type": _fixed("should be a block of options"),
    "model_attributes_type": _fixed("should be a block of options"),
    "dict_type": _fixed("should be a block of names"),
    "list_type": _fixed("should be a list"),
    "too_short": _fixed("should have at least one entry"),
    "string_too_short": _fixed("should not be empty"),
    "string_too_long": lambda ctx, path, value: f"should have at most {ctx['max_length']} letters",
    "string_pattern_mismatch": lambda ctx, path, value: _PATTERNS[ctx["pattern"]],
    "greater_than_equal": lambda ctx, path, value: f"should be at least {ctx['ge']}",
    "greater_than": lambda ctx, path, value: f"should be more than {ctx['gt']:g}",
    "less_than_equal": lambda ctx, path, value: f"should be at most {ctx['le']:.15g}",
    "database_url": lambda ctx, path, value: str(ctx["reason"]),
}
