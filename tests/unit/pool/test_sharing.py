"""Who follows whom on a server, and who pays for it."""

from __future__ import annotations

from gateway.pool.core import PoolCore, ServerState
from gateway.pool.fairness import Tenant
from gateway.router.statement import Timing

ONE, OTHER = Tenant("one"), Tenant("other")


def busy(*waiting: tuple[str, Tenant]) -> PoolCore:
    """One server, had by somebody, and who waits for it."""
    core = PoolCore(0, 1, 100)
    core.opening = 1
    core.opened("server")
    for waiter, tenant in waiting:
        core.enqueue(waiter, 0.0, tenant)
    return core


def ride(core: PoolCore, now: float, suits: str = "abcd") -> tuple[str, float] | None:
    """Who follows, if he suits, as `Sharing` does it; and since when he waited."""
    first = core.first(now)
    return None if first is None or first not in suits else (first, core.ride("server", first, now))


def test_who_follows_is_who_would_be_served_next() -> None:
    core = busy(("a", ONE), ("b", ONE), ("c", OTHER))
    served = [core.settle("server", ServerState.BUSY, 1.0)]
    while ridden := ride(core, 1.0):
        served.append(ridden)
    alone = busy(("a", ONE), ("b", ONE), ("c", OTHER))
    one_by_one = [alone.settle("server", ServerState.BUSY, 1.0) for _ in range(3)]
    assert served == one_by_one
    assert core.in_use == 3


def test_nobody_is_overtaken_by_who_may_share() -> None:
    core = busy(("a", ONE), ("b", ONE), ("c", ONE))
    assert core.settle("server", ServerState.BUSY, 1.0) == ("a", 0.0)
    assert ride(core, 1.0, suits="c") is None
    assert list(core.queue) == ["b", "c"]
    assert ride(core, 1.0, suits="b") == ("b", 0.0)


def test_each_pays_for_his_own_turn() -> None:
    core = busy(("a", ONE), ("b", OTHER), ("c", ONE), ("d", OTHER))
    core.settle("server", ServerState.BUSY, 0.0)
    assert ride(core, 0.0) == ("b", 0.0)
    core.pass_on("server", 9.0)  # a took nine seconds, which b waited for
    assert core.tenant("server") is OTHER
    assert core.settle("server", ServerState.BUSY, 9.1) == ("d", 0.0), "one has used far more"


def test_a_server_that_goes_with_a_line_leaves_nothing_behind() -> None:
    core = busy(("a", ONE), ("b", Tenant("other", bounds=(("b", 1),))))
    core.settle("server", ServerState.BUSY, 0.0)
    assert ride(core, 0.0) is not None
    assert core.gone("server", 1.0)
    assert core.in_use == 0
    core.opening = 1
    core.opened("next")
    core.enqueue("c", 1.0, Tenant("other", bounds=(("b", 1),)))
    assert core.settle("next", ServerState.BUSY, 1.0) == ("c", 1.0), "the bound is free again"


def test_a_reserve_for_operators_that_is_given_up_bounds_nobody_any_more() -> None:
    core = busy(("a", ONE), ("b", ONE))
    core.reserve = 1
    core.reserve = 0
    assert core.settle("server", ServerState.BUSY, 0.0) == ("a", 0.0)
    assert ride(core, 0.0) == ("b", 0.0)


def test_a_fingerprint_is_short_when_it_was_so_several_times() -> None:
    timing = Timing()
    for _ in range(2):
        timing.took(0.001)
    assert not timing.shorter_than(0.002)
    timing.took(0.001)
    assert timing.shorter_than(0.002)
    timing.took(1.0)
    assert not timing.shorter_than(0.002)
