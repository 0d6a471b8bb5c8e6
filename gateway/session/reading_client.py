"""A client whose provable reads may be served by replicas; the base of every login's session.

A read goes to a replica by itself: what the client sends behind it waits until it is answered. All
else goes to the primary, and is marked as a write of its owner until it has ended, so that the
owner's next reads find what it wrote.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Final

from gateway.errors import (
    ConnectFailed,
    GatewayError,
    NoRoute,
    PoolExhausted,
    ProtocolViolation,
    ServerUnavailable,
)
from gateway.health.state import everybody_of
from gateway.pool.login import ServerRefused
from gateway.pool.prepared import IN_DOUBT, Statement
from gateway.pool.server import IDLE, ServerConnection
from gateway.router.identity import LoginKind
from gateway.router.replicas import BY_POLICY
from gateway.router.route import Route
from gateway.router.statement import Timing
from gateway.router.topology import Role, Shard, Snapshot
from gateway.session.client import ClientSession, Phase
from gateway.session.context import Context
from gateway.session.demands import has_comment, said_in
from gateway.session.gate import Gate
from gateway.session.guest import Guest
from gateway.session.unit import SERIALIZABLE, Reader, Unit, reads_only
from gateway.settings.model import ReadPolicy

_IDLE_STATUS = IDLE  # as a C integer
_POLICIES: Final = {"primary": ReadPolicy.PRIMARY, "replica": ReadPolicy.PREFER_REPLICA}

_SERVER_GOES: Final = frozenset(["57P01", "57P02"])
"""FATAL errors of a server that is shut down, or was ended."""


class ReadingSession(ClientSession):
    """An owner login's client after its login."""

    __slots__ = (
        "_asked_again_at",
        "_has_replicas",
        "_held",
        "_is_operator",
        "_marked",
        "_one_unit",
        "_reader",
        "_reads",
        "_shard",
        "_shard_in",
        "_stamp",
        "_stamp_of",
        "_unit",
    )

    def __init__(self, context: Context, transport: asyncio.Transport, guest: Guest) -> None:
        super().__init__(context, transport, guest)
        self._reader = Reader(context.facts, self.parameters, self._prepared)
        self._unit = Unit()
        self._one_unit = Gate(self._reader, lambda ask: None)
        self._is_operator = self.login.kind is LoginKind.OPERATOR
        self._reads = False
        """What is under way is one provable read, wherever it goes."""
        self._asked_again_at = -1
        """The transaction, by number, whose read was asked again."""
        self._marked: list[str] = []
        """Whose writes are under way on our server, as the marks were told."""
        self._shard: Shard | None = None
        """Of what, and in which snapshot, it is known whether there are replicas for reads."""
        self._shard_in: Snapshot | None = None
        self._has_replicas = False
        self._stamp = ""
        self._stamp_of: Route | None = None
        """What the stamp was made for."""
        self._held = False
        """The statement waits for a database that has gone, or has waited for it."""

    def _prepared(self, name: bytes) -> Statement | None:
        """What the client has prepared under a name."""
        if name.decode("utf-8", "surrogateescape") in self.holdings.sql_prepared:
            return IN_DOUBT
        return self._outbound.translator.statement(name)

    # --- the way to a server ---

    def _acquire(self, target: Route) -> None:
        if self._context.pauses.standing.pauses and self._parks(
            (target.shard,), self._owners(target)
        ):
            self.last_route = target
            return
        self._reads = False
        splits = self._splits_reads(target)
        if splits and not self._context.session_mode(target.endpoint):
            try:
                target = self._for_read(target)
            except GatewayError as error:
                self._refuse_unit(error)
                return
            if target.endpoint is target.shard.primary:
                target = self._to_primary(target)
        ClientSession._acquire(self, target)

    def _splits_reads(self, target: Route) -> bool:
        """Whether some reads of a target may go to a replica; asked once, as nothing is cheaper."""
        shard, snapshot = target.shard, self._context.snapshot
        if shard is not self._shard or snapshot is not self._shard_in:
            self._shard, self._shard_in = shard, snapshot
            self._has_replicas = self._context.health.serves_reads(shard)
        return self._has_replicas

    def _owners(self, target: Route) -> frozenset[str]:
        """Whose work it is that a route was found for."""
        return frozenset() if target.owner is None else frozenset((target.owner,))

    @property
    def owners(self) -> frozenset[str]:
        """Whose work is under way on our server."""
        return frozenset() if self.last_route is None else self._owners(self.last_route)

    def _parks(self, shards: Sequence[Shard], owners: Collection[str]) -> bool:
        """Whether the unit at the front has to wait for the end of a pause; if so, it does."""
        pauses = self._context.pauses
        if not pauses.cover(shards, owners):
            return False
        self._context.holds.leave(self)
        try:
            pauses.park(self, shards, owners)
        except GatewayError as error:
            self._refuse_unit(error)
        return True

    def heed_pause(self) -> None:
        """A pause has begun: who waits for a server looks whether it is for him."""
        pool = self._pool
        if self.phase is Phase.SEEKING and pool is not None and self in pool.core.fair.places:
            pool.give_up(self)
            self.try_again()

    def turned_away(self, error: GatewayError) -> None:
        """There is no waiting any longer for the end of a pause."""
        self._refuse_unit(error)

    def _to_primary(self, target: Route) -> Route:
        """The same, to the endpoint that is the primary now."""
        now = self._context.health.primary_of(target.shard)
        if now is target.endpoint:
            return target
        reason = f"{target.reason}; {now.name} is the primary now"
        return replace(target, endpoint=now, reason=reason)

    def _for_read(self, target: Route) -> Route:
        """The same, to a replica where that may serve what is asked. Raises NoUsableReplica."""
        unit = self._read_unit()
        policy = self._policy_said(unit)
        default = ReadPolicy.PRIMARY if self.login.kind is LoginKind.OPERATOR else None
        if not self._is_read(unit):
            return target
        self._reads = True
        context = self._context
        choice = context.health.choose(
            target.shard,
            target.owner or "",
            context.outstanding,
            context.clock(),
            policy or default,
        )
        if choice.reason is BY_POLICY:
            return target
        return replace(
            target, endpoint=choice.endpoint, reason=f"{target.reason}; read: {choice.reason}"
        )

    def _read_unit(self) -> Unit:
        """What stands at the front of the input."""
        self._unit = self._reader.unit(self._inbox.data)
        return self._unit

    def _is_read(self, unit: Unit) -> bool:
        """Whether it is one provable read, or the beginning of a transaction of reads."""
        if not unit.ends_ready or self.pins or not self._isolation_serves(unit):
            return False
        return reads_only(unit)

    def _isolation_serves(self, unit: Unit) -> bool:
        """A standby has no serializable transactions."""
        settings = dict(self.holdings.settings)
        return settings.get("default_transaction_isolation") != SERIALIZABLE

    def _policy_said(self, unit: Unit) -> ReadPolicy | None:
        """What a comment, a setting or the startup says of the role. Raises NoRoute."""
        said = [said_in(ask.text).role for ask in unit.asks if has_comment(ask.text)]
        said += [dict(self.holdings.settings).get("gateway.role"), self.asked.role]
        return policy_of(next((one for one in said if one), None))

    def refused(self, error: GatewayError) -> None:
        """A replica that can't be had leaves its read to the primary; a primary is waited for."""
        target = self.last_route
        if target is not None and self._may_fall_back(target, error):
            primary = replace(
                target, endpoint=target.shard.primary, reason=f"{target.reason}, had failed"
            )
            super()._acquire(self._to_primary(primary))
        elif self._may_wait(error) and self._context.holds.take(self):
            self._held = True
        else:
            super().refused(error)

    def _may_wait(self, error: GatewayError) -> bool:
        """Whether the database was there before, and has gone."""
        if not isinstance(error, ConnectFailed) or self._pool is None:
            return False
        passing = not isinstance(error, ServerRefused) or error.may_pass
        return passing and self._pool.counters.opened > 0

    def try_again(self) -> None:
        """The statement has waited for its database."""
        self.phase = Phase.IDLE
        self._go_on()

    def _refuse_unit(self, error: GatewayError) -> None:
        self._wait_no_more()
        super()._refuse_unit(error)

    def _wait_no_more(self) -> None:
        self._held = False
        self._context.holds.leave(self)
        self._context.pauses.leave(self)

    def _stop_seeking(self) -> None:
        self._wait_no_more()
        super()._stop_seeking()

    def _may_fall_back(self, target: Route, error: GatewayError) -> bool:
        if not self._reads or target.endpoint.role is not Role.REPLICA:
            return False
        if not isinstance(error, ServerUnavailable | PoolExhausted):
            return False
        return not self._context.health.replica_only(target.shard)

    # --- linked ---

    def _before_link(self) -> None:
        target = self.last_route
        assert target is not None
        if self._held:
            self._held = False
            self._context.holds.leave(self)
        if self._context.terms.stamps:
            self._outbound.stamp = (
                self._stamp if target is self._stamp_of else self._stamped(target)
            )
        if self._reads:
            self._guard_read()
        elif self._splits_reads(target):
            self._mark(target.owner or everybody_of(target.shard))

    def _stamped(self, target: Route) -> str:
        """By what a server is to know whose work this is."""
        known = target.owner is not None
        self._stamp, self._stamp_of = f"{target.epoch}:{target.owner}" if known else "", target
        return self._stamp

    def _lone_read(self, server: ServerConnection, data: bytes) -> Timing | None:
        if self._is_operator or self.holdings.pins or not data:
            return None
        try:
            return self._outbound.lone_read(server, data)
        except ProtocolViolation:
            return None

    def _guard_read(self) -> None:
        """Nothing else may follow the read to its server."""
        self._gate = self._one_unit
        self._one_unit.admit(self._unit)

    def _mark(self, key: str) -> None:
        """A transaction that may write for ``key`` is under way."""
        if key not in self._marked:
            self._marked.append(key)
            self._context.health.marks.begin(key, self._context.clock())

    def _let_go(self) -> None:
        ClientSession._let_go(self)
        if self._marked:
            now, marks = self._context.clock(), self._context.health.marks
            for key in self._marked:
                marks.end(key, now)
            self._marked = []
        if self._gate is self._one_unit:
            self._gate = None

    # --- its server dies ---

    def server_failed(self, fields: dict[str, str]) -> None:
        going = fields.get("C") in _SERVER_GOES and fields.get("V", fields.get("S")) == "FATAL"
        if not (going and self._asks_elsewhere()):
            super().server_failed(fields)

    def server_fenced(self, error: GatewayError) -> None:
        if not self._asks_elsewhere():
            super().server_fenced(error)

    def _asks_elsewhere(self) -> bool:
        """The same as `_asks_again`, of a server whose connection is there still."""
        server, pool = self.server, self._pool
        if server is None or pool is None or not self._asks_again(server):
            return False
        server.unlink()
        pool.unclean(server)
        return True

    def server_lost(self, error: ServerUnavailable) -> None:
        server = self.server
        if server is None or not self._asks_again(server):
            super().server_lost(error)

    def _asks_again(self, server: ServerConnection) -> bool:
        """Whether what died with the server was one read that left no trace; if so, it is asked
        again, like a statement that was never sent, and nobody is told."""
        if not self._may_ask_again(server):
            return False
        self._stop_seeking()
        if not self._context.holds.take(self):
            return False
        self._held = True
        self._asked_again_at = self.transactions
        self._context.counters.reads_repeated += 1
        self._inbox.data = self._kept + self._inbox.data
        self._kept = b""
        self._let_go()
        self.phase = Phase.SEEKING
        self._server_full = self._outbound.sent = self._outbound.sync_due = False
        server.replies.lost()
        return True

    def _may_ask_again(self, server: ServerConnection) -> bool:
        """Once, if it is young, whole and alone, and nothing of its answer has been told."""
        limit_ms = self._context.settings.failover.repeat_reads_ms
        if not limit_ms or not self._kept or not self._first_unit or server.spoke:
            return False
        if self._input_held or self._outbound.waiting or self.holdings.effects:
            return False
        if self._asked_again_at == self.transactions or self._draining is not None:
            return False
        late = self._context.clock() - self.active_at >= limit_ms / 1000
        if late or server.timed_out_s:
            return False
        unit = self._reader.unit(self._kept)
        return unit.size == len(self._kept) and self._is_read(unit)

    def server_ready(self, status: int) -> None:
        if self._gate is self._one_unit:
            self._one_unit.closed = False
        ClientSession.server_ready(self, status)
        if status != _IDLE_STATUS and self._gate is self._one_unit and self.server is not None:
            self._go_on()


def policy_of(role: str | None) -> ReadPolicy | None:
    """What a role that a client names means for its reads. Raises NoRoute for one there is not."""
    if role is None:
        return None
    if role not in _POLICIES:
        raise NoRoute(f'there is no role "{role}"', hint="It is primary or replica.")
    return _POLICIES[role]
