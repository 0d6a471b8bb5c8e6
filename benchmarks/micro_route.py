"""What it costs to find a statement of a service login its database, without sockets.

    .venv/bin/python benchmarks/micro_route.py

Prints the best of several rounds, in microseconds of CPU per statement: ``read`` is the messages
read and the facts found (`Reader.unit`), ``demand`` what they ask for (`Demands.together`),
``route``
the decision (`route_demand`), ``all`` the three as a session does them. ``miss``: all, of a text
that was never seen.
"""

from __future__ import annotations

import itertools
import struct
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import cast

from gateway.pool.prepared import Statement
from gateway.router.build import build_snapshot, build_tables, tenant_columns
from gateway.router.demand import ParentKey
from gateway.router.facts import FactsCache
from gateway.router.identity import Grant, Login, LoginKind, Owner, Scope
from gateway.router.roaming import SAID_NOTHING, Said, route_demand
from gateway.session.context import Context
from gateway.session.demands import Demands, said_in
from gateway.session.holdings import Holdings
from gateway.session.unit import Ask, Reader
from gateway.settings.model import Settings

SETTINGS = Settings.model_validate(
    {
        "meta": {"primary": "postgresql://g@db/meta"},
        "industries": {"LAW": {"shards": [{"primary": "postgresql://g@db/law"}]}},
    }
)
FIND = (
    'SELECT "public"."Lead"."id", "public"."Lead"."userId", "public"."Lead"."name" FROM '
    '"public"."Lead" WHERE ("public"."Lead"."userId" = $1 AND "public"."Lead"."status" = $2) '
    'ORDER BY "public"."Lead"."createdAt" DESC LIMIT $3 OFFSET $4'
)
CREATE = (
    'INSERT INTO "public"."Lead" ("userId","name","email","score") VALUES ($1,$2,$3,$4) '
    'RETURNING "public"."Lead"."id"'
)
DJANGO = 'SELECT "crm_lead"."id" FROM "crm_lead" WHERE "crm_lead"."userId" = 7 LIMIT 21'
HINTED = "SELECT * FROM \"Lead\" WHERE \"id\" = 42 /*action='show',owner='7'*/"
META = 'SELECT * FROM "Session" WHERE "sessionToken" = $1'
OWNER = Owner("7", "LAW")


class Known:
    """A directory that knows the one owner there is."""

    grants: tuple[Grant, ...] | None = (Grant(Scope.ALL),)

    def owner(self, owner_id: str) -> Owner | None:
        return OWNER

    def parent(self, key: ParentKey) -> str | None:
        return None


class Bench:
    """One client's reader and demands over a worker's caches."""

    def __init__(self) -> None:
        routing = SETTINGS.routing
        self.facts = FactsCache(10_000, 64 << 20, tenant_columns(routing))
        self.snapshot = build_snapshot(SETTINGS, epoch=1)
        self.login = Login("app", LoginKind.SERVICE, "")
        self.known = Known()
        self.statements: dict[bytes, Statement] = {}
        self.reader = Reader(
            self.facts, {b"standard_conforming_strings": b"on"}, self.statements.get
        )
        context = SimpleNamespace(settings=SETTINGS, tables=build_tables(routing), facts=self.facts)
        holdings = SimpleNamespace(settings=(), sql_prepared={})
        self.demands = Demands(
            cast(Context, context), cast(Holdings, holdings), self.reader.prepared
        )

    def said(self, asks: list[Ask]) -> Said:
        """As a session gathers it."""
        said = SAID_NOTHING
        for ask in asks:
            here = said_in(ask.text)
            said = here if here is not SAID_NOTHING else said
        return said

    def all(self, data: bytes) -> object:
        """From messages to a route."""
        asks = self.reader.unit(data).asks
        wanted = self.demands.together(asks)
        return route_demand(self.snapshot, self.login, self.said(asks), wanted, self.known, None)


def message(tag: bytes, body: bytes) -> bytes:
    return tag + struct.pack("!i", len(body) + 4) + body


def query(sql: str) -> bytes:
    return message(b"Q", sql.encode() + b"\0")


def bound(name: bytes) -> bytes:
    """Bind of four values in text, Execute, Sync."""
    values = b"".join(struct.pack("!i", len(raw)) + raw for raw in (b"7", b"new", b"10", b"0"))
    bind = message(b"B", b"\0" + name + b"\0" + b"\0\0" + b"\0\4" + values + b"\0\0")
    return bind + message(b"E", b"\0\0\0\0\0") + message(b"S", b"")


def parsed(sql: str) -> bytes:
    return message(b"P", b"\0" + sql.encode() + b"\0\0\0") + bound(b"")


def best_us(call: Callable[[], object], calls: int, rounds: int = 7) -> float:
    """Microseconds per call, in the best round."""
    best = float("inf")
    for _ in range(rounds):
        began = time.process_time()
        for _ in range(calls):
            call()
        best = min(best, (time.process_time() - began) / calls)
    return best * 1e6


def measure(name: str, sql: str, make: Callable[[str], bytes]) -> None:
    bench, data = Bench(), make(sql)
    bench.statements[b"s"] = Statement(
        b"", sql.encode() + b"\0\0\0", bench.facts.facts(sql.encode())
    )
    bench.all(data)
    asks = bench.reader.unit(data).asks
    wanted = bench.demands.together(asks)
    said = bench.said(asks)
    serial = itertools.count()
    texts = iter([make(f"{sql} /* {next(serial)} */ /* x */") for _ in range(7 * 300)])
    fresh = [Bench() for _ in range(7 * 300)] if make is not by_name else []
    figures = [
        best_us(lambda: bench.reader.unit(data), 5_000),
        best_us(lambda: bench.demands.together(asks), 5_000),
        best_us(
            lambda: route_demand(bench.snapshot, bench.login, said, wanted, bench.known, None),
            5_000,
        ),
        best_us(lambda: bench.all(data), 5_000),
    ]
    if fresh:
        benches = iter(fresh)
        figures.append(best_us(lambda: next(benches).all(next(texts)), 300))
    print(f"{name:26}" + "".join(f"{figure:9.2f}" for figure in figures))


def by_name(sql: str) -> bytes:
    return bound(b"s")


def main() -> None:
    columns = ("read", "demand", "route", "all", "miss")
    print(f"{'µs per statement':26}" + "".join(f"{column:>9}" for column in columns))
    measure("prepared: Bind", FIND, by_name)
    measure("unnamed: Parse, Bind", FIND, parsed)
    measure("unnamed insert", CREATE, parsed)
    measure("unnamed, meta table", META, parsed)
    measure("simple, constant", DJANGO, query)
    measure("simple, comment", HINTED, query)


if __name__ == "__main__":
    main()
