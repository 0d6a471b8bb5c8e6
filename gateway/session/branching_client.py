"""A client whose transactions may go on in several databases: the session of a service login.

A statement that belongs elsewhere parks the linked server, its transaction open, and links another
one. The client's COMMIT waits until the branches are settled, and is then run on one of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from gateway.errors import (
    FeatureNotSupported,
    GatewayError,
    ServerSaid,
    ServerUnavailable,
)
from gateway.pool.pool import Pool
from gateway.pool.server import IDLE, Answer, ServerConnection
from gateway.protocol import messages, replies
from gateway.protocol.replies import Expected
from gateway.router.facts import Effect
from gateway.session.branched_roaming import BranchedRoaming
from gateway.session.branches import OPEN, Branch
from gateway.session.client import Phase
from gateway.session.context import Context
from gateway.session.gate import Join, Objection, Settle, Stop, Together
from gateway.session.guest import Guest
from gateway.session.roaming_client import RoamingSession
from gateway.session.two_phase import Settled
from gateway.session.unit import Ask, Unit

_FAILED_STATUS = ord("E")
_IDLE_STATUS = IDLE  # as a C integer
_READY = ord("Z")
_ANSWER_S = 30.0
"""Longest time that a parked branch may take for a savepoint or a setting."""
_LEAVES = (
    Effect.SETTING
    | Effect.ROLE
    | Effect.SQL_PREPARE
    | Effect.LISTEN
    | Effect.TEMP
    | Effect.ADVISORY_LOCK
    | Effect.HOLD_CURSOR
    | Effect.LOAD
    | Effect.RANDOM_SEED
    | Effect.DISCARD
    | Effect.UNKNOWN
)
"""After these a server that is given back must be cleaned."""
_FLUSH = messages.message(b"H")
_CAPABLE = "SELECT pg_catalog.current_setting('max_prepared_transactions')::int > 0"


class BranchingSession(RoamingSession):
    """A service login's client after its login."""

    __slots__ = (
        "_cleared",
        "_joining",
        "_parked",
        "_settling",
        "_way",
    )

    def __init__(self, context: Context, transport: asyncio.Transport, guest: Guest) -> None:
        super().__init__(context, transport, guest)
        self._way = BranchedRoaming(
            context, guest.login, guest.asked, self.holdings, self._reader.prepared
        )
        self._roaming = self._way
        self._parked: list[Branch] = []
        self._joining: Stop | None = None
        """The message that waits for a server of a further branch."""
        self._settling = False
        """The branches are the coordinator's until it has ended them."""
        self._cleared = False
        """The message at the front has been seen to on the other branches."""

    @property
    def movable(self) -> bool:
        return super().movable and not (self._parked or self._settling or self._joining)

    # --- what may pass ---

    def _check(self, ask: Ask) -> Objection | None:
        server = self.server
        assert server is not None
        if server.replies.skipping:
            return None  # the server ignores it
        if self._cleared and not ask.pending:
            self._cleared = False
            self._way.passes(ask)
            return None
        if self._parked and not ask.pending:
            objection = self._way.concerns_all(ask, failed=server.status == _FAILED_STATUS)
            if objection is not None:
                return objection
        return RoamingSession._check(self, ask)

    def _stopped(self, server: ServerConnection, stop: Stop) -> None:
        objection = stop.objection
        if isinstance(objection, Join):
            self._when_quiet(server, lambda: self._join(server, stop, objection))
        elif isinstance(objection, Together):
            self._when_quiet(server, lambda: self._tell_all(server, stop, objection))
        elif isinstance(objection, Settle):
            self._when_quiet(server, lambda: self._settle(server, stop, objection))
        else:
            RoamingSession._stopped(self, server, stop)

    # --- the linked server is to have answered all ---

    def _when_quiet(self, server: ServerConnection, then: Callable[[], None]) -> None:
        """Do it when nothing is owed; not when what was sent before the message has failed."""
        self._input_held = True

        def soon(work: Callable[[], None]) -> None:
            asyncio.get_running_loop().call_soon(work)

        def go_on() -> None:
            if self._is_linked_to(server):
                self._way.answered(server.status != OPEN)
                then()

        def on_ready(tag: int, body: bytes) -> None:
            if tag == _READY:
                soon(go_on)

        def sync() -> None:
            if not self._is_linked_to(server):
                return
            if server.replies.skipping:  # so will it skip the message
                self._proceed()
                return
            self._outbound.sync_due = False
            server.prepared.sync_sent()
            server.replies.expect(Expected(replies.SYNC, silent=True, on_message=on_ready))
            server.write(messages.SYNC)

        if self._outbound.sync_due:
            server.replies.call_back(lambda: soon(sync))
            server.write(_FLUSH)
        elif server.replies.idle:
            go_on()
        else:
            server.ask("", lambda answer: soon(go_on))

    def _is_linked_to(self, server: ServerConnection) -> bool:
        return self.server is server and self.phase is Phase.LINKED

    def _proceed(self) -> None:
        """Look at the message at the front again."""
        self._input_held = False
        self._go_on()

    def _fail_with(self, server: ServerConnection, stop: Stop, error: GatewayError) -> None:
        self._input_held = False
        self._refuse_message(server, stop, error)

    # --- parking and resuming ---

    def _park(self, server: ServerConnection) -> Branch:
        assert self._pool is not None
        assert self.last_route is not None
        branch = Branch(server, self._pool, self.last_route, self._way.park(), self._branch_ended)
        branch.stamp = self._outbound.stamp
        server.resume_reading()
        self.server = None
        self._server_full = False
        self.phase = Phase.SEEKING
        return branch

    def _resume(self, branch: Branch) -> None:
        """The branch's server is the client's again."""
        server = branch.server
        self.phase = Phase.LINKED
        self.server, self._pool, self.last_route = server, branch.pool, branch.target
        self._target = None  # the pool is the branch's: who seeks next aims anew
        server.link(self, self.number)
        self._outbound.sent = True
        self._outbound.preamble = b""
        self._outbound.stamp = branch.stamp
        self._first_unit = False
        self._reads = False
        self._turns_before = server.turns
        if self._write_paused:
            server.pause_reading()
        self._way.resume(branch.stay)
        self._tell_way()

    def _tell_way(self) -> None:
        self._way.parked = tuple(one.stay for one in self._parked)

    def _branch_ended(self, error: GatewayError) -> None:
        """A parked server is gone, and with it the transaction."""
        if not self._settling:
            self.end(error)

    def _drop_branches(self) -> None:
        """Roll back what is parked."""
        parked, self._parked = self._parked, []
        for branch in parked:
            branch.leave(clean=False)
        self._joining = None
        self._tell_way()

    # --- another branch ---

    def _join(self, server: ServerConnection, stop: Stop, objection: Join) -> None:
        """Go on in another database, and leave this one's transaction open."""
        target = objection.target
        if server.status != OPEN:
            self._proceed_failed(server, stop)
            return
        known = [one for one in self._parked if one.stay.shard.name == target.shard.name]
        if not known and not self._is_capable(server, stop, objection):
            return
        if self._way.soft and self._parked:
            self._leave_branch(server)
        else:
            self._parked.append(self._park(server))
        if known:
            self._parked.remove(known[0])
            self._resume(known[0])
            self._proceed()
            return
        self._tell_way()
        self._joining = stop
        self._way.begin_branch()
        self._unit = Unit()
        self.phase = Phase.SEEKING
        self._input_held = False
        self._acquire(target)

    def _is_capable(self, server: ServerConnection, stop: Stop, objection: Join) -> bool:
        """Whether this database can prepare transactions; when it isn't known it is asked first."""
        assert self._pool is not None
        place, capable = self._pool.dsn.place, self._context.two_phase.capable
        if place in capable or self._way.soft:
            return True

        def on_answer(answer: Answer) -> None:
            if not self._is_linked_to(server):
                return
            if _says_yes(answer):
                capable.add(place)
                self._join(server, stop, objection)
            else:
                self._fail_with(server, stop, _incapable(place))

        server.ask(_CAPABLE, on_answer)
        return False

    def _proceed_failed(self, server: ServerConnection, stop: Stop) -> None:
        """The transaction has failed, or there was none: the server says so itself."""
        if server.status == _FAILED_STATUS:
            self._proceed()
            return
        self._fail_with(
            server,
            stop,
            FeatureNotSupported(
                "statements sent together belong to several databases",
                hint="Begin a transaction, or send a Sync between them.",
            ),
        )

    def _leave_branch(self, server: ServerConnection) -> None:
        """Nothing has bound us to the linked branch."""
        assert self._pool is not None
        self.server = None
        self._server_full = False
        self._pool.abandon(server, mid_message=False, sync_due=False)

    def _begin_there(self, server: ServerConnection) -> None:
        if self._joining is None:
            RoamingSession._begin_there(self, server)
            return
        way, facts = self._way, self._context.facts
        way.local = False
        self._outbound.renewable = False  # its transaction goes on in others
        self._input_held = True
        before = [self._outbound.preamble]
        self._outbound.preamble = b""
        assert self._pool is not None
        if self._pool.dsn.place not in self._context.two_phase.capable:
            before.append(server.prepare_ask(_CAPABLE, self._found_capable(server, self._pool)))
        before += [self._outbound.heed(server, facts.facts(text), text) for text in way.front]
        before.append(server.prepare_ask(way.front_sql, self._branch_begun(server)))
        server.write(b"".join(before))

    def _found_capable(self, server: ServerConnection, pool: Pool) -> Callable[[Answer], None]:
        def on_answer(answer: Answer) -> None:
            if self._joining is None or self.server is not server:
                return
            if _says_yes(answer):
                self._context.two_phase.capable.add(pool.dsn.place)
            else:
                self._leave_branch(server)
                self._join_failed(_incapable(pool.dsn.place))

        return on_answer

    def _branch_begun(self, server: ServerConnection) -> Callable[[Answer], None]:
        def on_answer(answer: Answer) -> None:
            if self._joining is None or self.server is not server:
                return
            if answer.error is not None:
                self._leave_branch(server)
                self._join_failed(ServerSaid(answer.error))
                return
            self._joining = None
            self._proceed()

        return on_answer

    def _join_failed(self, error: GatewayError) -> None:
        """There is no further branch: the statement fails where we were before."""
        stop, self._joining = self._joining, None
        assert stop is not None
        self._stop_seeking()
        branch = self._parked.pop()
        self._resume(branch)
        self._fail_with(branch.server, stop, error)

    def _refuse_unit(self, error: GatewayError) -> None:
        if self._joining is None:
            RoamingSession._refuse_unit(self, error)
        else:
            self._join_failed(error)

    def try_again(self) -> None:
        if self._joining is None:
            RoamingSession.try_again(self)
        else:
            self._seek_again()

    def sent_elsewhere(self) -> None:
        if self._joining is None:
            RoamingSession.sent_elsewhere(self)
        else:
            self._seek_again()

    def _seek_again(self) -> None:
        assert self.last_route is not None
        try:
            self._acquire(self.last_route)
        except KeyError:
            self._join_failed(ServerUnavailable("the database is no longer in the settings"))

    # --- on all branches ---

    def _tell_all(self, server: ServerConnection, stop: Stop, objection: Together) -> None:
        """Run it on the parked branches, then let it pass to the linked one."""
        if server.status == IDLE:
            self._proceed_failed(server, stop)
            return
        self._spawn(self._told_all(server, stop, objection.text))

    async def _told_all(self, server: ServerConnection, stop: Stop, text: bytes) -> None:
        sql = text.decode("utf-8", "surrogateescape")
        error: GatewayError | None = None
        try:
            for answer in await asyncio.gather(*(one.ask(sql, _ANSWER_S) for one in self._parked)):
                error = error or (ServerSaid(answer.error) if answer.error is not None else None)
        except GatewayError as lost:
            self._task = None
            self.end(lost)
            return
        self._task = None
        if self.server is not server:
            return
        if error is not None and server.status != _FAILED_STATUS:
            self._fail_with(server, stop, error)
        else:
            self._cleared = True
            self._proceed()

    # --- the end of all branches ---

    def _settle(self, server: ServerConnection, stop: Stop, objection: Settle) -> None:
        """End the others as the client wishes, then run its command on one of them."""
        current = self._park(server)
        branches = [current, *self._parked]
        self._parked = []
        self._tell_way()
        self._settling = True
        commit = objection.commit and current.server.status != _FAILED_STATUS

        def then(settled: Settled) -> None:
            self._settling = False
            self._settled(stop, settled)

        self._context.two_phase.settle(
            branches,
            current,
            commit=commit,
            clean=not self.holdings.effects & _LEAVES,
            then=then,
        )

    def _settled(self, stop: Stop, settled: Settled) -> None:
        keep, error = settled.keep, settled.error
        if self.phase is Phase.CLOSED:
            if keep is not None:
                keep.leave(clean=False)
            return
        if keep is None:
            lost = ServerUnavailable("the connections to the databases were lost")
            self.end(error or lost)
            return
        self._resume(keep)
        if error is not None:
            self._fail_with(keep.server, stop, error)
            return
        if settled.ended:  # what the client sent finds a transaction to end, and is answered by it
            keep.server.ask("BEGIN", lambda answer: None)
        self._cleared = True
        self._proceed()

    # --- what may happen meanwhile ---

    def cancel(self) -> asyncio.Task[None] | None:
        return None if self._settling else RoamingSession.cancel(self)

    def _leave_server(self) -> None:
        self._drop_branches()
        RoamingSession._leave_server(self)

    def server_ready(self, status: int) -> None:
        self._way.answered(status == _FAILED_STATUS)
        if status == _IDLE_STATUS and self._parked and not self._outbound.skip:
            self._drop_branches()
        RoamingSession.server_ready(self, status)

    def server_stale(self, *, answered: bool) -> bytes:
        if self._parked:
            self._first_unit = False  # too late to go anywhere else unseen
        return RoamingSession.server_stale(self, answered=answered)

    def _may_ask_again(self, server: ServerConnection) -> bool:
        alone = not self._parked and self._joining is None
        return alone and RoamingSession._may_ask_again(self, server)

    def server_lost(self, error: ServerUnavailable) -> None:
        if self._joining is not None:
            self.server = None
            self._join_failed(error)
            return
        if self._parked:
            self._outbound.sent = True
            self._drop_branches()
        RoamingSession.server_lost(self, error)


def _says_yes(answer: Answer) -> bool:
    return bool(answer.rows) and answer.rows[0][0] == b"t"


def _incapable(place: str) -> FeatureNotSupported:
    return FeatureNotSupported(
        f"a transaction can't be in {place} and in other databases: there are no prepared"
        " transactions there",
        hint="Set max_prepared_transactions of that server to more than 0 and restart it.",
    )
