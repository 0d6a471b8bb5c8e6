"""Positions in the write-ahead log as numbers and as people know them (``16/B374D848``).

Source: PostgreSQL documentation, "pg_lsn Type"; page headers: "WAL Internals".
"""

from __future__ import annotations

_PAGE_HEADER_BYTES = 24
_SEGMENT_HEADER_BYTES = 40


def lsn_text(lsn: int) -> str:
    """As PostgreSQL writes it: two hexadecimal halves."""
    return f"{lsn >> 32:X}/{lsn & 0xFFFFFFFF:X}"


def end_of_written(insert_lsn: int, page_bytes: int, segment_bytes: int) -> int:
    """The end of the last record before an insert position.

    They differ where the next record would be the first of its page: the insert position is past
    the page's header, what a standby has replayed ends before it. On a primary at rest, as after
    pg_switch_wal, they would never meet.
    """
    if insert_lsn % segment_bytes == _SEGMENT_HEADER_BYTES:
        return insert_lsn - _SEGMENT_HEADER_BYTES
    if insert_lsn % page_bytes == _PAGE_HEADER_BYTES:
        return insert_lsn - _PAGE_HEADER_BYTES
    return insert_lsn
