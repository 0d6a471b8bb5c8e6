"""Servers that die, stop, refuse: clear errors for what was running, service again at once.

PostgreSQL is a cluster of this module's own; the meta database stays up beside it.
"""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest

from gateway.demo.binaries import find_postgres
from gateway.demo.postgres import FAST, Cluster, StopMode
from gateway.protocol import messages
from gateway.worker import Worker
from tests.conftest import Provisioned
from tests.running import (
    Backends,
    backends,
    changed,
    eventually,
    moved,
    past_the_gateway,
    place,
    pool_of,
    rest,
    running,
)
from tests.wire import EOF, Message, Place, Refused, Wire, parse_

POOL_MAX = 5
CLIENTS = 25
BACK_WITHIN_S = 1.0
"""Service must be back in this time after the server is."""

WHILE_DOWN = {"08001", "08006", "57P01", "57P02", "57P03", "53300"}
"""What clients may be told of a server that fails; 53300 names the last error as its cause."""


@dataclass(frozen=True, slots=True)
class House:
    """A gateway with a small pool over a database that may be broken."""

    worker: Worker
    cluster: Cluster
    place: Place

    @property
    def url(self) -> str:
        return self.cluster.dsn("breakable")

    async def client(self) -> Wire:
        return await Wire.logged_in(self.place)


@pytest.fixture(scope="module")
async def cluster(cluster_folder: Path) -> AsyncIterator[Cluster]:
    cluster = Cluster(find_postgres(), cluster_folder / "breakable", settings=FAST)
    await cluster.initdb()
    try:
        await cluster.start()
        await past_the_gateway(cluster.dsn(), "CREATE DATABASE breakable")
        yield cluster
    finally:
        await cluster.stop()


@pytest.fixture
async def house(provisioned: Provisioned, cluster: Cluster) -> AsyncIterator[House]:
    """A gateway for each test, so that none inherits another's trouble."""
    settings = changed(provisioned.settings, pool={"max": POOL_MAX})
    settings = moved(settings, "LAW", cluster.dsn("breakable"))
    async with running(settings) as worker:
        yield House(worker, cluster, place(worker, provisioned.owner_on("law")))


# --- load ------------------------------------------------------------------------------------


@dataclass
class Load:
    """Clients that run one short statement after another, and log in again when thrown out."""

    house: House
    served_at: list[float] = field(default_factory=list)
    errors: dict[str, int] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)
    stopped: bool = False

    async def client(self, number: int) -> None:
        while not self.stopped:
            try:
                wire = await self.house.client()
            except Refused as error:
                self._failed(error.sqlstate)
                await asyncio.sleep(0.02)
                continue
            await self._talk(wire, number)
            wire.fin()

    async def _talk(self, wire: Wire, number: int) -> None:
        count = 0
        while not self.stopped:
            count += 1
            tag = f"{number}.{count}"
            heard = await wire.query(f"SELECT '{tag}' FROM pg_sleep(0.005)")
            rows = [one.cells[0] for one in heard if one.tag == "D"]
            errors = [one for one in heard if one.tag == "E"]
            if errors:
                self._failed(errors[0].fields["C"])
            elif rows == [tag.encode()] and heard[-1].tag == "Z":
                self.served_at.append(time.monotonic())
            else:
                self.wrong.append(f"{tag}: {heard}")
            if heard[-1] is EOF:
                return

    def _failed(self, sqlstate: str) -> None:
        self.errors[sqlstate] = self.errors.get(sqlstate, 0) + 1

    def first_served_after(self, moment: float) -> float:
        """Seconds from ``moment`` to the first success after it."""
        return next(at for at in self.served_at if at > moment) - moment


@contextmanager
def return_of(url: str) -> Iterator[list[float]]:
    """When the server takes connections again after it was gone: a list of one, in the end."""
    moments: list[float] = []
    stop = threading.Event()

    def watch() -> None:
        gone = False
        while not stop.is_set() and not moments:
            try:
                psycopg.connect(url).close()
            except psycopg.OperationalError:
                gone = True
            else:
                if gone:
                    moments.append(time.monotonic())
            time.sleep(0.005)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield moments
    finally:
        stop.set()
        thread.join(10)


async def under_load(house: House, breaking: Callable[[], Awaitable[None]]) -> Load:
    """Break the server in the middle of traffic; fails unless service comes back in time."""
    load = Load(house)
    clients = [asyncio.create_task(load.client(number)) for number in range(CLIENTS)]
    await eventually(lambda: len(load.served_at) > 5 * CLIENTS)
    with return_of(house.url) as returned:
        await breaking()
        await eventually(lambda: bool(returned), 30)
    back_at = returned[0]
    await eventually(lambda: bool(load.served_at) and load.served_at[-1] > back_at)
    await asyncio.sleep(0.3)
    load.stopped = True
    await asyncio.gather(*clients)
    back_s = load.first_served_after(back_at)
    print(f"served again {back_s * 1000:.0f} ms after the return; errors {load.errors}")
    assert back_s < BACK_WITHIN_S
    assert not load.wrong
    assert load.errors
    assert set(load.errors) <= WHILE_DOWN
    await rest(house.worker)
    return load


@pytest.mark.parametrize("victim", ["SELECT pg_sleep(60)", "BEGIN"], ids=["busy", "idle"])
async def test_a_backend_is_killed_under_load(house: House, victim: str) -> None:
    """The postmaster then ends all others too and recovers."""
    wire = await house.client()
    await wire.query("BEGIN")
    pid = await wire.value("SELECT pg_backend_pid()")
    assert pid is not None
    wire.send(messages.query(victim))

    async def kill() -> None:
        os.kill(int(pid), signal.SIGKILL)

    await under_load(house, kill)
    heard = await wire.until("")
    assert heard[-1] is EOF
    assert [one.fields["C"] for one in heard if one.tag == "E"] == ["08006"]
    wire.fin()


@pytest.mark.parametrize("mode", [StopMode.IMMEDIATE, StopMode.FAST])
async def test_postgresql_is_stopped_and_started_under_load(house: House, mode: StopMode) -> None:
    async def restart() -> None:
        await house.cluster.stop(mode)
        await asyncio.sleep(1)
        await house.cluster.start()

    with backends_after(house.url) as watch:
        await under_load(house, restart)
        watch.append(Backends(house.url))
        watch[0].start()
        await asyncio.sleep(0.1)
    assert watch[0].most <= POOL_MAX


@contextmanager
def backends_after(url: str) -> Iterator[list[Backends]]:
    """A place for a watcher that can only be made once the server is back."""
    watch: list[Backends] = []
    try:
        yield watch
    finally:
        for one in watch:
            one.stop()


async def test_the_bound_holds_through_terminations_under_load(house: House) -> None:
    """Whoever is thrown out comes back, and never as one too many."""
    load = Load(house)
    clients = [asyncio.create_task(load.client(number)) for number in range(CLIENTS)]
    await eventually(lambda: len(load.served_at) > CLIENTS)
    with backends(house.url) as watch:
        for _ in range(10):
            await past_the_gateway(
                house.url,
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = 'breakable' AND pid <> pg_backend_pid()",
            )
            await asyncio.sleep(0.05)
        load.stopped = True
        await asyncio.gather(*clients)
    print(f"most backends {watch.most} of {POOL_MAX}, {watch.samples} samples, {load.errors}")
    assert watch.most <= POOL_MAX
    assert not load.wrong
    assert set(load.errors) <= {"57P01", "08006"}
    await rest(house.worker)


# --- one at a time ---------------------------------------------------------------------------


async def terminate(house: House, wire_pid: str | None) -> None:
    await past_the_gateway(house.url, f"SELECT pg_terminate_backend({wire_pid}, 5000)")


async def test_trap_a_terminated_backend_is_no_dead_server(house: House) -> None:
    """Who ran there is told the server's own words; nobody else notices."""
    victim, other = await house.client(), await house.client()
    await victim.query("BEGIN")
    pid = await victim.value("SELECT pg_backend_pid()")
    victim.send(messages.query("SELECT pg_sleep(60)"))
    await terminate(house, pid)
    heard = await victim.until("Z")
    assert [one.tag for one in heard] == ["T", "E", "EOF"]
    assert heard[1].fields["C"] == "57P01"
    assert heard[1].fields["V"] == "FATAL"
    victim.fin()
    assert await other.value("SELECT 'fine'") == "fine"
    await other.close()
    await rest(house.worker)


async def test_an_idle_server_that_is_gone_is_not_handed_out(house: House) -> None:
    wire = await house.client()
    for _ in range(20):
        pid = await wire.value("SELECT pg_backend_pid()")
        await terminate(house, pid)
        # The news may need a moment to arrive; a client can't do better than this either.
        await eventually(lambda: not pool_of(house.worker, house.url).core.live)
        assert await wire.value("SELECT 'served'") == "served"
    await wire.close()


async def test_prepared_statements_outlive_their_server(house: House) -> None:
    wire = await house.client()
    wire.send(parse_("kept", "SELECT pg_backend_pid()"), messages.SYNC)
    await wire.until("Z")
    for _ in range(3):
        wire.send(BIND_KEPT, messages.SYNC)
        heard = await wire.until("Z")
        assert [one.tag for one in heard] == ["2", "D", "C", "Z"]
        pid = heard[1].cells[0]
        assert pid is not None
        await terminate(house, pid.decode())
        await eventually(lambda: not pool_of(house.worker, house.url).core.live)
    await wire.close()


BIND_KEPT = messages.message(b"B", b"\0kept\0\0\0\0\0\0\0") + messages.message(b"E", b"\0\0\0\0\0")


async def test_while_the_server_is_down_sessions_live_and_are_told(house: House) -> None:
    idle, in_transaction, waiting = [await house.client() for _ in range(3)]
    await in_transaction.query("BEGIN")
    await house.cluster.stop(StopMode.IMMEDIATE)
    try:
        said = await in_transaction.until("Z")
        assert said[-1] is EOF
        began = time.monotonic()
        heard = await waiting.query("SELECT 1")
        assert [one.tag for one in heard] == ["E", "Z"]
        assert heard[0].fields["C"] == "08001"
        assert "Connection refused" in heard[0].fields["M"]
        assert heard[0].fields["V"] == "ERROR"
        print(f"told after {(time.monotonic() - began) * 1000:.0f} ms")
    finally:
        await house.cluster.start()
    for wire in (idle, waiting):
        assert await served_soon(wire) < BACK_WITHIN_S
        await wire.close()
    in_transaction.fin()


async def served_soon(wire: Wire) -> float:
    """Seconds until a statement succeeds."""
    began = time.monotonic()
    while True:
        heard = await wire.query("SELECT 1")
        if heard[0].tag != "E":
            return time.monotonic() - began
        assert time.monotonic() - began < 10, heard


# --- a server that says no -------------------------------------------------------------------


async def refusal(provisioned: Provisioned, url: str) -> dict[str, str]:
    """What a client is told that wants to log in where the gateway itself can't."""
    async with running(moved(provisioned.settings, "LAW", url)) as worker:
        with pytest.raises(Refused) as caught:
            await Wire.logged_in(place(worker, provisioned.owner_on("law")))
    assert caught.value.sqlstate == "08001"
    return caught.value.fields


def with_login(url: str, user: str, password: str) -> str:
    """The same database as another role."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=f"{user}:{password}@{parts.hostname}:{parts.port}"))


async def test_a_database_that_does_not_exist(provisioned: Provisioned, cluster: Cluster) -> None:
    fields = await refusal(provisioned, cluster.dsn("no_such_database"))
    assert 'database "no_such_database" does not exist' in fields["M"]


async def test_a_wrong_password_of_the_gateway(provisioned: Provisioned, cluster: Cluster) -> None:
    url = with_login(cluster.dsn("breakable"), "postgres", "not-the-password")
    fields = await refusal(provisioned, url)
    assert 'password authentication failed for user "postgres"' in fields["M"]
    assert "not-the-password" not in str(fields)


async def test_a_server_with_too_many_connections(
    provisioned: Provisioned, cluster: Cluster
) -> None:
    await past_the_gateway(
        cluster.dsn(), "CREATE ROLE crowded LOGIN SUPERUSER PASSWORD 'crowded' CONNECTION LIMIT 0"
    )
    await past_the_gateway(cluster.dsn(), "ALTER ROLE crowded NOSUPERUSER")
    url = with_login(cluster.dsn("breakable"), "crowded", "crowded")
    fields = await refusal(provisioned, url)
    assert 'too many connections for role "crowded"' in fields["M"]


async def test_a_pool_that_the_server_keeps_small_serves_all(
    provisioned: Provisioned, cluster: Cluster
) -> None:
    """The server allows 2 of the 5: that is less, and no failure."""
    await past_the_gateway(
        cluster.dsn(), "CREATE ROLE two_at_most LOGIN PASSWORD 'two' CONNECTION LIMIT 2"
    )
    url = with_login(cluster.dsn("breakable"), "two_at_most", "two")
    settings = moved(changed(provisioned.settings, pool={"max": POOL_MAX}), "LAW", url)
    async with running(settings) as worker:
        login = provisioned.owner_on("law")
        wires = [await Wire.logged_in(place(worker, login)) for _ in range(20)]
        answers = await asyncio.gather(*(served(wire) for wire in wires))
        assert all(answers)
        for wire in wires:
            await wire.close()
        await rest(worker)


async def served(wire: Wire) -> bool:
    heard: list[Message] = []
    for _ in range(5):
        heard += await wire.query("SELECT pg_sleep(0.01)")
    return not any(one.tag == "E" for one in heard)
