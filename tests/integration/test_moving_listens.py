"""A client that listens moves from one gateway's process to another: both are here, in one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import pytest

from gateway.pool.listening import read_notification
from gateway.session.listens_moving import Arriving, Refused
from gateway.session.moving import Leaving, unpack
from gateway.worker import Worker
from tests.conftest import Provisioned
from tests.running import eventually, past_the_gateway, place, rest, running
from tests.wire import Wire

SHARD = "technology"


class Direct:
    """What a predecessor asks of its successor, without a socket between them."""

    def __init__(self, arriving: Arriving) -> None:
        self._kinds = {"listener": arriving.listener, "line": arriving.line}
        self.refuses_lines = False

    async def give(self, told: Mapping[str, Any]) -> None:
        if self.refuses_lines and told["what"] == "line":
            raise Refused("not this time")
        await self._kinds[told["what"]](told)


@dataclass
class Move:
    """Two processes of a gateway, and one client on its way from one to the other."""

    one: Worker
    other: Worker
    arriving: Arriving
    direct: Direct
    leaving: Leaving
    wire: Wire
    url: str

    async def said(self, payload: str) -> None:
        await past_the_gateway(self.url, f"NOTIFY news, '{payload}'")

    async def look(self) -> None:
        """As the predecessor does, until a client leaves."""

        def left() -> bool:
            self.leaving.look()
            return not self.leaving.ready.empty()

        await eventually(left)

    async def heard(self) -> list[bytes]:
        """All that the client was told so far."""
        await self.wire.query("SELECT 1")
        return [read_notification(one.body)[2] for one in self.wire.seen if one.tag == "A"]

    @property
    def notices(self) -> list[str]:
        return [one.fields["M"] for one in self.wire.seen if one.tag == "N"]


@pytest.fixture
async def move(provisioned: Provisioned) -> AsyncIterator[Move]:
    async with AsyncExitStack() as stack:
        one = await stack.enter_async_context(running(provisioned.settings))
        other = await stack.enter_async_context(running(provisioned.settings))
        wire = await Wire.logged_in(place(one, provisioned.owner_on(SHARD)))
        await wire.query("LISTEN news")
        arriving = Arriving(other.context)
        direct = Direct(arriving)
        leaving = Leaving(one.context, direct)
        url = provisioned.url(SHARD)
        yield Move(one, other, arriving, direct, leaving, wire, url)
        await wire.close()
        arriving.close()
        await rest(one)
        await rest(other)


async def test_what_is_said_on_the_way_is_heard_there_once_and_in_order(move: Move) -> None:
    await move.said("before")
    await move.look()
    await move.said("on the way")
    told, sock = move.leaving.ready.get_nowait()
    await move.said("still on the way")
    await unpack(move.other.context, told, sock, move.arriving)
    await move.said("there")
    expected = [b"before", b"on the way", b"still on the way", b"there"]
    assert await move.heard() == expected
    assert not move.notices
    assert len(move.other.context.registry) == 1
    await move.wire.query("UNLISTEN news")
    await move.said("for nobody")
    assert await move.heard() == expected


async def test_without_a_line_it_stays_and_hears_everything(move: Move) -> None:
    move.direct.refuses_lines = True
    move.leaving.look()
    await asyncio.sleep(0.05)
    for number in range(20):
        move.leaving.look()
        await move.said(str(number))
    assert len(move.one.context.registry) == 1
    move.direct.refuses_lines = False
    await move.look()
    told, sock = move.leaving.ready.get_nowait()
    await unpack(move.other.context, told, sock, move.arriving)
    assert await move.heard() == [b"%d" % number for number in range(20)]
    assert not move.notices


async def test_who_comes_back_is_told_of_the_gap(move: Move) -> None:
    await move.look()
    told, sock = move.leaving.ready.get_nowait()
    await unpack(move.one.context, told, sock)
    await move.wire.until("N")
    await move.said("afterwards")
    assert await move.heard() == [b"afterwards"]
    assert ["missing" in one for one in move.notices] == [True]
