"""The CRM gives the same answers on one database and, unchanged, through the gateway."""

from __future__ import annotations

import pytest

from tests.apps.crm.conftest import OWNERS, Place
from tests.apps.crm.driver import Note, running, visit_all
from tests.apps.crm.rows import Rows, comparable, industry_rows, meta_rows, users
from tests.apps.twice import NODE_FOLDER, ROOT, node, python, run

SERVICES = {
    "node-postgres": (node("crm.mjs"), NODE_FOLDER, OWNERS),
    "asyncpg": ([*python("tests.apps.crm.service"), "asyncpg"], ROOT, OWNERS),
    "psycopg": ([*python("tests.apps.crm.service"), "psycopg"], ROOT, OWNERS // 3),
}
"""How to start a service, where, and for how many owners: SQLAlchemy takes its time."""


@pytest.mark.timeout(400)
@pytest.mark.parametrize("service", SERVICES)
async def test_the_same_answers(single: Place, spread: Place, service: str) -> None:
    direct = await _play(single, service)
    through = await _play(spread, service)
    assert through == direct, _told(direct, through)
    assert sum(map(len, direct.values())) > 12 * SERVICES[service][2]
    await _compare_rows(single, spread)


@pytest.mark.timeout(300)
async def test_prisma(single: Place, spread_by_ids: Place) -> None:
    """It reads relations and updates rows by their ids alone."""
    script = node("prisma_crm.mjs")
    direct = await run(script, single.url, NODE_FOLDER)
    through = await run(script, spread_by_ids.url, NODE_FOLDER)
    assert len(direct) == 40
    assert through == direct
    await _compare_rows(single, spread_by_ids)


def _told(direct: dict[int, list[Note]], through: dict[int, list[Note]]) -> str:
    """The first difference of each kind of request, of each owner's first, for others follow."""
    told: dict[str, str] = {}
    owners = 0
    for owner, notes in direct.items():
        pairs = zip(notes, through[owner], strict=True)
        first = next((pair for pair in pairs if pair[0] != pair[1]), None)
        if first is not None:
            owners += 1
            (what, answer), (_, other) = first
            told.setdefault(what.split()[0], f"{owner}: {what}\n  {answer}\n  {other}")
    return "\n".join([f"{owners} owners got other answers", *told.values()])


async def _play(place: Place, service: str) -> dict[int, list[Note]]:
    command, folder, number = SERVICES[service]
    owners = [(owner, email) for owner, email, *_ in await users(place.meta)]
    async with running(command, place.url, folder) as process:
        return await visit_all(process, owners[:number], service)


async def _compare_rows(single: Place, spread: Place) -> None:
    """Every row is found where it belongs, and none elsewhere."""
    homes = {int(login.owner or 0): login.shard for login in spread.owners}
    [all_of_it] = (await industry_rows({single.meta})).values()
    by_url = await industry_rows([*spread.shards.values(), spread.meta])
    assert not by_url[spread.meta], "the meta database has tables of the industries"
    together: Rows = {table: {} for table in all_of_it}
    for shard, url in spread.shards.items():
        for table, owners in by_url[url].items():
            strangers = {owner for owner in owners if homes.get(owner) != shard}
            assert not strangers, f"{shard} has rows in {table} of {strangers}"
            together[table] |= owners
    assert comparable(together) == comparable(all_of_it)
    assert comparable(await meta_rows(spread.meta)) == comparable(await meta_rows(single.meta))
