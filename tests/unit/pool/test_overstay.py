"""Who takes too long, as seen a few times a second."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import cast

from gateway.pool.fairness import Tenant
from gateway.pool.overstay import Allowed, Overstay, Watch
from gateway.pool.server import IDLE, ServerConnection

IN_TRANSACTION = ord("T")


@dataclass(eq=False)
class _Replies:
    idle: bool = True


@dataclass(eq=False)
class _Server:
    """As much of a server connection as is looked at."""

    status: int = IDLE
    turns: int = 0
    replies: _Replies = field(default_factory=_Replies)

    def runs(self) -> None:
        self.replies.idle = False

    def rests(self, status: int) -> None:
        self.replies.idle, self.status = True, status
        self.turns += 1


class Looks:
    """A watch over one server, whose clock the test sets."""

    def __init__(self, tenant: Tenant | None = None, query_s: float = 1.0, idle_s: float = 2.0):
        self.server = _Server()
        self._watch = Watch()
        self._tenant = tenant or Tenant()
        self._allowed = Allowed(query_s, idle_s)

    def at(self, now: float) -> list[tuple[Overstay, float]]:
        servers = [cast(ServerConnection, self.server)]
        found = self._watch.look(servers, lambda server: self._tenant, self._allowed, now)
        return [(what, limit_s) for _, what, limit_s in found]


def test_a_statement_is_named_when_its_time_is_up_and_again_as_long_after() -> None:
    looks = Looks()
    looks.server.runs()
    assert looks.at(0.0) == looks.at(0.9) == []
    assert looks.at(1.0) == [(Overstay.QUERY, 1.0)]
    assert looks.at(1.9) == []
    assert looks.at(2.0) == [(Overstay.QUERY, 1.0)]


def test_statement_after_statement_is_none_that_takes_long() -> None:
    looks = Looks()
    for number in range(10):
        looks.server.runs()
        assert looks.at(number * 0.6) == []
        looks.server.turns += 1


def test_an_idle_transaction_has_its_own_time_from_its_last_statement_on() -> None:
    looks = Looks()
    looks.server.runs()
    assert looks.at(0.0) == []
    looks.server.rests(IN_TRANSACTION)
    assert looks.at(0.9) == looks.at(2.8) == []
    assert looks.at(2.9) == [(Overstay.IDLE_IN_TRANSACTION, 2.0)]


def test_who_is_between_transactions_may_stay() -> None:
    looks = Looks()
    looks.server.rests(IDLE)
    assert looks.at(0.0) == looks.at(1000.0) == []


def test_a_tenants_own_times_stand_in_place_of_the_pools() -> None:
    looks = Looks(Tenant("slow", query_timeout_s=5.0))
    looks.server.runs()
    assert looks.at(0.0) == looks.at(4.9) == []
    assert looks.at(5.0) == [(Overstay.QUERY, 5.0)]
    free = Looks(Tenant("free", query_timeout_s=0.0))
    free.server.runs()
    assert free.at(0.0) == free.at(1000.0) == []
