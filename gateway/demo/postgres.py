"""PostgreSQL clusters of our own: made, started, copied, stopped; nothing left behind."""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from random import SystemRandom
from time import monotonic
from types import MappingProxyType
from typing import Self
from urllib.parse import quote

from gateway.demo.binaries import Installation, PostgresNotFound, find_postgres
from gateway.demo.process import Account, open_log, server_account, spawn, stop, tail, wait

__all__ = [
    "Cluster",
    "ClusterError",
    "Installation",
    "PostgresNotFound",
    "StopMode",
    "find_postgres",
]

HOST = "127.0.0.1"
SUPERUSER = "postgres"

# Below the ports that systems give to outgoing connections, which could take ours at a restart.
_PORTS = range(15_000, 32_000)
_START_ATTEMPTS = 5
_INCLUDED = "gateway.conf"

DEFAULTS: Mapping[str, str] = MappingProxyType(
    {
        "hot_standby": "on",
        "unix_socket_directories": "",
        "max_connections": "300",
        "max_prepared_transactions": "100",
        # 16 industry databases and their first copies may follow a meta database on this server.
        "max_wal_senders": "64",
        "max_replication_slots": "64",
        "max_logical_replication_workers": "40",
        "max_worker_processes": "48",
        "wal_retrieve_retry_interval": "200ms",  # also between starts of subscriptions
        "wal_level": "logical",
        "wal_keep_size": "512MB",
        "shared_buffers": "64MB",
        "log_line_prefix": "%m [%p] %u@%d ",
        "logging_collector": "off",
        "log_destination": "stderr",
        "timezone": "UTC",
        "log_timezone": "UTC",
    }
)
"""Settings every cluster starts with. No Unix socket, so that no path can be too long for one."""

FAST: Mapping[str, str] = MappingProxyType({"fsync": "off", "full_page_writes": "off"})
"""For data that may be lost with the machine: tests and throw-away demos. Commits still wait for
their WAL to be written, else a standby would get it late."""


class ClusterError(Exception):
    """PostgreSQL could not be made, started or stopped; the text ends with its log."""


class StopMode(Enum):
    """PostgreSQL's three ways to stop: wait for clients, end their sessions, or just die."""

    SMART = signal.SIGTERM
    FAST = signal.SIGINT
    IMMEDIATE = signal.SIGQUIT


class Cluster:
    """One PostgreSQL server and its data folder, on a loopback port.

    ``port`` 0 chooses a free one at the first start and keeps it. As root the server runs as an
    unprivileged user, who then owns the data folder. The server dies with this process. Use it
    from the main thread.
    """

    def __init__(
        self,
        installation: Installation,
        data_dir: Path,
        *,
        name: str = "primary",
        port: int = 0,
        password: str | None = None,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self.installation = installation
        self.data_dir = data_dir.absolute()
        self.name = name
        self.port = port
        self.password = password or secrets.token_hex(16)
        self.settings = {**DEFAULTS, **(settings or {})}
        self.log = self.data_dir.with_name(f"{self.data_dir.name}.log")
        self._account = server_account()
        self._process: subprocess.Popen[bytes] | None = None
        self._upstream: Cluster | None = None

    @property
    def pid(self) -> int:
        """Of the postmaster. Raises ClusterError when the server is not running."""
        if self._process is None or self._process.poll() is not None:
            raise ClusterError(f"{self.name} is not running")
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def exists(self) -> bool:
        """Whether the data folder holds a cluster."""
        return (self.data_dir / "PG_VERSION").is_file()

    def dsn(
        self, database: str = "postgres", user: str = SUPERUSER, password: str | None = None
    ) -> str:
        """A URL for a client; the superuser's password is filled in."""
        if password is None:
            password = self.password if user == SUPERUSER else ""
        login = quote(user, safe="") + (f":{quote(password, safe='')}" if password else "")
        return f"postgresql://{login}@{HOST}:{self.port}/{quote(database, safe='')}"

    async def initdb(self, timeout_s: float = 60) -> None:
        """Makes the data folder: UTF-8, C locale, SCRAM for every connection."""
        self._make_folder()
        with _unnamed_file(self.password, self._account) as password:
            await self._run_tool(
                "initdb",
                *(f"--username={SUPERUSER}", f"--pwfile=/dev/fd/{password}"),
                *("--auth=scram-sha-256", "--encoding=UTF8", "--no-locale", "--no-sync"),
                timeout_s=timeout_s,
                keep_open=(password,),
            )
        with (self.data_dir / "postgresql.conf").open("a", encoding="utf-8") as conf:
            conf.write(f"include '{_INCLUDED}'\n")

    @classmethod
    async def standby_of(
        cls, primary: Cluster, data_dir: Path, *, name: str = "standby", port: int = 0
    ) -> Self:
        """A streaming hot standby of a running cluster, copied from it but not started yet."""
        standby = cls.existing_standby_of(primary, data_dir, name=name, port=port)
        standby._make_folder()
        await standby._run_tool(
            "pg_basebackup",
            *("--checkpoint=fast", "--wal-method=stream", "--no-sync", "--no-password"),
            *(f"--host={HOST}", f"--port={primary.port}", f"--username={SUPERUSER}"),
            timeout_s=120,
            environ={"PGPASSWORD": primary.password},
        )
        _write_private(standby.data_dir / "standby.signal", "", standby._account)
        return standby

    @classmethod
    def existing_standby_of(
        cls, primary: Cluster, data_dir: Path, *, name: str = "standby", port: int = 0
    ) -> Self:
        """The standby that ``standby_of`` made before in the same folder."""
        standby = cls(
            primary.installation,
            data_dir,
            name=name,
            port=port,
            password=primary.password,
            settings=primary.settings,
        )
        standby._upstream = primary
        return standby

    def follow(self, upstream: Cluster) -> None:
        """A stopped standby follows another cluster from its next start on, as after a failover."""
        self._upstream = upstream

    async def start(self, timeout_s: float = 60) -> None:
        """Starts the server; returns when it takes connections."""
        if self.running:
            raise ClusterError(f"{self.name} runs already")
        deadline = monotonic() + timeout_s
        choose_port = self.port == 0
        for attempt in range(1, _START_ATTEMPTS + 1):
            if choose_port:
                self.port = free_port()
            said = await self._start_once(deadline)
            if said is None:
                return
            if attempt == _START_ATTEMPTS or not _may_pass(said, choose_port):
                break
            await asyncio.sleep(0.2 * attempt)
        raise ClusterError(f"{self.name} did not start; the end of {self.log}:\n{said}")

    async def stop(self, mode: StopMode = StopMode.FAST, timeout_s: float = 30) -> None:
        """Stops the server if it runs; one that does not stop in time is killed."""
        if self._process is not None:
            await stop(self._process, mode.value, timeout_s)
            self._process = None

    async def restart(self, mode: StopMode = StopMode.FAST, timeout_s: float = 60) -> None:
        """Stops and starts again, on the same port."""
        await self.stop(mode, timeout_s)
        await self.start(timeout_s)

    def kill(self) -> None:
        """Ends the postmaster by SIGKILL, as a crash would; its children notice and leave."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(timeout=10)
            self._process = None

    def remove(self) -> None:
        """Deletes the data folder and the log of a stopped cluster."""
        if self.running:
            raise ClusterError(f"{self.name} is running")
        if self.data_dir.exists():
            shutil.rmtree(self.data_dir)
        self.log.unlink(missing_ok=True)

    async def _start_once(self, deadline: float) -> str | None:
        """None when the server is up, else the end of its log."""
        self._write_settings()
        with open_log(self.log) as log, self._reachable_folder() as (folder, keep_open):
            process = spawn(
                [self._program("postgres"), "-D", folder],
                output=log,
                environ=_environ(),
                account=self._account,
                signal_when_orphaned=StopMode.FAST.value,
                keep_open=keep_open,
            )
        self._process = process
        up = False
        try:
            while not up and process.poll() is None and monotonic() < deadline:
                await asyncio.sleep(0.02)
                up = self._is_up(process.pid)
        finally:
            if not up:
                await self.stop(StopMode.IMMEDIATE, timeout_s=5)
        return None if up else tail(self.log) or "(empty)"

    def _is_up(self, pid: int) -> bool:
        """Whether the server with this process id takes connections, by its own lock file."""
        try:
            lines = (self.data_dir / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return False
        return len(lines) >= 8 and lines[0] == str(pid) and lines[7].strip() == "ready"

    def _write_settings(self) -> None:
        settings = {**self.settings, "listen_addresses": HOST, "port": str(self.port)}
        if self._upstream is not None:
            settings |= {
                "hot_standby": "on",
                "primary_conninfo": self._upstream._conninfo(self.name),
            }
        lines = (f"{name} = {_quoted(value)}\n" for name, value in settings.items())
        _write_private(self.data_dir / _INCLUDED, "".join(lines), self._account)

    def _conninfo(self, application: str) -> str:
        return (
            f"host={HOST} port={self.port} user={SUPERUSER}"
            f" password={_quoted(self.password)} application_name={application}"
        )

    def _make_folder(self) -> None:
        if self.data_dir.exists():
            raise ClusterError(f"{self.data_dir} exists already")
        self.data_dir.mkdir(parents=True, mode=0o700)
        if self._account is not None:
            os.chown(self.data_dir, self._account.uid, self._account.gid)

    @contextmanager
    def _reachable_folder(self) -> Iterator[tuple[Path, tuple[int, ...]]]:
        """The data folder by a path the server's user can follow, and descriptors to inherit.

        Under a folder that only root may enter, that is Linux' link to an open descriptor, which
        passes by the parents.
        """
        if self._account is None or self._account.can_use(self.data_dir):
            yield self.data_dir, ()
            return
        descriptor = os.open(self.data_dir, os.O_RDONLY | os.O_DIRECTORY)
        try:
            yield Path(f"/proc/self/fd/{descriptor}"), (descriptor,)
        finally:
            os.close(descriptor)

    async def _run_tool(
        self,
        program: str,
        *arguments: str,
        timeout_s: float,
        environ: Mapping[str, str] = MappingProxyType({}),
        keep_open: tuple[int, ...] = (),
    ) -> None:
        """Runs one of PostgreSQL's programs on the data folder."""
        with tempfile.TemporaryFile() as said, self._reachable_folder() as (folder, descriptors):
            process = spawn(
                [self._program(program), f"--pgdata={folder}", *arguments],
                output=said,
                environ={**_environ(), **environ},
                account=self._account,
                keep_open=(*keep_open, *descriptors),
            )
            try:
                status = await wait(process, timeout_s)
            finally:
                await stop(process, signal.SIGTERM, 5)
            said.seek(0)
            text = said.read().decode(errors="replace")
        if status != 0:
            reason = "took too long" if status is None else "failed"
            raise ClusterError(f"{program} {reason}:\n{text}")

    def _program(self, name: str) -> Path:
        return self.installation.bin_dir / name


def free_port() -> int:
    """A loopback TCP port that nobody listens on just now."""
    for port in SystemRandom().sample(_PORTS, 100):
        if port_is_free(port):
            return port
    raise ClusterError("no free port found")


def port_is_free(port: int) -> bool:
    """Whether one can listen on a loopback TCP port."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
        return True


def _environ() -> dict[str, str]:
    """The programs' environment: none of our PG* variables, messages in English."""
    kept = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "TMPDIR")
    return {name: os.environ[name] for name in kept if name in os.environ} | {"LC_ALL": "C"}


def _quoted(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def _may_pass(said: str, other_port: bool) -> bool:
    """Whether a failed start is worth another try, by what the log says."""
    # After a crash the children of the old postmaster need a moment to leave.
    if "shared memory block" in said or 'lock file "postmaster.pid"' in said:
        return True
    return other_port and "could not bind" in said


def _write_private(path: Path, text: str, account: Account | None) -> None:
    """Writes a file that only its owner, ``account`` or we, can read."""
    path.unlink(missing_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    with os.fdopen(os.open(path, flags, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
        if account is not None:
            os.fchown(file.fileno(), account.uid, account.gid)


@contextmanager
def _unnamed_file(text: str, account: Account | None) -> Iterator[int]:
    """The descriptor of a file without a name, for ``account`` to read as /dev/fd/N."""
    with tempfile.TemporaryFile() as file:
        file.write(text.encode())
        file.seek(0)
        if account is not None:
            os.fchown(file.fileno(), account.uid, account.gid)
        yield file.fileno()
