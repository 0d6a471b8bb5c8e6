"""The notice board: what operators have ordered of all gateways, and which workers have followed.

It is two tables of the meta database, the one thing that all gateways share. A notification on
CHANNEL says no more than that there is something new to read, so nothing is gained by making one up
(docs/decisions/0012-orders.md). Times travel as seconds that are left, by the database's clock.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import asyncpg

from gateway.directory.meta import MetaDatabase, NotProvisioned, PooledConnection

CHANNEL = "gateway_orders"

SILENT_S = 6.0
"""Who has not been seen for so long is gone or cut off; all show themselves far more often."""

PASSING_S = 60.0
"""How long an order is there to be read that leaves nothing standing."""

T = TypeVar("T")

_READ = """
    SELECT number, deed, kind, name, given_by,
           extract(epoch FROM ends_at - clock_timestamp())::float8 AS left_s
    FROM gateway.operator_order WHERE ends_at IS NULL OR ends_at > clock_timestamp()
    ORDER BY number
"""
_SHOW_ONESELF = f"""
    WITH succeeded AS (
        DELETE FROM gateway.worker
        WHERE id <> $1 AND (seen_at < clock_timestamp() - make_interval(secs => $7)
           OR (gateway, number) = ($2, $3)
              AND seen_at < clock_timestamp() - make_interval(secs => {SILENT_S}))
    )
    INSERT INTO gateway.worker (id, gateway, number, process, heard, told)
    VALUES ($1, $2, $3, $4, $5, $6)
    ON CONFLICT (id) DO UPDATE
        SET heard = excluded.heard, told = excluded.told, seen_at = clock_timestamp()
    RETURNING xmax = 0  -- whether nobody knew of us
"""
# Orders are committed in the order of their numbers, so that who has heard of one knows all before.
_ONE_AFTER_THE_OTHER = "SELECT pg_advisory_xact_lock(hashtext('gateway operator orders'))"
_FORGET_OLD = f"""
    DELETE FROM gateway.operator_order
    WHERE ends_at < clock_timestamp() - make_interval(secs => {PASSING_S})
"""
_END = """
    DELETE FROM gateway.operator_order
    WHERE deed = $1 AND ($2 OR (kind, name) = ($3, $4))
"""
_GIVE = """
    INSERT INTO gateway.operator_order (deed, kind, name, given_by, ends_at)
    VALUES ($1, $2, $3, $4, clock_timestamp() + make_interval(secs => $5))
    RETURNING number
"""
_WORKERS = """
    SELECT id, gateway, number, process, heard, told,
           extract(epoch FROM clock_timestamp() - seen_at)::float8 AS silent_s
    FROM gateway.worker ORDER BY gateway, number, process
"""
_FORGET = f"""
    DELETE FROM gateway.worker
    WHERE gateway = $1 AND seen_at < clock_timestamp() - make_interval(secs => {SILENT_S})
    RETURNING id
"""
_LEAVE = "DELETE FROM gateway.worker WHERE id = $1"


@dataclass(frozen=True, slots=True)
class Order:
    """One order as it is written down. ``left_s`` None: until it is undone."""

    number: int
    deed: str
    kind: str
    name: str
    left_s: float | None
    given_by: str
    """The gateway on whose console it was given."""


@dataclass(frozen=True, slots=True)
class Signature:
    """Who one worker of one gateway is; ``id`` is nobody else's, ever."""

    id: str
    gateway: str
    number: int
    process: int

    @property
    def place(self) -> tuple[str, int]:
        """What one worker has at a time, but for restarts."""
        return self.gateway, self.number


@dataclass(frozen=True, slots=True)
class Seen:
    """A worker as it last showed itself, ``silent_s`` ago."""

    who: Signature
    heard: int
    """The newest order that it follows."""
    told: Mapping[int, Sequence[str]]
    """What it has to say of orders, by their numbers; of a pause what still runs."""
    silent_s: float

    @property
    def silent(self) -> bool:
        """Whether it may be gone, or cut off from the meta database."""
        return self.silent_s > SILENT_S

    def __str__(self) -> str:
        who = self.who
        return f"gateway {who.gateway}, worker {who.number} (process {who.process})"


class Board:
    """The tables. All methods raise DirectoryUnavailable, and NotProvisioned where there are none.

    Who has been silent for ``forget_after_s`` serves nobody's owners any more and is forgotten.
    """

    def __init__(self, meta: MetaDatabase, forget_after_s: float) -> None:
        self._meta = meta
        self._forget_after_s = forget_after_s

    async def exchange(
        self, me: Signature, heard: int, told: Mapping[int, Sequence[str]]
    ) -> list[Order]:
        """Show ourselves and what we have followed; the orders in force, oldest first."""
        own = (me.id, me.gateway, me.number, me.process, heard, json.dumps(told))

        async def work(connection: PooledConnection) -> tuple[bool, list[Order]]:
            await connection.execute("SET LOCAL synchronous_commit = off")
            new: bool = await connection.fetchval(_SHOW_ONESELF, *own, self._forget_after_s)
            return new, [Order(**row) for row in await connection.fetch(_READ)]

        new, orders = await self._do(work)
        if new:  # who gave an order just now may not have seen us: read what he wrote
            _, orders = await self._do(work)
        return orders

    async def give(self, order: Order, ends: str | None, *, all_of_them: bool = False) -> int:
        """Write an order down; its number. It takes the place of orders of the deed ``ends``.

        That is of the same thing, or ``all_of_them``.
        """

        async def work(connection: PooledConnection) -> int:
            await connection.execute(_ONE_AFTER_THE_OTHER)
            await connection.execute(_FORGET_OLD)
            about = (order.kind, order.name)
            if ends is not None:
                await connection.execute(_END, ends, all_of_them, *about)
            number: int = await connection.fetchval(
                _GIVE, order.deed, *about, order.given_by, order.left_s
            )
            return number

        return await self._do(work)

    async def workers(self) -> list[Seen]:
        """Every worker of every gateway."""
        rows = await self._do(lambda connection: connection.fetch(_WORKERS))
        return [_seen(row) for row in rows]

    async def forget(self, gateway: str) -> int:
        """Wait no more for the silent workers of a gateway; how many there were."""
        return len(await self._do(lambda connection: connection.fetch(_FORGET, gateway)))

    async def leave(self, me: Signature) -> None:
        """We serve nobody any more."""
        await self._do(lambda connection: connection.execute(_LEAVE, me.id))

    async def _do(self, work: Callable[[PooledConnection], Awaitable[T]]) -> T:
        async def permitted(connection: PooledConnection) -> T:
            try:
                return await work(connection)
            except asyncpg.InsufficientPrivilegeError as error:
                raise NotProvisioned(str(error), hint="Run `gateway provision`.") from error

        return await self._meta.in_transaction("order", permitted)


def _seen(row: asyncpg.Record) -> Seen:
    told = {int(number): lines for number, lines in json.loads(row["told"]).items()}
    who = Signature(row["id"], row["gateway"], row["number"], row["process"])
    return Seen(who, row["heard"], told, row["silent_s"])
