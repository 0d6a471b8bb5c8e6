"""The two sides of a transport, for those who are called for every piece of data.

Compiled, calls between these classes take no look-up by name. Whoever has another base class, as
uvloop's transports and asyncio's protocols have, is called as usual.
"""

from __future__ import annotations


class End:
    """Whoever a transport hands on to what arrives."""

    __slots__ = ()

    def data_received(self, data: bytes) -> None:
        """Bytes have arrived."""


class Wire:
    """A transport of the gateway's own, for those who write to it."""

    __slots__ = ()

    def write(self, data: bytes) -> None:
        """Send ``data``; what can't be sent now is kept."""


def end_of(receiver: object) -> End | None:
    """The same receiver, if it is such a one."""
    return receiver if isinstance(receiver, End) else None


def wire_of(transport: object) -> Wire | None:
    """The same transport, if it is such a one."""
    return transport if isinstance(transport, Wire) else None
