"""What things cost: measured on one machine, kept as JSON, read by the model."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class StatementCost:
    """One class of statement, sent as a transaction of its own."""

    gateway_cpu_us: float
    """CPU of the gateway for it, on one core of the machine measured."""
    primary_cpu_us: float
    """CPU of all of PostgreSQL's processes for it."""
    replay_cpu_us: float
    """CPU of each standby for it."""
    direct_ms: float
    """What one client waits for PostgreSQL, with no network and nobody else."""


@dataclass(frozen=True, slots=True)
class Costs:
    """All of it, with the conditions."""

    statements: Mapping[str, StatementCost]
    login_cpu_us: float
    """CPU of the gateway for a client's login."""
    client_kb: float
    """Memory of the gateway for a client that is idle."""
    owner_kb: float
    """Memory of the gateway for an owner that it knows."""
    worker_mb: float
    """Memory of a worker with nobody connected."""
    backend_mb: float
    """Memory of PostgreSQL for one connection, without what all share."""
    conditions: Mapping[str, str] = field(default_factory=dict)

    def save(self, path: Path) -> None:
        """As JSON."""
        path.write_text(json.dumps(asdict(self), indent=1) + "\n")

    @classmethod
    def load(cls, path: Path) -> Costs:
        """What ``save`` wrote. Raises OSError, ValueError, KeyError or TypeError."""
        raw = json.loads(path.read_text())
        statements = {name: StatementCost(**one) for name, one in raw.pop("statements").items()}
        return cls(statements=statements, **raw)
