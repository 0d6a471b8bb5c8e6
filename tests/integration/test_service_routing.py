"""One service login, every owner's statements mixed on one connection: each finds its database."""

from __future__ import annotations

import asyncpg
import psycopg

from gateway.demo.seed import SeedLogin
from tests.conftest import Provisioned
from tests.integration.conftest import Gateway, StartGateway
from tests.wire import Message, Place, Wire, bind, describe, execute, parse_, run, sqlstate

FLUSH = b"H\0\0\0\4"
SYNC = b"S\0\0\0\4"


def cells(messages: list[Message]) -> list[list[bytes | None]]:
    return [one.cells for one in messages if one.tag == "D"]


def status(messages: list[Message]) -> bytes:
    assert messages[-1].tag == "Z"
    return messages[-1].body


WHERE = 'SELECT current_database(), count(*) FROM "Lead" WHERE "userId" = '


async def test_each_statement_finds_the_owner_that_its_key_names(
    gateway: Gateway, provisioned: Provisioned, service: SeedLogin
) -> None:
    connection = await asyncpg.connect(gateway.dsn(service.user, "crm"))
    try:
        for shard in [*provisioned.snapshot.shards, *reversed(list(provisioned.snapshot.shards))]:
            if shard == "meta":
                assert await connection.fetchval('SELECT count(*) FROM "Session"') is not None
                continue
            owner = provisioned.owner_id_on(shard)
            row = await connection.fetchrow(WHERE + "$1", owner)
            assert row is not None
            database, leads = row
            direct = await asyncpg.connect(provisioned.url(shard))
            count = await direct.fetchval('SELECT count(*) FROM "Lead" WHERE "userId" = $1', owner)
            await direct.close()
            assert (database, leads) == (f"crm_{shard}", count)
    finally:
        await connection.close()


async def test_constants_lists_and_both_forms_of_parameters(
    wire: Wire, provisioned: Provisioned
) -> None:
    owner = provisioned.owner_id_on("medical_2")
    number = str(owner).encode()
    said = [
        await wire.query(f"{WHERE}{owner}"),
        await wire.query(f"{WHERE}'{owner}'"),
        await wire.query(
            f'SELECT current_database() FROM "User" u JOIN "Lead" l ON'
            f' l."userId" = u."id" WHERE u."id" = {owner} LIMIT 1'
        ),
    ]
    wire.send(run(WHERE + "$1", number) + SYNC)
    said.append(await wire.until("Z"))
    wire.send(parse_("s", WHERE.replace("= ", "= ANY ($1)")) + SYNC)
    await wire.until("Z")
    wire.send(bind("s", [b"{%b}" % number]) + execute() + SYNC)
    said.append(await wire.until("Z"))
    for messages in said:
        assert sqlstate(messages) is None, messages
        assert all(row[0] == b"crm_medical_2" for row in cells(messages))


async def test_meta_tables_are_in_the_meta_database(wire: Wire, provisioned: Provisioned) -> None:
    assert await wire.value('SELECT current_database() FROM "User" LIMIT 1') == "crm_meta"
    owner = provisioned.owner_id_on("law")
    found = await wire.value(f'SELECT current_database() FROM "User" WHERE "id" = {owner}')
    assert found == "crm_meta"
    messages = await wire.query('SELECT * FROM "Session" s JOIN "Lead" l USING ("userId")')
    assert sqlstate(messages) == "0A000"
    assert "meta database" in messages[0].fields["M"]


async def test_no_owner_is_an_error_that_names_the_ways(wire: Wire) -> None:
    for text in ('SELECT * FROM "Lead"', 'DELETE FROM "Lead" WHERE "id" = 1', "DO $$BEGIN END$$"):
        messages = await wire.query(text)
        assert sqlstate(messages) == "0A000"
        assert status(messages) == b"I"
    assert '"userId" = $1' in messages[0].fields["H"]
    assert await wire.value("SELECT 1") == "1"


async def test_a_transaction_goes_where_its_first_key_says(
    wire: Wire, provisioned: Provisioned
) -> None:
    owner, other = provisioned.owner_id_on("law"), provisioned.owner_id_on("hospital")
    assert status(await wire.query("BEGIN ISOLATION LEVEL REPEATABLE READ")) == b"T"
    assert status(await wire.query("SAVEPOINT one")) == b"T"
    assert status(await wire.query("SET LOCAL statement_timeout = '7s'")) == b"T"
    assert cells(await wire.query(f"{WHERE}{owner}"))[0][0] == b"crm_law"
    assert await wire.value("SHOW statement_timeout") == "7s"
    assert await wire.value("SHOW transaction_isolation") == "repeatable read"
    # Nothing says whose: the open transaction keeps its target.
    assert await wire.value('SELECT current_database() FROM "Lead" LIMIT 1') == "crm_law"
    refused = await wire.query(f"{WHERE}{other}")
    assert sqlstate(refused) == "0A000"
    assert status(refused) == b"E"
    assert "hospital" in refused[0].fields["M"]
    assert sqlstate(await wire.query("SELECT 1")) == "25P02"
    assert status(await wire.query("ROLLBACK TO one")) == b"T"
    assert await wire.value("SELECT current_database()") == "crm_law"
    assert status(await wire.query("COMMIT")) == b"I"
    assert cells(await wire.query(f"{WHERE}{other}"))[0][0] == b"crm_hospital"


async def test_a_transaction_that_begins_without_tables_can_still_go_anywhere(
    wire: Wire, provisioned: Provisioned
) -> None:
    owner = provisioned.owner_id_on("dentist")
    assert cells(await wire.query(f"{WHERE}{provisioned.owner_id_on('law')}"))
    for begin in (b"", run("BEGIN") + SYNC):
        if begin:
            wire.send(begin)
            assert status(await wire.until("Z")) == b"T"
        else:
            await wire.query("BEGIN")
        assert await wire.value("SELECT 1") == "1"
        assert cells(await wire.query(f"{WHERE}{owner}"))[0][0] == b"crm_dentist"
        assert status(await wire.query("COMMIT")) == b"I"


async def test_an_empty_transaction_needs_no_server(wire: Wire) -> None:
    for end in ("COMMIT", "ROLLBACK"):
        assert [one.tag for one in await wire.query("BEGIN")] == ["C", "Z"]
        assert [one.tag for one in await wire.query(end)] == ["C", "Z"]
        assert status(await wire.query("SELECT 1")) == b"I"
    begun = await wire.query("START TRANSACTION")
    assert begun[0].body == b"START TRANSACTION\0"
    refused = await wire.query('SELECT * FROM "Lead"')
    assert (sqlstate(refused), status(refused)) == ("0A000", b"E")
    assert sqlstate(await wire.query("SELECT 1")) == "25P02"
    ended = await wire.query("COMMIT")
    assert (ended[0].body, status(ended)) == (b"ROLLBACK\0", b"I")


async def test_a_setting_that_is_wrong_fails_before_anything_says_where_to_go(wire: Wire) -> None:
    await wire.query("BEGIN")
    refused = await wire.query("SET LOCAL statement_timeout = 'no time'")
    assert (sqlstate(refused), status(refused)) == ("22023", b"E")
    assert status(await wire.query("ROLLBACK")) == b"I"
    assert await wire.value("SELECT 1") == "1"


async def test_an_insert_is_committed_where_it_belongs_and_nowhere_else(
    gateway: Gateway, provisioned: Provisioned, service: SeedLogin
) -> None:
    owners = [provisioned.owner_id_on(shard) for shard in ("law", "medical_1", "medical_2")]
    connection = await psycopg.AsyncConnection.connect(gateway.dsn(service.user, "crm"))
    try:
        for owner in owners:
            async with connection.transaction():
                await connection.execute(
                    'INSERT INTO "Lead" ("userId", "name", "email") VALUES (%s, %s, %s)',
                    (owner, "roams", "roams@example.com"),
                )
    finally:
        await connection.close()
    try:
        for shard in provisioned.snapshot.shards:
            if shard == "meta":
                continue
            direct = await asyncpg.connect(provisioned.url(shard))
            found = await direct.fetch('SELECT "userId" FROM "Lead" WHERE "name" = \'roams\'')
            await direct.close()
            here = [owner for owner in owners if provisioned.owner_id_on(shard) == owner]
            assert [row[0] for row in found] == here
    finally:
        for shard in ("law", "medical_1", "medical_2"):
            direct = await asyncpg.connect(provisioned.url(shard))
            await direct.execute('DELETE FROM "Lead" WHERE "name" = \'roams\'')
            await direct.close()


async def test_hints_and_settings_say_whose_it_is(wire: Wire, provisioned: Provisioned) -> None:
    law, dentist = provisioned.owner_id_on("law"), provisioned.owner_id_on("dentist")
    where = 'SELECT current_database() FROM "Lead" LIMIT 1'
    assert await wire.value(f"/* owner='{law}' */ {where}") == "crm_law"
    assert await wire.value(f"{where} -- owner='{dentist}'") == "crm_dentist"
    assert await wire.value("/* industry='LAW' */ " + where) == "crm_law"
    assert sqlstate(await wire.query(f"SELECT '/* owner=''{law}'' */' FROM \"Lead\"")) == "0A000"
    await wire.query(f"SET gateway.owner = '{law}'")
    assert await wire.value(where) == "crm_law"
    assert await wire.value("SHOW gateway.owner") == str(law)
    assert await wire.value(f"/* owner='{dentist}' */ {where}") == "crm_dentist"
    refused = await wire.query(f"{WHERE}{dentist}")
    assert sqlstate(refused) == "42501"
    await wire.query("BEGIN")
    await wire.query(f"SET LOCAL gateway.owner = '{dentist}'")
    assert await wire.value(where) == "crm_dentist"
    await wire.query("COMMIT")
    assert await wire.value(where) == "crm_law"
    await wire.query("RESET gateway.owner")
    assert sqlstate(await wire.query(where)) == "0A000"
    unknown = await wire.query("SET gateway.owner = '123456789'")
    assert sqlstate(unknown) == "22023"


async def test_a_hint_may_not_leave_an_open_transaction(
    wire: Wire, provisioned: Provisioned
) -> None:
    law, dentist = provisioned.owner_id_on("law"), provisioned.owner_id_on("dentist")
    await wire.query("BEGIN")
    assert cells(await wire.query(f"{WHERE}{law}"))[0][0] == b"crm_law"
    refused = await wire.query(f"/* owner='{dentist}' */ SELECT 1")
    assert (sqlstate(refused), status(refused)) == ("0A000", b"E")
    await wire.query("ROLLBACK")


async def test_a_driver_that_prepares_with_flush_first(
    wire: Wire, provisioned: Provisioned
) -> None:
    """Parse and Describe are answered before the value is known; the value then decides."""
    for shard in ("law", "hospital", "medical_1"):
        owner = str(provisioned.owner_id_on(shard)).encode()
        wire.send(parse_(f"s{shard}", WHERE + "$1") + describe("S", f"s{shard}") + FLUSH)
        assert [one.tag for one in await wire.until("T")] == ["1", "t", "T"]
        wire.send(bind(f"s{shard}", [owner]) + execute() + SYNC)
        messages = await wire.until("Z")
        assert cells(messages)[0][0] == f"crm_{shard}".encode(), messages
        assert status(messages) == b"I"


async def test_a_pipeline_of_units_for_several_owners(wire: Wire, provisioned: Provisioned) -> None:
    shards = ("law", "hospital", "medical_1", "law")
    sent = b"".join(
        run(WHERE + "$1", str(provisioned.owner_id_on(shard)).encode()) + SYNC for shard in shards
    )
    wire.send(sent)
    found = [cells(await wire.until("Z"))[0][0] for _ in shards]
    assert found == [f"crm_{shard}".encode() for shard in shards]


async def test_two_owners_in_one_batch_are_refused_as_one(
    wire: Wire, provisioned: Provisioned
) -> None:
    one, other = provisioned.owner_id_on("law"), provisioned.owner_id_on("hospital")
    insert = 'UPDATE "Lead" SET "score" = "score" WHERE "userId" = $1'
    batch = run(insert, str(one).encode()) + run(insert, str(other).encode()) + SYNC
    wire.send(batch)
    messages = await wire.until("Z")
    assert (sqlstate(messages), status(messages)) == ("0A000", b"I")
    await wire.query("BEGIN")
    wire.send(run(insert, str(one).encode()) + SYNC)
    assert status(await wire.until("Z")) == b"T"
    wire.send(run(insert, str(other).encode()) + run(insert, str(one).encode()) + SYNC)
    messages = await wire.until("Z")
    assert (sqlstate(messages), status(messages)) == ("0A000", b"E")
    assert status(await wire.query("ROLLBACK")) == b"I"
    assert await wire.value("SELECT 1") == "1"


async def test_grants_limit_whom_a_service_acts_for(
    start_gateway: StartGateway, provisioned: Provisioned, service: SeedLogin
) -> None:
    meta = await asyncpg.connect(provisioned.url("meta"))
    law, dentist = provisioned.owner_id_on("law"), provisioned.owner_id_on("dentist")
    try:
        await meta.execute(
            "INSERT INTO gateway.login (name, kind, verifier) SELECT 'narrow', 'service', verifier"
            " FROM gateway.login WHERE name = $1",
            service.user,
        )
        await meta.execute(
            "INSERT INTO gateway.login_grant VALUES ('narrow', 'owner', $1)", str(law)
        )
        gateway = await start_gateway()
        place = Place("127.0.0.1", gateway.port, "narrow", service.password, "crm")
        wire = await Wire.logged_in(place)
        assert cells(await wire.query(f"{WHERE}{law}"))[0][0] == b"crm_law"
        assert sqlstate(await wire.query(f"{WHERE}{dentist}")) == "42501"
        assert sqlstate(await wire.query(f"/* owner='{dentist}' */ SELECT 1")) == "42501"
        assert sqlstate(await wire.query(f"SET gateway.owner = '{dentist}'")) == "42501"
        assert sqlstate(await wire.query("/* industry='LAW' */ SELECT * FROM \"Lead\"")) == "42501"
        await wire.close()
    finally:
        await meta.execute("DELETE FROM gateway.login WHERE name = 'narrow'")
        await meta.close()


async def test_an_owner_login_may_not_name_another(
    start_gateway: StartGateway, gateway: Gateway, provisioned: Provisioned
) -> None:
    law = provisioned.owner_on("law")
    other = str(provisioned.owner_id_on("dentist"))
    update = 'UPDATE "Lead" SET "score" = 0 WHERE "userId" = '
    statements = (
        f"{update}{other}",
        f"/* owner='{other}' */ SELECT 1",
        f"SELECT 1 -- owner='{other}'",
        f"SET gateway.owner = '{other}'",
        f"PREPARE other AS {update}{other}",
    )
    place = Place("127.0.0.1", gateway.port, law.user, law.password, "crm")
    wire = await Wire.logged_in(place)
    for text in statements:
        refused = await wire.query(text)
        assert (sqlstate(refused), status(refused)) == ("42501", b"I"), text
    wire.send(run(update + "$1", other.encode()) + SYNC)
    refused = await wire.until("Z")
    assert (sqlstate(refused), status(refused)) == ("42501", b"I")
    await wire.query("BEGIN")
    wire.send(run(update + "$1", other.encode()) + run("SELECT 1") + SYNC)
    refused = await wire.until("Z")
    assert (sqlstate(refused), status(refused)) == ("42501", b"E")
    await wire.query("ROLLBACK")
    wire.send(run(WHERE + "$1", str(law.owner).encode()) + SYNC)
    assert cells(await wire.until("Z"))[0][0] == b"crm_law"
    await wire.query(f"SET gateway.owner = '{law.owner}'")
    assert await wire.value("SELECT 1") == "1"
    await wire.close()
    lenient = await start_gateway({"routing": {"key_mismatch": "allow"}})
    wire = await Wire.logged_in(Place("127.0.0.1", lenient.port, law.user, law.password, "crm"))
    assert sqlstate(await wire.query(f"{WHERE}{other}")) is None
    assert sqlstate(await wire.query(f"/* owner='{other}' */ SELECT 1")) == "42501"
    await wire.close()
