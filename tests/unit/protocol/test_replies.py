"""The queue of outstanding replies, told as conversations.

``>`` are messages to the server, ``<`` from it. In any order: tests/property/test_replies.py.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from gateway.errors import ProtocolViolation
from gateway.protocol import replies
from gateway.protocol.replies import Expected, Replies

SENT = {
    "Query": replies.CLIENT_QUERY,
    "FunctionCall": replies.CLIENT_FUNCTION,
    "Sync": replies.CLIENT_SYNC,
    "Parse": replies.CLIENT_PARSE,
    "Bind": replies.CLIENT_BIND,
    "Close": replies.CLIENT_CLOSE,
    "Describe": replies.CLIENT_DESCRIBE,
    "Execute": replies.CLIENT_EXECUTE,
}
HEARD: dict[str, Callable[[Replies], None]] = {
    "ParseComplete": lambda queue: queue.on_reply(replies.PARSE),
    "BindComplete": lambda queue: queue.on_reply(replies.BIND),
    "CloseComplete": lambda queue: queue.on_reply(replies.CLOSE),
    "RowDescription": lambda queue: queue.on_reply(replies.DESCRIBE),
    "NoData": lambda queue: queue.on_reply(replies.DESCRIBE),
    "CommandComplete": Replies.on_command_end,
    "CopyInResponse": Replies.on_copy_in,
    "Error": Replies.on_error,
    "Ready": Replies.on_ready,
}


def play(queue: Replies, talk: str) -> Replies:
    """Each line: a direction and the messages that go that way, in order."""
    for line in filter(None, map(str.strip, talk.splitlines())):
        direction, *words = line.split()
        for word in words:
            if direction == "<":
                HEARD[word](queue)
            elif word in ("CopyDone", "CopyFail"):
                queue.copy_ended()
            elif word not in ("CopyData", "Flush"):
                queue.expect(SENT[word])
    return queue


def talk(text: str) -> Replies:
    return play(Replies(), text)


BATCH = "> Parse Bind Describe Execute Sync"
ANSWER = "< ParseComplete BindComplete RowDescription CommandComplete Ready"


def test_a_new_connection_is_idle() -> None:
    assert Replies().idle
    assert Replies().head is None


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("> Query", "< RowDescription CommandComplete Ready"),
        ("> Query", "< CommandComplete RowDescription CommandComplete Ready"),
        ("> Query", "< Error Ready"),
        ("> FunctionCall", "< Ready"),
        ("> Sync", "< Ready"),
        ("> Sync", "< Error Ready"),
        (BATCH, ANSWER),
        ("> Parse Bind Close Sync", "< ParseComplete BindComplete CloseComplete Ready"),
        ("> Parse Query", "< ParseComplete CommandComplete Ready"),
    ],
)
def test_a_question_is_open_until_the_last_word_of_its_answer(question: str, answer: str) -> None:
    queue = talk(question)
    for word in answer.split()[1:]:
        assert not queue.idle
        play(queue, f"< {word}")
    assert queue.idle


def test_trap_release_at_first_ready_of_a_pipeline() -> None:
    queue = talk(f"{BATCH}\n{BATCH}\n> Query\n{ANSWER}")
    assert not queue.idle
    assert not play(queue, ANSWER).idle
    assert play(queue, "< CommandComplete Ready").idle


def test_trap_flush_instead_of_sync() -> None:
    """asyncpg: Parse, Describe, Flush. All is answered, but the batch is open: no release."""
    queue = talk("> Parse Describe Flush\n< ParseComplete RowDescription")
    assert not queue.idle
    assert queue.sync_due
    assert play(queue, "> Bind Execute Sync\n< BindComplete CommandComplete Ready").idle


# --- errors ----------------------------------------------------------------------------------


def test_after_an_error_the_rest_of_the_batch_is_not_answered() -> None:
    assert talk(f"{BATCH}\n< ParseComplete Error Ready").idle


def test_only_the_batch_that_failed_is_skipped() -> None:
    queue = talk(f"{BATCH}\n{BATCH}\n< Error Ready")
    assert not queue.idle
    assert play(queue, ANSWER).idle


def test_what_is_sent_after_an_error_is_skipped_up_to_sync() -> None:
    """A long pipeline: the error comes back while the client is still sending."""
    queue = talk("> Parse Bind\n< Error\n> Execute Query Parse")
    assert queue.head is None
    assert not queue.idle
    queue = play(queue, "> Sync Query")
    assert not play(queue, "< Ready").idle
    assert play(queue, "< CommandComplete Ready").idle


def test_an_error_out_of_nothing_changes_nothing() -> None:
    """As when the administrator ends the connection."""
    assert talk("< Error").idle


def test_trap_a_failed_parse_is_not_kept() -> None:
    """Whoever registered a statement hears that it failed, or was never looked at."""
    failed: list[str] = []
    queue = Replies()

    def parse(name: str) -> None:
        queue.expect(Expected(replies.PARSE, on_failed=lambda: failed.append(name)))

    parse("good")
    parse("bad")
    parse("skipped")
    play(queue, "< ParseComplete Error")
    assert failed == ["bad", "skipped"]
    parse("late")
    assert failed == ["bad", "skipped", "late"]
    play(queue, "> Sync")
    parse("next batch")
    play(queue, "< Ready ParseComplete")
    assert failed == ["bad", "skipped", "late"]


# --- the gateway's own -----------------------------------------------------------------------


def test_trap_answers_are_told_apart() -> None:
    """An answer to an injected message is not the client's, and none of the client's is ours."""
    queue = Replies()
    setting, parse = Expected(replies.QUERY, silent=True), Expected(replies.PARSE, silent=True)
    queue.expect(setting)
    queue.expect(parse)
    play(queue, "> Bind Execute Sync")
    whose = []
    answers = "CommandComplete Ready ParseComplete BindComplete CommandComplete Ready"
    for word in answers.split():
        assert queue.head is not None
        whose.append("ours" if queue.head.silent else "client's")
        play(queue, f"< {word}")
    assert whose == ["ours"] * 3 + ["client's"] * 3
    assert queue.idle


def test_only_own_queries_are_owed() -> None:
    assert not Replies().only_own
    queue = Replies()
    queue.expect(Expected(replies.QUERY, silent=True))
    assert queue.only_own
    play(queue, "> Query")
    assert not queue.only_own


def test_a_batch_of_our_own_is_owed_when_its_sync_was_sent() -> None:
    queue = Replies()
    queue.expect(Expected(replies.DESCRIBE, silent=True))
    assert not queue.only_own
    queue.expect(Expected(replies.SYNC, silent=True))
    assert queue.only_own


def _told(queue: Replies) -> list[bytes]:
    """By each message under way, what would be told in place of its error."""
    told = []
    while queue.head is not None:
        told.append(queue.head.error)
        queue.on_reply(queue.head.kind) if queue.head.kind > replies.SYNC else queue.on_ready()
    return told


@pytest.mark.parametrize(
    ("sent", "told"),
    [
        ("Query Query", [b"why", b""]),
        ("Parse Bind Describe Execute Sync Query", [b"", b"why", b"why", b"why", b"", b""]),
        ("Close Query", [b"", b"why"]),
    ],
)
def test_what_we_put_in_is_blamed_up_to_the_end_of_the_clients_batch(
    sent: str, told: list[bytes]
) -> None:
    queue = Replies()
    queue.expect(Expected(replies.QUERY, silent=True))
    play(queue, f"> {sent}").blame(b"why")
    assert _told(queue) == [b"", *told]


def test_who_is_blamed_keeps_its_other_name_or_error() -> None:
    queue, names = Replies(), (b"ours", b"theirs")
    queue.expect(Expected(replies.BIND, renamed=names))
    queue.expect(Expected(replies.BIND, error=b"known"))
    queue.blame(b"why")
    assert queue.head is not None
    assert queue.head.renamed == names
    assert _told(queue) == [b"why", b"known"]


def test_a_synthetic_answer_waits_for_its_turn() -> None:
    queue = talk("> Parse")
    queue.expect(Expected(replies.SYNTHETIC, reply=b"one"))
    queue.expect(Expected(replies.SYNTHETIC, reply=b"two"))
    play(queue, "> Bind Sync")
    assert queue.take_synthetic() == b""
    assert play(queue, "< ParseComplete").synthetic_due
    assert queue.take_synthetic() == b"onetwo"
    assert play(queue, "< BindComplete Ready").idle


def test_a_synthetic_answer_with_nothing_before_it_is_due_at_once() -> None:
    queue = Replies()
    queue.expect(Expected(replies.SYNTHETIC, reply=b"x"))
    assert queue.synthetic_due
    assert queue.take_synthetic() == b"x"


def test_a_synthetic_answer_is_not_given_after_an_error() -> None:
    failed: list[bool] = []
    queue = talk("> Parse")
    queue.expect(Expected(replies.SYNTHETIC, reply=b"x", on_failed=lambda: failed.append(True)))
    play(queue, "> Sync\n< Error")
    assert not queue.synthetic_due
    assert failed == [True]
    assert play(queue, "< Ready").idle


# --- copy in ---------------------------------------------------------------------------------


def test_copy_of_a_query() -> None:
    queue = Replies()
    assert play(queue, "> Query\n< CopyInResponse").copy_in
    assert not play(queue, "> CopyData CopyDone\n< CommandComplete").idle
    assert not queue.copy_in
    assert play(queue, "< Ready").idle


@pytest.mark.parametrize(
    "conversation",
    [
        pytest.param(
            """
            > Parse Bind Execute Sync
            < ParseComplete BindComplete CopyInResponse
            > CopyData CopyDone Sync
            < CommandComplete Ready
            """,
            id="as libpq: a Sync before it knows of the copy, and another behind it",
        ),
        pytest.param(
            """
            > Parse Bind Execute Sync CopyData CopyDone Sync
            < ParseComplete BindComplete CopyInResponse CommandComplete Ready
            """,
            id="all at once",
        ),
        pytest.param(
            """
            > Parse Bind Execute Flush
            < ParseComplete BindComplete CopyInResponse
            > CopyData Sync CopyData Sync CopyDone Sync
            < CommandComplete Ready
            """,
            id="Syncs among the data",
        ),
    ],
)
def test_trap_a_sync_during_a_copy_is_never_answered(conversation: str) -> None:
    assert talk(conversation).idle


def test_a_copy_that_swallowed_the_only_sync_leaves_its_batch_open() -> None:
    queue = talk("> Execute Sync\n< CopyInResponse\n> CopyDone\n< CommandComplete")
    assert queue.sync_due
    assert not queue.idle
    assert play(queue, "> Sync\n< Ready").idle


def test_two_copies_in_one_query() -> None:
    queue = talk("> Query\n< CopyInResponse\n> CopyDone\n< CommandComplete CopyInResponse")
    assert play(queue, "> Sync CopyDone\n< CommandComplete Ready").idle


def test_trap_late_sync_after_copy_error() -> None:
    """The copy failed before or after it read a Sync: one answer more or less. Never released."""
    queue = talk("> Execute Sync\n< CopyInResponse\n> CopyData\n< Error")
    assert queue.doubtful
    play(queue, "> CopyDone Sync\n< Ready")
    assert not queue.idle
    play(queue, "< Ready\n> Query\n< RowDescription CommandComplete Ready")
    assert not queue.idle


def test_trap_late_copy_data_after_an_error_means_nothing() -> None:
    """Data and CopyDone that cross the error on the way: a server ignores them, and so do we."""
    queue = talk("> Query\n< CopyInResponse\n> CopyData\n< Error\n> CopyData CopyDone\n< Ready")
    assert queue.idle
    assert play(queue, "> CopyData CopyDone").idle
    assert play(queue, "> Query\n< CopyInResponse\n> CopyDone\n< CommandComplete Ready").idle


@pytest.mark.parametrize("end", ["CopyDone", "CopyFail"])
def test_an_error_is_certain_where_every_sync_is_behind_the_end_of_the_copy(end: str) -> None:
    queue = talk(f"> Execute Flush\n< CopyInResponse\n> CopyData {end} Sync\n< Error")
    assert not queue.doubtful
    assert play(queue, "< Ready").idle


def test_a_call_back_comes_when_all_before_it_is_answered_or_failed() -> None:
    calls: list[str] = []
    queue = talk("> Parse Execute")
    queue.call_back(lambda: calls.append("answered"))
    play(queue, "< ParseComplete")
    assert calls == []
    play(queue, "< CommandComplete")
    assert queue.synthetic_due
    assert queue.take_synthetic() == b""
    assert calls == ["answered"]
    queue.call_back(lambda: calls.append("nothing owed"))
    play(queue, "> Execute")
    queue.call_back(lambda: calls.append("failed"))
    play(queue, "< Error")
    queue.call_back(lambda: calls.append("skipped"))
    assert calls == ["answered", "nothing owed", "failed", "skipped"]
    assert play(queue, "> Sync\n< Ready").idle


def test_a_call_back_comes_when_copy_data_is_asked_for() -> None:
    calls: list[str] = []
    queue = talk("> Execute")
    queue.call_back(lambda: calls.append("copy"))
    play(queue, "< CopyInResponse")
    assert calls == ["copy"]
    swallows = [queue.swallows_sync()]
    play(queue, "> CopyData CopyDone")
    assert [*swallows, queue.swallows_sync()] == [True, False]
    assert play(queue, "> Sync\n< CommandComplete Ready").idle


# --- servers that do not keep to the protocol ------------------------------------------------


@pytest.mark.parametrize(
    "conversation",
    [
        "< Ready",
        "> Query\n< Ready Ready",
        "> Parse Sync\n< Ready",
        "> Parse Sync\n< BindComplete",
        "> Sync\n< CommandComplete",
        "> FunctionCall\n< CommandComplete",
        "< ParseComplete",
        "< CopyInResponse",
        "> Sync\n< CopyInResponse",
        "> Query\n< CopyInResponse CommandComplete",
    ],
)
def test_a_server_out_of_step_is_found_out(conversation: str) -> None:
    with pytest.raises(ProtocolViolation):
        talk(conversation)


def test_in_doubt_nothing_is_checked_and_nothing_is_idle() -> None:
    queue = Replies()
    queue.doubtful = True
    play(queue, "> Query\n< ParseComplete CopyInResponse CommandComplete Error Ready Ready")
    assert not queue.idle
    assert queue.head is None
