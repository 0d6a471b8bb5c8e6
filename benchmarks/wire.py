"""A blocking client that costs next to nothing: it logs in and moves bytes, and decodes no rows."""

from __future__ import annotations

import socket
import struct
from typing import Self

from benchmarks.measure import Failed
from benchmarks.targets import Access
from gateway.protocol import messages
from gateway.protocol.scram import KeyCache, ScramClient
from gateway.protocol.startup import PROTOCOL_3_0

TIMEOUT_S = 60.0

READY = b"Z\x00\x00\x00\x05I"
"""ReadyForQuery outside a transaction: the end of every answer here."""

_BUFFER_BYTES = 256 * 1024
_COPY_CHUNK_BYTES = 64 * 1024


class Connection:
    """One logged-in connection. ``keys`` spares the slow part of SCRAM from the second login on."""

    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock

    @classmethod
    def open(cls, access: Access, keys: KeyCache) -> Self:
        """Raises Failed when the login is refused, OSError when nobody answers."""
        sock = socket.create_connection((access.host, access.port), TIMEOUT_S)
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            _log_in(sock, access, keys)
        except BaseException:
            sock.close()
            raise
        return cls(sock)

    def close(self) -> None:
        """Without a goodbye that anyone would answer."""
        self.socket.close()

    def drain(self, sql: str) -> int:
        """Runs a statement and throws its answer away; the bytes of the answer. Raises Failed."""
        self.socket.sendall(messages.query(sql))
        return self._until_ready()

    def copy_in(self, sql: str, lines: bytes) -> int:
        """COPY FROM STDIN of ``lines``; the bytes of data sent. Raises Failed."""
        self.socket.sendall(messages.query(sql))
        _expect(self.socket, b"G")
        for start in range(0, len(lines), _COPY_CHUNK_BYTES):
            chunk = lines[start : start + _COPY_CHUNK_BYTES]
            self.socket.sendall(messages.message(b"d", chunk))
        self.socket.sendall(messages.message(b"c"))
        self._until_ready()
        return len(lines)

    def prepare(self, name: str, sql: str) -> None:
        """Makes a prepared statement. Raises Failed."""
        self.socket.sendall(parse_message(name, sql) + messages.message(b"S"))
        self._until_ready()

    def _until_ready(self) -> int:
        """Reads to the ReadyForQuery; our rows never end in the same bytes."""
        buffer = bytearray(_BUFFER_BYTES)
        view = memoryview(buffer)
        total, tail, first = 0, b"", b""
        while tail[-len(READY) :] != READY:
            count = self.socket.recv_into(buffer)
            if not count:
                raise Failed("the connection was closed in the middle of an answer")
            total += count
            first = first or bytes(view[: min(count, 500)])
            tail = (tail + bytes(view[max(0, count - 64) : count]))[-64:]
        if first[:1] == b"E":
            raise Failed(f"the statement failed: {first!r}")
        return total


def parse_message(name: str, sql: str) -> bytes:
    """Parse, with the types left to the server."""
    body = messages.cstring(name) + messages.cstring(sql) + struct.pack("!h", 0)
    return messages.message(b"P", body)


def _log_in(sock: socket.socket, access: Access, keys: KeyCache) -> None:
    wanted = {"user": access.user, "database": access.database}
    sock.sendall(messages.startup(wanted, PROTOCOL_3_0))
    scram: ScramClient | None = None
    while True:
        tag, body = _message(sock)
        if tag == b"Z":
            return
        if tag == b"E":
            raise Failed(f"login refused: {messages.read_fields(body).get('M', '')}")
        if tag != b"R":
            continue
        code, data = int.from_bytes(body[:4], "big"), body[4:]
        if code == 10:
            offered = [name.decode() for name in data.split(b"\0") if name]
            scram = ScramClient(
                "", access.password, channel_binding=None, offered=offered, cache=keys
            )
            sock.sendall(messages.sasl_initial(scram.mechanism, scram.first()))
        elif code == 11 and scram is not None:
            sock.sendall(messages.sasl_response(scram.respond(data)))
        elif code == 12 and scram is not None:
            scram.verify(data)


def _expect(sock: socket.socket, wanted: bytes) -> None:
    tag, body = _message(sock)
    if tag != wanted:
        raise Failed(f"expected {wanted!r}, got {tag!r}: {body[:500]!r}")


def _message(sock: socket.socket) -> tuple[bytes, bytes]:
    head = _exactly(sock, 5)
    return head[:1], _exactly(sock, int.from_bytes(head[1:], "big") - 4)


def _exactly(sock: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        more = sock.recv(count - len(data))
        if not more:
            raise Failed("the connection was closed during the login")
        data += more
    return data
