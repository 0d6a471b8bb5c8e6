"""From a startup message to a running session: authenticate, route home, say hello.

The hello is what the real server would say with the client's own startup settings: they are
tried on a server once per set of settings and the reports remembered.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass

from cachetools import LRUCache

from gateway.errors import (
    AuthorizationFailed,
    Disabled,
    FeatureNotSupported,
    GatewayError,
    NoRoute,
    ServerSaid,
    TooManyClients,
)
from gateway.net.listener import Arrival
from gateway.net.tls import own_binding
from gateway.pool.pool import Pool
from gateway.pool.visit import Visit
from gateway.protocol import messages
from gateway.protocol.startup import NEWEST, StartupMessage, split_options, unknown_options
from gateway.router.identity import Login, LoginKind
from gateway.router.route import Asked, NeedOwner, Reject, Route, route
from gateway.router.topology import Shard
from gateway.session.authenticate import Authenticator, LoginRefused
from gateway.session.branching_client import BranchingSession
from gateway.session.client import ClientSession
from gateway.session.context import Context
from gateway.session.guest import Guest
from gateway.session.passthrough import PassthroughSession
from gateway.session.pauses import Passage
from gateway.session.reading_client import ReadingSession
from gateway.session.scattering_client import ScatteringSession
from gateway.session.state import (
    Settings,
    custom_names,
    ordered,
    probe_sql,
    read_probe,
    replay_sql,
)

_log = logging.getLogger(__name__)

_NOT_SETTINGS = ("user", "database", "options", "replication")
_IDENTITY = ("user", "database")
_OURS = "gateway."
_OWNER = "gateway.owner"
_REMEMBERED_HELLOS = 4096
_OPERATORS_RESERVE = 10
"""Clients beyond listen.max_client_connections, if they are operators."""

Parameters = dict[bytes, bytes]


@dataclass(frozen=True, slots=True)
class Admission:
    """A client that has proved who it is and said where it wants to go."""

    arrival: Arrival
    startup: StartupMessage
    login: Login
    asked: Asked
    settings: Settings
    """The PostgreSQL settings it asked for at startup."""

    @property
    def application(self) -> str:
        return self.startup.parameters.get("application_name", "")


@dataclass(frozen=True, slots=True)
class Hello:
    """What a server reports under a client's startup settings, and how it spells those."""

    parameters: Parameters
    settings: Settings


class Doorkeeper:
    """Takes clients from their startup message to a session."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._hellos: LRUCache[tuple[str, Settings], Hello] = LRUCache(_REMEMBERED_HELLOS)
        self._binding: bytes | None = None
        self.configure()

    def configure(self) -> None:
        """Follow the settings after a reload."""
        tls = self._context.settings.listen.tls
        self._binding = own_binding(tls.certificate_file) if tls.certificate_file else None
        self._context.budgets.configure(self._context.settings)
        self._context.registry.on_remove = self._context.budgets.leave
        self._authenticator = Authenticator(
            self._context.settings.auth, self._context.directory, self._context.mock_secret
        )
        self._hellos.clear()

    async def admit(self, arrival: Arrival, startup: StartupMessage) -> Admission:
        """Authenticate. Raises GatewayError; the failure is then logged and counted."""
        user = startup.parameters.get("user", "")
        try:
            self._require_room(_OPERATORS_RESERVE)
            _negotiate(arrival, startup)
            if not user:
                raise AuthorizationFailed("no PostgreSQL user name specified in startup packet")
            login, owner = await self._authenticator.prove(
                arrival.stream,
                user,
                in_tls=arrival.tls is not None,
                binding=self._binding if arrival.tls is not None else None,
            )
        except (GatewayError, OSError) as error:
            self._context.counters.login_failures += 1
            why = error.why if isinstance(error, LoginRefused) else str(error)
            _log.warning('login failed: user "%s" from %s: %s', user, arrival.peer, why)
            if isinstance(error, LoginRefused):
                await asyncio.sleep(self._context.settings.auth.failure_delay_ms / 1000)
            raise
        if login.kind is not LoginKind.OPERATOR:
            self._require_room(0)
        asked, settings = _wishes(startup, owner)
        admission = Admission(arrival, startup, login, asked, settings)
        self._set_time(admission, None)
        return admission

    def _set_time(self, admission: Admission, industry: str | None) -> None:
        """How long the login may take, by what is known of it."""
        login, deadline = admission.login, admission.arrival.deadline
        owner = admission.asked.owner or login.owner
        allowed_s = self._context.budgets.login_timeout_s(login, owner, industry)
        if allowed_s is not None and deadline is not None:
            deadline.allow(allowed_s)

    def _require_room(self, reserve: int) -> None:
        """Refuse one client too many; the reserve is for operators, who must always get in."""
        limit = self._context.settings.listen.max_client_connections
        if self._context.registry.everywhere >= limit + reserve:
            self._context.counters.rejected_clients += 1
            raise TooManyClients(
                "sorry, too many clients already",
                hint=f"listen.max_client_connections is {limit}.",
            )

    def _require_enabled(self, login: Login, shard: Shard) -> None:
        """Refuse clients of a database that takes no new ones; operators may look after it."""
        if login.kind is LoginKind.OPERATOR:
            return
        if self._context.pauses.standing.is_disabled(shard):
            self._context.counters.rejected_clients += 1
            raise Disabled(f'database "{shard.name}" is not currently accepting connections')

    async def open_session(self, admission: Admission) -> None:
        """Begin the session of an admitted client. Raises GatewayError."""
        if "replication" in admission.startup.parameters:
            await self._open_passthrough(admission)
            return
        home = await self._home(admission)
        self._set_time(admission, home.shard.industry)
        hello = await self._hello(admission, home)
        arrival, login = admission.arrival, admission.login
        number, secret = self._context.registry.new_key(admission.startup.minor)
        assert arrival.stream.transport is not None
        owner = admission.asked.owner or login.owner
        try:
            self._context.budgets.seat(number, login, owner, home.shard.industry)
        except TooManyClients:
            self._context.counters.rejected_clients += 1
            raise
        guest = Guest(
            login=login,
            asked=admission.asked,
            number=number,
            secret=secret,
            startup_settings=hello.settings,
            parameters=hello.parameters,
            peer=arrival.peer,
            application=admission.application,
        )
        session = _SESSIONS[login.kind](self._context, arrival.stream.transport, guest)
        arrival.stream.write(_welcome(hello.parameters, number, secret))
        try:
            rest = arrival.stream.hand_over(session)
        except OSError:
            self._context.budgets.leave(number)
            raise
        self._context.counters.logins += 1
        session.start(rest)

    async def _open_passthrough(self, admission: Admission) -> None:
        """A replication connection: one to one, for operators."""
        login, arrival = admission.login, admission.arrival
        if login.kind is not LoginKind.OPERATOR:
            raise FeatureNotSupported(
                "replication connections are for operator logins only",
                hint="Log in as an operator and name a database.",
            )
        home = await self._home(admission)
        pool = self._context.pools.get(home.endpoint, operator=True)
        wanted = admission.startup.parameters
        startup = {name: wanted[name] for name in wanted if name not in _IDENTITY}
        server = await pool.open_outside(startup)
        number, secret = self._context.registry.new_key(admission.startup.minor)
        assert arrival.stream.transport is not None
        session = PassthroughSession(
            arrival.stream.transport,
            server,
            pool,
            self._context.registry,
            login,
            self._context.clock,
            number=number,
            secret=secret,
        )
        arrival.stream.write(_welcome(server.parameters, number, secret))
        try:
            rest = arrival.stream.hand_over(session)
        except OSError:
            server.abort()
            pool.outside_ended()
            raise
        self._context.counters.logins += 1
        session.start(rest)

    # --- what the server would report ---

    async def _hello(self, admission: Admission, home: Route) -> Hello:
        operator = admission.login.kind is LoginKind.OPERATOR
        pool = self._context.pools.get(home.endpoint, operator=operator)
        key = (pool.name, admission.settings)
        known = self._hellos.get(key)
        if known is None and self._context.pauses.cover((home.shard,)):
            return await self._hello_meanwhile(admission)
        if known is None:
            known = await _try_settings(pool, admission.settings)
            self._hellos[key] = known
        return known

    async def _hello_meanwhile(self, admission: Admission) -> Hello:
        """The client's own database is paused: what the meta database says."""
        meta = self._context.snapshot.meta
        await Passage(self._context.pauses).wait((meta,))
        return await self._hello(admission, Route(meta, meta.primary, "the home is paused"))

    async def _home(self, admission: Admission) -> Route:
        """Where the client's statements will go; the meta database while that isn't known."""
        context = self._context
        if admission.login.kind is LoginKind.SERVICE and admission.asked.owner is None:
            return Route(context.snapshot.meta, context.snapshot.meta.primary, "not known yet")
        outcome = route(context.snapshot, admission.login, admission.asked)
        if isinstance(outcome, NeedOwner):
            known = await context.look_up(admission.login, outcome.owner)
            outcome = route(context.snapshot, admission.login, admission.asked, known)
        if isinstance(outcome, Route):
            self._require_enabled(admission.login, outcome.shard)
            return outcome
        assert isinstance(outcome, Reject)
        raise outcome.error


_SESSIONS: dict[LoginKind, type[ClientSession]] = {
    LoginKind.OWNER: ReadingSession,
    LoginKind.SERVICE: BranchingSession,
    LoginKind.OPERATOR: ScatteringSession,
}


def session_of(login: Login) -> type[ClientSession]:
    """The kind of session that a login has."""
    return _SESSIONS[login.kind]


async def _try_settings(pool: Pool, settings: Settings) -> Hello:
    """What a server of ``pool`` says to ``settings``. Raises ServerSaid when it refuses them."""
    visit = Visit(pool)
    server = await visit.lease()
    try:
        answer = await visit.ask(replay_sql(server.settings, settings) or "SELECT")
    except BaseException:
        visit.abandon()
        raise
    if answer.error is not None:
        visit.abandon()
        raise ServerSaid(answer.error)
    parameters = dict(server.parameters)
    if settings:
        settings = await _as_server_writes(visit, pool, settings)
    server.settings = settings
    visit.leave()
    return Hello(parameters, settings)


async def _as_server_writes(visit: Visit, pool: Pool, settings: Settings) -> Settings:
    """The settings now in force, spelled as the server spells them: utf8 is UTF8."""
    try:
        answer = await visit.ask(probe_sql(custom_names(settings, ())))
    except BaseException:
        visit.abandon()
        raise
    if answer.error is not None:
        visit.abandon()
        raise ServerSaid(answer.error)
    return read_probe(answer.rows, pool.dsn.user).settings


def _welcome(parameters: Parameters, number: int, secret: bytes) -> bytes:
    """From AuthenticationOk to the first ReadyForQuery."""
    statuses = (messages.parameter_status(name, value) for name, value in parameters.items())
    return b"".join(
        [
            messages.AUTHENTICATION_OK,
            *statuses,
            messages.backend_key_data(number, secret),
            messages.READY_IDLE,
        ]
    )


def _negotiate(arrival: Arrival, startup: StartupMessage) -> None:
    """Tell the client what of its protocol wishes we don't know."""
    unknown = unknown_options(startup)
    if unknown or startup.version > NEWEST:
        newest = min(startup.version, NEWEST)
        arrival.stream.write(messages.negotiate_protocol_version(newest, unknown))


def _wishes(startup: StartupMessage, owner: str | None) -> tuple[Asked, Settings]:
    """Where the client wants to go, and the PostgreSQL settings it wants.

    ``owner`` is the one in its user name. Raises ProtocolViolation for an unreadable ``options``,
    NoRoute for one that names another owner.
    """
    pairs = [
        (name, value)
        for name, value in startup.parameters.items()
        if name not in _NOT_SETTINGS and not name.startswith("_pq_.")
    ]
    pairs = split_options(startup.parameters.get("options", "")) + pairs
    wanted = {name.lower(): value for name, value in pairs}
    user = startup.parameters.get("user", "")
    if owner is not None and wanted.setdefault(_OWNER, owner) != owner:
        raise NoRoute(
            f'user "{user}" and gateway.owner = {wanted[_OWNER]} name two owners',
            hint="Name the owner once.",
        )
    asked = Asked(
        startup.parameters.get("database") or user,
        wanted.get(_OWNER) or None,
        wanted.get(f"{_OURS}industry"),
        wanted.get(f"{_OURS}role"),
    )
    settings = {name: value for name, value in wanted.items() if not name.startswith(_OURS)}
    return asked, ordered(settings)
