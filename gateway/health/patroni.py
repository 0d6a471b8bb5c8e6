"""What a Patroni cluster says of itself: who leads it, who follows, and how far behind. No I/O.

Source: Patroni documentation, "REST API", ``GET /cluster``. What it answers is untrusted input.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from gateway.router.positions import Address

_MEMBERS_MAX = 100
_LEADS = frozenset(["leader", "master"])
"""A ``standby_leader`` follows another cluster, and takes no writes."""
_RUNS = frozenset(["running", "streaming", "in archive recovery"])


@dataclass(frozen=True, slots=True)
class Member:
    """One PostgreSQL of a cluster."""

    name: str
    host: str
    port: int
    role: str
    state: str
    timeline: int | None = None
    lag_bytes: int | None = None
    """Behind the leader, as the leader's lock tells; None where Patroni doesn't know."""

    @property
    def words(self) -> str:
        """As people are told: ``leader, running, timeline 2``, ``replica, streaming, lag 0``."""
        timeline = None if self.timeline is None else f"timeline {self.timeline}"
        lag = None if self.lag_bytes is None else f"lag {self.lag_bytes}"
        return ", ".join(one for one in (self.role, self.state, timeline, lag) if one)

    @property
    def leads(self) -> bool:
        """Whether it is the primary, and runs."""
        return self.role in _LEADS and self.state in _RUNS


@dataclass(frozen=True, slots=True)
class Named:
    """A cluster's members among the endpoints of one shard."""

    members: Mapping[Address, Member] = field(default_factory=dict)

    @property
    def leader(self) -> tuple[Address, Member] | None:
        """Who leads, None when nobody does, or none of our endpoints."""
        return next((one for one in self.members.items() if one[1].leads), None)


def read_members(text: bytes) -> list[Member]:
    """The members in the answer to ``GET /cluster``. Raises ValueError for anything else."""
    cluster = json.loads(text)
    members = cluster.get("members") if isinstance(cluster, dict) else None
    if not isinstance(members, list) or len(members) > _MEMBERS_MAX:
        raise ValueError("it names no members")
    return [_member(one) for one in members if isinstance(one, dict) and "host" in one]


def _member(one: Mapping[str, Any]) -> Member:
    return Member(
        name=str(one.get("name", "")),
        host=str(one["host"]),
        port=_number(one.get("port")) or 5432,
        role=str(one.get("role", "")),
        state=str(one.get("state", "")),
        timeline=_number(one.get("timeline")),
        lag_bytes=_number(one.get("lag")),
    )


def _number(value: object) -> int | None:
    """A whole number; ``unknown`` and the like are none."""
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def matched(
    members: Iterable[Member],
    addresses: Iterable[Address],
    resolved: Mapping[str, frozenset[str]],
) -> Named:
    """Which member each address is: the same port, and the same host or one of its addresses."""
    found: dict[Address, Member] = {}
    for member in members:
        ours = _places(member.host, resolved)
        for address in addresses:
            if address[1] == member.port and ours & _places(address[0], resolved):
                found[address] = member
    return Named(found)


def _places(host: str, resolved: Mapping[str, frozenset[str]]) -> frozenset[str]:
    return resolved.get(host, frozenset()) | {host}
