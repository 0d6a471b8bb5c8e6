"""The snapshot: an immutable, numbered picture of every database, that routing reads.

A reload makes a new snapshot; work that began under the old one keeps it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class Role(StrEnum):
    """What an endpoint is to its shard."""

    PRIMARY = "primary"
    REPLICA = "replica"


@dataclass(frozen=True)
class Endpoint:
    """One PostgreSQL database at one address.

    Two endpoints with the same ``address`` are the same place and share one bound on connections.
    """

    name: str
    host: str
    port: int
    database: str
    role: Role

    @property
    def address(self) -> tuple[str, int, str]:
        return (self.host, self.port, self.database)


@dataclass(frozen=True)
class Shard:
    """One database holding an industry or part of one: a primary and its replicas.

    ``industry`` is None for the meta database.
    """

    name: str
    industry: str | None
    primary: Endpoint
    replicas: tuple[Endpoint, ...] = ()


@dataclass(frozen=True)
class Industry:
    """A business line; ``slot_map[slot]`` is the index in ``shards`` of each slot's home."""

    name: str
    shards: tuple[Shard, ...]
    slot_map: tuple[int, ...]


@dataclass(frozen=True)
class Snapshot:
    """Everything routing reads. ``epoch`` grows by one with each reload."""

    epoch: int
    meta: Shard
    industries: Mapping[str, Industry]
    shards: Mapping[str, Shard] = field(default_factory=dict)
    """Every shard by name, the meta database included."""
    console_database: str = "gateway"
