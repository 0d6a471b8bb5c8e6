"""The reply queue against a model of a real server, over any conversation in any timing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from gateway.protocol import replies
from gateway.protocol.replies import Expected, Replies
from tests import reference_server as reference
from tests.reference_server import ReferenceServer, Said, Sent

KINDS = {
    "Q": replies.QUERY,
    "F": replies.FUNCTION,
    "S": replies.SYNC,
    "P": replies.PARSE,
    "B": replies.BIND,
    "C": replies.CLOSE,
    "D": replies.DESCRIBE,
    "E": replies.EXECUTE,
    reference.SYNTHETIC: replies.SYNTHETIC,
}

STATEMENTS = st.sampled_from(
    [
        reference.ROWS,
        reference.COMMAND,
        reference.EMPTY,
        reference.COPY_OUT,
        reference.COPY_IN,
        reference.COPY_REFUSED,
        reference.ERROR,
    ]
)
QUERIES = st.lists(STATEMENTS, min_size=1, max_size=3).map(lambda fates: Sent("Q", tuple(fates)))
EXECUTES = (STATEMENTS | st.just(reference.SUSPENDED)).map(lambda fate: Sent("E", (fate,)))
OTHERS = st.builds(
    lambda tag, fate: Sent(tag, (fate,)),
    st.sampled_from("PBCFSS"),
    st.sampled_from([reference.OK, reference.OK, reference.OK, reference.BAD]),
)
DESCRIBES = st.sampled_from([reference.OK, reference.NO_DATA, reference.BAD]).map(
    lambda fate: Sent("D", (fate,))
)
COPIES = st.sampled_from([reference.COPY_IN, reference.COPY_IN, reference.COPY_REFUSED])
COPIERS = COPIES.map(lambda fate: Sent("E", (fate,))) | st.lists(
    COPIES, min_size=1, max_size=2
).map(lambda fates: Sent("Q", tuple(fates)))
COPY_STREAM = st.sampled_from(
    [Sent("d"), Sent("d", (reference.BAD,)), Sent("c"), Sent("f"), Sent("H"), Sent("S")]
)

HEARD: dict[str, Callable[[Replies], None]] = {
    "Z": Replies.on_ready,
    "E": Replies.on_error,
    "C": Replies.on_command_end,
    "I": Replies.on_command_end,
    "s": Replies.on_command_end,
    "1": lambda queue: queue.on_reply(replies.PARSE),
    "2": lambda queue: queue.on_reply(replies.BIND),
    "3": lambda queue: queue.on_reply(replies.CLOSE),
    "T": lambda queue: queue.on_reply(replies.DESCRIBE),
    "n": lambda queue: queue.on_reply(replies.DESCRIBE),
    "G": Replies.on_copy_in,
}
"""What is booked when; all other messages pass unseen."""


class Conversation(RuleBasedStateMachine):
    """A client that knows the protocol, a server that is never late, and a wire that may be."""

    def __init__(self) -> None:
        super().__init__()
        self.server = ReferenceServer()
        self.queue = Replies()
        self.sent: list[Sent] = []
        self.entries: list[Expected] = []
        self.void: set[int] = set()
        self.copier = -1
        """The last message that may ask for copy data."""
        self.copies_done: Counter[int] = Counter()
        """How many copies of a message the gateway knows to be complete."""
        self.ends_due = 0
        """How often the client must end a copy before it may send anything but copy data."""

    # --- the client and the gateway ---

    def send(self, message: Sent) -> None:
        number, kind = len(self.sent), KINDS.get(message.tag, 0)
        entry = Expected(
            kind,
            silent=message.silent,
            on_failed=lambda: self.void.add(number),
            reply=b"v" if message.tag == reference.SYNTHETIC else b"",
        )
        self.sent.append(message)
        self.entries.append(entry)
        if kind:
            self.queue.expect(entry)
        elif message.tag in "cf":
            self.queue.copy_ended()
        self.server.receive(message)
        self.take_synthetic()

    @precondition(lambda self: not self.ends_due)
    @rule(message=QUERIES | EXECUTES)
    def may_copy(self, message: Sent) -> None:
        self.copier, self.ends_due = len(self.sent), message.copies
        self.send(message)

    @precondition(lambda self: not self.ends_due)
    @rule(message=OTHERS | DESCRIBES)
    def sends(self, message: Sent) -> None:
        self.send(message)

    @precondition(lambda self: not self.ends_due)
    @rule(message=COPIERS, stream=st.lists(COPY_STREAM, max_size=4), heard=st.integers(0, 9))
    def copies(self, message: Sent, stream: list[Sent], heard: int) -> None:
        """As drivers do: the Sync may come before or after the end of the copy, or both."""
        self.may_copy(message)
        for part in stream:
            self.sends_copy_stream(part)
        self.hears(heard)

    @rule(message=COPY_STREAM)
    def sends_copy_stream(self, message: Sent) -> None:
        """At any time: a client may be late to hear of an error, or of the end."""
        if message.tag == "c":
            self.ends_due = max(0, self.ends_due - 1)
        elif message.tag == "f":
            self.ends_due = 0
        self.send(message)

    @precondition(lambda self: not self.ends_due)
    @rule(tag=st.sampled_from("PC"), fate=st.sampled_from([reference.OK, reference.BAD]))
    def gateway_prepares(self, tag: str, fate: str) -> None:
        self.send(Sent(tag, (fate,), silent=True))

    @precondition(lambda self: not self.ends_due and not self.queue.doubtful)
    @rule()
    def gateway_answers_itself(self) -> None:
        self.send(Sent(reference.SYNTHETIC))

    @precondition(lambda self: self.queue.idle)
    @rule(fate=st.sampled_from([reference.ROWS, reference.COMMAND, reference.ERROR]))
    def gateway_asks(self, fate: str) -> None:
        self.send(Sent("Q", (fate,), silent=True))

    # --- the wire ---

    @rule(count=st.integers(1, 12))
    def hears(self, count: int) -> None:
        for _ in range(min(count, len(self.server.said))):
            if self.server.said:
                self.hear(self.server.said.popleft())

    @rule()
    def hears_all(self) -> None:
        self.hears(len(self.server.said))

    def hear(self, said: Said) -> None:
        was_doubtful, in_copy = self.queue.doubtful, self.queue.copy_in
        if not was_doubtful:
            assert self.queue.head is self.entries[said.origin]
        if said.tag in HEARD:
            HEARD[said.tag](self.queue)
        failed_copy = in_copy and said.tag == "E"
        assert self.queue.doubtful == (was_doubtful or (failed_copy and self.sync_in(said.origin)))
        self.copies_done[said.origin] += in_copy and said.tag == "C"
        if said.origin == self.copier and said.tag in "EZ":
            self.ends_due = 0
        self.take_synthetic()

    def sync_in(self, copier: int) -> bool:
        """Whether there is a Sync that may or may not have been read by the copy that failed."""
        ends = 0
        for message in self.sent[copier + 1 :]:
            if message.tag == "S" and ends == self.copies_done[copier]:
                return True
            ends += message.tag in "cf"
        return False

    def take_synthetic(self) -> None:
        if self.queue.doubtful:
            while self.server.said and self.server.said[0].tag == reference.SYNTHETIC:
                self.server.said.popleft()
            return
        due = 0
        while self.server.said and self.server.said[0].tag == reference.SYNTHETIC:
            assert self.queue.head is self.entries[self.server.said.popleft().origin] or due
            due += 1
        assert self.queue.synthetic_due == bool(due)
        assert self.queue.take_synthetic() == b"v" * due

    # --- what must hold ---

    @invariant()
    def idle_when_nothing_is_owed(self) -> None:
        if not self.queue.doubtful:
            assert self.queue.idle == (not self.server.owes)

    @invariant()
    def knows_what_had_no_effect(self) -> None:
        if not self.queue.doubtful and not self.server.said:
            assert {n for n in self.void if self.sent[n].tag != "S"} == self.server.void

    @invariant()
    def not_idle_in_doubt(self) -> None:
        assert not (self.queue.doubtful and self.queue.idle)


Conversation.TestCase.settings = settings(max_examples=150, stateful_step_count=30, deadline=None)
TestConversation = Conversation.TestCase
