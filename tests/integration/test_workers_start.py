"""How a gateway of several workers starts, or does not."""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from asyncio.subprocess import PIPE, Process
from pathlib import Path
from typing import Any

import pytest

from gateway.settings.model import AUTO, Settings
from gateway.supervisor.supervisor import worker_count
from tests.conftest import Provisioned
from tests.fleet import HOST, Fleet, until

TIMEOUT_S = 60


async def serve(one: Fleet) -> Process:
    command = (sys.executable, "-m", "gateway", "serve", "--config", str(one.file))
    return await asyncio.create_subprocess_exec(*command, stderr=PIPE)


async def said(process: Process) -> str:
    async with asyncio.timeout(TIMEOUT_S):
        _, text = await process.communicate()
    return text.decode()


@pytest.mark.parametrize("section", ["listen", "http"])
async def test_a_taken_port_ends_it_with_one_line_and_leaves_no_process(
    provisioned: Provisioned, tmp_path: Path, section: str
) -> None:
    holder = await asyncio.start_server(lambda reader, writer: None, HOST, 0)
    port = holder.sockets[0].getsockname()[1]
    one = Fleet(provisioned.settings, tmp_path, {section: {"port": port}})
    process = await serve(one)
    text = await said(process)
    holder.close()
    assert process.returncode == 1
    assert "Traceback" not in text
    (line,) = [line for line in text.splitlines() if line.startswith("gateway: ")]
    assert line.startswith("gateway: can't start: ")
    assert not one.workers()


async def test_bad_settings_and_a_bad_certificate_are_told(
    provisioned: Provisioned, tmp_path: Path
) -> None:
    one = Fleet(provisioned.settings, tmp_path, {"pool": {"max": 0}})
    process = await serve(one)
    assert "pool.max" in await said(process)
    assert process.returncode == 2
    certificate = tmp_path / "certificate.pem"
    certificate.write_text("no certificate")
    one = Fleet(
        provisioned.settings, tmp_path, {"listen": {"tls": {"certificate_file": str(certificate)}}}
    )
    process = await serve(one)
    assert str(certificate) in await said(process)
    assert process.returncode == 2


async def test_sigterm_in_the_middle_of_a_start_ends_it(
    provisioned: Provisioned, tmp_path: Path
) -> None:
    one = Fleet(provisioned.settings, tmp_path, {})
    process = await serve(one)
    await until((one.meeting / "control").exists, TIMEOUT_S)
    process.send_signal(signal.SIGTERM)
    began = time.monotonic()
    text = await said(process)
    assert time.monotonic() - began < 10
    assert process.returncode == 0, text
    assert not one.workers()


def test_auto_means_one_worker_per_core_that_we_may_use(
    provisioned: Provisioned, monkeypatch: pytest.MonkeyPatch
) -> None:
    def count(workers: int, cores: int) -> int:
        affinity: Any = lambda pid: set(range(cores))  # noqa: E731
        monkeypatch.setattr("os.sched_getaffinity", affinity)
        settings: Settings = provisioned.settings.model_copy(update={"workers": workers})
        return worker_count(settings)

    assert count(AUTO, 1) == 1
    assert count(AUTO, 3) == 3
    assert count(AUTO, 128) == 63
    assert count(5, 2) == 5
