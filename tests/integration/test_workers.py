"""Several workers are one gateway: its port, its console, its settings, its limits."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from itertools import pairwise
from pathlib import Path

import aiohttp
import asyncpg
import pytest

from gateway.demo.postgres import free_port
from gateway.demo.seed import SeedLogin
from gateway.ids import worker_of
from gateway.protocol import messages
from gateway.supervisor.meeting import Meeting
from gateway.supervisor.supervisor import Supervisor
from tests.conftest import Provisioned
from tests.fleet import HOST, Fleet, fleet, until
from tests.integration.conftest import with_overrides
from tests.wire import Refused, Wire, send_cancel


@pytest.fixture
async def two(provisioned: Provisioned, tmp_path: Path) -> AsyncIterator[Fleet]:
    async with fleet(provisioned.settings, tmp_path, {"pool": {"max": 5}}) as made:
        yield made


BEGAN_AND_ENDED = (
    "SELECT extract(epoch FROM clock_timestamp()) AS began, pg_sleep(0.05),"
    " extract(epoch FROM clock_timestamp()) AS ended"
)


async def page(one: Fleet, path: str) -> tuple[int, str]:
    url = f"http://{HOST}:{one.http_port}{path}"
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        return answer.status, await answer.text()


async def test_clients_are_on_both_workers_and_every_console_shows_them_all(
    two: Fleet, provisioned: Provisioned
) -> None:
    owner, operator = provisioned.owner_on("law"), provisioned.logins["operator"]
    clients = [await asyncpg.connect(two.url(owner)) for _ in range(20)]
    for client in clients:
        assert await client.fetchval("SELECT 1") == 1
    consoles = [await asyncpg.connect(two.url(operator, "gateway")) for _ in range(10)]
    for console in consoles:
        rows = await console.fetch("SHOW CLIENTS")
        assert len(rows) == 30
        assert {row["worker"] for row in rows} == {"1", "2"}
        assert len({row["client"] for row in rows}) == 30, "numbers are unique"
        (pool,) = await console.fetch("SHOW POOLS")
        assert pool["max"] == "5"
        assert int(pool["idle"]) == len(await console.fetch("SHOW SERVERS"))
        workers = await console.fetch("SHOW WORKERS")
        assert [row["worker"] for row in workers] in (["1", "2"], ["2", "1"])
        assert sum(int(row["clients"]) for row in workers) == 30
    status, text = await page(two, "/metrics")
    assert status == 200
    assert "\ngateway_clients 30.0\n" in text
    assert "\ngateway_workers 2.0\n" in text
    assert await page(two, "/readyz") == (200, "ready\n")
    for client in [*clients, *consoles]:
        await client.close()


async def test_limits_on_an_owner_are_those_of_all_workers_together(
    provisioned: Provisioned, tmp_path: Path
) -> None:
    """As many at once as one worker alone would let run, and as many within a time."""
    owner = provisioned.owner_on("law")
    limits = {"every_owner": {"servers": 1, "rate": 0.001, "burst": 30}}
    async with fleet(provisioned.settings, tmp_path, {"limits": limits}) as made:
        clients = [await asyncpg.connect(made.url(owner)) for _ in range(10)]
        numbers = [worker_of(client.get_server_pid()) for client in clients]
        assert set(numbers) == {1, 2}
        rows = await asyncio.gather(*(client.fetchrow(BEGAN_AND_ENDED) for client in clients))
        turns = sorted((row["began"], row["ended"]) for row in rows if row is not None)
        assert len(turns) == 10
        assert all(one[1] <= next_one[0] for one, next_one in pairwise(turns)), "one at a time"
        refused = 0
        for client in clients * 3:
            try:
                await client.execute("SELECT 1")
            except asyncpg.PostgresError as error:
                assert error.sqlstate == "53R01"
                refused += 1
        assert refused == 10, "ten of the burst were used before"
        for client in clients:
            await client.close()


async def test_reload_reaches_all_workers_and_a_broken_file_none(
    two: Fleet, provisioned: Provisioned
) -> None:
    operator = provisioned.logins["operator"]
    consoles = [await asyncpg.connect(two.url(operator, "gateway")) for _ in range(8)]

    async def maxima() -> set[str]:
        values = set()
        for console in consoles:
            options = {row["setting"]: row["value"] for row in await console.fetch("SHOW CONFIG")}
            values.add(options["pool.max"])
        return values

    assert await maxima() == {"5"}
    two.write({"pool": {"max": 3}})
    assert [row["change"] for row in await consoles[0].fetch("RELOAD")] == ["pool.max: 5 -> 3"]
    assert await maxima() == {"3"}
    two.write({"pool": {"max": 0}})
    with pytest.raises(asyncpg.PostgresError, match="nothing has changed"):
        await consoles[0].fetch("RELOAD")
    assert await maxima() == {"3"}
    two.signal(signal.SIGHUP)
    await two.logged("not reloaded, nothing has changed")
    two.write({"pool": {"max": 4}})
    two.signal(signal.SIGHUP)
    await two.logged("reloaded: pool.max: 3 -> 4")
    async with asyncio.timeout(10):
        while await maxima() != {"4"}:  # noqa: ASYNC110 - each worker says so for itself
            await asyncio.sleep(0.05)
    for console in consoles:
        await console.close()


async def test_a_cancel_request_finds_its_client_from_any_worker(
    two: Fleet, provisioned: Provisioned
) -> None:
    where = two.place(provisioned.owner_on("law"))
    for _ in range(8):
        wire = await Wire.logged_in(where)
        wire.send(messages.query("SELECT pg_sleep(30)"))
        await asyncio.sleep(0.1)
        await send_cancel(where.host, where.port, wire.pid, wire.secret)
        heard = await wire.until("Z")
        assert [one.fields["C"] for one in heard if one.tag == "E"] == ["57014"]
        await wire.close()


async def test_the_limit_of_clients_is_the_whole_gateways(
    provisioned: Provisioned, tmp_path: Path
) -> None:
    options = {"listen": {"max_client_connections": 12}}
    async with fleet(provisioned.settings, tmp_path, options) as one:
        where = one.place(provisioned.owner_on("law"))
        wires = [await Wire.logged_in(where) for _ in range(12)]
        assert {worker_of(wire.pid) for wire in wires} == {1, 2}
        for _ in range(6):
            with pytest.raises(Refused) as caught:
                await Wire.logged_in(where)
            assert caught.value.fields["C"] == "53300"
        operator = one.place(provisioned.logins["operator"], "gateway")
        wires += [await Wire.logged_in(operator) for _ in range(3)]
        for wire in wires:
            await wire.close()


async def test_a_second_gateway_with_the_same_settings_does_not_start(two: Fleet) -> None:
    command = (sys.executable, "-m", "gateway", "serve", "--config", str(two.file))
    second = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.PIPE)
    async with asyncio.timeout(30):
        _, said = await second.communicate()
    assert second.returncode == 1
    assert b"another gateway with these settings runs" in said
    assert all(process.alive for process in two.workers().values())


async def test_clients_come_in_by_the_unix_socket_too(
    provisioned: Provisioned, tmp_path: Path
) -> None:
    sockets = tmp_path / "sockets"
    sockets.mkdir()
    options = {"listen": {"unix_socket_dir": str(sockets)}}
    owner = provisioned.owner_on("law")
    async with fleet(provisioned.settings, tmp_path, options) as one:

        async def connected() -> asyncpg.Connection:
            return await asyncpg.connect(
                host=str(sockets),
                port=one.port,
                user=owner.user,
                password=owner.password,
                database=owner.database,
            )

        first = await connected()
        one.signal(signal.SIGKILL)
        await one.ended()
        await one.start()
        second = await connected()
        for process in one.workers().values():
            process.send(signal.SIGKILL)
        await one.logged("worker . is ready")
        await one.logged("worker . is ready")
        third = await connected()
        assert await third.fetchval("SELECT 1") == 1
        for connection in (first, second, third):
            connection.terminate()


async def admitted(one: Fleet, login: SeedLogin) -> Wire | None:
    """A client; None when there are too many."""
    try:
        return await Wire.logged_in(one.place(login))
    except Refused as error:
        assert error.sqlstate == "53300"
        return None


async def test_an_owners_clients_are_counted_over_all_workers_and_those_of_a_dead_one_are_not(
    provisioned: Provisioned, tmp_path: Path
) -> None:
    law, limit = provisioned.owner_on("law"), 5
    limits = {"owners": {law.owner: {"clients": limit}}}
    async with fleet(provisioned.settings, tmp_path, {"limits": limits}) as two:
        crowd = await asyncio.gather(*(admitted(two, law) for _ in range(4 * limit)))
        wires = [one for one in crowd if one is not None]
        assert len(wires) <= limit, "never more, though many came at the same instant"
        while (one := await admitted(two, law)) is not None:
            wires.append(one)
        assert len(wires) == limit, "one after the other all get in, whatever worker they come to"
        dead = two.kill_worker(1)
        left = [wire for wire in wires if worker_of(wire.pid) != 1]
        await until(lambda: two.workers().get(1) not in (None, dead))
        async with asyncio.timeout(20):
            while len(left) < limit:
                if (one := await admitted(two, law)) is not None:
                    left.append(one)
        assert await admitted(two, law) is None


@pytest.fixture
async def above(
    provisioned: Provisioned, tmp_path: Path
) -> AsyncIterator[tuple[Supervisor, Meeting]]:
    """A supervisor in this process, and the folder where its workers are noted."""
    settings = with_overrides(provisioned.settings, {"workers": 2, "listen": {"port": free_port()}})
    meeting = Meeting(tmp_path / "run")
    supervisor = Supervisor(settings, lambda: settings, meeting)
    await supervisor.start()
    try:
        yield supervisor, meeting
    finally:
        await supervisor.stop()


async def test_workers_that_die_one_after_another_are_followed_without_starting_python_again(
    above: tuple[Supervisor, Meeting], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each takes a place of its own accord, and leaves a fork that waits for the next."""
    supervisor, meeting = above
    crew = supervisor._crew
    await until(lambda: bool(crew._reserve))

    async def refuse(*command: str, **options: object) -> None:
        raise AssertionError("a process was started anew")

    monkeypatch.setattr(asyncio, "create_subprocess_exec", refuse)

    async def follow(number: int) -> None:
        before = crew.seats[number]
        before.process.send(signal.SIGKILL)
        await until(lambda: crew.seats.get(number) not in (None, before) and crew.all_ready)
        await until(lambda: bool(crew._reserve))

    for number in (1, 2, 1, 2):
        await follow(number)
    left = [*meeting.noted().values(), crew._reserve[0].process]
    await supervisor.stop()
    await until(lambda: not any(process.alive for process in left))


async def test_another_waits_in_reserve_when_the_one_that_did_has_died(
    above: tuple[Supervisor, Meeting],
) -> None:
    crew = above[0]._crew
    await until(lambda: bool(crew._reserve))
    before = crew._reserve[0].process
    before.send(signal.SIGKILL)
    await until(lambda: bool(crew._reserve) and crew._reserve[0].process != before, 30)
    assert crew._reserve[0].process.alive
    assert crew.all_ready
