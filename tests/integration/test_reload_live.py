"""Reloads under load: pools, replicas, shards and industries come and go, and no client notices."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from gateway.demo.postgres import Cluster
from gateway.errors import ConfigError
from gateway.pool.pool import Pool
from tests.conftest import FreshDatabase, Provisioned
from tests.integration.conftest import Gateway, run_gateway, until, with_overrides
from tests.integration.steady import console, loaded, more
from tests.running import backends
from tests.standbys import standbys


@dataclass
class House:
    """A gateway whose industry LAW has a replica that serves reads."""

    gateway: Gateway
    base: dict[str, Any]
    standby: Cluster

    @property
    def urls(self) -> dict[str, str]:
        provisioned = self.gateway.provisioned
        law, dentist = provisioned.owner_on("law"), provisioned.owner_on("dentist")
        return {
            "law": self.gateway.dsn(law.user, "law"),
            "dentist": self.gateway.dsn(dentist.user, "dentist"),
        }

    def pools(self, endpoint: str) -> list[Pool]:
        """Those of an endpoint, retired ones too."""
        return [one for one in self.gateway.worker.context.pools if one.name.startswith(endpoint)]

    def write(self, **overrides: Any) -> None:
        """Settings for the next reload."""
        settings = self.gateway.provisioned.settings
        self.gateway.reread[0] = with_overrides(settings, {**self.base, **overrides})


@pytest.fixture
async def house(
    postgres: Cluster, provisioned: Provisioned, cluster_folder: Path
) -> AsyncIterator[House]:
    async with AsyncExitStack() as stack:
        (standby,) = await stack.enter_async_context(standbys(postgres, cluster_folder, "live"))
        base = {
            "pool": {"max": 6},
            "reads": {"policy": "prefer-replica"},
            "health": {"interval_ms": 100},
            "industries": {"LAW": law(provisioned, [standby.dsn("crm_law")])},
        }
        yield House(await run_gateway(provisioned, stack, base), base, standby)


def law(provisioned: Provisioned, replicas: list[str], **more: Any) -> dict[str, Any]:
    """The industry LAW with these replicas."""
    return {"shards": [{"primary": provisioned.url("law"), "replicas": replicas, **more}]}


async def test_everything_changes_and_no_client_notices(
    house: House, provisioned: Provisioned, fresh_database: FreshDatabase
) -> None:
    replica, elsewhere = house.standby.dsn("crm_law"), await fresh_database("florist")
    florist = {"shards": [{"primary": elsewhere}]}
    with backends(provisioned.url("law")) as watch:
        async with loaded(house.urls) as load, console(house.gateway) as admin:

            async def reload(**overrides: Any) -> list[str]:
                house.write(**overrides)
                changes = [row[0] for row in await admin.fetch("RELOAD")]
                await more(load, "law", 60)
                await more(load, "dentist", 60)
                return changes

            await until(lambda: any(one.counters.checkouts for one in house.pools("law-rep")), 10)
            await more(load, "law", 60)
            assert await reload(pool={"max": 2}) == ["pool.max: 6 -> 2"]
            watch.most = 0
            await more(load, "law", 100)
            assert watch.most <= 2
            changes = await reload(pool={"max": 2}, industries={"LAW": law(provisioned, [])})
            assert changes[0].startswith("industries.LAW.shards[0].replicas[0]: removed (")
            await until(lambda: not house.pools("law-replica"), 10)
            half = law(provisioned, [replica], slots="0-1022")
            half["shards"].append({"primary": elsewhere, "slots": "1023-1023"})
            changes = await reload(industries={"LAW": half, "FLORIST": florist})
            assert "industries.LAW.shards[1]: added" in changes
            assert "industries.FLORIST: added" in changes
            assert watch.most <= 6
            operator = await asyncpg.connect(house.gateway.dsn("operator", "florist"))
            assert await operator.fetchval("SELECT current_database()") in elsewhere
            await operator.close()
            assert "industries.FLORIST: removed" in await reload()
            house.gateway.reread[0] = ConfigError(["gateway.yaml:4:8: pool.max: wrong"])
            with pytest.raises(asyncpg.PostgresError, match="nothing has changed"):
                await admin.fetch("RELOAD")
            await more(load, "law", 60)


async def test_a_drained_replica_is_left_and_comes_back(house: House) -> None:
    def connections() -> int:
        return sum(pool.core.total for pool in house.pools("law-replica-1"))

    async with loaded(house.urls) as load, console(house.gateway) as admin:
        await until(lambda: connections() > 0, 10)
        await admin.execute("DRAIN ENDPOINT law-replica-1")
        await until(lambda: not connections(), 5)
        await more(load, "law", 100)
        assert not connections()
        (reads,) = [
            row["reads"]
            for row in await admin.fetch("SHOW HEALTH")
            if row["endpoint"] == "law-replica-1"
        ]
        assert reads == "is drained by an operator"
        (row,) = await admin.fetch("SHOW PAUSES")
        assert (row["what"], row["name"]) == ("drained", "law-replica-1")
        await admin.execute("UNDRAIN ENDPOINT law-replica-1")
        await until(lambda: connections() > 0, 10)
        with pytest.raises(asyncpg.UndefinedObjectError, match="is a primary"):
            await admin.execute("DRAIN ENDPOINT law")
