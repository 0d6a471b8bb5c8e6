"""Asks a Patroni cluster again and again who leads it. Nothing escapes from it.

Any member's REST API answers for the whole cluster: the one that answered last is asked first. Each
question is bounded in time. Who leads is known for as long as questions are answered: after three
that were not, nothing is known any more, and the gateway's own looks decide alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable, Collection, Iterable
from typing import TYPE_CHECKING

from gateway.clock import jittered
from gateway.health.patroni import Member, read_members
from gateway.net.backoff import Backoff

if TYPE_CHECKING:
    import aiohttp

logger = logging.getLogger(__name__)

_JITTER = 0.1
_ANSWER_MAX_BYTES = 1024 * 1024
_MISSED_MAX = 3

News = Callable[[list[Member] | None, dict[str, frozenset[str]]], None]
"""Hears the members, None when nothing is known, and the addresses of the hosts in question."""


class ClusterWatch:
    """Asks one cluster until it is closed. ``hosts`` are the names of our endpoints in it."""

    def __init__(
        self,
        urls: tuple[str, ...],
        hosts: Collection[str],
        interval_s: float,
        timeout_s: float,
        backoff_max_s: float,
        news: News,
    ) -> None:
        self._urls = list(urls)
        self._hosts = frozenset(hosts)
        self._interval_s = interval_s
        self._timeout_s = timeout_s
        self._backoff = Backoff(interval_s, max(interval_s, backoff_max_s))
        self._news = news
        self._missed = 0
        self._resolved: dict[str, frozenset[str]] = {}
        self._said = ""
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begins to ask."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    def close(self) -> None:
        """Ends it; nothing is told from here on."""
        if self._task is not None:
            self._task.cancel()

    async def closed(self) -> None:
        """Returns when it has ended."""
        if self._task is not None:
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _run(self) -> None:
        import aiohttp  # 8 MB, and most workers watch no cluster

        timeout = aiohttp.ClientTimeout(total=self._timeout_s)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            while True:
                pause_s = await self._turn(session)
                await asyncio.sleep(pause_s)

    async def _turn(self, session: aiohttp.ClientSession) -> float:
        """One question; the pause behind it, in seconds."""
        try:
            members = await self._ask_anybody(session)
        except Exception as error:  # whatever it is, the next question must come
            self._missed += 1
            if self._missed == _MISSED_MAX:
                self._news(None, self._resolved)
                self._say(
                    f"does not answer: {' '.join(str(error).split()) or type(error).__name__}"
                )
            return self._backoff.next_s()
        self._missed = 0
        self._backoff.reset()
        await self._resolve(one.host for one in members)
        self._news(members, self._resolved)
        self._say(_leaders(members))
        return jittered(self._interval_s, _JITTER)

    async def _ask_anybody(self, session: aiohttp.ClientSession) -> list[Member]:
        """The answer of the first member that gives one. Raises the last one's error."""
        for left in reversed(range(len(self._urls))):
            try:
                return await self._ask(session, self._urls[0])
            except Exception:
                self._urls.append(self._urls.pop(0))
                if not left:
                    raise
        raise AssertionError("there is at least one")

    async def _ask(self, session: aiohttp.ClientSession, url: str) -> list[Member]:
        async with session.get(f"{url.rstrip('/')}/cluster", allow_redirects=False) as answer:
            if answer.status != 200:
                raise ValueError(f"HTTP status {answer.status}")
            text = b""
            while part := await answer.content.read(_ANSWER_MAX_BYTES):
                text += part
                if len(text) > _ANSWER_MAX_BYTES:
                    raise ValueError("too long an answer")
            return read_members(text)

    async def _resolve(self, named: Iterable[str]) -> None:
        """Patroni may call a host by another name than our settings do."""
        for host in self._hosts.union(named) - self._resolved.keys():
            with contextlib.suppress(OSError, TimeoutError):
                async with asyncio.timeout(self._timeout_s):
                    self._resolved[host] = await _addresses(host)

    def _say(self, what: str) -> None:
        """One log line when something changes."""
        if what != self._said:
            logger.info("Patroni at %s: %s", self._urls[0], what)
            self._said = what


async def _addresses(host: str) -> frozenset[str]:
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return frozenset(str(one[4][0]) for one in found)


def _leaders(members: Iterable[Member]) -> str:
    named = [f"{one.name} leads on timeline {one.timeline}" for one in members if one.leads]
    return ", ".join(named) or "nobody leads"
