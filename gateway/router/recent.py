"""A map that is bounded in entries and in size, and forgets what was not used for long."""

from __future__ import annotations

from collections import deque
from typing import Any


class _Entry:
    """A value, its size, and whether it was used since it was last spared."""

    __slots__ = ("size", "used", "value")

    def __init__(self, value: Any, size: int) -> None:
        self.value = value
        self.size = size
        self.used = False


class Recent:
    """At most ``entries_max`` values that together measure at most ``size_max``, in any unit.

    What has to go is the oldest one; who was used in its time is spared once, and the oldest but
    one has to go (the clock algorithm): a look-up moves nothing.
    """

    __slots__ = ("_entries", "_entries_max", "_order", "_size_max", "size")

    def __init__(self, entries_max: int, size_max: int) -> None:
        self._entries: dict[Any, _Entry] = {}
        self._order: deque[Any] = deque()
        """The keys, in the order in which they may have to go."""
        self._entries_max = entries_max
        self._size_max = size_max
        self.size = 0

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: Any) -> Any:
        """The value, which counts as used; None when there is none."""
        found = self._entries.get(key)
        if found is None:
            return None
        found.used = True
        return found.value

    def clear(self) -> None:
        """Forget everything."""
        self._entries.clear()
        self._order.clear()
        self.size = 0

    def keep(self, key: Any, value: Any, size: int) -> None:
        """Remember a value, unless it is larger than all may be together."""
        before = self._entries.pop(key, None)
        if before is not None:
            self._order.remove(key)
            self.size -= before.size
        if size > self._size_max:
            return
        while self._entries and (
            len(self._entries) >= self._entries_max or self.size + size > self._size_max
        ):
            self._forget_one()
        self._entries[key] = _Entry(value, size)
        self._order.append(key)
        self.size += size

    def _forget_one(self) -> None:
        """The oldest that was not used; each look at one that was takes its mark away."""
        while True:
            key = self._order.popleft()
            entry = self._entries[key]
            if not entry.used:
                del self._entries[key]
                self.size -= entry.size
                return
            entry.used = False
            self._order.append(key)
