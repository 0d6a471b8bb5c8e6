"""The demo's two PostgreSQL clusters: a primary and a streaming hot standby of it."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass
from time import monotonic

import asyncpg

from gateway.demo.folder import DemoError, Folder
from gateway.demo.postgres import FAST, HOST, Cluster, Installation, StopMode, port_is_free

ROLE = "gateway"
"""The database role that the gateway uses; it owns the databases and is no superuser."""


@dataclass(frozen=True, slots=True)
class Clusters:
    """Both running."""

    primary: Cluster
    standby: Cluster

    def environ(self, role_password: str) -> dict[str, str]:
        """The variables of config/demo.yaml that say where the databases are. Holds a password."""
        return {
            "DEMO_PRIMARY": f"{HOST}:{self.primary.port}",
            "DEMO_STANDBY": f"{HOST}:{self.standby.port}",
            "DEMO_LOGIN": f"{ROLE}:{role_password}",
        }


async def start_clusters(
    folder: Folder, installation: Installation, stack: AsyncExitStack
) -> Clusters:
    """Starts both, making what is missing; ``stack`` stops them, the standby first."""
    state = folder.state
    if state.postgres_major not in (0, installation.major):
        raise DemoError(
            f"{folder.path} was made by PostgreSQL {state.postgres_major}, and this is"
            f" {installation}; set GATEWAY_PG_BIN to a {state.postgres_major} or remove the folder"
        )
    primary = Cluster(
        installation,
        folder.primary,
        port=_if_free(state.primary_port),
        password=state.superuser_password,
        # A kept folder has to survive a crash of the machine, a temporary one does not.
        settings={} if folder.kept else FAST,
    )
    # Nobody reads again what is thrown away: it need not be written for seconds first.
    how = StopMode.FAST if folder.kept else StopMode.IMMEDIATE
    fresh = not primary.exists
    if fresh:
        await primary.initdb()
    stack.push_async_callback(primary.stop, how)
    await primary.start()
    if fresh:
        await _create_role(primary, state.role_password)
    standby = await _standby(folder, primary)
    stack.push_async_callback(standby.stop, how)
    await standby.start()
    state.postgres_major = installation.major
    state.primary_port, state.standby_port = primary.port, standby.port
    folder.save()
    return Clusters(primary, standby)


async def wait_until_replayed(clusters: Clusters, timeout_s: float = 60) -> None:
    """Returns when the standby shows all that is committed on the primary now."""
    deadline = monotonic() + timeout_s
    primary = await asyncpg.connect(clusters.primary.dsn(), timeout=10)
    standby = await asyncpg.connect(clusters.standby.dsn(), timeout=10)
    try:
        position = await primary.fetchval("SELECT pg_current_wal_lsn()::text")
        behind = "SELECT pg_last_wal_replay_lsn() < $1::text::pg_lsn"
        while await standby.fetchval(behind, position):
            if monotonic() > deadline:
                raise DemoError(f"the standby is still behind after {timeout_s:.0f} s")
            await asyncio.sleep(0.05)
    finally:
        await primary.close()
        await standby.close()


async def _standby(folder: Folder, primary: Cluster) -> Cluster:
    port = _if_free(folder.state.standby_port)
    standby = Cluster.existing_standby_of(primary, folder.standby, port=port)
    if standby.exists and (folder.standby / "standby.signal").exists():
        return standby
    standby.remove()  # missing, unfinished, or promoted meanwhile
    return await Cluster.standby_of(primary, folder.standby, port=port)


async def _create_role(primary: Cluster, password: str) -> None:
    connection = await asyncpg.connect(primary.dsn(), timeout=10)
    try:
        await connection.execute(f"CREATE ROLE {ROLE} LOGIN CREATEDB PASSWORD '{password}'")
    finally:
        await connection.close()


def _if_free(port: int) -> int:
    return port if port and port_is_free(port) else 0
