"""Holds processes to a part of a core, so that few cores can show what more of them would do.

By cgroups, version 1 or 2, where we may make them; nothing else of the machine is touched.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

_PERIOD_US = 10_000
_V1 = Path("/sys/fs/cgroup/cpu")
_V2 = Path("/sys/fs/cgroup")


def available() -> bool:
    """Whether processes can be held here."""
    try:
        with _group("try", 0.5):
            return True
    except OSError:
        return False


@contextmanager
def held(pids: Sequence[int], cores: float) -> Iterator[None]:
    """Each of ``pids``, with all its threads, to ``cores`` of its own. Raises OSError."""
    with ExitStack() as stack:
        for number, pid in enumerate(pids):
            group = stack.enter_context(_group(str(number), cores))
            home = _home(pid)
            _write(group / "cgroup.procs", str(pid))
            stack.callback(_back, home, pid)
        yield


@contextmanager
def _group(name: str, cores: float) -> Iterator[Path]:
    parent, limits = _limits(cores)
    group = parent / f"gateway-bench-{os.getpid()}-{name}"
    group.mkdir()
    try:
        for file, value in limits.items():
            _write(group / file, value)
        yield group
    finally:
        with suppress(OSError):
            group.rmdir()


def _limits(cores: float) -> tuple[Path, dict[str, str]]:
    quota = str(int(_PERIOD_US * cores))
    if (_V1 / "cpu.shares").exists():
        return _V1, {"cpu.cfs_period_us": str(_PERIOD_US), "cpu.cfs_quota_us": quota}
    return _V2, {"cpu.max": f"{quota} {_PERIOD_US}"}


def _home(pid: int) -> Path:
    """Where a process is now."""
    for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if "cpu" in controllers.split(","):
            return _V1 / path.lstrip("/")
        if not controllers and not (_V1 / "cpu.shares").exists():
            return _V2 / path.lstrip("/")
    return _V1


def _back(home: Path, pid: int) -> None:
    with suppress(OSError):
        _write(home / "cgroup.procs", str(pid))


def _write(path: Path, text: str) -> None:
    path.write_text(text)
