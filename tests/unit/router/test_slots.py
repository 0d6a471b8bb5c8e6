"""The hash from owners to slots. That SQL computes the same is tested with the meta database."""

from __future__ import annotations

from collections import Counter
from itertools import chain
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.router.slots import SLOTS, even_ranges, slot_of


@pytest.mark.parametrize(
    ("owner", "slot"),
    [
        ("", 217),  # md5sum: d41d8cd9...
        ("1", 568),  # c4ca4238...
        ("a", 441),  # 0cc175b9...
        ("é", 407),  # 66ddcd97...
        ("6f9619ff-8b86-d011-b42d-00cf4fc964ff", 267),  # 8343b10b...
    ],
)
def test_trap_the_hash_never_changes(owner: str, slot: int) -> None:
    """Owners live where these numbers say: another answer would look for their rows elsewhere."""
    assert slot_of(owner) == slot


def test_owners_spread_evenly() -> None:
    owners = 50 * SLOTS
    for name in (str, lambda n: str(UUID(int=n)), lambda n: f"user_{n:08}"):
        slots = Counter(slot_of(name(n)) for n in range(owners))
        assert len(slots) == SLOTS
        assert min(slots.values()) >= 15 and max(slots.values()) <= 100  # 50 on average
        for shards in (2, 3, 7):
            for first, end in even_ranges(shards):
                share = sum(slots[slot] for slot in range(first, end)) / owners
                assert share == pytest.approx(1 / shards, rel=0.05)


@given(owner=st.text(st.characters(codec="utf-8")))
def test_every_owner_has_a_slot(owner: str) -> None:
    assert 0 <= slot_of(owner) < SLOTS
    assert slot_of(owner) == slot_of(owner)


@given(shards=st.integers(1, SLOTS))
def test_even_ranges_hold_every_slot_once_and_nearly_the_same_number(shards: int) -> None:
    ranges = even_ranges(shards)
    assert len(ranges) == shards
    assert list(chain.from_iterable(range(*each) for each in ranges)) == list(range(SLOTS))
    sizes = {end - first for first, end in ranges}
    assert max(sizes) - min(sizes) <= 1


def test_even_ranges_of_three() -> None:
    assert even_ranges(3) == [(0, 341), (341, 682), (682, 1024)]
