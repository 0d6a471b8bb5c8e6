"""Owners that share servers and bounds, in any order of events: nobody is lost, nobody starves."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from gateway.pool.core import PoolCore, ServerState
from gateway.pool.fairness import Tenant

CHOICE = st.integers(0, 10**6)
SERVERS = 3

TENANTS = (
    Tenant("plain"),
    Tenant("heavy", weight=5.0),
    Tenant("admin", operator=True),
    Tenant("a", bounds=(("owner a", 1), ("login app", 2))),
    Tenant("b", bounds=(("owner b", 2), ("login app", 2))),
    Tenant("c", bounds=(("login app", 2), ("industry", 3))),
    Tenant("d", bounds=(("industry", 3),)),
)


class FairMachine(RuleBasedStateMachine):
    """Clients of some owners over four servers; the model knows who may have what."""

    def __init__(self) -> None:
        super().__init__()
        self.core = PoolCore(0, SERVERS, 1000)
        self.now = 0.0
        self.last = 0
        self.waiting: dict[Tenant, list[int]] = {tenant: [] for tenant in TENANTS}
        self.holder: dict[int, Tenant] = {}
        self.riding: dict[int, list[Tenant]] = {}
        self.cleaning: list[int] = []
        for server in range(SERVERS):
            self.core.opening += 1
            self.core.opened(server)
            self.core.settle(server, ServerState.BUSY)

    # --- the model ---

    def served(self) -> list[Tenant]:
        return [*self.holder.values(), *(one for line in self.riding.values() for one in line)]

    def alone(self) -> list[int]:
        """Servers of clients, with nobody in line."""
        free = set(self.holder) - set(self.cleaning)
        return [one for one in self.holder if one in free and not self.riding.get(one)]

    def held(self, name: str) -> int:
        return sum(name in dict(tenant.bounds) for tenant in self.served())

    def may_have(self, tenant: Tenant) -> bool:
        if not tenant.operator and self.core.reserve:
            others = sum(not one.operator for one in self.served())
            if others >= max(1, SERVERS - self.core.reserve):
                return False
        return all(self.held(name) < most for name, most in tenant.bounds)

    def serve(self, server: int, waiter: int) -> None:
        self.holder[server] = self.taken(waiter)

    def taken(self, waiter: int) -> Tenant:
        """Whose turn has come; out of the model's queue."""
        tenant = next(one for one in TENANTS if waiter in self.waiting[one])
        assert self.may_have(tenant)
        assert self.waiting[tenant][0] == waiter, "first come, first served within an owner"
        self.waiting[tenant].pop(0)
        return tenant

    def free(self, server: int, state: ServerState) -> None:
        del self.holder[server]
        served = self.core.settle(server, state, self.now)
        if served is not None:
            self.serve(server, served[0])
        self.serve_idle()

    def serve_idle(self) -> None:
        while (idle := self.core.serve_idle(self.now)) is not None:
            self.serve(idle[0], idle[1])

    # --- events ---

    @rule(tenant=st.sampled_from(TENANTS))
    def comes(self, tenant: Tenant) -> None:
        self.last += 1
        server = self.core.checkout(None, tenant, self.now)
        if server is not None:
            assert self.may_have(tenant)
            self.holder[server] = tenant
            return
        self.core.enqueue(self.last, self.now, tenant)
        self.waiting[tenant].append(self.last)

    @precondition(lambda self: any(self.waiting.values()))
    @rule(choice=CHOICE)
    def leaves(self, choice: int) -> None:
        every = [(tenant, one) for tenant, line in self.waiting.items() for one in line]
        tenant, waiter = every[choice % len(every)]
        assert self.core.leave(waiter)
        self.waiting[tenant].remove(waiter)

    @precondition(lambda self: len(self.holder) > len(self.cleaning))
    @rule(choice=CHOICE)
    def next_follows(self, choice: int) -> None:
        """Who follows on a busy server is who would be served next."""
        busy = [one for one in self.holder if one not in self.cleaning]
        first = self.core.first(self.now)
        if first is None:
            assert not any(line and self.may_have(one) for one, line in self.waiting.items())
            return
        server = busy[choice % len(busy)]
        self.core.ride(server, first, self.now)
        self.riding.setdefault(server, []).append(self.taken(first))

    @precondition(lambda self: any(self.riding.values()))
    @rule(choice=CHOICE, took_s=st.floats(0, 5))
    def turn_passes_on(self, choice: int, took_s: float) -> None:
        self.now += took_s
        shared = [server for server, line in self.riding.items() if line]
        server = shared[choice % len(shared)]
        self.core.pass_on(server, self.now)
        self.holder[server] = self.riding[server].pop(0)
        assert self.core.tenant(server) is self.holder[server]
        self.serve_idle()

    @precondition(lambda self: self.holder)
    @rule(choice=CHOICE, took_s=st.floats(0, 5))
    def is_done(self, choice: int, took_s: float) -> None:
        self.now += took_s
        if busy := self.alone():
            self.free(busy[choice % len(busy)], ServerState.BUSY)

    @precondition(lambda self: self.holder)
    @rule(choice=CHOICE)
    def is_abandoned(self, choice: int) -> None:
        if busy := self.alone():
            server = busy[choice % len(busy)]
            self.core.to_cleaning(server)
            self.cleaning.append(server)

    @precondition(lambda self: self.cleaning)
    @rule()
    def is_clean(self) -> None:
        self.free(self.cleaning.pop(0), ServerState.CLEANING)

    @precondition(lambda self: self.holder)
    @rule(choice=CHOICE)
    def is_lost_and_opened_again(self, choice: int) -> None:
        server = list(self.holder)[choice % len(self.holder)]
        del self.holder[server]
        self.riding.pop(server, None)
        if server in self.cleaning:
            self.cleaning.remove(server)
        assert self.core.gone(server, self.now)
        self.serve_idle()
        self.core.opening += 1
        self.core.opened(server)
        served = self.core.settle(server, ServerState.BUSY, self.now)
        if served is not None:
            self.serve(server, served[0])
        self.serve_idle()

    @rule(reserve=st.integers(0, SERVERS))
    def reserve_changes(self, reserve: int) -> None:
        if not self.holder and not any(self.waiting.values()):
            self.core.reserve = reserve

    @rule(seconds=st.floats(0, 10))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        self.core.fair.rest(self.now, self.core.live)

    # --- what must hold ---

    @invariant()
    def nobody_is_lost(self) -> None:
        assert set(self.core.queue) == {one for line in self.waiting.values() for one in line}

    @invariant()
    def no_bound_is_passed(self) -> None:
        for tenant in TENANTS:
            assert all(self.held(name) <= most for name, most in tenant.bounds)

    @invariant()
    def nobody_waits_who_may_have_an_idle_server(self) -> None:
        if self.core.count(ServerState.IDLE):
            assert not any(line and self.may_have(one) for one, line in self.waiting.items())

    @invariant()
    def nobody_is_known_for_nothing(self) -> None:
        fair = self.core.fair
        assert 0 <= fair.ready <= len(fair)

    def teardown(self) -> None:
        """Every waiter is served after so many releases as there are servers and waiters."""
        left = len(self.served()) + sum(map(len, self.waiting.values()))
        for _ in range(left):
            if not self.holder:
                break
            server = next(iter(self.holder))
            self.now += 0.1
            if self.riding.get(server):
                self.core.pass_on(server, self.now)
                self.holder[server] = self.riding[server].pop(0)
                self.serve_idle()
                continue
            state = ServerState.CLEANING if server in self.cleaning else ServerState.BUSY
            if server in self.cleaning:
                self.cleaning.remove(server)
            self.free(server, state)
        assert not any(self.waiting.values())
        assert not self.holder
        fair = self.core.fair
        for _ in range(3):
            self.now += 10_000.0
            fair.rest(self.now, SERVERS)
        assert (fair.ready, fair.accounts) == (0, 0)


FairMachine.TestCase.settings = settings(max_examples=150, stateful_step_count=50, deadline=None)
TestFairQueue = FairMachine.TestCase
