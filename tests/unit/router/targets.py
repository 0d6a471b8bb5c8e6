"""Where statements go, without a database: a small world, and the corpus of targets.txt, read.

The world: owners 7 and 9 are in LAW, 8 in DENTIST, 21 and 22 on the two shards of MEDICAL. So are
the uuids and names that end in these numbers. Conversation 70 is owner 7's, 80 is 8's.
"""

from __future__ import annotations

import struct
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from gateway.errors import GatewayError
from gateway.pool.prepared import BySql, Statement
from gateway.router.build import build_snapshot, build_tables, tenant_columns
from gateway.router.demand import ParentKey
from gateway.router.facts import FactsCache
from gateway.router.identity import Grant, Login, LoginKind, Owner
from gateway.router.identity import Scope as Reach
from gateway.router.roaming import MATCHES_NOTHING, NOT_RUN_YET, NeedParent, Said, route_demand
from gateway.router.route import NeedOwner, Reject, Route, owner_not_found
from gateway.router.topology import Shard
from gateway.router.values import Incomplete
from gateway.session.context import Context
from gateway.session.demands import Demands, said_in
from gateway.session.holdings import Holdings
from gateway.session.unit import Reader, Unit, reads_only
from gateway.settings.model import Settings

SETTINGS: dict[str, Any] = {
    "meta": {"primary": "postgresql://g@db/meta"},
    "industries": {
        "LAW": {"shards": [{"primary": "postgresql://g@db/law"}]},
        "DENTIST": {"shards": [{"primary": "postgresql://g@db/dentist"}]},
        "MEDICAL": {
            "shards": [
                {"primary": "postgresql://g@db/m1", "slots": "0-511"},
                {"primary": "postgresql://g@db/m2", "slots": "512-1023"},
            ]
        },
    },
    "routing": {
        "parents": {"ConversationMessage.conversationId": "Conversation.id"},
        "meta_tables": [
            "User",
            "Session",
            "Account",
            "Agency",
            "UserSubscription",
            "ApiKey",
            "UserFeatureToggle",
            "VerificationToken",
            "billing.Invoice",
        ],
        "views": {
            "LeadSummary": ["Lead", "Deal"],
            "ActiveUser": ["User", "Session"],
            "OwnerOverview": ["User", "Lead"],
            "billing.Open": ["billing.Invoice"],
        },
        "harmless_functions": ["unaccent"],
    },
}
_HOMES = {"7": "LAW", "9": "LAW", "8": "DENTIST", "21": "MEDICAL", "22": "MEDICAL"}
_SHARDS = {"21": "medical_1", "22": "medical_2"}
_PARENTS = {"70": "7", "80": "8"}
_NAMES = {"7": "anna-7", "8": "bert-8", "9": "carl-9", "21": "dora-21", "22": "emil-22"}


def id_of(key_type: str, number: str) -> str:
    """The id that owner ``number`` has where ids are of this type."""
    if key_type == "integer":
        return number
    return str(uuid.UUID(int=int(number))) if key_type == "uuid" else _NAMES[number]


@dataclass(frozen=True)
class World:
    """What a statement meets."""

    key_type: str = "integer"
    path: str = ""
    owner: str | None = None
    industry: str | None = None
    last: str | None = None
    grants: tuple[Grant, ...] = (Grant(Reach.ALL),)
    assigned: str = "refuse"
    prepared: tuple[str, ...] = ()
    parsed: tuple[str, ...] = ()

    @property
    def settings(self) -> Settings:
        routing = {**SETTINGS["routing"], "key_type": self.key_type}
        routing["assigned_keys"] = self.assigned
        return Settings.model_validate({**SETTINGS, "routing": routing})


class Known:
    """The directory of the world."""

    def __init__(self, world: World) -> None:
        self.grants: tuple[Grant, ...] | None = world.grants
        self._owners = {
            id_of(world.key_type, number): Owner(
                id_of(world.key_type, number), industry, _SHARDS.get(number), 0, "a" + number[:1]
            )
            for number, industry in _HOMES.items()
        }
        self._parents = {key: id_of(world.key_type, number) for key, number in _PARENTS.items()}

    def owner(self, owner_id: str) -> Owner | None:
        return self._owners.get(owner_id)

    def parent(self, key: ParentKey) -> str | None:
        return self._parents.get(key.value, "")


class Client:
    """A service login's client in the world."""

    def __init__(self, world: World) -> None:
        self.world = world
        settings = world.settings
        self.facts = facts = FactsCache(
            1000, 10_000_000, tenant_columns(settings.routing), settings.routing.harmless_functions
        )
        self.snapshot = build_snapshot(settings, epoch=1)
        context = SimpleNamespace(
            settings=settings, tables=build_tables(settings.routing), facts=facts
        )
        held = (("search_path", world.path),) if world.path else ()
        names = [text.split()[1] for text in world.prepared]
        holdings = SimpleNamespace(
            settings=held,
            sql_prepared={
                name: BySql(text, 0) for name, text in zip(names, world.prepared, strict=True)
            },
        )
        self._statements: dict[bytes, Statement] = {}
        self.reader = Reader(facts, {b"standard_conforming_strings": b"on"}, self._statements.get)
        for text in world.parsed:
            name, _, sql = text.partition(" ")
            body = sql.encode() + b"\0\0\0"
            self._statements[name.encode()] = Statement(b"", body, facts.facts(sql.encode()))
        self.demands = Demands(
            cast(Context, context), cast(Holdings, holdings), self.reader.prepared
        )
        self.known = Known(world)

    def run(self, data: bytes) -> str:
        """Where a unit goes, as targets.txt says it."""
        unit = self.reader.unit(data)
        try:
            target = self._target(unit)
        except GatewayError as error:
            return f"{error.sqlstate} {error.message}"
        except Incomplete:
            return "incomplete"
        return f"{target}, replica" if reads_only(unit) else target

    def _target(self, unit: Unit) -> str:
        said = self._said(unit)
        demand = self.demands.together(unit.asks)
        last = self.snapshot.shards[self.world.last] if self.world.last else None
        outcome = route_demand(self.snapshot, WEB, said, demand, self.known, last)
        if isinstance(outcome, Reject):
            raise outcome.error
        if isinstance(outcome, NeedOwner):
            raise owner_not_found(outcome.owner)
        assert not isinstance(outcome, NeedParent)
        return _words(outcome)

    def _said(self, unit: Unit) -> Said:
        here = [said_in(ask.text) for ask in unit.asks]
        found = next((one for one in here if one.source), Said())
        by_setting = found.owner is None and self.world.owner is not None
        return replace(
            found,
            owner=self.world.owner if by_setting else found.owner,
            industry=found.industry or self.world.industry,
            source="SET gateway.owner" if by_setting else found.source,
        )


WEB = Login("web", LoginKind.SERVICE, "")


def _words(route: Route) -> str:
    assert route.endpoint is route.shard.primary
    if route.reason in (MATCHES_NOTHING, NOT_RUN_YET):
        return {MATCHES_NOTHING: "no rows", NOT_RUN_YET: "not run"}[route.reason]
    if route.reason.startswith("no table"):
        return "home" if route.shard.industry is None else f"home {route.shard.name}"
    return _place(route.shard) + (f" of {route.owner}" if route.owner is not None else "")


def _place(shard: Shard) -> str:
    return shard.name


# --- messages ---


def message(tag: bytes, body: bytes) -> bytes:
    return tag + struct.pack("!i", len(body) + 4) + body


def query(sql: str) -> bytes:
    return message(b"Q", sql.encode() + b"\0")


_OIDS = {
    "int2": 21,
    "int4": 23,
    "int8": 20,
    "text": 25,
    "varchar": 1043,
    "uuid": 2950,
    "float8": 701,
}
_SIZES = {"int2": "!h", "int4": "!i", "int8": "!q", "float8": "!d"}


@dataclass(frozen=True)
class Value:
    """A bound value: its bytes, format and declared type."""

    raw: bytes | None
    binary: bool = False
    oid: int = 0


def value(written: str) -> Value:
    """``'7'`` in text; ``int4 7`` in binary of a declared type, ``int4? 7`` of none; ``null``.

    ``int4[] 7 8`` is a binary array.
    """
    if written == "null":
        return Value(None)
    if written[0] == "'":
        return Value(written[1:-1].encode())
    kind, _, rest = written.partition(" ")
    if kind.endswith("[]"):
        return Value(_array(kind[:-2], rest.split()), True)
    name = kind.rstrip("?")
    return Value(_binary(name, rest), True, 0 if kind.endswith("?") else _OIDS[name])


def _binary(kind: str, text: str) -> bytes:
    if kind in ("text", "varchar"):
        return text.encode()
    if kind == "uuid":
        return uuid.UUID(text).bytes
    return struct.pack(_SIZES[kind], float(text) if kind == "float8" else int(text))


def _array(kind: str, items: list[str]) -> bytes:
    head = struct.pack("!iiI", 1 if items else 0, 0, _OIDS[kind])
    body = struct.pack("!ii", len(items), 1) if items else b""
    for item in items:
        raw = None if item == "null" else _binary(kind, item)
        body += struct.pack("!i", -1) if raw is None else struct.pack("!i", len(raw)) + raw
    return head + body


def bound(sql: str, values: list[Value]) -> bytes:
    """Parse, Bind, Execute and Sync."""
    oids = b"".join(struct.pack("!I", one.oid) for one in values)
    parse = message(b"P", b"\0" + sql.encode() + b"\0" + struct.pack("!H", len(values)) + oids)
    return parse + bind(b"", values) + message(b"E", b"\0\0\0\0\0") + message(b"S", b"")


def bind(name: bytes, values: list[Value]) -> bytes:
    formats = b"".join(struct.pack("!H", one.binary) for one in values)
    body = b"\0" + name + b"\0" + struct.pack("!H", len(values)) + formats
    body += struct.pack("!H", len(values))
    for one in values:
        raw = one.raw
        body += struct.pack("!i", -1) if raw is None else struct.pack("!i", len(raw)) + raw
    return message(b"B", body + b"\0\0")


# --- the corpus ---


@dataclass(frozen=True)
class Case:
    """A statement, the values bound to it (None: a simple query), and where it must go."""

    section: str
    sql: str
    values: tuple[str, ...] | None
    expected: str
    world: World = field(default_factory=World)

    @property
    def data(self) -> bytes:
        if self.values is None:
            return query(self.sql)
        return bound(self.sql, [value(one) for one in self.values])


def _with(world: World, line: str) -> World:
    """The world with one ``@word value`` line heeded."""
    word, _, rest = line.removeprefix("@").partition(" ")
    if word in ("prepared", "parsed"):
        more = f"PREPARE {rest}" if word == "prepared" else rest
        return replace(world, **{word: (*getattr(world, word), more)})  # type: ignore[arg-type]
    if word == "grant":
        scope, _, whom = rest.partition(" ")
        return replace(world, grants=() if scope == "none" else (Grant(Reach(scope), whom),))
    return replace(world, **{word: rest})  # type: ignore[arg-type]


def _read() -> Iterator[Case]:
    section, common = "", World()
    for block in Path(__file__).with_name("targets.txt").read_text().strip().split("\n\n"):
        world, values = common, None
        sql: list[str] = []
        for line in block.split("\n"):
            if line.startswith("## "):
                section, common = line.removeprefix("## "), World()
                world = common
            elif line.startswith("@"):
                world = _with(world, line)
            elif line.startswith("$ "):
                values = tuple(v for v in line.removeprefix("$ ").split(" | ") if v != "none")
            elif line.startswith("=> "):
                yield Case(section, "\n".join(sql), values, line.removeprefix("=> "), world)
                sql, values = [], None
            elif not line.startswith("# "):
                sql.append(line)
        if block.split("\n")[-1].startswith("@"):
            common = world


CASES = list(_read())
