"""Message boundaries in a byte stream: one-byte tag, four-byte length that counts itself.

Source: PostgreSQL documentation, "Frontend/Backend Protocol", sections "Message Formats".
These functions are the inner loop of the relay: plain typed Python that compiles ahead of time.
"""

from __future__ import annotations

from gateway.errors import ProtocolViolation
from gateway.protocol.octets import uint32

HEADER_BYTES = 5
"""Tag and length."""
_HEADER_BYTES = HEADER_BYTES  # as a C integer

LENGTH_MAX = 0x3FFFFFFF + 4
"""The longest message PostgreSQL can make: MaxAllocSize of content, and the length itself."""


_LENGTH_MIN, _LENGTH_MAX = 4, LENGTH_MAX  # as C integers


def message_size(data: bytes, pos: int) -> int:
    """Bytes of the message at ``pos``, tag included; its header must be inside ``data``.

    Raises ProtocolViolation for a length no peer may send.
    """
    length = uint32(data, pos + 1)
    if length < _LENGTH_MIN or length > _LENGTH_MAX:
        raise ProtocolViolation(
            f"invalid message length {length} for message type 0x{data[pos]:02x}"
        )
    return length + 1


def walk(data: bytes, pos: int, end: int, stops: bytes) -> int:
    """Skip complete messages whose tag is not marked in ``stops`` (256 flags).

    Returns where the first message begins that is a stop or not completely inside ``data``
    (``end`` when there is none).
    """
    while end - pos >= _HEADER_BYTES:
        if stops[data[pos]]:
            return pos
        size = message_size(data, pos)
        if size > end - pos:
            return pos
        pos += size
    return pos


def tag_set(tags: bytes) -> bytes:
    """256 flags, one per tag byte, with those of ``tags`` set."""
    flags = bytearray(256)
    for tag in tags:
        flags[tag] = 1
    return bytes(flags)


ALL_TAGS = bytes([1]) * 256
"""Every message is a stop."""
