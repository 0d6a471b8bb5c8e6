"""One client's LISTENs: carried out on its server, then moved to the pool's shared listener.

UNLISTEN takes effect when its transaction has committed. Notifications reach the client between
its transactions, as PostgreSQL delivers them.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable, Mapping
from typing import Final

from gateway.errors import GatewayError, ServerUnavailable
from gateway.pool.encodings import codec_of, decoded, encoded
from gateway.pool.listening import MARKER_PREFIX, Listening, read_notification
from gateway.pool.server import IDLE, Answer, ServerConnection
from gateway.protocol import messages
from gateway.router.facts import Effect, Facts

_WAITING_MAX_BYTES = 8 * 1024 * 1024
_LINE_TIMEOUT_S = 5.0
_CHANNELS = "pg_listening_channels"
_NONE: Final[frozenset[bytes]] = frozenset()
_ROLLED_BACK = frozenset([b"", b"ROLLBACK\0"])


class NotificationsOverflow(GatewayError):
    """A client stayed in one transaction while more notifications came than may wait for it."""

    sqlstate = "53200"
    fatal = True


class Listens:
    """The channels of one client, and the notifications that wait for it.

    ``write`` sends bytes to the client, ``between`` says whether it is between transactions,
    ``overflow`` ends it; ``parameters`` are what it was told of its session.
    """

    __slots__ = (
        "_between",
        "_line",
        "_listening",
        "_marker",
        "_new",
        "_overflow",
        "_parameters",
        "_unlistens",
        "_waiting",
        "_waiting_bytes",
        "_write",
        "channels",
    )

    def __init__(
        self,
        write: Callable[[bytes], None],
        between: Callable[[], bool],
        overflow: Callable[[GatewayError], None],
        parameters: Mapping[bytes, bytes],
    ) -> None:
        self.channels = _NONE
        self._write = write
        self._between = between
        self._overflow = overflow
        self._parameters = parameters
        self._listening: Listening | None = None
        self._unlistens: list[bytes | None] = []
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0
        self._marker = b""
        self._new = _NONE
        self._line: asyncio.Event | None = None

    @property
    def listening(self) -> Listening | None:
        """Where the channels are heard; None before there were any."""
        return self._listening

    # --- UNLISTEN ---

    def note(self, facts: Facts) -> None:
        """Remember the UNLISTENs of a statement until its transaction ends."""
        for statement in facts.statements:
            if statement.effects & Effect.UNLISTEN:
                name = statement.name
                self._unlistens.append(None if name is None else name.encode())

    def is_due(self) -> bool:
        """Whether there is something to do when a transaction has ended."""
        return bool(self._unlistens or self._waiting)

    def transaction_ended(self, last_command: bytes) -> None:
        """Carry out what was committed, and deliver what has waited."""
        unlistens, self._unlistens = self._unlistens, []
        if last_command not in _ROLLED_BACK:
            for channel in unlistens:
                self._forget(self.channels if channel is None else frozenset((channel,)))
        self.flush()

    def all_discarded(self, command: bytes) -> None:
        """DEALLOCATE ALL or DISCARD ALL has succeeded; only the second one unlistens."""
        if command == b"DISCARD ALL\0":
            self._forget(self.channels)

    def end(self) -> None:
        """The client has gone."""
        self._forget(self.channels)
        self._waiting.clear()

    def _forget(self, channels: frozenset[bytes]) -> None:
        gone = channels & self.channels
        self.channels -= gone
        for channel in gone:
            if self._listening is not None:
                self._listening.unsubscribe(self, channel)

    # --- LISTEN ---

    async def move(
        self, server: ServerConnection, listening: Listening, found: frozenset[bytes]
    ) -> None:
        """Take over the channels that ``server`` listens to for us. Raises GatewayError."""
        if self._listening is not None and self._listening is not listening:
            self._forget(self.channels)
        self._listening = listening
        self._new = found - self.channels
        if self._new:
            await self._draw_line(server, listening)
        await _ask(server, "UNLISTEN *")

    def moved(self, listening: Listening, channels: frozenset[bytes]) -> None:
        """Our server, with our channels, has become the shared one."""
        if self._listening is not listening:
            self._forget(self.channels)
        self._listening = listening
        self.channels |= channels

    def show(self, server: ServerConnection, facts: Facts) -> bytes:
        """What to send before a statement that asks for our channels, so that it finds them.

        `move` takes them away again. Empty when it doesn't ask, and inside a transaction or a
        batch, where PostgreSQL shows no new LISTEN.
        """
        if server.status != IDLE or server.replies.sync_due or not _asks_for_channels(facts):
            return b""
        listen = "; ".join(f"LISTEN {_identifier(channel)}" for channel in sorted(self.channels))
        return server.prepare_ask(listen, lambda answer: None)

    async def _draw_line(self, server: ServerConnection, listening: Listening) -> None:
        self._marker = listening.new_marker()
        self._line = asyncio.Event()
        drawn = False
        try:
            await _ask(server, f'LISTEN "{self._marker.decode()}"')
            await listening.draw_line(self, self._new, self._marker)
            async with asyncio.timeout(_LINE_TIMEOUT_S):
                await self._line.wait()
            drawn = True
        except (TimeoutError, GatewayError) as error:
            await _ask(server, f'UNLISTEN "{self._marker.decode()}"')  # the client would see it
            if isinstance(error, GatewayError):
                raise
            raise ServerUnavailable("LISTEN could not be moved in time") from None
        finally:
            if not drawn:
                self.channels -= self._new  # our own server goes on hearing them
                heard_at = self._listening or listening  # perhaps another one by now
                heard_at.give_up_line(self, self._new, self._marker)
            self._line = None
            self._marker = b""
            self.flush()

    # --- notifications ---

    def from_server(self, body: bytes, client_of: Callable[[int], int]) -> None:
        """One that our own server heard, in its place among the replies."""
        pid, raw, payload = read_notification(body)
        channel = encoded(decoded(raw, codec_of(self._parameters)), "utf-8")
        if channel.startswith(MARKER_PREFIX):
            if channel == self._marker and self._line is not None:
                self.channels |= self._new
                self._line.set()
        elif channel not in self.channels:
            self._write(notification(client_of(pid), raw, payload))

    def notified(self, pid: int, channel: bytes, payload: bytes) -> None:
        """One that the shared listener heard."""
        codec = codec_of(self._parameters)
        if codec != "utf-8":
            channel = encoded(decoded(channel, "utf-8"), codec)
            payload = encoded(decoded(payload, "utf-8"), codec)
        message = notification(pid, channel, payload)
        self._waiting.append(message)
        self._waiting_bytes += len(message)
        if self._waiting_bytes > _WAITING_MAX_BYTES:
            self._overflow(
                NotificationsOverflow(
                    "too many notifications wait for the end of this transaction",
                    hint="Keep transactions of listening connections short.",
                )
            )

    def notifications_missed(self) -> None:
        """The shared listener was away for a while."""
        error = ServerUnavailable(
            "the connection that listens was lost: notifications may be missing",
            hint="Look again at what the notifications are about.",
        )
        error.sqlstate = "01000"
        self._waiting.append(messages.notice_response(error))
        if self._between():
            self.flush()

    def heard_at(self, listening: Listening) -> None:
        """Another shared listener has taken our channels over."""
        self._listening = listening

    def all_notified(self) -> None:
        """All that came together is known: it is delivered in one piece, as PostgreSQL does."""
        if self._between():
            self.flush()

    def flush(self) -> None:
        """Deliver what has waited."""
        if self._waiting and self._line is None:
            self._write(b"".join(self._waiting))
            self._waiting.clear()
            self._waiting_bytes = 0


def notification(pid: int, channel: bytes, payload: bytes) -> bytes:
    """A NotificationResponse."""
    return messages.message(
        b"A", struct.pack("!i", pid) + messages.cstring(channel) + messages.cstring(payload)
    )


def _asks_for_channels(facts: Facts) -> bool:
    return any(name == _CHANNELS for one in facts.statements for _, name in one.functions)


def _identifier(channel: bytes) -> str:
    """A channel's name as SQL in ASCII, to mean the same in every client_encoding."""
    name = channel.decode("utf-8", "surrogateescape")
    plain = (char.isascii() and char not in '"\\' for char in name)
    pairs = zip(name, plain, strict=True)
    return 'U&"' + "".join(char if keep else f"\\+{ord(char):06x}" for char, keep in pairs) + '"'


async def _ask(server: ServerConnection, sql: str) -> None:
    done: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()

    def on_answer(answer: Answer) -> None:
        if not done.done():  # else the client has left meanwhile
            done.set_result(answer)

    server.ask(sql, on_answer)
    error = (await done).error
    if error is not None:
        raise ServerUnavailable(f"LISTEN could not be moved: {error.get('M', '')}")
