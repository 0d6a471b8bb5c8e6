"""One worker: builds the parts, connects them, and answers start, reload, drain and stop.

The only module that knows everybody.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import socket
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gateway.admin import operations
from gateway.admin.console import Console
from gateway.admin.fleet import Fleet
from gateway.admin.gateways import Gateways
from gateway.admin.pages import WorkerPages
from gateway.admin.views import Views
from gateway.clock import monotonic
from gateway.directory.directory import Directory
from gateway.directory.invalidation import Kind
from gateway.directory.two_phase_log import TwoPhaseLog
from gateway.directory.two_phase_resolver import Resolver, keep_resolving
from gateway.errors import NotPermitted, ShuttingDown
from gateway.health.marks import Marks
from gateway.health.prober import Prober
from gateway.health.state import Health, everybody_of
from gateway.net.carrier import Carrier, carrier_for
from gateway.net.listener import Arrival, Listener, Tls, open_tcp, open_unix
from gateway.net.tls import server_context
from gateway.pool.permits import alone
from gateway.pool.pools import Pools
from gateway.pool.prepared import Statements
from gateway.pool.seats import Seats, SharedBound
from gateway.protocol.startup import CancelRequest
from gateway.router.build import (
    build_snapshot,
    build_tables,
    credentials,
    owner_column,
    tenant_columns,
)
from gateway.router.facts import FactsCache
from gateway.router.identity import LoginKind
from gateway.router.topology import Endpoint, Shard, Snapshot
from gateway.session.allowance import Budgets
from gateway.session.census import Census
from gateway.session.context import Context
from gateway.session.holds import Holds
from gateway.session.login import Admission, Doorkeeper
from gateway.session.parents import Parents
from gateway.session.pauses import Pauses
from gateway.session.rates import Rates
from gateway.session.registry import Registry
from gateway.session.two_phase import TwoPhase
from gateway.settings.changes import described
from gateway.settings.dsn import Dsn, parse
from gateway.settings.effective import pool_limits
from gateway.settings.model import Pool as PoolSettings
from gateway.settings.model import Routing, Settings, TlsMode

if TYPE_CHECKING:
    from gateway.admin.http import HttpServer

_log = logging.getLogger(__name__)

FACTS_ENTRIES = 20_000
FACTS_BYTES_MAX = 32 * 1024 * 1024
_TICK_S = 0.1
_DRAIN_POLL_S = 0.05
_LOG_TIMEOUT_S = 5.0
"""Longest time that a decision of a two-phase commit may take to be written."""
_SETTLE_S = 5.0
"""So long a stop waits for commits that are under way."""

Reread = Callable[[], Settings]
"""Reads the settings anew. Raises ConfigError."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a worker stands among several, ``number`` of ``count``, and what they share.

    ``sockets`` are listening; the first is TCP, on ``port``, but for a successor's.
    """

    number: int
    count: int
    port: int
    fleet: Fleet
    sockets: Sequence[socket.socket]
    census: Census
    seats: Seats
    rates: Rates
    marks: Marks

    def part_of(self, whole: int) -> int:
        """This worker's part of something that all have together."""
        return whole // self.count + (self.number <= whole % self.count)


class Worker:
    """A gateway in one process, or one of its workers. One that is alone has no ``place``."""

    def __init__(self, settings: Settings, reread: Reread, place: Place | None = None) -> None:
        self._reread = reread
        self._place = place
        self._tasks: set[asyncio.Task[None]] = set()
        self._listeners: list[Listener] = []
        self._primaries: dict[str, Endpoint] = {}
        """Of each shard with replicas, the endpoint that was the primary when last looked."""
        self._draining = False
        self._leaving = False
        """A successor takes the clients over."""
        facts = FactsCache(
            FACTS_ENTRIES,
            FACTS_BYTES_MAX,
            tenant_columns(settings.routing),
            settings.routing.harmless_functions,
        )
        carrier = carrier_for(settings.transport)
        log = TwoPhaseLog(parse(settings.meta.primary.get_secret_value()), _LOG_TIMEOUT_S)
        self.context = Context(
            settings=settings,
            snapshot=build_snapshot(settings, epoch=1),
            modes={},
            directory=Directory(
                parse(settings.meta.primary.get_secret_value()), settings.directory
            ),
            pools=_pools(place, carrier),
            facts=facts,
            statements=Statements(facts),
            registry=Registry(place.number, place.census) if place else Registry(),
            clock=monotonic,
            mock_secret=_mock_secret(settings),
            health=Health(place.marks if place else Marks.private(monotonic())),
            budgets=Budgets(monotonic, place.seats, place.rates) if place else Budgets(monotonic),
            tables=build_tables(settings.routing),
            parents=Parents(monotonic, owner_column(settings.routing)),
            holds=Holds(settings.failover, monotonic),
            two_phase=TwoPhase(log),
            resolver=Resolver(
                log,
                self._primary_places,
                lambda: self.context.two_phase.under_way,
                _LOG_TIMEOUT_S,
            ),
            pauses=Pauses(settings.pause, monotonic, self._has_room),
            carrier=carrier,
        )
        self.context.directory.cancels.serve(self.cancel_here)
        self.context.directory.subscribe(self._mark_moved)
        self._two_phase_log = log
        self._prober = Prober(self.context.health, monotonic)
        self.context.pools.on_vacate = self._vacate_elsewhere
        self._configure_pools()
        self._doorkeeper = Doorkeeper(self.context)
        board = self.context.directory.board
        if place is None:
            self._gateways = Gateways(self.context, board)
        else:
            self._gateways = Gateways(self.context, board, place.fleet.pass_on)
        self.context.directory.on_orders = self._gateways.ring
        self.views = Views(
            self.context,
            self._reload_all,
            self.state,
            place.fleet if place else None,
            self._gateways,
        )
        self._console = Console(self.views)
        self._http: HttpServer | None = None
        """Of a worker that is alone; else the supervisor's."""

    # --- life ---

    async def start(self) -> None:
        """Listen. Raises OSError when an address is taken, ConfigError for a bad certificate."""
        await self.context.directory.start()
        self._watch_health()
        sockets = self._place.sockets if self._place else self._open_sockets()
        port = self._place.port if self._place else sockets[0].getsockname()[1]
        await self._gateways.start(f"{socket.gethostname()}:{port}")
        self.listen_on(sockets)
        self._spawn(self._tick())
        self._spawn(self._keep_resolving())
        if self._place is not None:
            _log.info("worker %d is ready", self._place.number)
            return
        await self._serve_http()
        host, port = self.address
        _log.info("ready: listening on %s:%d, HTTP on %s", host, port, self.http_address)

    async def _serve_http(self) -> None:
        from gateway.admin.http import HttpServer  # 8 MB, which one among several does without

        self._http = HttpServer(WorkerPages(self.views))
        await self._http.start()

    @property
    def address(self) -> tuple[str, int]:
        """Where clients connect."""
        return self._listeners[0].address

    @property
    def http_address(self) -> tuple[str, int] | None:
        """Where metrics and health are; None when HTTP is off."""
        return None if self._http is None else self._http.address

    def state(self) -> str:
        """``ready``, ``draining`` or ``starting``, for the health pages."""
        if self._draining:
            return "draining"
        return "ready" if self._listeners else "starting"

    def reload(self) -> list[str]:
        """Read the settings anew and follow them; what changed, a line each.

        Raises ConfigError, and then nothing has changed.
        """
        before = self.context.settings
        settings = self._reread()
        tls = client_tls(settings)
        snapshot = build_snapshot(settings, epoch=self.context.snapshot.epoch + 1)
        self.context.follow(settings, snapshot)
        self.context.holds.settings = settings.failover
        self.context.pauses.settings = settings.pause
        self._configure_pools()
        self._watch_health()
        if settings.routing != before.routing:
            self._reread_statements()
        self._doorkeeper.configure()
        for listener in self._listeners:
            listener.tls = tls
            listener.timeout_s = settings.listen.login_timeout_s
            listener.in_progress_max = settings.auth.max_logins_in_progress
        changes = described(before, settings)
        _log.info("reloaded: %s", "; ".join(changes) or "nothing changed")
        return changes

    async def _reload_all(self) -> list[str]:
        return self.reload() if self._place is None else await self._place.fleet.reload()

    def listen_on(self, sockets: Sequence[socket.socket]) -> None:
        """Accept clients on these, too. Raises ConfigError for a bad certificate."""
        for sock in sockets:
            listener = self._listener(sock)
            self._listeners.append(listener)
            listener.start()

    def leave(self) -> socket.socket:
        """Accept nobody new, for a successor does; the TCP socket that it goes on with.

        Raises OSError when there is none.
        """
        self._leaving = True
        self._configure_pools()
        tcp = next((one for one in self._listeners if one.address[1]), None)
        if tcp is None:
            raise OSError("no clients are accepted here")
        sock = tcp.duplicate()
        for listener in self._listeners:
            listener.close()
        return sock

    @property
    def listens(self) -> bool:
        """Whether clients are accepted by TCP."""
        return any(one.address[1] for one in self._listeners)

    @property
    def occupied(self) -> bool:
        """Whether clients are here, or still on their way in."""
        return bool(len(self.context.registry) or any(one.in_progress for one in self._listeners))

    async def drain(self) -> None:
        """Accept nobody new, let transactions end, close the rest when time is up."""
        self._draining = True
        for listener in self._listeners:
            listener.close()
        error = ShuttingDown(
            "terminating connection due to administrator command",
            hint="The gateway is shutting down; connect again.",
        )
        for session in self.context.registry:
            session.drain(error)
        self.context.pauses.close(error)
        # A worker that leaves has spent half of it on moving its clients.
        timeout_s = self.context.settings.listen.shutdown_timeout_s / (1 + self._leaving)
        deadline = monotonic() + timeout_s
        while len(self.context.registry) and monotonic() < deadline:  # noqa: ASYNC110 - of clients
            await asyncio.sleep(_DRAIN_POLL_S)
        await self.stop()

    async def stop(self) -> None:
        """Close everything now."""
        self._draining = True
        error = ShuttingDown("terminating connection due to administrator command")
        for listener in self._listeners:
            listener.close()
            await listener.abandon()
        for session in self.context.registry:
            session.end(error)
        for task in list(self._tasks):
            task.cancel()
        await self._prober.close()
        self.context.resolver.closed = True
        await self.context.two_phase.close(_SETTLE_S)
        await self._two_phase_log.close()
        await self.context.pools.shut()
        await self._gateways.close()
        await self.context.directory.close()
        if self._http is not None:
            await self._http.stop()
        self.context.carrier.close()

    # --- parts ---

    def _configure_pools(self) -> None:
        context = self.context
        limits = limits_by_address(context.settings, context.snapshot)
        if self._place is not None:
            limits = {
                address: limit.model_copy(update={"min": self._warm(limit.min, self._place)})
                for address, limit in limits.items()
            }
        context.modes = {address: limit.mode for address, limit in limits.items()}
        context.pools.configure(
            credentials(context.settings),
            limits,
            context.settings.operator_role,
            (endpoint for endpoint, _ in _endpoints(context.snapshot)),
        )

    def _warm(self, whole: int, place: Place) -> int:
        """How many connections this worker keeps open unused."""
        return 0 if self._leaving else place.part_of(whole)

    def _reread_statements(self) -> None:
        """Other columns, tables or functions: what texts mean is found anew."""
        context, routing = self.context, self.context.settings.routing
        context.facts.configure(tenant_columns(routing), routing.harmless_functions)
        context.statements.forget()
        context.tables = build_tables(routing)
        context.parents.configure(owner_column(routing))

    def _has_room(self, shard: Shard) -> bool:
        return self.context.pools.have_room(shard.primary)

    def _watch_health(self) -> None:
        context = self.context
        self._prober.configure(context.settings, context.snapshot, credentials(context.settings))

    def _open_sockets(self) -> list[socket.socket]:
        listen = self.context.settings.listen
        sockets = [open_tcp(listen.host, listen.port, listen.backlog)]
        if listen.unix_socket_dir:
            port = sockets[0].getsockname()[1]
            sockets.append(open_unix(listen.unix_socket_dir, port, listen.backlog))
        return sockets

    def _listener(self, sock: socket.socket) -> Listener:
        settings = self.context.settings
        return Listener(
            sock,
            self._arrived,
            tls=client_tls(settings) if sock.family != socket.AF_UNIX else None,
            timeout_s=settings.listen.login_timeout_s,
            in_progress_max=settings.auth.max_logins_in_progress,
            carrier=self.context.carrier,
        )

    # --- transactions over several databases ---

    def _primary_places(self) -> list[Dsn]:
        """Where transactions may have been prepared: every primary, once."""
        context = self.context
        urls = credentials(context.settings)
        shards = context.snapshot.shards.values()
        addresses = {context.health.primary_of(shard).address for shard in shards}
        return [urls[address] for address in sorted(addresses)]

    async def _keep_resolving(self) -> None:
        """Look for what was left in doubt, at once and then every so often."""

        def routing() -> Routing:
            return self.context.settings.routing

        await keep_resolving(
            self.context.resolver,
            lambda: routing().two_phase,
            lambda: routing().two_phase_resolve_interval_s,
        )

    # --- clients ---

    async def _arrived(self, arrival: Arrival) -> None:
        """A client's first request: a cancel, the console, or a session."""
        request = arrival.request
        if isinstance(request, CancelRequest):
            await self._cancel(request)
            arrival.stream.close()
            return
        await self._gateways.ready()
        admission = await self._doorkeeper.admit(arrival, request)
        if admission.asked.database == self.context.settings.console.database:
            self._open_console(admission)
        else:
            await self._doorkeeper.open_session(admission)

    async def _cancel(self, request: CancelRequest) -> None:
        """Carry out a CancelRequest. Returns when it can't hit what its client sends later."""
        self.context.counters.cancels += 1
        if await self.cancel_here(request.pid, request.secret):
            return
        fleet = None if self._place is None else self._place.fleet
        if fleet is not None and await fleet.cancel(request.pid, request.secret):
            return
        if not await self.context.directory.cancels.forward(request.pid, request.secret):
            self.context.counters.cancels_unknown += 1

    async def cancel_here(self, number: int, secret: bytes) -> bool:
        """Cancel what this client of ours runs; False when the key is nobody's here."""
        session = self.context.registry.find(number, secret)
        if session is None:
            return False
        if (under_way := session.cancel()) is not None:
            await asyncio.wait([under_way])
        return True

    def _mark_moved(self, kind: Kind, key: str) -> None:
        """Who lives elsewhere now finds there what was copied, which replicas may not have yet."""
        now, marks = self.context.clock(), self.context.health.marks
        if kind is Kind.OWNER:
            marks.mark(key, now)
        elif kind is Kind.ALL:
            for shard in self.context.snapshot.shards.values():
                marks.mark(everybody_of(shard), now)

    def _vacate_elsewhere(self, place: str) -> None:
        """Our pools leave a database that somebody wants to drop: so do our probes, and others."""
        self._prober.vacate(place)
        if self._place is not None:
            self._place.fleet.vacate(place)

    def vacate_here(self, place: str) -> None:
        """Another worker's client wants to drop a database."""
        self.context.pools.vacate_here(place)
        self._prober.vacate(place)

    def _open_console(self, admission: Admission) -> None:
        if admission.login.kind is not LoginKind.OPERATOR:
            raise NotPermitted(
                f'login "{admission.login.name}" may not use the console',
                hint="Log in as an operator.",
            )
        self._console.open(admission.arrival, admission.login, self.context.registry)

    # --- upkeep ---

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(_TICK_S)
            try:
                self.context.pools.tick()
                self.context.health.breakers = self.context.pools.breakers()
                self.context.health.tripped = self.context.pools.tripped()
                self._follow_primaries()
                self.context.holds.tick()
                self.context.unread.tick()
                operations.upkeep(self.context)
                self.context.health.marks.renew(self.context.clock())
            except Exception:
                _log.exception("upkeep of the pools failed")

    def _follow_primaries(self) -> None:
        """Nobody writes on where a primary was, once another one has taken its place."""
        context = self.context
        for shard in context.snapshot.shards.values():
            if not shard.replicas:
                continue
            now = context.health.primary_of(shard)
            before = self._primaries.get(shard.name, shard.primary)
            self._primaries[shard.name] = now
            if before.address != now.address:
                _log.error("%s: %s is the primary now, not %s", shard.name, now.name, before.name)
                context.pools.fence(
                    before,
                    ShuttingDown(
                        f"{before.name} is no longer the primary of {shard.name}",
                        hint="Repeat the transaction: it will find the new primary.",
                    ),
                )
                context.pools.listen_elsewhere(before, now)

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _pools(place: Place | None, carrier: Carrier | None) -> Pools:
    """Those of a worker that is alone, or that shares bounds with others."""
    if place is None:
        return Pools(monotonic, alone, carrier)

    def shared(bound: str) -> SharedBound:
        return SharedBound(place.seats, bound, place.count)

    return Pools(monotonic, place.fleet.purse, carrier, shared)


def _mock_secret(settings: Settings) -> bytes:
    """What mock logins' salts are made from: the same in all workers, instances and restarts.

    Otherwise an unknown login could be told by its changing salt.
    """
    meta = settings.meta.primary.get_secret_value()
    return hashlib.sha256(b"gateway mock authentication\0" + meta.encode()).digest()


def client_tls(settings: Settings) -> Tls | None:
    """TLS towards clients, None without a certificate. Raises ConfigError."""
    tls = settings.listen.tls
    if tls.mode is TlsMode.DISABLE or tls.certificate_file is None:
        return None
    key_file = tls.key_file or tls.certificate_file
    context = server_context(tls.certificate_file, key_file, tls.minimum_version)
    return Tls(context, required=tls.mode is TlsMode.REQUIRE)


def limits_by_address(
    settings: Settings, snapshot: Snapshot
) -> dict[tuple[str, int, str], PoolSettings]:
    """The bounds of the pools of each database; where industries share one, the first one's."""
    limits: dict[tuple[str, int, str], PoolSettings] = {}
    for endpoint, industry in _endpoints(snapshot):
        limits.setdefault(endpoint.address, pool_limits(settings, industry))
    return limits


def _endpoints(snapshot: Snapshot) -> list[tuple[Endpoint, str | None]]:
    """Every endpoint with its industry (None for the meta database)."""
    return [
        (endpoint, shard.industry)
        for shard in snapshot.shards.values()
        for endpoint in (shard.primary, *shard.replicas)
    ]
