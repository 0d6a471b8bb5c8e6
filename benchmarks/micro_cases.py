"""The micro-benchmarks: what each does once. Run as a process by benchmarks/micro.py.

`python -m benchmarks.micro_cases marks` runs each case a fixed number of times between two calls of
getpgid(2), by which callgrind tells the counts apart; `... times` prints seconds as JSON.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType

from benchmarks import micro_crowd, micro_relay, micro_route
from gateway.admin.version import build
from gateway.pool.pool import Pool, Waiter
from gateway.pool.prepared import Statement
from gateway.pool.server import ServerConnection
from gateway.protocol import messages
from gateway.protocol.framing import ALL_TAGS, walk

Once = Callable[[], object]

ROWS = 100
ROUNDS = 15
_WARM_UP = 200


async def _framing() -> Once:
    """A chunk of rows walked from message to message; none of them is looked at."""
    rows = messages.message(b"D", b"\0\1\0\0\0\x0a0123456789") * ROWS
    pass_all = bytes(256)
    assert walk(rows, 0, len(rows), pass_all) == len(rows)
    assert walk(rows, 0, len(rows), ALL_TAGS) == 0
    return lambda: walk(rows, 0, len(rows), pass_all)


async def _route_prepared() -> Once:
    """A service login's Bind of a statement it prepared: facts are at hand."""
    data = micro_route.by_name(micro_route.FIND)
    bench = _prepared_bench()
    return lambda: bench.all(data)


async def _route_cached() -> Once:
    """An unnamed statement whose text was seen before."""
    data = micro_route.parsed(micro_route.FIND)
    bench = _prepared_bench()
    return lambda: bench.all(data)


async def _route_miss() -> Once:
    """An unnamed statement of a kind that was never seen: it is parsed."""
    bench = _prepared_bench()
    serial = itertools.count()

    def once() -> object:
        column = f"column_{next(serial)}"
        return bench.all(micro_route.parsed(micro_route.FIND.replace("status", column)))

    return once


async def _checkout() -> Once:
    """An idle server taken from its pool and given back."""
    pool, server = await _pool()
    waiter = Waiter()

    def once() -> None:
        assert pool.acquire(waiter) is server
        pool.release(server)

    return once


async def _translated() -> Once:
    """A client's prepared select on a server that has the statement under another name."""
    return await _transaction("prepared")


async def _injected() -> Once:
    """The same on a server that lacks it: Parse goes before, and its answer is swallowed."""
    context = await micro_relay._context()
    server, session = micro_relay._server(context), micro_relay._session(context)
    ask, answer = micro_relay.KINDS["prepared"]
    micro_relay._prepare(session, server)
    asked = ask(1)
    parsed = micro_relay._PARSED + answer

    def once() -> None:
        server.prepared.clear()
        session.data_received(asked)
        server.data_received(parsed)

    once()
    before = session.transactions
    once()
    assert session.transactions == before + 1
    return once


CASES: Mapping[str, tuple[Callable[[], Awaitable[Once]], int]] = MappingProxyType(
    {
        f"framing: {ROWS} messages": (_framing, 500),
        "route: prepared, service login": (_route_prepared, 1000),
        "route: text seen before": (_route_cached, 1000),
        "route: text never seen": (_route_miss, 200),
        "checkout and release": (_checkout, 1000),
        "prepared: server has it": (_translated, 1000),
        "prepared: server lacks it": (_injected, 1000),
        "transaction: simple": (lambda: _transaction("simple"), 1000),
        "transaction: extended": (lambda: _transaction("extended"), 1000),
        "transaction: TPC-B": (lambda: _tpcb(), 300),
        "crowd: simple, alone": (lambda: _crowd("simple", 1), 1000),
        "crowd: simple, in lines": (lambda: _crowd("simple", 8), 1000),
        "crowd: prepared, alone": (lambda: _crowd("prepared", 1), 1000),
        "crowd: prepared, in lines": (lambda: _crowd("prepared", 8), 1000),
    }
)
"""Each case by name: how it is made, and how often it runs."""


def _prepared_bench() -> micro_route.Bench:
    bench = micro_route.Bench()
    sql = micro_route.FIND.encode()
    statement = Statement(b"", sql + b"\0\0\0", bench.facts.facts(sql))
    bench.statements[b"s"] = statement
    return bench


async def _pool() -> tuple[Pool, ServerConnection]:
    context = await micro_relay._context()
    server = micro_relay._server(context)
    [pool] = [one for one in context.pools if one.core.in_use or one.core.total]
    return pool, server


async def _transaction(kind: str) -> Once:
    context = await micro_relay._context()
    server, session = micro_relay._server(context), micro_relay._session(context)
    micro_relay._prepare(session, server)
    ask, answer = micro_relay.KINDS[kind]
    asks = [ask(aid) for aid in range(1, 2_001)]
    once = micro_relay._transaction(session, server, asks, answer)
    before = session.transactions
    once()
    assert session.transactions == before + 1
    return once


async def _tpcb() -> Once:
    """Seven statements by the simple protocol, five of them with constants."""
    context = await micro_relay._context()
    server, session = micro_relay._server(context), micro_relay._session(context)
    once = micro_relay._tpcb_transaction(session, server)
    before = session.transactions
    once()
    assert session.transactions == before + 1
    return once


async def _crowd(kind: str, depth: int) -> Once:
    """One of 100 clients on 20 servers, that waits for one or shares it."""
    once, pool = await micro_crowd.crowd(kind, depth)
    _repeat(once, _WARM_UP)
    assert (pool.counters.rides > 0) == (depth > 1)
    return once


async def _marks() -> None:
    for make, count in CASES.values():
        once = await make()
        _repeat(once, _WARM_UP)
        os.getpgid(0)
        _repeat(once, count)
        os.getpgid(0)


async def _times() -> None:
    """Least CPU seconds of many short rounds, of each case and of the calibration beside it."""
    found = {}
    for name, (make, count) in CASES.items():
        once = await make()
        _repeat(once, _WARM_UP)
        case = calibration = float("inf")
        for _ in range(ROUNDS):
            case = min(case, _timed(once, count // 5) / (count // 5))
            calibration = min(calibration, _timed(_calibrate, 20) / 20)
        found[name] = case / calibration
    print(json.dumps({"build": build(), "times": found}))


def _calibrate() -> None:
    """Work of the interpreter's usual kind: look-ups, calls, bytes, a dictionary."""
    table: dict[bytes, int] = {}
    for number in range(200):
        key = b"%d" % (number & 31)
        table[key] = table.get(key, 0) + len(key)


def _repeat(once: Once, count: int) -> None:
    for _ in range(count):
        once()


def _timed(once: Once, count: int) -> float:
    began = time.process_time()
    _repeat(once, count)
    return time.process_time() - began


if __name__ == "__main__":
    asyncio.run(_marks() if sys.argv[1] == "marks" else _times())
