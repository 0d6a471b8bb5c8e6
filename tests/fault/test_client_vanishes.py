"""Clients that leave without a word, at every awkward moment: the pool must be whole afterwards.

Whole means: every server idle and in its first state, nobody waiting, nothing committed that
PostgreSQL would not have committed, and never more servers than the bound.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass
from typing import Any

import pytest

from gateway.protocol import messages
from gateway.session.client import ClientSession
from gateway.worker import Worker
from tests.conftest import FreshDatabase, Provisioned
from tests.running import (
    Backends,
    backends,
    changed,
    eventually,
    figures,
    moved,
    past_the_gateway,
    place,
    pool_of,
    rest,
    running,
)
from tests.wire import COPY_DONE, Place, Wire, bind, copy_data, describe, execute, parse_, run

POOL_MAX = 2
SERVED_S = 5.0
"""The next client must be served in this time: the longest is a statement that goes on."""

SYNC, FLUSH, QUERY = messages.SYNC, messages.FLUSH, messages.query
INSERT = "INSERT INTO vanished VALUES ('it was committed')"


@dataclass(frozen=True, slots=True)
class House:
    """A gateway with a small pool over a database of its own."""

    worker: Worker
    url: str
    place: Place
    watch: Backends

    async def client(self) -> Wire:
        return await Wire.logged_in(self.place)

    async def committed(self) -> int:
        """Rows that made it into the table, which is then emptied."""
        return len(await past_the_gateway(self.url, "DELETE FROM vanished RETURNING *"))


@pytest.fixture(scope="module")
async def house(provisioned: Provisioned, fresh_database: FreshDatabase) -> AsyncIterator[House]:
    url = await fresh_database("vanish")
    await past_the_gateway(url, "CREATE TABLE vanished (what text)")
    settings = moved(changed(provisioned.settings, pool={"max": POOL_MAX}), "LAW", url)
    async with running(settings) as worker:
        login = provisioned.owner_on("law")
        with backends(url) as watch:
            yield House(worker, url, place(worker, login), watch)
        print(f"most backends {watch.most} of {POOL_MAX} in {watch.samples} samples")


# --- how a client leaves ---------------------------------------------------------------------

DEATHS: dict[str, Callable[[Wire], None]] = {"FIN": Wire.fin, "RST": Wire.rst, "half": Wire.eof}

# --- and in the middle of what ---------------------------------------------------------------

Moment = Callable[[Wire], Coroutine[Any, Any, None]]


async def big_result(wire: Wire) -> None:
    wire.send(QUERY("SELECT repeat('x', 10000) FROM generate_series(1, 20000)"))
    for _ in range(100):
        await wire.message()


async def big_result_unread(wire: Wire) -> None:
    wire.send(QUERY("SELECT repeat('x', 10000) FROM generate_series(1, 20000)"))
    await wire.message()
    await asyncio.sleep(0.1)


async def one_huge_row(wire: Wire) -> None:
    wire.send(QUERY("SELECT repeat('x', 100000000)"))
    await wire.message()
    await wire.raw(100_000)


async def copy_in(wire: Wire) -> None:
    wire.send(QUERY("COPY vanished FROM STDIN"))
    await wire.until("G")
    wire.send(*(copy_data(b"%d\n" % n) for n in range(10_000)))
    await wire.sent()


async def copy_in_half_a_message(wire: Wire) -> None:
    await copy_in(wire)
    wire.send(copy_data(b"x" * 1000)[:500])


async def copy_in_half_a_big_message(wire: Wire) -> None:
    await copy_in(wire)
    wire.send(copy_data(b"x" * 10_000_000)[:5_000_000])


async def copy_in_just_begun(wire: Wire) -> None:
    wire.send(QUERY("COPY vanished FROM STDIN"))


async def copy_in_extended(wire: Wire) -> None:
    wire.send(parse_("", "COPY vanished FROM STDIN"), bind(""), execute(), SYNC)
    await wire.until("G")
    wire.send(copy_data(b"1\n"))


async def copy_in_extended_without_sync(wire: Wire) -> None:
    wire.send(parse_("", "COPY vanished FROM STDIN"), bind(""), execute(), FLUSH)
    await wire.until("G")
    wire.send(copy_data(b"1\n"))


async def copy_done_without_sync(wire: Wire) -> None:
    wire.send(parse_("", "COPY vanished FROM STDIN"), bind(""), execute(), FLUSH)
    await wire.until("G")
    wire.send(copy_data(b"1\n"), COPY_DONE, FLUSH)
    await wire.until("C")


async def copy_out(wire: Wire) -> None:
    wire.send(QUERY("COPY (SELECT repeat('x', 1000) FROM generate_series(1, 200000)) TO STDOUT"))
    await wire.until("d", 100)


async def pipeline_without_sync(wire: Wire) -> None:
    wire.send(run(INSERT), FLUSH)
    await wire.until("C")
    wire.send(*(run(INSERT) for _ in range(20)))


async def pipeline_with_many_syncs(wire: Wire) -> None:
    for _ in range(200):
        wire.send(run("SELECT repeat('x', 10000)"), SYNC)
    await wire.until("Z", 3)


async def failed_pipeline(wire: Wire) -> None:
    wire.send(run(INSERT), run("SELECT no_such_column"), FLUSH)
    await wire.until("E")
    wire.send(run(INSERT))


async def three_bytes(wire: Wire) -> None:
    wire.send(QUERY(INSERT)[:3])


async def half_a_query(wire: Wire) -> None:
    wire.send(QUERY(INSERT)[:-5])


async def half_a_big_query(wire: Wire) -> None:
    wire.send(QUERY(INSERT + " -- " + "x" * 3_000_000)[:1_000_000])
    await wire.sent()


async def half_a_big_bind(wire: Wire) -> None:
    wire.send(parse_("", "SELECT length($1)"), bind("", [b"x" * 3_000_000])[:1_000_000])
    await wire.sent()


async def half_a_batch(wire: Wire) -> None:
    batch = run(INSERT) + SYNC
    wire.send(batch[: len(batch) // 2])


async def idle_in_transaction(wire: Wire) -> None:
    await wire.query(f"BEGIN; {INSERT}; SET LOCAL work_mem = '9MB'; CREATE TEMP TABLE t ()")


async def failed_transaction(wire: Wire) -> None:
    await wire.query("BEGIN")
    await wire.query("SELECT no_such_column")


async def between_parse_and_bind(wire: Wire) -> None:
    wire.send(parse_("insert", INSERT), describe("S", "insert"), SYNC)
    await wire.until("Z")
    wire.send(bind("insert"))


async def open_portal(wire: Wire) -> None:
    wire.send(parse_("", "SELECT generate_series(1, 100000)"), bind(""), execute("", 5), FLUSH)
    await wire.until("s")


async def session_state(wire: Wire) -> None:
    await wire.query("SET work_mem = '9MB'; SET search_path = pg_catalog")
    await wire.query("SELECT pg_advisory_lock(1)")
    await wire.query("CREATE TEMP TABLE t (a int)")
    await wire.query("DECLARE c CURSOR WITH HOLD FOR SELECT generate_series(1, 10)")
    await wire.query("PREPARE p AS SELECT 1")
    await wire.query("LISTEN something")


async def state_not_yet_asked_for(wire: Wire) -> None:
    wire.send(QUERY("CREATE TEMP TABLE t (a int)"))
    await wire.until("Z")


async def replay_under_way(wire: Wire) -> None:
    await wire.query("SET work_mem = '9MB'")
    wire.send(QUERY("SHOW work_mem"))


async def role_change_under_way(wire: Wire) -> None:
    await wire.query("SET ROLE pg_monitor")
    wire.send(QUERY("SELECT 1"))


async def long_statement(wire: Wire) -> None:
    wire.send(QUERY("SELECT pg_sleep(60)"))
    await asyncio.sleep(0.05)


async def long_statement_in_a_transaction(wire: Wire) -> None:
    await wire.query(f"BEGIN; {INSERT}")
    wire.send(QUERY("SELECT pg_sleep(60)"))
    await asyncio.sleep(0.05)


async def nothing(wire: Wire) -> None:
    """A client at rest."""


MOMENTS: tuple[Moment, ...] = (
    big_result,
    big_result_unread,
    one_huge_row,
    copy_in,
    copy_in_half_a_message,
    copy_in_half_a_big_message,
    copy_in_just_begun,
    copy_in_extended,
    copy_in_extended_without_sync,
    copy_done_without_sync,
    copy_out,
    pipeline_without_sync,
    pipeline_with_many_syncs,
    failed_pipeline,
    three_bytes,
    half_a_query,
    half_a_big_query,
    half_a_big_bind,
    half_a_batch,
    idle_in_transaction,
    failed_transaction,
    between_parse_and_bind,
    open_portal,
    session_state,
    state_not_yet_asked_for,
    replay_under_way,
    role_change_under_way,
    long_statement,
    long_statement_in_a_transaction,
    nothing,
)


@pytest.mark.parametrize("death", DEATHS)
@pytest.mark.parametrize("moment", MOMENTS, ids=lambda moment: moment.__name__)
async def test_trap_pool_is_whole_after_a_client_vanished(
    house: House, moment: Moment, death: str
) -> None:
    wire = await house.client()
    try:
        await moment(wire)
        DEATHS[death](wire)
        async with asyncio.timeout(SERVED_S):
            await every_server_is_clean(house)
    finally:
        wire.fin()
    await rest(house.worker)
    assert await house.committed() == 0
    assert house.watch.most <= POOL_MAX


async def test_many_vanish_at_once(house: House) -> None:
    """All of them together, and more than there are servers."""
    wires = await asyncio.gather(*(house.client() for _ in MOMENTS))
    tasks = [asyncio.create_task(moment(wire)) for moment, wire in zip(MOMENTS, wires, strict=True)]
    for number, wire in enumerate(wires):
        await asyncio.sleep(0.02)
        list(DEATHS.values())[number % 2](wire)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await every_server_is_clean(house)
    await rest(house.worker)
    assert await house.committed() == 0
    assert house.watch.most <= POOL_MAX


@pytest.mark.parametrize("death", DEATHS)
async def test_trap_a_waiter_that_vanishes_leaves_the_queue(house: House, death: str) -> None:
    holders = [await house.client() for _ in range(POOL_MAX)]
    for holder in holders:
        await holder.query("BEGIN")
    waiters = [await house.client() for _ in range(3)]
    for waiter in waiters:
        waiter.send(QUERY(INSERT))
    core = pool_of(house.worker, house.url).core
    await eventually(lambda: len(core.queue) == 3)
    DEATHS[death](waiters[0])
    DEATHS[death](waiters[2])
    await eventually(lambda: len(core.queue) == 1)
    await holders[0].query("COMMIT")
    assert [one.tag for one in await waiters[1].until("Z")] == ["C", "Z"]
    await holders[1].query("COMMIT")
    for wire in (*holders, *waiters):
        wire.fin()
    await rest(house.worker)
    assert await house.committed() == 1
    await every_server_is_clean(house)


async def test_trap_a_waiter_that_vanishes_at_the_hand_over_loses_no_server(house: House) -> None:
    """Over and over: the server comes free in the same moment as its waiter leaves."""
    for _ in range(50):
        holders = [await house.client() for _ in range(POOL_MAX)]
        for holder in holders:
            await holder.query("BEGIN")
        waiter = await house.client()
        waiter.send(QUERY("SELECT 1"))
        await eventually(lambda: len(pool_of(house.worker, house.url).core.queue) == 1)
        holders[0].send(QUERY("COMMIT"))
        waiter.rst()
        for holder in holders:
            holder.fin()
    await rest(house.worker)
    assert figures(pool_of(house.worker, house.url))["idle"] <= POOL_MAX
    await every_server_is_clean(house)
    assert house.watch.most <= POOL_MAX


@pytest.mark.parametrize("queries", [(QUERY(INSERT),), (run(INSERT), SYNC)], ids=["simple", "sync"])
async def test_what_was_sent_before_goodbye_is_done(
    house: House, queries: tuple[bytes, ...]
) -> None:
    """Query and Terminate in one write: PostgreSQL runs the one before it heeds the other."""
    wire = await house.client()
    wire.send(*queries, messages.TERMINATE)
    assert await wire.until("Z")
    await rest(house.worker)
    assert await house.committed() == 1
    await every_server_is_clean(house)


async def test_goodbye_without_sync_commits_nothing(house: House) -> None:
    wire = await house.client()
    wire.send(run(INSERT), messages.TERMINATE)
    await rest(house.worker)
    assert await house.committed() == 0
    await every_server_is_clean(house)
    wire.fin()


# --- what the next clients find --------------------------------------------------------------

LEFT_OVERS = """
    SELECT concat_ws(', ',
        CASE WHEN now() <> statement_timestamp() THEN 'a transaction' END,
        (SELECT string_agg(name, ' ') FROM pg_settings WHERE source = 'session'),
        CASE WHEN current_user <> session_user THEN 'a role' END,
        (SELECT string_agg(relname, ' ') FROM pg_class
          WHERE relnamespace = pg_my_temp_schema()),
        (SELECT string_agg(name, ' ') FROM pg_cursors WHERE name <> ''),
        (SELECT string_agg(name, ' ') FROM pg_prepared_statements WHERE from_sql),
        (SELECT string_agg(channel, ' ') FROM pg_listening_channels() AS channel),
        (SELECT string_agg(locktype, ' ') FROM pg_locks
          WHERE pid = pg_backend_pid() AND locktype = 'advisory'))
"""


async def every_server_is_clean(house: House) -> None:
    """As many clients as there may be servers, all at once, find nothing of anyone before."""
    wires = [await house.client() for _ in range(POOL_MAX)]
    try:
        pids = set()
        for wire in wires:
            assert await wire.value(LEFT_OVERS) == ""
            assert [one.tag for one in await wire.query("BEGIN")] == ["C", "Z"]
            pids.add(await wire.value("SELECT pg_backend_pid()"))
        assert len(pids) == POOL_MAX
        for wire in wires:
            await wire.query("ROLLBACK")
    finally:
        for wire in wires:
            wire.fin()


async def test_trap_a_peer_that_vanishes_without_a_word_is_noticed(house: House) -> None:
    """No FIN, no RST: the kernel asks after half a minute of silence, and gives up soon after."""
    wire = await house.client()
    (session,) = house.worker.context.registry
    assert isinstance(session, ClientSession)
    sock: socket.socket = session._transport.get_extra_info("socket")
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
    idle_s = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE)
    probes = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT)
    between_s = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL)
    assert idle_s + probes * between_s <= 60
    await wire.close()
    await rest(house.worker)


async def test_a_login_that_takes_too_long_is_told_and_ended(provisioned: Provisioned) -> None:
    settings = changed(provisioned.settings, listen={"login_timeout_s": 0.2})
    async with running(settings) as worker:
        host, port = worker.address
        wire = await Wire.connect(host, port)
        wire.send(messages.startup({"user": "somebody", "database": "law"}, 0x30000))
        heard = await wire.until("")
        assert [one.tag for one in heard] == ["R", "E", "EOF"]
        assert heard[1].fields["C"] == "57014"
        assert heard[1].fields["V"] == "FATAL"
        wire.fin()
        silent = await Wire.connect(host, port)
        assert (await silent.message()).tag == "EOF"
        silent.fin()
        await rest(worker)
