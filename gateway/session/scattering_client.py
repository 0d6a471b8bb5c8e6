"""A client whose reads may go to several databases at once: operators, and service logins."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from gateway.errors import GatewayError, NoRoute
from gateway.protocol import messages
from gateway.router.identity import Grant, LoginKind
from gateway.router.roaming import SAID_NOTHING, Said, scattered
from gateway.router.route import NeedOwner, Reject
from gateway.router.topology import Shard
from gateway.session.client import Phase
from gateway.session.context import Context
from gateway.session.demands import has_comment, said_in
from gateway.session.guest import Guest
from gateway.session.merge import Merge
from gateway.session.reading_client import ReadingSession
from gateway.session.scatter import Scatter, possible
from gateway.session.unit import Ask, Unit


class ScatteringSession(ReadingSession):
    """An operator's client after its login; the base of a service login's."""

    __slots__ = ("_scatter",)

    def __init__(self, context: Context, transport: asyncio.Transport, guest: Guest) -> None:
        super().__init__(context, transport, guest)
        self._scatter: Scatter | None = None

    def _seek(self) -> None:
        if b"scatter" not in self._inbox.data:
            ReadingSession._seek(self)
            return
        self._unit = self._reader.unit(self._inbox.data)
        if not self._scatters():
            ReadingSession._seek(self)

    def _scatters(self) -> bool:
        """Whether the unit at the front asks for all databases; it is then under way."""
        try:
            said = _scatter_of(self._unit.asks)
            if not said.scatter:
                return False
            self.phase = Phase.SEEKING
            self._check_scatter(self._unit)
        except GatewayError as error:
            self._refuse_unit(error)
            return True
        self._scatter_as(said, self._grants())
        return True

    def _scatter_as(self, said: Said, grants: tuple[Grant, ...] | None) -> None:
        chosen = scattered(self._context.snapshot, self.login, said.industry, grants)
        if isinstance(chosen, Reject):
            self._refuse_unit(chosen.error)
        elif isinstance(chosen, NeedOwner):
            self._spawn(self._learn_grants(said))
        else:
            self._ask_all(chosen, said.column)

    def _grants(self) -> tuple[Grant, ...] | None:
        if self.login.kind is not LoginKind.SERVICE:
            return ()
        return self._context.directory.peek_grants(self.login.name)

    async def _learn_grants(self, said: Said) -> None:
        try:
            grants = await self._context.directory.grants(self.login.name)
        except GatewayError as error:
            self._task = None
            self._refuse_unit(error)
            return
        self._task = None
        self._scatter_as(said, grants)

    def _check_scatter(self, unit: Unit) -> None:
        """Raises NoRoute for what can't be asked of several databases."""
        if self._ready() != messages.READY_IDLE:
            raise NoRoute("a transaction stays in one database: no scattered reads in it")
        if not unit.ends_ready or not possible(self._inbox.data[: unit.size]):
            raise NoRoute(
                "only a query by itself can be scattered",
                hint="Send it in one piece, and without a name when it is prepared.",
            )
        if not all(ask.facts.known and ask.facts.read_only for ask in unit.asks):
            raise NoRoute("only a statement that provably reads can be scattered")

    def _ask_all(self, shards: Sequence[Shard], column: str) -> None:
        if self._parks(shards, ()):
            return
        pools, operator = self._context.pools, self.login.kind is LoginKind.OPERATOR
        self._scatter = Scatter(
            self._inbox.data[: self._unit.size],
            self.holdings.settings,
            Merge([shard.name for shard in shards], column),
            self._transport.write,
            self._gathered,
        )
        chosen = [pools.get(shard.primary, operator=operator) for shard in shards]
        self._scatter.begin(chosen, self.number)

    def _gathered(self) -> None:
        """All databases have answered."""
        self._scatter = None
        self.phase = Phase.IDLE
        self._inbox.data = self._inbox.data[self._unit.size :]
        self.transactions += 1
        self._context.counters.transactions += 1
        self._transport.write(self._ready())
        self._go_on()

    # --- as long as it runs ---

    def cancel(self) -> asyncio.Task[None] | None:
        if self._scatter is None:
            return ReadingSession.cancel(self)
        self._scatter.cancel()
        return None

    def _stop_seeking(self) -> None:
        ReadingSession._stop_seeking(self)
        scatter, self._scatter = self._scatter, None
        if scatter is not None:
            scatter.abandon()

    def pause_writing(self) -> None:
        ReadingSession.pause_writing(self)
        if self._scatter is not None:
            self._scatter.pause()

    def resume_writing(self) -> None:
        ReadingSession.resume_writing(self)
        if self._scatter is not None:
            self._scatter.resume()


def _scatter_of(asks: Sequence[Ask]) -> Said:
    """What comments say of scattering. Raises NoRoute."""
    said = [said_in(ask.text) for ask in asks if has_comment(ask.text)]
    return next((one for one in said if one.scatter), SAID_NOTHING)
