"""A client that acts for many owners: each of its transactions finds its own database.

The session of a service login. Where its statements go is decided by `Roaming`; what may pass to a
linked server by its gate.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

from gateway.errors import GatewayError, NoRoute, QueryCanceled, ServerSaid, ServerUnavailable
from gateway.health.state import everybody_of
from gateway.pool.server import IDLE, Answer, ServerConnection
from gateway.protocol import messages, replies
from gateway.protocol.replies import Expected
from gateway.router.roaming import NeedParent
from gateway.router.route import NeedOwner, Reject, Route
from gateway.router.statement import Timing
from gateway.router.values import Incomplete
from gateway.session.client import Phase
from gateway.session.context import Context
from gateway.session.gate import GATHER_MAX_BYTES, Gate, NeedPassage, Objection, Stop
from gateway.session.guest import Guest
from gateway.session.pauses import Passage
from gateway.session.raising import raise_sql
from gateway.session.reading_client import policy_of
from gateway.session.roaming import Roaming
from gateway.session.scattering_client import ScatteringSession
from gateway.session.unit import Ask, Unit
from gateway.settings.model import ReadPolicy

_FAILED_STATUS = ord("E")
_IDLE_STATUS = IDLE  # as a C integer
_IDLE: Final = Phase.IDLE
_SEEKING: Final = Phase.SEEKING
_QUERY = ord("Q")
_READY = ord("Z")


class RoamingSession(ScatteringSession):
    """A service login's client after its login."""

    __slots__ = (
        "_check_gate",
        "_give_up",
        "_roaming",
    )

    def __init__(self, context: Context, transport: asyncio.Transport, guest: Guest) -> None:
        super().__init__(context, transport, guest)
        self._roaming = Roaming(
            context, guest.login, guest.asked, self.holdings, self._reader.prepared
        )
        self._check_gate = Gate(self._reader, self._check)
        self._gate = self._check_gate
        self._give_up: Callable[[GatewayError], None] | None = None
        """Refuses the statement that waits for something to be learnt, on a linked server."""

    # --- to another process ---

    def pack(self) -> dict[str, Any]:
        return {**ScatteringSession.pack(self), "way": self._roaming.pack()}

    def unpack(self, packed: dict[str, Any]) -> None:
        ScatteringSession.unpack(self, packed)
        self._roaming.unpack(packed["way"])

    # --- without a server ---

    def _answer_here(self) -> bool:
        self._unit = self._reader.unit(self._inbox.data)
        try:
            answer = self._roaming.answer(self._unit)
        except GatewayError as error:
            refusal = messages.error_response(error, fatal=False)
            ready = self._ready() if self._inbox.refuse_unit() else b""
            self._transport.write(refusal + ready)
            return True
        if answer is None:
            return False
        self._outbound.translator.answered_query()
        self._inbox.data = self._inbox.data[self._unit.size :]
        self._transport.write(answer)
        return True

    def _ready(self) -> bytes:
        return self._roaming.ready

    def _refuse_unit(self, error: GatewayError) -> None:
        self._roaming.fail()
        ScatteringSession._refuse_unit(self, error)

    # --- the way to a server ---

    def _seek(self) -> None:
        """The unit itself says where it goes."""
        if b"scatter" in self._inbox.data and self._scatters():
            return
        self.phase = _SEEKING
        self.active_at = self._context.clock()
        try:
            outcome = self._roaming.route(self._unit.asks)
        except Incomplete:
            if len(self._inbox.data) < GATHER_MAX_BYTES:
                self.phase = _IDLE  # more of it is on its way
            else:
                self._refuse_unit(_key_too_far_behind())
        except GatewayError as error:
            self._refuse_unit(error)
        else:
            if isinstance(outcome, Route):
                self._acquire(outcome)
            elif isinstance(outcome, Reject):
                self._refuse_unit(outcome.error)
            else:
                self._spawn(self._learn(outcome, self._seek, self._refuse_unit))

    async def _learn(
        self,
        needed: NeedOwner | NeedParent | NeedPassage,
        then: Callable[[], None],
        otherwise: Callable[[GatewayError], None],
    ) -> None:
        """Ask what a decision needs, then decide."""
        context, peek = self._context, self._roaming.peek
        try:
            if isinstance(needed, NeedOwner):
                known = await context.look_up(self.login, needed.owner)
                peek.learn(grants=known.grants, owner=known.owner)
            elif isinstance(needed, NeedPassage):
                await Passage(context.pauses).wait((), needed.owners)
            else:
                keys = (needed.key, *needed.others)
                found = await context.parents.find(
                    keys, context.snapshot, context.pools, context.pauses
                )
                for each in found.items():
                    peek.learn(parent=each)
        except GatewayError as error:
            self._task = None
            otherwise(error)
            return
        self._task = None
        then()

    def _read_unit(self) -> Unit:
        return self._unit

    def _is_read(self, unit: Unit) -> bool:
        """A read by itself, or the first of a transaction that was begun for reads only."""
        if self._roaming.begun and not self._roaming.begun_for_reads:
            return False
        return ScatteringSession._is_read(self, unit)

    def _policy_said(self, unit: Unit) -> ReadPolicy | None:
        return policy_of(self._roaming.role)

    def _before_link(self) -> None:
        assert self.last_route is not None
        self._roaming.linked(self.last_route, self._unit.asks)
        self._check_gate.admit(self._unit)
        ScatteringSession._before_link(self)

    def _lone_read(self, server: ServerConnection, data: bytes) -> Timing | None:
        return None if self._roaming.begun else ScatteringSession._lone_read(self, server, data)

    def _take_back(self) -> None:
        ScatteringSession._take_back(self)
        self._roaming.unsent()

    def _renew(self) -> None:
        self._roaming.unsent()
        ScatteringSession._renew(self)

    def _guard_read(self) -> None:
        """Its gate is there always."""

    def _begin_there(self, server: ServerConnection) -> None:
        """Run in front what the gateway itself has answered of the transaction, then go on."""
        roaming, outbound = self._roaming, self._outbound
        if not roaming.local:
            self._go_on()
            return
        roaming.local = False
        facts = self._context.facts
        before = [outbound.preamble]
        before += [outbound.heed(server, facts.facts(text), text) for text in roaming.front]
        before.append(server.prepare_ask(roaming.front_sql, self._begun(server)))
        if roaming.front_sets:
            self._input_held = True
            outbound.preamble = b""
            server.write(b"".join(before))
        else:
            outbound.preamble = b"".join(before)
            self._go_on()

    def _begun(self, server: ServerConnection) -> Callable[[Answer], None]:
        """What to do when the server has answered what was put in front."""

        def on_answer(answer: Answer) -> None:
            if self.server is not server or not self._input_held:
                return
            self._input_held = False
            if answer.error is None:
                self._go_on()
                return
            # A statement answered before fails now: the client hears of it at this one.
            self._leave(server)
            self._refuse_unit(ServerSaid(answer.error))

        return on_answer

    # --- linked: what may pass ---

    def _check(self, ask: Ask) -> Objection | None:
        """What stands against sending a statement to our server."""
        roaming, server = self._roaming, self.server
        assert server is not None
        if server.status == _FAILED_STATUS:
            return None
        if roaming.bound is None:
            assert self.last_route is not None
            roaming.stay(self.last_route)
        try:
            objection = roaming.check(ask)
            if objection is None and self._marked:
                assert roaming.bound is not None
                self._mark(roaming.owner or everybody_of(roaming.bound))
            return objection
        except Incomplete:
            return Reject(_key_too_far_behind())
        except GatewayError as error:
            return Reject(error)

    def _stopped(self, server: ServerConnection, stop: Stop) -> None:
        """Do what the statement at the front of the input needs before it can be answered."""
        objection = stop.objection
        if isinstance(objection, Reject):
            self._refuse_message(server, stop, objection.error)
        elif isinstance(objection, NeedOwner | NeedParent | NeedPassage):

            def learnt() -> None:
                self._input_held, self._give_up = False, None
                self._go_on()

            def unknown(error: GatewayError) -> None:
                self._input_held, self._give_up = False, None
                self._refuse_message(server, stop, error)

            self._input_held, self._give_up = True, unknown
            self._spawn(self._learn(objection, learnt, unknown))
        else:
            self._switch(server)

    def cancel(self) -> asyncio.Task[None] | None:
        give_up = self._give_up
        if give_up is None:
            return ScatteringSession.cancel(self)
        self._stop_seeking()
        give_up(QueryCanceled("canceling statement due to user request"))
        return None

    def _stop_seeking(self) -> None:
        self._give_up = None
        ScatteringSession._stop_seeking(self)

    def _owners(self, target: Route) -> frozenset[str]:
        return ScatteringSession._owners(self, target) | self._roaming.keys

    @property
    def owners(self) -> frozenset[str]:
        return super().owners if self._roaming.bound is None else self._roaming.inside

    def _refuse_message(self, server: ServerConnection, stop: Stop, error: GatewayError) -> None:
        """Have the server itself fail in its place, so that the transaction fails as it should."""
        if not stop.complete:
            self.end(error)
            return
        self._context.counters.errors_of_gateway += 1
        self._inbox.data = self._inbox.data[stop.size :]
        sql = raise_sql(error)
        if stop.tag == _QUERY:
            self._check_gate.closed = True
            data = self._outbound.book(server, messages.query(sql))
        else:
            self._outbound.sync_due = True
            data = server.prepare_step(sql, _do_nothing)
        self._outbound.sent = True
        server.write(data)
        self._go_on()

    # --- linked: to another server ---

    def _switch(self, server: ServerConnection) -> None:
        """Nothing has bound us to this server: leave it, once it has answered what was sent."""
        if not self._outbound.sync_due:
            self._go_elsewhere(server)
            return
        self._input_held = True

        def on_message(tag: int, body: bytes) -> None:
            if tag == _READY and self.server is server:
                asyncio.get_running_loop().call_soon(self._synced, server)

        server.prepared.sync_sent()
        server.replies.expect(Expected(replies.SYNC, silent=True, on_message=on_message))
        server.write(messages.SYNC)

    def _synced(self, server: ServerConnection) -> None:
        if self.server is server:
            self._input_held = False
            self._go_elsewhere(server)

    def _go_elsewhere(self, server: ServerConnection) -> None:
        self._leave(server)
        self._go_on()

    def _leave(self, server: ServerConnection) -> None:
        if server.status != IDLE or not server.replies.idle or self.holdings.effects:
            ScatteringSession._leave(self, server)
        else:
            assert self._pool is not None
            self._let_go()
            self.phase = _IDLE
            self._server_full = False
            self._outbound.sync_due = False
            self._pool.release(server)
        self._roaming.unlinked()

    # --- from the server ---

    def server_ready(self, status: int) -> None:
        self._check_gate.closed = False
        if status == _IDLE_STATUS and not self._outbound.skip:
            if self._task is not None or self._give_up is not None:
                self._stop_seeking()
            self._input_held = False
            self._roaming.end()
        ScatteringSession.server_ready(self, status)
        if status != _IDLE_STATUS and self.server is not None and not self._input_held:
            self._go_on()

    def _asks_again(self, server: ServerConnection) -> bool:
        again = ScatteringSession._asks_again(self, server)
        if again:
            self._roaming.unlinked()
        return again

    def server_lost(self, error: ServerUnavailable) -> None:
        self._roaming.unlinked()
        ScatteringSession.server_lost(self, error)


def _do_nothing() -> None:
    pass


def _key_too_far_behind() -> NoRoute:
    return NoRoute(
        f"the statement's tenant key comes after {GATHER_MAX_BYTES >> 20} MB of other values",
        hint="Put it before large values, or name the owner in a comment or a setting.",
    )
