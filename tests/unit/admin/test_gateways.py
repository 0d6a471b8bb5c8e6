"""One worker's part in orders for all gateways, with a notice board that a test writes on."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

import pytest

from gateway.admin.gateways import Gateways
from gateway.directory.board import Board, Order, Seen, Signature
from gateway.directory.meta import NotProvisioned
from gateway.errors import DirectoryUnavailable
from gateway.session.context import Context
from gateway.session.standing import Deed, Instruction, Kind, Scope
from tests.unit.admin.samples import NOW, make_context

LAW = Scope(Kind.SHARD, "law")


class FakeBoard(Board):
    """What stands there, what was asked of it, and how it fails."""

    def __init__(self) -> None:
        self.orders: list[Order] = []
        self.shown: list[tuple[int, dict[int, Sequence[str]]]] = []
        self.workers_seen: list[Seen] = []
        self.error: DirectoryUnavailable | None = None

    def put(self, number: int, deed: Deed, scope: Scope = LAW, left_s: float | None = 60) -> None:
        self.orders.append(Order(number, deed, scope.kind, scope.name, left_s, "web-2:6432"))

    async def exchange(
        self, me: Signature, heard: int, told: Mapping[int, Sequence[str]]
    ) -> list[Order]:
        self._fail()
        self.shown.append((heard, dict(told)))
        return list(self.orders)

    async def give(self, order: Order, ends: str | None, *, all_of_them: bool = False) -> int:
        self._fail()
        self.orders = [one for one in self.orders if one.deed != ends]
        number = 100 + len(self.orders)
        self.put(number, Deed(order.deed), Scope(Kind(order.kind), order.name), order.left_s)
        return number

    async def workers(self) -> list[Seen]:
        return self.workers_seen

    async def leave(self, me: Signature) -> None:
        self._fail()

    def _fail(self) -> None:
        if self.error is not None:
            raise self.error


async def begun(board: FakeBoard, context: Context | None = None) -> tuple[Gateways, Context]:
    """One that has read the board once; it reads again on `ready` until it is known."""
    context = context or make_context()
    gateways = Gateways(context, board)
    await gateways.start("web-1:6432")
    return gateways, context


async def rung(gateways: Gateways, board: FakeBoard) -> None:
    """Ring, and wait until the board has been read."""
    before = len(board.shown)
    gateways.ring()
    while len(board.shown) == before:  # noqa: ASYNC110 - a fake has nothing to wait for
        await asyncio.sleep(0.001)
    await asyncio.sleep(0.001)


async def test_who_comes_follows_what_stands_and_leaves_alone_what_is_over() -> None:
    board, passed_on = FakeBoard(), list[list[Instruction]]()
    board.put(3, Deed.PAUSE)
    board.put(4, Deed.KILL)
    board.put(5, Deed.RESUME, Scope(Kind.INDUSTRY, "LAW"))
    context = make_context()
    gateways = Gateways(context, board, passed_on.append)
    await gateways.start("web-1:6432")
    pause = Instruction(Deed.PAUSE, LAW, NOW + 60, "web-2:6432", 3)
    assert context.pauses.orders() == [pause] == passed_on[-1]
    assert board.shown[-1] == (5, {}), "heard of all, and nothing to tell"
    board.orders = []
    await rung(gateways, board)
    assert not context.pauses.orders()
    assert passed_on[-1] == []
    await gateways.close()


async def test_what_was_ended_here_is_not_taken_up_again_and_its_end_is_told_later() -> None:
    board = FakeBoard()
    board.put(3, Deed.PAUSE)
    gateways, context = await begun(board)
    board.error = DirectoryUnavailable("down")
    resume = Instruction(Deed.RESUME, LAW)
    with pytest.raises(DirectoryUnavailable):
        await gateways.give(resume)
    context.pauses.standing.apply(resume)
    with pytest.raises(DirectoryUnavailable):
        await gateways.give(Instruction(Deed.DRAIN, Scope(Kind.ENDPOINT, "law-replica-1")))
    board.error = None
    await rung(gateways, board)
    assert [one.deed for one in board.orders] == ["resume"], "and no drain out of the blue"
    assert not context.pauses.orders()
    await gateways.close()


async def test_a_pause_given_again_takes_back_the_end_that_nobody_heard_of() -> None:
    board = FakeBoard()
    gateways, _ = await begun(board)
    board.error = DirectoryUnavailable("down")
    for instruction in (Instruction(Deed.RESUME, LAW), Instruction(Deed.PAUSE, LAW, NOW + 9)):
        with pytest.raises(DirectoryUnavailable):
            await gateways.give(instruction)
    board.error = None
    await rung(gateways, board)
    assert board.orders == []
    await gateways.close()


async def test_nobody_is_let_in_before_it_is_known_what_stands() -> None:
    board = FakeBoard()
    board.error = DirectoryUnavailable("down")
    gateways, context = await begun(board)
    with pytest.raises(DirectoryUnavailable):
        await gateways.ready()
    board.error = None
    board.put(1, Deed.PAUSE)
    await gateways.ready()
    assert context.pauses.standing.pauses == {LAW: NOW + 60}
    board.error = DirectoryUnavailable("down again")
    await gateways.ready()
    await gateways.close()


async def test_without_the_tables_orders_stay_at_home(caplog: pytest.LogCaptureFixture) -> None:
    board = FakeBoard()
    board.error = NotProvisioned("no such table")
    gateways, _ = await begun(board)
    await gateways.ready()
    assert "stay within this gateway" in caplog.text
    with pytest.raises(NotProvisioned):
        await gateways.give(Instruction(Deed.PAUSE, LAW, NOW + 9))
    await gateways.close()


async def test_who_has_a_successor_is_not_waited_for() -> None:
    board = FakeBoard()
    gateways, _ = await begun(board)

    def seen(name: str, number: int, silent_s: float) -> Seen:
        return Seen(Signature(f"{name} {silent_s}", name, number, 1), 0, {}, silent_s)

    dead, alive = seen("web-2:6432", 1, 40.0), seen("web-2:6432", 1, 0.5)
    gone = seen("web-2:6432", 2, 40.0)
    board.workers_seen = [dead, alive, gone]
    assert await gateways.others() == [alive, gone]
    await gateways.close()


async def test_an_end_that_can_not_be_written_down_does_not_stand_in_the_way() -> None:
    class Picky(FakeBoard):
        async def give(self, order: Order, ends: str | None, *, all_of_them: bool = False) -> int:
            raise DirectoryUnavailable("no such letter")

    board = Picky()
    gateways, context = await begun(board)
    with pytest.raises(DirectoryUnavailable):
        await gateways.give(Instruction(Deed.RESUME, Scope(Kind.OWNER, "Жанна")))
    board.put(1, Deed.PAUSE)
    for _ in range(2):
        await rung(gateways, board)
    assert LAW in context.pauses.standing.pauses
    await gateways.close()
