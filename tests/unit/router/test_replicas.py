"""Which endpoint serves a read, and in which words a replica is told to be unfit."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from gateway.errors import NoUsableReplica
from gateway.router.positions import Address, EndpointStatus, PrimaryLog
from gateway.router.replicas import (
    BY_POLICY,
    FALLBACK,
    LAST_LEFT,
    LEAST_BUSY,
    NO_REPLICAS,
    USABLE,
    Choice,
    Known,
    choose,
    explain,
)
from gateway.router.topology import Endpoint, Role, Shard
from gateway.settings.model import ReadPolicy, Reads

PRIMARY = Endpoint("law", "db", 5432, "law", Role.PRIMARY)
ONE, TWO, THREE = (
    Endpoint(f"law-replica-{n}", f"standby{n}", 5432, "law", Role.REPLICA) for n in (1, 2, 3)
)
SHARD = Shard("law", "LAW", PRIMARY, (ONE, TWO, THREE))
ALONE = Shard("law", "LAW", PRIMARY)
PREFER, ONLY = ReadPolicy.PREFER_REPLICA, ReadPolicy.REPLICA_ONLY
RULES = Reads(policy=PREFER, lag_max_ms=5_000, lag_max_bytes=500)
NOW = 1000.0
MARK = 985.0


def standby(endpoint: Endpoint, **found: Any) -> EndpointStatus:
    good = EndpointStatus(
        endpoint.address,
        NOW - 0.1,
        NOW + 1,
        reachable=True,
        in_recovery=True,
        lsn=2000,
        timeline=3,
        system_id=7,
        replay_delay_s=0.0,
    )
    return replace(good, **found)


def primary_log() -> PrimaryLog:
    log = PrimaryLog(3, 7)
    for start, lsn in ((980.0, 1000), (990.0, 1200), (998.0, 1900), (999.9, 2000)):
        log.note(start, lsn)
    return log


def known(*statuses: EndpointStatus, mark: float = MARK, log: PrimaryLog | None = None) -> Known:
    by_address: dict[Address, EndpointStatus] = {one.address: one for one in statuses}
    return Known(by_address, log or primary_log(), mark, NOW)


ALL = known(standby(ONE), standby(TWO), standby(THREE))


def chosen(what: Known, turn: int = 0, **counts: int) -> Endpoint:
    return choose(SHARD, RULES, PREFER, what, lambda one: counts.get(one.host, 0), turn).endpoint


def idle(_: Endpoint) -> int:
    return 0


def test_the_policy_and_the_topology_come_first() -> None:
    for shard in (SHARD, ALONE):
        found = choose(shard, RULES, ReadPolicy.PRIMARY, ALL, idle, 0)
        assert found == Choice(PRIMARY, BY_POLICY)
    assert choose(ALONE, RULES, PREFER, ALL, idle, 0) == Choice(PRIMARY, NO_REPLICAS)


def test_the_one_with_the_fewest_outstanding_requests_serves() -> None:
    assert choose(SHARD, RULES, PREFER, ALL, idle, 0).reason == LEAST_BUSY
    assert chosen(ALL, standby1=3, standby2=1, standby3=2) is TWO
    assert chosen(known(standby(ONE), standby(THREE)), standby1=3, standby2=0, standby3=4) is ONE


def test_equals_take_turns() -> None:
    assert [chosen(ALL, turn) for turn in range(6)] == [ONE, TWO, THREE] * 2
    assert [chosen(ALL, turn, standby2=1) for turn in range(4)] == [ONE, THREE] * 2


UNFIT = [
    ({"reachable": False, "error": "refused"}, "can't be reached: refused"),
    ({"expires_at": NOW - 0.1}, "was not looked at lately"),
    ({"lsn": None, "error": "permission denied"}, "does not tell its position: permission denied"),
    ({"in_recovery": False}, "is not in recovery: it is being promoted, or is a primary"),
    ({"system_id": 8}, "is of another cluster than the primary"),
    ({"timeline": None}, "does not tell its timeline (its role lacks pg_monitor)"),
    ({"timeline": 2}, "is on another timeline: 2, the primary on 3"),
    ({"lsn": 1199}, "has not replayed the owner's last write"),
    ({"lsn": 1500}, "is too far behind: 9900 ms, more than 5000 ms"),
]


@pytest.mark.parametrize(("found", "words"), UNFIT)
def test_who_is_unfit_is_out_with_a_reason(found: dict[str, Any], words: str) -> None:
    what = known(standby(ONE, **found))
    assert list(explain(SHARD, RULES, what)) == [
        (ONE, words),
        (TWO, "has not been looked at yet"),
        (THREE, "has not been looked at yet"),
    ]
    assert choose(SHARD, RULES, PREFER, what, idle, 0) == Choice(PRIMARY, FALLBACK)
    others = known(standby(ONE, **found), standby(TWO))
    assert [chosen(others, turn) for turn in range(3)] == [TWO] * 3


def test_a_write_that_no_look_has_passed_goes_to_the_primary() -> None:
    what = known(standby(ONE), mark=999.9)
    assert choose(SHARD, RULES, PREFER, what, idle, 0).endpoint is PRIMARY
    words = dict(explain(SHARD, RULES, what))[ONE]
    assert words == "is not known to have the owner's last write, which is too new"


def test_the_bound_in_bytes() -> None:
    rules = RULES.model_copy(update={"lag_max_bytes": 50})
    words = dict(explain(SHARD, rules, known(standby(ONE, lsn=1949))))[ONE]
    assert words == "is too far behind: 51 bytes, more than 50"
    assert dict(explain(SHARD, rules, known(standby(ONE, lsn=1950))))[ONE] == USABLE


def test_nothing_is_known_of_the_primary() -> None:
    what = Known({ONE.address: standby(ONE)}, None, MARK, NOW)
    words = dict(explain(SHARD, RULES, what))[ONE]
    assert words == "can't be compared, for the primary's position is not known"
    assert choose(SHARD, RULES, PREFER, what, idle, 0).endpoint is PRIMARY


def test_system_identifiers_that_can_not_be_had_are_not_compared() -> None:
    log = PrimaryLog(3, None)
    log.note(999.9, 2000)
    assert dict(explain(SHARD, RULES, known(standby(ONE), log=log)))[ONE] == USABLE
    assert dict(explain(SHARD, RULES, known(standby(ONE, system_id=None))))[ONE] == USABLE


def test_while_the_primary_is_away_the_standbys_own_measure_counts() -> None:
    """Complete replicas serve on; one that does not replay what it has received is out."""
    log = PrimaryLog(3, 7)
    log.note(NOW - 60, 2000)
    mark = NOW - 100
    whole = known(standby(ONE, replay_delay_s=0.0), mark=mark, log=log)
    paused = known(standby(ONE, replay_delay_s=30.0), mark=mark, log=log)
    assert dict(explain(SHARD, RULES, whole))[ONE] == USABLE
    assert "too far behind" in dict(explain(SHARD, RULES, paused))[ONE]
    seen = known(standby(ONE, replay_delay_s=30.0))
    assert dict(explain(SHARD, RULES, seen))[ONE] == USABLE


def test_replica_only_is_an_error_with_every_reason() -> None:
    what = known(standby(ONE, reachable=False, error="refused"), standby(TWO, timeline=2))
    with pytest.raises(NoUsableReplica) as caught:
        choose(SHARD, RULES, ONLY, what, idle, 0)
    error = caught.value
    assert (error.sqlstate, error.fatal) == ("57P03", False)
    assert error.detail == (
        "law-replica-1 can't be reached: refused;"
        " law-replica-2 is on another timeline: 2, the primary on 3;"
        " law-replica-3 has not been looked at yet"
    )
    assert "prefer-replica" in error.hint
    with pytest.raises(NoUsableReplica, match="law"):
        choose(ALONE, RULES, ONLY, what, idle, 0)
    assert choose(SHARD, RULES, ONLY, ALL, idle, 0).endpoint in SHARD.replicas


def test_trap_a_tripped_replica_is_left_out_but_never_all_of_them() -> None:
    tripped = replace(ALL, tripped={ONE.address, THREE.address})
    assert {chosen(tripped, turn) for turn in range(6)} == {TWO}
    words = dict(explain(SHARD, RULES, tripped))
    assert words[ONE] == "answers the gateway's looks, but connects to it fail"
    assert words[TWO] == USABLE
    none = replace(ALL, tripped={ONE.address, TWO.address, THREE.address})
    assert choose(SHARD, RULES, PREFER, none, idle, 0) == Choice(PRIMARY, FALLBACK)
    last = [choose(SHARD, RULES, ONLY, none, idle, turn) for turn in range(3)]
    assert {one.endpoint for one in last} == {ONE, TWO, THREE}
    assert {one.reason for one in last} == {LAST_LEFT}


def test_a_replica_that_is_too_far_behind_is_not_taken_because_others_are_tripped() -> None:
    behind = known(standby(ONE), standby(TWO, lsn=10))
    tripped = replace(behind, tripped={ONE.address, TWO.address})
    assert choose(SHARD, RULES, ONLY, tripped, idle, 0).endpoint is ONE
