"""Looks at every endpoint again and again, and records what it finds. Nothing escapes from it.

Each endpoint has a watch of its own, so that one that hangs delays no other. A look is bounded in
time as a whole, name look-up and login included. A look that fails ends the connection and, unless
the endpoint answered or the failure is the gateway's own, says that it can't be reached; then
the pauses grow. Whoever stops answering is out after one look, and back in after one.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import asyncpg

from gateway.clock import Clock, jittered
from gateway.health.cluster_watch import ClusterWatch
from gateway.health.look import LOST, Found, Looker
from gateway.health.patroni import Member, matched
from gateway.health.state import Health
from gateway.net.backoff import Backoff
from gateway.net.tls import OUT_OF_DESCRIPTORS
from gateway.router.positions import Address, EndpointStatus
from gateway.router.topology import Shard, Snapshot
from gateway.settings.dsn import Dsn
from gateway.settings.effective import patroni_urls, read_rules
from gateway.settings.model import ReadPolicy, Reads, Settings

logger = logging.getLogger(__name__)

_JITTER = 0.1
_MISSED_LOOKS = 3
"""A status is good for so many pauses, and one look's time."""
_REST_S = 2.0
"""How long a database is left alone that somebody wants for himself, in seconds."""

# PostgreSQL answers, and yet it is not there for anybody: it starts, stops or crashed.
_AWAY = (asyncpg.CannotConnectNowError, *LOST)


@dataclass(frozen=True, slots=True)
class Pace:
    """How an endpoint is looked at, in seconds."""

    interval_s: float
    timeout_s: float
    backoff_max_s: float


def paces(settings: Settings, snapshot: Snapshot) -> dict[Address, Pace]:
    """Every endpoint that is to be looked at: often where replicas serve reads, else at leisure."""
    health = settings.health
    found: dict[Address, Pace] = {}
    for shard in snapshot.shards.values():
        reads = read_rules(settings, shard.industry).policy is not ReadPolicy.PRIMARY
        interval_ms = health.interval_ms if shard.replicas and reads else health.idle_interval_ms
        if not interval_ms:
            continue
        timeout_s, backoff_s = health.timeout_ms / 1000, health.backoff_max_ms / 1000
        pace = Pace(interval_ms / 1000, timeout_s, max(interval_ms / 1000, backoff_s))
        for endpoint in (shard.primary, *shard.replicas):
            known = found.get(endpoint.address, pace)
            found[endpoint.address] = min(known, pace, key=lambda one: one.interval_s)
    return found


@dataclass(frozen=True, slots=True)
class _Cluster:
    """How to ask a Patroni cluster, and the shards whose endpoints are its members."""

    urls: tuple[str, ...]
    pace: Pace
    shards: tuple[Shard, ...]


def clusters(settings: Settings, snapshot: Snapshot) -> list[_Cluster]:
    """Each Patroni cluster there is, once; shards with one place only have nothing to ask."""
    health = settings.health
    seconds = (health.interval_ms / 1000, health.timeout_ms / 1000, health.backoff_max_ms / 1000)
    shards: dict[tuple[str, ...], list[Shard]] = {}
    for name, urls in patroni_urls(settings).items():
        if snapshot.shards[name].replicas:
            shards.setdefault(urls, []).append(snapshot.shards[name])
    return [_Cluster(urls, Pace(*seconds), tuple(own)) for urls, own in shards.items()]


class Prober:
    """The watches of all endpoints. What they find goes to `Health`, which may be anywhere."""

    def __init__(
        self, health: Health, clock: Clock, record: Callable[[EndpointStatus], None] | None = None
    ) -> None:
        self._health = health
        self._record = record or health.record
        self._clock = clock
        self._watches: dict[Address, Watch] = {}
        self._clusters: dict[_Cluster, ClusterWatch] = {}

    def configure(
        self, settings: Settings, snapshot: Snapshot, credentials: Mapping[Address, Dsn]
    ) -> None:
        """Begins, or follows a reload; to be called on the event loop.

        An endpoint whose login and pace are as before goes on being watched.
        """
        wanted = paces(settings, snapshot)
        self._health.configure(_rules(settings, snapshot), set(_addresses(snapshot)))
        for address, watch in list(self._watches.items()):
            if watch.pace != wanted.get(address) or watch.dsn != credentials[address]:
                del self._watches[address]
                watch.close()
        for address in wanted.keys() - self._watches.keys():
            watch = Watch(credentials[address], wanted[address], self._record, self._clock)
            self._watches[address] = watch
            watch.start()
        self._follow_clusters(set(clusters(settings, snapshot)))

    def _follow_clusters(self, wanted: set[_Cluster]) -> None:
        for gone in self._clusters.keys() - wanted:
            self._clusters.pop(gone).close()
            for shard in gone.shards:
                self._health.named(shard.name, None)
        for cluster in wanted - self._clusters.keys():
            self._clusters[cluster] = watch = self._cluster_watch(cluster)
            watch.start()

    def _cluster_watch(self, cluster: _Cluster) -> ClusterWatch:
        """Tells `Health` what a cluster says, and has endpoints looked at when it changes."""
        addresses = {shard: _members(shard) for shard in cluster.shards}
        said: list[Member] | None = None

        def news(members: list[Member] | None, resolved: dict[str, frozenset[str]]) -> None:
            nonlocal said
            for shard, own in addresses.items():
                named = None if members is None else matched(members, own, resolved)
                self._health.named(shard.name, named)
            roles = None if members is None else [replace(one, lag_bytes=None) for one in members]
            if roles != said:
                said = roles
                for address in {one for own in addresses.values() for one in own}:
                    if (watch := self._watches.get(address)) is not None:
                        watch.hurry()

        hosts = {host for own in addresses.values() for host, _, _ in own}
        pace = cluster.pace
        return ClusterWatch(
            cluster.urls, hosts, pace.interval_s, pace.timeout_s, pace.backoff_max_s, news
        )

    def vacate(self, place: str) -> None:
        """Leaves a database for a while that somebody wants for himself."""
        for watch in self._watches.values():
            if watch.dsn.place == place:
                watch.rest()

    async def close(self) -> None:
        """Ends all watches and their connections."""
        watches, self._watches = list(self._watches.values()), {}
        clusters, self._clusters = list(self._clusters.values()), {}
        ending: list[Watch | ClusterWatch] = [*watches, *clusters]
        for one in ending:
            one.close()
        await asyncio.gather(*(one.closed() for one in ending))


def _rules(settings: Settings, snapshot: Snapshot) -> dict[str | None, Reads]:
    names = {shard.industry for shard in snapshot.shards.values()}
    return {name: read_rules(settings, name) for name in names}


def _addresses(snapshot: Snapshot) -> list[Address]:
    return [address for shard in snapshot.shards.values() for address in _members(shard)]


def _members(shard: Shard) -> list[Address]:
    return [endpoint.address for endpoint in (shard.primary, *shard.replicas)]


class Watch:
    """Looks at one endpoint until it is closed."""

    def __init__(
        self, dsn: Dsn, pace: Pace, record: Callable[[EndpointStatus], None], clock: Clock
    ) -> None:
        self.dsn = dsn
        self.pace = pace
        self._record = record
        self._clock = clock
        self._lost = asyncio.Event()
        self._looker = Looker(dsn, pace.timeout_s, self._connection_lost)
        self._backoff = Backoff(pace.interval_s, pace.backoff_max_s)
        self._last: EndpointStatus | None = None
        self._looks = 0
        self._failures = 0
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begins to look."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    def hurry(self) -> None:
        """Something has changed there: look now."""
        self._lost.set()

    def rest(self) -> None:
        """Ends the connection, and begins anew later."""
        self.close()
        self._task = asyncio.get_running_loop().create_task(self._run(after_s=_REST_S))

    def close(self) -> None:
        """Ends it; nothing is recorded from here on."""
        if self._task is not None:
            self._task.cancel()
        self._looker.close()

    async def closed(self) -> None:
        """Returns when it has ended."""
        if self._task is not None:
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _run(self, after_s: float = 0.0) -> None:
        await asyncio.sleep(after_s)
        while True:
            self._lost.clear()
            status = await self._look()
            self._report(status)
            self._last = status
            self._record(status)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._pause_s(status)):
                    await self._lost.wait()

    def _pause_s(self, status: EndpointStatus) -> float:
        if not status.error:
            self._backoff.reset()
            return jittered(self.pace.interval_s, _JITTER)
        return self._backoff.next_s()

    async def _look(self) -> EndpointStatus:
        began_at = self._clock()
        self._looks += 1
        try:
            async with asyncio.timeout(self.pace.timeout_s):
                found = await self._looker.look()
        except Exception as error:  # whatever it is, the next look must come
            self._looker.drop()
            self._failures += 1
            return self._failed(began_at, error)
        return self._found(began_at, found)

    def _found(self, began_at: float, found: Found) -> EndpointStatus:
        return replace(
            self._blank(began_at, reachable=True),
            in_recovery=found.in_recovery,
            lsn=found.lsn,
            received_lsn=found.received_lsn,
            replay_delay_s=found.replay_delay_s,
            timeline=found.timeline,
            system_id=found.system_id,
        )

    def _failed(self, began_at: float, error: Exception) -> EndpointStatus:
        said = _described(error)
        if isinstance(error, OSError) and error.errno in OUT_OF_DESCRIPTORS and self._last:
            # This says nothing of the endpoint; what was found last is good until it expires.
            return replace(self._last, error=said, looks=self._looks, failures=self._failures)
        answers = isinstance(error, asyncpg.PostgresError) and not isinstance(error, _AWAY)
        return replace(self._blank(began_at, reachable=answers), error=said)

    def _blank(self, began_at: float, *, reachable: bool) -> EndpointStatus:
        good_for_s = _MISSED_LOOKS * self.pace.interval_s + self.pace.timeout_s
        return EndpointStatus(
            address=self.dsn.address,
            looked_at=began_at,
            expires_at=began_at + good_for_s,
            reachable=reachable,
            looks=self._looks,
            failures=self._failures,
        )

    def _connection_lost(self) -> None:
        """A server that restarts may come back behind where it was: its position is not known."""
        if self._last is not None and self._last.in_recovery:
            self._last = replace(self._last, lsn=None, error="its connection was closed")
            self._record(self._last)
        self._lost.set()

    def _report(self, status: EndpointStatus) -> None:
        """One log line when something changes, not one for each look."""
        before, now = _state(self._last), _state(status)
        if before != now:
            level = logging.INFO if status.reachable and not status.error else logging.WARNING
            logger.log(level, "%s: %s", self.dsn.place, now)


def _state(status: EndpointStatus | None) -> str:
    """What is worth a line when it changes."""
    if status is None:
        return ""
    if not status.reachable:
        return f"can't be reached: {status.error}"
    if status.in_recovery is None:
        return f"answers, but does not tell its state: {status.error}"
    role = "a standby" if status.in_recovery else "a primary"
    return f"is {role} on timeline {status.timeline}"


def _described(error: Exception) -> str:
    text = " ".join(str(error).split())
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return text or type(error).__name__
