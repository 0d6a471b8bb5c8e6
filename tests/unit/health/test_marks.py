"""When owners last wrote: begun and ended, by several workers and processes, also dead ones."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from gateway.clock import monotonic
from gateway.health.marks import LEASE_S, SLOTS, Marks, new_table, slot_of


@pytest.fixture
def table() -> Iterator[int]:
    descriptor = new_table(3, 100.0)
    yield descriptor
    os.close(descriptor)


def test_everybody_is_marked_when_the_table_is_made() -> None:
    assert Marks.private(100.0).marked_at("1") == 100.0


def test_a_write_under_way_is_newer_than_anything_and_its_end_is_the_mark() -> None:
    marks = Marks.private(100.0)
    marks.begin("1", 110.0)
    assert marks.marked_at("1") == 110.0 + LEASE_S
    marks.renew(150.0)
    assert marks.marked_at("1") == 150.0 + LEASE_S
    marks.end("1", 160.0)
    marks.renew(170.0)
    assert marks.marked_at("1") == 160.0
    assert marks.marked_at("2") == 100.0


def test_of_several_writes_under_way_the_last_end_counts() -> None:
    marks = Marks.private(0.0)
    marks.begin("1", 1.0)
    marks.begin("1", 2.0)
    assert marks.under_way == 2
    marks.end("1", 3.0)
    assert (marks.under_way, marks.marked_at("1") > 3.0) == (1, True)
    marks.mark("1", 4.0)
    assert marks.marked_at("1") > 4.0
    marks.end("1", 5.0)
    assert (marks.under_way, marks.marked_at("1")) == (0, 5.0)
    marks.mark("1", 6.0)
    assert marks.marked_at("1") == 6.0


def test_an_end_without_a_begin_is_a_mark() -> None:
    marks = Marks.private(0.0)
    marks.end("1", 7.0)
    assert (marks.under_way, marks.marked_at("1")) == (0, 7.0)


def test_workers_see_each_others_marks_and_undo_none(table: int) -> None:
    one, two = Marks(table, 0), Marks(table, 2)
    one.begin("1", 110.0)
    two.begin("1", 111.0)
    two.end("1", 112.0)
    assert one.marked_at("1") == two.marked_at("1") == 110.0 + LEASE_S
    one.end("1", 113.0)
    assert two.marked_at("1") == 113.0


def test_what_a_dead_worker_left_becomes_a_time_like_any_other(table: int) -> None:
    Marks(table, 1).begin("1", 110.0)
    successor = Marks(table, 1)
    successor.renew(500.0)
    assert Marks(table, 0).marked_at("1") == 110.0 + LEASE_S


def test_a_row_that_is_not_there(table: int) -> None:
    for row in (-1, 3):
        with pytest.raises(ValueError, match="no row"):
            Marks(table, row)


def test_another_process_sees_the_marks_by_the_same_clock(table: int) -> None:
    """With another seed of its hashes, as every process has."""
    program = (
        "import sys; from gateway.health.marks import Marks; from gateway.clock import monotonic;"
        f"Marks({table}, 1).mark('owner ä', monotonic())"
    )
    before = monotonic()
    subprocess.run([sys.executable, "-c", program], check=True, pass_fds=[table], timeout=60)
    assert before < Marks(table, 0).marked_at("owner ä") < monotonic()


def test_slots_are_in_range_and_spread() -> None:
    slots = [slot_of(str(owner)) for owner in range(10_000)]
    assert all(0 <= slot < SLOTS for slot in slots)
    assert len(set(slots)) > 9_000
