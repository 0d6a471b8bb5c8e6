"""What may be sent in a line with others': one SELECT, whole and alone, that leaves nothing."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest

from gateway.pool.prepared import Statements
from gateway.pool.server import ServerConnection
from gateway.protocol import messages
from gateway.router.facts import FactsCache
from gateway.session.holdings import Holdings
from gateway.session.listens import Listens
from gateway.session.outbound import Outbound
from gateway.session.pinned import Pinned
from gateway.session.translate import Translator
from tests.unit.session.conversation import RecordingTransport
from tests.wire import bind, close_, describe, execute, parse_

READ = "SELECT a FROM t WHERE id = $1"
SYNC = messages.SYNC
FLUSH = messages.message(b"H")
PARAMETERS = {b"standard_conforming_strings": b"on", b"client_encoding": b"UTF8"}


def outbound() -> tuple[Outbound, ServerConnection]:
    """Of a client that has prepared ``read`` and ``write``, and its server."""
    facts = FactsCache(100, 1 << 20)
    holdings = Holdings((), facts, lambda: 0.0, Pinned({}), reads_sequences=False)
    listens = Listens(lambda data: None, lambda: True, lambda error: None, PARAMETERS)
    one = Outbound(
        1,
        facts,
        holdings,
        listens,
        lambda *facts: None,
        lambda: None,
        lambda: None,
        lambda *facts: b"",
    )
    one.translator = Translator(Statements(facts), 100, one)
    transport = cast(asyncio.Transport, RecordingTransport())
    server = ServerConnection(transport, 1, b"", dict(PARAMETERS), 0.0)
    described = messages.message(b"t", bytes(2)) + messages.NO_DATA
    written = "DELETE FROM t WHERE id = $1"
    for name, text in (("read", READ), ("write", written), ("", READ)):
        one.book(server, parse_(name, text) + SYNC)
        answer = messages.PARSE_COMPLETE + (described if name else b"")
        server.data_received(answer + messages.READY_IDLE)
    return one, server


def bound(name: str = "", portal: str = "") -> bytes:
    return bind(name, [b"1"], portal) + describe("P", portal) + execute(portal)


ALONE = {
    "a query": messages.query("SELECT a FROM t WHERE id = 1"),
    "one parsed for it": parse_("", READ) + bound() + SYNC,
    "one described": parse_("", READ) + describe("S") + bind("", [b"1"]) + execute() + SYNC,
    "a prepared one": bound("read") + SYNC,
    "one in parts": bind("read", [b"1"], "p") + execute("p", 1) + execute("p") + SYNC,
}

NOT_ALONE = {
    "two statements": messages.query("SELECT a FROM t; SELECT a FROM t"),
    "two queries": messages.query("SELECT a FROM t") * 2,
    "no statement": messages.query(""),
    "a write": messages.query("DELETE FROM t"),
    "a lock": messages.query("SELECT a FROM t FOR UPDATE"),
    **{
        f"{call} is called": messages.query(f"SELECT {call} FROM t")
        for call in (
            "own_function(a)",
            "public.own_function(a)",
            "nextval('s')",
            "setval('s', 1)",
            "lo_create(0)",
            "lo_unlink(a)",
            "txid_current()",
            "pg_notify('a', 'b')",
            "pg_sleep(1)",
            "pg_advisory_lock(1)",
            "pg_advisory_xact_lock(1)",
            "pg_terminate_backend(a)",
            "pg_cancel_backend(a)",
            "pg_reload_conf()",
            "pg_stat_reset()",
            "pg_logical_emit_message(true, 'a', 'b')",
            "pg_logical_slot_get_changes('a', NULL, NULL)",
            "query_to_xml('DELETE FROM t', true, true, '')",
            "dblink_exec('a', 'b')",
            "setseed(0.5)",
        )
    },
    "a function's rows": messages.query("SELECT * FROM own_function(1)"),
    "a function in a condition": messages.query("SELECT a FROM t WHERE own_function(a)"),
    "a function in a join": messages.query("SELECT a FROM t, LATERAL own_function(t.a) f"),
    "a write in front": messages.query("WITH x AS (DELETE FROM t RETURNING 1) SELECT 1 FROM x"),
    "a table made": messages.query("SELECT a INTO u FROM t"),
    "a copy": messages.query("COPY (SELECT a FROM t) TO STDOUT"),
    "a setting": messages.query("SELECT set_config('a.b', 'c', false)"),
    "a sequence's value": messages.query("SELECT currval('s')"),
    "SHOW": messages.query("SHOW search_path"),
    "what is prepared": messages.query("SELECT name FROM pg_prepared_statements"),
    "a part of a query": messages.query("SELECT a FROM t")[:-3],
    "a transaction": messages.query("BEGIN"),
    "a prepared write": bound("write") + SYNC,
    "an unknown one": bound("other") + SYNC,
    "two at once": bound("read") + bound("read") + SYNC,
    "another one described": bind("read", [b"1"]) + describe("S", "write") + execute() + SYNC,
    "what was parsed before, without a name": bind("", [b"1"]) + execute() + SYNC,
    "nothing run": describe("S", "read") + SYNC,
    "only parsed": parse_("", READ) + SYNC,
    "a name given": parse_("new", READ) + bound("new") + SYNC,
    "parsed beside it": parse_("", "DELETE FROM t") + bound("read") + SYNC,
    "parsed behind it": bound("read") + parse_("", "DELETE FROM t") + SYNC,
    "parsed twice": parse_("", READ) * 2 + bound() + SYNC,
    "one closed": bound("read") + close_("S", "read") + SYNC,
    "no Sync": bound("read"),
    "a Flush": bound("read") + FLUSH,
    "something behind it": bound("read") + SYNC + messages.query("SELECT 1"),
    "a part behind it": bound("read") + SYNC + b"Q\0\0",
    "a name without an end": messages.message(b"B", b"portal") + SYNC,
    "a text without an end": messages.message(b"P", b"\0SELECT 1") + bound() + SYNC,
}


@pytest.mark.parametrize("data", ALONE.values(), ids=ALONE.keys())
def test_one_read_by_itself(data: bytes) -> None:
    one, server = outbound()
    timing = one.lone_read(server, data)
    assert timing is not None
    assert one.lone_read(server, data) is timing, "looking changes nothing"
    assert server.replies.is_idle()


@pytest.mark.parametrize("data", NOT_ALONE.values(), ids=NOT_ALONE.keys())
def test_all_else_waits_for_a_server_of_its_own(data: bytes) -> None:
    one, server = outbound()
    assert one.lone_read(server, data) is None
    assert server.replies.is_idle()


def test_texts_that_differ_in_constants_share_their_time() -> None:
    one, server = outbound()
    first, second = (messages.query(f"SELECT a FROM t WHERE id = {number}") for number in (1, 2))
    assert one.lone_read(server, first) is one.lone_read(server, second)


def test_a_backslash_is_not_read_where_it_may_be_an_escape() -> None:
    one, server = outbound()
    data = messages.query(r"SELECT a FROM t WHERE b = '\'")
    assert one.lone_read(server, data) is not None
    server.parameters[b"standard_conforming_strings"] = b"off"
    assert one.lone_read(server, data) is None
