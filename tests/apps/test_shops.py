"""The same program on PostgreSQL and through the gateway: the same answers."""

from __future__ import annotations

import pytest

from tests.apps.twice import NODE_FOLDER, Places, node, python, same_twice

pytestmark = pytest.mark.timeout(300)


async def test_sqlalchemy(places: Places) -> None:
    await same_twice(python("tests.apps.sqlalchemy_shop"), places)


async def test_node_postgres(places: Places) -> None:
    await same_twice(node("shop.mjs"), places, NODE_FOLDER)


async def test_prisma(places: Places) -> None:
    await same_twice(node("prisma_shop.mjs"), places, NODE_FOLDER)


async def test_django(places: Places) -> None:
    await same_twice(python("tests.apps.django_clinic"), places)
