"""A bounded map: in entries, in size, and what it forgets first."""

from __future__ import annotations

from gateway.router.recent import Recent


def test_what_was_used_longest_ago_is_forgotten_first() -> None:
    recent = Recent(entries_max=2, size_max=100)
    recent.keep("a", 1, 10)
    recent.keep("b", 2, 10)
    assert recent.get("a") == 1
    recent.keep("c", 3, 10)
    assert (recent.get("a"), recent.get("b"), recent.get("c")) == (1, None, 3)
    assert (len(recent), recent.size) == (2, 20)


def test_the_size_of_all_together_is_bounded() -> None:
    recent = Recent(entries_max=100, size_max=100)
    for number in range(10):
        recent.keep(str(number), number, 30)
        assert recent.size <= 100
    assert len(recent) == 3
    recent.keep("huge", 1, 101)
    assert (recent.get("huge"), len(recent)) == (None, 3)


def test_a_value_kept_anew_counts_once() -> None:
    recent = Recent(entries_max=2, size_max=100)
    recent.keep("a", 1, 60)
    recent.keep("a", 2, 70)
    assert (recent.get("a"), len(recent), recent.size) == (2, 1, 70)
