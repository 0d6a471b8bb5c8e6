"""Where a client's statements go: who it is and what it named, to a shard, with the reason.

A pure decision over one snapshot. The written priority is in docs/routing.md.
"""

from __future__ import annotations

from dataclasses import dataclass

from gateway.errors import GatewayError, NoRoute, NotPermitted, UnknownDatabase, UnknownOwner
from gateway.router.identity import Grant, Login, LoginKind, Owner
from gateway.router.slots import slot_of
from gateway.router.topology import Endpoint, Industry, Shard, Snapshot

_WAYS_TO_NAME_AN_OWNER = (
    "Name the owner with the startup option options='-c gateway.owner=<id>'"
    ' (PGOPTIONS="-c gateway.owner=<id>" for psql).'
)


@dataclass(frozen=True)
class Asked:
    """What a client said about where it wants to go, besides who it is."""

    database: str = ""
    owner: str | None = None
    industry: str | None = None
    role: str | None = None


@dataclass
class Route:
    """The decision: which endpoint, and the rule that decided. Never changed once it is made."""

    shard: Shard
    endpoint: Endpoint
    reason: str
    owner: str | None = None
    epoch: int = 0
    """Of the owner's place, as the directory knew it."""
    plan: str | None = None
    """What the owner has subscribed to: its weight among others."""


@dataclass(frozen=True, slots=True)
class NeedOwner:
    """The directory must say where this owner lives; then ask again."""

    owner: str


@dataclass(frozen=True, slots=True)
class Reject:
    """No route; the error says why and what to do."""

    error: GatewayError


Outcome = Route | NeedOwner | Reject


@dataclass(frozen=True, slots=True)
class Known:
    """What the directory has answered: the owner, and whom a service login may act for."""

    owner: Owner | None = None
    grants: tuple[Grant, ...] | None = None


NOTHING_KNOWN = Known()


def route(snapshot: Snapshot, login: Login, asked: Asked, known: Known = NOTHING_KNOWN) -> Outcome:
    """Decide for one transaction. ``known`` is the directory's answer to a NeedOwner, if any."""
    return _RULES[login.kind](snapshot, login, asked, known)


def home_of(snapshot: Snapshot, owner: Owner) -> Shard | None:
    """The shard an owner lives on: its placement, else its hash slot; None outside the topology."""
    industry = snapshot.industries.get(owner.industry)
    if industry is None:
        return None
    if owner.shard is not None:
        placed = snapshot.shards.get(owner.shard)
        return placed if placed is not None and placed.industry == industry.name else None
    if len(industry.shards) == 1:
        return industry.shards[0]
    return industry.shards[industry.slot_map[slot_of(owner.id)]]


def _owner_login(snapshot: Snapshot, login: Login, asked: Asked, known: Known) -> Outcome:
    assert login.owner is not None
    if asked.owner is not None and asked.owner != login.owner:
        return Reject(
            NotPermitted(
                f'login "{login.name}" is bound to its own owner and may not act for another',
                hint="Leave gateway.owner out, or use a service login.",
            )
        )
    owner = known.owner
    if owner is None or owner.id != login.owner:
        return NeedOwner(login.owner)
    outcome = _home(snapshot, owner, "owner login")
    if isinstance(outcome, Route) and _names_another_database(snapshot, asked, outcome.shard):
        return Reject(
            NotPermitted(
                f'login "{login.name}" has no access to database "{asked.database}"',
                hint=f'Its own database is "{outcome.shard.name}".',
            )
        )
    return outcome


def _service_login(snapshot: Snapshot, login: Login, asked: Asked, known: Known) -> Outcome:
    if not asked.owner:
        return Reject(
            NoRoute(
                f'service login "{login.name}" has not said which owner it acts for',
                hint=_WAYS_TO_NAME_AN_OWNER,
            )
        )
    owner = known.owner
    if owner is None or owner.id != asked.owner or known.grants is None:
        return NeedOwner(asked.owner)
    if not any(grant.covers(owner) for grant in known.grants):
        return Reject(
            NotPermitted(
                f'service login "{login.name}" may not act for owner "{owner.id}"',
                hint=f"To allow it: gateway owners grant add {login.name} owner {owner.id}",
            )
        )
    return _home(snapshot, owner, "gateway.owner of a service login")


def _operator_login(snapshot: Snapshot, login: Login, asked: Asked, known: Known) -> Outcome:
    if asked.owner:
        if known.owner is None or known.owner.id != asked.owner:
            return NeedOwner(asked.owner)
        return _home(snapshot, known.owner, "gateway.owner of an operator login")
    shard = snapshot.shards.get(asked.database)
    if shard is None:
        industry = _industry_named(snapshot, asked.database)
        if industry is None:
            return Reject(_unknown_database(snapshot, asked.database))
        if len(industry.shards) > 1:
            return Reject(_several_shards(industry))
        shard = industry.shards[0]
    return Route(shard, shard.primary, "database named by an operator")


_RULES = {
    LoginKind.OWNER: _owner_login,
    LoginKind.SERVICE: _service_login,
    LoginKind.OPERATOR: _operator_login,
}


def _home(snapshot: Snapshot, owner: Owner, reason: str) -> Outcome:
    shard = home_of(snapshot, owner)
    if shard is None:
        return Reject(outside_topology(owner))
    placed = "placement" if owner.shard is not None else "hash slot"
    return Route(shard, shard.primary, f"{reason}, by {placed}", owner.id, owner.epoch, owner.plan)


def outside_topology(owner: Owner) -> UnknownOwner:
    """The error for an owner who lives in a database that the settings don't name."""
    return UnknownOwner(
        f'owner "{owner.id}" lives at {owner.industry}'
        f"{'/' + owner.shard if owner.shard else ''}, which is not in the topology",
        hint="Add the industry or shard to the gateway's settings, or correct the owner.",
    )


def owner_not_found(owner_id: str) -> UnknownOwner:
    """The error for an owner whom the directory does not know."""
    return UnknownOwner(
        f'owner "{owner_id}" does not exist',
        hint="Check the id; it is User.id in the meta database.",
    )


def _names_another_database(snapshot: Snapshot, asked: Asked, home: Shard) -> bool:
    """Whether the client named a database of the topology that is not its owner's."""
    industry = _industry_named(snapshot, asked.database)
    if industry is not None:
        return industry.name != home.industry
    return asked.database in snapshot.shards and asked.database != home.name


def _industry_named(snapshot: Snapshot, database: str) -> Industry | None:
    for industry in snapshot.industries.values():
        if industry.name.lower() == database.lower():
            return industry
    return None


def _unknown_database(snapshot: Snapshot, database: str) -> UnknownDatabase:
    names = ", ".join(sorted(snapshot.shards))
    return UnknownDatabase(
        f'database "{database}" does not exist',
        hint=f"Databases: {names}; the console is {snapshot.console_database}.",
    )


def _several_shards(industry: Industry) -> UnknownDatabase:
    names = ", ".join(shard.name for shard in industry.shards)
    return UnknownDatabase(
        f'database "{industry.name.lower()}" has several shards',
        hint=f"Name one of them ({names}), or an owner with options='-c gateway.owner=<id>'.",
    )
