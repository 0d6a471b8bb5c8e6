"""How a stream is cut into chunks changes nothing: framing, the relay and the first packet."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from itertools import pairwise
from typing import cast

from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway.errors import ProtocolViolation
from gateway.net.listener import _request
from gateway.net.stream import MessageStream
from gateway.protocol import messages, replies
from gateway.protocol.framing import HEADER_BYTES, message_size, tag_set, walk
from gateway.protocol.replies import Expected
from gateway.protocol.startup import PROTOCOL_3_0, PROTOCOL_3_2
from tests import reference_server as reference
from tests.property.test_replies import DESCRIBES, EXECUTES, KINDS, OTHERS, QUERIES
from tests.reference_server import ReferenceServer, Sent
from tests.unit.session.conversation import (
    Conversation,
    Event,
    notice,
    notification,
    reported,
    said,
)

CUTS = st.none() | st.lists(st.integers(0, 2000), max_size=20)


def chunks(data: bytes, cuts: list[int] | None) -> list[bytes]:
    """``data`` cut at these places; None is everywhere."""
    if cuts is None:
        return [bytes([byte]) for byte in data]
    places = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    return [data[start:end] for start, end in pairwise(places)]


# --- walk ------------------------------------------------------------------------------------

MESSAGES = st.lists(st.tuples(st.integers(0, 255), st.binary(max_size=20)), max_size=8)


def reference_walk(data: bytes, pos: int, end: int, stops: bytes) -> int:
    """The same, said slowly."""
    while True:
        rest = data[pos:end]
        if len(rest) < 5 or rest[0] in stops:
            return pos
        length = int.from_bytes(rest[1:5], "big")
        if len(rest) < 1 + length:
            return pos
        pos += 1 + length


@given(stream=MESSAGES, before=st.binary(max_size=5), cut=st.integers(0, 40), stops=st.binary())
def test_walk_is_as_the_reference(
    stream: list[tuple[int, bytes]], before: bytes, cut: int, stops: bytes
) -> None:
    data = before + b"".join(messages.message(bytes([tag]), body) for tag, body in stream)
    end = max(len(before), len(data) - cut)
    found = walk(data, len(before), end, tag_set(stops))
    assert found == reference_walk(data, len(before), end, stops)


@given(data=st.binary(max_size=60), stops=st.binary(max_size=3))
def test_walk_over_anything_ends_or_refuses(data: bytes, stops: bytes) -> None:
    try:
        pos = walk(data, 0, len(data), tag_set(stops))
    except ProtocolViolation:
        return
    assert 0 <= pos <= len(data)
    rest = len(data) - pos
    assert rest < HEADER_BYTES or data[pos] in stops or message_size(data, pos) > rest


# --- the relay -------------------------------------------------------------------------------

SILENT = st.builds(
    lambda tag, fate: Sent(tag, (fate,), silent=True),
    st.sampled_from("QPC"),
    st.sampled_from([reference.COMMAND, reference.COMMAND, reference.ERROR]),
)
TALK = st.lists(
    QUERIES | EXECUTES | OTHERS | DESCRIBES | SILENT | st.just(Sent(reference.SYNTHETIC)),
    max_size=8,
)
ASIDES = st.lists(
    st.tuples(
        st.integers(0, 30),
        st.sampled_from(
            [notice(), notification("ch", "x" * 50), reported("a", "1"), reported("a", "2")]
        ),
    ),
    max_size=4,
)
BODIES = {
    "T": messages.row_description(["a", "b"])[HEADER_BYTES:],
    "D": messages.data_row(["x" * 30, None])[HEADER_BYTES:],
    "d": b"some\tcopied\tdata\n",
    "C": b"SELECT 1\0",
    "E": b"SERROR\0VERROR\0C22012\0Mdivision by zero\0\0",
    "Z": b"I",
    "G": b"\0\0\x01\0\0",
    "H": b"\0\0\x01\0\0",
    "V": b"\0\0\0\x01x",
    "t": b"\0\0",
}


def normal(sent: Sent) -> Sent:
    """Copies from the client are left to the dialogues; a silent message's fate is good or bad."""
    if sent.copies:
        return Sent(sent.tag, tuple(reference.COPY_OUT for _ in sent.fates))
    if sent.silent and sent.tag != "Q":
        return Sent(
            sent.tag, (reference.BAD if sent.fates[0] == reference.ERROR else reference.OK,), True
        )
    return sent


def answers(sent: list[Sent], asides: list[tuple[int, bytes]]) -> bytes:
    """What a server says to all of it, with asynchronous messages thrown in."""
    server = ReferenceServer()
    for message in sent:
        server.receive(message)
    pieces = [
        said(word.tag, BODIES.get(word.tag, b""))
        for word in server.said
        if word.tag != reference.SYNTHETIC
    ]
    for at, aside in asides:
        pieces.insert(min(at, len(pieces)), aside)
    return b"".join(pieces)


@dataclass(frozen=True)
class Story:
    """``told`` are the callbacks in order; with those that the client answers, how many bytes it
    had by then. ``own`` is what the gateway's own queries were told."""

    heard: bytes
    told: list[tuple[int, Event]]
    own: list[str]


def play(sent: list[Sent], data: list[bytes]) -> Story:
    """What becomes of these chunks."""
    talk = Conversation()
    own: list[str] = []
    for message in sent:
        if message.tag == "Q" and message.silent:
            talk.server.prepare_ask("", lambda answer: own.append(repr(answer)))
            continue
        reply = messages.PARSE_COMPLETE if message.tag == reference.SYNTHETIC else b""
        talk.server.replies.expect(Expected(KINDS[message.tag], silent=message.silent, reply=reply))
        if talk.server.replies.synthetic_due:
            talk.server.give_synthetic()
    for chunk in data:
        talk.server.data_received(chunk)
    told, size = [], 0
    for event in talk.client.heard:
        if event[0] == "bytes":
            size += len(cast(bytes, event[1]))
        else:
            told.append((size if event[0] in ("ready", "notified") else 0, event))
    return Story(talk.client.bytes_heard, told, own)


@settings(max_examples=150, deadline=None)
@given(sent=TALK.map(lambda all_sent: [normal(one) for one in all_sent]), asides=ASIDES, cuts=CUTS)
@example(
    sent=[Sent("Q", (reference.ROWS,), silent=True), Sent("Q", (reference.ROWS,))],
    asides=[],
    cuts=[3],
)
def test_cuts_change_nothing_of_what_a_client_hears(
    sent: list[Sent], asides: list[tuple[int, bytes]], cuts: list[int] | None
) -> None:
    data = answers(sent, asides)
    assert play(sent, chunks(data, cuts)) == play(sent, [data])


@settings(max_examples=150, deadline=None)
@given(sent=TALK.map(lambda all_sent: [normal(one) for one in all_sent]), cuts=CUTS)
def test_a_client_hears_its_own_answers_and_nothing_else(
    sent: list[Sent], cuts: list[int] | None
) -> None:
    """Byte for byte what the server said to its messages, and the gateway's own in their turn."""
    server = ReferenceServer()
    for message in sent:
        server.receive(message)
    expected = b""
    for word in server.said:
        origin = sent[word.origin]
        if word.tag == reference.SYNTHETIC:
            expected += messages.PARSE_COMPLETE
        elif not origin.silent or (origin.tag != "Q" and word.tag == "E"):
            expected += said(word.tag, BODIES.get(word.tag, b""))
    assert play(sent, chunks(answers(sent, []), cuts)).heard == expected


@settings(max_examples=100, deadline=None)
@given(noise=st.binary(max_size=200), cuts=CUTS)
def test_noise_from_a_server_ends_the_connection_or_is_passed_on(
    noise: bytes, cuts: list[int] | None
) -> None:
    talk = Conversation()
    talk.asks(replies.QUERY)
    for chunk in chunks(noise, cuts):
        talk.server.data_received(chunk)
    assert talk.transport.calls in ([], ["abort"])
    assert noise.startswith(talk.client.bytes_heard) or b"A" in noise


# --- the first packet ------------------------------------------------------------------------

FIRST_PACKETS = st.one_of(
    st.builds(
        messages.startup,
        st.dictionaries(
            st.sampled_from(["user", "database", "options", "application_name"]),
            st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=300),
        ),
        st.sampled_from([PROTOCOL_3_0, PROTOCOL_3_2, 0x20000]),
    ),
    st.binary(min_size=4, max_size=64).map(lambda secret: _packet(80877102, b"\0\0\0\1" + secret)),
    st.binary(max_size=40).map(lambda body: _packet(PROTOCOL_3_0, body)),
    st.binary(min_size=4, max_size=40),
)


def _packet(code: int, body: bytes) -> bytes:
    return (len(body) + 8).to_bytes(4, "big") + code.to_bytes(4, "big") + body


async def first_request(data: list[bytes], *, with_rest: bytes) -> tuple[str, bytes]:
    """What the reader makes of these chunks, and what it leaves for who comes after it."""
    stream = MessageStream()
    reader = asyncio.create_task(_request(stream))
    for chunk in data:
        await asyncio.sleep(0)
        stream.data_received(chunk)
    stream.data_received(with_rest)
    stream.eof_received()
    try:
        request = repr(await reader)
    except (ProtocolViolation, ConnectionResetError) as error:
        return repr(error), b""
    return request, await stream.read_exactly(len(with_rest))


@settings(max_examples=80, deadline=None)
@given(packet=FIRST_PACKETS, cuts=CUTS)
def test_cuts_change_nothing_of_the_first_packet(packet: bytes, cuts: list[int] | None) -> None:
    async def both() -> None:
        whole = await first_request([packet], with_rest=b"rest")
        assert await first_request(chunks(packet, cuts), with_rest=b"rest") == whole

    asyncio.run(both())
