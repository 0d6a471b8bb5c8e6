"""The table of bursts: who is in it, and who makes room."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.session.rates import PLACES, Rates


def test_who_was_never_seen_owes_nothing() -> None:
    assert Rates.private().owed_s(7, 1000.0) == 0.0


def test_what_is_owed_adds_up_and_passes() -> None:
    rates = Rates.private()
    rates.spend(7, 2.0, 1000.0)
    rates.spend(7, 1.5, 1001.0)
    assert rates.owed_s(7, 1001.0) == 2.5
    assert rates.owed_s(7, 1003.5) == 0.0
    rates.spend(7, 1.0, 2000.0)
    assert rates.owed_s(7, 2000.0) == 1.0, "nothing is saved beyond the burst"


def test_names_that_want_the_same_place_have_one_each() -> None:
    rates = Rates.private()
    keys = [7 + number * PLACES for number in range(20)]
    for number, key in enumerate(keys):
        rates.spend(key, 1.0 + number, 1000.0)
    assert [rates.owed_s(key, 1000.0) for key in keys] == [1.0 + number for number in range(20)]


def test_a_place_is_had_again_when_its_burst_is_whole() -> None:
    """Far more names than places, one after the other, and none that owes is forgotten."""
    rates = Rates.private()
    rates.spend(7, 1e6, 0.0)
    for number in range(1, 1000):
        rates.spend(7 + number * PLACES, 0.5, float(number))
        assert rates.owed_s(7 + number * PLACES, float(number)) == 0.5
    assert rates.owed_s(7, 1000.0) == 1e6 - 1000


def test_where_all_places_are_taken_somebody_has_his_burst_again() -> None:
    rates = Rates.private()
    for number in range(100):
        rates.spend(7 + number * PLACES, 5.0, 1000.0)
    assert rates.owed_s(7 + 99 * PLACES, 1000.0) == 5.0


@given(
    st.lists(
        st.tuples(st.integers(1, 5), st.integers(1, 50), st.integers(0, 30)),
        min_size=1,
        max_size=60,
    )
)
def test_the_table_counts_as_a_dictionary_does(spent: list[tuple[int, int, int]]) -> None:
    rates, whole_at, now = Rates.private(), dict[int, int](), 1000
    for key, seconds, passed in spent:
        now += passed
        rates.spend(key, seconds, now)
        whole_at[key] = max(whole_at.get(key, 0), now) + seconds
        for each, at in whole_at.items():
            assert rates.owed_s(each, now) == max(0, at - now)
