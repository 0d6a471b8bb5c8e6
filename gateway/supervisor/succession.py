"""New workers in place of those that serve, one place after the other, new first.

At each place the successor is made ready, is given the listening socket by its predecessor, and
then its clients as they come between two transactions. The predecessor ends when it has none.
"""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

from gateway.supervisor.channel import AskFailed
from gateway.supervisor.crew import Crew, Hand
from gateway.supervisor.desk import Desk
from gateway.supervisor.handover import path_of

_log = logging.getLogger(__name__)

_HAND_OVER_S = 15.0
_POLL_S = 0.05


class Failed(Exception):
    """A new worker could not start; those before it serve on."""


class Succession:
    """How a gateway is restarted without its clients noticing."""

    def __init__(self, crew: Crew, desk: Desk, folder: Path) -> None:
        self._crew = crew
        self._desk = desk
        self._folder = folder

    async def carry_out(self) -> None:
        """Replace all workers. Raises Failed.

        Waits first for those that leave still: there is room for one generation besides.
        """
        while self._crew.leaving:  # noqa: ASYNC110 - of processes
            await asyncio.sleep(_POLL_S)
        self._crew.renew()
        for number in list(self._crew.seats):
            await self._replace(number)

    async def _replace(self, number: int) -> None:
        new = await self._crew.successor(number)
        if new is None or new.channel is None:
            raise Failed(f"a new worker {number} could not start; the log says why")
        old = self._crew.succeed(new)
        if old is None:
            new.channel.tell("listen")
            return
        self._desk.retire(old.process.pid)
        try:
            await self._hand_over(old, new)
        except AskFailed as error:
            _log.error("worker %d does not hand over: %s", number, error)
            new.channel.tell("listen")

    async def _hand_over(self, old: Hand, new: Hand) -> None:
        if old.channel is None:
            raise AskFailed("it has gone")
        to = path_of(self._folder, new.process.pid)
        await old.channel.ask("hand over", _HAND_OVER_S, to=str(to))
