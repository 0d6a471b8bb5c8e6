"""Statements that run, and transactions that lie idle, for longer than their clients may.

Looked at a few times a second, so that a statement costs nothing; times are that coarse.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum

from gateway.pool.fairness import Tenant
from gateway.pool.server import IDLE, ServerConnection


class Overstay(Enum):
    """What takes too long."""

    QUERY = "query"
    IDLE_IN_TRANSACTION = "idle in transaction"


@dataclass(frozen=True, slots=True)
class Allowed:
    """How long each may take, in seconds; 0 for ever."""

    query_s: float
    idle_transaction_s: float

    def of(self, tenant: Tenant) -> Allowed:
        """The same with what a tenant has in its place."""
        query_s, idle_s = tenant.query_timeout_s, tenant.idle_transaction_timeout_s
        if query_s is None and idle_s is None:
            return self
        return Allowed(
            self.query_s if query_s is None else query_s,
            self.idle_transaction_s if idle_s is None else idle_s,
        )


_Seen = tuple[int, bool, float]
"""After which turn, whether idle, and since when a server was seen like that."""

Found = tuple[ServerConnection, Overstay, float]
"""Who overstays, in what, and the seconds allowed."""


class Watch:
    """The servers of one pool that are given to clients, as they were seen last."""

    def __init__(self) -> None:
        self._seen: dict[ServerConnection, _Seen] = {}

    def look(
        self,
        servers: Iterable[ServerConnection],
        tenant_of: Callable[[ServerConnection], Tenant],
        allowed: Allowed,
        now: float,
    ) -> list[Found]:
        """Who overstays at ``now``; one that goes on is named again after as long a time."""
        seen: dict[ServerConnection, _Seen] = {}
        found: list[Found] = []
        for server in servers:
            idle = server.replies.idle
            if idle and server.status == IDLE:
                continue
            turns, was_idle, since = self._seen.get(server, (-1, idle, now))
            if turns != server.turns or was_idle != idle:
                since = now
            limit = allowed.of(tenant_of(server))
            limit_s = limit.idle_transaction_s if idle else limit.query_s
            if limit_s and now - since >= limit_s:
                kind = Overstay.IDLE_IN_TRANSACTION if idle else Overstay.QUERY
                found.append((server, kind, limit_s))
                since = now
            seen[server] = (server.turns, idle, since)
        self._seen = seen
        return found
