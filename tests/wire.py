"""A client that speaks the wire protocol message by message, for tests that look at the wire.

`Wire.seen` keeps every message a server sent, so that the same script run against PostgreSQL and
through the gateway can be compared: see `transcript`.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import NamedTuple, Self

from gateway.protocol import messages
from gateway.protocol.passwords import md5_answer
from gateway.protocol.scram import ScramClient
from gateway.protocol.startup import PROTOCOL_3_0
from gateway.settings.dsn import parse

TIMEOUT_S = 20.0
"""Longest wait for one message: whoever waits longer hangs."""

SSL_REQUEST = struct.pack("!ii", 8, 80877103)
GSSENC_REQUEST = struct.pack("!ii", 8, 80877104)
COPY_DONE = messages.message(b"c")


class Message(NamedTuple):
    """One message of a server; the tag ``EOF`` stands for the end of the connection."""

    tag: str
    body: bytes

    @property
    def fields(self) -> dict[str, str]:
        """Of an ErrorResponse or NoticeResponse."""
        return messages.read_fields(self.body)

    @property
    def cells(self) -> list[bytes | None]:
        """Of a DataRow."""
        return messages.read_data_row(self.body)


EOF = Message("EOF", b"")


@dataclass(frozen=True, slots=True)
class Place:
    """Where to connect, and as whom."""

    host: str
    port: int
    user: str
    password: str = field(repr=False)
    database: str
    startup: tuple[tuple[str, str], ...] = ()
    """Parameters of every startup message."""

    @classmethod
    def of(cls, url: str) -> Self:
        """The place of a database URL."""
        dsn = parse(url)
        return cls(dsn.host, dsn.port, dsn.user, dsn.password, dsn.database)


class Wire:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.seen: list[Message] = []
        self.pid = 0
        self.secret = b""
        self.parameters: dict[str, str] = {}
        self._reader = reader
        self._writer = writer

    @classmethod
    async def connect(
        cls, host: str, port: int, tls: ssl.SSLContext | None = None, name: str | None = None
    ) -> Self:
        """Connected and silent; with ``tls`` the handshake is done from the first byte."""
        return cls(*await asyncio.open_connection(host, port, ssl=tls, server_hostname=name))

    @classmethod
    async def logged_in(
        cls,
        place: Place,
        parameters: Mapping[str, str] = MappingProxyType({}),
        *,
        version: int = PROTOCOL_3_0,
    ) -> Self:
        """Ready for its first query. Raises Refused."""
        wire = await cls.connect(place.host, place.port)
        last = (await wire.log_in(place, parameters, version=version))[-1]
        if last.tag != "Z":
            wire.rst()
            raise Refused(last)
        return wire

    async def start_tls(self, tls: ssl.SSLContext, name: str) -> None:
        """Ask for TLS and begin it; raises AssertionError unless it is granted."""
        self.send(SSL_REQUEST)
        assert await self.raw(1) == b"S"
        await self._writer.start_tls(tls, server_hostname=name)

    @property
    def tls(self) -> ssl.SSLObject | None:
        """The TLS connection; None when there is none."""
        found: ssl.SSLObject | None = self._writer.get_extra_info("ssl_object")
        return found

    # --- login ---

    async def log_in(
        self,
        place: Place,
        parameters: Mapping[str, str] = MappingProxyType({}),
        *,
        version: int = PROTOCOL_3_0,
    ) -> list[Message]:
        """From the startup message to ReadyForQuery or the end; what the server said."""
        identity = {"user": place.user, "database": place.database}
        wanted = {**identity, **dict(place.startup), **parameters}
        self.send(messages.startup(wanted, version))
        return await self.prove(place)

    async def prove(self, place: Place, binding: bytes | None = None) -> list[Message]:
        """Answer what the server asks up to ReadyForQuery or the end; what it said."""
        said: list[Message] = []
        scram: ScramClient | None = None
        while True:
            heard = await self.message()
            said.append(heard)
            if heard.tag == "K":
                self.pid, self.secret = messages.read_key_data(heard.body)
            elif heard.tag == "S":
                name, value = messages.read_parameter_status(heard.body)
                self.parameters[name.decode()] = value.decode()
            elif heard.tag == "R":
                scram = self._answer(heard.body, place, binding, scram)
            elif heard.tag in ("E", "Z", "EOF"):
                return said

    def _answer(
        self, body: bytes, place: Place, binding: bytes | None, scram: ScramClient | None
    ) -> ScramClient | None:
        code, data = int.from_bytes(body[:4], "big"), body[4:]
        if code == 3:
            self.send(messages.password(place.password.encode()))
        elif code == 5:
            self.send(messages.password(md5_answer(place.password, place.user, data)))
        elif code == 10:
            offered = [name.decode() for name in data.split(b"\0") if name]
            scram = ScramClient("", place.password, channel_binding=binding, offered=offered)
            self.send(messages.sasl_initial(scram.mechanism, scram.first()))
        elif code == 11:
            assert scram is not None
            self.send(messages.sasl_response(scram.respond(data)))
        elif code == 12:
            assert scram is not None
            scram.verify(data)
        return scram

    # --- traffic ---

    def send(self, *data: bytes) -> None:
        """Messages in one write; to a server that has hung up, nothing."""
        if not self._writer.is_closing():
            self._writer.write(b"".join(data))

    async def sent(self) -> None:
        """Wait until the kernel has taken most of what was sent."""
        await self._writer.drain()

    async def raw(self, count: int) -> bytes:
        """That many bytes, or what came before the end."""
        try:
            async with asyncio.timeout(TIMEOUT_S):
                return await self._reader.readexactly(count)
        except asyncio.IncompleteReadError as error:
            return error.partial
        except ConnectionError:
            return b""

    async def message(self) -> Message:
        """The next message, or EOF, also for one that is cut off in its middle.

        Raises TimeoutError when nothing comes.
        """
        head = await self.raw(5)
        length = int.from_bytes(head[1:], "big") - 4
        body = await self.raw(length) if len(head) == 5 else b""
        whole = len(head) == 5 and len(body) == length
        heard = Message(chr(head[0]), body) if whole else EOF
        self.seen.append(heard)
        return heard

    async def until(self, tags: str, count: int = 1) -> list[Message]:
        """Messages up to the ``count``-th whose tag is one of ``tags``, or the end."""
        heard: list[Message] = []
        while count:
            heard.append(await self.message())
            if heard[-1] is EOF:
                break
            count -= heard[-1].tag in tags
        return heard

    async def skip(self, tag: str) -> int:
        """Drop messages, however big, up to the first with this tag; their bytes altogether."""
        count = 0
        while True:
            head = await self.raw(5)
            assert len(head) == 5, "the connection has ended"
            left = int.from_bytes(head[1:], "big") - 4
            count += 5 + left
            while left:
                part = await self._reader.read(min(left, 65536))
                assert part, "the connection has ended"
                left -= len(part)
            if chr(head[0]) == tag:
                return count

    async def query(self, sql: str) -> list[Message]:
        """A simple Query and all of its answer."""
        self.send(messages.query(sql))
        return await self.until("Z")

    async def value(self, sql: str) -> str | None:
        """The first cell of a query's first row. Raises Refused for an error."""
        heard = await self.query(sql)
        for one in heard:
            if one.tag == "E" or one is EOF:
                raise Refused(one)
        cell = next(one for one in heard if one.tag == "D").cells[0]
        return None if cell is None else cell.decode()

    # --- the end ---

    async def close(self) -> None:
        """Say goodbye and wait for the server to hang up."""
        self.send(messages.TERMINATE)
        await self._reader.read()
        self._writer.close()

    def fin(self) -> None:
        """Close the socket; what was sent still arrives."""
        self._writer.close()

    def eof(self) -> None:
        """Send the end, and go on listening."""
        self._writer.write_eof()

    def rst(self) -> None:
        """Close the socket hard: what is under way is lost."""
        sock: socket.socket | None = self._writer.get_extra_info("socket")
        if sock is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()


class Refused(Exception):
    """The server said no; ``fields`` say why, and are empty when it just closed."""

    def __init__(self, last: Message) -> None:
        self.fields = last.fields if last.tag == "E" else {}
        super().__init__(self.fields or last.tag)

    @property
    def sqlstate(self) -> str:
        return self.fields.get("C", "")


def sqlstates(heard: Iterable[Message]) -> list[str]:
    """Those of all errors among what was heard."""
    return [one.fields["C"] for one in heard if one.tag == "E"]


def sqlstate(heard: Iterable[Message]) -> str | None:
    """That of the first error."""
    return next(iter(sqlstates(heard)), None)


async def send_cancel(host: str, port: int, pid: int, secret: bytes) -> None:
    """A CancelRequest; returns when the server has closed the connection."""
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(struct.pack("!iii", 12 + len(secret), 80877102, pid) + secret)
    try:
        async with asyncio.timeout(TIMEOUT_S):
            assert await reader.read() == b""
    finally:
        writer.close()


# --- messages of a client --------------------------------------------------------------------


def parse_(name: str, sql: str, types: Sequence[int] = ()) -> bytes:
    """Parse."""
    oids = b"".join(struct.pack("!I", oid) for oid in types)
    body = messages.cstring(name) + messages.cstring(sql) + struct.pack("!h", len(types)) + oids
    return messages.message(b"P", body)


def bind(
    name: str,
    parameters: Sequence[bytes | None] = (),
    portal: str = "",
    *,
    binary: bool = False,
    binary_values: bool = False,
) -> bytes:
    """Bind; results in text unless ``binary``, parameters unless ``binary_values``."""
    cells = b"".join(
        struct.pack("!i", -1) if cell is None else struct.pack("!i", len(cell)) + cell
        for cell in parameters
    )
    formats = struct.pack("!hh", 1, 1) if binary else struct.pack("!h", 0)
    kinds = struct.pack("!hh", 1, 1) if binary_values else struct.pack("!h", 0)
    body = messages.cstring(portal) + messages.cstring(name) + kinds
    return messages.message(b"B", body + struct.pack("!h", len(parameters)) + cells + formats)


def describe(kind: str, name: str = "") -> bytes:
    """Describe of a statement (``S``) or a portal (``P``)."""
    return messages.message(b"D", kind.encode() + messages.cstring(name))


def execute(portal: str = "", rows_max: int = 0) -> bytes:
    """Execute."""
    return messages.message(b"E", messages.cstring(portal) + struct.pack("!i", rows_max))


def close_(kind: str, name: str = "") -> bytes:
    """Close of a statement (``S``) or a portal (``P``)."""
    return messages.message(b"C", kind.encode() + messages.cstring(name))


def copy_data(data: bytes) -> bytes:
    """CopyData."""
    return messages.message(b"d", data)


def copy_fail(reason: str) -> bytes:
    """CopyFail."""
    return messages.message(b"f", messages.cstring(reason))


def function_call(oid: int, *arguments: bytes | None) -> bytes:
    """FunctionCall, arguments and result in text."""
    cells = b"".join(
        struct.pack("!i", -1) if cell is None else struct.pack("!i", len(cell)) + cell
        for cell in arguments
    )
    head = struct.pack("!ihh", oid, 0, len(arguments))
    return messages.message(b"F", head + cells + struct.pack("!h", 0))


def run(sql: str, *parameters: bytes | None, name: str = "") -> bytes:
    """Parse, Bind, Describe, Execute of one statement, without a Sync."""
    return parse_(name, sql) + bind(name, parameters) + describe("P") + execute()


# --- the same script here and there ----------------------------------------------------------

Script = Callable[[Wire], Awaitable[object]]


async def transcript(place: Place, script: Script) -> list[Message]:
    """What a server said to ``script`` from its first message after the login to the end."""
    wire = await Wire.logged_in(place)
    wire.seen.clear()
    try:
        await script(wire)
        return wire.seen
    finally:
        wire.fin()
