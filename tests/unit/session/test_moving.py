"""What is told of a session arrives as it was, by way of JSON."""

from __future__ import annotations

import json
from typing import Any

from gateway.pool.prepared import BySql, Statements
from gateway.router.facts import FactsCache
from gateway.router.route import Asked
from gateway.session.holdings import Holdings
from gateway.session.inbox import Inbox, Need
from gateway.session.pinned import Pinned
from gateway.session.roaming import Roaming
from gateway.session.state import Pin
from gateway.session.translate import Heeder, Translator
from gateway.worker import Worker
from tests.unit.router.targets import WEB, Client, World, query

SCOPE = (("search_path", "app"),)


def facts() -> FactsCache:
    return FactsCache(100, 100_000)


def sent(packed: Any) -> Any:
    return json.loads(json.dumps(packed))


def translator() -> Translator:
    return Translator(Statements(facts()), 10, Heeder())


def holdings() -> Holdings:
    return Holdings((("timezone", "UTC"),), facts(), lambda: 1.0, Pinned({}), reads_sequences=False)


def test_half_a_message_goes_along() -> None:
    one, other = Inbox(), Inbox()
    one.data = b"Q\0\0\0\x0dSELEC"
    other.unpack(sent(one.pack()))
    assert other.next() is Need.MORE
    other.data += b"T\0\0\0"
    assert other.next() is Need.SERVER


def test_a_batch_that_failed_is_skipped_to_its_sync_there_too() -> None:
    one, other = Inbox(), Inbox()
    one.data = b"P\0\0\0\x06\0\0"
    one.refuse_unit()
    other.unpack(sent(one.pack()))
    other.data += b"S\0\0\0\x04"
    assert other.next() is Need.READY


def test_settings_and_statements_by_sql() -> None:
    one, other = holdings(), holdings()
    one.settings = (("my.own", "1"), ("timezone", "Asia/Tokyo"))
    one.sql_prepared = {"twice": BySql("PREPARE twice AS SELECT 2", 3)}
    other.unpack(sent(one.pack()))
    assert other.settings == one.settings
    assert other.sql_prepared["twice"].text == "PREPARE twice AS SELECT 2"
    assert other.sql_prepared != one.sql_prepared  # no server here has it yet
    assert other.startup == (("timezone", "UTC"),)


def test_what_pins_stays() -> None:
    one = holdings()
    assert one.movable
    one.pin(Pin.TEMPORARY)
    assert not one.movable


def test_prepared_statements_keep_names_texts_types_and_scopes() -> None:
    one, other = translator(), translator()
    body = b"SELECT $1\0\0\x01\0\0\0\x17"
    one.unpack(
        [[b"s1".hex(), body.hex(), list(map(list, SCOPE))], ["", b"SELECT 2\0\0\0".hex(), []]]
    )
    assert one.movable
    other.unpack(sent(one.pack()))
    named, unnamed = other.statement(b"s1"), other.statement(b"")
    assert named is not None
    assert (named.body, named.scope) == (body, SCOPE)
    assert unnamed is not None
    assert unnamed.body == b"SELECT 2\0\0\0"
    assert other.statement(b"s2") is None
    assert len(other) == 1


def roaming(client: Client) -> Roaming:
    settings = client.world.settings
    context = Worker(settings, lambda: settings).context
    return Roaming(context, WEB, Asked(), holdings(), client.reader.prepared)


def test_what_was_said_before_and_behind_a_savepoint_is_known_there_too() -> None:
    client = Client(World())
    one, other = roaming(client), roaming(client)
    for text in (
        "BEGIN",
        "SET LOCAL gateway.owner = '7'",
        "SAVEPOINT s",
        "SET LOCAL gateway.owner = '8'",
    ):
        assert one.answer(client.reader.unit(query(text))) is not None, text
    other.unpack(sent(one.pack()))
    assert other.begun == one.begun
    assert other._said([]).owner == "8"
    assert other.answer(client.reader.unit(query("ROLLBACK TO s"))) is not None
    assert other._said([]).owner == "7"
    assert other.begun == [b"BEGIN", b"SET LOCAL gateway.owner = '7'", b"SAVEPOINT s"]
    assert other.answer(client.reader.unit(query("RELEASE s"))) is not None
    other.end()
    assert other._said([]).owner is None
