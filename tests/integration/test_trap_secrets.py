"""Traps of who gets in: secrets that show up somewhere, or are compared letter by letter."""

from __future__ import annotations

import hmac
import logging
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

import aiohttp
import asyncpg
import psycopg
import pytest

from gateway.admin.commands import COMMANDS
from gateway.directory.owners import add_api_key, add_login, open_meta
from gateway.protocol import passwords
from gateway.protocol.scram import ScramVerifier, make_verifier
from gateway.router.identity import LoginKind
from gateway.session.registry import Registry
from gateway.settings.dsn import parse
from tests.integration.conftest import HOST, Gateway, StartGateway
from tests.wire import Place, Refused, Wire, send_cancel

PASSWORD = "pencil-of-the-right-one"
WRONG = "pencil-of-somebody-else"
LOGIN = "trap_secrets"


@dataclass(frozen=True, slots=True)
class Secrets:
    """A gateway that logs everything, a login, and what nobody may ever see."""

    gateway: Gateway
    place: Place
    key: str
    never: tuple[str, ...]


@pytest.fixture
async def secrets(start_gateway: StartGateway) -> AsyncIterator[Secrets]:
    gateway = await start_gateway({"log": {"level": "debug"}})
    provisioned = gateway.provisioned
    owner = provisioned.owner_on("law")
    async with open_meta(parse(provisioned.url("meta"))) as meta:
        await add_login(meta, LOGIN, LoginKind.OWNER, owner=owner.owner, password=PASSWORD)
        key = (await add_api_key(meta, LOGIN)).key
        stored = await meta.fetchval("SELECT verifier FROM gateway.login WHERE name = $1", LOGIN)
        verifier = ScramVerifier.parse(stored)
        never = (
            *(PASSWORD, WRONG, key, passwords.hash_api_key(key), stored),
            *(verifier.stored_key.hex(), verifier.server_key.hex()),
            *(login.password for login in provisioned.logins.values()),
            parse(provisioned.url("meta")).password,
        )
        place = Place(HOST, gateway.port, LOGIN, PASSWORD, "law")
        try:
            yield Secrets(gateway, place, key, never)
        finally:
            await meta.execute("DELETE FROM gateway.login WHERE name = $1", LOGIN)


async def page(gateway: Gateway, path: str) -> str:
    url = f"http://{HOST}:{gateway.http_port}{path}"
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        return await answer.text()


async def everything_shown(gateway: Gateway) -> str:
    """What the console, the metrics and the pages tell."""
    console = await asyncpg.connect(gateway.dsn("operator", "gateway"))
    try:
        rows = [str(await console.fetch(command.words)) for command in COMMANDS]
    finally:
        await console.close()
    return "".join([*rows, *[await page(gateway, path) for path in ("/", "/metrics", "/readyz")]])


async def test_trap_no_secret_is_logged_shown_counted_or_told(
    secrets: Secrets, caplog: pytest.LogCaptureFixture
) -> None:
    """Logins right and wrong, by password and key, in and out of TLS, and a statement or two."""
    told: list[str] = []
    with caplog.at_level(logging.DEBUG):
        wire = await Wire.logged_in(secrets.place)
        await wire.query(f"SET my.secret = '{PASSWORD}'")
        await wire.query("SELECT no_such_column")
        for password in (WRONG, secrets.key, "", PASSWORD + "x"):
            wrong = Place(HOST, secrets.gateway.port, LOGIN, password, "law")
            with pytest.raises(Refused) as refused:
                await Wire.logged_in(wrong)
            told.append(str(refused.value))
        with pytest.raises(psycopg.OperationalError) as error:
            dsn = secrets.gateway.dsn(LOGIN, "law", password=WRONG, sslmode="disable")
            await psycopg.AsyncConnection.connect(dsn)
        told.append(str(error.value))
        await send_cancel(HOST, secrets.gateway.port, wire.pid, b"nope")
        told.append(await everything_shown(secrets.gateway))
        shown_key = wire.secret.hex()
        wire.fin()
    logged = [f"{one.getMessage()} {one.__dict__}" for one in caplog.records]
    assert any("law" in record for record in logged), "nothing was logged at all"
    everything = "".join([*told, *logged])
    assert not [secret for secret in (*secrets.never, shown_key) if secret in everything]


def test_trap_secrets_are_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Passwords, keys and cancel keys: whatever differs, the comparison is hmac's."""
    compared: list[tuple[bytes | str, bytes | str]] = []
    real = hmac.compare_digest

    def spy(left: bytes, right: bytes) -> bool:
        compared.append((left, right))
        return real(left, right)

    monkeypatch.setattr(hmac, "compare_digest", spy)
    key, stored = passwords.new_api_key()
    md5 = passwords.md5_verifier(PASSWORD, LOGIN)
    scram = make_verifier(PASSWORD).format()
    checks: tuple[Callable[[], bool], ...] = (
        lambda: passwords.check_api_key(key + "x", stored),
        lambda: passwords.check_password(WRONG, md5, LOGIN),
        lambda: passwords.check_password(WRONG, scram, LOGIN),
        lambda: passwords.check_md5_answer(b"md5" + b"0" * 32, md5, b"salt"),
        lambda: found_by(b"wrong"),
    )
    for number, check in enumerate(checks, 1):
        assert not check()
        assert len(compared) == number


class Session:
    """What a registry knows of a client."""

    number = 1
    secret = b"right"

    def cancel(self) -> None:
        raise AssertionError

    def drain(self, error: object) -> None:
        raise AssertionError

    def end(self, error: object) -> None:
        raise AssertionError


def found_by(secret: bytes) -> bool:
    registry = Registry()
    registry.add(Session())
    return registry.find(Session.number, secret) is not None
