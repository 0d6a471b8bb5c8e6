"""What every session of a worker shares."""

from __future__ import annotations

from dataclasses import dataclass, field

from gateway.clock import Clock, monotonic
from gateway.directory.directory import Directory
from gateway.directory.two_phase_resolver import Resolver
from gateway.health.state import Health
from gateway.net.carrier import Carrier, LoopCarrier
from gateway.pool.pools import Pools
from gateway.pool.prepared import Statements
from gateway.router.facts import FactsCache
from gateway.router.identity import Login, LoginKind
from gateway.router.route import Known, owner_not_found
from gateway.router.tables import TableMap
from gateway.router.topology import Endpoint, Snapshot
from gateway.session.aims import Aims
from gateway.session.allowance import Budgets
from gateway.session.holds import Holds
from gateway.session.known_routes import KnownRoutes
from gateway.session.parents import Parents
from gateway.session.pauses import Pauses
from gateway.session.pinned import Pinned
from gateway.session.registry import Registry
from gateway.session.two_phase import TwoPhase
from gateway.session.unread import Unread
from gateway.settings.model import PoolMode, Settings


@dataclass
class Counters:
    """Totals since the start of the worker, as plain integers."""

    logins: int = 0
    login_failures: int = 0
    rejected_clients: int = 0
    transactions: int = 0
    bytes_from_clients: int = 0
    bytes_to_clients: int = 0
    errors_from_servers: int = 0
    errors_of_gateway: int = 0
    probes: int = 0
    pins: dict[str, int] = field(default_factory=dict)
    replays: int = 0
    reads_repeated: int = 0
    cancels: int = 0
    cancels_unknown: int = 0


class Terms:
    """What the settings say of every transaction, read off them once."""

    __slots__ = ("audit_interval", "debug", "server_statements_max", "share_depth", "stamps")

    def __init__(self, settings: Settings) -> None:
        self.audit_interval = settings.pool.audit_interval
        self.server_statements_max = settings.pool.server_statements_max
        self.share_depth = settings.pool.share_depth
        self.stamps = settings.routing.stamps
        self.debug = settings.log.level == "debug"


@dataclass
class Context:
    """The worker's parts, as a session sees them. What is of the settings changes by `follow`."""

    settings: Settings
    snapshot: Snapshot
    modes: dict[tuple[str, int, str], PoolMode]
    directory: Directory
    pools: Pools
    facts: FactsCache
    statements: Statements
    registry: Registry
    clock: Clock
    mock_secret: bytes
    tables: TableMap
    parents: Parents
    holds: Holds
    pauses: Pauses
    health: Health
    two_phase: TwoPhase
    resolver: Resolver
    sequence_readers: set[str] = field(default_factory=set)
    """Logins whose clients use currval or lastval: they keep their server after a write."""
    counters: Counters = field(default_factory=Counters)
    budgets: Budgets = field(default_factory=lambda: Budgets(monotonic))
    carrier: Carrier = field(default_factory=LoopCarrier)
    """Makes the transports of plain connections."""
    unread: Unread = field(default_factory=Unread)
    terms: Terms = field(init=False)
    aims: Aims = field(init=False)
    routes: KnownRoutes = field(init=False)
    pinned: Pinned = field(init=False)

    def __post_init__(self) -> None:
        self.aims = Aims(self.pools, self.budgets)
        self.routes = KnownRoutes(self.directory)
        self.terms = Terms(self.settings)
        self.pinned = Pinned(self.counters.pins)

    def follow(self, settings: Settings, snapshot: Snapshot) -> None:
        """The settings have changed."""
        self.settings = settings
        self.snapshot = snapshot
        self.terms = Terms(settings)

    def outstanding(self, endpoint: Endpoint) -> int:
        """Requests of this worker that an endpoint has not answered, those that wait for it too."""
        return self.pools.outstanding(endpoint)

    def session_mode(self, endpoint: Endpoint) -> bool:
        """Whether clients of ``endpoint`` keep their server until they leave."""
        return self.modes.get(endpoint.address) is PoolMode.SESSION

    def peek(self, login: Login, owner_id: str) -> Known:
        """What the directory can say of an owner, and of a service login, without waiting."""
        grants = None
        if login.kind is LoginKind.SERVICE:
            grants = self.directory.peek_grants(login.name)
        return Known(self.directory.peek_owner(owner_id), grants)

    async def look_up(self, login: Login, owner_id: str) -> Known:
        """The same, asked for; without an owner, only for whom a service login may act.

        Raises UnknownOwner, DirectoryUnavailable.
        """
        owner = await self.directory.owner(owner_id) if owner_id else None
        if owner is None and owner_id:
            raise owner_not_found(owner_id)
        grants = None
        if login.kind is LoginKind.SERVICE:
            grants = await self.directory.grants(login.name)
        return Known(owner, grants)
