"""Measures what statements and clients cost, and where the knee is, on a demo that it starts.

The demo is `gateway demo` as anyone can run it: a meta database, 14 industries on 16 shards, a
standby and one gateway, all on this machine. The load is the service login of a web application:
each statement names its owner by the tenant key alone, owners are drawn by Zipf's law.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg

from benchmarks.capacity.costs import Costs, StatementCost
from benchmarks.capacity.profile import WRITES, Profile
from benchmarks.figures import Transactions, latencies
from benchmarks.measure import Failed
from benchmarks.meter import cpu_s, descendants, private_bytes, rss_bytes, spent, tree_cpu_s
from benchmarks.targets import Access
from benchmarks.tenant_load import Answers, Ask, Client, load
from benchmarks.tenants import zipf_weights
from benchmarks.wire import Connection
from gateway.demo.process import open_log, spawn, stop, tail
from gateway.protocol.scram import KeyCache
from gateway.settings.dsn import parse

SQL = {
    "row": 'SELECT "id", "name", "email", "status" FROM "Lead" WHERE "userId" = $1 AND "id" = $2',
    "list": 'SELECT "id", "name", "email", "status", "score" FROM "Lead" WHERE "userId" = $1'
    ' ORDER BY "createdAt" DESC LIMIT 20',
    "report": 'SELECT "status", count(*), avg("score") FROM "Lead" WHERE "userId" = $1 GROUP BY 1',
    "insert": 'INSERT INTO "Lead" ("userId", "name", "email") VALUES ($1, $2, $3)',
    "update": 'UPDATE "Lead" SET "score" = "score" + 1, "updatedAt" = now()'
    ' WHERE "userId" = $1 AND "id" = $2',
}
"""The classes of statements. Names of Prisma's kind, prepared."""

_READY_TIMEOUT_S = 300
_STOP_TIMEOUT_S = 40
_SAMPLE_S = 0.1
_WARM_UP_S = 1.0
_ASKS_EACH = 200
_SEED = 20_26

Report = Callable[[str], None]
"""Takes one line for people."""


@dataclass(frozen=True, slots=True)
class Point:
    """One load of many clients: what they got, and what it took of the machine, in cores."""

    clients: int
    per_s: float
    mean_ms: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    gateway_cores: float
    postgres_cores: float
    load_cores: float
    other_cores: float
    """Used by everything else on the machine."""
    errors: int


@dataclass(frozen=True, slots=True)
class Demo:
    """A running demo."""

    service: Access
    owners: Sequence[tuple[str, str]]
    """Id and shard of each, in the order of how much they ask."""
    logins: Sequence[Access]
    endpoints: Sequence[dict[str, Any]]
    gateway: int
    primary: int
    standby: int
    folder: Path
    leads: dict[str, str] = field(default_factory=dict)
    """A lead of each owner."""


@asynccontextmanager
async def demo(owners: int, report: Report) -> AsyncIterator[Demo]:
    """Starts `gateway demo`, and stops it on every way out. Raises Failed."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="gateway-capacity-")))
        ready, log = folder / "ready.json", folder / "demo.log"
        output = stack.enter_context(open_log(log))
        command = ["demo", "--port", "0", "--owners", str(owners), "--ready-file", str(ready)]
        report(f"starting `gateway {' '.join(command[:5])}` ...")
        process = spawn(
            [sys.executable, "-P", "-m", "gateway", *command],
            output=output,
            environ=os.environ,
            signal_when_orphaned=signal.SIGINT,
        )
        try:
            await _until_ready(process, ready, log)
            told = await asyncio.to_thread(ready.read_text)
            yield await _described(json.loads(told), folder)
        finally:
            await stop(process, signal.SIGINT, _STOP_TIMEOUT_S)


async def costs(of: Demo, seconds: float, report: Report) -> Costs:
    """What one of everything costs. Raises Failed, OSError."""
    worker_mb = rss_bytes(of.gateway) / 1e6
    client_kb = await asyncio.to_thread(_client_kb, of)
    report(f"an idle client: {client_kb:.1f} KB; a worker: {worker_mb:.0f} MB")
    login_us = await asyncio.to_thread(_login_cpu_us, of)
    report(f"a login: {login_us:.0f} us of gateway CPU")
    statements = {}
    for name in SQL:
        statements[name] = cost = await _statement(of, name, seconds)
        report(
            f"{name:8} gateway {cost.gateway_cpu_us:6.0f} us, PostgreSQL {cost.primary_cpu_us:6.0f}"
            f" us, standby {cost.replay_cpu_us:4.0f} us, {cost.direct_ms:.2f} ms by itself"
        )
    return Costs(
        statements=statements,
        login_cpu_us=login_us,
        client_kb=client_kb,
        owner_kb=await asyncio.to_thread(_owner_kb),
        worker_mb=worker_mb,
        backend_mb=_backend_mb(of),
    )


async def curve(
    of: Demo, profile: Profile, counts: Sequence[int], seconds: float, report: Report
) -> AsyncIterator[Point]:
    """The profile's mix of statements by more and more clients, without pauses."""
    for count in counts:
        clients = [Client(of.service, tuple(_mixed(of, profile, n)), "all") for n in range(count)]
        point = await _point(of, clients, seconds)
        report(
            f"{count:4} clients: {point.per_s:7,.0f}/s, mean {point.mean_ms:.2f} ms, p99"
            f" {point.p99_ms:.2f} ms; cores: gateway {point.gateway_cores:.2f}, PostgreSQL"
            f" {point.postgres_cores:.2f}, load {point.load_cores:.2f}, others"
            f" {point.other_cores:.2f}"
        )
        yield point


# --- one load, and what it took ---


@dataclass(frozen=True, slots=True)
class _Sample:
    """CPU seconds of all there is, by ``at`` (seconds since 1970 UTC)."""

    at: float
    gateway: dict[int, float]
    primary: dict[int, float]
    standby: dict[int, float]
    machine: float


@dataclass(frozen=True, slots=True)
class _Window:
    """The steady part of a load."""

    first: _Sample
    last: _Sample
    transactions: Transactions
    answers: Answers

    @property
    def seconds(self) -> float:
        return self.last.at - self.first.at

    @property
    def gateway_s(self) -> float:
        return spent(self.first.gateway, self.last.gateway)

    @property
    def primary_s(self) -> float:
        return spent(self.first.primary, self.last.primary)

    @property
    def standby_s(self) -> float:
        return spent(self.first.standby, self.last.standby)


async def _loaded(of: Demo, clients: Sequence[Client], seconds: float) -> _Window:
    samples: list[_Sample] = []
    sampling = asyncio.create_task(_sample(of, samples))
    try:
        answers = await load(clients, seconds + _WARM_UP_S, True, of.folder)
    finally:
        sampling.cancel()
        await asyncio.gather(sampling, return_exceptions=True)
    done = answers["all"].transactions
    if not len(done):
        raise Failed(f"no statement was answered; {answers['all'].errors} errors")
    start, end = done.finished_at[0] + _WARM_UP_S, done.finished_at[-1]
    inside = [one for one in samples if start <= one.at <= end]
    if len(inside) < 2:
        raise Failed("the run was too short to measure")
    first, last = inside[0], inside[-1]
    return _Window(first, last, done.between(first.at, last.at), answers["all"])


async def _sample(of: Demo, into: list[_Sample]) -> None:
    while True:
        into.append(
            _Sample(
                time.time(),
                tree_cpu_s(of.gateway),
                tree_cpu_s(of.primary),
                tree_cpu_s(of.standby),
                _machine_s(),
            )
        )
        await asyncio.sleep(_SAMPLE_S)


def _machine_s() -> float:
    """CPU seconds that the whole machine has been busy."""
    fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
    user, nice, system, _, _, irq, softirq, steal = map(int, fields[:8])
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


async def _point(of: Demo, clients: Sequence[Client], seconds: float) -> Point:
    window = await _loaded(of, clients, seconds)
    count, took = len(window.transactions), window.seconds
    found = latencies(window.transactions)
    gateway, postgres = window.gateway_s / took, (window.primary_s + window.standby_s) / took
    loading = window.answers.load_cpu_us * 1e-6 * count / took
    machine = (window.last.machine - window.first.machine) / took
    return Point(
        clients=len(clients),
        per_s=count / took,
        mean_ms=statistics.fmean(window.transactions.latency_ms),
        p50_ms=found["p50_ms"],
        p95_ms=found["p95_ms"],
        p99_ms=found["p99_ms"],
        gateway_cores=gateway,
        postgres_cores=postgres,
        load_cores=loading,
        other_cores=max(0.0, machine - gateway - postgres - loading),
        errors=window.answers.errors,
    )


# --- what one of everything costs ---


async def _statement(of: Demo, name: str, seconds: float) -> StatementCost:
    busy = [Client(of.service, tuple(_asks(of, name, number)), "all") for number in range(16)]
    window = await _loaded(of, busy, seconds)
    count = len(window.transactions)
    if window.answers.errors:
        raise Failed(f"{name}: {window.answers.errors} of its statements failed")
    alone = await _loaded(of, [_direct(of, name)], seconds / 2)
    return StatementCost(
        gateway_cpu_us=window.gateway_s / count * 1e6,
        primary_cpu_us=window.primary_s / count * 1e6,
        replay_cpu_us=window.standby_s / count * 1e6 if name in WRITES else 0.0,
        direct_ms=latencies(alone.transactions)["p50_ms"],
    )


def _direct(of: Demo, name: str) -> Client:
    """To the database of the first owner, past the gateway."""
    shard = of.owners[0][1]
    place = next(one for one in of.endpoints if (one["shard"], one["role"]) == (shard, "primary"))
    own = [one for one in of.owners if one[1] == shard]
    asks = [_ask(of, name, own[number % len(own)][0], number) for number in range(_ASKS_EACH)]
    return Client(_access(place["dsn"]), tuple(asks), "all")


def _client_kb(of: Demo) -> float:
    """By many clients that ran one statement; the first ones pay for what is needed once."""
    keys = KeyCache()
    with _connections() as connections:
        connections += [_opened(of.service, keys) for _ in range(100)]
        time.sleep(0.5)
        before = rss_bytes(of.gateway)
        connections += [_opened(of.service, keys) for _ in range(500)]
        time.sleep(0.5)
        return (rss_bytes(of.gateway) - before) / 500 / 1000


def _login_cpu_us(of: Demo) -> float:
    """By logins of owners who were not seen yet, so that look-ups are in it."""
    keys = KeyCache()
    some = of.logins[:100]
    with _connections() as connections:
        before = cpu_s(of.gateway)
        connections += [Connection.open(login, keys) for login in some]
        return (cpu_s(of.gateway) - before) / len(some) * 1e6


def _owner_kb() -> float:
    """By a directory of many owners in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.capacity.owner_memory"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    if done.returncode:
        raise Failed(f"the memory of owners could not be measured: {done.stderr[-500:]}")
    return float(done.stdout)


def _backend_mb(of: Demo) -> float:
    """Median of what each of PostgreSQL's processes has for itself, after all these loads."""
    sizes = []
    for pid in descendants(of.primary)[1:]:
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
        if b"gateway" in command:  # "postgres: gateway law 127.0.0.1(...) idle"
            sizes.append(private_bytes(pid) / 1e6)
    if not sizes:
        raise Failed("none of PostgreSQL's processes serves the gateway")
    return statistics.median(sizes)


@contextmanager
def _connections() -> Iterator[list[Connection]]:
    """Closes what is put into it."""
    opened: list[Connection] = []
    try:
        yield opened
    finally:
        for one in opened:
            one.close()


def _opened(access: Access, keys: KeyCache) -> Connection:
    connection = Connection.open(access, keys)
    connection.drain("SELECT 1")
    return connection


# --- what is asked ---


def _asks(of: Demo, name: str, seed: int) -> list[Ask]:
    chance = random.Random(_SEED + seed)
    weights = zipf_weights(len(of.owners))
    drawn = chance.choices(of.owners, cum_weights=weights, k=_ASKS_EACH)
    return [_ask(of, name, owner, number) for number, (owner, _) in enumerate(drawn)]


def _mixed(of: Demo, profile: Profile, seed: int) -> list[Ask]:
    chance = random.Random(_SEED + seed)
    shares = profile.statement_shares()
    names = chance.choices(list(shares), weights=list(shares.values()), k=_ASKS_EACH)
    owners = chance.choices(of.owners, cum_weights=zipf_weights(len(of.owners)), k=_ASKS_EACH)
    pairs = zip(names, owners, strict=True)
    return [_ask(of, name, owner, number) for number, (name, (owner, _)) in enumerate(pairs)]


def _ask(of: Demo, name: str, owner: str, number: int) -> Ask:
    more = {
        "row": (of.leads[owner],),
        "update": (of.leads[owner],),
        "insert": (f"Lead {number}", f"lead-{number}@example.com"),
    }
    return Ask(SQL[name], (owner, *more.get(name, ())))


# --- the demo ---


async def _until_ready(process: subprocess.Popen[bytes], ready: Path, log: Path) -> None:
    deadline = time.monotonic() + _READY_TIMEOUT_S
    while not await asyncio.to_thread(ready.exists):
        if process.poll() is not None or time.monotonic() > deadline:
            raise Failed(f"the demo is not ready:\n{tail(log)}")
        await asyncio.sleep(0.1)


async def _described(ready: Mapping[str, Any], folder: Path) -> Demo:
    port = ready["gateway"]["port"]
    logins: dict[str, list[dict[str, Any]]] = {}
    for login in ready["logins"]:
        logins.setdefault(login["kind"], []).append(login)

    def access(login: dict[str, Any]) -> Access:
        return Access(port, login["user"], login["password"], login["database"])

    owners = [(one["owner"], one["shard"]) for one in logins["owner"]]
    random.Random(_SEED).shuffle(owners)
    return Demo(
        service=access(logins["service"][0]),
        owners=owners,
        logins=[access(one) for one in logins["owner"]],
        endpoints=ready["endpoints"],
        gateway=ready["pids"]["gateway"],
        primary=ready["pids"]["primary"],
        standby=ready["pids"]["standby"],
        folder=folder,
        leads=await _leads(ready["endpoints"]),
    )


async def _leads(endpoints: Sequence[dict[str, Any]]) -> dict[str, str]:
    """A lead of each owner, from the databases themselves."""
    found: dict[str, str] = {}
    for place in endpoints:
        if place["role"] == "primary" and place["industry"] is not None:
            connection = await asyncpg.connect(place["dsn"])
            try:
                rows = await connection.fetch('SELECT "userId", min("id") FROM "Lead" GROUP BY 1')
            finally:
                await connection.close()
            found |= {str(owner): str(lead) for owner, lead in rows}
    return found


def _access(dsn: str) -> Access:
    place = parse(dsn)
    return Access(place.port, place.user, place.password, place.database)
