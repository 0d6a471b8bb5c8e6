"""A light load that checks every answer, and the figures that a fault is judged by."""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.wire import EOF, Message, Place, Refused, Wire

SHORT = "SELECT '{tag}' FROM pg_sleep(0.002)"

_TRY_AGAIN_S = 0.02


@dataclass
class Traffic:
    """Clients that ask one thing after another, and come back when they are thrown out."""

    places: list[Place]
    mix: Sequence[str] = (SHORT,)
    """What is asked in turn; every row that comes back must be the tag."""
    rest_s: float = 0.0
    """Between an answer and the next question of a client."""
    answered_at: list[float] = field(default_factory=list)
    longest_s: float = 0.0
    errors: Counter[str] = field(default_factory=Counter)
    """By SQLSTATE; ``closed`` for an end without a word."""
    foreign: list[str] = field(default_factory=list)
    """Answers that were not for who got them, with all that came."""
    hung: list[str] = field(default_factory=list)
    """What ended a client for good: most likely an answer that never came."""

    async def client(self, number: int) -> None:
        """Until cancelled."""
        where = self.places[number % len(self.places)]
        while True:
            try:
                wire = await Wire.logged_in(where)
            except (OSError, Refused, TimeoutError) as error:
                self.errors[getattr(error, "sqlstate", "") or "closed"] += 1
                await asyncio.sleep(_TRY_AGAIN_S)
                continue
            try:
                await self._talk(wire, number)
            finally:
                wire.rst()

    async def _talk(self, wire: Wire, number: int) -> None:
        count = 0
        while True:
            count += 1
            began, tag = time.monotonic(), f"{number}.{count}"
            asked = self.mix[count % len(self.mix)].format(tag=tag)
            heard = await wire.query(asked)
            self._judge(heard, tag, asked)
            self.longest_s = max(self.longest_s, time.monotonic() - began)
            if heard[-1] is EOF:
                return
            await asyncio.sleep(self.rest_s)

    def _judge(self, heard: list[Message], tag: str, asked: str) -> None:
        rows = [one.cells[0] for one in heard if one.tag == "D"]
        errors = [one.fields["C"] for one in heard if one.tag == "E"]
        if any(row != tag.encode() for row in rows):
            self.foreign.append(f"{asked}: {heard}")
        elif errors:
            self.errors[errors[0]] += 1
        elif heard[-1] is EOF:
            self.errors["closed"] += 1
        else:
            self.answered_at.append(time.monotonic())

    @property
    def answers(self) -> int:
        return len(self.answered_at)

    async def answered(self, more: int, timeout_s: float = 30.0) -> None:
        """Wait for so many more answers."""
        target, end = self.answers + more, time.monotonic() + timeout_s
        while self.answers < target:
            assert time.monotonic() < end, f"no answers; {self.errors}"
            await asyncio.sleep(0.005)

    async def recovered(self, timeout_s: float = 30.0) -> float:
        """Seconds from now until a statement that begins later than now is answered."""
        began = time.monotonic()
        async with asyncio.timeout(timeout_s):
            while True:
                try:
                    wire = await Wire.logged_in(self.places[0])
                except (OSError, Refused):
                    await asyncio.sleep(_TRY_AGAIN_S)
                    continue
                heard = await wire.query("SELECT 1")
                wire.rst()
                if heard[-1].tag == "Z" and not any(one.tag == "E" for one in heard):
                    return time.monotonic() - began


@asynccontextmanager
async def watched_traffic(
    places: Iterable[Place], clients: int, mix: Sequence[str] = (SHORT,), rest_s: float = 0.0
) -> AsyncIterator[Traffic]:
    """So many clients, until the end of the block; who asked for it looks what was wrong."""
    made = Traffic(list(places), mix, rest_s)
    tasks = [asyncio.create_task(made.client(number)) for number in range(clients)]
    try:
        yield made
    finally:
        for task in tasks:
            task.cancel()
        ends = await asyncio.gather(*tasks, return_exceptions=True)
    made.hung = [repr(end) for end in ends if not isinstance(end, asyncio.CancelledError)]


@asynccontextmanager
async def traffic(
    places: Iterable[Place], clients: int, mix: Sequence[str] = (SHORT,), rest_s: float = 0.0
) -> AsyncIterator[Traffic]:
    """The same; nobody may have got another's rows, or hung."""
    async with watched_traffic(places, clients, mix, rest_s) as made:
        yield made
    assert not made.hung, made.hung
    assert not made.foreign, made.foreign[:5]


def memory_mb(pid: int | None = None) -> float:
    """Resident memory of a process, our own without an id."""
    pages = int(Path(f"/proc/{pid or os.getpid()}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGESIZE") / 1024 / 1024


def descriptors(pid: int | None = None) -> int:
    """Open file descriptors of a process, our own without an id."""
    return sum(1 for _ in Path(f"/proc/{pid or os.getpid()}/fd").iterdir())
