"""Clients that share servers, and whatever may happen to them and to the servers meanwhile: own
answers only, a pause ends, and nothing stays counted that does not run."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.admin.operations import carry_out, still_running
from gateway.errors import ShuttingDown
from gateway.pool.core import ServerState
from gateway.pool.pool import Pool
from gateway.protocol import messages
from gateway.router.build import build_snapshot
from gateway.router.identity import Login, LoginKind, Owner
from gateway.session.standing import Deed, Instruction, Kind, Scope
from gateway.settings.model import Settings
from gateway.worker import Worker
from tests.property.miniature import Backend, Client, Postgres, VirtualLoop, gateway
from tests.unit.settings.samples import SMALLEST, load

CLIENTS = 8
GOES_ON = 5
OWNERS = ("1", "2")
SETTLED_S = 15.0
SLOW_S = 0.4
FOR_EVER_S = 1e6
TIMEOUT_MS = 300
EVERYTHING = Scope(Kind.ALL)
LAW = Scope(Kind.INDUSTRY, "LAW")
ONE_OWNER = Scope(Kind.OWNER, OWNERS[0])

MAY_HEAR = ("57P01", "08006", "08001", "57P03", "53300")
"""What befalls its server, or all: it has gone, none can be had, work is paused for long."""

Step = tuple[str, int]
STEP = st.tuples(
    st.sampled_from(
        [
            *("crowd",) * 6,
            *("read",) * 3,
            *("cancel", "several cancel") * 2,
            *("leave",) * 2,
            "begin",
            "write",
            "commit",
            "die",
            "slow",
            "quick",
            *("tell",) * 2,
            "reconnect",
            "resize",
            "pause",
            "pause an owner",
            "resume",
            "kill",
            "kill a client",
            "fence",
            "reload",
            "down",
            "up",
        ]
    ),
    st.integers(0, CLIENTS - 1),
)
MS = st.sampled_from([0, 0, 0, 1, 1, 2, 3, 10, 700])


def options(timeout_ms: int, way: str = "") -> Settings:
    """Two servers, and lines of four; one of the owners may have one server only."""
    pool = f"max: 2\n  share_depth: 4\n  share_ms: 20\n  query_timeout_ms: {timeout_ms}"
    limits = f"owners:\n    {OWNERS[1]}:\n      servers: 1"
    smallest = SMALLEST.replace("/law", f"/law{way}")
    return load(f"{smallest}pool:\n  {pool}\nlimits:\n  {limits}\n")


class Reader(Client):
    """Asks for numbers that nobody else asks for, and looks at what it is told."""

    def __init__(self, worker: Worker, number: int, owner: str, may_hear: set[str]) -> None:
        self.rows: list[bytes] = []
        self.errors: list[str] = []
        self.asked = ""
        self.goes_on = 0
        """So often it asks again as soon as it has its answer."""
        self.on_answer: Callable[[], None] = lambda: None
        self.in_transaction = False
        self.cancelled = False
        """What runs, or the next statement of its own transaction, as with PostgreSQL."""
        self.wrong: list[str] = []
        """What it should not have heard."""
        self._may_hear = may_hear
        super().__init__(worker, number, Login(f"owner_{owner}", LoginKind.OWNER, "", owner))

    def says(self, sql: str) -> None:
        self.rows.clear()
        self.errors.clear()
        self.asked = sql
        super().says(sql)

    def _hears(self, tag: str, body: bytes) -> None:
        if tag == "E":
            sqlstate = messages.read_fields(body)["C"]
            self.errors.append(sqlstate)
            expected = {"57014": self.cancelled, "25P02": self.in_transaction}
            if sqlstate not in self._may_hear and not expected.get(sqlstate):
                self.wrong.append(sqlstate)
        elif tag == "D":
            self.rows += [one or b"" for one in messages.read_data_row(body)]
        elif tag == "Z":
            verb, _, value = self.asked.partition(" ")
            told = [value.encode()] if verb == "SELECT" and not self.errors else []
            if self.rows != told or not self.waits:
                self.wrong.append(f"{self.rows} for {self.asked}")
            self.waits = False
            self.in_transaction = body != b"I"
            self.cancelled = self.cancelled and self.in_transaction
            if self.goes_on:
                self.goes_on -= 1
                asyncio.get_running_loop().call_soon(self.on_answer)

    def close(self) -> None:
        super().close()
        self.waits = False


class World:
    """A gateway, its clients by place, and what may happen."""

    def __init__(self, worker: Worker, postgres: Postgres, settings: Settings) -> None:
        self._other = options(settings.pool.query_timeout_ms, "?sslmode=disable")
        self.worker = worker
        self.context = worker.context
        self.postgres = postgres
        self.clients: dict[int, Reader] = {}
        self.everybody: list[Reader] = []
        self.numbers = 0
        self.settings = settings
        self.may_hear = set(MAY_HEAR)
        if settings.pool.query_timeout_ms:
            self.may_hear.add("57014")

    @property
    def pools(self) -> list[Pool]:
        return list(self.context.pools)

    @property
    def present(self) -> list[Reader]:
        return [one for one in self.clients.values() if one.open]

    def client(self, place: int) -> Reader:
        client = self.clients.get(place)
        if client is None or not client.open:
            self.numbers += 1
            owner = OWNERS[place % len(OWNERS)]
            client = Reader(self.worker, self.numbers, owner, self.may_hear)
            client.on_answer = partial(self.ask_again, place, client)
            self.clients[place] = client
            self.everybody.append(client)
        return client

    def believe_short(self) -> None:
        """Have the gateway take reads for short ones, however long some have taken."""
        timing = self.context.facts.facts(b"SELECT 1").timing
        assert timing is not None
        for _ in range(200):
            timing.took(0.0)

    def know_tables(self) -> None:
        """Have the pools know that all tables are only tables, before anybody asks."""
        for pool in self.pools:
            pool.sharing.plain.told((), pool.schema.changes, asyncio.get_running_loop().time())

    def do(self, what: str, place: int) -> None:
        self.believe_short()
        _DEEDS[what](self, place)

    def say(self, place: int, sql: str) -> None:
        """Who still waits for an answer says nothing."""
        client = self.client(place)
        if not client.waits:
            client.says(sql)

    def read(self, place: int) -> None:
        self.numbers += 1
        self.say(place, f"SELECT {self.numbers}")

    def ask_again(self, place: int, client: Reader) -> None:
        if client.open:
            self.read(place)

    def crowd(self, place: int) -> None:
        for one in range(CLIENTS):
            at = (place + one) % CLIENTS
            self.client(at).goes_on = GOES_ON
            self.read(at)

    def several_cancel(self, place: int) -> None:
        for one in range(CLIENTS // 2):
            self.cancel((place + one) % CLIENTS)

    def cancel(self, place: int) -> None:
        client = self.client(place)
        client.cancelled = client.cancelled or client.waits or client.in_transaction
        client.session.cancel()

    def backend(self, place: int) -> Backend | None:
        backends = self.postgres.backends
        return backends[place % len(backends)] if backends else None

    def die(self, place: int) -> None:
        backend = self.backend(place)
        if backend is not None:
            backend.die()

    def slow(self, place: int, slow_s: float) -> None:
        backend = self.backend(place)
        if backend is not None:
            backend.slow_s = slow_s

    def tell(self, place: int) -> None:
        """A read that nobody can tell it of changes the session's settings."""
        backend = self.backend(place)
        if backend is not None:
            self.numbers += 1
            backend.tells = str(self.numbers).encode()

    def go(self, *, up: bool) -> None:
        self.postgres.up = up
        for backend in list(self.postgres.backends) if not up else ():
            backend.die()

    def order(self, deed: Deed, scope: Scope = EVERYTHING) -> None:
        carry_out(self.context, Instruction(deed, scope))

    def resize(self, place: int) -> None:
        for pool in self.pools:
            if not pool.core.retired:
                pool.resize(pool.limits.model_copy(update={"max": 1 + place % 3}))

    def fence(self) -> None:
        for pool in self.pools:
            pool.fence(ShuttingDown("it is the primary no more"))

    def reload(self) -> None:
        """The same database, to be reached in another way."""
        self.settings, self._other = self._other, self.settings
        snapshot = build_snapshot(self.settings, self.context.snapshot.epoch + 1)
        self.context.follow(self.settings, snapshot)
        self.worker._configure_pools()

    # --- what must hold ---

    async def settle(self) -> None:
        self.postgres.up = True
        for backend in self.postgres.backends:
            backend.slow_s = 0.0
        await asyncio.sleep(SETTLED_S)

    async def transactions_end(self) -> None:
        """Who waits may wait for the end of another one's."""
        await self.settle()
        while inside := [one for one in self.present if one.in_transaction]:
            for client in inside:
                if not client.waits:
                    client.says("COMMIT")
            await self.settle()

    async def pause_ends(self) -> None:
        """Once the transactions have ended that are open, nothing runs, and nothing is counted."""
        self.order(Deed.RESUME)
        self.order(Deed.PAUSE)
        await self.transactions_end()
        assert still_running(self.context, EVERYTHING) == []
        for pool in self.pools:
            core = pool.core
            assert not any(map(core.count, ServerState)), "a paused pool keeps its connections"
            assert core.in_use == 0
            assert not core._rides
            self.nobody_holds(pool)
        self.order(Deed.RESUME)

    def nobody_holds(self, pool: Pool) -> None:
        fair = pool.core.fair
        assert not any(account.held for account in fair._accounts.values())
        assert not any(meter.held or meter.parked for meter in fair._meters.values())
        assert fair.ready == 0

    async def everybody_is_served(self) -> None:
        await self.transactions_end()
        assert not any(client.waits for client in self.present)
        self.crowd(0)
        await self.settle()
        for client in self.present:
            assert not client.waits
            assert not client.errors
            client.leave()
        await self.settle()
        wrong = [one for client in self.everybody for one in client.wrong]
        assert not wrong, wrong
        for pool in self.pools:
            assert pool.core.in_use == 0
            self.nobody_holds(pool)


_DEEDS: dict[str, Callable[[World, int], None]] = {
    "crowd": World.crowd,
    "read": World.read,
    "cancel": World.cancel,
    "several cancel": World.several_cancel,
    "leave": lambda world, place: world.client(place).leave(),
    "begin": lambda world, place: world.say(place, "BEGIN"),
    "write": lambda world, place: world.say(place, "UPDATE t SET a = 1"),
    "commit": lambda world, place: world.say(place, "COMMIT"),
    "die": World.die,
    "slow": lambda world, place: world.slow(place, SLOW_S),
    "tell": World.tell,
    "quick": lambda world, place: world.slow(place, 0.0),
    "reconnect": lambda world, _: world.order(Deed.RECONNECT),
    "resize": World.resize,
    "pause": lambda world, _: world.order(Deed.PAUSE),
    "pause an owner": lambda world, _: world.order(Deed.PAUSE, ONE_OWNER),
    "resume": lambda world, _: world.order(Deed.RESUME),
    "kill": lambda world, _: world.order(Deed.KILL, LAW),
    "kill a client": lambda world, place: world.order(
        Deed.KILL, Scope(Kind.CLIENT, str(world.client(place).session.number))
    ),
    "fence": lambda world, _: world.fence(),
    "reload": lambda world, _: world.reload(),
    "down": lambda world, _: world.go(up=False),
    "up": lambda world, _: world.go(up=True),
}


async def home(owner_id: str) -> Owner | None:
    return Owner(owner_id, "LAW")


@asynccontextmanager
async def world_of(timeout_ms: int, delays_ms: list[int]) -> AsyncIterator[World]:
    settings, postgres = options(timeout_ms), Postgres(delays_ms)
    async with gateway(settings, postgres) as worker:
        with mock.patch.object(worker.context.directory._owners, "_load", home):
            yield World(worker, postgres, settings)


async def play(timeout_ms: int, delays_ms: list[int], steps: list[tuple[int, Step]]) -> int:
    """How often somebody followed another one on a server."""
    async with world_of(timeout_ms, delays_ms) as world:
        for delay_ms, step in steps:
            await asyncio.sleep(delay_ms / 1000)
            world.do(*step)
        await world.pause_ends()
        await world.everybody_is_served()
        return sum(pool.counters.rides for pool in world.pools)


def run(timeout_ms: int, delays_ms: list[int], steps: list[tuple[int, Step]]) -> int:
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(play(timeout_ms, delays_ms, steps))


def test_a_crowd_shares() -> None:
    crowd = (2, ("crowd", 0))
    assert run(0, [], [crowd] * 10) > 4 * CLIENTS


def leave(world: World, *places: int) -> None:
    for place in places:
        world.client(place).leave()


def one_leaves_and_the_other_cancels(world: World) -> None:
    leave(world, 4)
    world.cancel(2)


def both_leave_and_it_is_fenced(world: World) -> None:
    leave(world, 2, 4)
    world.fence()


LEFT_BEHIND: dict[str, tuple[Callable[[World], None], float]] = {
    "both leave": (lambda world: leave(world, 2, 4), 5.0),
    "the one behind leaves first": (lambda world: leave(world, 4, 2), 5.0),
    "the one ahead leaves": (lambda world: leave(world, 2), 5.0),
    "one leaves, the other cancels": (one_leaves_and_the_other_cancels, 5.0),
    "both are ended": (lambda world: world.order(Deed.KILL, LAW), 0.0),
    "both leave, and it is the primary no more": (both_leave_and_it_is_fenced, 0.0),
}
"""What happens, and after how many seconds the server is nobody's."""


@pytest.mark.parametrize("what", LEFT_BEHIND)
def test_what_nobody_waits_for_any_more_holds_no_server(what: str) -> None:
    """One asks what takes for ever, as does another behind him on the only server."""
    happens, after_s = LEFT_BEHIND[what]

    async def left_behind() -> None:
        async with world_of(0, []) as world:
            world.do("begin", 0)
            await asyncio.sleep(1)
            world.know_tables()
            world.do("resize", 0)
            world.do("read", 2)
            world.do("read", 4)
            world.do("commit", 0)
            await asyncio.sleep(0.0025)
            (backend,) = world.postgres.backends
            backend.slow_s = FOR_EVER_S
            await asyncio.sleep(0.01)
            server = backend.protocol
            assert server is not None
            assert server.client is world.client(2).session
            assert server.line == [world.client(4).session]
            happens(world)
            await asyncio.sleep(after_s)
            assert not any(server in pool.core.servers(ServerState.BUSY) for pool in world.pools)
            await world.everybody_is_served()

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(left_behind())


@settings(deadline=None, max_examples=100)
@given(
    timeout_ms=st.sampled_from([0, TIMEOUT_MS]),
    delays_ms=st.lists(st.sampled_from([0, 1, 1, 2, 5, 20]), max_size=60),
    steps=st.lists(st.tuples(MS, STEP), max_size=40),
)
def test_own_answers_only_and_a_pause_ends_whatever_happens(
    timeout_ms: int, delays_ms: list[int], steps: list[tuple[int, Step]]
) -> None:
    run(timeout_ms, delays_ms, steps)
