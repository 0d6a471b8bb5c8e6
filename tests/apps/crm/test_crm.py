"""The CRM gives the same answers on one database and, unchanged, through the gateway."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.apps.crm.conftest import OWNERS, Place, Spread
from tests.apps.crm.driver import Note, running, visit_all
from tests.apps.crm.rows import Rows, comparable, industry_rows, meta_rows, users
from tests.apps.twice import NODE_FOLDER, ROOT, node, python

SERVICES = {
    "node-postgres": (node("crm.mjs"), NODE_FOLDER),
    "sqlalchemy": (python("tests.apps.crm.service"), ROOT),
}


@pytest.mark.parametrize("service", SERVICES)
async def test_the_same_answers(single: Place, spread: Spread, service: str) -> None:
    command, folder = SERVICES[service]
    direct = await _play(single, command, folder, service)
    through = await _play(spread.place, command, folder, service)
    assert through == direct, _told(direct, through)
    assert sum(map(len, direct.values())) > 12 * OWNERS
    await _compare_rows(single, spread.place)


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


async def _play(
    place: Place, command: Sequence[str | Path], folder: Path, seed: str
) -> dict[int, list[Note]]:
    owners = [(owner, email) for owner, email, *_ in await users(place.meta)]
    async with running(command, place.url, folder) as service:
        return await visit_all(service, owners, seed)


async def _compare_rows(single: Place, spread: Place) -> None:
    """Every row is found where it belongs, and none elsewhere."""
    homes = {int(login.owner or 0): login.shard for login in spread.owners}
    [all_of_it] = (await industry_rows({single.meta})).values()
    by_url = await industry_rows(spread.shards.values())
    together: Rows = {table: {} for table in all_of_it}
    for shard, url in spread.shards.items():
        for table, owners in by_url[url].items():
            strangers = {owner for owner in owners if homes.get(owner) != shard}
            assert not strangers, f"{shard} has rows in {table} of {strangers}"
            together[table] |= owners
    assert comparable(together) == comparable(all_of_it)
    assert comparable(await meta_rows(spread.meta)) == comparable(await meta_rows(single.meta))
