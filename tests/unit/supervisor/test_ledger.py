"""Permits among workers: who gets them, who must give, and what a death leaves behind."""

from __future__ import annotations

from gateway.pool.permits import UNLIMITED, PoolKey
from gateway.supervisor.ledger import PATIENCE_S, Grant, Ledger, Limit

KEY: PoolKey = (("db", 5432, "law"), "app")
A, B, C = 1, 2, 3


def ledger(maximum: int, *workers: int) -> Ledger:
    made = Ledger(len(workers))
    made.set_bounds({KEY: maximum}, 0)
    for worker in workers:
        made.join(worker, {}, 0)
    return made


def grants(orders: object) -> dict[int, int]:
    assert isinstance(orders, list)
    return {one.worker: one.count for one in orders if isinstance(one, Grant)}


def limits(orders: object) -> dict[int, Limit]:
    assert isinstance(orders, list)
    return {one.worker: one for one in orders if isinstance(one, Limit)}


def test_one_worker_with_all_the_clients_gets_all_permits() -> None:
    book = ledger(5, A, B)
    assert grants(book.want(A, KEY, 60, 0)) == {A: 5}
    assert book.free(KEY) == 0


def test_who_has_less_than_its_share_gets_it_from_who_has_more() -> None:
    book = ledger(5, A, B)
    book.want(A, KEY, 60, 0)
    orders = book.want(B, KEY, 10, 1)
    assert not grants(orders)
    assert limits(orders)[A].ceiling == 3
    assert limits(orders)[A].lend == 10
    assert grants(book.back(A, KEY, 1, 1)) == {B: 1}
    orders = book.back(A, KEY, 1, 1)
    assert grants(orders) == {B: 1}
    assert limits(orders)[A].ceiling == UNLIMITED, "B has its share"
    assert book.taken(KEY) == 5


def test_beyond_its_share_a_worker_is_only_asked_for_what_is_idle() -> None:
    book = ledger(4, A, B)
    book.want(A, KEY, 2, 0)
    book.want(B, KEY, 2, 0)
    orders = limits(book.want(B, KEY, 3, 0))
    assert (orders[A].ceiling, orders[A].share, orders[A].lend) == (UNLIMITED, 2, 3)
    assert B not in orders, "nothing has changed for it"


def test_free_permits_go_to_who_has_least() -> None:
    book = ledger(6, A, B, C)
    book.want(A, KEY, 6, 0)
    book.want(B, KEY, 6, 1)
    book.want(C, KEY, 1, 2)
    assert grants(book.back(A, KEY, 3, 3)) == {B: 2, C: 1}


def test_a_bound_smaller_than_the_number_of_workers_goes_round() -> None:
    book = ledger(1, A, B)
    book.want(A, KEY, 5, 0)
    assert limits(book.want(B, KEY, 5, 0))[A].ceiling == UNLIMITED
    assert limits(book.balance(PATIENCE_S))[A].ceiling == 0
    assert grants(book.back(A, KEY, 1, 0.3)) == {B: 1}
    assert not grants(book.want(A, KEY, 5, 0.3))
    assert limits(book.balance(0.3 + PATIENCE_S))[B].ceiling == 0


def test_a_lowered_bound_is_met_by_who_has_most() -> None:
    book = ledger(6, A, B)
    book.want(A, KEY, 4, 0)
    book.want(B, KEY, 2, 0)
    orders = limits(book.set_bounds({KEY: 3}, 1))
    assert orders[A].ceiling == 1
    assert orders[B].ceiling == UNLIMITED
    assert not grants(book.back(A, KEY, 2, 2))
    assert not grants(book.want(A, KEY, 5, 2)), "still one too many"
    assert not grants(book.back(A, KEY, 1, 2)), "exactly as many as may be"
    assert book.taken(KEY) == 3


def test_a_raised_bound_is_granted_at_once() -> None:
    book = ledger(2, A, B)
    book.want(A, KEY, 6, 0)
    assert grants(book.set_bounds({KEY: 5}, 1)) == {A: 3}


def test_a_dead_workers_permits_stay_out_of_use_until_somebody_has_looked() -> None:
    book = ledger(5, A, B)
    book.want(A, KEY, 3, 0)
    left, orders = book.leave(A, 1)
    assert left == {KEY: 3}
    assert not orders
    assert grants(book.want(B, KEY, 5, 1)) == {B: 2}
    assert not book.quarantine(KEY)
    assert grants(book.confirm_gone(KEY, 2, 2)) == {B: 2}
    assert grants(book.confirm_gone(KEY, 1, 2)) == {B: 1}
    assert book.quarantined == 0


def test_to_look_takes_a_free_permit() -> None:
    book = ledger(5, A, B)
    book.want(A, KEY, 3, 0)
    book.leave(A, 1)
    assert book.quarantine(KEY)
    assert book.free(KEY) == 1


def test_an_adopted_worker_keeps_what_it_holds() -> None:
    book = Ledger(2)
    book.granting = False
    book.set_bounds({KEY: 5}, 0)
    book.join(A, {KEY: 4}, 0)
    assert not book.want(B, KEY, 5, 0), "it has not joined"
    book.join(B, {}, 0)
    assert not book.want(B, KEY, 5, 0), "others may hold more"
    book.granting = True
    orders = book.balance(0)
    assert grants(orders) == {B: 1}
    assert limits(orders)[A].ceiling == 3


def test_messages_of_a_worker_that_has_left_mean_nothing() -> None:
    book = ledger(5, A, B)
    book.want(A, KEY, 5, 0)
    book.leave(A, 1)
    assert not book.back(A, KEY, 5, 2)
    assert not book.want(A, KEY, 5, 2)
    assert book.taken(KEY) == 5


def test_a_worker_that_leaves_has_nothing_by_right() -> None:
    book = ledger(4, A, B)
    book.want(A, KEY, 2, 0)
    book.want(B, KEY, 2, 0)
    book.join(C, {}, 1)
    assert not limits(book.want(C, KEY, 2, 1)).get(A) or book.free(KEY) == 0
    orders = book.retire(A, 2)
    assert limits(orders)[A].ceiling == 0
    assert limits(orders)[A].share == 0
    assert B not in limits(orders) or limits(orders)[B].ceiling == UNLIMITED
    assert grants(book.back(A, KEY, 1, 3)) == {C: 1}


def test_a_worker_that_leaves_still_gets_one_for_what_it_has_to_end() -> None:
    book = ledger(2, A, B)
    book.want(B, KEY, 2, 0)
    book.retire(A, 0)
    book.want(A, KEY, 1, 0)
    orders = book.balance(PATIENCE_S)
    assert limits(orders)[B].ceiling == 1
    assert grants(book.back(B, KEY, 1, 1)) == {A: 1}
