"""Hints in comments: ``/* owner='123' */ SELECT ...`` and ``SELECT ... /*owner='123'*/``.

Only comments before the first token or after the last one count (semicolons at the end aside), and
only those that are nothing but a list of hints: ``key='value'`` separated by commas or blanks,
where values are URL-encoded as sqlcommenter's are, or the bare word ``scatter``. So prose never
counts, nor does anything inside a literal, a quoted identifier or a comment between tokens.
"""

from __future__ import annotations

from typing import Final
from urllib.parse import unquote

from gateway.errors import NoRoute
from gateway.router import sqlparse

KEYS: Final = frozenset(("owner", "industry", "role", "source"))
"""Hints that take a value. Other keys (traceparent, framework, ...) are somebody else's."""
SOURCE: Final = "source"
"""Of a scattered read: the name of a column that says where each row is from."""
SCATTER: Final = "scatter"
"""The hint without a value; in the answer its value is empty."""
TRAILING_TEXT_BYTES_MAX: Final = 1 << 20
"""Hints at the end of a longer text are refused: telling them takes a scan of all of it."""

_SPACE: Final = b" \t\n\r\f\v"
_SEPARATORS: Final = " \t\n\r\f\v,"


def hint(text: bytes) -> dict[str, str]:
    """The hints of a statement text; empty for most, at next to no cost.

    Raises:
        NoRoute: two values for one key, or a hint at the end of a text too long to look at.
    """
    leading = text.lstrip(_SPACE).startswith((b"/*", b"--"))
    trailing = b"--" in text or text.rstrip(_SPACE + b";").endswith(b"*/")
    if not leading and not trailing:
        return {}
    found: dict[str, str] = {}
    at = 0
    if leading:
        comments, at = _leading(text)
        for comment in comments:
            _merge(found, _read(comment))
    if trailing and at < len(text):
        for comment in _trailing(text):
            _merge(found, _read(comment))
    return found


def _leading(text: bytes) -> tuple[list[bytes], int]:
    """The comments before the first token, and where that token is."""
    comments: list[bytes] = []
    at, size = 0, len(text)
    while at < size:
        if text[at] in _SPACE:
            at += 1
            continue
        opening = text[at : at + 2]
        if opening == b"--":
            end = min(_find(text, b"\n", at), _find(text, b"\r", at))
        elif opening == b"/*":
            end = _block_end(text, at)
        else:
            break
        if end < 0:
            return comments, size  # not closed: no comment, and nothing after it
        comments.append(text[at:end])
        at = end
    return comments, at


def _find(text: bytes, wanted: bytes, at: int) -> int:
    found = text.find(wanted, at)
    return len(text) if found < 0 else found


def _block_end(text: bytes, at: int) -> int:
    """Past the ``*/`` of the comment that begins at ``at``, or -1; block comments nest."""
    depth = 0
    while True:
        closing = text.find(b"*/", at)
        if closing < 0:
            return -1
        opening = text.find(b"/*", at, closing)
        if opening >= 0:
            depth += 1
            at = opening + 2
        else:
            depth -= 1
            at = closing + 2
            if depth == 0:
                return at


def _trailing(text: bytes) -> list[bytes]:
    """The comments after the last token."""
    if len(text) > TRAILING_TEXT_BYTES_MAX:
        _refuse_hidden_hint(text)
        return []
    try:
        marks = sqlparse.scan(text).marks
    except sqlparse.Unparsable:
        return []  # the server won't take it either
    comments: list[bytes] = []
    end = len(text)
    for start, past, kind in reversed(marks):
        if kind not in sqlparse.COMMENTS or text[past:end].strip(_SPACE + b";"):
            break
        comments.append(text[start:past])
        end = start
    comments.reverse()
    return comments


def _refuse_hidden_hint(text: bytes) -> None:
    tail = text[-4096:]
    if any(f"{key}='".encode() in tail for key in KEYS):
        raise NoRoute(
            "a statement this long may not have its hint at the end",
            hint="Write the comment with the hint before the statement.",
        )


def _read(comment: bytes) -> dict[str, str]:
    """The hints of one comment; empty unless all of it is hints."""
    try:
        body = comment.decode()
    except UnicodeDecodeError:
        return {}
    body = body[2:-2] if body.startswith("/*") else body[2:]
    found: dict[str, str] = {}
    at = 0
    while True:
        while at < len(body) and body[at] in _SEPARATORS:
            at += 1
        if at == len(body):
            return found
        key_end = at
        while key_end < len(body) and (body[key_end].isalnum() or body[key_end] in "_-.%"):
            key_end += 1
        key = body[at:key_end]
        if body[key_end : key_end + 2] != "='":
            if key != SCATTER or body[key_end : key_end + 1].strip(_SEPARATORS):
                return {}
            _merge(found, {SCATTER: ""})
            at = key_end
            continue
        value_end = _value_end(body, key_end + 2)
        if value_end < 0 or not key:
            return {}
        if key in KEYS:
            value = body[key_end + 2 : value_end].replace("\\'", "'")
            _merge(found, {key: unquote(value)})
        at = value_end + 1
        if body[at : at + 1].strip(_SEPARATORS):
            return {}  # key='value'more


def _value_end(body: str, at: int) -> int:
    """Where the closing quote is, or -1. A backslash keeps a quote from closing."""
    while at < len(body) and body[at] != "'":
        at += 2 if body[at] == "\\" else 1
    return at if at < len(body) else -1


def _merge(found: dict[str, str], more: dict[str, str]) -> None:
    for key, value in more.items():
        if found.setdefault(key, value) != value:
            raise NoRoute(
                f"the statement's comments give two values for {key}: '{found[key]}' and '{value}'",
                hint="Say it once.",
            )
