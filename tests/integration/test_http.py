"""Metrics, health and the status page of a running gateway."""

from __future__ import annotations

import asyncio
import errno
import socket

import aiohttp
import asyncpg
import pytest
from prometheus_client.parser import text_string_to_metric_families

from gateway.demo.postgres import free_port
from tests.integration.conftest import HOST, Gateway, StartGateway, until

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


async def get(gateway: Gateway, path: str) -> tuple[int, str]:
    url = f"http://{HOST}:{gateway.http_port}{path}"
    timeout = aiohttp.ClientTimeout(total=10)
    async with aiohttp.ClientSession(timeout=timeout) as session, session.get(url) as answer:
        return answer.status, await answer.text()


async def scrape(gateway: Gateway) -> Samples:
    """Every sample by name and labels; two of the same are a mistake."""
    status, page = await get(gateway, "/metrics")
    assert status == 200
    samples: Samples = {}
    for family in text_string_to_metric_families(page):
        assert family.documentation, family.name
        for sample in family.samples:
            key = (sample.name, frozenset(sample.labels.items()))
            assert key not in samples
            samples[key] = sample.value
    return samples


def total(samples: Samples, name: str, **labels: str) -> float:
    """The sum of the samples of this name that have these labels."""
    found = [
        value
        for (its_name, its), value in samples.items()
        if its_name == name and labels.items() <= dict(its).items()
    ]
    assert found, name
    return sum(found)


# --- metrics ---


async def test_what_clients_do_is_counted(gateway: Gateway) -> None:
    owner = gateway.provisioned.owner_on("dentist")
    before = await scrape(gateway)
    connection = await asyncpg.connect(gateway.dsn(owner.user, owner.database))
    for _ in range(5):
        await connection.execute("SELECT 1")
    with pytest.raises(asyncpg.PostgresSyntaxError):
        await connection.execute("nonsense")
    during = await scrape(gateway)
    await connection.close()

    def grown(name: str) -> float:
        return total(during, name) - total(before, name)

    assert grown("gateway_logins_total") == 1
    assert grown("gateway_transactions_total") == 6
    assert grown("gateway_server_errors_total") == 1
    assert grown("gateway_received_bytes_total") > 50
    assert grown("gateway_clients") == 1
    assert total(during, "gateway_pool_servers", industry="DENTIST") == 1
    assert total(during, "gateway_pool_checkouts_total", industry="DENTIST") >= 6


async def test_servers_are_counted_by_state(gateway: Gateway) -> None:
    owner = gateway.provisioned.owner_on("dentist")
    connection = await asyncpg.connect(gateway.dsn(owner.user, owner.database))

    async def servers(state: str) -> float:
        samples = await scrape(gateway)
        return total(samples, "gateway_pool_servers", industry="DENTIST", state=state)

    await connection.execute("SELECT 1")
    assert (await servers("idle"), await servers("busy")) == (1, 0)
    async with connection.transaction():
        await connection.execute("SELECT 1")
        assert (await servers("idle"), await servers("busy")) == (0, 1)
    await connection.close()


async def test_failed_logins_are_counted(gateway: Gateway) -> None:
    before = await scrape(gateway)
    with pytest.raises(asyncpg.InvalidPasswordError):
        await asyncpg.connect(gateway.dsn("operator", "gateway", password="wrong"))
    after = await scrape(gateway)
    name = "gateway_login_failures_total"
    assert total(after, name) == total(before, name) + 1


async def test_names_have_units_and_labels_are_bounded(gateway: Gateway) -> None:
    owner = gateway.provisioned.owner_on("law")
    connection = await asyncpg.connect(gateway.dsn(owner.user, owner.database))
    samples = await scrape(gateway)
    await connection.close()
    assert all(name.startswith(("gateway_", "process_")) for name, _ in samples)
    used = {label for _, labels in samples for label, _ in labels}
    assert used <= {"pool", "endpoint", "industry", "state", "reason", "cache", "version", "build"}
    values = {value for _, labels in samples for _, value in labels}
    assert not values & {login.user for login in gateway.provisioned.logins.values()}


async def test_the_process_itself_is_measured(gateway: Gateway) -> None:
    samples = await scrape(gateway)
    assert total(samples, "process_resident_memory_bytes") > 10_000_000
    assert total(samples, "process_cpu_seconds_total") > 0
    assert total(samples, "process_open_fds") > 5


async def test_pools_that_retire_beside_their_successor_are_added_up(
    start_gateway: StartGateway,
) -> None:
    gateway = await start_gateway()
    owner = gateway.provisioned.owner_on("law")
    connection = await asyncpg.connect(gateway.dsn(owner.user, owner.database))
    async with connection.transaction():
        await connection.execute("SELECT 1")
        pools = gateway.worker.context.pools
        (pool,) = [one for one in pools if one.core.total]
        pool.retire()
        pools._retired.append(pool)
        samples = await scrape(gateway)
        assert total(samples, "gateway_pool_servers", industry="LAW", state="busy") == 2
        pools._retired.remove(pool)
    await connection.close()


# --- health ---


async def test_a_gateway_that_is_up_is_healthy_and_ready(gateway: Gateway) -> None:
    assert await get(gateway, "/healthz") == (200, "ok\n")
    await until(lambda: gateway.worker.context.directory.connected, 10)
    assert await get(gateway, "/readyz") == (200, "ready\n")


async def test_a_gateway_without_its_meta_database_is_healthy_but_not_ready(
    start_gateway: StartGateway,
) -> None:
    away = f"postgresql://nobody@{HOST}:{free_port()}/meta"
    gateway = await start_gateway({"meta": {"primary": away}})
    assert await get(gateway, "/healthz") == (200, "ok\n")
    assert await get(gateway, "/readyz") == (503, "the meta database has not answered yet\n")
    assert total(await scrape(gateway), "gateway_ready") == 0


async def test_a_draining_gateway_is_not_ready(start_gateway: StartGateway) -> None:
    gateway = await start_gateway()
    owner = gateway.provisioned.owner_on("law")
    connection = await asyncpg.connect(gateway.dsn(owner.user, owner.database))
    transaction = connection.transaction()
    await transaction.start()
    draining = asyncio.create_task(gateway.worker.drain())
    await asyncio.sleep(0)
    assert await get(gateway, "/readyz") == (503, "draining\n")
    assert await get(gateway, "/healthz") == (200, "ok\n")
    await transaction.commit()
    await draining


# --- the page, and the address ---


async def test_the_status_page_links_the_rest(gateway: Gateway) -> None:
    status, page = await get(gateway, "/")
    assert status == 200
    for path in ("/metrics", "/healthz", "/readyz"):
        assert f'href="{path}"' in page
    assert (await get(gateway, "/nothing"))[0] == 404


async def test_null_turns_http_off(start_gateway: StartGateway) -> None:
    gateway = await start_gateway({"http": {"port": None}})
    assert gateway.worker.http_address is None


async def test_a_port_that_is_taken_is_named(gateway: Gateway, start_gateway: StartGateway) -> None:
    with pytest.raises(OSError, match=f"HTTP can't listen on {HOST}:{gateway.http_port}") as caught:
        await start_gateway({"http": {"port": gateway.http_port}})
    assert caught.value.errno == errno.EADDRINUSE


async def test_scrapers_that_never_read_hold_up_nobody(gateway: Gateway) -> None:
    slow = []
    for _ in range(20):
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, (HOST, gateway.http_port))
        request = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n" * 20
        await asyncio.get_running_loop().sock_sendall(sock, request)
        slow.append(sock)
    try:
        async with asyncio.timeout(5):
            assert await get(gateway, "/healthz") == (200, "ok\n")
            assert "gateway_clients" in (await get(gateway, "/metrics"))[1]
    finally:
        for sock in slow:
            sock.close()
