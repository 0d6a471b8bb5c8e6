"""A server connection without sockets: who said what to whom, in order."""

from __future__ import annotations

import asyncio
import struct
from typing import cast

from gateway.errors import GatewayError, ServerUnavailable
from gateway.pool.server import LinkedClient, ServerConnection
from gateway.protocol import messages, replies
from gateway.protocol.replies import Expected

Event = tuple[object, ...]


class RecordingTransport:
    """Takes note of what it is told to do."""

    def __init__(self) -> None:
        self.written = b""
        self.calls: list[str] = []

    def write(self, data: bytes) -> None:
        self.written += data

    def pause_reading(self) -> None:
        self.calls.append("pause_reading")

    def resume_reading(self) -> None:
        self.calls.append("resume_reading")

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.calls.append("write_eof")

    def close(self) -> None:
        self.calls.append("close")

    def abort(self) -> None:
        self.calls.append("abort")


class RecordingClient(LinkedClient):
    """A linked client. ``heard`` joins pieces of forwarded bytes: where they were cut is free."""

    def __init__(self) -> None:
        self.heard: list[Event] = []
        self.parameters: dict[bytes, bytes] = {}

    @property
    def bytes_heard(self) -> bytes:
        return b"".join(cast(bytes, event[1]) for event in self.heard if event[0] == "bytes")

    @property
    def events(self) -> list[Event]:
        """All that was heard but bytes."""
        return [event for event in self.heard if event[0] != "bytes"]

    def forward(self, data: bytes) -> None:
        if self.heard and self.heard[-1][0] == "bytes":
            self.heard[-1] = ("bytes", cast(bytes, self.heard[-1][1]) + data)
        else:
            self.heard.append(("bytes", data))

    def server_ready(self, status: int) -> None:
        self.heard.append(("ready", chr(status)))

    def server_reported(self, name: bytes, value: bytes) -> bool:
        news = self.parameters.get(name) != value
        self.parameters[name] = value
        self.heard.append(("reported", name, value))
        return news

    def server_notified(self, body: bytes) -> None:
        self.heard.append(("notified", body))

    def server_failed(self, fields: dict[str, str]) -> None:
        self.heard.append(("failed", fields.get("M")))

    def end(self, error: GatewayError) -> None:
        self.heard.append(("end", error.message))

    def server_fenced(self, error: GatewayError) -> None:
        raise AssertionError("there is one primary here")

    def server_stale(self, *, answered: bool) -> bytes:
        raise AssertionError("no work is stamped here")

    def server_forgot_prepared(self) -> None:
        self.heard.append(("forgot prepared",))

    def server_lost(self, error: ServerUnavailable) -> None:
        self.heard.append(("lost", error.message))

    def server_full(self) -> None:
        self.heard.append(("full",))

    def server_drained(self) -> None:
        self.heard.append(("drained",))


# --- messages from a server ------------------------------------------------------------------


def said(tag: str, body: bytes = b"") -> bytes:
    return messages.message(tag.encode("latin-1"), body)


def ready(status: str = "I") -> bytes:
    return said("Z", status.encode())


def row(*cells: str | None) -> bytes:
    return messages.data_row(cells)


def done(tag: str = "SELECT 1") -> bytes:
    return messages.command_complete(tag)


def error(text: str = "oops", severity: str = "ERROR") -> bytes:
    return said("E", f"S{severity}\0V{severity}\0CXX000\0M{text}\0\0".encode())


def notice(text: str = "note") -> bytes:
    return said("N", f"SNOTICE\0M{text}\0\0".encode())


def reported(name: str, value: str) -> bytes:
    return messages.parameter_status(name.encode(), value.encode())


def notification(channel: str, payload: str = "", pid: int = 7) -> bytes:
    return said("A", struct.pack("!i", pid) + f"{channel}\0{payload}\0".encode())


PARSED, BOUND, CLOSED = messages.PARSE_COMPLETE, messages.BIND_COMPLETE, messages.CLOSE_COMPLETE
COLUMNS = messages.row_description(["a"])
COPY_IN = said("G", b"\0\0\0")


class Conversation:
    """A client linked to a server."""

    def __init__(self) -> None:
        self.transport = RecordingTransport()
        self.client = RecordingClient()
        self.lost: list[ServerConnection] = []
        self.server = ServerConnection(
            cast(asyncio.Transport, self.transport), 7, b"abcd", {}, now=0.0
        )
        self.server.on_lost(self.lost.append)
        self.server.link(self.client, 1)

    def asks(self, *kinds: int) -> None:
        """The client sends messages of these kinds."""
        for kind in kinds:
            self.server.replies.expect(Expected(kind))

    def runs_query(self) -> None:
        self.asks(replies.QUERY)

    def runs_batch(self) -> None:
        self.asks(replies.PARSE, replies.BIND, replies.DESCRIBE, replies.EXECUTE, replies.SYNC)

    def hears(self, *data: bytes) -> None:
        """The server says all this in one chunk."""
        self.server.data_received(b"".join(data))

    def hears_bytewise(self, *data: bytes) -> None:
        for byte in b"".join(data):
            self.server.data_received(bytes([byte]))
