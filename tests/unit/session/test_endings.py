"""What stands behind a Bind is booked at once where it is the usual: as if message by message."""

from __future__ import annotations

import pytest

from gateway.pool.server import ServerConnection
from gateway.protocol import messages
from gateway.session.outbound import Outbound
from tests.unit.session.test_lone_read import FLUSH, READ, SYNC, outbound
from tests.wire import bind, close_, describe, execute, parse_

BEGINNINGS = {
    "prepared": bind("read", [b"1"], ""),
    "prepared, writes": bind("write", [b"1"], ""),
    "unnamed": parse_("", READ) + bind("", [b"1"], ""),
    "another unnamed one": parse_("", "SELECT b FROM t WHERE id = $1") + bind("", [b"1"], ""),
    "named portal": bind("read", [b"1"], "p"),
    "unknown": bind("nobody", [b"1"], ""),
    "values like messages": bind("read", [b"P\0E\0\0\0\tS\0\0\0\4"], ""),
    "resets settings": parse_("", "RESET ALL") + bind("", [], ""),
    "reads copy data": parse_("", "COPY t FROM STDIN") + bind("", [], ""),
    "forgets statements": parse_("", "DISCARD ALL") + bind("", [], ""),
}

ENDINGS = {
    "described": describe("P", "") + execute("") + SYNC,
    "executed": execute("") + SYNC,
    "another portal": describe("P", "p") + execute("p") + SYNC,
    "a row limit": describe("P", "") + execute("", 5) + SYNC,
    "flushed": describe("P", "") + execute("") + FLUSH,
    "closed": describe("P", "") + execute("") + close_("P", "") + SYNC,
    "two of them": (describe("P", "") + execute("") + SYNC) * 2,
}


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("beginning", BEGINNINGS)
def test_one_chunk_is_booked_as_single_messages_are(beginning: str, ending: str) -> None:
    chunk = BEGINNINGS[beginning] + ENDINGS[ending]
    whole, whole_server = outbound()
    single, single_server = outbound()
    sent_whole = fed(whole, whole_server, [chunk])
    sent_single = fed(single, single_server, messages_of(chunk))
    assert sent_whole == sent_single
    assert owed(whole_server) == owed(single_server)
    assert (whole.sync_due, whole.waiting, whole.skip) == (
        single.sync_due,
        single.waiting,
        single.skip,
    )


def messages_of(chunk: bytes) -> list[bytes]:
    found = []
    while chunk:
        size = 1 + int.from_bytes(chunk[1:5], "big")
        found.append(chunk[:size])
        chunk = chunk[size:]
    return found


def fed(one: Outbound, server: ServerConnection, chunks: list[bytes]) -> bytes:
    """What goes to the server, and then what waits for an answer."""
    sent = waiting = b""
    for chunk in chunks:
        if one.waiting:
            waiting += chunk
            continue
        sent += one.book(server, chunk)
        waiting = one.rest
    return sent + b"|" + waiting


def owed(server: ServerConnection) -> list[tuple[int, bool]]:
    head = server.replies.head
    waiting = [] if head is None else [head, *server.replies._queue[server.replies._answered :]]
    return [(entry.kind, entry.silent) for entry in waiting]


def test_the_usual_ending_is_what_drivers_send() -> None:
    """Otherwise the tests above would compare one slow way with itself."""
    one, server = outbound()
    chunk = BEGINNINGS["prepared"] + ENDINGS["described"]
    at = len(BEGINNINGS["prepared"])
    one.book(server, BEGINNINGS["prepared"])
    assert one._ends_plainly(server, chunk, at, len(chunk))
    short = BEGINNINGS["prepared"] + ENDINGS["executed"]
    assert one._ends_plainly(server, short, at, len(short))
    assert not one._ends_plainly(server, messages.SYNC, 0, len(messages.SYNC))
