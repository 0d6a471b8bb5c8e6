"""Runs pgbench against a target, and takes throughput, latency and CPU from the same window."""

from __future__ import annotations

import math
import os
import re
import shlex
import signal
import tempfile
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.figures import Transactions, latencies, used
from benchmarks.measure import Failed, Measured
from benchmarks.meter import Meter, Use, metered
from benchmarks.rig import Rig
from benchmarks.targets import Access, Target
from gateway.demo.process import spawn, stop, tail, wait

WARM_UP_S = 0.5
"""At the start of each run, not counted: pools fill, caches warm."""

# pgbench's time runs while it still connects: this long for each client, and on a machine that
# is very busy, where that was too little, the other.
_CONNECT_S = (0.008, 0.05)
_TAIL_S = 0.05
_GRACE_S = 20


@dataclass(frozen=True, slots=True)
class Load:
    """What pgbench does. ``protocol`` is simple, extended or prepared."""

    workload: str
    protocol: str
    clients: int
    reconnect: bool = False
    tls: bool = False

    def arguments(self) -> list[str]:
        """Besides where to connect and for how long."""
        script = {"select": "select-only", "tpcb": "tpcb-like"}[self.workload]
        return [
            *("--no-vacuum", f"--builtin={script}", f"--protocol={self.protocol}"),
            *(f"--client={self.clients}", f"--jobs={self._threads()}"),
            *(["--connect"] if self.reconnect else []),
        ]

    def _threads(self) -> int:
        # A login, and the first use of a prepared statement, block the client's whole thread. In
        # mid-transaction that would be for ever: those who hold all servers are of that thread.
        blocks = self.reconnect or (self.workload == "tpcb" and self.protocol == "prepared")
        return self.clients if blocks else min(2, self.clients)


@dataclass(frozen=True, slots=True)
class Run:
    """What came of it: transactions of the window, and what the proxy used in it, if any."""

    command: str
    said: str
    transactions: Transactions
    seconds: float
    use: Use | None

    def measured(self, unit: str = "") -> Measured:
        """The usual figures; ``unit`` stands behind the CPU figure's name."""
        count = len(self.transactions)
        figures = {"per_s": count / self.seconds, **latencies(self.transactions)}
        if self.use is not None:
            figures |= used(self.use)
            if count:
                figures[f"cpu_s_per_1000{unit}"] = self.use.cpu_s / count * 1000
        return Measured(figures, self.command)


async def run(rig: Rig, target: Target, load: Load, seconds: float) -> Run:
    """Loads ``target`` for ``seconds`` and a moment. Raises Failed."""
    short: Failed | None = None
    for connect_s in _CONNECT_S:
        try:
            return await _run(rig, target, load, seconds, connect_s)
        except _TooShort as error:
            short = error
    assert short is not None
    raise short


class _TooShort(Failed):
    """Logins took the time that was meant for the load."""


async def _run(rig: Rig, target: Target, load: Load, seconds: float, connect_s: float) -> Run:
    with tempfile.TemporaryDirectory(dir=rig.folder) as folder:
        prefix = Path(folder) / "log"
        timed = [
            *load.arguments(),
            f"--time={math.ceil(seconds + WARM_UP_S + _TAIL_S + connect_s * load.clients)}",
        ]
        command = [str(rig.pgbench.path), *timed, "--log", f"--log-prefix={prefix}"]
        async with AsyncExitStack() as stack:
            meter = None
            if target.pid is not None:
                meter = await stack.enter_async_context(metered(target.pid))
            access = replace(target.bench(), tls=load.tls)
            whole = seconds + connect_s * load.clients
            said = await _pgbench(command, access, Path(folder), whole)
        transactions = _read_logs(Path(folder))
    run = _cut(shlex.join(["pgbench", *timed]), said, transactions, meter)
    if run.seconds < seconds / 2:
        raise _TooShort(f"only {run.seconds:.1f} s were left to measure, so long took the logins")
    return run


def connect_ms(said: str) -> float | None:
    """The average connection time that pgbench --connect tells."""
    match = re.search(r"average connection time = ([\d.]+) ms", said)
    return float(match[1]) if match else None


async def _pgbench(command: list[str], access: Access, folder: Path, seconds: float) -> str:
    output = folder / "output"
    with output.open("wb") as file:
        environ = {**os.environ, **access.environ}
        process = spawn(command, output=file, environ=environ)
        try:
            status = await wait(process, timeout_s=seconds + _GRACE_S)
        finally:
            await stop(process, signal.SIGINT, 2)
    if status is None:
        raise Failed(f"pgbench did not end in time:\n{tail(output)}")
    if status != 0:
        raise Failed(f"pgbench ended with status {status}:\n{tail(output)}")
    return output.read_text(errors="replace")


def _read_logs(folder: Path) -> Transactions:
    """pgbench's log: client, number, microseconds, script, end in seconds and microseconds."""
    pairs: list[tuple[float, float]] = []
    for path in folder.glob("log.*"):
        with path.open() as lines:
            for line in lines:
                fields = line.split()
                pairs.append((int(fields[4]) + int(fields[5]) / 1e6, int(fields[2]) / 1e3))
    return Transactions.of(pairs)


def _cut(command: str, said: str, transactions: Transactions, meter: Meter | None) -> Run:
    """Leaves away what came before the load was steady and after it began to end."""
    if not len(transactions):
        raise Failed(f"no transaction was done:\n{said}")
    start = transactions.finished_at[0] + WARM_UP_S
    end = transactions.finished_at[-1] - _TAIL_S
    use = None
    if meter is not None:
        use = meter.between(start, end)
        if use is None:
            raise _TooShort("the run was too short to measure")
        start, end = use.first.at, use.last.at
    return Run(command, said, transactions.between(start, end), end - start, use)
