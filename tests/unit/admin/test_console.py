"""The console's dialogue, message by message."""

from __future__ import annotations

import asyncio
import logging
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.admin import console
from gateway.admin.order import STATEMENTS_MAX
from gateway.errors import FeatureNotSupported, ShuttingDown
from gateway.protocol import messages
from tests.unit.admin.samples import (
    Dialogue,
    add_operators,
    bind_message,
    close_message,
    describe_message,
    execute_message,
    make_context,
    make_views,
    open_console,
    parse_message,
    settle,
)

STOPPED = ShuttingDown("stopped for the test")


def text_row(*cells: str) -> tuple[str, bytes]:
    return ("D", messages.data_row(cells)[5:])


def fields(body: bytes) -> dict[str, str]:
    return messages.read_fields(body)


# --- login ---


async def test_the_greeting_is_what_drivers_need() -> None:
    dialogue = await open_console()
    heard = dialogue.heard()
    assert heard[0] == ("R", b"\0\0\0\0")
    reported = dict(messages.read_parameter_status(body) for tag, body in heard if tag == "S")
    assert reported[b"server_version"].startswith(b"14.0 (gateway ")
    assert reported[b"client_encoding"] == b"UTF8"
    assert reported[b"standard_conforming_strings"] == b"on"
    assert reported[b"integer_datetimes"] == b"on"
    assert reported[b"application_name"] == b"test"
    assert reported[b"session_authorization"] == b"op"
    assert heard[-2] == (
        "K",
        dialogue.session.number.to_bytes(4, "big") + dialogue.session.secret,
    )
    assert heard[-1] == ("Z", b"I")


async def test_it_is_counted_from_the_start_to_the_end() -> None:
    dialogue = await open_console()
    assert list(dialogue.context.registry) == [dialogue.session]
    assert dialogue.context.counters.logins == 1
    await dialogue.say(messages.TERMINATE)
    assert len(dialogue.context.registry) == 0
    assert dialogue.transport.closed


async def test_a_replication_connection_is_refused() -> None:
    with pytest.raises(FeatureNotSupported):
        await open_console(parameters={"replication": "database"})


async def test_what_was_sent_ahead_is_answered() -> None:
    dialogue = await open_console(ahead=messages.query("SELECT 1"))
    await settle()
    assert text_row("1") in dialogue.heard()


# --- simple query ---


async def fresh() -> Dialogue:
    dialogue = await open_console()
    dialogue.heard()
    return dialogue


async def test_a_query_is_answered_with_columns_rows_and_an_end() -> None:
    dialogue = await fresh()
    assert await dialogue.say(messages.query("select 1 as one;")) == [
        ("T", messages.row_description(["one"])[5:]),
        text_row("1"),
        ("C", b"SELECT 1\0"),
        ("Z", b"I"),
    ]


async def test_several_statements_run_until_one_fails() -> None:
    dialogue = await fresh()
    assert await dialogue.tags(messages.query("SET a = 1; SELECT 1; SHOW VERSION")) == "CTDCTDCZ"
    assert await dialogue.tags(messages.query("SELECT 1; nonsense; SELECT 2")) == "TDCEZ"


async def test_an_empty_query_is_one() -> None:
    dialogue = await fresh()
    assert await dialogue.tags(messages.query(" ;; -- nothing")) == "IZ"


async def test_an_error_leaves_the_session_as_it_was() -> None:
    dialogue = await fresh()
    heard = await dialogue.say(messages.query("SHOW POLS"))
    assert [tag for tag, _ in heard] == ["E", "Z"]
    assert fields(heard[0][1])["C"] == "42601"
    assert fields(heard[0][1])["S"] == "ERROR"
    assert await dialogue.tags(messages.query("SHOW POOLS")) == "TCZ"


async def test_ready_tells_of_the_transaction() -> None:
    dialogue = await fresh()
    assert (await dialogue.say(messages.query("BEGIN")))[-1] == ("Z", b"T")
    assert (await dialogue.say(messages.query("oops")))[-1] == ("Z", b"T")
    assert (await dialogue.say(messages.query("COMMIT")))[-1] == ("Z", b"I")


async def test_text_that_is_not_utf8_is_refused() -> None:
    dialogue = await fresh()
    heard = await dialogue.say(messages.message(b"Q", b"SELECT '\xff'\0"))
    assert fields(heard[0][1])["C"] == "22021"
    assert heard[-1] == ("Z", b"I")


async def test_a_function_call_is_refused() -> None:
    dialogue = await fresh()
    heard = await dialogue.say(messages.message(b"F", b"\0\0\0\1\0\0\0\0\0\0"))
    assert [tag for tag, _ in heard] == ["E", "Z"]
    assert fields(heard[0][1])["C"] == "0A000"


async def test_a_failure_of_our_own_is_logged_and_told_without_its_details(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def broken() -> list[str]:
        raise RuntimeError("the inside of things")

    dialogue = await open_console(make_views(reload=broken))
    dialogue.heard()
    with caplog.at_level(logging.ERROR):
        heard = await dialogue.say(messages.query("RELOAD"))
    assert [tag for tag, _ in heard] == ["T", "E", "Z"]
    assert fields(heard[1][1])["C"] == "XX000"
    assert b"inside" not in heard[1][1]
    assert "the inside of things" in caplog.text
    assert await dialogue.tags(messages.query("SELECT 1")) == "TDCZ"


# --- extended query ---


async def test_the_extended_protocol_answers_each_message() -> None:
    dialogue = await fresh()
    heard = await dialogue.say(
        parse_message("SELECT 1"),
        bind_message(),
        describe_message("P"),
        execute_message(),
        messages.SYNC,
    )
    assert [tag for tag, _ in heard] == list("12TDCZ")


async def test_flush_answers_before_any_sync() -> None:
    dialogue = await fresh()
    heard = await dialogue.tags(parse_message("SHOW POOLS", "s"), describe_message("S", "s"))
    assert heard == "1tT"
    assert await dialogue.tags(messages.FLUSH) == ""
    assert await dialogue.tags(bind_message("", "s"), execute_message(), messages.SYNC) == "2CZ"


async def test_rows_asked_for_in_binary_are_the_same_bytes() -> None:
    dialogue = await fresh()
    binary = b"\0\0" + b"\0\0" + b"\0\1\0\1"
    heard = await dialogue.say(
        parse_message("SELECT 'x'"), bind_message("", "", binary), execute_message(), messages.SYNC
    )
    assert text_row("x") in heard


async def test_a_portal_can_be_read_in_parts() -> None:
    dialogue = await fresh()
    await dialogue.say(messages.query("BEGIN"))
    heard = await dialogue.tags(
        parse_message("SHOW HELP LIMIT 3"),
        bind_message("p"),
        execute_message("p", 2),
        messages.SYNC,
    )
    assert heard == "12DDsZ"
    assert await dialogue.tags(execute_message("p", 2), messages.SYNC) == "DCZ"
    await dialogue.say(messages.query("COMMIT"))
    heard = await dialogue.tags(execute_message("p", 2), messages.SYNC)
    assert heard == "EZ"


async def test_after_an_error_everything_is_skipped_up_to_sync() -> None:
    dialogue = await fresh()
    heard = await dialogue.tags(
        parse_message("nonsense"), bind_message(), execute_message(), messages.query("SELECT 1")
    )
    assert heard == "E"
    assert await dialogue.tags(messages.SYNC, messages.query("SELECT 1")) == "ZTDCZ"


async def test_statements_without_rows_have_no_data() -> None:
    dialogue = await fresh()
    await dialogue.say(parse_message("BEGIN", "b"), parse_message("", "nothing"))
    assert await dialogue.tags(describe_message("S", "b")) == "tn"
    heard = await dialogue.tags(
        bind_message("", "nothing"), describe_message("P"), execute_message(), messages.SYNC
    )
    assert heard == "2nIZ"


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (bind_message("", "missing"), "26000"),
        (describe_message("S", "missing"), "26000"),
        (describe_message("P", "missing"), "34000"),
        (execute_message("missing"), "34000"),
        (parse_message("SELECT 1; SELECT 2"), "42601"),
        (parse_message("SELECT 1", "held"), "42P05"),
        (bind_message("held", "held") + bind_message("held", "held"), "42P03"),
        (bind_message("", "held", b"\0\0\0\1\0\0\0\1x\0\0"), "08P01"),
    ],
)
async def test_mistakes_have_the_codes_of_postgresql(sent: bytes, code: str) -> None:
    dialogue = await fresh()
    await dialogue.say(parse_message("SELECT 1", "held"), messages.SYNC)
    heard = await dialogue.say(sent, messages.SYNC)
    assert fields(heard[-2][1])["C"] == code
    assert fields(heard[-2][1])["S"] == "ERROR"
    assert heard[-1] == ("Z", b"I")


async def test_closed_statements_are_gone_and_closing_nothing_is_fine() -> None:
    dialogue = await fresh()
    heard = await dialogue.tags(
        parse_message("SELECT 1", "s"), close_message("S", "s"), close_message("P", "none")
    )
    assert heard == "133"
    assert await dialogue.tags(bind_message("", "s"), messages.SYNC) == "EZ"


async def test_prepared_statements_are_bounded() -> None:
    dialogue = await fresh()
    for number in range(STATEMENTS_MAX):
        await dialogue.say(parse_message("SELECT 1", f"s{number}"))
    heard = await dialogue.say(parse_message("SELECT 1", "more"), messages.SYNC)
    assert fields(heard[0][1])["C"] == "53400"
    assert await dialogue.tags(messages.query("DEALLOCATE ALL"), parse_message("SELECT 1")) == "CZ1"


# --- bad input ---


@pytest.mark.parametrize(
    "sent",
    [
        b"y\0\0\0\4",
        b"\0\0\0\0\4",
        b"Q\0\0\0\3",
        b"Q" + (console.MESSAGE_MAX_BYTES + 1).to_bytes(4, "big"),
        b"Q\x7f\xff\xff\xff",
        b"Q\0\0\0\4",
        messages.message(b"B", b"\0\0"),
        messages.message(b"B", b"\0\0\xff\xff\0"),
        messages.message(b"D", b"Xname\0"),
        messages.message(b"E", b"\0\0"),
        messages.message(b"P", b"unended"),
    ],
)
async def test_what_breaks_the_protocol_ends_the_connection(sent: bytes) -> None:
    dialogue = await fresh()
    await dialogue.say(parse_message("SELECT 1"))
    (last,) = await dialogue.say(sent)
    assert last[0] == "E"
    assert (fields(last[1])["S"], fields(last[1])["C"]) == ("FATAL", "08P01")
    assert dialogue.transport.closed
    assert len(dialogue.context.registry) == 0


def _answer(sent: list[bytes]) -> tuple[bytes, bool]:
    """All that a console writes when it gets ``sent`` in these pieces, and whether it hung up."""

    async def run() -> tuple[bytes, bool]:
        dialogue = await open_console()
        for piece in sent:
            dialogue.transport.protocol.data_received(piece)
            await asyncio.sleep(0)
        await settle()
        dialogue.heard()
        written, closed = bytes(dialogue.transport.written), dialogue.transport.closed
        dialogue.session.end(STOPPED)
        await settle()
        # The greeting holds a random key.
        return written[written.index(b"Z\0\0\0\5I") :], closed

    return asyncio.run(run())


_messages = st.one_of(
    st.binary(max_size=40),
    st.builds(
        messages.message,
        st.sampled_from([bytes([tag]) for tag in b"QPBDECHSFdcfXp"]),
        st.binary(max_size=30),
    ),
    st.sampled_from(
        [
            messages.query("SELECT 1; SHOW HELP"),
            messages.query("BEGIN"),
            parse_message("SHOW ROUTES"),
            bind_message(),
            describe_message("P"),
            execute_message("", 2),
            messages.SYNC,
        ]
    ),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(_messages, max_size=12).map(b"".join), st.integers(1, 7))
def test_any_bytes_are_answered_alike_however_they_are_cut(data: bytes, size: int) -> None:
    whole = _answer([data])
    cut = _answer([data[at : at + size] for at in range(0, len(data), size)])
    assert cut == whole


# --- a slow reader ---


async def test_a_slow_reader_stops_the_rows_and_gets_them_all_in_the_end() -> None:
    context = make_context()
    dialogue = await open_console(make_views(context), room=20_000)
    dialogue.heard()
    add_operators(context, 5000)
    await dialogue.say(messages.query("SHOW CLIENTS"))
    first = len(dialogue.transport.written)
    assert first < 40_000
    dialogue.transport.make_room(100_000)
    await settle()
    assert first < len(dialogue.transport.written) < 160_000
    dialogue.transport.make_room(10_000_000)
    for _ in range(10):
        await settle()
    assert dialogue.transport.written.count(b"console") == 5001
    assert bytes(dialogue.transport.written).endswith(b"C\0\0\0\x09SHOW\0Z\0\0\0\5I")


async def test_traffic_has_its_turn_between_slices_of_rows() -> None:
    context = make_context()
    dialogue = await open_console(make_views(context))
    add_operators(context, 5000)
    dialogue.transport.protocol.data_received(messages.query("SHOW CLIENTS; SHOW OWNERS"))
    written = [len(dialogue.transport.written)]
    turns = 0
    while not bytes(dialogue.transport.written).endswith(b"Z\0\0\0\5I") or turns < 3:
        await asyncio.sleep(0)
        turns += 1
        written.append(len(dialogue.transport.written))
    steps = [after - before for before, after in pairwise(written)]
    assert turns > 5000 // 100
    assert max(steps) < 20_000


async def test_a_client_that_floods_is_not_read_on() -> None:
    context = make_context()
    dialogue = await open_console(make_views(context), room=10)
    await settle()
    for _ in range(30):
        dialogue.transport.protocol.data_received(messages.query("SHOW HELP " + " " * 10_000))
        if not dialogue.transport.reading:
            break
        await settle()
    assert not dialogue.transport.reading


async def test_a_peer_that_leaves_in_the_middle_of_rows_is_forgotten() -> None:
    context = make_context()
    dialogue = await open_console(make_views(context), room=1000)
    add_operators(context, 500)
    await dialogue.say(messages.query("SHOW CLIENTS"))
    dialogue.transport.protocol.connection_lost(None)
    await settle()
    assert dialogue.session not in list(context.registry)


# --- the end ---


async def test_cancel_does_nothing() -> None:
    dialogue = await fresh()
    found = dialogue.context.registry.find(dialogue.session.number, dialogue.session.secret)
    assert found is not None
    assert found.cancel() is None
    assert await dialogue.tags(messages.query("SELECT 1")) == "TDCZ"


async def test_drain_ends_a_console_that_waits() -> None:
    dialogue = await fresh()
    await settle()
    dialogue.session.drain(STOPPED)
    await settle()
    ((tag, body),) = dialogue.heard()
    assert (tag, fields(body)["S"], fields(body)["C"]) == ("E", "FATAL", "57P01")
    assert dialogue.transport.closed
    assert len(dialogue.context.registry) == 0


async def test_drain_lets_a_command_end() -> None:
    context = make_context()
    dialogue = await open_console(make_views(context), room=5000)
    dialogue.heard()
    add_operators(context, 300)
    await dialogue.say(messages.query("SHOW CLIENTS"))
    dialogue.session.drain(STOPPED)
    await settle()
    assert dialogue.session in list(context.registry)
    dialogue.transport.make_room(1_000_000)
    await settle()
    assert dialogue.transport.closed
    assert dialogue.transport.written.count(b"console") == 301
    assert b"57P01" in dialogue.transport.written


async def test_end_closes_at_once_and_once() -> None:
    dialogue = await fresh()
    dialogue.session.end(STOPPED)
    dialogue.session.end(STOPPED)
    await settle()
    dialogue.session.end(STOPPED)
    assert [tag for tag, _ in dialogue.heard()] == ["E"]
    assert dialogue.transport.closed
    assert len(dialogue.context.registry) == 0
