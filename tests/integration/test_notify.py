"""Notifications beside PostgreSQL: when they arrive, and whose they are said to be."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from gateway.pool.listening import read_notification
from gateway.protocol import messages
from gateway.worker import Worker
from tests.conftest import Provisioned
from tests.running import changed, place, rest, running
from tests.wire import Message, Place, Wire, bind, execute, parse_

SHARD = "technology"
OWN = [
    "NOTIFY news, 'one'",
    "SELECT pg_notify('news', 'two')",
    "BEGIN; NOTIFY news, 'three'; NOTIFY news, 'four'; COMMIT",
    "BEGIN; NOTIFY news, 'never'; ROLLBACK",
    "DO $$ BEGIN PERFORM pg_notify('news', 'from a function'); END $$",
    "SET work_mem = '5MB'; NOTIFY news, 'behind a setting'",
    "SELECT 1",
    "BEGIN",
    "NOTIFY news, 'at commit'",
    "SELECT 1",
    "COMMIT",
]


@pytest.fixture(scope="module")
async def gateway(provisioned: Provisioned) -> AsyncIterator[Worker]:
    """Two server connections: the shared listener's, and one that all others take in turn."""
    async with running(changed(provisioned.settings, pool={"max": 2})) as worker:
        yield worker
        await rest(worker)


@pytest.fixture
def places(provisioned: Provisioned, gateway: Worker) -> list[Place]:
    """PostgreSQL itself, then the gateway."""
    return [
        Place.of(provisioned.url(SHARD)),
        place(gateway, provisioned.owner_on(SHARD)),
    ]


@asynccontextmanager
async def wires(where: Place, number: int) -> AsyncIterator[list[Wire]]:
    opened = [await Wire.logged_in(where) for _ in range(number)]
    try:
        yield opened
    finally:
        for wire in opened:
            await wire.close()


def told(heard: list[Message], wires: list[Wire]) -> list[object]:
    """Tags, and of notifications all, their sender as its place among ``wires``."""
    pids = [wire.pid for wire in wires]
    found: list[object] = []
    for one in heard:
        if one.tag == "A":
            pid, channel, payload = read_notification(one.body)
            found.append((pids.index(pid), channel, payload))
        elif one.tag != "N":
            found.append(one.tag)
    return found


async def test_own_notifications_come_before_ready(places: list[Place]) -> None:
    outcomes = []
    for where in places:
        async with wires(where, 1) as (one,):
            await one.query("LISTEN news")
            outcome = [told(await one.query(sql), [one]) for sql in OWN]
            one.send(
                parse_("", "SELECT pg_notify('news', 'extended')"),
                bind(""),
                execute(),
                messages.SYNC,
            )
            outcome.append(told(await one.until("Z"), [one]))
            await one.query("UNLISTEN *")
            outcome.append(told(await one.query("NOTIFY news"), [one]))
            outcomes.append(outcome)
    assert outcomes[1] == outcomes[0]
    assert (0, b"news", b"one") in outcomes[0][0]


async def test_what_others_sent_before_comes_with_the_next_answer(places: list[Place]) -> None:
    """The habit of polling with SELECT 1; each is told the sender's own process id."""
    for where in places:
        async with wires(where, 4) as opened:
            listener, *senders = opened
            await listener.query("LISTEN news")
            for turn in range(20):
                for sender in senders:
                    await sender.query(f"NOTIFY news, 'turn {turn}'")
                heard = told(await listener.query("SELECT 1"), opened)
                sent = [(number, b"news", b"turn %d" % turn) for number in (1, 2, 3)]
                assert [one for one in heard if isinstance(one, tuple)] == sent


async def test_two_that_listen_and_notify_at_once_know_their_own(places: list[Place]) -> None:
    for where in places:
        async with wires(where, 3) as opened:
            for one in opened:
                await one.query("LISTEN news")
            for turn in range(20):
                for number, one in enumerate(opened):
                    one.send(messages.query(f"NOTIFY news, '{number} {turn}'"))
                for number, one in enumerate(opened):
                    own = (number, b"news", b"%d %d" % (number, turn))
                    assert own in told(await one.until("Z"), opened)
            said = {
                (sender, payload)
                for one in opened
                for sender, _, payload in (
                    entry for entry in told(one.seen, opened) if isinstance(entry, tuple)
                )
            }
            assert said == {(n, b"%d %d" % (n, turn)) for n in range(3) for turn in range(20)}


async def test_who_leaves_right_behind_a_notify_is_still_its_sender(places: list[Place]) -> None:
    for where in places:
        async with wires(where, 1) as (one,):
            await one.query("LISTEN news")
            for number in range(20):
                other = await Wire.logged_in(where)
                other.send(messages.query(f"NOTIFY news, '{number}'"), messages.TERMINATE)
                heard = await one.until("A")
                assert read_notification(heard[-1].body) == (
                    other.pid,
                    b"news",
                    str(number).encode(),
                )
                other.rst()
