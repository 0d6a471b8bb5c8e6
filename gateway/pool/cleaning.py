"""Bringing a server back to its first state after its client left without an end.

It stands in for the client: the running statement is let end or is cancelled, an open transaction
is rolled back, and DISCARD ALL takes away what the session held. What that leaves behind, such as
a loaded library, ends with the connection.
"""

from __future__ import annotations

from typing import Protocol

from gateway.pool.server import IDLE, Answer, LinkedClient, ServerConnection
from gateway.protocol import messages, replies
from gateway.protocol.replies import Expected

_OUTPUT_MAX_BYTES = 4096
"""PostgreSQL stops a statement when it can't send its rows; beyond this much, so do we."""


class Cleaner(Protocol):
    """Who ordered the cleaning."""

    def cancel(self, server: ServerConnection) -> object:
        """Stop what the server runs."""

    def cleaning_goes_on(self, server: ServerConnection) -> None:
        """The client's statement is over."""

    def cleaned(self, server: ServerConnection) -> None:
        """The server is in its first state."""

    def unclean(self, server: ServerConnection) -> None:
        """It can't be brought there."""


class Cleaning(LinkedClient):
    """One cleaning of one server; also the client that its last replies go to."""

    __slots__ = ("_cleaner", "_copy_failed", "_output_bytes", "_server")

    def __init__(self, server: ServerConnection, cleaner: Cleaner) -> None:
        self._server = server
        self._cleaner = cleaner
        self._output_bytes = 0
        self._copy_failed = False

    def begin(self, sync_due: bool) -> None:
        """Bring the protocol to a ReadyForQuery; ``sync_due`` when the client owes a Sync."""
        server = self._server
        server.link(self, 0)
        if server.replies.copy_in:
            self._fail_copy()
        elif sync_due:
            self._end_batch()
        if server.replies.idle:
            self.server_ready(server.status)
        elif server.replies.only_own:
            self._discard()

    def _fail_copy(self) -> None:
        """End a copy from the client; it has swallowed any Sync sent behind its Execute."""
        server = self._server
        self._copy_failed = True
        head = server.replies.head
        server.replies.copy_ended()
        server.write(messages.COPY_FAIL)
        if head is not None and head.kind == replies.EXECUTE:
            self._end_batch()

    def _end_batch(self) -> None:
        """Take back what was executed without a Sync: it must not be committed by ours."""
        server = self._server
        server.unnamed.become(None)
        for kind in (replies.PARSE, replies.BIND, replies.EXECUTE, replies.SYNC):
            server.replies.expect(Expected(kind))
        server.write(messages.ROLLBACK_BATCH + messages.SYNC)

    # --- LinkedClient ---

    def server_ready(self, status: int) -> None:
        self._server.client = None
        self._cleaner.cleaning_goes_on(self._server)
        if status == IDLE:
            self._discard()
        else:
            self._server.ask("ROLLBACK", self._rolled_back)

    def server_failed(self, fields: dict[str, str]) -> None:
        if self._server.replies.doubtful:
            self._cleaner.unclean(self._server)

    def forward(self, data: bytes) -> None:
        if self._server.replies.copy_in and not self._copy_failed:
            self._fail_copy()
        before = self._output_bytes
        self._output_bytes += len(data)
        if before <= _OUTPUT_MAX_BYTES < self._output_bytes:
            self._cleaner.cancel(self._server)

    # --- the answers to our own queries ---

    def _rolled_back(self, answer: Answer) -> None:
        if answer.error is not None or self._server.status != IDLE:
            self._cleaner.unclean(self._server)
        else:
            self._discard()

    def _discard(self) -> None:
        if self._server.tainted:
            self._cleaner.unclean(self._server)
        else:
            self._server.ask("DISCARD ALL", self._discarded)

    def _discarded(self, answer: Answer) -> None:
        if answer.error is not None:
            self._cleaner.unclean(self._server)
            return
        self._server.settings = ()
        self._server.stamp = ""
        self._cleaner.cleaned(self._server)
