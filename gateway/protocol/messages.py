"""Messages of protocol version 3 that the gateway itself reads or writes, as plain functions.

Only cold paths build or parse here; the relay passes bytes on unread.
Source: PostgreSQL documentation, "Frontend/Backend Protocol", section "Message Formats".
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence

from gateway.errors import GatewayError, ProtocolViolation

_INT32 = struct.Struct("!i")
_INT16 = struct.Struct("!h")
_UINT16 = struct.Struct("!H")
_NULL = -1

TEXT_OID = 25


def message(tag: bytes, body: bytes = b"") -> bytes:
    """A tagged message around ``body``."""
    return tag + _INT32.pack(len(body) + 4) + body


def cstring(text: str | bytes) -> bytes:
    """NUL-terminated text. Raises ValueError when it holds a NUL itself.

    Bytes that were no UTF-8 when they were decoded (surrogateescape) are sent as they came.
    """
    raw = text.encode("utf-8", "surrogateescape") if isinstance(text, str) else text
    if b"\0" in raw:
        raise ValueError("a protocol string can't contain a NUL byte")
    return raw + b"\0"


def read_cstring(body: bytes, pos: int) -> tuple[bytes, int]:
    """The string at ``pos`` and where the next field begins. Raises ProtocolViolation."""
    end = body.find(b"\0", pos)
    if end < 0:
        raise ProtocolViolation("a string in a message is not terminated")
    return body[pos:end], end + 1


# --- from server to client ---------------------------------------------------------------

AUTHENTICATION_OK = message(b"R", _INT32.pack(0))
AUTHENTICATION_CLEARTEXT = message(b"R", _INT32.pack(3))
PARSE_COMPLETE = message(b"1")
BIND_COMPLETE = message(b"2")
CLOSE_COMPLETE = message(b"3")
NO_DATA = message(b"n")
EMPTY_QUERY = message(b"I")
READY_IDLE = message(b"Z", b"I")


def authentication_md5(salt: bytes) -> bytes:
    """AuthenticationMD5Password with its 4-byte salt."""
    return message(b"R", _INT32.pack(5) + salt)


def authentication_sasl(mechanisms: Sequence[str]) -> bytes:
    """AuthenticationSASL: the mechanisms on offer, best first."""
    return message(b"R", _INT32.pack(10) + b"".join(map(cstring, mechanisms)) + b"\0")


def authentication_sasl_continue(data: bytes) -> bytes:
    return message(b"R", _INT32.pack(11) + data)


def authentication_sasl_final(data: bytes) -> bytes:
    return message(b"R", _INT32.pack(12) + data)


def backend_key_data(pid: int, secret: bytes) -> bytes:
    """The key a client cancels with: 4 secret bytes in protocol 3.0, up to 256 in 3.2."""
    return message(b"K", _INT32.pack(pid) + secret)


def parameter_status(name: bytes, value: bytes) -> bytes:
    return message(b"S", cstring(name) + cstring(value))


def ready_for_query(status: bytes) -> bytes:
    """``status``: I idle, T in a transaction, E in a failed one."""
    return message(b"Z", status)


def negotiate_protocol_version(newest_minor: int, unknown: Sequence[bytes]) -> bytes:
    """The newest protocol (as the 32-bit version number) and the options we don't know."""
    return message(
        b"v",
        _INT32.pack(newest_minor) + _INT32.pack(len(unknown)) + b"".join(map(cstring, unknown)),
    )


def command_complete(tag: str) -> bytes:
    return message(b"C", cstring(tag))


def row_description(names: Sequence[str]) -> bytes:
    """Columns of type text."""
    fields = b"".join(
        cstring(name) + struct.pack("!ihihih", 0, 0, TEXT_OID, -1, -1, 0) for name in names
    )
    return message(b"T", _INT16.pack(len(names)) + fields)


def data_row(values: Iterable[str | None]) -> bytes:
    """A row in text format; None is NULL."""
    cells = []
    for value in values:
        if value is None:
            cells.append(_INT32.pack(_NULL))
        else:
            raw = _utf8(value)
            cells.append(_INT32.pack(len(raw)) + raw)
    return message(b"D", _INT16.pack(len(cells)) + b"".join(cells))


def parameter_description(oids: Sequence[int]) -> bytes:
    return message(b"t", _INT16.pack(len(oids)) + b"".join(struct.pack("!I", o) for o in oids))


def error_fields(severity: str, error: GatewayError) -> bytes:
    """The field list of an ErrorResponse or NoticeResponse."""
    fields = [
        b"S" + cstring(severity),
        b"V" + cstring(severity),
        b"C" + cstring(error.sqlstate),
        b"M" + _shown(error.message),
    ]
    if error.detail:
        fields.append(b"D" + _shown(error.detail))
    if error.hint:
        fields.append(b"H" + _shown(error.hint))
    return b"".join(fields) + b"\0"


def _shown(text: str) -> bytes:
    """Any text as a string for people: an error is told even if it quotes what can't be sent."""
    return cstring(_utf8(text.replace("\0", "?")))


def _utf8(text: str) -> bytes:
    return text.encode("utf-8", "replace")


def error_response(error: GatewayError, *, fatal: bool | None = None) -> bytes:
    """``error`` for a client: FATAL when the connection ends with it."""
    is_fatal = error.fatal if fatal is None else fatal
    return message(b"E", error_fields("FATAL" if is_fatal else "ERROR", error))


def notice_response(error: GatewayError, severity: str = "WARNING") -> bytes:
    """The same fields as an error, for a client that goes on."""
    return message(b"N", error_fields(severity, error))


# --- from client to server ---------------------------------------------------------------

SYNC = message(b"S")
FLUSH = message(b"H")
TERMINATE = message(b"X")
COPY_FAIL = message(b"f", b"the client left in the middle of a COPY\0")
ROLLBACK_BATCH = (
    message(b"P", b"\0ROLLBACK\0\0\0")
    + message(b"B", b"\0\0\0\0\0\0\0\0")
    + message(b"E", b"\0\0\0\0\0")
)


def query(sql: str) -> bytes:
    """A simple Query."""
    return message(b"Q", cstring(sql))


def startup(parameters: Mapping[str, str], version: int) -> bytes:
    """A StartupMessage: ``version`` is major << 16 | minor."""
    body = b"".join(cstring(k) + cstring(v) for k, v in parameters.items()) + b"\0"
    return _INT32.pack(len(body) + 8) + _INT32.pack(version) + body


def password(data: bytes) -> bytes:
    """PasswordMessage; ``data`` without its terminating NUL."""
    return message(b"p", data + b"\0")


def sasl_initial(mechanism: str, data: bytes) -> bytes:
    return message(b"p", cstring(mechanism) + _INT32.pack(len(data)) + data)


def sasl_response(data: bytes) -> bytes:
    return message(b"p", data)


# --- reading what a server says ----------------------------------------------------------


def read_fields(body: bytes) -> dict[str, str]:
    """The fields of an ErrorResponse or NoticeResponse by their one-letter code.

    Tolerates what a broken server may send: missing codes, cut-off text, bad UTF-8.
    """
    fields: dict[str, str] = {}
    pos = 0
    while pos < len(body) and body[pos]:
        end = body.find(b"\0", pos + 1)
        if end < 0:
            end = len(body)
        fields[chr(body[pos])] = body[pos + 1 : end].decode("utf-8", "replace")
        pos = end + 1
    return fields


def read_data_row(body: bytes) -> list[bytes | None]:
    """The cells of a DataRow body. Raises ProtocolViolation when they don't fit."""
    cells: list[bytes | None] = []
    try:
        (count,) = _UINT16.unpack_from(body, 0)
        pos = _UINT16.size
        for _ in range(count):
            (size,) = _INT32.unpack_from(body, pos)
            pos += _INT32.size
            if size == _NULL:
                cells.append(None)
                continue
            cells.append(body[pos : pos + size])
            pos += size
            if size < 0 or pos > len(body):
                raise ProtocolViolation("a DataRow holds a cell of an impossible length")
    except struct.error:
        raise ProtocolViolation("a DataRow is shorter than it says") from None
    if pos != len(body):
        raise ProtocolViolation("a DataRow is longer than it says")
    return cells


def read_parameter_status(body: bytes) -> tuple[bytes, bytes]:
    """Name and value of a ParameterStatus body."""
    name, pos = read_cstring(body, 0)
    value, _ = read_cstring(body, pos)
    return name, value


def read_key_data(body: bytes) -> tuple[int, bytes]:
    """Process id and secret of a BackendKeyData body."""
    if not 8 <= len(body) <= 260:
        raise ProtocolViolation("the server's BackendKeyData has an impossible length")
    return _INT32.unpack_from(body, 0)[0], body[4:]
