"""A statement as operators may be shown it: shortened, and without the values in it.

Constants may be somebody's data or a password, comments anything; neither is shown. Where what is a
constant can't be told for sure, only the verb is.
"""

from __future__ import annotations

from typing import Final

from gateway.protocol.octets import replaced
from gateway.router.facts import Facts
from gateway.router.sqlparse import COMMENTS, CONSTANTS, Unparsable, scan

READ_MAX_BYTES: Final = 8 * 1024
"""Of a longer text only the verb is shown: to scan it would take too long."""

_SHOWN_MAX: Final = 200
_INSTEAD: Final = dict.fromkeys(COMMENTS, b" ") | dict.fromkeys(CONSTANTS, b"?")


def gist(facts: Facts, text: bytes) -> str:
    """At most 200 characters, with ``?`` for each constant. What is behind a NUL is not read."""
    text = text.partition(b"\0")[0]
    shown = _without_values(text) if facts.known and len(text) <= READ_MAX_BYTES else ""
    if not shown:
        return f"{facts.first} ..."
    return shown if len(shown) <= _SHOWN_MAX else f"{shown[: _SHOWN_MAX - 3]}..."


def _without_values(text: bytes) -> str:
    """Empty when it can't be told what is a value: settings decide what a backslash means."""
    if b"\\" in text:
        return ""
    try:
        marks = scan(text).marks
    except Unparsable:
        return ""
    return " ".join(replaced(text, marks, _INSTEAD).decode("utf-8", "replace").split())
