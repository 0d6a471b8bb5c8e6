"""A bound that the queues of several workers share."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.pool.core import PoolCore
from gateway.pool.fairness import FairQueue, Tenant, Turn
from gateway.pool.seats import Seats, SharedBound, key_of, new_seats

WORKERS = 2


class Worker:
    """Takes turns as a pool does that always has an idle server."""

    def __init__(self, seats: Seats) -> None:
        self.fair = FairQueue()
        self.fair.others_of = lambda name: SharedBound(seats, name, WORKERS)
        self.turns: list[Turn] = []
        self.waiting = 0
        self._numbers = iter(range(1_000_000))

    def come(self, tenant: Tenant) -> None:
        turn = self.fair.begin(tenant, 0.0)
        if turn is not None:
            self.turns.append(turn)
            return
        self.fair.add(next(self._numbers), tenant, 0.0, 1000)
        self.waiting += 1
        self.serve()

    def serve(self) -> None:
        while self.fair.ready and (served := self.fair.next(0.0)) is not None:
            self.turns.append(served[2])
            self.waiting -= 1

    def end(self) -> None:
        self.fair.end(self.turns.pop(0), 0.0)
        self.serve()

    def look_again(self) -> None:
        self.fair.look_again()
        self.serve()


@pytest.fixture
def workers() -> Iterator[tuple[Worker, Worker]]:
    first, second = made()
    yield first, second


def made() -> tuple[Worker, Worker]:
    descriptor = new_seats(WORKERS + 1)
    try:
        return Worker(Seats.shared(descriptor, 1)), Worker(Seats.shared(descriptor, 2))
    finally:
        os.close(descriptor)


def bounded(servers: int) -> Tenant:
    return Tenant("7", bounds=(('owner "7"', servers),))


def test_one_worker_may_have_all_while_nobody_waits_elsewhere(
    workers: tuple[Worker, Worker],
) -> None:
    first, second = workers
    for _ in range(5):
        first.come(bounded(4))
    second.come(bounded(4))
    assert (len(first.turns), first.waiting) == (4, 1)
    assert (len(second.turns), second.waiting) == (0, 1)


def test_a_part_goes_to_those_who_wait_elsewhere(workers: tuple[Worker, Worker]) -> None:
    first, second = workers
    for _ in range(20):
        first.come(bounded(4))
    for _ in range(3):
        second.come(bounded(4))
    for _ in range(4):
        first.end()
        second.look_again()
    assert len(first.turns) == len(second.turns) == 2


def test_a_bound_of_one_is_one_and_nobody_starves(workers: tuple[Worker, Worker]) -> None:
    first, second = workers
    for _ in range(10):
        first.come(bounded(1))
        second.come(bounded(1))
    assert len(first.turns) + len(second.turns) == 1
    served = [0, 0]
    for _ in range(8):
        for number, (busy, other) in enumerate(((first, second), (second, first))):
            if busy.turns:
                served[number] += 1
                busy.end()
                other.look_again()
                busy.look_again()
                assert len(first.turns) + len(second.turns) == 1
    assert min(served) >= 3


def test_room_left_elsewhere_is_seen(workers: tuple[Worker, Worker]) -> None:
    first, second = workers
    first.come(bounded(1))
    second.come(bounded(1))
    first.end()
    assert not second.turns
    second.look_again()
    assert len(second.turns) == 1
    assert not second.fair.look_again(), "nobody is kept back any more"


def test_who_gives_up_waiting_holds_nobody_up(workers: tuple[Worker, Worker]) -> None:
    first, second = workers
    first.come(bounded(1))
    second.come(bounded(1))
    second.fair.clear()
    first.end()
    first.come(bounded(1))
    assert len(first.turns) == 1


class Quicker(SharedBound):
    """Of another worker that takes the last one just when we do."""

    __slots__ = ()

    def take(self) -> int:
        return super().take() + 1


def test_of_two_who_take_the_last_at_once_none_has_one_too_many() -> None:
    seats = Seats.private()
    worker = Worker(seats)
    worker.fair.others_of = lambda name: Quicker(seats, name, WORKERS)
    worker.come(bounded(1))
    assert (len(worker.turns), worker.waiting) == (0, 1)
    worker.look_again()
    assert (len(worker.turns), worker.waiting) == (0, 1)
    assert seats.total(key_of('owner "7"')) == 0, "what could not be had is given back"


def test_who_may_not_follow_on_a_server_after_all_goes_on_waiting_and_is_nobody_else() -> None:
    seats = Seats.private()
    core = PoolCore(0, 1, 100)
    core.fair.others_of = lambda name: Quicker(seats, name, WORKERS)
    core.opening = 1
    core.opened("server")
    core.enqueue("bounded", 0.0, bounded(1))
    core.enqueue("free", 0.0, Tenant("8"))
    assert core.first(0.0) == "bounded"
    assert core.ride("server", "bounded", 0.0) == -1
    assert list(core.queue) == ["bounded", "free"]
    assert core.first(0.0) == "free"
    assert core.ride("server", "free", 0.0) == 0
    assert list(core.queue) == ["bounded"]


STEPS = st.lists(
    st.tuples(st.sampled_from(["come", "end", "look", "leave"]), st.integers(0, 1)), max_size=80
)


@given(STEPS, st.integers(1, 5))
def test_never_more_than_the_bound_and_all_are_served(
    steps: list[tuple[str, int]], servers: int
) -> None:
    both = made()
    for what, number in steps:
        one = both[number]
        if what == "come":
            one.come(bounded(servers))
        elif what == "end" and one.turns:
            one.end()
        elif what == "leave" and one.waiting:
            one.fair.clear()
            one.waiting = 0
        elif what == "look":
            one.look_again()
        assert sum(len(each.turns) for each in both) <= servers
    for _ in range(2 * sum(each.waiting + len(each.turns) for each in both)):
        for one in both:
            one.look_again()
            if one.turns:
                one.end()
    assert not any(each.waiting for each in both)
