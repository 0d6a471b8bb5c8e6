# cython: boundscheck=False, wraparound=False
"""The constants of a plain text, told without PostgreSQL's scanner, as that scanner tells them.

Plain is what clients of the simple protocol mostly send: words, operators, decimal integers and
'...' without quotes or backslashes inside. In all else, such as comments, dollar quotes, E'...' and
1.5e3, nothing is told: the text is for the scanner. Source: PostgreSQL's scan.l.
"""

from __future__ import annotations

from typing import Final

from gateway.protocol.octets import same

Mark = tuple[int, int, bytes]
"""A constant or a comment in the text: first byte, past-last byte, kind."""

# The kinds, as the scanner numbers its tokens: SCONST, ICONST, FCONST.
STRING: Final = b"\x85"
_STRING = STRING
_INTEGER = b"\x8a"
_LARGE = b"\x84"
"""An integer that takes more than 32 bits is a token like 1.5."""

_SURE_DIGITS = 9
"""So many always fit into 32 bits; one more may or may not, and is left to the scanner."""

_MODEL_BYTES_MAX = 2_048
_MODEL_MARKS_MAX = 32

_STRANGE, _PLAIN, _WORD, _DIGIT, _QUOTE, _NAME, _DOLLAR, _COMMENT = range(8)
_BYTES: Final = {
    b" \t\n\r\f,()[].;:+*<>=~!@#%^&|`?": _PLAIN,
    b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_": _WORD,
    bytes(range(0x80, 0x100)): _WORD,
    b"0123456789": _DIGIT,
    b"'": _QUOTE,
    b'"': _NAME,
    b"$": _DOLLAR,
    b"-/": _COMMENT,
}
_KINDS = bytes(
    next((kind for some, kind in _BYTES.items() if byte in some), _STRANGE) for byte in range(256)
)
"""What a byte is, or begins."""
_POINT, _AMPERSAND, _ZERO, _SIGN = ord("."), ord("&"), ord("0"), ord("$")
_SPACE, _BACKSLASH, _MINUS, _SLASH, _STAR = ord(" "), ord("\\"), ord("-"), ord("/"), ord("*")


def constants_of(text: bytes) -> list[Mark] | None:
    """The constants in order; None of a text that is not plain."""
    marks: list[Mark] = []
    at, end = 0, len(text)
    while at < end:
        kind = _KINDS[text[at]]
        past = at + 1
        if kind == _WORD:
            past = _past_word(text, past, end)
        elif kind == _DIGIT:
            past = _past_number(text, at, end)
            if past > 0 and (at == 0 or _KINDS[text[at - 1]] != _DOLLAR):
                marks.append((at, past, _INTEGER if past - at <= _SURE_DIGITS else _LARGE))
        elif kind == _QUOTE:
            past = _past_string(text, at, end)
            if past > 0:
                marks.append((at, past, STRING))
        elif kind == _NAME:
            past = _past_name(text, at, end)
        elif kind != _PLAIN and not _stands_alone(text, at, end):
            past = -1
        if past < 0:
            return None
        at = past
    return marks


def may_be_followed(text: bytes, marks: list[Mark]) -> bool:
    """Whether ``follows`` may be asked about a plain text, whose constants are ``marks``."""
    plain = all(kind in (_STRING, _INTEGER) for _, _, kind in marks)
    return plain and len(text) <= _MODEL_BYTES_MAX and len(marks) <= _MODEL_MARKS_MAX


def follows(text: bytes, model: bytes, marks: list[Mark], found: list[Mark] | None) -> bool:
    """Whether a text is the model, whose constants are ``marks``, but for what these are.

    If so, it is plain as well, and ``found`` gets its constants: what stands between them is the
    same byte for byte, and each is read as `constants_of` reads it.
    """
    at, behind, end = 0, 0, len(text)
    for start, past, kind in marks:
        size = start - behind
        if not same(text, at, model, behind, size):
            return False
        begin, behind = at + size, past
        at = _past_constant(text, begin, end, kind is _STRING) if begin < end else -1
        if at < 0:
            return False
        if found is not None:
            found.append((begin, at, kind))
    return end - at == len(model) - behind and same(text, at, model, behind, end - at)


def _past_constant(text: bytes, at: int, end: int, is_string: bool) -> int:
    """Where a string or else a small integer ends that begins at ``at``; -1: none does."""
    if is_string:
        return _past_string(text, at, end) if _KINDS[text[at]] == _QUOTE else -1
    past = _past_number(text, at, end) if _KINDS[text[at]] == _DIGIT else -1
    return past if past - at <= _SURE_DIGITS else -1


def _past_word(text: bytes, at: int, end: int) -> int:
    """Where a word ends that goes on at ``at``."""
    while at < end:
        kind = _KINDS[text[at]]
        if kind not in (_WORD, _DIGIT, _DOLLAR):
            break
        at += 1
    return at


def _past_number(text: bytes, at: int, end: int) -> int:
    """Where the digits end that begin at ``at``, of a number or a parameter; -1: not plain."""
    past = at + 1
    while past < end and _KINDS[text[past]] == _DIGIT:
        past += 1
    before = text[at - 1] if at > 0 else _SPACE
    if before == _POINT:
        return -1
    if past - at > _SURE_DIGITS and (
        past - at == _SURE_DIGITS + 1 or text[at] == _ZERO or before == _SIGN
    ):
        return -1
    if past < end:
        kind = _KINDS[text[past]]
        if kind in (_WORD, _DOLLAR) or text[past] == _POINT:
            return -1
    return past


def _stands_alone(text: bytes, at: int, end: int) -> bool:
    """Whether a byte that may begin more than itself, or is none of SQL's, does not."""
    behind = text[at + 1] if at + 1 < end else _SPACE
    if text[at] == _SIGN:
        return _KINDS[behind] == _DIGIT  # a parameter, and no dollar quote
    if text[at] == _MINUS:
        return behind != _MINUS
    return text[at] == _SLASH and behind != _STAR


def _past_name(text: bytes, at: int, end: int) -> int:
    """Where a "..." ends that begins at ``at``; -1: not plain."""
    past = at + 1
    while past < end and _KINDS[text[past]] != _NAME:
        if text[past] == 0:
            return -1
        past += 1
    return past + 1 if past < end and past > at + 1 and not _touches(text, at) else -1


def _past_string(text: bytes, at: int, end: int) -> int:
    """Where a '...' ends that begins at ``at``; -1: not plain."""
    if _touches(text, at):
        return -1
    past = at + 1
    while past < end and _KINDS[text[past]] != _QUOTE:
        if text[past] == _BACKSLASH or text[past] == 0:
            return -1
        past += 1
    past += 1
    after = past
    while after < end and text[after] <= _SPACE:
        after += 1
    # A quote behind it would be one inside it, or after a line's end go on with it.
    if past > end or (after < end and _KINDS[text[after]] == _QUOTE):
        return -1
    return past


def _touches(text: bytes, at: int) -> bool:
    """Whether what stands before a quote may change what is in it, as in E'', U&'' and 1''."""
    if at == 0:
        return False
    before = text[at - 1]
    kind = _KINDS[before]
    return kind not in (_PLAIN, _COMMENT) or before == _AMPERSAND
