"""Passing cancel requests on: what is sealed, what is believed, what is bounded."""

from __future__ import annotations

import asyncio

import pytest

from gateway.directory import cancels
from gateway.directory.cancels import CancelRelay, Key, Seal, _Message
from gateway.errors import DirectoryUnavailable
from gateway.settings.dsn import parse

META = parse("postgresql://gateway:secret@db/meta")
ASKED = _Message([Key(4194305, b"abcd")], False)


class Clock:
    """Wall-clock time that a test sets."""

    def __init__(self) -> None:
        self.time = 1_000_000.0

    def __call__(self) -> float:
        return self.time


def test_every_gateway_with_the_same_login_reads_it_and_nobody_else() -> None:
    clock = Clock()
    payload = Seal(META, clock).close(ASKED)
    same = parse("postgresql://gateway:secret@other-name.db:5433/meta?sslmode=require")
    assert Seal(same, clock).open(payload) == ASKED
    other = parse("postgresql://gateway:guess@db/meta")
    assert Seal(other, clock).open(payload) is None


def test_trap_what_was_heard_once_or_is_old_is_not_believed() -> None:
    clock = Clock()
    seal = Seal(META, clock)
    once, late = seal.close(ASKED), seal.close(ASKED)
    assert seal.open(once) == ASKED
    assert seal.open(once) is None
    clock.time += 31
    assert seal.open(late) is None


@pytest.mark.parametrize("payload", ["", "all", "x" * 200, "é", '"'])
def test_what_no_gateway_made_means_nothing(payload: str) -> None:
    assert Seal(META, Clock()).open(payload) is None


def test_a_full_message_of_the_longest_keys_fits_a_notification() -> None:
    keys = [Key(0x7FFFFFFF, bytes(32))] * cancels.KEYS_PER_MESSAGE_MAX
    assert len(Seal(META, Clock()).close(_Message(keys, False))) < 8000


async def test_those_who_ask_for_the_same_key_share_one_answer() -> None:
    clock, sent, is_sent = Clock(), list[str](), asyncio.Event()

    async def send(payload: str) -> None:
        sent.append(payload)
        is_sent.set()

    relay, other = CancelRelay(Seal(META, clock), send), Seal(META, clock)
    asking = [asyncio.create_task(relay.forward(*ASKED.keys[0])) for _ in range(3)]
    await is_sent.wait()
    assert [other.open(one) for one in sent] == [ASKED]
    relay.heard(other.close(_Message(ASKED.keys, True)))
    assert await asyncio.gather(*asking) == [True] * 3
    await relay.close()


async def test_trap_a_flood_waits_in_bounded_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cancels, "ANSWER_S", 0.1)

    async def send(payload: str) -> None:
        raise DirectoryUnavailable("down")

    relay = CancelRelay(Seal(META, Clock()), send)
    floods = cancels.WAITING_MAX + 50
    answers = await asyncio.gather(*(relay.forward(n, b"abcd") for n in range(floods)))
    assert not any(answers)
    assert relay.refused == 50
    assert not await relay.forward(1, bytes(100)), "longer than any key: nobody is asked"
    await relay.close()
