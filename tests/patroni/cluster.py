"""Two PostgreSQL nodes under Patroni, with an etcd, all on loopback and in one folder."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import shutil
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import yaml

from gateway.demo.binaries import find_postgres
from gateway.demo.postgres import FAST, free_port

HOST = "127.0.0.1"
START_S = 90.0
TTL_S = 20
"""Patroni's least: so long a dead node's lock lives."""
PATRONI = Path(os.environ.get("PATRONI_VENV", ".venv-patroni")) / "bin" / "patroni"


@dataclass
class Node:
    """One PostgreSQL and its Patroni."""

    name: str
    folder: Path
    port: int = field(default_factory=free_port)
    api_port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def api(self) -> str:
        return f"http://{HOST}:{self.api_port}"

    @property
    def _postmaster(self) -> int | None:
        try:
            return int((self.folder / "data" / "postmaster.pid").read_text().split("\n")[0])
        except (OSError, ValueError):
            return None

    def start(self, settings: dict[str, Any]) -> None:
        """Run its Patroni, which runs its PostgreSQL."""
        self.folder.mkdir(exist_ok=True)
        file = self.folder / "patroni.yaml"
        file.write_text(yaml.safe_dump(settings))
        self.process = run([PATRONI.absolute(), file], self.folder / "log", unprivileged=True)

    def kill_postgres(self) -> None:
        """kill -9 of the postmaster; Patroni lives."""
        if (pid := self._postmaster) is not None:
            os.kill(pid, signal.SIGKILL)

    def kill(self) -> None:
        """The whole node is gone at once."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()
        self.kill_postgres()

    def end(self) -> None:
        """Stop both, patiently first."""
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        if (pid := self._postmaster) is not None and Path(f"/proc/{pid}").exists():
            os.kill(pid, signal.SIGQUIT)


def run(command: Sequence[str | Path], log: Path, *, unprivileged: bool) -> subprocess.Popen[bytes]:
    """Start a program in a session of its own. PostgreSQL wants not to see itself as root."""
    as_nobody = ["unshare", "--user", "--map-user=1000"]
    prefix = as_nobody if unprivileged and os.geteuid() == 0 else []
    with log.open("ab") as output:
        return subprocess.Popen(
            [*prefix, *command], stdout=output, stderr=output, start_new_session=True
        )


class PatroniCluster:
    """The nodes, and what Patroni says of them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.password = secrets.token_hex(16)
        self.nodes = [Node(name, folder / name) for name in ("one", "two")]
        self._etcd_ports = (free_port(), free_port())
        self._etcd: subprocess.Popen[bytes] | None = None

    def url(self, node: Node, database: str) -> str:
        return f"postgresql://postgres:{self.password}@{HOST}:{node.port}/{database}"

    def start_etcd(self) -> None:
        clients, peers = (f"http://{HOST}:{port}" for port in self._etcd_ports)
        command = ["etcd", "--name", "etcd", "--data-dir", str(self.folder / "etcd")]
        command += ["--listen-client-urls", clients, "--advertise-client-urls", clients]
        command += ["--listen-peer-urls", peers, "--initial-advertise-peer-urls", peers]
        command += ["--initial-cluster", f"etcd={peers}"]
        self._etcd = run(command, self.folder / "etcd.log", unprivileged=False)

    def settings(self, node: Node) -> dict[str, Any]:
        """A node's patroni.yaml."""
        return {
            "scope": "crm",
            "name": node.name,
            "restapi": {
                "listen": f"{HOST}:{node.api_port}",
                "connect_address": f"{HOST}:{node.api_port}",
            },
            "etcd3": {"hosts": f"{HOST}:{self._etcd_ports[0]}"},
            "bootstrap": {
                "dcs": {
                    "ttl": TTL_S,
                    "loop_wait": 2,
                    "retry_timeout": 5,
                    "primary_start_timeout": 0,
                    "synchronous_mode": True,
                    "postgresql": {"parameters": {"max_connections": 100}},
                },
                "initdb": [{"encoding": "UTF8"}, "data-checksums"],
            },
            "postgresql": {
                "listen": f"{HOST}:{node.port}",
                "connect_address": f"{HOST}:{node.port}",
                "data_dir": str(node.folder / "data"),
                "bin_dir": str(find_postgres().bin_dir),
                "remove_data_directory_on_diverged_timelines": True,
                "pgpass": str(node.folder / "pgpass"),
                "authentication": {
                    "superuser": {"username": "postgres", "password": self.password},
                    "replication": {"username": "replicator", "password": self.password},
                },
                "parameters": {
                    **{name: value for name, value in FAST.items() if name != "max_connections"},
                    "unix_socket_directories": "",
                },
                "pg_hba": [
                    "host replication replicator 127.0.0.1/32 scram-sha-256",
                    "host all all 127.0.0.1/32 scram-sha-256",
                ],
            },
        }

    async def members(self) -> list[dict[str, Any]]:
        """What the first node that answers says."""
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=2)) as session:
            for node in self.nodes:
                try:
                    async with session.get(f"{node.api}/cluster") as answer:
                        return list(json.loads(await answer.text())["members"])
                except (OSError, TimeoutError, aiohttp.ClientError, KeyError, ValueError):
                    continue
        return []

    async def settled(self, leader: Node | None = None) -> tuple[Node, Node]:
        """Leader and synchronous standby, once both are there."""
        end = time.monotonic() + START_S
        while time.monotonic() < end:
            roles = {one["role"]: one for one in await self.members()}
            if roles.keys() >= {"leader", "sync_standby"}:
                found = self._node(roles["leader"]), self._node(roles["sync_standby"])
                ready = roles["leader"]["state"] == "running"
                ready = ready and roles["sync_standby"]["state"] == "streaming"
                if ready and leader in (None, found[0]):
                    return found
            await asyncio.sleep(0.2)
        raise TimeoutError(f"the cluster does not settle: {await self.members()}; see its logs")

    def _node(self, member: dict[str, Any]) -> Node:
        return next(node for node in self.nodes if node.name == member["name"])

    async def switch_over(self, leader: Node, candidate: Node) -> None:
        """As `patronictl switchover`; returns when Patroni says that it is done."""
        body = {"leader": leader.name, "candidate": candidate.name}
        timeout = aiohttp.ClientTimeout(total=60)
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.post(f"{leader.api}/switchover", json=body) as answer,
        ):
            text = await answer.text()
            assert answer.status == 200, text

    def end(self) -> None:
        for node in self.nodes:
            node.end()
        if self._etcd is not None:
            self._etcd.kill()
            self._etcd.wait()


@asynccontextmanager
async def patroni_cluster(folder: Path) -> AsyncIterator[PatroniCluster]:
    """A running one with a leader and a standby; gone afterwards."""
    for program in (str(PATRONI.absolute()), "etcd"):
        if shutil.which(program) is None:
            raise SystemExit(f"{program} is needed (etcd: apt-get install etcd-server)")
    cluster = PatroniCluster(folder)
    try:
        cluster.start_etcd()
        for node in cluster.nodes:
            node.start(cluster.settings(node))
        await cluster.settled()
        yield cluster
    finally:
        cluster.end()
