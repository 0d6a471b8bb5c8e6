"""Breakers of pools on a real server: what trips them, what does not, and what people see."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from gateway.admin.metrics import WorkerCollector
from gateway.pool.breaker import State
from gateway.pool.pool import Pool
from gateway.settings.dsn import parse
from gateway.worker import Worker
from tests.conftest import Provisioned
from tests.fault_proxy import FaultProxy, fault_proxy
from tests.running import changed, eventually, moved, place, pool_of, rest, running
from tests.wire import Place, Wire


@dataclass(frozen=True, slots=True)
class House:
    """A gateway that reaches LAW's database through a proxy only."""

    worker: Worker
    proxy: FaultProxy
    place: Place
    url: str

    @property
    def pool(self) -> Pool:
        return pool_of(self.worker, self.url)

    def shown(self) -> str:
        """The breaker of LAW's database in SHOW HEALTH."""
        found = next(one for one in self.worker.views.watched() if one.endpoint.name == "law")
        families = {one.name: one for one in WorkerCollector(self.worker.views).collect()}
        (tripped,) = (
            sample.value
            for sample in families["gateway_endpoint_tripped"].samples
            if sample.labels["endpoint"] == "law"
        )
        assert bool(tripped) is (found.breaker != "closed")
        return found.breaker


@pytest.fixture
async def house(provisioned: Provisioned) -> AsyncIterator[House]:
    url = provisioned.url("law")
    dsn = parse(url)
    backoff = {"connect_backoff_min_ms": 100, "connect_backoff_max_ms": 200}
    async with fault_proxy(dsn.host, dsn.port) as proxy:
        settings = changed(provisioned.settings, pool={"max": 3, **backoff})
        async with running(moved(settings, "LAW", proxy.url(url))) as worker:
            yield House(worker, proxy, place(worker, provisioned.owner_on("law")), url)
            await rest(worker)


async def test_a_server_out_of_reach_trips_it_and_is_tried_one_connect_at_a_time(
    house: House,
) -> None:
    wires = [await Wire.logged_in(house.place) for _ in range(3)]
    assert house.shown() == "closed"
    house.proxy.refusing = True
    house.pool.drop()
    await eventually(lambda: not house.pool.core.total)
    for wire in wires:
        wire.send(b"Q\0\0\0\x0dSELECT 1\0")
    most = 0

    def failed_often() -> bool:
        nonlocal most
        if house.pool.counters.open_failures >= len(wires):  # those that began together are over
            most = max(most, house.pool.core.opening)
        return house.pool.counters.open_failures >= 2 * len(wires)

    await eventually(failed_often)
    assert most <= 1
    assert house.shown() in ("open", "half-open")
    assert house.pool.breaker.trips == 1
    house.proxy.heal()
    for wire in wires:
        assert [one.tag for one in await wire.until("Z")] == ["T", "D", "C", "Z"]
        await wire.close()
    await eventually(lambda: house.shown() == "closed")


async def test_trap_nothing_that_a_client_does_trips_it(house: House) -> None:
    """Errors of statements, ended connections, startup settings that the server refuses."""
    for sql in ("SELECT 1/0", "no SQL", "SELECT pg_terminate_backend(pg_backend_pid())") * 3:
        wire = await Wire.logged_in(house.place)
        await wire.query(sql)
        wire.rst()
    bad = {"options": "-c work_mem=nonsense"}
    wire = await Wire.connect(house.place.host, house.place.port)
    assert (await wire.log_in(house.place, bad))[-1].tag != "Z"
    assert house.pool.breaker.state is State.CLOSED
    assert not house.pool.breaker.trips
