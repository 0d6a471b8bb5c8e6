"""What one owner can do to the others, in scores of the simulator: docs/fairness.md."""

from __future__ import annotations

import sys
from collections import Counter

import pytest

from gateway.pool.core import PoolCore, ServerState
from gateway.pool.fairness import Tenant
from tests.simulation.simulator import Load, Score, Simulation, always, exponential

STATEMENT_S = 0.010
OWNERS = 50
FLOOD_CLIENTS = 1000
FLOOD = "flood"
LIGHT = [f"light {number}" for number in range(OWNERS)]
SECONDS = 20.0


def light(servers: int, load: float, one_line: bool = False) -> list[Load]:
    """Owners that together keep a part of the servers busy, at random times."""
    every_s = OWNERS * STATEMENT_S / (load * servers)
    return [
        Load(
            Tenant("" if one_line else owner),
            1,
            exponential(STATEMENT_S),
            exponential(every_s),
            open=True,
            name=owner,
        )
        for owner in LIGHT
    ]


def flood(statement_s: float = STATEMENT_S, **tenant: object) -> Load:
    """Clients of one owner, each of which asks again at once."""
    owner = Tenant(**{"key": FLOOD, **tenant})  # type: ignore[arg-type]
    return Load(owner, FLOOD_CLIENTS, exponential(statement_s), always(0.0), name=FLOOD)


def score(servers: int, *loads: Load, seconds: float = SECONDS) -> Score:
    return Simulation(servers, list(loads)).run(seconds)


@pytest.mark.parametrize(("servers", "load"), [(5, 0.7), (5, 0.85), (20, 0.85)])
def test_a_flood_of_one_owner_at_most_doubles_what_the_others_wait(
    servers: int, load: float
) -> None:
    calm = score(servers, *light(servers, load))
    flooded = score(servers, *light(servers, load), flood())
    before, after = calm.wait_p(0.99, *LIGHT), flooded.wait_p(0.99, *LIGHT)
    print(f"{servers} servers, load {load}: p99 {before * 1000:.1f} -> {after * 1000:.1f} ms")
    assert after <= 2 * before
    assert flooded.served_s[FLOOD] > 0.9 * (1 - load) * servers * (SECONDS - 1), "none lies idle"
    assert not flooded.refused


def test_in_one_line_the_same_flood_makes_them_wait_for_all_of_it() -> None:
    """What the test before would say without fairness: first come, first served."""
    one_line = Load(Tenant(), FLOOD_CLIENTS, exponential(STATEMENT_S), always(0.0), name=FLOOD)
    calm = score(5, *light(5, 0.7))
    flooded = score(5, *light(5, 0.7, one_line=True), one_line)
    assert flooded.wait_p(0.5, *LIGHT) > 20 * calm.wait_p(0.99, *LIGHT)


@pytest.mark.parametrize("load", [0.1, 0.3, 0.5])
def test_who_seldom_waits_waits_for_two_statements_of_the_flood_at_most(load: float) -> None:
    flooded = score(5, *light(5, load), flood())
    assert flooded.wait_p(0.99, *LIGHT) <= 2 * STATEMENT_S
    assert flooded.wait_p(0.5, *LIGHT) <= 0.5 * STATEMENT_S


def test_a_bound_on_an_owners_servers_keeps_long_statements_out_of_the_others_way() -> None:
    long_s = 10 * STATEMENT_S
    free = score(5, *light(5, 0.5), flood(long_s))
    bounded = score(5, *light(5, 0.5), flood(long_s, bounds=(("owner flood", 1),)))
    waits = [one.wait_p(0.99, *LIGHT) for one in (free, bounded)]
    print(f"statements of 100 ms: p99 {waits[0] * 1000:.1f} ms, {waits[1] * 1000:.1f} bounded to 1")
    assert waits[1] <= 3 * STATEMENT_S < 5 * STATEMENT_S <= waits[0]
    assert bounded.served_s[FLOOD] <= SECONDS


def test_server_time_is_shared_by_weight_whatever_the_statements_take() -> None:
    loads = [
        Load(Tenant("short", 1.0), 50, exponential(0.002), always(0.0)),
        Load(Tenant("long", 1.0), 50, exponential(0.050), always(0.0)),
        Load(Tenant("triple", 3.0), 50, exponential(0.010), always(0.0)),
    ]
    served = score(4, *loads).served_s
    whole = sum(served.values())
    assert served["short"] / whole == pytest.approx(0.2, abs=0.02)
    assert served["long"] / whole == pytest.approx(0.2, abs=0.02)
    assert served["triple"] / whole == pytest.approx(0.6, abs=0.02)


def test_a_flood_does_not_lock_others_out_of_a_bounded_queue() -> None:
    simulation = Simulation(5, [*light(5, 0.5), flood()], queue_max=200)
    told = simulation.run(SECONDS)
    assert told.refused_of[FLOOD] > 0
    assert not any(told.refused_of[owner] for owner in LIGHT)


def test_two_owners_share_a_login_that_may_hold_little() -> None:
    """A bound that several owners have in common is fair between them, too."""
    bounds = (("login app", 2),)
    heavy = Load(Tenant("heavy", bounds=bounds), 100, exponential(0.01), always(0.0))
    calm = Load(Tenant("calm", bounds=bounds), 1, exponential(0.01), always(0.0))
    told = score(5, heavy, calm)
    assert told.served_s["calm"] > 0.3 * told.served_s["heavy"]
    assert told.wait_p(0.99, "calm") < 0.03
    assert told.served_s["heavy"] + told.served_s["calm"] < 2.05 * (SECONDS - 1)


def test_what_is_known_of_idle_owners_is_forgotten() -> None:
    """Thousands of owners pass by while a flood keeps everybody waiting."""
    passing = [
        Load(Tenant(f"owner {n}"), 1, exponential(0.01), exponential(20.0), open=True, name="many")
        for n in range(5000)
    ]
    simulation = Simulation(5, [*passing, flood()])
    told = simulation.run(40.0)
    assert len(told.waits["many"]) > 5000
    assert told.accounts_max < 1500
    simulation.core.fair.clear()
    simulation.core.fair.rest(10_000.0, 5)
    assert simulation.core.fair.accounts <= 6, "those whom a server works for"


def _calls_of_a_decision(owners: int) -> float:
    """How many functions one release with its hand-over calls while so many owners wait."""
    core = PoolCore(0, 1, owners * 2)
    core.opening += 1
    core.opened(0)
    core.settle(0, ServerState.BUSY)
    core.checkout(None, Tenant("first"))
    tenants = [Tenant(f"owner {number}") for number in range(owners)]
    for number, tenant in enumerate(tenants):
        core.enqueue(number, 0.0, tenant)
    turns, calls = 300, Counter[str]()

    def work() -> None:
        for turn in range(turns):
            served = core.settle(0, ServerState.BUSY, turn * 0.01)
            assert served is not None
            core.enqueue(served[0], turn * 0.01, tenants[served[0]])

    sys.setprofile(lambda frame, event, what: calls.update([event]))
    try:
        work()
    finally:
        sys.setprofile(None)
    return (calls["call"] + calls["c_call"]) / turns


def test_a_decision_takes_as_many_steps_for_many_owners() -> None:
    """But for those within a heap, which are as many as its height."""
    few, many = _calls_of_a_decision(50), _calls_of_a_decision(50_000)
    print(f"a decision: {few:.1f} calls for 50 owners that wait, {many:.1f} for 50,000")
    assert few > 5
    assert many < 1.5 * few
