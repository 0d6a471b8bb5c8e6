"""Statements are cancelled by every driver's own means; whoever takes the server over is not hit.

node-postgres has no call for it: its script sends the request as libraries on top of it do.
"""

from __future__ import annotations

import asyncio
import json
import select
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import closing, contextmanager
from functools import partial
from multiprocessing import get_context
from time import monotonic

import asyncpg
import psycopg
import psycopg2
import psycopg2.errors
import psycopg2.extensions
import psycopg2.extras
import pytest

from tests.drivers.crm import Client, all_at_once
from tests.drivers.test_node_postgres import FOLDER, _node, _options

SLEEP = "SELECT pg_sleep(30)"
ROUNDS = 3
SOON_S = 0.2
TOO_LATE_S = 10.0


@contextmanager
def cancelled_soon(cancel: Callable[[], object]) -> Iterator[None]:
    """Calls ``cancel`` in a thread, a little later and again and again up to the end.

    Again, since one that comes between two messages of a driver's stops nothing, as everywhere.
    """
    over = threading.Event()

    def repeat() -> None:
        while not over.wait(SOON_S):
            cancel()

    thread = threading.Thread(target=repeat)
    thread.start()
    began = monotonic()
    try:
        yield
    finally:
        over.set()
        thread.join()
    assert monotonic() - began < TOO_LATE_S


def cancels_with_psycopg(client: Client, *, way: str, binary: bool) -> None:
    with psycopg.connect(client.dsn, autocommit=True, prepare_threshold=0) as connection:
        for number in range(ROUNDS):
            with (
                cancelled_soon(getattr(connection, way)),
                pytest.raises(psycopg.errors.QueryCanceled),
            ):
                connection.execute(SLEEP, binary=binary)
            row = connection.execute("SELECT %s::int", (number,), binary=binary).fetchone()
            assert row == (number,)


async def in_a_process(script: Callable[[Client], None], clients: list[Client]) -> None:
    """Runs a script for each client in a thread of one new process.

    libpq's old way to cancel is called without giving up Python's lock, which the gateway of these
    tests needs to answer.
    """
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(process, in_threads, script, clients)


def in_threads(script: Callable[[Client], None], clients: list[Client]) -> None:
    with ThreadPoolExecutor(len(clients)) as threads:
        list(threads.map(script, clients))


@pytest.mark.parametrize("way", ["cancel_safe", "cancel"])
@pytest.mark.parametrize("binary", [False, True], ids=["text", "binary"])
async def test_psycopg(clients: list[Client], way: str, binary: bool) -> None:
    """More clients than servers: some are cancelled while they wait for one."""
    await in_a_process(partial(cancels_with_psycopg, way=way, binary=binary), clients)


async def test_psycopg_in_a_pipeline_and_a_copy(client: Client) -> None:
    def script(client: Client) -> None:
        with psycopg.connect(client.dsn, autocommit=True) as connection:
            with (
                cancelled_soon(connection.cancel_safe),
                pytest.raises(psycopg.errors.QueryCanceled),
                connection.pipeline(),
            ):
                connection.execute("SELECT 1")
                connection.execute(SLEEP)
                connection.execute("SELECT 2")
            endless = "COPY (SELECT n FROM generate_series(1, 1000000000) n) TO STDOUT"
            with (
                cancelled_soon(connection.cancel_safe),
                pytest.raises(psycopg.errors.QueryCanceled),
                connection.cursor() as cursor,
                cursor.copy(endless) as copy,
            ):
                for _ in copy:
                    pass
            assert connection.execute("SELECT 'goes on'").fetchone() == ("goes on",)

    await all_at_once(script, [client])


async def test_psycopg_asynchronously(clients: list[Client]) -> None:
    """Tasks that are cancelled cancel their statements."""

    async def one(client: Client) -> None:
        async with await psycopg.AsyncConnection.connect(client.dsn, autocommit=True) as connection:
            for number in range(ROUNDS):
                task = asyncio.create_task(connection.execute(SLEEP))
                while not (await asyncio.wait([task], timeout=SOON_S))[0]:
                    await connection.cancel_safe(timeout=5)
                with pytest.raises(psycopg.errors.QueryCanceled):
                    await task
                cursor = await connection.execute("SELECT %s::int", (number,))
                assert await cursor.fetchone() == (number,)

    async with asyncio.timeout(60):
        await asyncio.gather(*map(one, clients))


def cancels_with_psycopg2(client: Client) -> None:
    with closing(psycopg2.connect(client.dsn)) as connection:
        cursor = connection.cursor()
        for number in range(ROUNDS):
            with (
                cancelled_soon(connection.cancel),
                pytest.raises(psycopg2.errors.QueryCanceled),
            ):
                cursor.execute(SLEEP)
            connection.rollback()
            cursor.execute("SELECT %s", (number,))
            assert cursor.fetchone() == (number,)
            connection.commit()


async def test_psycopg2(clients: list[Client]) -> None:
    await in_a_process(cancels_with_psycopg2, clients)


def polled(connection: psycopg2.extensions.connection) -> None:
    """Wait in psycopg2's non-blocking mode."""
    while (state := connection.poll()) != psycopg2.extensions.POLL_OK:
        reads = [connection] if state == psycopg2.extensions.POLL_READ else []
        writes = [] if reads else [connection]
        assert any(select.select(reads, writes, [], TOO_LATE_S))


def cancels_with_psycopg2_polling(client: Client) -> None:
    with closing(psycopg2.connect(client.dsn, async_=True)) as connection:
        polled(connection)
        cursor = connection.cursor()
        for number in range(ROUNDS):
            cursor.execute(SLEEP)
            with (
                cancelled_soon(connection.cancel),
                pytest.raises(psycopg2.errors.QueryCanceled),
            ):
                polled(connection)
            cursor.execute("SELECT %s", (number,))
            polled(connection)
            assert cursor.fetchone() == (number,)


async def test_psycopg2_polling(clients: list[Client]) -> None:
    await in_a_process(cancels_with_psycopg2_polling, clients)


async def test_asyncpg(clients: list[Client]) -> None:
    """By its timeout, and by the cancellation of the task that waits."""

    async def one(client: Client) -> None:
        connection = await asyncpg.connect(client.url())
        try:
            for number in range(ROUNDS):
                with pytest.raises(TimeoutError):
                    await connection.fetch(SLEEP, timeout=SOON_S)
                assert await connection.fetchval("SELECT $1::int", number) == number
                task = asyncio.create_task(connection.execute(SLEEP))
                await asyncio.sleep(SOON_S)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
                assert await connection.fetchval("SELECT $1::int + 1", number) == number + 1
        finally:
            await connection.close()

    async with asyncio.timeout(60):
        await asyncio.gather(*map(one, clients))


async def test_node_postgres(clients: list[Client]) -> None:
    process = await asyncio.create_subprocess_exec(
        *(_node(), "cancel.mjs"),
        cwd=FOLDER,
        env={"CLIENTS": json.dumps([_options(client) for client in clients])},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        output, _ = await asyncio.wait_for(process.communicate(), 60)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert output.decode() == f"{len(clients)} clients done\n"
