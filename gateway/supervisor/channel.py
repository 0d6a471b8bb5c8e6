"""The control connection between the supervisor and a worker: JSON messages, requests, answers.

Each message is four bytes of length and one JSON object. `greet` and `greeted` come first and may
carry file descriptors; after them a `Channel` takes over. Nothing here is on the path of traffic.
"""

from __future__ import annotations

import array
import asyncio
import json
import logging
import socket
import struct
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from itertools import count
from typing import Any

from gateway.errors import ConfigError
from gateway.supervisor.chores import Chores

_log = logging.getLogger(__name__)

MESSAGE_MAX_BYTES = 16 * 1024 * 1024
"""Longer ones end the connection; settings are the longest, and smaller."""

_BACKLOG_MAX_BYTES = 64 * 1024 * 1024
"""A peer that leaves so much unread is taken for dead."""

_ITEMS_PER_MESSAGE = 200
_DESCRIPTORS_MAX = 16
_LENGTH = struct.Struct("!I")

Body = dict[str, Any]


class AskFailed(Exception):
    """A request was not answered: the peer is gone, too slow, or failed."""


class TooSlow(AskFailed):
    """It was not answered in time."""


# --- the greeting ---


def greet(sock: socket.socket, body: Mapping[str, Any], descriptors: Mapping[str, int]) -> None:
    """Send the first message and descriptors, on a socket that blocks. Raises OSError."""
    first = json.dumps({**body, "descriptors": list(descriptors)}).encode()
    numbers = array.array("i", descriptors.values())
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, numbers)] if descriptors else []
    sock.sendmsg([_LENGTH.pack(len(first))], rights)
    sock.sendall(first)


def greeted(sock: socket.socket) -> tuple[Body, dict[str, int]]:
    """The peer's first message and descriptors, on a socket that blocks.

    Raises OSError, EOFError when the peer leaves, ValueError for what is no greeting.
    """
    head, descriptors, _, _ = socket.recv_fds(sock, _LENGTH.size, _DESCRIPTORS_MAX)
    if not head:
        raise EOFError("the peer has gone")
    head += _exactly(sock, _LENGTH.size - len(head))
    (length,) = _LENGTH.unpack(head)
    if length > MESSAGE_MAX_BYTES:
        raise ValueError("too long a greeting")
    body: Body = json.loads(_exactly(sock, length))
    return body, dict(zip(body.pop("descriptors"), descriptors, strict=True))


def _exactly(sock: socket.socket, length: int) -> bytes:
    data = b""
    while len(data) < length:
        part = sock.recv(length - len(data))
        if not part:
            raise EOFError("the peer has gone")
        data += part
    return data


# --- what follows ---

Notice = Callable[[Body], None]
"""Takes a message that has no answer."""

Answerer = Callable[[Body], Awaitable[Sequence[Any]]]
"""Answers a request, with items that JSON can carry. Raises ConfigError, Exception."""


class Channel:
    """One end of a control connection."""

    def __init__(
        self, notices: Mapping[str, Notice], answerers: Mapping[str, Answerer], name: str
    ) -> None:
        self._notices = notices
        self._answerers = answerers
        self._name = name
        self._numbers = count(1)
        self._asked: dict[int, tuple[asyncio.Future[list[Any]], list[Any]]] = {}
        self._answers = Chores()
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def attach(self, sock: socket.socket) -> None:
        """Take over a connection that is past its greeting; messages can be sent from now on."""
        sock.setblocking(False)
        self._reader, self._writer = await asyncio.open_unix_connection(sock=sock)

    async def run(self) -> None:
        """Serve the connection until it ends, for whatever reason."""
        assert self._reader is not None
        try:
            while True:
                head = await self._reader.readexactly(_LENGTH.size)
                (length,) = _LENGTH.unpack(head)
                if length > MESSAGE_MAX_BYTES:
                    raise ValueError(f"a message of {length} bytes")
                self._take(json.loads(await self._reader.readexactly(length)))
        except (EOFError, OSError):
            pass
        except (ValueError, KeyError, TypeError):
            _log.exception("control connection of %s", self._name)
        finally:
            self.close()

    @property
    def open(self) -> bool:
        """Whether messages can be sent."""
        return self._writer is not None and not self._writer.is_closing()

    def close(self) -> None:
        """End the connection; whoever waits for an answer gets none."""
        if self._writer is not None:
            self._writer.transport.abort()
        self._answers.drop()
        asked, self._asked = self._asked, {}
        for future, _ in asked.values():
            if not future.done():
                future.set_exception(AskFailed(f"{self._name} has gone"))

    def tell(self, kind: str, **body: Any) -> None:
        """Send a message that has no answer; nothing happens when the connection has ended."""
        if self._writer is None or self._writer.is_closing():
            return
        data = json.dumps({"kind": kind, **body}).encode()
        self._writer.write(_LENGTH.pack(len(data)) + data)
        if self._writer.transport.get_write_buffer_size() > _BACKLOG_MAX_BYTES:
            _log.error("%s reads nothing more", self._name)
            self.close()

    async def ask(self, kind: str, timeout_s: float, **body: Any) -> list[Any]:
        """The items that the peer answers. Raises AskFailed; ConfigError if that is the answer."""
        if not self.open:
            raise AskFailed(f"{self._name} has gone")
        number = next(self._numbers)
        future: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()
        self._asked[number] = (future, [])
        self.tell(kind, id=number, **body)
        try:
            async with asyncio.timeout(timeout_s):
                return await future
        except TimeoutError:
            raise TooSlow(f"{self._name} did not answer in {timeout_s:g} s") from None
        finally:
            self._asked.pop(number, None)

    # --- messages ---

    def _take(self, body: Body) -> None:
        kind = body["kind"]
        if kind in _ANSWERS:
            self._take_answer(kind, body)
        elif kind in self._notices:
            self._notices[kind](body)
        else:
            self._answers.begin(self._answer(kind, body))

    def _take_answer(self, kind: str, body: Body) -> None:
        future, items = self._asked.get(body["id"], (None, []))
        if future is None or future.done():
            return
        if kind == "items":
            items += body["items"]
        elif kind == "done":
            future.set_result(items)
        elif body["problems"]:
            future.set_exception(ConfigError(body["problems"]))
        else:
            future.set_exception(AskFailed(f"{self._name}: {body['error']}"))

    async def _answer(self, kind: str, body: Body) -> None:
        number = body["id"]
        try:
            items = await self._answerers[kind](body)
            for start in range(0, len(items), _ITEMS_PER_MESSAGE):
                self.tell("items", id=number, items=items[start : start + _ITEMS_PER_MESSAGE])
                await self._flushed()
        except ConfigError as error:
            self.tell("failed", id=number, problems=error.problems, error="")
        except Exception as error:
            if not isinstance(error, AskFailed):
                _log.exception("a request of %s failed: %s", self._name, kind)
            self.tell("failed", id=number, problems=[], error=str(error) or repr(error))
        else:
            self.tell("done", id=number)

    async def _flushed(self) -> None:
        """Give traffic a turn, and let the peer read."""
        await asyncio.sleep(0)
        if self._writer is not None:
            with suppress(OSError):
                await self._writer.drain()


_ANSWERS = frozenset({"items", "done", "failed"})
