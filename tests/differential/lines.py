"""Has clients stand in line for a server, and compares what each is told with its twin's answers.

In a round all servers are held while clients send; then they are served at once. The twins are sent
the same afterwards, one after the other: their order makes no difference.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic

import asyncpg

from gateway.protocol import messages
from gateway.worker import Worker
from tests.differential.compare import Normaliser, difference
from tests.differential.inside import Different
from tests.differential.line_inside import LineInside
from tests.differential.round import GATES, Deed, Meeting, Round, Unit, What
from tests.differential.script import SYNC, Say, name_of, parse, say
from tests.differential.talk import Talker
from tests.wire import EOF, Message, Place, Wire, send_cancel, sqlstates

HANG_S = 20.0
"""A round that takes longer hangs."""

CLIENTS_MAX = 8

_CONTENT = Path(__file__).with_name("lines.sql").read_text()
_ROWS = """
TRUNCATE own;
INSERT INTO own SELECT k, n, 'of ' || k FROM generate_series(0, 7) AS k, generate_series(1, 3) AS n;
"""
_TABLE = """
DROP TABLE IF EXISTS own_{k}, s1.own_{k};
CREATE TABLE own_{k} (a int, b text);
INSERT INTO own_{k} VALUES ({k}, 'table of {k}');
"""
_ACTIVE = """
SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
  AND pid <> pg_backend_pid() AND backend_type = 'client backend'
  AND state = 'active' AND wait_event_type IS DISTINCT FROM 'Lock'
"""
_LET_GO = say("COMMIT", "DISCARD TEMP", "DEALLOCATE sa")
_VIEWS = (b"to_kathmandu", b"to_german", b"for_now", b"telling")
_CANCELED, _ENDED = "57014", ("57P01", "08006")
_POLL_S = 0.001

SendCancel = Callable[..., Awaitable[None]]


class Cancels:
    """The gateway's cancel requests on their way to PostgreSQL, which may take its time."""

    def __init__(self, send: SendCancel) -> None:
        self._send = send
        self.may_arrive = asyncio.Event()
        self.may_arrive.set()

    async def send(self, *args: object) -> None:
        """In place of `gateway.net.connect.send_cancel`."""
        await self.may_arrive.wait()
        await self._send(*args)


@dataclass(slots=True)
class Said:
    """A unit that was sent through the gateway in this round."""

    unit: Unit
    canceled: bool = False
    """It may have been stopped, or not."""


@dataclass(slots=True)
class Pair:
    """One client: its connection through the gateway, and its twin's."""

    number: int
    through: Talker
    direct: Talker
    said: list[Said] = field(default_factory=list)
    in_doubt: bool = False
    """Whether its unnamed statement is another one since a unit was cancelled, nobody knows."""
    may_die: bool = False

    @property
    def waits(self) -> bool:
        """Whether an answer is awaited."""
        return not self.through.done

    @property
    def pid(self) -> int:
        """The number that the gateway knows the client by."""
        return self.through.wire.pid


@dataclass(slots=True)
class Tally:
    """What all rounds came to."""

    rounds: int = 0
    fit: int = 0
    """Reads, one and nothing else, in the queue behind another one of a client with the same
    settings."""
    rides: int = 0
    """How many were sent in line."""
    deeds: dict[What, int] = field(default_factory=dict)


class Lines:
    """Two databases of the same content; one behind a gateway, for two logins."""

    def __init__(
        self,
        worker: Worker,
        url: str,
        direct_url: str,
        owner: Place,
        service: Place,
        cancels: Cancels,
    ) -> None:
        self.tally = Tally()
        self._inside = LineInside(worker, url)
        self._urls = (url, direct_url)
        self._direct = Place.of(direct_url)
        self._owner, self._service = owner, service
        self._cancels = cancels
        self._watch: asyncpg.Connection
        self._past: asyncpg.Connection
        self._keepers: dict[str, asyncpg.Connection] = {}
        self._closed: list[str] = []
        self._holders: list[Wire] = []
        self._held: list[str] = []
        """What each holder has set."""
        self._holding = 0
        self._pairs: dict[int, Pair] = {}
        self._meeting: Meeting
        self._touched = set(range(CLIENTS_MAX))
        """Clients whose tables may not be as they were."""
        self._late: list[asyncio.Task[None]] = []
        self._names = {"direct": Normaliser(), "through": Normaliser()}

    # --- around all meetings ---

    async def start(self) -> None:
        """Make both databases, and have the gateway know its own."""
        self._watch, self._past = [
            await asyncpg.connect(url, statement_cache_size=0) for url in self._urls
        ]
        for admin in (self._watch, self._past):
            await admin.execute(_CONTENT)
        for gate in GATES:
            self._keepers[gate] = await asyncpg.connect(self._urls[0], statement_cache_size=0)
        for _ in range(2):
            self._holders.append(await Wire.logged_in(self._owner))
            self._held.append("")
        await self._holders[0].query("SELECT 1")

    async def stop(self) -> None:
        for wire in self._holders:
            wire.fin()
        for admin in (self._watch, self._past, *self._keepers.values()):
            await admin.close()

    # --- a meeting ---

    async def play(self, meeting: Meeting) -> None:
        """Raises Different."""
        self._meeting = meeting
        at = 0
        try:
            await self._begin(meeting)
            for one in meeting.rounds:
                at += 1
                await self._round(one)
            await self._all_leave()
            await self._inside.look_at_idle_servers()
        except Different as error:
            raise Different(f"{meeting!r}\nround {at}: {error}") from None
        finally:
            await self._end()

    async def _begin(self, meeting: Meeting) -> None:
        self._names = {"direct": Normaliser(), "through": Normaliser()}
        pool = self._inside.pool
        pool.resize(pool.limits.model_copy(update={"max": meeting.servers}))
        reset = _ROWS + "".join(_TABLE.format(k=k) for k in self._touched)
        self._touched.clear()
        told = await self._holders[0].query(reset)
        assert not sqlstates(told), told
        await self._past.execute(reset)

    async def _end(self) -> None:
        self._cancels.may_arrive.set()
        for gate in list(self._closed):
            await self._open(gate)
        for pair in self._pairs.values():
            await _drop(pair, What.RST)
        self._pairs.clear()
        for wire in self._holders[: self._holding]:
            await wire.query("ROLLBACK")
        self._holding = 0
        for at in range(len(self._holders)):
            await self._set(at, "")
        self._late.clear()
        await self._until(lambda: self._inside.clients == len(self._holders))
        await self._until(lambda: not self._inside.in_transition() and not self._inside.busy)
        await self._inside.close_idle_servers()

    # --- clients ---

    async def _come(self, number: int) -> None:
        """A client that is not here logs in, and says what it says before all rounds."""
        if number in self._pairs:
            return
        place = self._service if self._meeting.service[number] else self._owner
        through, direct = await asyncio.gather(
            Talker.connect(place, {}), Talker.connect(self._direct, {})
        )
        pair = self._pairs[number] = Pair(number, through, direct)
        self._names["through"].client(through.wire.pid, name_of(number))
        self._names["direct"].client(direct.wire.pid, name_of(number))
        for one in self._meeting.openings[number]:
            await self._send(pair, Unit(one))
            await self._all_answered()
        await self._compare(pair)

    async def _send(self, pair: Pair, unit: Unit) -> None:
        """Through the gateway; it waits, stands in line, or is answered then."""
        if pair.in_doubt:
            pair.in_doubt = False
            unit = Unit(Say((parse("", "SELECT 0"), SYNC, *unit.say.parts), unit.say.cuts))
        self._inside.believe_short(unit.say.parts)
        if f"TABLE own_{pair.number}" in repr(unit):
            self._touched.add(pair.number)
        pair.said.append(Said(unit))
        await pair.through.send(pair.through.say(unit.say.parts, unit.say.cuts))

    async def _leave(self, pair: Pair, how: What) -> None:
        del self._pairs[pair.number]
        await _drop(pair, how)
        await self._until(lambda: self._inside.session(pair.pid) is None)

    async def _all_leave(self) -> None:
        for pair in list(self._pairs.values()):
            await self._leave(pair, What.GOODBYE)
        await self._until(lambda: not self._inside.in_transition() and not self._inside.busy)

    # --- a round ---

    async def _round(self, one: Round) -> None:
        for client, _ in one.units:
            await self._come(client)
        await self._until(lambda: not self._inside.in_transition())
        before = self._inside.pool.counters.rides
        if any(gate in repr(one) or gate in repr(self._meeting.openings) for gate in GATES):
            await self._close_gates()
        await self._hold(one.settings)
        ahead: object = None
        for client, unit in self._in_order(one):
            pair = self._pairs[client]
            await self._send(pair, unit)
            await self._until(lambda pair=pair: self._is_settled(pair))  # type: ignore[misc]
            fit = unit.lone and self._inside.is_queued(pair.pid)
            settings = self._inside.settings_of(pair.pid) if fit else None
            self.tally.fit += fit and settings == ahead
            ahead = settings
        if one.deeds[0]:
            await self._quiet()
            await self._do(one.deeds[0])
        self._inside.take_for_views(*(() if self._meeting.blind else _VIEWS))
        await self._let_go()
        for gate, deeds in zip(GATES, one.deeds[1:], strict=True):
            if gate in self._closed:
                await self._quiet()
                await self._do(deeds)
                await self._open(gate)
                await self._let_cancels_arrive()
        await self._all_answered()
        self.tally.rounds += 1
        self.tally.rides += self._inside.pool.counters.rides - before
        for pair in list(self._pairs.values()):
            await self._compare(pair)
        await self._until(lambda: not self._inside.in_transition())
        self._inside.look_at_lines()
        await self._inside.look_at_idle_servers()

    def _in_order(self, one: Round) -> list[tuple[int, Unit]]:
        """Who sends what, one after the other."""
        units = list(one.units)
        if one.alike_first:
            common = self._inside.settings_of(self._holders[0].pid)
            pids = {client: self._pairs[client].pid for client, _ in units}
            units.sort(key=lambda each: self._inside.settings_of(pids[each[0]]) != common)
        return units

    def _is_settled(self, pair: Pair) -> bool:
        """Whether what was sent waits, or is answered; or runs, perhaps up to a closed gate."""
        pid = pair.pid
        runs = bool(self._closed) and self._inside.server_of(pid) is not None
        return not pair.waits or self._inside.waits(pid) or runs

    async def _hold(self, settings: str) -> None:
        """Have somebody hold every server that no client keeps."""
        free = self._meeting.servers - len(self._inside.busy)
        for at in range(free):
            await self._set(at, settings)
        for at in range(free):
            await self._holders[at].query("BEGIN")
            self._holding = at + 1

    async def _set(self, holder: int, settings: str) -> None:
        if self._held[holder] != settings:
            self._held[holder] = settings
            for sql in ("RESET ALL", settings):
                assert not sqlstates(await self._holders[holder].query(sql))

    async def _let_go(self) -> None:
        holding, self._holding = self._holders[: self._holding], 0
        for wire in holding:
            wire.send(messages.query("COMMIT"))
        for wire in holding:
            await wire.until("Z")

    async def _all_answered(self) -> None:
        """Whoever keeps a server that others wait for lets it go."""
        end = monotonic() + HANG_S
        while waiting := [pair for pair in self._pairs.values() if pair.waits]:
            keeping = [
                pair
                for pair in self._pairs.values()
                if not pair.waits and self._inside.server_of(pair.pid) is not None
            ]
            if keeping and any(self._inside.is_queued(pair.pid) for pair in waiting):
                await self._quiet()
                for pair in keeping:
                    if not pair.waits and self._inside.server_of(pair.pid) is not None:
                        await self._send(pair, Unit(_LET_GO))
            if monotonic() > end:
                raise Different(
                    f"no answer: {self._described(waiting)}; keep: {self._described(keeping)}"
                )
            await asyncio.sleep(_POLL_S)

    def _described(self, pairs: list[Pair]) -> str:
        sessions = [(name_of(one.number), self._inside.session(one.pid)) for one in pairs]
        return "; ".join(
            f"{name}: {one and (one.phase, one._in_line, list(one.pins))}" for name, one in sessions
        )

    # --- gates ---

    async def _close_gates(self) -> None:
        """Not one that a client has read in a transaction which goes on."""
        for gate, keeper in self._keepers.items():
            await keeper.execute("BEGIN")
            try:
                await keeper.execute(f"LOCK TABLE {gate} NOWAIT")
                self._closed.append(gate)
            except asyncpg.LockNotAvailableError:
                await keeper.execute("ROLLBACK")

    async def _open(self, gate: str) -> None:
        self._closed.remove(gate)
        await self._keepers[gate].execute("ROLLBACK")

    async def _quiet(self) -> None:
        """Until nothing goes on that does not wait for a gate, or for somebody's leave."""
        end, last, same = monotonic() + HANG_S, self._inside.state(), 0
        while same < 2:
            active = await self._watch.fetchval(_ACTIVE)
            now = self._inside.state()
            same = same + 1 if now == last and not active else 0
            last = now
            if monotonic() > end:
                raise Different(f"no rest: {now}")

    async def _until(self, condition: Callable[[], bool]) -> None:
        end = monotonic() + HANG_S
        while not condition():
            if monotonic() > end:
                waiting = [pair for pair in self._pairs.values() if pair.waits]
                raise Different(f"hangs: {self._inside.state()} {self._described(waiting)}")
            await asyncio.sleep(_POLL_S)

    # --- deeds ---

    async def _do(self, deeds: tuple[Deed, ...]) -> None:
        for deed in deeds:
            pair = self._pairs.get(deed.client)
            if pair is not None and await _DEEDS[deed.what](self, pair, deed):
                self.tally.deeds[deed.what] = self.tally.deeds.get(deed.what, 0) + 1

    def _only(self, pair: Pair) -> Said | None:
        """The one unit that a client waits with, of whose answer it has heard nothing."""
        if not pair.waits or len(pair.said) != 1 or pair.said[0].unit.readies != 1:
            return None
        return pair.said[0] if not pair.through.has_heard else None

    def _cancel_task(self, pair: Pair) -> asyncio.Task[None]:
        wire, place = pair.through.wire, self._owner
        sending = send_cancel(place.host, place.port, wire.pid, wire.secret)
        return asyncio.get_running_loop().create_task(sending)

    async def _cancel(self, pair: Pair, deed: Deed) -> bool:
        said = self._only(pair)
        if said is None or self._late:
            return False
        said.canceled = True
        await self._cancel_task(pair)
        await self._quiet()
        return True

    async def _cancel_late(self, pair: Pair, deed: Deed) -> bool:
        """The request has reached the gateway, and PostgreSQL hears of it behind the answer."""
        said, pool = self._only(pair), self._inside.pool
        if said is None or self._late or self._inside.server_of(pair.pid) is None:
            return False
        said.canceled = True
        self._cancels.may_arrive.clear()
        before = pool.counters.cancels
        self._late = [self._cancel_task(pair)]
        await self._until(lambda: pool.counters.cancels > before)
        return True

    async def _let_cancels_arrive(self) -> None:
        """Those that were held up until a gate was opened."""
        for task in self._late:
            await self._quiet()
            self._cancels.may_arrive.set()
            await task
        self._late.clear()

    async def _go(self, pair: Pair, deed: Deed) -> bool:
        said = self._only(pair)
        idle = not pair.said and not pair.waits
        if self._late or not (idle or (said is not None and said.unit.lone)):
            return False
        await self._leave(pair, deed.what)
        return True

    async def _send_more(self, pair: Pair, deed: Deed) -> bool:
        if deed.unit is None or pair.may_die or any(one.canceled for one in pair.said):
            return False  # its own cancel may hit what it sends next
        await self._send(pair, deed.unit)
        await self._quiet()
        return True

    async def _kill(self, pair: Pair, deed: Deed) -> bool:
        """Only of a server on which nothing has been done for it but one read."""
        said, server = self._only(pair), self._inside.server_of(pair.pid)
        if server is None or said is None or not said.unit.lone or server.status != ord("I"):
            return False
        pair.may_die = True
        await self._watch.execute("SELECT pg_terminate_backend($1)", server.pid)
        await self._until(lambda: server.lost)
        await self._quiet()
        return True

    async def _renew(self, pair: Pair, deed: Deed) -> bool:
        self._inside.pool.reconnect()
        return True

    # --- comparing ---

    async def _compare(self, pair: Pair) -> None:
        """What a client was told in this round with its twin's answers to the same."""
        heard, said = pair.through.take(), pair.said
        pair.said = []
        if pair.may_die and heard and heard[-1] is EOF:
            if sqlstates(heard)[-1:] not in ([one] for one in _ENDED):
                raise Different(f"{name_of(pair.number)} is left without a word: {heard}")
            await self._leave(pair, What.RST)
            return
        pair.may_die = False
        for one in said:
            answer, heard = _split(heard, one.unit.readies)
            if one.canceled and sqlstates(answer) == [_CANCELED]:
                if "".join(message.tag for message in answer).lstrip("12TnD") != "EZ":
                    raise Different(f"{name_of(pair.number)}, cancelled, is told {answer}")
                pair.in_doubt = True
                continue
            expected = await self._ask_twin(pair, one.unit)
            if found := difference(
                self._names["direct"].lines(expected), self._names["through"].lines(answer)
            ):
                raise Different(f"{name_of(pair.number)}, {one.unit!r}:\n{found}")
        if heard:
            raise Different(f"{name_of(pair.number)} is told without having asked: {heard}")

    async def _ask_twin(self, pair: Pair, unit: Unit) -> list[Message]:
        talker = pair.direct
        await talker.send(talker.say(unit.say.parts))
        try:
            await talker.wait(HANG_S)
        except TimeoutError:
            raise Different(f"PostgreSQL does not answer {unit!r}: {talker.take()}") from None
        return talker.take()


_Doing = Callable[[Lines, Pair, Deed], Awaitable[bool]]
_DEEDS: dict[What, _Doing] = {
    What.CANCEL: Lines._cancel,
    What.LATE_CANCEL: Lines._cancel_late,
    What.RST: Lines._go,
    What.FIN: Lines._go,
    What.GOODBYE: Lines._go,
    What.MORE: Lines._send_more,
    What.KILL: Lines._kill,
    What.RENEW: Lines._renew,
}
"""What each does; whether it was done."""


def _split(heard: list[Message], readies: int) -> tuple[list[Message], list[Message]]:
    """An answer that ends with the so-manieth ReadyForQuery, and the rest."""
    for at, message in enumerate(heard, 1):
        readies -= message.tag == "Z"
        if not readies:
            return heard[:at], heard[at:]
    return heard, []


async def _drop(pair: Pair, how: What) -> None:
    for talker in (pair.through, pair.direct):
        if talker.closed:
            talker.wire.fin()
        elif how is What.RST:
            talker.wire.rst()
        else:
            if how is What.GOODBYE:
                talker.wire.send(messages.TERMINATE)
            talker.wire.fin()
        await talker.end()
