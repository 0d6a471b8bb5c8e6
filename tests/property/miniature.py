"""A gateway's sessions and pools without sockets, before a PostgreSQL in miniature.

Time is virtual and each server answers as slowly as it is told to, so that what happens between
any two of its answers is tried, and happens again when it is tried again.
"""

from __future__ import annotations

import asyncio
import selectors
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from itertools import chain, repeat
from typing import Any, cast
from unittest import mock

from gateway import worker as worker_module
from gateway.errors import ConnectFailed
from gateway.pool import pool as pool_module
from gateway.pool import pools as pools_module
from gateway.pool.listening import read_notification
from gateway.pool.plain import QUESTION
from gateway.pool.server import ServerConnection
from gateway.protocol import messages
from gateway.protocol.framing import HEADER_BYTES, message_size
from gateway.router.identity import Login, LoginKind
from gateway.router.route import Asked
from gateway.session.client import ClientSession
from gateway.session.guest import Guest
from gateway.session.listens import notification
from gateway.session.login import session_of
from gateway.settings.dsn import Dsn
from gateway.settings.model import Settings
from gateway.worker import Worker

_ENCODING = {b"client_encoding": b"UTF8"}
FAILS = "SELECT 1/0"
"""The statement that fails; all others do what they say."""
_COLUMNS = messages.row_description(["kind", "name", "value"])
_ONLY_TABLES = messages.row_description(["relname"]) + messages.command_complete("SELECT")
_OPERATOR = Login("operator", LoginKind.OPERATOR, "")


class _Never(selectors.SelectSelector):
    """Nothing ever comes from outside; who waits for it waits in virtual time."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[Any]:
        assert timeout is not None, "everybody waits, and nothing will ever happen"
        self.now += timeout
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose seconds pass at once."""

    def __init__(self) -> None:
        self._never = _Never()
        super().__init__(self._never)

    def time(self) -> float:
        return self._never.now

    def _process_events(self, event_list: list[Any]) -> None:
        """There are none."""


def change(channels: set[str], command: str) -> None:
    """What a committed command does to the channels of its session."""
    verb, _, name = command.partition(" ")
    if command in ("DISCARD ALL", "UNLISTEN *"):
        channels.clear()
    elif verb == "LISTEN":
        channels.add(name.strip('"'))
    elif verb == "UNLISTEN":
        channels.discard(name.strip('"'))


class Backend:
    """One process of the PostgreSQL in miniature, and the transport towards it."""

    def __init__(self, postgres: Postgres, pid: int) -> None:
        self.pid = pid
        self.channels: set[str] = set()
        self.inbox: list[bytes] = []
        self.protocol: ServerConnection | None = None
        self.alive = True
        self.slow_s = 0.0
        """How long each of its answers takes, if not what the next of all delays says."""
        self.tells = b""
        """What its next read is found to have set TimeZone to."""
        self._postgres = postgres
        self._received = b""
        self._at_work = False
        self._status = b"I"
        self._pending: list[str] = []
        self._reads = False
        """What it is at is a SELECT, which a cancel ends."""
        self._cancelled = False
        self._saying: asyncio.TimerHandle
        """What it has begun, and not said yet."""

    # --- transport ---

    def write(self, data: bytes) -> None:
        self._received += data
        self._work()

    def close(self) -> None:
        self.die()

    abort = write_eof = close

    def can_write_eof(self) -> bool:
        return True

    def pause_reading(self) -> None:
        """What it says is short."""

    resume_reading = pause_reading

    def die(self) -> None:
        """The process ends; what it has not done it will not do."""
        if self.alive:
            self.alive = False
            self._postgres.backends.remove(self)
            asyncio.get_running_loop().call_soon(self._lost)

    def _lost(self) -> None:
        assert self.protocol is not None
        self.protocol.connection_lost(None)

    # --- at work ---

    def _work(self) -> None:
        if not self._at_work:
            self._at_work = True
            self._later(self._take_one)

    def _later(self, work: Callable[[], None]) -> None:
        delay_s = self.slow_s or self._postgres.delay()
        self._saying = asyncio.get_running_loop().call_later(delay_s, work)

    def _take_one(self) -> None:
        """Runs what was sent; what it commits others may hear of before it has answered."""
        if not self.alive:
            return
        end = message_size(self._received, 0) if self._received else 0
        first, self._received = self._received[:end], self._received[end:]
        if first[:1] == b"X":
            self.die()
            return
        assert first[:1] in (b"Q", b""), first
        answer = self._run(first[HEADER_BYTES:-1].decode()) if first else b""
        self._later(partial(self._say, answer, ready=bool(first)))

    def interrupt(self) -> None:
        """A cancel has come; between two statements it means nothing."""
        if self._reads and not self._cancelled:
            self._cancelled = True
            self._saying.cancel()
            asyncio.get_running_loop().call_soon(partial(self._say, b"", ready=True))

    def _say(self, answer: bytes, *, ready: bool) -> None:
        """Notifications come between transactions, before it says that it is ready."""
        if not self.alive:
            return
        if self._cancelled:
            self._status = b"E" if self._status == b"T" else self._status
            answer = _error("57014", "canceling statement due to user request")
        self._reads = self._cancelled = False
        if self._status == b"I":
            answer += b"".join(self.inbox)
            self.inbox.clear()
        if ready:
            answer += messages.ready_for_query(self._status)
        self._at_work = False
        if self._received:
            self._work()
        if answer:
            assert self.protocol is not None
            self.protocol.data_received(answer)

    def hear(self, message: bytes, *, other: bool) -> None:
        """Somebody has committed a NOTIFY."""
        self.inbox.append(message)
        if other:
            self._work()

    def _run(self, sql: str) -> bytes:
        probes, asks = sql.startswith("SELECT kind"), sql == QUESTION
        self._reads = sql.startswith("SELECT") and not (probes or asks)
        if probes or asks:
            return self._probe() if probes else _ONLY_TABLES
        told, self.tells = (self.tells, b"") if self._reads else (b"", self.tells)
        commands = [one.strip() for one in sql.split(";") if one.strip()]
        said = b"".join(map(self._command, commands)) or messages.message(b"I")
        if self._status == b"I":
            self._commit()
        return messages.parameter_status(b"TimeZone", told) + said if told else said

    def _probe(self) -> bytes:
        rows = [messages.data_row(["listen", one.encode().hex(), ""]) for one in self.channels]
        return _COLUMNS + b"".join(rows) + messages.command_complete("SELECT")

    def _command(self, command: str) -> bytes:
        verb = command.split()[0]
        if self._status == b"E" and verb not in ("COMMIT", "ROLLBACK"):
            return _error("25P02", "current transaction is aborted")
        if verb == "BEGIN":
            self._status = b"T"
        elif command == FAILS:
            self._status = b"E" if self._status == b"T" else b"I"
            self._pending.clear()
            return _error("22012", "division by zero")
        elif verb in ("COMMIT", "ROLLBACK"):
            verb = "ROLLBACK" if self._status == b"E" else verb
            if verb == "ROLLBACK":
                self._pending.clear()
            self._status = b"I"
        elif verb == "SELECT":
            return _read(command.removeprefix("SELECT "))
        else:
            self._pending.append(command)
        return messages.command_complete("DISCARD ALL" if verb == "DISCARD" else verb)

    def _commit(self) -> None:
        pending, self._pending = self._pending, []
        for command in pending:
            change(self.channels, command)
            if command.startswith("NOTIFY"):
                channel, _, payload = command.removeprefix("NOTIFY ").partition(",")
                self._postgres.notify(self, channel.strip('"'), payload.strip(" '"))


def _error(sqlstate: str, text: str) -> bytes:
    return messages.message(b"E", f"SERROR\0VERROR\0C{sqlstate}\0M{text}\0\0".encode())


def _read(value: str) -> bytes:
    """What it has read: what it was asked for."""
    row = messages.row_description(["value"]) + messages.data_row([value])
    return row + messages.command_complete("SELECT 1")


class Postgres:
    """Takes connections while it is ``up``; ``delays_ms`` are how long each piece of work takes."""

    def __init__(self, delays_ms: Iterable[int]) -> None:
        self.backends: list[Backend] = []
        self.up = True
        self._last_pid = 100
        self._delays_ms: Iterator[int] = chain(delays_ms, repeat(1))

    def delay(self) -> float:
        return next(self._delays_ms) / 1000

    async def open(
        self, dsn: Dsn, opening: object, timeout_s: float, startup: Mapping[str, str]
    ) -> ServerConnection:
        """In place of the pool's own log-in."""
        await asyncio.sleep(self.delay())
        if not self.up:
            raise ConnectFailed("the database is down")
        self._last_pid += 1
        backend = Backend(self, self._last_pid)
        transport = cast(asyncio.Transport, backend)
        now = asyncio.get_running_loop().time()
        server = ServerConnection(transport, backend.pid, b"key.", dict(_ENCODING), now)
        backend.protocol = server
        self.backends.append(backend)
        return server

    def notify(self, sender: Backend | None, channel: str, payload: str) -> None:
        """A NOTIFY is committed; without a ``sender`` by somebody past the gateway."""
        pid = 1 if sender is None else sender.pid
        message = notification(pid, channel.encode(), payload.encode())
        for backend in self.backends:
            if channel in backend.channels:
                backend.hear(message, other=backend is not sender)

    async def cancel(self, dsn: Dsn, pid: int, *_: object) -> None:
        """In place of the pool's own cancel."""
        await asyncio.sleep(self.delay())
        for backend in self.backends:
            if backend.pid == pid:
                backend.interrupt()


class Client:
    """A client's end of its connection, and the session at the other end of it."""

    def __init__(self, worker: Worker, number: int, login: Login = _OPERATOR) -> None:
        self.heard: list[tuple[str, str]] = []
        """Channel and payload of each notification."""
        self.open = True
        self.channels: set[str] = set()
        """What it listens to, by what it was answered."""
        self.waits = False
        self._commands: deque[str] = deque()
        self._pending: list[str] = []
        guest = Guest(
            login,
            Asked("law"),
            number,
            b"key.",
            (),
            dict(_ENCODING),
            "a test",
            "",
        )
        transport = cast(asyncio.Transport, self)
        self.session: ClientSession = session_of(guest.login)(worker.context, transport, guest)
        self.session.start(b"")

    def says(self, sql: str) -> None:
        self.waits = True
        self._commands = deque(sql.split("; "))
        self.session.data_received(messages.query(sql))

    def leave(self) -> None:
        """Without a word."""
        self.open = False
        self.session.connection_lost(None)

    # --- transport ---

    def write(self, data: bytes) -> None:
        pos = 0
        while pos < len(data):
            following = pos + message_size(data, pos)
            self._hears(chr(data[pos]), data[pos + HEADER_BYTES : following])
            pos = following

    def _hears(self, tag: str, body: bytes) -> None:
        if tag == "A":
            _, channel, payload = read_notification(body)
            self.heard.append((channel.decode(), payload.decode()))
        elif tag == "C":
            command = self._commands.popleft()
            if body == b"ROLLBACK\0":
                self._pending.clear()
            else:
                self._pending.append(command)
        elif tag == "E":
            self._pending.clear()
        elif tag == "Z":
            self.waits = False
            if body == b"I":
                for command in self._pending:
                    change(self.channels, command)
                self._pending.clear()

    def close(self) -> None:
        self.open = False

    def set_write_buffer_limits(self, high: int) -> None:
        """What is written is taken at once."""

    def pause_reading(self) -> None:
        """A client of this test waits by itself."""

    resume_reading = pause_reading


@asynccontextmanager
async def gateway(settings: Settings, postgres: Postgres) -> AsyncIterator[Worker]:
    """A worker that does not listen, and whose every database is ``postgres``."""
    loop = asyncio.get_running_loop()
    with (
        mock.patch.object(worker_module, "monotonic", loop.time),
        mock.patch.object(pools_module, "open_connection", postgres.open),
        mock.patch.object(pool_module, "send_cancel", postgres.cancel),
    ):
        worker = Worker(settings, lambda: settings)
        upkeep = loop.create_task(worker._tick())
        yield worker
        upkeep.cancel()
        await worker.context.pools.shut()
