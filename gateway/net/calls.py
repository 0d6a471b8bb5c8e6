"""The system calls of the gateway's own socket loop, where nothing is compiled.

Compiled, calls.pyx stands in for this module: the same names, by the C library. File descriptors
are non-blocking sockets.
"""

from __future__ import annotations

import os
import select

COMPILED = False
"""Whether this is the compiled one of the two."""

READABLE, WRITABLE = 0x1, 0x4
"""EPOLLIN, EPOLLOUT. Ends, errors and hang-ups are told unasked, as other bits."""
_CHANGES = select.EPOLLET | select.EPOLLRDHUP

EVENTS_MAX = 256
"""So many descriptors are told of at a time."""


class Poll:
    """An epoll, asked without waiting. It tells of each change once (EPOLLET): who is told reads
    until there is no more, or has itself told again by `change`."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._found: list[tuple[int, int]] = []

    def fileno(self) -> int:
        """Its own descriptor: readable when one of those inside is ready."""
        return self._epoll.fileno()

    def add(self, fd: int, mask: int) -> None:
        """Watch a descriptor. Raises OSError."""
        self._epoll.register(fd, mask | _CHANGES)

    def change(self, fd: int, mask: int) -> None:
        """Watch it for something else. Raises OSError."""
        self._epoll.modify(fd, mask | _CHANGES)

    def remove(self, fd: int) -> None:
        """Watch it no longer: to be called before it is closed. Raises OSError."""
        self._epoll.unregister(fd)

    def wake_in(self, nanoseconds: int) -> bool:
        """Be ready by the clock, too, once; False where there is none: Python has no timerfd."""
        return False

    def timer(self) -> int:
        """The descriptor that is told of then."""
        return -1

    def look(self) -> int:
        """How many descriptors are ready; `fd` and `mask` tell which, and for what."""
        self._found = self._epoll.poll(0, EVENTS_MAX)
        return len(self._found)

    def fd(self, number: int) -> int:
        """A ready descriptor, by its number in the last look."""
        return self._found[number][0]

    def mask(self, number: int) -> int:
        """What it is ready for."""
        return self._found[number][1]

    def close(self) -> None:
        """Give the descriptor back."""
        self._epoll.close()


def receive(fd: int, size: int) -> bytes | None:
    """What has arrived, at most ``size`` bytes; empty at the end, None for nothing yet.

    Raises OSError.
    """
    try:
        return os.read(fd, size)
    except BlockingIOError:
        return None


def send(fd: int, data: bytes, start: int) -> int:
    """Send ``data`` from ``start`` on; how many bytes were taken, perhaps none. Raises OSError."""
    try:
        return os.write(fd, memoryview(data)[start:] if start else data)
    except BlockingIOError:
        return 0
