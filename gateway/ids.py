"""Identifiers that must be unique or unguessable: session numbers and cancel keys."""

from __future__ import annotations

import secrets


def cancel_secret(length_bytes: int) -> bytes:
    """An unguessable cancel key of the given length: 4 bytes in protocol 3.0, up to 256 in 3.2."""
    return secrets.token_bytes(length_bytes)


class Numbers:
    """Consecutive numbers from 1, wrapping below 2**31 so that each fits a protocol int32."""

    __slots__ = ("_last",)

    def __init__(self) -> None:
        self._last = 0

    def next(self) -> int:
        self._last = self._last % 0x7FFFFFFF + 1
        return self._last
