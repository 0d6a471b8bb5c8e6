"""The network between gateway and server misbehaves under a light load, and behaves again."""

from __future__ import annotations

import asyncio
import gc
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

from gateway.protocol import messages
from gateway.settings.dsn import parse
from gateway.worker import Worker
from tests.conftest import FreshDatabase, Provisioned
from tests.fault.traffic import memory_mb, traffic
from tests.fault_proxy import FaultProxy, fault_proxy
from tests.running import Backends, backends, changed, eventually, moved, place, rest, running
from tests.wire import Place, Refused, Wire

pytestmark = pytest.mark.long

POOL_MAX = 4
CLIENTS = 12
FAULT_S = 1.5
RECOVERED_S = 3.0
"""The longest that a new client may have to wait once the network behaves again."""
GROWTH_MB_MAX = 40
"""Of gateway, clients and proxy together, which share a process here."""
TOLD = {"08001", "08006", "57014", "57P01", "53300"}
"""What a server that can't be reached may look like to a client."""


@dataclass(frozen=True, slots=True)
class House:
    """A gateway that reaches one database through a proxy only."""

    worker: Worker
    proxy: FaultProxy
    place: Place
    watch: Backends
    other: Place
    """A database that nothing happens to."""


@pytest.fixture
async def house(provisioned: Provisioned, fresh_database: FreshDatabase) -> AsyncIterator[House]:
    url = await fresh_database("network")
    dsn = parse(url)
    times = {"query_timeout_ms": 1000, "queue_timeout_ms": 8000, "connect_timeout_ms": 1000}
    settings = changed(provisioned.settings, pool={"max": POOL_MAX, **times})
    async with fault_proxy(dsn.host, dsn.port) as proxy:
        settings = moved(settings, "LAW", proxy.url(url))
        async with running(settings) as worker:
            with backends(url) as watch:
                law, other = provisioned.owner_on("law"), provisioned.owner_on("dentist")
                yield House(worker, proxy, place(worker, law), watch, place(worker, other))


def slow(proxy: FaultProxy) -> None:
    proxy.latency_s = 0.05


def cut(proxy: FaultProxy) -> None:
    proxy.cut_after_bytes = 3000


def cut_early(proxy: FaultProxy) -> None:
    proxy.cut_after_bytes = 100


def reset(proxy: FaultProxy) -> None:
    proxy.reset()


def refuse(proxy: FaultProxy) -> None:
    proxy.refusing = True
    proxy.reset()


def half_open(proxy: FaultProxy) -> None:
    proxy.half_open = True


def stop_reading(proxy: FaultProxy) -> None:
    proxy.stopped = True


FAULTS: dict[Callable[[FaultProxy], None], bool] = {
    slow: False,
    cut: True,
    cut_early: True,
    reset: True,
    refuse: True,
    half_open: True,
    stop_reading: False,
}
"""With whether clients must notice."""


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
async def test_a_faulty_network(house: House, fault: Callable[[FaultProxy], None]) -> None:
    gc.collect()
    before_mb = memory_mb()
    async with traffic([house.place], CLIENTS) as hit, traffic([house.other], 3) as bystanders:
        await hit.answered(300)
        assert not hit.errors
        fault(house.proxy)
        bystanders.longest_s = 0.0
        await asyncio.sleep(FAULT_S)
        if FAULTS[fault]:  # a busy machine may take longer to send what a cut waits for
            await eventually(lambda: bool(hit.errors), 20)
        house.proxy.heal()
        recovered_s = await hit.recovered()
        await hit.answered(300)
    gc.collect()
    growth_mb = memory_mb() - before_mb
    print(
        f"| {fault.__name__} | {dict(hit.errors)} of {hit.answers} | {recovered_s * 1000:.0f} ms"
        f" | {house.watch.most} of {POOL_MAX} in {house.watch.samples} samples"
        f" | {growth_mb:+.1f} MB | others' longest {bystanders.longest_s * 1000:.0f} ms |"
    )
    assert bool(hit.errors) is FAULTS[fault]
    torn = {"closed"} if fault is cut else set()  # a row of which a part was there already
    assert set(hit.errors) <= TOLD | torn
    assert not bystanders.errors
    assert recovered_s < RECOVERED_S
    assert house.watch.most <= POOL_MAX
    assert growth_mb < GROWTH_MB_MAX
    await rest(house.worker)


@pytest.mark.parametrize("fault", [half_open, stop_reading], ids=lambda fault: fault.__name__)
async def test_trap_a_statement_on_a_silent_server_ends_while_the_silence_lasts(
    house: House, fault: Callable[[FaultProxy], None]
) -> None:
    """After its time it is cancelled; when that gets no answer either, the connection is over."""
    wire = await Wire.logged_in(house.place)
    await wire.query("SELECT 1")
    fault(house.proxy)
    began = time.monotonic()
    heard = await wire.query("SELECT 1")
    took_s = time.monotonic() - began
    print(f"{fault.__name__}: told {heard[0].fields} after {took_s:.1f} s")
    assert heard[0].fields["C"] == "08006"
    assert took_s < 4
    house.proxy.heal()
    wire.rst()
    again = await Wire.logged_in(house.place)
    assert await again.value("SELECT 'served'") == "served"
    await again.close()
    await rest(house.worker)


async def test_trap_a_server_that_does_not_read_stops_its_client_and_fills_no_memory(
    house: House,
) -> None:
    """What a client sends waits in the client, not in the gateway."""
    wire = await Wire.logged_in(house.place)
    await wire.query("CREATE TEMP TABLE sink (data text)")
    house.proxy.stopped = True
    before_mb = memory_mb()
    wire.send(messages.query("COPY sink FROM STDIN"))
    block = messages.message(b"d", b"x" * 65531 + b"\n")
    sent = 0
    try:
        async with asyncio.timeout(1.0):
            while sent < 400:
                wire.send(block)
                sent += 1
                await wire.sent()
    except TimeoutError:
        pass
    print(f"{sent * 64} KiB sent, {memory_mb() - before_mb:+.1f} MB")
    assert sent < 400, "nothing held the client back"
    assert memory_mb() - before_mb < 30
    wire.rst()
    house.proxy.heal()
    await rest(house.worker)


@contextmanager
def black_hole() -> Iterator[socket.socket]:
    """A port that answers no SYN: the queue of its connections is full, and nobody accepts."""
    fillers = [socket.socket() for _ in range(4)]
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        try:
            yield listener
        finally:
            for filler in fillers:
                filler.close()


async def test_trap_a_black_hole_is_told_in_time_and_left_by_itself(
    provisioned: Provisioned,
) -> None:
    """Not even a RST comes: connects hang. Other databases are as quick as ever."""
    url = provisioned.url("law")
    dsn = parse(url)
    with black_hole() as hole:
        proxy = FaultProxy(dsn.host, dsn.port, hole.getsockname()[1])
        proxy.stopped = False
        settings = changed(provisioned.settings, pool={"max": 2, "connect_timeout_ms": 500})
        async with running(moved(settings, "LAW", proxy.url(url))) as worker:
            law = place(worker, provisioned.owner_on("law"))
            dentist = place(worker, provisioned.owner_on("dentist"))
            async with traffic([dentist], 3) as others:
                began = time.monotonic()
                with pytest.raises(Refused) as caught:
                    await Wire.logged_in(law)
                told_s = time.monotonic() - began
                assert caught.value.sqlstate == "08001"
                assert told_s < 5
                await others.answered(20)
                while (one := _taken(hole)) is not None:
                    one.close()
                server = await asyncio.start_server(proxy.arrived, sock=hole.dup(), backlog=64)
                began = time.monotonic()
                wire = await _admitted(law)
                back_s = time.monotonic() - began
                await wire.close()
            print(
                f"| black hole | 08001 after {told_s:.2f} s | {back_s * 1000:.0f} ms"
                f" | others {dict(others.errors)}, longest {others.longest_s * 1000:.0f} ms |"
            )
            assert not others.errors
            assert back_s < RECOVERED_S
            await rest(worker)
        server.close()
        await proxy.close()


def _taken(listener: socket.socket) -> socket.socket | None:
    """A connection that waits to be accepted."""
    listener.setblocking(False)
    try:
        return listener.accept()[0]
    except BlockingIOError:
        return None


async def _admitted(where: Place) -> Wire:
    """A client, as soon as there may be one."""
    async with asyncio.timeout(20):
        while True:
            try:
                return await Wire.logged_in(where)
            except Refused:
                await asyncio.sleep(0.02)
