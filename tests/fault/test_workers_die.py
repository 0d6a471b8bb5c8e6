"""Workers and their supervisor are killed under load: the bound holds, the others serve on."""

from __future__ import annotations

import asyncio
import random
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from gateway.ids import worker_of
from gateway.protocol import messages
from gateway.settings.model import Settings
from gateway.supervisor.meeting import Meeting
from gateway.supervisor.supervisor import Supervisor
from tests.conftest import FreshDatabase, Provisioned
from tests.fleet import Fleet, fleet, until
from tests.integration.conftest import with_overrides
from tests.running import Backends, backends, moved
from tests.wire import EOF, Place, Refused, Wire

pytestmark = pytest.mark.long

MAX = 5
CLIENTS = 60
REPLACED_S = 1.0
_QUIET = {"health": {"idle_interval_ms": 0}}
"""No looks at the databases: every backend there is a pool's."""


@dataclass
class Load:
    """Clients that ask for their own number again and again, and come back when they are cut."""

    where: Place
    sql: str = "SELECT {number}, pg_sleep(0.003)"
    answers: int = 0
    lost: Counter[int] = field(default_factory=Counter)
    """Connections lost, by worker."""
    refused: Counter[str] = field(default_factory=Counter)
    """Errors that left the connection as it was, by SQLSTATE."""
    longest_s: float = 0.0

    def answered(self, count: int) -> bool:
        """Whether there have been so many answers."""
        return self.answers >= count

    async def client(self, number: int) -> None:
        while True:
            try:
                wire = await Wire.logged_in(self.where)
            except (OSError, Refused):
                await asyncio.sleep(0.02)
                continue
            try:
                await self.talk(wire, number)
                self.lost[worker_of(wire.pid)] += 1
            finally:
                wire.rst()

    async def talk(self, wire: Wire, number: int) -> None:
        """Until the connection ends."""
        while True:
            began = time.monotonic()
            heard = await wire.query(self.sql.format(number=number))
            if heard[-1] is EOF:
                return
            self.longest_s = max(self.longest_s, time.monotonic() - began)
            errors = [one.fields["C"] for one in heard if one.tag == "E"]
            self.refused.update(errors)
            if not errors:
                assert [one.cells[0] for one in heard if one.tag == "D"] == [str(number).encode()]
                self.answers += 1


@asynccontextmanager
async def load(where: Place, clients: int = CLIENTS, sql: str = Load.sql) -> AsyncIterator[Load]:
    made = Load(where, sql)
    tasks = [asyncio.ensure_future(made.client(number)) for number in range(clients)]
    try:
        yield made
    finally:
        for task in tasks:
            task.cancel()
        ends = await asyncio.gather(*tasks, return_exceptions=True)
    bad = [end for end in ends if not isinstance(end, asyncio.CancelledError)]
    assert not bad, bad


@dataclass
class House:
    """A database of its own, settings that lead there, and who looks at it."""

    url: str
    settings: Settings
    folder: Path
    provisioned: Provisioned
    watch: Backends

    def place(self, one: Fleet) -> Place:
        return one.place(self.provisioned.owner_on("law"))


@pytest.fixture
async def house(
    provisioned: Provisioned, fresh_database: FreshDatabase, tmp_path: Path
) -> AsyncIterator[House]:
    url = await fresh_database("workers")
    settings = moved(provisioned.settings, "LAW", url)
    with backends(url) as watch:
        yield House(url, settings, tmp_path, provisioned, watch)


def options(maximum: int = MAX, workers: int = 2) -> dict[str, Any]:
    return {**_QUIET, "workers": workers, "pool": {"max": maximum}}


async def test_the_bound_holds_over_two_workers(house: House) -> None:
    async with fleet(house.settings, house.folder, options()) as one:
        async with load(house.place(one)) as clients:
            await until(lambda: clients.answers > 3000, 60)
        assert house.watch.most == MAX
        assert not clients.refused
        assert not clients.lost
        print(f"{house.watch.samples} samples, most {house.watch.most};", clients)


async def test_all_clients_on_one_worker_get_all_permits(house: House) -> None:
    async with fleet(house.settings, house.folder, options()) as one:
        wires: list[Wire] = []
        while len(wires) < MAX:
            wire = await Wire.logged_in(house.place(one))
            if worker_of(wire.pid) == 1:
                wires.append(wire)
            else:
                await wire.close()
        began = time.monotonic()
        await asyncio.gather(*(wire.query("SELECT pg_sleep(1)") for wire in wires))
        took_s = time.monotonic() - began
        assert took_s < 1.9, "all five at once, but for what the other worker gives up as idle"
        assert house.watch.most == MAX
        # Now the other worker wants its share, while the first would use all.
        async with load(house.place(one), 40) as clients:
            await until(lambda: clients.answers > 500, 30)
        assert not clients.refused
        assert house.watch.most == MAX
        for wire in wires:
            await wire.close()


async def test_a_killed_worker_takes_its_own_clients_only(house: House) -> None:
    async with fleet(house.settings, house.folder, options()) as one:
        async with load(house.place(one), sql="SELECT {number}, pg_sleep(0.05)") as clients:
            await until(lambda: clients.answers > 100, 30)
            times = []
            for number in (1, 2):
                before = Counter(clients.lost)
                began = time.monotonic()
                one.kill_worker(number)
                await one.logged(f"worker {number} is ready")
                times.append(time.monotonic() - began)
                await asyncio.sleep(1.0)
                assert set(clients.lost - before) == {number}
                target = clients.answers + 100
                await until(partial(clients.answered, target), 30)
        print(f"replaced in {times} s; {house.watch.samples} samples;", clients)
        assert house.watch.most == MAX
        assert max(times) < REPLACED_S
        assert not clients.refused


async def test_statements_that_outlive_their_worker_count_until_they_have_ended(
    house: House,
) -> None:
    """PostgreSQL does not notice that the client of a running statement has gone."""
    async with fleet(house.settings, house.folder, options()) as one:
        wires = [await Wire.logged_in(house.place(one)) for _ in range(30)]
        of_one = [wire for wire in wires if worker_of(wire.pid) == 1]
        for wire in of_one:
            wire.send(messages.query("SELECT pg_sleep(30)"))
        await asyncio.sleep(0.5)
        one.kill_worker(1)
        async with load(house.place(one), 30) as clients:
            began = time.monotonic()
            await until(lambda: clients.answers > 300, 30)
        assert house.watch.most == MAX
        assert time.monotonic() - began < 20, "they were cancelled"
        for wire in wires:
            await wire.close()


async def test_without_its_supervisor_the_gateway_serves_on_and_a_new_one_takes_over(
    house: House,
) -> None:
    async with fleet(house.settings, house.folder, options()) as one:
        async with load(house.place(one)) as clients:
            await until(lambda: clients.answers > 300, 30)
            workers = one.workers()
            one.signal(signal.SIGKILL)
            await one.ended()
            answers = clients.answers
            await until(lambda: clients.answers > answers + 300, 30)
            began = time.monotonic()
            await one.start()
            took_s = time.monotonic() - began
            assert one.workers() == workers, "adopted, not replaced"
            answers = clients.answers
            await until(lambda: clients.answers > answers + 300, 30)
            one.write({"pool": {"max": 2}})
            one.signal(signal.SIGHUP)
            await one.logged("reloaded: pool.max")
            one.kill_worker(1)
            await one.logged("worker 1 is ready")
            await asyncio.sleep(1.0)
            house.watch.most = 0
            answers = clients.answers
            await until(lambda: clients.answers > answers + 300, 30)
            assert house.watch.most == 2
        assert set(clients.lost) == {1}, "only those of the killed worker"
        assert not clients.refused
        print(f"a new supervisor was ready in {took_s:.2f} s; {house.watch.samples} samples")


async def test_a_lowered_bound_is_met_under_load(house: House) -> None:
    async with fleet(house.settings, house.folder, options()) as one:
        async with load(house.place(one)) as clients:
            await until(lambda: clients.answers > 300, 30)
            one.write({"pool": {"max": 2}})
            one.signal(signal.SIGHUP)
            await one.logged("reloaded: pool.max")
            await asyncio.sleep(0.5)
            assert house.watch.most == MAX
            house.watch.most = 0
            answers = clients.answers
            await until(lambda: clients.answers > answers + 300, 30)
            assert house.watch.most == 2
            one.write({"pool": {"max": 4}})
            one.signal(signal.SIGHUP)
            await one.logged("reloaded: pool.max")
            await until(lambda: house.watch.most == 4, 30)
        assert not clients.refused
        assert not clients.lost


async def test_fewer_permits_than_workers_go_round(house: House) -> None:
    async with fleet(house.settings, house.folder, options(maximum=1, workers=3)) as one:
        async with load(house.place(one), 30) as clients:
            await until(lambda: clients.answers > 500, 60)
        assert house.watch.most == 1
        assert not clients.refused
        assert clients.longest_s < 5
        print(clients)


async def test_sigterm_drains_all_workers(house: House) -> None:
    async with fleet(house.settings, house.folder, options()) as one:
        wires = [await Wire.logged_in(house.place(one)) for _ in range(8)]
        busy, *idle = wires
        await busy.query("BEGIN")
        one.signal(signal.SIGTERM)
        for wire in idle:
            assert (await wire.until("E"))[-1].fields["C"] == "57P01"
        assert (await busy.query("SELECT 1"))[-1].tag == "Z"
        busy.send(messages.query("COMMIT"))
        assert (await busy.until("E"))[-1].fields["C"] == "57P01"
        assert await one.ended() == 0
        assert not one.workers()
        for wire in wires:
            await wire.close()


async def test_a_worker_that_dies_again_and_again_is_started_ever_more_slowly(
    house: House,
) -> None:
    async with fleet(house.settings, house.folder, options()) as one:
        other = one.workers()[2]
        times = []
        for _ in range(4):
            began = time.monotonic()
            one.kill_worker(1)
            await one.logged("worker 1 is ready")
            times.append(time.monotonic() - began)
        print(times)
        assert times[3] >= 0.8, "a pause of 0, 0.2, 0.4, 0.8 s"
        assert one.workers()[2] == other
        assert other.alive


async def test_a_worker_that_is_told_to_end_drains_and_is_replaced(house: House) -> None:
    async with fleet(house.settings, house.folder, options()) as one:
        wires = [await Wire.logged_in(house.place(one)) for _ in range(12)]
        mine = [wire for wire in wires if worker_of(wire.pid) == 1]
        others = [wire for wire in wires if worker_of(wire.pid) == 2]
        await mine[0].query("BEGIN")
        one.workers()[1].send(signal.SIGTERM)
        for wire in mine[1:]:
            assert (await wire.until("E"))[-1].fields["C"] == "57P01"
        assert await mine[0].value("SELECT 'still here'") == "still here"
        await mine[0].query("COMMIT")
        await one.logged("worker 1 is ready")
        for wire in others:
            assert await wire.value("SELECT 'unmoved'") == "unmoved"
        for wire in wires:
            wire.rst()


async def test_a_worker_that_hangs_is_replaced(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The supervisor runs here, so that its patience can be made short."""
    monkeypatch.setattr("gateway.supervisor.supervisor._WATCH_S", 0.5)
    monkeypatch.setattr("gateway.supervisor.supervisor._HUNG_S", 3.0)
    settings = with_overrides(house.settings, options())
    meeting = Meeting(house.folder / "run")
    supervisor = Supervisor(settings, lambda: settings, meeting)
    await supervisor.start()
    try:
        hung, other = meeting.noted()[1], meeting.noted()[2]
        hung.send(signal.SIGSTOP)
        await until(lambda: not hung.alive, 30)
        await until(lambda: 1 in meeting.noted() and meeting.noted()[1] != hung, 30)
        assert other.alive
        assert meeting.noted()[2] == other
    finally:
        await supervisor.stop()
    assert not other.alive


async def test_the_bound_holds_while_workers_and_supervisors_die_at_random(house: House) -> None:
    dice = random.Random(5)
    sql = "SELECT {number}, pg_sleep(random() * 0.1)"
    async with fleet(house.settings, house.folder, options(workers=3)) as one:
        async with load(house.place(one), sql=sql) as clients:
            for kill in range(10):
                await until(partial(clients.answered, clients.answers + 20), 30)
                one.workers()[dice.choice(list(one.workers()))].send(signal.SIGKILL)
                await asyncio.sleep(dice.random())
                if kill % 4 == 3:
                    one.signal(signal.SIGKILL)
                    await one.ended()
                    await asyncio.sleep(dice.random())
                    await one.start()
            await until(partial(clients.answered, clients.answers + 100), 30)
        print(f"{house.watch.samples} samples, most {house.watch.most};", clients)
        assert house.watch.most == MAX
        assert not clients.refused
