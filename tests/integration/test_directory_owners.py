"""What `gateway owners` does, on a real meta database, and that a running directory hears of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from gateway.directory import owners
from gateway.directory.directory import Directory
from gateway.directory.owners import Connection, OwnersError
from gateway.migrate import schema
from gateway.protocol.passwords import check_password, looks_like_api_key
from gateway.router.identity import Grant, LoginKind, Owner, Scope
from gateway.settings.dsn import Dsn, parse
from gateway.settings.model import Directory as DirectorySettings
from tests.conftest import FreshDatabase


@pytest.fixture(scope="module")
async def provisioned_meta(fresh_database: FreshDatabase) -> Dsn:
    """A meta database with two owners and no logins."""
    url = await fresh_database("owners_meta")
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(schema.read(schema.META))
        await connection.execute(
            """INSERT INTO "User" ("id", "email", "name", "industry") VALUES
               (1, 'ann@example.com', 'Ann', 'LAW'), (2, 'bob@example.com', 'Bob', 'MEDICAL')"""
        )
        await connection.execute("INSERT INTO gateway.placement VALUES ('2', 'medical_2', 4)")
    finally:
        await connection.close()
    return parse(url)


@pytest.fixture
async def meta(provisioned_meta: Dsn) -> AsyncIterator[Connection]:
    """The connection that the command line would open; each test begins without logins."""
    async with owners.open_meta(provisioned_meta) as connection:
        await connection.execute("DELETE FROM gateway.login")
        yield connection


@pytest.fixture
async def directory(provisioned_meta: Dsn, meta: Connection) -> AsyncIterator[Directory]:
    """A gateway's directory beside the command line; nothing in it ages by itself."""
    settings = DirectorySettings.model_validate({"ttl_s": 3600, "negative_ttl_s": 3600})
    directory = Directory(provisioned_meta, settings)
    await directory.start()
    await comes_true(lambda: directory.connected)
    yield directory
    await directory.close()


async def comes_true(condition: Callable[[], bool]) -> None:
    """Wait until ``condition()``; fail when that takes too long."""
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, "did not come true in time"
        await asyncio.sleep(0.01)


async def heard(directory: Directory, count: int) -> None:
    """Wait until the directory got that many notifications."""
    await comes_true(lambda: directory.stats()["notifications"] >= count)


async def test_add_an_owner_login(meta: Connection, directory: Directory) -> None:
    assert await directory.login("ann") is None
    added = await owners.add_login(meta, "ann", LoginKind.OWNER, owner="1", password="pass word")
    assert (added.name, added.kind, added.owner, added.industry) == (
        *("ann", LoginKind.OWNER),
        *("1", "LAW"),
    )
    assert (added.password, added.disabled, added.valid_until) == ("scram", False, None)
    await heard(directory, 1)
    login = await directory.login("ann")
    assert login is not None
    assert login.owner == "1"
    assert check_password("pass word", login.verifier, "ann")
    assert not check_password("password", login.verifier, "ann")


async def test_add_refuses_what_makes_no_sense(meta: Connection) -> None:
    await owners.add_login(meta, "ann", LoginKind.OWNER, owner="1")
    refused = [
        (owners.add_login(meta, "ann", LoginKind.OWNER, owner="2"), 'login "ann" exists already'),
        (owners.add_login(meta, "x", LoginKind.OWNER), "needs the id of its owner"),
        (owners.add_login(meta, "x", LoginKind.OWNER, owner="99"), 'no owner "99"'),
        (owners.add_login(meta, "x", LoginKind.SERVICE, owner="1"), "no owner of its own"),
        (owners.add_login(meta, "", LoginKind.SERVICE), "1 to 255 bytes"),
        (owners.add_login(meta, "x" * 256, LoginKind.SERVICE), "1 to 255 bytes"),
        (owners.add_login(meta, "a\0b", LoginKind.SERVICE), "1 to 255 bytes"),
        (owners.add_login(meta, "x", LoginKind.SERVICE, password=""), "can't be empty"),
        (
            owners.add_login(meta, "x", LoginKind.SERVICE, valid_until=datetime(2030, 1, 1)),
            "needs a time zone",
        ),
    ]
    for attempt, reason in refused:
        with pytest.raises(OwnersError, match=reason):
            await attempt
    assert [login.name for login in await owners.list_logins(meta)] == ["ann"]


async def test_list_filters_and_is_bounded(meta: Connection) -> None:
    await owners.add_login(meta, "ann", LoginKind.OWNER, owner="1")
    await owners.add_login(meta, "bob", LoginKind.OWNER, owner="2")
    await owners.add_login(meta, "Bo_b's app", LoginKind.SERVICE)
    await owners.add_login(meta, "root", LoginKind.OPERATOR)

    async def names(**filters: object) -> list[str]:
        return [login.name for login in await owners.list_logins(meta, **filters)]  # type: ignore[arg-type]

    assert sorted(await names()) == ["Bo_b's app", "ann", "bob", "root"]
    assert sorted(await names(find="bo")) == ["Bo_b's app", "bob"]
    assert await names(find="_") == ["Bo_b's app"]
    assert await names(kind=LoginKind.OPERATOR) == ["root"]
    assert await names(owner="2") == ["bob"]
    assert await names(industry="LAW") == ["ann"]
    assert len(await names(limit=2)) == 2


async def test_show_has_all_of_it_and_no_secret(meta: Connection) -> None:
    await owners.add_login(meta, "bob", LoginKind.OWNER, owner="2", password="hidden")
    key = await owners.add_api_key(meta, "bob")
    details = await owners.show_login(meta, "bob")
    assert details.owner == Owner("2", "MEDICAL", "medical_2", 4)
    assert details.api_keys == (key.info,)
    assert details.grants == ()
    for secret in ("SCRAM-SHA-256", "hidden", key.key):
        assert secret not in repr(details) + repr(key)
    with pytest.raises(OwnersError, match='no login "nobody"'):
        await owners.show_login(meta, "nobody")


async def test_disable_and_enable_reach_a_running_directory(
    meta: Connection, directory: Directory
) -> None:
    await owners.add_login(meta, "ann", LoginKind.OWNER, owner="1")
    await heard(directory, 1)
    for step, disabled in enumerate((True, False), start=2):
        await directory.login("ann")
        await owners.set_disabled(meta, "ann", disabled)
        await heard(directory, step)
        login = await directory.login("ann")
        assert login is not None
        assert login.disabled is disabled
    with pytest.raises(OwnersError, match="no login"):
        await owners.set_disabled(meta, "nobody", True)


async def test_a_password_change_reaches_a_running_directory(
    meta: Connection, directory: Directory
) -> None:
    await owners.add_login(meta, "ann", LoginKind.OWNER, owner="1", password="old")
    await heard(directory, 1)
    await directory.login("ann")
    new = owners.generate_password()
    await owners.set_password(meta, "ann", new)
    await heard(directory, 2)
    login = await directory.login("ann")
    assert login is not None
    assert check_password(new, login.verifier, "ann")
    assert not check_password("old", login.verifier, "ann")
    shown = (await owners.show_login(meta, "ann")).login
    assert shown.updated_at > shown.created_at
    await owners.set_password(meta, "ann", None)
    assert (await owners.show_login(meta, "ann")).login.password == "none"
    with pytest.raises(OwnersError, match="no login"):
        await owners.set_password(meta, "nobody", "new")


async def test_generated_passwords_differ_and_are_long() -> None:
    passwords = {owners.generate_password() for _ in range(100)}
    assert len(passwords) == 100
    assert all(len(password) == 24 for password in passwords)


async def test_how_a_foreign_verifier_is_shown(meta: Connection) -> None:
    await owners.add_login(meta, "ann", LoginKind.OWNER, owner="1")
    for verifier, shown in (("md5" + "0" * 32, "md5"), ("plain text", "unusable"), ("", "none")):
        await meta.execute("UPDATE gateway.login SET verifier = $1", verifier)
        assert (await owners.show_login(meta, "ann")).login.password == shown


async def test_api_keys(meta: Connection, directory: Directory) -> None:
    await owners.add_login(meta, "ann", LoginKind.OWNER, owner="1")
    until = datetime.now(UTC) + timedelta(days=1)
    one = await owners.add_api_key(meta, "ann")
    two = await owners.add_api_key(meta, "ann", valid_until=until)
    assert looks_like_api_key(one.key)
    assert one.info.id in one.key
    assert two.info.valid_until == until
    assert await owners.list_api_keys(meta, "ann") == [one.info, two.info]
    await heard(directory, 3)
    assert await directory.api_key("ann", one.key)
    await owners.revoke_api_key(meta, one.info.id)
    await heard(directory, 4)
    assert not await directory.api_key("ann", one.key)
    assert await directory.api_key("ann", two.key)
    assert [key.disabled for key in await owners.list_api_keys(meta, "ann")] == [True, False]
    with pytest.raises(OwnersError, match='no login "nobody"'):
        await owners.add_api_key(meta, "nobody")
    with pytest.raises(OwnersError, match='no API key "nothing"'):
        await owners.revoke_api_key(meta, "nothing")


async def test_grants(meta: Connection, directory: Directory) -> None:
    await owners.add_login(meta, "web", LoginKind.SERVICE)
    await owners.add_login(meta, "ann", LoginKind.OWNER, owner="1")
    await heard(directory, 2)
    assert await directory.grants("web") == ()
    agency, owner = Grant(Scope.AGENCY, "5"), Grant(Scope.OWNER, "1")
    for grant in (agency, owner, owner):
        await owners.add_grant(meta, "web", grant)
    assert (await owners.show_login(meta, "web")).grants == (agency, owner)
    await heard(directory, 4)
    assert set(await directory.grants("web")) == {agency, owner}
    await owners.remove_grant(meta, "web", owner)
    await owners.add_grant(meta, "web", Grant(Scope.ALL))
    await heard(directory, 6)
    assert set(await directory.grants("web")) == {agency, Grant(Scope.ALL)}
    refused = [
        (owners.remove_grant(meta, "web", owner), "no such grant"),
        (owners.add_grant(meta, "nobody", owner), 'no login "nobody"'),
        (owners.add_grant(meta, "ann", owner), "for service logins"),
        (owners.add_grant(meta, "web", Grant(Scope.OWNER, "99")), 'no owner "99"'),
        (owners.add_grant(meta, "web", Grant(Scope.OWNER)), "by id"),
        (owners.add_grant(meta, "web", Grant(Scope.ALL, "1")), "by id"),
    ]
    for attempt, reason in refused:
        with pytest.raises(OwnersError, match=reason):
            await attempt


async def test_a_meta_database_that_is_not_there_or_not_provisioned(
    fresh_database: FreshDatabase,
) -> None:
    empty = parse(await fresh_database("owners_empty"))
    with pytest.raises(OwnersError, match="isn't provisioned"):
        async with owners.open_meta(empty) as connection:
            await owners.list_logins(connection)
    nowhere = Dsn(empty.host, empty.port, "no_such_database", empty.user, empty.password)
    with pytest.raises(OwnersError, match=r"can't connect to .*no_such_database"):
        async with owners.open_meta(nowhere):
            pass
