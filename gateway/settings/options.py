"""The model as something to walk over: which sections there are, and which options they have."""

from __future__ import annotations

import typing
from collections.abc import Iterator, Mapping

from gateway.settings.model import Section, Settings
from gateway.settings.problems import Path

# How one entry of a container is written in a dotted place.
_ENTRY: Mapping[object, str] = {list: "[]", dict: ".<NAME>"}


def section_within(annotation: object) -> type[Section] | None:
    """The section in an option's type: itself, or inside ``| None``, ``list`` or ``dict``."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return annotation
    for argument in typing.get_args(annotation):
        if found := section_within(argument):
            return found
    return None


def sections() -> Iterator[tuple[str, type[Section]]]:
    """Every section with its dotted place, ``<NAME>`` for an industry's; the whole file first."""
    yield "", Settings
    yield from _below("", Settings)


def _below(place: str, section: type[Section]) -> Iterator[tuple[str, type[Section]]]:
    for name, option in section.model_fields.items():
        if inner := section_within(option.annotation):
            deeper = f"{place}.{name}" if place else name
            deeper += _ENTRY.get(typing.get_origin(option.annotation), "")
            yield deeper, inner
            yield from _below(deeper, inner)


def section_at(path: Path) -> type[Section] | None:
    """The section whose options are named one step below ``path``; None where names are free."""
    kind: object = Settings
    for part in path:
        section = kind if isinstance(kind, type) and issubclass(kind, Section) else None
        if section is not None:
            option = section.model_fields.get(str(part))
            kind = option.annotation if option else None
        else:
            kind = section_within(kind)
    if isinstance(kind, type) and issubclass(kind, Section):
        return kind
    return section_within(kind) if typing.get_origin(kind) not in (list, dict) else None


def places_of(option: str) -> list[str]:
    """Dotted places of every option of this name, outside of industries."""
    return [
        f"{place}.{option}"
        for place, section in sections()
        if place and "<" not in place and option in section.model_fields
    ]
