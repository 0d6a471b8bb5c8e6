"""One logged-in client: gets a server for each of its transactions, relays, gives it back.

The client is in one of four phases. IDLE: nothing under way. SEEKING: a unit waits at the front of
the inbox and its route or a server is awaited. LINKED: a server is ours. CLOSED. LEAVING: idle,
and to be moved to another process (moving.py) as soon as all it was told is sent. Hot are
`data_received` and `forward` while LINKED; everything else runs once per transaction or less.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Coroutine
from enum import IntEnum
from functools import partial
from typing import Any

from gateway.directory.cache import Kept
from gateway.errors import (
    GatewayError,
    IdleSession,
    ProtocolViolation,
    QueryCanceled,
    ServerUnavailable,
    ShuttingDown,
    StaleEpoch,
    TooManyPinned,
)
from gateway.net.ends import wire_of
from gateway.net.handing import detach, movable
from gateway.net.instant import read
from gateway.net.presence import has_left
from gateway.pool.listening import Listening
from gateway.pool.pool import Pool, Waiter
from gateway.pool.server import IDLE, Answer, ServerConnection
from gateway.protocol import messages
from gateway.router.facts import Effect, Facts
from gateway.router.identity import LoginKind, Owner
from gateway.router.route import (
    NOTHING_KNOWN,
    Known,
    NeedOwner,
    Reject,
    Route,
    route,
)
from gateway.router.statement import Timing
from gateway.router.topology import Snapshot
from gateway.session.allowance import UNLIMITED
from gateway.session.context import Context
from gateway.session.gate import Gate, Stop
from gateway.session.guard import Guard
from gateway.session.guest import Guest
from gateway.session.holdings import Holdings
from gateway.session.inbox import UNIT_MAX_BYTES, Inbox, Need
from gateway.session.listens import Listens
from gateway.session.outbound import NewProcessNeeded, Outbound
from gateway.session.pinned import Held
from gateway.session.reported import Reported
from gateway.session.sql_prepared import look, look_again, outdated
from gateway.session.state import UNSEEN, Pin, Settings, may_fail, read_probe, replay_sql
from gateway.session.translate import Translator, close_surplus
from gateway.session.vacating import asked_to_leave

_log = logging.getLogger(__name__)

WRITE_HIGH_BYTES = 128 * 1024
"""What may wait to be sent to a slow client before its server is no longer read."""


_RENEWALS_MAX = 20
"""So many servers with a past one client may have renewed; then it takes them as they are."""

_FORGET_PLANS = "DISCARD PLANS"
"""In a process that had temporary objects before, a new one hides a table from new plans only."""

_PREFERS_ITS_SERVER = Effect.SEQUENCE_WRITE | Effect.SQL_PREPARE | Effect.SQL_EXECUTE


_OUT_OF_DATE = frozenset(["RevalidateCachedQuery", "lookup_type_cache", "get_typlenbyval"])
"""Routines whose errors say that a statement was prepared for tables that are others now."""


_NO_SEQUENCE_VALUE = frozenset(["currval_oid", "lastval"])
"""Routines that say that a session has drawn nothing from a sequence yet."""


class Phase(IntEnum):
    """Where a client is between its statements."""

    IDLE = 0
    SEEKING = 1
    LINKED = 2
    CLOSED = 3
    LEAVING = 4


# As C values, for the hot methods.
_IDLE_STATUS, _UNIT_MAX_BYTES = IDLE, UNIT_MAX_BYTES
_IDLE, _SEEKING, _LINKED, _CLOSED = Phase.IDLE, Phase.SEEKING, Phase.LINKED, Phase.CLOSED
_MORE, _SERVER, _READY, _END = Need.MORE, Need.SERVER, Need.READY, Need.END


class _Routed:
    """A decision of `route`, and all it was made from that may change within a session."""

    __slots__ = ("_owner", "_snapshot", "route")

    def __init__(self, snapshot: Snapshot, owner: Kept, decided: Route) -> None:
        self._snapshot = snapshot
        self._owner = owner
        self.route = decided

    def holds(self, snapshot: Snapshot, now: float) -> bool:
        """Whether it would be decided so again."""
        return self._snapshot is snapshot and self._owner.is_good(now)


class ClientSession(Waiter):
    """A client after its login; `start` begins its traffic."""

    __slots__ = (
        "__weakref__",
        "_allowance",
        "_context",
        "_departing",
        "_draining",
        "_fatal_seen",
        "_first_unit",
        "_gate",
        "_idle_timer",
        "_in_line",
        "_inbox",
        "_input_held",
        "_kept",
        "_limited",
        "_outbound",
        "_pool",
        "_preferred",
        "_read_paused",
        "_ready_missed",
        "_refused_epoch",
        "_renewals",
        "_replayed_there",
        "_routed",
        "_server_full",
        "_target",
        "_target_in",
        "_task",
        "_tenant",
        "_timing",
        "_transport",
        "_turns_before",
        "_whole_session",
        "_wire",
        "_write_paused",
        "active_at",
        "application",
        "asked",
        "connected_at",
        "holdings",
        "last_route",
        "listens",
        "login",
        "number",
        "parameters",
        "peer",
        "phase",
        "secret",
        "server",
        "transactions",
    )

    def __init__(self, context: Context, transport: asyncio.Transport, guest: Guest) -> None:
        login, number = guest.login, guest.number
        self.number = number
        self.secret = guest.secret
        self.login = login
        self.asked = guest.asked
        self.peer = guest.peer
        self.application = guest.application
        self.parameters = Reported(guest.parameters)
        self.phase = Phase.IDLE
        self.connected_at = context.clock()
        self.active_at = self.connected_at
        self.transactions = 0
        self.last_route: Route | None = None
        self.server: ServerConnection | None = None
        self.holdings = Holdings(
            guest.startup_settings,
            context.facts,
            context.clock,
            context.pinned,
            reads_sequences=login.name in context.sequence_readers,
        )
        self.listens = Listens(transport.write, self._is_between, self.end, self.parameters)
        self._context = context
        self._transport = transport
        self._wire = wire_of(transport)
        self._routed: _Routed | None = None
        """The last decision, of a login whose route only its owner decides."""
        self._pool: Pool | None = None
        self._inbox = Inbox()
        self._outbound = Outbound(
            number,
            context.facts,
            self.holdings,
            self.listens,
            self._note,
            self._asks_foreign_sequence,
            self._answer_came,
            self._wants_alone,
        )
        self._outbound.translator = Translator(
            context.statements, context.settings.pool.client_statements_max, self._outbound
        )
        self._allowance = UNLIMITED
        self._tenant = UNLIMITED.tenant
        self._limited = False
        """The allowance has rates."""
        self._target: Route | None = None
        """For what, and in which snapshot, pool and allowance were found."""
        self._target_in: Snapshot | None = None
        self._whole_session = False
        """There, clients keep their server until they leave."""
        self._turns_before = 0
        """The server's, when it became ours."""
        self._preferred: ServerConnection | None = None
        """The server that knows sequences we drew from, or what we prepared by SQL."""
        self._in_line = False
        """Linked to a server whose answers are another client's for now."""
        self._timing: Timing | None = None
        """In line: where to note how long our turn takes."""
        self._replayed_there = False
        """The server was given our settings since it is ours, or asked for them."""
        self._input_held = False
        """Linked, but the client's next bytes wait for an answer to the gateway's own query."""
        self._kept = b""
        """What was sent since the server is ours, if all of it came at once."""
        self._first_unit = False
        """The server has not been ready since it is ours."""
        self._refused_epoch: tuple[str | None, int] | None = None
        """The owner and the epoch by which our work was refused last."""
        self._idle_timer: asyncio.TimerHandle | None = None
        self._renewals = 0
        """How many servers were closed for us since they had a past."""
        self._ready_missed = False
        self._server_full = False
        self._read_paused = False
        self._write_paused = False
        self._fatal_seen = False
        self._draining: ShuttingDown | None = None
        self._departing: Callable[[ClientSession], bool] | None = None
        self._task: asyncio.Task[None] | None = None
        self._gate: Gate | None = None
        if login.owner is not None:
            known = self._outbound.translator.statement
            self._outbound.guard = Guard(context, self.holdings, login.name, login.owner, known)

    @property
    def pins(self) -> dict[Pin, Held]:
        """Why the client keeps its server."""
        return self.holdings.pins

    # --- life ---

    def start(self, rest: bytes) -> None:
        """Begin, with what the client sent ahead."""
        self._transport.set_write_buffer_limits(high=WRITE_HIGH_BYTES)
        self._context.registry.add(self)
        if self.holdings.idle_limit_s:
            self._limit_idleness()
        if rest:
            self.data_received(rest)

    def drain(self, error: ShuttingDown) -> None:
        """End the session as soon as no transaction runs."""
        self._draining = error
        if self.phase is Phase.IDLE:
            self.end(error)

    def end(self, error: GatewayError) -> None:
        """Tell the client why, unless its server has told it that it ends, and close."""
        if self.phase is not Phase.CLOSED:
            self._context.counters.errors_of_gateway += 1
            server = None if self._in_line else self.server
            mid_message = server is not None and server.mid_message  # it would end a row
            if not (self._fatal_seen or mid_message):
                self._transport.write(messages.error_response(error, fatal=True))
            self._close()

    def cancel(self) -> asyncio.Task[None] | None:
        """Stop what the client runs or waits for; nothing when it is idle."""
        if self._in_line:
            self._get_out_of_line()
            self._refuse_unit(QueryCanceled("canceling statement due to user request"))
        elif self.phase is Phase.LINKED and not self._input_held:
            assert self.server is not None
            assert self._pool is not None
            if self._outbound.sent:
                self._kept = b""  # whatever becomes of it, it is not to be run again
                return self._pool.cancel(self.server)
        elif self.phase is Phase.SEEKING:
            self._stop_seeking()
            self._refuse_unit(QueryCanceled("canceling statement due to user request"))
        return None

    def _close(self) -> None:
        if self.phase is Phase.CLOSED:
            return
        self._leave_server()
        self.holdings.end()
        self.listens.end()
        self.phase = Phase.CLOSED
        if self._idle_timer is not None:
            self._idle_timer.cancel()
        self._inbox.data = b""
        self._context.registry.remove(self)
        self._transport.close()

    def _leave_server(self) -> None:
        """Give up whatever of a server we have or wait for, cleanly."""
        if self._in_line:
            self._get_out_of_line()
        self._stop_seeking()
        server, pool = self.server, self._pool
        self._let_go()
        if server is None or pool is None:
            return
        outbound, holdings = self._outbound, self.holdings
        unfinished = outbound.skip > 0 or outbound.sync_due or not server.replies.idle
        held = bool(holdings.pins or holdings.effects) or self._input_held
        if unfinished or held or server.status != IDLE:
            pool.abandon(server, mid_message=outbound.skip > 0, sync_due=outbound.sync_due)
        else:
            pool.release(server)

    def _let_go(self) -> None:
        """No server is ours any more."""
        if self._limited and self.server is not None:
            self._allowance.take(max(0, self.server.turns - self._turns_before - 1))
        self.server = None

    def _stop_seeking(self) -> None:
        if self._task is not None:
            self._task.cancel()
            self._task = None
        if self._pool is not None:
            self._pool.give_up(self)

    # --- to another process ---

    @property
    def movable(self) -> bool:
        """Whether nothing is under way, and nothing held that another process could not hold."""
        outbound = self._outbound
        under_way = outbound.skip or outbound.sync_due or outbound.waiting or self._input_held
        if self.phase is not Phase.IDLE or under_way or self._task is not None:
            return False
        parts = self.holdings.movable and outbound.translator.movable
        return parts and not self._write_paused and movable(self._transport)

    def depart(self, on_between: Callable[[ClientSession], bool]) -> None:
        """Ask ``on_between`` after each transaction; it answers whether the session now leaves."""
        self._departing = on_between

    def halt(self) -> None:
        """Take nothing more from the client: the session leaves."""
        self.phase = Phase.LEAVING
        if not self._read_paused:
            self._transport.pause_reading()
        self._read_paused = False

    def stay(self) -> None:
        """It does not leave after all."""
        if self.phase is not Phase.LEAVING:
            return
        self.phase = Phase.IDLE
        self._transport.resume_reading()
        if self._draining is not None:
            self.end(self._draining)
        else:
            self._go_on()

    @property
    def told(self) -> bool:
        """Whether the client was sent all that it was to be told."""
        return not self._transport.get_write_buffer_size()

    def pack(self) -> dict[str, Any]:
        """All there is to know of the session, as JSON carries it."""
        return {
            "inbox": self._inbox.pack(),
            "holdings": self.holdings.pack(),
            "prepared": self._outbound.translator.pack(),
            "times": [self.connected_at, self.active_at],
            "transactions": self.transactions,
        }

    def detach(self) -> socket.socket:
        """The client's connection, which is not ours any more. Raises OSError when it is gone."""
        try:
            return detach(self._transport)
        finally:
            self._close()

    def unpack(self, packed: dict[str, Any]) -> None:
        """Be as the session that `pack` has told of."""
        self._inbox.unpack(packed["inbox"])
        self.holdings.unpack(packed["holdings"])
        self._outbound.translator.unpack(packed["prepared"])
        self.connected_at, self.active_at = packed["times"]
        self.transactions = packed["transactions"]

    def settle(self) -> None:
        """Go on with what the client sent before the session came here."""
        if self.holdings.idle_limit_s:
            self._limit_idleness()
        self._go_on()

    # --- asyncio.Protocol ---

    def data_received(self, data: bytes) -> None:
        inbox = self._inbox
        self._context.counters.bytes_from_clients += len(data)
        inbox.data = inbox.data + data if inbox.data else data
        self._go_on()

    def eof_received(self) -> bool:
        self._close()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._close()

    def pause_writing(self) -> None:
        self._write_paused = True
        if self.server is not None and not self._in_line:
            self.server.pause_reading()

    def resume_writing(self) -> None:
        self._write_paused = False
        if self.server is not None and not self._in_line:
            self.server.resume_reading()

    def _go_on(self) -> None:
        """Do what can be done with the inbox in this phase."""
        try:
            if self.phase is _LINKED:
                if not self._input_held and not self._outbound.waiting and not self._shares():
                    self._relay()
            elif self.phase is _IDLE:
                self._begin()
        except NewProcessNeeded:
            self._renew()
        except GatewayError as error:
            _log.warning("client %d (%s): %s", self.number, self.login.name, error.message)
            self.end(error)
        self._pace()

    def _pace(self) -> None:
        """Stop reading the client while its bytes have nowhere to go."""
        waiting = self.phase is _SEEKING or self._input_held or self._outbound.waiting
        waiting = waiting or self._shares()
        full = self._server_full or (waiting and len(self._inbox.data) > _UNIT_MAX_BYTES)
        if full and self.phase is _SEEKING:
            self._context.unread.add(self)
        if full == self._read_paused or self.phase is _CLOSED:
            return
        self._read_paused = full
        if full:
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()

    def waits_unread(self) -> bool:
        """Whether the client waits for a server and is not read; one that has left is let go."""
        waits = self._read_paused and self.phase is _SEEKING
        if waits and has_left(self._transport):
            self._close()
            return False
        return waits

    # --- idle ---

    def _begin(self) -> None:
        """Work off the inbox up to the first unit that needs a server."""
        while True:
            need = self._inbox.next()
            if need is _SERVER and self._answer_here():
                continue
            if need is not _READY:
                break
            self._transport.write(self._ready())
        if need is _SERVER:
            self._seek()
        elif need is _END:
            self._close()

    def _answer_here(self) -> bool:
        """Answer the unit at the front where that takes no server; whether it was."""
        return False

    def _ready(self) -> bytes:
        """ReadyForQuery, as a client without a server must hear it."""
        return messages.READY_IDLE

    # --- seeking: route, then a server ---

    def _seek(self) -> None:
        """Find the target of what is in the inbox and ask its pool for a server."""
        self.phase = _SEEKING
        context, routed = self._context, self._routed
        now = self.active_at = read(context.clock)
        if routed is not None and routed.holds(context.snapshot, now):
            self._acquire(routed.route)
            return
        owner_id = self.asked.owner or self.login.owner
        self._take_outcome(context.peek(self.login, owner_id) if owner_id else NOTHING_KNOWN)

    def _take_outcome(self, known: Known) -> None:
        outcome = route(self._context.snapshot, self.login, self.asked, known)
        if isinstance(outcome, Route):
            if self.login.kind is LoginKind.OWNER and known.owner is not None:
                self._remember(known.owner, outcome)
            self._acquire(outcome)
        elif isinstance(outcome, NeedOwner):
            self._spawn(self._look_up(outcome.owner))
        else:
            assert isinstance(outcome, Reject)
            self._refuse_unit(outcome.error)

    def _remember(self, owner: Owner, outcome: Route) -> None:
        """Decide so again as long as nothing has changed."""
        kept = self._context.directory.peek_kept_owner(owner.id)
        if kept is not None and kept.value is owner:
            self._routed = _Routed(self._context.snapshot, kept, outcome)

    async def _look_up(self, owner_id: str) -> None:
        try:
            known = await self._context.look_up(self.login, owner_id)
        except GatewayError as error:
            self._task = None
            self._refuse_unit(error)
            return
        self._task = None
        self._take_outcome(known)

    def _acquire(self, target: Route) -> None:
        self.last_route = target
        try:
            if target is not self._target or self._target_in is not self._context.snapshot:
                self._aim(target)
            if self._limited:
                self._allowance.take_one()
            assert self._pool is not None
            server = self._pool.acquire(self, self._preferred, self._tenant)
        except GatewayError as error:
            self._refuse_unit(error)
            return
        if server is not None:
            self.granted(server)

    def _aim(self, target: Route) -> None:
        """Find the pool for a target, and what we may use there."""
        context = self._context
        aim = context.aims.of(self.login, target, context.snapshot, context.modes)
        self._pool = aim.pool
        self._whole_session = aim.whole_session
        self._allowance = aim.allowance
        self._limited = aim.limited
        self._tenant = aim.tenant
        self._target, self._target_in = target, context.snapshot

    def granted(self, server: ServerConnection) -> None:
        """A server is ours: make it as our session left the last one, then send on."""
        outbound, pool, terms = self._outbound, self._pool, self._context.terms
        assert pool is not None
        self._before_link()
        self.phase = _LINKED
        self.server = server
        outbound.sent = False
        self._first_unit = True
        self._turns_before = server.turns
        server.link(self, self.number)
        outbound.preamble = b""
        if len(server.prepared) > terms.server_statements_max:
            outbound.preamble = close_surplus(server, terms.server_statements_max)
        outbound.renewable = server.turns > 0 and self._renewals < _RENEWALS_MAX
        if self._write_paused:
            server.pause_reading()
        if pool.notifiers:
            pool.notifiers.pop(server.pid, None)
        if self.listens.channels:
            self._attend(server)
        if terms.debug:
            self._log_target()
        if self._whole_session:
            self.holdings.pin(Pin.SESSION_MODE)
        self._replayed_there = not self._is_at_home(server)
        if self._replayed_there:
            self._replay(server)
        else:
            self._look_again(server)

    def _renew(self) -> None:
        """Have a new connection in place of one on which others have left their traces."""
        server, pool = self.server, self._pool
        assert server is not None
        assert pool is not None
        self._let_go()
        self._renewals += 1
        self._outbound.sync_due = False
        self.phase = Phase.SEEKING
        try:
            pool.renew(server, self, self._allowance.tenant)
        except GatewayError as error:
            self._refuse_unit(error)

    def _before_link(self) -> None:
        """We are about to get a server for what waits in the inbox."""

    def _begin_there(self, server: ServerConnection) -> None:
        """The server is as our session left the last one."""
        self._go_on()

    def _log_target(self) -> None:
        if _log.isEnabledFor(logging.DEBUG) and self.last_route is not None:
            place, reason = self.last_route.endpoint.name, self.last_route.reason
            _log.debug("client %d (%s) -> %s: %s", self.number, self.login.name, place, reason)

    def refused(self, error: GatewayError) -> None:
        """There is no server for this unit."""
        self._refuse_unit(error)

    def sent_elsewhere(self) -> None:
        """The pool is being retired by a reload: route again."""
        self.phase = Phase.IDLE
        self._go_on()

    def _refuse_unit(self, error: GatewayError) -> None:
        """Answer the unit with an error; the session goes on."""
        self.phase = Phase.IDLE
        if self._draining is not None:
            self.end(self._draining)
            return
        self._context.counters.errors_of_gateway += 1
        answer = messages.error_response(error, fatal=False)
        ready = self._ready() if self._inbox.refuse_unit() else b""
        self._transport.write(answer + ready)
        self._go_on()

    # --- one of several on a server (Rider; sharing.py) ---

    def _shares(self) -> bool:
        """Whether the server is ours together with others: what we send now would come too late."""
        return self._in_line or (self.server is not None and len(self.server.line) > 0)

    def _lone_read(self, server: ServerConnection, data: bytes) -> Timing | None:
        """How long the SELECT takes that is all of ``data``, if it may be sent in a line."""
        return None

    def carries(self, server: ServerConnection) -> Timing | None:
        outbound = self._outbound
        if self.server is not server or not self._kept or not outbound.sent:
            return None
        if outbound.rest or outbound.skip or outbound.sync_due or outbound.waiting:
            return None
        if self._input_held or self._replayed_there or server.holds_ready or server.cancels:
            return None
        return None if self._inbox.data else self._lone_read(server, self._kept)

    def may_ride(self, server: ServerConnection) -> Timing | None:
        pool, holdings = self._pool, self.holdings
        if pool is None or holdings.reads_sequences or not self._is_at_home(server):
            return None
        if server.sql_prepared or holdings.sql_prepared or self.listens.channels:
            return None
        if self._write_paused or self._whole_session or self._draining is not None:
            return None
        timing = self._timing = self._lone_read(server, self._inbox.data)
        if timing is None or not timing.shorter_than(pool.sharing.short_s):
            return None
        return timing

    def _is_at_home(self, server: ServerConnection) -> bool:
        """Whether a server is as our session left the last one."""
        mine = self.holdings.settings
        return server.settings is mine or server.settings == mine

    def ride(self, server: ServerConnection) -> None:
        self._before_link()
        self.phase = _LINKED
        self.server = server
        self._outbound.sent = False
        self._first_unit = True
        self._turns_before = server.turns
        self._outbound.renewable = False
        self._replayed_there = False
        self._in_line = True
        server.line.append(self)
        if self._context.terms.debug:
            self._log_target()
        try:
            self._relay()
            if self._inbox.data:
                raise ProtocolViolation("what was to be sent in line could not be sent whole")
        except GatewayError as error:
            server.abort()  # it may not have been sent what was booked
            self.end(error)

    def turn_came(self, server: ServerConnection) -> None:
        self._in_line = False
        server.link(self, self.number)
        server.timing, self._timing = self._timing, None
        self._turns_before = server.turns
        if self._write_paused:
            server.pause_reading()

    def ask_elsewhere(self) -> None:
        self._in_line = False
        self._take_back()
        asyncio.get_running_loop().call_soon(self._go_on)

    def _get_out_of_line(self) -> None:
        """Our answer is nobody's then."""
        assert self.server is not None
        assert self._pool is not None
        self._in_line = False
        self._pool.sharing.leave(self, self.server)
        self._take_back()

    def _take_back(self) -> None:
        """What was sent in line is to be sent again, as if for the first time."""
        assert self.server is not None
        self._inbox.data = self._kept + self._inbox.data
        self._kept = b""
        self._turns_before = self.server.turns
        self._let_go()
        self.phase = Phase.IDLE
        self._server_full = self._outbound.sent = False
        self._timing = None

    # --- linked: the client's settings first ---

    def _replay(self, server: ServerConnection) -> None:
        """Give the server our settings; a change of role is waited for before anything runs."""
        have, want = server.settings, self.holdings.settings
        wait = not self._inbox.data or may_fail(have, want)
        self._context.counters.replays += 1
        self._input_held = wait

        def on_answer(answer: Answer) -> None:
            if answer.error is not None:
                self._not_replayed(answer.error.get("M", ""))
            elif wait:
                self._replayed(server, want)

        request = server.prepare_ask(replay_sql(have, want), on_answer)
        if wait:
            server.write(self._outbound.preamble + request)
            self._outbound.preamble = b""
        else:
            self._outbound.preamble += request
            server.settings = want
            self._look_again(server)

    def _not_replayed(self, reason: str) -> None:
        self.end(
            ServerUnavailable(
                f"the session's settings could not be restored on another server: {reason}",
                hint="Set it in the transaction that needs it, with SET LOCAL.",
            )
        )

    def _replayed(self, server: ServerConnection, settings: Settings) -> None:
        if self._input_held and self.server is server:
            server.settings = settings
            self._input_held = False
            self._look_again(server)

    def _look_again(self, server: ServerConnection) -> None:
        """The server has our settings: do statements prepared by SQL return what they did?"""
        names = outdated(server, self.holdings) if self.holdings.sql_described else []
        if not names:
            self._begin_there(server)
            return
        again = look_again(server, self.holdings, names)
        self._input_held = True
        done = server.prepare_ask("", partial(self._looked, server))
        server.write(self._outbound.preamble + again + done)
        self._outbound.preamble = b""

    def _looked(self, server: ServerConnection, answer: Answer) -> None:
        if self._input_held and self.server is server:
            self._input_held = False
            self._begin_there(server)

    # --- linked: from the client to the server ---

    def _relay(self) -> None:
        """Pass the inbox on in one write, booked."""
        server, outbound, inbox = self.server, self._outbound, self._inbox
        assert server is not None
        waiting = b"" if self._gate is None else self._hold_back(self._gate)
        if outbound.sent:
            self._kept, server.timing = b"", None
        else:
            self._kept = inbox.data
        data = self._book_part(server, waiting) if waiting else outbound.book(server, inbox.data)
        inbox.data = outbound.rest + waiting if waiting else outbound.rest
        if self._gate is not None:
            self._gate.unsent(len(outbound.rest))
        if data:
            outbound.sent = True
            server.write(data)
        if server.replies.synthetic_due:
            server.give_synthetic()
        if outbound.terminated:
            self._close()
        elif self._gate is not None and self._gate.stop is not None and not outbound.rest:
            self._stopped(server, self._gate.stop)
        elif self._ready_missed and not outbound.skip and server.replies.is_idle():
            self.server_ready(server.status)

    def _hold_back(self, gate: Gate) -> bytes:
        """Leave in the inbox what may pass now; the rest."""
        assert self.server is not None
        data, owed = self._inbox.data, self.server.replies
        copying = owed.reads_copy()
        if copying and owed.copies_by_execute():
            gate.closed = False
        passing = gate.walk(data, self._outbound.skip, copying, owed.skipping)
        self._inbox.data = data[:passing]
        return data[passing:]

    def _book_part(self, server: ServerConnection, waiting: bytes) -> bytes:
        """Book what may pass now; a new process is asked for the rest of the inbox, too."""
        try:
            return self._outbound.book(server, self._inbox.data)
        except NewProcessNeeded:
            self._inbox.data += waiting
            raise

    def _stopped(self, server: ServerConnection, stop: Stop) -> None:
        """A statement stands at the front of the inbox that the gate does not let pass."""

    def _note(self, facts: Facts, text: bytes) -> None:
        """A statement with effects, or a prepared one, is being run."""
        self.holdings.note(facts, text)
        if facts.effects & Effect.LISTEN and self.server is not None:
            self.server.holds_ready = True
        if facts.effects & Effect.UNLISTEN:
            self.listens.note(facts)
        if facts.effects & Effect.NOTIFY and self.server is not None and self._pool is not None:
            self._pool.notifiers[self.server.pid] = self.number

    def _wants_alone(self, server: ServerConnection, facts: Facts) -> bytes:
        """What to send before a statement for which our connections leave a database."""
        assert self._pool is not None
        return asked_to_leave(server, facts, self._pool.dsn, self._context.pools.vacate)

    def _asks_foreign_sequence(self) -> None:
        """The server will say "not yet defined", once: this login keeps its servers from now on."""
        self._context.sequence_readers.add(self.login.name)

    def _answer_came(self) -> None:
        """The client's next message can be understood now; not in the middle of an answer."""
        asyncio.get_running_loop().call_soon(self._go_on)

    # --- linked: from the server to the client (LinkedClient) ---

    def forward(self, data: bytes) -> None:
        self._context.counters.bytes_to_clients += len(data)
        if self._wire is not None:
            self._wire.write(data)
        else:
            self._transport.write(data)

    def server_reported(self, name: bytes, value: bytes) -> bool:
        news = self.parameters.tell(name, value)
        if news:
            self.holdings.effects |= Effect.SETTING
        return news

    def server_notified(self, body: bytes) -> None:
        assert self._pool is not None
        self.listens.from_server(body, self._pool.client_of)

    def server_failed(self, fields: dict[str, str]) -> None:
        self._context.counters.errors_from_servers += 1
        if fields.get("R") in _OUT_OF_DATE and self.server is not None:
            self.server.schema.changes += 1
        if fields.get("R") in _NO_SEQUENCE_VALUE:
            self.holdings.reads_sequences = True
            self._asks_foreign_sequence()
        self._fatal_seen = self._fatal_seen or fields.get("V", fields.get("S")) == "FATAL"
        if self._gate is not None and self.server is not None and self.server.replies.skipping:
            self._gate.closed = False  # a Query behind what failed is skipped: it has no answer
            self._answer_came()

    def server_full(self) -> None:
        self._server_full = True
        self._pace()

    def server_drained(self) -> None:
        self._server_full = False
        self._pace()

    def server_stale(self, *, answered: bool) -> bytes:
        """Our owner has moved: find it anew and send again what did not run, if nothing of it is
        answered; else a true error, after which the application repeats its transaction."""
        server, pool, target = self.server, self._pool, self.last_route
        assert server is not None
        assert pool is not None
        assert target is not None
        if target.owner is not None:
            self._context.directory.forget_owner(target.owner)
        outbound, refused = self._outbound, (target.owner, target.epoch)
        whole = bool(self._kept) and not outbound.rest and not outbound.skip
        again = self._first_unit and whole and not answered and not self.pins
        if not again or refused == self._refused_epoch:
            self._context.counters.errors_of_gateway += 1
            return messages.error_response(_moved(target), fatal=False)
        self._refused_epoch = refused
        self._inbox.data = self._kept + self._inbox.data
        self._leave(server)
        asyncio.get_running_loop().call_soon(self._go_on)
        return b""

    def _leave(self, server: ServerConnection) -> None:
        """Give a server back in the middle of a transaction that goes on elsewhere."""
        assert self._pool is not None
        sync_due = self._outbound.sync_due
        self._let_go()
        self.phase = Phase.IDLE
        self._server_full = False
        self._outbound.sync_due = self._outbound.sent = False
        self.holdings.settle()
        self._pool.abandon(server, mid_message=False, sync_due=sync_due)

    def server_forgot_prepared(self) -> None:
        self._outbound.translator.forget_all()
        self.holdings.forget_prepared()
        if self.server is not None:
            self.listens.all_discarded(self.server.last_command)

    def server_lost(self, error: ServerUnavailable) -> None:
        """The server has gone; what was not sent yet gets another, all else ends with the truth."""
        untouched = not self._outbound.sent and not self.pins and not self.holdings.effects
        self._stop_seeking()
        torn = self.server is not None and self.server.mid_message
        if self.server is not None and self.server.ready_held:
            self._transport.write(messages.READY_IDLE)
        self._let_go()
        self._input_held = False
        if untouched and self._inbox.data:
            self.phase = Phase.IDLE
            self._go_on()
        elif self._fatal_seen or torn:
            self._close()
        else:
            self.end(error)

    def server_ready(self, status: int) -> None:
        """All is answered: keep the server, ask what the session holds, or give it back."""
        outbound, server, pool, holdings = self._outbound, self.server, self._pool, self.holdings
        self._ready_missed = outbound.skip > 0
        self._first_unit = False
        if status != _IDLE_STATUS or outbound.skip:
            return
        assert server is not None
        assert pool is not None
        outbound.all_answered()
        self._context.counters.transactions += 1
        self.transactions += 1
        if self.listens.is_due():
            self.listens.transaction_ended(server.last_command)
        if holdings.schema_changed:
            holdings.schema_changed = False
            server.schema.changes += 1
        if holdings.effects and holdings.effects & _PREFERS_ITS_SERVER:
            self._preferred = server
        if pool.notifiers and server.pid in pool.notifiers:
            self._await_notifications(server, pool)
        else:
            self._transaction_over(server)

    # --- between two transactions ---

    def _attend(self, server: ServerConnection) -> None:
        """A client that listens hears what was committed before its transaction's end by then."""
        assert self._pool is not None
        server.holds_ready = True
        self._pool.notifiers[server.pid] = self.number

    def _await_notifications(self, server: ServerConnection, pool: Pool) -> None:
        """What this transaction sent is heard while the server is known to be ours."""
        self._input_held = True
        listening = self._context.pools.listening(pool)

        def caught_up() -> None:
            if self.server is not server or self.phase is not Phase.LINKED:
                return
            self._input_held = False
            if listening.pid is not None:  # else others may hear of it yet, on their own servers
                pool.notifiers.pop(server.pid, None)
            self._transaction_over(server)

        listening.when_caught_up(caught_up)

    def _give_ready(self, server: ServerConnection) -> None:
        """A ReadyForQuery that was kept back; then the client may know that its LISTEN is heard."""
        if server.ready_held:
            server.ready_held = False
            self._transport.write(messages.READY_IDLE)

    def _transaction_over(self, server: ServerConnection) -> None:
        if self.holdings.effects and self._outbound.translator.holds_unseen():
            self._part()  # pinned; a question would take that statement away, and waits for its end
        elif self.holdings.effects and self.holdings.transaction_ended():
            self._ask(server, self._answered)
        elif self._audit_due(server):
            server.audited_at = server.turns
            self._ask(server, self._audited)
        else:
            self._part()

    def _ask(self, server: ServerConnection, on_answer: Callable[[Answer], None]) -> None:
        """Ask the server what the session holds; the client's next message waits for the answer."""
        assert self._pool is not None
        self._input_held = True
        self._context.counters.probes += 1
        self._pool.keep(server)
        server.ask(self.holdings.question(), on_answer)

    def _answered(self, answer: Answer) -> None:
        server, pool = self.server, self._pool
        if server is None or pool is None or self.phase is not Phase.LINKED:
            return
        self._input_held = False
        if answer.error is not None:
            self.holdings.no_answer()
            self._part()
            return
        found = read_probe(answer.rows, pool.dsn.user)
        server.settings = found.settings
        known = Pin.TEMPORARY in self.holdings.pins
        before, changes = server.sql_prepared, server.schema.changes
        server.sql_prepared = self.holdings.take(found, before, changes)
        look_at_new = look(server, self.holdings) if self.holdings.sql_prepared else b""
        hides = Pin.TEMPORARY in self.holdings.pins and not known
        server.schema.changes += hides
        if look_at_new or hides:
            self._input_held = True
            told = partial(self._held_is_told, found.channels)
            server.write(look_at_new + server.prepare_ask(_FORGET_PLANS if hides else "", told))
        else:
            self._held_is_told(found.channels)

    def _held_is_told(self, channels: frozenset[bytes], answer: Answer | None = None) -> None:
        """All that the session holds is known, and its server's plans heed it."""
        server, pool = self.server, self._pool
        if server is None or pool is None or self.phase is not Phase.LINKED:
            return
        self._input_held = False
        if channels:
            self._place_listens(server, pool, channels)
        else:
            self._part()

    def _place_listens(
        self, server: ServerConnection, pool: Pool, channels: frozenset[bytes]
    ) -> None:
        """Have the pool's shared listener hear our channels, so that they don't hold the server."""
        listening = self._context.pools.listening(pool)
        if not listening.possible(server):
            self.holdings.pin(Pin.LISTEN)
        elif not self.pins and listening.pid is None:
            self._give_ready(server)
            listening.adopt(server, self.listens, channels)
            self.listens.moved(listening, channels)
            self._let_go()
            self.phase = Phase.IDLE
            self._go_on()
            return
        else:
            self._input_held = True
            self._spawn(self._move_listens(server, listening, channels))
            return
        self._part()

    def _audit_due(self, server: ServerConnection) -> bool:
        interval, pool = self._context.terms.audit_interval, self._pool
        assert pool is not None
        if interval <= 0:
            return False
        if server.schema.changes == pool.audited_schema:
            interval *= pool.audit_factor
        due = server.turns - server.audited_at >= interval
        return due and not self.holdings.pins and not server.line

    def _audited(self, answer: Answer) -> None:
        """A sample: did a function, trigger or view change the session unseen?"""
        server, pool = self.server, self._pool
        if server is None or pool is None or self.phase is not Phase.LINKED:
            return
        self._input_held = False
        if answer.error is not None:
            self._part()
            return
        found = read_probe(answer.rows, pool.dsn.user)
        clean = self.holdings.agrees(found)
        pool.audited(clean=clean)
        if clean:
            self._part()
            return
        _log.warning(
            "%s: the session of server %d was changed unseen (%s) by or before: %s",
            pool.name,
            server.pid,
            self.holdings.difference(found),
            self._outbound.last_statement[:200].decode("utf-8", "replace"),
        )
        self._give_ready(server)
        self._let_go()
        self.phase = Phase.IDLE
        pool.abandon(server, mid_message=False, sync_due=False)
        self._go_on()

    async def _move_listens(
        self, server: ServerConnection, listening: Listening, channels: frozenset[bytes]
    ) -> None:
        """Move our channels to the connection that listens for others already."""
        try:
            await self.listens.move(server, listening, channels)
        except GatewayError as error:
            _log.warning("client %d keeps its server for LISTEN: %s", self.number, error.message)
            self.holdings.pin(Pin.LISTEN)
        self._task = None
        self._input_held = False
        self._part()

    def _is_between(self) -> bool:
        """Whether the client is between two transactions."""
        server = self.server
        return server is None or (server.status == IDLE and server.replies.idle)

    def _part(self) -> None:
        """Give the server back, unless something holds us to it."""
        server, pool, holdings = self.server, self._pool, self.holdings
        assert server is not None
        assert pool is not None
        if server.ready_held:
            self._give_ready(server)
        if self._draining is not None and (self.pins or self._departing is None):
            self.end(self._draining)
            return
        if not holdings.pins:
            if holdings.unseen:
                holdings.unseen = False
                server.settings = (UNSEEN, *server.settings)
            self._let_go()
            self.phase = _IDLE
            self._kept = b""
            self._server_full = False
            if self.holdings.idle_limit_s:
                pool.abandon(server, mid_message=False, sync_due=False)  # it must not end by it
                self._limit_idleness()
            else:
                pool.release(server)
            if self._departing is not None and self._leaves(self._departing):
                return
            if self._inbox.data or self._read_paused:
                self._go_on()
        elif not holdings.whole_session and not pool.may_pin(server):
            reasons = ", ".join(self.pins)
            self.end(
                TooManyPinned(
                    f"too many clients keep a connection of {pool.name} for their session's state",
                    detail=f"This one for: {reasons}. pool.pinned_max is {pool.limits.pinned_max}.",
                    hint="End what holds it within the transaction, or raise pool.pinned_max.",
                )
            )
        elif server.settings != holdings.settings and not holdings.whole_session:
            self._replay(server)
        else:
            if self.listens.channels:
                self._attend(server)
            self._go_on()

    def _limit_idleness(self) -> None:
        """The client's own idle_session_timeout begins to run."""
        loop, limit_s = asyncio.get_running_loop(), self.holdings.idle_limit_s
        if self._idle_timer is not None:
            self._idle_timer.cancel()
        self._idle_timer = loop.call_later(limit_s, self._idle_too_long, self.active_at)

    def _idle_too_long(self, active_at: float) -> None:
        idle = self.phase is Phase.IDLE and self.active_at == active_at
        if idle and self.holdings.idle_limit_s and self._ready() == messages.READY_IDLE:
            self.end(IdleSession("terminating connection due to idle-session timeout"))

    def _leaves(self, departing: Callable[[ClientSession], bool]) -> bool:
        """Whether the session moves now, or ends since it can't."""
        if departing(self):
            return True
        if self._draining is not None:
            self.end(self._draining)
        return self._draining is not None

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        self._task = asyncio.get_running_loop().create_task(work)


def _moved(target: Route) -> StaleEpoch:
    return StaleEpoch(
        f'owner "{target.owner}" has just moved from {target.shard.name}',
        hint="Repeat the transaction: it will find the owner's new place.",
    )
