"""A client's socket from one process to another: out of one transport, into the next.

Only the process changes: the connection is the kernel's, and knows nothing of it. What a transport
has read it has given to its protocol, so that nothing is lost between.
"""

from __future__ import annotations

import asyncio
import os
import socket

from gateway.net.carrier import Carrier
from gateway.net.stream import MessageStream


def movable(transport: asyncio.Transport) -> bool:
    """Whether the other process could go on: the keys of a TLS session are in this one's memory."""
    return transport.get_extra_info("ssl_object") is None


def detach(transport: asyncio.Transport) -> socket.socket:
    """The socket of a transport that no longer reads and has sent everything; that one is closed.

    Raises OSError, also when the connection has ended.
    """
    inner = transport.get_extra_info("socket")
    if transport.is_closing() or inner is None:
        raise ConnectionResetError("the client has gone")
    sock = socket.socket(fileno=os.dup(inner.fileno()))
    transport.set_protocol(asyncio.Protocol())
    transport.abort()
    return sock


async def attach(sock: socket.socket, carrier: Carrier) -> MessageStream:
    """What the client sends from now on. Raises OSError."""
    sock.setblocking(False)
    _, stream = await carrier.carry(sock, MessageStream())
    return stream
