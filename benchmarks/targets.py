"""What is measured: PostgreSQL itself, PgBouncer, the gateway; each knows how clients reach it."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from benchmarks.certificate import write_certificate
from benchmarks.programs import Program, keeps_prepared
from benchmarks.tenants import BENCH_DATABASE, ROLE, SERVICE, Tenant, database_of, login_of
from gateway.demo.child import GatewayProcess, choose_ports, start_gateway
from gateway.demo.postgres import HOST, Cluster, free_port
from gateway.demo.process import ProcessError, open_log, server_account, spawn, stop, tail

POOL_SIZE = 20
"""Server connections per database, of PgBouncer and of the gateway."""

STATEMENTS_MAX = 500
"""Prepared statements kept on one server connection, of both."""

CLIENTS_MAX = 10_000

_START_TIMEOUT_S = 15.0


@dataclass(frozen=True, slots=True)
class Access:
    """How a client connects."""

    port: int
    user: str
    password: str = field(repr=False)
    database: str
    host: str = HOST
    tls: bool = False

    @property
    def environ(self) -> dict[str, str]:
        """The same for programs that use libpq."""
        return {
            "PGHOST": self.host,
            "PGPORT": str(self.port),
            "PGUSER": self.user,
            "PGPASSWORD": self.password,
            "PGDATABASE": self.database,
            "PGSSLMODE": "require" if self.tls else "disable",
            "PGGSSENCMODE": "disable",
            "PGCONNECT_TIMEOUT": "20",
        }


class Target(ABC):
    """One of the things compared. ``name`` keys its results."""

    name: str
    keeps_prepared = True

    @property
    def pid(self) -> int | None:
        """The proxy's process; None for PostgreSQL itself."""
        return None

    @property
    def port(self) -> int:
        """Where clients connect; proxies change it with every start."""
        raise NotImplementedError

    @abstractmethod
    def bench(self) -> Access:
        """To pgbench's database."""

    @abstractmethod
    def tenant(self, tenant: Tenant) -> Access:
        """To the database where a tenant lives, as that tenant where the target knows tenants."""

    def service(self) -> Access | None:
        """As the web application that acts for every owner; None where nobody knows owners."""
        return None

    async def start(self) -> None:
        """Ready for clients. Raises ProcessError or DemoError."""
        await asyncio.sleep(0)

    async def stop(self) -> None:
        """Gone, by its own process id."""
        await asyncio.sleep(0)

    async def restart(self) -> None:
        """A new process, with nothing in its memory yet."""
        await self.stop()
        await self.start()


class Direct(Target):
    """PostgreSQL without anything in between. The rig starts and stops it."""

    name = "direct"

    def __init__(self, cluster: Cluster, password: str) -> None:
        self._cluster = cluster
        self._password = password

    @property
    def port(self) -> int:
        return self._cluster.port

    def bench(self) -> Access:
        return Access(self.port, ROLE, self._password, BENCH_DATABASE)

    def tenant(self, tenant: Tenant) -> Access:
        return Access(self.port, ROLE, self._password, database_of(tenant.shard))


class PgBouncer(Target):
    """PgBouncer in transaction mode: one user, the client names the database."""

    name = "pgbouncer"

    def __init__(
        self, program: Program, folder: Path, cluster: Cluster, password: str, verifier: str
    ) -> None:
        self.keeps_prepared = keeps_prepared(program)
        self._program = program
        self._folder = folder
        self._cluster = cluster
        self._password = password
        self._verifier = verifier
        self._certificate = write_certificate(folder, "pgbouncer", server_account())
        self._port = 0
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    @property
    def port(self) -> int:
        return self._port

    def bench(self) -> Access:
        return Access(self._port, ROLE, self._password, BENCH_DATABASE)

    def tenant(self, tenant: Tenant) -> Access:
        return Access(self._port, ROLE, self._password, database_of(tenant.shard))

    async def start(self) -> None:
        self._port = free_port()
        users, config = self._folder / "pgbouncer.users", self._folder / "pgbouncer.ini"
        self._write(users, f'"{ROLE}" "{self._verifier}"\n')
        self._write(config, self._settings(users))
        log = self._folder / "pgbouncer.log"
        with open_log(log) as output:
            self._process = spawn(
                [self._runnable(), config],
                output=output,
                environ={"PATH": os.defpath},
                account=server_account(),  # it refuses to run as root
                signal_when_orphaned=signal.SIGTERM,
            )
        deadline = time.monotonic() + _START_TIMEOUT_S
        while not _listens(self._port):
            if self._process.poll() is not None or time.monotonic() > deadline:
                await self.stop()
                raise ProcessError(f"PgBouncer did not start; the end of its log:\n{tail(log)}")
            await asyncio.sleep(0.02)

    async def stop(self) -> None:
        if self._process is not None:
            process, self._process = self._process, None
            await stop(process, signal.SIGTERM, 10)  # at once: SIGINT would wait for clients

    def _settings(self, users: Path) -> str:
        return f"""[databases]
* = host={HOST} port={self._cluster.port}
[pgbouncer]
listen_addr = {HOST}
listen_port = {self._port}
unix_socket_dir =
auth_type = scram-sha-256
auth_file = {users}
pool_mode = transaction
default_pool_size = {POOL_SIZE}
max_client_conn = {CLIENTS_MAX}
log_connections = 0
log_disconnections = 0
client_tls_sslmode = allow
client_tls_cert_file = {self._certificate[0]}
client_tls_key_file = {self._certificate[1]}
""" + (f"max_prepared_statements = {STATEMENTS_MAX}\n" if self.keeps_prepared else "")

    def _write(self, path: Path, text: str) -> None:
        """A file that only PgBouncer's user can read."""
        path.unlink(missing_ok=True)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(text)
            if (account := server_account()) is not None:
                os.fchown(file.fileno(), account.uid, account.gid)

    def _runnable(self) -> Path:
        """The program, or a copy of it where its user can't reach the original."""
        account = server_account()
        if account is None or account.can_use(self._program.path):
            return self._program.path
        copy = self._folder / "pgbouncer"
        if not copy.exists():
            copy.write_bytes(self._program.path.read_bytes())
            copy.chmod(0o755)
        return copy


class Gateway(Target):
    """The gateway as `gateway serve` with one worker; ``environ`` makes variants of it.

    pgbench logs in as an owner whose home is pgbench's database, so that routing is measured too.
    """

    def __init__(
        self,
        name: str,
        folder: Path,
        settings: Mapping[str, Any],
        password: str,
        environ: Mapping[str, str],
    ) -> None:
        self.name = name
        self._folder = folder
        self._settings = settings
        self._password = password
        self._environ = environ
        self._certificate = write_certificate(folder, name, None)
        self._running = AsyncExitStack()
        self._process: GatewayProcess | None = None

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    @property
    def port(self) -> int:
        return self._process.ports.client if self._process else 0

    def bench(self) -> Access:
        return Access(self.port, ROLE, self._password, BENCH_DATABASE)

    def tenant(self, tenant: Tenant) -> Access:
        return Access(self.port, login_of(tenant), self._password, tenant.shard)

    def service(self) -> Access:
        return Access(self.port, SERVICE, self._password, SERVICE)

    def variant(self, name: str, changes: Mapping[str, Any]) -> Gateway:
        """The same but for some settings, which are changed section by section; not started."""
        settings = {**self._settings} | {
            key: {**self._settings.get(key, {}), **value} if isinstance(value, Mapping) else value
            for key, value in changes.items()
        }
        return Gateway(name, self._folder, settings, self._password, self._environ)

    async def start(self) -> None:
        config = self._folder / f"{self.name}.yaml"
        config.unlink(missing_ok=True)
        config.touch(0o600)
        ports = choose_ports(0)
        certificate, key = self._certificate
        listen = {
            "port": ports.client,
            "max_client_connections": CLIENTS_MAX,
            "tls": {"certificate_file": str(certificate), "key_file": str(key)},
        }
        config.write_text(
            yaml.safe_dump({**self._settings, "listen": listen, "http": {"port": ports.http}})
        )
        log = self._folder / f"{self.name}.log"
        self._process = await start_gateway(config, self._environ, ports, log, self._running)

    async def stop(self) -> None:
        self._process = None
        await self._running.aclose()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((HOST, port)) == 0
