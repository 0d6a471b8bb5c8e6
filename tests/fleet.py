"""A gateway of several processes for tests, before the seeded databases; killed as a whole."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import yaml

from gateway.demo.postgres import free_port
from gateway.demo.seed import SeedLogin
from gateway.settings.model import Settings
from gateway.settings.plain import to_plain
from gateway.supervisor.meeting import Process
from tests.wire import Place

HOST = "127.0.0.1"
START_S = 60.0


def merged(base: dict[str, Any], overrides: dict[str, Any]) -> dict[str, Any]:
    """``base`` with what ``overrides`` says, section by section."""
    result = dict(base)
    for name, value in overrides.items():
        inner = result.get(name)
        both = isinstance(inner, dict) and isinstance(value, dict)
        result[name] = merged(result[name], value) if both else value
    return result


class Fleet:
    """`gateway serve` with several workers, by its settings file."""

    def __init__(self, settings: Settings, folder: Path, overrides: dict[str, Any]) -> None:
        self.file = folder / "gateway.yaml"
        self.log = folder / "gateway.log"
        self.meeting = folder / "run"
        self.port, self.http_port = free_port(), free_port()
        own = {
            "workers": 2,
            "runtime_dir": str(self.meeting),
            "listen": {"port": self.port},
            "http": {"port": self.http_port},
        }
        self._options = merged(merged(to_plain(settings), own), overrides)
        self.write({})
        self._seen = 0
        self.supervisor: subprocess.Popen[bytes] | None = None

    def write(self, overrides: dict[str, Any]) -> None:
        """The settings with some changed, into the file."""
        options = json.loads(json.dumps(merged(self._options, overrides)))
        self.file.write_text(yaml.safe_dump(options))

    async def start(self) -> None:
        """Start a supervisor and wait until all workers are ready."""
        command = [sys.executable, "-m", "gateway", "serve", "--config", str(self.file)]
        with self.log.open("ab") as output:
            self.supervisor = subprocess.Popen(  # noqa: ASYNC220 - it starts at once
                command, stdout=output, stderr=output
            )
        await self.logged("ready: listening")

    async def logged(self, pattern: str, timeout_s: float = START_S) -> str:
        """The next line of the log that fits."""
        end = time.monotonic() + timeout_s
        while True:
            text = self.log.read_text() if self.log.exists() else ""
            match = re.search(f"^.*{pattern}.*$", text[self._seen :], re.MULTILINE)
            if match is not None:
                self._seen += match.end()
                return match[0]
            assert time.monotonic() < end, f"{pattern} was not logged:\n{text}"
            await asyncio.sleep(0.01)

    def workers(self) -> dict[int, Process]:
        """The processes of the workers, by number."""
        try:
            noted = json.loads((self.meeting / "workers.json").read_text())
        except (OSError, ValueError):
            return {}
        return {int(number): Process(*one) for number, one in noted.items()}

    def kill_worker(self, number: int) -> Process:
        """kill -9; the process that was."""
        process = self.workers()[number]
        os.kill(process.pid, signal.SIGKILL)
        return process

    def signal(self, number: signal.Signals) -> None:
        """To the supervisor."""
        assert self.supervisor is not None
        self.supervisor.send_signal(number)

    async def ended(self, timeout_s: float = 30.0) -> int:
        """The supervisor's exit status."""
        assert self.supervisor is not None
        return await asyncio.to_thread(self.supervisor.wait, timeout_s)

    def place(self, login: SeedLogin, database: str | None = None) -> Place:
        """How a login connects."""
        return Place(HOST, self.port, login.user, login.password, database or login.database)

    def url(self, login: SeedLogin, database: str | None = None) -> str:
        """The same as a URL."""
        where = f"{HOST}:{self.port}/{database or login.database}"
        return f"postgresql://{login.user}:{login.password}@{where}"

    def end(self) -> None:
        """Kill every process of it."""
        workers = self.workers()
        if self.supervisor is not None and self.supervisor.poll() is None:
            self.supervisor.kill()
            self.supervisor.wait(10)
        for process in {**workers, **self.workers()}.values():
            process.send(signal.SIGKILL)


@asynccontextmanager
async def fleet(
    settings: Settings, folder: Path, overrides: dict[str, Any] | None = None
) -> AsyncIterator[Fleet]:
    """A running one."""
    made = Fleet(settings, folder, overrides or {})
    try:
        await made.start()
        yield made
    finally:
        made.end()


async def until(condition: Callable[[], bool], timeout_s: float = 10.0) -> float:
    """Wait for ``condition``; the seconds that took."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < timeout_s, "it did not come true in time"
        await asyncio.sleep(0.002)
    return time.monotonic() - began
