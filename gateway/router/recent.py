"""A map that is bounded in entries and in size, and forgets what was used longest ago."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Recent(Generic[K, V]):
    """At most ``entries_max`` values that together measure at most ``size_max``, in any unit."""

    __slots__ = ("_entries", "_entries_max", "_size_max", "size")

    def __init__(self, entries_max: int, size_max: int) -> None:
        self._entries: OrderedDict[K, tuple[V, int]] = OrderedDict()
        self._entries_max = entries_max
        self._size_max = size_max
        self.size = 0

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: K) -> V | None:
        """The value, which counts as used; None when there is none."""
        found = self._entries.get(key)
        if found is None:
            return None
        self._entries.move_to_end(key)
        return found[0]

    def clear(self) -> None:
        """Forget everything."""
        self._entries.clear()
        self.size = 0

    def keep(self, key: K, value: V, size: int) -> None:
        """Remember a value, unless it is larger than all may be together."""
        before = self._entries.pop(key, None)
        if before is not None:
            self.size -= before[1]
        if size > self._size_max:
            return
        while self._entries and (
            len(self._entries) >= self._entries_max or self.size + size > self._size_max
        ):
            self.size -= self._entries.popitem(last=False)[1][1]
        self._entries[key] = (value, size)
        self.size += size
