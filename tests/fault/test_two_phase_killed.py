"""Workers are killed in the middle of commits over two databases: both have it in the end, or none.

What a dead worker left prepared, another one or its successor ends by what the log says.
"""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import pytest

from gateway.demo.seed import SeedLogin
from gateway.router.identity import LoginKind
from tests.conftest import Provisioned
from tests.fleet import Fleet, fleet
from tests.running import past_the_gateway
from tests.wire import Refused, Wire

pytestmark = pytest.mark.long

ROUNDS = 8
CLIENTS = 8
ON = {"workers": 2, "routing": {"two_phase": True, "two_phase_resolve_interval_s": 0.4}}
MEMO = "killed in two phases"
_PAIR = ("law", "meta")


@dataclass
class Clients:
    """Each writes the same name into two databases in one transaction, again and again."""

    fleet: Fleet
    login: SeedLogin
    owner: int
    names: count[int] = field(default_factory=lambda: count(1))
    committed: set[str] = field(default_factory=set)
    refused: set[str] = field(default_factory=set)
    lost: int = 0

    async def run(self) -> None:
        while True:
            try:
                wire = await Wire.logged_in(self.fleet.place(self.login, "crm"))
            except (OSError, Refused):
                await asyncio.sleep(0.02)
                continue
            try:
                while await self._write(wire, f"{MEMO} {next(self.names)}"):
                    pass
                self.lost += 1
            except OSError:
                self.lost += 1
            finally:
                with suppress(OSError):
                    await wire.close()

    async def _write(self, wire: Wire, name: str) -> bool:
        """One transaction; whether the connection still stands."""
        said = await wire.query("BEGIN")
        for text in (
            'INSERT INTO "Lead" ("userId", "name", "email")'
            f" VALUES ({self.owner}, '{name}', 'a@b')",
            'INSERT INTO "Session" ("userId", "sessionToken", "expires")'
            f" VALUES ({self.owner}, '{name}', now())",
            "COMMIT",
        ):
            said = await wire.query(text)
            if said[-1].tag != "Z":
                return False
        error = next((one.fields["C"] for one in said if one.tag == "E"), None)
        if error is None:
            self.committed.add(name)
        elif error != "40003":
            self.refused.add(name)
        return True


async def kill_in_turn(gateway: Fleet, clients: Clients, chance: random.Random) -> None:
    """Kill a worker at some moment of a commit; wait until both are there again."""
    for _ in range(ROUNDS):
        enough = len(clients.committed) + 20
        async with asyncio.timeout(30):
            while len(clients.committed) < enough:  # noqa: ASYNC110 - others count
                await asyncio.sleep(0.005)
        await asyncio.sleep(chance.random() * 0.02)
        number = chance.choice(sorted(gateway.workers()))
        killed = gateway.kill_worker(number)
        async with asyncio.timeout(30):
            while gateway.workers().get(number) in (None, killed):  # noqa: ASYNC110
                await asyncio.sleep(0.01)


async def written(provisioned: Provisioned) -> list[set[str]]:
    """The names that are in each of the two databases."""
    law, meta = _PAIR
    leads = f"""SELECT "name" FROM "Lead" WHERE "name" LIKE '{MEMO}%'"""
    sessions = f"""SELECT "sessionToken" FROM "Session" WHERE "sessionToken" LIKE '{MEMO}%'"""
    found = [
        await past_the_gateway(provisioned.url(law), leads),
        await past_the_gateway(provisioned.url(meta), sessions),
    ]
    return [{row[0] for row in rows} for rows in found]


async def open_still(provisioned: Provisioned) -> int:
    """What is prepared, and decided and not known to be done."""
    rows = await past_the_gateway(
        provisioned.url("meta"),
        "SELECT gid FROM pg_prepared_xacts WHERE gid LIKE 'gateway%' UNION ALL"
        " SELECT transaction FROM gateway.two_phase WHERE decision = 'commit'",
    )
    return len(rows)


async def clean(provisioned: Provisioned) -> None:
    law, meta = (provisioned.url(shard) for shard in _PAIR)
    await past_the_gateway(law, f"""DELETE FROM "Lead" WHERE "name" LIKE '{MEMO}%'""")
    await past_the_gateway(meta, f"""DELETE FROM "Session" WHERE "sessionToken" LIKE '{MEMO}%'""")


async def test_a_transaction_is_whole_or_nowhere_when_workers_are_killed(
    provisioned: Provisioned, tmp_path: Path
) -> None:
    login = next(one for one in provisioned.logins.values() if one.kind is LoginKind.SERVICE)
    owner = provisioned.owner_on("law").owner
    assert owner is not None
    async with fleet(provisioned.settings, tmp_path, ON) as gateway:
        clients = Clients(gateway, login, int(owner))
        tasks = [asyncio.create_task(clients.run()) for _ in range(CLIENTS)]
        try:
            await kill_in_turn(gateway, clients, random.Random(9))
        finally:
            for task in tasks:
                task.cancel()
            ends = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(end, asyncio.CancelledError) for end in ends), ends
        async with asyncio.timeout(20):
            while await open_still(provisioned):  # noqa: ASYNC110 - a database tells
                await asyncio.sleep(0.1)
        in_law, in_meta = await written(provisioned)
        left = gateway.log.read_text().count("was left prepared")
    await clean(provisioned)
    assert in_law == in_meta, in_law ^ in_meta
    assert clients.committed <= in_law
    assert not clients.refused & in_law
    assert clients.lost >= ROUNDS / 2
    assert left, "no worker died between the two phases: this has tested nothing"
    print(f"{len(clients.committed)} committed, {clients.lost} lost, {left} branches resolved")
