"""What a server process keeps until its end, such as a loaded library: its client keeps it too."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import psycopg
import pytest

from gateway.demo.seed import SeedLogin
from gateway.protocol import messages
from gateway.router.identity import LoginKind
from tests.integration.conftest import HOST, Gateway, StartGateway
from tests.wire import Place, Wire, sqlstate

Connection = psycopg.Connection[tuple[object]]

ORIGIN = "SELECT pg_replication_origin_session_setup('here')"
HAS_ORIGIN = "SELECT pg_replication_origin_session_is_setup()"


@pytest.fixture
async def gateway(start_gateway: StartGateway) -> Gateway:
    """One whose pools have three connections."""
    return await start_gateway({"pool": {"max": 3}})


def _dsn(gateway: Gateway, kind: LoginKind = LoginKind.OWNER) -> str:
    """Of an owner's login, or a service login's that acts for that owner."""
    login = gateway.provisioned.owners[0]
    if kind is LoginKind.OWNER:
        return gateway.dsn(login.user, login.database)
    logins = gateway.provisioned.logins.values()
    service = next(one for one in logins if one.kind is kind)
    acting_for = f"-c gateway.owner={login.owner}"
    return gateway.dsn(service.user, service.database, options=acting_for)


def _connect(gateway: Gateway, kind: LoginKind = LoginKind.OWNER) -> Connection:
    connection: Connection = psycopg.connect(_dsn(gateway, kind), autocommit=True)
    return connection


def _value(connection: Connection, sql: str) -> object:
    row = connection.execute(sql.encode()).fetchone()
    assert row is not None
    return row[0]


@contextmanager
def _others_busy(gateway: Gateway) -> Iterator[None]:
    """Two of the three servers are taken, those used last among them."""
    with ExitStack() as stack:
        for _ in range(2):
            stack.enter_context(_connect(gateway)).execute("BEGIN")
        yield


ASKERS = pytest.mark.parametrize("kind", [LoginKind.OWNER, LoginKind.SERVICE])
"""Who gets a process without a past."""


@contextmanager
def _origin(gateway: Gateway) -> Iterator[None]:
    with _connect(gateway) as maker:
        maker.execute("SELECT pg_replication_origin_create('here')")
        try:
            yield
        finally:
            maker.execute("SELECT pg_replication_origin_drop('here')")


async def test_backup_begins_and_ends_on_one_server(gateway: Gateway) -> None:
    def scenario() -> None:
        with _connect(gateway) as one:
            one.execute("SELECT pg_backup_start('test', true)")
            with _others_busy(gateway):
                assert _value(one, "SELECT lsn IS NOT NULL FROM pg_backup_stop()") is True

    await asyncio.to_thread(scenario)


async def test_trap_replication_origin_is_left_to_nobody_else(gateway: Gateway) -> None:
    def scenario() -> None:
        with _origin(gateway):
            with _connect(gateway) as one:
                one.execute(ORIGIN.encode())
                used = _value(one, "SELECT pg_backend_pid()")
                with _others_busy(gateway):
                    assert _value(one, HAS_ORIGIN) is True
            with ExitStack() as stack:
                others = [stack.enter_context(_connect(gateway)) for _ in range(3)]
                for other in others:
                    other.execute("BEGIN")
                assert [_value(other, HAS_ORIGIN) for other in others] == [False] * 3
                assert used not in [_value(other, "SELECT pg_backend_pid()") for other in others]

    await asyncio.to_thread(scenario)


async def test_loaded_library_ends_with_its_client(gateway: Gateway) -> None:
    def scenario() -> None:
        with _connect(gateway) as one:
            one.execute("LOAD 'plpgsql'")
            used = _value(one, "SELECT pg_backend_pid()")
            with _others_busy(gateway):
                assert _value(one, "SELECT pg_backend_pid()") == used
        with ExitStack() as stack:
            others = [stack.enter_context(_connect(gateway)) for _ in range(3)]
            for other in others:
                other.execute("BEGIN")
            assert used not in [_value(other, "SELECT pg_backend_pid()") for other in others]

    await asyncio.to_thread(scenario)


def _use_all(gateway: Gateway, sql: str) -> None:
    """All three servers run it."""
    with ExitStack() as stack:
        for connection in [stack.enter_context(_connect(gateway)) for _ in range(3)]:
            connection.execute("BEGIN")
            connection.execute(sql.encode())


UNKNOWN = "SET plpgsql.no_such_setting = true"


@ASKERS
@pytest.mark.parametrize("way", ["text", "prepared"])
async def test_a_library_is_loaded_in_a_process_that_has_not_loaded_it(
    gateway: Gateway, way: str, kind: LoginKind
) -> None:
    """plpgsql refuses an unknown setting of its prefix, or removes it when it is loaded."""

    def scenario() -> None:
        _use_all(gateway, "DO $$ BEGIN END $$")
        with _connect(gateway, kind) as one:
            notices: list[str | None] = []
            one.add_notice_handler(lambda notice: notices.append(notice.message_primary))
            one.prepare_threshold = 0 if way == "prepared" else None
            one.execute(UNKNOWN.encode())
            with _others_busy(gateway):
                one.execute("LOAD 'plpgsql'")
                with pytest.raises(psycopg.errors.InvalidName):
                    one.execute(UNKNOWN.encode())
            assert len(notices) == 1

    await asyncio.to_thread(scenario)


@ASKERS
async def test_who_makes_the_temporary_schema_the_current_one_finds_none(
    gateway: Gateway, kind: LoginKind
) -> None:
    """Making it is what forbids PREPARE TRANSACTION, so it must not be there from others."""

    def scenario() -> None:
        _use_all(gateway, "CREATE TEMP TABLE here (n int) ON COMMIT DROP")
        with _connect(gateway, kind) as one:
            one.execute("SET search_path TO pg_temp")
            with _others_busy(gateway):
                one.execute("BEGIN")
                assert str(_value(one, "SELECT current_schema()")).startswith("pg_temp")
                with pytest.raises(psycopg.errors.FeatureNotSupported):
                    one.execute("PREPARE TRANSACTION 'never'")

    await asyncio.to_thread(scenario)


@ASKERS
async def test_every_client_is_one_more_session(gateway: Gateway, kind: LoginKind) -> None:
    """PostgreSQL counts processes: who asks for their number gets one that was begun for it."""
    count = "SELECT sessions FROM pg_stat_database WHERE datname = current_database()"

    def scenario() -> None:
        _use_all(gateway, "SELECT 1")
        counts = []
        for _ in range(3):
            with _connect(gateway, kind) as one:
                one.execute("SELECT pg_stat_clear_snapshot()")
                counts.append(int(str(_value(one, count))))
        assert counts == sorted(set(counts)), counts

    await asyncio.to_thread(scenario)


async def test_what_is_sent_behind_goes_to_the_new_process_too(
    gateway: Gateway, service: SeedLogin
) -> None:
    """A service login's statements wait for each other, and its BEGIN for the first of them."""
    owner = gateway.provisioned.owners[0]
    place = Place(HOST, gateway.port, service.user, service.password, service.database)
    await asyncio.to_thread(_use_all, gateway, "DO $$ BEGIN END $$")
    client = await Wire.logged_in(place, {"options": f"-c gateway.owner={owner.owner}"})
    said = ("BEGIN", UNKNOWN, "SELECT 'in it'", "ROLLBACK", "SELECT 'after it'")
    client.send(b"".join(messages.query(sql) for sql in said))
    heard = [await client.until("Z") for _ in said]
    await client.close()
    cells = [[one.cells for one in unit if one.tag == "D"] for unit in heard]
    assert cells == [[], [], [[b"in it"]], [], [[b"after it"]]]
    assert [sqlstate(unit) for unit in heard] == [None] * 5
