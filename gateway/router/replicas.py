"""Which endpoint serves a read: the replica with the least to do that has what the reader needs.

A pure decision over what is known of the endpoints. What a replica must have replayed is one number
(`Floor`): the owner's own writes, and what the bounds on lag ask for. Why that is enough stands in
positions.py. Reads never go back behind the owner's own writes; two reads one after the other may
be served by replicas of which the second is further behind than the first.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import NamedTuple

from gateway.errors import NoUsableReplica
from gateway.router.positions import Address, EndpointStatus, PrimaryLog
from gateway.router.topology import Endpoint, Shard
from gateway.settings.model import ReadPolicy, Reads

Outstanding = Callable[[Endpoint], int]
"""How many requests an endpoint has not answered yet."""


class Choice(NamedTuple):
    """The endpoint for a read, and the reason in words."""

    endpoint: Endpoint
    reason: str


class Obstacle(Enum):
    """Why a replica may not serve a read."""

    DRAINED = auto()
    UNSEEN = auto()
    OUTDATED = auto()
    UNREACHABLE = auto()
    NOT_STANDBY = auto()
    NO_POSITION = auto()
    PRIMARY_UNKNOWN = auto()
    OTHER_CLUSTER = auto()
    TIMELINE_UNKNOWN = auto()
    OTHER_TIMELINE = auto()
    WRITE_TOO_NEW = auto()
    WRITE_NOT_REPLAYED = auto()
    LAG_TIME = auto()
    LAG_BYTES = auto()
    TRIPPED = auto()


class Floor(NamedTuple):
    """The least that a replica must have replayed, for each reason. None: no position is enough."""

    own_writes: int | None
    lag_time: int
    lag_bytes: int


@dataclass(frozen=True, slots=True)
class Known:
    """What is known when a read is to be placed.

    ``mark`` is the time of the owner's last write; a time to come for one that has not ended.
    ``primary_log`` is None before the primary was seen.
    """

    statuses: Mapping[Address, EndpointStatus]
    primary_log: PrimaryLog | None
    mark: float
    now: float
    drained: frozenset[Address] = frozenset()
    """Where operators want no new work."""
    tripped: Container[Address] = ()
    """Where the last connect has failed."""


BY_POLICY = "reads go to the primary by policy"
NO_REPLICAS = "the shard has no replicas"
FALLBACK = "no replica may serve this read now"
USABLE = "usable"
LAST_LEFT = "no other replica is left, though connects to it fail"
LEAST_BUSY = "the usable replica with the fewest outstanding requests"

_HINT = "Try again, or let such reads go to the primary with reads.policy: prefer-replica."


def choose(
    shard: Shard,
    rules: Reads,
    policy: ReadPolicy,
    known: Known,
    outstanding: Outstanding,
    turn: int,
) -> Choice:
    """The endpoint that serves a read. ``turn`` is any number that changes from call to call.

    Replicas with equally few outstanding requests take turns. Raises NoUsableReplica when the
    policy is replica-only and there is none.
    """
    if policy is ReadPolicy.PRIMARY:
        return Choice(shard.primary, BY_POLICY)
    floor = floor_of(rules, known)
    usable = [
        replica for replica in shard.replicas if obstacle(replica, rules, known, floor) is None
    ]
    if usable:
        return Choice(_least_busy(usable, outstanding, turn), LEAST_BUSY)
    if policy is ReadPolicy.REPLICA_ONLY:
        left = [
            replica
            for replica in shard.replicas
            if obstacle(replica, rules, known, floor) is Obstacle.TRIPPED
        ]
        if left:  # the last ones are never given up
            return Choice(_least_busy(left, outstanding, turn), LAST_LEFT)
        raise _none_usable(shard, rules, known)
    return Choice(shard.primary, FALLBACK if shard.replicas else NO_REPLICAS)


def explain(shard: Shard, rules: Reads, known: Known) -> Iterator[tuple[Endpoint, str]]:
    """Each replica with why it may not serve the read; `USABLE` for one that may."""
    floor = floor_of(rules, known)
    for replica in shard.replicas:
        found = obstacle(replica, rules, known, floor)
        yield replica, USABLE if found is None else _words(found, replica, rules, known)


def floor_of(rules: Reads, known: Known) -> Floor | None:
    """What a replica must have replayed; None before the primary was seen."""
    log = known.primary_log
    if log is None:
        return None
    size = rules.lag_max_bytes
    return Floor(
        own_writes=log.first_after(known.mark),
        lag_time=log.within(rules.lag_max_ms / 1000),
        lag_bytes=0 if size is None else log.head - size,
    )


def obstacle(replica: Endpoint, rules: Reads, known: Known, floor: Floor | None) -> Obstacle | None:
    """What keeps a replica from serving the read, None when nothing does."""
    if replica.address in known.drained:
        return Obstacle.DRAINED
    status = known.statuses.get(replica.address)
    if status is None:
        return Obstacle.UNSEEN
    found = _unfit(status, known.now) or _elsewhere(status, known.primary_log)
    if found is not None or status.lsn is None or floor is None:
        return found
    found = _behind(status.lsn, floor) or _cut_off(status, rules, known)
    return Obstacle.TRIPPED if found is None and replica.address in known.tripped else found


def _unfit(status: EndpointStatus, now: float) -> Obstacle | None:
    """Whether it is a standby that answers."""
    if not status.reachable:
        return Obstacle.UNREACHABLE
    if status.expires_at < now:
        return Obstacle.OUTDATED
    if status.lsn is None:
        return Obstacle.NO_POSITION
    return None if status.in_recovery else Obstacle.NOT_STANDBY


def _elsewhere(status: EndpointStatus, log: PrimaryLog | None) -> Obstacle | None:
    """Whether its positions and the primary's are of one log."""
    if log is None:
        return Obstacle.PRIMARY_UNKNOWN
    ids = (status.system_id, log.system_id)
    if None not in ids and ids[0] != ids[1]:
        return Obstacle.OTHER_CLUSTER
    if status.timeline is None:
        return Obstacle.TIMELINE_UNKNOWN
    return None if status.timeline == log.timeline else Obstacle.OTHER_TIMELINE


def _behind(lsn: int, floor: Floor) -> Obstacle | None:
    if floor.own_writes is None:
        return Obstacle.WRITE_TOO_NEW
    if lsn < floor.own_writes:
        return Obstacle.WRITE_NOT_REPLAYED
    if lsn < floor.lag_time:
        return Obstacle.LAG_TIME
    return Obstacle.LAG_BYTES if lsn < floor.lag_bytes else None


def _cut_off(status: EndpointStatus, rules: Reads, known: Known) -> Obstacle | None:
    """The standby's own measure of its lag, for as long as the primary can't be asked."""
    assert known.primary_log is not None
    unseen_s = known.now - known.primary_log.last_start
    if unseen_s * 1000 <= rules.lag_max_ms or status.replay_delay_s is None:
        return None
    return Obstacle.LAG_TIME if status.replay_delay_s * 1000 > rules.lag_max_ms else None


def _least_busy(usable: list[Endpoint], outstanding: Outstanding, turn: int) -> Endpoint:
    if len(usable) == 1:
        return usable[0]
    counts = [outstanding(replica) for replica in usable]
    fewest = min(counts)
    tied = [replica for replica, count in zip(usable, counts, strict=True) if count == fewest]
    return tied[turn % len(tied)]


def _none_usable(shard: Shard, rules: Reads, known: Known) -> NoUsableReplica:
    reasons = [f"{replica.name} {words}" for replica, words in explain(shard, rules, known)]
    return NoUsableReplica(
        f'no replica of "{shard.name}" may serve this read now',
        detail="; ".join(reasons) or NO_REPLICAS,
        hint=_HINT,
    )


# --- words ---


def _words(found: Obstacle, replica: Endpoint, rules: Reads, known: Known) -> str:
    status = known.statuses.get(replica.address)
    return (
        _WORDS[found] if status is None else _WORDS[found] + _figures(found, status, rules, known)
    )


_WORDS = {
    Obstacle.DRAINED: "is drained by an operator",
    Obstacle.UNSEEN: "has not been looked at yet",
    Obstacle.OUTDATED: "was not looked at lately",
    Obstacle.UNREACHABLE: "can't be reached",
    Obstacle.NOT_STANDBY: "is not in recovery: it is being promoted, or is a primary",
    Obstacle.NO_POSITION: "does not tell its position",
    Obstacle.PRIMARY_UNKNOWN: "can't be compared, for the primary's position is not known",
    Obstacle.OTHER_CLUSTER: "is of another cluster than the primary",
    Obstacle.TIMELINE_UNKNOWN: "does not tell its timeline (its role lacks pg_monitor)",
    Obstacle.OTHER_TIMELINE: "is on another timeline",
    Obstacle.WRITE_TOO_NEW: "is not known to have the owner's last write, which is too new",
    Obstacle.WRITE_NOT_REPLAYED: "has not replayed the owner's last write",
    Obstacle.LAG_TIME: "is too far behind",
    Obstacle.LAG_BYTES: "is too far behind",
    Obstacle.TRIPPED: "answers the gateway's looks, but connects to it fail",
}


def _figures(found: Obstacle, status: EndpointStatus, rules: Reads, known: Known) -> str:
    """What was measured, where that says more."""
    log = known.primary_log
    if found in (Obstacle.UNREACHABLE, Obstacle.NO_POSITION):
        return f": {status.error}" if status.error else ""
    if log is None or status.lsn is None:
        return ""
    if found is Obstacle.OTHER_TIMELINE:
        return f": {status.timeline}, the primary on {log.timeline}"
    if found is Obstacle.LAG_TIME:
        return f": {lag_words(log, status.lsn)}, more than {rules.lag_max_ms} ms"
    if found is Obstacle.LAG_BYTES:
        return f": {log.head - status.lsn} bytes, more than {rules.lag_max_bytes}"
    return ""


def lag_words(log: PrimaryLog, lsn: int) -> str:
    """How far ``lsn`` is behind, for people."""
    behind_s = log.behind_s(lsn)
    return "longer than is remembered" if behind_s is None else f"{behind_s * 1000:.0f} ms"
