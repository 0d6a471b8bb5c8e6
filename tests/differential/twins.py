"""Runs a script twice at once: each client through the gateway, its twin with PostgreSQL itself.

Every step is first taken through the gateway, up to its last answer; then the twin does the same.
So both databases see the same order of events, and whoever has to wait for a server (there are
fewer than clients) comes later on both sides. No step can run beside another one.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic

import asyncpg

from gateway.protocol import messages
from gateway.worker import Worker
from tests.differential.compare import Line, Normaliser, difference
from tests.differential.inside import Different, Halfway, Inside
from tests.differential.script import SYNC, How, Leave, Say, Script, Step, allowed, name_of
from tests.differential.talk import Talker
from tests.wire import Message, Place

HANG_S = 8.0
"""A step that takes longer hangs."""

HELPER = "differential_helper"
"""A role without rights of its own, for SET ROLE."""

NOTIFIED_S = 1.0
"""A server process is told of a notification by a signal, which may come after a Sync."""

_LOCK_TIMEOUT_MS = 150
"""Whoever waits for a lock gets an error: the other client can't go on before."""

_CONTENT = Path(__file__).with_name("content.sql").read_text()
_ROWS = Path(__file__).with_name("rows.sql").read_text()
_POLL_S = 0.002


@dataclass(slots=True)
class Pair:
    """One client: its connection through the gateway, and its twin's."""

    number: int
    through: Talker
    direct: Talker
    backlog: deque[tuple[int, Step]] = field(default_factory=deque)
    waits: tuple[int, Say] | None = None
    """What was sent through the gateway and waits for a server."""
    listens: bool = False


class Twins:
    """Two databases of the same content, one of them behind a gateway."""

    def __init__(self, worker: Worker, through: Place, url: str, direct_url: str) -> None:
        self._inside = Inside(worker, url)
        self._through = through
        self._direct = Place.of(direct_url)
        self._urls = {"through": url, "direct": direct_url}
        self._admins: list[asyncpg.Connection] = []
        self._pairs: dict[int, Pair] = {}
        self._names = {"direct": Normaliser(), "through": Normaliser()}
        self._startup: tuple[dict[str, str], ...] = ()
        self._notified: dict[int, tuple[list[Line], list[Line]]] = {}

    # --- around all scripts ---

    async def start(self) -> None:
        """Make the role, and both databases ready."""
        for url in self._urls.values():
            admin = await asyncpg.connect(url, statement_cache_size=0)
            self._admins.append(admin)
            database = Place.of(url).database
            with contextlib.suppress(asyncpg.DuplicateObjectError):
                await admin.execute(f"CREATE ROLE {HELPER}")
            await admin.execute(
                f'ALTER DATABASE "{database}" SET lock_timeout = {_LOCK_TIMEOUT_MS}'
            )

    async def stop(self) -> None:
        for admin in self._admins:
            await admin.close()

    @property
    def places(self) -> tuple[Place, Place]:
        """The gateway, and PostgreSQL itself; with the content once a script has been played."""
        return self._through, self._direct

    # --- a script ---

    async def play(self, script: Script) -> None:
        """Raises Different, Halfway."""
        await self._begin(script)
        try:
            for at, (client, step) in enumerate(script.steps):
                pair = await self._pair(client)
                pair.backlog.append((at, step))
                await self._pump()
            await self._all_leave()
            await self._inside.look_at_servers()
        except Different as error:
            raise Different(f"{script!r}\n{error}") from None
        finally:
            await self._end()

    async def _begin(self, script: Script) -> None:
        self._startup = script.startup
        self._names = {"direct": Normaliser(), "through": Normaliser()}
        self._notified.clear()
        self._inside.forget_sequences()
        for admin in self._admins:
            await _prepare(admin)
        for client in sorted({client for client, _ in script.steps}):
            await self._pair(client)

    async def _end(self) -> None:
        for pair in self._pairs.values():
            await self._drop(pair, How.RST)
        self._pairs.clear()
        await self._gone()
        await self._inside.close_idle()
        for admin in self._admins:
            await _end_prepared(admin)

    # --- clients ---

    async def _pair(self, number: int) -> Pair:
        pair = self._pairs.get(number)
        if pair is None:
            settings = self._startup[number]
            through = await Talker.connect(self._through, settings)
            direct = await Talker.connect(self._direct, settings)
            pair = self._pairs[number] = Pair(number, through, direct)
            for side, talker in (("direct", direct), ("through", through)):
                self._names[side].client(talker.wire.pid, name_of(number))
            if through.wire.parameters != direct.wire.parameters:
                raise Different(
                    f"{name_of(number)} is told at its login\n"
                    f"  >>> PostgreSQL: {direct.wire.parameters}\n"
                    f"  >>> gateway:    {through.wire.parameters}"
                )
        return pair

    async def _drop(self, pair: Pair, how: How) -> None:
        for talker in (pair.through, pair.direct):
            if how is How.RST and not talker.closed:
                talker.wire.rst()
            else:
                talker.wire.fin()
            await talker.end()

    async def _leave(self, at: int, pair: Pair, step: Leave) -> None:
        if step.how is How.GOODBYE and pair.waits is None and not pair.direct.owed.copying:
            for talker in (pair.through, pair.direct):
                talker.wire.send(messages.TERMINATE)
                await self._closed(at, pair, talker)
            self._compare(at, pair)
        elif step.last and pair.waits is None:
            for talker in (pair.through, pair.direct):
                await talker.send([step.last])
        del self._pairs[pair.number]
        await self._drop(pair, step.how)
        await self._gone()

    async def _closed(self, at: int, pair: Pair, talker: Talker) -> None:
        end = monotonic() + HANG_S
        while not talker.closed:
            if monotonic() > end:
                raise Different(f"at {at} {name_of(pair.number)} is not let go")
            await asyncio.sleep(_POLL_S)

    async def _gone(self) -> None:
        """Wait until PostgreSQL and the gateway have done with clients that left."""
        pids = [pair.direct.wire.pid for pair in self._pairs.values()]
        end = monotonic() + HANG_S
        while await self._admins[1].fetchval(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
            " AND backend_type = 'client backend'"
            " AND pid <> pg_backend_pid() AND pid <> ALL ($1)",
            pids,
        ):
            assert monotonic() < end, "a server process of PostgreSQL does not end"
            await asyncio.sleep(_POLL_S)
        while self._inside.clients > len(self._pairs) or self._inside.in_transition():
            if monotonic() > end:
                raise Different("the gateway does not come to rest after a client has left")
            await asyncio.sleep(_POLL_S)

    async def _all_leave(self) -> None:
        while self._pairs:
            free = next((one for one in self._pairs.values() if one.waits is None), None)
            if free is None:
                raise Different("all clients wait for a server, and nobody has one")
            free.backlog.append((-1, Leave(How.GOODBYE)))
            await self._pump()

    # --- steps ---

    async def _pump(self) -> None:
        """Take steps while anybody can."""
        while await self._advance_one():
            pass

    async def _advance_one(self) -> bool:
        """One step; of those who wait, theirs who has waited longest: so the gateway does."""
        waiting = [pair for pair in self._pairs.values() if pair.waits]
        waiting.sort(key=lambda pair: pair.waits[0] if pair.waits else 0)
        free = [pair for pair in self._pairs.values() if not pair.waits]
        for pair in (*waiting, *free):
            if await self._advance(pair):
                return True
        return False

    async def _advance(self, pair: Pair) -> bool:
        """One step of a client; whether there was one."""
        if pair.waits is None:
            if not pair.backlog:
                return False
            at, step = pair.backlog.popleft()
            if isinstance(step, Leave):
                await self._leave(at, pair, step)
                return True
            step = allowed(step, pair.direct.owed)
            pair.waits = (at, step)
            await pair.through.send(pair.through.say(step.parts, step.cuts))
        elif pair.backlog and isinstance(pair.backlog[0][1], Leave):
            at, step = pair.backlog.popleft()
            assert isinstance(step, Leave)
            await self._leave(at, pair, Leave(How.RST))
            return True
        if not await self._answered(pair):
            return False
        at, said = pair.waits
        pair.waits = None
        await pair.direct.send(pair.direct.say(said.parts))
        try:
            await pair.direct.wait(HANG_S)
        except TimeoutError:
            heard = self._names["direct"].lines(pair.direct.take())
            raise Different(f"at {at} PostgreSQL does not answer, after {heard}") from None
        self._compare(at, pair)
        await self._compare_notifications(at)
        return True

    async def _answered(self, pair: Pair) -> bool:
        """Whether the gateway has given all its answers; False when it waits for a server.

        Raises Halfway.
        """
        assert pair.waits is not None
        end = monotonic() + HANG_S
        talker = pair.through
        while not talker.done:
            if self._inside.is_parked(talker.wire.pid):
                if talker.ended_one:
                    raise Halfway
                return False
            if self._inside.session(talker.wire.pid) is None:
                await asyncio.sleep(_POLL_S)
            if monotonic() > end:
                raise Different(self._hanging(pair))
            talker.news.clear()
            try:
                async with asyncio.timeout(_POLL_S):
                    await talker.news.wait()
            except TimeoutError:
                pass
        return True

    def _hanging(self, pair: Pair) -> str:
        assert pair.waits is not None
        at, _ = pair.waits
        heard = self._names["through"].lines(pair.through.take())
        session = self._inside.session(pair.through.wire.pid)
        state = "no session" if session is None else f"{session.phase!r}, pins {session.pins}"
        return (
            f"at {at} the gateway does not answer {name_of(pair.number)} ({state}), after {heard}"
        )

    # --- comparing ---

    def _compare(self, at: int, pair: Pair) -> None:
        direct, through = pair.direct.take(), pair.through.take()
        pair.listens = pair.listens or any(one.body == b"LISTEN\0" for one in direct)
        told = self._notified.setdefault(pair.number, ([], []))
        told[0].extend(self._names["direct"].lines(_notifications(direct)))
        told[1].extend(self._names["through"].lines(_notifications(through)))
        found = difference(
            self._names["direct"].lines(_answers(direct)),
            self._names["through"].lines(_answers(through)),
        )
        if found:
            raise Different(f"different at {at}, {name_of(pair.number)}:\n{found}")

    async def _compare_notifications(self, at: int) -> None:
        """They come when nobody asks: have all told what was sent before, then compare."""
        listeners = [
            pair
            for pair in self._pairs.values()
            if pair.listens and pair.waits is None and self._at_ease(pair)
        ]
        if not listeners:
            return
        end = monotonic() + NOTIFIED_S
        while True:
            await self._inside.flush_listener()
            for pair in listeners:
                await self._sync(at, pair)
            found = self._notified_differently()
            if not found:
                break
            if monotonic() > end:
                raise Different(f"notifications up to {at} of {found}")
        self._notified.clear()

    async def _sync(self, at: int, pair: Pair) -> None:
        """An answer from both sides, and whatever has come before it."""
        for talker in (pair.through, pair.direct):
            await talker.send(talker.say((SYNC,)))
            try:
                await talker.wait(HANG_S)
            except TimeoutError:
                raise Different(
                    f"at {at} {name_of(pair.number)} gets no answer to a Sync"
                ) from None
        self._compare(at, pair)

    def _notified_differently(self) -> str:
        for number, (direct, through) in self._notified.items():
            found = difference(direct, through)
            if found:
                return f"{name_of(number)}:\n{found}"
        return ""

    def _at_ease(self, pair: Pair) -> bool:
        """Whether nothing is under way for a client, on either side."""
        session = self._inside.session(pair.through.wire.pid)
        held = session is None or session._input_held
        return pair.direct.owed.idle and pair.through.owed.idle and not held


_SHAPE = """
SELECT pg_catalog.md5(pg_catalog.string_agg(a::text, ' ' ORDER BY a::text)) FROM (
  SELECT nspname, relname, attname, atttypid, attnum FROM pg_catalog.pg_attribute
  JOIN pg_catalog.pg_class c ON c.oid = attrelid
  JOIN pg_catalog.pg_namespace n ON n.oid = relnamespace
  WHERE nspname !~ '^pg_' AND nspname <> 'information_schema') AS a
"""


async def _end_prepared(admin: asyncpg.Connection) -> None:
    """Their names are the whole server's, which serves more databases on the gateway's side."""
    prepared = "SELECT gid FROM pg_prepared_xacts WHERE database = current_database()"
    for row in await admin.fetch(prepared):
        await admin.execute(f"ROLLBACK PREPARED '{row['gid']}'")


async def _prepare(admin: asyncpg.Connection) -> None:
    """The content as at the beginning; made anew only where tables have changed."""
    await admin.execute("SET lock_timeout = 0")
    try:
        made = await admin.fetchval("SELECT shape FROM differential.made")
    except asyncpg.UndefinedTableError:
        made = None
    if made is None or made != await admin.fetchval(_SHAPE):
        await admin.execute(_CONTENT)
        await admin.execute(f"INSERT INTO differential.made {_SHAPE}")
    await admin.execute(_ROWS)


def _notifications(heard: list[Message]) -> list[Message]:
    """Notifications come between other answers, at a time that nothing promises."""
    return [one for one in heard if one.tag == "A"]


def _answers(heard: list[Message]) -> list[Message]:
    return [one for one in heard if one.tag != "A"]
