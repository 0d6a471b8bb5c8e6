"""Sessions on their way between two processes of the gateway: out of one, into the next.

A session that is between two transactions is its client's connection and a few facts: what the
client said at login, its settings, its prepared statements, its cancel key.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from gateway.net.handing import attach
from gateway.router.identity import Login, LoginKind
from gateway.router.route import Asked
from gateway.session.client import ClientSession, Phase
from gateway.session.context import Context
from gateway.session.guest import Guest
from gateway.session.login import session_of

_log = logging.getLogger(__name__)

FORMAT = 1
"""Of what is told of a session; another one is not understood."""

_SEND_POLL_S = 0.005

Told = dict[str, Any]


class Leaving:
    """The sessions of a worker that leave it, one by one, as they can."""

    def __init__(self, context: Context) -> None:
        self.open = True
        self.under_way = 0
        """How many have been halted and have not arrived yet."""
        self.ready: asyncio.Queue[tuple[Told, socket.socket]] = asyncio.Queue()
        """What has left this worker and is to arrive in another one."""
        self._context = context
        self._refused: set[int] = set()
        self._loop = asyncio.get_running_loop()

    def look(self) -> None:
        """Have leave whoever can, now or after the transaction that runs."""
        for session in self._context.registry:
            if isinstance(session, ClientSession):
                session.depart(self._asked)
                self._asked(session)

    def refuse(self, number: int) -> None:
        """This session can't be told to another worker."""
        self._refused.add(number)

    def _asked(self, session: ClientSession) -> bool:
        if not self.open or session.number in self._refused or not session.movable:
            return False
        session.halt()
        self.under_way += 1
        self._loop.call_soon(self._part, session)
        return True

    def _part(self, session: ClientSession) -> None:
        """Take the session apart, once its client has been sent everything."""
        if session.phase is not Phase.LEAVING:
            self.under_way -= 1
            return
        if not session.told:
            self._loop.call_later(_SEND_POLL_S, self._part, session)
            return
        told = pack(session, self._context)
        try:
            sock = session.detach()
        except OSError as error:
            self.under_way -= 1
            _log.debug("client %d left before it was moved: %r", session.number, error)
        else:
            self.ready.put_nowait((told, sock))


def pack(session: ClientSession, context: Context) -> Told:
    """What another worker must know to go on with this session."""
    parameters = {name.hex(): value.hex() for name, value in session.parameters.items()}
    return {
        "format": FORMAT,
        "number": session.number,
        "secret": session.secret.hex(),
        "login": {**asdict(session.login), "verifier": ""},
        "asked": asdict(session.asked),
        "startup": session.holdings.startup,
        "parameters": parameters,
        "peer": session.peer,
        "application": session.application,
        "counted": context.budgets.counted(session.number),
        "session": session.pack(),
    }


async def unpack(context: Context, told: Told, sock: socket.socket) -> None:
    """Go on with a session of another worker. Raises ValueError for a format not known, OSError."""
    if told["format"] != FORMAT:
        raise ValueError(f"sessions are told in format {told['format']}, not {FORMAT}")
    guest = _guest(told)
    stream = await attach(sock)
    assert stream.transport is not None
    session = session_of(guest.login)(context, stream.transport, guest)
    session.unpack(told["session"])
    context.budgets.count(session.number, told["counted"])
    rest = stream.hand_over(session)
    session.start(rest)
    session.settle()


def _guest(told: Told) -> Guest:
    return Guest(
        login=_login(told["login"]),
        asked=Asked(**told["asked"]),
        number=told["number"],
        secret=bytes.fromhex(told["secret"]),
        startup_settings=tuple((name, value) for name, value in told["startup"]),
        parameters={
            bytes.fromhex(name): bytes.fromhex(value) for name, value in told["parameters"].items()
        },
        peer=told["peer"],
        application=told["application"],
    )


def _login(told: Mapping[str, Any]) -> Login:
    return Login(**{**told, "kind": LoginKind(told["kind"])})
