"""Positions as text, and where the last record ends."""

from __future__ import annotations

import pytest

from gateway.health.lsn import end_of_written, lsn_text

PAGE, SEGMENT = 8192, 16 * 1024 * 1024


@pytest.mark.parametrize(
    ("lsn", "text"), [(0, "0/0"), (0x16B374D848, "16/B374D848"), (0x100000000, "1/0")]
)
def test_text_is_as_postgresql_writes_it(lsn: int, text: str) -> None:
    assert lsn_text(lsn) == text


@pytest.mark.parametrize(
    ("insert", "end"),
    [
        (5 * SEGMENT + 40, 5 * SEGMENT),
        (5 * SEGMENT + PAGE + 24, 5 * SEGMENT + PAGE),
        (5 * SEGMENT + PAGE + 40, 5 * SEGMENT + PAGE + 40),
        (5 * SEGMENT + PAGE, 5 * SEGMENT + PAGE),
        (5 * SEGMENT + 1000, 5 * SEGMENT + 1000),
    ],
)
def test_a_header_without_a_record_is_not_waited_for(insert: int, end: int) -> None:
    assert end_of_written(insert, PAGE, SEGMENT) == end
