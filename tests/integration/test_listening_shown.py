"""pg_listening_channels() tells a client its channels, though another connection hears them."""

from __future__ import annotations

import asyncio

import psycopg
import pytest
from psycopg import sql

from gateway.session.client import ClientSession
from tests.integration.conftest import Gateway, StartGateway

_ASK = "SELECT pg_listening_channels() ORDER BY 1"
_CHANNELS = ('a "quoted" \\ one', "plain", "été")

Connection = psycopg.Connection[tuple[str]]


@pytest.fixture
async def gateway(start_gateway: StartGateway) -> Gateway:
    """One whose pools are smaller than the number of clients below."""
    return await start_gateway({"pool": {"max": 2}})


def _connect(gateway: Gateway) -> Connection:
    login = gateway.provisioned.owners[0]
    url = gateway.dsn(login.user, login.database)
    connection: Connection = psycopg.connect(url, autocommit=True)
    return connection


def _listen(connection: Connection) -> None:
    for channel in _CHANNELS:
        connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(channel)))


def _channels(connection: Connection, prepare: bool) -> list[str]:
    return [name for (name,) in connection.execute(_ASK, prepare=prepare)]


def _pins(gateway: Gateway) -> set[str]:
    sessions = [one for one in gateway.worker.context.registry if isinstance(one, ClientSession)]
    return {str(pin) for session in sessions for pin in session.pins}


@pytest.mark.parametrize("prepare", [False, True])
async def test_each_client_sees_its_own_channels(gateway: Gateway, prepare: bool) -> None:
    def scenario() -> None:
        with (
            _connect(gateway) as one,
            _connect(gateway) as other,
            _connect(gateway) as third,
        ):
            _listen(one)
            other.execute("LISTEN plain")
            for _ in range(3):
                assert _channels(one, prepare) == sorted(_CHANNELS)
                assert _channels(other, prepare) == ["plain"]
                assert _channels(third, prepare) == []
            assert _pins(gateway) == set()
            one.execute("UNLISTEN plain")
            assert _channels(one, prepare) == sorted({*_CHANNELS} - {"plain"})
            one.execute("UNLISTEN *")
            assert _channels(one, prepare) == []

    await asyncio.to_thread(scenario)


async def test_a_server_kept_for_another_reason_shows_no_more(gateway: Gateway) -> None:
    """Its LISTEN can't be moved where nobody listens yet, and leaves no trace of the attempt."""

    def scenario() -> None:
        with _connect(gateway) as one:
            one.execute("CREATE TEMP TABLE reason ()")
            one.execute("LISTEN plain")
            one.execute("LISTEN more")
            assert _channels(one, False) == ["more", "plain"]
            one.execute("DROP TABLE reason")
            one.execute("UNLISTEN *")
            assert _channels(one, False) == []

    await asyncio.to_thread(scenario)
