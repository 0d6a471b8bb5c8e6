"""What a run was made on: the machine and the versions, without names of either hosts or people."""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path

_QUIET = 0.25
"""Load per core up to which a machine counts as quiet."""

_ROOT = Path(__file__).resolve().parent.parent


def machine() -> dict[str, str]:
    """Processor, cores, memory, kernel and how busy it was before the run."""
    return {
        "processor": _processor(),
        "cores": str(len(os.sched_getaffinity(0))),
        "memory": f"{_memory_bytes() / 1024**3:.1f} GB",
        "system": f"{platform.system()} {platform.release()}",
        "load before the run": "{:.2f} (1 min), {:.2f} (5 min)".format(*os.getloadavg()),
    }


def busy() -> str:
    """A warning when others use the machine; empty when it is quiet. Ask before starting a load."""
    load, cores = os.getloadavg()[0], len(os.sched_getaffinity(0))
    if load < _QUIET * cores:
        return ""
    return (
        f"The machine was busy before the run (load {load:.1f} on {cores} cores): throughput and"
        " latency say little; CPU and system calls per transaction hold better."
    )


def commit() -> str:
    """The last one that changed the gateway's source, ``+`` after it when files differ from it.

    Empty outside git.
    """
    try:
        name = _git("log", "-1", "--format=%h", "--abbrev=12", "--", "gateway")
        changed = _git("status", "--porcelain", "--untracked-files=no", "--", "gateway")
    except (OSError, subprocess.SubprocessError):
        return ""
    return name + ("+" if changed else "")


def _git(*arguments: str) -> str:
    return subprocess.run(
        ["git", "-C", _ROOT, *arguments], capture_output=True, text=True, timeout=10, check=True
    ).stdout.strip()


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.machine()


def _memory_bytes() -> int:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
