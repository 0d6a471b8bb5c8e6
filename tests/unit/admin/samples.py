"""A worker's context and a console on it, without sockets and without a database."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from gateway.admin.console import Console, ConsoleSession
from gateway.admin.operator import Operator
from gateway.admin.views import Views
from gateway.directory.directory import Directory
from gateway.directory.two_phase_log import Entry, TwoPhaseLog
from gateway.directory.two_phase_resolver import Resolver
from gateway.errors import GatewayError, ShuttingDown
from gateway.health.marks import Marks
from gateway.health.state import Health
from gateway.net.listener import Arrival
from gateway.net.stream import MessageStream
from gateway.pool.pool import Pool
from gateway.pool.pools import Pools
from gateway.pool.prepared import Statements
from gateway.pool.server import ServerConnection
from gateway.protocol import messages
from gateway.protocol.framing import HEADER_BYTES, message_size
from gateway.protocol.startup import PROTOCOL_3_0, StartupMessage
from gateway.router.build import build_snapshot, build_tables, credentials, owner_column
from gateway.router.facts import FactsCache
from gateway.router.identity import Login, LoginKind
from gateway.router.route import Asked, Route
from gateway.router.topology import Shard
from gateway.session.client import ClientSession
from gateway.session.context import Context
from gateway.session.guest import Guest
from gateway.session.holds import Holds
from gateway.session.parents import Parents
from gateway.session.pauses import Pauses
from gateway.session.registry import Registry
from gateway.session.two_phase import TwoPhase
from gateway.settings.dsn import parse
from gateway.settings.effective import pool_limits, read_rules
from gateway.settings.model import Settings

SECRET = "kQ7vZr2mXw9"
"""The password in every URL; it must never be seen."""

NOW = 1000.0
OPERATOR = Login("op", LoginKind.OPERATOR, "")

SETTINGS = {
    "meta": {"primary": f"postgresql://app:{SECRET}@db/meta"},
    "operator_role": {"user": "boss", "password": SECRET},
    "pool": {"max": 5},
    "industries": {
        "LAW": {
            "shards": [
                {
                    "primary": f"postgresql://app:{SECRET}@db/law",
                    "replicas": [f"postgresql://app:{SECRET}@standby:5433/law"],
                }
            ]
        },
        "MEDICAL": {
            "shards": [
                {"primary": f"postgresql://app:{SECRET}@db/medical_1"},
                {"primary": f"postgresql://app:{SECRET}@db/medical_2"},
            ]
        },
    },
}


class EmptyLog(TwoPhaseLog):
    """Asks no database."""

    async def name(self) -> str:
        return "log"

    async def commits(self, older_than_s: float) -> list[Entry]:
        return []


def make_context(settings: Settings | None = None) -> Context:
    """As a worker builds it; its clock stands still at `NOW`."""
    settings = settings or Settings.model_validate(SETTINGS)
    snapshot = build_snapshot(settings, epoch=1)
    facts = FactsCache(100, 100_000)
    log = EmptyLog(parse(settings.meta.primary.get_secret_value()), 1.0)
    context = Context(
        settings=settings,
        snapshot=snapshot,
        modes={},
        directory=Directory(parse(settings.meta.primary.get_secret_value()), settings.directory),
        pools=Pools(lambda: NOW),
        facts=facts,
        statements=Statements(facts),
        registry=Registry(),
        clock=lambda: NOW,
        mock_secret=b"",
        health=Health(Marks.private(0.0)),
        tables=build_tables(settings.routing),
        parents=Parents(lambda: NOW, owner_column(settings.routing)),
        holds=Holds(settings.failover, lambda: NOW),
        two_phase=TwoPhase(log),
        resolver=Resolver(log, list, list, 1.0),
        pauses=Pauses(settings.pause, lambda: NOW, lambda shard: True),
    )
    limits = {
        endpoint.address: pool_limits(settings, shard.industry)
        for shard in snapshot.shards.values()
        for endpoint in (shard.primary, *shard.replicas)
    }
    context.pools.configure(credentials(settings), limits, settings.operator_role)
    rules = {
        shard.industry: read_rules(settings, shard.industry) for shard in snapshot.shards.values()
    }
    context.health.configure(rules, set(limits))
    return context


def make_views(
    context: Context | None = None,
    reload: Callable[[], list[str]] = list,
    state: Callable[[], str] = lambda: "ready",
) -> Views:
    async def reload_all() -> list[str]:
        return reload()

    return Views(context or make_context(), reload_all, state)


class FakeTransport(asyncio.Transport):
    """Keeps what is written; says "full" beyond ``room`` bytes."""

    def __init__(self, room: int | None = None) -> None:
        super().__init__()
        self.protocol: Any = None
        self.written = bytearray()
        self.room = room
        self.reading = True
        self.closed = False

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self.protocol = protocol

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        self.written += data
        if self.room is not None and len(self.written) > self.room:
            self.protocol.pause_writing()

    def make_room(self, more: int) -> None:
        assert self.room is not None
        self.room += more
        self.protocol.resume_writing()

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def close(self) -> None:
        self.closed = True


Message = tuple[str, bytes]


def split(data: bytes) -> list[Message]:
    """Messages by their tag and body."""
    found: list[Message] = []
    position = 0
    while position < len(data):
        size = message_size(data, position)
        found.append((chr(data[position]), data[position + HEADER_BYTES : position + size]))
        position += size
    return found


@dataclass
class Dialogue:
    """A console session seen from the client's end of the wire."""

    session: ConsoleSession
    transport: FakeTransport
    context: Context
    _read: int = field(default=0)

    async def say(self, *data: bytes) -> list[Message]:
        """Send bytes; everything that comes back until the console waits again."""
        self.transport.protocol.data_received(b"".join(data))
        await settle()
        return self.heard()

    def heard(self) -> list[Message]:
        """What came since the last look."""
        new = bytes(self.transport.written[self._read :])
        self._read = len(self.transport.written)
        return split(new)

    async def tags(self, *data: bytes) -> str:
        return "".join(tag for tag, _ in await self.say(*data))


async def settle() -> None:
    """Let everything run that can."""
    for _ in range(50):
        await asyncio.sleep(0)


async def open_console(
    views: Views | None = None,
    *,
    room: int | None = None,
    ahead: bytes = b"",
    parameters: dict[str, str] | None = None,
) -> Dialogue:
    """A console of `OPERATOR`, after its greeting; ``ahead`` is what the client sent already."""
    views = views or make_views()
    transport = FakeTransport(room)
    stream = MessageStream(ahead)
    transport.protocol = stream
    stream.connection_made(transport)
    startup = StartupMessage(
        PROTOCOL_3_0,
        {"user": "op", "database": "gateway", "application_name": "test", **(parameters or {})},
    )
    Console(views).open(
        Arrival(stream, startup, "10.0.0.1:5000", None), OPERATOR, views.context.registry
    )
    (session,) = [one for one in views.context.registry if isinstance(one, ConsoleSession)]
    return Dialogue(session, transport, views.context)


def parse_message(sql: str, name: str = "") -> bytes:
    return messages.message(b"P", messages.cstring(name) + messages.cstring(sql) + b"\0\0")


def bind_message(portal: str = "", name: str = "", rest: bytes = b"\0\0\0\0\0\0") -> bytes:
    return messages.message(b"B", messages.cstring(portal) + messages.cstring(name) + rest)


def describe_message(kind: str, name: str = "") -> bytes:
    return messages.message(b"D", kind.encode() + messages.cstring(name))


def execute_message(portal: str = "", rows: int = 0) -> bytes:
    return messages.message(b"E", messages.cstring(portal) + rows.to_bytes(4, "big"))


def close_message(kind: str, name: str = "") -> bytes:
    return messages.message(b"C", kind.encode() + messages.cstring(name))


def add_operators(context: Context, count: int) -> None:
    """Fill the registry."""
    for _ in range(count):
        number, secret = context.registry.new_key(0)
        context.registry.add(_Silent(number, secret, OPERATOR, "local", "", NOW - 1))


class _Silent(Operator):
    """An operator that nothing is sent to."""

    def cancel(self) -> None:
        pass

    def drain(self, error: ShuttingDown) -> None:
        pass

    def end(self, error: GatewayError) -> None:
        pass


def add_client(context: Context, login: Login, shard: Shard, asked: Asked) -> ClientSession:
    """A client of ``login`` that was last routed to ``shard``."""
    number, secret = context.registry.new_key(0)
    guest = Guest(login, asked, number, secret, (), {}, peer="10.0.0.2:6000", application="web")
    session = ClientSession(context, FakeTransport(), guest)
    session.last_route = Route(shard, shard.primary, "test", asked.owner or login.owner)
    context.registry.add(session)
    return session


def add_server(pool: Pool, pid: int = 77) -> ServerConnection:
    """An idle server connection in ``pool``."""
    server = ServerConnection(FakeTransport(), pid, b"key!", {}, NOW - 10)
    server.life_ends_at = NOW + 60
    pool.core.opening += 1
    pool.core.opened(server)
    pool.release(server)
    return server
