"""Who gets in, and where to: every industry and shard, every kind of login, every refusal."""

from __future__ import annotations

import asyncio
import os
import re
import statistics
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from gateway.demo.seed import SeedLogin
from gateway.directory.owners import add_login, open_meta, set_disabled
from gateway.router.identity import LoginKind
from gateway.router.slots import slot_of
from gateway.settings.dsn import parse
from gateway.worker import Worker
from tests.conftest import SHARDED, Provisioned
from tests.running import past_the_gateway, place, rest, running
from tests.wire import Message, Place, Refused, Wire

SHARDS = 16
"""14 industries, two of them with two shards."""

PASSWORD = "a password of these tests"


@pytest.fixture(scope="module")
async def gateway(provisioned: Provisioned) -> AsyncIterator[Worker]:
    async with running(provisioned.settings) as worker:
        yield worker
        await rest(worker)


async def psql(
    where: Place, sql: str, *, database: str | None = None, options: str = ""
) -> tuple[str, str]:
    """What psql prints on its two outputs."""
    process = await asyncio.create_subprocess_exec(
        *("psql", "-X", "-At", "-h", where.host, "-p", str(where.port), "-U", where.user),
        *("-d", database or where.database, "-c", "\\set VERBOSITY verbose", "-c", sql),
        env={**os.environ, "PGPASSWORD": where.password, "PGOPTIONS": options},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(30):
        out, err = await process.communicate()
    return out.decode().strip(), err.decode().strip()


async def database_of(where: Place, **parameters: str) -> str | None:
    """Where a client ends up. Raises Refused."""
    wire = await Wire.logged_in(where, parameters)
    try:
        return await wire.value("SELECT current_database()")
    finally:
        await wire.close()


def shard_of(provisioned: Provisioned, owner: str, industry: str) -> str:
    """The shard by the written rule: the owner's slot, of 1024, in the industry's map."""
    place = provisioned.snapshot.industries[industry]
    return place.shards[place.slot_map[slot_of(owner)]].name


# --- owners ----------------------------------------------------------------------------------


async def test_psql_as_an_owner_of_every_industry_and_shard(
    gateway: Worker, provisioned: Provisioned
) -> None:
    shards = [name for name in provisioned.snapshot.shards if name != "meta"]
    assert len(shards) == SHARDS
    for shard in shards:
        login = provisioned.owner_on(shard)
        out, err = await psql(place(gateway, login), "SELECT current_database()")
        assert (out, err) == (f"crm_{shard}", "")


async def test_every_owner_finds_its_own_rows(gateway: Worker, provisioned: Provisioned) -> None:
    for login in provisioned.owners:
        assert login.owner is not None
        assert login.industry is not None
        assert login.shard == shard_of(provisioned, login.owner, login.industry)
        wire = await Wire.logged_in(place(gateway, login))
        sql = f'SELECT count(*) > 0 FROM "Lead" WHERE "userId" = {login.owner}'
        assert await wire.value(sql) == "t"
        assert await wire.value("SELECT current_database()") == f"crm_{login.shard}"
        await wire.close()


async def test_an_owner_may_name_its_own_database_or_none(
    gateway: Worker, provisioned: Provisioned
) -> None:
    login = provisioned.owner_on("medical_2")
    for database in ("medical", "MEDICAL", "medical_2", login.user, "anything"):
        assert await database_of(place(gateway, login, database)) == "crm_medical_2"
    own = f"-c gateway.owner={login.owner}"
    assert await database_of(place(gateway, login), options=own) == "crm_medical_2"


@pytest.mark.parametrize("database", ["law", "meta", "medical_1", "real_estate_2", "gateway"])
async def test_an_owner_has_no_other_database(
    gateway: Worker, provisioned: Provisioned, database: str
) -> None:
    with pytest.raises(Refused) as caught:
        await database_of(place(gateway, provisioned.owner_on("medical_2"), database))
    assert caught.value.sqlstate == "42501"


@pytest.mark.parametrize(
    "options", ["-c gateway.owner={}", "--gateway.owner={}", "-cGateway.Owner={}"]
)
async def test_trap_an_owner_login_names_another_owner(
    gateway: Worker, provisioned: Provisioned, options: str
) -> None:
    other = provisioned.owner_on("law").owner
    with pytest.raises(Refused) as caught:
        await database_of(
            place(gateway, provisioned.owner_on("medical_2")), options=options.format(other)
        )
    assert caught.value.sqlstate == "42501"
    assert caught.value.fields["V"] == "FATAL"


# --- operators -------------------------------------------------------------------------------


@pytest.fixture
def operator(provisioned: Provisioned) -> SeedLogin:
    return next(one for one in provisioned.logins.values() if one.kind is LoginKind.OPERATOR)


async def test_an_operator_names_any_database(
    gateway: Worker, provisioned: Provisioned, operator: SeedLogin
) -> None:
    for shard in provisioned.snapshot.shards:
        assert await database_of(place(gateway, operator, shard)) == f"crm_{shard}"
    assert await database_of(place(gateway, operator, "LAW")) == "crm_law"


@pytest.mark.parametrize("industry", SHARDED)
async def test_an_industry_with_several_shards_is_ambiguous(
    gateway: Worker, operator: SeedLogin, industry: str
) -> None:
    with pytest.raises(Refused) as caught:
        await database_of(place(gateway, operator, industry.lower()))
    assert caught.value.sqlstate == "3D000"
    assert f"{industry.lower()}_2" in caught.value.fields["H"]


async def test_a_database_that_is_not_there(gateway: Worker, operator: SeedLogin) -> None:
    with pytest.raises(Refused) as caught:
        await database_of(place(gateway, operator, "nowhere"))
    assert caught.value.sqlstate == "3D000"
    assert "medical_2" in caught.value.fields["H"]


async def test_an_operator_may_name_an_owner_instead(
    gateway: Worker, provisioned: Provisioned, operator: SeedLogin
) -> None:
    owner = provisioned.owner_on("real_estate_2").owner
    options = f"-c gateway.owner={owner}"
    assert await database_of(place(gateway, operator), options=options) == "crm_real_estate_2"


# --- services --------------------------------------------------------------------------------


async def test_a_service_acts_for_any_owner_it_names(
    gateway: Worker, provisioned: Provisioned, service: SeedLogin
) -> None:
    for shard in provisioned.snapshot.shards:
        if shard != "meta":
            options = f"-c gateway.owner={provisioned.owner_on(shard).owner}"
            assert await database_of(place(gateway, service), options=options) == f"crm_{shard}"
    out, err = await psql(place(gateway, service), "SELECT current_database()", options=options)
    assert (out, err) == (f"crm_{shard}", "")


async def test_a_service_that_names_an_owner_names_one_that_is(
    gateway: Worker, service: SeedLogin
) -> None:
    assert await database_of(place(gateway, service)) == "crm_meta"
    for owner in ("0", "nobody", "1' OR '1'='1", "x" * 300):
        options = "-c gateway.owner=" + re.sub(r"([\\ ])", r"\\\1", owner)
        with pytest.raises(Refused) as caught:
            await database_of(place(gateway, service), options=options)
        assert caught.value.sqlstate == "22023"


# --- who does not get in ---------------------------------------------------------------------


async def flow(where: Place) -> list[tuple[str, object]]:
    """All that is said to a client that logs in, without what differs by chance or by name."""
    wire = await Wire.connect(where.host, where.port)
    said = await wire.log_in(where)
    if said[-1].tag == "E":
        said += await wire.until("")
    wire.fin()
    return [(one.tag, shape(one, where.user)) for one in said]


def shape(message: Message, user: str) -> object:
    """A message with nonce, salt and user name taken out, but their lengths."""
    if message.tag == "E":
        return {name: text.replace(user, "USER") for name, text in message.fields.items()}
    if message.tag == "R" and message.body[3] == 11:
        nonce, salt, rest_ = message.body[4:].split(b",", 2)
        return (len(nonce), len(salt), rest_)
    return message.body


@asynccontextmanager
async def extra_login(
    provisioned: Provisioned, name: str, *, until: datetime | None = None, disabled: bool = False
) -> AsyncIterator[None]:
    """A login of an owner of the law industry, gone again afterwards."""
    owner = provisioned.owner_on("law").owner
    async with open_meta(parse(provisioned.url("meta"))) as meta:
        await add_login(
            meta, name, LoginKind.OWNER, owner=owner, password=PASSWORD, valid_until=until
        )
        if disabled:
            await set_disabled(meta, name, True)
    try:
        yield
    finally:
        await past_the_gateway(
            provisioned.url("meta"), f"DELETE FROM gateway.login WHERE name = '{name}'"
        )


async def test_psql_with_a_wrong_password(gateway: Worker, provisioned: Provisioned) -> None:
    where = replace(place(gateway, provisioned.owner_on("law")), password="wrong")
    out, err = await psql(where, "SELECT 1")
    assert out == ""
    assert f'FATAL:  password authentication failed for user "{where.user}"' in err
    connect = asyncpg.connect(
        host=where.host, port=where.port, user=where.user, password="wrong", database="law"
    )
    with pytest.raises(asyncpg.InvalidPasswordError):
        await connect


async def test_trap_unknown_and_known_logins_cannot_be_told_apart(
    gateway: Worker, provisioned: Provisioned
) -> None:
    known = replace(place(gateway, provisioned.owner_on("law")), password="wrong")
    operator = replace(known, user="operator")
    unknown = replace(known, user="nobody_at_all")
    odd = replace(known, user="x" * 500)
    expected = await flow(known)
    assert [tag for tag, _ in expected] == ["R", "R", "E", "EOF"]
    assert expected[2][1] == {
        "S": "FATAL",
        "V": "FATAL",
        "C": "28P01",
        "M": 'password authentication failed for user "USER"',
    }
    for other in (operator, unknown, odd):
        assert await flow(other) == expected
    for where in (known, unknown):
        times_s = []
        for _ in range(5):
            began = time.monotonic()
            await flow(where)
            times_s.append(time.monotonic() - began)
        print(f"{where.user}: refused after {statistics.median(times_s) * 1000:.0f} ms")


async def test_an_unknown_login_has_the_same_salt_every_time(
    gateway: Worker, provisioned: Provisioned
) -> None:
    where = replace(place(gateway, provisioned.owner_on("law")), user="nobody", password="wrong")
    salts = set()
    for _ in range(3):
        wire = await Wire.connect(where.host, where.port)
        said = await wire.log_in(where)
        salts.add(said[1].body.split(b",")[1])
        wire.fin()
    assert len(salts) == 1


@pytest.mark.parametrize("password", [PASSWORD, "wrong"])
@pytest.mark.parametrize("state", ["disabled", "expired"])
async def test_trap_disabled_or_expired_credentials_are_refused(
    gateway: Worker, provisioned: Provisioned, state: str, password: str
) -> None:
    """CVE-2025-2291; and a right password of such a login is not told from a wrong one."""
    unknown = replace(place(gateway, provisioned.owner_on("law")), user="nobody_at_all")
    expected = await flow(replace(unknown, password="wrong"))
    until = datetime.now(UTC) + timedelta(seconds=0.5) if state == "expired" else None
    name = f"login_{state}"
    async with extra_login(provisioned, name, until=until):
        where = replace(unknown, user=name, password=PASSWORD)
        assert await database_of(where) == "crm_law"
        if state == "disabled":
            async with open_meta(parse(provisioned.url("meta"))) as meta:
                await set_disabled(meta, name, True)
        await asyncio.sleep(0.6)
        assert await flow(replace(where, password=password)) == expected


@pytest.mark.parametrize(
    "verifier",
    ["", "garbage", "SCRAM-SHA-256$4096:x$y:z", "md5" + "0" * 32],
    ids=lambda one: one[:8],
)
async def test_a_login_without_a_usable_verifier_looks_like_any_other(
    gateway: Worker, provisioned: Provisioned, verifier: str
) -> None:
    unknown = replace(
        place(gateway, provisioned.owner_on("law")), user="nobody_at_all", password="wrong"
    )
    name = "login_unusable"
    async with extra_login(provisioned, name):
        await past_the_gateway(
            provisioned.url("meta"),
            f"UPDATE gateway.login SET verifier = '{verifier}' WHERE name = '{name}'",
        )
        assert await flow(replace(unknown, user=name)) == await flow(unknown)


async def test_a_startup_without_a_user_is_refused(gateway: Worker) -> None:
    host, port = gateway.address
    assert (await flow(Place(host, port, "", "", "law")))[0][0] == "E"


# --- changes in the meta database ------------------------------------------------------------


async def until_database(wire: Wire, expected: str) -> float:
    """Seconds until statements of an open session go there."""
    began = time.monotonic()
    while (found := await wire.value("SELECT current_database()")) != expected:
        assert time.monotonic() - began < 5, f"still on {found}"
        await asyncio.sleep(0.005)
    return time.monotonic() - began


async def test_an_owner_that_moves_is_followed_without_a_reconnect(
    gateway: Worker, provisioned: Provisioned
) -> None:
    """By a placement row, then by another industry, then back; news come by NOTIFY."""
    meta = provisioned.url("meta")
    rows = await past_the_gateway(
        meta,
        'INSERT INTO "User" ("email", "name", "industry")'
        " VALUES ('mover@example.com', 'Mover', 'MEDICAL') RETURNING \"id\"",
    )
    owner = str(rows[0]["id"])
    home = shard_of(provisioned, owner, "MEDICAL")
    other = "medical_1" if home == "medical_2" else "medical_2"
    name = "login_mover"
    try:
        async with open_meta(parse(meta)) as connection:
            await add_login(connection, name, LoginKind.OWNER, owner=owner, password=PASSWORD)
        where = replace(place(gateway, provisioned.owner_on("law")), user=name, password=PASSWORD)
        wire = await Wire.logged_in(replace(where, database=name))
        assert await wire.value("SELECT current_database()") == f"crm_{home}"
        took_s = []
        for change, expected in (
            (f"INSERT INTO gateway.placement VALUES ('{owner}', '{other}')", other),
            (f"DELETE FROM gateway.placement WHERE owner_id = '{owner}'", home),
            (f'UPDATE "User" SET "industry" = \'LAW\' WHERE "id" = {owner}', "law"),
        ):
            await past_the_gateway(meta, change)
            took_s.append(await until_database(wire, f"crm_{expected}"))
        print(f"followed after {[round(one * 1000) for one in took_s]} ms")
        await wire.query("BEGIN")
        await past_the_gateway(
            meta, f'UPDATE "User" SET "industry" = \'DENTIST\' WHERE "id" = {owner}'
        )
        await asyncio.sleep(0.1)
        assert await wire.value("SELECT current_database()") == "crm_law"
        await wire.query("COMMIT")
        await until_database(wire, "crm_dentist")
        await wire.close()
    finally:
        await past_the_gateway(meta, f"DELETE FROM gateway.login WHERE name = '{name}'")
        await past_the_gateway(meta, f"DELETE FROM gateway.placement WHERE owner_id = '{owner}'")
        await past_the_gateway(meta, f'DELETE FROM "User" WHERE "id" = {owner}')


async def test_trap_a_new_login_is_not_kept_out_by_a_negative_answer(
    gateway: Worker, provisioned: Provisioned
) -> None:
    name = "login_brand_new"
    where = replace(
        place(gateway, provisioned.owner_on("law")), user=name, password=PASSWORD, database="law"
    )
    with pytest.raises(Refused):
        await database_of(where)
    async with extra_login(provisioned, name):
        began = time.monotonic()
        assert await database_of(where) == "crm_law"
        assert time.monotonic() - began < provisioned.settings.directory.negative_ttl_s / 2
    with pytest.raises(Refused):
        await database_of(where)
