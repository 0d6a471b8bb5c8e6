"""Clients counted by several workers at once: as if there were one counter, whatever happens."""

from __future__ import annotations

import os
from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.pool.seats import SLOTS, Seats, key_of, new_seats

WORKERS = 3
NAMES = [f'owner "{number}"' for number in range(8)]

steps = st.lists(
    st.tuples(
        st.sampled_from(["take", "give", "die"]),
        st.integers(1, WORKERS),
        st.sampled_from(NAMES),
    ),
    max_size=60,
)


@settings(max_examples=60, deadline=None)
@given(steps=steps)
def test_all_workers_see_one_count(steps: list[tuple[str, int, str]]) -> None:
    descriptor = new_seats(WORKERS + 1)
    try:
        workers = {row: Seats.shared(descriptor, row) for row in range(1, WORKERS + 1)}
        supervisor = Seats.shared(descriptor, 0)
    finally:
        os.close(descriptor)
    model = {row: Counter[str]() for row in workers}
    for what, row, name in steps:
        if what == "take":
            model[row][name] += 1
            assert workers[row].take(key_of(name)) == sum(one[name] for one in model.values())
        elif what == "give":
            model[row][name] = max(0, model[row][name] - 1)
            workers[row].give(key_of(name))
        else:
            model[row].clear()
            supervisor.empty(row)
        for each in NAMES:
            total = sum(one[each] for one in model.values())
            assert {one.total(key_of(each)) for one in (*workers.values(), supervisor)} == {total}


def test_places_of_names_that_nobody_has_are_used_again() -> None:
    """Many more owners come and go than there are places."""
    seats = Seats.private()
    for number in range(SLOTS + 10_000):
        seats.take(key_of(name := f"owner {number}"))
        seats.give(key_of(name))
    assert seats.take(key_of("owner 7")) == 1
