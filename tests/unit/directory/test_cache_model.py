"""The cache against a model of it that is too simple to be wrong, in any order of events."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from gateway.directory.cache import SingleFlightCache
from gateway.errors import DirectoryUnavailable
from tests.unit.directory.fakes import FakeClock, settle

TTL_S, NEGATIVE_TTL_S, OUTAGE_TTL_S, RETRY_S = 10.0, 2.0, 50.0, 1.0
KEYS = st.sampled_from(["a", "b"])
DOWN = "down"
ANSWERS = st.sampled_from(["1", "2", None, DOWN])


@dataclass
class Known:
    """A positive answer of the model."""

    value: str
    fresh_until: float
    kept_until: float


@dataclass
class Load:
    """A load the machine holds open, and those that wait for it."""

    key: str
    future: asyncio.Future[str | None]
    overtaken: bool = False
    waiters: list[asyncio.Task[str | None]] = field(default_factory=list)


class CacheMachine(RuleBasedStateMachine):
    """``self.known`` and ``self.unknown_until`` are the whole model."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.clock = FakeClock()
        self.begun: list[Load] = []
        self.loads: list[Load] = []
        self.known: dict[str, Known] = {}
        self.unknown_until: dict[str, float] = {}
        self.cache: SingleFlightCache[str, str] = SingleFlightCache(
            self.load,
            self.clock,
            entries_max=10,
            ttl_s=lambda: TTL_S,
            negative_ttl_s=NEGATIVE_TTL_S,
            outage_ttl_s=OUTAGE_TTL_S,
            outage_retry_s=RETRY_S,
            jitter=0.0,
        )

    def teardown(self) -> None:
        self.loop.run_until_complete(self.cache.close())
        self.run_a_little()
        for load in self.loads:
            for waiter in load.waiters:
                self.check_outcome(waiter, load.key, DOWN)
        self.loop.close()

    async def load(self, key: str) -> str | None:
        load = Load(key, self.loop.create_future())
        self.begun.append(load)
        return await load.future

    def run_a_little(self) -> None:
        self.loop.run_until_complete(settle())

    def fresh(self, key: str) -> str | None:
        known = self.known.get(key)
        return known.value if known and self.clock.now < known.fresh_until else None

    def kept(self, key: str) -> str | None:
        known = self.known.get(key)
        return known.value if known and self.clock.now < known.kept_until else None

    # -- events

    @rule(key=KEYS)
    def get(self, key: str) -> None:
        task = self.loop.create_task(self.cache.get(key))
        self.run_a_little()
        if self.fresh(key) is not None:
            assert task.result() == self.fresh(key)
        elif self.clock.now < self.unknown_until.get(key, 0):
            assert task.result() is None
        else:
            assert not task.done()
            self.join(key, task)
        assert not self.begun, "a load nobody asked for"

    def join(self, key: str, task: asyncio.Task[str | None]) -> None:
        open_loads = [load for load in self.loads if load.key == key and not load.overtaken]
        if not open_loads:
            open_loads = [self.begun.pop()]
            assert open_loads[0].key == key
            self.loads += open_loads
        (load,) = open_loads
        load.waiters.append(task)

    @rule(data=st.data())
    def waiter_leaves(self, data: st.DataObject) -> None:
        waiting = [load for load in self.loads if load.waiters]
        if waiting:
            data.draw(st.sampled_from(waiting)).waiters.pop().cancel()
            self.run_a_little()

    @rule(data=st.data(), answer=ANSWERS)
    def load_ends(self, data: st.DataObject, answer: str | None) -> None:
        if not self.loads:
            return
        load = data.draw(st.sampled_from(self.loads))
        self.loads.remove(load)
        if answer == DOWN:
            load.future.set_exception(DirectoryUnavailable("down"))
        else:
            load.future.set_result(answer)
        self.run_a_little()
        if not load.overtaken:
            self.learn(load.key, answer)
        for waiter in load.waiters:
            self.check_outcome(waiter, load.key, answer)

    def learn(self, key: str, answer: str | None) -> None:
        now = self.clock.now
        if answer == DOWN:
            if self.kept(key) is not None:
                self.known[key].fresh_until = min(self.known[key].kept_until, now + RETRY_S)
        elif answer is None:
            self.known.pop(key, None)
            self.unknown_until[key] = now + NEGATIVE_TTL_S
        else:
            self.unknown_until.pop(key, None)
            self.known[key] = Known(answer, now + TTL_S, now + TTL_S + OUTAGE_TTL_S)

    def check_outcome(self, waiter: asyncio.Task[str | None], key: str, answer: str | None) -> None:
        if answer != DOWN:
            assert waiter.result() == answer
        elif self.kept(key) is not None:
            assert waiter.result() == self.kept(key)
        else:
            assert isinstance(waiter.exception(), DirectoryUnavailable)

    @rule(key=KEYS)
    def invalidate(self, key: str) -> None:
        self.cache.invalidate(key)
        self.known.pop(key, None)
        self.unknown_until.pop(key, None)
        self.overtake(lambda load: load.key == key)

    @rule()
    def invalidate_all(self) -> None:
        self.cache.invalidate_all()
        self.known.clear()
        self.unknown_until.clear()
        self.overtake(lambda load: True)

    @rule()
    def expire_all(self) -> None:
        self.cache.expire_all()
        for known in self.known.values():
            known.fresh_until = self.clock.now
        self.unknown_until.clear()
        self.overtake(lambda load: True)

    def overtake(self, which: Callable[[Load], bool]) -> None:
        for load in self.loads:
            load.overtaken = load.overtaken or which(load)

    @rule(seconds=st.sampled_from([0.5, 1.0, 2.0, 9.0, 49.0]))
    def time_passes(self, seconds: float) -> None:
        self.clock.now += seconds

    # -- what is visible at any time

    @invariant()
    def peek_and_stale_agree_with_the_model(self) -> None:
        for key in ("a", "b"):
            assert self.cache.peek(key) == self.fresh(key)
            assert self.cache.stale(key) == self.kept(key)

    @invariant()
    def loads_agree_with_the_model(self) -> None:
        assert self.cache.loading == len(self.loads)


TestCacheModel = CacheMachine.TestCase
TestCacheModel.settings = settings(max_examples=100, stateful_step_count=50, deadline=None)
