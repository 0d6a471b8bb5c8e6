"""Counts a proxy's system calls per transaction, by strace beside a running pgbench."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.measure import Failed
from gateway.demo.process import spawn, stop, tail

_ATTACH_TIMEOUT_S = 5.0
_DETACH_TIMEOUT_S = 10.0
_TOTAL = re.compile(r"^\s*[\d.]+\s+[\d.]+\s+\d*\s+(\d+)\s+\d*\s*total$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Calls:
    """System calls of one process from ``start`` to ``end`` (seconds since 1970 UTC)."""

    start: float
    end: float
    total: int


async def count(strace: Path, pid: int, seconds: float, folder: Path) -> Calls:
    """Watches all threads of ``pid`` for ``seconds``. Raises Failed."""
    with tempfile.TemporaryDirectory(dir=folder) as here:
        table, said = Path(here) / "table", Path(here) / "said"
        with said.open("wb") as output:
            process = spawn(
                [strace, "-c", "-f", "-p", str(pid), "-o", table],
                output=output,
                environ={"PATH": os.defpath},
                signal_when_orphaned=signal.SIGINT,  # detaches; the process watched goes on
            )
        try:
            await _attached(process, said)
            start = time.time()
            await asyncio.sleep(seconds)
            end = time.time()
        finally:
            await stop(process, signal.SIGINT, _DETACH_TIMEOUT_S)
        match = _TOTAL.search(table.read_text()) if table.exists() else None
        if match is None:
            raise Failed(f"strace told nothing: {tail(said)}")
        return Calls(start, end, int(match[1]))


async def _attached(process: subprocess.Popen[bytes], said: Path) -> None:
    deadline = time.monotonic() + _ATTACH_TIMEOUT_S
    while "attached" not in tail(said):
        if process.poll() is not None or time.monotonic() > deadline:
            raise Failed(f"strace can't watch the process: {tail(said)}")
        await asyncio.sleep(0.01)
