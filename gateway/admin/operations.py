"""What a worker does about operators' instructions, at once and from then on."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Iterator

from gateway.admin.view import Row
from gateway.errors import ShuttingDown
from gateway.pool.core import ServerState
from gateway.pool.server import IDLE, LinkedClient, ServerConnection
from gateway.pool.sharing import Nobody
from gateway.router.identity import LoginKind
from gateway.router.topology import Shard
from gateway.session.client import ClientSession, Phase
from gateway.session.context import Context
from gateway.session.reading_client import ReadingSession
from gateway.session.standing import Address, Deed, Instruction, Kind, Scope, endpoints

_log = logging.getLogger(__name__)


def carry_out(context: Context, instruction: Instruction) -> list[Row]:
    """Do what an instruction says, as far as it concerns this worker; what there is to tell."""
    if not context.pauses.first_time(instruction.number):
        return []
    context.pauses.standing.apply(instruction)
    rows = list(_DEEDS[instruction.deed](context, instruction.scope))
    upkeep(context)
    return rows


def take_over(context: Context, instructions: Iterable[Instruction]) -> None:
    """These are in force, in place of those that were; the notice board's we know better."""
    pauses = context.pauses
    pauses.standing.replace(instructions, but_shared=pauses.known)
    upkeep(context)
    _park_those_who_wait(context)
    pauses.changed()


def keep(context: Context, numbers: Collection[int]) -> bool:
    """Of the orders of all gateways these are in force still; whether another one has ended."""
    ended = context.pauses.standing.keep(numbers)
    if ended:
        upkeep(context)
        context.pauses.changed()
    return ended


def still_running(context: Context, scope: Scope) -> list[str]:
    """What a pause has to wait for, a line each."""
    return [row[0] or "" for row in _running(context, scope)]


def upkeep(context: Context) -> None:
    """What follows from the instructions in force, looked at a few times a second."""
    pauses = context.pauses
    for scope in pauses.tick():
        _log.warning("the pause of %s has ended by itself: its time was up", scope)
    standing, snapshot = pauses.standing, context.snapshot
    if not (standing.pauses or standing.drained or context.pools.suspended):
        return
    primaries = [context.health.primary_of(shard) for shard in snapshot.shards.values()]
    context.health.drained = standing.drained_addresses(snapshot, primaries)
    context.pools.suspend(standing.quiet(snapshot, primaries))


# --- the deeds ---


def _pause(context: Context, scope: Scope) -> Iterator[Row]:
    _log.warning("%s is paused", scope)
    _park_those_who_wait(context)
    yield from ()


def _park_those_who_wait(context: Context) -> None:
    """Who waits for a server waits for the end of the pause instead, in the same order."""
    seeking = [
        client
        for client in context.registry
        if isinstance(client, ReadingSession) and client.phase is Phase.SEEKING
    ]
    for client in sorted(seeking, key=lambda client: client.active_at):
        client.heed_pause()


def _resume(context: Context, scope: Scope) -> Iterator[Row]:
    _log.warning("%s is resumed", scope)
    upkeep(context)  # the pools first: they may open connections again
    context.pauses.changed()
    yield from ()


def _nothing(context: Context, scope: Scope) -> Iterator[Row]:
    yield from ()


def _reconnect(context: Context, scope: Scope) -> Iterator[Row]:
    context.pools.reconnect(_addresses(context, scope))
    yield from ()


def _kill(context: Context, scope: Scope) -> Iterator[Row]:
    """End clients, a row for each; of a database, what they ran there is stopped at once."""
    error = ShuttingDown("terminating connection due to administrator command")
    for client in context.registry:
        if _is_meant(client.number, scope) or (
            isinstance(client, ReadingSession) and _is_there(context, client, scope)
        ):
            client.end(error)
            yield (str(client.number),)
    if scope.kind is not Kind.CLIENT:
        upkeep(context)
        context.pools.drop(_addresses(context, scope))


def _is_meant(number: int, scope: Scope) -> bool:
    return scope.kind is Kind.CLIENT and scope.name == str(number)


def _is_there(context: Context, client: ReadingSession, scope: Scope) -> bool:
    """Whether a client's statements go there; a service login's only while one does."""
    target = client.last_route
    if target is None or scope.kind is Kind.CLIENT:
        return False
    if client.login.kind is LoginKind.SERVICE and client.phase is Phase.IDLE:
        return False
    return scope.covers(target.shard, client.owners)


def _running(context: Context, scope: Scope) -> Iterator[Row]:
    """Everything under way that a pause has to wait for, a line each."""
    quiet, now = context.pools.suspended, context.clock()
    for pool in context.pools:
        whole = pool.dsn.address in quiet and scope.kind is not Kind.OWNER
        for state in (ServerState.BUSY, ServerState.CLEANING):
            for server in pool.core.servers(state):
                if _concerns(context, server, scope, whole, pool.dsn.address):
                    yield (_line(server, pool.name, state, now),)
        if whole and pool.core.opening:
            yield (f"{pool.core.opening} connections of {pool.name} are being opened",)


def _concerns(
    context: Context, server: ServerConnection, scope: Scope, whole: bool, address: Address
) -> bool:
    """Whether a pause of ``scope`` waits for what a server does, in a pool paused as a ``whole``.

    A connection that only listens runs nothing. One that is cleaned after its client left may
    still run something of whoever that was, and so may a transaction's branch that is parked.
    """
    client = server.client
    if any(_is_its_work(one, scope) for one in (client, *server.line)):
        return True
    if isinstance(client, ReadingSession):
        return False
    if client is not None and server.replies.idle and server.status == IDLE:
        return False
    if scope.kind is Kind.OWNER:
        stamped = context.settings.routing.stamps and server.stamp is not None
        return not stamped or (server.stamp or "").partition(":")[2] == scope.name
    return whole or address in _addresses(context, scope)


def _is_its_work(client: LinkedClient | None, scope: Scope) -> bool:
    """Whether what a client with a server, or in line for it, has asked concerns ``scope``."""
    if not isinstance(client, ReadingSession) or client.last_route is None:
        return False
    return scope.covers(client.last_route.shard, client.owners)


def _line(server: ServerConnection, pool: str, state: ServerState, now: float) -> str:
    client = server.client
    what = f"{pool}, server process {server.pid}"
    if isinstance(client, ClientSession):
        doing = "runs a statement" if not server.replies.idle else "has a transaction open"
        if server.status == IDLE and server.replies.idle:
            doing = f"keeps its server for: {', '.join(client.pins) or 'a moment'}"
        since_s = now - client.active_at
        return f"client {client.number} ({client.login.name}) {doing}, for {since_s:.1f} s: {what}"
    if state is ServerState.CLEANING or isinstance(client, Nobody):
        return f"a connection whose client has left is cleaned: {what}"
    return f"the gateway itself asks something: {what}"


_DEEDS: dict[Deed, Callable[[Context, Scope], Iterator[Row]]] = {
    Deed.PAUSE: _pause,
    Deed.RESUME: _resume,
    Deed.GIVE_UP: _resume,
    Deed.DRAIN: _nothing,
    Deed.UNDRAIN: _nothing,
    Deed.DISABLE: _nothing,
    Deed.ENABLE: _nothing,
    Deed.RECONNECT: _reconnect,
    Deed.KILL: _kill,
    Deed.RUNNING: _running,
}


def _addresses(context: Context, scope: Scope) -> set[Address]:
    """Where the endpoints of a scope are."""
    snapshot = context.snapshot
    if scope.kind is Kind.ENDPOINT:
        return {one.address for one in endpoints(snapshot) if one.name == scope.name}
    shards = [shard for shard in snapshot.shards.values() if scope.covers(shard)]
    return {address for shard in shards for address in _of(shard)}


def _of(shard: Shard) -> Iterator[Address]:
    for endpoint in (shard.primary, *shard.replicas):
        yield endpoint.address
