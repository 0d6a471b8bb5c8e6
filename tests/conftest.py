"""What tests on real PostgreSQL share: one server, throw-away databases, one seeded topology."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import asyncpg
import pytest
import uvloop
from hypothesis import settings

from gateway.demo.binaries import find_postgres
from gateway.demo.postgres import FAST, Cluster
from gateway.demo.seed import SeedLogin, seed
from gateway.migrate.provision import provision
from gateway.router.build import build_snapshot
from gateway.router.identity import LoginKind
from gateway.router.topology import Snapshot
from gateway.settings.model import INDUSTRIES, Settings

OWNERS = 42
SHARDED = ("REAL_ESTATE", "MEDICAL")

FreshDatabase = Callable[[str], Awaitable[str]]

# A red `make test` is about the change, not the machine: its examples are the same each time; `make
# test-explore` looks for new ones.
settings.register_profile("repeat", derandomize=True, deadline=None)
settings.register_profile("explore", derandomize=False, deadline=None)
settings.load_profile("repeat")


def pytest_configure() -> None:
    """Tests run on the loop that `gateway serve` runs on, and find psql where PostgreSQL is."""
    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    if shutil.which("psql") is None:
        os.environ["PATH"] += f"{os.pathsep}{find_postgres().bin_dir}"


@pytest.fixture(scope="session")
def cluster_folder() -> Iterator[Path]:
    """A folder for data folders that the server's user can reach."""
    folder = Path(tempfile.mkdtemp(prefix="gateway-test-"))
    folder.chmod(0o711)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
async def postgres(cluster_folder: Path) -> AsyncIterator[Cluster]:
    """One PostgreSQL server for all tests. Who stops or breaks a server starts another one."""
    settings = {**FAST, "max_connections": "400"}
    cluster = Cluster(find_postgres(), cluster_folder / "shared", name="shared", settings=settings)
    await cluster.initdb()
    try:
        await cluster.start()
        yield cluster
    finally:
        await cluster.stop()


@pytest.fixture(scope="session")
async def fresh_database(postgres: Cluster) -> FreshDatabase:
    """``await fresh_database("pool")`` makes an empty database and returns its superuser URL."""
    numbers = count(1)

    async def make(prefix: str) -> str:
        name = f"{prefix}_{next(numbers)}"
        connection = await asyncpg.connect(postgres.dsn())
        try:
            await connection.execute(f'CREATE DATABASE "{name}"')
        finally:
            await connection.close()
        return postgres.dsn(name)

    return make


@dataclass(frozen=True, slots=True)
class Provisioned:
    """A seeded topology: 14 industries, two of them with two shards, and their meta database.

    Tests share it: they leave its owners and logins as they are and clean up rows they add.
    """

    settings: Settings
    logins: dict[str, SeedLogin]

    @property
    def snapshot(self) -> Snapshot:
        return build_snapshot(self.settings, 1)

    @property
    def owners(self) -> list[SeedLogin]:
        """The owner logins; at least one per industry and shard."""
        return [login for login in self.logins.values() if login.kind is LoginKind.OWNER]

    def owner_on(self, shard: str) -> SeedLogin:
        """An owner login of the shard with this name, such as ``law`` or ``medical_2``."""
        return next(login for login in self.owners if login.shard == shard)

    def owner_id_on(self, shard: str) -> int:
        """The id of that owner."""
        owner = self.owner_on(shard).owner
        assert owner is not None
        return int(owner)

    def url(self, shard: str) -> str:
        """The superuser URL of a shard's primary; ``meta`` is the meta database."""
        if shard == "meta":
            return self.settings.meta.primary.get_secret_value()
        place = self.snapshot.shards[shard]
        assert place.industry is not None
        industry = self.settings.industries[place.industry]
        index = self.snapshot.industries[place.industry].shards.index(place)
        return industry.shards[index].primary.get_secret_value()


def topology(postgres: Cluster, prefix: str) -> Settings:
    """14 industries with databases ``<prefix>_<shard>`` on one server."""

    def shards(industry: str) -> list[dict[str, str]]:
        plain = industry.lower()
        names = [f"{plain}_1", f"{plain}_2"] if industry in SHARDED else [plain]
        return [{"primary": postgres.dsn(f"{prefix}_{name}")} for name in names]

    return Settings.model_validate(
        {
            "transport": os.environ.get("GATEWAY_TEST_TRANSPORT", "auto"),
            "listen": {"port": 0},
            "http": {"port": 0},
            "meta": {"primary": postgres.dsn(f"{prefix}_meta")},
            "industries": {name: {"shards": shards(name)} for name in INDUSTRIES},
        }
    )


@pytest.fixture(scope="session")
async def provisioned(postgres: Cluster) -> Provisioned:
    """The topology that most integration tests run on."""
    settings = topology(postgres, "crm")
    await provision(settings, report=lambda line: None)
    logins = await seed(settings, owners=OWNERS)
    return Provisioned(settings, {login.user: login for login in logins})
