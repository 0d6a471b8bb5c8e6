"""Whose turn it is, step by step; scores of whole loads: tests/simulation."""

from __future__ import annotations

import pytest

from gateway.errors import PoolExhausted
from gateway.pool.core import PoolCore, ServerState
from gateway.pool.fairness import CREDIT_S, NOBODY, FairQueue, Tenant, Turn

HEAVY, LIGHT = Tenant("heavy"), Tenant("light")
LONG_S = 2 * CREDIT_S


def queue(*waiters: tuple[str, Tenant]) -> FairQueue:
    fair = FairQueue()
    for waiter, tenant in waiters:
        fair.add(waiter, tenant, 0.0, 100)
    return fair


def serve(fair: FairQueue, now: float = 0.0) -> tuple[str, Turn]:
    served = fair.next(now)
    assert served is not None
    return served[0], served[2]


def order(fair: FairQueue) -> list[str]:
    """Who is served one after the other, each for a second."""
    found, now = [], 0.0
    while (served := fair.next(now)) is not None:
        found.append(served[0])
        now += 1.0
        fair.end(served[2], now)
    return found


def test_an_owners_clients_are_served_as_they_came() -> None:
    fair = queue(*((f"h{number}", HEAVY) for number in range(5)))
    assert order(fair) == ["h0", "h1", "h2", "h3", "h4"]


def test_owners_take_turns_once_their_credit_is_used() -> None:
    fair = queue(*((f"h{n}", HEAVY) for n in range(6)), *((f"l{n}", LIGHT) for n in range(6)))
    served = order(fair)
    assert [one[0] for one in served].count("h") == 6
    for end in range(3, 12):
        part = [one[0] for one in served[:end]]
        assert abs(part.count("h") - part.count("l")) <= 2


def test_who_comes_after_a_flood_is_next_when_that_has_used_its_credit() -> None:
    fair = queue(*((f"h{number}", HEAVY) for number in range(50)))
    now = 0.0
    while now < LONG_S:
        _, turn = serve(fair, now)
        now += 0.5
        fair.end(turn, now)
    fair.add("light", LIGHT, now, 100)
    assert serve(fair, now)[0] == "light"


def test_twice_the_weight_gets_twice_the_time() -> None:
    double = Tenant("double", weight=2.0)
    fair = queue(*((f"d{n}", double) for n in range(60)), *((f"h{n}", HEAVY) for n in range(60)))
    served = order(fair)[:60]
    assert [one[0] for one in served].count("d") == pytest.approx(40, abs=3)


def test_what_a_turn_takes_is_put_right_when_it_ends() -> None:
    """One long statement counts as much as many short ones."""
    fair = queue(("h", HEAVY), *((f"l{number}", LIGHT) for number in range(20)))
    fair.add("h again", HEAVY, 0.0, 100)
    first, turn = serve(fair)
    assert first == "h"
    fair.end(turn, LONG_S + 3.0)
    now, before = LONG_S + 3.0, []
    while (served := serve(fair, now))[0] != "h again":
        before.append(served[0])
        now += 0.2
        fair.end(served[1], now)
    assert len(before) >= 10


def test_what_nobody_waited_for_is_free() -> None:
    core = PoolCore(0, 1, 10)
    core.opening += 1
    core.opened("server")
    core.settle("server", ServerState.BUSY, 0.0)
    core.checkout(None, HEAVY)
    core.settle("server", ServerState.BUSY, 100.0)
    assert core.fair.accounts == 0
    core.checkout(None, HEAVY)
    core.enqueue("light", 300.0, LIGHT)
    core.enqueue("heavy", 301.0, HEAVY)
    core.settle("server", ServerState.BUSY, 301.0)
    (heavy,) = [one for one in core.fair._accounts.values() if one.key == "heavy"]
    assert heavy.finish == pytest.approx(1.0 - CREDIT_S), "the second for which somebody waited"


def test_an_owner_that_owes_nothing_is_forgotten() -> None:
    fair = queue(("h", HEAVY))
    _, turn = serve(fair)
    fair.end(turn, 0.5)
    assert fair.accounts == 1
    fair.rest(0.6, 5)
    fair.rest(1.6, 5)
    assert fair.accounts == 0


def test_nobody_gets_the_last_places_of_a_queue_full_of_his_own_clients() -> None:
    fair = FairQueue()
    for number in range(8):
        fair.add(f"h{number}", HEAVY, 0.0, 10 - number)
    with pytest.raises(PoolExhausted, match='of "heavy" wait'):
        fair.add("h8", HEAVY, 0.0, 2)
    fair.add("light", LIGHT, 0.0, 2)
    with pytest.raises(PoolExhausted, match=r"connection \(9\)"):
        fair.add("nobody", NOBODY, 0.0, 0)


# --- bounds ---


def bound(key: str, *bounds: tuple[str, int]) -> Tenant:
    return Tenant(key, bounds=bounds)


def test_who_holds_all_it_may_waits_and_others_pass() -> None:
    mine = bound("mine", ("owner mine", 1))
    fair = queue(("a", mine), ("b", mine), ("other", LIGHT))
    first, turn = serve(fair)
    assert first == "a"
    assert serve(fair)[0] == "other"
    assert fair.next(0.0) is None
    assert fair.ready == 0
    fair.end(turn, 1.0)
    assert fair.ready == 1
    assert serve(fair)[0] == "b"


def test_trap_a_chance_is_not_lost_with_who_leaves() -> None:
    """Two owners wait for one place of a login's; the one whose turn it is leaves."""
    a, b = bound("a", ("login app", 1)), bound("b", ("login app", 1))
    fair = queue(("first", a), ("stays", a), ("leaves", b))
    _, turn = serve(fair)
    assert fair.next(0.0) is None
    fair.end(turn, 0.1)
    assert fair.leave("leaves"), "it was next, for the other has used something"
    assert fair.leave("leaves") is False
    assert serve(fair)[0] == "stays"


def test_trap_a_chance_is_not_lost_with_who_is_kept_back_by_something_else() -> None:
    app, own = ("login app", 1), ("owner both", 1)
    alone, both, only_app = bound("both", own), bound("both", app, own), bound("other", app)
    fair = queue(("holds own", alone), ("holds app", only_app))
    _, holds_own = serve(fair)
    _, holds_app = serve(fair)
    fair.add("is kept back", both, 0.0, 100)
    fair.add("may go", only_app, 0.0, 100)
    assert fair.next(0.0) is None
    fair.end(holds_app, 1.0)
    assert serve(fair, 1.0)[0] == "may go"
    fair.end(holds_own, 2.0)
    assert fair.next(2.0) is None


def test_a_place_without_waiting_counts_too() -> None:
    mine = bound("mine", ("owner mine", 1))
    fair = FairQueue()
    turn = fair.begin(mine, 0.0)
    assert turn is not None
    assert fair.begin(mine, 0.0) is None
    fair.end(turn, 1.0)
    assert fair.begin(mine, 1.0) is not None


def test_a_bound_that_is_raised_lets_the_next_pass() -> None:
    fair = queue(*((f"w{n}", bound("mine", ("owner mine", 1))) for n in range(3)))
    turn = serve(fair)[1]
    assert fair.next(0.0) is None
    (meter,) = turn.meters
    fair.rebound(meter, 2)
    assert serve(fair)[0] == "w1"
    assert fair.next(0.0) is None


def test_the_reserve_is_for_operators() -> None:
    core = PoolCore(0, 3, 10)
    core.reserve = 1
    for server in "abc":
        core.opening += 1
        core.opened(server)
        core.settle(server, ServerState.BUSY)
    assert core.checkout(None, LIGHT) is not None
    assert core.checkout(None, HEAVY) is not None
    assert core.checkout(None, LIGHT) is None
    core.enqueue("waits", 0.0, LIGHT)
    assert core.opens_wanted() == 0
    assert core.serve_idle(0.0) is None
    assert core.checkout(None, Tenant("admin", operator=True)) == "a"
    core.reserve = 0
    assert core.opens_wanted() == 0
    core.settle("a", ServerState.BUSY, 1.0)
    assert not core.queue


# --- times ---


def test_some_wait_for_another_time_than_the_others() -> None:
    hasty = Tenant("hasty", queue_timeout_s=1.0)
    patient = Tenant("patient", queue_timeout_s=60.0)
    fair = queue(("hasty", hasty), ("patient", patient), ("plain", LIGHT))
    assert fair.expired(10.0, 0.9) == []
    assert fair.expired(10.0, 1.0) == [("hasty", 1.0)]
    assert fair.expired(10.0, 10.0) == [("plain", 10.0)]
    assert fair.expired(10.0, 60.0) == [("patient", 60.0)]
    assert not fair.places
