"""The processes of the workers: one at each place, one in reserve; who dies is followed at once.

The one in reserve has everything imported and only waits for a place, for that is what takes long.
When it is given one it leaves an heir in its stead: a fork, which is there in no time.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import struct
import sys
from asyncio.subprocess import Process as Child
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Protocol

from gateway.clock import Clock
from gateway.supervisor.channel import Body, Channel, greet, greeted
from gateway.supervisor.chores import Chores
from gateway.supervisor.meeting import Meeting, Process

_log = logging.getLogger(__name__)

_GREETING_S = 10.0
_START_S = 60.0
_STEADY_S = 10.0
"""A worker that lived for so long did not die of its start."""
_PAUSE_MIN_S = 0.2
_PAUSE_MAX_S = 10.0
_POLL_S = 0.02
_HEIR_S = 5.0
"""A worker whose heir has not come by then has none."""


@dataclass(eq=False, slots=True)
class Hand:
    """The process of a worker, with or without a place. ``sock`` is for its first message."""

    process: Process
    child: Child | None
    sock: socket.socket
    number: int = 0
    row: int = 0
    """Its own in the tables that all share."""
    generation: int = 0
    """Which code it has imported."""
    succeeds: bool = False
    """It is given the clients of the worker that had its place before."""
    channel: Channel | None = None
    ready: bool = False
    seated_at: float = 0.0
    held: list[Any] = field(default_factory=list)
    settings_epoch: int = -1
    """Which settings it was told; -1 when it had them from a supervisor before us."""


class Employer(Protocol):
    """What the crew asks of the supervisor."""

    def seat_for(self, hand: Hand) -> tuple[Body, Mapping[str, int]]:
        """What a new worker must know, and the descriptors it needs."""

    def channel_of(self, hand: Hand) -> Channel:
        """A channel that listens to this worker."""

    def adopts(self, body: Body, descriptors: Mapping[str, int]) -> bool:
        """Whether a worker of a supervisor before us may stay."""

    def arrived(self, hand: Hand) -> None:
        """A worker has a place and can be talked to."""

    def left(self, hand: Hand) -> None:
        """A worker's process has ended; its place is free."""


class Crew:
    """All processes, by place."""

    def __init__(self, count: int, meeting: Meeting, employer: Employer, clock: Clock) -> None:
        self.seats: dict[int, Hand] = {}
        self.leaving: set[Hand] = set()
        """Workers that had a place, under us or a supervisor before us, and are to end."""
        self._successors: dict[int, Hand] = {}
        """Workers for places that others still have."""
        self._generation = 0
        """Which processes have the newest code."""
        self.restarts = 0
        self.failed_to_start = False
        self._count = count
        self._meeting = meeting
        self._employer = employer
        self._clock = clock
        self._reserve: list[Hand] = []
        self._came = asyncio.Event()
        """Some process was added to the reserve."""
        self._starting = 0
        self._arrivals: dict[int, tuple[Child, asyncio.Future[Hand]]] = {}
        """Processes that we started and that have not greeted yet, by their id."""
        self._heirs: dict[int, asyncio.Future[Hand | None]] = {}
        """Forks that have not greeted yet, by the id of whose they are."""
        self._expected: dict[int, Process] = {}
        self._failures: dict[int, int] = {}
        self._not_before: dict[int, float] = {}
        self._closing = False
        self._seating = False
        self._control: socket.socket | None = None
        self.chores = Chores()

    # --- life ---

    async def start(self, expected: Mapping[int, Process]) -> None:
        """Greet whoever comes; ``expected`` are the workers of a supervisor before us."""
        self._expected = dict(expected)
        self._control = self._meeting.listen()
        self.chores.begin(self._listen(self._control))
        self.fill()

    def seat(self) -> None:
        """Give places from now on; who was expected and did not come is none of us any more."""
        for process in self._expected.values():
            process.send(signal.SIGKILL)
        self._expected.clear()
        self._seating = True
        self.fill()

    @property
    def all_ready(self) -> bool:
        """Whether every place is taken by a worker that takes clients."""
        return sum(hand.ready for hand in self.seats.values()) == self._count

    @property
    def awaited(self) -> int:
        """Workers of a supervisor before us that have not come yet."""
        self._expected = {n: process for n, process in self._expected.items() if process.alive}
        return len(self._expected)

    def close(self) -> None:
        """Nobody new from now on; the reserve may go."""
        self._closing = True
        for hand in self._reserve:
            hand.process.send(signal.SIGKILL)

    async def end(self, kind: str, timeout_s: float) -> None:
        """Tell all workers to ``drain`` or ``stop``, and wait until they are gone."""
        self.close()
        everybody = [*self.seats.values(), *self._successors.values(), *self.leaving]
        for hand in everybody:
            if hand.channel is not None and hand.ready:
                hand.channel.tell(kind)
            else:  # it has no clients, or is between two supervisors
                hand.process.send(signal.SIGTERM if hand.ready else signal.SIGKILL)
        deadline = self._clock() + timeout_s
        for hand in everybody:
            while hand.process.alive and self._clock() < deadline:  # noqa: ASYNC110
                await asyncio.sleep(_POLL_S)
        for hand in everybody:
            hand.process.send(signal.SIGKILL)

    def shut(self) -> None:
        """End what is under way."""
        self.close()
        self.chores.drop()
        if self._control is not None:
            self._control.close()
            self._meeting.clear()

    # --- places ---

    def fill(self) -> None:
        """Whatever is missing: workers at free places, and one in reserve."""
        if self._closing:
            return
        now = self._clock()
        taken = self.seats.keys() | self._expected.keys() | self._successors.keys()
        free = [n for n in range(1, self._count + 1) if n not in taken]
        later = [at for n in free if (at := self._not_before.get(n, now)) > now]
        for number in free:
            may_sit = self._seating and self._not_before.get(number, now) <= now
            if may_sit and self._reserve:
                self._seat(number, self._from_reserve())
        if not self._reserve and not self._starting:
            self._starting += 1
            self.chores.begin(self._start_one())
        if later:
            asyncio.get_running_loop().call_later(min(later) - now, self.fill)

    def _seat(self, number: int, hand: Hand) -> None:
        self.seats[number] = hand
        self._note()
        self._employ(number, hand)

    def _employ(self, number: int, hand: Hand) -> None:
        hand.row = self._free_row()
        hand.number, hand.seated_at = number, self._clock()
        arrival: asyncio.Future[Hand | None] = asyncio.get_running_loop().create_future()
        self._heirs[hand.process.pid] = arrival
        self._starting += 1
        self.chores.begin(self._await_heir(hand, arrival))
        self.chores.begin(self._work_with(hand, greeting=True))

    @property
    def rows(self) -> int:
        """How many workers there can be at a time: at each place one, and its successor."""
        return 2 * self._count

    def _free_row(self) -> int:
        everybody = [*self.seats.values(), *self._successors.values(), *self.leaving]
        taken = {hand.row for hand in everybody}
        return next(row for row in range(1, self.rows + 1) if row not in taken)

    def _note(self) -> None:
        self._meeting.note({number: hand.process for number, hand in self.seats.items()})

    # --- successors ---

    def renew(self) -> None:
        """Whoever gets a place from now on is a process that starts now, with the code of now."""
        self._generation += 1
        while self._reserve:
            self._dismiss(self._from_reserve())
        self.fill()

    async def successor(self, number: int) -> Hand | None:
        """A new worker that is ready to take the place of one that serves.

        None when it died, or none could be started in time.
        """
        try:
            async with asyncio.timeout(_START_S):
                while not self._reserve:
                    self._came.clear()
                    await self._came.wait()
        except TimeoutError:
            return None
        hand = self._successors[number] = self._from_reserve()
        hand.succeeds = True
        self._employ(number, hand)
        self.fill()
        while not hand.ready:
            if self._successors.get(number) is not hand:
                return None
            await asyncio.sleep(_POLL_S)
        return hand

    def succeed(self, hand: Hand) -> Hand | None:
        """A successor takes its place; who had it before, and is to leave."""
        del self._successors[hand.number]
        before = self.seats.get(hand.number)
        self.seats[hand.number] = hand
        self._note()
        if before is not None:
            self.leaving.add(before)
        return before

    # --- a process ---

    async def _work_with(self, hand: Hand, *, greeting: bool) -> None:
        """Give a worker its place, and listen to it until it ends."""
        body, descriptors = self._employer.seat_for(hand) if greeting else ({}, {})
        hand.channel = self._employer.channel_of(hand)
        try:
            await asyncio.to_thread(greet, hand.sock, body, descriptors)
            await hand.channel.attach(hand.sock)
            self._employer.arrived(hand)
            self._expected = {n: p for n, p in self._expected.items() if p != hand.process}
            await hand.channel.run()
        except OSError:
            _log.warning("worker %d can't be talked to", hand.number)
        hand.process.send(signal.SIGKILL)
        if hand.child is None:
            await self._ended(hand)

    async def _ended(self, hand: Hand) -> None:
        """A process is going: wait until it has, then its place is free."""
        if hand.child is not None:
            await hand.child.wait()
        while hand.process.alive:  # noqa: ASYNC110 - somebody else's child
            await asyncio.sleep(_POLL_S)
        if hand.child is None:
            with suppress(ChildProcessError):  # only as process 1 we are given orphans
                os.waitpid(hand.process.pid, os.WNOHANG)  # noqa: ASYNC222 - it does not wait
        if (heir := self._heirs.get(hand.process.pid)) is not None and not heir.done():
            heir.set_result(None)
        if hand in self._reserve:
            self._from_reserve()
        self.leaving.discard(hand)
        if self._successors.get(hand.number) is hand:
            del self._successors[hand.number]
        if hand.channel is not None:
            hand.channel.close()
        if self.seats.get(hand.number) is hand:
            del self.seats[hand.number]
            self._count_failure(hand)
            self._note()
        self._employer.left(hand)
        self.fill()

    def _count_failure(self, hand: Hand) -> None:
        """A place whose workers die one after another stays empty for a while."""
        if self._closing:
            return
        self.restarts += 1
        steady = self._clock() - hand.seated_at >= _STEADY_S
        failures = 0 if steady else self._failures.get(hand.number, 0) + 1
        self._failures[hand.number] = failures
        self.failed_to_start = self.failed_to_start or not hand.ready
        pause_s = 0.0 if failures <= 1 else min(_PAUSE_MAX_S, _PAUSE_MIN_S * 2 ** (failures - 2))
        self._not_before[hand.number] = self._clock() + pause_s
        _log.error("worker %d (process %d) has died", hand.number, hand.process.pid)

    # --- processes ---

    async def _start_one(self) -> None:
        """Start a process; it is counted as starting until it greets us or ends."""
        generation = self._generation
        command = (sys.executable, "-P", "-m", "gateway.supervisor.child")
        try:
            child = await asyncio.create_subprocess_exec(
                *command, str(self._meeting.control), start_new_session=True
            )
        except OSError as error:
            _log.error("a worker can't be started: %s", error)
            await asyncio.sleep(_PAUSE_MAX_S)
            self._starting -= 1
            self.fill()
            return
        hand = await self._greeting_of(child)
        self._starting -= 1
        if hand is None:
            await asyncio.sleep(_PAUSE_MIN_S)
            self.fill()
            return
        hand.generation = generation
        self._keep(hand)
        self.fill()
        await self._ended(hand)

    async def _await_heir(self, forebear: Hand, arrival: asyncio.Future[Hand | None]) -> None:
        """Have in reserve whom a worker leaves behind there when it is given its place."""
        try:
            async with asyncio.timeout(_HEIR_S):
                heir = await arrival
        except TimeoutError:
            heir = None
        del self._heirs[forebear.process.pid]
        self._starting -= 1
        if heir is not None:
            heir.generation = forebear.generation
            self._keep(heir)
        self.fill()

    # --- the reserve ---

    def _keep(self, hand: Hand) -> None:
        """Put it into the reserve, unless there is one, or it has imported the code of before."""
        if self._closing or self._reserve or hand.generation != self._generation:
            self._dismiss(hand)
            return
        self._reserve.append(hand)
        asyncio.get_running_loop().add_reader(hand.sock, self._dismissed_itself)
        self._came.set()

    def _from_reserve(self) -> Hand:
        """The one in reserve, which is not any more."""
        hand = self._reserve.pop()
        asyncio.get_running_loop().remove_reader(hand.sock)
        return hand

    def _dismissed_itself(self) -> None:
        """The one in reserve says something before it was asked: it has ended."""
        self._dismiss(self._from_reserve())
        self.fill()

    def _dismiss(self, hand: Hand) -> None:
        hand.sock.close()
        hand.process.send(signal.SIGKILL)
        if hand.child is None:
            self.chores.begin(self._ended(hand))

    async def _greeting_of(self, child: Child) -> Hand | None:
        """The hand of a process of ours once it has greeted; None when it ends before."""
        arrival: asyncio.Future[Hand] = asyncio.get_running_loop().create_future()
        self._arrivals[child.pid] = (child, arrival)
        ended = asyncio.ensure_future(child.wait())
        try:
            await asyncio.wait((arrival, ended), return_when=asyncio.FIRST_COMPLETED)
        finally:
            ended.cancel()
            del self._arrivals[child.pid]
        if arrival.done():
            return arrival.result()
        _log.error("a worker ended with status %s before it was ready", child.returncode)
        return None

    async def _listen(self, control: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            sock, _ = await loop.sock_accept(control)
            self.chores.begin(self._receive(sock))

    async def _receive(self, sock: socket.socket) -> None:
        """Whoever knocks: one of ours that has just started, or one of a supervisor before us."""
        sock.setblocking(True)
        sock.settimeout(_GREETING_S)
        try:
            body, descriptors = await asyncio.to_thread(greeted, sock)
        except (OSError, EOFError, ValueError) as error:
            _log.warning("control connection: %r", error)
            sock.close()
            return
        own = self._arrivals.get(body["pid"])
        heir = self._heirs.get(body.get("heir_of", 0))
        if own is not None and body["number"] is None:
            child, arrival = own
            arrival.set_result(Hand(Process.find(child.pid), child, sock))
        elif heir is not None and not heir.done():
            heir.set_result(Hand(Process.find(body["pid"]), None, sock))
        elif body["number"] is not None:
            self._adopt(Hand(Process.find(_peer(sock)), None, sock), body, descriptors)
        else:
            sock.close()

    def _adopt(self, hand: Hand, body: Body, descriptors: Mapping[str, int]) -> None:
        hand.number, hand.held, hand.ready = body["number"], body["held"], True
        hand.seated_at = self._clock()
        same = self._employer.adopts(body, descriptors)
        hand.row = body.get("row", 0) if same else 0  # of another one's tables
        stays = same and hand.number not in self.seats and not body.get("leaving")
        if stays and not self._closing:
            self.seats[hand.number] = hand
            self._note()
        else:
            self.leaving.add(hand)
            self._expected.pop(hand.number, None)
        what = "adopted" if stays else "to be replaced"
        _log.info("worker %d (process %d) %s", hand.number, hand.process.pid, what)
        self.chores.begin(self._work_with(hand, greeting=False))
        self.fill()


def _peer(sock: socket.socket) -> int:
    """The process at the other end, by the kernel's word."""
    with suppress(AttributeError):
        data = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        pid, _, _ = struct.unpack("3i", data)
        return int(pid)
    return 0
