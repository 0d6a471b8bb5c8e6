"""The gateway itself, started by the demo as a process of its own."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

from gateway.demo.folder import DemoError
from gateway.demo.postgres import HOST, free_port, port_is_free
from gateway.demo.process import open_log, spawn, stop, tail, wait

HTTP_PORT = 6480
_START_TIMEOUT_S = 30
_STOP_TIMEOUT_S = 15


@dataclass(frozen=True, slots=True)
class Ports:
    """Where the gateway listens on loopback."""

    client: int
    http: int


def choose_ports(port: int) -> Ports:
    """``port`` for clients; 6480 for HTTP, or any free one if that is taken. 0: any for both.

    Raises DemoError when ``port`` is taken.
    """
    if port and not port_is_free(port):
        raise DemoError(f"port {port} is taken; choose another with --port N, or any with --port 0")
    client = port or free_port()
    usual = bool(port) and client != HTTP_PORT and port_is_free(HTTP_PORT)
    http = HTTP_PORT if usual else free_port()
    return Ports(client, http)


@dataclass(frozen=True, slots=True)
class GatewayProcess:
    """A gateway that answered that it is ready."""

    ports: Ports
    log: Path
    process: subprocess.Popen[bytes]

    @property
    def pid(self) -> int:
        """The process that takes signals."""
        return self.process.pid

    async def wait(self) -> int:
        """Its exit status, once it ends."""
        while (status := await wait(self.process, timeout_s=1)) is None:
            pass
        return status


async def start_gateway(
    config: Path, environ: Mapping[str, str], ports: Ports, log: Path, stack: AsyncExitStack
) -> GatewayProcess:
    """Runs ``gateway serve`` until ``stack`` stops it; returns when it is ready.

    Raises DemoError with the end of its log.
    """
    with open_log(log) as output:
        process = spawn(
            [sys.executable, "-P", "-m", "gateway", "serve", "--config", config],
            output=output,
            environ={
                **os.environ,
                **environ,
                "GATEWAY_PORT": str(ports.client),
                "GATEWAY_HTTP_PORT": str(ports.http),
            },
        )
    stack.push_async_callback(stop, process, signal.SIGINT, _STOP_TIMEOUT_S)
    deadline = monotonic() + _START_TIMEOUT_S
    while process.poll() is None and monotonic() < deadline:
        # Another gateway may have taken the port for HTTP since it was found free.
        if await asyncio.to_thread(_is_ready, ports):
            return GatewayProcess(ports, log, process)
        await asyncio.sleep(0.05)
    what = "is not ready" if process.poll() is None else f"ended with status {process.returncode}"
    raise DemoError(f"the gateway {what}; the end of {log}:\n{tail(log) or '(empty)'}")


def _is_ready(ports: Ports) -> bool:
    try:
        with urllib.request.urlopen(f"http://{HOST}:{ports.http}/readyz", timeout=2) as answer:
            ready = bool(answer.status == 200)
        with socket.create_connection((HOST, ports.client), timeout=2):
            return ready
    except (OSError, urllib.error.URLError):
        return False
