"""Two gateways side by side on one meta database: what one must hear of the other."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from statistics import median

import asyncpg
import pytest

from gateway.demo.seed import SeedLogin
from gateway.directory import cancels
from gateway.protocol import messages
from gateway.protocol.startup import PROTOCOL_3_0, PROTOCOL_3_2
from gateway.worker import Worker
from tests.conftest import Provisioned
from tests.running import eventually, place, rest, running
from tests.wire import Wire, send_cancel

HEARD_S = 1.0
"""News must have arrived everywhere in this time after the commit; it takes some milliseconds."""

SLEEP = messages.query("SELECT pg_sleep(30)")


@dataclass(frozen=True, slots=True)
class Pair:
    """Both gateways; clients log in to the first, and what goes astray reaches the second."""

    first: Worker
    second: Worker
    provisioned: Provisioned
    meta: asyncpg.Connection[asyncpg.Record]

    @property
    def both(self) -> tuple[Worker, Worker]:
        return self.first, self.second

    @property
    def login(self) -> SeedLogin:
        return self.provisioned.owner_on("law")

    async def client(self, version: int = PROTOCOL_3_0) -> Wire:
        return await Wire.logged_in(place(self.first, self.login), version=version)

    async def cancel_at_the_second(self, number: int, secret: bytes) -> None:
        await send_cancel(*self.second.address, number, secret)


@pytest.fixture
async def pair(provisioned: Provisioned) -> AsyncIterator[Pair]:
    async with AsyncExitStack() as stack:
        workers = [await stack.enter_async_context(running(provisioned.settings)) for _ in range(2)]
        for worker in workers:
            await eventually(partial(listens, worker))
        meta = await asyncpg.connect(provisioned.url("meta"))
        stack.push_async_callback(meta.close)
        yield Pair(workers[0], workers[1], provisioned, meta)


def listens(worker: Worker) -> bool:
    return worker.context.directory.connected


async def heard_by_all(ask: Callable[[Worker], Awaitable[bool]], pair: Pair, began: float) -> float:
    """Milliseconds after ``began`` until every gateway answers True."""
    for worker in pair.both:
        while not await ask(worker):
            assert time.monotonic() - began < HEARD_S
            await asyncio.sleep(0.001)
    return (time.monotonic() - began) * 1000


async def test_changes_of_logins_owners_and_placements_reach_both(pair: Pair) -> None:
    name, owner_id = pair.login.user, str(pair.login.owner)
    times_ms: dict[str, list[float]] = {"login": [], "owner": [], "placement": []}

    async def disabled(expected: bool, worker: Worker) -> bool:
        login = await worker.context.directory.login(name)
        return login is not None and login.disabled is expected

    async def industry(expected: str, worker: Worker) -> bool:
        owner = await worker.context.directory.owner(owner_id)
        return owner is not None and owner.industry == expected

    async def shard(expected: str | None, worker: Worker) -> bool:
        owner = await worker.context.directory.owner(owner_id)
        return owner is not None and owner.shard == expected

    async def change(what: str, sql: str, ask: Callable[[Worker], Awaitable[bool]]) -> None:
        await pair.meta.execute(sql)
        times_ms[what].append(await heard_by_all(ask, pair, time.monotonic()))

    for worker in pair.both:
        await worker.context.directory.login(name)
        await worker.context.directory.owner(owner_id)
    for _ in range(5):
        for state in (True, False):
            await change(
                "login",
                f"UPDATE gateway.login SET disabled = {state} WHERE name = '{name}'",
                partial(disabled, state),
            )
        for line in ("MEDICAL", "LAW"):
            await change(
                "owner",
                f"UPDATE \"User\" SET industry = '{line}' WHERE id = {owner_id}",
                partial(industry, line),
            )
        await change(
            "placement",
            f"INSERT INTO gateway.placement (owner_id, shard) VALUES ('{owner_id}', 'law')",
            partial(shard, "law"),
        )
        await change(
            "placement",
            f"DELETE FROM gateway.placement WHERE owner_id = '{owner_id}'",
            partial(shard, None),
        )
    for what, times in times_ms.items():
        print(f"{what}: median {median(times):.1f} ms, most {max(times):.1f} ms at both gateways")


@pytest.mark.parametrize("version", [PROTOCOL_3_0, PROTOCOL_3_2], ids=["3.0", "3.2"])
async def test_trap_a_cancel_at_the_wrong_gateway_finds_its_client(
    pair: Pair, version: int
) -> None:
    wire = await pair.client(version)
    bystander = await Wire.logged_in(place(pair.second, pair.login), version=version)
    assert bystander.pid == wire.pid, "numbers may be alike: the secret tells them apart"
    bystander.send(messages.query("SELECT pg_sleep(0.5)"))
    times = []
    for _ in range(5):
        wire.send(SLEEP)
        await asyncio.sleep(0.05)
        began = time.monotonic()
        await pair.cancel_at_the_second(wire.pid, wire.secret)
        took_s = time.monotonic() - began
        assert [one.fields["C"] for one in await wire.until("Z") if one.tag == "E"] == ["57014"]
        assert took_s < cancels.ANSWER_S, "it ended when the cancel was over, not by the clock"
        times.append(took_s * 1000)
    assert [one.tag for one in await bystander.until("Z")] == ["T", "D", "C", "Z"]
    assert pair.second.context.counters.cancels_unknown == 0
    print(f"cancelled at the other gateway in {median(times):.1f} ms")
    for one, worker in ((wire, pair.first), (bystander, pair.second)):
        await one.close()
        await rest(worker)


async def test_trap_a_flood_of_wrong_keys_is_bounded_and_right_keys_get_through(
    pair: Pair,
) -> None:
    wire = await pair.client()
    wire.send(SLEEP)
    relay = pair.second.context.directory.cancels
    began, floods = time.monotonic(), 150
    flood = [
        asyncio.create_task(pair.cancel_at_the_second(wire.pid, number.to_bytes(4, "big")))
        for number in range(floods)
    ]
    await pair.cancel_at_the_second(wire.pid, wire.secret)
    assert [one.fields["C"] for one in await wire.until("Z") if one.tag == "E"] == ["57014"]
    await asyncio.gather(*flood)
    took_s = time.monotonic() - began
    assert relay.sent <= took_s / cancels.PAUSE_S + 1
    print(f"{floods} wrong keys: {relay.sent} notifications in {took_s:.2f} s")
    assert pair.second.context.counters.cancels_unknown == floods
    assert await wire.value("SELECT 'goes on'") == "goes on"
    await wire.close()


async def test_what_is_said_of_a_key_cannot_be_read_or_said_again(pair: Pair) -> None:
    """Anybody who may connect to the meta database hears it, and may repeat it."""
    heard: list[str] = []
    spy = await asyncpg.connect(pair.provisioned.url("meta"))
    await spy.add_listener(cancels.CHANNEL, lambda *said: heard.append(str(said[3])))
    wire = await pair.client()
    wire.send(SLEEP)
    await asyncio.sleep(0.05)
    await pair.cancel_at_the_second(wire.pid, wire.secret)
    await wire.until("Z")
    await eventually(lambda: len(heard) == 2)
    assert not any(wire.secret.hex() in one or str(wire.pid) in one for one in heard)
    wire.send(messages.query("SELECT pg_sleep(0.5)"))
    for payload in (*heard, "rubbish", "", "é", heard[0][:-1] + "!"):
        await spy.execute("SELECT pg_notify($1, $2)", cancels.CHANNEL, payload)
    assert [one.tag for one in await wire.until("Z")] == ["T", "D", "C", "Z"]
    await spy.close()
    await wire.close()
