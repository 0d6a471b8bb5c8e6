"""`gateway demo` as a newcomer runs it: all up, visited, and all gone afterwards."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import asyncpg
import pytest

from gateway.settings.model import INDUSTRIES

START_TIMEOUT_S = 90
OWNERS = 32


@pytest.fixture(scope="module")
def temporary() -> Iterator[Path]:
    """The demo's TMPDIR, to see what it leaves there."""
    folder = Path(tempfile.mkdtemp(prefix="gateway-test-"))
    folder.chmod(0o711)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def kept() -> Iterator[Path]:
    """A data folder that only we may enter, as `mktemp -d` makes them."""
    folder = Path(tempfile.mkdtemp(prefix="gateway-test-"))
    yield folder / "demo"
    shutil.rmtree(folder)


@contextmanager
def demo(temporary: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "gateway", "demo", *arguments]
    environ = {**os.environ, "TMPDIR": str(temporary), "COLUMNS": "200"}
    pipe = subprocess.PIPE
    with subprocess.Popen(
        command, stdout=pipe, stderr=subprocess.STDOUT, text=True, env=environ
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def wait_for(path: Path, process: subprocess.Popen[str]) -> dict[str, Any]:
    deadline = monotonic() + START_TIMEOUT_S
    while not path.exists():
        assert process.poll() is None, process.communicate()[0]
        assert monotonic() < deadline, "the demo is not up in time"
        sleep(0.05)
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def assert_all_gone(ready: dict[str, Any], within_s: float = 60) -> None:
    deadline = monotonic() + within_s
    while left := [name for name, pid in ready["pids"].items() if running(pid)]:
        assert monotonic() < deadline, f"still running: {left}"
        sleep(0.05)


def check_ready(ready: dict[str, Any]) -> None:
    """The form that programs outside rely on."""
    assert set(ready) == {"gateway", "logins", "endpoints", "pids"}
    assert set(ready["gateway"]) == {"host", "port", "http_port", "console_database"}
    assert {"gateway", "primary", "standby"} <= set(ready["pids"])
    fields = {"kind", "user", "password", "database", "owner", "industry", "shard"}
    assert all(set(login) == fields for login in ready["logins"])
    assert {login["kind"] for login in ready["logins"]} == {"owner", "service", "operator"}
    owners = [login for login in ready["logins"] if login["kind"] == "owner"]
    assert len(owners) == OWNERS
    assert {owner["industry"] for owner in owners} == set(INDUSTRIES)
    fields = {"name", "industry", "shard", "role", "dsn"}
    assert all(set(endpoint) == fields for endpoint in ready["endpoints"])
    assert len({endpoint["name"] for endpoint in ready["endpoints"]}) == 2 * 17
    shards = {endpoint["shard"] for endpoint in ready["endpoints"]}
    assert {owner["shard"] for owner in owners} == shards - {"meta"}


async def database_seen(ready: dict[str, Any], login: dict[str, Any], **options: Any) -> str:
    connection = await asyncpg.connect(
        host=ready["gateway"]["host"],
        port=ready["gateway"]["port"],
        user=login["user"],
        password=login["password"],
        database=login["database"],
        timeout=15,
        **options,
    )
    try:
        return str(await connection.fetchval("SELECT current_database()"))
    finally:
        await connection.close()


@pytest.mark.timeout(300)
async def test_it_comes_up_serves_and_leaves_only_what_it_should(
    temporary: Path, kept: Path
) -> None:
    ready_file = kept.parent / "ready.json"
    arguments = ("--port", "0", "--data-dir", str(kept), "--ready-file", str(ready_file))
    with demo(temporary, *arguments, "--owners", str(OWNERS)) as process:
        ready = wait_for(ready_file, process)
        assert stat.S_IMODE(ready_file.stat().st_mode) == 0o600
        check_ready(ready)
        for login in ready["logins"]:
            if login["kind"] == "owner":
                assert await database_seen(ready, login) == login["shard"]
        for endpoint in ready["endpoints"]:
            connection = await asyncpg.connect(endpoint["dsn"], timeout=15)
            recovering = await connection.fetchval("SELECT pg_is_in_recovery()")
            await connection.close()
            assert recovering == (endpoint["role"] == "replica")
        await check_joined(ready)
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate(timeout=60)
    assert process.returncode == 0, said
    assert_all_gone(ready, within_s=1)
    assert said.count("psql -h 127.0.0.1") >= 16 + 3
    assert "Stopped everything." in said
    check_killed(temporary, kept)
    check_reused(temporary, kept, ready)


async def check_joined(ready: dict[str, Any]) -> None:
    """A new user arrives in its industry's database, and the hub knows all industries."""
    places = {place["name"]: place["dsn"] for place in ready["endpoints"]}
    meta = await asyncpg.connect(places["meta"], timeout=15)
    law = await asyncpg.connect(places["law"], timeout=15)
    operator = next(login for login in ready["logins"] if login["kind"] == "operator")
    gateway = ready["gateway"]
    hub = await asyncpg.connect(
        host=gateway["host"],
        port=gateway["port"],
        user=operator["user"],
        password=operator["password"],
        database="hub",
        timeout=15,
    )
    try:
        await meta.execute(
            """INSERT INTO "User" ("id", "email", "name", "industry")
               VALUES (-1, 'new@x', 'New', 'LAW')"""
        )
        deadline = monotonic() + 15
        while await law.fetchval('SELECT count(*) FROM "User" WHERE "id" = -1') == 0:
            assert monotonic() < deadline, "the user does not arrive"
            await asyncio.sleep(0.05)
        await meta.execute('DELETE FROM "User" WHERE "id" = -1')
        assert await hub.fetchval("""SELECT count(DISTINCT industry) FROM "Lead" """) == 14
    finally:
        for connection in (meta, law, hub):
            await connection.close()


def check_killed(temporary: Path, kept: Path) -> None:
    """A demo that is killed takes the gateway and the servers with it."""
    ready_file = kept.parent / "killed.json"
    arguments = ("--port", "0", "--data-dir", str(kept), "--ready-file", str(ready_file))
    with demo(temporary, *arguments) as process:
        ready = wait_for(ready_file, process)
        process.kill()
        process.wait(timeout=10)
        assert_all_gone(ready)


def check_reused(temporary: Path, kept: Path, first: dict[str, Any]) -> None:
    """The same folder again: same logins, no loading, and out after the tour."""
    ready_file = kept.parent / "again.json"
    arguments = ("--port", "0", "--data-dir", str(kept), "--ready-file", str(ready_file))
    with demo(temporary, *arguments, "--exit-after-tour") as process:
        said, _ = process.communicate(timeout=START_TIMEOUT_S)
    assert process.returncode == 0, said
    assert f"holds {OWNERS} owners already" in said
    again = json.loads(ready_file.read_text())
    assert again["logins"] == first["logins"]
    assert_all_gone(again, within_s=1)
    assert list(temporary.iterdir()) == []


def test_sigterm_in_mid_start_cleans_up(temporary: Path) -> None:
    with demo(temporary, "--port", "0") as process:
        assert process.stdout is not None
        for line in process.stdout:
            if "PostgreSQL primary on port" in line:
                break
        process.terminate()
        process.communicate(timeout=60)
    assert process.returncode == 130
    assert list(temporary.iterdir()) == []


def test_a_taken_port_is_said_at_once(temporary: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with demo(temporary, "--port", str(port)) as process:
            said, _ = process.communicate(timeout=30)
    assert process.returncode == 1
    assert f"port {port} is taken" in said
    assert "--port" in said.partition("is taken")[2]
    assert "PostgreSQL" not in said


def test_too_few_owners_are_refused_and_all_is_stopped(temporary: Path) -> None:
    with demo(temporary, "--port", "0", "--owners", "3") as process:
        said, _ = process.communicate(timeout=START_TIMEOUT_S)
    assert process.returncode == 1
    assert "at least 16" in said
    assert list(temporary.iterdir()) == []
