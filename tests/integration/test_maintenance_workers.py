"""Instructions of operators reach every worker, and those that come later; a supervisor's, too."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path

import asyncpg
import pytest

from tests.conftest import Provisioned
from tests.fleet import Fleet, fleet, until

pytestmark = pytest.mark.usefixtures("nothing_ordered")


async def shown(console: asyncpg.Connection) -> list[tuple[str, str | None, str | None]]:
    """What SHOW PAUSES has, without times."""
    rows = await console.fetch("SHOW PAUSES")
    return [(row["what"], row["name"], row["waiting"]) for row in rows]


async def hangs(connection: asyncpg.Connection, sql: str = "SELECT 1") -> bool:
    """Whether a statement has to wait; it is cancelled then."""
    try:
        await connection.fetchval(sql, timeout=0.3)
    except TimeoutError:
        return True
    return False


async def console_of(one: Fleet, provisioned: Provisioned) -> asyncpg.Connection:
    return await asyncpg.connect(one.url(provisioned.logins["operator"], "gateway"))


def _replaced(one: Fleet, number: int, before: object) -> bool:
    """Whether another process works in a worker's place."""
    return one.workers().get(number, before) != before


async def test_a_pause_is_every_workers_and_that_of_workers_to_come(
    provisioned: Provisioned, tmp_path: Path
) -> None:
    owner, other = provisioned.owner_on("law"), provisioned.owner_on("dentist")
    async with fleet(provisioned.settings, tmp_path) as one:
        clients = [await asyncpg.connect(one.url(owner)) for _ in range(10)]
        bystander = await asyncpg.connect(one.url(other))
        for client in clients:
            await client.execute("SELECT 1")
        admin = await console_of(one, provisioned)
        await admin.execute("PAUSE INDUSTRY LAW TIMEOUT 10s")
        asked = [asyncio.create_task(client.fetchval("SELECT 7")) for client in clients]
        while await shown(admin) != [("paused", "LAW", "10")]:  # noqa: ASYNC110 - of workers
            await asyncio.sleep(0.02)
        assert await bystander.fetchval("SELECT 1") == 1
        await admin.execute("RESUME INDUSTRY LAW")
        assert await asyncio.gather(*asked) == [7] * 10
        for client in [*clients, bystander]:
            await client.close()


async def test_workers_and_supervisors_that_come_later_know_what_is_ordered(
    provisioned: Provisioned, tmp_path: Path
) -> None:
    owner = provisioned.owner_on("law")
    async with fleet(provisioned.settings, tmp_path) as one:
        admin = await console_of(one, provisioned)
        await admin.execute("PAUSE DATABASE law FOR 1h")
        await admin.execute("DISABLE INDUSTRY DENTIST")
        before = one.workers()
        for number in (1, 2):
            one.kill_worker(number)
            await until(partial(_replaced, one, number, before[number]))
            await one.logged(f"worker {number} is ready")
        admin = await console_of(one, provisioned)
        assert await shown(admin) == [("paused", "law", "0"), ("disabled", "DENTIST", None)]
        clients = [await asyncpg.connect(one.url(owner)) for _ in range(6)]
        assert all([await hangs(client) for client in clients])
        assert one.supervisor is not None
        one.supervisor.kill()
        await one.ended()
        await one.start()
        one.kill_worker(1)
        await one.logged("worker 1 is ready")
        admin = await console_of(one, provisioned)
        assert ("paused", "law", "0") in await shown(admin)
        newer = [await asyncpg.connect(one.url(owner)) for _ in range(6)]
        assert all([await hangs(client) for client in newer])
        await admin.execute("RESUME")
        assert not [client for client in newer if await hangs(client)]


async def test_a_client_is_ended_whichever_worker_has_it(
    provisioned: Provisioned, tmp_path: Path
) -> None:
    owner = provisioned.owner_on("law")
    async with fleet(provisioned.settings, tmp_path) as one:
        clients = [await asyncpg.connect(one.url(owner)) for _ in range(6)]
        admin = await console_of(one, provisioned)
        for client in clients:
            await client.execute("SELECT 1")
            await admin.execute(f"KILL CLIENT {client.get_server_pid()}")
        await until(lambda: all(client.is_closed() for client in clients))
