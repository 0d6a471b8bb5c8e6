"""Who reads and writes a plain connection: asyncio's loop, or the gateway's own within it.

The one place that chooses, so that nobody else knows which it is. TLS is always asyncio's.
"""

from __future__ import annotations

import asyncio
import socket
from typing import Protocol, TypeVar, cast

from gateway.net.calls import COMPILED
from gateway.net.sockets import Sockets
from gateway.settings.model import TransportChoice

P = TypeVar("P", bound=asyncio.BaseProtocol)


class Carrier(Protocol):
    """Makes transports of connected sockets."""

    async def carry(self, sock: socket.socket, protocol: P) -> tuple[asyncio.Transport, P]:
        """The transport of a non-blocking socket, which is its own from now on, and ``protocol``.

        Raises OSError; the socket is then closed, or about to be.
        """

    def close(self) -> None:
        """Give back what is shared, when the last transport has ended."""


class LoopCarrier:
    """The transports of the running loop, uvloop's or another one's."""

    async def carry(self, sock: socket.socket, protocol: P) -> tuple[asyncio.Transport, P]:
        loop = asyncio.get_running_loop()
        return await loop.connect_accepted_socket(lambda: protocol, sock)

    def close(self) -> None:
        pass


class OwnCarrier:
    """Transports of the gateway's own."""

    def __init__(self) -> None:
        self._sockets: Sockets | None = None

    async def carry(self, sock: socket.socket, protocol: P) -> tuple[asyncio.Transport, P]:
        if self._sockets is None:
            self._sockets = Sockets(asyncio.get_running_loop())
        try:
            opened = self._sockets.open(sock, cast(asyncio.Protocol, protocol))
        except BaseException:
            sock.close()
            raise
        # A class that is compiled ahead of time can't have asyncio's for its base.
        transport = cast(asyncio.Transport, opened)
        protocol.connection_made(transport)
        return transport, protocol

    def close(self) -> None:
        if self._sockets is not None:
            self._sockets.close()
            self._sockets = None


def carrier_for(choice: TransportChoice) -> Carrier:
    """What the settings choose; auto is our own where it is compiled."""
    own = COMPILED if choice is TransportChoice.AUTO else choice is TransportChoice.OWN
    return OwnCarrier() if own else LoopCarrier()
