"""The gateway's state as plain rows, cheap enough to be asked for in the middle of traffic.

Rows are made one by one as they are taken, so that whoever takes them decides how many at a time.
What must look at every client first is a coroutine and gives traffic a turn in between.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import groupby

from gateway.admin import version
from gateway.admin.explaining import Asked, explained
from gateway.admin.fleet import Fleet
from gateway.admin.gateways import Gateways
from gateway.admin.operator import Operator
from gateway.admin.options import Option, options_of
from gateway.admin.view import Cell, Row, View
from gateway.directory.board import Seen
from gateway.directory.two_phase_resolver import InDoubt
from gateway.health.lsn import lsn_text
from gateway.health.state import Watched
from gateway.pool.core import ServerState
from gateway.pool.pool import Pool
from gateway.pool.server import IDLE, ServerConnection
from gateway.router.explain import Reads
from gateway.router.positions import EndpointStatus
from gateway.router.topology import Endpoint, Industry, Shard
from gateway.session.client import ClientSession, Phase
from gateway.session.context import Context
from gateway.session.pinned import Held, Reason
from gateway.session.standing import Deed, Instruction
from gateway.settings.effective import read_rules

_CLIENTS_PER_TURN = 500

Client = ClientSession | Operator


# --- pools and servers ---


def _count(state: ServerState) -> Callable[[Pool, float], Cell]:
    return lambda pool, now: pool.core.count(state)


def longest_wait_s(pool: Pool, now: float) -> float:
    """How long the client that waits longest has waited, in seconds."""
    longest = next(iter(pool.core.fair.places.values()), None)
    return 0.0 if longest is None else max(0.0, now - longest.since)


def resting(pool: Pool) -> int:
    """Servers whose client leaves them idle: in a transaction, or pinned."""
    return sum(server.replies.idle for server in pool.core.servers(ServerState.BUSY))


POOLS: View[Pool] = View(
    pool=lambda pool, now: pool.name,
    database=lambda pool, now: pool.dsn.place,
    role=lambda pool, now: pool.dsn.user,
    mode=lambda pool, now: pool.limits.mode,
    idle=_count(ServerState.IDLE),
    active=_count(ServerState.BUSY),
    resting=lambda pool, now: resting(pool),
    cleaning=_count(ServerState.CLEANING),
    closing=_count(ServerState.CLOSING),
    opening=lambda pool, now: pool.core.opening,
    min=lambda pool, now: pool.core.minimum,
    max=lambda pool, now: pool.core.maximum,
    waiting=lambda pool, now: len(pool.core.fair),
    kept_back=lambda pool, now: len(pool.core.fair) - pool.core.fair.ready,
    owners_waiting=lambda pool, now: pool.core.fair.owners_waiting,
    longest_wait_ms=lambda pool, now: int(longest_wait_s(pool, now) * 1000),
    retiring=lambda pool, now: pool.core.retired,
    last_error=lambda pool, now: pool.last_error or None,
)

STATS: View[Pool] = View(
    pool=lambda pool, now: pool.name,
    checkouts=lambda pool, now: pool.counters.checkouts,
    waits=lambda pool, now: pool.counters.waits,
    wait_ms=lambda pool, now: pool.counters.wait_us // 1000,
    timeouts=lambda pool, now: pool.counters.timeouts,
    rejections=lambda pool, now: pool.counters.rejections,
    opened=lambda pool, now: pool.counters.opened,
    open_failures=lambda pool, now: pool.counters.open_failures,
    lost=lambda pool, now: pool.counters.lost,
    cleaned=lambda pool, now: pool.counters.cleaned,
    cancels=lambda pool, now: pool.counters.cancels,
    query_timeouts=lambda pool, now: pool.counters.query_timeouts,
    idle_transactions=lambda pool, now: pool.counters.idle_transactions,
)


WORKER = "worker"
"""The last column of what each worker has for itself."""

_TRANSACTION = {ord("I"): "idle", ord("T"): "open", ord("E"): "failed"}


@dataclass(frozen=True, slots=True)
class _Placed:
    """A server connection in its pool."""

    pool: Pool
    state: ServerState
    server: ServerConnection


SERVERS: View[_Placed] = View(
    pool=lambda one, now: one.pool.name,
    pid=lambda one, now: one.server.pid,
    state=lambda one, now: one.state,
    client=lambda one, now: one.server.client_number or None,
    transaction=lambda one, now: _TRANSACTION.get(one.server.status),
    settings=lambda one, now: len(one.server.settings),
    opened_s=lambda one, now: now - one.server.opened_at,
    used_s=lambda one, now: now - one.server.used_at,
    expires_s=lambda one, now: one.server.life_ends_at - now,
    last_error=lambda one, now: one.server.last_error or None,
)
SERVER_COLUMNS = (*SERVERS.columns, WORKER)


# --- clients ---


def _state(client: Client) -> str:
    """What a client is doing now."""
    if isinstance(client, Operator):
        return "console"
    if client.phase is not Phase.LINKED or client.server is None:
        return _PHASES[client.phase]
    if not client.server.replies.idle:
        return "active"
    return "pinned" if client.server.status == IDLE else "in transaction"


_PHASES = {
    Phase.IDLE: "idle",
    Phase.SEEKING: "waiting",
    Phase.LINKED: "active",
    Phase.CLOSED: "closed",
}


def _of_session(cell: Callable[[ClientSession], Cell]) -> Callable[[Client, float], Cell]:
    """A column that consoles have nothing in."""
    return lambda one, now: cell(one) if isinstance(one, ClientSession) else None


def _owner(session: ClientSession) -> str | None:
    return session.asked.owner or session.login.owner


def _endpoint(session: ClientSession) -> str | None:
    return None if session.last_route is None else session.last_route.endpoint.name


CLIENTS: View[Client] = View(
    client=lambda one, now: one.number,
    login=lambda one, now: one.login.name,
    kind=lambda one, now: one.login.kind,
    owner=_of_session(_owner),
    application=lambda one, now: one.application or None,
    peer=lambda one, now: one.peer,
    state=lambda one, now: _state(one),
    endpoint=_of_session(_endpoint),
    server_pid=_of_session(lambda one: None if one.server is None else one.server.pid),
    pins=_of_session(lambda one: ", ".join(one.pins) or None),
    transactions=_of_session(lambda one: one.transactions),
    connected_s=lambda one, now: now - one.connected_at,
)
CLIENT_COLUMNS = (*CLIENTS.columns, WORKER)


@dataclass(slots=True)
class _Seen:
    """An owner that clients are connected for."""

    owner: str
    endpoint: str | None = None
    clients: int = 0
    linked: int = 0
    waiting: int = 0
    transactions: int = 0

    def add(self, client: ClientSession) -> None:
        self.clients += 1
        self.linked += client.phase is Phase.LINKED
        self.waiting += client.phase is Phase.SEEKING
        self.transactions += client.transactions
        self.endpoint = _endpoint(client) or self.endpoint


OWNERS: View[_Seen] = View(
    owner=lambda one, now: one.owner,
    endpoint=lambda one, now: one.endpoint,
    clients=lambda one, now: one.clients,
    idle=lambda one, now: one.clients - one.linked - one.waiting,
    linked=lambda one, now: one.linked,
    waiting=lambda one, now: one.waiting,
    transactions=lambda one, now: one.transactions,
)


def _of_oldest(cell: Callable[[Held, float], Cell]) -> Callable[[Reason, float], Cell]:
    """A column that is empty when no client is pinned now."""
    return lambda one, now: None if one.oldest is None else cell(one.oldest, now)


PINS: View[Reason] = View(
    reason=lambda one, now: str(one.pin),
    clients=lambda one, now: one.clients,
    oldest_s=_of_oldest(lambda held, now: now - held.since),
    total=lambda one, now: one.total,
    statement=_of_oldest(lambda held, now: held.statement or None),
)


# --- topology and settings ---


@dataclass(frozen=True, slots=True)
class _Place:
    """An endpoint and the part of an industry that it holds."""

    shard: Shard
    slots: str | None
    endpoint: Endpoint


def _of_look(cell: Callable[[EndpointStatus], Cell]) -> Callable[[Watched, float], Cell]:
    """A column that endpoints which were not looked at have nothing in."""
    return lambda one, now: None if one.status is None else cell(one.status)


def _age_ms(status: EndpointStatus | None, now: float) -> int | None:
    return None if status is None else int((now - status.looked_at) * 1000)


ROUTES: View[_Place] = View(
    industry=lambda one, now: one.shard.industry,
    shard=lambda one, now: one.shard.name,
    slots=lambda one, now: one.slots,
    endpoint=lambda one, now: one.endpoint.name,
    role=lambda one, now: one.endpoint.role,
    database=lambda one, now: place_of(one.endpoint),
)

HEALTH: View[Watched] = View(
    endpoint=lambda one, now: one.endpoint.name,
    database=lambda one, now: place_of(one.endpoint),
    role=lambda one, now: one.endpoint.role,
    state=lambda one, now: one.state,
    breaker=lambda one, now: one.breaker,
    reads=lambda one, now: one.reads,
    lag_ms=lambda one, now: None if one.lag_s is None else int(one.lag_s * 1000),
    lag_bytes=lambda one, now: one.lag_bytes,
    lsn=_of_look(lambda look: None if look.lsn is None else lsn_text(look.lsn)),
    timeline=_of_look(lambda look: look.timeline),
    patroni=lambda one, now: None if one.member is None else one.member.words,
    looked_ms=lambda one, now: _age_ms(one.status, now),
    looks=_of_look(lambda look: look.looks),
    failures=_of_look(lambda look: look.failures),
    last_error=_of_look(lambda look: look.error or None),
)

CONFIG: View[Option] = View(
    setting=lambda one, now: one.place,
    value=lambda one, now: one.value,
    default=lambda one, now: one.default,
    changed=lambda one, now: one.changed,
)

TOTALS: View[tuple[str, int]] = View(name=lambda one, now: one[0], value=lambda one, now: one[1])

WORKERS: View[Context] = View(
    worker=lambda one, now: one.registry.worker,
    pid=lambda one, now: os.getpid(),
    clients=lambda one, now: len(one.registry),
    servers=lambda one, now: sum(pool.core.live for pool in one.pools),
    waiting=lambda one, now: sum(len(pool.core.fair) for pool in one.pools),
    transactions=lambda one, now: one.counters.transactions,
)


@dataclass(frozen=True, slots=True)
class _Ordered:
    """An instruction in force, and who waits because of it, for how many seconds."""

    instruction: Instruction
    waiting: int | None
    longest_s: float


_DONE = {Deed.PAUSE: "paused", Deed.DRAIN: "drained", Deed.DISABLE: "disabled"}

PAUSES: View[_Ordered] = View(
    what=lambda one, now: _DONE[one.instruction.deed],
    of=lambda one, now: one.instruction.scope.kind,
    name=lambda one, now: one.instruction.scope.name or None,
    ends_s=lambda one, now: (
        max(0.0, one.instruction.ends_at - now) if one.instruction.ends_at else None
    ),
    waiting=lambda one, now: one.waiting,
    longest_wait_ms=lambda one, now: int(one.longest_s * 1000),
    gateway=lambda one, now: one.instruction.gateway or None,
    reach=lambda one, now: "all gateways" if one.instruction.number else "this gateway",
)

GATEWAYS: View[Seen] = View(
    gateway=lambda one, now: one.who.gateway,
    worker=lambda one, now: one.who.number,
    process=lambda one, now: one.who.process,
    state=lambda one, now: "silent" if one.silent else "serves",
    seen_s=lambda one, now: one.silent_s,
    heard=lambda one, now: one.heard,
)

TWO_PHASE: View[tuple[InDoubt, str]] = View(
    database=lambda one, now: one[0].place.place,
    transaction=lambda one, now: one[0].gid,
    role=lambda one, now: one[0].owner,
    age_s=lambda one, now: one[0].age_s,
    decision=lambda one, now: one[1] or None,
)

VERSION: View[str] = View(
    version=lambda state, now: version.gateway_version(),
    build=lambda state, now: version.build(),
    runtime=lambda state, now: version.runtime(),
    state=lambda state, now: state,
)


def place_of(endpoint: Endpoint) -> str:
    """``host:port/database`` for people; no user, no password."""
    host = f"[{endpoint.host}]" if ":" in endpoint.host else endpoint.host
    return f"{host}:{endpoint.port}/{endpoint.database}"


def _slots(industry: Industry) -> dict[int, str]:
    """The hash slots of each shard, by its index, as ranges such as ``0-511``."""
    ranges: dict[int, list[str]] = {}
    first = 0
    for index, slots in groupby(industry.slot_map):
        past = first + sum(1 for _ in slots)
        ranges.setdefault(index, []).append(f"{first}-{past - 1}")
        first = past
    return {index: ",".join(parts) for index, parts in ranges.items()}


# --- the views of one worker ---


@dataclass(frozen=True, slots=True)
class Views:
    """The state of a worker. ``state`` says ready, draining or starting.

    ``reload`` has the whole gateway read the settings anew and says what changed; raises
    ConfigError. ``fleet`` are all workers; None for one that is alone. ``gateways`` are those on
    the same meta database.
    """

    context: Context
    reload: Callable[[], Awaitable[list[str]]]
    state: Callable[[], str]
    fleet: Fleet | None = None
    gateways: Gateways | None = None

    def pools(self) -> Iterator[Row]:
        """What each pool is doing now."""
        return POOLS.rows(list(self.context.pools), self.context.clock())

    def stats(self) -> Iterator[Row]:
        """What each pool has done since it was made."""
        return STATS.rows(list(self.context.pools), self.context.clock())

    def servers(self) -> Iterator[Row]:
        """Every server connection."""
        placed = (
            _Placed(pool, state, server)
            for pool in list(self.context.pools)
            for state in ServerState
            for server in pool.core.servers(state)
        )
        return self._of_worker(SERVERS.rows(placed, self.context.clock()))

    def clients(self) -> Iterator[Row]:
        """Every client, the consoles too, those longest connected first."""
        clients = (one for one in self.context.registry if isinstance(one, Client))
        return self._of_worker(CLIENTS.rows(clients, self.context.clock()))

    def _of_worker(self, rows: Iterable[Row]) -> Iterator[Row]:
        """With the worker's number in the last column."""
        worker = str(self.context.registry.worker)
        return ((*row, worker) for row in rows)

    async def owners(self) -> Iterator[Row]:
        """The owners that clients are connected for."""
        seen: dict[str, _Seen] = {}
        async for client in self._sessions():
            owner = _owner(client)
            if owner is not None:
                seen.setdefault(owner, _Seen(owner)).add(client)
        return OWNERS.rows(seen.values(), self.context.clock())

    def pins(self) -> Iterator[Row]:
        """Why clients kept their server: how many do now, since when, how often, by what."""
        return PINS.rows(list(self.context.pinned.reasons()), self.context.clock())

    def routes(self) -> Iterator[Row]:
        """Every endpoint of the topology, by industry and shard."""
        return ROUTES.rows(self._places(), self.context.clock())

    async def route(self, asked: Asked) -> list[Row]:
        """Where a statement would go, step by step; nothing is run. Raises GatewayError."""
        context = self.context

        def reads(shard: Shard, owner: str) -> Reads:
            rules = read_rules(context.settings, shard.industry)
            fit = context.health.explain(shard, owner, context.clock())
            return Reads(rules.policy, [(endpoint.name, words) for endpoint, words in fit])

        steps = await explained(
            asked,
            context.settings,
            context.snapshot,
            context.directory,
            context.facts.facts,
            reads,
        )
        return list(map(tuple, steps))

    def health(self) -> Iterator[Row]:
        """Every endpoint with what the latest look at it found."""
        return HEALTH.rows(self.watched(), self.context.clock())

    def watched(self) -> Iterator[Watched]:
        """The same as values."""
        context = self.context
        return context.health.overview(context.snapshot.shards.values(), context.clock())

    def config(self) -> Iterator[Row]:
        """Every setting with its default; secrets are not shown."""
        return CONFIG.rows(options_of(self.context.settings), self.context.clock())

    def totals(self) -> Iterator[Row]:
        """What the worker has done since its start."""
        return TOTALS.rows(self.figures().items(), self.context.clock())

    def workers(self) -> Iterator[Row]:
        """This worker."""
        return WORKERS.rows([self.context], self.context.clock())

    def pauses(self) -> Iterator[Row]:
        """The instructions in force."""
        pauses, now = self.context.pauses, self.context.clock()
        told = []
        for instruction in pauses.orders():
            waits = pauses.waiting(instruction.scope)
            paused = instruction.deed is Deed.PAUSE
            told.append(_Ordered(instruction, *(waits if paused else (None, 0.0))))
        return PAUSES.rows(told, now)

    async def all_gateways(self) -> Iterator[Row]:
        """The workers of all gateways on the meta database. Raises DirectoryUnavailable."""
        workers = [] if self.gateways is None else await self.gateways.everybody()
        return GATEWAYS.rows(workers, self.context.clock())

    async def two_phase(self) -> Iterator[Row]:
        """What is prepared in the databases and not ended. Raises DirectoryUnavailable."""
        return TWO_PHASE.rows(await self.context.resolver.in_doubt(), self.context.clock())

    def version(self) -> Iterator[Row]:
        """Which gateway this is, and its state."""
        return VERSION.rows([self.state()], self.context.clock())

    def figures(self) -> Mapping[str, int]:
        """The worker's own counters by name, its pins and directory included."""
        figures = asdict(self.context.counters)
        pins = figures.pop("pins")
        figures["clients"] = len(self.context.registry)
        figures["clients busy"] = self.busy_clients()
        figures["rate refusals"] = self.context.budgets.refusals
        figures.update({f"pins ({reason})": count for reason, count in pins.items()})
        figures["prepared statements"] = len(self.context.statements)
        figures["prepared statement bytes"] = self.context.statements.kept_bytes
        figures["statement facts hits"] = self.context.facts.hits
        figures["statement facts misses"] = self.context.facts.misses
        figures.update({f"directory {k}": v for k, v in self.context.directory.stats().items()})
        return figures

    def busy_clients(self) -> int:
        """Clients that have a server or wait for one; all others are idle."""
        return min(len(self.context.registry), sum(pool.core.in_use for pool in self.context.pools))

    def not_ready(self) -> str:
        """Why no client should be sent here now; empty when all is well."""
        state = self.state()
        if state != "ready":
            return state
        stats = self.context.directory.stats()
        answered = stats["lookups"] > stats["lookup_failures"]
        if self.context.directory.connected or answered:
            return ""
        return "the meta database has not answered yet"

    async def _sessions(self) -> AsyncIterator[ClientSession]:
        """Every client, with turns for the traffic in between."""
        for number, client in enumerate(self.context.registry, 1):
            if isinstance(client, ClientSession):
                yield client
            if number % _CLIENTS_PER_TURN == 0:
                await asyncio.sleep(0)

    def _places(self) -> Iterator[_Place]:
        snapshot = self.context.snapshot
        yield from _endpoints(snapshot.meta, None)
        for industry in snapshot.industries.values():
            slots = _slots(industry)
            for index, shard in enumerate(industry.shards):
                yield from _endpoints(shard, slots.get(index))


def _endpoints(shard: Shard, slots: str | None) -> Iterator[_Place]:
    for endpoint in (shard.primary, *shard.replicas):
        yield _Place(shard, slots, endpoint)
