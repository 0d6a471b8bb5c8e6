"""Several clients' short reads on one server, one behind the other (decisions/0010).

A client that was granted a server and has sent one short read may carry others: theirs are sent
right behind it, each with its own Sync, and answered in order. Who is in line has lost nothing yet:
his read can be asked elsewhere for as long as his turn has not come.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from gateway.pool.core import PoolCore
from gateway.pool.server import Rider, ServerConnection

_PATIENCE = 10
"""So many times the length of a short read is a turn waited for."""


class Sharer(Rider):
    """What sharing needs of a client that waits for a server, or was granted one.

    This one shares its server with nobody.
    """

    __slots__ = ()

    def carries(self, server: ServerConnection) -> bool:
        """Whether it has sent one short read and nothing else, so that others may follow."""
        return False

    def may_ride(self, server: ServerConnection) -> bool:
        """Whether what it waits with is a short read that may follow on ``server``."""
        return False

    def ride(self, server: ServerConnection) -> None:
        """Get in line there, and send it."""
        raise AssertionError("it may not")


class Sharing:
    """The lines of one pool's servers. ``depth`` bounds the clients on one server at a time."""

    __slots__ = ("_core", "_release", "_since", "depth", "rides", "short_s")

    def __init__(
        self,
        core: PoolCore,
        release: Callable[[ServerConnection], None],
        depth: int,
        short_s: float,
    ) -> None:
        self._core = core
        self._release = release
        self._since: dict[ServerConnection, float] = {}
        """Since when the one at the head of a line has its turn."""
        self.depth = depth
        self.short_s = short_s
        self.rides = 0
        """Clients that got in line, since the start."""

    def fill(
        self, server: ServerConnection, head: Sharer, now: float
    ) -> list[tuple[Sharer, float]]:
        """Have others follow ``head``, in the order in which they would be served; who, and since
        when they have waited."""
        filled: list[tuple[Sharer, float]] = []
        if not head.carries(server):
            return filled
        while len(filled) < self.depth - 1:
            served = self._core.ride(server, lambda waiter: waiter.may_ride(server), now)
            if served is None:
                break
            filled.append(served)
            served[0].ride(server)
        if filled:
            self._since[server] = now
            self.rides += len(filled)
        return filled

    def pass_on(self, server: ServerConnection, now: float) -> None:
        """The turn of the one at the head is over: the next one's comes."""
        self._core.pass_on(server, now)
        if len(server.line) > 1:
            self._since[server] = now
        else:
            self._since.pop(server, None)
        server.next_in_line()

    def dissolve(self, server: ServerConnection) -> None:
        """All in line ask elsewhere; what they have sent is still answered, to nobody."""
        if not server.line:
            return
        riders = [rider for rider, _ in server.line]
        server.line = deque((self.nobody(server), 0) for _ in riders)
        for rider in riders:
            rider.ask_elsewhere()

    def leave(self, rider: Rider, server: ServerConnection) -> None:
        """One in line has gone; the others keep their turns."""
        server.line = deque(
            (self.nobody(server), 0) if one is rider else (one, number)
            for one, number in server.line
        )

    def overdue(self, now: float) -> list[ServerConnection]:
        """Servers on which others wait too long for the end of a read that was to be short."""
        late_s = _PATIENCE * self.short_s
        return [server for server, since in self._since.items() if now - since > late_s]

    def forget(self, server: ServerConnection) -> None:
        """It has gone, or nobody is in line there any more."""
        self._since.pop(server, None)

    def nobody(self, server: ServerConnection) -> Nobody:
        """In place of a client that has left before its answer came."""
        return Nobody(self._release, server)


class Nobody(Rider):
    """Hears what a client was to hear that has left."""

    def __init__(
        self, release: Callable[[ServerConnection], None], server: ServerConnection
    ) -> None:
        self._release = release
        self._server = server

    def server_ready(self, status: int) -> None:
        self._release(self._server)
