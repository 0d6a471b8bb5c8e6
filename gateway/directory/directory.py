"""Who is who and who lives where: the look-ups that logins and routing rely on, cached."""

from __future__ import annotations

import hmac
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

from gateway.clock import Clock, monotonic, wall_clock
from gateway.directory import board, cancels
from gateway.directory.cache import Kept, SingleFlightCache
from gateway.directory.invalidation import InvalidationListener, Kind
from gateway.directory.meta import MetaDatabase
from gateway.protocol.passwords import hash_api_key
from gateway.router.identity import Grant, Login, Owner
from gateway.settings.dsn import Dsn
from gateway.settings.model import Directory as DirectorySettings

logger = logging.getLogger(__name__)

NAME_BYTES_MAX = 255
"""Longest name or id that can exist, in bytes of UTF-8; the tables of the directory check it."""

V = TypeVar("V")
Subscriber = Callable[[Kind, str], None]


class Directory:
    """Logins, owners and API keys of the meta database ``meta``.

    Answers are fresh for ``ttl_s`` or until the meta database says they changed. While it can't be
    asked, known answers serve for ``outage_ttl_s`` more. Times run on ``clock``.
    """

    def __init__(self, meta: Dsn, settings: DirectorySettings, clock: Clock = monotonic) -> None:
        self._settings = settings
        self._clock = clock
        self._meta = MetaDatabase(meta, settings, clock)
        self.cancels = cancels.CancelRelay(
            cancels.Seal(meta, wall_clock), self._meta.pass_cancel_on
        )
        # Who can't ask us answers for no owner after so long, and need not be waited for any more.
        self.board = board.Board(self._meta, settings.ttl_s * 1.1 + settings.outage_ttl_s)
        self.on_orders: Callable[[], None] = lambda: None
        """Called when there may be something new on the board."""
        self._listener = InvalidationListener(
            self._meta.connect,
            self._invalidate,
            self._flush,
            timeout_s=settings.lookup_timeout_ms / 1000,
            others={
                cancels.CHANNEL: self.cancels.heard,
                board.CHANNEL: lambda payload: self.on_orders(),
            },
        )
        self._logins = self._cache(self._meta.login)
        self._owners = self._cache(self._meta.owner)
        self._api_keys = self._cache(self._meta.api_keys)
        self._grants = self._cache(self._meta.grants)
        self._subscribers: list[Subscriber] = []

    async def start(self) -> None:
        """Begin to listen and to answer. A meta database that is down is awaited, no error."""
        await self._meta.open()
        self._listener.start()

    async def close(self) -> None:
        """End look-ups that run and close all connections."""
        await self._listener.close()
        await self.cancels.close()
        for cache in self._caches().values():
            await cache.close()
        await self._meta.close()

    @property
    def connected(self) -> bool:
        """Whether changes in the meta database reach us now."""
        return self._listener.connected

    # -- look-ups

    async def login(self, name: str) -> Login | None:
        """The login of that name, None when there is none.

        It may be disabled or expired: that is for the caller to check.
        Raises DirectoryUnavailable when it can't be known.
        """
        return await self._logins.get(name) if _can_exist(name) else None

    async def owner(self, owner_id: str) -> Owner | None:
        """Where that owner lives, None when there is no such owner.

        Raises DirectoryUnavailable when it can't be known.
        """
        return await self._owners.get(owner_id) if _can_exist(owner_id) else None

    def forget_owner(self, owner_id: str) -> None:
        """What is known of the owner is out of date: the next who asks gets a new answer."""
        self._owners.invalidate(owner_id)

    def peek_owner(self, owner_id: str) -> Owner | None:
        """The owner if a fresh answer is at hand; if it is None, ``owner`` has to be asked."""
        return self._owners.peek(owner_id)

    def peek_kept_owner(self, owner_id: str) -> Kept | None:
        """The same, as an answer that whoever has it may ask whether it is still good."""
        return self._owners.peek_kept(owner_id)

    async def api_key(self, login_name: str, key: str) -> bool:
        """Whether ``key`` is a usable API key of that login.

        All keys of a login are looked up at once, so guessing them costs the meta database nothing.
        Raises DirectoryUnavailable when it can't be known.
        """
        if not _can_exist(login_name):
            return False
        keys = await self._api_keys.get(login_name) or ()
        digest, now = hash_api_key(key).encode(), self._clock()
        usable = False
        for known in keys:
            same = hmac.compare_digest(known.hash.encode(), digest)
            usable |= same and now < known.expires
        return usable

    async def grants(self, login_name: str) -> tuple[Grant, ...]:
        """For whom a service login may act, as it was granted; nothing for unknown logins.

        Raises DirectoryUnavailable when it can't be known.
        """
        return (await self._grants.get(login_name) or ()) if _can_exist(login_name) else ()

    def peek_grants(self, login_name: str) -> tuple[Grant, ...] | None:
        """As `grants`, but only what is known and fresh now; None when it must be asked."""
        return self._grants.peek(login_name)

    def peek_kept_grants(self, login_name: str) -> Kept | None:
        """The same, as an answer that may be held on to."""
        return self._grants.peek_kept(login_name)

    # -- news

    def subscribe(self, callback: Subscriber) -> Callable[[], None]:
        """Call ``callback(kind, key)`` after each invalidation; what comes back ends that.

        ``Kind.ALL`` (key "") also when news may have been missed.
        """
        self._subscribers.append(callback)
        return lambda: self._subscribers.remove(callback)

    def stats(self) -> dict[str, int]:
        """Counters since the start, and sizes, for metrics."""
        figures = {
            "lookups": self._meta.lookups,
            "lookup_failures": self._meta.failures,
            "listener_connected": int(self._listener.connected),
            "listener_connects": self._listener.connects,
            "notifications": self._listener.notifications,
            "cancels_sent": self.cancels.sent,
            "cancels_refused": self.cancels.refused,
            "cancels_carried_out": self.cancels.carried_out,
        }
        for name, cache in self._caches().items():
            figures[f"{name}_entries"] = len(cache)
            figures[f"{name}_hits"] = cache.hits
            figures[f"{name}_misses"] = cache.misses
            figures[f"{name}_loads"] = cache.loads
            figures[f"{name}_failures"] = cache.failures
            figures[f"{name}_stale_served"] = cache.stale_served
            figures[f"{name}_invalidations"] = cache.invalidations
        return figures

    def _invalidate(self, kind: Kind, key: str) -> None:
        if kind is Kind.LOGIN:
            self._logins.invalidate(key)
            self._api_keys.invalidate(key)
            self._grants.invalidate(key)
        elif kind is Kind.OWNER:
            self._owners.invalidate(key)
        else:
            for cache in self._caches().values():
                cache.invalidate_all()
        self._tell(kind, key)

    def _flush(self) -> None:
        """News may have been missed: trust nothing, but keep it for an outage."""
        self._meta.renew_connections()
        for cache in self._caches().values():
            cache.expire_all()
        self._tell(Kind.ALL, "")
        self.on_orders()

    def _tell(self, kind: Kind, key: str) -> None:
        for callback in tuple(self._subscribers):
            try:
                callback(kind, key)
            except Exception:
                logger.exception("a subscriber to invalidations failed")

    def _ttl_s(self) -> float:
        """Nobody tells us of changes while we don't listen, so answers are kept briefly then."""
        if self._listener.connected:
            return self._settings.ttl_s
        return min(self._settings.ttl_s, self._settings.negative_ttl_s)

    def _cache(self, load: Callable[[str], Awaitable[V | None]]) -> SingleFlightCache[str, V]:
        return SingleFlightCache(
            load,
            self._clock,
            entries_max=self._settings.cache_entries_max,
            ttl_s=self._ttl_s,
            negative_ttl_s=self._settings.negative_ttl_s,
            outage_ttl_s=self._settings.outage_ttl_s,
        )

    def _caches(self) -> Mapping[str, SingleFlightCache[str, Any]]:
        return {
            "login": self._logins,
            "owner": self._owners,
            "api_key": self._api_keys,
            "grant": self._grants,
        }


def _can_exist(name: str) -> bool:
    """Whether the meta database could hold such a name at all; if not, it isn't asked."""
    if not name or "\0" in name or len(name) > NAME_BYTES_MAX:
        return False
    try:
        return len(name.encode()) <= NAME_BYTES_MAX
    except UnicodeEncodeError:
        return False
