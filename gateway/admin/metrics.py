"""The worker's plain counters as Prometheus metrics, harvested when somebody asks.

Labels are pools, industries and states: their number is bounded by the settings. Owners and logins
are never labels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from gateway.admin import version
from gateway.admin.views import Views, longest_wait_s, resting
from gateway.health.state import Watched
from gateway.pool.core import ServerState
from gateway.pool.pool import Pool
from gateway.router.positions import EndpointStatus
from gateway.router.replicas import USABLE
from gateway.router.topology import Snapshot
from gateway.session.holds import Holds
from gateway.session.pauses import Pauses
from gateway.settings.shards import META

SHARED = "several"
"""The industry of a database that several industries share."""


class WorkerCollector(Collector):
    """Everything one worker counts."""

    def __init__(self, views: Views) -> None:
        self._views = views

    def collect(self) -> Iterator[Metric]:
        """All metrics as they are now."""
        yield from self._state()
        yield from self._clients()
        yield from self._pins()
        yield from self._holds()
        yield from self._pools()
        yield from self._health()
        yield from self._directory()

    def _state(self) -> Iterator[Metric]:
        build = GaugeMetricFamily("gateway_build_info", "Always 1.", labels=["version", "build"])
        build.add_metric([version.gateway_version(), version.build()], 1)
        yield build
        ready = not self._views.not_ready()
        yield GaugeMetricFamily("gateway_ready", "1 when clients are welcome.", value=int(ready))
        epoch = self._views.context.snapshot.epoch
        yield GaugeMetricFamily("gateway_settings_epoch", "Grows with each reload.", value=epoch)

    def _clients(self) -> Iterator[Metric]:
        context = self._views.context
        yield GaugeMetricFamily(
            "gateway_clients", "Clients connected now.", value=len(context.registry)
        )
        busy = self._views.busy_clients()
        yield GaugeMetricFamily(
            "gateway_clients_busy", "Clients that have a server or wait for one.", value=busy
        )
        yield GaugeMetricFamily(
            "gateway_clients_idle",
            "Clients between their statements, without a server.",
            value=len(context.registry) - busy,
        )
        yield CounterMetricFamily(
            "gateway_rate_refusals",
            "Statements refused because they came too soon.",
            value=context.budgets.refusals,
        )
        yield GaugeMetricFamily(
            "gateway_clients_max",
            "Clients allowed at one time.",
            value=context.settings.listen.max_client_connections,
        )
        for name, (attribute, help_text) in _TOTALS.items():
            value = getattr(context.counters, attribute)
            yield CounterMetricFamily(f"gateway_{name}", help_text, value=value)
        for name, help_text in _FACTS_TOTALS.items():
            value = getattr(context.facts, name)
            yield CounterMetricFamily(f"gateway_statement_facts_{name}", help_text, value=value)
        yield GaugeMetricFamily(
            "gateway_prepared_statements",
            "Different prepared statements that clients or servers know.",
            value=len(context.statements),
        )
        yield GaugeMetricFamily(
            "gateway_prepared_statement_bytes",
            "Bytes of their texts and parameter types, each kept once.",
            value=context.statements.kept_bytes,
        )

    def _pins(self) -> Iterator[Metric]:
        context, labels = self._views.context, ["reason"]
        total = CounterMetricFamily(
            "gateway_pins", "Times a client was bound to its server, by reason.", labels=labels
        )
        clients = GaugeMetricFamily(
            "gateway_pinned_clients", "Clients bound to their server now.", labels=labels
        )
        oldest = GaugeMetricFamily(
            "gateway_pins_oldest_seconds",
            "For how long the one that was bound first has been.",
            labels=labels,
        )
        now = context.clock()
        for one in context.pinned.reasons():
            total.add_metric([str(one.pin)], one.total)
            clients.add_metric([str(one.pin)], one.clients)
            oldest.add_metric([str(one.pin)], 0 if one.oldest is None else now - one.oldest.since)
        yield from (total, clients, oldest)

    def _holds(self) -> Iterator[Metric]:
        context = self._views.context
        reasons: dict[str, Holds | Pauses] = {"failover": context.holds, "pause": context.pauses}
        now = GaugeMetricFamily(
            "gateway_held_clients",
            "Clients whose statement waits, unsent, for its database or for a pause's end.",
            labels=["reason"],
        )
        taken = CounterMetricFamily("gateway_holds", "Times a client began to.", labels=["reason"])
        refusals = CounterMetricFamily(
            "gateway_hold_refusals",
            "Clients told the error: they had waited too long, or were too many.",
            labels=["reason"],
        )
        for reason, held in reasons.items():
            now.add_metric([reason], len(held))
            taken.add_metric([reason], held.taken)
            refusals.add_metric([reason], held.refusals)
        yield from (now, taken, refusals)

    def _pools(self) -> Iterator[Metric]:
        context = self._views.context
        groups = _by_name(context.pools, context.snapshot)
        servers = GaugeMetricFamily(
            "gateway_pool_servers",
            "Server connections by state.",
            labels=["pool", "industry", "state"],
        )
        for labels, pools in groups.items():
            for state in ServerState:
                count = sum(pool.core.count(state) for pool in pools)
                servers.add_metric([*labels, state], count)
            servers.add_metric([*labels, "opening"], sum(pool.core.opening for pool in pools))
        yield servers
        for gauge in _pool_gauges(context.clock()):
            yield _filled(GaugeMetricFamily, gauge, groups)
        for counter in _POOL_COUNTERS:
            yield _filled(CounterMetricFamily, counter, groups)

    def _health(self) -> Iterator[Metric]:
        watched = list(self._views.watched())
        for metric in _ENDPOINT_METRICS:
            family = metric.family(
                f"gateway_endpoint_{metric.name}", metric.help, labels=["endpoint", "industry"]
            )
            for one in watched:
                value = metric.of(one)
                if value is not None:
                    family.add_metric([one.endpoint.name, one.shard.industry or META], value)
            yield family

    def _directory(self) -> Iterator[Metric]:
        stats = self._views.context.directory.stats()
        caches = [name.removesuffix("_entries") for name in stats if name.endswith("_entries")]
        for name, (figure, help_text) in _DIRECTORY_TOTALS.items():
            yield CounterMetricFamily(f"gateway_directory_{name}", help_text, value=stats[figure])
        yield GaugeMetricFamily(
            "gateway_directory_listening",
            "1 while changes in the meta database reach the gateway.",
            value=stats["listener_connected"],
        )
        entries = GaugeMetricFamily(
            "gateway_directory_cache_entries", "Answers kept.", labels=["cache"]
        )
        for cache in caches:
            entries.add_metric([cache], stats[f"{cache}_entries"])
        yield entries
        for figure, help_text in _CACHE_TOTALS.items():
            family = CounterMetricFamily(
                f"gateway_directory_cache_{figure}", help_text, labels=["cache"]
            )
            for cache in caches:
                family.add_metric([cache], stats[f"{cache}_{figure}"])
            yield family


@dataclass(frozen=True, slots=True)
class _PoolMetric:
    """One figure of a pool. Pools of the same name, one of them retiring, are added up."""

    name: str
    help: str
    of: Callable[[Pool], float]


_Groups = Mapping[tuple[str, str], list[Pool]]


def _filled(
    family: type[GaugeMetricFamily] | type[CounterMetricFamily],
    metric: _PoolMetric,
    groups: _Groups,
) -> Metric:
    made = family(f"gateway_pool_{metric.name}", metric.help, labels=["pool", "industry"])
    for labels, pools in groups.items():
        made.add_metric(labels, sum(metric.of(pool) for pool in pools))
    return made


def _by_name(pools: Iterable[Pool], snapshot: Snapshot) -> _Groups:
    """Pools by their labels: name and industry."""
    industries = _industries(snapshot)
    groups: dict[tuple[str, str], list[Pool]] = {}
    known: dict[str, str] = {}
    for pool in pools:
        industry = known.setdefault(pool.name, industries.get(pool.dsn.address, ""))
        groups.setdefault((pool.name, industry), []).append(pool)
    return groups


def _industries(snapshot: Snapshot) -> dict[tuple[str, int, str], str]:
    """The industry of each database."""
    found: dict[tuple[str, int, str], str] = {}
    for shard in snapshot.shards.values():
        name = shard.industry or META
        for endpoint in (shard.primary, *shard.replicas):
            if found.setdefault(endpoint.address, name) != name:
                found[endpoint.address] = SHARED
    return found


def _pool_gauges(now: float) -> tuple[_PoolMetric, ...]:
    return (
        _PoolMetric("servers_max", "Server connections at most.", lambda pool: pool.core.maximum),
        _PoolMetric(
            "resting_servers", "Servers that clients keep in transactions or pinned.", resting
        ),
        _PoolMetric("waiting_clients", "Clients waiting.", lambda pool: len(pool.core.fair)),
        _PoolMetric(
            "kept_back_clients",
            "Clients waiting because of a limit of their own.",
            lambda pool: len(pool.core.fair) - pool.core.fair.ready,
        ),
        _PoolMetric(
            "waiting_owners",
            "Owners with clients waiting.",
            lambda pool: pool.core.fair.owners_waiting,
        ),
        _PoolMetric(
            "longest_wait_seconds",
            "How long the client that waits longest has waited.",
            lambda pool: longest_wait_s(pool, now),
        ),
    )


_POOL_COUNTERS = (
    _PoolMetric("checkouts", "Servers given to clients.", lambda pool: pool.counters.checkouts),
    _PoolMetric("waits", "Clients that had to wait.", lambda pool: pool.counters.waits),
    _PoolMetric(
        "wait_seconds",
        "Time that clients waited which got a server.",
        lambda pool: pool.counters.wait_us / 1e6,
    ),
    _PoolMetric("timeouts", "Clients that waited too long.", lambda pool: pool.counters.timeouts),
    _PoolMetric(
        "rejections", "Clients that found the queue full.", lambda pool: pool.counters.rejections
    ),
    _PoolMetric("connects", "Connections opened.", lambda pool: pool.counters.opened),
    _PoolMetric(
        "connect_failures",
        "Connections that could not be opened.",
        lambda pool: pool.counters.open_failures,
    ),
    _PoolMetric(
        "breaker_trips",
        "Times that connects began to fail.",
        lambda pool: pool.breaker.trips,
    ),
    _PoolMetric("lost", "Connections that the server ended.", lambda pool: pool.counters.lost),
    _PoolMetric("cleaned", "Servers cleaned after use.", lambda pool: pool.counters.cleaned),
    _PoolMetric("cancels", "Cancel requests sent on.", lambda pool: pool.counters.cancels),
    _PoolMetric(
        "rides",
        "Short reads sent behind another client's on its connection (pool.share_depth).",
        lambda pool: pool.counters.rides,
    ),
    _PoolMetric(
        "query_timeouts",
        "Statements cancelled because they took too long.",
        lambda pool: pool.counters.query_timeouts,
    ),
    _PoolMetric(
        "idle_transactions",
        "Clients ended because they left a transaction idle.",
        lambda pool: pool.counters.idle_transactions,
    ),
)


@dataclass(frozen=True, slots=True)
class _EndpointMetric:
    """One figure of an endpoint; None where nothing is known."""

    family: type[GaugeMetricFamily] | type[CounterMetricFamily]
    name: str
    help: str
    of: Callable[[Watched], float | None]


def _of_look(
    figure: Callable[[EndpointStatus], float | None],
) -> Callable[[Watched], float | None]:
    return lambda one: None if one.status is None else figure(one.status)


_ENDPOINT_METRICS = (
    _EndpointMetric(
        GaugeMetricFamily,
        "up",
        "1 while the database answers.",
        _of_look(lambda look: float(look.reachable)),
    ),
    _EndpointMetric(
        GaugeMetricFamily,
        "primary",
        "1 while the database says that it is a primary, 0 for a standby.",
        _of_look(lambda look: None if look.in_recovery is None else float(not look.in_recovery)),
    ),
    _EndpointMetric(
        GaugeMetricFamily,
        "serves_reads",
        "1 while a replica may serve reads of owners who have not written lately.",
        lambda one: None if one.reads is None else float(one.reads == USABLE),
    ),
    _EndpointMetric(
        GaugeMetricFamily,
        "tripped",
        "1 while connects of the pools there fail, and are tried one at a time.",
        lambda one: float(one.breaker != "closed"),
    ),
    _EndpointMetric(
        GaugeMetricFamily,
        "lag_seconds",
        "How far behind its primary.",
        lambda one: one.lag_s,
    ),
    _EndpointMetric(
        GaugeMetricFamily,
        "lag_bytes",
        "Write-ahead log that is not replayed yet.",
        lambda one: one.lag_bytes,
    ),
    _EndpointMetric(
        GaugeMetricFamily,
        "lsn_bytes",
        "Position in the write-ahead log: written by a primary, replayed by a standby.",
        _of_look(lambda look: look.lsn),
    ),
    _EndpointMetric(
        CounterMetricFamily, "looks", "Looks at the database.", _of_look(lambda look: look.looks)
    ),
    _EndpointMetric(
        CounterMetricFamily,
        "look_failures",
        "Looks that failed.",
        _of_look(lambda look: look.failures),
    ),
)

_TOTALS = {
    "logins": ("logins", "Logins that succeeded."),
    "login_failures": ("login_failures", "Logins that failed."),
    "rejected_clients": ("rejected_clients", "Clients turned away because too many were there."),
    "transactions": ("transactions", "Transactions completed."),
    "received_bytes": ("bytes_from_clients", "Bytes received from clients."),
    "sent_bytes": ("bytes_to_clients", "Bytes sent to clients."),
    "server_errors": ("errors_from_servers", "Errors that servers sent."),
    "errors": ("errors_of_gateway", "Errors of the gateway's own that clients were told."),
    "probes": ("probes", "Times a server was asked what its session holds."),
    "replays": ("replays", "Times a session's settings were replayed on another server."),
    "reads_repeated": (
        "reads_repeated",
        "Reads that were asked again because their server had died before it answered.",
    ),
    "cancel_requests": ("cancels", "Cancel requests of clients."),
    "cancel_requests_unknown": ("cancels_unknown", "Cancel requests with a key nobody has."),
}
_FACTS_TOTALS = {
    "hits": "Statements whose text was known.",
    "misses": "Statements that had to be parsed.",
}
_DIRECTORY_TOTALS = {
    "lookups": ("lookups", "Questions to the meta database."),
    "lookup_failures": ("lookup_failures", "Questions it did not answer."),
    "listener_connects": ("listener_connects", "Times the gateway began to listen for changes."),
    "notifications": ("notifications", "Changes it was told of."),
    "cancels_sent": ("cancels_sent", "Notifications about cancel requests to other gateways."),
    "cancels_refused": ("cancels_refused", "Cancel requests not passed on, for too many waited."),
    "cancels_carried_out": ("cancels_carried_out", "Cancel requests that other gateways had got."),
}
_CACHE_TOTALS = {
    "hits": "Look-ups answered from memory.",
    "misses": "Look-ups that were not.",
    "loads": "Answers loaded.",
    "failures": "Loads that failed.",
    "stale_served": "Old answers given because the meta database was down.",
    "invalidations": "Answers dropped because they had changed.",
}
