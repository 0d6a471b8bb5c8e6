"""From a worker to its successor: the listening socket, then its clients as they come between two
transactions. Each of them is one message with one descriptor, and is answered.

The successor waits at a socket of its own in the folder where workers and supervisor meet.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import socket
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from gateway.session.listens_moving import Arriving, Refused
from gateway.session.moving import Leaving, Told, unpack
from gateway.supervisor.channel import MESSAGE_MAX_BYTES, Body, greet, greeted
from gateway.worker import Worker

_log = logging.getLogger(__name__)

_ANSWER_S = 10.0
_LOOK_S = 0.05
_TAKEN = b"1"
_REFUSED = b"0"


def path_of(folder: Path, pid: int) -> Path:
    """Where a successor waits for what it is handed."""
    return folder / f"to-{pid}"


class Giver:
    """The end of the worker that leaves."""

    def __init__(self, worker: Worker) -> None:
        self.moved = 0
        self._worker = worker
        self._leaving = Leaving(worker.context, self)
        self._one_by_one = asyncio.Lock()
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._sending: asyncio.Task[None] | None = None

    async def begin(self, to: Path) -> None:
        """Give the successor the listening socket. Raises OSError, Refused."""
        self._sock.settimeout(_ANSWER_S)
        await asyncio.to_thread(self._sock.connect, str(to))
        with self._worker.leave() as listening:
            await self._give({"what": "listen"}, {"tcp": listening.fileno()})

    async def give_clients(self) -> None:
        """Move whoever can be moved, until nobody is left here or the successor has gone."""
        self._sending = asyncio.ensure_future(self._send_all())
        while self._worker.occupied and not self._sending.done():
            self._leaving.look()
            await asyncio.sleep(_LOOK_S)
        await self.finish()

    async def finish(self) -> None:
        """Have arrive whoever is on the way; nobody follows."""
        self._leaving.open = False
        if self._sending is None:
            return
        loop = asyncio.get_running_loop()
        end = loop.time() + _ANSWER_S
        while self._leaving.under_way and not self._sending.done() and loop.time() < end:  # noqa: ASYNC110
            await asyncio.sleep(_LOOK_S)
        self._sending.cancel()
        await asyncio.gather(self._sending, return_exceptions=True)

    async def _send_all(self) -> None:
        """Ends when the successor has gone: then everybody stays."""
        while True:
            told, client = await self._leaving.ready.get()
            try:
                await self._give({"what": "client", "told": told}, {"client": client.fileno()})
                self.moved += 1
            except Refused as error:
                _log.warning("client %d can't be moved: %s", told["number"], error)
                await self._take_back(told, client)
            except OSError as error:
                _log.error("no more clients can be moved: %s", error)
                self._leaving.open = False
                await self._take_back(told, client)
                return
            else:
                client.close()
            finally:
                self._leaving.under_way -= 1

    async def _take_back(self, told: Told, client: socket.socket) -> None:
        self._leaving.refuse(told["number"])
        try:
            await unpack(self._worker.context, told, client)
        except OSError as error:
            _log.debug("client %d left meanwhile: %r", told["number"], error)

    async def give(self, told: Mapping[str, Any]) -> None:
        """As `Successor` says."""
        await asyncio.shield(self._give(dict(told), {}))

    async def _give(self, body: Body, descriptors: Mapping[str, int]) -> None:
        if len(json.dumps(body)) > MESSAGE_MAX_BYTES:
            raise Refused("it holds too much")
        async with self._one_by_one:
            await asyncio.to_thread(self._exchange, body, descriptors)

    def _exchange(self, body: Body, descriptors: Mapping[str, int]) -> None:
        greet(self._sock, body, descriptors)
        answer = self._sock.recv(1)
        if not answer:
            raise ConnectionResetError("the successor has gone")
        if answer == _REFUSED:
            raise Refused("the successor does not understand it")


class Taker:
    """The end of the successor; `run` serves one predecessor after the other."""

    def __init__(self, worker: Worker, path: Path) -> None:
        self._worker = worker
        self._path = path
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._arriving = Arriving(worker.context)
        self._kinds: dict[str, Callable[[Body], Awaitable[None]]] = {
            "listener": self._arriving.listener,
            "line": self._arriving.line,
        }
        self._kinds_with_socket: dict[str, Callable[[Body, socket.socket], Awaitable[None]]] = {
            "listen": self._listen,
            "client": self._client,
        }

    def open(self) -> None:
        """Be there for the predecessor. Raises OSError."""
        self._path.unlink(missing_ok=True)
        self._listener.bind(str(self._path))
        self._listener.listen(1)
        self._listener.setblocking(False)

    async def run(self) -> None:
        """Take what is handed over, until the predecessor has gone."""
        try:
            sock, _ = await asyncio.get_running_loop().sock_accept(self._listener)
        finally:
            self._listener.close()
            self._path.unlink(missing_ok=True)
        sock.settimeout(_ANSWER_S)
        try:
            with sock:
                while await self._take(sock):
                    pass
        finally:
            self._arriving.close()

    async def _take(self, sock: socket.socket) -> bool:
        """Take one thing; False when there is no more."""
        await _readable(sock)
        try:
            body, descriptors = await asyncio.to_thread(greeted, sock)
        except EOFError:
            return False
        except (OSError, ValueError) as error:
            _log.warning("what a predecessor hands over can't be read: %r", error)
            return False
        given = [socket.socket(fileno=descriptor) for descriptor in descriptors.values()]
        answer = _TAKEN
        try:
            kinds = self._kinds_with_socket if given else self._kinds
            await kinds[body["what"]](body, *given)
        except Refused as error:
            _log.debug("not taken over: %s", error)
            answer = _REFUSED
        except (ValueError, KeyError, TypeError) as error:
            _log.warning("not taken over: %r", error)
            answer = _REFUSED
        except OSError as error:  # the client itself has gone meanwhile
            _log.debug("a client left while it was moved: %r", error)
        else:
            given.clear()
        for left in given:
            left.close()
        sock.sendall(answer)
        return True

    async def _listen(self, body: Body, given: socket.socket) -> None:
        self._worker.listen_on([given])

    async def _client(self, body: dict[str, Any], given: socket.socket) -> None:
        await unpack(self._worker.context, body["told"], given, self._arriving)


async def _readable(sock: socket.socket) -> None:
    """Wait until a read would not block."""
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    descriptor = os.dup(sock.fileno())
    loop.add_reader(descriptor, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)
