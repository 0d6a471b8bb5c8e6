"""What is known of the endpoints, and the one call that places a read."""

from __future__ import annotations

from dataclasses import replace
from time import process_time

import pytest

from gateway.errors import NoUsableReplica
from gateway.health.marks import Marks
from gateway.health.state import Health
from gateway.router.positions import EndpointStatus
from gateway.router.topology import Endpoint, Role, Shard
from gateway.settings.model import ReadPolicy, Reads

PRIMARY = Endpoint("law", "db", 5432, "law", Role.PRIMARY)
REPLICA = Endpoint("law-replica-1", "standby", 5432, "law", Role.REPLICA)
SHARD = Shard("law", "LAW", PRIMARY, (REPLICA,))
META = Shard("meta", None, Endpoint("meta", "db", 5432, "meta", Role.PRIMARY))
ADDRESSES = {PRIMARY.address, REPLICA.address}


def make_health(policy: ReadPolicy = ReadPolicy.PREFER_REPLICA) -> Health:
    health = Health(Marks.private(0.0))
    health.configure({"LAW": Reads(policy=policy), None: Reads()}, ADDRESSES)
    return health


def seen(endpoint: Endpoint, at: float, lsn: int | None, timeline: int = 1) -> EndpointStatus:
    return EndpointStatus(
        endpoint.address,
        at,
        at + 1.75,
        reachable=True,
        in_recovery=endpoint is REPLICA,
        lsn=lsn,
        timeline=timeline,
        system_id=7,
    )


def place(health: Health, now: float, policy: ReadPolicy | None = None) -> Endpoint:
    return health.choose(SHARD, "1", lambda one: 0, now, policy).endpoint


def test_a_replica_serves_when_it_has_replayed_a_look_that_began_after_the_write() -> None:
    health = make_health()
    health.record(seen(PRIMARY, 10.0, 100))
    health.record(seen(REPLICA, 10.1, 100))
    assert place(health, 10.2) is REPLICA
    health.marks.begin("1", 10.3)
    assert place(health, 10.4) is PRIMARY
    health.record(seen(PRIMARY, 10.5, 200))
    health.record(seen(REPLICA, 10.6, 200))
    assert place(health, 10.7) is PRIMARY
    health.marks.end("1", 10.8)
    health.record(seen(PRIMARY, 10.9, 300))
    assert place(health, 11.0) is PRIMARY
    health.record(seen(REPLICA, 11.1, 300))
    assert place(health, 11.2) is REPLICA


def test_a_hint_takes_the_place_of_the_policy() -> None:
    health = make_health(ReadPolicy.PRIMARY)
    health.record(seen(PRIMARY, 10.0, 100))
    health.record(seen(REPLICA, 10.1, 100))
    assert place(health, 10.2) is PRIMARY
    assert place(health, 10.2, ReadPolicy.PREFER_REPLICA) is REPLICA
    other = make_health()
    assert place(other, 10.2, ReadPolicy.PRIMARY) is PRIMARY
    with pytest.raises(NoUsableReplica):
        place(other, 10.2, ReadPolicy.REPLICA_ONLY)
    with pytest.raises(NoUsableReplica):
        other.choose(META, "1", lambda one: 0, 10.2, ReadPolicy.REPLICA_ONLY)


def test_a_promotion_forgets_the_old_timeline() -> None:
    health = make_health()
    health.record(seen(PRIMARY, 10.0, 100))
    health.record(seen(REPLICA, 10.1, 500))
    health.record(seen(PRIMARY, 10.2, 300, timeline=2))
    assert place(health, 10.3) is PRIMARY, "it may have replayed what the new primary lacks"
    health.record(seen(REPLICA, 10.4, 500, timeline=2))
    assert place(health, 10.5) is REPLICA


def test_a_log_that_went_back_is_a_new_one() -> None:
    health = make_health()
    health.record(seen(PRIMARY, 10.0, 500))
    health.record(seen(PRIMARY, 11.0, 300))
    health.record(seen(REPLICA, 11.1, 300))
    assert place(health, 11.2) is REPLICA


def test_a_primary_that_became_a_standby_has_no_log() -> None:
    health = make_health()
    health.record(seen(PRIMARY, 10.0, 100))
    health.record(seen(REPLICA, 10.1, 100))
    health.record(replace(seen(PRIMARY, 10.2, 100), in_recovery=True))
    assert place(health, 10.3) is PRIMARY
    assert [words for _, words in health.explain(SHARD, "1", 10.3)] == [
        "can't be compared, for the primary's position is not known"
    ]


def test_looks_that_come_late_are_not_taken_for_new() -> None:
    health = make_health()
    health.record(seen(PRIMARY, 10.0, 100))
    health.record(seen(REPLICA, 12.0, 100))
    health.record(replace(seen(REPLICA, 11.0, 100), reachable=False))
    assert place(health, 12.1) is REPLICA


def test_a_lost_connection_makes_the_position_unknown_until_the_next_look() -> None:
    health = make_health()
    health.record(seen(PRIMARY, 10.0, 100))
    health.record(seen(REPLICA, 10.1, 100))
    health.record(replace(seen(REPLICA, 10.1, 100), lsn=None, error="its connection was closed"))
    assert place(health, 10.2) is PRIMARY
    health.record(seen(REPLICA, 10.3, 100))
    assert place(health, 10.4) is REPLICA


def test_what_left_the_topology_is_forgotten() -> None:
    health = make_health()
    health.record(seen(PRIMARY, 10.0, 100))
    health.record(seen(REPLICA, 10.1, 100))
    health.configure({"LAW": Reads(policy=ReadPolicy.PREFER_REPLICA)}, {PRIMARY.address})
    assert health.status(REPLICA) is None
    assert health.status(PRIMARY) is not None
    assert place(health, 10.2) is PRIMARY


def test_who_says_to_be_a_primary() -> None:
    health = make_health()
    health.record(seen(PRIMARY, 10.0, 100))
    health.record(replace(seen(REPLICA, 10.1, 100, timeline=2), in_recovery=False))
    assert [(one.name, status.timeline) for one, status in health.primaries(SHARD)] == [
        ("law", 1),
        ("law-replica-1", 2),
    ]


def test_the_overview() -> None:
    health = make_health()
    health.record(seen(PRIMARY, 10.0, 100))
    health.record(seen(PRIMARY, 12.0, 300))
    health.record(seen(REPLICA, 12.1, 150))
    health.marks.mark("1", 12.2)
    rows = list(health.overview([SHARD, META], 12.3))
    assert [(row.endpoint.name, row.state, row.reads) for row in rows] == [
        ("law", "primary", None),
        ("law-replica-1", "standby", "usable"),
        ("meta", "not looked at", None),
    ]
    assert [(row.lag_s, row.lag_bytes) for row in rows] == [(0.0, 0), (2.0, 150), (None, None)]
    health.record(replace(seen(REPLICA, 12.4, None), reachable=False, error="refused"))
    row = list(health.overview([SHARD], 12.5))[1]
    assert (row.state, row.reads) == ("unreachable", "can't be reached: refused")
    health.record(replace(seen(REPLICA, 12.6, None), in_recovery=None, error="denied"))
    assert list(health.overview([SHARD], 12.7))[1].state == "unknown"


@pytest.mark.parametrize("shard", [SHARD, META])
def test_a_read_that_no_replica_serves_costs_next_to_nothing(shard: Shard) -> None:
    """The aim is 2 us; the bound leaves room for a slow machine."""
    health = make_health(ReadPolicy.PRIMARY)
    rounds, best_s = 2_000, 1.0
    for _ in range(20):
        began = process_time()
        for _ in range(rounds):
            health.choose(shard, "1", lambda one: 0, 10.0)
        best_s = min(best_s, (process_time() - began) / rounds)
    assert best_s < 5e-6
