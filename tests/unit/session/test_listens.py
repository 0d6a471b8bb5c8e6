"""How notifications reach a client: together when they came together, between transactions."""

from __future__ import annotations

import pytest

from gateway.errors import GatewayError
from gateway.session.listens import Listens, notification


class Client:
    """A client's end: what was written to it, piece by piece."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.between = True
        self.listens = Listens(self.pieces.append, lambda: self.between, self._overflown, {})

    def _overflown(self, error: GatewayError) -> None:
        raise AssertionError(error)

    def notified(self, *payloads: bytes) -> bytes:
        for payload in payloads:
            self.listens.notified(7, b"news", payload)
        return b"".join(notification(7, b"news", payload) for payload in payloads)


@pytest.fixture
def client() -> Client:
    return Client()


def test_those_of_one_commit_are_one_piece(client: Client) -> None:
    first = client.notified(b"one", b"two")
    client.listens.all_notified()
    second = client.notified(b"three")
    client.listens.all_notified()
    assert client.pieces == [first, second]


def test_they_wait_for_the_end_of_a_transaction(client: Client) -> None:
    early = client.notified(b"one")
    client.between = False
    late = client.notified(b"two")
    client.listens.all_notified()
    assert client.pieces == []
    client.between = True
    client.listens.transaction_ended(b"COMMIT\0")
    client.listens.all_notified()
    assert client.pieces == [early + late]


def test_who_has_gone_is_told_nothing(client: Client) -> None:
    client.notified(b"one")
    client.listens.end()
    client.listens.all_notified()
    assert client.pieces == []
