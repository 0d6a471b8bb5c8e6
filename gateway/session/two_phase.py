"""Ending a transaction over several databases: all of them commit, or none does.

One branch that wrote needs no more than to be the last to commit. Several are prepared first; then
the decision is written to the log in the meta database, and only then they are committed. What
can't be ended here is left to the resolver. Why so: docs/decisions/0007-two-phase.md.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Protocol

from gateway.directory.two_phase_log import Decision
from gateway.directory.two_phase_resolver import gid_of
from gateway.errors import (
    CompletionUnknown,
    DirectoryUnavailable,
    GatewayError,
    ServerSaid,
    TransactionFailed,
)
from gateway.session.branches import Branch

_log = logging.getLogger(__name__)

_ANSWER_S = 30.0
"""Longest time that a branch may take to prepare or end itself."""
_NO_SUCH = "42704"
_CLOSE_POLL_S = 0.02


class Log(Protocol):
    """Where decisions are written; everything raises DirectoryUnavailable."""

    async def name(self) -> str:
        """What tells its transactions from others."""

    async def decide(
        self, transaction: str, decision: Decision, branches: Sequence[str] = ()
    ) -> Decision:
        """Write a decision; what is decided."""

    async def forget(self, transaction: str) -> None:
        """All branches are committed."""


@dataclass(frozen=True, slots=True)
class Settled:
    """How it went: where the client's own command is to be run, or what to tell it instead.

    ``keep`` is None when no server is left. ``ended``: its transaction is over already.
    """

    keep: Branch | None
    error: GatewayError | None = None
    ended: bool = False


class TwoPhase:
    """The commits under way in this worker."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._instance = secrets.token_hex(6)
        self._numbers = count(1)
        self._tasks: set[asyncio.Task[None]] = set()
        self.under_way: set[str] = set()
        """By the log's names."""
        self.capable: set[str] = set()
        """Databases that can prepare transactions."""
        self.commits = 0
        """Committed by two phases since the start."""

    def settle(
        self,
        branches: Sequence[Branch],
        current: Branch,
        *,
        commit: bool,
        clean: bool,
        then: Callable[[Settled], None],
    ) -> None:
        """End all branches but the one where the client's own command will be run.

        ``current`` is the one that it was sent to. It goes on to its end whatever becomes of the
        client. ``clean``: nothing else than the transaction is left on the servers.
        """

        async def work() -> None:
            try:
                settled = await self._end(branches, current, commit=commit)
            except Exception:
                _log.exception("the end of a transaction over several databases failed")
                settled = Settled(None, CompletionUnknown("the transaction may be committed"))
            for branch in branches:
                if branch is not settled.keep:
                    branch.leave(clean=clean)
            then(settled)

        task = asyncio.get_running_loop().create_task(work())
        self._tasks.add(task)
        task.add_done_callback(self._over)

    async def close(self, timeout_s: float) -> None:
        """Let what is under way end; the resolver takes care of what does not."""
        for _ in range(int(timeout_s / _CLOSE_POLL_S)):
            if not self._tasks:
                return
            await asyncio.sleep(_CLOSE_POLL_S)

    def _over(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("a two-phase commit failed", exc_info=error)

    # --- the steps ---

    async def _end(self, branches: Sequence[Branch], current: Branch, *, commit: bool) -> Settled:
        if commit:
            return await self._commit(branches, current)
        await self._roll_back(one for one in branches if one is not current)
        return Settled(_alive([current]))

    async def _commit(self, branches: Sequence[Branch], current: Branch) -> Settled:
        failed = next((one for one in branches if not one.open), None)
        if failed is not None:
            return await self._fail(branches, failed.lost or _aborted())
        writers = [one for one in branches if one.stay.wrote]
        last = (writers or [current])[0] if len(writers) < 2 else None
        readers = [one for one in branches if not one.stay.wrote and one is not last]
        error = await _all(readers, lambda number: "COMMIT")
        if error is not None:
            return await self._fail(branches, error)
        if last is None:
            return await self._two_phases(branches, writers)
        return Settled(last) if last.open else await self._fail(branches, last.lost or _aborted())

    async def _two_phases(self, branches: Sequence[Branch], writers: Sequence[Branch]) -> Settled:
        try:
            transaction = f"{await self._log.name()}_{self._instance}_{next(self._numbers)}"
        except DirectoryUnavailable as unavailable:
            return await self._fail(branches, unavailable)
        gids = [gid_of(transaction, number) for number in range(1, len(writers) + 1)]
        self.under_way.add(transaction)
        try:
            error = await _all(writers, lambda number: f"PREPARE TRANSACTION '{gids[number]}'")
            if error is not None:
                await self._take_back(writers, gids)
                return await self._fail(branches, error)
            named = [f"{one.pool.dsn.place} {gid}" for one, gid in zip(writers, gids, strict=True)]
            error = await self._decide(transaction, named)
            if isinstance(error, CompletionUnknown):
                return Settled(_alive(branches), error, ended=True)
            if error is not None:
                await self._take_back(writers, gids)
                return await self._fail(branches, error)
            await self._finish(transaction, writers, gids)
            self.commits += 1
            return Settled(_alive(branches), ended=True)
        finally:
            self.under_way.discard(transaction)

    async def _decide(self, transaction: str, branches: Sequence[str]) -> GatewayError | None:
        """Write that all is to be committed; what stands against it."""
        try:
            decided = await self._log.decide(transaction, Decision.COMMIT, branches)
        except DirectoryUnavailable as first:
            try:  # it may be written all the same: who comes second learns it
                decided = await self._log.decide(transaction, Decision.ABORT)
            except DirectoryUnavailable:
                _log.error("two-phase: %s is in doubt: %s", transaction, first.message)
                return CompletionUnknown(
                    "nobody can tell yet whether the transaction is committed",
                    detail=f"{first.message}. Its name is {transaction}.",
                    hint="It will be, in all databases or in none, when the meta database is back.",
                )
            if decided is Decision.ABORT:
                return first
        if decided is Decision.COMMIT:
            return None
        return TransactionFailed(
            "the transaction took too long between its two phases, and was rolled back",
            hint="Repeat it.",
        )

    async def _finish(
        self, transaction: str, writers: Sequence[Branch], gids: Sequence[str]
    ) -> None:
        """It is decided: commit every branch; the resolver does what we can't."""
        outcomes = await asyncio.gather(
            *(
                _said(one, f"COMMIT PREPARED '{gid}'")
                for one, gid in zip(writers, gids, strict=True)
            )
        )
        bad = [one for one in outcomes if one is not None and one.sqlstate != _NO_SUCH]
        if bad:
            _log.warning("two-phase: %s is left to the resolver: %s", transaction, bad[0].message)
            return
        try:
            await self._log.forget(transaction)
        except DirectoryUnavailable as error:
            _log.warning("two-phase: %s stays in the log: %s", transaction, error.message)

    async def _take_back(self, writers: Sequence[Branch], gids: Sequence[str]) -> None:
        """Roll back what is prepared; what was not says that there is no such thing."""
        await asyncio.gather(
            *(
                _said(one, f"ROLLBACK PREPARED '{gid}'")
                for one, gid in zip(writers, gids, strict=True)
                if one.lost is None and not one.open
            )
        )

    async def _fail(self, branches: Sequence[Branch], error: GatewayError) -> Settled:
        """Roll back everywhere."""
        await self._roll_back(branches)
        return Settled(_alive(branches), error, ended=True)

    async def _roll_back(self, branches: Iterable[Branch]) -> None:
        await _all([one for one in branches if one.lost is None], lambda number: "ROLLBACK")


async def _all(branches: Sequence[Branch], sql: Callable[[int], str]) -> GatewayError | None:
    """Run it on all at once; the first error, when all have answered."""
    errors = await asyncio.gather(*(_said(one, sql(number)) for number, one in enumerate(branches)))
    return next((error for error in errors if error is not None), None)


async def _said(branch: Branch, sql: str) -> GatewayError | None:
    """Run it; the error."""
    try:
        answer = await branch.ask(sql, _ANSWER_S)
    except GatewayError as error:
        return error
    return None if answer.error is None else ServerSaid(answer.error)


def _alive(branches: Sequence[Branch]) -> Branch | None:
    return next((one for one in branches if one.lost is None), None)


def _aborted() -> GatewayError:
    return TransactionFailed("a branch of the transaction has failed, and all were rolled back")
