"""Clients that ask on and on, and may see no error, whatever is done to the gateway meanwhile."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from time import monotonic

import asyncpg

from tests.integration.conftest import Gateway, until


@dataclass
class Load:
    """What clients saw: answers by name, errors, and the longest wait between two answers."""

    answers: Counter[str] = field(default_factory=Counter)
    errors: list[Exception] = field(default_factory=list)
    gaps_s: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    stop: bool = False


async def client(url: str, name: str, load: Load, sql: str = "SELECT 1") -> None:
    """Asks again and again; every second time in a transaction."""
    try:
        connection = await asyncpg.connect(url)
        last = monotonic()
        while not load.stop:
            if load.answers[name] % 2:
                async with connection.transaction():
                    await connection.execute(sql)
            else:
                await connection.fetchval("SELECT 1")
            now = monotonic()
            load.answers[name] += 1
            load.gaps_s[name] = max(load.gaps_s[name], now - last)
            last = now
            await asyncio.sleep(0.005)
        await connection.close()
    except Exception as error:
        load.errors.append(error)


@asynccontextmanager
async def loaded(urls: dict[str, str], clients: int = 8) -> AsyncIterator[Load]:
    """Clients at work, by name; none of them may see an error."""
    load = Load()
    async with asyncio.TaskGroup() as group:
        for name, url in urls.items():
            for _ in range(clients):
                group.create_task(client(url, name, load))
        try:
            yield load
        finally:
            load.stop = True
    assert not load.errors, load.errors


async def more(load: Load, name: str, count: int = 20) -> None:
    """Wait for so many more answers."""
    before = load.answers[name]
    await until(lambda: load.answers[name] >= before + count, 20)


@asynccontextmanager
async def console(gateway: Gateway) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(gateway.dsn("operator", "gateway"))
    try:
        yield connection
    finally:
        await connection.close()
