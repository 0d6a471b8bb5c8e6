"""What is known of every endpoint, and the one call that places a read. No I/O and no clock."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from gateway.health.marks import Marks
from gateway.health.patroni import Member, Named
from gateway.router.positions import Address, EndpointStatus, PrimaryLog
from gateway.router.replicas import (
    BY_POLICY,
    NO_REPLICAS,
    Choice,
    Known,
    Outstanding,
    choose,
    explain,
)
from gateway.router.topology import Endpoint, Shard
from gateway.settings.model import ReadPolicy, Reads

_PRIMARY = ReadPolicy.PRIMARY
NEVER = 0.0
"""The mark of whoever has never written."""


@dataclass(frozen=True, slots=True)
class Watched:
    """What is known of an endpoint of a shard; None where nothing is.

    ``reads`` is ``usable``, or why the endpoint serves no reads of owners who have not written
    lately; None for the primary.
    """

    shard: Shard
    endpoint: Endpoint
    status: EndpointStatus | None
    lag_s: float | None
    lag_bytes: int | None
    reads: str | None
    member: Member | None = None
    """What Patroni says of it."""
    breaker: str = "closed"
    """Whether connects of this worker's pools fail: ``open``, or ``half-open`` for a trial."""

    @property
    def state(self) -> str:
        """``primary``, ``standby``, ``unreachable``, ``unknown`` or ``not looked at``."""
        if self.status is None:
            return "not looked at"
        if not self.status.reachable:
            return "unreachable"
        return _ROLES[self.status.in_recovery]


_ROLES = {True: "standby", False: "primary", None: "unknown"}


class Health:
    """The latest status of each endpoint, and each primary's log.

    One object per worker process; whoever looks at the endpoints calls ``record``, in whichever
    process that is. All times are seconds on the machine's monotonic clock.
    """

    __slots__ = (
        "_logs",
        "_named",
        "_rules",
        "_statuses",
        "_turn",
        "breakers",
        "drained",
        "marks",
        "tripped",
    )

    def __init__(self, marks: Marks) -> None:
        self.marks = marks
        self.drained: frozenset[Address] = frozenset()
        """Where operators want no new work."""
        self.breakers: Mapping[Address, str] = {}
        """Where connects fail: the state of the breaker, for people."""
        self.tripped: frozenset[Address] = frozenset()
        """Where connects fail, and none is to be tried now."""
        self._statuses: dict[Address, EndpointStatus] = {}
        self._logs: dict[Address, PrimaryLog] = {}
        self._named: dict[str, Named] = {}
        """What Patroni says, by shard; nothing where it says nothing."""
        self._rules: dict[str | None, Reads] = {}
        self._turn = 0

    def configure(self, rules: Mapping[str | None, Reads], addresses: set[Address]) -> None:
        """New settings: the rules of each industry (None: the meta database), and what there is."""
        self._rules = dict(rules)
        for gone in self._statuses.keys() - addresses:
            del self._statuses[gone]
            self._logs.pop(gone, None)

    # --- what is found ---

    def record(self, status: EndpointStatus) -> None:
        """What a look found. Looks at one endpoint are recorded in the order they began in."""
        before = self._statuses.get(status.address)
        if before is not None and status.looked_at < before.looked_at:
            return
        self._statuses[status.address] = status
        if status.in_recovery:
            self._logs.pop(status.address, None)
        elif status.lsn is not None:
            self._log_of(status).note(status.looked_at, status.lsn)

    def named(self, shard: str, named: Named | None) -> None:
        """What Patroni says now of the members of a shard's cluster; None when it says nothing."""
        if named is None:
            self._named.pop(shard, None)
        else:
            self._named[shard] = named

    def _log_of(self, status: EndpointStatus) -> PrimaryLog:
        """The log that the look belongs to; a new one after a promotion, or where it went back."""
        log = self._logs.get(status.address)
        if log is None or not log.continues(status):
            log = self._logs[status.address] = PrimaryLog(status.timeline, status.system_id)
        return log

    # --- what is asked ---

    def serves_reads(self, shard: Shard) -> bool:
        """Whether some reads of this shard may go to a replica, so that writes must be marked."""
        return bool(shard.replicas)

    def primary_of(self, shard: Shard) -> Endpoint:
        """The endpoint to write to: of those that say they are primaries, or that Patroni says is,
        the one with the newest timeline, so that an old one that comes back gets nothing; of equals
        the one Patroni names, then the configured one, which it is as well if there is none.
        """
        if not shard.replicas:
            return shard.primary
        leader = self._leader(shard)
        claims = [(one[1].timeline or 0, one[0] is leader, one[0]) for one in self.primaries(shard)]
        if leader is not None and (claim := self._claim_of(shard, leader)) is not None:
            claims.append((claim, True, leader))
        if not claims:
            return shard.primary
        return max(claims, key=lambda one: (*one[:2], one[2] is shard.primary))[2]

    def _leader(self, shard: Shard) -> Endpoint | None:
        """The endpoint that Patroni names."""
        named = self._named.get(shard.name)
        leader = None if named is None else named.leader
        if leader is None:
            return None
        members = (shard.primary, *shard.replicas)
        return next((one for one in members if one.address == leader[0]), None)

    def _claim_of(self, shard: Shard, leader: Endpoint) -> int | None:
        """The timeline that Patroni's leader is on; None while it is seen not to be a primary yet.

        One that we can't reach leads all the same, unless another has a newer timeline.
        """
        status = self._statuses.get(leader.address)
        if status is not None and status.reachable and status.in_recovery:
            return None
        return self._named[shard.name].members[leader.address].timeline or 0

    def replica_only(self, shard: Shard) -> bool:
        """Whether reads of this shard may not go to the primary."""
        return self._rules[shard.industry].policy is ReadPolicy.REPLICA_ONLY

    def choose(
        self,
        shard: Shard,
        owner: str,
        outstanding: Outstanding,
        now: float,
        policy: ReadPolicy | None = None,
    ) -> Choice:
        """The endpoint for a provable read of ``owner``, on a shard.

        ``policy`` takes the place of the settings' (a hint of the client's). ``owner`` is what
        ``marks`` was told of this reader's writes. Raises NoUsableReplica, and KeyError for a shard
        whose industry is not configured.
        """
        rules = self._rules[shard.industry]
        policy = policy or rules.policy
        if policy is _PRIMARY:
            return Choice(shard.primary, BY_POLICY)
        if not shard.replicas and policy is not ReadPolicy.REPLICA_ONLY:
            return Choice(shard.primary, NO_REPLICAS)
        self._turn += 1
        known = self._known(shard, owner, now)
        return choose(shard, rules, policy, known, outstanding, self._turn)

    def explain(self, shard: Shard, owner: str, now: float) -> list[tuple[Endpoint, str]]:
        """Each replica of a shard, and ``usable`` or why it may not serve a read of ``owner``."""
        return list(explain(shard, self._rules[shard.industry], self._known(shard, owner, now)))

    def status(self, endpoint: Endpoint) -> EndpointStatus | None:
        """The latest look at an endpoint, None before the first one."""
        return self._statuses.get(endpoint.address)

    def overview(self, shards: Iterable[Shard], now: float) -> Iterator[Watched]:
        """Every endpoint of these shards with what is known of it."""
        for shard in shards:
            log = self._logs.get(shard.primary.address)
            known = Known(self._statuses, log, NEVER, now, self.drained, self.tripped)
            obstacles = dict(explain(shard, self._rules[shard.industry], known))
            members = self._named.get(shard.name, Named()).members
            for endpoint in (shard.primary, *shard.replicas):
                status = self._statuses.get(endpoint.address)
                lag_s, lag_bytes = _lag(status, log)
                reads, member = obstacles.get(endpoint), members.get(endpoint.address)
                breaker = self.breakers.get(endpoint.address, "closed")
                yield Watched(shard, endpoint, status, lag_s, lag_bytes, reads, member, breaker)

    def primaries(self, shard: Shard) -> Iterator[tuple[Endpoint, EndpointStatus]]:
        """The endpoints of a shard that say they are primaries; after a failover maybe two."""
        for endpoint in (shard.primary, *shard.replicas):
            status = self._statuses.get(endpoint.address)
            if status is not None and status.reachable and status.in_recovery is False:
                yield endpoint, status

    def _known(self, shard: Shard, owner: str, now: float) -> Known:
        log = self._logs.get(shard.primary.address)
        mark = max(self.marks.marked_at(owner), self.marks.marked_at(everybody_of(shard)))
        return Known(self._statuses, log, mark, now, self.drained, self.tripped)


def everybody_of(shard: Shard) -> str:
    """Stands in the marks for all owners of a shard: for writes that may be anybody's."""
    return f"\0{shard.name}"


def _lag(status: EndpointStatus | None, log: PrimaryLog | None) -> tuple[float | None, int | None]:
    """How far behind its primary, in seconds and bytes, where both are of one log."""
    if status is None or status.lsn is None or log is None or status.timeline != log.timeline:
        return None, None
    return log.behind_s(status.lsn), max(0, log.head - status.lsn)
