"""What a pool counts."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class PoolCounters:
    """Totals since the start, as plain integers."""

    checkouts: int = 0
    waits: int = 0
    wait_us: int = 0
    rides: int = 0
    timeouts: int = 0
    idle_transactions: int = 0
    query_timeouts: int = 0
    unseen_changes: int = 0
    rejections: int = 0
    opened: int = 0
    open_failures: int = 0
    lost: int = 0
    cleaned: int = 0
    cancels: int = 0

    def served(self, waited_s: float) -> None:
        """Somebody got a server after so long."""
        self.checkouts += 1
        self.wait_us += int(waited_s * 1e6)
