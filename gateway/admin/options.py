"""The settings as a flat list for people: each option with its default, and no secret."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import SecretStr
from pydantic.fields import FieldInfo

from gateway.settings.model import Section, Settings

SECRET = "********"
"""Stands for every password and database URL."""


@dataclass(frozen=True, slots=True)
class Option:
    """One option by its dotted place. ``default`` is None also for options that have none."""

    place: str
    value: str | None
    default: str | None
    changed: bool


def options_of(settings: Settings) -> Iterator[Option]:
    """Every option, in the order of the model; lists and names are written out."""
    yield from _below("", settings, ...)


def _below(place: str, value: object, default: Any) -> Iterator[Option]:
    parts = _parts(place, value)
    if parts is None:
        yield Option(place, _text(value), _text(default), value != default)
        return
    for deeper, inner, its_default in parts:
        yield from _below(deeper, inner, its_default)


def _parts(place: str, value: object) -> Iterator[tuple[str, object, Any]] | None:
    """What a section, a mapping or a list is made of, with defaults (``...`` for none)."""
    if isinstance(value, Section):
        dot = f"{place}." if place else ""
        fields = type(value).model_fields.items()
        return ((dot + name, getattr(value, name), _default(field)) for name, field in fields)
    if isinstance(value, Mapping):
        return ((f"{place}.{name}", inner, ...) for name, inner in value.items())
    if isinstance(value, list) and value:
        return ((f"{place}[{index}]", inner, ...) for index, inner in enumerate(value))
    return None


def _default(field: FieldInfo) -> Any:
    return ... if field.is_required() else field.get_default(call_default_factory=True)


def _text(value: object) -> str | None:
    if value is None or value is ...:
        return None
    if isinstance(value, SecretStr):
        return SECRET
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return "" if value == [] else str(value)
