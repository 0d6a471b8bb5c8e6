"""The cache: one load for many, answers that age, and invalidations that win every race."""

from __future__ import annotations

import asyncio

import pytest

from gateway.errors import DirectoryUnavailable
from tests.unit.directory.fakes import FakeClock, Source, cache_of, settle


async def test_a_thousand_concurrent_gets_are_one_load() -> None:
    source = Source(a="1")
    cache = cache_of(source, FakeClock())
    source.gate.clear()
    gets = [asyncio.create_task(cache.get("a")) for _ in range(1000)]
    await settle()
    source.gate.set()
    assert await asyncio.gather(*gets) == ["1"] * 1000
    assert source.asked == ["a"]
    assert (cache.loads, cache.misses) == (1, 1000)


async def test_a_failed_load_is_shared_too() -> None:
    source = Source()
    source.down = True
    cache = cache_of(source, FakeClock())
    source.gate.clear()
    gets = [asyncio.create_task(cache.get("a")) for _ in range(50)]
    await settle()
    source.gate.set()
    outcomes = await asyncio.gather(*gets, return_exceptions=True)
    assert all(isinstance(outcome, DirectoryUnavailable) for outcome in outcomes)
    assert (cache.loads, cache.failures) == (1, 1)


async def test_a_cancelled_waiter_leaves_the_load_to_the_others() -> None:
    source = Source(a="1")
    cache = cache_of(source, FakeClock())
    source.gate.clear()
    first, second = (asyncio.create_task(cache.get("a")) for _ in range(2))
    await settle()
    first.cancel()
    await settle()
    assert first.cancelled()
    source.gate.set()
    assert await second == "1"
    assert source.asked == ["a"]


async def test_a_load_that_all_waiters_left_is_still_stored() -> None:
    source = Source(a="1")
    cache = cache_of(source, FakeClock())
    source.gate.clear()
    only = asyncio.create_task(cache.get("a"))
    await settle()
    only.cancel()
    source.gate.set()
    await settle()
    assert cache.peek("a") == "1"
    assert cache.loading == 0


@pytest.mark.parametrize("how", ["invalidate", "invalidate_all", "expire_all"])
async def test_an_answer_that_an_invalidation_overtook_is_not_stored(how: str) -> None:
    source = Source(a="old")
    cache = cache_of(source, FakeClock())
    source.gate.clear()
    before = asyncio.create_task(cache.get("a"))
    await settle()
    source.rows["a"] = "new"
    cache.invalidate("a") if how == "invalidate" else getattr(cache, how)()
    after = asyncio.create_task(cache.get("a"))
    await settle()
    source.gate.set()
    assert await before == "old"
    assert await after == "new"
    assert source.asked == ["a", "a"]
    assert cache.peek("a") == "new"


async def test_the_overtaken_answer_is_not_stored_when_it_comes_last() -> None:
    source = Source(a="old")
    cache = cache_of(source, FakeClock())
    slow_gate = source.gate
    slow_gate.clear()
    before = asyncio.create_task(cache.get("a"))
    await settle()
    cache.invalidate("a")
    source.rows["a"] = "new"
    source.gate = asyncio.Event()
    source.gate.set()
    assert await cache.get("a") == "new"
    slow_gate.set()
    assert await before == "old"
    assert cache.peek("a") == "new"


async def test_an_overtaken_failure_does_not_vouch_for_what_was_kept() -> None:
    source, clock = Source(a="1"), FakeClock()
    cache = cache_of(source, clock)
    await cache.get("a")
    clock.now += 101
    source.down = True
    source.gate.clear()
    get = asyncio.create_task(cache.get("a"))
    await settle()
    cache.expire_all()
    source.gate.set()
    assert await get == "1"
    assert cache.peek("a") is None


async def test_answers_age() -> None:
    source, clock = Source(a="1"), FakeClock()
    cache = cache_of(source, clock)
    assert await cache.get("a") == "1"
    clock.now += 99.9
    assert cache.peek("a") == "1"
    clock.now += 0.1
    assert cache.peek("a") is None
    source.rows["a"] = "2"
    assert await cache.get("a") == "2"


async def test_ages_are_jittered() -> None:
    names = [f"k{n}" for n in range(200)]
    source, clock = Source(**dict.fromkeys(names, "v")), FakeClock()
    cache = cache_of(source, clock, entries_max=1000, jitter=0.1)
    for name in names:
        await cache.get(name)
    clock.now += 89.9
    assert sum(cache.peek(name) is not None for name in names) == 200
    clock.now += 10.1
    assert 50 < sum(cache.peek(name) is not None for name in names) < 150
    clock.now += 10.1
    assert sum(cache.peek(name) is not None for name in names) == 0


async def test_unknown_is_kept_briefly_and_removed_by_an_invalidation() -> None:
    source, clock = Source(), FakeClock()
    cache = cache_of(source, clock)
    assert await cache.get("a") is None
    source.rows["a"] = "1"
    clock.now += 4.9
    assert await cache.get("a") is None
    assert source.asked == ["a"]
    cache.invalidate("a")
    assert await cache.get("a") == "1"

    assert await cache.get("b") is None
    source.rows["b"] = "2"
    clock.now += 5.1
    assert await cache.get("b") == "2"


async def test_trap_a_flood_of_unknown_names_pushes_no_known_answer_out() -> None:
    source = Source(a="1")
    cache = cache_of(source, FakeClock(), entries_max=10)
    await cache.get("a")
    for n in range(100):
        assert await cache.get(f"x{n}") is None
    assert cache.peek("a") == "1"


async def test_known_answers_are_bounded() -> None:
    source = Source(**{f"k{n}": "v" for n in range(50)})
    cache = cache_of(source, FakeClock(), entries_max=10)
    for n in range(50):
        await cache.get(f"k{n}")
    assert len(cache) == 10
    assert cache.peek("k49") == "v"
    assert cache.peek("k0") is None


async def test_trap_loads_are_bounded() -> None:
    source = Source()
    cache = cache_of(source, FakeClock(), loads_max=3)
    source.gate.clear()
    gets = [asyncio.create_task(cache.get(f"x{n}")) for n in range(3)]
    await settle()
    with pytest.raises(DirectoryUnavailable, match="too many"):
        await cache.get("one more")
    source.gate.set()
    await asyncio.gather(*gets)
    assert await cache.get("one more") is None


async def test_expired_answers_serve_in_an_outage_and_then_no_more() -> None:
    source, clock = Source(a="1"), FakeClock()
    cache = cache_of(source, clock)
    await cache.get("a")
    source.down = True
    clock.now += 1099
    assert await cache.get("a") == "1"
    assert (cache.stale_served, cache.failures) == (1, 1)
    clock.now += 1
    assert cache.stale("a") is None
    with pytest.raises(DirectoryUnavailable):
        await cache.get("a")


async def test_an_outage_asks_the_source_once_in_a_while_only() -> None:
    source, clock = Source(a="1"), FakeClock()
    cache = cache_of(source, clock)
    await cache.get("a")
    clock.now += 101
    source.down = True
    for _ in range(100):
        assert await cache.get("a") == "1"
    assert cache.peek("a") == "1"
    assert len(source.asked) == 2
    clock.now += 1
    assert cache.peek("a") is None
    source.down = False
    source.rows["a"] = "2"
    assert await cache.get("a") == "2"


async def test_a_flush_keeps_answers_for_an_outage_only() -> None:
    source = Source(a="1")
    cache = cache_of(source, FakeClock())
    await cache.get("a")
    cache.expire_all()
    assert cache.peek("a") is None
    assert cache.stale("a") == "1"
    source.down = True
    assert await cache.get("a") == "1"
    assert cache.peek("a") == "1"


@pytest.mark.parametrize("how", ["invalidate", "invalidate_all"])
async def test_what_is_known_to_have_changed_never_serves_again(how: str) -> None:
    source = Source(a="1")
    cache = cache_of(source, FakeClock())
    await cache.get("a")
    cache.invalidate("a") if how == "invalidate" else cache.invalidate_all()
    assert cache.stale("a") is None
    source.down = True
    with pytest.raises(DirectoryUnavailable):
        await cache.get("a")


async def test_what_is_gone_is_not_served_as_stale() -> None:
    source, clock = Source(a="1"), FakeClock()
    cache = cache_of(source, clock)
    await cache.get("a")
    clock.now += 101
    del source.rows["a"]
    assert await cache.get("a") is None
    assert cache.stale("a") is None


async def test_close_ends_loads_and_tells_those_who_wait() -> None:
    source = Source(a="1")
    cache = cache_of(source, FakeClock())
    source.gate.clear()
    get = asyncio.create_task(cache.get("a"))
    await settle()
    just_begun = asyncio.create_task(cache.get("b"))
    await asyncio.sleep(0)
    await cache.close()
    for waiter in (get, just_begun):
        with pytest.raises(DirectoryUnavailable, match="closed"):
            await waiter
    assert cache.loading == 0
    with pytest.raises(DirectoryUnavailable, match="closed"):
        await cache.get("c")


async def test_an_error_that_is_no_outage_reaches_every_waiter_and_is_not_kept() -> None:
    async def broken(key: str) -> str | None:
        raise LookupError(key)

    source = Source(a="1")
    cache = cache_of(source, FakeClock())
    await cache.get("a")
    cache.expire_all()
    cache._load = broken
    with pytest.raises(LookupError):
        await cache.get("a")
    assert cache.loading == 0
    cache._load = source.load
    assert await cache.get("a") == "1"
