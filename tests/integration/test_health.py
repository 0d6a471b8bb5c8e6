"""Looks at a real primary and real standbys: what they find, and who serves reads when."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any

import asyncpg
import pytest

from gateway.demo.binaries import find_postgres
from gateway.demo.postgres import FAST, Cluster, StopMode
from gateway.health import look
from gateway.health.marks import Marks
from gateway.health.prober import Prober
from gateway.health.state import Health
from gateway.router.build import build_snapshot, credentials
from gateway.router.positions import EndpointStatus
from gateway.router.topology import Endpoint, Role, Shard, Snapshot
from gateway.settings.model import Settings
from tests.standbys import pause_replay, resume_replay, run_on, standbys

OWNER = "7"
USABLE = "usable"


@dataclass
class Trio:
    primary: Cluster
    standbys: list[Cluster]


@pytest.fixture(scope="module")
async def trio(cluster_folder: Path) -> AsyncIterator[Trio]:
    """A primary and two standbys; tests leave them running and following."""
    primary = Cluster(find_postgres(), cluster_folder / "trio", name="trio", settings=FAST)
    await primary.initdb()
    try:
        await primary.start()
        await run_on(primary, "CREATE ROLE plain LOGIN PASSWORD 'x'")
        await run_on(primary, "CREATE TABLE said (number int)")
        async with standbys(primary, cluster_folder, "trio1", "trio2") as two:
            yield Trio(primary, two)
    finally:
        await primary.stop()
        primary.remove()


class Watcher:
    """A prober at work, and what is known by it."""

    def __init__(self) -> None:
        self.health = Health(Marks.private(monotonic()))
        self.prober = Prober(self.health, monotonic)
        self.snapshot: Snapshot | None = None

    def configure(self, primary: str, replicas: list[str], **sections: Any) -> None:
        settings = Settings.model_validate(
            {
                "meta": {"primary": primary},
                "reads": {"policy": "prefer-replica", **sections.pop("reads", {})},
                "health": {
                    "interval_ms": 50,
                    "timeout_ms": 5000,
                    "backoff_max_ms": 100,
                    **sections.pop("health", {}),
                },
                "industries": {"LAW": {"shards": [{"primary": primary, "replicas": replicas}]}},
            }
        )
        self.snapshot = build_snapshot(settings, 1)
        self.prober.configure(settings, self.snapshot, credentials(settings))

    @property
    def shard(self) -> Shard:
        assert self.snapshot is not None
        return self.snapshot.shards["law"]

    def reasons(self) -> list[str]:
        return [why for _, why in self.health.explain(self.shard, OWNER, monotonic())]

    def status(self, number: int) -> EndpointStatus:
        """Of the primary (0) or a replica."""
        found = self.health.status((self.shard.primary, *self.shard.replicas)[number])
        assert found is not None
        return found

    def chosen(self) -> Endpoint:
        return self.health.choose(self.shard, OWNER, lambda one: 0, monotonic()).endpoint

    async def until(self, condition: Callable[[], bool], timeout_s: float = 20) -> float:
        """How many seconds it took to come true."""
        began = monotonic()
        while not condition():
            assert monotonic() - began < timeout_s, self.reasons()
            await asyncio.sleep(0.005)
        return monotonic() - began

    async def until_reasons(self, *reasons: str, timeout_s: float = 20) -> float:
        """How long it took until each replica's reason began as told, in seconds."""
        return await self.until(
            lambda: all(map(str.startswith, self.reasons(), reasons)), timeout_s
        )


async def until_gone(cluster: Cluster, count: str) -> None:
    """Returns when a query counts none. Raises TimeoutError."""
    async with asyncio.timeout(10):
        while await run_on(cluster, count):
            pass


def newer(watcher: Watcher, before: EndpointStatus) -> bool:
    """Whether a look at the primary has begun and ended since."""
    return watcher.status(0).looks > before.looks + 1


@asynccontextmanager
async def watching(
    primary: Cluster, replicas: list[Cluster], **sections: Any
) -> AsyncIterator[Watcher]:
    watcher = Watcher()
    watcher.configure(primary.dsn(), [one.dsn() for one in replicas], **sections)
    try:
        yield watcher
    finally:
        await watcher.prober.close()


async def test_what_is_found(trio: Trio) -> None:
    async with watching(trio.primary, trio.standbys) as watcher:
        await watcher.until_reasons(USABLE, USABLE)
        primary, one, two = (watcher.status(number) for number in range(3))
    identifier = await run_on(trio.primary, "SELECT system_identifier FROM pg_control_system()")
    assert [status.in_recovery for status in (primary, one, two)] == [False, True, True]
    assert {status.system_id for status in (primary, one, two)} == {identifier}
    assert {status.timeline for status in (primary, one, two)} == {1}
    assert primary.lsn is not None
    assert (one.lsn, one.received_lsn, one.replay_delay_s) == (primary.lsn, primary.lsn, 0.0)
    assert not any(status.error or status.failures for status in (primary, one, two))


async def test_connections_are_few_and_gone_at_the_end(trio: Trio) -> None:
    sql = (
        f"SELECT count(*) FROM pg_stat_activity WHERE application_name = '{look.APPLICATION_NAME}'"
    )
    async with watching(trio.primary, trio.standbys) as watcher:
        await watcher.until_reasons(USABLE, USABLE)
        assert [await run_on(one, sql) for one in (trio.primary, *trio.standbys)] == [1, 1, 1]
        watcher.configure(trio.primary.dsn(), [trio.standbys[0].dsn()])
        watcher.configure(trio.primary.dsn(), [trio.standbys[0].dsn()])
        await watcher.until_reasons(USABLE)
        assert await run_on(trio.primary, sql) == 1
    for cluster in (trio.primary, *trio.standbys):
        await until_gone(cluster, sql)


async def test_the_owners_reads_follow_the_owners_writes(trio: Trio) -> None:
    """The replica that does not replay is never chosen after a write, and is back afterwards."""
    wrote = "has not replayed the owner's last write"
    async with watching(trio.primary, trio.standbys) as watcher:
        await watcher.until_reasons(USABLE, USABLE)
        await pause_replay(trio.standbys[0])
        watcher.health.marks.begin(OWNER, monotonic())
        await run_on(trio.primary, "INSERT INTO said VALUES (1)")
        assert watcher.chosen() is watcher.shard.primary
        watcher.health.marks.end(OWNER, monotonic())
        assert watcher.chosen() is watcher.shard.primary
        await watcher.until_reasons(wrote, USABLE)
        assert {watcher.chosen().name for _ in range(10)} == {"law-replica-2"}
        await resume_replay(trio.standbys[0])
        await watcher.until_reasons(USABLE, USABLE)
        assert {watcher.chosen().name for _ in range(10)} == {"law-replica-1", "law-replica-2"}


async def test_trap_a_read_after_a_write_from_a_replica_that_has_not_replayed_it(
    trio: Trio,
) -> None:
    """Writes and reads one after the other, while standbys stop and go on replaying."""
    async with watching(trio.primary, trio.standbys, health={"interval_ms": 20}) as watcher:
        await watcher.until_reasons(USABLE, USABLE)
        places = (watcher.shard.primary, *watcher.shard.replicas)
        clusters = (trio.primary, *trio.standbys)
        connections = {
            place: await asyncpg.connect(cluster.dsn())
            for place, cluster in zip(places, clusters, strict=True)
        }
        served = dict.fromkeys(Role, 0)
        for number in range(100, 140):
            await (pause_replay if number % 4 == 0 else resume_replay)(trio.standbys[number % 2])
            watcher.health.marks.begin(OWNER, monotonic())
            await connections[places[0]].execute("INSERT INTO said VALUES ($1)", number)
            watcher.health.marks.end(OWNER, monotonic())
            for _ in range(8):
                place = watcher.chosen()
                newest = await connections[place].fetchval("SELECT max(number) FROM said")
                assert newest == number, place.name
                served[place.role] += 1
                await asyncio.sleep(0.01)
        assert min(served.values()) > 10, served
        for connection in connections.values():
            await connection.close()
        for standby in trio.standbys:
            await resume_replay(standby)


async def test_a_replica_that_lags_is_out_for_everybody_and_comes_back(trio: Trio) -> None:
    async with watching(trio.primary, trio.standbys, reads={"lag_max_ms": 300}) as watcher:
        await watcher.until_reasons(USABLE, USABLE)
        await pause_replay(trio.standbys[1])
        await run_on(trio.primary, "INSERT INTO said VALUES (2)")
        await watcher.until_reasons(USABLE, "is too far behind: ")
        behind = list(watcher.health.overview([watcher.shard], monotonic()))[2]
        assert behind.lag_s is not None
        assert behind.lag_s > 0.3
        assert behind.lag_bytes is not None
        assert behind.lag_bytes > 0
        await resume_replay(trio.standbys[1])
        assert await watcher.until_reasons(USABLE, USABLE) < 5


async def test_a_primary_at_rest_after_a_switch_of_segments(trio: Trio) -> None:
    """Nothing is written behind the new segment's header, so there is nothing to wait for."""
    async with watching(trio.primary, trio.standbys) as watcher:
        await watcher.until_reasons(USABLE, USABLE)
        await run_on(trio.primary, "CHECKPOINT")
        await run_on(trio.primary, "SELECT pg_switch_wal()")
        watcher.health.marks.mark(OWNER, monotonic())
        assert await watcher.until_reasons(USABLE, USABLE) < 5


async def test_a_standby_that_stops_is_out_and_back_by_itself(
    trio: Trio, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "gateway.health")
    async with watching(trio.primary, trio.standbys) as watcher:
        await watcher.until_reasons(USABLE, USABLE)
        await trio.standbys[0].stop(StopMode.IMMEDIATE)
        assert await watcher.until_reasons("can't be reached: ", USABLE) < 2
        assert {watcher.chosen().name for _ in range(10)} == {"law-replica-2"}
        await asyncio.sleep(0.5)
        await trio.standbys[0].start()
        assert await watcher.until_reasons(USABLE, USABLE) < 5
        assert watcher.status(1).failures > 1
    place = f"127.0.0.1:{trio.standbys[0].port}/postgres"
    lines = [record.getMessage() for record in caplog.records if place in record.getMessage()]
    assert lines[0] == lines[-1] == f"{place}: is a standby on timeline 1"
    assert 3 <= len(lines) <= 8, "one line per change, not one per look"


async def test_a_lost_connection_is_noticed_before_the_next_look(trio: Trio) -> None:
    """A standby that crashed may come back behind where it was: what it said counts no more."""
    slow = {"interval_ms": 60_000}
    async with watching(trio.primary, trio.standbys, health=slow) as watcher:
        await watcher.until(lambda: watcher.reasons() == [USABLE, USABLE])
        looks = watcher.status(1).looks
        await run_on(trio.standbys[0], TERMINATE)
        await watcher.until(lambda: watcher.status(1).looks > looks, 5)
        assert (watcher.status(1).reachable, watcher.status(1).error) == (True, "")


async def test_trap_pg_terminate_backend_is_not_taken_for_a_dead_server(trio: Trio) -> None:
    async with watching(trio.primary, trio.standbys) as watcher:
        await watcher.until_reasons(USABLE, USABLE)
        for _ in range(5):
            await run_on(trio.primary, TERMINATE)
            await watcher.until(partial(newer, watcher, watcher.status(0)))
            assert watcher.status(0).reachable
        assert watcher.status(0).failures == 0


TERMINATE = f"""SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                 WHERE application_name = '{look.APPLICATION_NAME}'"""


async def test_what_an_ordinary_role_may_not_see(trio: Trio, cluster_folder: Path) -> None:
    """By default it sees all that is needed; what is taken away is missed, never guessed."""
    watcher = Watcher()
    plain = [one.dsn(user="plain", password="x") for one in (trio.primary, *trio.standbys)]
    watcher.configure(plain[0], plain[1:])
    try:
        await watcher.until_reasons(USABLE, USABLE)
        functions = ("pg_control_checkpoint()", "pg_control_recovery()", "pg_control_system()")
        for function in functions:
            await run_on(trio.primary, f"REVOKE EXECUTE ON FUNCTION {function} FROM PUBLIC")
        await watcher.until_reasons(*["does not tell its timeline"] * 2)
        await watcher.until(
            lambda: watcher.status(0).system_id is None
        )  # each is looked at by itself
        assert watcher.status(0).timeline == 1
        await run_on(trio.primary, "GRANT pg_monitor TO plain")
        await watcher.until_reasons(USABLE, USABLE)
        for function in functions:
            await run_on(trio.primary, f"GRANT EXECUTE ON FUNCTION {function} TO PUBLIC")
        await run_on(trio.primary, "REVOKE pg_monitor FROM plain")
        await watcher.until_reasons(*["does not tell its timeline"] * 2)
        for standby in trio.standbys:
            await run_on(standby, TERMINATE)  # what may be asked is tried anew by each connection
        await watcher.until_reasons(USABLE, USABLE)
        await run_on(trio.primary, "ALTER ROLE plain NOLOGIN")
        await run_on(trio.standbys[0], TERMINATE)
        refused = 'does not tell its position: role "plain" is not permitted to log in'
        await watcher.until_reasons(refused, USABLE)
        assert watcher.status(1).reachable, "it answered"
        await run_on(trio.primary, "ALTER ROLE plain LOGIN")
        await watcher.until_reasons(USABLE, USABLE)
    finally:
        await watcher.prober.close()


async def test_trap_a_server_that_accepts_and_says_nothing(trio: Trio) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        watcher = Watcher()
        replicas = [f"postgresql://x@127.0.0.1:{silent.getsockname()[1]}/x", trio.standbys[0].dsn()]
        watcher.configure(trio.primary.dsn(), replicas, health={"timeout_ms": 500})
        try:
            took_s = await watcher.until_reasons("can't be reached: no answer in time", USABLE)
            assert took_s < 5
            looks = watcher.status(1).looks
            await watcher.until(lambda: watcher.status(1).looks > looks + 1)
            assert watcher.status(2).failures == 0
        finally:
            await watcher.prober.close()


async def test_trap_a_name_look_up_that_hangs_for_ever(
    trio: Trio, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    resolved = look._resolved

    async def hanging(host: str, port: int) -> object:
        if host == "127.0.0.1":
            return await resolved(host, port)
        asked.append(host)
        return await asyncio.Event().wait()

    monkeypatch.setattr(look, "_resolved", hanging)
    watcher = Watcher()
    watcher.configure(
        trio.primary.dsn(),
        ["postgresql://x@standby.invalid/x", trio.standbys[0].dsn()],
        health={"timeout_ms": 500},
    )
    try:
        await watcher.until_reasons("can't be reached: no answer in time", USABLE)
        looks = watcher.status(1).looks
        await watcher.until(lambda: watcher.status(1).looks > looks + 1)
        assert asked == ["standby.invalid"], "one look-up under way, not one for each look"
    finally:
        await watcher.prober.close()


async def test_a_promoted_standby_serves_no_reads_and_its_follower_comes_along(
    trio: Trio, cluster_folder: Path
) -> None:
    """Failover by hand: promote, point the settings at the new primary, let a standby follow it."""
    async with (
        standbys(trio.primary, cluster_folder, "heir", "follower") as (heir, follower),
        watching(trio.primary, [heir, follower]) as watcher,
    ):
        await watcher.until_reasons(USABLE, USABLE)
        await run_on(heir, "SELECT pg_promote()")
        assert await watcher.until_reasons("is not in recovery", USABLE) < 5
        await watcher.until(lambda: watcher.status(1).timeline == 2)
        claims = watcher.health.primaries(watcher.shard)
        assert [(one.name, status.timeline) for one, status in claims] == [
            ("law", 1),
            ("law-replica-1", 2),
        ]
        await run_on(heir, "INSERT INTO said VALUES (3)")
        watcher.configure(heir.dsn(), [follower.dsn()])
        await watcher.until_reasons("is on another timeline: 1, the primary on 2")
        await follower.stop()
        follower.follow(heir)
        await follower.start()
        await watcher.until_reasons(USABLE)
        assert watcher.status(1).timeline == 2
        assert await run_on(follower, "SELECT count(*) FROM said WHERE number = 3") == 1


async def test_a_standby_without_its_primary_serves_on(trio: Trio, cluster_folder: Path) -> None:
    """Nobody writes, so it is complete; but who has written just before may not read from it."""
    async with (
        standbys(trio.primary, cluster_folder, "widow") as two,
        watching(trio.primary, two, reads={"lag_max_ms": 200}) as watcher,
    ):
        await watcher.until_reasons(USABLE)
        await trio.primary.stop(StopMode.IMMEDIATE)
        await watcher.until(lambda: not watcher.status(0).reachable)
        await asyncio.sleep(0.5)
        assert watcher.reasons() == [USABLE]
        watcher.health.marks.mark(OWNER, monotonic())
        assert watcher.chosen() is watcher.shard.primary
        await trio.primary.start()
        await watcher.until_reasons(USABLE)
