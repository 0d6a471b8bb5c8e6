"""The answers of several servers to one read, made one answer: rows one after the other.

Rows come as they come, in no order; nothing is sorted, grouped or made distinct. No I/O.

Source: PostgreSQL documentation, "Message Formats" (RowDescription, DataRow, CommandComplete).
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence

from gateway.errors import GatewayError, NoRoute
from gateway.protocol import messages
from gateway.protocol.framing import HEADER_BYTES, message_size

_UINT16 = struct.Struct("!H")
_FIELD = struct.Struct("!ihihih")


class Merge:
    """One read over ``sources``. With ``column``, each row says in it where it comes from."""

    __slots__ = ("_cells", "_column", "_description", "_given", "_held", "_rows", "error")

    def __init__(self, sources: Sequence[str], column: str = "") -> None:
        self._column = column
        self._cells = [_cell(source) for source in sources]
        self._held = [b""] * len(sources)
        self._given: set[int] = set()
        self._description: bytes | None = None
        self._rows: int | None = None
        self.error: bytes | None = None
        """The first error of any server; all else is dropped from then on."""

    def take(self, source: int, data: bytes) -> bytes:
        """What the client gets of a server's bytes; whole messages or parts of them."""
        data = self._held[source] + data
        out: list[bytes] = []
        pos, end = 0, len(data)
        while end - pos >= HEADER_BYTES:
            following = pos + message_size(data, pos)
            if following > end:
                break
            handler = _HANDLERS.get(data[pos])
            if handler is not None and self.error is None:
                out.append(handler(self, source, data[pos:following]))
            pos = following
        self._held[source] = data[pos:]
        return b"".join(out)

    def fail(self, error: GatewayError) -> None:
        """There will be no answer of one of them."""
        if self.error is None:
            self.error = messages.error_response(error, fatal=False)

    def end(self) -> bytes:
        """What ends the answer when all servers have answered, without ReadyForQuery."""
        if self.error is not None:
            return self.error
        if self._rows is None:
            return b""
        return messages.command_complete(f"SELECT {self._rows}")

    # --- one message each ---

    def _once(self, source: int, message: bytes) -> bytes:
        """Told by all, heard once."""
        if message[0] in self._given:
            return b""
        self._given.add(message[0])
        return message

    def _describe(self, source: int, message: bytes) -> bytes:
        """RowDescription; the columns of all must be the same."""
        columns = _columns(message)
        if self._description is not None:
            if columns != self._description:
                self.fail(
                    NoRoute(
                        "the databases give different columns",
                        hint="Name the columns, and cast those of types of your own to text.",
                    )
                )
            return b""
        self._description = columns
        if not self._column:
            return message
        (count,) = _UINT16.unpack_from(message, HEADER_BYTES)
        field = messages.cstring(self._column) + _FIELD.pack(0, 0, messages.TEXT_OID, -1, -1, 0)
        rest = message[HEADER_BYTES + _UINT16.size :]
        return messages.message(b"T", _UINT16.pack(count + 1) + rest + field)

    def _row(self, source: int, message: bytes) -> bytes:
        if not self._column:
            return message
        (count,) = _UINT16.unpack_from(message, HEADER_BYTES)
        rest = message[HEADER_BYTES + _UINT16.size :]
        return messages.message(b"D", _UINT16.pack(count + 1) + rest + self._cells[source])

    def _complete(self, source: int, message: bytes) -> bytes:
        words = message[HEADER_BYTES:-1].split()
        rows = int(words[-1]) if words and words[-1].isdigit() else 0
        self._rows = (self._rows or 0) + rows
        return b""

    def _failed(self, source: int, message: bytes) -> bytes:
        self.error = message
        return b""

    def _as_it_is(self, source: int, message: bytes) -> bytes:
        return message


def _cell(text: str) -> bytes:
    raw = text.encode()
    return len(raw).to_bytes(4, "big") + raw


def _columns(message: bytes) -> bytes:
    """Names and types of a RowDescription; where tables lie differs between databases."""
    pos = HEADER_BYTES
    (count,) = _UINT16.unpack_from(message, pos)
    pos += _UINT16.size
    found: list[bytes] = []
    for _ in range(count):
        name, pos = messages.read_cstring(message, pos)
        _, _, oid, _, _, form = _FIELD.unpack_from(message, pos)
        pos += _FIELD.size
        found.append(b"%b\0%d %d" % (name, oid, form))
    return b"\0".join(found)


_HANDLERS: dict[int, Callable[[Merge, int, bytes], bytes]] = {
    ord("T"): Merge._describe,
    ord("D"): Merge._row,
    ord("C"): Merge._complete,
    ord("E"): Merge._failed,
    ord("N"): Merge._as_it_is,
    **dict.fromkeys(b"12ntI", Merge._once),
}
"""ReadyForQuery and what a session keeps to itself are dropped."""
