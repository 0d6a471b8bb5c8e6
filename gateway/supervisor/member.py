"""A worker's end of the control connection: its permits, and what it wants of the others.

When the supervisor goes, the worker serves on with the permits it holds, and says hello to the next
one, which is found at the same place.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from gateway.admin.view import Row
from gateway.pool.permits import PoolKey, Purse, SharedPurse
from gateway.session.standing import Instruction
from gateway.supervisor.channel import (
    Answerer,
    AskFailed,
    Body,
    Channel,
    Notice,
    greet,
    greeted,
)

_log = logging.getLogger(__name__)

_RETRY_S = 0.1
_GREETING_S = 5.0
_ROWS_S = 3.0
"""Longer than the supervisor waits for each worker."""
_CANCEL_S = 5.0
_RELOAD_S = 30.0


def wire_key(key: PoolKey) -> list[Any]:
    """A key as JSON carries it."""
    (host, port, database), user = key
    return [host, port, database, user]


def read_key(wired: list[Any]) -> PoolKey:
    """The key that `wire_key` wrote."""
    host, port, database, user = wired
    return (host, port, database), user


class Member:
    """One worker among several."""

    def __init__(self) -> None:
        self._purses: dict[PoolKey, SharedPurse] = {}
        self._channel: Channel | None = None
        self._ready = False
        self._notices: Mapping[str, Notice] = {}
        self._answerers: Mapping[str, Answerer] = {}

    def serve(self, notices: Mapping[str, Notice], answerers: Mapping[str, Answerer]) -> None:
        """What the supervisor may tell and ask us besides permits."""
        self._notices = {**notices, "grant": self._granted, "limit": self._limited}
        self._answerers = answerers

    async def run(
        self, sock: socket.socket, control: Path, hello: Callable[[], tuple[Body, dict[str, int]]]
    ) -> None:
        """Keep up the connection, the first of which is there already, until cancelled."""
        while True:
            channel = Channel(self._notices, self._answerers, "the supervisor")
            await channel.attach(sock)
            self._channel = channel
            self._introduce()
            await channel.run()
            self._channel = None
            _log.warning("the supervisor has gone; serving on")
            sock = await self._found_again(control, hello)
            _log.info("the supervisor is back")

    async def _found_again(
        self, control: Path, hello: Callable[[], tuple[Body, dict[str, int]]]
    ) -> socket.socket:
        while True:
            await asyncio.sleep(_RETRY_S)
            body, descriptors = hello()
            body["held"] = [[wire_key(key), one.held] for key, one in self._purses.items()]
            try:
                return await asyncio.to_thread(_say_hello, control, body, descriptors)
            except (OSError, EOFError, ValueError):
                continue

    def _introduce(self) -> None:
        """A supervisor that knows what we hold hears of our servers and what we want."""
        if self._ready:
            self.tell("ready")
        for key, purse in self._purses.items():
            for pid, secret in purse.servers.items():
                self.opened(key, pid, secret)
            purse.introduced()

    def ready(self) -> None:
        """We take clients from now on."""
        self._ready = True
        self.tell("ready")

    def tell(self, kind: str, **body: Any) -> None:
        """Tell the supervisor, if there is one."""
        if self._channel is not None:
            self._channel.tell(kind, **body)

    async def _ask(self, kind: str, timeout_s: float, **body: Any) -> list[Any]:
        if self._channel is None:
            raise AskFailed("there is no supervisor")
        return await self._channel.ask(kind, timeout_s, **body)

    # --- Fleet ---

    async def rows(self, command: str) -> dict[int, list[Row] | None]:
        return await self._of_others("rows of others", command=command)

    async def carry_out(self, instruction: Instruction) -> dict[int, list[Row] | None]:
        return await self._of_others("instruct others", instruction=instruction.plain())

    async def _of_others(self, kind: str, **body: Any) -> dict[int, list[Row] | None]:
        """The other workers' rows, by worker; without a supervisor nobody else is known."""
        try:
            items = await self._ask(kind, _ROWS_S, **body)
        except AskFailed:
            return {0: None}
        found: dict[int, list[Row] | None] = {}
        for number, row in items:
            if row is None:
                found[number] = None
            elif row == _NO_ROWS:
                found.setdefault(number, [])
            else:
                rows = found.setdefault(number, [])
                assert rows is not None
                rows.append(tuple(row))
        return found

    def pass_on(self, standing: list[Instruction]) -> None:
        self.tell("on the board", instructions=[one.plain() for one in standing])

    async def reload(self) -> list[str]:
        try:
            return await self._ask("reload all", _RELOAD_S)
        except AskFailed as error:
            return [f"not reloaded: {error}"]

    async def cancel(self, number: int, secret: bytes) -> bool:
        try:
            return bool(await self._ask("cancel", _CANCEL_S, number=number, secret=secret.hex()))
        except AskFailed:
            return False

    def vacate(self, place: str) -> None:
        self.tell("vacate", place=place)

    def purse(self, key: PoolKey, maximum: int) -> Purse:
        purse = self._purses[key] = SharedPurse(key, self)
        return purse

    # --- Lender ---

    @property
    def connected(self) -> bool:
        return self._channel is not None and self._channel.open

    def want(self, key: PoolKey, count: int) -> None:
        self.tell("want", key=wire_key(key), count=count)

    def back(self, key: PoolKey, count: int) -> None:
        self.tell("back", key=wire_key(key), count=count)

    def opened(self, key: PoolKey, pid: int, secret: bytes) -> None:
        self.tell("opened", key=wire_key(key), pid=pid, secret=secret.hex())

    def gone(self, key: PoolKey, pid: int) -> None:
        self.tell("gone", key=wire_key(key), pid=pid)

    # --- the supervisor's orders ---

    def _granted(self, body: Body) -> None:
        self._purses[read_key(body["key"])].granted(body["count"])

    def _limited(self, body: Body) -> None:
        purse = self._purses.get(read_key(body["key"]))
        if purse is not None:
            purse.limited(body["ceiling"], body["share"], body["lend"])


_NO_ROWS: list[Any] = []
"""In place of a row: the worker has answered."""


def _say_hello(control: Path, body: Body, descriptors: dict[str, int]) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.settimeout(_GREETING_S)
        sock.connect(str(control))
        greet(sock, body, descriptors)
        greeted(sock)
    except BaseException:
        sock.close()
        raise
    return sock
