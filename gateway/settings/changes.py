"""What a reload changes: each option that differs, old and new, without secrets. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from pydantic import SecretStr

from gateway.settings import dsn
from gateway.settings.model import Section, Settings

NEED_RESTART = (
    "directory",
    "http",
    "listen.backlog",
    "listen.host",
    "listen.port",
    "listen.unix_socket_dir",
    "meta.primary",
    "runtime_dir",
    "transport",
    "workers",
)
"""Options, and sections, that a running gateway does not follow, or not with all of its parts."""

_ADDED, _REMOVED, _SECRET = "added", "removed", "changed"
_PASSWORD = "password"


@dataclass(frozen=True, slots=True)
class Change:
    """One option by its dotted place, and what became of it in words. Holds no secret."""

    place: str
    what: str

    @property
    def needs_restart(self) -> bool:
        """Whether a running gateway goes on as before."""
        return any(
            self.place == one or self.place.startswith((f"{one}.", f"{one}["))
            for one in NEED_RESTART
        )

    def __str__(self) -> str:
        note = " (needs a restart)" if self.needs_restart else ""
        return f"{self.place}: {self.what}{note}"


def changes(before: Settings, after: Settings) -> list[Change]:
    """What differs, in the order of the model."""
    return list(_between("", before, after))


def described(before: Settings, after: Settings) -> list[str]:
    """The same, a line each."""
    return [str(change) for change in changes(before, after)]


def _between(place: str, before: object, after: object) -> Iterator[Change]:
    if before == after:
        return
    if isinstance(before, Section) and isinstance(after, Section):
        dot = f"{place}." if place else ""
        for name in type(after).model_fields:
            yield from _between(dot + name, getattr(before, name), getattr(after, name))
    elif isinstance(before, Mapping) and isinstance(after, Mapping):
        yield from _entries(f"{place}.", "", before, after)
    elif isinstance(before, list) and isinstance(after, list) and _of_parts([*before, *after]):
        old: dict[object, object] = dict(enumerate(before))
        new: dict[object, object] = dict(enumerate(after))
        yield from _entries(f"{place}[", "]", old, new)
    elif place.endswith(_PASSWORD):
        yield Change(place, _SECRET)
    else:
        yield Change(place, _replaced(_text(before), _text(after)))


def _of_parts(entries: list[object]) -> bool:
    """Whether each entry has a place of its own: sections and URLs, not plain names."""
    return all(isinstance(entry, Section | SecretStr) for entry in entries)


def _entries(
    opening: str, closing: str, before: Mapping[object, object], after: Mapping[object, object]
) -> Iterator[Change]:
    for key in dict.fromkeys((*before, *after)):
        place = f"{opening}{key}{closing}"
        if key not in before:
            yield Change(place, _with(_ADDED, after[key]))
        elif key not in after:
            yield Change(place, _with(_REMOVED, before[key]))
        else:
            yield from _between(place, before[key], after[key])


def _with(word: str, value: object) -> str:
    """An entry that came or went, with its text where it has one."""
    text = "" if isinstance(value, Section) else _text(value)
    return f"{word} ({text})" if text else word


def _replaced(before: str, after: str) -> str:
    return _SECRET if before == after else f"{before} -> {after}"


def _text(value: object) -> str:
    if isinstance(value, SecretStr):
        return _place(value)
    if isinstance(value, Section):
        return "set"
    if isinstance(value, list):
        return ", ".join(map(_text, value)) or "none"
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None or value == "":
        return "none"
    if isinstance(value, float):
        return f"{value:g}"
    return str(value)


def _place(secret: SecretStr) -> str:
    """Where a database URL leads, and as whom."""
    url = dsn.parse(secret.get_secret_value())
    return f"{url.user}@{url.place}"
