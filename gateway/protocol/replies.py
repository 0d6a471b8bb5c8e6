"""What a server still owes: one entry per message sent to it that will be answered.

The queue tells whose an arriving message is (the client's, or the answer to something the gateway
put in), when a server is back in step, and which messages an error made the server skip.
Source: PostgreSQL documentation, "Message Flow", sections "Extended Query", "COPY Operations".
"""

from __future__ import annotations

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

# The same as C integers, for the hot methods.
_QUERY, _EXECUTE, _END_OF_COPY, _SYNTHETIC = QUERY, EXECUTE, COPY_END, SYNTHETIC
_BLAMED = frozenset([QUERY, BIND, DESCRIBE, EXECUTE])
"""What names statements that a server may lack."""
_LAST_READY = SYNC
"""A ReadyForQuery ends the answer to those up to here: QUERY, FUNCTION, SYNC."""

_ANSWERED_MAX = 64
"""So many answered entries may stand before the head, until they are removed all at once."""


class Expected:
    """One awaited answer. ``silent`` ones are the gateway's own and never reach the client.

    ``on_message(tag, body)`` gets each message of a silent query's answer; ``on_failed()`` is
    called when the message failed, or was skipped because one before it did; ``reply`` is what a
    SYNTHETIC entry tells the client, and ``on_turn()`` is called then; ``renamed`` is a name that
    the server has for something, and the client's own for it, which an error is to tell; ``error``
    is what the client is told in place of an error; an error of an ``unheard`` one that is silent
    is nobody's. Of a Describe that is not silent, ``on_message`` gets the end of the answer.
    """

    __slots__ = (
        "error",
        "kind",
        "on_failed",
        "on_message",
        "on_turn",
        "renamed",
        "reply",
        "silent",
        "unheard",
    )

    def __init__(
        self,
        kind: int,
        on_failed: Callable[[], None] | None = None,
        *,
        silent: bool = False,
        on_message: Callable[[int, bytes], None] | None = None,
        on_turn: Callable[[], None] | None = None,
        reply: bytes = b"",
        renamed: tuple[bytes, bytes] | None = None,
        error: bytes = b"",
        unheard: bool = False,
    ) -> None:
        self.kind = kind
        self.unheard = unheard
        self.silent = silent
        self.on_message = on_message
        self.on_failed = on_failed
        self.on_turn = on_turn
        self.reply = reply
        self.renamed = renamed
        self.error = error

    def be_plain(self, kind: int) -> None:
        """Wait for an answer of that kind, and carry nothing else."""
        self.kind = kind
        self.silent = self.unheard = False
        self.on_message = self.on_failed = self.on_turn = self.renamed = None
        self.reply = self.error = b""

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

    ``copy_in``: the server reads copy data and ignores every Sync up to CopyDone or CopyFail.
    ``sync_due``: messages of the extended protocol went out that no ReadyForQuery will follow
    before another Sync is sent. ``synthetic_due``: it is the turn of an answer that the gateway
    gives itself. ``skipped``: the entry that fails now was not refused but skipped, because one
    before it failed. ``doubtful`` is set for good when the number of answers can't be known any
    more: nothing is checked then, and such a server must never serve another client. ``head`` is
    whose answer is arriving now; None when the server speaks unasked.
    """

    __slots__ = (
        "_answered",
        "_queue",
        "_skipping",
        "copy_in",
        "doubtful",
        "head",
        "skipped",
        "sync_due",
        "synthetic_due",
    )

    def __init__(self) -> None:
        self._queue: list[Expected] = []
        """What was sent behind the head, in order; the first ``_answered`` of it owe nothing any
        more, or are the head."""
        self._answered = 0
        self.head: Expected | None = None
        self._skipping = False
        self.copy_in = False
        self.doubtful = False
        self.skipped = False
        self.sync_due = False
        self.synthetic_due = False

    @property
    def idle(self) -> bool:
        """The server owes nothing, waits for no Sync, and its count can be trusted."""
        return self.is_idle()

    def is_idle(self) -> bool:
        """The same, for the hot path: compiled, a property is looked up by name."""
        return self.head is None and not self.sync_due and not self.doubtful

    @property
    def only_own(self) -> bool:
        """What is owed are answers to the gateway's own queries, and nothing else."""
        if self.head is None or self.sync_due:
            return False
        return all(entry.silent for entry in (self.head, *self._behind()))

    @property
    def skipping(self) -> bool:
        """The server ignores all it is sent up to the next Sync."""
        return self._skipping

    # --- sent to the server ---

    def expect(self, entry: Expected) -> None:
        """A message was sent that will be answered."""
        if self.doubtful:
            return
        if self._skipping and entry.kind != SYNC:
            self.skipped = True
            entry.fail()
            return
        self._skipping = False
        self.sync_due = entry.kind > _LAST_READY
        if self.head is None:
            self.head = entry
            self.synthetic_due = entry.kind == _SYNTHETIC
        else:
            self._queue.append(entry)

    def call_back(self, callback: Callable[[], None]) -> None:
        """Call when all sent before is answered, or failed, or copy data is asked for."""
        if self._skipping or self.head is None:
            callback()
            return
        self._queue.append(Expected(SYNTHETIC, on_failed=callback, on_turn=callback))

    def swallows_sync(self) -> bool:
        """The server reads copy data, and has been sent nothing that ends it."""
        return self.copy_in and not self._behind()

    def reads_copy(self) -> bool:
        """The server reads copy data, and was not sent the end of it."""
        if not self.copy_in:
            return False
        for entry in self._behind():  # noqa: SIM110 - a typed method can't hold a generator
            if entry.kind == _END_OF_COPY:
                return False
        return True

    def copies_by_execute(self) -> bool:
        """The copy that runs is of an Execute: a Sync sent right behind that has no answer."""
        return self.head is not None and self.head.kind == _EXECUTE

    def blame(self, error: bytes, described: bytes = b"") -> None:
        """What the gateway put in before a client's Query or batch failed: what to tell there for
        an error that says no more than that; in answer to a Describe behind ``described``."""
        behind = self._behind()
        if self.head is not None:
            self.head = _blaming(self.head, error, described)
            if _ends(self.head):
                return
        for index, entry in enumerate(behind):
            behind[index] = _blaming(entry, error, described)
            if _ends(entry):
                return

    def copy_ended(self) -> None:
        """The client sent CopyDone or CopyFail; outside of a copy they mean nothing."""
        if self.head is not None:
            self._queue.append(_COPY_END)

    # --- heard from the server ---

    def on_reply(self, kind: int) -> None:
        """A message that ends an entry of this kind and is only a part of a Query's answer."""
        if self.doubtful:
            return
        if self.head is None:
            raise ProtocolViolation("the server answered what nobody asked")
        awaited = self.head.kind
        if awaited == kind:
            self._pop()
        elif awaited != _QUERY:
            raise ProtocolViolation("the server's answers are out of order")

    def on_command_end(self) -> None:
        """CommandComplete, EmptyQueryResponse or PortalSuspended."""
        if self.copy_in:
            self._end_copy()
        self.on_reply(_EXECUTE)

    def on_copy_in(self) -> None:
        """CopyInResponse: the server now ignores every Sync up to CopyDone or CopyFail."""
        if self.doubtful:
            return
        if self.head is None or self.head.kind not in (QUERY, EXECUTE):
            raise ProtocolViolation("the server began a copy that nobody asked for")
        self.copy_in = True
        behind = self._behind()
        if behind and (called := behind[0].on_turn) is not None:
            del behind[0]
            called()

    def on_error(self) -> None:
        """ErrorResponse: inside an extended query the server skips to the next Sync."""
        if self.copy_in and self._sync_in_copy():
            # The copy failed before or after reading that Sync: nobody here can know.
            self._give_up()
            return
        self.copy_in = False
        refused = self.head
        if refused is None or refused.kind <= _LAST_READY:
            return
        self.skipped = False
        self._drop()
        refused.fail()
        self.skipped = True
        if not self._skip_to(SYNC):
            self._skipping = self.sync_due = True

    def on_ready(self) -> None:
        """ReadyForQuery: the end of a Query, FunctionCall or Sync."""
        self.copy_in = False
        if self.doubtful:
            return
        if self.head is None:
            raise ProtocolViolation("the server became ready twice")
        if self.head.kind > _LAST_READY:
            raise ProtocolViolation("the server became ready before it had answered everything")
        self._pop()

    def lost(self) -> None:
        """The server has gone: what it still owes has had no effect."""
        while (unanswered := self.head) is not None:
            self._drop()
            unanswered.fail()

    def take_synthetic(self) -> bytes:
        """The gateway's own answers whose turn it is."""
        taken = b""
        while self.head is not None and self.head.kind == SYNTHETIC:
            entry = self.head
            taken += entry.reply
            self._pop()
            if entry.on_turn is not None:
                entry.on_turn()
        return taken

    def _end_copy(self) -> None:
        """The server has read all up to the end of the copy, and ignored each Sync in it."""
        self.copy_in = False
        head = self.head
        assert head is not None
        self._drop()
        if not self._skip_to(COPY_END):
            raise ProtocolViolation("the server ended a copy before the client did")
        self.head = head
        sent = (head, *self._behind())
        last = next(entry for entry in reversed(sent) if entry.kind != COPY_END)
        self.sync_due = last.kind > _LAST_READY

    def _skip_to(self, kind: int) -> bool:
        """What the server has skipped has failed, up to an entry of this kind, if there is one."""
        while (skipped := self.head) is not None and skipped.kind != kind:
            self._drop()
            skipped.fail()
        return self.head is not None

    def _sync_in_copy(self) -> bool:
        """Whether a Sync was sent between the beginning of the copy and its end."""
        for entry in self._behind():
            if entry.kind == COPY_END:
                return False
            if entry.kind == SYNC:
                return True
        return False

    # --- the queue ---

    def _behind(self) -> list[Expected]:
        """What is owed after the head."""
        del self._queue[: self._answered]
        self._answered = 0
        return self._queue

    def _pop(self) -> None:
        """The head is answered; the end of a copy has no answer of its own."""
        self._drop()
        while self.head is not None and self.head.kind == _END_OF_COPY:
            self._drop()

    def _drop(self) -> None:
        """The head owes nothing any more."""
        if self._answered == len(self._queue):
            if self._answered:
                self._queue = []  # cheaper than to clear it
                self._answered = 0
            self.head = None
            self.synthetic_due = False
            return
        if self._answered > _ANSWERED_MAX:
            self._behind()
        self.head = self._queue[self._answered]
        self._answered += 1
        self.synthetic_due = self.head.kind == _SYNTHETIC

    def _give_up(self) -> None:
        self.doubtful = True
        self.copy_in = False
        self.synthetic_due = False
        self._queue.clear()
        self._answered = 0
        self.head = None


def _ends(entry: Expected) -> bool:
    """Whether it is a client's Query, or the end of its batch."""
    return not entry.silent and entry.kind <= _LAST_READY


def _blaming(entry: Expected, error: bytes, described: bytes) -> Expected:
    """The same entry, but for what the client is told if it fails."""
    if entry.silent or entry.kind not in _BLAMED or entry.error:
        return entry
    told = described + error if entry.kind == DESCRIBE else error
    on_message, renamed = entry.on_message, entry.renamed
    return Expected(entry.kind, entry.fail, on_message=on_message, renamed=renamed, error=told)
