"""The inside of a gateway on which clients stand in line: who waits where, and what is left."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.pool.core import ServerState
from gateway.pool.pool import Pool
from gateway.pool.server import IDLE, ServerConnection
from gateway.protocol.framing import HEADER_BYTES
from gateway.session.client import Phase
from tests.differential.inside import Different, Inside
from tests.differential.talk import Part
from tests.running import eventually

_SAMPLES = 3
"""So many times is a read seen before it is known how long it takes."""


class LineInside(Inside):
    """A worker, and its pool of one database, which has been used."""

    @property
    def pool(self) -> Pool:
        """The pool."""
        pool = self._pool
        assert pool is not None
        return pool

    @property
    def busy(self) -> list[ServerConnection]:
        """Servers that somebody has."""
        return self.pool.core.servers(ServerState.BUSY)

    def believe_short(self, parts: Sequence[Part]) -> None:
        """Have the gateway take the reads in these messages for short ones."""
        for part in parts:
            if part.tag in "QP":
                body = part.data[HEADER_BYTES:]
                text = body.split(b"\0")[0 if part.tag == "Q" else 1]
                timing = self._worker.context.facts.facts(text).timing
                if timing is not None:
                    for _ in range(_SAMPLES):
                        timing.took(0.0)

    def take_for_views(self, *names: bytes) -> None:
        """Have the gateway take all but these for tables, as if the server had just said so."""
        pool = self.pool
        pool.sharing.plain.told(names, pool.schema.changes, pool._clock())

    def waits(self, number: int) -> bool:
        """Whether a client is in the queue, or in line."""
        session = self.session(number)
        return session is not None and (session in self.pool.core.queue or session._in_line)

    def is_queued(self, number: int) -> bool:
        """Whether a client is in the queue."""
        return self.session(number) in self.pool.core.queue

    def server_of(self, number: int) -> ServerConnection | None:
        """The server whose answers are a client's now."""
        session = self.session(number)
        if session is None or session.phase is not Phase.LINKED or session._in_line:
            return None
        return session.server

    def settings_of(self, number: int) -> object:
        """What a client has set, as far as the gateway knows."""
        session = self.session(number)
        return session and session.holdings.settings

    def state(self) -> tuple[object, ...]:
        """What changes whenever anything goes on."""
        pool = self.pool
        return (
            [(session.number, session.phase, session._in_line) for session in self._sessions()],
            [(server.pid, server.turns, len(server.line)) for server in self.busy],
            [pool.core.count(state) for state in ServerState],
            pool.core.opening,
            len(pool.core.queue),
        )

    def look_at_lines(self) -> None:
        """Nobody waits, and servers are with whom they are linked to. Raises Different."""
        core = self.pool.core
        left = {
            "a queue": list(core.queue),
            "turns in line": core._rides,
            "lines": [server for server in self.busy if server.line or server.turn_is_over],
            "clients in line": [one for one in self._sessions() if one._in_line],
            "clients that wait": [one for one in self._sessions() if one.phase is Phase.SEEKING],
            "idle servers that owe": [
                server
                for server in core.servers(ServerState.IDLE)
                if not server.replies.idle or server.status != IDLE or server.client is not None
            ],
        }
        if found := {name: what for name, what in left.items() if what}:
            raise Different(f"left after a round: {found}")
        linked = [one for one in self._sessions() if one.phase is Phase.LINKED]
        have = {id(server.client) for server in self.busy}
        if have != {id(one) for one in linked} or core.in_use != len(linked):
            raise Different(f"{len(linked)} clients have servers, {core.in_use} are counted")
        if (held := sum(meter.held for meter in core.fair._meters.values())) != len(linked):
            raise Different(
                f"{len(linked)} clients have servers, their owner is said to hold {held}"
            )

    async def close_idle_servers(self) -> None:
        """Let the next clients begin with new servers."""
        core = self.pool.core
        for server in core.servers(ServerState.IDLE):
            self.pool._close(server)
        await eventually(lambda: not core.count(ServerState.CLOSING))
