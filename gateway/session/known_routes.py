"""Where an owner's statements go, remembered for as long as all that decided it holds.

For service logins, whose every statement may be another owner's. No I/O.
"""

from __future__ import annotations

from gateway.directory.cache import Kept
from gateway.directory.directory import Directory
from gateway.router.identity import Login
from gateway.router.recent import Recent
from gateway.router.route import Route
from gateway.router.topology import Snapshot

_ENTRIES_MAX = 8_192
"""About 0.5 KB each; the owners that are asked for most stay."""


class _Decided:
    """A route, and what the directory said of the owner and of the login when it was found."""

    __slots__ = ("_grants", "_owner", "_snapshot", "route")

    def __init__(self, route: Route, owner: Kept, grants: Kept, snapshot: Snapshot) -> None:
        self.route = route
        self._owner = owner
        self._grants = grants
        self._snapshot = snapshot

    def holds(self, snapshot: Snapshot, now: float) -> bool:
        """Whether it would be decided so again."""
        return self._snapshot is snapshot and self._owner.is_good(now) and self._grants.is_good(now)


class KnownRoutes:
    """Those of one worker's service logins."""

    __slots__ = ("_directory", "_found")

    def __init__(self, directory: Directory) -> None:
        self._directory = directory
        self._found = Recent(_ENTRIES_MAX, _ENTRIES_MAX)

    def of(self, login: Login, owner_id: str, snapshot: Snapshot, now: float) -> Route | None:
        """Where the statements go that name this owner; None when that is to be decided anew."""
        found: _Decided | None = self._found.get((login.name, owner_id))
        return found.route if found is not None and found.holds(snapshot, now) else None

    def keep(self, login: Login, owner_id: str, snapshot: Snapshot, route: Route) -> None:
        """It has been decided just now, by nothing but what the directory has at hand."""
        owner = self._directory.peek_kept_owner(owner_id)
        grants = self._directory.peek_kept_grants(login.name)
        if owner is not None and grants is not None:
            found = _Decided(route, owner, grants, snapshot)
            self._found.keep((login.name, owner_id), found, 1)
