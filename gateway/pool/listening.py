"""LISTEN for many clients on one server connection per pool.

A client's LISTEN is carried out on the server it happens to have, and then moved here. A marker
notification that both connections hear draws the line: what came before it the client had from
its own server, what comes after it has from here; nothing twice, nothing lost, all in order.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable, Iterable
from typing import Protocol

from gateway.clock import jittered
from gateway.errors import GatewayError, ServerUnavailable
from gateway.pool.encodings import codec_of, decoded, encoded
from gateway.pool.pool import Pool
from gateway.pool.server import Answer, LinkedClient, ServerConnection
from gateway.pool.visit import Visit
from gateway.protocol.messages import read_cstring

_log = logging.getLogger(__name__)

MARKER_PREFIX = b"gateway_marker_"
_RETRY_S = 0.5
_CATCH_UP_S = 1.0
_LOOK_S = 0.5
"""How often who waits for an answer looks whether the connection is still there."""


class Subscriber(Protocol):
    """A client that listens."""

    def notified(self, pid: int, channel: bytes, payload: bytes) -> None:
        """A notification on one of its channels, in UTF-8; `all_notified` follows."""

    def all_notified(self) -> None:
        """Those that came together are all there."""

    def notifications_missed(self) -> None:
        """The shared connection was lost; some may be missing."""

    def heard_at(self, listening: Listening) -> None:
        """Its channels are heard elsewhere from now on."""


def read_notification(body: bytes) -> tuple[int, bytes, bytes]:
    """Process id, channel and payload of a NotificationResponse body."""
    channel, following = read_cstring(body, 4)
    payload, _ = read_cstring(body, following)
    return int.from_bytes(body[:4], "big"), channel, payload


def quoted(channel: bytes) -> str:
    """A channel's name as an SQL identifier."""
    return '"' + channel.decode("utf-8", "surrogateescape").replace('"', '""') + '"'


class Listening(LinkedClient):
    """The shared listener of one pool; it holds a server only while somebody listens."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._channels: dict[bytes, set[Subscriber]] = {}
        self._markers: dict[bytes, Callable[[], None]] = {}
        self._lines: dict[bytes, tuple[Subscriber, set[bytes]]] = {}
        """Being drawn, by their marker: who is to hear which channels from then on."""
        self._server: ServerConnection | None = None
        self._asked: list[Callable[[], None]] = []
        self._to_ask: list[Callable[[], None]] = []
        self._told: set[Subscriber] = set()
        self._retry: asyncio.Task[None] | None = None

    @property
    def pool(self) -> Pool:
        """Whose notifications are heard here."""
        return self._pool

    @property
    def channels(self) -> int:
        """Channels that somebody listens to."""
        return len(self._channels)

    @property
    def pid(self) -> int | None:
        """The server process that listens; None when nobody does."""
        return None if self._server is None else self._server.pid

    def possible(self, server: ServerConnection) -> bool:
        """Whether channels that ``server`` listens to can be heard here just as well.

        Not without room for a connection that is kept, nor in an encoding we can't translate.
        """
        room = self._pool.limits.max > 1 and not self._pool.core.retired
        return room and codec_of(server.parameters) is not None

    def adopt(
        self, server: ServerConnection, subscriber: Subscriber, channels: frozenset[bytes]
    ) -> bool:
        """Make a client's server, which listens to ``channels``, the shared one.

        Only when there is none: nobody waits for a server here while holding one. True when done;
        the server then is no longer the client's.
        """
        if self._server is not None:
            return False
        server.unlink()
        self._take(server)
        for channel in channels:
            self._channels.setdefault(channel, set()).add(subscriber)
        return True

    def new_marker(self) -> bytes:
        """A channel for drawing one line, that no other process uses either."""
        return MARKER_PREFIX + secrets.token_hex(8).encode()

    async def draw_line(
        self,
        subscriber: Subscriber,
        channels: frozenset[bytes],
        marker: bytes,
        begun: Callable[[], None] | None = None,
    ) -> None:
        """Listen to ``channels``; ``subscriber`` hears them from the marker on, sent by now.

        ``begun`` is called then. Raises GatewayError when there is no connection for it.
        """
        wanted = set(channels)
        self._lines[marker] = subscriber, wanted
        await self._run("; ".join(f"LISTEN {quoted(name)}" for name in (*channels, marker)))
        if marker not in self._lines:
            raise ServerUnavailable("the shared LISTEN connection is another one now")

        def begin() -> None:
            self._lines.pop(marker, None)
            for channel in wanted:
                self._channels.setdefault(channel, set()).add(subscriber)
            self._unlisten(channels)
            if begun is not None:
                begun()

        self._markers[marker] = begin
        await self._run(f"NOTIFY {quoted(marker)}")

    def give_up_line(
        self, subscriber: Subscriber, channels: frozenset[bytes], marker: bytes
    ) -> None:
        """``subscriber`` will not hear ``channels`` after all, wherever the line stands."""
        self._lines.pop(marker, None)
        self._markers.pop(marker, None)
        for channel in channels:
            self.unsubscribe(subscriber, channel)
        self._unlisten((*channels, marker))
        self.rest()

    async def end_at(
        self, subscriber: Subscriber, channels: frozenset[bytes], marker: bytes
    ) -> asyncio.Future[None]:
        """``subscriber`` hears ``channels`` up to the marker, which somebody else is about to send.

        What comes back is done then. Raises GatewayError when there is no connection.
        """
        ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def end() -> None:
            for channel in channels:
                self.unsubscribe(subscriber, channel)
            if not ended.done():
                ended.set_result(None)

        self._markers[marker] = end
        await self._run(f"LISTEN {quoted(marker)}")
        return ended

    def forget_marker(self, marker: bytes) -> None:
        """The end that `end_at` was to come to does not come any more."""
        if self._markers.pop(marker, None) is not None:
            self._unlisten((marker,))
        self.rest()

    def replace(self, channel: bytes, one: Subscriber, other: Subscriber) -> None:
        """``other`` hears in place of ``one``."""
        subscribers = self._channels.get(channel)
        if subscribers is not None and one in subscribers:
            subscribers.discard(one)
            subscribers.add(other)

    def rejoin(self, subscriber: Subscriber, channels: frozenset[bytes]) -> None:
        """Hear ``channels`` again; the subscriber is told of the gap, if there is one."""
        missing = [one for one in channels if subscriber not in self._channels.get(one, ())]
        for channel in missing:
            self._channels.setdefault(channel, set()).add(subscriber)
        if not missing:
            return
        if self._server is None:
            self._begin_retry()
            return
        listen = "; ".join(f"LISTEN {quoted(name)}" for name in missing)
        self._server.ask(listen, lambda answer: subscriber.notifications_missed())

    async def connect(self) -> None:
        """Have a connection, though nobody listens yet. Raises GatewayError."""
        await self._lease()

    def rest(self) -> None:
        """Give the connection up if nobody listens, or is about to."""
        if self._server is not None and not (self._channels or self._markers or self._lines):
            self._let_go()

    def _unlisten(self, channels: Iterable[bytes]) -> None:
        """Stop hearing these, but for those that somebody hears or is about to."""
        about_to = {channel for _, wanted in self._lines.values() for channel in wanted}
        for channel in channels:
            wanted = channel in self._channels or channel in about_to
            if self._server is not None and not wanted:
                self._server.ask(f"UNLISTEN {quoted(channel)}", _ignore)

    def unsubscribe(self, subscriber: Subscriber, channel: bytes) -> None:
        """The subscriber hears this channel no more."""
        for whose, wanted in self._lines.values():
            if whose is subscriber:
                wanted.discard(channel)
        subscribers = self._channels.get(channel)
        if subscribers is None or subscriber not in subscribers:
            return
        subscribers.discard(subscriber)
        if subscribers:
            return
        del self._channels[channel]
        self._unlisten((channel,))
        self.rest()

    def when_caught_up(self, callback: Callable[[], None]) -> None:
        """Call when all that was committed by now has been delivered, or can't be.

        PostgreSQL tells a session of the notifications that wait for it before it becomes ready:
        after an empty query all are here.
        """
        if self._server is None or self._server.lost or not self._channels:
            self._pass_on()
            callback()
            return
        self._to_ask.append(callback)
        if not self._asked:
            self._catch_up(self._server)

    def _catch_up(self, server: ServerConnection) -> None:
        asked = self._asked = self._to_ask
        self._to_ask = []

        def caught_up() -> None:
            timer.cancel()
            if self._asked is asked:
                self._release()

        timer = asyncio.get_running_loop().call_later(_CATCH_UP_S, caught_up)
        server.ask("", lambda answer: caught_up())

    def _release(self) -> None:
        """Call those that were asked for, then ask for those that came meanwhile."""
        self._pass_on()
        asked, self._asked = self._asked, []
        for callback in asked:
            callback()
        if self._to_ask and not self._asked:
            if self._server is None:
                self._asked, self._to_ask = self._to_ask, []
                self._release()
            else:
                self._catch_up(self._server)

    def reconnect(self) -> None:
        """Listen on another connection from now on; who listens is told of the gap."""
        if self._server is not None:
            self._let_go()
            if self._channels:
                self._begin_retry()

    def shut(self) -> None:
        """Give the connection up; whoever listens is told that notifications are missing."""
        if self._retry is not None:
            self._retry.cancel()
        self._let_go()
        self._tell_missed()

    def hand_over(self, other: Listening) -> None:
        """All who listen here hear at ``other`` from now on, and are told of the gap."""
        heard: dict[Subscriber, set[bytes]] = {}
        for channel, subscribers in self._channels.items():
            for one in subscribers:
                heard.setdefault(one, set()).add(channel)
        if self._retry is not None:
            self._retry.cancel()
        self._channels.clear()
        self._let_go()
        for subscriber, channels in heard.items():
            subscriber.heard_at(other)
            other.rejoin(subscriber, frozenset(channels))

    # --- the connection ---

    async def _run(self, sql: str) -> None:
        server = self._server
        if server is None or server.lost:
            raise ServerUnavailable("there is no shared LISTEN connection")
        done: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        server.ask(sql, done.set_result)
        while not done.done():
            await asyncio.wait([done], timeout=_LOOK_S)
            if self._server is not server:
                raise ServerUnavailable("the shared LISTEN connection was lost")
        error = done.result().error
        if error is not None:
            raise ServerUnavailable(f"LISTEN failed: {error.get('M', '')}")

    def _let_go(self) -> None:
        server = self._server
        self._without_server()
        if server is not None:
            self._pool.abandon(server, mid_message=False, sync_due=False)

    def _without_server(self) -> None:
        """Lines that were being drawn come to nothing."""
        self._server = None
        self._release()
        self._markers.clear()
        self._lines.clear()

    async def _reconnect(self) -> None:
        while self._channels and not self._pool.core.retired:
            await asyncio.sleep(jittered(_RETRY_S, 0.2))
            if self._pool.suspended:
                continue
            try:
                await self._lease()
                await self._run("; ".join(f"LISTEN {quoted(name)}" for name in self._channels))
            except GatewayError as error:
                _log.warning("%s: LISTEN is interrupted: %s", self._pool.name, error.message)
            else:
                self._tell_missed()
                self.rest()
                return

    async def _lease(self) -> None:
        """A server of the pool's for us, unless a client has given us its own meanwhile."""
        if self._has_server():
            return
        visit = Visit(self._pool)
        server = await visit.lease()
        if self._has_server():
            visit.abandon()
        else:
            self._take(server)

    def _has_server(self) -> bool:
        return self._server is not None

    def _take(self, server: ServerConnection) -> None:
        """Make the server ours, without the settings of whoever had it before."""
        server.link(self, 0)
        self._server = server
        if server.settings:
            server.settings = ()
            server.ask("RESET ROLE; RESET SESSION AUTHORIZATION; RESET ALL", _ignore)

    def _tell_missed(self) -> None:
        for subscriber in {one for many in self._channels.values() for one in many}:
            subscriber.notifications_missed()

    # --- LinkedClient ---

    def server_notified(self, body: bytes) -> None:
        pid, channel, payload = read_notification(body)
        codec = None if self._server is None else codec_of(self._server.parameters)
        if codec != "utf-8":
            channel = encoded(decoded(channel, codec), "utf-8")
            payload = encoded(decoded(payload, codec), "utf-8")
        self._deliver(pid, channel, payload)

    def _deliver(self, pid: int, channel: bytes, payload: bytes) -> None:
        begin = self._markers.pop(channel, None)
        if begin is not None:
            begin()
            self._unlisten((channel,))
            self.rest()
            return
        for subscriber in list(self._channels.get(channel, ())):
            if not self._told:
                asyncio.get_running_loop().call_soon(self._pass_on)
            self._told.add(subscriber)
            subscriber.notified(self._pool.client_of(pid), channel, payload)

    def _pass_on(self) -> None:
        """What one commit has sent arrives here at once, and leaves at once."""
        told, self._told = self._told, set()
        for subscriber in told:
            subscriber.all_notified()

    def server_lost(self, error: ServerUnavailable) -> None:
        self._without_server()
        if self._channels and not self._pool.core.retired:
            self._begin_retry()

    def _begin_retry(self) -> None:
        if self._retry is None or self._retry.done():
            self._retry = asyncio.get_running_loop().create_task(self._reconnect())


def _ignore(answer: Answer) -> None:
    """The answer changes nothing."""
