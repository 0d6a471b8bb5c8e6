"""How a process of the gateway ends: drained by SIGTERM, stopped by a second one or by SIGINT."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Coroutine
from typing import Any, Protocol

_log = logging.getLogger(__name__)


class Ends(Protocol):
    """What comes to an end."""

    async def drain(self) -> None:
        """Let running transactions end, within the time that the settings give."""

    async def stop(self) -> None:
        """End now."""


class Ending:
    """Waits for the end, and brings it about."""

    def __init__(self) -> None:
        self._drain = asyncio.Event()
        self._stop = asyncio.Event()

    def on_signals(self) -> None:
        """Listen to SIGTERM and SIGINT."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self.terminate)
        loop.add_signal_handler(signal.SIGINT, self.interrupt)

    def terminate(self) -> None:
        """First drain, then stop."""
        if self._drain.is_set():
            self.interrupt()
        else:
            _log.info("draining: running transactions may end; SIGTERM again stops at once")
            self._drain.set()

    def drain(self) -> None:
        """Drain; nothing more when that is under way."""
        if not self._drain.is_set():
            self.terminate()

    def interrupt(self) -> None:
        """Stop. One more signal of either kind kills, should that not come to an end."""
        if not self._stop.is_set():
            _log.info("stopping")
        self._stop.set()
        self._drain.set()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().remove_signal_handler(number)

    async def unless_asked(self, start: Coroutine[Any, Any, None]) -> bool:
        """Do ``start``; False when the end is asked for before, and ``start`` was broken off."""
        starting = asyncio.ensure_future(start)
        asked = asyncio.ensure_future(self._drain.wait())
        await asyncio.wait((starting, asked), return_when=asyncio.FIRST_COMPLETED)
        asked.cancel()
        if starting.done():
            starting.result()
            return True
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
        return False

    async def carry_out(self, what: Ends) -> None:
        """Wait until it is time, then drain until that is done or a stop is asked for."""
        await self._drain.wait()
        if self._stop.is_set():
            await what.stop()
            return
        draining = asyncio.ensure_future(what.drain())
        stop_wanted = asyncio.ensure_future(self._stop.wait())
        await asyncio.wait((draining, stop_wanted), return_when=asyncio.FIRST_COMPLETED)
        stop_wanted.cancel()
        if draining.done():
            draining.result()
            return
        draining.cancel()
        await asyncio.gather(draining, return_exceptions=True)
        await what.stop()
