"""Messages that the gateway writes and reads itself."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import AuthenticationFailed, GatewayError, NoRoute, ProtocolViolation
from gateway.protocol import messages
from gateway.protocol.framing import HEADER_BYTES, message_size


def body_of(message: bytes, tag: bytes) -> bytes:
    assert message[:1] == tag
    assert message_size(message, 0) == len(message)
    return message[HEADER_BYTES:]


# --- what we write, byte for byte as the documentation has it --------------------------------


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (messages.AUTHENTICATION_OK, b"R\0\0\0\x08\0\0\0\0"),
        (messages.AUTHENTICATION_CLEARTEXT, b"R\0\0\0\x08\0\0\0\x03"),
        (messages.authentication_md5(b"salt"), b"R\0\0\0\x0c\0\0\0\x05salt"),
        (messages.authentication_sasl(["A", "B"]), b"R\0\0\0\x0d\0\0\0\x0aA\0B\0\0"),
        (messages.authentication_sasl_continue(b"x"), b"R\0\0\0\x09\0\0\0\x0bx"),
        (messages.authentication_sasl_final(b"x"), b"R\0\0\0\x09\0\0\0\x0cx"),
        (messages.backend_key_data(1, b"abcd"), b"K\0\0\0\x0c\0\0\0\x01abcd"),
        (messages.parameter_status(b"a", b"1"), b"S\0\0\0\x08a\x001\0"),
        (messages.ready_for_query(b"T"), b"Z\0\0\0\x05T"),
        (messages.READY_IDLE, b"Z\0\0\0\x05I"),
        (
            messages.negotiate_protocol_version(0x30002, [b"_pq_.x"]),
            b"v\0\0\0\x13\0\x03\0\x02\0\0\0\x01_pq_.x\0",
        ),
        (messages.command_complete("SELECT 1"), b"C\0\0\0\x0dSELECT 1\0"),
        (
            messages.parameter_description([25, 2**32 - 1]),
            b"t\0\0\0\x0e\0\x02\0\0\0\x19" + b"\xff" * 4,
        ),
        (
            messages.data_row(["é", None, ""]),
            b"D\0\0\0\x14\0\x03\0\0\0\x02\xc3\xa9\xff\xff\xff\xff\0\0\0\0",
        ),
        (
            messages.row_description(["a"]),
            b"T\0\0\0\x1a\0\x01a\0\0\0\0\0\0\0\0\0\0\x19\xff\xff\xff\xff\xff\xff\0\0",
        ),
        (messages.query("SELECT 1"), b"Q\0\0\0\x0dSELECT 1\0"),
        (messages.password(b"x"), b"p\0\0\0\x06x\0"),
        (messages.sasl_initial("M", b"ab"), b"p\0\0\0\x0cM\0\0\0\0\x02ab"),
        (messages.sasl_response(b"ab"), b"p\0\0\0\x06ab"),
        (messages.startup({"user": "u"}, 0x30000), b"\0\0\0\x10\0\x03\0\0user\0u\0\0"),
        (messages.PARSE_COMPLETE, b"1\0\0\0\x04"),
        (messages.BIND_COMPLETE, b"2\0\0\0\x04"),
        (messages.CLOSE_COMPLETE, b"3\0\0\0\x04"),
        (messages.NO_DATA, b"n\0\0\0\x04"),
        (messages.EMPTY_QUERY, b"I\0\0\0\x04"),
        (messages.SYNC, b"S\0\0\0\x04"),
        (messages.FLUSH, b"H\0\0\0\x04"),
        (messages.TERMINATE, b"X\0\0\0\x04"),
    ],
)
def test_bytes_on_the_wire(message: bytes, expected: bytes) -> None:
    assert message == expected


def test_a_string_with_a_nul_is_refused() -> None:
    with pytest.raises(ValueError, match="NUL"):
        messages.query("SELECT 1\0; DROP TABLE x")


def test_bytes_that_are_no_utf8_go_out_as_they_came() -> None:
    assert messages.cstring(b"\xe9".decode("utf-8", "surrogateescape")) == b"\xe9\0"


# --- errors ----------------------------------------------------------------------------------


def test_an_error_has_all_that_clients_look_for() -> None:
    error = NoRoute("nothing says which owner", hint="Say it.", detail="Two are possible.")
    assert messages.read_fields(body_of(messages.error_response(error), b"E")) == {
        "S": "ERROR",
        "V": "ERROR",
        "C": "0A000",
        "M": "nothing says which owner",
        "D": "Two are possible.",
        "H": "Say it.",
    }


def test_the_severity_follows_the_error_unless_told() -> None:
    error = AuthenticationFailed("no")
    assert messages.read_fields(messages.error_response(error)[5:])["S"] == "FATAL"
    assert messages.read_fields(messages.error_response(error, fatal=False)[5:])["S"] == "ERROR"
    assert messages.read_fields(body_of(messages.notice_response(error), b"N"))["S"] == "WARNING"


@given(text=st.text())
def test_an_error_can_quote_anything(text: str) -> None:
    fields = messages.read_fields(
        messages.error_response(GatewayError(text, hint=text, detail=text))[5:]
    )
    assert fields["M"] == text.replace("\0", "?").encode("utf-8", "replace").decode()


# --- what we read ----------------------------------------------------------------------------


@given(cells=st.lists(st.none() | st.text(st.characters(codec="utf-8"))))
def test_rows_are_read_as_written(cells: list[str | None]) -> None:
    read = messages.read_data_row(body_of(messages.data_row(cells), b"D"))
    assert read == [None if cell is None else cell.encode() for cell in cells]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\0",
        b"\0\x01",
        b"\0\x01\0\0\0",
        b"\0\x01\0\0\0\x02a",
        b"\0\x01\xff\xff\xff\xfe",
        b"\0\x01\x80\0\0\0",
        b"\0\x02\0\0\0\0",
        b"\0\0x",
        b"\xff\xff",
    ],
)
def test_malformed_rows(body: bytes) -> None:
    with pytest.raises(ProtocolViolation):
        messages.read_data_row(body)


@given(body=st.binary(max_size=60))
def test_trap_a_server_can_send_anything(body: bytes) -> None:
    """Servers are untrusted input too: a reader understands or raises ProtocolViolation."""
    messages.read_fields(body)
    for reader in (
        messages.read_data_row,
        messages.read_parameter_status,
        messages.read_key_data,
        lambda data: messages.read_cstring(data, 3),
    ):
        try:
            reader(body)
        except ProtocolViolation:
            continue


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        (b"", {}),
        (b"\0", {}),
        (b"SERROR\0Mtext\0\0", {"S": "ERROR", "M": "text"}),
        (b"Mcut o", {"M": "cut o"}),
        (b"M", {"M": ""}),
        (b"M\xff\0\0", {"M": "\ufffd"}),
        (b"Ma\0\0Mignored\0", {"M": "a"}),
    ],
)
def test_trap_errors_of_broken_servers(body: bytes, fields: dict[str, str]) -> None:
    """An ErrorResponse without SQLSTATE, or cut off, is still an error."""
    assert messages.read_fields(body) == fields


def test_parameter_status() -> None:
    assert messages.read_parameter_status(b"a\x001\0") == (b"a", b"1")


@pytest.mark.parametrize("body", [b"", b"a", b"a\0", b"a\x001"])
def test_malformed_parameter_status(body: bytes) -> None:
    with pytest.raises(ProtocolViolation):
        messages.read_parameter_status(body)


def test_key_data() -> None:
    assert messages.read_key_data(b"\0\0\0\x07abcd") == (7, b"abcd")
    assert messages.read_key_data(b"\0\0\0\x07" + bytes(256)) == (7, bytes(256))


@pytest.mark.parametrize("body", [b"", b"\0\0\0\x07", b"\0\0\0\x07abc", bytes(4 + 257)])
def test_malformed_key_data(body: bytes) -> None:
    with pytest.raises(ProtocolViolation):
        messages.read_key_data(body)


def test_a_string_that_is_not_terminated() -> None:
    assert messages.read_cstring(b"xxab\0c", 2) == (b"ab", 5)
    for pos in (0, 2, 9):
        with pytest.raises(ProtocolViolation):
            messages.read_cstring(b"ab", pos)
