"""Ends transactions over several databases that somebody has left prepared and in doubt.

The log decides: what it says is committed gets committed; all else is aborted, which is written
down first, so that nobody can decide otherwise meanwhile. Run again and again, by one worker at a
time; safe to run beside those who are in the middle of it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import asyncpg

from gateway.directory.meta import describe
from gateway.directory.two_phase_log import DRIVER_ERRORS, Decision, TwoPhaseLog, connect
from gateway.errors import DirectoryUnavailable
from gateway.settings.dsn import Dsn

_log = logging.getLogger(__name__)

PREFIX = "gateway_"

_PREPARED = """
    SELECT gid, database, owner, extract(epoch FROM now() - prepared)::float8 AS age_s
    FROM pg_prepared_xacts WHERE starts_with(gid, $1)
"""


@dataclass(frozen=True, slots=True)
class InDoubt:
    """A prepared transaction of ours, in a database; its ``age_s`` in seconds."""

    gid: str
    place: Dsn
    owner: str
    age_s: float

    @property
    def transaction(self) -> str:
        """What the log knows it by."""
        return transaction_of(self.gid)


def gid_of(transaction: str, number: int) -> str:
    """The name of a branch, as its database knows it."""
    return f"{PREFIX}{transaction}_{number}"


def transaction_of(gid: str) -> str:
    """The transaction that a branch is of."""
    return gid.removeprefix(PREFIX).rpartition("_")[0]


class Resolver:
    """Looks through the databases at ``places()``; leaves alone what ``busy()`` says is ours now.

    What is younger than ``grace_s`` is left alone, too, for somebody may be about to end it.
    """

    def __init__(
        self,
        log: TwoPhaseLog,
        places: Callable[[], Iterable[Dsn]],
        busy: Callable[[], Iterable[str]],
        timeout_s: float,
    ) -> None:
        self._log = log
        self._places = places
        self._busy = busy
        self._timeout_s = timeout_s
        self.committed = 0
        self.aborted = 0
        self.closed = False
        """The gateway is being stopped: no further round."""

    async def round(self, grace_s: float) -> None:
        """End what can be ended now. Raises DirectoryUnavailable when the log can't be asked."""
        async with self._log.turn() as mine:
            if not mine:
                return
            # The decisions are read before the databases: what isn't prepared then is over.
            entries = await self._log.commits(grace_s)
            found, unseen = await self.look()
            busy = set(self._busy())
            for one in found:
                if one.age_s >= grace_s and one.transaction not in busy:
                    await self._end(one)
            open_still = {one.transaction for one in found} | busy
            for entry in entries:
                if entry.transaction not in open_still and not unseen:
                    await self._log.forget(entry.transaction)

    async def in_doubt(self) -> list[tuple[InDoubt, str]]:
        """What is prepared, each with what is decided of it so far, oldest first.

        Raises DirectoryUnavailable.
        """
        found, _ = await self.look()
        committed = {entry.transaction for entry in await self._log.commits(0.0)}
        return [
            (one, Decision.COMMIT if one.transaction in committed else "")
            for one in sorted(found, key=lambda one: -one.age_s)
        ]

    async def look(self) -> tuple[list[InDoubt], list[Dsn]]:
        """What is prepared, and the databases that could not be asked.

        One database tells of all on its server. Raises DirectoryUnavailable.
        """
        prefix = f"{PREFIX}{await self._log.name()}_"
        servers: dict[tuple[str, int], list[Dsn]] = {}
        for place in self._places():
            servers.setdefault((place.host, place.port), []).append(place)
        looks = [self._look(places, prefix) for places in servers.values()]
        found: list[InDoubt] = []
        unseen: list[Dsn] = []
        for places, answer in zip(servers.values(), await asyncio.gather(*looks), strict=True):
            if answer is None:
                unseen += places
            else:
                found += answer
        return found, unseen

    async def _look(self, places: Sequence[Dsn], prefix: str) -> list[InDoubt] | None:
        by_name = {place.database: place for place in places}
        for place in places:
            try:
                connection = await connect(place, self._timeout_s)
                try:
                    rows = await connection.fetch(_PREPARED, prefix)
                finally:
                    connection.terminate()
            except DRIVER_ERRORS as error:
                _log.warning("two-phase: %s can't be asked: %s", place.place, describe(error))
                continue
            return [
                InDoubt(row["gid"], by_name[row["database"]], row["owner"], row["age_s"])
                for row in rows
                if row["database"] in by_name
            ]
        return None

    async def _end(self, one: InDoubt) -> None:
        decision = await self._log.decide(one.transaction, Decision.ABORT)
        verb = "COMMIT" if decision is Decision.COMMIT else "ROLLBACK"
        try:
            connection = await connect(one.place, self._timeout_s)
            try:
                quoted = '"' + one.owner.replace('"', '""') + '"'
                await connection.execute(f"SET ROLE {quoted}")  # only its owner may end it
                await connection.execute(f"{verb} PREPARED '{one.gid}'")
            finally:
                connection.terminate()
        except asyncpg.UndefinedObjectError:
            return  # somebody else was faster
        except DRIVER_ERRORS as error:
            _log.warning(
                "two-phase: %s in %s stays in doubt: %s",
                one.gid,
                one.place.place,
                describe(error),
            )
            return
        self.committed += decision is Decision.COMMIT
        self.aborted += decision is Decision.ABORT
        _log.warning(
            "two-phase: %s in %s was left prepared for %.1f s: %s",
            one.gid,
            one.place.place,
            one.age_s,
            "committed, as its log says" if decision is Decision.COMMIT else "rolled back",
        )


async def keep_resolving(
    resolver: Resolver, wanted: Callable[[], bool], interval_s: Callable[[], float]
) -> None:
    """A round at once and then every so often, as long as it is wanted."""
    while not resolver.closed:  # a cancellation may get lost in asyncpg, when it comes too late
        if wanted():
            try:
                await resolver.round(interval_s())
            except DirectoryUnavailable as error:
                _log.error("two-phase: nothing can be resolved now: %s", error.message)
        await asyncio.sleep(interval_s())
