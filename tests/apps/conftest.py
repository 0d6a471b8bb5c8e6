"""Two empty databases, one of them behind a gateway whose pool is smaller than an app's."""

from __future__ import annotations

from collections.abc import AsyncIterator
from urllib.parse import quote

import pytest

from gateway.demo.seed import OPERATOR
from tests.apps.twice import POOL_MAX, Places
from tests.conftest import FreshDatabase, Provisioned
from tests.running import changed, moved, running

_DATABASE = "shop"


@pytest.fixture
async def places(provisioned: Provisioned, fresh_database: FreshDatabase) -> AsyncIterator[Places]:
    """Where an app runs: its login through the gateway may name a database of its own."""
    direct, behind = await fresh_database("app"), await fresh_database("app")
    settings = moved(provisioned.settings, _DATABASE.upper(), behind)
    settings = changed(settings, pool={"max": POOL_MAX})
    login = provisioned.logins[OPERATOR]
    async with running(settings) as worker:
        host, port = worker.address
        through = f"postgresql://{login.user}:{quote(login.password)}@{host}:{port}/{_DATABASE}"
        yield Places(direct, through)
