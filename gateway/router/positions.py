"""How far endpoints are in the write-ahead log, and since when: what the choice of a replica reads.

Why a look at the primary proves that a write is in a replica, without a question per write:

1. A commit is in the primary's log before the server reports it, so before the gateway has the
   report, so before the time that is then noted for its owner, the *mark* (health/marks.py).
2. A look at the primary that *starts* after the mark reads the log's insert position after that
   commit was put into it. What it reads is at or beyond the commit's end.
3. A replica that has replayed up to what was read has replayed the commit, and shows it.

Marks and starts are read from one clock that never goes back and is the same for all processes of
the machine, so "after" means the same to all of them; equal times prove nothing and don't count.

Positions compare only within one history of the log: one cluster (system identifier) and one
timeline. A promotion begins a new timeline, which may lack the end of the old one, so what was
known before is forgotten, and a replica counts again once it is known to follow the new one. Two
servers that were promoted apart from each other to the same timeline number can't be told apart.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass

Address = tuple[str, int, str]
"""Host, port and database, as ``Endpoint.address``."""

ENTRIES_MAX = 256
"""Looks that are remembered per primary; beyond it the older ones are thinned out."""


@dataclass(frozen=True, slots=True)
class EndpointStatus:
    """What one look at an endpoint found. Times are seconds on the machine's monotonic clock.

    ``lsn`` is in bytes from the log's beginning: the insert position of a primary, the replayed one
    of a standby; None when it could not be read. What could not be known is None.
    """

    address: Address
    looked_at: float
    """When the look began."""
    expires_at: float
    """When it is too old to be trusted."""
    reachable: bool
    in_recovery: bool | None = None
    lsn: int | None = None
    received_lsn: int | None = None
    replay_delay_s: float | None = None
    """A standby's own measure: the age of the last commit it replayed, 0 when it has all it got."""
    timeline: int | None = None
    system_id: int | None = None
    error: str = ""
    looks: int = 0
    failures: int = 0
    """Looks so far, and those of them that failed."""


class PrimaryLog:
    """The insert positions of one primary at the starts of its latest looks, in one timeline."""

    __slots__ = ("_lsns", "_starts", "system_id", "timeline")

    def __init__(self, timeline: int | None, system_id: int | None) -> None:
        self.timeline = timeline
        self.system_id = system_id
        self._starts: list[float] = []
        self._lsns: list[int] = []

    @property
    def head(self) -> int:
        """The position read last. Raises IndexError before the first look."""
        return self._lsns[-1]

    @property
    def last_start(self) -> float:
        """When the last look began. Raises IndexError before the first one."""
        return self._starts[-1]

    def continues(self, status: EndpointStatus) -> bool:
        """Whether a look found the same log again, and not behind where it was."""
        return (
            status.timeline == self.timeline
            and status.system_id == self.system_id
            and (status.lsn or 0) >= self.head
        )

    def note(self, started_at: float, lsn: int) -> None:
        """A look that began at ``started_at`` read ``lsn``; both not less than the last ones."""
        if self._lsns and lsn == self._lsns[-1]:
            self._starts[-1] = started_at  # the later of two equal looks proves more
            return
        self._starts.append(started_at)
        self._lsns.append(lsn)
        if len(self._starts) > ENTRIES_MAX:
            thinned = slice(1, ENTRIES_MAX // 2, 2)
            del self._starts[thinned], self._lsns[thinned]

    def first_after(self, mark: float) -> int | None:
        """A position at or beyond all that was committed by ``mark``; None before such a look."""
        index = bisect_right(self._starts, mark)
        return self._lsns[index] if index < len(self._lsns) else None

    def within(self, seconds: float) -> int:
        """The least position that is at most ``seconds`` behind the last look."""
        return self._lsns[bisect_left(self._starts, self._starts[-1] - seconds)]

    def behind_s(self, lsn: int) -> float | None:
        """How long ago, at the last look, the log was where ``lsn`` is; None: longer than known.

        Who has replayed ``lsn`` shows everything that was committed that long before that look.
        """
        index = bisect_right(self._lsns, lsn)
        return self._starts[-1] - self._starts[index - 1] if index else None
