"""Many clients on few servers, without sockets: what waiting, or sharing a server, costs.

A closed loop: a server answers the client whose turn it is, who asks again at once.

    .venv/bin/python -m benchmarks.micro_crowd
"""

from __future__ import annotations

import asyncio
import itertools
import math
from collections.abc import Callable

from benchmarks import micro_relay
from benchmarks.micro_facts import best_us
from gateway.admin.version import version_line
from gateway.pool.pool import Pool
from gateway.pool.server import LinkedClient, ServerConnection
from gateway.protocol import messages, replies
from gateway.session.reading_client import ReadingSession

CLIENTS, SERVERS = 100, 20
CALLS = 4_000


async def crowd(kind: str, depth: int, clients: int = CLIENTS) -> tuple[Callable[[], None], Pool]:
    """One transaction of one of the clients, and their pool. ``depth``: how many share a server."""
    context = await micro_relay._context()
    context.terms.share_depth = depth
    servers = [micro_relay._server(context) for _ in range(SERVERS)]
    [pool] = [one for one in context.pools if one.core.total]
    pool.core.maximum = SERVERS
    pool.sharing.depth = depth
    pool.sharing.short_s = 1.0
    pool.sharing.plain.told((), pool.schema.changes, math.inf)
    sessions = [micro_relay._session(context) for _ in range(clients)]
    parsed = micro_relay._FIRST_PARSED
    for session in sessions:
        session.data_received(micro_relay._PREPARE)
        server = session.server
        assert server is not None
        known = server.replies.head is replies.CLIENT_SYNC
        server.data_received((b"" if known else parsed) + messages.READY_IDLE)
        parsed = micro_relay._PARSED
    ask, answer = micro_relay.KINDS[kind]
    asks = itertools.cycle([ask(aid) for aid in range(1, 20_001)])
    for session in sessions:
        session.data_received(next(asks))
    return _closed_loop(servers, asks, answer), pool


def _closed_loop(
    servers: list[ServerConnection], asks: itertools.cycle[bytes], answer: bytes
) -> Callable[[], None]:
    turns = itertools.cycle(servers)

    def once() -> None:
        server = next(turns)
        client: LinkedClient | None = server.client
        assert isinstance(client, ReadingSession)
        head = server.replies.head
        if head is not None and head.silent:
            server.data_received(micro_relay._PARSED + answer)
        else:
            server.data_received(answer)
        client.data_received(next(asks))

    return once


async def _main() -> None:
    print(version_line())
    for kind in micro_relay.KINDS:
        for depth in (1, 4):
            once, pool = await crowd(kind, depth)
            cost = best_us(once, CALLS)
            assert (pool.counters.rides > 0) == (depth > 1)
            print(f"{kind:12}depth {depth}{cost:8.2f} µs of CPU per transaction")


if __name__ == "__main__":
    asyncio.run(_main())
