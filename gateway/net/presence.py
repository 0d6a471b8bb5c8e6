"""Whether a peer that is not read is still there: asked of the kernel, nothing is taken.

Who does not read a socket is told nothing, and what was sent before the peer left stands in front
of the end. Linux knows all the same; elsewhere only a reset is seen.
"""

from __future__ import annotations

import asyncio
import select
from typing import Final

_LEFT: Final = getattr(select, "POLLRDHUP", 0) | select.POLLHUP | select.POLLERR | select.POLLNVAL


def has_left(transport: asyncio.Transport) -> bool:
    """Whether the peer has closed or reset the connection."""
    sock = transport.get_extra_info("socket")
    if transport.is_closing() or sock is None or sock.fileno() < 0:
        return True
    poll = select.poll()
    poll.register(sock.fileno(), _LEFT)
    return any(mask & _LEFT for _, mask in poll.poll(0))
