"""Who is connected: sessions by the number that their cancel key carries."""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Callable, Iterator
from typing import Protocol

from gateway.errors import GatewayError, ShuttingDown
from gateway.ids import NUMBERS_STEP, Numbers, cancel_secret
from gateway.session.census import Census

SECRET_BYTES_3_0 = 4
SECRET_BYTES_3_2 = 32


class Registered(Protocol):
    """A session: what a cancel request, a drain or a stop reaches."""

    number: int
    secret: bytes

    def cancel(self) -> asyncio.Task[None] | None:
        """Stop what the client is running or waiting for, if anything.

        Where a server is asked to, the task ends when it has been.
        """

    def drain(self, error: ShuttingDown) -> None:
        """End as soon as no transaction runs."""

    def end(self, error: GatewayError) -> None:
        """Tell the client why and close."""


class Registry:
    """The sessions of a worker. ``worker`` is its number among several; None when it is alone."""

    def __init__(self, worker: int | None = None, census: Census | None = None) -> None:
        self.worker = worker or 1
        self._numbers = Numbers() if worker is None else Numbers(worker, NUMBERS_STEP)
        self._census = census or Census.private()
        self._sessions: dict[int, Registered] = {}
        self.on_remove: Callable[[int], None] | None = None
        """Who is told of the number of a session that has ended."""

    def begin_anywhere(self) -> None:
        """Number clients from some number on that another process here hardly uses."""
        self._numbers.begin_anywhere()

    def new_key(self, minor: int) -> tuple[int, bytes]:
        """A number no living session has, and a secret of the length the protocol allows."""
        number = self._numbers.next()
        while number in self._sessions:
            number = self._numbers.next()
        return number, cancel_secret(SECRET_BYTES_3_2 if minor >= 2 else SECRET_BYTES_3_0)

    def add(self, session: Registered) -> None:
        """A session that can be cancelled and shown from now on."""
        self._sessions[session.number] = session
        self._census.note(len(self._sessions))

    def remove(self, session: Registered) -> None:
        """The session has ended."""
        self._sessions.pop(session.number, None)
        self._census.note(len(self._sessions))
        if self.on_remove is not None:
            self.on_remove(session.number)

    def find(self, number: int, secret: bytes) -> Registered | None:
        """Whose key this is; None when it is nobody's."""
        session = self._sessions.get(number)
        if session is None or not hmac.compare_digest(session.secret, secret):
            return None
        return session

    @property
    def everywhere(self) -> int:
        """The sessions of all workers of the gateway."""
        return self._census.total

    def __len__(self) -> int:
        return len(self._sessions)

    def __iter__(self) -> Iterator[Registered]:
        return iter(list(self._sessions.values()))
