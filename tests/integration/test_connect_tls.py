"""Connections to a real PostgreSQL: sslmodes, channel binding, cancel, and a wire that lies."""

from __future__ import annotations

import asyncio
import os
import resource
import socket
import stat
import struct
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import uvloop

from gateway.demo.binaries import find_postgres
from gateway.demo.postgres import FAST, HOST, Cluster
from gateway.demo.process import server_account
from gateway.errors import ConnectFailed
from gateway.net.connect import OutOfDescriptors, open_server, second_sslmode, send_cancel
from gateway.net.tls import ClientContexts, peer_binding
from gateway.protocol.passwords import check_password, md5_verifier
from gateway.protocol.scram import SCRAM, SCRAM_PLUS, KeyCache, ScramClient
from gateway.settings.dsn import Dsn, SslMode, parse
from tests.certificates import issue

TIMEOUT_S = 10.0
PASSWORD = "crêpe"
SSL_REQUEST = struct.pack("!ii", 8, 80877103)

HBA = """
local     all  all                 scram-sha-256
hostssl   all  by_cert  samehost   cert
hostnossl all  tls_only samehost   reject
hostssl   all  no_tls   samehost   reject
host      all  all      samehost   scram-sha-256
"""

# A socket that only the garbage collector closes is a leak too.
pytestmark = pytest.mark.filterwarnings("error::ResourceWarning")

Run = Callable[[Coroutine[Any, Any, None]], None]


# --- the server ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class TlsServer:
    """A PostgreSQL with TLS: its certificate is for localhost only, signed by ``ca``."""

    cluster: Cluster
    folder: Path

    def dsn(self, sslmode: str, host: str = "localhost", *, user: str = "app", **files: str) -> Dsn:
        """A role at this server; the ssl options name files in ``folder``."""
        dsn = Dsn(host, self.cluster.port, "postgres", user, PASSWORD, SslMode(sslmode))
        paths: dict[str, Any] = {key: str(self.folder / name) for key, name in files.items()}
        return replace(dsn, **paths)

    @property
    def socket_folder(self) -> str:
        return str(self.cluster.data_dir)


async def _has_tls(bin_dir: Path) -> bool:
    """Whether this PostgreSQL can do TLS; the embedded one can't. A gateway in front of one is
    tested in test_tls_clients.py everywhere."""
    process = await asyncio.create_subprocess_exec(
        bin_dir / "pg_config", "--configure", stdout=asyncio.subprocess.PIPE
    )
    configured, _ = await process.communicate()
    return b"openssl" in configured or b"ssl=" in configured


@pytest.fixture(scope="session")
async def tls_server(
    cluster_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[TlsServer]:
    folder = tmp_path_factory.mktemp("certificates")
    data_dir = cluster_folder / "tls"
    settings = {
        **FAST,
        "ssl": "on",
        "ssl_cert_file": "localhost.crt",
        "ssl_key_file": "localhost.key",
        "ssl_ca_file": "ca.crt",
        "unix_socket_directories": str(data_dir),
    }
    installation = find_postgres()
    if not await _has_tls(installation.bin_dir):
        pytest.skip(f"PostgreSQL in {installation.bin_dir} was built without TLS")
    cluster = Cluster(installation, data_dir, name="tls", settings=settings)
    await cluster.initdb()
    ca = issue("test authority")
    ca.write(folder, "ca")
    issue("another authority").write(folder, "other")
    issue("by_cert", by=ca).write(folder, "by_cert")
    issue("localhost", by=ca, names=("localhost",)).write(data_dir, "localhost")
    ca.write(data_dir, "ca")
    (data_dir / "pg_hba.conf").write_text(f"host all postgres samehost scram-sha-256\n{HBA}")
    account = server_account()
    if account is not None:
        for name in ("localhost.key", "localhost.crt", "ca.crt"):
            os.chown(data_dir / name, account.uid, account.gid)
    try:
        await cluster.start()
        superuser = await asyncpg.connect(cluster.dsn(), ssl=False)
        for role in ("app", "by_cert", "tls_only", "no_tls"):
            await superuser.execute(f"CREATE ROLE {role} LOGIN PASSWORD '{PASSWORD}'")
        await superuser.close()
        yield TlsServer(cluster, folder)
    finally:
        await cluster.stop()


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Iterator[Run]:
    """Runs a scenario on either loop, and sees to it that no socket outlives it."""
    factory = uvloop.new_event_loop if request.param == "uvloop" else asyncio.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:

        async def checked(scenario: Coroutine[Any, Any, None]) -> None:
            await asyncio.get_running_loop().getaddrinfo("localhost", 1)  # starts helper threads
            before = sockets()
            async with asyncio.timeout(60):
                await scenario
            await none_left_beside(before)

        yield lambda scenario: runner.run(checked(scenario))


async def none_left_beside(before: set[int]) -> None:
    """Transports close their sockets a turn or two of the loop later."""
    for _ in range(100):
        if sockets() <= before:
            return
        await asyncio.sleep(0.02)
    pytest.fail(f"sockets left open: {sockets() - before}")


def sockets() -> set[int]:
    """The open sockets of this process, by inode."""
    found = set()
    for entry in Path("/dev/fd").iterdir():
        try:
            status = os.fstat(int(entry.name))
        except OSError:  # the listing's own
            continue
        if stat.S_ISSOCK(status.st_mode):
            found.add(status.st_ino)
    return found


# --- a hand-made client ----------------------------------------------------------------------


class Refused(Exception):
    """The server's ErrorResponse."""


class Dialogue(asyncio.Protocol):
    """Just enough of the protocol to log in and run a query."""

    def __init__(self) -> None:
        self._received = bytearray()
        self._arrived = asyncio.Event()
        self._lost = False

    def data_received(self, data: bytes) -> None:
        self._received += data
        self._arrived.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost = True
        self._arrived.set()

    async def message(self) -> tuple[bytes, bytes]:
        """Tag and body of the next message. Raises Refused for an error."""
        async with asyncio.timeout(TIMEOUT_S):
            while len(self._received) < 5 or len(self._received) < self._size():
                if self._lost:
                    raise ConnectionResetError
                self._arrived.clear()
                await self._arrived.wait()
        size = self._size()
        tag, body = bytes(self._received[:1]), bytes(self._received[5:size])
        del self._received[:size]
        if tag == b"E":
            raise Refused(body.replace(b"\0", b" ").decode())
        return tag, body

    async def until(self, wanted: bytes) -> bytes:
        while True:
            tag, body = await self.message()
            if tag == wanted:
                return body

    def _size(self) -> int:
        return 1 + int.from_bytes(self._received[1:5], "big")


def message(tag: bytes, body: bytes) -> bytes:
    return tag + struct.pack("!i", 4 + len(body)) + body


@dataclass(slots=True)
class Session:
    """A login that came through."""

    transport: asyncio.Transport
    dialogue: Dialogue
    mechanism: str
    pid: int
    secret: bytes

    async def query(self, sql: str) -> str:
        """The only field of the only row of ``sql``."""
        self.transport.write(message(b"Q", sql.encode() + b"\0"))
        row = await self.dialogue.until(b"D")
        await self.dialogue.until(b"Z")
        return row[6:].decode()

    async def in_tls(self) -> bool:
        """What the server says about this connection."""
        sql = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
        return await self.query(sql) == "t"


@asynccontextmanager
async def logged_in(
    dsn: Dsn, *, bind: bool = True, binding: bytes | None = None, cache: KeyCache | None = None
) -> AsyncIterator[Session]:
    """A session over a fresh connection; ``binding`` replaces the certificate's own."""
    transport, dialogue = await open_server(dsn, Dialogue, TIMEOUT_S)
    try:
        start = f"user\0{dsn.user}\0database\0{dsn.database}\0\0".encode()
        transport.write(struct.pack("!ii", 8 + len(start), 196608) + start)
        bound = (binding or peer_binding(transport)) if bind else None
        mechanism = await authenticate(transport, dialogue, dsn, bound, cache)
        key = await dialogue.until(b"K")
        await dialogue.until(b"Z")
        pid = int.from_bytes(key[:4], "big")
        yield Session(transport, dialogue, mechanism, pid, key[4:])
    finally:
        transport.abort()


async def authenticate(
    transport: asyncio.Transport,
    dialogue: Dialogue,
    dsn: Dsn,
    binding: bytes | None,
    cache: KeyCache | None,
) -> str:
    """The SCRAM login, if the server asks for one; the mechanism."""
    body = await dialogue.until(b"R")
    if body == struct.pack("!i", 0):
        return ""
    offered = [name.decode() for name in body[4:].split(b"\0") if name]
    scram = ScramClient("", dsn.password, channel_binding=binding, offered=offered, cache=cache)
    first = scram.first()
    initial = scram.mechanism.encode() + b"\0" + struct.pack("!i", len(first)) + first
    transport.write(message(b"p", initial))
    transport.write(message(b"p", scram.respond((await dialogue.until(b"R"))[4:])))
    scram.verify((await dialogue.until(b"R"))[4:])
    assert await dialogue.until(b"R") == struct.pack("!i", 0)
    return scram.mechanism


# --- a wire that lies ------------------------------------------------------------------------


@dataclass(slots=True)
class Wire:
    """Stands between us and a real server, and lies about the answer to SSLRequest.

    ``says`` replaces the answer; then the wire carries on, closes, or falls silent.
    """

    port: int
    says: bytes
    then: str = "carry on"

    @asynccontextmanager
    async def to(self, dsn: Dsn) -> AsyncIterator[Dsn]:
        """The same database, reached through this wire."""
        ours: set[asyncio.StreamWriter] = set()

        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            ours.add(writer)
            with suppress(ConnectionError, asyncio.IncompleteReadError):  # the caller gave up
                await self._serve(reader, writer)
            writer.close()

        server = await asyncio.start_server(accept, HOST, 0)
        try:
            yield replace(dsn, port=server.sockets[0].getsockname()[1])
        finally:
            server.close()
            for writer in ours:
                writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        behind, to_server = await asyncio.open_connection(HOST, self.port)
        try:
            request = await reader.readexactly(8)
            to_server.write(request)
            if request == SSL_REQUEST:
                await behind.readexactly(1)
                writer.write(self.says)
                if self.then == "close":
                    return
                if self.then == "fall silent":
                    await reader.read()
                    return
            await asyncio.gather(carry(reader, to_server), carry(behind, writer))
        finally:
            to_server.close()


async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while data := await reader.read(4096):
            writer.write(data)
    writer.close()


# --- sslmode ---------------------------------------------------------------------------------

CA = {"sslrootcert": "ca.crt"}
OTHER_CA = {"sslrootcert": "other.crt"}


@pytest.mark.parametrize(
    ("sslmode", "options", "in_tls"),
    [
        ("disable", {}, False),
        ("allow", {}, False),
        ("prefer", {}, True),
        ("require", {}, True),
        ("prefer", CA, True),
        ("require", CA, True),
        ("verify-ca", CA, True),
        ("verify-full", CA, True),
        ("prefer", OTHER_CA, False),  # as in libpq: no trust, no TLS
    ],
)
def test_sslmode_against_a_server_with_tls(
    run: Run, tls_server: TlsServer, sslmode: str, options: dict[str, str], in_tls: bool
) -> None:
    async def scenario() -> None:
        async with logged_in(tls_server.dsn(sslmode, **options)) as session:
            assert await session.in_tls() is in_tls

    run(scenario())


@pytest.mark.parametrize("sslmode", ["disable", "allow", "prefer"])
def test_sslmodes_that_do_without_tls(run: Run, postgres: Cluster, sslmode: str) -> None:
    async def scenario() -> None:
        dsn = replace(parse(postgres.dsn()), sslmode=SslMode(sslmode))
        async with logged_in(dsn) as session:
            assert await session.in_tls() is False

    run(scenario())


@pytest.mark.parametrize("sslmode", ["require", "verify-ca", "verify-full"])
def test_sslmodes_that_do_not(
    run: Run, postgres: Cluster, tls_server: TlsServer, sslmode: str
) -> None:
    async def scenario() -> None:
        dsn = replace(tls_server.dsn(sslmode, **CA), port=postgres.port)
        with pytest.raises(ConnectFailed, match=f"does not offer TLS, which sslmode={sslmode}"):
            await open_server(dsn, Dialogue, TIMEOUT_S)

    run(scenario())


@pytest.mark.parametrize(
    ("sslmode", "host", "options", "cause"),
    [
        ("require", "localhost", OTHER_CA, "certificate is not accepted"),
        ("verify-ca", "localhost", OTHER_CA, "certificate is not accepted"),
        ("verify-full", "localhost", OTHER_CA, "certificate is not accepted"),
        ("verify-full", HOST, CA, "IP address mismatch"),
    ],
)
def test_a_certificate_that_is_not_accepted(
    run: Run, tls_server: TlsServer, sslmode: str, host: str, options: dict[str, str], cause: str
) -> None:
    async def scenario() -> None:
        with pytest.raises(ConnectFailed, match=cause):
            await open_server(tls_server.dsn(sslmode, host, **options), Dialogue, TIMEOUT_S)

    run(scenario())


def test_verify_ca_does_not_care_for_the_name(run: Run, tls_server: TlsServer) -> None:
    async def scenario() -> None:
        async with logged_in(tls_server.dsn("verify-ca", HOST, **CA)) as session:
            assert await session.in_tls()

    run(scenario())


def test_client_certificate(run: Run, tls_server: TlsServer) -> None:
    async def scenario() -> None:
        files = {"sslcert": "by_cert.crt", "sslkey": "by_cert.key"}
        dsn = tls_server.dsn("verify-full", user="by_cert", **CA, **files)
        async with logged_in(dsn) as session:
            assert session.mechanism == ""
            sql = "SELECT client_dn FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
            assert await session.query(sql) == "/CN=by_cert"

    run(scenario())


@pytest.mark.parametrize(
    ("sslmode", "user", "second"),
    [("allow", "tls_only", SslMode.REQUIRE), ("prefer", "no_tls", SslMode.DISABLE)],
)
def test_second_sslmode_when_the_login_is_refused(
    run: Run, tls_server: TlsServer, sslmode: str, user: str, second: SslMode
) -> None:
    """pg_hba.conf may take a login only in TLS, or only without: allow and prefer try both."""

    async def scenario() -> None:
        dsn = tls_server.dsn(sslmode, user=user)
        with pytest.raises(Refused, match=r"pg_hba\.conf rejects connection"):
            async with logged_in(dsn):
                pass
        assert second_sslmode(dsn, in_tls=sslmode == "prefer") is second
        assert second_sslmode(dsn, in_tls=sslmode != "prefer") is None
        async with logged_in(replace(dsn, sslmode=second)) as session:
            assert await session.in_tls() is (second is SslMode.REQUIRE)

    run(scenario())


@pytest.mark.parametrize("sslmode", ["disable", "prefer", "require"])
def test_a_unix_socket_has_no_tls(run: Run, tls_server: TlsServer, sslmode: str) -> None:
    """As in libpq, where sslmode is ignored there."""

    async def scenario() -> None:
        dsn = tls_server.dsn(sslmode, tls_server.socket_folder)
        assert second_sslmode(dsn, in_tls=False) is None
        async with logged_in(dsn) as session:
            assert await session.in_tls() is False

    run(scenario())


# --- passwords -------------------------------------------------------------------------------


def test_channel_binding_end_to_end(run: Run, tls_server: TlsServer) -> None:
    async def scenario() -> None:
        cache = KeyCache()
        for _ in range(2):
            async with logged_in(tls_server.dsn("require"), cache=cache) as session:
                assert session.mechanism == SCRAM_PLUS
                assert await session.query("SELECT current_user") == "app"
        assert len(cache) == 1
        async with logged_in(tls_server.dsn("require"), bind=False) as session:
            assert session.mechanism == SCRAM

    run(scenario())


def test_postgresql_refuses_another_certificates_binding(run: Run, tls_server: TlsServer) -> None:
    async def scenario() -> None:
        with pytest.raises(Refused, match="channel binding check failed"):
            async with logged_in(tls_server.dsn("require"), binding=bytes(32)):
                pass

    run(scenario())


def test_a_wrong_password(run: Run, tls_server: TlsServer) -> None:
    async def scenario() -> None:
        with pytest.raises(Refused, match="28P01"):
            async with logged_in(replace(tls_server.dsn("require"), password="wrong")):
                pass

    run(scenario())


@pytest.mark.parametrize(
    "password",
    [
        "plain",
        "crêpe",
        "cre\u0302pe",
        "a\u00a0b\u00ad\u2168",
        "zero\u200bwidth",
        "ctrl\x07",
        "é\x07",  # prohibited by SASLprep: taken raw
        "\u0627\u0644\u0627",
        "\u0627a",  # mixed directions: raw
        "\u0221é",  # unassigned in Unicode 3.2: raw
        "\u00ad",  # nothing left: raw
        "密码🔑",
    ],
)
async def test_verifiers_written_by_postgresql(postgres: Cluster, password: str) -> None:
    """And ours, read by it: no statement may tell them from its own."""
    connection = await asyncpg.connect(postgres.dsn())
    try:
        for encryption in ("scram-sha-256", "md5"):
            async with connection.transaction():
                await connection.execute(f"SET LOCAL password_encryption = '{encryption}'")
                await connection.execute(f"CREATE ROLE reader PASSWORD '{password}'")
                stored = await connection.fetchval(
                    "SELECT rolpassword FROM pg_authid WHERE rolname = 'reader'"
                )
                await connection.execute("DROP ROLE reader")
            assert check_password(password, stored, "reader")
            assert not check_password(password + "x", stored, "reader")
            if encryption == "md5":
                assert stored == md5_verifier(password, "reader")
    finally:
        await connection.close()


# --- cancel ----------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["disable", "require", "unix"])
def test_cancel_stops_a_running_statement(run: Run, tls_server: TlsServer, way: str) -> None:
    async def scenario() -> None:
        if way == "unix":
            dsn = tls_server.dsn("disable", tls_server.socket_folder)
        else:
            dsn = tls_server.dsn(way)
        async with logged_in(dsn) as session:
            sleeping = asyncio.create_task(session.query("SELECT pg_sleep(30)"))
            await until_asleep(dsn, session.pid)
            await send_cancel(dsn, session.pid, session.secret, TIMEOUT_S)
            with pytest.raises(Refused, match="57014"):
                await sleeping

    run(scenario())


def test_cancel_with_a_wrong_key_changes_nothing(run: Run, tls_server: TlsServer) -> None:
    async def scenario() -> None:
        dsn = tls_server.dsn("require")
        async with logged_in(dsn) as session:
            sleeping = asyncio.create_task(session.query("SELECT pg_sleep(1)::text || 'done'"))
            await until_asleep(dsn, session.pid)
            wrong = bytes(byte ^ 255 for byte in session.secret)
            await send_cancel(dsn, session.pid, wrong, TIMEOUT_S)
            assert await sleeping == "done"

    run(scenario())


def test_trap_a_cancel_that_nobody_takes_is_bounded_and_in_doubt(run: Run) -> None:
    async def scenario() -> None:
        with socket.create_server((HOST, 0)) as silent:
            dsn = Dsn(HOST, silent.getsockname()[1], "crm", "app", sslmode=SslMode.DISABLE)
            before = sockets()
            with pytest.raises(ConnectFailed, match="no answer in time"):
                await send_cancel(dsn, 1, b"1234", 0.3)
            with pytest.raises(ConnectFailed, match="no answer in time"):
                await send_cancel(replace(dsn, sslmode=SslMode.REQUIRE), 1, b"1234", 0.3)
            await none_left_beside(before)

    run(scenario())


async def until_asleep(dsn: Dsn, pid: int) -> None:
    async with logged_in(dsn) as watcher:
        sql = f"SELECT count(*) FROM pg_stat_activity WHERE pid = {pid} AND wait_event = 'PgSleep'"
        async with asyncio.timeout(TIMEOUT_S):
            while await watcher.query(sql) == "0":  # noqa: ASYNC110
                await asyncio.sleep(0.01)


# --- a wire that lies ------------------------------------------------------------------------


@pytest.mark.parametrize("sslmode", ["prefer", "require"])
@pytest.mark.parametrize(
    ("says", "then", "cause"),
    [
        (b"S" + message(b"Z", b"I"), "carry on", "unencrypted bytes came after"),
        (b"E" + b"\0\0\0\x0aMliar\0\0", "carry on", "with an error"),
        (b"X", "carry on", "not PostgreSQL's"),
        (b"", "close", "closed the connection when asked for TLS"),
        (b"", "fall silent", "no answer in time"),
    ],
)
def test_trap_a_tampered_answer_to_sslrequest(
    run: Run, tls_server: TlsServer, sslmode: str, says: bytes, then: str, cause: str
) -> None:
    """CVE-2021-23222: bytes slipped in before TLS; CVE-2024-10977: words of somebody unknown."""

    async def scenario() -> None:
        async with Wire(tls_server.cluster.port, says, then).to(tls_server.dsn(sslmode)) as dsn:
            with pytest.raises(ConnectFailed, match=cause) as caught:
                await open_server(dsn, Dialogue, 0.5)
            assert "liar" not in caught.value.message

    run(scenario())


def test_trap_bytes_stuffed_a_little_later_end_the_handshake(
    run: Run, tls_server: TlsServer
) -> None:
    """What comes after the look at the socket goes to TLS, which takes it for no record."""

    class Later(Wire):
        async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readexactly(8)
            writer.write(b"S")
            await reader.read(1)  # the handshake has begun
            writer.write(message(b"R", struct.pack("!i", 0)))
            await reader.read()

    async def scenario() -> None:
        wire = Later(tls_server.cluster.port, b"S")
        async with wire.to(tls_server.dsn("require")) as dsn:
            with pytest.raises(ConnectFailed, match="the TLS handshake failed"):
                await open_server(dsn, Dialogue, TIMEOUT_S)

    run(scenario())


def test_a_handshake_that_fails(run: Run, postgres: Cluster) -> None:
    """The server has no TLS, though somebody says so: prefer goes on in plain, require fails."""

    async def scenario() -> None:
        wire = Wire(postgres.port, b"S")
        plain = replace(parse(postgres.dsn()), sslmode=SslMode.PREFER)
        async with wire.to(plain) as dsn, logged_in(dsn) as session:
            assert await session.in_tls() is False
        async with wire.to(replace(plain, sslmode=SslMode.REQUIRE)) as dsn:
            with pytest.raises(ConnectFailed, match="the TLS handshake failed"):
                await open_server(dsn, Dialogue, TIMEOUT_S)

    run(scenario())


def test_tls_taken_away_on_the_way(run: Run, tls_server: TlsServer) -> None:
    async def scenario() -> None:
        wire = Wire(tls_server.cluster.port, b"N")
        async with wire.to(tls_server.dsn("verify-full", **CA)) as dsn:
            with pytest.raises(ConnectFailed, match="does not offer TLS"):
                await open_server(dsn, Dialogue, TIMEOUT_S)

    run(scenario())


# --- other failures --------------------------------------------------------------------------


def test_nobody_listens(run: Run) -> None:
    async def scenario() -> None:
        with socket.socket() as reserved:
            reserved.bind((HOST, 0))
            dsn = Dsn(HOST, reserved.getsockname()[1], "crm", "app", "s3cret")
            with pytest.raises(ConnectFailed) as caught:
                await open_server(dsn, Dialogue, TIMEOUT_S)
        expected = f"could not connect to {HOST}:{dsn.port}/crm: Connection refused"
        assert caught.value.message == expected
        assert caught.value.sqlstate == "08001"

    run(scenario())


def test_a_unix_socket_with_a_full_queue(run: Run, tmp_path: Path) -> None:
    async def scenario() -> None:
        with socket.socket(socket.AF_UNIX) as busy:
            busy.bind(str(tmp_path / ".s.PGSQL.5432"))
            busy.listen(0)
            dsn = Dsn(str(tmp_path), 5432, "crm", "app")
            transport, _ = await open_server(dsn, Dialogue, TIMEOUT_S)
            with pytest.raises(ConnectFailed, match="queue of new connections is full"):
                await open_server(dsn, Dialogue, TIMEOUT_S)
            transport.abort()

    run(scenario())


@pytest.mark.parametrize(
    ("dsn", "cause"),
    [
        (Dsn("nowhere.invalid", 5432, "crm", "app"), "host name look-up failed"),
        (Dsn("a..b", 5432, "crm", "app"), "can't be a host name"),
        (Dsn("/nowhere", 5432, "crm", "app"), "No such file or directory"),
        (
            Dsn(HOST, 5432, "crm", "app", sslmode=SslMode.VERIFY_CA, sslrootcert="/nowhere.crt"),
            "sslrootcert: /nowhere.crt: No such file",
        ),
    ],
)
def test_what_is_wrong_is_named(run: Run, dsn: Dsn, cause: str) -> None:
    async def scenario() -> None:
        with pytest.raises(ConnectFailed, match=cause) as caught:
            await open_server(dsn, Dialogue, TIMEOUT_S)
        assert dsn.place in caught.value.message

    run(scenario())


def test_each_address_has_its_turn(
    run: Run, tls_server: TlsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One refuses, one never answers, the third is the server."""

    async def scenario() -> None:
        with socket.create_server((HOST, 0)) as silent, socket.socket() as closed:
            closed.bind((HOST, 0))
            ports = [closed.getsockname()[1], silent.getsockname()[1], tls_server.cluster.port]
            stream = (socket.AF_INET, socket.SOCK_STREAM, 6, "")
            found = [(*stream, (HOST, port)) for port in ports]
            monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **more: found)
            transport, _ = await open_server(tls_server.dsn("require"), Dialogue, 2.0)
            assert transport.get_extra_info("peername")[1] == tls_server.cluster.port
            transport.abort()
            found.pop()
            with pytest.raises(ConnectFailed, match=r"Connection refused; .*no answer in time"):
                await open_server(tls_server.dsn("require"), Dialogue, 0.5)

    run(scenario())


def test_trap_a_look_up_that_hangs_is_bounded(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        async def hang(*args: object, **more: object) -> None:
            await asyncio.sleep(60)

        monkeypatch.setattr("gateway.net.connect._looked_up", hang)
        started = asyncio.get_running_loop().time()
        with pytest.raises(ConnectFailed, match="no answer in time"):
            await open_server(Dsn("db.example", 5432, "crm", "app"), Dialogue, 0.2)
        assert asyncio.get_running_loop().time() - started < 2

    run(scenario())


@pytest.mark.parametrize("host", [HOST, "localhost"])
def test_trap_running_out_of_file_descriptors_is_told_apart(
    run: Run, tls_server: TlsServer, host: str
) -> None:
    async def scenario() -> None:
        with no_more_descriptors(), pytest.raises(OutOfDescriptors) as caught:
            await open_server(tls_server.dsn("disable", host), Dialogue, TIMEOUT_S)
        assert "the gateway ran out of file descriptors" in caught.value.message
        with no_more_descriptors(), pytest.raises(OutOfDescriptors):
            await open_server(tls_server.dsn("verify-ca", host, **CA), Dialogue, TIMEOUT_S)

    run(scenario())


def test_trap_a_resolver_that_hides_it_is_seen_through(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A resolver that can open no socket to its name server says EAI_AGAIN, as on a bad day."""

    async def scenario() -> None:
        async def fail(*args: object) -> None:
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

        monkeypatch.setattr("gateway.net.connect._looked_up", fail)
        dsn = Dsn("db.example", 5432, "crm", "app")
        with pytest.raises(ConnectFailed, match="Temporary failure") as caught:
            await open_server(dsn, Dialogue, TIMEOUT_S)
        assert not isinstance(caught.value, OutOfDescriptors)
        with no_more_descriptors(), pytest.raises(OutOfDescriptors):
            await open_server(dsn, Dialogue, TIMEOUT_S)

    run(scenario())


@contextmanager
def no_more_descriptors() -> Iterator[None]:
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest_free = os.dup(0)
    os.close(lowest_free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


@pytest.mark.parametrize(
    ("sslmode", "says", "then"),
    [
        ("disable", b"", "carry on"),
        ("require", b"", "fall silent"),
        ("require", b"S", "fall silent"),
        ("require", b"S", "carry on"),
    ],
)
def test_cancelled_at_any_moment_nothing_stays_open(
    run: Run, tls_server: TlsServer, sslmode: str, says: bytes, then: str
) -> None:
    """The caller gives up ever later, until it would have had its connection."""

    async def scenario() -> None:
        contexts = ClientContexts()
        turns = [0.0] * 20
        moments = [turns[:count] for count in range(20)]
        moments += [[0.0001 * 1.3**count] for count in range(28)]  # up to 0.12 s
        async with Wire(tls_server.cluster.port, says, then).to(tls_server.dsn(sslmode)) as dsn:
            opened = 0
            for pauses in moments:
                if opened > 5:
                    break
                opening = asyncio.create_task(open_server(dsn, Dialogue, TIMEOUT_S, contexts))
                for pause in pauses:
                    await asyncio.sleep(pause)
                if opening.done():
                    opened += 1
                    opening.result()[0].abort()
                    continue
                opening.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await opening
            assert (opened > 0) is (then == "carry on")

    run(scenario())
