"""How much of a client's input may pass: one unit at a time, also behind the end of a copy."""

from __future__ import annotations

import pytest

from gateway.protocol import messages
from gateway.router.facts import FactsCache
from gateway.session.gate import Gate
from gateway.session.unit import Reader

PARSE = messages.message(b"P", b"\0SELECT 2\0\0\0")
QUERY = messages.query("SELECT 1")
COPY_DATA = messages.message(b"d", b"1\n")
COPY_DONE = messages.message(b"c")
COPY_FAIL = messages.message(b"f", b"no\0")


@pytest.fixture
def gate() -> Gate:
    return Gate(Reader(FactsCache(100, 100_000), {}, lambda name: None), lambda ask: None)


def test_a_batch_behind_a_query_waits_for_its_answer(gate: Gate) -> None:
    assert gate.walk(QUERY + PARSE, 0, copying=False) == len(QUERY)
    assert gate.walk(PARSE, 0, copying=False) == 0
    gate.closed = False
    assert gate.walk(PARSE, 0, copying=False) == len(PARSE)


@pytest.mark.parametrize("end", [COPY_DONE, COPY_FAIL])
def test_the_end_of_a_copy_is_seen_in_the_same_piece(gate: Gate, end: bytes) -> None:
    passing = COPY_DATA + end + QUERY
    assert gate.walk(passing + PARSE, 0, copying=True) == len(passing)
    assert gate.closed


def test_a_sync_in_a_copy_has_no_answer_to_wait_for(gate: Gate) -> None:
    gate.walk(COPY_DATA + messages.SYNC + COPY_DATA, 0, copying=True)
    assert not gate.closed
    gate.walk(COPY_DONE + messages.SYNC, 0, copying=True)
    assert gate.closed
