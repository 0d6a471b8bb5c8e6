"""The process of one worker among several: `python -m gateway.supervisor.child CONTROL`.

It starts without a place, with everything imported, and waits for one; so that the place of a
worker that died is taken at once. Who is given a place leaves an heir behind, a fork that waits in
its stead: it has all that was imported from the start, and shares the memory of that.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import socket
import sys
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import uvloop

from gateway.admin import operations, version
from gateway.admin.commands import own_rows
from gateway.admin.metrics import WorkerCollector
from gateway.admin.sums import plain
from gateway.errors import ConfigError
from gateway.health.marks import Marks
from gateway.net.listener import open_tcp
from gateway.pool.seats import Seats
from gateway.session.census import Census
from gateway.session.listens_moving import Refused
from gateway.session.rates import Rates
from gateway.session.standing import Instruction
from gateway.settings.model import Settings
from gateway.settings.plain import from_plain
from gateway.supervisor.channel import AskFailed, Body, greet, greeted
from gateway.supervisor.chores import Chores
from gateway.supervisor.ending import Ending
from gateway.supervisor.handover import Giver, Taker, path_of
from gateway.supervisor.logs import Logs
from gateway.supervisor.member import Member
from gateway.worker import Place, Worker

_log = logging.getLogger("gateway.supervisor.child")  # it runs as __main__


class _Named(logging.Filter):
    """Puts the worker's number into every line."""

    def __init__(self, worker: int) -> None:
        super().__init__()
        self._worker = worker

    def filter(self, record: logging.LogRecord) -> bool:
        record.worker = self._worker
        return True


def identity() -> Body:
    """What every greeting of a worker says."""
    return {"pid": os.getpid(), "version": version.version_line(), "held": [], "number": None}


def main(arguments: list[str]) -> int:
    """Wait for a place, then work until told to end; the exit status."""
    control, forebear = Path(arguments[0]), 0
    gc.collect()
    gc.freeze()  # or a collection would write to the memory that heirs share
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for an heir's end
    while (sock := _offered(control, forebear)) is not None:
        own = os.getpid()
        if not _leave_an_heir():
            return _work(control, sock)
        sock.close()
        forebear = own
    return 0


def _offered(control: Path, forebear: int) -> socket.socket | None:
    """Where a place is offered to us; None when the supervisor has gone, or needs nobody."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    with suppress(OSError):
        sock.connect(str(control))
        greet(sock, {**identity(), "heir_of": forebear}, {})
        if sock.recv(1, socket.MSG_PEEK):
            return sock
    sock.close()
    return None


def _leave_an_heir() -> bool:
    """Fork while there is no thread, loop or descriptor besides; whether we are the heir."""
    try:
        heir = os.fork() == 0
    except OSError:  # too many processes: the supervisor will start one when it can
        return False
    if heir:
        os.setsid()
    return heir


def _work(control: Path, sock: socket.socket) -> int:
    """Take the place, and work there."""
    with sock:
        try:
            body, descriptors = greeted(sock)
        except (OSError, EOFError):
            return 0
        seat = Seat(control, body, descriptors)
        logs = Logs(seat.settings.log)
        logs.handler.addFilter(_Named(seat.number))
        with logs.open(), asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(_Work(seat, logs).run(sock.dup()))


@dataclass(slots=True)
class Seat:
    """What the supervisor gave us to start with."""

    control: Path
    body: Body
    descriptors: dict[str, int]
    settings: Settings = field(init=False)
    number: int = field(init=False)
    count: int = field(init=False)

    def __post_init__(self) -> None:
        self.settings = from_plain(self.body["settings"])
        self.number, self.count = self.body["number"], self.body["count"]

    def sockets(self) -> list[socket.socket]:
        """The listening ones; a successor is given its predecessor's. Raises OSError."""
        sockets = [] if self.succeeds else [self.tcp()]
        if "unix" in self.descriptors:
            sockets.append(socket.socket(fileno=os.dup(self.descriptors["unix"])))
        return sockets

    def tcp(self) -> socket.socket:
        """A listening one of our own. Raises OSError."""
        backlog = self.settings.listen.backlog
        return open_tcp(self.body["host"], self.body["port"], backlog, shared=True)

    @property
    def succeeds(self) -> bool:
        """Whether another worker at this place hands its clients over to us."""
        return bool(self.body["succeeds"])

    def hello(self) -> tuple[Body, dict[str, int]]:
        """What to say to the next supervisor; the descriptors are what it can't make again."""
        mine = {name: self.body[name] for name in ("number", "row", "count", "port")}
        return {**identity(), **mine}, self.descriptors

    def _seats(self) -> Seats:
        """Our row, empty; alone if the supervisor is one that knows of no such table."""
        row: int = self.body["row"]
        if "seats" not in self.descriptors:
            return Seats.private()
        seats = Seats.shared(self.descriptors["seats"], row)
        seats.empty(row)
        return seats

    def _rates(self) -> Rates:
        """Those of all workers; our own if the supervisor is one that knows of no such table."""
        descriptor = self.descriptors.get("rates")
        return Rates.private() if descriptor is None else Rates.shared(descriptor)

    def place(self, member: Member) -> Place:
        """As the worker sees it. Raises OSError."""
        return Place(
            number=self.number,
            count=self.count,
            port=self.body["port"],
            fleet=member,
            sockets=self.sockets(),
            census=Census.shared(self.descriptors["census"], self.body["row"]),
            seats=self._seats(),
            rates=self._rates(),
            marks=Marks(self.descriptors["marks"], self.body["row"]),
        )


class _Work:
    """A worker at its place."""

    def __init__(self, seat: Seat, logs: Logs) -> None:
        self._seat = seat
        self._logs = logs
        self._settings = seat.settings
        self._chores = Chores()
        self._giver: Giver | None = None
        """Set while a successor takes our clients."""

    async def run(self, sock: socket.socket) -> int:
        member, ending = Member(), Ending()
        for number in (signal.SIGHUP, signal.SIGUSR2):  # they are the supervisor's
            asyncio.get_running_loop().add_signal_handler(number, lambda: None)
        ending.on_signals()
        member.serve(self._notices(ending), self._answerers(ending))
        talking = asyncio.ensure_future(member.run(sock, self._seat.control, self._hello))
        try:
            self._worker = Worker(self._settings, self._reread, self._seat.place(member))
            self._obey(self._seat.body["standing"])
            if self._seat.succeeds:
                self._await_predecessor()
            await self._worker.start()
        except (ConfigError, OSError) as error:
            _log.error("worker %d can't start: %s", self._seat.number, error)
            return 1
        # What was built by now stays for good: no collection has to walk over it again.
        gc.collect()
        gc.freeze()
        member.ready()
        await ending.carry_out(self._worker)
        if self._giver is not None:
            await self._giver.finish()
        self._chores.drop()
        talking.cancel()
        return 0

    def _reread(self) -> Settings:
        return self._settings

    # --- what the supervisor wants ---

    def _notices(self, ending: Ending) -> dict[str, Any]:
        return {
            "drain": lambda body: ending.drain(),
            "stop": lambda body: ending.interrupt(),
            "standing": lambda body: self._obey(body["instructions"]),
            "listen": lambda body: self._listen_oneself(),
            "vacate": lambda body: self._worker.vacate_here(body["place"]),
        }

    def _answerers(self, ending: Ending) -> dict[str, Any]:
        return {
            "rows": self._rows,
            "figures": self._figures,
            "status": self._status,
            "cancel": self._cancel,
            "hand over": partial(self._hand_over, ending),
            "reload": self._reload,
            "instruct": self._instruct,
        }

    # --- from one worker to the next ---

    def _await_predecessor(self) -> None:
        self._worker.context.registry.begin_anywhere()
        taker = Taker(self._worker, path_of(self._seat.control.parent, os.getpid()))
        taker.open()
        self._chores.begin(taker.run())

    def _listen_oneself(self) -> None:
        """The predecessor could not give us its socket."""
        if not self._worker.listens:
            self._worker.listen_on([self._seat.tcp()])

    async def _hand_over(self, ending: Ending, body: Body) -> list[Any]:
        """Give all to a successor; answered when that has the listening socket."""
        giver = self._giver = Giver(self._worker)
        try:
            await giver.begin(Path(body["to"]))
        except (OSError, Refused) as error:
            _log.error("nothing can be handed over: %s", error)
            ending.drain()
            raise AskFailed(str(error)) from None
        self._chores.begin(self._move_clients(giver, ending))
        return []

    async def _move_clients(self, giver: Giver, ending: Ending) -> None:
        """Whoever can't be moved is asked to leave after half of the time."""
        patience_s = self._settings.listen.shutdown_timeout_s / 2
        asyncio.get_running_loop().call_later(patience_s, ending.drain)
        await giver.give_clients()
        _log.info("%d clients moved to the new worker", giver.moved)
        ending.drain()

    # --- what the supervisor asks ---

    async def _rows(self, body: Body) -> list[Any]:
        return await own_rows(body["command"], self._worker.views)

    async def _figures(self, body: Body) -> list[Any]:
        families = []
        for family in WorkerCollector(self._worker.views).collect():
            families.append(plain(family))
            await asyncio.sleep(0)
        return families

    async def _status(self, body: Body) -> list[Any]:
        return [self._worker.views.not_ready()]

    async def _cancel(self, body: Body) -> list[Any]:
        found = await self._worker.cancel_here(body["number"], bytes.fromhex(body["secret"]))
        return [True] if found else []

    async def _instruct(self, body: Body) -> list[Any]:
        return operations.carry_out(self._worker.context, Instruction.of(body["instruction"]))

    def _obey(self, plain: list[Any]) -> None:
        """What operators have ordered of the others before we came."""
        operations.take_over(self._worker.context, map(Instruction.of, plain))

    def _hello(self) -> tuple[Body, dict[str, int]]:
        body, descriptors = self._seat.hello()
        pauses = self._worker.context.pauses
        standing = [one.plain() for one in pauses.orders()]
        return {**body, "standing": standing, "leaving": self._giver is not None}, descriptors

    async def _reload(self, body: Body) -> list[Any]:
        before, self._settings = self._settings, from_plain(body["settings"])
        try:
            changes = self._worker.reload()
        except BaseException:
            self._settings = before
            raise
        self._logs.follow(self._settings.log)
        return changes


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
