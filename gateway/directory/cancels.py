"""CancelRequests that reached another gateway than their client's, passed on by NOTIFY.

Where a load balancer stands before several gateways, a CancelRequest may arrive at any of them. Who
finds that a key is none of its own asks all gateways on the same meta database, and whoever has the
client answers when the cancel is done. Anybody who may connect to the meta database can LISTEN, so
what is said is sealed (AES-GCM) with a key that only those have who know the login to the meta
database; it can't be read, made up or sent again.

Source: PostgreSQL documentation, "Message Flow", section "Canceling Requests in Progress".
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import json
import logging
import os
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import NamedTuple

from cachetools import TTLCache
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from gateway.clock import Clock
from gateway.errors import DirectoryUnavailable
from gateway.settings.dsn import Dsn

logger = logging.getLogger(__name__)

CHANNEL = "gateway_cancel"

ANSWER_S = 1.0
"""Longest wait for the gateway whose client it is."""
PAUSE_S = 0.05
"""Between two notifications of one worker: a flood of wrong keys costs the meta database no more
than 20 a second, and right keys travel with them."""
KEYS_PER_MESSAGE_MAX = 64
"""PostgreSQL refuses payloads of 8000 bytes and more; 64 of the longest keys take 7200."""
WAITING_MAX = 200
"""Keys that wait to be sent or answered; one more is not asked for. Each holds up a login."""

_SECRET_BYTES_MAX = 32
"""Of the keys that gateways give their clients."""
_AGE_MAX_S = 30.0
"""Gateways' clocks may differ by less than this."""
_SEEN_MAX = 20_000
_NONCE_BYTES = 12

CarryOut = Callable[[int, bytes], Awaitable[bool]]
Send = Callable[[str], Awaitable[None]]


class Key(NamedTuple):
    """What a client cancels with: its number and its secret."""

    number: int
    secret: bytes


class _Message(NamedTuple):
    """``done`` says that these keys were carried out, otherwise that they are asked for."""

    keys: list[Key]
    done: bool


class Seal:
    """Makes and opens payloads. ``now`` is seconds of wall-clock time, alike in all gateways."""

    def __init__(self, meta: Dsn, now: Clock) -> None:
        login = "\0".join(("gateway cancel requests", meta.user, meta.password, meta.database))
        self._cipher = AESGCM(hashlib.sha256(login.encode()).digest())
        self._now = now
        self._seen: TTLCache[bytes, bool] = TTLCache(_SEEN_MAX, 3 * _AGE_MAX_S, timer=now)

    def close(self, message: _Message) -> str:
        """The payload of a notification."""
        keys = [[key.number, key.secret.hex()] for key in message.keys]
        plain = json.dumps([self._now(), message.done, keys], separators=(",", ":"))
        nonce = os.urandom(_NONCE_BYTES)
        sealed = nonce + self._cipher.encrypt(nonce, plain.encode(), None)
        return base64.b85encode(sealed).decode()

    def open(self, payload: str) -> _Message | None:
        """What was said; None for what no gateway has made, is old, or was heard before."""
        try:
            sealed = base64.b85decode(payload)
            nonce = sealed[:_NONCE_BYTES]
            plain = self._cipher.decrypt(nonce, sealed[_NONCE_BYTES:], None)
        except (ValueError, binascii.Error, InvalidTag):
            return None
        made_at, done, keys = json.loads(plain)
        if abs(self._now() - made_at) > _AGE_MAX_S or nonce in self._seen:
            return None
        self._seen[nonce] = True
        return _Message([Key(number, bytes.fromhex(secret)) for number, secret in keys], done)


class CancelRelay:
    """Passes cancel requests on, and carries out what others pass on.

    ``send`` notifies all gateways, this one too; it raises DirectoryUnavailable when it can't.
    """

    def __init__(self, seal: Seal, send: Send) -> None:
        self._seal = seal
        self._send = send
        self._carry_out: CarryOut | None = None
        self._asked: dict[Key, asyncio.Future[bool]] = {}
        self._unsent: list[Key] = []
        self._sending: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.sent = 0
        self.refused = 0
        self.carried_out = 0

    def serve(self, carry_out: CarryOut) -> None:
        """``carry_out(number, secret)`` cancels a client of ours; False when it is nobody's."""
        self._carry_out = carry_out

    async def close(self) -> None:
        """Send and answer nothing more."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def forward(self, number: int, secret: bytes) -> bool:
        """Have any other gateway cancel it; True once that is done.

        False when nobody has said so within ANSWER_S, or too many wait already.
        """
        if len(secret) > _SECRET_BYTES_MAX:
            return False
        key = Key(number, secret)
        asked = self._asked.get(key)
        if asked is None:
            if len(self._asked) >= WAITING_MAX:
                self.refused += 1
                return False
            asked = self._ask(key)
        return await asyncio.shield(asked)

    def heard(self, payload: str) -> None:
        """A notification on CHANNEL."""
        message = self._seal.open(payload)
        if message is None:
            return
        if message.done:
            for key in message.keys:
                self._settle(key, done=True)
        elif self._carry_out is not None:
            self._spawn(self._answer(message.keys, self._carry_out))

    # --- asking ---

    def _ask(self, key: Key) -> asyncio.Future[bool]:
        loop = asyncio.get_running_loop()
        asked = self._asked[key] = loop.create_future()
        loop.call_later(ANSWER_S, self._settle, key, False)
        self._unsent.append(key)
        if self._sending is None:
            self._sending = self._spawn(self._send_all())
        return asked

    def _settle(self, key: Key, done: bool) -> None:
        asked = self._asked.pop(key, None)
        if asked is not None and not asked.done():
            asked.set_result(done)

    async def _send_all(self) -> None:
        """The first at once, what comes while that is under way all together."""
        try:
            while self._unsent:
                keys = self._unsent[:KEYS_PER_MESSAGE_MAX]
                del self._unsent[:KEYS_PER_MESSAGE_MAX]
                await self._notify(keys, done=False)
                await asyncio.sleep(PAUSE_S)
        finally:
            self._sending = None

    async def _notify(self, keys: Iterable[Key], *, done: bool) -> None:
        self.sent += 1
        try:
            await self._send(self._seal.close(_Message(list(keys), done)))
        except DirectoryUnavailable:
            logger.warning("a cancel request could not be passed on: no meta database")

    # --- answering ---

    async def _answer(self, keys: list[Key], carry_out: CarryOut) -> None:
        outcomes = await asyncio.gather(*(carry_out(key.number, key.secret) for key in keys))
        done = [key for key, found in zip(keys, outcomes, strict=True) if found]
        if done:
            self.carried_out += len(done)
            await self._notify(done, done=True)

    def _spawn(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
