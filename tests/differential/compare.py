"""What must differ between a gateway and PostgreSQL, and nothing else: `Normaliser`.

Every rule is a method that says why. All other bytes of all other messages are compared as they
are, and so is the number of messages.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable

from tests.wire import Message

Line = tuple[str, str]
"""A message as it is compared and shown: its tag, and the rest."""

_FIRST_USER_OID = 16384
_TEMP_SCHEMA = re.compile(rb"pg_(toast_)?temp_\d+")
_TOAST = re.compile(rb"(?<=pg_toast_)\d+")
_LOCK_TIMEOUT = b"\0C55P03\0"
_FAILED_TRANSACTION = b"\0C25P02\0"
_WRONG_COUNT = b"\0Mbind message supplies "
_ABORTED = (
    b"SERROR\0VERROR\0C25P02\0Mcurrent transaction is aborted, commands ignored until end of"
    b" transaction block\0Fpostgres.c\0\0"
)
_SOURCE = re.compile(rb"(?<=\0)L\d+\0R\w+\0")
_OUT_OF_DATE = re.compile(rb"(?<=\0)L\d+\0(?=RRevalidateCachedQuery\0)")
_POSITION = re.compile(rb"(?<=\0)P\d+\0")
_SHOWN_MAX = 300


class Normaliser:
    """One side of a comparison: PostgreSQL's, or the gateway's."""

    def __init__(self) -> None:
        self._pids: dict[int, str] = {}
        self._oids: dict[int, int] = {}

    def client(self, pid: int, name: str) -> None:
        """BackendKeyData told a client this number."""
        self._pids[pid] = name

    def lines(self, heard: Iterable[Message]) -> list[Line]:
        """Messages in the form that must be equal."""
        heard = list(heard)
        failed = any(one.tag == "Z" and one.body == b"E" for one in heard)
        return [(one.tag, self._rest(one, failed=failed)) for one in heard]

    def _rest(self, one: Message, *, failed: bool) -> str:
        if one.tag == "T":
            return self._row_description(one.body)
        if one.tag == "t":
            return self._parameter_description(one.body)
        if one.tag == "A":
            return self._notification(one.body)
        if one.tag in "EN":
            return self._fields(one.body, failed=failed)
        if one.tag == "D":
            return repr(one.cells)
        return repr(one.body)

    # --- the rules ---

    def _notification(self, body: bytes) -> str:
        """The notifying process: by a gateway a client is known by the number in its own
        BackendKeyData, as it is by PostgreSQL; whose number it is must be the same."""
        (pid,) = struct.unpack_from("!i", body)
        return f"from {self._pids.get(pid, 'nobody known')}: {body[4:]!r}"

    def _oid(self, oid: int) -> str:
        """Numbers of tables and types that were made here: two databases count apart. What is the
        n-th new one on one side must be the n-th on the other."""
        if oid < _FIRST_USER_OID:
            return str(oid)
        return f"new {self._oids.setdefault(oid, len(self._oids) + 1)}"

    def _fields(self, body: bytes, *, failed: bool) -> str:
        """Errors name the schema of temporary tables, which is numbered by server process, and
        notices of low rank the tables for long values, by the number of the table."""
        body = _TEMP_SCHEMA.sub(rb"pg_\1temp_N", body)
        body = _TOAST.sub(lambda found: self._oid(int(found[0])).encode(), body)
        body = self._function(body)
        body = self._changed_result(body)
        if _LOCK_TIMEOUT in body:
            body = self._lock_timeout(body)
        elif _FAILED_TRANSACTION in body or (failed and _WRONG_COUNT in body):
            body = self._failed_transaction(body)
        return repr(body)

    def _function(self, body: bytes) -> bytes:
        """PL/pgSQL calls a function as the search_path of its first call in a process had it."""
        return body.replace(b"PL/pgSQL function public.", b"PL/pgSQL function ")

    def _changed_result(self, body: bytes) -> bytes:
        """A server that gets to know a statement only after its result has changed can't refuse it:
        the gateway does, and doesn't know the line of this PostgreSQL's source."""
        return _OUT_OF_DATE.sub(b"", body)

    def _lock_timeout(self, body: bytes) -> bytes:
        """Whether a lock is met while a statement is parsed, which adds a position, or while it is
        bound is a matter of when it was parsed on this server."""
        return _POSITION.sub(b"", body)

    def _failed_transaction(self, body: bytes) -> bytes:
        """In a failed transaction a Bind may be refused as the Parse that this server needs before
        it: the same error from another line of PostgreSQL's source, and before anybody has counted
        the parameters."""
        return _ABORTED if _WRONG_COUNT in body else _SOURCE.sub(b"", body)

    # --- messages that hold such numbers ---

    def _row_description(self, body: bytes) -> str:
        (count,) = struct.unpack_from("!h", body)
        columns, at = [], 2
        for _ in range(count):
            end = body.index(b"\0", at)
            table, column, kind, *how = struct.unpack_from("!IhIhih", body, end + 1)
            where = f"{self._oid(table)}.{column}"
            columns.append(f"{body[at:end]!r} of {where} type {self._oid(kind)} {how}")
            at = end + 19
        return f"{columns}{body[at:]!r}"

    def _parameter_description(self, body: bytes) -> str:
        oids = struct.unpack_from(f"!{int.from_bytes(body[:2], 'big')}I", body, 2)
        return str([self._oid(oid) for oid in oids])


def shown(line: Line) -> str:
    """A message for a report."""
    text = f"{line[0]} {line[1]}"
    return text if len(text) <= _SHOWN_MAX else f"{text[:_SHOWN_MAX]}... ({len(text)} characters)"


def difference(direct: list[Line], through: list[Line]) -> str:
    """The first message that differs, with those before it; empty when all are equal."""
    if direct == through:
        return ""
    common = 0
    while common < min(len(direct), len(through)) and direct[common] == through[common]:
        common += 1
    said = [f"      both:       {shown(line)}" for line in direct[max(0, common - 4) : common]]
    for name, lines in (("PostgreSQL:", direct), ("gateway:   ", through)):
        rest = lines[common : common + 3]
        said += [f"  >>> {name} {shown(line)}" for line in rest] or [f"  >>> {name} nothing"]
    return "\n".join(said)
