"""Loads by pgbench: its built-in transactions, their system calls, and logins."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import ClassVar

from benchmarks import pgbench, syscalls
from benchmarks.measure import Failed, Measured, Scenario, pid_of
from benchmarks.rig import Rig
from benchmarks.targets import Target

_NO_PREPARED = "this PgBouncer carries no prepared statements in transaction mode"

_DIRECT_TLS = "PostgreSQL runs without TLS here, as it does behind the proxies"


@dataclass(frozen=True, slots=True)
class Pgbench(Scenario):
    """pgbench's select-only or TPC-B transactions."""

    group: ClassVar[str] = "pgbench"
    workload: str
    protocol: str
    clients: int

    @property
    def key(self) -> str:
        return f"{self.workload}-{self.protocol}-{self.clients}"

    async def measure(self, rig: Rig, target: Target, seconds: float) -> Measured:
        wanted = pgbench.Load(self.workload, self.protocol, self.clients)
        return (await pgbench.run(rig, target, wanted, seconds)).measured()

    def unfit(self, rig: Rig, target: Target) -> str:
        lacking = self.protocol == "prepared" and not target.keeps_prepared
        return _NO_PREPARED if lacking else ""


@dataclass(frozen=True, slots=True)
class Tls(Pgbench):
    """The same with TLS between clients and proxy, and none behind it."""

    group: ClassVar[str] = "TLS to the client"

    @property
    def key(self) -> str:
        return f"tls-{self.workload}-{self.protocol}-{self.clients}"

    async def measure(self, rig: Rig, target: Target, seconds: float) -> Measured:
        wanted = pgbench.Load(self.workload, self.protocol, self.clients, tls=True)
        measured = (await pgbench.run(rig, target, wanted, seconds)).measured()
        return Measured(measured.figures, f"{measured.command} with PGSSLMODE=require")

    def unfit(self, rig: Rig, target: Target) -> str:
        return _DIRECT_TLS if target.pid is None else Pgbench.unfit(self, rig, target)


@dataclass(frozen=True, slots=True)
class SystemCalls(Scenario):
    """System calls per select-only transaction. strace slows the proxy, but not what it does."""

    group: ClassVar[str] = "system calls"
    steady: ClassVar[bool] = True
    protocol: str
    clients: int

    @property
    def key(self) -> str:
        return f"syscalls-{self.protocol}-{self.clients}"

    async def measure(self, rig: Rig, target: Target, seconds: float) -> Measured:
        assert rig.strace is not None
        pid = pid_of(target)
        wanted = pgbench.Load("select", self.protocol, self.clients)
        async with asyncio.TaskGroup() as group:
            # Attaching and detaching takes a moment each, which the load must outlast.
            running = group.create_task(pgbench.run(rig, target, wanted, seconds + 2))
            await asyncio.sleep(pgbench.WARM_UP_S + 0.5)
            calls = await syscalls.count(rig.strace, pid, seconds, rig.folder)
        run = running.result()
        done = len(run.transactions.between(calls.start, calls.end))
        if not done:
            raise Failed("no transaction while strace watched")
        return Measured({"syscalls": calls.total / done}, f"{run.command}; strace -c -f")

    def unfit(self, rig: Rig, target: Target) -> str:
        if target.pid is None:
            return "PostgreSQL itself is not a proxy"
        if rig.strace is None:
            return "strace is missing"
        lacking = self.protocol == "prepared" and not target.keeps_prepared
        return _NO_PREPARED if lacking else ""


@dataclass(frozen=True, slots=True)
class Logins(Scenario):
    """pgbench that connects anew, with SCRAM, for every select."""

    group: ClassVar[str] = "logins"
    clients: int

    @property
    def key(self) -> str:
        return f"logins-{self.clients}"

    async def measure(self, rig: Rig, target: Target, seconds: float) -> Measured:
        wanted = pgbench.Load("select", "simple", self.clients, reconnect=True)
        run = await pgbench.run(rig, target, wanted, seconds)
        measured = run.measured("_logins")
        figures = {"logins_per_s": measured.figures["per_s"]}
        for name in ("cpu_s_per_1000_logins", "cores", "rss_mb"):
            if name in measured.figures:
                figures[name] = measured.figures[name]
        if (took := pgbench.connect_ms(run.said)) is not None:
            figures["connect_ms"] = took
        return Measured(figures, run.command)
