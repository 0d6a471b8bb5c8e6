"""The pool's decisions, one by one. In any order: tests/property/test_pool_core.py."""

from __future__ import annotations

import pytest

from gateway.errors import PoolExhausted
from gateway.pool.core import PoolCore, ServerState

Core = PoolCore


def pool(*servers: str, maximum: int = 5, minimum: int = 0, queue_max: int = 10) -> Core:
    """A pool with these servers idle."""
    core: Core = PoolCore(minimum, maximum, queue_max)
    for server in servers:
        core.opening += 1
        core.opened(server)
        core.settle(server, ServerState.BUSY)
    return core


def test_the_server_used_last_is_lent_first() -> None:
    core = pool("a", "b")
    assert core.checkout() == "b"
    assert core.checkout() == "a"
    assert core.checkout() is None


def test_the_preferred_server_is_lent_if_it_is_idle() -> None:
    core = pool("a", "b", "c")
    assert core.checkout("b") == "b"
    assert core.checkout("b") == "c"


def test_a_freed_server_goes_to_who_came_first() -> None:
    core = pool("a", maximum=1)
    core.checkout()
    core.enqueue("first", 1.0)
    core.enqueue("second", 2.0)
    assert core.settle("a", ServerState.BUSY) == ("first", 1.0)
    assert core.servers(ServerState.BUSY) == ["a"]
    assert core.settle("a", ServerState.BUSY) == ("second", 2.0)
    assert core.settle("a", ServerState.BUSY) is None
    assert core.servers(ServerState.IDLE) == ["a"]


def test_trap_waiter_leaves_at_handover() -> None:
    """Whoever left before the server came free is not given it, and nothing is lost with them."""
    core = pool("a", maximum=1)
    core.checkout()
    core.enqueue("leaves", 1.0)
    core.enqueue("stays", 2.0)
    assert core.leave("leaves")
    assert core.settle("a", ServerState.BUSY) == ("stays", 2.0)
    assert not core.leave("stays"), "it has the server: it must give it back, not just leave"
    assert core.settle("a", ServerState.BUSY) is None
    assert core.checkout() == "a"


def test_a_full_queue_refuses() -> None:
    core = pool(maximum=1, queue_max=1)
    core.enqueue("a", 1.0)
    with pytest.raises(PoolExhausted) as caught:
        core.enqueue("b", 1.0)
    assert caught.value.sqlstate == "53300"
    assert "pool.queue_max" in caught.value.hint


def test_overdue_are_those_who_came_until_then() -> None:
    core = pool(maximum=1)
    for waiter, since in (("a", 1.0), ("b", 2.0), ("c", 3.0)):
        core.enqueue(waiter, since)
    assert core.overdue(2.0) == ["a", "b"]
    assert core.overdue(2.0) == []
    assert list(core.queue) == ["c"]


@pytest.mark.parametrize(
    ("waiting", "opening", "minimum", "maximum", "wanted"),
    [
        (0, 0, 0, 5, 0),
        (3, 0, 0, 5, 3),
        (3, 2, 0, 5, 1),
        (3, 3, 0, 5, 0),
        (9, 0, 0, 5, 5),
        (9, 4, 0, 5, 1),
        (0, 0, 2, 5, 2),
        (0, 2, 2, 5, 0),
        (1, 0, 2, 5, 2),
    ],
)
def test_connects_wanted(
    waiting: int, opening: int, minimum: int, maximum: int, wanted: int
) -> None:
    core = pool(minimum=minimum, maximum=maximum)
    for number in range(waiting):
        core.enqueue(str(number), 1.0)
    core.opening = opening
    assert core.opens_wanted() == wanted


def test_a_server_being_cleaned_is_not_waited_for_where_there_is_room() -> None:
    """Its client may have left it in the middle of a long statement."""
    core = pool("a", maximum=2)
    core.checkout()
    core.to_cleaning("a")
    core.enqueue("waiter", 1.0)
    assert core.opens_wanted() == 1


def test_closing_and_outside_servers_count_against_the_bound() -> None:
    core = pool("a", maximum=2)
    core.to_closing("a")
    core.outside = 1
    core.enqueue("waiter", 1.0)
    assert core.opens_wanted() == 0
    assert core.gone("a")
    assert core.opens_wanted() == 1


def test_a_lowered_bound_is_met_without_closing_too_many() -> None:
    core = pool("a", "b", "c", "d")
    core.maximum = 2
    assert core.surplus() == 2
    core.to_closing("a")
    core.to_closing("b")
    assert (core.surplus(), core.excess) == (0, 0), "two are going: that is enough"


def test_only_idle_servers_are_surplus() -> None:
    core = pool("a", "b", "c")
    core.checkout()
    core.checkout()
    core.maximum = 1
    assert (core.surplus(), core.excess) == (1, 2)


def test_trap_a_retired_pool_sends_its_waiters_elsewhere_and_opens_nothing() -> None:
    core = pool(minimum=2, maximum=5)
    core.enqueue("a", 1.0)
    core.enqueue("b", 2.0)
    assert core.retire() == ["a", "b"]
    assert not core.queue
    assert core.opens_wanted() == 0


def test_an_order_to_close_what_has_gone_brings_nothing_back() -> None:
    core = pool("a")
    assert core.gone("a")
    core.to_closing("a")
    assert core.total == 0
    assert not core.gone("a")


def test_a_server_moves_only_from_where_it_is() -> None:
    core = pool("a")
    with pytest.raises(KeyError):
        core.to_cleaning("a")
    assert core.servers(ServerState.IDLE) == ["a"]
