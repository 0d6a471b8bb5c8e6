"""A clock and a source of answers that the tests drive by hand."""

from __future__ import annotations

import asyncio

from gateway.directory.cache import SingleFlightCache
from gateway.errors import DirectoryUnavailable


class FakeClock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Source:
    """What the cache loads from: rows, an outage switch, and a gate that holds loads back."""

    def __init__(self, **rows: str) -> None:
        self.rows = rows
        self.down = False
        self.asked: list[str] = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def load(self, key: str) -> str | None:
        """The row as it was when asked, handed over when the gate is open."""
        self.asked.append(key)
        row, down = self.rows.get(key), self.down
        await self.gate.wait()
        if down:
            raise DirectoryUnavailable("down")
        return row


def cache_of(source: Source, clock: FakeClock, **options: float) -> SingleFlightCache[str, str]:
    """A cache of round figures: fresh 100 s, unknown 5 s, kept 1000 s more, retried after 1 s."""
    return SingleFlightCache(
        source.load,
        clock,
        entries_max=int(options.get("entries_max", 100)),
        ttl_s=lambda: options.get("ttl_s", 100.0),
        negative_ttl_s=5.0,
        outage_ttl_s=1000.0,
        outage_retry_s=1.0,
        loads_max=int(options.get("loads_max", 2000)),
        jitter=options.get("jitter", 0.0),
    )


async def settle() -> None:
    """Let every task that can run get as far as it can."""
    for _ in range(5):
        await asyncio.sleep(0)
