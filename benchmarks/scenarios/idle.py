"""Clients that do nothing: what each of them costs in memory."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import ClassVar

from benchmarks.figures import MEGABYTE
from benchmarks.measure import Measured, Scenario, pid_of
from benchmarks.meter import rss_bytes
from benchmarks.rig import Rig
from benchmarks.targets import Access, Target
from benchmarks.wire import Connection
from gateway.protocol.scram import KeyCache


@dataclass(frozen=True, slots=True)
class IdleClients(Scenario):
    """Memory of clients that logged in, ran one statement and do nothing, on a fresh process."""

    group: ClassVar[str] = "idle clients"
    steady: ClassVar[bool] = True
    clients: int

    @property
    def key(self) -> str:
        return f"idle-{self.clients}"

    async def measure(self, rig: Rig, target: Target, seconds: float) -> Measured:
        await target.restart()
        pid = pid_of(target)
        connections: list[Connection] = []
        keys = KeyCache()
        try:
            # The first ones pay for what is needed once.
            await asyncio.to_thread(_open, target.bench(), 100, keys, connections)
            before = await _settled_rss(pid)
            await asyncio.to_thread(_open, target.bench(), self.clients, keys, connections)
            after = await _settled_rss(pid)
        finally:
            for connection in connections:
                connection.close()
        figures = {
            "kb_per_client": (after - before) / self.clients / 1000,
            "rss_mb": after / MEGABYTE,
        }
        return Measured(figures, f"{self.clients} logins, SELECT 1 each")

    def unfit(self, rig: Rig, target: Target) -> str:
        return "a server process per client" if target.pid is None else ""


def _open(access: Access, count: int, keys: KeyCache, into: list[Connection]) -> None:
    for _ in range(count):
        connection = Connection.open(access, keys)
        into.append(connection)
        connection.drain("SELECT 1")


async def _settled_rss(pid: int) -> int:
    await asyncio.sleep(0.5)
    return rss_bytes(pid)
