"""The server half of SCRAM and our TLS contexts, against the clients that people really use."""

from __future__ import annotations

import asyncio
import ssl
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import asyncpg
import psycopg
import psycopg2
import pytest

from gateway.errors import GatewayError
from gateway.net.tls import own_binding, server_context
from gateway.protocol.scram import SCRAM, SCRAM_PLUS, ScramServer, ScramVerifier, make_verifier
from tests.certificates import issue

HOST = "127.0.0.1"
SSL_REQUEST = struct.pack("!ii", 8, 80877103)


@dataclass(slots=True)
class Doorkeeper:
    """Takes logins and nothing else: says AuthenticationOk, then that it is shutting down."""

    verifier: ScramVerifier | None
    tls: ssl.SSLContext | None = None
    binding: bytes | None = None
    port: int = 0
    mechanism: str = ""
    passed: bool = False
    error: GatewayError | None = None

    @asynccontextmanager
    async def open(self) -> AsyncIterator[int]:
        server = await asyncio.start_server(self._meet, HOST, 0)
        async with server:
            yield server.sockets[0].getsockname()[1]

    async def _meet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._log_in(reader, writer)
            writer.write(error("57P01", "that was all"))
        except GatewayError as failure:
            self.error = failure
            writer.write(error(failure.sqlstate, failure.message))
        finally:
            writer.close()

    async def _log_in(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        start = await self._start(reader, writer)
        scram = ScramServer(
            self.verifier,
            channel_binding=self.binding if writer.get_extra_info("ssl_object") else None,
            mock_secret=b"mock",
            user=user_in(start),
        )
        offer = b"".join(name.encode() + b"\0" for name in scram.mechanisms) + b"\0"
        writer.write(authentication(10, offer))
        self.mechanism, client_first = initial_response(await message(reader))
        writer.write(authentication(11, scram.first(self.mechanism, client_first)))
        writer.write(authentication(12, scram.final(await message(reader))))
        writer.write(authentication(0))
        self.passed = scram.passed

    async def _start(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        """The parameters of the startup message, after TLS if we have it and are asked."""
        head = await reader.readexactly(8)
        if head == SSL_REQUEST:
            writer.write(b"N" if self.tls is None else b"S")
            if self.tls is not None:
                await writer.start_tls(self.tls)
            head = await reader.readexactly(8)
        return await reader.readexactly(int.from_bytes(head[:4], "big") - 8)


def user_in(start: bytes) -> str:
    fields = start.decode().split("\0")
    return dict(zip(fields[::2], fields[1::2], strict=False))["user"]


async def message(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readexactly(5)
    return await reader.readexactly(int.from_bytes(head[1:], "big") - 4)


def initial_response(body: bytes) -> tuple[str, bytes]:
    mechanism, _, rest = body.partition(b"\0")
    return mechanism.decode(), rest[4:]


def authentication(code: int, data: bytes = b"") -> bytes:
    return b"R" + struct.pack("!ii", 8 + len(data), code) + data


def error(sqlstate: str, text: str) -> bytes:
    fields = f"SFATAL\0VFATAL\0C{sqlstate}\0M{text}\0\0".encode()
    return b"E" + struct.pack("!i", 4 + len(fields)) + fields


async def connect(driver: str, port: int, sslmode: str, password: str) -> str:
    """Logs in; the text of the error, which always comes in the end."""
    if driver == "asyncpg":
        tls: Literal["require", "disable"] = "require" if sslmode == "require" else "disable"
        with pytest.raises(asyncpg.PostgresError) as refused:
            await asyncpg.connect(
                host=HOST, port=port, user="ada", database="x", password=password, ssl=tls
            )
        return str(refused.value)
    binding = "require" if sslmode == "require" else "disable"
    options = {"sslmode": sslmode, "channel_binding": binding, "gssencmode": "disable"}
    library = psycopg if driver == "psycopg" else psycopg2
    with pytest.raises(library.OperationalError) as failed:
        await asyncio.to_thread(
            library.connect,
            host=HOST,
            port=port,
            user="ada",
            dbname="x",
            password=password,
            **options,
        )
    return str(failed.value)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, bytes]:
    folder: Path = tmp_path_factory.mktemp("doorkeeper")
    files = issue("localhost", names=("localhost",)).write(folder, "server")
    binding = own_binding(files[0])
    assert binding is not None
    return server_context(*files), binding


DRIVERS = ["psycopg", "psycopg2", "asyncpg"]


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("password", ["pencil", "crêpe\u00a0\u2168", "é\x07"])
async def test_in_plain(driver: str, password: str) -> None:
    door = Doorkeeper(make_verifier(password))
    async with door.open() as port:
        said = await connect(driver, port, "disable", password)
    assert "that was all" in said
    assert door.passed
    assert door.mechanism == SCRAM


@pytest.mark.parametrize("driver", DRIVERS)
async def test_in_tls(driver: str, certificate: tuple[ssl.SSLContext, bytes]) -> None:
    """libpq is told to demand channel binding; asyncpg can't do it."""
    door = Doorkeeper(make_verifier("pencil"), *certificate)
    async with door.open() as port:
        said = await connect(driver, port, "require", "pencil")
    assert "that was all" in said
    assert door.passed
    assert door.mechanism == (SCRAM if driver == "asyncpg" else SCRAM_PLUS)


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("known", [True, False])
async def test_refused(driver: str, known: bool) -> None:
    """A wrong password and an unknown login get the same words."""
    door = Doorkeeper(make_verifier("another") if known else None)
    async with door.open() as port:
        said = await connect(driver, port, "disable", "pencil")
    assert 'password authentication failed for user "ada"' in said
    assert door.error is not None
    assert door.error.sqlstate == "28P01"
    assert not door.passed


async def test_a_certificate_of_somebody_else(certificate: tuple[ssl.SSLContext, bytes]) -> None:
    door = Doorkeeper(make_verifier("pencil"), certificate[0], bytes(32))
    async with door.open() as port:
        said = await connect("psycopg", port, "require", "pencil")
    assert "SCRAM channel binding check failed" in said


async def test_libpq_notices_a_gateway_that_does_not_know_the_password() -> None:
    """The signature that ``final`` returns is what proves us to the client."""
    right = make_verifier("pencil")
    door = Doorkeeper(ScramVerifier(right.iterations, right.salt, right.stored_key, bytes(32)))
    async with door.open() as port:
        said = await connect("psycopg", port, "disable", "pencil")
    assert "incorrect server signature" in said
