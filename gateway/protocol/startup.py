"""The first packets of a connection, which have no tag: SSL, GSS and cancel requests, startup.

Source: PostgreSQL documentation, "Frontend/Backend Protocol", sections "Message Flow: Start-up"
and "Message Formats".
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from gateway.errors import ProtocolViolation

SSL_REQUEST = 80877103
GSSENC_REQUEST = 80877104
CANCEL_REQUEST = 80877102

PROTOCOL_3_0 = 0x30000
PROTOCOL_3_2 = 0x30002
NEWEST = PROTOCOL_3_2

PACKET_MAX_BYTES = 10_000
"""PostgreSQL's own bound on a startup packet (MAX_STARTUP_PACKET_LENGTH)."""

CANCEL_SECRET_MAX_BYTES = 256

_HEAD = struct.Struct("!ii")

_WHITE_SPACE = " \t\n\v\f\r"


@dataclass(frozen=True, slots=True)
class SslRequest:
    """The client would like TLS."""


@dataclass(frozen=True, slots=True)
class GssencRequest:
    """The client would like GSSAPI encryption."""


@dataclass(frozen=True, slots=True)
class CancelRequest:
    """Cancel what the connection with this key is running."""

    pid: int
    secret: bytes


@dataclass(frozen=True, slots=True)
class StartupMessage:
    """Log in. ``parameters`` are the client's words, undecided; ``version`` is major<<16|minor."""

    version: int
    parameters: dict[str, str]

    @property
    def minor(self) -> int:
        return self.version & 0xFFFF


class NoPacket(ProtocolViolation):
    """What came first is no packet of this protocol; PostgreSQL hangs up on it without a word."""


FirstPacket = SslRequest | GssencRequest | CancelRequest | StartupMessage


def packet_length(head: bytes) -> int:
    """Length of the packet whose first four bytes are ``head``. Raises NoPacket."""
    length = int.from_bytes(head[:4], "big")
    if not 8 <= length <= PACKET_MAX_BYTES:
        raise NoPacket("invalid length of startup packet")
    return length


def read_packet(packet: bytes) -> FirstPacket:
    """What a complete first packet asks for. Raises ProtocolViolation when it is malformed."""
    _require(len(packet) >= _HEAD.size, "a startup packet without a protocol version")
    length, code = _HEAD.unpack_from(packet)
    _require(length == len(packet), "invalid length of startup packet")
    if code == SSL_REQUEST:
        _require(len(packet) == 8, "invalid length of SSLRequest")
        return SslRequest()
    if code == GSSENC_REQUEST:
        _require(len(packet) == 8, "invalid length of GSSENCRequest")
        return GssencRequest()
    if code == CANCEL_REQUEST:
        _require(
            12 < len(packet) <= 12 + CANCEL_SECRET_MAX_BYTES, "invalid length of CancelRequest"
        )
        return CancelRequest(int.from_bytes(packet[8:12], "big", signed=True), packet[12:])
    if code >> 16 != 3:
        raise ProtocolViolation(
            f"unsupported frontend protocol {code >> 16 & 0xFFFF}.{code & 0xFFFF}:"
            " server supports 3.0 to 3.2"
        )
    return StartupMessage(code, _read_parameters(packet[8:]))


def _read_parameters(body: bytes) -> dict[str, str]:
    """Name and value strings in turn, ended by one more NUL that is the packet's last byte."""
    _require(
        body.endswith(b"\0"), "invalid startup packet layout: expected terminator as last byte"
    )
    parts = body[:-1].split(b"\0")
    _require(parts.pop() == b"", "invalid startup packet layout: expected terminator as last byte")
    _require(len(parts) % 2 == 0, "invalid startup packet layout: a name without a value")
    parameters: dict[str, str] = {}
    for name, value in zip(parts[::2], parts[1::2], strict=True):
        _require(name != b"", "invalid startup packet layout: an empty name")
        parameters[_text(name)] = _text(value)
    return parameters


def _text(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise ProtocolViolation("a startup parameter is not valid UTF-8") from None


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ProtocolViolation(message)


def unknown_options(startup: StartupMessage) -> list[bytes]:
    """Protocol options (``_pq_.`` names) that we don't know and must say so."""
    return [name.encode() for name in startup.parameters if name.startswith("_pq_.")]


def split_options(options: str) -> list[tuple[str, str]]:
    """Settings out of the startup parameter ``options``: ``-c name=value`` and ``--name=value``.

    Raises ProtocolViolation for any other switch.
    """
    settings: list[tuple[str, str]] = []
    words = iter(split_words(options))
    for word in words:
        if word == "-c":
            setting = next(words, None)
            _require(setting is not None, "option -c requires a value")
        elif word.startswith(("-c", "--")):
            setting = word[2:]
        else:
            raise ProtocolViolation(
                f"unsupported word {word!r} in the startup option 'options'",
                hint="Use -c name=value or --name=value.",
            )
        name, equals, value = (setting or "").partition("=")
        _require(bool(name and equals), f"-c {setting} requires a value")
        settings.append((name.replace("-", "_"), value))
    return settings


def split_words(options: str) -> list[str]:
    """Words between white space of the C locale; a backslash takes the next character as it is.

    PostgreSQL's pg_split_opts.
    """
    words: list[str] = []
    word = ""
    started = False
    characters = iter(options)
    for character in characters:
        if character in _WHITE_SPACE:
            if started:
                words.append(word)
            word, started = "", False
            continue
        started = True
        word += next(characters, "") if character == "\\" else character
    if started:
        words.append(word)
    return words
