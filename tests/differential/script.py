"""What clients do in a dialogue: the words of scripts, and how they read in a report."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from gateway.protocol import messages
from tests import wire
from tests.differential.talk import Owed, Part

_TEXT_SHOWN_MAX = 240
_RESETS = re.compile(
    r"RESET (ALL|TimeZone|DateStyle|application_name|work_mem|search_path|client_encoding)"
    r"|DISCARD ALL|TO DEFAULT|TIME ZONE LOCAL",
)


@dataclass(frozen=True, slots=True)
class Say:
    """Messages sent together, the last of which makes a server answer or carries copy data.

    ``cuts``: they reach the gateway in so many pieces more than one, wherever that cuts them.
    """

    parts: tuple[Part, ...]
    cuts: int = 0

    def __repr__(self) -> str:
        pieces = f"   -- in {self.cuts + 1} pieces" if self.cuts else ""
        return " | ".join(part.shown for part in self.parts) + pieces


class How(StrEnum):
    """How a client ends its connection."""

    GOODBYE = "says goodbye"
    FIN = "closes its socket"
    RST = "resets its connection"


@dataclass(frozen=True, slots=True)
class Leave:
    """The client leaves, after bytes that are never answered; its next words are a new one's."""

    how: How
    last: bytes = b""

    def __repr__(self) -> str:
        return f"{self.how}" + (f" after {shortened(repr(self.last))}" if self.last else "")


Step = Say | Leave


@dataclass(frozen=True, slots=True)
class Script:
    """Steps in order, each with its client's number; ``startup`` are the clients' settings."""

    steps: tuple[tuple[int, Step], ...]
    startup: tuple[dict[str, str], ...] = field(default=({}, {}, {}, {}))

    def __repr__(self) -> str:
        lines = [
            f"  {name_of(number)} connects with {settings}"
            for number, settings in enumerate(self.startup)
            if settings and any(client == number for client, _ in self.steps)
        ]
        lines += [
            f"  {at:2} {name_of(client)}: {step!r}" for at, (client, step) in enumerate(self.steps)
        ]
        return "\n" + "\n".join(lines)


def name_of(client: int) -> str:
    """A client's name in reports."""
    return "ABCDEFGH"[client]


def shortened(text: str) -> str:
    """Text that fits a line."""
    if len(text) <= _TEXT_SHOWN_MAX:
        return text
    return f"{text[:100]}... ({len(text)} characters)"


def allowed(step: Say, owed: Owed) -> Say:
    """The step as it can be taken now.

    In a copy PostgreSQL ends the connection on anything but copy data: the copy is ended first.
    And it crashes (15 does) when a portal of a failed transaction is executed.
    """
    parts = step.parts
    if owed.copying and parts[0].tag not in "dcf":
        return Say((COPY_DONE, *parts), step.cuts)
    if owed.status == "E" and _executes_older_portal(parts):
        return Say((SYNC,))
    return step


def _executes_older_portal(parts: Sequence[Part]) -> bool:
    """Whether a portal is executed that no Bind of the same batch makes."""
    bound: set[bytes] = set()
    for part in parts:
        portal = part.data[5:].split(b"\0", 1)[0]
        if part.tag in "SQ":
            bound.clear()
        elif part.tag == "B":
            bound.add(portal)
        elif part.tag == "E" and portal not in bound:
            return True
    return False


def without_later_portals(parts: Sequence[Part]) -> tuple[Part, ...]:
    """The parts but for those that execute a portal of an earlier batch, which may have failed."""
    first = next((at for at, part in enumerate(parts) if part.tag in "SQ"), len(parts))
    kept = list(parts[:first])
    for part in parts[first:]:
        if part.tag != "E" or not _executes_older_portal([*kept[first:], part]):
            kept.append(part)
    return tuple(kept)


def without_resets(step: Step, startup: dict[str, str]) -> Step:
    """The step but for resets that differ for a client with these settings: see the documents."""
    if isinstance(step, Leave) or not startup:
        return step
    listed = "search_path" in startup.get("options", "")
    parts = (
        query("SELECT 1") if _resets(part.shown, listed=listed) else part for part in step.parts
    )
    return Say(tuple(parts), step.cuts)


def _resets(text: str, *, listed: bool) -> bool:
    if "set_config('work_mem', $1" in text:
        return True
    return (listed or "; " in text) and bool(_RESETS.search(text))


# --- messages --------------------------------------------------------------------------------

SYNC = Part("Sync", messages.SYNC)
FLUSH = Part("Flush", messages.FLUSH)
COPY_DONE = Part("CopyDone", wire.COPY_DONE)


def query(sql: str) -> Part:
    """A simple Query."""
    return Part(f"Query {shortened(sql)!r}", messages.query(sql))


def parse(name: str, sql: str, types: Sequence[int] = ()) -> Part:
    """Parse."""
    kinds = f" types {list(types)}" if types else ""
    return Part(f'Parse "{name}" {shortened(sql)!r}{kinds}', wire.parse_(name, sql, types))


def bind(
    portal: str,
    name: str,
    parameters: Sequence[bytes | None] = (),
    *,
    binary: bool = False,
    binary_values: bool = False,
) -> Part:
    """Bind; results and parameters in text or binary."""
    values = f" {list(parameters)}" if parameters else ""
    how = " binary values" * binary_values + " binary" * binary
    data = wire.bind(name, parameters, portal, binary=binary, binary_values=binary_values)
    return Part(shortened(f'Bind "{portal}" to "{name}"{values}{how}'), data)


def describe(kind: str, name: str) -> Part:
    """Describe of a statement (``S``) or a portal (``P``)."""
    return Part(f'Describe {kind} "{name}"', wire.describe(kind, name))


def execute(portal: str, rows_max: int = 0) -> Part:
    """Execute."""
    limit = f" {rows_max} rows" if rows_max else ""
    return Part(f'Execute "{portal}"{limit}', wire.execute(portal, rows_max))


def close(kind: str, name: str) -> Part:
    """Close of a statement or a portal."""
    return Part(f'Close {kind} "{name}"', wire.close_(kind, name))


def copy_data(data: bytes) -> Part:
    """CopyData."""
    return Part(shortened(f"CopyData {data!r}"), wire.copy_data(data))


def copy_fail(reason: str) -> Part:
    """CopyFail."""
    return Part(f"CopyFail {reason!r}", wire.copy_fail(reason))


def function_call(oid: int, *arguments: bytes | None) -> Part:
    """FunctionCall in text."""
    return Part(f"FunctionCall {oid} {list(arguments)}", wire.function_call(oid, *arguments))


# --- steps -----------------------------------------------------------------------------------


def say(*parts: Part | str, cuts: int = 0) -> Say:
    """A step; a text is a Query."""
    return Say(tuple(query(one) if isinstance(one, str) else one for one in parts), cuts)


def run(sql: str, *parameters: bytes | None, name: str = "", portal: str = "") -> tuple[Part, ...]:
    """Parse, Bind, Describe, Execute, without a Sync."""
    return (
        parse(name, sql),
        bind(portal, name, parameters),
        describe("P", portal),
        execute(portal),
    )
