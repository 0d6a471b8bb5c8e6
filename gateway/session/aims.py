"""What it takes to go to a route's endpoint, found once: the pool, and what a client may use there.

One connection of a service login goes to another owner with each statement, so what was found for
an owner is remembered for all clients of a login, until the settings change.
"""

from __future__ import annotations

from collections.abc import Mapping

from gateway.pool.pool import Pool
from gateway.pool.pools import Pools
from gateway.router.identity import Login, LoginKind
from gateway.router.recent import Recent
from gateway.router.route import Route
from gateway.router.topology import Snapshot
from gateway.session.allowance import Allowance, Budgets
from gateway.settings.model import PoolMode

Modes = Mapping[tuple[str, int, str], PoolMode]
"""By address, when a client gives its server back."""

_ENTRIES_MAX = 8_192
"""About 0.4 KB each; the owners that are asked for most stay."""


class Aim:
    """A pool, and what one login's clients may use of it for one owner."""

    __slots__ = ("allowance", "kind", "limited", "plan", "pool", "tenant", "whole_session")

    def __init__(
        self, pool: Pool, allowance: Allowance, login: Login, target: Route, whole_session: bool
    ) -> None:
        self.pool = pool
        self.allowance = allowance
        self.tenant = allowance.tenant
        self.limited = bool(allowance.buckets)
        """Whether statements are counted against rates."""
        self.kind = login.kind
        self.plan = target.plan
        self.whole_session = whole_session
        """Clients keep their server until they leave."""


class Aims:
    """Those of one worker's clients."""

    __slots__ = ("_budgets", "_epoch", "_found", "_modes", "_pools", "_snapshot")

    def __init__(self, pools: Pools, budgets: Budgets) -> None:
        self._pools = pools
        self._budgets = budgets
        self._found = Recent(_ENTRIES_MAX, _ENTRIES_MAX)
        self._snapshot: Snapshot | None = None
        self._modes: Modes = {}
        self._epoch = -1

    def of(self, login: Login, target: Route, snapshot: Snapshot, modes: Modes) -> Aim:
        """How a client of ``login`` goes to ``target``, as the settings are now.

        Raises KeyError for an endpoint that is not in them any more.
        """
        epoch = self._budgets.epoch
        if snapshot is not self._snapshot or modes is not self._modes or epoch != self._epoch:
            self._found.clear()
            self._snapshot, self._modes, self._epoch = snapshot, modes, epoch
        # An endpoint is known by its place in memory: it lives as long as the snapshot.
        key = (target.owner, id(target.endpoint), login.name)
        found: Aim | None = self._found.get(key)
        if found is None or found.plan != target.plan or found.kind is not login.kind:
            found = self._make(login, target)
            self._found.keep(key, found, 1)
        return found

    def _make(self, login: Login, target: Route) -> Aim:
        endpoint = target.endpoint
        pool = self._pools.get(endpoint, operator=login.kind is LoginKind.OPERATOR)
        whole = self._modes.get(endpoint.address) is PoolMode.SESSION
        return Aim(pool, self._budgets.allowance(login, target), login, target, whole)
