"""Several clients' short reads on one server, one behind the other (decisions/0010).

A client that was granted a server and has sent one short read may carry others: theirs are sent
right behind it, each with its own Sync, and answered in order. Who is in line has lost nothing yet:
his read can be asked elsewhere for as long as his turn has not come.
"""

from __future__ import annotations

from collections.abc import Callable

from gateway.errors import GatewayError, ProtocolViolation, ServerUnavailable
from gateway.pool.core import PoolCore, ServerState
from gateway.pool.counters import PoolCounters
from gateway.pool.plain import Plain
from gateway.pool.server import LinkedClient, Rider, ServerConnection
from gateway.router.statement import Timing

_PATIENCE = 10
"""So many times the length of a short read is a turn waited for."""


class Sharer(Rider):
    """What sharing needs of a client that waits for a server, or was granted one.

    This one shares its server with nobody.
    """

    __slots__ = ()

    def carries(self, server: ServerConnection) -> Timing | None:
        """How long what it has sent takes lately, if that is one read and nothing else."""
        return None

    def may_ride(self, server: ServerConnection) -> Timing | None:
        """How long what it waits with takes lately, if that is a short read that may follow on
        ``server``."""
        return None

    def ride(self, server: ServerConnection) -> None:
        """Get in line there, and send it."""
        raise AssertionError("it may not")


class Sharing:
    """The lines of one pool's servers. ``depth`` bounds the clients on one server at a time."""

    __slots__ = ("_core", "_counters", "_release", "depth", "plain", "short_s")

    def __init__(
        self,
        core: PoolCore,
        counters: PoolCounters,
        release: Callable[[ServerConnection], None],
        depth: int,
        short_s: float,
    ) -> None:
        self._core = core
        self._counters = counters
        self._release = release
        self.depth = depth
        self.short_s = short_s
        self.plain = Plain()

    def begin(self, server: ServerConnection, head: Sharer, now: float) -> None:
        """``head`` has been granted a server while others wait: note how long it takes, and have
        them follow it."""
        timing = head.carries(server)
        server.timing = timing
        server.turn_at = now
        if timing is None or not timing.shorter_than(self.short_s):
            return
        if self._is_plain(server, timing, now):
            self._fill(server, now, self.short_s - timing.took_s)

    def _fill(self, server: ServerConnection, now: float, room_s: float) -> None:
        """Have others follow, in the order in which they would be served: the server's part of
        those who wait. More would wait for it while others come free.

        The last one's turn is to come within ``room_s``: who comes next waits for the whole line.
        """
        core, counters = self._core, self._counters
        for _ in range(min(self.depth - 1, core.fair.ready // core.counted())):
            waiter = core.first(now)
            if waiter is None or server.closing or room_s <= 0:
                break
            timing = waiter.may_ride(server)
            if timing is None or not self._is_plain(server, timing, now):
                break
            room_s -= timing.took_s
            since = core.ride(server, waiter, now)
            if since < 0:
                break
            counters.served(now - since)
            counters.rides += 1
            waiter.ride(server)

    def _is_plain(self, server: ServerConnection, timing: Timing, now: float) -> bool:
        """Whether a read does nothing that its text does not show."""
        return self.plain.are(timing.tables, server.schema.changes, now)

    def pass_on(self, server: ServerConnection, now: float) -> None:
        """The turn of the one at the head is over: the next one's comes."""
        self._core.pass_on(server, now)
        server.turn_at = now
        server.next_in_line()

    def dissolve(self, server: ServerConnection) -> None:
        """All in line ask elsewhere; what they have sent is still answered, to nobody."""
        if not server.line or is_kept(server):
            return
        riders = server.line
        server.line = [self.nobody(server) for _ in riders]
        for rider in riders:
            rider.ask_elsewhere()

    def keep(self, server: ServerConnection, client: LinkedClient, now: float) -> None:
        """The one at the head keeps its server: all in line ask elsewhere, and it is linked again
        behind what they have sent."""
        riders, number = server.line, server.client_number
        self._core.end_line(server, now)
        server.timing = None
        server.line = [*(Passing(client, number) for _ in riders), Returning(client, number)]
        server.next_in_line()
        for rider in riders:
            rider.ask_elsewhere()

    def leave(self, rider: Rider, server: ServerConnection) -> None:
        """One in line has gone; the others keep their turns."""
        server.line = [self.nobody(server) if one is rider else one for one in server.line]

    def overdue(self, now: float) -> list[ServerConnection]:
        """Servers on which others, or nobody, wait too long for the end of a read that was to be
        short."""
        late_s = _PATIENCE * self.short_s
        busy = self._core.servers(ServerState.BUSY)
        shared = [one for one in busy if one.line or isinstance(one.client, Nobody)]
        return [one for one in shared if now - one.turn_at > late_s]

    def is_left(self, server: ServerConnection) -> bool:
        """Whether it runs only what clients have asked that have left."""
        return all(isinstance(one, Nobody) for one in (server.client, *server.line))

    def left(self) -> list[ServerConnection]:
        """The busy servers of which that is so."""
        return [one for one in self._core.servers(ServerState.BUSY) if self.is_left(one)]

    def end(self, server: ServerConnection, now: float) -> None:
        """There is no line any more; all in it had left."""
        server.line.clear()
        self._core.end_line(server, now)

    def nobody(self, server: ServerConnection) -> Nobody:
        """In place of a client that has left before its answer came."""
        return Nobody(self, self._release, server)

    def spoil(self, server: ServerConnection) -> None:
        """A read whose client has left has changed the session: those behind it ask elsewhere, and
        nobody has the server any more."""
        server.life_ends_at = 0.0
        self.dissolve(server)


class Nobody(Rider):
    """Hears what a client was to hear that has left."""

    def __init__(
        self,
        sharing: Sharing,
        release: Callable[[ServerConnection], None],
        server: ServerConnection,
    ) -> None:
        self._sharing = sharing
        self._release = release
        self._server = server

    def turn_came(self, server: ServerConnection) -> None:
        server.link(self, 0)

    def server_reported(self, name: bytes, value: bytes) -> bool:
        self._sharing.spoil(self._server)
        return False

    def server_ready(self, status: int) -> None:
        self._release(self._server)


class Passing(Rider):
    """Hears what others were to hear, on a server that ``client`` keeps."""

    def __init__(self, client: LinkedClient, number: int) -> None:
        self._client = client
        self._number = number
        self._server: ServerConnection | None = None

    def turn_came(self, server: ServerConnection) -> None:
        self._server = server
        server.link(self, self._number)

    def server_reported(self, name: bytes, value: bytes) -> bool:
        raise ProtocolViolation(
            "a read that others had sent has changed the session it was kept for"
        )

    def server_ready(self, status: int) -> None:
        assert self._server is not None
        self._server.next_in_line()

    def end(self, error: GatewayError) -> None:
        self._client.end(error)

    def server_fenced(self, error: GatewayError) -> None:
        self._client.server_fenced(error)

    def server_lost(self, error: ServerUnavailable) -> None:
        self._client.server_lost(error)

    def server_full(self) -> None:
        self._client.server_full()

    def server_drained(self) -> None:
        self._client.server_drained()


class Returning(Passing):
    """Behind them, in place of ``client``."""

    def turn_came(self, server: ServerConnection) -> None:
        server.link(self._client, self._number)


def is_kept(server: ServerConnection) -> bool:
    """Whether who is in line only stands between a server and the client that keeps it."""
    return bool(server.line) and isinstance(server.line[-1], Returning)
