"""Clients that wait and have sent so much that they are not read: who leaves is looked for.

Each tick they are asked whether they still are so; there are few, and a look is a system call.
"""

from __future__ import annotations

from typing import Protocol


class Waiting(Protocol):
    """Whoever may wait unread."""

    def waits_unread(self) -> bool:
        """Whether it still does; who has left meanwhile does not."""


class Unread:
    """Who waits unread, or did at the last tick."""

    __slots__ = ("_clients",)

    def __init__(self) -> None:
        self._clients: set[Waiting] = set()

    def __len__(self) -> int:
        return len(self._clients)

    def add(self, client: Waiting) -> None:
        """It is not read from now on."""
        self._clients.add(client)

    def tick(self) -> None:
        """Find out who has left."""
        if self._clients:
            clients, self._clients = self._clients, set()
            self._clients |= {client for client in clients if client.waits_unread()}
