"""What one transaction costs the gateway itself: everything but sockets, event loop and kernel.

    .venv/bin/python -m benchmarks.micro_relay

An owner's session and a server connection talk through transports that send nothing; routing,
pool, prepared statements and reply bookkeeping are the real ones. Prints microseconds of CPU per
select of pgbench, the best of several rounds, and whether the hot modules are compiled.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterable
from typing import cast

from benchmarks.micro_facts import best_us
from benchmarks.tenants import BENCH_DATABASE, BENCH_INDUSTRY, ROLE, topology
from gateway.admin.version import version_line
from gateway.pool.server import ServerConnection
from gateway.protocol import messages
from gateway.router.identity import Login, LoginKind, Owner
from gateway.router.route import Asked
from gateway.session.context import Context
from gateway.session.guest import Guest
from gateway.session.reading_client import ReadingSession
from gateway.settings.model import Settings
from gateway.worker import Worker

OWNER = "1"
PARAMETERS = {b"standard_conforming_strings": b"on", b"client_encoding": b"UTF8"}
CALLS = 4_000


class Line:
    """A transport that keeps nothing but counts what it was given."""

    def __init__(self) -> None:
        self.written = 0

    def write(self, data: bytes) -> None:
        """Nothing is sent."""
        self.written += 1

    def pause_reading(self) -> None:
        """Nothing is read either."""

    def resume_reading(self) -> None:
        """The same."""

    def set_write_buffer_limits(self, high: int) -> None:
        """Nothing waits to be sent."""


async def _context() -> Context:
    """A worker's parts, with one owner known and no database behind."""
    raw = topology("nobody:nothing@127.0.0.1:1")
    raw |= {"pool": {"audit_interval": 0}, "directory": {"ttl_s": 3600, "negative_ttl_s": 3600}}
    settings = Settings.model_validate(raw)
    context = Worker(settings, lambda: settings).context

    async def home(owner_id: str) -> Owner | None:
        return Owner(owner_id, BENCH_INDUSTRY)

    owners = context.directory._owners
    owners._load = home
    await owners.get(OWNER)
    return context


def _server(context: Context) -> ServerConnection:
    """One that lies idle in the pool of pgbench's database."""
    shard = next(one for one in context.snapshot.shards.values() if one.industry == BENCH_INDUSTRY)
    pool = context.pools.get(shard.primary)
    transport = cast(asyncio.Transport, Line())
    server = ServerConnection(transport, 1, b"", dict(PARAMETERS), context.clock())
    pool.core.opening += 1
    pool._opened(server)
    return server


def _session(context: Context) -> ReadingSession:
    login = Login(ROLE, LoginKind.OWNER, "", OWNER)
    asked, parameters = Asked(BENCH_DATABASE), dict(PARAMETERS)
    guest = Guest(login, asked, 1, b"", (), parameters, peer="nobody", application="")
    session = ReadingSession(context, cast(asyncio.Transport, Line()), guest)
    session.start(b"")
    return session


def _sql(aid: int) -> bytes:
    return b"SELECT abalance FROM pgbench_accounts WHERE aid = %d;" % aid


_ROW = messages.message(b"D", b"\0\1\0\0\0\1" + b"0")
_COLUMNS = messages.message(b"T", b"\0\1abalance\0" + bytes(18))
_DONE = messages.message(b"C", b"SELECT 1\0") + messages.READY_IDLE
_BOUND = messages.message(b"2")
_EXECUTE = messages.message(b"E", bytes(5)) + messages.SYNC
_TEXT = b"SELECT abalance FROM pgbench_accounts WHERE aid = $1;\0\0\0"


def _bind(name: bytes, aid: int) -> bytes:
    value = b"%d" % aid
    size = len(value).to_bytes(4, "big")
    body = b"\0" + name + b"\0\0\0\0\1" + size + value + b"\0\1\0\0"
    return messages.message(b"B", body) + messages.message(b"D", b"P\0") + _EXECUTE


def _simple(aid: int) -> bytes:
    return messages.query(_sql(aid).decode())


def _extended(aid: int) -> bytes:
    return messages.message(b"P", b"\0" + _TEXT) + _bind(b"", aid)


def _prepared(aid: int) -> bytes:
    return _bind(b"P_0", aid)


_PARSED = messages.message(b"1")
_FIRST_PARSED = _PARSED + messages.message(b"t", b"\0\1\0\0\0\x17") + _COLUMNS
"""The gateway asks once what a new statement returns."""
_PREPARE = messages.message(b"P", b"P_0\0" + _TEXT) + messages.SYNC
_ANSWER = _COLUMNS + _ROW + _DONE

KINDS: dict[str, tuple[Callable[[int], bytes], bytes]] = {
    "simple": (_simple, _ANSWER),
    "extended": (_extended, _PARSED + _BOUND + _ANSWER),
    "prepared": (_prepared, _BOUND + _ANSWER),
}
"""How a client asks for an account, as pgbench does, and what a server answers."""


def _tpcb(aid: int) -> tuple[tuple[bytes, bytes], ...]:
    """pgbench's TPC-B by the simple protocol: what is asked, and what is answered."""
    teller, branch, delta = aid % 100 + 1, aid % 10 + 1, aid % 9_973 - 5_000
    said = (
        ("BEGIN;", "BEGIN"),
        (
            f"UPDATE pgbench_accounts SET abalance = abalance + {delta} WHERE aid = {aid};",
            "UPDATE 1",
        ),
        (_sql(aid).decode(), ""),
        (
            f"UPDATE pgbench_tellers SET tbalance = tbalance + {delta} WHERE tid = {teller};",
            "UPDATE 1",
        ),
        (
            f"UPDATE pgbench_branches SET bbalance = bbalance + {delta} WHERE bid = {branch};",
            "UPDATE 1",
        ),
        (
            "INSERT INTO pgbench_history (tid, bid, aid, delta, mtime)"
            f" VALUES ({teller}, {branch}, {aid}, {delta}, CURRENT_TIMESTAMP);",
            "INSERT 0 1",
        ),
    )
    inside = messages.message(b"Z", b"T")
    rows = _COLUMNS + _ROW + messages.message(b"C", b"SELECT 1\0") + inside
    turns = [
        (
            messages.query(text),
            messages.message(b"C", tag.encode() + b"\0") + inside if tag else rows,
        )
        for text, tag in said
    ]
    end = messages.message(b"C", b"COMMIT\0") + messages.READY_IDLE
    return (*turns, (messages.query("END;"), end))


def _tpcb_transaction(session: ReadingSession, server: ServerConnection) -> Callable[[], None]:
    transactions = itertools.cycle([_tpcb(aid) for aid in range(1, 2_001)])
    server.stamp = f"0:{OWNER}"  # as after the owner's first write there

    def once() -> None:
        for asked, answer in next(transactions):
            session.data_received(asked)
            server.data_received(answer)

    return once


def _transaction(
    session: ReadingSession, server: ServerConnection, asks: Iterable[bytes], answer: bytes
) -> Callable[[], None]:
    ask = itertools.cycle(asks)

    def once() -> None:
        session.data_received(next(ask))
        server.data_received(answer)

    return once


def _prepare(session: ReadingSession, server: ServerConnection) -> None:
    """The first client of all prepares what `_prepared` binds."""
    session.data_received(_PREPARE)
    server.data_received(_FIRST_PARSED + messages.READY_IDLE)


async def _main() -> None:
    context = await _context()
    server, session = _server(context), _session(context)
    _prepare(session, server)
    print(version_line())
    for name, (ask, answer) in KINDS.items():
        # As with pgbench, hardly any text of the simple protocol comes twice.
        asks = [ask(aid) for aid in range(1, 100_001)]
        before = session.transactions
        cost = best_us(_transaction(session, server, asks, answer), CALLS)
        assert session.transactions > before
        print(f"{name:12}{cost:8.2f} µs of CPU per transaction")


if __name__ == "__main__":
    asyncio.run(_main())
