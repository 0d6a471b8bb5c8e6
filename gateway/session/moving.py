"""Sessions on their way between two processes of the gateway: out of one, into the next.

A session that is between two transactions is its client's connection and a few facts: what the
client said at login, its settings, its prepared statements, its cancel key, what it listens to.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from gateway.errors import GatewayError
from gateway.net.handing import attach
from gateway.router.identity import Login, LoginKind
from gateway.router.route import Asked
from gateway.session import listens_moving
from gateway.session.client import ClientSession, Phase
from gateway.session.context import Context
from gateway.session.guest import Guest
from gateway.session.listens_moving import Arriving, HandingOn, Refused, Successor
from gateway.session.login import session_of

_log = logging.getLogger(__name__)

FORMAT = 1
"""Of what is told of a session; another one is not understood."""

_SEND_POLL_S = 0.005

Told = dict[str, Any]


class Leaving:
    """The sessions of a worker that leave it, one by one, as they can."""

    def __init__(self, context: Context, successor: Successor) -> None:
        self.open = True
        self.under_way = 0
        """How many have been halted and have not arrived yet."""
        self.ready: asyncio.Queue[tuple[Told, socket.socket]] = asyncio.Queue()
        """What has left this worker and is to arrive in another one."""
        self._context = context
        self._refused: set[int] = set()
        self._listens = HandingOn(successor)
        self._drawing: asyncio.Task[None] | None = None
        """Draws the line between what one that listens hears here and hears there."""
        self._want_line: dict[int, ClientSession] = {}
        """Who waits for that, by number."""
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
        if session.listens.channels:
            return self._asked_listener(session)
        session.halt()
        self.under_way += 1
        self._loop.call_soon(self._part, session)
        return True

    def _asked_listener(self, session: ClientSession) -> bool:
        """The same, of one that listens: one after the other, and the successor listens first."""
        if not self._listens.ready(session.listens):
            return False
        if self._drawing is not None:
            self._want_line[session.number] = session
            return False
        session.halt()
        self.under_way += 1
        self._drawing = asyncio.ensure_future(self._draw_line(session))
        return True

    async def _draw_line(self, session: ClientSession) -> None:
        try:
            await self._listens.draw_line(session.number, session.listens)
        except (Refused, OSError, GatewayError) as error:
            self.under_way -= 1
            _log.warning("client %d, which listens, stays for now: %s", session.number, error)
            session.stay()
        else:
            self._part(session)
        self._drawing = None
        while self._want_line and self._drawing is None:
            number = next(iter(self._want_line))
            self._asked(self._want_line.pop(number))

    def _part(self, session: ClientSession) -> None:
        """Take the session apart, once its client has been sent everything."""
        if session.phase is not Phase.LEAVING:
            self.under_way -= 1
            return
        session.listens.flush()
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
        "listens": listens_moving.pack(session.listens),
    }


async def unpack(
    context: Context, told: Told, sock: socket.socket, arriving: Arriving | None = None
) -> None:
    """Go on with a session of another worker; ``arriving`` has heard what it listens to.

    Raises ValueError for a format not known, OSError.
    """
    if told["format"] != FORMAT:
        raise ValueError(f"sessions are told in format {told['format']}, not {FORMAT}")
    heard = listens_moving.unpack(told.get("listens"), context)
    guest = _guest(told)
    stream = await attach(sock, context.carrier)
    assert stream.transport is not None
    session = session_of(guest.login)(context, stream.transport, guest)
    session.unpack(told["session"])
    context.budgets.count(session.number, told["counted"])
    rest = stream.hand_over(session)
    expected = arriving is not None and arriving.arrived(session.number, session.listens)
    if heard is not None and not expected:
        heard.rejoin(session.listens)
    session.start(rest)
    session.listens.flush()
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
