"""What an idle client sends, up to the first unit that needs a server.

A unit is a Query, a FunctionCall, or extended messages up to one that makes a server answer. It is
gathered whole, up to a size, so that no server waits for a slow sender. No I/O.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any

from gateway.errors import ProtocolViolation
from gateway.protocol.framing import HEADER_BYTES, message_size
from gateway.session.outbound import unknown_message

UNIT_MAX_BYTES = 64 * 1024
"""A unit is gathered up to this size; beyond it a server is asked for and the rest is streamed."""
_UNIT_MAX_BYTES = UNIT_MAX_BYTES

_HEADER_BYTES = HEADER_BYTES  # as a C integer
_ONE_MESSAGE = b"QF"
_EXTENDED = b"PBDEC"
_MEANINGLESS = b"Hdcf"
"""Flush with nothing to flush; copy data that comes late, after its COPY has failed."""
_ENDS_UNIT = b"SHQFX"
_MAY_COPY = b"Edcf"
"""Of a batch without an end: PostgreSQL asks for the rows of a COPY when it is executed."""
_SYNC = ord("S")
_SYNC_MAX_BYTES = 10_000
"""PostgreSQL's own bound on messages of such kinds (PQ_SMALL_MESSAGE_LIMIT)."""
_TERMINATE = ord("X")


class Need(IntEnum):
    """What an idle client's input asks for."""

    MORE = 0  # nothing yet
    SERVER = 1  # a unit waits at the front
    READY = 2  # a Sync without work: answer it, then look again
    END = 3  # the client said goodbye


_MORE, _SERVER = Need.MORE, Need.SERVER


class Inbox:
    """Bytes of one client that no server has been found for."""

    __slots__ = ("_skip", "data", "skipping_to_sync")

    def __init__(self) -> None:
        self.data = b""
        self.skipping_to_sync = False
        """A unit was refused: all is dropped up to its Sync, as PostgreSQL does after an error."""
        self._skip = 0

    def pack(self) -> list[Any]:
        """What it holds, as JSON carries it."""
        return [self.data.hex(), self.skipping_to_sync, self._skip]

    def unpack(self, packed: list[Any]) -> None:
        """Hold what another one's `pack` has told."""
        data, self.skipping_to_sync, self._skip = packed
        self.data = bytes.fromhex(data)

    def next(self) -> Need:
        """What the input asks for. Raises ProtocolViolation."""
        while self.data:
            if self._skip:
                self._drop_skipped()
                continue
            if len(self.data) < _HEADER_BYTES:
                return _MORE
            need = self._look(self.data[0], message_size(self.data, 0))
            if need is not None:
                return need
        return _MORE

    def _look(self, tag: int, size: int) -> Need | None:
        """What the first message asks for; None when it was dropped."""
        if tag == _TERMINATE:
            return Need.END
        if tag == _SYNC:
            return self._sync(size)
        if self.skipping_to_sync or tag in _MEANINGLESS:
            self._skip = size
            return None
        if tag in _ONE_MESSAGE:
            complete = len(self.data) >= size
        elif tag in _EXTENDED:
            complete = self._unit_complete()
        else:
            raise unknown_message(tag)
        return _SERVER if complete or len(self.data) >= _UNIT_MAX_BYTES else _MORE

    def refuse_unit(self) -> bool:
        """Drop the unit at the front; whether its answer needs a ReadyForQuery at once."""
        if self.data[0] in _ONE_MESSAGE:
            self._skip = message_size(self.data, 0)
            return True
        self.skipping_to_sync = True
        return False

    def _sync(self, size: int) -> Need:
        if size > _SYNC_MAX_BYTES:
            raise ProtocolViolation(f"invalid length {size - 1} of a Sync message")
        if len(self.data) < size:
            return _MORE
        self.data = self.data[size:]
        self.skipping_to_sync = False
        return Need.READY

    def _drop_skipped(self) -> None:
        dropped = min(self._skip, len(self.data))
        self.data = self.data[dropped:]
        self._skip -= dropped

    def _unit_complete(self) -> bool:
        data, tag = self.data, 0
        pos, end = 0, len(data)
        while end - pos >= _HEADER_BYTES:
            size = message_size(data, pos)
            if size > end - pos:
                return False
            tag = data[pos]
            if tag in _ENDS_UNIT:
                return True
            pos += size
        return pos == end and tag in _MAY_COPY and b"copy" in data.lower()
