"""Reloads under load: pools, replicas, shards and industries come and go, and no client notices."""

from __future__ import annotations

import ssl
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
from tests.certificates import issue
from tests.conftest import FreshDatabase, Provisioned
from tests.integration.conftest import Gateway, run_gateway, until, with_overrides
from tests.integration.steady import console, loaded, more
from tests.running import backends, past_the_gateway
from tests.standbys import run_on, standbys


@dataclass
class House:
    """A gateway whose industry LAW has a replica that serves reads."""

    gateway: Gateway
    base: dict[str, Any]
    standby: Cluster
    strangers: list[int]

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
        others = await past_the_gateway(
            provisioned.url("law"),
            "SELECT pid FROM pg_stat_activity WHERE datname = current_database()",
        )
        strangers = [one["pid"] for one in others]
        yield House(await run_gateway(provisioned, stack, base), base, standby, strangers)


def law(provisioned: Provisioned, replicas: list[str], **more: Any) -> dict[str, Any]:
    """The industry LAW with these replicas."""
    return {"shards": [{"primary": provisioned.url("law"), "replicas": replicas, **more}]}


async def test_everything_changes_and_no_client_notices(
    house: House, provisioned: Provisioned, fresh_database: FreshDatabase
) -> None:
    replica, elsewhere = house.standby.dsn("crm_law"), await fresh_database("florist")
    florist = {"shards": [{"primary": elsewhere}]}
    with backends(provisioned.url("law"), house.strangers) as watch:
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


@pytest.mark.usefixtures("nothing_ordered")
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


async def test_a_renewed_certificate_is_shown_to_new_clients_and_old_ones_go_on(
    provisioned: Provisioned, tmp_path: Path
) -> None:
    first, second = issue("localhost", names=("localhost",)), issue("localhost")
    certificate_file, key_file = first.write(tmp_path, "gateway")
    tls = {"mode": "require", "certificate_file": certificate_file, "key_file": key_file}
    trusting = ssl.create_default_context()
    trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
    login = provisioned.owner_on("law")

    async def connected() -> asyncpg.Connection:
        return await asyncpg.connect(gateway.dsn(login.user, "law"), ssl=trusting)

    def shown(connection: Any) -> bytes | None:
        found: bytes | None = connection._transport.get_extra_info("ssl_object").getpeercert(
            binary_form=True
        )
        return found

    async with AsyncExitStack() as stack:
        gateway = await run_gateway(provisioned, stack, {"listen": {"tls": tls}})
        old = await connected()
        assert shown(old) == first.der
        _spoil(Path(certificate_file))
        with pytest.raises(ConfigError, match="certificate"):
            gateway.worker.reload()
        still = await connected()
        assert shown(still) == first.der
        second.write(tmp_path, "gateway")
        gateway.worker.reload()
        new = await connected()
        assert shown(new) == second.der
        for one in (old, still, new):
            assert await one.fetchval("SELECT 1") == 1
            await one.close()


def _spoil(file: Path) -> None:
    file.write_bytes(b"not a certificate")


async def test_operators_get_another_role_while_connected(
    provisioned: Provisioned, postgres: Cluster
) -> None:
    await run_on(postgres, "CREATE ROLE other_operator SUPERUSER LOGIN PASSWORD 'x'")
    async with AsyncExitStack() as stack:
        gateway = await run_gateway(provisioned, stack, None)
        operator = await asyncpg.connect(gateway.dsn("operator", "law"))
        before = await operator.fetchval("SELECT current_user")
        role = {"user": "other_operator", "password": "x"}
        gateway.reread[0] = with_overrides(provisioned.settings, {"operator_role": role})
        assert gateway.worker.reload() == ["operator_role: none -> set"]
        assert await operator.fetchval("SELECT current_user") == "other_operator"
        gateway.reread[0] = provisioned.settings
        gateway.worker.reload()
        assert await operator.fetchval("SELECT current_user") == before
        await operator.close()
    await run_on(postgres, "DROP ROLE other_operator")
