"""All gateways on the same meta database, as one worker sees them: orders given, followed, awaited.

Each worker reads the notice board (gateway/directory/board.py) when the bell rings and every few
seconds, does what is new there, and shows how far it has come; whoever gave an order looks who has
not. Why so: docs/decisions/0012-orders.md.
"""

from __future__ import annotations

import asyncio
import logging
import os
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress

from gateway.admin import operations
from gateway.directory.board import PASSING_S, Board, Order, Seen, Signature
from gateway.directory.meta import NotProvisioned
from gateway.errors import DirectoryUnavailable
from gateway.session.context import Context
from gateway.session.standing import ENDS, Deed, Instruction, Kind, Scope, ends_all

_log = logging.getLogger(__name__)

BEAT_S = 2.0
"""A worker shows itself, and reads, at least so often."""
_TELL_S = 1.0
"""The same while a pause waits for something that runs here."""
_LOOK_S = 0.05
_BETWEEN_S = 0.02
"""Between two readings, however often the bell is rung."""
_NO_BOARD_S = 60.0
"""Between two attempts where the tables are missing."""
_LEAVE_S = 1.0
_LINES_MAX = 20
_UNSENT_MAX = 100

_AT_ONCE = frozenset({Deed.RECONNECT, Deed.KILL})
"""What means nothing to who was not there when it was ordered."""


class Gateways:
    """One worker's part. ``pass_on`` tells our gateway's supervisor what stands on the board."""

    def __init__(
        self,
        context: Context,
        board: Board,
        pass_on: Callable[[list[Instruction]], None] = lambda standing: None,
    ) -> None:
        self._context = context
        self._board = board
        self._pass_on = pass_on
        self._me = Signature(uuid.uuid4().hex, "", context.registry.worker, os.getpid())
        self._told: dict[int, list[str]] = {}
        self._waited_for: dict[int, Scope] = {}
        """Pauses under which something ran here when last looked, by number."""
        self._unsent: list[Instruction] = []
        """Ends of orders that the others could not be told of yet."""
        self._wake = asyncio.Event()
        self._one_at_a_time = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None
        self._no_board = False

    @property
    def name(self) -> str:
        """Our gateway's, as others are shown it."""
        return self._me.gateway

    # --- life ---

    async def start(self, name: str) -> None:
        """Learn what is ordered, and follow; a meta database that is down is awaited."""
        me = self._me
        self._me = Signature(me.id, name, me.number, me.process)
        with suppress(DirectoryUnavailable):
            await self._exchange()
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def close(self) -> None:
        """Serve nobody any more."""
        task, self._task = self._task, None
        if task is None:
            return
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        with suppress(DirectoryUnavailable, TimeoutError):
            async with asyncio.timeout(_LEAVE_S):
                await self._board.leave(self._me)

    def ring(self) -> None:
        """There may be something new."""
        self._wake.set()

    async def ready(self) -> None:
        """Returns once it is known what is ordered. Raises DirectoryUnavailable."""
        if not self._context.pauses.known:
            await self._exchange()

    # --- for the console ---

    async def give(self, instruction: Instruction) -> Instruction:
        """Write an order down for all gateways; the same with its number.

        Raises DirectoryUnavailable; then an order that ends another one is told to the others as
        soon as that can be done.
        """
        try:
            async with self._one_at_a_time:
                await self._send_late()
                return await self._write(instruction)
        except DirectoryUnavailable:
            self._send_later(instruction)
            raise

    async def others(self) -> list[Seen]:
        """Every worker of every gateway but us, and those whose place another one has taken.

        Raises DirectoryUnavailable.
        """
        everybody = await self._board.workers()
        taken = {one.who.place for one in everybody if not one.silent}
        return [
            one
            for one in everybody
            if one.who.id != self._me.id and not (one.silent and one.who.place in taken)
        ]

    async def everybody(self) -> list[Seen]:
        """Every worker of every gateway. Raises DirectoryUnavailable."""
        return await self._board.workers()

    async def forget(self, gateway: str) -> int:
        """Wait no more for a gateway that has gone; how many workers it had.

        Raises DirectoryUnavailable.
        """
        return await self._board.forget(gateway)

    # --- following ---

    async def _run(self) -> None:
        while True:
            await self._until_there_is_something()
            try:
                await self._exchange()
            except DirectoryUnavailable:
                pass  # it is logged, and tried again
            except Exception:
                _log.exception("orders for all gateways could not be followed")
            await asyncio.sleep(_BETWEEN_S)

    async def _until_there_is_something(self) -> None:
        """The bell, the end of what a pause waits for here, or the time to show ourselves."""
        loop = asyncio.get_running_loop()
        beat_s = _TELL_S if self._waited_for else BEAT_S
        until = loop.time() + (_NO_BOARD_S if self._no_board else beat_s)
        while not self._wake.is_set() and not self._look() and (left_s := until - loop.time()) > 0:
            with suppress(TimeoutError):
                async with asyncio.timeout(min(left_s, _LOOK_S if self._waited_for else left_s)):
                    await self._wake.wait()
        self._wake.clear()

    def _look(self) -> bool:
        """See what still runs here under pauses; whether one need not be waited for any more."""
        before = len(self._waited_for)
        for number, scope in list(self._waited_for.items()):
            lines = operations.still_running(self._context, scope)
            if lines and scope in self._context.pauses.standing.pauses:
                self._told[number] = lines[:_LINES_MAX]
            else:
                del self._waited_for[number]
                self._told.pop(number, None)
        return len(self._waited_for) < before

    async def _exchange(self) -> None:
        """Show how far we are and read, until there is nothing new. Raises DirectoryUnavailable."""
        pauses = self._context.pauses
        async with self._one_at_a_time:
            try:
                while True:
                    self._look()
                    posted = await self._board.exchange(self._me, pauses.heard, self._told)
                    if not self._follow(posted):
                        break
            except NotProvisioned as error:
                self._without_a_board(error)
            else:
                self._no_board = False
                await self._send_late_or_never()
            pauses.known = True

    def _without_a_board(self, error: NotProvisioned) -> None:
        if not self._no_board:
            self._no_board = True
            _log.warning("orders of operators stay within this gateway: %s", error.__cause__)

    def _follow(self, posted: Sequence[Order]) -> bool:
        """Do what is new on the board; whether the others should hear that it is done."""
        context, pauses = self._context, self._context.pauses
        new = [one for one in map(self._read, posted) if one.number > pauses.heard]
        for one in new:
            self._carry_out(one)
        numbers = {one.number for one in posted}
        ended = operations.keep(context, numbers)
        self._told = {number: lines for number, lines in self._told.items() if number in numbers}
        pauses.heard_all(max(numbers, default=0))
        if new or ended:
            self._pass_on([one for one in pauses.orders() if one.number])
        return bool(new)

    def _carry_out(self, one: Instruction) -> None:
        if one.deed in _AT_ONCE and not self._context.pauses.known:
            return
        lines = [row[0] or "" for row in operations.carry_out(self._context, one)]
        if one.deed is Deed.PAUSE:
            self._waited_for[one.number] = one.scope
        elif lines:
            self._told[one.number] = lines

    def _read(self, order: Order) -> Instruction:
        stands = ENDS.get(Deed(order.deed)) is Deed(order.deed)
        ends_at = self._context.clock() + order.left_s if stands and order.left_s else 0.0
        scope = Scope(Kind(order.kind), order.name)
        return Instruction(Deed(order.deed), scope, ends_at, order.given_by, order.number)

    # --- giving ---

    async def _write(self, instruction: Instruction) -> Instruction:
        deed, scope = instruction.deed, instruction.scope
        ended = ENDS.get(deed)
        left_s: float | None = PASSING_S
        if deed is ended:
            left_s = instruction.ends_at - self._context.clock() if instruction.ends_at else None
        number = await self._board.give(
            Order(0, deed, scope.kind, scope.name, left_s, self.name),
            ended,
            all_of_them=ends_all(instruction),
        )
        return Instruction(deed, scope, instruction.ends_at, self.name, number)

    def _send_later(self, instruction: Instruction) -> None:
        """Only what ends something: an order that comes late would surprise."""
        about = ENDS.get(instruction.deed), instruction.scope
        later = [one for one in self._unsent if (ENDS[one.deed], one.scope) != about]
        if about[0] not in (None, instruction.deed):
            later.append(instruction)
        self._unsent = later[-_UNSENT_MAX:]

    async def _send_late_or_never(self) -> None:
        """The meta database answers: what it does not take now it never will."""
        try:
            await self._send_late()
        except DirectoryUnavailable as error:
            late = self._unsent.pop(0)
            _log.warning("others are not told of %s %s: %s", late.deed, late.scope, error)

    async def _send_late(self) -> None:
        """What was ended while the meta database was down. Raises DirectoryUnavailable."""
        while self._unsent:
            await self._write(self._unsent[0])
            del self._unsent[0]
