"""Tenant key values as they stand in a Bind message or a text, in the one form that ids have.

Source: PostgreSQL documentation, "Message Formats" (Bind); binary forms as in the send functions
of int2, int4, int8, uuid, text and of arrays (``array_send``).
"""

from __future__ import annotations

import re
import struct
import uuid
from collections.abc import Callable
from typing import Final

from gateway.settings.model import KeyType

_INT32: Final = struct.Struct("!i")
_ARRAY_HEAD: Final = struct.Struct("!iiI")
_DIMENSION_BYTES: Final = 8
_UNKNOWN_OID: Final = -1
_NULL: Final = 0xFFFF_FFFF
_NULL_ELEMENT: Final = -1
_SIZE_MAX: Final = 0x7FFF_FFFF
_BINARY: Final = 1
_DIGITS_MAX: Final = 20
_LENGTH_MAX: Final = 100
_SHOWN_MAX: Final = 40
_ANY_BASE: Final = re.compile(r"[+-]?0[xob][0-9a-f_]+|[+-]?[0-9]+(?:_[0-9]+)+", re.IGNORECASE)
"""Integers as PostgreSQL reads them from version 16 on: 0x1F, 0o17, 0b1, 1_000."""

_INTEGER_OIDS: Final = frozenset((0, 20, 21, 23))
_TEXT_OIDS: Final = frozenset((18, 19, 25, 705, 1042, 1043))
_UUID_OIDS: Final = frozenset((0, 2950))
_OID_OF_CAST: Final = {
    "": 0,
    "int2": 21,
    "int4": 23,
    "int8": 20,
    "text": 25,
    "citext": 25,
    "varchar": 1043,
    "uuid": 2950,
    "numeric": 1700,
}
"""What a parameter of no declared type is, by the cast it stands in (see ``sqltree.uncast``)."""


class Unreadable(ValueError):
    """The value can't be told."""


class Incomplete(Exception):
    """The value lies in a part of the message that isn't here yet."""


def canonical(key_type: KeyType, text: str) -> str | None:
    """The id that a text form means, None when none can: ``' 07'`` is ``'7'`` among integers."""
    return _OF_TEXT[key_type](text)


def _meant(key_type: KeyType, text: str) -> str:
    """The same. Raises Unreadable when it is none: a cast may yet make one of ``7.0``."""
    found = _integer(text) if key_type is _INTEGERS else _OF_TEXT[key_type](text)
    if found is None:
        raise Unreadable(f"no {key_type}: {text[:_SHOWN_MAX]}")
    return found


def _integer(text: str) -> str | None:
    if text.isdigit() and text.isascii() and len(text) < _DIGITS_MAX and not text.startswith("0"):
        return text
    text = text.strip(" \t\n\r\f\v")
    digits = text[1:] if text[:1] in ("+", "-") else text
    if not digits.isascii() or not digits.isdigit():
        return _integer_of_any_base(text)
    if len(digits) > _DIGITS_MAX:
        digits = digits.lstrip("0")
        if len(digits) > _DIGITS_MAX:
            return None
    number = int(digits or "0")
    return str(-number if text[0] == "-" else number)


def _integer_of_any_base(text: str) -> str | None:
    if len(text) > _LENGTH_MAX or not _ANY_BASE.fullmatch(text):
        return None
    try:
        return str(int(text, 0 if text.lstrip("+-")[1:2].isalpha() else 10))
    except ValueError:
        return None


def _uuid(text: str) -> str | None:
    try:
        return str(uuid.UUID(text))
    except ValueError:
        return None


def _text(text: str) -> str | None:
    return text


_INTEGERS: Final = KeyType.INTEGER
_OF_TEXT: Final[dict[KeyType, Callable[[str], str | None]]] = {
    KeyType.INTEGER: _integer,
    KeyType.UUID: _uuid,
    KeyType.TEXT: _text,
}


class Parameters:
    """The values of one Bind message, read only as far as they are asked for.

    ``parsed`` is the body of the Parse message from the statement's text on: it says of what types
    they are, as far as the client has said.
    """

    __slots__ = ("_at", "_complete", "_count", "_formats", "_found", "_message", "_parsed")

    def __init__(self, message: bytes, at: int, parsed: bytes, complete: bool = True) -> None:
        """``at`` is behind the names; nothing is read yet."""
        self._message = message
        self._complete = complete
        self._parsed = parsed
        self._at = at
        self._formats: list[int] = []
        self._count = -1
        """How many values there are; -1 before that was read."""
        self._found: list[bytes | None] = []

    def one(self, key_type: KeyType, number: int, cast: str = "") -> str | None:
        """The id bound to ``$number``, None for NULL.

        ``cast`` is the type that the statement gives the parameter, if any. Raises Unreadable for
        what is no id, and Incomplete.
        """
        raw = self._raw(number)
        if raw is None:
            return None
        if self._format(number) != _BINARY:
            return _meant(key_type, _decoded(raw))
        oid = self._type(number) or _OID_OF_CAST.get(cast, _UNKNOWN_OID)
        return _from_binary(key_type, oid, raw)

    def each(self, key_type: KeyType, number: int) -> list[str]:
        """The ids in the array bound to ``$number``, NULLs left out. Raises as `one`."""
        raw = self._raw(number)
        if raw is None:
            return []
        if self._format(number) == _BINARY:
            return _from_binary_array(key_type, raw)
        return [_meant(key_type, item) for item in text_array(_decoded(raw))]

    def _format(self, number: int) -> int:
        formats = self._formats
        if len(formats) > 1:
            return formats[number - 1] if number <= len(formats) else 0
        return formats[0] if formats else 0

    def _type(self, number: int) -> int:
        """The type that Parse gave the parameter, 0 for none."""
        parsed = self._parsed
        at = parsed.find(b"\0") + 1
        if at + 2 > len(parsed):
            return 0
        count = _uint16(parsed, at)
        if number > count or at + 2 + 4 * count > len(parsed):
            return 0
        return _uint32(parsed, at + 2 + 4 * (number - 1))

    def _raw(self, number: int) -> bytes | None:
        if self._count < 0:
            self._read_head()
        if not 1 <= number <= self._count:
            raise Unreadable(f"no value is bound to ${number}")
        while len(self._found) < number:
            self._found.append(self._next())
        return self._found[number - 1]

    def _read_head(self) -> None:
        """The formats, and how many values there are."""
        message, at = self._message, self._at
        end = at + 2
        if end <= len(message):
            end += 2 * _uint16(message, at)
        if end + 2 > len(message):
            raise self._end()
        self._formats = [_uint16(message, each) for each in range(at + 2, end, 2)]
        self._count, self._at = _uint16(message, end), end + 2

    def _next(self) -> bytes | None:
        at, message = self._at, self._message
        if at + 4 > len(message):
            raise self._end()
        size = _uint32(message, at)
        at += 4
        if size == _NULL:
            self._at = at
            return None
        if size > _SIZE_MAX:
            raise Unreadable("a bound value of an impossible length")
        if at + size > len(message):
            raise self._end()
        self._at = at + size
        return message[at : at + size]

    def _end(self) -> Exception:
        return Unreadable("the message is cut off") if self._complete else Incomplete()


def _uint16(data: bytes, at: int) -> int:
    return data[at] << 8 | data[at + 1]


def _uint32(data: bytes, at: int) -> int:
    return data[at] << 24 | data[at + 1] << 16 | data[at + 2] << 8 | data[at + 3]


def _decoded(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise Unreadable("a value that is no UTF-8") from None


def _from_binary(key_type: KeyType, oid: int, raw: bytes) -> str:
    """What binary bytes mean; only where the type leaves no doubt."""
    if oid in _TEXT_OIDS or (oid == 0 and key_type is KeyType.TEXT):
        return _meant(key_type, _decoded(raw))
    if key_type is KeyType.UUID and oid in _UUID_OIDS and len(raw) == 16:
        return str(uuid.UUID(bytes=raw))
    if oid in _INTEGER_OIDS and len(raw) in (2, 4, 8) and key_type is not KeyType.UUID:
        return str(int.from_bytes(raw, "big", signed=True))
    raise Unreadable(f"a binary value of type {oid}")


def _from_binary_array(key_type: KeyType, raw: bytes) -> list[str]:
    try:
        dimensions, _, oid = _ARRAY_HEAD.unpack_from(raw, 0)
        found: list[str] = []
        at = _ARRAY_HEAD.size + _DIMENSION_BYTES * dimensions
        while dimensions and at < len(raw):
            (size,) = _INT32.unpack_from(raw, at)
            at += 4
            if size == _NULL_ELEMENT:
                continue
            if size < 0 or at + size > len(raw):
                raise Unreadable("an element of an impossible length")
            found.append(_from_binary(key_type, oid, raw[at : at + size]))
            at += size
    except struct.error:
        raise Unreadable("a binary array that is cut off") from None
    return found


def text_array(text: str) -> list[str]:
    """The elements of ``{1,2}`` or ``{"a","b"}``, NULLs left out. Raises Unreadable.

    Arrays of arrays and bounds are not read.
    """
    text = text.strip()
    if text[:1] != "{" or text[-1:] != "}" or "\\" in text or "{" in text[1:]:
        raise Unreadable("an array in a form that isn't read")
    items = text[1:-1].split(",") if text != "{}" else []
    found: list[str] = []
    for item in map(str.strip, items):
        if item[:1] == '"':
            if len(item) < 2 or item[-1] != '"' or '"' in item[1:-1]:
                raise Unreadable("an array in a form that isn't read")
            found.append(item[1:-1])
        elif item.upper() != "NULL":
            found.append(item)
    return found
