"""When connects to a server that can't be reached are tried."""

from __future__ import annotations

from gateway.pool.breaker import JITTER, Breaker, State


def test_one_is_tried_at_a_time_after_a_failure_and_all_after_a_success() -> None:
    breaker = Breaker(1.0, 4.0)
    assert breaker.allows(5, 3, 0.0) == 5
    breaker.failed(0.0, 1.0)
    assert (breaker.state, breaker.allows(5, 0, 1.0)) == (State.OPEN, 0)
    assert breaker.allows(5, 0, 3.0) == 1
    assert breaker.state is State.HALF_OPEN
    assert breaker.allows(5, 1, 3.0) == 0, "the trial is under way"
    breaker.succeeded()
    assert (breaker.state, breaker.allows(5, 1, 3.0)) == (State.CLOSED, 5)
    assert breaker.trips == 1


def test_pauses_double_up_to_the_longest_and_begin_anew() -> None:
    breaker, now = Breaker(1.0, 4.0), 0.0
    for pause in (1.0, 2.0, 4.0, 4.0, 4.0):
        breaker.failed(now, now)
        assert breaker.rests(now + pause * (1 - JITTER) * 0.99)
        now += pause * (1 + JITTER)
        assert not breaker.rests(now)
        assert breaker.allows(1, 0, now) == 1
    breaker.succeeded()
    breaker.failed(now, now)
    assert not breaker.rests(now + 1.0 + JITTER)
    assert breaker.trips == 2


def test_connects_begun_before_the_first_failure_are_one_failure_with_it() -> None:
    breaker = Breaker(1.0, 4.0)
    for now in (5.0, 5.1, 5.2):
        breaker.failed(0.0, now)
    assert not breaker.rests(5.0 + 1.0 + JITTER), "it has not doubled"
    assert breaker.allows(1, 0, 7.0) == 1
    breaker.failed(0.0, 7.5)
    assert breaker.state is State.HALF_OPEN, "the trial decides"


def test_a_trial_for_which_there_was_no_leave_is_made_later() -> None:
    breaker = Breaker(1.0, 4.0)
    breaker.failed(0.0, 0.0)
    assert breaker.allows(1, 0, 2.0) == 1
    assert breaker.allows(1, 0, 2.5) == 1
    assert breaker.allows(0, 0, 3.0) == 0
