"""What the looks at a primary prove of the time and place of its writes."""

from __future__ import annotations

import pytest

from gateway.router.positions import ENTRIES_MAX, EndpointStatus, PrimaryLog


def log(*looks: tuple[float, int]) -> PrimaryLog:
    made = PrimaryLog(1, 7)
    for start, lsn in looks:
        made.note(start, lsn)
    return made


def status(lsn: int | None, timeline: int | None = 1, system_id: int | None = 7) -> EndpointStatus:
    return EndpointStatus(
        ("db", 1, "law"), 0.0, 1.0, True, lsn=lsn, timeline=timeline, system_id=system_id
    )


def test_only_a_look_that_began_after_the_mark_bounds_the_write() -> None:
    seen = log((10.0, 100), (20.0, 200), (30.0, 300))
    assert [seen.first_after(mark) for mark in (0.0, 9.9, 10.0, 19.9, 20.0, 29.9)] == [
        *(100, 100, 200, 200, 300, 300)
    ]
    assert (seen.first_after(30.0), seen.first_after(99.0)) == (None, None)


def test_of_equal_looks_the_later_one_counts() -> None:
    seen = log((10.0, 100), (20.0, 100), (30.0, 100))
    assert (seen.first_after(25.0), seen.behind_s(100), seen.last_start) == (100, 0.0, 30.0)


def test_lag_is_the_age_of_the_newest_look_that_is_replayed() -> None:
    seen = log((10.0, 100), (20.0, 200), (30.0, 300))
    assert [seen.behind_s(lsn) for lsn in (99, 100, 199, 200, 300, 999)] == [
        *(None, 20.0, 20.0, 10.0, 0.0, 0.0)
    ]


@pytest.mark.parametrize(("seconds", "lsn"), [(0, 300), (9, 300), (10, 200), (15, 200), (99, 100)])
def test_the_least_position_within_a_time(seconds: float, lsn: int) -> None:
    seen = log((10.0, 100), (20.0, 200), (30.0, 300))
    assert seen.within(seconds) == lsn
    behind_s = seen.behind_s(lsn)
    assert behind_s is not None
    assert behind_s <= max(seconds, 20)


def test_what_goes_on_and_what_begins_anew() -> None:
    seen = log((10.0, 100))
    assert seen.continues(status(100))
    assert seen.continues(status(101))
    assert not seen.continues(status(99))
    assert not seen.continues(status(200, timeline=2))
    assert not seen.continues(status(200, system_id=8))


def test_memory_is_bounded_and_thinner_for_what_is_older() -> None:
    seen = log(*((float(number), number) for number in range(10_000)))
    remembered = {seen.first_after(mark) for mark in range(-1, 9_999)}
    assert len(remembered) <= ENTRIES_MAX
    assert {0, 9_999, 9_998, 9_950} <= remembered
    for mark in range(-1, 9_999):
        after = seen.first_after(mark)
        assert after is not None
        assert after > mark
