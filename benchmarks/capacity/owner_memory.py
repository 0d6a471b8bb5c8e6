"""What a known owner costs a worker in memory; prints KB. Run as a process of its own."""

from __future__ import annotations

import asyncio
import os

from benchmarks.meter import rss_bytes
from benchmarks.tenants import BENCH_INDUSTRY, topology
from gateway.router.identity import Owner
from gateway.settings.model import Settings
from gateway.worker import Worker

OWNERS = 50_000


async def main() -> None:
    """Lets a directory learn of many owners."""
    settings = Settings.model_validate(topology("nobody:nothing@127.0.0.1:1"))
    owners = Worker(settings, lambda: settings).context.directory._owners

    async def load(owner_id: str) -> Owner | None:
        return Owner(owner_id, BENCH_INDUSTRY)

    owners._load = load
    await owners.get("0")
    before = rss_bytes(os.getpid())
    for number in range(1, OWNERS + 1):
        await owners.get(str(number))
    print((rss_bytes(os.getpid()) - before) / OWNERS / 1000)


if __name__ == "__main__":
    asyncio.run(main())
