"""No read is ever placed on a replica that has not replayed what its owner was told is written.

A cluster is played with logs as lists of writes, and two workers that hear of the looks at it late
and each for itself. Writes, looks, replay, crashes, promotions and the clock move in any order.
"""

from __future__ import annotations

import os
from collections import deque
from dataclasses import dataclass, field, replace

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from gateway.health.marks import Marks, new_table
from gateway.health.state import Health
from gateway.router.positions import EndpointStatus
from gateway.router.topology import Endpoint, Role, Shard
from gateway.settings.model import ReadPolicy, Reads

OWNERS = ("1", "2")
WORKERS = 2
REPLICAS = 2
PRIMARY = Endpoint("law", "db", 5432, "law", Role.PRIMARY)
SHARD = Shard(
    "law",
    "LAW",
    PRIMARY,
    tuple(
        Endpoint(f"law-replica-{n}", f"standby{n}", 5432, "law", Role.REPLICA)
        for n in range(REPLICAS)
    ),
)
RULES = Reads(policy=ReadPolicy.PREFER_REPLICA, lag_max_ms=86_400_000)

WORKER = st.integers(0, WORKERS - 1)
REPLICA = st.integers(0, REPLICAS - 1)
OWNER = st.sampled_from(OWNERS)
PICK = st.integers(0, 1000)


@dataclass(eq=False)
class Server:
    """A PostgreSQL: the writes in its log, and how many of them are safe on its disk."""

    log: list[int]
    timeline: int
    in_recovery: bool
    flushed: int = 0
    told_timeline: int = 0
    """What it says of its timeline, which on a standby may be late."""

    @property
    def lsn(self) -> int:
        return 1000 + 8 * len(self.log)


@dataclass
class Write:
    worker: int
    owner: str
    number: int | None = None


@dataclass
class Look:
    """One under way: it began, then it read, then it is told."""

    began_at: float
    found: EndpointStatus | None = None


@dataclass
class Worker:
    health: Health
    news: deque[EndpointStatus] = field(default_factory=deque)


class Cluster(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.now = 100.0
        self.numbers = 0
        self.primary = Server([], 1, False, told_timeline=1)
        self.standbys = [Server([], 1, True, told_timeline=1) for _ in range(REPLICAS)]
        self.table = new_table(WORKERS, self.now)
        self.workers = [self.new_worker(row) for row in range(WORKERS)]
        self.writes: list[Write] = []
        self.told: dict[str, set[int]] = {owner: set() for owner in OWNERS}
        self.looks: dict[Endpoint, Look] = {}
        self.last: dict[Endpoint, EndpointStatus] = {}

    def teardown(self) -> None:
        os.close(self.table)

    def new_worker(self, row: int) -> Worker:
        health = Health(Marks(self.table, row))
        health.configure({"LAW": RULES}, {e.address for e in (PRIMARY, *SHARD.replicas)})
        return Worker(health)

    def server(self, endpoint: Endpoint) -> Server:
        if endpoint is PRIMARY:
            return self.primary
        return self.standbys[SHARD.replicas.index(endpoint)]

    def publish(self, endpoint: Endpoint, status: EndpointStatus) -> None:
        self.last[endpoint] = status
        for worker in self.workers:
            worker.news.append(status)

    def lost(self, endpoint: Endpoint) -> None:
        """Its connections end. No server is back sooner than that is known everywhere."""
        self.looks.pop(endpoint, None)
        if endpoint in self.last:
            self.publish(endpoint, replace(self.last[endpoint], lsn=None, error="lost"))
        for worker in self.workers:
            while worker.news:
                worker.health.record(worker.news.popleft())

    # --- time ---

    @rule(seconds=st.sampled_from([0.001, 0.25, 0.25, 100.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds
        for worker in self.workers:
            worker.health.marks.renew(self.now)

    # --- writes ---

    @rule(worker=WORKER, owner=OWNER, slow=st.booleans())
    def write(self, worker: int, owner: str, slow: bool) -> None:
        """From begin to end; a slow one is looked at in the middle."""
        self.begin(worker, owner)
        if slow:
            self.quiet_moment()
        self.commit(len(self.writes) - 1)
        self.end(len(self.writes) - 1)

    @rule(worker=WORKER, owner=OWNER)
    def begin(self, worker: int, owner: str) -> None:
        self.workers[worker].health.marks.begin(owner, self.now)
        self.writes.append(Write(worker, owner))

    @precondition(lambda self: self.writes)
    @rule(pick=PICK)
    def commit(self, pick: int) -> None:
        write = self.writes[pick % len(self.writes)]
        if write.number is None:
            self.numbers += 1
            write.number = self.numbers
            self.primary.log.append(write.number)

    @precondition(lambda self: self.writes)
    @rule(pick=PICK)
    def end(self, pick: int) -> None:
        write = self.writes.pop(pick % len(self.writes))
        if write.number is not None:
            self.told[write.owner].add(write.number)
            self.no_read_is_older()  # the client may have it before the gateway notes it
        self.workers[write.worker].health.marks.end(write.owner, self.now)

    @rule(worker=WORKER)
    def worker_dies(self, worker: int) -> None:
        """Its clients are told nothing; what they sent may be committed later all the same."""
        self.writes = [write for write in self.writes if write.worker != worker]
        news = self.workers[worker].news
        self.workers[worker] = self.new_worker(worker)
        self.workers[worker].news = news

    # --- the cluster ---

    @rule(share=st.integers(0, 3))
    def flush(self, share: int) -> None:
        log = self.primary
        log.flushed = max(log.flushed, len(log.log) * share // 3)

    @rule(replica=REPLICA, share=st.integers(0, 3))
    def replay(self, replica: int, share: int) -> None:
        """Replays a part of what the primary has on disk; follows only whom it may follow."""
        standby, primary = self.standbys[replica], self.primary
        there = primary.log[: primary.flushed]
        if standby is primary or there[: len(standby.log)] != standby.log:
            return
        standby.timeline = primary.timeline
        standby.log += there[len(standby.log) :][
            : max(0, len(there) - len(standby.log)) * share // 3
        ]

    @rule(replica=REPLICA)
    def tell_timeline(self, replica: int) -> None:
        self.standbys[replica].told_timeline = self.standbys[replica].timeline

    @rule()
    def primary_crashes(self) -> None:
        """Commits that were not flushed are gone, and their positions are used again."""
        del self.primary.log[self.primary.flushed :]
        self.lost(PRIMARY)
        for endpoint in SHARD.replicas:
            if self.server(endpoint) is self.primary:
                self.lost(endpoint)

    @rule(replica=REPLICA, behind=st.integers(0, 3))
    def standby_crashes(self, replica: int, behind: int) -> None:
        """It takes connections again before it is where it was."""
        standby = self.standbys[replica]
        if standby.in_recovery:
            del standby.log[max(0, len(standby.log) - behind) :]
            self.lost(SHARD.replicas[replica])

    @rule(replica=REPLICA)
    def promote(self, replica: int) -> None:
        """The primary's address is the promoted server's from now on; the old server is gone.

        What the promotion loses is promised no more: should a server that was left on the old
        timeline be promoted later, it comes back for everybody once that server is looked at.
        """
        standby = self.standbys[replica]
        if not standby.in_recovery:
            return
        standby.in_recovery = False
        standby.flushed = len(standby.log)
        standby.timeline = standby.told_timeline = self.primary.timeline + 1
        self.primary = standby
        for told in self.told.values():
            told.intersection_update(standby.log)
        self.lost(PRIMARY)

    @rule(replica=REPLICA)
    def promote_who_is_behind(self, replica: int) -> None:
        """The other standby has what the new primary lacks: it can't follow any more."""
        self.flush(3)
        self.replay(1 - replica, 3)
        self.promote(replica)

    @rule(replica=REPLICA)
    def rebuild(self, replica: int) -> None:
        primary = self.primary
        copied = primary.log[: primary.flushed]
        self.standbys[replica] = Server(
            copied, primary.timeline, True, told_timeline=primary.timeline
        )
        self.lost(SHARD.replicas[replica])

    # --- looks ---

    @rule(endpoint=st.sampled_from([PRIMARY, *SHARD.replicas]))
    def look(self, endpoint: Endpoint) -> None:
        """A step of the look at an endpoint: it begins, reads, and is told."""
        look = self.looks.get(endpoint)
        if look is None:
            self.looks[endpoint] = Look(self.now)
        elif look.found is None:
            server = self.server(endpoint)
            look.found = EndpointStatus(
                address=endpoint.address,
                looked_at=look.began_at,
                expires_at=look.began_at + 1.75,
                reachable=True,
                in_recovery=server.in_recovery,
                lsn=server.lsn,
                timeline=server.told_timeline,
                system_id=7,
            )
        else:
            self.publish(endpoint, look.found)
            del self.looks[endpoint]

    def look_at_all(self) -> None:
        """Everything is looked at and known everywhere."""
        for endpoint in (PRIMARY, *SHARD.replicas):
            while endpoint in self.looks:
                self.look(endpoint)
            for _ in range(3):
                self.look(endpoint)
        for worker in range(WORKERS):
            while self.workers[worker].news:
                self.hear(worker)

    @rule()
    def quiet_moment(self) -> None:
        """What is mostly so: a pause, in which standbys follow, and the looks see it."""
        self.wait(0.25)
        self.flush(3)
        for replica in range(REPLICAS):
            self.replay(replica, 3)
        self.look_at_all()

    @rule(worker=WORKER)
    def hear(self, worker: int) -> None:
        news = self.workers[worker].news
        if news:
            self.workers[worker].health.record(news.popleft())

    @initialize()
    def seen_once(self) -> None:
        self.quiet_moment()

    # --- what must hold ---

    @invariant()
    def no_read_is_older(self) -> None:
        for worker in self.workers:
            for owner in OWNERS:
                chosen = worker.health.choose(SHARD, owner, lambda one: 0, self.now).endpoint
                if chosen is PRIMARY:
                    continue
                kept = self.told[owner] & set(self.primary.log)
                assert kept <= set(self.server(chosen).log), f"{owner} on {chosen.name}"


Cluster.TestCase.settings = settings(max_examples=150, stateful_step_count=50, deadline=None)
TestReadYourWrites = Cluster.TestCase
