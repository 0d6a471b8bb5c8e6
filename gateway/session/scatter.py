"""One read, asked of several databases at once: ``/* scatter */ SELECT ...``.

Each database answers for itself, in a transaction of its own: there is no common snapshot.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from gateway.errors import GatewayError, ServerSaid, ServerUnavailable, ShuttingDown
from gateway.pool.pool import Pool, Waiter
from gateway.pool.prepared import IN_DOUBT
from gateway.pool.server import Answer, ServerConnection
from gateway.protocol import replies
from gateway.protocol.framing import HEADER_BYTES, message_size
from gateway.protocol.replies import Expected
from gateway.session.merge import Merge
from gateway.session.state import Settings, replay_sql

_EXPECTED: dict[int, Expected] = {
    ord("Q"): replies.CLIENT_QUERY,
    ord("P"): replies.CLIENT_PARSE,
    ord("B"): replies.CLIENT_BIND,
    ord("D"): replies.CLIENT_DESCRIBE,
    ord("E"): replies.CLIENT_EXECUTE,
    ord("S"): replies.CLIENT_SYNC,
}
"""What a scattered unit may be made of."""
_UNNAMED = {ord("P"): b"\0", ord("B"): b"\0\0", ord("E"): b"\0"}


def possible(unit: bytes) -> bool:
    """Whether a unit holds nothing but one self-contained read: a Query, or Parse to Sync."""
    found = list(_messages(unit))
    tags = bytes(message[0] for message in found)
    if tags == b"Q":
        return True
    unnamed = all(
        message.startswith(_UNNAMED.get(message[0], b""), HEADER_BYTES) for message in found
    )
    return unnamed and tags in (b"PBES", b"PBDES", b"PDBES", b"PDBDES")


def _messages(unit: bytes) -> Iterator[bytes]:
    pos = 0
    while pos < len(unit):
        size = message_size(unit, pos)
        yield unit[pos : pos + size]
        pos += size


class Scatter:
    """One run. ``write`` takes bytes for the client; ``done`` is called once, at the end."""

    def __init__(
        self,
        unit: bytes,
        settings: Settings,
        merge: Merge,
        write: Callable[[bytes], None],
        done: Callable[[], None],
    ) -> None:
        self._unit = unit
        self._settings = settings
        self._merge = merge
        self._write = write
        self._done = done
        self._branches: list[_Branch] = []
        self._left = 0
        self._over = False

    def begin(self, pools: Sequence[Pool], number: int) -> None:
        """Ask each pool; ``number`` names the client in views."""
        self._left = len(pools)
        self._branches = [_Branch(self, index, pool, number) for index, pool in enumerate(pools)]
        for branch in self._branches:
            branch.begin()

    def cancel(self) -> None:
        """Stop what still runs."""
        for branch in self._branches:
            branch.cancel()

    def abandon(self) -> None:
        """The client is gone."""
        self._over = True
        for branch in self._branches:
            branch.abandon()

    def pause(self) -> None:
        """The client is slow: read nothing more."""
        for branch in self._branches:
            branch.pause()

    def resume(self) -> None:
        """Read again."""
        for branch in self._branches:
            branch.resume()

    def request(self, server: ServerConnection) -> bytes:
        """The unit as it is sent to a server, booked, with the client's settings before it."""
        before = b""
        if server.settings != self._settings:
            sql = replay_sql(server.settings, self._settings)
            before = server.prepare_ask(sql, self._replayed)
            server.settings = self._settings
        for message in _messages(self._unit):
            server.replies.expect(_EXPECTED[message[0]])
        server.unnamed.become(IN_DOUBT)
        return before + self._unit

    def _replayed(self, answer: Answer) -> None:
        """What a server answers to a read under settings that are not the client's is dropped."""
        if answer.error is not None:
            self._merge.fail(ServerSaid(answer.error))
            self.cancel()

    def heard(self, index: int, data: bytes) -> None:
        """A server has answered something."""
        if self._over:
            return
        failed = self._merge.error is not None
        out = self._merge.take(index, data)
        if out:
            self._write(out)
        if self._merge.error is not None and not failed:
            self.cancel()

    def failed(self, error: GatewayError) -> None:
        """A server can't answer."""
        first = self._merge.error is None
        self._merge.fail(error)
        if first:
            self.cancel()
        self.ended()

    def ended(self) -> None:
        """One branch is over."""
        self._left -= 1
        if not self._left and not self._over:
            self._over = True
            self._write(self._merge.end())
            self._done()


class _Branch(Waiter):
    """One of the servers asked."""

    def __init__(self, scatter: Scatter, index: int, pool: Pool, number: int) -> None:
        self._scatter = scatter
        self._index = index
        self._pool = pool
        self._number = number
        self._server: ServerConnection | None = None
        self._waiting = False

    def begin(self) -> None:
        self._waiting = True
        try:
            server = self._pool.acquire(self)
        except GatewayError as error:
            self.refused(error)
            return
        if server is not None:
            self.granted(server)

    def cancel(self) -> None:
        if self._server is not None:
            self._pool.cancel(self._server)
        elif self._waiting:
            self._pool.give_up(self)
            self.refused(ShuttingDown("another of the databases has failed"))

    def abandon(self) -> None:
        if self._server is not None:
            server, self._server = self._server, None
            self._pool.abandon(server, mid_message=False, sync_due=False)
        elif self._waiting:
            self._waiting = False
            self._pool.give_up(self)

    def pause(self) -> None:
        if self._server is not None:
            self._server.pause_reading()

    def resume(self) -> None:
        if self._server is not None:
            self._server.resume_reading()

    # --- Waiter ---

    def granted(self, server: ServerConnection) -> None:
        self._waiting = False
        self._server = server
        server.link(self, self._number)
        server.write(self._scatter.request(server))

    def refused(self, error: GatewayError) -> None:
        if self._waiting:
            self._waiting = False
            self._scatter.failed(error)

    def sent_elsewhere(self) -> None:
        self.refused(ShuttingDown("the pool is being closed by a reload", hint="Ask again."))

    # --- LinkedClient ---

    def forward(self, data: bytes) -> None:
        self._scatter.heard(self._index, data)

    def server_ready(self, status: int) -> None:
        if self._server is not None:
            server, self._server = self._server, None
            self._pool.release(server)
            self._scatter.ended()

    def server_lost(self, error: ServerUnavailable) -> None:
        if self._server is not None:
            self._server = None
            self._scatter.failed(error)
