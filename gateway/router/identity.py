"""Who is asking: logins and owners, as the directory knows them and the router reads them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class LoginKind(StrEnum):
    """What a login may act for."""

    OWNER = "owner"
    SERVICE = "service"
    OPERATOR = "operator"


@dataclass(frozen=True)
class Login:
    """One row of the logins: what a client authenticates as.

    ``verifier`` is PostgreSQL's stored form (``SCRAM-SHA-256$...`` or ``md5...``), empty when the
    login has no password. ``valid_until`` is seconds since the epoch in UTC, None for no expiry.
    ``owner`` is the owner's id as text, set for owner logins only.
    """

    name: str
    kind: LoginKind
    verifier: str
    owner: str | None = None
    valid_until: float | None = None
    disabled: bool = False

    def __repr__(self) -> str:
        return f"Login({self.name!r}, {self.kind.value}, owner={self.owner!r})"


@dataclass(frozen=True)
class Owner:
    """Where a tenant lives: its industry, and its shard when a placement row says so.

    ``epoch`` grows with every change of the place. ``agency`` is the id, as text, of the agency
    that looks after the owner; ``plan`` what it has subscribed to.
    """

    id: str
    industry: str
    shard: str | None = None
    epoch: int = 0
    agency: str | None = None
    plan: str | None = None


class Scope(StrEnum):
    """How far a grant reaches."""

    ALL = "all"
    AGENCY = "agency"
    OWNER = "owner"


@dataclass(frozen=True)
class Grant:
    """Whom a service login may act for. ``value`` is the agency's or owner's id, empty for ALL."""

    scope: Scope
    value: str = ""

    @property
    def covers_all(self) -> bool:
        """Whether it is for every owner."""
        return self.scope is Scope.ALL

    def covers(self, owner: Owner) -> bool:
        """Whether ``owner`` is one of those."""
        if self.scope is Scope.ALL:
            return True
        return self.value == (owner.id if self.scope is Scope.OWNER else owner.agency)
