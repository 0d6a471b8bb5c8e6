"""What a server connection passes on, keeps to itself and tells its client, as conversations."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from gateway.pool.server import Answer
from gateway.protocol import messages, replies
from gateway.protocol.replies import Expected
from tests.unit.session.conversation import (
    BOUND,
    CLOSED,
    COLUMNS,
    COPY_IN,
    PARSED,
    Conversation,
    done,
    error,
    notice,
    notification,
    ready,
    reported,
    row,
    said,
)

READY = ("ready", "I")


@pytest.fixture
def talk() -> Conversation:
    return Conversation()


@pytest.fixture(params=["in one chunk", "byte by byte"])
def hears(request: pytest.FixtureRequest, talk: Conversation) -> Callable[..., None]:
    """The server speaks; most of what follows must not depend on how its words are cut."""
    return talk.hears if request.param == "in one chunk" else talk.hears_bytewise


# --- the client's own ------------------------------------------------------------------------


def test_a_query_is_answered_and_over(talk: Conversation, hears: Callable[..., None]) -> None:
    talk.runs_query()
    answer = (COLUMNS, row("1"), row("2"), done("SELECT 2"), ready())
    hears(*answer)
    assert talk.client.heard == [("bytes", b"".join(answer)), READY]
    assert talk.server.last_command == b"SELECT 2\0"


def test_an_extended_query(talk: Conversation, hears: Callable[..., None]) -> None:
    talk.runs_batch()
    answer = (PARSED, BOUND, COLUMNS, row("1"), done(), ready())
    hears(*answer)
    assert talk.client.heard == [("bytes", b"".join(answer)), READY]


def test_a_transaction_is_told_by_its_status(talk: Conversation) -> None:
    talk.runs_query()
    talk.hears(done("BEGIN"), ready("T"))
    talk.runs_query()
    talk.hears(error(), ready("E"))
    assert talk.client.events == [("ready", "T"), ("failed", "oops"), ("ready", "E")]
    assert chr(talk.server.status) == "E"


def test_trap_only_the_last_ready_of_a_pipeline_is_told(
    talk: Conversation, hears: Callable[..., None]
) -> None:
    talk.runs_batch()
    talk.runs_batch()
    answer = (PARSED, BOUND, COLUMNS, done(), ready())
    hears(*answer)
    assert talk.client.heard == [("bytes", b"".join(answer))]
    hears(*answer)
    assert talk.client.heard == [("bytes", b"".join(answer * 2)), READY]


def test_trap_a_batch_flushed_and_not_synced_is_not_over(talk: Conversation) -> None:
    talk.asks(replies.PARSE, replies.DESCRIBE)
    talk.hears(PARSED, said("t", b"\0\0"), COLUMNS)
    assert talk.client.events == []
    talk.asks(replies.SYNC)
    talk.hears(ready())
    assert talk.client.events == [READY]


def test_an_error_in_the_middle_of_a_long_pipeline(
    talk: Conversation, hears: Callable[..., None]
) -> None:
    talk.asks(replies.PARSE, replies.BIND)
    hears(error())
    talk.asks(replies.EXECUTE, replies.PARSE, replies.BIND, replies.EXECUTE, replies.SYNC)
    hears(ready())
    assert talk.client.events == [("failed", "oops"), READY]


def test_copy_in_with_a_sync_ahead(talk: Conversation, hears: Callable[..., None]) -> None:
    talk.runs_batch()
    hears(PARSED, BOUND, said("n"), COPY_IN)
    talk.server.replies.copy_ended()
    talk.asks(replies.SYNC)
    hears(done("COPY 1"), ready())
    assert talk.client.events == [READY]


def test_copy_out(talk: Conversation, hears: Callable[..., None]) -> None:
    talk.runs_query()
    answer = (said("H", b"\0\0\0"), said("d", b"1\n"), said("c"), done("COPY 1"), ready())
    hears(*answer)
    assert talk.client.heard == [("bytes", b"".join(answer)), READY]


def test_a_function_call(talk: Conversation, hears: Callable[..., None]) -> None:
    talk.asks(replies.FUNCTION)
    hears(said("V", b"\0\0\0\0"), ready())
    assert talk.client.events == [READY]


# --- what arrives unasked --------------------------------------------------------------------


def test_asynchronous_messages_between_statements(
    talk: Conversation, hears: Callable[..., None]
) -> None:
    hears(notice(), reported("TimeZone", "UTC"), notification("ch"))
    assert talk.client.bytes_heard == notice() + reported("TimeZone", "UTC")
    assert talk.client.events == [
        ("reported", b"TimeZone", b"UTC"),
        ("notified", b"\0\0\0\x07ch\0\0"),
    ]
    assert talk.server.parameters[b"TimeZone"] == b"UTC"


def test_trap_a_notification_goes_to_no_one_who_is_not_linked(talk: Conversation) -> None:
    talk.server.unlink()
    talk.hears(notification("ch"), notice(), error(severity="FATAL"))
    assert talk.client.heard == []


def test_a_goodbye_between_statements_is_passed_on(
    talk: Conversation, hears: Callable[..., None]
) -> None:
    hears(error("terminating connection", "FATAL"))
    talk.server.connection_lost(None)
    assert talk.client.events == [
        ("failed", "terminating connection"),
        ("lost", "the connection to the database was lost: terminating connection"),
    ]
    assert talk.lost == [talk.server]


# --- the gateway's own -----------------------------------------------------------------------


def test_trap_the_answer_to_the_gateways_query_reaches_nobody_else(
    talk: Conversation, hears: Callable[..., None]
) -> None:
    answers: list[Answer] = []
    talk.server.ask("SELECT secret", answers.append)
    assert talk.transport.written == messages.query("SELECT secret")
    hears(COLUMNS, row("a", None), notice(), row("b", ""), done("SELECT 2"), ready())
    assert talk.client.heard == []
    assert answers == [Answer([[b"a", None], [b"b", b""]])]


def test_an_answer_ahead_of_the_clients_own(talk: Conversation, hears: Callable[..., None]) -> None:
    answers: list[Answer] = []
    talk.server.ask("RESET ALL", answers.append)
    talk.runs_query()
    hears(done("RESET"), ready(), COLUMNS, row("1"), done(), ready())
    assert talk.client.heard == [("bytes", COLUMNS + row("1") + done() + ready()), READY]
    assert answers == [Answer()]


def test_a_failed_query_of_the_gateway(talk: Conversation, hears: Callable[..., None]) -> None:
    answers: list[Answer] = []
    talk.server.ask("SELECT 1/0", answers.append)
    hears(error("division by zero"), ready())
    assert talk.client.heard == []
    assert [answer.error and answer.error["M"] for answer in answers] == ["division by zero"]


def test_news_for_the_client_in_the_gateways_answer(
    talk: Conversation, hears: Callable[..., None]
) -> None:
    """A setting changed under the client's feet: it is told, though the answer is not its own."""
    talk.client.parameters[b"TimeZone"] = b"UTC"
    talk.server.ask("SELECT set_config(...)", lambda answer: None)
    hears(row(""), reported("TimeZone", "UTC"), reported("DateStyle", "German"), ready())
    assert talk.client.bytes_heard == reported("DateStyle", "German")


def test_a_notification_in_the_gateways_answer_is_the_clients(
    talk: Conversation, hears: Callable[..., None]
) -> None:
    talk.server.ask("SELECT 1", lambda answer: None)
    hears(row("1"), notification("ch"), done(), ready())
    assert talk.client.heard == [("notified", b"\0\0\0\x07ch\0\0")]


def test_a_parse_put_in_before_the_clients_bind(
    talk: Conversation, hears: Callable[..., None]
) -> None:
    talk.server.replies.expect(Expected(replies.PARSE, silent=True))
    talk.asks(replies.BIND, replies.EXECUTE, replies.SYNC)
    hears(PARSED, BOUND, done(), ready())
    assert talk.client.heard == [("bytes", BOUND + done() + ready()), READY]


def test_its_failure_is_the_clients_error(talk: Conversation, hears: Callable[..., None]) -> None:
    talk.server.replies.expect(Expected(replies.PARSE, silent=True))
    talk.asks(replies.BIND, replies.EXECUTE, replies.SYNC)
    hears(error("no such table"), ready())
    assert talk.client.bytes_heard == error("no such table") + ready()
    assert talk.client.events == [("failed", "no such table"), READY]


def test_an_answer_of_the_gateways_own_comes_in_its_turn(
    talk: Conversation, hears: Callable[..., None]
) -> None:
    """Parse, Close (the server keeps the statement), Parse, Sync."""
    talk.asks(replies.PARSE)
    talk.server.replies.expect(Expected(replies.SYNTHETIC, reply=CLOSED))
    talk.asks(replies.PARSE, replies.SYNC)
    hears(PARSED, PARSED, ready())
    assert talk.client.heard == [("bytes", PARSED + CLOSED + PARSED + ready()), READY]


def test_all_prepared_statements_forgotten(talk: Conversation) -> None:
    talk.runs_query()
    talk.hears(done("DISCARD ALL"), ready())
    assert ("forgot prepared",) in talk.client.heard


# --- big messages ----------------------------------------------------------------------------


def test_a_row_goes_on_before_it_is_complete(talk: Conversation) -> None:
    talk.runs_query()
    big = row("x" * 100_000)
    talk.hears(COLUMNS, big[:50_000])
    assert talk.client.bytes_heard == COLUMNS + big[:50_000]
    talk.hears(big[50_000:], done(), ready())
    assert talk.client.heard == [("bytes", COLUMNS + big + done() + ready()), READY]


def test_an_error_of_two_megabytes_passes_and_is_an_error(talk: Conversation) -> None:
    talk.runs_query()
    big = error("x" * 2_000_000)
    talk.hears(big[:100_000])
    talk.hears(big[100_000:], ready())
    assert talk.client.bytes_heard == big + ready()
    assert [event[0] for event in talk.client.events] == ["failed", "ready"]


def test_a_row_of_the_gateways_own_answer_may_come_in_pieces(talk: Conversation) -> None:
    answers: list[Answer] = []
    talk.server.ask("SELECT 1", answers.append)
    big = row("x" * 100_000)
    for at in range(0, len(big), 1000):
        talk.hears(big[at : at + 1000])
    talk.hears(done(), ready())
    assert [len(answer.rows[0][0] or b"") for answer in answers] == [100_000]


# --- servers that do not keep to the protocol ------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [
        pytest.param(b"D\0\0\0\0", id="impossible length"),
        pytest.param(ready() * 2, id="ready twice"),
        pytest.param(said("R", b"\0\0\0\0"), id="authentication after the login"),
        pytest.param(said("Z"), id="ready without a status"),
        pytest.param(said("Z", b"II"), id="ready with two"),
        pytest.param(said("S", b"x"), id="a parameter cut off"),
        pytest.param(said("\xff"), id="unknown type"),
        pytest.param(BOUND, id="an answer to something else"),
        pytest.param(b"K\0\x20\0\0", id="too long for its type"),
    ],
)
def test_a_broken_server_is_dropped(
    talk: Conversation, hears: Callable[..., None], words: bytes
) -> None:
    talk.asks(replies.SYNC)
    hears(words)
    assert talk.transport.calls == ["abort"]
    assert talk.server.closing
    heard = list(talk.client.heard)
    talk.hears(row("more"))
    assert talk.client.heard == heard, "nothing passes any more"


def test_a_malformed_row_of_the_gateways_own_answer_drops_the_server(talk: Conversation) -> None:
    answers: list[Answer] = []
    talk.server.ask("SELECT 1", answers.append)
    talk.hears(said("D", b"\0\x02"), done(), ready())
    assert talk.transport.calls == ["abort"]
    assert answers == []


# --- the end ---------------------------------------------------------------------------------


def test_a_server_in_step_is_said_goodbye_to(talk: Conversation) -> None:
    talk.server.close()
    assert talk.transport.written == messages.TERMINATE
    talk.server.close()
    assert talk.transport.written == messages.TERMINATE


def test_a_server_out_of_step_is_hung_up_on(talk: Conversation) -> None:
    """A Terminate in the middle of a message would be taken for a part of it."""
    talk.runs_query()
    talk.server.close()
    assert talk.transport.written == b""
    assert talk.transport.calls[-1] == "write_eof"


def test_the_client_hears_of_the_loss_once(talk: Conversation) -> None:
    talk.runs_query()
    talk.server.connection_lost(ConnectionResetError("reset by peer"))
    assert talk.client.events == [
        ("lost", "the connection to the database was lost: reset by peer")
    ]
    assert talk.server.client is None
    talk.server.write(b"too late")
    assert talk.transport.written == b""


def test_backpressure_reaches_the_client(talk: Conversation) -> None:
    talk.server.pause_writing()
    talk.server.resume_writing()
    assert talk.client.events == [("full",), ("drained",)]
