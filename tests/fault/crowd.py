"""`make crowd`: 10,000 clients that mostly do nothing, of 50,000 owners whom all workers know.

Prints what each process takes of memory, step by step, and how long the few wait that ask
something; fails when the gateway takes more than it may, a bound is passed, or somebody is not
served. Private is what only that process has; the sum adds what they share once, as the kernel
divides it (PSS).
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import random
import resource
import secrets
import shutil
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from statistics import quantiles
from typing import Any

import asyncpg
import uvloop

from benchmarks.meter import descendants
from benchmarks.targets import Access
from benchmarks.tenants import (
    META_DATABASE,
    ROLE,
    Tenant,
    choose_tenants,
    database_of,
    login_of,
    make_tenants,
    topology,
)
from benchmarks.wire import Connection
from gateway.demo.binaries import find_postgres
from gateway.demo.postgres import FAST, HOST, Cluster
from gateway.ids import worker_of
from gateway.protocol import messages
from gateway.protocol.scram import KeyCache, make_verifier
from gateway.settings.model import Settings
from tests.fault.traffic import descriptors
from tests.fleet import Fleet, fleet
from tests.running import Backends, backends
from tests.wire import Place, Wire, bind, execute, parse_

WORKERS = 2
POOL_MAX = 20
TOTAL_MB_MAX = 300
EVERYBODY = "everybody"
"""A service login that may act for all owners."""
_BY_OWNER = 'SELECT count(*) FROM "Lead" WHERE "userId" = $1'
_ASKING_AT_ONCE = 8
_OWNERS_PER_BATCH = 50
_SYNC = messages.message(b"S")
_LOGINS_AT_ONCE = 4
_ACTIVE_PER_S = 100
_REST_S = 5.0
_INT8 = 20


@dataclass(frozen=True, slots=True)
class Memory:
    """Of one process, in MB."""

    private: float
    shared_out: float
    """Private, and its part of what it shares with others."""

    @classmethod
    def of(cls, pid: int) -> Memory:
        """Raises OSError when it is gone."""
        found: dict[str, int] = {}
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
            name, value = line.split()[:2]
            found[name] = int(value)
        private = found["Private_Clean:"] + found["Private_Dirty:"]
        return cls(private / 1024, found["Pss:"] / 1024)


@dataclass
class House:
    """All that runs."""

    gateway: Fleet
    tenants: Sequence[Tenant]
    password: str
    watch: Backends

    def access(self, tenant: Tenant) -> Access:
        return Access(self.gateway.port, login_of(tenant), self.password, tenant.industry.lower())

    def processes(self) -> Iterator[tuple[str, int]]:
        """The supervisor, the workers by their numbers, and who is in reserve."""
        assert self.gateway.supervisor is not None
        names = {one.pid: f"worker {number}" for number, one in self.gateway.workers().items()}
        names[self.gateway.supervisor.pid] = "supervisor"
        for pid in descendants(self.gateway.supervisor.pid):
            yield names.get(pid, "reserve"), pid

    def show(self, when: str) -> float:
        """Print the figures of now; the sum in MB."""
        total, parts = 0.0, []
        for name, pid in sorted(self.processes()):
            with contextlib.suppress(OSError):
                memory = Memory.of(pid)
                total += memory.shared_out
                parts.append(f"{name} {memory.private:.0f} MB, {descriptors(pid)} fds")
        print(f"{when}: {total:.0f} MB in all; private: {'; '.join(parts)}", flush=True)
        return total


# --- everybody is known ------------------------------------------------------------------------


async def _ask_for(wire: Wire, tenants: Iterator[Tenant]) -> None:
    """One statement for each owner, many at a time."""
    wire.send(parse_("by_owner", _BY_OWNER, [_INT8]), _SYNC)
    await wire.until("Z")
    while batch := list(islice(tenants, _OWNERS_PER_BATCH)):
        for one in batch:
            wire.send(bind("by_owner", [str(one.id).encode()]), execute(), _SYNC)
        heard = await wire.until("Z", len(batch))
        assert sum(one.tag == "D" for one in heard) == len(batch), heard
        wire.seen.clear()


async def make_known(house: House) -> None:
    """Have each worker look up every owner."""
    where = Place(HOST, house.gateway.port, EVERYBODY, house.password, ROLE)
    wires: dict[int, list[Wire]] = {number: [] for number in range(1, WORKERS + 1)}
    while any(len(of_one) < _ASKING_AT_ONCE for of_one in wires.values()):
        wire = await Wire.logged_in(where)
        wires[worker_of(wire.pid)].append(wire)
    work = []
    for of_one in wires.values():
        all_of_them = iter(house.tenants)
        work += [_ask_for(wire, all_of_them) for wire in of_one]
    await asyncio.gather(*work)
    for of_one in wires.values():
        for wire in of_one:
            await wire.close()


# --- the crowd ---------------------------------------------------------------------------------


def _ask_own(connection: Connection, tenant: Tenant) -> float:
    """A statement of an owner's own; the seconds it took."""
    began = time.monotonic()
    connection.drain(f'SELECT count(*) FROM "Lead" WHERE "userId" = {tenant.id}')
    return time.monotonic() - began


async def gather_crowd(house: House, clients: int) -> list[tuple[Connection, Tenant]]:
    """So many owners log in, ask one thing, and stay."""
    keys = KeyCache()
    chosen = random.sample(list(house.tenants), clients)
    crowd: list[tuple[Connection, Tenant]] = []

    def log_in(some: Sequence[Tenant]) -> None:
        for tenant in some:
            connection = Connection.open(house.access(tenant), keys)
            _ask_own(connection, tenant)
            crowd.append((connection, tenant))

    parts = [chosen[start::_LOGINS_AT_ONCE] for start in range(_LOGINS_AT_ONCE)]
    await asyncio.gather(*(asyncio.to_thread(log_in, part) for part in parts))
    return crowd


async def ask_now_and_then(
    crowd: Sequence[tuple[Connection, Tenant]], seconds: float
) -> list[float]:
    """Some of the crowd ask something, at an even rate; how long each waited."""
    took: list[asyncio.Future[float]] = []
    idle = random.sample(list(crowd), min(len(crowd), int(seconds * _ACTIVE_PER_S)))
    loop, began = asyncio.get_running_loop(), time.monotonic()
    for number, (connection, tenant) in enumerate(idle):
        await asyncio.sleep(max(0.0, began + number / _ACTIVE_PER_S - time.monotonic()))
        took.append(loop.run_in_executor(None, _ask_own, connection, tenant))
    return list(await asyncio.gather(*took))


async def run(house: House, clients: int, seconds: float) -> list[str]:
    """All steps; what was wrong."""
    house.show("started")
    began = time.monotonic()
    await make_known(house)
    await asyncio.sleep(_REST_S)
    known = house.show(f"{len(house.tenants):,} owners known to each worker")
    print(f"  {2 * len(house.tenants):,} looked up in {time.monotonic() - began:.0f} s")
    began = time.monotonic()
    crowd = await gather_crowd(house, clients)
    took_s = time.monotonic() - began
    await asyncio.sleep(_REST_S)
    total = house.show(f"{clients:,} clients idle")
    print(
        f"  {(total - known) * 1024 / clients:.1f} KB each; {clients / took_s:.0f} logins a second"
    )
    waits = quantiles(await ask_now_and_then(crowd, seconds), n=100)
    busy = house.show(f"{_ACTIVE_PER_S} of them a second ask something")
    print(f"  waited: median {waits[49] * 1000:.1f} ms, p99 {waits[98] * 1000:.1f} ms")
    for connection, _ in crowd:
        connection.close()
    await asyncio.sleep(_REST_S)
    house.show("all have left")
    print(f"most connections to one database: {house.watch.most} of {POOL_MAX}")
    found = []
    if max(total, busy) > TOTAL_MB_MAX:
        found.append(f"{max(total, busy):.0f} MB, more than {TOTAL_MB_MAX}")
    if house.watch.most > POOL_MAX:
        found.append(f"{house.watch.most} connections, of {POOL_MAX}")
    return found


# --- what runs ---------------------------------------------------------------------------------


async def _fill(cluster: Cluster, raw: dict[str, Any], owners: int, password: str) -> list[Tenant]:
    superuser = await asyncpg.connect(cluster.dsn("postgres"))
    await superuser.execute(f"CREATE ROLE {ROLE} LOGIN CREATEDB PASSWORD '{password}'")
    await superuser.close()
    tenants = choose_tenants(Settings.model_validate(raw), owners)
    await make_tenants(raw, tenants, password)
    meta = await asyncpg.connect(cluster.dsn(META_DATABASE))
    await meta.execute(
        "INSERT INTO gateway.login (name, kind, verifier) VALUES ($1, 'service', $2)",
        *(EVERYBODY, make_verifier(password).format()),
    )
    await meta.execute(
        "INSERT INTO gateway.login_grant (login, scope) VALUES ($1, 'all')", EVERYBODY
    )
    await meta.close()
    return tenants


@asynccontextmanager
async def house(owners: int) -> AsyncIterator[House]:
    """A server with all the owners, and a gateway before it."""
    folder = Path(tempfile.mkdtemp(prefix="gateway-crowd-"))
    folder.chmod(0o711)  # noqa: ASYNC240 - it is done at once
    settings = {**FAST, "max_connections": "500"}
    cluster = Cluster(find_postgres(), folder / "data", settings=settings)
    password = secrets.token_hex(16)
    try:
        await cluster.initdb()
        await cluster.start()
        raw = topology(f"{ROLE}:{password}@{HOST}:{cluster.port}")
        tenants = await _fill(cluster, raw, owners, password)
        biggest = cluster.dsn(database_of(tenants[0].shard))
        overrides = {"workers": WORKERS, "pool": {"max": POOL_MAX}}
        with ExitStack() as watches:
            watch = watches.enter_context(backends(biggest))
            async with fleet(Settings.model_validate(raw), folder, overrides) as one:
                yield House(one, tenants, password, watch)
    finally:
        await cluster.stop()
        shutil.rmtree(folder)


async def crowd(owners: int, clients: int, seconds: float) -> list[str]:
    """What was wrong."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    async with house(owners) as made:
        return await run(made, clients, seconds)


def main() -> int:
    parser = argparse.ArgumentParser(prog="make crowd ARGS=...", description=__doc__)
    parser.add_argument("--owners", type=int, default=50_000)
    parser.add_argument("--clients", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=20.0)
    options = parser.parse_args()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        found = runner.run(crowd(options.owners, options.clients, options.seconds))
    print("\n".join(found) or "nothing to complain of")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
