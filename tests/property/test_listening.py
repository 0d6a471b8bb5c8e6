"""Clients that LISTEN, leave, lose their server, at any moment: who listens hears, and nothing
stays with nobody."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.pool.core import ServerState
from gateway.pool.listening import Listening
from gateway.router.build import build_snapshot
from gateway.worker import Worker
from tests.property.miniature import Client, Postgres, VirtualLoop, gateway
from tests.unit.settings.samples import SMALLEST, load

CHANNELS = ("a", "b")
CLIENTS = 4
SETTLED_S = 6.0
SETTINGS = f"{SMALLEST}pool:\n  max: 3\n"

channel = st.sampled_from(CHANNELS)
Step = tuple[str, int, str]
STEP = st.tuples(
    st.sampled_from(
        [
            *("LISTEN {}",) * 4,
            "UNLISTEN {}",
            "UNLISTEN *",
            "DISCARD ALL",
            "BEGIN; LISTEN {}; COMMIT",
            "BEGIN; UNLISTEN {}; SELECT 1/0",
            "BEGIN; LISTEN {}",
            "BEGIN; UNLISTEN {}",
            "COMMIT",
            "ROLLBACK",
            "NOTIFY {}, 'x'",
            "SELECT 1/0",
            *("leave",) * 3,
            "die",
            "the listener dies",
            "reconnect",
            "down",
            "up",
            "reload",
        ]
    ),
    st.integers(0, CLIENTS - 1),
    channel,
)
MS = st.sampled_from([0, 0, 1, 1, 2, 3, 10, 700])


class World:
    """A gateway, its clients by place, and what each would hear from PostgreSQL itself."""

    def __init__(self, worker: Worker, postgres: Postgres) -> None:
        self.worker = worker
        self.postgres = postgres
        self.clients: dict[int, Client] = {}
        self.numbers = 0
        self.settings = (load(SETTINGS), load(SETTINGS.replace("/law", "/law?sslmode=disable")))

    @property
    def listening(self) -> list[Listening]:
        return list(self.worker.context.pools._listening.values())

    def client(self, place: int) -> Client:
        client = self.clients.get(place)
        if client is None or not client.open:
            self.numbers += 1
            client = self.clients[place] = Client(self.worker, self.numbers)
        return client

    def do(self, what: str, place: int, name: str) -> None:
        """One step; who still waits for an answer says nothing."""
        if what in _ORDERS:
            _ORDERS[what](self)
        elif what in ("leave", "die"):
            client = self.client(place)
            server = client.session.server
            if what == "leave":
                client.leave()
            elif server is not None:
                for backend in list(self.postgres.backends):
                    if backend.protocol is server:
                        backend.die()
        else:
            client = self.client(place)
            if not client.waits:
                client.says(what.format(name))

    async def settle(self) -> None:
        self.postgres.up = True
        await asyncio.sleep(SETTLED_S)

    def shared_dies(self) -> None:
        for backend in list(self.postgres.backends):
            if backend.pid in {one.pid for one in self.listening}:
                backend.die()

    def go(self, *, up: bool) -> None:
        self.postgres.up = up
        for backend in list(self.postgres.backends) if not up else ():
            backend.die()

    def reload(self) -> None:
        """The same database, to be reached in another way."""
        self.settings = (self.settings[1], self.settings[0])
        context = self.worker.context
        context.follow(
            self.settings[0], build_snapshot(self.settings[0], context.snapshot.epoch + 1)
        )
        self.worker._configure_pools()

    def reconnect(self) -> None:
        pools = self.worker.context.pools
        pools.reconnect({pool.dsn.address for pool in pools})


_ORDERS: dict[str, Callable[[World], None]] = {
    "the listener dies": World.shared_dies,
    "reconnect": World.reconnect,
    "down": lambda world: world.go(up=False),
    "up": lambda world: world.go(up=True),
    "reload": World.reload,
}


def nothing_is_held(world: World) -> None:
    for pool in world.worker.context.pools:
        held = pool.core.total - pool.core.count(ServerState.IDLE)
        assert not held, f"{held} servers are held by nobody"
        assert not pool.core.queue
    for one in world.listening:
        assert not (one.channels or one._markers or one.pid)
    left = {name for backend in world.postgres.backends for name in backend.channels}
    assert not left, f"servers listen to {left} for nobody"


async def play(delays_ms: list[int], steps: list[tuple[int, Step]]) -> None:
    postgres = Postgres(delays_ms)
    async with gateway(load(SETTINGS), postgres) as worker:
        await play_in(World(worker, postgres), steps)


async def play_in(world: World, steps: list[tuple[int, Step]]) -> None:
    for delay_ms, step in steps:
        await asyncio.sleep(delay_ms / 1000)
        world.do(*step)
    await end(world)


async def end(world: World) -> None:
    """Who is left hears what it listens to, and then leaves."""
    await world.settle()
    staying = [one for one in world.clients.values() if one.open]
    for _ in range(CLIENTS):  # who waits may wait for another one's transaction to end
        for client in staying:
            if not client.waits:
                client.says("COMMIT")
        await world.settle()
    assert not any(client.waits for client in staying)
    for name in CHANNELS:
        world.postgres.notify(None, name, "the end")
    await world.settle()
    for client in staying:
        told = sorted(channel for channel, payload in client.heard if payload == "the end")
        assert told == sorted(client.channels)
        client.leave()
    await world.settle()
    nothing_is_held(world)


async def disturbed(step: Step, after_ms: int) -> None:
    """One listens; another does, on a quicker server than the shared one; then that happens."""
    postgres = Postgres([])
    async with gateway(load(SETTINGS), postgres) as worker:
        world = World(worker, postgres)
        world.do("LISTEN {}", 0, "a")
        await asyncio.sleep(1.0)
        (shared,) = postgres.backends
        shared.slow_s = 0.02
        world.do("BEGIN; LISTEN a; LISTEN b; COMMIT", 1, "")
        await asyncio.sleep(after_ms / 1000)
        world.do(*step)
        await end(world)


@pytest.mark.parametrize(
    "step",
    [
        ("leave", 0, ""),
        ("leave", 1, ""),
        ("the listener dies", 0, ""),
        ("reconnect", 0, ""),
        ("reload", 0, ""),
    ],
)
def test_trap_what_happens_while_a_listen_is_moved_leaves_nothing_and_nobody_deaf(
    step: Step,
) -> None:
    """At each moment of the move, that between its own marker and the shared one's among them."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        for after_ms in range(0, 120, 4):
            runner.run(disturbed(step, after_ms))


@settings(deadline=None, max_examples=100)
@given(
    delays_ms=st.lists(st.sampled_from([0, 1, 1, 2, 5, 20]), max_size=60),
    steps=st.lists(st.tuples(MS, STEP), max_size=25),
)
def test_who_listens_hears_and_nothing_is_held_by_nobody(
    delays_ms: list[int], steps: list[tuple[int, Step]]
) -> None:
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(play(delays_ms, steps))
