"""Large results and COPY: how many megabytes pass, and what each costs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from benchmarks.figures import MEGABYTE, used
from benchmarks.measure import Measured, Scenario
from benchmarks.meter import Use, read
from benchmarks.rig import BIG_ROWS, Rig
from benchmarks.targets import Target
from benchmarks.wire import Connection
from gateway.protocol.scram import KeyCache


@dataclass(frozen=True, slots=True)
class Streaming(Scenario):
    """Results of 100,000 rows, or COPY of as many, one after the other on each connection."""

    group: ClassVar[str] = "large results and COPY"
    what: str
    connections: int

    @property
    def key(self) -> str:
        return f"{self.what}-{self.connections}"

    async def measure(self, rig: Rig, target: Target, seconds: float) -> Measured:
        step = STREAMS[self.what]()
        keys = KeyCache()
        async with AsyncExitStack() as stack:
            connections = []
            for _ in range(self.connections):
                connection = await asyncio.to_thread(Connection.open, target.bench(), keys)
                stack.callback(connection.close)
                await asyncio.to_thread(step, connection)  # warms up pool and caches
                connections.append(connection)
            first = None if target.pid is None else read(target.pid)
            start = time.monotonic()
            work = [
                asyncio.to_thread(_repeat, step, connection, start + seconds)
                for connection in connections
            ]
            megabytes = sum(await asyncio.gather(*work)) / MEGABYTE
            took = time.monotonic() - start
            use = None if first is None or target.pid is None else Use(first, read(target.pid))
        if self.what == "copy-in":
            await rig.in_postgres("TRUNCATE copied")
        figures = {"mb_per_s": megabytes / took}
        if use is not None:
            figures |= {"cpu_ms_per_mb": use.cpu_s * 1000 / megabytes, **used(use)}
        return Measured(figures, f"{self.connections} x {_STREAM_SQL[self.what]}")


_STREAM_SQL = {
    "result": "SELECT * FROM big",
    "copy-out": "COPY big TO STDOUT",
    "copy-in": "COPY copied FROM STDIN",
}

Step = Callable[[Connection], int]
"""Moves one lot of data; its bytes."""


def _drain_step(what: str) -> Step:
    return lambda connection: connection.drain(_STREAM_SQL[what])


def _copy_in_step() -> Step:
    lines = b"".join(
        b"%d\t%032x\t%032x\t%d.5\t2026-01-01 00:00:00+00\n" % (n, n, n + 1, n)
        for n in range(BIG_ROWS)
    )
    return lambda connection: connection.copy_in(_STREAM_SQL["copy-in"], lines)


STREAMS: dict[str, Callable[[], Step]] = {
    "result": partial(_drain_step, "result"),
    "copy-out": partial(_drain_step, "copy-out"),
    "copy-in": _copy_in_step,
}


def _repeat(step: Step, connection: Connection, until: float) -> int:
    total = 0
    while time.monotonic() < until:
        total += step(connection)
    return total
