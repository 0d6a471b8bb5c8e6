"""Cancel keys: who is reached, and by whom."""

from __future__ import annotations

import os

import pytest

from gateway.errors import GatewayError, ShuttingDown
from gateway.ids import PROCESS_ID_MAX, Numbers, cancel_secret, worker_of
from gateway.session.census import Census, new_census
from gateway.session.registry import Registry


class Session:
    """What a registry knows of a client."""

    def __init__(self, key: tuple[int, bytes]) -> None:
        self.number, self.secret = key

    def cancel(self) -> None:
        raise AssertionError

    def drain(self, error: ShuttingDown) -> None:
        raise AssertionError

    def end(self, error: GatewayError) -> None:
        raise AssertionError


def joined(registry: Registry, minor: int = 0) -> Session:
    session = Session(registry.new_key(minor))
    registry.add(session)
    return session


def test_a_cancel_reaches_the_session_with_the_key_and_no_other() -> None:
    registry = Registry()
    first, second = joined(registry), joined(registry)
    assert registry.find(second.number, second.secret) is second
    assert registry.find(first.number, first.secret) is first


@pytest.mark.parametrize("secret", [b"", b"\0\0\0\0", b"x" * 32, b"x" * 256])
def test_trap_a_wrong_key_reaches_nobody(secret: bytes) -> None:
    registry = Registry()
    session = joined(registry)
    assert registry.find(session.number, secret) is None
    assert registry.find(session.number, session.secret + b"x") is None
    assert registry.find(session.number, session.secret[:-1]) is None
    assert registry.find(session.number + 1, session.secret) is None


def test_trap_the_key_of_one_who_left_reaches_nobody() -> None:
    registry = Registry()
    gone = joined(registry)
    registry.remove(gone)
    joined(registry)
    assert registry.find(gone.number, gone.secret) is None
    registry.remove(gone)
    assert len(registry) == 1


@pytest.mark.parametrize(("minor", "length"), [(0, 4), (1, 4), (2, 32), (9, 32)])
def test_keys_are_as_long_as_the_protocol_allows(minor: int, length: int) -> None:
    assert len(Registry().new_key(minor)[1]) == length


def test_keys_are_not_used_twice_while_they_live() -> None:
    registry = Registry()
    sessions = [joined(registry) for _ in range(100)]
    assert len({session.number for session in sessions}) == 100
    assert len({session.secret for session in sessions}) == 100
    assert set(registry) == set(sessions)


def test_a_session_may_leave_while_all_are_gone_through() -> None:
    registry = Registry()
    for session in [joined(registry), joined(registry)]:
        assert session in set(registry)
    for one in registry:
        registry.remove(one)
    assert len(registry) == 0


def test_numbers_fit_an_int32_and_start_again() -> None:
    numbers = Numbers()
    first = numbers.next()
    assert numbers.next() == first + 1
    numbers._last = 0x7FFFFFFE
    assert [numbers.next(), numbers.next()] == [0x7FFFFFFF, first]


def test_trap_a_clients_number_is_no_process_id() -> None:
    """pg_terminate_backend() of what BackendKeyData told would end somebody else's server."""
    numbers = Numbers()
    assert numbers.next() > PROCESS_ID_MAX >= 4_194_304


def test_workers_never_give_the_same_number() -> None:
    first, second = Registry(worker=1), Registry(worker=2)
    numbers = [joined(registry).number for registry in (first, second, first, second)]
    assert [number - PROCESS_ID_MAX for number in numbers] == [1, 2, 65, 66]
    assert [worker_of(number) for number in numbers] == [1, 2, 1, 2]
    second._numbers._last = 0x7FFFFFFF - 10
    assert second.new_key(0)[0] == PROCESS_ID_MAX + 2 + 2 * 64, "those below are alive"


def test_clients_of_all_workers_are_counted() -> None:
    descriptor = new_census(3)
    first, second = (Registry(one, Census.shared(descriptor, one)) for one in (1, 2))
    session = joined(first)
    joined(first)
    joined(second)
    assert (len(first), first.everywhere, second.everywhere) == (2, 3, 3)
    first.remove(session)
    assert second.everywhere == 2
    Census.shared(descriptor, 2)
    assert first.everywhere == 1, "another worker sits there now"
    os.close(descriptor)


def test_a_living_number_is_passed_over_when_they_start_again() -> None:
    registry = Registry()
    old = joined(registry)
    registry._numbers._last = 0x7FFFFFFF
    assert old.number == PROCESS_ID_MAX + 1
    assert registry.new_key(0)[0] == PROCESS_ID_MAX + 2


def test_secrets_are_as_long_as_asked_for() -> None:
    assert len(cancel_secret(256)) == 256
