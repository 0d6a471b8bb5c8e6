"""pg_terminate_backend() and pg_cancel_backend() of a client's number, BackendKeyData's.

The statement gets the id of that client's server process in its place: so PostgreSQL itself says
who may do this, and its last words reach the client. A client without a server is given one that
stands in for its own while the statement runs, and that serves nobody afterwards.
"""

from __future__ import annotations

import asyncio
import re
import struct
from collections.abc import Callable
from typing import NamedTuple, Protocol

from gateway.errors import GatewayError, ServerUnavailable
from gateway.pool.pool import Pool, Waiter
from gateway.pool.server import ServerConnection
from gateway.protocol import messages
from gateway.protocol.framing import HEADER_BYTES, message_size

NOBODY = 0
"""There is no server process to signal: the statement is left as it is."""
NOT_YET = -1
"""A server is being sought."""

_CALL = re.compile(
    rb"\s*select\s+(?:pg_catalog\.)?pg_(?:terminate|cancel)_backend\s*"
    rb"\(\s*(\d{1,10}|\$1)\s*(?:::\s*int(?:4|eger)?\s*)?\)\s*;?\s*",
    re.IGNORECASE,
)
"""All of a statement that does nothing else: then the number stands nowhere else in it."""
_BIND, _EXECUTE, _DESCRIBE, _QUERY = b"BEDQ"
_INTEGERS = {2: "!h", 4: "!i", 8: "!q"}
_SEEK_S = 5.0
"""How long a server is sought to stand in."""
_CLAIM_S = 1.0
"""How soon the statement is sent once there is one, unless who asked has left."""
_POLL_S = 0.05
_LAST_WORDS_S = 1.0
"""How long a process that was signalled is heard, on a machine where it has to wait to run."""


class Call(NamedTuple):
    """Where a message has the number of the process that it signals, in which form."""

    number: int
    start: int
    end: int
    form: str
    """As `struct` has it; empty: as text."""

    def of(self, message: bytes, pid: int) -> bytes:
        """The same message for another process."""
        value = struct.pack(self.form, pid) if self.form else str(pid).encode()
        before = message[HEADER_BYTES : self.start]
        if message[0] == _BIND:
            before = before[:-4] + struct.pack("!i", len(value))
        return messages.message(message[:1], before + value + message[self.end :])


def called(message: bytes, text_of: Callable[[bytes], bytes]) -> Call | None:
    """What a Query or a Bind signals, when it is nothing but that.

    ``text_of`` tells the text of a prepared statement.
    """
    if message[0] == _QUERY:
        found = _CALL.fullmatch(message, HEADER_BYTES, len(message) - 1)
        if found is None or found[1] == b"$1":
            return None
        return Call(int(found[1]), found.start(1), found.end(1), "")
    return _bound(message, text_of) if message[0] == _BIND else None


def _bound(message: bytes, text_of: Callable[[bytes], bytes]) -> Call | None:
    at = message.index(b"\0", HEADER_BYTES) + 1
    end = message.index(b"\0", at)
    found = _CALL.fullmatch(text_of(message[at:end]))
    if found is None or found[1] != b"$1":
        return None
    try:
        (formats,) = struct.unpack_from("!h", message, end + 1)
        binary = any(struct.unpack_from(f"!{formats}h", message, end + 3))
        start = end + 3 + 2 * formats + 6
        count, length = struct.unpack_from("!hi", message, start - 6)
        value = message[start : start + length]
        form = _INTEGERS[length] if binary else ""
        number = struct.unpack(form, value)[0] if binary else int(value)
    except (struct.error, KeyError, ValueError):
        return None  # the server will say what is wrong with it
    fits = count == 1 and len(value) == length and form != "!h"
    return Call(number, start, start + length, form) if fits else None


def runs_at_once(data: bytes, pos: int) -> bool:
    """Whether an Execute stands at ``pos``, perhaps behind a Describe."""
    end = len(data)
    while end - pos >= HEADER_BYTES and data[pos] == _DESCRIBE:
        pos += message_size(data, pos)
    return pos < end and data[pos] == _EXECUTE


class Target(Protocol):
    """The client whose number was called."""

    server: ServerConnection | None
    number: int

    def ended_by(self, last_words: bytes) -> None:
        """A server that stood in for its own was ended."""


class StandIn(Waiter):
    """One signal to one client, from the search for a server to the end of the statement.

    ``pid`` is NOT_YET until ``on_pid`` is called, and then the process to signal or NOBODY.
    """

    def __init__(self, target: Target, pool: Pool, on_pid: Callable[[], None]) -> None:
        self.target = target
        self.pid = NOT_YET
        self._pool = pool
        self._on_pid: Callable[[], None] | None = on_pid
        self._server: ServerConnection | None = None
        self._held: ServerConnection | None = None
        """The client's own; it is handed on to nobody as long as it may be signalled."""
        self._claimed = False
        self._ends = False
        """Our server has said that it ends."""

    def begin(self, *, linked: bool) -> None:
        """Find the process; at once where the client has a server of its own."""
        own = self.target.server
        if linked and own is not None:
            self._held = own
            self._pool.withhold(own)
            self.pid = own.pid
            return
        try:
            server = self._pool.acquire(self)
        except GatewayError:
            self.pid = NOBODY
            return
        if server is not None:
            self.granted(server)
        else:
            asyncio.get_running_loop().call_later(_SEEK_S, self._time_up)

    def leave_behind(self, asker: ServerConnection) -> None:
        """Go as soon as ``asker`` has answered what it is sent now."""
        self._claimed = True
        asyncio.get_running_loop().call_later(_POLL_S, self._look, asker, asker.turns)

    def _look(self, asker: ServerConnection, turns: int) -> None:
        if asker.turns == turns and not asker.lost:
            asyncio.get_running_loop().call_later(_POLL_S, self._look, asker, turns)
        elif self._server is not None and not self._server.lost:
            # The signal has been sent, and its process says so when it comes to run.
            asyncio.get_running_loop().call_later(_LAST_WORDS_S, self._go)
        else:
            self._go()

    def _go(self) -> None:
        """Whoever is signalled from now on, it is neither the client nor anybody else."""
        held, self._held = self._held, None
        if held is not None:
            self._pool.withheld(held)
        server, self._server = self._server, None
        if server is not None:
            server.unlink()
            self._pool.unclean(server)

    def _time_up(self) -> None:
        if self.pid == NOT_YET:
            self._pool.give_up(self)
            self._found(NOBODY)

    def _unclaimed(self) -> None:
        if not self._claimed:
            self.pid = NOBODY
            self._go()

    def _found(self, pid: int) -> None:
        self.pid = pid
        on_pid, self._on_pid = self._on_pid, None
        if on_pid is not None:
            on_pid()

    # --- Waiter ---

    def granted(self, server: ServerConnection) -> None:
        self._server = server
        server.link(self, self.target.number)
        asyncio.get_running_loop().call_later(_CLAIM_S, self._unclaimed)
        self._found(server.pid)

    def refused(self, error: GatewayError) -> None:
        self._found(NOBODY)

    def sent_elsewhere(self) -> None:
        self._found(NOBODY)

    # --- LinkedClient ---

    def server_failed(self, fields: dict[str, str]) -> None:
        self._ends = fields.get("V", fields.get("S")) == "FATAL"

    def forward(self, data: bytes) -> None:
        if self._ends:
            self.target.ended_by(data)

    def server_lost(self, error: ServerUnavailable) -> None:
        self._server = None
