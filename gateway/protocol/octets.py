"""Looking into bytes and cutting them, as the hot path does for every message.

Beside it stands the same in C (octets.pyx), which is what is imported where it is compiled. There,
what looks harmless in Python is dear: ``b"--" in text`` first makes an error of a type, unseen.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence

_LENGTH_BYTES = 4
_UINT32 = struct.Struct("!I").unpack_from


def holds(data: bytes, part: bytes) -> bool:
    """Whether ``part``, which is not empty, stands somewhere in ``data``."""
    return data.find(part) >= 0


def cut(data: bytes, start: int, end: int) -> bytes:
    """``data[start:end]``, with both inside of it and in order."""
    return data[start:end]


def uint32(data: bytes, pos: int) -> int:
    """The number in the four bytes at ``pos``, which are inside of it, high ones first."""
    number: int = _UINT32(data, pos)[0]
    return number


def sample(data: bytes) -> int:
    """A number by a few bytes of the beginning, cheaper than a hash: for small tables."""
    return hash(data[:42:7])


def same(data: bytes, pos: int, other: bytes, other_pos: int, size: int) -> bool:
    """Whether ``size`` bytes from each position on are the same; False where they aren't there."""
    end, other_end = pos + size, other_pos + size
    if end > len(data) or other_end > len(other):
        return False
    return data[pos:end] == other[other_pos:other_end]


def replaced(
    data: bytes, parts: Sequence[tuple[int, int, bytes]], instead: Mapping[bytes, bytes]
) -> bytes:
    """``data`` with another text in place of each part: by its kind, which is its third item.

    The parts are first and past-last bytes, in order and apart.
    """
    pieces: list[bytes] = []
    at = 0
    for start, end, kind in parts:
        pieces.append(data[at:start])
        pieces.append(instead[kind])
        at = end
    pieces.append(data[at:])
    return b"".join(pieces)


def string_end(data: bytes, pos: int) -> int:
    """Where the NUL stands that ends the string at ``pos``; -1 if none does."""
    return data.find(b"\0", pos)


def with_name(message: bytes, length: int, start: int, end: int, name: bytes) -> bytes:
    """A message with ``name`` in place of ``message[start:end]``.

    ``length`` is what it measures in whole, tag included; the end of it may still be missing.
    """
    size = length - 1 + len(name) - (end - start)
    told = size.to_bytes(_LENGTH_BYTES, "big")
    return message[:1] + told + message[1 + _LENGTH_BYTES : start] + name + message[end:]
