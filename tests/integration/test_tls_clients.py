"""TLS towards clients: asked for, direct, demanded, bound to SCRAM, and what is refused."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest

from gateway.directory.owners import add_api_key, add_login, open_meta
from gateway.net.tls import end_point_binding
from gateway.protocol import messages
from gateway.router.identity import LoginKind
from gateway.settings.dsn import parse
from gateway.settings.model import Settings
from gateway.worker import Worker
from tests.certificates import issue
from tests.conftest import Provisioned
from tests.running import changed, eventually, moved, past_the_gateway, place, rest, running
from tests.wire import EOF, GSSENC_REQUEST, SSL_REQUEST, Message, Place, Wire

HOST = "localhost"
LOGIN_TIMEOUT_S = 3.0


@dataclass(frozen=True, slots=True)
class House:
    """A gateway with a certificate for localhost, and an API key of one of its owners."""

    worker: Worker
    place: Place
    root: str
    key_login: Place

    def libpq(self, where: Place | None = None, **options: str) -> dict[str, Any]:
        """What psycopg connects with."""
        where = where or self.place
        return {
            "host": HOST,
            "hostaddr": where.host,
            "port": where.port,
            "user": where.user,
            "password": where.password,
            "dbname": where.database,
            "autocommit": True,
            **options,
        }

    def context(self, alpn: str | None = "postgresql") -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=self.root)
        if alpn is not None:
            context.set_alpn_protocols([alpn])
        return context


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A root certificate, one for localhost signed by it, and the latter's key."""
    folder: Path = tmp_path_factory.mktemp("tls")
    root = issue("test root")
    certificate_file, key_file = issue(HOST, by=root, names=(HOST,)).write(folder, "gateway")
    return {
        "root": root.write(folder, "root")[0],
        "certificate_file": certificate_file,
        "key_file": key_file,
    }


def with_tls(settings: Settings, files: dict[str, str], mode: str = "allow") -> Settings:
    tls = {
        "mode": mode,
        "certificate_file": files["certificate_file"],
        "key_file": files["key_file"],
    }
    return changed(settings, listen={"tls": tls, "login_timeout_s": LOGIN_TIMEOUT_S})


@pytest.fixture(scope="module")
async def house(provisioned: Provisioned, files: dict[str, str]) -> AsyncIterator[House]:
    owner = provisioned.owner_on("law")
    name = "tls_with_api_key"
    async with open_meta(parse(provisioned.url("meta"))) as meta:
        await add_login(meta, name, LoginKind.OWNER, owner=owner.owner)
        key = (await add_api_key(meta, name)).key
    try:
        async with running(with_tls(provisioned.settings, files)) as worker:
            where = place(worker, owner)
            key_login = Place(where.host, where.port, name, key, "law")
            yield House(worker, where, files["root"], key_login)
    finally:
        await past_the_gateway(
            provisioned.url("meta"), f"DELETE FROM gateway.login WHERE name = '{name}'"
        )


def rows(options: dict[str, Any], sql: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(**options) as connection:
        return connection.execute(sql).fetchall()


async def ask(options: dict[str, Any], sql: str = "SELECT current_database()") -> object:
    """The first cell, by libpq in a thread: the gateway runs on our own loop."""
    return (await asyncio.to_thread(rows, options, sql))[0][0]


# --- libpq -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {"sslmode": "require"},
        {"sslmode": "verify-full"},
        {"sslmode": "verify-full", "channel_binding": "require"},
        {"sslmode": "require", "sslnegotiation": "direct"},
        {"sslmode": "verify-full", "sslnegotiation": "direct", "channel_binding": "require"},
        {"sslmode": "require", "ssl_min_protocol_version": "TLSv1.3"},
        {"sslmode": "require", "ssl_max_protocol_version": "TLSv1.2"},
        {"sslmode": "prefer", "gssencmode": "prefer"},
        {"sslmode": "disable"},
    ],
    ids=str,
)
async def test_libpq_gets_in(house: House, options: dict[str, str]) -> None:
    if options["sslmode"] == "verify-full":
        options = {**options, "sslrootcert": house.root}
    assert await ask(house.libpq(None, **options)) == "crm_law"
    await rest(house.worker)


async def test_a_certificate_of_another_authority_is_noticed(house: House, tmp_path: Path) -> None:
    other = issue("another root").write(tmp_path, "other")[0]
    with pytest.raises(psycopg.OperationalError, match="certificate verify failed"):
        await ask(house.libpq(sslmode="verify-full", sslrootcert=other))


async def test_cancel_inside_tls(house: House) -> None:
    connection = await psycopg.AsyncConnection.connect(**house.libpq(sslmode="require"))
    async with connection:
        task = asyncio.create_task(connection.execute("SELECT pg_sleep(60)"))
        await asyncio.sleep(0.1)
        await connection.cancel_safe()
        with pytest.raises(psycopg.errors.QueryCanceled):
            await task
    await rest(house.worker)


async def test_results_larger_than_any_buffer(house: House) -> None:
    options = house.libpq(sslmode="require")
    size = 20_000_000
    assert await ask(options, f"SELECT length(repeat('x', {size})), repeat('x', {size})") == size
    sql = "SELECT count(*) FROM (SELECT repeat('y', 1000) FROM generate_series(1, 20000)) AS y"
    assert await ask(options, sql) == 20_000
    await rest(house.worker)


async def test_who_leaves_the_queue_unread_is_let_go(
    provisioned: Provisioned, files: dict[str, str]
) -> None:
    """It has sent so much that the gateway reads no more of it until a server is free."""
    settings = changed(with_tls(provisioned.settings, files), pool={"max": 1})
    async with running(settings) as worker:
        where = place(worker, provisioned.owner_on("law"))
        holder = await Wire.logged_in(where)
        await holder.query("BEGIN")
        waiting = await Wire.connect(where.host, where.port)
        await waiting.start_tls(ssl.create_default_context(cafile=files["root"]), HOST)
        await waiting.log_in(where)
        waiting.send(messages.query(f"SELECT length('{'y' * 300_000}')"))
        await eventually(lambda: len(worker.context.unread) == 1)
        waiting.rst()
        await eventually(lambda: len(worker.context.registry) == 1)
        await holder.query("COMMIT")
        await holder.close()
        await rest(worker)


@pytest.mark.parametrize("negotiation", ["postgres", "direct"])
async def test_tls_demanded(
    provisioned: Provisioned, house: House, files: dict[str, str], negotiation: str
) -> None:
    async with running(with_tls(provisioned.settings, files, "require")) as worker:
        where = place(worker, provisioned.owner_on("law"))
        options = house.libpq(where, sslmode="require", sslnegotiation=negotiation)
        assert await ask(options) == "crm_law"
        wire = await Wire.connect(where.host, where.port)
        said = await wire.log_in(where)
        assert said[0].fields["C"] == "28000"
        assert said[0].fields["V"] == "FATAL"
        assert await wire.message() is EOF
        wire.fin()


async def test_without_a_certificate_there_is_no_tls(provisioned: Provisioned) -> None:
    async with running(provisioned.settings) as worker:
        where = place(worker, provisioned.owner_on("law"))
        wire = await Wire.connect(where.host, where.port)
        wire.send(SSL_REQUEST)
        assert await wire.raw(1) == b"N"
        assert (await wire.log_in(where))[-1].tag == "Z"
        await wire.close()
        wire = await Wire.connect(where.host, where.port)
        wire.send(b"\x16\x03\x01\x02\x00\x01")
        assert (await wire.message()).fields["C"] == "08P01"
        wire.fin()


# --- by hand ---------------------------------------------------------------------------------


async def test_gss_is_declined_and_the_client_goes_on(house: House) -> None:
    wire = await Wire.connect(house.place.host, house.place.port)
    wire.send(GSSENC_REQUEST)
    assert await wire.raw(1) == b"N"
    await wire.start_tls(house.context(), HOST)
    assert (await wire.log_in(house.place))[-1].tag == "Z"
    assert await wire.value("SELECT 1") == "1"
    await wire.close()


async def test_the_order_of_requests_is_free_but_none_comes_twice(house: House) -> None:
    wire = await Wire.connect(house.place.host, house.place.port)
    for _ in range(2):
        wire.send(GSSENC_REQUEST)
        answer = await wire.raw(1)
    assert answer == b"E"
    wire.fin()


@pytest.mark.parametrize("request_", [SSL_REQUEST, GSSENC_REQUEST], ids=["ssl", "gss"])
async def test_trap_bytes_stuffed_behind_an_encryption_request_are_refused(
    house: House, request_: bytes
) -> None:
    """They are clear text that would pass for encrypted (CVE-2021-3935, CVE-2021-23214)."""
    startup = messages.startup({"user": house.place.user, "database": "law"}, 0x30000)
    for stuffed in (startup, b"\0", messages.query("SELECT 1")):
        wire = await Wire.connect(house.place.host, house.place.port)
        wire.send(request_ + stuffed)
        heard = await wire.message()
        assert heard.tag == "E"
        assert heard.fields["C"] == "08P01"
        assert await wire.message() is EOF
        wire.fin()


@pytest.mark.parametrize("alpn", [None, "h2", "postgres"])
async def test_direct_tls_without_our_alpn_is_refused(house: House, alpn: str | None) -> None:
    try:
        wire = await Wire.connect(
            house.place.host, house.place.port, tls=house.context(alpn), name=HOST
        )
    except (ssl.SSLError, ConnectionError):
        return  # refused within the handshake
    wire.send(messages.startup({"user": house.place.user}, 0x30000))
    heard: list[Message] = await wire.until("EZR")
    assert heard[-1].tag in ("E", "EOF")
    wire.fin()


async def test_tls_begins_no_second_time(house: House) -> None:
    wire = await Wire.connect(house.place.host, house.place.port)
    await wire.start_tls(house.context(), HOST)
    wire.send(SSL_REQUEST)
    assert (await wire.message()).fields["C"] == "08P01"
    wire.fin()


async def test_binding_to_another_connection_is_refused(house: House) -> None:
    """What SCRAM-SHA-256-PLUS is for: somebody in the middle with a certificate of its own."""
    wire = await Wire.connect(house.place.host, house.place.port)
    await wire.start_tls(house.context(), HOST)
    wire.send(messages.startup({"user": house.place.user, "database": "law"}, 0x30000))
    said = await wire.prove(house.place, binding=end_point_binding(issue("middle").der))
    assert said[-1].tag == "E"
    assert said[-1].fields["C"].startswith("28")
    wire.fin()


async def test_the_right_binding_is_accepted(house: House) -> None:
    wire = await Wire.connect(house.place.host, house.place.port)
    await wire.start_tls(house.context(), HOST)
    assert wire.tls is not None
    certificate = wire.tls.getpeercert(binary_form=True)
    assert certificate is not None
    wire.send(messages.startup({"user": house.place.user, "database": "law"}, 0x30000))
    said = await wire.prove(house.place, binding=end_point_binding(certificate))
    assert said[-1].tag == "Z"
    await wire.close()


@pytest.mark.parametrize(
    "garbage",
    [b"", b"\x16", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"\x16" + b"\xff" * 500],
    ids=["nothing", "one byte", "half a hello", "garbage"],
)
@pytest.mark.parametrize("first", [b"", SSL_REQUEST], ids=["direct", "asked"])
async def test_a_handshake_that_goes_nowhere_ends(
    house: House, first: bytes, garbage: bytes
) -> None:
    wire = await Wire.connect(house.place.host, house.place.port)
    if first:
        wire.send(first)
        assert await wire.raw(1) == b"S"
    wire.send(garbage)
    async with asyncio.timeout(LOGIN_TIMEOUT_S + 3):
        await wire.until("")
    wire.fin()
    await eventually(lambda: not any(one.in_progress for one in house.worker._listeners))


# --- API keys --------------------------------------------------------------------------------


async def test_an_api_key_opens_inside_tls(house: House) -> None:
    assert await ask(house.libpq(house.key_login, sslmode="require")) == "crm_law"


async def test_an_api_key_is_not_even_asked_for_outside_tls(house: House) -> None:
    wire = await Wire.connect(house.key_login.host, house.key_login.port)
    said = await wire.log_in(house.key_login)
    asked_for = [one.body[:4] for one in said if one.tag == "R"]
    assert b"\0\0\0\3" not in asked_for
    assert said[-1].fields["C"] == "28P01"
    wire.fin()


async def test_another_key_is_refused(house: House) -> None:
    wrong = house.libpq(house.key_login, sslmode="require", password="gw_wrong_key")
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        await ask(wrong)


# --- one gateway behind another --------------------------------------------------------------


async def test_a_gateway_behind_a_gateway(provisioned: Provisioned, house: House) -> None:
    """TLS, verified and bound, between the two; the outer one takes the inner for a PostgreSQL."""
    url = (
        f"postgresql://{house.place.user}:{house.place.password}@{HOST}:{house.place.port}/law"
        f"?sslmode=verify-full&sslrootcert={house.root}&channel_binding=require"
    )
    async with running(moved(provisioned.settings, "LAW", url)) as outer:
        where = place(outer, provisioned.owner_on("law"))
        wires = [await Wire.logged_in(where) for _ in range(5)]
        for number, wire in enumerate(wires):
            assert await wire.value("SELECT current_database()") == "crm_law"
            await wire.query(f"SET work_mem = '{number + 1}MB'")
        for number, wire in enumerate(wires):
            assert await wire.value("SHOW work_mem") == f"{number + 1}MB"
            assert await wire.value("SELECT length(repeat('x', 5000000))") == "5000000"
            await wire.close()
        await rest(outer)
    await rest(house.worker)


def test_localhost_is_where_the_gateway_listens() -> None:
    """What the certificate's name rests on."""
    addresses = {found[4][0] for found in socket.getaddrinfo(HOST, None, socket.AF_INET)}
    assert "127.0.0.1" in addresses
