"""The pool's decisions against a model of it, in any order of events."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from gateway.errors import PoolExhausted
from gateway.pool.core import PoolCore, ServerState

CHOICE = st.integers(0, 100)


class PoolMachine(RuleBasedStateMachine):
    """Plays the pool that does the I/O. Servers and clients are numbers.

    The model: which server is in which state, who has which server, who is in line there, and who
    waits since when.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.last = 0
        self.state: dict[int, ServerState] = {}
        self.holder: dict[int, int] = {}
        self.riders: dict[int, list[int]] = {}
        self.waiting: list[tuple[int, float]] = []
        self.opening = 0
        self.outside = 0
        self.retired = False

    @initialize(minimum=st.integers(0, 3), room=st.integers(0, 4), queue_max=st.integers(0, 5))
    def begin(self, minimum: int, room: int, queue_max: int) -> None:
        self.core = PoolCore(minimum, minimum + room + 1, queue_max)

    # --- what the model makes of it ---

    def number(self) -> int:
        self.last += 1
        return self.last

    def among(self, state: ServerState) -> list[int]:
        return [server for server, its in self.state.items() if its is state]

    def lend(self, server: int, client: int) -> None:
        assert client not in self.holder.values(), "served twice"
        self.put(server, ServerState.BUSY)
        self.holder[server] = client

    def put(self, server: int, state: ServerState) -> None:
        self.holder.pop(server, None)
        self.riders.pop(server, None)
        self.state.pop(server, None)
        self.state[server] = state

    def alone(self) -> list[int]:
        """The servers that one client has for itself."""
        return [server for server in self.holder if not self.riders.get(server)]

    def settle(self, server: int, state: ServerState) -> None:
        """A server came free; as the pool does, it is closed when it is too many."""
        if self.core.retired or self.core.excess:
            self.core.to_closing(server)
            self.put(server, ServerState.CLOSING)
            return
        served = self.core.settle(server, state, self.now)
        if self.waiting:
            first = self.waiting.pop(0)
            assert served == first, "first come, first served"
            self.lend(server, first[0])
        else:
            assert served is None
            self.put(server, ServerState.IDLE)

    # --- clients ---

    @rule(prefers=st.none() | CHOICE)
    def client_comes(self, prefers: int | None) -> None:
        client = self.number()
        idle = self.among(ServerState.IDLE)
        preferred = None if prefers is None else self.pick_any(prefers)
        server = self.core.checkout(preferred)
        if server is not None:
            assert server == (preferred if preferred in idle else idle[-1])
            self.lend(server, client)
            return
        assert not idle
        if self.retired:
            return
        self.now += 1.0
        full = len(self.waiting) >= self.core.queue_max
        try:
            self.core.enqueue(client, self.now)
        except PoolExhausted:
            assert full
        else:
            assert not full
            self.waiting.append((client, self.now))

    def pick_any(self, choice: int) -> int | None:
        servers = list(self.state)
        return servers[choice % len(servers)] if servers else None

    @precondition(lambda self: self.waiting)
    @rule(choice=CHOICE)
    def waiter_leaves(self, choice: int) -> None:
        waiter, _ = self.waiting.pop(choice % len(self.waiting))
        assert self.core.leave(waiter)
        assert not self.core.leave(waiter)

    @rule(back_s=st.integers(0, 3))
    def time_is_up(self, back_s: int) -> None:
        before = self.now - back_s
        late = [waiter for waiter, since in self.waiting if since <= before]
        assert self.core.overdue(before) == late
        self.waiting = [one for one in self.waiting if one[1] > before]

    @precondition(lambda self: self.holder and self.waiting)
    @rule(choice=CHOICE)
    def first_in_queue_follows(self, choice: int) -> None:
        server = list(self.holder)[choice % len(self.holder)]
        client, since = self.waiting.pop(0)
        assert self.core.first(self.now) == client
        assert self.core.ride(server, client, self.now) == since
        self.riders.setdefault(server, []).append(client)

    @precondition(lambda self: any(self.riders.values()))
    @rule(choice=CHOICE)
    def turn_passes_on(self, choice: int) -> None:
        shared = [server for server, line in self.riders.items() if line]
        server = shared[choice % len(shared)]
        self.core.pass_on(server, self.now)
        self.holder[server] = self.riders[server].pop(0)

    @precondition(lambda self: self.alone())
    @rule(choice=CHOICE, dirty=st.booleans())
    def client_is_done(self, choice: int, dirty: bool) -> None:
        server = self.alone()[choice % len(self.alone())]
        if dirty:
            self.core.to_cleaning(server)
            self.put(server, ServerState.CLEANING)
        else:
            self.settle(server, ServerState.BUSY)

    # --- servers ---

    @rule()
    def opens_what_is_wanted(self) -> None:
        wanted = self.core.opens_wanted()
        assert wanted >= 0
        self.core.opening += wanted
        self.opening += wanted
        assert not wanted or self.core.total <= self.core.maximum
        assert self.core.opens_wanted() == 0

    @precondition(lambda self: self.opening)
    @rule(succeeds=st.booleans())
    def connect_ends(self, succeeds: bool) -> None:
        self.opening -= 1
        if not succeeds:
            self.core.opening -= 1
            return
        server = self.number()
        self.core.opened(server)
        self.put(server, ServerState.BUSY)
        self.settle(server, ServerState.BUSY)

    @precondition(lambda self: self.among(ServerState.CLEANING))
    @rule(choice=CHOICE)
    def is_clean(self, choice: int) -> None:
        cleaning = self.among(ServerState.CLEANING)
        self.settle(cleaning[choice % len(cleaning)], ServerState.CLEANING)

    @precondition(lambda self: self.state)
    @rule(choice=CHOICE)
    def is_closed(self, choice: int) -> None:
        server = self.pick_any(choice)
        assert server is not None
        self.core.to_closing(server)
        self.put(server, ServerState.CLOSING)

    @precondition(lambda self: self.state)
    @rule(choice=CHOICE)
    def is_lost(self, choice: int) -> None:
        server = self.pick_any(choice)
        assert server is not None
        assert self.core.gone(server)
        assert not self.core.gone(server)
        self.core.to_closing(server)  # an order that comes too late brings nothing back
        del self.state[server]
        self.holder.pop(server, None)
        self.riders.pop(server, None)

    @rule(change=st.sampled_from([1, -1]))
    def somebody_takes_one_outside(self, change: int) -> None:
        if change > 0 and self.core.total < self.core.maximum:
            self.core.outside += 1
            self.outside += 1
        elif change < 0 and self.outside:
            self.core.outside -= 1
            self.outside -= 1

    # --- settings ---

    @precondition(lambda self: not self.retired)
    @rule(minimum=st.integers(0, 3), room=st.integers(0, 4))
    def is_resized(self, minimum: int, room: int) -> None:
        self.core.minimum, self.core.maximum = minimum, minimum + room + 1
        surplus = self.core.surplus()
        kept = len(self.state) - len(self.among(ServerState.CLOSING)) + self.opening + self.outside
        assert surplus == max(0, min(len(self.among(ServerState.IDLE)), kept - self.core.maximum))
        for server in self.core.servers(ServerState.IDLE)[:surplus]:
            self.core.to_closing(server)
            self.put(server, ServerState.CLOSING)

    @precondition(lambda self: not self.retired)
    @rule()
    def is_retired(self) -> None:
        assert self.core.retire() == [waiter for waiter, _ in self.waiting]
        self.waiting.clear()
        self.retired = True

    # --- what must hold ---

    @invariant()
    def every_server_is_in_one_state(self) -> None:
        for state in ServerState:
            assert self.core.servers(state) == self.among(state)
            assert self.core.count(state) == len(self.among(state))

    @invariant()
    def counts_are_right(self) -> None:
        closing = len(self.among(ServerState.CLOSING))
        assert self.core.live == len(self.state) - closing
        assert self.core.total == len(self.state) + self.opening + self.outside
        assert self.core.excess == max(0, self.core.total - closing - self.core.maximum)
        served = len(self.holder) + sum(map(len, self.riders.values()))
        assert self.core.in_use == served + len(self.waiting)

    @invariant()
    def the_queue_is_as_they_came(self) -> None:
        found = [(waiter, place.since) for waiter, place in self.core.queue.items()]
        assert found == self.waiting

    @invariant()
    def nobody_waits_beside_an_idle_server(self) -> None:
        assert not (self.waiting and self.among(ServerState.IDLE))

    @invariant()
    def whoever_waits_will_be_served(self) -> None:
        """Somebody has each server that there may be, or one is coming, or one may be opened."""
        if self.waiting:
            coming = self.core.total or self.core.opens_wanted()
            assert coming


PoolMachine.TestCase.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
TestPool = PoolMachine.TestCase
