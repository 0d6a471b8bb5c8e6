"""The control connection: greetings with descriptors, messages, requests, and peers that fail."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from gateway.errors import ConfigError
from gateway.supervisor.channel import (
    MESSAGE_MAX_BYTES,
    AskFailed,
    Body,
    Channel,
    greet,
    greeted,
)


def test_a_greeting_carries_a_body_and_descriptors() -> None:
    one, other = socket.socketpair()
    read_end, write_end = os.pipe()
    with one, other:
        greet(one, {"pid": 7}, {"pipe": write_end, "other": read_end})
        body, descriptors = greeted(other)
    assert body == {"pid": 7}
    assert list(descriptors) == ["pipe", "other"]
    os.write(descriptors["pipe"], b"through")
    assert os.read(read_end, 10) == b"through"
    for descriptor in (read_end, write_end, *descriptors.values()):
        os.close(descriptor)


def test_a_greeting_without_descriptors() -> None:
    one, other = socket.socketpair()
    with one, other:
        greet(one, {"number": None}, {})
        assert greeted(other) == ({"number": None}, {})


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"", EOFError),
        (b"\0\0", EOFError),
        (struct.pack("!I", 100) + b"{", EOFError),
        (struct.pack("!I", MESSAGE_MAX_BYTES + 1), ValueError),
        (struct.pack("!I", 3) + b"{{{", ValueError),
    ],
)
def test_what_is_no_greeting(data: bytes, error: type[Exception]) -> None:
    one, other = socket.socketpair()
    with other:
        one.sendall(data)
        one.close()
        with pytest.raises(error):
            greeted(other)


@asynccontextmanager
async def pair(answerers: dict[str, Any]) -> AsyncIterator[tuple[Channel, Channel, list[Body]]]:
    """Two ends; the second one answers. The list has the messages that it heard."""
    heard: list[Body] = []
    one, other = socket.socketpair()
    asks = Channel({}, {}, "the other")
    answers = Channel({"note": heard.append}, answerers, "the one")
    await asks.attach(one)
    await answers.attach(other)
    running = [asyncio.ensure_future(end.run()) for end in (asks, answers)]
    try:
        yield asks, answers, heard
    finally:
        asks.close()
        await asyncio.gather(*running)


async def test_messages_come_in_order_and_requests_are_answered_in_parts() -> None:
    async def many(body: Body) -> list[Any]:
        return [[body["what"], number] for number in range(1001)]

    async with pair({"many": many}) as (asks, _, heard):
        for number in range(50):
            asks.tell("note", number=number)
        items = await asks.ask("many", 5, what="row")
        assert items == [["row", number] for number in range(1001)]
        assert [body["number"] for body in heard] == list(range(50))


async def test_errors_are_told_as_what_they_are() -> None:
    async def broken(body: Body) -> list[Any]:
        raise RuntimeError("a mistake")

    async def bad_settings(body: Body) -> list[Any]:
        raise ConfigError(["f:1:1: wrong", "f:2:1: wrong too"])

    async with pair({"broken": broken, "bad": bad_settings}) as (asks, _, _heard):
        with pytest.raises(AskFailed, match="a mistake"):
            await asks.ask("broken", 5)
        with pytest.raises(ConfigError) as caught:
            await asks.ask("bad", 5)
        assert caught.value.problems == ["f:1:1: wrong", "f:2:1: wrong too"]
        with pytest.raises(AskFailed):
            await asks.ask("unknown", 5)


async def test_who_does_not_answer_in_time_is_left_out() -> None:
    async def slow(body: Body) -> list[Any]:
        await asyncio.sleep(60)
        return []

    async with pair({"slow": slow}) as (asks, answers, _):
        with pytest.raises(AskFailed, match="did not answer"):
            await asks.ask("slow", 0.05)
        waiting = asyncio.ensure_future(asks.ask("slow", 60))
        await asyncio.sleep(0.05)
        answers.close()
        with pytest.raises(AskFailed, match="has gone"):
            await waiting
        with pytest.raises(AskFailed, match="has gone"):
            await asks.ask("slow", 60)
        asks.tell("note")


@pytest.mark.parametrize(
    "data",
    [
        struct.pack("!I", MESSAGE_MAX_BYTES + 1),
        struct.pack("!I", 2) + b"[]",
        struct.pack("!I", 2) + b"{}",
        struct.pack("!I", 4) + b"nope",
    ],
)
async def test_a_peer_that_talks_nonsense_is_left(data: bytes) -> None:
    one, other = socket.socketpair()
    channel = Channel({}, {}, "nobody")
    await channel.attach(one)
    other.sendall(data)
    async with asyncio.timeout(5):
        await channel.run()
    assert not channel.open
    other.close()


async def test_a_peer_that_reads_nothing_is_left_before_memory_is_full(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("gateway.supervisor.channel._BACKLOG_MAX_BYTES", 1024 * 1024)
    one, other = socket.socketpair()
    channel = Channel({}, {}, "a sleeper")
    await channel.attach(one)
    for _ in range(100):
        channel.tell("note", text="x" * 100_000)
        if not channel.open:
            break
    assert not channel.open
    other.close()
