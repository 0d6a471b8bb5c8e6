"""Orders of another gateway and a gateway of several workers, some of which come and go."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import pytest

from gateway.settings.dsn import parse
from gateway.settings.model import Settings
from gateway.worker import Worker
from tests.conftest import Provisioned
from tests.fault_proxy import FaultProxy, fault_proxy
from tests.fleet import Fleet, fleet
from tests.integration.conftest import revealed
from tests.integration.test_maintenance_workers import hangs
from tests.running import eventually, place, running

pytestmark = pytest.mark.long


@dataclass
class House:
    """Two workers, behind a proxy on the way to the meta database; and another gateway."""

    one: Fleet
    other: Worker
    console: asyncpg.Connection
    """The other's."""
    proxy: FaultProxy
    provisioned: Provisioned

    async def clients(self, count: int, user: str = "") -> list[asyncpg.Connection]:
        """Of the two workers."""
        login = self.provisioned.logins[user] if user else self.provisioned.owner_on("law")
        url = self.one.url(login, "law")
        return [await asyncpg.connect(url) for _ in range(count)]


@pytest.fixture
async def house(provisioned: Provisioned, tmp_path: Path) -> AsyncIterator[House]:
    dsn = parse(provisioned.url("meta"))
    meta = await asyncpg.connect(provisioned.url("meta"))
    clear = "DELETE FROM gateway.operator_order; DELETE FROM gateway.worker"
    await meta.execute(clear)
    async with AsyncExitStack() as stack:
        proxy = await stack.enter_async_context(fault_proxy(dsn.host, dsn.port))
        plain = revealed(provisioned.settings)
        plain["meta"]["primary"] = proxy.url(plain["meta"]["primary"])
        one = await stack.enter_async_context(
            fleet(Settings.model_validate(plain), tmp_path, {"listen": {"shutdown_timeout_s": 20}})
        )
        other = await stack.enter_async_context(running(provisioned.settings))
        there = place(other, provisioned.logins["operator"], "gateway")
        where = f"{there.host}:{there.port}/gateway"
        console = await asyncpg.connect(f"postgresql://{there.user}:{there.password}@{where}")
        stack.push_async_callback(console.close)
        yield House(one, other, console, proxy, provisioned)
    await meta.execute(clear)
    await meta.close()


async def test_a_pause_waits_for_each_worker_of_another_gateway(house: House) -> None:
    clients = await house.clients(8)
    for client in clients:
        await client.execute("BEGIN")
        await client.execute("SELECT 1")
    pausing = asyncio.create_task(house.console.execute("PAUSE DATABASE law FOR 1h TIMEOUT 60s"))
    await asyncio.sleep(0.3)
    for client in clients:
        await asyncio.sleep(0.1)
        assert not pausing.done()
        await client.execute("COMMIT")
    await asyncio.wait_for(pausing, 5)
    assert all([await hangs(client) for client in clients])
    await house.console.execute("RESUME")
    assert not any([await hangs(client) for client in clients])


async def test_a_worker_that_was_killed_is_waited_for_until_another_has_its_place(
    house: House,
) -> None:
    house.one.kill_worker(1)
    await house.console.execute("PAUSE DATABASE law FOR 1h TIMEOUT 60s")
    assert all([await hangs(client) for client in await house.clients(6)])
    await house.console.execute("RESUME")


async def test_new_workers_keep_to_a_pause_that_only_the_old_could_read(house: House) -> None:
    clients = await house.clients(8, "operator")  # whom nobody has to look up again
    for client in clients:
        await client.execute("SELECT 1")
    await house.console.execute("PAUSE DATABASE law FOR 1h TIMEOUT 30s")
    asked = [asyncio.create_task(client.fetchval("SELECT 7")) for client in clients[:4]]
    await asyncio.sleep(0.3)
    house.proxy.refusing = True
    house.proxy.reset()
    house.one.signal(signal.SIGUSR2)
    await house.one.logged("restarted: 2 new workers serve")
    assert all([await hangs(client) for client in clients[4:]])
    assert not any(one.done() for one in asked)
    house.proxy.heal()
    await house.console.execute("RESUME")
    assert await asyncio.wait_for(asyncio.gather(*asked), 15) == [7] * 4
    await eventually(lambda: not house.other.context.pauses.standing.pauses)
