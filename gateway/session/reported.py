"""What a client was told of its session's settings, by ParameterStatus.

At login thousands hear the same; each remembers only what it was told besides.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping


class Reported(Mapping[bytes, bytes]):
    """Values by name. ``at_login`` is others' too, and is never changed."""

    __slots__ = ("_at_login", "_since")

    def __init__(self, at_login: Mapping[bytes, bytes]) -> None:
        self._at_login = at_login
        self._since: dict[bytes, bytes] | None = None

    def tell(self, name: bytes, value: bytes) -> bool:
        """A server says so; whether it is news."""
        if self.get(name) == value:
            return False
        if self._since is None:
            self._since = {}
        self._since[name] = value
        return True

    def _now(self) -> Mapping[bytes, bytes]:
        return self._at_login if self._since is None else {**self._at_login, **self._since}

    def __getitem__(self, name: bytes) -> bytes:
        if self._since is not None and name in self._since:
            return self._since[name]
        return self._at_login[name]

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._now())

    def __len__(self) -> int:
        return len(self._now())
