"""Two workers against one, where the gateway is what ends first."""

from __future__ import annotations

import asyncio
import os
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from benchmarks import pgbench, quota
from benchmarks.measure import Failed, Measured, Scenario
from benchmarks.meter import descendants
from benchmarks.rig import Rig
from benchmarks.targets import Target

_CORES_ENOUGH = 5
"""Two for workers, and as many again and more for PostgreSQL and the load."""

_PART = 0.15
"""Of a core, for each worker, where there are fewer."""

_CHILD = b"gateway.supervisor.child"


@dataclass(frozen=True, slots=True)
class Workers(Scenario):
    """Transactions per second of two workers as a multiple of one's.

    On a machine with few cores each worker is held to a small part of one, so that neither
    PostgreSQL nor the load ends before the workers do.
    """

    group: ClassVar[str] = "two workers"
    protocol: str
    clients: int

    @property
    def key(self) -> str:
        return f"workers-{self.protocol}-{self.clients}"

    async def measure(self, rig: Rig, target: Target, seconds: float) -> Measured:
        load = pgbench.Load("select", self.protocol, self.clients)
        one, command = await self._run(rig, target, 1, load, seconds)
        two, _ = await self._run(rig, target, 2, load, seconds)
        how = f"; each worker held to {_PART:g} of a core" if _few_cores() else ""
        figures = {"one_worker_per_s": one, "two_workers_per_s": two, "workers_ratio": two / one}
        return Measured(figures, f"{command}; one worker, then two{how}")

    async def _run(
        self, rig: Rig, target: Target, workers: int, load: pgbench.Load, seconds: float
    ) -> tuple[float, str]:
        variant = rig.variant(target.name, f"{workers}-workers", {"workers": workers})
        async with AsyncExitStack() as stack:
            stack.push_async_callback(variant.stop)
            await variant.start()
            if variant.pid is None:
                raise Failed("the gateway is gone")
            pids = await asyncio.to_thread(_worker_pids, variant.pid)
            if len(pids) < workers:
                raise Failed(f"{len(pids)} workers were found, not {workers}")
            limits = stack.enter_context(ExitStack())
            if _few_cores():
                limits.enter_context(quota.held(pids, _PART))
            run = await pgbench.run(rig, variant, load, seconds)
        return len(run.transactions) / run.seconds, run.command

    def unfit(self, rig: Rig, target: Target) -> str:
        if not target.name.startswith("gateway"):
            return "workers are the gateway's"
        if _few_cores() and not quota.available():
            return f"fewer than {_CORES_ENOUGH} cores, and no leave to hold processes (cgroups)"
        return ""


def _few_cores() -> bool:
    return len(os.sched_getaffinity(0)) < _CORES_ENOUGH


def _worker_pids(pid: int) -> list[int]:
    """The workers of a gateway and its idle spare: its children that are such, or itself."""
    found = [
        one
        for one in descendants(pid)
        if _CHILD in Path(f"/proc/{one}/cmdline").read_bytes().split(b"\0")
    ]
    return found or [pid]
