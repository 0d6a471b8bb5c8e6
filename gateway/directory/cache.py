"""Answers kept for a while: loaded once however many ask, and never past an invalidation."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Any, Generic, TypeVar, cast

from cachetools import TLRUCache, TTLCache

from gateway.clock import Clock, jittered
from gateway.errors import DirectoryUnavailable

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")
T = TypeVar("T")

UNKNOWN_ENTRIES_MAX = 10_000
"""'No such key' answers kept at most, in a store of their own: a flood pushes no known one out."""


_DROPPED = -1
"""The generation of an answer that the cache holds no more."""


class Flushes:
    """How often all answers of one cache were given up at once."""

    __slots__ = ("generation",)

    def __init__(self) -> None:
        self.generation = 0


class Kept:
    """A positive answer: good until ``fresh_until``, of use in an outage until ``kept_until``.

    Whoever asks for the same key again and again may hold on to it as long as it `is_good`.
    """

    __slots__ = ("_flushes", "fresh_until", "generation", "kept_until", "value")

    def __init__(self, value: Any, fresh_until: float, kept_until: float, flushes: Flushes) -> None:
        self.value = value
        self.fresh_until = fresh_until
        self.kept_until = kept_until
        self.generation = flushes.generation
        self._flushes = flushes

    def is_good(self, now: float) -> bool:
        """Whether it is fresh, and neither invalidated nor replaced, nor forgotten by the cache."""
        return self.generation == self._flushes.generation and self.fresh_until > now

    def drop(self) -> None:
        """The cache holds it no more: news of it would not be heard."""
        self.generation = _DROPPED


class _Store(TLRUCache[K, Kept]):
    """The positive answers; one that has to make room for others is dropped."""

    def popitem(self) -> tuple[K, Kept]:
        key, kept = super().popitem()
        kept.drop()
        return key, kept


class SingleFlightCache(Generic[K, V]):
    """A bounded cache in front of ``load``, which answers None for 'no such key'.

    Gets of one key share one load. The load is a task of its own, so a waiter that gives up
    doesn't take it away from the others. An answer whose load began before an invalidation goes to
    those who waited for it, but is not stored; whoever asks after the invalidation gets a new load.

    ``load`` raises DirectoryUnavailable when it can't know. Then an expired answer serves, up to
    ``outage_ttl_s`` after it expired, and ``load`` is left in peace for ``outage_retry_s``.
    Every ``_s`` is in seconds of ``clock``. ``ttl_s`` is asked anew for each answer.
    """

    __slots__ = (
        "_clock",
        "_closed",
        "_flushes",
        "_jitter",
        "_kept_from",
        "_known",
        "_load",
        "_loads",
        "_loads_max",
        "_negative_ttl_s",
        "_outage_retry_s",
        "_outage_ttl_s",
        "_tasks",
        "_ttl_s",
        "_unknown",
        "failures",
        "hits",
        "invalidations",
        "loads",
        "misses",
        "stale_served",
    )

    def __init__(
        self,
        load: Callable[[K], Awaitable[V | None]],
        clock: Clock,
        *,
        entries_max: int,
        ttl_s: Callable[[], float],
        negative_ttl_s: float,
        outage_ttl_s: float,
        outage_retry_s: float = 1.0,
        loads_max: int = 1000,
        jitter: float = 0.1,
    ) -> None:
        self._load = load
        self._clock = clock
        self._ttl_s = ttl_s
        self._negative_ttl_s = negative_ttl_s
        self._outage_ttl_s = outage_ttl_s
        self._outage_retry_s = outage_retry_s
        self._loads_max = loads_max
        self._jitter = jitter
        self._known: _Store[K] = _Store(
            entries_max, ttu=lambda _key, known, _now: known.kept_until, timer=clock
        )
        self._unknown: TTLCache[K, int] = TTLCache(
            min(entries_max, UNKNOWN_ENTRIES_MAX), ttl=negative_ttl_s, timer=clock
        )
        # Flushing is a step of the generation, whatever the number of entries.
        self._flushes = Flushes()
        self._kept_from = 0
        # Loads that still may store their answer, and all that still run.
        self._loads: dict[K, asyncio.Task[V | None]] = {}
        self._tasks: set[asyncio.Task[V | None]] = set()
        self._closed = False
        self.hits = 0
        self.misses = 0
        self.loads = 0
        self.failures = 0
        self.stale_served = 0
        self.invalidations = 0

    def __len__(self) -> int:
        """Positive answers held, expired ones that only serve in an outage included."""
        return len(self._known)

    @property
    def loading(self) -> int:
        """Loads that run now."""
        return len(self._tasks)

    # -- reading

    def peek(self, key: K) -> V | None:
        """The fresh positive answer, or None. Never waits and never loads."""
        kept = self.peek_kept(key)
        return None if kept is None else cast(V, kept.value)

    def peek_kept(self, key: K) -> Kept | None:
        """The same, as an answer that may be held on to."""
        try:
            known = self._known[key]  # `get` would look twice
        except KeyError:
            return None
        if not known.is_good(self._clock()):
            return None
        self.hits += 1
        return known

    def stale(self, key: K) -> V | None:
        """The positive answer, fresh or expired, that may serve while the source is down."""
        known = self._kept(key)
        return None if known is None else cast(V, known.value)

    async def get(self, key: K) -> V | None:
        """The answer, loaded if need be; None when there is no such key.

        Raises DirectoryUnavailable when it can't be loaded and no kept answer may serve.
        """
        value = self.peek(key)
        if value is not None:
            return value
        if self._unknown.get(key) == self._flushes.generation:
            self.hits += 1
            return None
        self.misses += 1
        try:
            return await _outcome(self._join(key))
        except DirectoryUnavailable:
            value = self.stale(key)
            if value is None:
                raise
            self.stale_served += 1
            return value

    # -- invalidation

    def invalidate(self, key: K) -> None:
        """Forget one key: its answer is known to be outdated, so no outage revives it."""
        self.invalidations += 1
        self._loads.pop(key, None)
        self._forget_known(key)
        self._unknown.pop(key, None)

    def invalidate_all(self) -> None:
        """Forget every key: all answers may be outdated, so no outage revives them."""
        self.expire_all()
        self._kept_from = self._flushes.generation

    def expire_all(self) -> None:
        """Trust no answer any longer, but keep the positive ones for an outage."""
        self.invalidations += 1
        self._flushes.generation += 1
        self._loads.clear()

    async def close(self) -> None:
        """End all loads and begin no more: to who waits or asks, it is an outage without an end."""
        self._closed = True
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # -- loading

    def _join(self, key: K) -> asyncio.Task[V | None]:
        """The load under way for ``key``, or a new one."""
        task = self._loads.get(key)
        if task is not None:
            return task
        if self._closed:
            raise _closed()
        if len(self._tasks) >= self._loads_max:
            self.failures += 1
            raise DirectoryUnavailable(
                "too many look-ups wait for the meta database", hint="Try again later."
            )
        task = asyncio.get_running_loop().create_task(self._run(key))
        self._loads[key] = task
        self._tasks.add(task)
        task.add_done_callback(self._forget)
        return task

    async def _run(self, key: K) -> V | None:
        self.loads += 1
        try:
            value = await self._load(key)
        except DirectoryUnavailable:
            self.failures += 1
            if self._settle(key):
                self._vouch(key)
            raise
        except BaseException:
            self.failures += 1
            self._settle(key)
            raise
        if self._settle(key):
            self._store(key, value)
        return value

    def _settle(self, key: K) -> bool:
        """End the load of the running task; False when an invalidation overtook it."""
        if self._loads.get(key) is not asyncio.current_task():
            return False
        del self._loads[key]
        return True

    def _forget(self, task: asyncio.Task[V | None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # seen: all waiters may have left

    def _store(self, key: K, value: V | None) -> None:
        self._forget_known(key)
        if value is None:
            self._unknown[key] = self._flushes.generation
            return
        self._unknown.pop(key, None)
        fresh_until = self._clock() + jittered(self._ttl_s(), self._jitter)
        kept_until = fresh_until + self._outage_ttl_s
        self._known[key] = Kept(value, fresh_until, kept_until, self._flushes)

    def _forget_known(self, key: K) -> None:
        known = self._known.pop(key, None)
        if known is not None:
            known.drop()

    def _vouch(self, key: K) -> None:
        """The source is down: let a kept answer pass for fresh until the next attempt is due."""
        known = self._kept(key)
        if known is not None:
            known.generation = self._flushes.generation
            known.fresh_until = self._clock() + self._outage_retry_s

    def _kept(self, key: K) -> Kept | None:
        known = self._known.get(key)
        return None if known is None or known.generation < self._kept_from else known


async def _outcome(task: asyncio.Task[T]) -> T:
    """What ``task`` comes to; the caller's cancellation is not the task's."""
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        caller = asyncio.current_task()
        if task.cancelled() and caller is not None and not caller.cancelling():
            raise _closed() from None
        raise


def _closed() -> DirectoryUnavailable:
    return DirectoryUnavailable("the directory is closed")
