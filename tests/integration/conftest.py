"""A running gateway for tests: in this process, on free ports, before the seeded databases."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from time import monotonic
from typing import Any
from urllib.parse import quote, urlencode

import asyncpg
import pytest
from pydantic import BaseModel, SecretStr

from gateway.demo.seed import SeedLogin
from gateway.router.identity import LoginKind
from gateway.settings.model import Settings
from gateway.worker import Worker
from tests.conftest import Provisioned
from tests.wire import Place, Wire

HOST = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Gateway:
    """A worker that runs, and how to log in to it.

    ``worker.reload`` takes what stands in ``reread[0]``: settings, or an error to raise.
    """

    worker: Worker
    provisioned: Provisioned
    reread: list[Settings | Exception] = field(default_factory=list)

    @property
    def port(self) -> int:
        return self.worker.address[1]

    @property
    def http_port(self) -> int:
        address = self.worker.http_address
        assert address is not None
        return address[1]

    def dsn(self, user: str, database: str, /, password: str | None = None, **options: str) -> str:
        """A URL for any client; ``options`` become its parameters. The password is the user's."""
        if password is None:
            password = self.provisioned.logins[user].password
        query = f"?{urlencode(options, quote_via=quote)}" if options else ""
        login = f"{quote(user, safe='')}:{quote(password, safe='')}"
        return f"postgresql://{login}@{HOST}:{self.port}/{quote(database, safe='')}{query}"


StartGateway = Callable[..., Awaitable[Gateway]]


async def until(condition: Callable[[], bool], timeout_s: float = 5.0) -> None:
    """Wait for something that is about to be true. Raises TimeoutError."""
    end = monotonic() + timeout_s
    while not condition():
        if monotonic() > end:
            raise TimeoutError("it did not come true")
        await asyncio.sleep(0.01)


def revealed(value: object) -> Any:
    """Settings as plain values, secrets included, to be changed or written to a file."""
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if isinstance(value, BaseModel):
        return {name: revealed(getattr(value, name)) for name in type(value).model_fields}
    if isinstance(value, Mapping):
        return {name: revealed(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [revealed(inner) for inner in value]
    return value


def merged(base: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """``base`` with what ``overrides`` says, section by section."""
    result = dict(base)
    for name, value in overrides.items():
        inner = result.get(name)
        if isinstance(inner, Mapping) and isinstance(value, Mapping):
            result[name] = merged(inner, value)
        else:
            result[name] = value
    return result


def with_overrides(settings: Settings, overrides: Mapping[str, Any] | None) -> Settings:
    """The settings with some options changed, such as ``{"pool": {"max": 5}}``."""
    return Settings.model_validate(merged(revealed(settings), overrides or {}))


async def run_gateway(
    provisioned: Provisioned, stack: AsyncExitStack, overrides: Mapping[str, Any] | None
) -> Gateway:
    """A gateway with some options changed; it stops with ``stack``."""
    settings = with_overrides(provisioned.settings, overrides)
    reread: list[Settings | Exception] = [settings]

    def read_again() -> Settings:
        if isinstance(reread[0], Exception):
            raise reread[0]
        return reread[0]

    worker = Worker(settings, read_again)
    stack.push_async_callback(worker.stop)
    await worker.start()
    return Gateway(worker, provisioned, reread)


@pytest.fixture
async def nothing_ordered(provisioned: Provisioned) -> AsyncIterator[None]:
    """Orders stand in the meta database for all gateways, those of other tests too: undo them.

    And whoever was killed in another test need not be waited for.
    """

    async def clear() -> None:
        meta = await asyncpg.connect(provisioned.url("meta"))
        await meta.execute("DELETE FROM gateway.operator_order; DELETE FROM gateway.worker")
        await meta.close()

    await clear()
    yield
    await clear()


@pytest.fixture(scope="session")
async def gateway(provisioned: Provisioned) -> AsyncIterator[Gateway]:
    """One gateway that many tests share: they leave no connection open and reload nothing."""
    async with AsyncExitStack() as stack:
        yield await run_gateway(provisioned, stack, None)


@pytest.fixture
async def start_gateway(provisioned: Provisioned) -> AsyncIterator[StartGateway]:
    """``await start_gateway({"pool": {"max": 5}})`` starts a gateway of the test's own."""
    async with AsyncExitStack() as stack:

        async def start(overrides: Mapping[str, Any] | None = None) -> Gateway:
            return await run_gateway(provisioned, stack, overrides)

        yield start


@pytest.fixture
def service(provisioned: Provisioned) -> SeedLogin:
    """The application's own login, which acts for any owner."""
    return next(one for one in provisioned.logins.values() if one.kind is LoginKind.SERVICE)


@pytest.fixture
async def wire(gateway: Gateway, service: SeedLogin) -> AsyncIterator[Wire]:
    """A connection of that login to the gateway that tests share."""
    place = Place(HOST, gateway.port, service.user, service.password, "crm")
    connection = await Wire.logged_in(place)
    yield connection
    await connection.close()
