"""Clients that stand in line for a server: each is told what its twin is told by PostgreSQL itself.

Eight clients share one server connection or two. `make test-differential` looks longer.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given

from tests.differential.lines import Lines
from tests.differential.round import Meeting
from tests.differential.rounds import meetings
from tests.differential.test_differential import EXAMPLES, TIMEOUT_S, explored

_RIDES_MIN = 1 / 5
"""Of the units that are fit for a line and wait, so many at least are sent in one."""


@pytest.fixture(scope="module")
def long_lines(lines: Lines) -> Iterator[Lines]:
    """Fails when hardly anybody has stood in line."""
    yield lines
    print(lines.tally)
    assert lines.tally.rides > lines.tally.fit * _RIDES_MIN, lines.tally


@explored(max(1, EXAMPLES // 8))
@given(meeting=meetings())
@pytest.mark.timeout(TIMEOUT_S)
async def test_everybody_in_line_is_told_what_the_server_tells(
    long_lines: Lines, meeting: Meeting
) -> None:
    await long_lines.play(meeting)
