"""Whatever happens, a breaker lets nobody storm a server that fails, and never gives it up."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from gateway.pool.breaker import JITTER, Breaker, State

MIN_S, MAX_S = 0.05, 0.5


class Connecting(RuleBasedStateMachine):
    """A pool that wants connects, and a server that answers them as it likes."""

    def __init__(self) -> None:
        super().__init__()
        self.breaker = Breaker(MIN_S, MAX_S)
        self.now = 100.0
        self.under_way: list[float] = []
        self.failed_at: float | None = None
        """When the last failure that counts was; None after a success."""

    @rule(seconds=st.floats(0.0, 1.0))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule(wanted=st.integers(0, 5))
    def connects_are_wanted(self, wanted: int) -> None:
        allowed = self.breaker.allows(wanted, len(self.under_way), self.now)
        assert 0 <= allowed <= wanted
        if self.failed_at is None:
            assert allowed == wanted
        elif allowed:
            assert (allowed, len(self.under_way)) == (1, 0)
            assert self.now >= self.failed_at + MIN_S * (1 - JITTER)
        self.under_way += [self.now] * allowed

    @rule(data=st.data(), works=st.booleans())
    def one_ends(self, data: st.DataObject, works: bool) -> None:
        if not self.under_way:
            return
        began = self.under_way.pop(data.draw(st.integers(0, len(self.under_way) - 1)))
        if works:
            self.breaker.succeeded()
            self.failed_at = None
            return
        self.breaker.failed(began, self.now)
        if self.failed_at is None or began > self.failed_at:
            self.failed_at = self.now

    @invariant()
    def it_is_closed_unless_the_last_news_is_a_failure(self) -> None:
        assert self.breaker.tripped is (self.failed_at is not None)
        assert (self.breaker.state is State.CLOSED) is not self.breaker.tripped

    @invariant()
    def nothing_is_given_up(self) -> None:
        assert not self.breaker.rests(self.now + MAX_S * (1 + JITTER))


Connecting.TestCase.settings = settings(max_examples=100, deadline=None)
TestConnecting = Connecting.TestCase
