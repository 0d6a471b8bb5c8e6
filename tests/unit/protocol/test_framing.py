"""Message boundaries: lengths, stops, and what is not complete."""

from __future__ import annotations

import pytest

from gateway.errors import ProtocolViolation
from gateway.protocol.framing import ALL_TAGS, LENGTH_MAX, message_size, tag_set, walk

NONE = tag_set(b"")


def framed(tag: bytes, body: bytes = b"") -> bytes:
    return tag + (len(body) + 4).to_bytes(4, "big") + body


@pytest.mark.parametrize("size", [0, 1, 255, 256, 65_536, 70_000])
def test_the_size_counts_the_tag(size: int) -> None:
    assert message_size(b"xx" + framed(b"D", bytes(size)), 2) == size + 5


@pytest.mark.parametrize("length", [4, 5, LENGTH_MAX])
def test_lengths_that_are_possible(length: int) -> None:
    assert message_size(b"D" + length.to_bytes(4, "big"), 0) == length + 1


@pytest.mark.parametrize("length", [0, 1, 3, LENGTH_MAX + 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF])
def test_lengths_that_no_peer_may_send(length: int) -> None:
    data = b"D" + length.to_bytes(4, "big")
    with pytest.raises(ProtocolViolation, match="invalid message length"):
        message_size(data, 0)
    with pytest.raises(ProtocolViolation):
        walk(data, 0, len(data), NONE)


def test_the_longest_row_postgresql_can_make_is_possible() -> None:
    """A StringInfo holds up to MaxAllocSize - 1 bytes; the length field counts four more."""
    assert LENGTH_MAX >= (0x3FFFFFFF - 1) + 4


def test_walk_stops_at_a_marked_tag() -> None:
    data = framed(b"D", b"1") + framed(b"D", b"2") + framed(b"C", b"x") + framed(b"D")
    assert walk(data, 0, len(data), tag_set(b"C")) == data.index(b"C")


def test_walk_ends_behind_complete_messages() -> None:
    data = framed(b"D", b"1") + framed(b"D", b"2")
    assert walk(data, 0, len(data), NONE) == len(data)


@pytest.mark.parametrize("cut", range(1, 8))
def test_walk_ends_before_an_incomplete_message(cut: int) -> None:
    whole = framed(b"D", b"1")
    data = whole + framed(b"D", b"abc")[:-cut]
    assert walk(data, 0, len(data), NONE) == len(whole)


def test_a_stop_is_a_stop_even_if_incomplete() -> None:
    data = framed(b"D") + framed(b"E", b"long")[:6]
    assert walk(data, 0, len(data), tag_set(b"E")) == 5


def test_bytes_outside_of_the_window_are_not_looked_at() -> None:
    data = b"?????" + framed(b"D", b"1") + b"?????"
    assert walk(data, 5, 11, NONE) == 11


def test_tag_sets() -> None:
    flags = tag_set(b"AZ\xff")
    assert len(flags) == len(ALL_TAGS) == 256
    assert [tag for tag in range(256) if flags[tag]] == [ord("A"), ord("Z"), 255]
    assert all(ALL_TAGS)
