"""Statements of a service login that could reach another owner's database by a guess: none does."""

from __future__ import annotations

from collections.abc import AsyncIterator

import asyncpg
import pytest

from gateway.demo.seed import SeedLogin
from tests.conftest import Provisioned
from tests.integration.conftest import Gateway, StartGateway
from tests.running import eventually, past_the_gateway
from tests.wire import Message, Place, Wire, bind, execute, parse_, run, sqlstate

SYNC = b"S\0\0\0\4"
WHERE = 'SELECT current_database() FROM "Lead" WHERE "userId" = '
ANY = 'SELECT current_database() FROM "Lead" LIMIT 1'
COUNT = 'SELECT count(*), current_database() FROM "Lead" WHERE "userId" = '


def status(messages: list[Message]) -> bytes:
    return messages[-1].body


async def answer(wire: Wire, data: bytes) -> list[Message]:
    wire.send(data + SYNC)
    return await wire.until("Z")


async def test_trap_execute_by_sql_of_what_the_protocol_prepared(
    wire: Wire, provisioned: Provisioned
) -> None:
    law, dentist = provisioned.owner_id_on("law"), provisioned.owner_id_on("dentist")
    assert sqlstate(await answer(wire, parse_("find", f"{COUNT}$1"))) is None
    for owner, database in ((law, "crm_law"), (dentist, "crm_dentist"), (law, "crm_law")):
        found = await wire.query(f"EXECUTE find({owner})")
        assert [row.cells[1] for row in found if row.tag == "D"] == [database.encode()]
        # And from an unnamed statement, that is bound in a batch of its own.
        assert sqlstate(await answer(wire, parse_("", f"EXECUTE find({owner})"))) is None
        assert await wire.value(f"{WHERE}{dentist} LIMIT 1") == "crm_dentist"
        assert sqlstate(await answer(wire, parse_("", f"EXECUTE find({owner})"))) is None
        bound = await answer(wire, bind("", []) + execute())
        assert [row.cells[1] for row in bound if row.tag == "D"] == [database.encode()]


async def test_trap_a_refused_owner_in_a_comment_does_not_fall_back_to_the_transactions(
    start_gateway: StartGateway, provisioned: Provisioned, service: SeedLogin
) -> None:
    meta = await asyncpg.connect(provisioned.url("meta"))
    law, dentist = provisioned.owner_id_on("law"), provisioned.owner_id_on("dentist")
    try:
        await meta.execute(
            "INSERT INTO gateway.login (name, kind, verifier) SELECT 'strict', 'service', verifier"
            " FROM gateway.login WHERE name = $1",
            service.user,
        )
        await meta.execute(
            "INSERT INTO gateway.login_grant VALUES ('strict', 'owner', $1)", str(law)
        )
        gateway = await start_gateway()
        wire = await Wire.logged_in(
            Place("127.0.0.1", gateway.port, "strict", service.password, "crm")
        )
        for hint in (f"owner='{dentist}'", "owner='123456789'", "industry='DENTIST'"):
            await wire.query("BEGIN")
            assert await wire.value(f"{WHERE}{law} LIMIT 1") == "crm_law"
            refused = await wire.query(f"/* {hint} */ {ANY}")
            assert sqlstate(refused) in ("42501", "22023"), hint
            assert status(refused) == b"E"
            await wire.query("ROLLBACK")
        await wire.close()
    finally:
        await meta.execute("DELETE FROM gateway.login WHERE name = 'strict'")
        await meta.close()


async def test_trap_an_empty_owner_is_asked_for_once_and_is_nobody(
    wire: Wire, provisioned: Provisioned
) -> None:
    assert sqlstate(await wire.query(f"/* owner='' */ {ANY}")) == "22023"
    assert sqlstate(await wire.query(ANY)) == "0A000"
    assert await wire.value("SELECT 1") == "1"


async def test_trap_a_key_that_is_null_binds_no_transaction(
    wire: Wire, provisioned: Provisioned
) -> None:
    owner = provisioned.owner_id_on("hospital")
    await wire.query("BEGIN")
    nothing = await answer(wire, run(f"{WHERE}$1", None))
    assert (sqlstate(nothing), status(nothing)) == (None, b"T")
    assert not [one for one in nothing if one.tag == "D"]
    assert sqlstate(await wire.query('DELETE FROM "Lead"')) == "0A000"
    await wire.query("ROLLBACK")
    await wire.query("BEGIN")
    await answer(wire, run('UPDATE "Lead" SET "score" = 0 WHERE "userId" = $1', None))
    assert await wire.value(f"{WHERE}{owner} LIMIT 1") == "crm_hospital"
    await wire.query("ROLLBACK")


async def test_trap_an_owner_that_is_rolled_back_says_nothing_any_more(
    wire: Wire, provisioned: Provisioned
) -> None:
    law, dentist = provisioned.owner_id_on("law"), provisioned.owner_id_on("dentist")
    begin = ("BEGIN", "SAVEPOINT a", f"SET LOCAL gateway.owner = '{law}'", "SAVEPOINT b")
    for text in (*begin, "ROLLBACK TO a"):
        assert status(await wire.query(text)) == b"T"
    assert sqlstate(await wire.query(ANY)) == "0A000"
    assert status(await wire.query("ROLLBACK TO a")) == b"T"
    assert await wire.value(f"{WHERE}{dentist} LIMIT 1") == "crm_dentist"
    assert sqlstate(await wire.query("ROLLBACK TO b")) == "3B001"
    await wire.query("ROLLBACK")
    # And where the transaction has a place already.
    await wire.query("BEGIN")
    assert await wire.value(f"{WHERE}{law} LIMIT 1") == "crm_law"
    await wire.query("SAVEPOINT a")
    refused = await wire.query(f"SET LOCAL gateway.owner = '{dentist}'")
    assert sqlstate(refused) == "0A000"
    await wire.query("ROLLBACK TO a")
    assert await wire.value(f"{WHERE}{law} LIMIT 1") == "crm_law"
    await wire.query("COMMIT")


async def test_savepoints_that_end_before_there_is_a_place_bind_nothing(
    wire: Wire, provisioned: Provisioned
) -> None:
    owner = provisioned.owner_id_on("hospital")
    for text in ("BEGIN", "SAVEPOINT a", "SAVEPOINT b", "RELEASE b", "RELEASE SAVEPOINT a"):
        assert status(await wire.query(text)) == b"T"
    assert await wire.value(f"{WHERE}{owner} LIMIT 1") == "crm_hospital"
    assert sqlstate(await wire.query("ROLLBACK TO a")) == "3B001"
    await wire.query("ROLLBACK")
    for text in ("BEGIN", "SAVEPOINT a"):
        await wire.query(text)
    assert sqlstate(await wire.query("RELEASE nothing")) == "3B001"
    assert status(await wire.query("ROLLBACK TO a")) == b"T"
    assert await wire.value("SELECT 1") == "1"
    await wire.query("COMMIT")


async def test_trap_rows_are_given_to_nobody_in_another_database(
    wire: Wire, provisioned: Provisioned
) -> None:
    law, dentist = provisioned.owner_id_on("law"), provisioned.owner_id_on("dentist")
    give = 'UPDATE "Lead" SET "userId" = {} WHERE "id" = 0'
    assert sqlstate(await wire.query(give.format(law))) == "0A000"
    await wire.query("BEGIN")
    assert await wire.value(f"{WHERE}{law} LIMIT 1") == "crm_law"
    assert sqlstate(await wire.query(give.format(law))) is None
    refused = await wire.query(give.format(dentist))
    assert (sqlstate(refused), status(refused)) == ("0A000", b"E")
    assert "dentist" in refused[0].fields["M"]
    await wire.query("ROLLBACK")
    assert sqlstate(await answer(wire, run('INSERT INTO "Lead" ("userId") VALUES ($1)', None))) == (
        "0A000"
    )


async def test_trap_binary_text_is_not_taken_for_a_number(
    gateway: Gateway, provisioned: Provisioned, service: SeedLogin
) -> None:
    """asyncpg sends text in binary, without a type: '12' and 12594 as int2 are the same bytes."""
    connection = await asyncpg.connect(gateway.dsn(service.user, "crm"))
    try:
        for shard in ("law", "medical_1", "dentist"):
            owner = str(provisioned.owner_id_on(shard))
            text = f"{COUNT}$1".replace('"userId" =', '"userId"::text =')
            found = await connection.fetchrow(f"{text} GROUP BY 2", owner)
            assert found is not None and found[1] == f"crm_{shard}"
    finally:
        await connection.close()


@pytest.fixture
async def clerk(
    gateway: Gateway, provisioned: Provisioned, service: SeedLogin
) -> AsyncIterator[Wire]:
    """A login that acts for one owner of LAW only; its password is the service login's."""
    meta, law = provisioned.url("meta"), provisioned.owner_id_on("law")
    await past_the_gateway(
        meta,
        "INSERT INTO gateway.login (name, kind, verifier)"
        f" SELECT 'clerk', kind, verifier FROM gateway.login WHERE name = '{service.user}'",
    )
    await past_the_gateway(
        meta, f"INSERT INTO gateway.login_grant VALUES ('clerk', 'owner', '{law}')"
    )
    place = Place("127.0.0.1", gateway.port, "clerk", service.password, "crm")
    connection = await Wire.logged_in(place)
    yield connection
    await connection.close()
    await past_the_gateway(meta, "DELETE FROM gateway.login WHERE name = 'clerk'")


async def test_trap_everybodys_rows_of_meta_tables_are_not_for_who_acts_for_some(
    clerk: Wire, provisioned: Provisioned
) -> None:
    law, dentist = provisioned.owner_id_on("law"), provisioned.owner_id_on("dentist")
    sessions = 'SELECT "userId" FROM "Session"'
    for text in (
        sessions,
        f"/* owner='{law}' */ {sessions}",
        f'{sessions} WHERE "userId" = {dentist}',
        f'{sessions} WHERE "userId" = {law}; {sessions}',
        'DELETE FROM "Session"',
        'COPY "Session" TO STDOUT',
        'EXPLAIN ANALYZE SELECT * FROM "ApiKey"',
        "INSERT INTO \"User\" (email, name, industry) VALUES ('a', 'b', 'LAW')",
    ):
        said = await clerk.query(text)
        assert (sqlstate(said), status(said)) == ("42501", b"I"), text
    for text in (f'{sessions} WHERE "userId" = {law}', 'SELECT * FROM "Agency"', f"{WHERE}{law}"):
        assert sqlstate(await clerk.query(text)) is None, text
    # Only parsed, it has read nothing yet; bound, it is refused or not by its value.
    for owner, expected in ((law, None), (dentist, "42501")):
        asked = parse_("", f'{sessions} WHERE "userId" = $1')
        asked += bind("", [str(owner).encode()]) + execute()
        assert sqlstate(await answer(clerk, asked)) == expected
    assert sqlstate(await answer(clerk, parse_("all", sessions))) is None
    assert sqlstate(await answer(clerk, bind("all", []) + execute())) == "42501"


async def test_trap_a_search_path_of_the_transaction_says_which_table_a_name_means(
    wire: Wire, provisioned: Provisioned
) -> None:
    law, url = provisioned.owner_id_on("law"), provisioned.url("law")
    await past_the_gateway(
        url, 'CREATE SCHEMA apart CREATE VIEW "User" AS SELECT * FROM public."User"'
    )
    user = f'SELECT current_database() FROM "User" WHERE "id" = {law}'
    try:
        for setting in (
            "SET LOCAL search_path = apart",
            "SET search_path TO 'apart'",
            "SELECT set_config('search_path', 'apart', true)",
        ):
            await wire.query("BEGIN")
            await wire.query("SAVEPOINT s")
            assert sqlstate(await wire.query(setting)) is None
            assert await wire.value(user) == "crm_law"
            assert sqlstate(await wire.query("ROLLBACK")) is None
            assert await wire.value(user) == "crm_meta"
        await wire.query("BEGIN")
        await wire.query("SAVEPOINT s")
        await wire.query("SET LOCAL search_path = apart")
        await wire.query("ROLLBACK TO s")
        assert await wire.value(user) == "crm_meta"
        await wire.query("COMMIT")
    finally:
        await past_the_gateway(url, "DROP SCHEMA apart CASCADE")


async def test_trap_a_sequence_lies_where_its_table_does(
    wire: Wire, provisioned: Provisioned
) -> None:
    law = provisioned.owner_id_on("law")
    draw = "SELECT current_database() FROM (SELECT nextval('{}')) AS drawn"
    lead = draw.format('"Lead_id_seq"')
    await wire.query("BEGIN")
    assert sqlstate(await wire.query(lead)) == "0A000"
    await wire.query("ROLLBACK")
    for said in (f"SET LOCAL gateway.owner = '{law}'", f"{WHERE}{law}"):
        await wire.query("BEGIN")
        await wire.query(said)
        assert await wire.value(lead) == "crm_law"
        await wire.query("ROLLBACK")
    assert await wire.value(f"/* owner='{law}' */ {lead}") == "crm_law"
    await wire.query("BEGIN")
    assert await wire.value(draw.format('"Session_id_seq"')) == "crm_meta"
    await wire.query("ROLLBACK")


async def test_trap_who_was_moved_reads_what_was_copied(
    gateway: Gateway, provisioned: Provisioned
) -> None:
    """A replica of the new place may not have it yet: until then the primary serves."""
    marks, owner = gateway.worker.context.health.marks, str(provisioned.owner_id_on("law"))
    for payload in (f"owner:{owner}", "all"):
        key = owner if payload != "all" else "\0law"
        before = marks.marked_at(key)
        await past_the_gateway(
            provisioned.url("meta"), f"SELECT pg_notify('gateway_invalidate', '{payload}')"
        )
        await eventually(lambda key=key, before=before: marks.marked_at(key) > before)  # type: ignore[misc]
