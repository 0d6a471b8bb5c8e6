"""The same owners and rows twice: in one database, and in meta + 14 industries behind a gateway."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from urllib.parse import quote

import pytest

from gateway.demo.postgres import Cluster
from gateway.demo.seed import SERVICE, SeedLogin, seed
from gateway.migrate.provision import provision
from gateway.router.build import build_snapshot
from gateway.router.identity import LoginKind
from gateway.settings.model import Settings
from tests.apps.twice import POOL_MAX
from tests.conftest import topology
from tests.running import changed, running

OWNERS = 210
MESSAGES = "ConversationMessage.conversationId"


@dataclass(frozen=True, slots=True)
class Place:
    """Databases that hold the owners: as DATABASE_URL, and by themselves."""

    url: str = field(repr=False)
    meta: str = field(repr=False)
    shards: Mapping[str, str] = field(repr=False)
    """The URL of each shard; all the same where there is one database only."""

    owners: tuple[SeedLogin, ...] = field(repr=False)


def one_database(settings: Settings, url: str) -> Settings:
    """The same industries and shards, all of them in the database at ``url``."""
    plain = settings.model_dump()
    plain["meta"]["primary"] = url
    for industry in plain["industries"].values():
        for shard in industry["shards"]:
            shard["primary"] = url
    return Settings.model_validate(plain)


async def fill(settings: Settings) -> list[SeedLogin]:
    """Makes the databases, tables and rows."""
    await provision(settings, report=lambda line: None)
    return await seed(settings, owners=OWNERS)


@pytest.fixture(scope="session")
async def single(postgres: Cluster) -> Place:
    """One database, and no gateway."""
    url = postgres.dsn("small_single")
    settings = one_database(topology(postgres, "small"), url)
    owners = _owners(await fill(settings))
    return Place(url, url, dict.fromkeys(build_snapshot(settings, 1).shards, url), owners)


@pytest.fixture(scope="session")
async def apart(postgres: Cluster) -> tuple[Settings, list[SeedLogin]]:
    """16 databases of industries and the meta database."""
    settings = topology(postgres, "small")
    return settings, await fill(settings)


@pytest.fixture(scope="package")
async def spread(
    postgres: Cluster, apart: tuple[Settings, list[SeedLogin]]
) -> AsyncIterator[Place]:
    """They behind a gateway with small pools that knows whose a conversation's messages are.

    It fails for whatever is logged as unhandled, and so must not outlive these tests.
    """
    async with _behind(postgres, *apart, parents={MESSAGES: "Conversation.id"}) as place:
        yield place


@pytest.fixture
async def spread_by_ids(
    postgres: Cluster, apart: tuple[Settings, list[SeedLogin]]
) -> AsyncIterator[Place]:
    """They behind a gateway that also knows whose a row is by an id of its own or its parent's."""
    parents = {
        MESSAGES: "Conversation.id",
        "Lead.id": "Lead.id",
        "Deal.leadId": "Lead.id",
    }
    async with _behind(postgres, *apart, parents=parents) as place:
        yield place


@asynccontextmanager
async def _behind(
    postgres: Cluster, settings: Settings, logins: list[SeedLogin], parents: dict[str, str]
) -> AsyncIterator[Place]:
    shards = build_snapshot(settings, 1).shards.values()
    urls = {shard.name: postgres.dsn(shard.primary.database) for shard in shards}
    password = next(login.password for login in logins if login.user == SERVICE)
    settings = changed(settings, pool={"max": POOL_MAX}, routing={"parents": parents})
    async with running(settings) as worker:
        host, port = worker.address
        url = f"postgresql://{SERVICE}:{quote(password)}@{host}:{port}/{SERVICE}"
        yield Place(url, urls.pop("meta"), urls, _owners(logins))


def _owners(logins: list[SeedLogin]) -> tuple[SeedLogin, ...]:
    return tuple(login for login in logins if login.kind is LoginKind.OWNER)
