"""The process above several workers: starts them again, owns what they share, answers for all.

Traffic never comes here: clients are with the workers, and stay there when this process dies.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from gateway.admin import version
from gateway.admin.http import HttpServer
from gateway.admin.sums import merged
from gateway.clock import monotonic
from gateway.errors import ConfigError
from gateway.health.marks import new_table
from gateway.ids import worker_of
from gateway.net.listener import open_tcp, open_unix
from gateway.pool.seats import Seats, new_seats
from gateway.session.census import Census, new_census
from gateway.session.rates import new_rates
from gateway.session.standing import Instruction, Standing
from gateway.settings.changes import described
from gateway.settings.model import AUTO, WORKERS_MAX, Settings
from gateway.settings.plain import to_plain
from gateway.supervisor.channel import AskFailed, Body, Channel, TooSlow
from gateway.supervisor.crew import Crew, Hand
from gateway.supervisor.desk import Desk
from gateway.supervisor.meeting import Meeting
from gateway.supervisor.member import read_key
from gateway.supervisor.succession import Failed, Succession
from gateway.worker import Reread, client_tls

_log = logging.getLogger(__name__)

_ANSWER_S = 1.0
"""A worker that does not answer in time is left out."""
_WATCH_S = 5.0
_HUNG_S = 10.0
"""A worker that does not answer for so long, twice in a row, hangs and is killed."""
_CANCEL_S = 4.0
_RELOAD_S = 10.0
_ADOPT_S = 5.0
"""How long workers of a supervisor before us have to come."""
_LINGER_S = 2.0
"""How long connections of workers that died without a supervisor may still be there."""
_START_S = 60.0
_POLL_S = 0.02
_STOP_S = 10.0
_OWN_ROW = 0
"""The row of shared tables that is no worker's."""


def worker_count(settings: Settings) -> int:
    """How many workers these settings mean."""
    if settings.workers != AUTO:
        return settings.workers
    return min(WORKERS_MAX, len(os.sched_getaffinity(0)))


class Supervisor:
    """A gateway of several processes."""

    def __init__(self, settings: Settings, reread: Reread, meeting: Meeting) -> None:
        client_tls(settings)
        self.settings = settings
        self._reread = reread
        self._meeting = meeting
        self._count = worker_count(settings)
        self._crew = Crew(self._count, meeting, self, monotonic)
        self._desk = Desk(self._count, monotonic)
        self._http = HttpServer(FleetPages(self))
        self._succession = Succession(self._crew, self._desk, meeting.folder)
        self._reloading = asyncio.Lock()
        self._restarting = asyncio.Lock()
        self._descriptors: dict[str, int] = {}
        self._port: socket.socket | None = None
        self._draining = False
        self._standing = Standing()
        self._epoch = 0
        """Grows with each reload."""

    # --- life ---

    async def start(self) -> None:
        """Have all workers listen. Raises OSError when an address can't be had, or none starts."""
        self._meeting.enter()
        noted = self._meeting.noted()
        expected = {number: process for number, process in noted.items() if process.alive}
        self._desk.ledger.granting = not noted
        listen = self.settings.listen
        self._port = open_tcp(listen.host, listen.port, 0, shared=True)
        self._desk.configure(self.settings)
        self._desk.start()
        if expected:
            _log.info("%d workers serve already", len(expected))
        await self._crew.start(expected)
        await self._http.start()
        await self._settle()
        await self._all_ready()
        self._crew.chores.begin(self._watch())
        host, port = self.address
        _log.info(
            "ready: listening on %s:%d, HTTP on %s, %d workers",
            *(host, port, self._http.address, self._count),
        )

    async def _settle(self) -> None:
        """Wait for the workers of a supervisor before us, to know what they hold."""
        deadline = monotonic() + _ADOPT_S
        while self._crew.awaited and monotonic() < deadline:  # noqa: ASYNC110 - of processes
            await asyncio.sleep(_POLL_S)
        self._share()
        self._crew.seat()
        if not self._desk.ledger.granting:
            self._crew.chores.begin(self._grant_later())

    async def _grant_later(self) -> None:
        """Not before what workers left behind that died without a supervisor has gone."""
        await asyncio.sleep(_LINGER_S)
        self._desk.grant_from_now_on()

    def _share(self) -> None:
        """Make what all workers share, but for what those before us have brought."""
        listen, rows = self.settings.listen, self._crew.rows + 1
        if "census" not in self._descriptors:
            self._descriptors["census"] = new_census(rows)
        if "seats" not in self._descriptors:
            self._descriptors["seats"] = new_seats(rows)
        if "rates" not in self._descriptors:
            self._descriptors["rates"] = new_rates()
        if "marks" not in self._descriptors:
            self._descriptors["marks"] = new_table(rows, monotonic())
        if listen.unix_socket_dir and "unix" not in self._descriptors:
            sock = open_unix(listen.unix_socket_dir, self.address[1], listen.backlog)
            self._descriptors["unix"] = sock.detach()

    async def _all_ready(self) -> None:
        deadline = monotonic() + _START_S
        while not self._crew.all_ready:
            if self._crew.failed_to_start or monotonic() > deadline:
                raise OSError("a worker could not start; the log says why")
            await asyncio.sleep(_POLL_S)

    async def _watch(self) -> None:
        """Kill workers that hang, with their clients.

        At the second time, for at the first it may have been us who slept.
        """
        slow: set[Hand] = set()
        while True:
            await asyncio.sleep(_WATCH_S)
            answers = await self._ask_all("status", _HUNG_S)
            found = {
                self._crew.seats[number]
                for number, answer in answers.items()
                if isinstance(answer, TooSlow) and number in self._crew.seats
            }
            for hand in found & slow:
                _log.error("worker %d (process %d) hangs", hand.number, hand.process.pid)
                hand.process.send(signal.SIGKILL)
            slow = found

    @property
    def address(self) -> tuple[str, int]:
        """Where clients connect."""
        assert self._port is not None
        host, port = self._port.getsockname()[:2]
        return host, port

    async def drain(self) -> None:
        """Accept nobody new, let transactions end, then end."""
        self._draining = True
        await self._crew.end("drain", self.settings.listen.shutdown_timeout_s + _STOP_S)
        await self._shut()

    async def stop(self) -> None:
        """End everything now."""
        self._draining = True
        await self._crew.end("stop", _STOP_S)
        await self._shut()

    async def _shut(self) -> None:
        self._crew.shut()
        self._desk.stop()
        await self._http.stop()
        if self._port is not None:
            self._port.close()
        for descriptor in self._descriptors.values():
            os.close(descriptor)
        self._descriptors.clear()
        self._meeting.leave()

    async def reload(self) -> list[str]:
        """Have all workers follow the settings, read anew; what changed, a line each.

        Raises ConfigError, and then nothing has changed.
        """
        async with self._reloading:
            settings = await asyncio.to_thread(self._reread)
            client_tls(settings)
            before, self.settings = self.settings, settings
            self._epoch += 1
            for hand in self._crew.seats.values():
                if hand.ready:  # the others are told once they are
                    hand.settings_epoch = self._epoch
            self._desk.configure(settings)
            for hand in self._crew.leaving:
                self._follow_soon(hand)
            answers = await self._ask_all("reload", _RELOAD_S, settings=to_plain(settings))
            changes = described(before, settings)
            changes += [
                f"worker {number} did not follow: {answer}"
                for number, answer in answers.items()
                if isinstance(answer, Exception)
            ]
            _log.info("reloaded: %s", "; ".join(changes) or "nothing changed")
            return changes

    async def restart(self) -> None:
        """New workers, with the code and the settings of now, take over from those that serve.

        Raises ConfigError, and then nothing has changed.
        """
        async with self._restarting:
            await self.reload()
            _log.info("restarting: new workers take over")
            try:
                await self._succession.carry_out()
            except Failed as error:
                _log.error("not restarted: %s", error)
            else:
                _log.info("restarted: %d new workers serve", self._count)

    # --- Employer ---

    def seat_for(self, hand: Hand) -> tuple[Body, Mapping[str, int]]:
        hand.settings_epoch = self._epoch
        host, port = self.address
        body = {
            "number": hand.number,
            "row": hand.row,
            "succeeds": hand.succeeds,
            "count": self._count,
            "host": host,
            "port": port,
            "settings": to_plain(self.settings),
            "standing": self._orders(),
        }
        return body, self._descriptors

    def _orders(self) -> list[Any]:
        """What operators have ordered that holds for workers that come now."""
        return [one.plain() for one in self._standing.instructions(monotonic())]

    def channel_of(self, hand: Hand) -> Channel:
        pid, desk = hand.process.pid, self._desk

        def ready(body: Body) -> None:
            hand.ready = True
            if hand.channel is not None:  # orders may have come since it was given its place
                hand.channel.tell("standing", instructions=self._orders())
            if hand.settings_epoch != self._epoch:
                self._follow_soon(hand)

        async def rows_of_others(body: Body) -> Sequence[Any]:
            return await self._rows("rows", hand.number, command=body["command"])

        async def instruct_others(body: Body) -> Sequence[Any]:
            self._standing.apply(Instruction.of(body["instruction"]))
            for leaving in self._crew.leaving:
                if leaving.channel is not None:
                    leaving.channel.tell("standing", instructions=self._orders())
            for one in self._crew.leaving:
                self._ask_soon(one, "instruct", instruction=body["instruction"])
            return await self._rows("instruct", hand.number, instruction=body["instruction"])

        async def reload_all(body: Body) -> Sequence[Any]:
            return await self.reload()

        async def cancel(body: Body) -> Sequence[Any]:
            return await self._cancel(body["number"], body["secret"])

        def on_the_board(body: Body) -> None:
            shared = [Instruction.of(plain) for plain in body["instructions"]]
            self._standing.keep([one.number for one in shared])
            for one in shared:
                self._standing.apply(one)

        notices = {
            "ready": ready,
            "on the board": on_the_board,
            "want": lambda body: desk.want(pid, read_key(body["key"]), body["count"]),
            "back": lambda body: desk.back(pid, read_key(body["key"]), body["count"]),
            "opened": lambda body: desk.opened(
                pid, read_key(body["key"]), body["pid"], bytes.fromhex(body["secret"])
            ),
            "gone": lambda body: desk.gone(pid, read_key(body["key"]), body["pid"]),
            "vacate": lambda body: self._vacate(hand, body["place"]),
        }
        answerers = {
            "rows of others": rows_of_others,
            "instruct others": instruct_others,
            "reload all": reload_all,
            "cancel": cancel,
        }
        return Channel(notices, answerers, f"worker {hand.number}")

    def adopts(self, body: Body, descriptors: Mapping[str, int]) -> bool:
        own = {
            "count": self._count,
            "port": self.address[1],
            "version": version.version_line(),
        }
        same = all(body[name] == value for name, value in own.items())
        for plain in body.get("standing", ()):
            self._standing.apply(Instruction.of(plain))
        for name, descriptor in descriptors.items():
            if name in self._descriptors or not (same or name == "unix"):
                os.close(descriptor)
            else:
                self._descriptors[name] = descriptor
        return same

    def arrived(self, hand: Hand) -> None:
        assert hand.channel is not None
        held = [(read_key(key), count) for key, count in hand.held]
        self._desk.join(hand.process.pid, hand.channel.tell, held)
        if hand in self._crew.leaving:
            hand.channel.tell("drain")

    def left(self, hand: Hand) -> None:
        self._desk.leave(hand.process.pid)
        descriptor = self._descriptors.get("census")
        if descriptor is not None and hand.row:
            Census.shared(descriptor, _OWN_ROW).nobody(hand.row)
        if (seats := self._descriptors.get("seats")) is not None and hand.row:
            Seats.shared(seats, _OWN_ROW).empty(hand.row)

    def _follow_soon(self, hand: Hand) -> None:
        """A worker may have settings of a moment, or of a supervisor, ago."""
        hand.settings_epoch = self._epoch
        self._ask_soon(hand, "reload", settings=to_plain(self.settings))

    def _ask_soon(self, hand: Hand, kind: str, **body: Any) -> None:
        """Have a worker do something; nobody waits for its answer."""
        if hand.channel is not None:
            self._crew.chores.begin(self._ask_one(hand.channel, kind, _RELOAD_S, **body))

    # --- for all workers ---

    async def _ask_one(self, channel: Channel, kind: str, timeout_s: float, **body: Any) -> Any:
        """The answer, or the error in its place."""
        try:
            return await channel.ask(kind, timeout_s, **body)
        except (AskFailed, ConfigError) as error:
            return error

    async def _ask_all(
        self, kind: str, timeout_s: float, but: int = 0, **body: Any
    ) -> dict[int, Any]:
        """Each worker's answer by its number, or the error in its place."""
        channels = {
            number: hand.channel
            for number, hand in sorted(self._crew.seats.items())
            if hand.channel is not None and hand.ready and number != but
        }
        work = (self._ask_one(channel, kind, timeout_s, **body) for channel in channels.values())
        return dict(zip(channels, await asyncio.gather(*work), strict=True))

    async def _rows(self, kind: str, but: int, **body: Any) -> list[Any]:
        """Pairs of a worker's number and one of its rows; see `Member.rows`."""
        items: list[Any] = []
        for number, answer in (await self._ask_all(kind, _ANSWER_S, but, **body)).items():
            if isinstance(answer, Exception):
                items.append([number, None])
            else:
                items += [[number, []], *([number, row] for row in answer)]
        return items

    async def _cancel(self, number: int, secret: str) -> Sequence[Any]:
        channels = [
            hand.channel
            for hand in (*self._crew.seats.values(), *self._crew.leaving)
            if hand.number == worker_of(number) and hand.channel is not None
        ]
        work = (
            self._ask_one(channel, "cancel", _CANCEL_S, number=number, secret=secret)
            for channel in channels
        )
        answers = await asyncio.gather(*work)
        return [True] if any(answer == [True] for answer in answers) else []

    def _vacate(self, hand: Hand, place: str) -> None:
        for other in (*self._crew.seats.values(), *self._crew.leaving):
            if other is not hand and other.channel is not None:
                other.channel.tell("vacate", place=place)

    # --- for the pages ---

    async def figures(self) -> AsyncIterator[Metric]:
        """All workers' metrics as one gateway's, and our own."""
        answers = await self._ask_all("figures", _ANSWER_S)
        heard = [answer for answer in answers.values() if not isinstance(answer, Exception)]
        for family in merged(heard):
            yield family
        yield GaugeMetricFamily("gateway_workers", "Workers that serve.", value=len(heard))
        yield GaugeMetricFamily(
            "gateway_workers_silent",
            "Workers that are missing, or whose figures are missing here.",
            value=self._count - len(heard),
        )
        yield CounterMetricFamily(
            "gateway_worker_deaths", "Workers that died.", value=self._crew.restarts
        )
        yield GaugeMetricFamily(
            "gateway_permits_quarantined",
            "Server connections of dead workers that may still be there.",
            value=self._desk.ledger.quarantined,
        )

    async def not_ready(self) -> str:
        """Why no client should come now; one worker that welcomes them is enough."""
        if self._draining:
            return "draining"
        answers = (await self._ask_all("status", _ANSWER_S)).values()
        reasons = [str(answer[0]) for answer in answers if not isinstance(answer, Exception)]
        if "" in reasons:
            return ""
        return reasons[0] if reasons else "starting"

    def clients(self) -> int:
        """How many are connected, to any worker."""
        descriptor = self._descriptors.get("census")
        return 0 if descriptor is None else Census.shared(descriptor, _OWN_ROW).total

    def processes(self) -> list[int]:
        """Ours and the workers'."""
        return [os.getpid(), *(hand.process.pid for hand in self._crew.seats.values())]


class FleetPages:
    """The pages of all workers."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor

    @property
    def settings(self) -> Settings:
        return self._supervisor.settings

    def families(self) -> AsyncIterator[Metric]:
        return self._supervisor.figures()

    def processes(self) -> list[int]:
        return self._supervisor.processes()

    async def not_ready(self) -> str:
        return await self._supervisor.not_ready()

    def clients(self) -> int:
        return self._supervisor.clients()
