"""First packets: what each asks for, and that nothing malformed gets through."""

from __future__ import annotations

import struct

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.errors import ProtocolViolation
from gateway.protocol import messages
from gateway.protocol.startup import (
    CANCEL_REQUEST,
    GSSENC_REQUEST,
    PACKET_MAX_BYTES,
    PROTOCOL_3_0,
    PROTOCOL_3_2,
    SSL_REQUEST,
    CancelRequest,
    FirstPacket,
    GssencRequest,
    SslRequest,
    StartupMessage,
    packet_length,
    read_packet,
    split_options,
    split_words,
    unknown_options,
)


def packet(code: int, body: bytes = b"") -> bytes:
    return struct.pack("!ii", len(body) + 8, code) + body


VALID: list[tuple[bytes, FirstPacket]] = [
    (packet(SSL_REQUEST), SslRequest()),
    (packet(GSSENC_REQUEST), GssencRequest()),
    (packet(CANCEL_REQUEST, b"\0\0\0\x07abcd"), CancelRequest(7, b"abcd")),
    (packet(CANCEL_REQUEST, b"\xff\xff\xff\xff" + b"s" * 256), CancelRequest(-1, b"s" * 256)),
    (packet(PROTOCOL_3_0, b"user\0u\0\0"), StartupMessage(PROTOCOL_3_0, {"user": "u"})),
    (packet(PROTOCOL_3_0, b"\0"), StartupMessage(PROTOCOL_3_0, {})),
    (
        packet(PROTOCOL_3_2, "user\0ü\0options\0\0\0".encode()),
        StartupMessage(PROTOCOL_3_2, {"user": "ü", "options": ""}),
    ),
    (packet(PROTOCOL_3_0, b"a\x001\0a\x002\0\0"), StartupMessage(PROTOCOL_3_0, {"a": "2"})),
    (packet(0x3FFFF, b"\0"), StartupMessage(0x3FFFF, {})),
]

MALFORMED = {
    "nothing": b"",
    "half a length": b"\0\0",
    "no code": b"\0\0\0\x04",
    "not as long as it says": b"\0\0\0\x09" + struct.pack("!i", PROTOCOL_3_0),
    "longer than it says": packet(PROTOCOL_3_0, b"\0") + b"x",
    "SSLRequest with a body": packet(SSL_REQUEST, b"x"),
    "GSSENCRequest with a body": packet(GSSENC_REQUEST, b"x"),
    "CancelRequest without a key": packet(CANCEL_REQUEST),
    "CancelRequest with an empty key": packet(CANCEL_REQUEST, b"\0\0\0\x07"),
    "CancelRequest with a long key": packet(CANCEL_REQUEST, bytes(4 + 257)),
    "no terminator": packet(PROTOCOL_3_0),
    "not terminated": packet(PROTOCOL_3_0, b"user\0u\0"),
    "cut off in a value": packet(PROTOCOL_3_0, b"user\0u"),
    "a name without a value": packet(PROTOCOL_3_0, b"user\0\0"),
    "an empty name": packet(PROTOCOL_3_0, b"\0u\0\0"),
    "something behind the terminator": packet(PROTOCOL_3_0, b"user\0u\0\0x\0"),
    "two terminators": packet(PROTOCOL_3_0, b"user\0u\0\0\0"),
    "not UTF-8": packet(PROTOCOL_3_0, b"user\0\xff\0\0"),
    "version 2": packet(0x20000, b"\0"),
    "version 4": packet(0x40000, b"\0"),
    "version -1": packet(-1, b"\0"),
    "HTTP": b"GET / HTTP/1.1\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03",
}


@pytest.mark.parametrize(("raw", "meaning"), VALID)
def test_valid_packets(raw: bytes, meaning: FirstPacket) -> None:
    assert packet_length(raw[:4]) == len(raw)
    assert read_packet(raw) == meaning


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_packets(name: str) -> None:
    with pytest.raises(ProtocolViolation):
        read_packet(MALFORMED[name])


@pytest.mark.parametrize("length", [0, 4, 7, PACKET_MAX_BYTES + 1, 0x7FFFFFFF, 0xFFFFFFFF])
def test_lengths_out_of_bounds(length: int) -> None:
    with pytest.raises(ProtocolViolation):
        packet_length(length.to_bytes(4, "big"))


@pytest.mark.parametrize("length", [8, PACKET_MAX_BYTES])
def test_lengths_within_bounds(length: int) -> None:
    assert packet_length(length.to_bytes(4, "big")) == length


def test_the_version_is_told() -> None:
    with pytest.raises(ProtocolViolation, match=r"unsupported frontend protocol 2\.1"):
        read_packet(packet(0x20001, b"\0"))


def test_the_minor_version() -> None:
    assert StartupMessage(PROTOCOL_3_2, {}).minor == 2


def test_unknown_protocol_options_are_those_with_the_reserved_prefix() -> None:
    startup = StartupMessage(PROTOCOL_3_2, {"user": "u", "_pq_.x": "1", "a_pq_.y": "2"})
    assert unknown_options(startup) == [b"_pq_.x"]


NAMES = st.text(st.characters(exclude_characters="\0", codec="utf-8"), min_size=1, max_size=20)
VALUES = st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=40)


@given(parameters=st.dictionaries(NAMES, VALUES, max_size=8))
def test_what_our_own_startup_message_says_is_read_back(parameters: dict[str, str]) -> None:
    raw = messages.startup(parameters, PROTOCOL_3_0)
    assert read_packet(raw) == StartupMessage(PROTOCOL_3_0, parameters)


def try_to_read(raw: bytes) -> None:
    """Anything is either understood or a ProtocolViolation; any other exception is a bug."""
    try:
        length = packet_length(raw[:4])
        request = read_packet(raw[:length])
        if isinstance(request, StartupMessage):
            split_options(request.parameters.get("options", ""))
            unknown_options(request)
    except ProtocolViolation as error:
        messages.error_response(error)


@given(raw=st.binary(max_size=300))
def test_random_bytes(raw: bytes) -> None:
    try_to_read(raw)


@given(code=st.integers(-(2**31), 2**31 - 1) | st.just(PROTOCOL_3_0), body=st.binary(max_size=300))
def test_random_bodies(code: int, body: bytes) -> None:
    try_to_read(packet(code, body))


@given(
    valid=st.sampled_from([raw for raw, _ in VALID]),
    edits=st.lists(st.tuples(st.integers(0, 400), st.binary(max_size=3)), min_size=1, max_size=4),
)
def test_mutated_packets(valid: bytes, edits: list[tuple[int, bytes]]) -> None:
    raw = valid
    for at, piece in edits:
        raw = raw[:at] + piece + raw[at + 1 :]
    try_to_read(raw)
    try_to_read(len(raw).to_bytes(4, "big") + raw[4:])


# --- the startup parameter "options" ---------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "settings"),
    [
        ("", []),
        (" \t\n", []),
        ("-c a=1", [("a", "1")]),
        ("-ca=1", [("a", "1")]),
        ("-c  a=1 --b=2", [("a", "1"), ("b", "2")]),
        ("--work-mem=64MB", [("work_mem", "64MB")]),
        ("-c a=", [("a", "")]),
        ("-c a=b=c", [("a", "b=c")]),
        (r"-c a=one\ word", [("a", "one word")]),
        (r"-c a=back\\slash", [("a", "back\\slash")]),
        ("-c a=1\\", [("a", "1")]),
        ("-c gateway.owner=7", [("gateway.owner", "7")]),
        ("-c a=\u00a0x\u3000y\x1cz", [("a", "\u00a0x\u3000y\x1cz")]),
        ("-c a=1 -c a=2", [("a", "1"), ("a", "2")]),
    ],
)
def test_options(options: str, settings: list[tuple[str, str]]) -> None:
    assert split_options(options) == settings


@pytest.mark.parametrize(
    "options", ["-c", "-c a", "-c =1", "--a", "--", "-d 5", "word", "-S 64", "\\", "-c -c a=1"]
)
def test_options_that_are_refused(options: str) -> None:
    with pytest.raises(ProtocolViolation):
        split_options(options)


def pg_split_opts(text: str) -> list[str]:
    """PostgreSQL's function, word for word (src/backend/utils/init/postinit.c)."""
    arguments = []
    at = 0
    while at < len(text):
        last_was_escape = False
        word = ""
        while at < len(text) and text[at] in " \t\n\v\f\r":
            at += 1
        if at == len(text):
            break
        while at < len(text):
            if text[at] in " \t\n\v\f\r" and not last_was_escape:
                break
            if not last_was_escape and text[at] == "\\":
                last_was_escape = True
            else:
                last_was_escape = False
                word += text[at]
            at += 1
        arguments.append(word)
    return arguments


@given(text=st.text(st.sampled_from("ab \\\t\v\u00a0'") | st.characters(), max_size=30))
@example(text="\\")
@example(text="a\\ b\\\\ c\\")
@example(text="\x1c\x85\u3000")
def test_words_are_split_as_postgresql_does(text: str) -> None:
    assert split_words(text) == pg_split_opts(text)
