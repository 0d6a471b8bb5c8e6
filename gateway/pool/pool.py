"""One pool at work: carries out what its core decides. Opens, cleans, cancels, closes.

Nothing here runs per statement but `acquire` and `release`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Mapping

from gateway.clock import Clock, jittered
from gateway.errors import (
    ConnectFailed,
    GatewayError,
    IdleInTransaction,
    PoolExhausted,
    ShuttingDown,
)
from gateway.net.connect import OutOfDescriptors, send_cancel
from gateway.net.instant import read
from gateway.pool.breaker import Breaker
from gateway.pool.cleaning import Cleaning
from gateway.pool.core import PoolCore, ServerState
from gateway.pool.counters import PoolCounters
from gateway.pool.fairness import NOBODY, Tenant
from gateway.pool.overstay import Allowed, Overstay, Watch
from gateway.pool.permits import Purse
from gateway.pool.plain import QUESTION
from gateway.pool.prepared import Schema
from gateway.pool.server import Answer, ServerConnection
from gateway.pool.sharing import Sharer, Sharing, is_kept
from gateway.settings.dsn import Dsn
from gateway.settings.model import Pool as PoolSettings

_log = logging.getLogger(__name__)

STARTUP_PARAMETERS = {"client_encoding": "UTF8"}
"""The same for every pooled connection; what a client wants on top is replayed at its link.

No application_name: a client that gives none must find none, as with PostgreSQL.
"""

_JITTER = 0.1
_GRACE_AFTER_CLIENT_S = 1.0
"""How long a statement may go on whose client has left, before it is cancelled."""
_GONE_POLL_S = 0.01
_LEND_AFTER_S = 0.25
"""An idle server that is ours by right is lent to other workers after this."""
_OUTSIDE_WAIT_S = 1.0
"""How long a client that needs a connection of its own waits for other workers to lend it."""


_CLEAN_AUDITS, _RARER_TIMES = 10, 4
"""After so many samples that found nothing they are half as frequent; up to so many times."""
_SHUT_POLL_MS = 10
_LOOK_AGAIN_S = 0.005
_PLAIN_S = 1.0
"""How long a server may take to say which tables are only tables: clients wait for it."""
_VACATED_S = 2.0
"""How long nothing is opened in a database that somebody wants for himself."""


class Waiter(Sharer):
    """Whoever waits for a server, to be linked to it. Told at most one of these per wait."""

    __slots__ = ()

    def granted(self, server: ServerConnection) -> None:
        """The server is the waiter's until it is released."""

    def refused(self, error: GatewayError) -> None:
        """There will be none."""

    def sent_elsewhere(self) -> None:
        """The pool takes nobody any more: find the way anew."""


OpenConnection = Callable[[float, Mapping[str, str]], Awaitable[ServerConnection]]
"""Opens a server connection in at most so many seconds, with these startup parameters besides
user and database. Raises ConnectFailed."""


class Pool:
    """Connections to one endpoint, database and role."""

    def __init__(
        self,
        name: str,
        dsn: Dsn,
        limits: PoolSettings,
        open_connection: OpenConnection,
        clock: Clock,
        permits: Purse | None = None,
    ) -> None:
        self.name = name
        self.dsn = dsn
        self.limits = limits
        self.core = PoolCore(limits.min, limits.max, limits.queue_max)
        self.core.reserve = limits.operator_reserve
        self.counters = PoolCounters()
        self.sharing = Sharing(
            self.core, self.counters, self.release, limits.share_depth, limits.share_ms / 1000
        )
        self.last_error = ""
        self.greeting: dict[bytes, bytes] = {}
        """The parameters a fresh server reports, once one is known."""
        self.schema = Schema()
        self.audit_factor = 1
        """How many times rarer samples of sessions are than set, until tables change."""
        self.audited_schema = 0
        """`Schema.changes` at the last one."""
        self._clean_audits = 0
        self.notifiers: dict[int, int] = {}
        """By server process id, the client that last sent a NOTIFY through it, until the next
        client has it: who leaves right behind a NOTIFY is still its sender when others hear it."""
        self._open_connection = open_connection
        self._clock = clock
        self._permits = permits if permits is not None else Purse(limits.max)
        self._outside_wanted = 0
        self._total_told = 0
        """How many connections the purse knows of."""
        self._none_wanted = False
        """The purse knows of no more that are wanted."""
        self.breaker = Breaker(*_pauses_s(limits))
        self.suspended = False
        """No new work comes for now."""
        self._renewed_at = 0.0
        """What was begun to be opened before is out of date."""
        self._away_until = 0.0
        """Nothing is opened before, whoever waits."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._deadlines: dict[ServerConnection, float] = {}
        """When to give up on a server that is cleaned or closed, on the clock."""
        self._watch = Watch()
        self._looks_again = False
        self._has_hurried = False
        """Somebody came once who has times of his own for statements or transactions."""

    # --- clients ---

    def acquire(
        self,
        waiter: Waiter,
        preferred: ServerConnection | None = None,
        tenant: Tenant = NOBODY,
    ) -> ServerConnection | None:
        """A server at once, or None and ``waiter`` is told later. Raises PoolExhausted."""
        if tenant.hurried:
            self._has_hurried = True
        now = read(self._clock) if tenant.bounds else 0.0
        server: ServerConnection | None = self.core.checkout(preferred, tenant, now)
        if server is not None:
            self.counters.checkouts += 1
            return server
        if self.core.retired:
            raise ShuttingDown(f"the pool {self.name} is being closed")
        try:
            self.core.enqueue(waiter, read(self._clock), tenant)
        except PoolExhausted:
            self.counters.rejections += 1
            raise
        self.counters.waits += 1
        self._open_wanted()
        if tenant.bounds and self.core.fair.others_of is not None:
            self._look_again_soon()
        return None

    def give_up(self, waiter: Waiter) -> None:
        """The waiter left; it will not be called."""
        self.core.leave(waiter)

    def release(self, server: ServerConnection) -> None:
        """The client is done and the session is as the next one may find it."""
        server.unlink()
        now = server.used_at = read(self._clock)
        if server.lost or server.closing:
            return
        if server.timing is not None:
            server.timing.took(now - server.turn_at)
            server.timing = None
        if server.line:
            self._pass_on(server, now)
        elif server.cancels:
            self.core.to_cleaning(server)
            self._deadlines[server] = now + self.limits.clean_timeout_ms / 1000
        elif self._unwanted(server, now):
            self._close(server)
        elif self.sharing.plain.wanted:
            self._ask_what_is_plain(server, now)
        else:
            self._served(server, self.core.release(server, now), now)

    def _ask_what_is_plain(self, server: ServerConnection, now: float) -> None:
        """Before the next client has it; without a good answer nobody shares a server for now."""
        plain, changes = self.sharing.plain, self.schema.changes
        plain.asked(now)
        self.core.to_cleaning(server)
        self._deadlines[server] = now + _PLAIN_S

        def on_answer(answer: Answer) -> None:
            now = self._clock()
            if answer.error is None:
                plain.told((name for (name,) in answer.rows), changes, now)
            self._come_free(server, now)

        server.ask(QUESTION, on_answer)

    def renew(self, server: ServerConnection, waiter: Waiter, tenant: Tenant = NOBODY) -> None:
        """Close a server for its past; ``waiter`` is told of the next. Raises PoolExhausted."""
        server.unlink()
        if not server.lost and not server.closing:
            self._close(server)
        self.core.enqueue(waiter, self._clock(), tenant)
        self.counters.waits += 1
        self._open_wanted()

    def audited(self, *, clean: bool) -> None:
        """A sample is over. As long as none finds anything they become rarer and rarer."""
        changes = self.schema.changes
        if not clean:
            self.counters.unseen_changes += 1
        if not clean or changes != self.audited_schema:
            self._clean_audits = 0
        self.audited_schema = changes
        self._clean_audits = min(self._clean_audits + clean, _CLEAN_AUDITS * _RARER_TIMES)
        self.audit_factor = 1 << self._clean_audits // _CLEAN_AUDITS

    def abandon(self, server: ServerConnection, *, mid_message: bool, sync_due: bool) -> None:
        """The client left without an end: bring the server back to its first state, or close it.

        ``mid_message``: a message was sent in part only. ``sync_due``: extended messages were sent
        without a Sync behind them.
        """
        server.unlink()
        server.timing = None
        server.used_at = self._clock()
        if server.lost or server.closing:
            return
        if mid_message or server.replies.doubtful:
            self._cancel_and_close(server)
            return
        if server.line:
            self._without_its_client(server)
            return
        self.core.to_cleaning(server)
        self._deadlines[server] = self._clock() + _GRACE_AFTER_CLIENT_S
        Cleaning(server, self).begin(sync_due)

    def _without_its_client(self, server: ServerConnection) -> None:
        """The one at the head has gone; others are in line."""
        if is_kept(server):
            self._close(server)
        elif server.turn_is_over:
            self._pass_on(server, server.used_at)
        else:
            server.link(self.sharing.nobody(server), 0)

    def _pass_on(self, server: ServerConnection, now: float) -> None:
        """The next one's turn comes; a bound that was reached may have room again."""
        self.sharing.pass_on(server, now)
        if self.core.fair.ready:
            self._serve_idle(now)

    def keep(self, server: ServerConnection) -> None:
        """The client that has it is not done with it: others in line ask elsewhere."""
        if server.line and server.client is not None:
            self.sharing.keep(server, server.client, self._clock())

    async def open_outside(self, startup: Mapping[str, str]) -> ServerConnection:
        """A connection for one client alone, with startup parameters of its own.

        It counts against the bound until `outside_ended`; an idle server makes room for it.
        Raises PoolExhausted, ConnectFailed.
        """
        spare = await self._leave_for_outside()
        self.core.outside += 1  # before the spare one has gone, so that nobody else takes its place
        try:
            for server in spare:
                await self._close_and_wait(server)
            return await self._open_connection(self.limits.connect_timeout_ms / 1000, startup)
        except BaseException:
            self.outside_ended()
            raise

    async def _leave_for_outside(self) -> list[ServerConnection]:
        """Wait until there is room for one more; the idle server to close for it, if any."""
        deadline = self._clock() + _OUTSIDE_WAIT_S
        self._outside_wanted += 1
        try:
            while not self._permits.ask(self, self.core.total, 1):
                idle = self.core.servers(ServerState.IDLE)
                if idle:
                    return idle[:1]
                if not self._permits.shared or self._clock() >= deadline:
                    raise PoolExhausted(
                        f"no connection of {self.name} is free for a client of its own",
                        hint="Try again later, or raise pool.max.",
                    )
                await asyncio.sleep(_GONE_POLL_S)
        finally:
            self._outside_wanted -= 1
        return []

    def outside_ended(self) -> None:
        """A connection of `open_outside` is gone."""
        self.core.outside -= 1
        self._open_wanted()

    def may_pin(self, server: ServerConnection) -> bool:
        """Whether a client may keep ``server`` between its transactions from now on."""
        if not server.pinned:
            pinned = sum(busy.pinned for busy in self.core.servers(ServerState.BUSY))
            limit = self.limits.pinned_max
            server.pinned = limit is None or pinned < limit
        return server.pinned

    def cleaned(self, server: ServerConnection) -> None:
        """In its first state again; it is handed on once no cancel can hit it any more."""
        if server.lost or server.closing or server.cancels:
            return
        self.counters.cleaned += 1
        self._come_free(server, self._clock())

    def _come_free(self, server: ServerConnection, now: float) -> None:
        """A server that was cleaned, or asked, is for the next client."""
        if server.lost or server.closing or server.cancels:
            return
        self._deadlines.pop(server, None)
        if self._unwanted(server, now):
            self._close(server)
        else:
            self._settle(server, ServerState.CLEANING, now)

    def cleaning_goes_on(self, server: ServerConnection) -> None:
        """The running statement is over; what is left to do gets its own time."""
        self._deadlines[server] = self._clock() + self.limits.clean_timeout_ms / 1000

    def unclean(self, server: ServerConnection) -> None:
        """The server can't be brought back to its first state."""
        if not server.lost and not server.closing:
            self._close(server)

    def client_of(self, pid: int) -> int:
        """What a client is told of the process that sent a notification: the notifying client's
        own number when it is one of ours, as in its BackendKeyData."""
        return self.notifiers.get(pid, pid)

    def cancel(self, server: ServerConnection) -> asyncio.Task[None]:
        """Ask the server to stop what it runs; it is not handed on before that is over.

        The task ends once the server has sent its process the signal, or that failed.
        """
        self.counters.cancels += 1
        self.sharing.dissolve(server)
        server.cancels += 1
        return self._spawn(self._send_cancel(server))

    # --- upkeep ---

    def tick(self) -> None:
        """Look at everything that depends on time; called a few times a second."""
        now = self._clock()
        self._refuse_overdue(now)
        self._close_stuck(now)
        self._close_old(now)
        self._end_overstays(now)
        self._end_slow_lines(now)
        if self.core.fair.look_again():
            self._look_again_soon()
        self._serve_idle(now)
        self.core.fair.rest(now, self.core.live)
        self._lend(now)
        self._ask_for_permits()
        self._permits.report()

    def _end_slow_lines(self, now: float) -> None:
        """Who is in line asks elsewhere; what nobody waits for is let end, or stopped, as if its
        client had had the server for itself."""
        sharing = self.sharing
        for server in sharing.overdue(now):
            if server.timing is not None:
                server.timing.took(now - server.turn_at)
            sharing.dissolve(server)
            if sharing.is_left(server):
                sharing.end(server, now)
                self.abandon(server, mid_message=False, sync_due=False)

    def is_shunned(self, now: float) -> bool:
        """Whether who may go elsewhere should: connects fail, and nobody is needed for a trial."""
        breaker = self.breaker
        return breaker.tripped and (breaker.rests(now) or self.core.opening > 0)

    def _look_again_soon(self) -> None:
        """A bound may be reached because of other workers, who tell nobody when they leave room."""
        if not self._looks_again:
            self._looks_again = True
            self._spawn(self._look_again())

    async def _look_again(self) -> None:
        kept_back = True
        while kept_back:
            await asyncio.sleep(jittered(_LOOK_AGAIN_S, _JITTER))
            self._serve_idle(self._clock())
            kept_back = self.core.fair.look_again()
            self._serve_idle(self._clock())
        self._looks_again = False

    def permits_changed(self) -> None:
        """More may be opened now, or other workers wait for what is here."""
        self._meet_bound()
        self._lend(self._clock())
        self._open_wanted()

    def resize(self, limits: PoolSettings) -> None:
        """New limits, from now on; a lowered bound is met as servers come free."""
        self.limits = limits
        self.core.minimum = 0 if self.suspended else limits.min
        self.core.queue_max = limits.queue_max
        self.core.reserve = limits.operator_reserve
        self.breaker.min_s, self.breaker.max_s = _pauses_s(limits)
        self.sharing.depth, self.sharing.short_s = limits.share_depth, limits.share_ms / 1000
        self._permits.resize(limits.max)
        self._meet_bound()
        self._open_wanted()

    def _meet_bound(self) -> None:
        self.core.maximum = min(self.limits.max, self._permits.ceiling)
        for server in self.core.servers(ServerState.IDLE)[: self.core.surplus()]:
            self._close(server)

    def _lend(self, now: float) -> None:
        """Close what lies idle here while clients of other workers wait for it."""
        closing = self.core.count(ServerState.CLOSING)
        spare = min(self._permits.lend - closing, self.core.live - self.core.minimum)
        if spare <= 0:
            return
        over = self._permits.held - self._permits.share - closing
        for server in self.core.servers(ServerState.IDLE)[:spare]:
            if over > 0 or now - server.used_at >= _LEND_AFTER_S:
                self._close(server)
                over -= 1

    def vacate(self) -> None:
        """Leave the database: what is idle now, the rest as it comes free."""
        self._away_until = max(self._away_until, self._clock() + _VACATED_S)
        self.reconnect()

    def suspend(self, suspended: bool) -> None:
        """No new work comes for now: leave the database as `vacate` does, until it comes again."""
        self.suspended = suspended
        self.core.minimum = 0 if suspended or self.core.retired else self.limits.min
        if suspended:
            self._close_idle()
        else:
            self._open_wanted()

    @property
    def has_room(self) -> bool:
        """Whether half of the queue is free."""
        return 2 * len(self.core.fair) <= self.core.queue_max

    def drop(self) -> None:
        """Close what no client has, whatever it still does."""
        self._close_idle()
        for server in (*self.core.servers(ServerState.CLEANING), *self.sharing.left()):
            self._cancel_and_close(server)

    def reconnect(self) -> None:
        """Replace every connection: what is idle now, the rest as it comes free."""
        self._renewed_at = self._clock()
        for state in (ServerState.BUSY, ServerState.CLEANING):
            for server in self.core.servers(state):
                server.life_ends_at = 0.0
        self._close_idle()

    def _close_idle(self) -> None:
        for server in self.core.servers(ServerState.IDLE):
            self._close(server)

    def fence(self, error: GatewayError) -> None:
        """End the clients of every server, and close all servers."""
        for server in self.core.servers(ServerState.BUSY):
            self.sharing.dissolve(server)
            if server.client is not None:
                server.client.server_fenced(error)
        for server in (*self.core.servers(ServerState.IDLE), *self.sharing.left()):
            self._close(server)

    def retire(self) -> None:
        """Take no new clients; close every server as it comes free."""
        waiters = self.core.retire()
        for server in self.core.servers(ServerState.IDLE):
            self._close(server)
        for waiter in waiters:
            waiter.sent_elsewhere()

    def forget_permits(self) -> None:
        """The pool is empty and will stay so."""
        self._permits.forget(self)

    @property
    def empty(self) -> bool:
        """Nothing left: no server, nobody waiting."""
        return not self.core.total and not self.core.fair.places

    async def shut(self) -> None:
        """Close everything now, and wait until the connections are gone or time is up."""
        for waiter in self.core.retire():
            waiter.refused(ShuttingDown("the gateway is shutting down"))
        for state in ServerState:
            for server in self.core.servers(state):
                self._close(server)
        for task in list(self._tasks):
            task.cancel()
        for _ in range(self.limits.clean_timeout_ms // _SHUT_POLL_MS):
            if not self.core.total:
                return
            await asyncio.sleep(_SHUT_POLL_MS / 1000)
        for server in self.core.servers(ServerState.CLOSING):
            server.abort()

    # --- opening ---

    def _open_wanted(self) -> None:
        core = self.core
        if core.counted() == self._total_told and (
            (self._none_wanted and core.full()) or self._permits.exhausted
        ):
            return  # as said before; what has changed besides is seen by `tick`
        self._ask_for_permits()

    def _ask_for_permits(self) -> None:
        """Open what is wanted, as far as permits go."""
        wanted = self._connects_wanted()
        allowed = self._permits.ask(self, self.core.total, wanted + self._outside_wanted)
        for _ in range(min(allowed, wanted)):
            self.core.opening += 1
            self._spawn(self._open())
        self._total_told = self.core.total
        self._none_wanted = wanted + self._outside_wanted <= 0

    def _connects_wanted(self) -> int:
        wanted, now = self.core.opens_wanted(), self._clock()
        if wanted <= 0 or now < self._away_until:
            return 0
        return self.breaker.allows(wanted, self.core.opening, now)

    async def _open(self) -> None:
        began = self._clock()
        try:
            server = await self._open_connection(
                self.limits.connect_timeout_ms / 1000, STARTUP_PARAMETERS
            )
        except ConnectFailed as error:
            self.core.opening -= 1
            self._open_failed(error, began)
            return
        except BaseException:
            self.core.opening -= 1
            raise
        self._opened(server)
        if began < self._renewed_at:
            server.life_ends_at = 0.0

    def _opened(self, server: ServerConnection) -> None:
        if self.breaker.tripped:
            _log.info("%s: connected again", self.name)
        self.breaker.succeeded()
        self.counters.opened += 1
        self.greeting = dict(server.parameters)
        server.life_ends_at = server.opened_at + jittered(self.limits.server_lifetime_s, _JITTER)
        server.schema = self.schema
        self._permits.opened(server.pid, server.secret)
        self.core.opened(server)
        server.on_lost(self._lost)
        now = self._clock()
        if self._unwanted(server, now):  # what it was opened for has gone elsewhere
            self._close(server)
        else:
            self._settle(server, ServerState.BUSY, now)

    def _open_failed(self, error: ConnectFailed, began: float) -> None:
        self.counters.open_failures += 1
        self.last_error = error.message
        now = self._clock()
        if isinstance(error, OutOfDescriptors):  # that is ours, and says nothing of the server
            self._away_until = now + jittered(self.breaker.min_s, _JITTER)
            _log.error("%s: %s", self.name, error.message)
        else:
            if not self.breaker.tripped:
                _log.error("%s: %s", self.name, error.message)
            self.breaker.failed(began, now)
        if not self.core.live and not self.core.opening:
            self._refuse_those_before(began, error)
        self._open_wanted()

    def _refuse_those_before(self, began: float, error: ConnectFailed) -> None:
        """Nobody else can serve those who waited through a whole failed connect."""
        for waiter in self.core.overdue(began):
            waiter.refused(error)

    # --- what becomes of a server ---

    def _settle(self, server: ServerConnection, state: ServerState, now: float) -> None:
        self._served(server, self.core.settle(server, state, now), now)

    def _served(
        self, server: ServerConnection, served: tuple[Waiter, float] | None, now: float
    ) -> None:
        if served is not None:
            waiter, since = served
            self._grant(server, waiter, since, now)
        if self.core.fair.ready:
            self._serve_idle(now)

    def _serve_idle(self, now: float) -> None:
        """Those whom a bound kept back until now."""
        while (served := self.core.serve_idle(now)) is not None:
            server, waiter, since = served
            self._grant(server, waiter, since, now)

    def _grant(self, server: ServerConnection, waiter: Waiter, since: float, now: float) -> None:
        self.counters.served(now - since)
        waiter.granted(server)
        if self.sharing.depth > 1 and self.core.crowded():
            self.sharing.begin(server, waiter, now)

    def _unwanted(self, server: ServerConnection, now: float) -> bool:
        if self.core.retired or self.core.over() > 0 or now >= server.life_ends_at:
            return True
        if self.suspended and not self.core.fair.places:
            return True
        return self._permits.lend > 0 and self._may_lend()

    def _may_lend(self) -> bool:
        """Whether others wait, nobody does here, and we have more than our share."""
        closing = self.core.count(ServerState.CLOSING)
        over = self._permits.held - self._permits.share
        return min(self._permits.lend, over) > closing and not self.core.fair.places

    def _close(self, server: ServerConnection) -> None:
        now = self._clock()
        self.core.to_closing(server, now)
        self._deadlines[server] = now + self.limits.clean_timeout_ms / 1000
        self.sharing.dissolve(server)
        server.close()

    async def _close_and_wait(self, server: ServerConnection) -> None:
        """Close a server and wait until it is gone; one that does not go is soon dropped."""
        self._close(server)
        while not server.lost:  # noqa: ASYNC110 - the pool's upkeep sees to it
            await asyncio.sleep(_GONE_POLL_S)

    def _cancel_and_close(self, server: ServerConnection) -> None:
        """For a server out of step: stop what it runs, so that it is soon gone."""
        self.cancel(server)
        self._close(server)

    def _lost(self, server: ServerConnection) -> None:
        if not server.closing:
            self.counters.lost += 1
            self.last_error = server.last_error or "the server closed the connection"
            _log.warning("%s: lost server %d: %s", self.name, server.pid, self.last_error)
        self._deadlines.pop(server, None)
        self.notifiers.pop(server.pid, None)
        self.core.gone(server, self._clock())
        self._permits.gone(server.pid)
        self._open_wanted()

    # --- cancel ---

    async def _send_cancel(self, server: ServerConnection) -> None:
        try:
            await send_cancel(
                self.dsn, server.pid, server.secret, self.limits.connect_timeout_ms / 1000
            )
        except GatewayError as error:
            _log.warning("%s: cancel of server %d failed: %s", self.name, server.pid, error.message)
            if server.timed_out_s and not server.lost:
                # Overdue, and out of reach: no answer will come, and nobody else would say so.
                server.last_error = f"it did not answer in time: {error.message}"
                server.abort()
        finally:
            server.cancels -= 1
            self._cancel_over(server)

    def _cancel_over(self, server: ServerConnection) -> None:
        if server in self._deadlines and server.client is None and server.replies.idle:
            self.cleaned(server)

    # --- time ---

    def _refuse_overdue(self, now: float) -> None:
        for waiter, wait_s in self.core.fair.expired(self.limits.queue_timeout_ms / 1000, now):
            self.counters.timeouts += 1
            cause = f" Last error: {self.last_error}" if self.breaker.tripped else ""
            waiter.refused(
                PoolExhausted(
                    f"no database connection came free in {wait_s:g} s.{cause}",
                    hint="Raise pool.max or pool.queue_timeout_ms, or shorten transactions.",
                )
            )

    def _close_stuck(self, now: float) -> None:
        """Servers that did not come clean, or did not go, in time."""
        for server, deadline in list(self._deadlines.items()):
            if now < deadline:
                continue
            if server.closing:
                server.abort()
                del self._deadlines[server]
            else:
                self._cancel_and_close(server)

    def _close_old(self, now: float) -> None:
        idle_s = jittered(self.limits.server_idle_timeout_s, _JITTER)
        spare = self.core.live - self.core.minimum
        for server in self.core.servers(ServerState.IDLE):
            if now >= server.life_ends_at:
                self._close(server)
            elif spare > 0 and now - server.used_at > idle_s:
                self._close(server)
                spare -= 1

    def _end_overstays(self, now: float) -> None:
        """Cancel statements that run too long; end clients that leave transactions idle."""
        limits = self.limits
        allowed = Allowed(limits.query_timeout_ms / 1000, limits.idle_transaction_timeout_s)
        if not (allowed.query_s or allowed.idle_transaction_s or self._has_hurried):
            return
        busy = self.core.servers(ServerState.BUSY)
        for server, what, limit_s in self._watch.look(busy, self.core.tenant, allowed, now):
            if what is Overstay.QUERY:
                self.counters.query_timeouts += 1
                server.timed_out_s = limit_s
                self.cancel(server)
            elif server.client is not None:
                self.counters.idle_transactions += 1
                server.client.end(_idle_too_long(limit_s))

    def _spawn(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def _pauses_s(limits: PoolSettings) -> tuple[float, float]:
    """The shortest and the longest pause between connects that fail."""
    return limits.connect_backoff_min_ms / 1000, limits.connect_backoff_max_ms / 1000


def _idle_too_long(limit_s: float) -> IdleInTransaction:
    return IdleInTransaction(
        "terminating connection due to idle-in-transaction timeout",
        hint=f"idle_transaction_timeout_s is {limit_s:g}.",
    )
