"""Every form in which a statement can name its owner, on real databases: it runs where it must."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator

import pytest

from gateway.demo.seed import SeedLogin
from tests.conftest import Provisioned
from tests.integration.conftest import Gateway, StartGateway
from tests.running import past_the_gateway
from tests.unit.router.targets import Value, bind, value
from tests.wire import Message, Place, Wire, execute, parse_, sqlstate

SYNC = b"S\0\0\0\4"
COUNT = 'SELECT current_database(), count(*) FROM "Lead" WHERE "userId" '
INTEGERS = ("int2", "int4", "int8")
LONG = " -- " + "x" * 65_536


def place(gateway: Gateway, service: SeedLogin) -> Place:
    return Place("127.0.0.1", gateway.port, service.user, service.password, "crm")


def databases(messages: list[Message]) -> set[bytes | None]:
    assert sqlstate(messages) is None, messages
    return {one.cells[0] for one in messages if one.tag == "D"}


async def asked(wire: Wire, sql: str, *values: Value, name: str = "") -> set[bytes | None]:
    """The databases that answer, twice: prepared and run, and run again where it has a name."""
    types = tuple(one.oid for one in values)
    wire.send(parse_(name, sql, types) + bind(name.encode(), list(values)) + execute() + SYNC)
    found = databases(await wire.until("Z"))
    if name:
        wire.send(bind(name.encode(), list(values)) + execute() + SYNC)
        assert databases(await wire.until("Z")) == found
    return found


@pytest.mark.parametrize("shard", ["law", "medical_2"])
async def test_integers_of_every_width_alone_and_in_arrays(
    wire: Wire, provisioned: Provisioned, shard: str
) -> None:
    owner, home = provisioned.owner_id_on(shard), {f"crm_{shard}".encode()}
    for kind in INTEGERS:
        assert await asked(wire, COUNT + "= $1", value(f"{kind} {owner}"), name=kind) == home
        both = value(f"{kind}[] {owner} null {owner}")
        array = f"{COUNT}= ANY ($1::{kind}[])"
        assert await asked(wire, array, both, name=f"{kind}s") == home
    undeclared = value(f"int4? {owner}")
    assert await asked(wire, COUNT + "= $1", undeclared) == home
    for form in (f"'{owner}'", f"' 0{owner}'"):
        assert await asked(wire, COUNT + "= $1", value(form)) == home
    assert await asked(wire, COUNT + "= ANY ($1)", value(f"'{{{owner},{owner}}}'")) == home
    assert await asked(wire, COUNT + "IN ($1, $2)", *2 * [value(f"int4 {owner}")]) == home


async def test_simple_queries_and_what_stands_around_the_key(
    wire: Wire, provisioned: Provisioned
) -> None:
    owner = provisioned.owner_id_on("dentist")
    for condition in (
        f"= {owner}",
        f"= '{owner}'",
        f"IN ({owner}, '{owner}')",
        f"= ANY (ARRAY[{owner}])",
        f"= ANY ('{{{owner}}}')",
        f'= {owner} AND ("name" <> \'a\' OR "name" IS NULL)',
        f'= {owner} OR "userId" = {owner}',
    ):
        assert databases(await wire.query(COUNT + condition)) == {b"crm_dentist"}, condition
    where = f'"userId" = {owner}'
    for sql in (
        'SELECT current_database() FROM "Lead" l JOIN "Deal" d ON d."leadId" = l."id"'
        f' AND d."userId" = l."userId" WHERE l.{where} LIMIT 1',
        f'WITH mine AS (SELECT * FROM "Lead" WHERE {where})'
        " SELECT current_database() FROM mine LIMIT 1",
        'SELECT current_database() FROM "Lead" WHERE "userId" IN'
        f' (SELECT "id" FROM "User" WHERE "id" = {owner}) LIMIT 1',
        f'SELECT current_database() FROM (SELECT * FROM "Lead") x WHERE x.{where} LIMIT 1',
        f'UPDATE "Lead" SET "name" = "name" WHERE {where} RETURNING current_database()',
        f'DELETE FROM "Lead" WHERE {where} AND false',
        f"""INSERT INTO "Lead" ("name", "email", "userId") SELECT 'a', 'b', {owner} WHERE false""",
    ):
        assert databases(await wire.query(sql)) <= {b"crm_dentist"}, sql


@pytest.fixture
async def keyed(provisioned: Provisioned) -> AsyncIterator[dict[str, uuid.UUID]]:
    """An owner of LAW and one of DENTIST who have a UUID for an id, and a table of their rows."""
    ids = {shard: uuid.uuid5(uuid.NAMESPACE_DNS, shard) for shard in ("law", "dentist")}
    meta = provisioned.url("meta")
    await past_the_gateway(meta, "CREATE TABLE keyed (id text, owner text)")
    for shard, one in ids.items():
        owner = provisioned.owner_id_on(shard)
        await past_the_gateway(meta, f"INSERT INTO keyed VALUES ('{one}', '{owner}')")
        await past_the_gateway(
            provisioned.url(shard), f'CREATE TABLE "Keyed" AS SELECT \'{one}\'::uuid AS "userId"'
        )
    yield ids
    await past_the_gateway(meta, "DROP TABLE keyed")
    for shard in ids:
        await past_the_gateway(provisioned.url(shard), 'DROP TABLE "Keyed"')


@pytest.mark.parametrize("key_type", ["uuid", "text"])
async def test_ids_that_are_uuids_or_texts(
    start_gateway: StartGateway,
    service: SeedLogin,
    keyed: dict[str, uuid.UUID],
    key_type: str,
) -> None:
    query = (
        "SELECT k.id, o.industry, o.shard, o.epoch FROM public.keyed k"
        " JOIN gateway.owner o ON o.id = k.owner WHERE k.id = $1"
    )
    gateway = await start_gateway(
        {"routing": {"key_type": key_type}, "directory": {"owner_query": query}}
    )
    wire = await Wire.logged_in(place(gateway, service))
    column = '"userId"' if key_type == "uuid" else '"userId"::text'
    count = f'SELECT current_database(), count(*) FROM "Keyed" WHERE {column} '
    for shard, one in keyed.items():
        home = {f"crm_{shard}".encode()}
        array = f"{key_type}[] {one} {one}"
        forms = [value(f"'{one}'"), value(f"{key_type} {one}")]
        for form in forms:
            assert (
                await asked(wire, count + "= $1", form, name=f"{shard}{forms.index(form)}") == home
            )
        assert await asked(wire, count + "= ANY ($1)", value(array)) == home
        assert await asked(wire, count + "= ANY ($1)", value(f"'{{{one}}}'")) == home
        assert databases(await wire.query(f"{count}= '{one}'")) == home
        if key_type == "uuid":
            spelt = f"'{{{str(one).upper()}}}'"
            assert databases(await wire.query(f"{count}= {spelt}")) == home
    await wire.close()


async def test_a_view_that_is_listed_stands_for_its_tables(
    start_gateway: StartGateway, provisioned: Provisioned, service: SeedLogin
) -> None:
    law, view = provisioned.owner_id_on("law"), '"Who" AS SELECT "id" AS "userId" FROM "User"'
    await past_the_gateway(provisioned.url("meta"), f"CREATE VIEW {view}")
    try:
        gateway = await start_gateway({"routing": {"views": {"Who": ["User"]}}})
        wire = await Wire.logged_in(place(gateway, service))
        found = await wire.query(f'SELECT current_database() FROM "Who" WHERE "userId" = {law}')
        assert databases(found) == {b"crm_meta"}
        await wire.close()
    finally:
        await past_the_gateway(provisioned.url("meta"), 'DROP VIEW "Who"')


@pytest.mark.parametrize("text", [f"{COUNT}> 0{LONG}", 'SELECT "'])
async def test_what_is_not_read_goes_nowhere_unless_its_owner_is_said(
    gateway: Gateway, provisioned: Provisioned, service: SeedLogin, text: str
) -> None:
    facts, law = gateway.worker.context.facts, provisioned.owner_id_on("law")
    wire = await Wire.logged_in(place(gateway, service))
    assert sqlstate(await wire.query(text)) == "0A000"
    await wire.query(f"SET gateway.owner = '{law}'")
    parsed = facts.misses
    said = await wire.query(text)
    if text.endswith("x"):
        assert databases(said) == {b"crm_law"}
    else:
        assert sqlstate(said) == "42601"  # as the owner's database says
    wire.send(parse_("", text) + bind(b"", []) + execute() + SYNC)
    assert sqlstate(await wire.until("Z")) == (None if text.endswith("x") else "42601")
    assert facts.misses == parsed
    await wire.close()
