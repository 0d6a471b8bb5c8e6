"""`make soak`: a mixed load through two workers while faults come at random, for as long as asked.

Prints figures of every process at the start, each minute and at the end; fails when an answer went
to the wrong client, a bound was passed, a lease was left over, memory or descriptors grew, a
database was not served for long, one was served far less than its equal, or one came back late.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from statistics import median

import asyncpg
import uvloop

from gateway.demo.binaries import find_postgres
from gateway.demo.postgres import FAST, Cluster
from gateway.demo.seed import SeedLogin, seed
from gateway.migrate.provision import provision
from gateway.settings.dsn import parse
from tests.conftest import topology
from tests.fault.traffic import Traffic, descriptors, memory_mb, watched_traffic
from tests.fault_proxy import FaultProxy, fault_proxy
from tests.fleet import Fleet, fleet
from tests.running import OBSERVER, Backends, backends, moved

POOL_MAX = 5
OWNERS = 42
CLIENTS = 30
REST_S = 0.1
"""Of a client between two statements: the proxy shares a process with all of them."""
SHARDS = ("law", "dentist", "accounting")
"""What is loaded; what goes wrong in the network happens to the first one."""
PAUSE_S = (2.0, 8.0)
"""Between two faults."""
GROWTH_MB_MAX = 30
"""Per process, from the first figures to the end."""
LATE_GROWTH_MB_MAX = 10
"""The same, from the middle of the run on: what is cached is cached by then."""
DESCRIPTORS_MAX = 15

RECOVERY_S_MAX = 5.0
"""From a fault's end until a new client of the database that had it is served."""
SILENCE_S_MAX = 5.0
"""Between two answers to clients of a database that has no faults, but for what this process itself
was held up by the machine."""
_BEAT_S = 0.1
SHARE_MIN = 0.5
"""The least that one of them may be served, of what the other one is."""

MIX = (
    "SELECT '{tag}'",
    "SELECT '{tag}' FROM pg_sleep(0.01)",
    "BEGIN; SELECT '{tag}'; SET LOCAL work_mem = '5MB'; COMMIT",
    "SELECT '{tag}' FROM generate_series(1, 20)",
    "CREATE TEMP TABLE soak (a int); SELECT '{tag}'; DROP TABLE soak",
)


@dataclass(frozen=True, slots=True)
class Figure:
    """Memory in MB and open descriptors of a process."""

    pid: int
    mb: float
    fds: int


Figures = dict[str, Figure]
"""By what the process is."""


@dataclass
class House:
    """All that runs, and what faults there were."""

    gateway: Fleet
    proxy: FaultProxy
    logins: dict[str, SeedLogin]
    url: str
    watch: Backends
    beats: list[float] = field(default_factory=list)
    """When this process was at work: one each `_BEAT_S` unless it was held up."""
    recoveries_s: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    """After each fault, by its name."""

    def login(self, shard: str) -> SeedLogin:
        return next(one for one in self.logins.values() if one.shard == shard)

    async def leases(self) -> int:
        """Server connections that the workers say are in somebody's hands, or wanted."""
        operator = self.logins["operator"]
        console = await asyncpg.connect(self.gateway.url(operator, "gateway"), timeout=10)
        try:
            pools = await console.fetch("SHOW POOLS")
        finally:
            await console.close()
        return sum(int(pool[name]) for pool in pools for name in ("active", "cleaning", "waiting"))

    def processes(self) -> dict[str, int]:
        assert self.gateway.supervisor is not None
        workers = {f"worker {n}": one.pid for n, one in self.gateway.workers().items()}
        return {"supervisor": self.gateway.supervisor.pid, **workers}

    def figures(self) -> Figures:
        return {
            name: Figure(pid, memory_mb(pid), descriptors(pid))
            for name, pid in self.processes().items()
            if Path(f"/proc/{pid}/fd").exists()  # else it was killed a moment ago
        }


# --- faults ------------------------------------------------------------------------------------


async def slow_network(house: House) -> None:
    house.proxy.latency_s = 0.05
    await asyncio.sleep(2)
    house.proxy.heal()


async def cut_connections(house: House) -> None:
    house.proxy.cut_after_bytes = 5000
    await asyncio.sleep(1)
    house.proxy.heal()


async def reset_connections(house: House) -> None:
    house.proxy.reset()


async def refusing_server(house: House) -> None:
    house.proxy.refusing = True
    house.proxy.reset()
    await asyncio.sleep(1)
    house.proxy.heal()


async def silent_network(house: House) -> None:
    house.proxy.half_open = True
    await asyncio.sleep(2)
    house.proxy.heal()


async def terminated_backends(house: House) -> None:
    """As an administrator would, all of one database."""
    connection = await asyncpg.connect(house.url, server_settings={"application_name": OBSERVER})
    try:
        await connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    finally:
        await connection.close()


async def reload(house: House) -> None:
    house.gateway.signal(signal.SIGHUP)


async def killed_worker(house: House) -> None:
    house.gateway.kill_worker(random.choice(list(house.gateway.workers())))


async def restarted(house: House) -> None:
    """All workers, by new ones that take the clients over."""
    house.gateway.signal(signal.SIGUSR2)


FAULTS: tuple[Callable[[House], Awaitable[None]], ...] = (
    slow_network,
    cut_connections,
    reset_connections,
    refusing_server,
    silent_network,
    terminated_backends,
    reload,
)


async def break_things(house: House, load: Traffic, end: float, kills: bool) -> None:
    """One fault after another, until it is time."""
    choice = (*FAULTS, killed_worker, restarted) if kills else FAULTS
    while True:
        await asyncio.sleep(random.uniform(*PAUSE_S))
        if time.monotonic() > end:
            return
        fault = random.choice(choice)
        await fault(house)
        house.recoveries_s[fault.__name__].append(await recovered_s(load))


async def recovered_s(load: Traffic) -> float:
    """Until a new client is served; endless for one that is not."""
    try:
        return await load.recovered()
    except TimeoutError:
        return math.inf


# --- the run -----------------------------------------------------------------------------------


def show(when: str, house: House, loads: list[Traffic]) -> Figures:
    """Print the figures of now, which come back."""
    figures = house.figures()
    parts = [f"{name} {one.mb:.0f} MB {one.fds} fds" for name, one in sorted(figures.items())]
    answers = sum(one.answers for one in loads)
    print(f"{when:>8}: {answers} answers; {'; '.join(parts)}", flush=True)
    for one in loads:
        if one.foreign:
            print(f"  NOT THE ASKER'S: {one.foreign}", flush=True)
    return figures


async def watch_over(
    house: House, loads: list[Traffic], end: float, history: list[Figures]
) -> None:
    """The figures, each minute."""
    began = time.monotonic()
    while time.monotonic() < end:
        await asyncio.sleep(min(60.0, max(0.0, end - time.monotonic())))
        history.append(show(f"{time.monotonic() - began:.0f} s", house, loads))


async def settled(house: House) -> int:
    """Leases left after the load; those that end within 10 s are none."""
    for _ in range(20):
        left = await house.leases()
        if left == 0:
            return 0
        await asyncio.sleep(0.5)
    return left


async def beat(house: House) -> None:
    """Note that this process runs, again and again."""
    while True:
        house.beats.append(time.monotonic())
        await asyncio.sleep(_BEAT_S)


def longest(times: list[float]) -> tuple[float, float]:
    """The longest time between two of these, and when that began."""
    gaps = ((later - one, one) for one, later in pairwise(times))
    return max(gaps, default=(math.inf, 0.0))


def silence_s(load: Traffic, beats: list[float]) -> float:
    """The longest time without an answer, less what we were held up in it ourselves."""
    gap_s, began = longest(load.answered_at)
    inside = [one for one in beats if began - _BEAT_S <= one <= began + gap_s + _BEAT_S]
    return gap_s - sum(max(0.0, later - one - 2 * _BEAT_S) for one, later in pairwise(inside))


def starved(loads: list[Traffic], beats: list[float]) -> list[str]:
    """Of databases without faults, all with the same load: which got too little."""
    most = max(load.answers for load in loads)
    return [
        f"{name}: {load.answers} answers of {most}, up to {silence_s(load, beats):.1f} s without"
        for name, load in zip(SHARDS[1:], loads, strict=True)
        if load.answers < SHARE_MIN * most or silence_s(load, beats) > SILENCE_S_MAX
    ]


def complaints(
    house: House,
    loads: list[Traffic],
    history: list[Figures],
    leases: int,
) -> list[str]:
    """What must not be."""
    found = [text for one in loads for text in one.foreign + one.hung] + starved(
        loads[1:], house.beats
    )
    found += [
        f"{name}: served {max(times):.1f} s after it"
        for name, times in house.recoveries_s.items()
        if max(times) > RECOVERY_S_MAX
    ]
    if house.watch.most > POOL_MAX:
        found.append(f"{house.watch.most} connections, of {POOL_MAX}")
    if leases:
        found.append(f"{leases} leases left over")
    for name, now in house.figures().items():
        before, middle = (
            one if (one := figures.get(name, now)).pid == now.pid else now  # killed since
            for figures in (history[0], history[len(history) // 2])
        )
        if now.mb > before.mb + GROWTH_MB_MAX or now.mb > middle.mb + LATE_GROWTH_MB_MAX:
            found.append(f"{name} grew from {before.mb:.0f} by {middle.mb:.0f} to {now.mb:.0f} MB")
        if now.fds > before.fds + DESCRIPTORS_MAX:
            found.append(f"{name} has {now.fds} descriptors, {before.fds} before")
    return found


async def run(house: House, minutes: float, kills: bool) -> list[str]:
    """The load and the faults; what was wrong in the end."""
    async with AsyncExitStack() as stack:
        loads = [
            await stack.enter_async_context(
                watched_traffic(
                    [house.gateway.place(house.login(shard))], CLIENTS // len(SHARDS), MIX, REST_S
                )
            )
            for shard in SHARDS
        ]
        began = time.monotonic()
        end = began + minutes * 60
        await asyncio.sleep(min(15.0, minutes * 20))
        history = [show("start", house, loads)]
        beating = asyncio.create_task(beat(house))
        breaking = asyncio.create_task(break_things(house, loads[0], end, kills))
        await watch_over(house, loads, end, history)
        await breaking
        beating.cancel()
    leases = await settled(house)
    show("end", house, loads)
    for name, times in sorted(house.recoveries_s.items()):
        print(
            f"{name}: {len(times)} times, served again after {median(times) * 1000:.0f} ms,"
            f" {max(times) * 1000:.0f} at most"
        )
    held_up_s, at = longest(house.beats)
    print(f"this process was held up for {held_up_s:.2f} s at most, at {at - began:.0f} s")
    for shard, load in zip(SHARDS, loads, strict=True):
        gap_s, at = longest(load.answered_at)
        print(
            f"{shard}: {load.answers} answers, longest {load.longest_s:.2f} s,"
            f" {gap_s:.2f} s without any at {at - began:.0f} s, {dict(load.errors)}"
        )
    print(
        f"leases left {leases}; most connections {house.watch.most} of {POOL_MAX}"
        f" in {house.watch.samples} samples"
    )
    return complaints(house, loads, history, leases)


async def soak(minutes: float, kills: bool) -> list[str]:
    """A server, a gateway, a run."""
    folder = Path(tempfile.mkdtemp(prefix="gateway-soak-"))
    folder.chmod(0o711)  # noqa: ASYNC240 - it is done at once
    cluster = Cluster(find_postgres(), folder / "data", settings=FAST)
    try:
        await cluster.initdb()
        await cluster.start()
        settings = topology(cluster, "soak")
        await provision(settings, report=lambda line: None)
        logins = {login.user: login for login in await seed(settings, owners=OWNERS)}
        url = settings.industries["LAW"].shards[0].primary.get_secret_value()
        dsn = parse(url)
        async with fault_proxy(dsn.host, dsn.port) as proxy:
            pool = {"max": POOL_MAX, "query_timeout_ms": 5000, "connect_timeout_ms": 2000}
            overrides = {"workers": 2, "pool": pool}
            with ExitStack() as watches:
                watch = watches.enter_context(backends(url))
                async with fleet(moved(settings, "LAW", proxy.url(url)), folder, overrides) as one:
                    return await run(House(one, proxy, logins, url, watch), minutes, kills)
    finally:
        await cluster.stop()
        shutil.rmtree(folder)


def main() -> int:
    parser = argparse.ArgumentParser(prog="make soak ARGS=...", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--kills", action="store_true", help="also kill -9 workers, and restart")
    options = parser.parse_args()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        found = runner.run(soak(options.minutes, options.kills))
    print("\n".join(found) or "nothing to complain of")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
