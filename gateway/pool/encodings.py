"""PostgreSQL's names of character sets, as far as Python knows the same set.

Source: PostgreSQL documentation, "Character Set Support", table of character sets.
"""

from __future__ import annotations

from collections.abc import Mapping

_CODECS = {
    b"UTF8": "utf-8",
    b"SQL_ASCII": "utf-8",
    b"LATIN1": "iso8859-1",
    b"LATIN2": "iso8859-2",
    b"LATIN3": "iso8859-3",
    b"LATIN4": "iso8859-4",
    b"LATIN5": "iso8859-9",
    b"LATIN9": "iso8859-15",
    b"WIN1250": "cp1250",
    b"WIN1251": "cp1251",
    b"WIN1252": "cp1252",
    b"KOI8R": "koi8-r",
}


def codec_of(parameters: Mapping[bytes, bytes]) -> str | None:
    """Python's codec for the client_encoding in reported parameters; None when it has none."""
    return _CODECS.get(parameters.get(b"client_encoding", b"UTF8"))


def decoded(raw: bytes, codec: str | None) -> str:
    """Text of ``raw``; bytes that don't fit survive a way back in the same codec."""
    return raw.decode(codec or "utf-8", "surrogateescape")


def encoded(text: str, codec: str | None) -> bytes:
    """``text`` for a peer; what its character set lacks becomes a question mark."""
    try:
        return text.encode(codec or "utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return text.encode(codec or "utf-8", "replace")
