"""`gateway demo`: servers, databases, owners, the gateway and a tour; all gone again at the end."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import AsyncExitStack
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path
from time import monotonic

import asyncpg
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from gateway.demo.binaries import Installation, PostgresNotFound, find_postgres
from gateway.demo.child import Ports, choose_ports, start_gateway
from gateway.demo.clusters import start_clusters, wait_until_replayed
from gateway.demo.folder import DemoError, Folder, open_folder, write_private_json
from gateway.demo.guide import psql_lines, psql_program, tour_table
from gateway.demo.postgres import HOST, SUPERUSER, ClusterError
from gateway.demo.process import ProcessError, tail
from gateway.demo.ready import ready_document
from gateway.demo.seed import seed
from gateway.demo.tour import plan, visit
from gateway.errors import ConfigError
from gateway.migrate import provision as provisioning
from gateway.migrate.provision import Admin, ProvisionError, UserSync, join, provision
from gateway.router.build import build_snapshot
from gateway.router.topology import Snapshot
from gateway.settings.load import load
from gateway.settings.model import Settings

PORT = 6432
OWNERS = 280

INTERRUPTED = 130
"""Exit status when a signal ends the demo before it is up."""

_FAILURES = (
    *(DemoError, ClusterError, PostgresNotFound, ProcessError, ProvisionError, ConfigError),
    *(asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError),
)


@dataclass(frozen=True, slots=True)
class Options:
    """What `gateway demo` takes; see `demo`."""

    data_dir: Path | None
    port: int
    owners: int
    exit_after_tour: bool
    ready_file: Path | None


def demo(
    data_dir: Path | None = None,
    port: int = PORT,
    owners: int = OWNERS,
    exit_after_tour: bool = False,
    ready_file: Path | None = None,
) -> int:
    """Runs the demo until a signal; returns the exit status of the program.

    ``data_dir`` is kept and reused; without one the data goes when the demo ends. ``port`` 0 takes
    any free one. ``ready_file`` is written (JSON, mode 0600) when all is up. Call it in the main
    thread. 0 also when Ctrl-C or SIGTERM end a demo that was up; 1 when something failed.
    """
    options = Options(data_dir, port, owners, exit_after_tour, ready_file)
    return asyncio.run(_Demo(options, Console(highlight=False)).run())


class _Demo:
    """One run, told step by step on a console."""

    def __init__(self, options: Options, console: Console) -> None:
        self._options = options
        self._console = console
        self._up = False
        self._interrupted = False

    async def run(self) -> int:
        """All steps; whatever they started is stopped when this returns."""
        work = asyncio.ensure_future(self._all_steps())
        loop = asyncio.get_running_loop()
        for number in _ending_signals():
            loop.add_signal_handler(number, self._interrupt, work)
        try:
            return await work
        except asyncio.CancelledError:
            return 0 if self._up else INTERRUPTED
        except _FAILURES as error:
            self._say(f"The demo failed: {error or type(error).__name__}", style="red")
            return 1

    def _interrupt(self, work: asyncio.Future[int]) -> None:
        if not self._interrupted:  # a second Ctrl-C must not cut the cleaning up short
            self._interrupted = True
            work.cancel()

    async def _all_steps(self) -> int:
        options = self._options
        started = monotonic()
        ports = choose_ports(options.port)
        if options.ready_file is not None:
            options.ready_file.parent.mkdir(parents=True, exist_ok=True)
            options.ready_file.unlink(missing_ok=True)
        async with AsyncExitStack() as stack:
            # Entered first, so said last.
            stack.callback(self._say, "Stopped everything.")
            folder = stack.enter_context(open_folder(options.data_dir))
            if not folder.kept:
                stack.callback(self._say, "Removing the data ...")
            config = stack.enter_context(as_file(files("gateway.demo") / "demo.yaml")).resolve()
            installation = self._find_postgres()
            clusters = await start_clusters(folder, installation, stack)
            self._say(
                f"PostgreSQL primary on port {clusters.primary.port},"
                f" hot standby on port {clusters.standby.port}."
            )
            environ = clusters.environ(folder.state.role_password)
            settings = load(config, {**os.environ, **environ})
            await self._fill(folder, settings)
            await wait_until_replayed(clusters)
            gateway = await start_gateway(config, environ, ports, folder.gateway_log, stack)
            self._say(
                f"Gateway on port {ports.client}, http://{HOST}:{ports.http}/metrics;"
                f" log in {gateway.log}."
            )
            snapshot = build_snapshot(settings, 1)
            await self._tour(folder, snapshot, ports)
            self._print_commands(folder, snapshot, ports, installation)
            if options.ready_file is not None:
                pids = {
                    "gateway": gateway.pid,
                    "primary": clusters.primary.pid,
                    "standby": clusters.standby.pid,
                    "demo": os.getpid(),
                }
                document = ready_document(
                    port=ports.client,
                    http_port=ports.http,
                    snapshot=snapshot,
                    clusters=clusters,
                    logins=folder.state.logins,
                    pids=pids,
                )
                write_private_json(options.ready_file.absolute(), document)
            self._up = True
            self._say(f"All up after {monotonic() - started:.0f} s.")
            if options.exit_after_tour:
                return 0
            self._say("Ctrl-C stops everything.", style="bold")
            status = await gateway.wait()
            raise DemoError(f"the gateway ended with status {status}:\n{tail(gateway.log)}")

    def _say(self, text: str, style: str = "") -> None:
        self._console.print(text, style=style, markup=False, soft_wrap=True)

    def _find_postgres(self) -> Installation:
        installation = find_postgres()
        self._say(f"Using {installation}.")
        return installation

    async def _fill(self, folder: Folder, settings: Settings) -> None:
        """Databases, tables and rows, unless the folder has them already."""
        state = folder.state
        if state.logins:
            self._say(f"{folder.path} holds {state.owners} owners already; used as they are.")
            if state.joined_port != state.primary_port:
                await self._tables(settings)
                await self._join(folder, settings)
                folder.save()
            return
        shards = sum(len(industry.shards) for industry in settings.industries.values())
        if self._options.owners < shards:
            raise DemoError(f"--owners {self._options.owners}: at least {shards}, one per shard")
        await self._tables(settings)
        self._say(
            f"Provisioned {shards + 1} databases: meta and {len(settings.industries)} industries."
        )
        with Progress(
            *(TextColumn("Loading owners and their rows"), BarColumn()),
            *(TaskProgressColumn(), TimeElapsedColumn()),
            console=self._console,
        ) as bar:
            task = bar.add_task("", total=None)

            def show(done: int, total: int) -> None:
                bar.update(task, completed=done, total=total)

            logins = await seed(settings, owners=self._options.owners, progress=show)
        await self._join(folder, settings)
        state.logins = logins
        folder.save()

    async def _tables(self, settings: Settings) -> None:
        with self._console.status("Provisioning ..."):
            await provision(settings.model_copy(update={"hub": None}), report=_ignore)

    async def _join(self, folder: Folder, settings: Settings) -> None:
        """Users follow the meta database, and a hub spans all: by the primary's present port."""
        state = folder.state
        admin = Admin(SUPERUSER, state.superuser_password)
        options = provisioning.Options(user_sync=UserSync.AUTO, admin=admin)
        with self._console.status("Users follow the meta database; a hub over all ..."):
            await join(settings, report=_ignore, options=options)
        state.joined_port = state.primary_port

    async def _tour(self, folder: Folder, snapshot: Snapshot, ports: Ports) -> None:
        stops = plan(folder.state.logins, snapshot)
        with self._console.status("Touring ..."):
            seen = [await visit(stop, HOST, ports.client) for stop in stops]
        self._console.print(tour_table(seen))
        if wrong := sum(bool(one.problem) for one in seen):
            raise DemoError(f"{wrong} of {len(seen)} stops of the tour went wrong")

    def _print_commands(
        self, folder: Folder, snapshot: Snapshot, ports: Ports, installation: Installation
    ) -> None:
        psql = psql_program(installation.bin_dir)
        for purpose, command in psql_lines(
            folder.state.logins, HOST, ports.client, snapshot.console_database, psql
        ):
            self._say(f"# {purpose}", style="dim")
            self._say(command)


def _ignore(line: str) -> None:
    """The demo tells in its own words what was provisioned."""


def _ending_signals() -> list[signal.Signals]:
    """Ctrl-C, SIGTERM and a closed terminal, unless that is meant to be survived (nohup)."""
    numbers = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        numbers.append(signal.SIGHUP)
    return numbers
