"""Identifiers that must be unique or unguessable: session numbers and cancel keys."""

from __future__ import annotations

import secrets


def cancel_secret(length_bytes: int) -> bytes:
    """An unguessable cancel key of the given length: 4 bytes in protocol 3.0, up to 256 in 3.2."""
    return secrets.token_bytes(length_bytes)


NUMBERS_STEP = 64
"""Several workers number their clients in steps of this, each from its own number on."""

PROCESS_ID_MAX = 1 << 22
"""No process has a higher id, on Linux. A client's number stands where libraries expect the id of
its server process: pg_terminate_backend() of it must never end somebody else's."""

_NUMBER_MAX = 0x7FFFFFFF


def worker_of(number: int) -> int:
    """Which of several workers gave a client its number."""
    return number % NUMBERS_STEP


class Numbers:
    """Numbers above all process ids, from the ``first`` on, that fit a protocol int32.

    After the highest they begin again.
    """

    __slots__ = ("_first", "_last", "_step")

    def __init__(self, first: int = 1, step: int = 1) -> None:
        self._first = PROCESS_ID_MAX + first
        self._step = step
        self._last = 0

    def begin_anywhere(self) -> None:
        """Go on from any number: another process may be giving out the same ones."""
        steps = (_NUMBER_MAX - self._first) // self._step
        self._last = self._first + self._step * secrets.randbelow(steps)

    def next(self) -> int:
        following = self._last + self._step if self._last else self._first
        self._last = following if following <= _NUMBER_MAX else self._first
        return self._last
