"""What a session holds, in transaction pooling: it follows the client, or pins it and lets go."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import Any

import asyncpg
import psycopg
import pytest

from gateway.admin.metrics import WorkerCollector
from gateway.pool.core import ServerState
from gateway.pool.pool import Pool
from gateway.session.client import ClientSession
from gateway.settings.dsn import SslMode
from tests.integration.conftest import Gateway, StartGateway, until

Connection = psycopg.AsyncConnection[tuple[object, ...]]

POOL = {"pool": {"max": 3}}


@pytest.fixture
async def small(start_gateway: StartGateway) -> Gateway:
    """A gateway whose pools are smaller than the number of clients below."""
    return await start_gateway(POOL)


@asynccontextmanager
async def clients(gateway: Gateway, number: int, **options: Any) -> AsyncIterator[list[Connection]]:
    """Connections of one owner, in autocommit."""
    login = gateway.provisioned.owners[0]
    async with AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(
                await psycopg.AsyncConnection.connect(
                    gateway.dsn(login.user, login.database), autocommit=True, **options
                )
            )
            for _ in range(number)
        ]


async def value(
    connection: Connection, sql: str, *params: object, prepare: bool | None = None
) -> object:
    cursor = await connection.execute(sql, params or None, prepare=prepare)
    row = await cursor.fetchone()
    assert row is not None
    return row[0]


def pool_of(gateway: Gateway) -> Pool:
    shard = gateway.provisioned.owners[0].shard
    return next(pool for pool in gateway.worker.context.pools if pool.name.startswith(f"{shard}/"))


def pinned(gateway: Gateway) -> list[str]:
    """Every reason why a client keeps its server now."""
    sessions = [one for one in gateway.worker.context.registry if isinstance(one, ClientSession)]
    return [str(pin) for session in sessions for pin in session.pins]


async def at_rest(gateway: Gateway) -> None:
    """All servers idle: nobody keeps one."""
    pool = pool_of(gateway)
    await until(lambda: pool.core.count(ServerState.IDLE) == pool.core.total)


async def test_settings_follow_the_client(small: Gateway) -> None:
    async with clients(small, 8) as connections:
        for number, one in enumerate(connections):
            await one.execute(f"SET work_mem = '{number + 5}MB'")
            await one.execute("SELECT set_config('my.name', %s, false)", (f"it's \\ {number} é",))
        for _ in range(5):
            for number, one in enumerate(connections):
                assert await value(one, "SHOW work_mem") == f"{number + 5}MB"
                assert await value(one, "SHOW my.name") == f"it's \\ {number} é"
        assert pinned(small) == []


async def test_a_custom_setting_named_once_is_kept_whoever_sets_it(small: Gateway) -> None:
    async with clients(small, 3) as (one, *others):
        await one.execute("RESET my.hidden")
        await one.execute("DO $$ BEGIN PERFORM set_config('my.' || 'hidden', 'x', false); END $$")
        for other in others:
            await other.execute("BEGIN")
            assert await value(other, "SELECT current_setting('my.hidden', true)") in (None, "")
        assert await value(one, "SHOW my.hidden") == "x"


async def test_trap_a_set_that_rolls_back_is_not_kept(small: Gateway) -> None:
    async with clients(small, 2) as (one, other):
        await one.execute("SET work_mem = '5MB'")
        await one.execute("BEGIN")
        await one.execute("SET work_mem = '6MB'")
        await one.execute("SAVEPOINT s")
        await one.execute("SET work_mem = '7MB'")
        await one.execute("ROLLBACK TO s")
        assert await value(one, "SHOW work_mem") == "6MB"
        await one.execute("ROLLBACK")
        await one.execute("BEGIN; SET LOCAL work_mem = '8MB'; COMMIT")
        assert await value(one, "SHOW work_mem") == "5MB"
        await one.execute("RESET ALL")
        assert await value(one, "SHOW work_mem") == await value(other, "SHOW work_mem")


async def test_startup_settings_survive_reset_and_discard(small: Gateway) -> None:
    async with clients(small, 3, options="-c work_mem=9MB -c timezone=Asia/Tokyo") as connections:
        one = connections[0]
        for command in ("RESET work_mem", "RESET ALL", "DISCARD ALL"):
            await one.execute("SET work_mem = '10MB'")
            await one.execute(command)
            assert await value(one, "SHOW work_mem") == "9MB"
            assert one.info.parameter_status("TimeZone") == "Asia/Tokyo"


async def test_temporary_table_pins_until_it_is_dropped(small: Gateway) -> None:
    async with clients(small, 2) as (one, other):
        await one.execute("CREATE TEMP TABLE mine (a int)")
        await one.execute("INSERT INTO mine VALUES (1)")
        await until(lambda: pinned(small) == ["temporary object"])
        with pytest.raises(psycopg.errors.UndefinedTable):
            await other.execute("SELECT * FROM mine")
        assert await value(one, "SELECT count(*) FROM mine") == 1
        await one.execute("DROP TABLE mine")
        await at_rest(small)


_PINNING = {
    "temporary object": (
        [
            "SET work_mem = '5MB'",
            "CREATE TEMP TABLE a AS SELECT 'hidden'",
            "CREATE TEMP VIEW b AS TABLE a",
        ],
        "CREATE TEMP TABLE a AS SELECT ?",
    ),
    "advisory lock": (["SELECT 1", "SELECT pg_advisory_lock(77)"], "SELECT pg_advisory_lock(?)"),
    "held cursor": (
        ["DECLARE c CURSOR WITH HOLD FOR SELECT 'hidden'"],
        "DECLARE c CURSOR WITH HOLD FOR SELECT ?",
    ),
    "random seed": (["SELECT setseed(0.5)"], "SELECT setseed(?)"),
}


@pytest.mark.parametrize("prepare", [False, True], ids=["by Query", "by Parse"])
@pytest.mark.parametrize("reason", _PINNING)
async def test_the_statement_that_pins_is_told_without_its_values(
    small: Gateway, reason: str, prepare: bool
) -> None:
    statements, expected = _PINNING[reason]
    async with clients(small, 1) as (one,):
        await one.execute("BEGIN")
        for statement in statements:
            await one.execute(statement, prepare=prepare)
        await one.execute("COMMIT")
        await until(lambda: pinned(small) == [reason])
        shown = {row[0]: row for row in small.worker.views.pins()}
        families = {one.name: one for one in WorkerCollector(small.worker.views).collect()}
        ages = {
            sample.labels["reason"]: sample.value
            for sample in families["gateway_pins_oldest_seconds"].samples
        }
    assert (shown[reason][1], shown[reason][4]) == ("1", expected)
    assert 0 <= ages[reason] < 60
    await until(lambda: all(row[1] == "0" for row in small.worker.views.pins()))


async def test_trap_advisory_lock_and_held_cursor_pin_until_they_end(small: Gateway) -> None:
    async with clients(small, 1) as (one,):
        for begin, end in (
            ("SELECT pg_advisory_lock(7)", "SELECT pg_advisory_unlock(7)"),
            ("DECLARE c CURSOR WITH HOLD FOR SELECT 1", "CLOSE c"),
            ("CREATE TEMP VIEW v AS SELECT 1", "DISCARD ALL"),
        ):
            await one.execute(begin)
            await until(lambda: len(pinned(small)) == 1)
            await one.execute(end)
            await at_rest(small)
            assert pinned(small) == [], end


async def test_trap_a_client_that_leaves_takes_its_state_with_it(small: Gateway) -> None:
    async with clients(small, 3) as connections:
        for one in connections:
            await one.execute("CREATE TEMP TABLE mine AS SELECT 1")
            await one.execute("SELECT pg_advisory_lock_shared(8)")
            await one.execute("SET work_mem = '11MB'")
    await at_rest(small)
    async with clients(small, 3) as connections:
        for one in connections:
            assert await value(one, "SHOW work_mem") != "11MB"
            assert await value(one, "SELECT to_regclass('pg_temp.mine')") is None
            assert await value(one, "SELECT count(*) FROM pg_locks WHERE locktype='advisory'") == 0


async def test_prepared_statements_are_shared_and_follow_the_client(small: Gateway) -> None:
    async with clients(small, 12, prepare_threshold=0) as connections:

        async def work(number: int, one: Connection) -> None:
            for turn in range(20):
                assert await value(one, "SELECT %s::int + 1", number) == number + 1
                assert await value(one, "SELECT %s::text", f"t{turn}") == f"t{turn}"
                if turn % 7 == 0:
                    with pytest.raises(psycopg.errors.UndefinedTable):
                        await one.execute("SELECT nothing FROM nowhere")

        await asyncio.gather(*(work(n, one) for n, one in enumerate(connections)))
        assert pinned(small) == []
        assert len(small.worker.context.statements) < 10
    assert pool_of(small).core.total <= 3


async def test_deallocate_by_sql_of_protocol_statements(small: Gateway) -> None:
    async with clients(small, 2, prepare_threshold=0) as (one, other):
        assert await value(one, "SELECT 40 + 2") == 42
        assert await value(other, "SELECT 40 + 2") == 42
        await one.execute("DEALLOCATE _pg3_0", prepare=False)
        with pytest.raises(psycopg.errors.InvalidSqlStatementName):
            await one.execute("DEALLOCATE _pg3_0", prepare=False)
        assert await value(other, "SELECT 40 + 2") == 42
        await one.execute("DEALLOCATE ALL", prepare=False)
        assert await value(other, "SELECT 40 + 2") == 42


async def test_prepare_by_sql_follows_the_client(small: Gateway) -> None:
    async with clients(small, 10) as connections:
        for number, one in enumerate(connections):
            await one.execute(f"PREPARE mine AS SELECT {number}")

        async def work(number: int, one: Connection) -> None:
            for turn in range(10):
                assert await value(one, "EXECUTE mine") == number
                assert await value(one, f"SELECT {turn}") == turn
                assert await value(one, "EXECUTE mine", prepare=True) == number

        await asyncio.gather(*(work(n, one) for n, one in enumerate(connections)))
        one = connections[3]
        cursor = await one.execute("SELECT statement FROM pg_prepared_statements WHERE from_sql")
        assert await cursor.fetchall() == [("PREPARE mine AS SELECT 3",)]
        await one.execute("DEALLOCATE mine")
        with pytest.raises(psycopg.errors.InvalidSqlStatementName):
            await one.execute("EXECUTE mine")
        assert pinned(small) == []


async def test_trap_currval_never_tells_another_clients_value(small: Gateway) -> None:
    async with clients(small, 2) as (one, other):
        await one.execute("CREATE SEQUENCE drawn")
        try:
            first = await value(one, "SELECT nextval('drawn')")
            assert await value(one, "SELECT currval('drawn')") == first
            for prepare in (False, True):
                with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState):
                    await other.execute("SELECT currval('drawn')", prepare=prepare)
            second = await value(other, "SELECT nextval('drawn')")
            assert await value(other, "SELECT currval('drawn')") == second
            assert await value(one, "SELECT currval('drawn')") == first
        finally:
            await one.execute("DROP SEQUENCE drawn")


async def test_a_change_by_a_trigger_is_found_by_the_sample(start_gateway: StartGateway) -> None:
    gateway = await start_gateway({"pool": {"max": 1, "audit_interval": 3}})
    async with clients(gateway, 1) as (one,):
        before = await value(one, "SHOW work_mem")
        await one.execute(
            "CREATE FUNCTION sneak() RETURNS trigger LANGUAGE plpgsql AS"
            " $$ BEGIN PERFORM set_config('work_mem', '12MB', false); RETURN new; END $$"
        )
        await one.execute("CREATE TABLE sneaky (a int)")
        await one.execute(
            "CREATE TRIGGER t BEFORE INSERT ON sneaky FOR EACH ROW EXECUTE FUNCTION sneak()"
        )
        try:
            await one.execute("INSERT INTO sneaky VALUES (1)")
            for _ in range(3):
                await one.execute("SELECT 1")
            assert pool_of(gateway).counters.unseen_changes == 1
            assert await value(one, "SHOW work_mem") == before
        finally:
            await one.execute("DROP TABLE sneaky")
            await one.execute("DROP FUNCTION sneak")


async def test_samples_become_rarer_until_tables_change(start_gateway: StartGateway) -> None:
    gateway = await start_gateway({"pool": {"max": 1, "audit_interval": 2}})
    async with clients(gateway, 1) as (one,):
        for _ in range(70):
            await one.execute("SELECT 1")
        pool = pool_of(gateway)
        assert pool.audit_factor == 4
        await one.execute("CREATE TABLE passing ()")
        await one.execute("DROP TABLE passing")
        for _ in range(3):
            await one.execute("SELECT 1")
        assert pool.audit_factor == 1


async def test_idle_transaction_is_ended(start_gateway: StartGateway) -> None:
    gateway = await start_gateway({"pool": {"idle_transaction_timeout_s": 0.3}})
    async with clients(gateway, 1) as (one,):
        await one.execute("BEGIN")
        await asyncio.sleep(0.8)
        with pytest.raises(psycopg.errors.IdleInTransactionSessionTimeout):
            await one.execute("SELECT 1")
    await at_rest(gateway)


async def test_pinned_clients_are_bounded(start_gateway: StartGateway) -> None:
    gateway = await start_gateway({"pool": {"max": 4, "pinned_max": 2}})
    async with clients(gateway, 3) as connections:
        for one in connections:
            await one.execute("CREATE TEMP TABLE mine (a int)")
        # A reset by what is sent to a closed socket may overtake the reason, as PostgreSQL's own.
        with pytest.raises(psycopg.OperationalError) as refused:
            await connections[2].execute("SELECT 1")
        limit = psycopg.errors.ConfigurationLimitExceeded
        assert isinstance(refused.value, limit) or "closed the connection" in str(refused.value)
        assert pinned(gateway) == ["temporary object"] * 2


async def test_who_listens_and_leaves_at_once_keeps_no_server(small: Gateway) -> None:
    """Also while its channels are being moved to the shared connection, and just after that."""
    login = small.provisioned.owners[0]
    for turn in range(15):
        leaving = [await asyncpg.connect(small.dsn(login.user, login.database)) for _ in range(4)]
        await asyncio.gather(
            *(one.execute(f"LISTEN c{turn}_{number}") for number, one in enumerate(leaving))
        )
        for one in leaving:
            one.terminate()
    await at_rest(small)


async def test_trap_listen_shares_one_connection_and_keeps_order(small: Gateway) -> None:
    login = small.provisioned.owners[0]
    heard: dict[int, list[str]] = {number: [] for number in range(10)}
    async with AsyncExitStack() as stack:
        listeners = []
        for number in heard:
            one = await asyncpg.connect(small.dsn(login.user, login.database))
            stack.push_async_callback(one.close)
            listeners.append(one)
            await one.add_listener(
                "two words", lambda *said, number=number: heard[number].append(str(said[3]))
            )
        assert pinned(small) == []
        for turn in range(20):
            await listeners[turn % 10].execute(f"SELECT pg_notify('two words', '{turn}')")
        transaction = listeners[0].transaction()
        await transaction.start()
        await listeners[0].execute("NOTIFY \"two words\", 'never'")
        await listeners[1].execute("NOTIFY \"two words\", 'while one is in a transaction'")
        await transaction.rollback()
        expected = [str(turn) for turn in range(20)] + ["while one is in a transaction"]
        await until(lambda: all(one == expected for one in heard.values()))
        await listeners[2].execute("UNLISTEN *")
        transaction = listeners[3].transaction()
        await transaction.start()
        await listeners[3].execute("UNLISTEN *")
        await transaction.rollback()
        await listeners[4].execute("NOTIFY \"two words\", 'last'")
        await until(lambda: heard[3][-1] == "last" and heard[9][-1] == "last")
        assert heard[2] == expected
    await at_rest(small)


@asynccontextmanager
async def who_listens(gateway: Gateway) -> AsyncIterator[tuple[Any, list[str], list[str]]]:
    """A client that listens to ``news`` already, what it hears, and the SQLSTATEs of notices."""
    login = gateway.provisioned.owners[0]
    heard: list[str] = []
    notices: list[str] = []
    one = await asyncpg.connect(gateway.dsn(login.user, login.database))
    try:
        one.add_log_listener(lambda _, message: notices.append(message.sqlstate))
        await one.add_listener("news", lambda *said: heard.append(str(said[3])))
        listening = gateway.worker.context.pools.listening(pool_of(gateway))
        await until(lambda: listening.channels == 1)
        yield one, heard, notices
    finally:
        await one.close()


async def test_a_lost_listener_comes_back_and_says_so(small: Gateway) -> None:
    async with who_listens(small) as (one, heard, notices):
        listening = small.worker.context.pools.listening(pool_of(small))
        await one.execute(f"SELECT pg_terminate_backend({listening.pid})")
        await until(lambda: notices == ["01000"])
        await one.execute("NOTIFY news, 'again'")
        await until(lambda: heard == ["again"])


async def test_who_listens_goes_on_after_reconnect(small: Gateway) -> None:
    """And after a reload by which its database is to be reached in another way."""
    async with who_listens(small) as (one, heard, notices):
        pool, pools = pool_of(small), small.worker.context.pools
        pools.reconnect([pool.dsn.address])
        await until(lambda: notices == ["01000"])
        await one.execute("NOTIFY news, 'reconnected'")
        await until(lambda: heard == ["reconnected"])
        pool.dsn = replace(pool.dsn, sslmode=SslMode.DISABLE)  # the settings say otherwise
        small.worker.reload()
        await until(lambda: notices == ["01000"] * 2)
        assert pool_of(small) is not pool
        await one.execute("NOTIFY news, 'reloaded'")
        await until(lambda: heard == ["reconnected", "reloaded"])
    await at_rest(small)


async def test_replication_connections_are_for_operators(small: Gateway) -> None:
    operator = next(one for one in small.provisioned.logins.values() if one.kind == "operator")
    url = small.dsn(operator.user, "medical_1", replication="database")
    assert await asyncio.to_thread(_identified_database, url) == b"crm_medical_1"
    owner = small.provisioned.owners[0]
    with pytest.raises(psycopg.OperationalError, match="operator logins only"):
        await psycopg.AsyncConnection.connect(
            small.dsn(owner.user, owner.database, replication="database")
        )


def _identified_database(url: str) -> bytes | None:
    """libpq's own call blocks, so it must not run on the gateway's loop."""
    with psycopg.connect(url, autocommit=True) as one:
        return one.pgconn.exec_(b"IDENTIFY_SYSTEM").get_value(0, 3)


async def test_a_backslash_that_escapes_hides_no_set(small: Gateway) -> None:
    """With standard_conforming_strings off the text below sets work_mem; with on it does not."""
    async with clients(small, 4) as (one, *others):
        await one.execute("SET standard_conforming_strings = off")
        await one.execute("SELECT '\\''; SET work_mem = '13MB' --'")
        await until(lambda: pinned(small) == [])
        for other in others:
            assert await value(other, "SHOW work_mem") != "13MB"
        assert await value(one, "SHOW work_mem") == "13MB"


async def test_trap_a_statement_never_runs_when_its_settings_could_not_be_replayed(
    start_gateway: StartGateway,
) -> None:
    """A name that a library loaded on the other server does not know can't be set there."""
    gateway = await start_gateway({"pool": {"max": 2}})
    bogus = clients(gateway, 1, options="-c plpgsql.bogus=1")
    async with bogus as (one,), clients(gateway, 2) as (other, third):
        await one.execute("SELECT 1")
        for victim in (other, third):
            await victim.execute("BEGIN")
            await victim.execute("DO $$ BEGIN PERFORM 1; END $$")
            await victim.execute("SET my.secret = 'theirs'")
        for victim in (other, third):
            await victim.execute("COMMIT")
        with pytest.raises(psycopg.OperationalError, match="could not be restored"):
            await one.execute("SELECT current_setting('my.secret', true)")


async def test_trap_a_set_at_the_end_of_a_long_text_is_seen(small: Gateway) -> None:
    async with clients(small, 4) as (one, *others):
        padding = "x" * 600_000
        await one.execute(f"SELECT 1; SET my.leak = 'a'; SELECT 2 -- {padding}")
        await one.execute(f"SELECT 1 /* {padding} */; SET work_mem = '14MB'")
        for other in others:
            assert await value(other, "SELECT current_setting('my.leak', true)") in (None, "")
            assert await value(other, "SHOW work_mem") != "14MB"


async def test_trap_what_a_do_block_sets_does_not_reach_the_next_client(small: Gateway) -> None:
    async with clients(small, 4) as (one, *others):
        await one.execute("DO $$ BEGIN PERFORM set_config('app.hidden', 'x', false); END $$")
        for other in others:
            assert await value(other, "SELECT current_setting('app.hidden', true)") in (None, "")


async def test_many_listens_at_once_on_a_small_pool(small: Gateway) -> None:
    """Nobody waits for the shared listener's connection while holding one."""
    login = small.provisioned.owners[0]
    heard: list[str] = []
    async with AsyncExitStack() as stack:
        listeners = []
        for _ in range(12):
            one = await asyncpg.connect(small.dsn(login.user, login.database))
            stack.push_async_callback(one.close)
            listeners.append(one)
        await asyncio.gather(
            *(
                one.add_listener("crowd", lambda *said: heard.append(str(said[3])))
                for one in listeners
            )
        )
        await until(lambda: pinned(small) == [])
        await listeners[0].execute("NOTIFY crowd, 'all'")
        await until(lambda: heard == ["all"] * 12)
    await at_rest(small)


async def test_a_parse_after_a_change_of_tables_sees_the_tables_as_they_are(small: Gateway) -> None:
    async with clients(small, 3, prepare_threshold=0) as (one, other, third):
        await one.execute("CREATE TABLE shape (a int)")
        try:
            await one.execute("INSERT INTO shape VALUES (1)")
            assert await (await one.execute("SELECT * FROM shape")).fetchone() == (1,)
            await other.execute("ALTER TABLE shape ADD b text DEFAULT 'b'")
            assert await (await third.execute("SELECT * FROM shape")).fetchone() == (1, "b")
            await other.execute("DROP TABLE shape")
            await other.execute("CREATE TABLE shape (a text)")
            async with clients(small, 1, prepare_threshold=0) as (late,):
                await late.execute("INSERT INTO shape VALUES (%s)", ("text",))
                assert await (await late.execute("SELECT * FROM shape")).fetchone() == ("text",)
        finally:
            await one.execute("DROP TABLE shape")


async def test_trap_idle_session_timeout_ends_its_own_client_and_no_server(
    start_gateway: StartGateway,
) -> None:
    gateway = await start_gateway({"pool": {"max": 1}})
    async with clients(gateway, 2) as (one, other):
        await one.execute("SET idle_session_timeout = 400")
        process = await value(other, "SELECT pg_backend_pid()")
        for _ in range(4):
            await asyncio.sleep(0.15)
            await one.execute("SELECT 1")
        await asyncio.sleep(0.8)
        with pytest.raises(psycopg.errors.IdleSessionTimeout):
            await one.execute("SELECT 1")
        assert await value(other, "SELECT pg_backend_pid()") == process
        assert await value(other, "SHOW idle_session_timeout") == "0"


async def test_idle_session_timeout_of_the_startup_packet(small: Gateway) -> None:
    async with clients(small, 1, options="-c idle_session_timeout=300ms") as (one,):
        await asyncio.sleep(0.7)
        with pytest.raises(psycopg.errors.IdleSessionTimeout):
            await one.execute("SELECT 1")
