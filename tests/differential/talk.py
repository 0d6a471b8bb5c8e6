"""One connection of a dialogue: what is said, what is heard, and when the other side is done.

`Owed` knows from the protocol alone when nothing more can come, so that no test waits for silence.
Source: PostgreSQL documentation, "Message Flow", sections "Extended Query", "COPY Operations".
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from typing import NamedTuple, Self

from tests.wire import EOF, Message, Place, Wire

_READY = "QFS"
"""Messages that end with ReadyForQuery."""
_COPY = "dcf"
_ENDS: dict[str, str] = {"1": "P", "2": "B", "3": "C", "T": "D", "n": "D"}
"""By the server's message, the client's that it ends; those of an Execute apart."""


class Part(NamedTuple):
    """One message of a client: how it reads in a report, and its bytes."""

    shown: str
    data: bytes

    @property
    def tag(self) -> str:
        return chr(self.data[0])


class Owed:
    """What a server still has to say to what was sent.

    A message of the extended protocol is answered by force only once a Flush or Sync has followed.
    """

    def __init__(self) -> None:
        self.status = "I"
        """Of the last ReadyForQuery."""
        self.copying = False
        """The server reads copy data."""
        self._queue: deque[str] = deque()
        self._forced = 0
        """How many entries of the queue were followed by a Flush or ended with a ReadyForQuery."""
        self._skipping = False

    @property
    def done(self) -> bool:
        """Nothing more will come before something else is sent."""
        if self.copying:
            return not any(tag in "cf" for tag in self._queue)
        return self._forced == 0

    @property
    def idle(self) -> bool:
        """Nothing is under way, not even without a Sync behind it."""
        return not self._queue and not self.copying and not self._skipping

    def sent(self, tag: str) -> None:
        """The client sent a message."""
        if self.copying and tag in "SH" and not any(one in "cf" for one in self._queue):
            return
        if tag == "H":
            self._forced = len(self._queue)
        elif self._skipping and tag != "S":
            return
        else:
            self._skipping = False
            self._queue.append(tag)
            if tag in _READY:
                self._forced = len(self._queue)
        self._drop_stray_copy_data()

    def heard(self, tag: str, body: bytes) -> None:
        """The server sent a message."""
        head = self._queue[0] if self._queue else ""
        if tag == "Z":
            self.status = body.decode()
            self.copying = False
            self._pop()
        elif tag == "G":
            self.copying = True
            self._drop_ignored()
        elif tag == "E":
            self._failed(head)
        elif tag in "CIs" and (head == "E" or self.copying):
            self._command_ended(head)
        elif _ENDS.get(tag, "-") == head:
            self._pop()
        self._drop_stray_copy_data()

    def _command_ended(self, head: str) -> None:
        if self.copying:
            self.copying = False
            while self._queue[1] not in "cf":
                self._drop(1)
            self._drop(1)
        if head == "E":
            self._pop()

    def _failed(self, head: str) -> None:
        self.copying = False
        if not head or head in _READY:
            return
        while self._queue and self._queue[0] != "S":
            self._pop()
        self._skipping = not self._queue

    def _drop_ignored(self) -> None:
        """In a copy Sync and Flush mean nothing up to its end."""
        at = 1
        while at < len(self._queue) and self._queue[at] not in "cf":
            if self._queue[at] == "S":
                self._drop(at)
            else:
                at += 1

    def _drop_stray_copy_data(self) -> None:
        while not self.copying and self._queue and self._queue[0] in _COPY:
            self._pop()

    def _pop(self) -> None:
        if self._queue:
            self._drop(0)

    def _drop(self, at: int) -> None:
        del self._queue[at]
        if at < self._forced:
            self._forced -= 1


class Talker:
    """A connection that hears all the time. ``heard`` is what came since `take`."""

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self.owed = Owed()
        self.closed = False
        self.news = asyncio.Event()
        """Set whenever something came."""
        self._heard: list[Message] = []
        self._hearing = asyncio.get_running_loop().create_task(self._hear())

    @classmethod
    async def connect(cls, place: Place, parameters: dict[str, str]) -> Self:
        """Logged in. Raises tests.wire.Refused."""
        return cls(await Wire.logged_in(place, parameters))

    @property
    def done(self) -> bool:
        """Nothing more will come by itself."""
        return self.closed or self.owed.done

    def say(self, parts: Sequence[Part], cuts: int = 0) -> list[bytes]:
        """Book the parts as sent; what to send, in ``cuts`` + 1 pieces."""
        for part in parts:
            self.owed.sent(part.tag)
        data = b"".join(part.data for part in parts)
        size = len(data) // (cuts + 1) + 1
        return [data[at : at + size] for at in range(0, len(data), size)]

    async def send(self, pieces: Sequence[bytes]) -> None:
        """Send; each piece arrives alone, most likely. What can't be sent is heard as the end."""
        for piece in pieces:
            self.wire.send(piece)
            with suppress(ConnectionError):
                await self.wire.sent()
            if len(pieces) > 1:
                await asyncio.sleep(0.001)

    @property
    def ended_one(self) -> bool:
        """Whether a transaction has ended since the last `take`."""
        return any(message.tag == "Z" for message in self._heard)

    @property
    def has_heard(self) -> bool:
        """Whether anything was heard since the last `take`."""
        return bool(self._heard)

    def take(self) -> list[Message]:
        """What was heard since the last time."""
        heard, self._heard = self._heard, []
        return heard

    async def wait(self, timeout_s: float) -> None:
        """Until nothing more is owed. Raises TimeoutError."""
        async with asyncio.timeout(timeout_s):
            while not self.done:
                self.news.clear()
                await self.news.wait()

    async def end(self) -> None:
        """Stop hearing; the socket is closed by whoever ends the dialogue."""
        self._hearing.cancel()
        await asyncio.wait([self._hearing])

    async def _hear(self) -> None:
        while not self.closed:
            try:
                message = await self.wire.message()
            except TimeoutError:
                continue
            self.wire.seen.clear()
            self._heard.append(message)
            if message is EOF:
                self.closed = True
            else:
                self.owed.heard(message.tag, message.body)
            self.news.set()
