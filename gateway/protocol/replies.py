"""What a server still owes: one entry per message sent to it that will be answered.

The queue tells whose an arriving message is (the client's, or the answer to something the gateway
put in), when a server is back in step, and which messages an error made the server skip.
Source: PostgreSQL documentation, "Message Flow", sections "Extended Query", "COPY Operations".
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from gateway.errors import ProtocolViolation

# What an entry waits for.
QUERY = 1  # a simple Query: anything up to ReadyForQuery
FUNCTION = 2  # a FunctionCall: the same
SYNC = 3  # ReadyForQuery
PARSE = 4  # ParseComplete
BIND = 5  # BindComplete
CLOSE = 6  # CloseComplete
DESCRIBE = 7  # RowDescription or NoData, after a ParameterDescription for a statement
EXECUTE = 8  # CommandComplete, PortalSuspended or EmptyQueryResponse
COPY_END = 9  # CopyDone or CopyFail: no answer of its own, ends the server's copy-in mode
SYNTHETIC = 10  # an answer the gateway gives itself, in its turn among the server's

_ENDS_WITH_READY = (QUERY, FUNCTION, SYNC)


class Expected:
    """One awaited answer. ``silent`` ones are the gateway's own and never reach the client.

    ``on_message(tag, body)`` gets each message of a silent query's answer; ``on_failed()`` is
    called when the message failed, or was skipped because one before it did; ``reply`` is what a
    SYNTHETIC entry tells the client.
    """

    __slots__ = ("kind", "on_failed", "on_message", "reply", "silent")

    def __init__(
        self,
        kind: int,
        *,
        silent: bool = False,
        on_message: Callable[[int, bytes], None] | None = None,
        on_failed: Callable[[], None] | None = None,
        reply: bytes = b"",
    ) -> None:
        self.kind = kind
        self.silent = silent
        self.on_message = on_message
        self.on_failed = on_failed
        self.reply = reply

    def fail(self) -> None:
        """This message had no effect."""
        if self.on_failed is not None:
            self.on_failed()


# Shared entries for the client's own messages: most carry nothing else.
CLIENT_QUERY = Expected(QUERY)
CLIENT_FUNCTION = Expected(FUNCTION)
CLIENT_SYNC = Expected(SYNC)
CLIENT_PARSE = Expected(PARSE)
CLIENT_BIND = Expected(BIND)
CLIENT_CLOSE = Expected(CLOSE)
CLIENT_DESCRIBE = Expected(DESCRIBE)
CLIENT_EXECUTE = Expected(EXECUTE)
_COPY_END = Expected(COPY_END)


class Replies:
    """The queue of one server connection.

    ``doubtful`` is set for good when a client broke the copy protocol so that the number of
    answers can't be known: nothing is checked any more, and such a server must never serve
    another client.
    """

    __slots__ = (
        "_queue",
        "_skipping",
        "_syncs_in_copy",
        "copy_in",
        "doubtful",
        "synthetic_due",
    )

    def __init__(self) -> None:
        self._queue: deque[Expected] = deque()
        self._syncs_in_copy = 0
        self._skipping = False
        self.copy_in = False
        self.doubtful = False
        self.synthetic_due = False

    @property
    def idle(self) -> bool:
        """The server owes nothing and its count can be trusted."""
        return not self._queue and not self.doubtful

    @property
    def head(self) -> Expected | None:
        """Whose answer is arriving now; None when the server speaks unasked."""
        return self._queue[0] if self._queue else None

    # --- sent to the server ---

    def expect(self, entry: Expected) -> None:
        """A message was sent that will be answered."""
        if self._skipping:
            self._sent_while_skipping(entry)
        elif self.copy_in:
            self._sent_during_copy(entry)
        elif not self.doubtful:
            self._append(entry)

    def _append(self, entry: Expected) -> None:
        self._queue.append(entry)
        self.synthetic_due = self._queue[0].kind == SYNTHETIC

    def _sent_while_skipping(self, entry: Expected) -> None:
        """After an error a server takes no notice of anything but Sync."""
        if entry.kind == SYNC:
            self._skipping = False
            self._append(entry)
        else:
            entry.fail()

    def _sent_during_copy(self, entry: Expected) -> None:
        """In copy-in mode a server ignores Sync and takes anything else for an error."""
        if any(queued.kind == COPY_END for queued in self._queue):
            self._queue.append(entry)
        elif entry.kind == SYNC:
            self._syncs_in_copy += 1
        else:
            self._give_up()

    def copy_ended(self) -> None:
        """The client sent CopyDone or CopyFail; outside of a copy they mean nothing."""
        if self._queue:
            self._queue.append(_COPY_END)

    # --- heard from the server ---

    def on_reply(self, kind: int) -> None:
        """A message that ends an entry of this kind and is only a part of a Query's answer."""
        if not self._queue:
            if not self.doubtful:
                raise ProtocolViolation("the server answered what nobody asked")
            return
        awaited = self._queue[0].kind
        if awaited == kind:
            self._pop()
        elif awaited != QUERY:
            raise ProtocolViolation("the server's answers are out of order")

    def on_command_end(self) -> None:
        """CommandComplete, EmptyQueryResponse or PortalSuspended."""
        self.copy_in = False
        self.on_reply(EXECUTE)

    def on_copy_in(self) -> None:
        """CopyInResponse: the server now ignores every Sync up to CopyDone or CopyFail."""
        self.copy_in = True
        self._syncs_in_copy = 0
        kept: deque[Expected] = deque()
        for entry in self._queue:
            if entry.kind == SYNC and not any(before.kind == COPY_END for before in kept):
                continue
            kept.append(entry)
        self._queue = kept

    def on_error(self) -> None:
        """ErrorResponse: inside an extended query the server skips to the next Sync."""
        if self.copy_in and self._syncs_in_copy:
            # It failed before, between or after reading those Syncs: nobody here can know.
            self._give_up()
        self.copy_in = False
        if not self._queue or self._queue[0].kind in _ENDS_WITH_READY:
            return
        while self._queue and self._queue[0].kind != SYNC:
            self._queue.popleft().fail()
        self._skipping = not self._queue

    def on_ready(self) -> None:
        """ReadyForQuery: the end of a Query, FunctionCall or Sync."""
        self.copy_in = False
        if self.doubtful:
            return
        if not self._queue:
            raise ProtocolViolation("the server became ready twice")
        if self._queue[0].kind not in _ENDS_WITH_READY:
            raise ProtocolViolation("the server became ready before it had answered everything")
        self._pop()

    def take_synthetic(self) -> bytes:
        """The gateway's own answers whose turn it is."""
        taken = b""
        while self._queue and self._queue[0].kind == SYNTHETIC:
            taken += self._queue[0].reply
            self._pop()
        return taken

    def _pop(self) -> None:
        self._queue.popleft()
        while self._queue and self._queue[0].kind == COPY_END:
            self._queue.popleft()
        self.synthetic_due = bool(self._queue) and self._queue[0].kind == SYNTHETIC

    def _give_up(self) -> None:
        self.doubtful = True
        self.copy_in = False
        self.synthetic_due = False
        self._queue.clear()
