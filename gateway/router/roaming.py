"""Where a service login's statement goes: one connection, every owner's requests mixed on it.

A pure decision. The written priority, with examples, is in docs/routing.md.
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Final, Protocol

from gateway.errors import NoRoute, NotPermitted, UnknownDatabase
from gateway.router.demand import Demand, ParentKey
from gateway.router.identity import Grant, Login, LoginKind, Owner, Scope
from gateway.router.route import (
    NeedOwner,
    Outcome,
    Reject,
    Route,
    home_of,
    outside_topology,
    owner_not_found,
)
from gateway.router.tables import Place
from gateway.router.topology import Shard, Snapshot
from gateway.settings.model import KeyMismatch

WAYS = (
    "Say it in the statement (\"userId\" = $1), in a comment (/* owner='<id>' */), with SET LOCAL"
    " gateway.owner or SET gateway.owner, or at startup with options='-c gateway.owner=<id>'."
)
_WAYS_BY_ID = (
    f"{WAYS} In a transaction whose place is known it may follow; rows that are addressed by their"
    " own id alone need routing.parents (Lead.id: Lead.id)."
)


@dataclass(frozen=True)
class Said:
    """What was said besides the statement itself; ``source`` tells by which means."""

    owner: str | None = None
    industry: str | None = None
    role: str | None = None
    source: str = ""
    scatter: bool = False
    """The statement asks for all databases at once."""
    column: str = ""
    """And for a column of this name that says where each row is from."""


SAID_NOTHING = Said()

NOT_RUN_YET = "not run yet"
MATCHES_NOTHING = "a key without a value matches nowhere"


@dataclass(frozen=True, slots=True)
class NeedParent:
    """The databases must say whose this row is; then ask again.

    ``others`` are not known either, and of the same table and column.
    """

    key: ParentKey
    others: tuple[ParentKey, ...] = ()


@dataclass(frozen=True, slots=True)
class Unsaid(Reject):
    """Nothing says whose it is: in a transaction that has a place it may follow."""


class Known(Protocol):
    """What is known without waiting."""

    @property
    def grants(self) -> tuple[Grant, ...] | None:
        """For whom the login may act; None when it must be asked."""

    def owner(self, owner_id: str) -> Owner | None:
        """The owner; None when it must be asked."""

    def parent(self, key: ParentKey) -> str | None:
        """Whose that row is, empty when there is no such row; None when it must be asked."""


def route_demand(
    snapshot: Snapshot,
    login: Login,
    said: Said,
    demand: Demand,
    known: Known,
    last: Shard | None,
    mismatch: KeyMismatch = KeyMismatch.REFUSE,
) -> Outcome | NeedParent:
    """Decide for one statement, or for several that run in one transaction.

    ``last`` is where the session's last transaction ran, if any.
    """
    place = demand.place
    if place is _BOTH:
        return Reject(_in_two_places(demand))
    keys = demand.owners
    for parent in demand.parents:
        owner_id = known.parent(parent)
        if owner_id is None:
            return _need(parent, demand, known)
        if owner_id:
            keys = keys | {owner_id}
    if said.owner is not None and keys - {said.owner} and mismatch is KeyMismatch.REFUSE:
        return Reject(foreign_key_value(said.owner, said.source, keys))
    if place is _META:
        return _meta(snapshot, login, demand, keys, known)
    if said.owner is not None:
        return _there(_of_owner(snapshot, login, said.owner, said.source, known), said)
    if keys and not demand.opaque:
        return _there(_of_owners(snapshot, login, keys, "tenant key", known), said)
    return _without_owner(snapshot, login, said, demand, known, last)


_BOTH: Final = Place.BOTH
_META: Final = Place.META


def _there(outcome: Outcome, said: Said) -> Outcome:
    """The same, unless the client said another industry."""
    if said.industry is None or not isinstance(outcome, Route):
        return outcome
    if outcome.shard.industry == said.industry.upper():
        return outcome
    return Reject(
        NoRoute(
            f"industry {said.industry.upper()} was said, and the statement is for"
            f" {outcome.shard.name} ({outcome.reason})",
            hint="Say the owner or the industry, not two that don't fit.",
        )
    )


def _need(key: ParentKey, demand: Demand, known: Known) -> NeedParent:
    others = (
        other
        for other in demand.parents
        if (other.table, other.column) == (key.table, key.column) and other != key
    )
    return NeedParent(key, tuple(other for other in others if known.parent(other) is None))


def _meta(
    snapshot: Snapshot, login: Login, demand: Demand, keys: AbstractSet[str], known: Known
) -> Outcome:
    """Only meta tables; a key in them must be one that the login may act for.

    Everybody's rows lie in them together: a login that acts for some owners only needs a key.
    """
    for owner_id in sorted(keys):
        refused = _not_granted(login, owner_id, known)
        if refused is not None:
            return refused
    if demand.loose:
        if known.grants is None:
            return NeedOwner("")
        if not any(grant.covers_all for grant in known.grants):
            return Reject(_everybodys(login, demand))
    return Route(snapshot.meta, snapshot.meta.primary, "only meta tables")


def _not_granted(login: Login, owner_id: str, known: Known) -> NeedOwner | Reject | None:
    """Whether the login may act for an owner; an owner that a grant to all covers isn't asked."""
    grants = known.grants
    if grants is None:
        return NeedOwner(owner_id)
    for grant in grants:
        if grant.scope is _ALL:
            return None
    if not owner_id:
        return Reject(owner_not_found(owner_id))
    owner = known.owner(owner_id)
    if owner is None:
        return NeedOwner(owner_id)
    if any(grant.covers(owner) for grant in grants):
        return None
    return Reject(
        NotPermitted(
            f'service login "{login.name}" may not act for owner "{owner_id}"',
            hint=f"To allow it: gateway owners grant add {login.name} owner {owner_id}",
        )
    )


_ALL: Final = Scope.ALL


def _of_owner(
    snapshot: Snapshot, login: Login, owner_id: str, source: str, known: Known
) -> Outcome:
    """To the shard on which an owner lives for whom the login may act."""
    if not owner_id:
        return Reject(owner_not_found(owner_id))
    owner = known.owner(owner_id)
    if owner is None:
        return NeedOwner(owner_id)
    refused = _not_granted(login, owner_id, known)
    if refused is not None:
        return refused
    shard = home_of(snapshot, owner)
    if shard is None:
        return Reject(outside_topology(owner))
    reason = f"{source} {owner_id}"
    return Route(shard, shard.primary, reason, owner_id, owner.epoch, owner.plan)


def _of_owners(
    snapshot: Snapshot, login: Login, ids: AbstractSet[str], source: str, known: Known
) -> Outcome:
    """To the one shard on which all these owners live."""
    if len(ids) == 1:
        (only,) = ids
        return _of_owner(snapshot, login, only, source, known)
    routes: dict[str, Route] = {}
    for owner_id in sorted(ids):
        outcome = _of_owner(snapshot, login, owner_id, source, known)
        if not isinstance(outcome, Route):
            return outcome
        routes[owner_id] = outcome
    (first, route), *others = routes.items()
    for owner_id, other in others:
        if other.shard.name != route.shard.name:
            return Reject(_on_two_shards((first, route.shard), (owner_id, other.shard)))
    reason = f"{source} {', '.join(routes)}" if len(routes) < 5 else f"{source} of {len(routes)}"
    return Route(route.shard, route.endpoint, reason)


def _without_owner(
    snapshot: Snapshot,
    login: Login,
    said: Said,
    demand: Demand,
    known: Known,
    last: Shard | None,
) -> Outcome:
    if said.industry is not None:
        return _industry(snapshot, login, said.industry, known)
    meta = snapshot.meta
    if demand.place is Place.ANYWHERE:
        shard = meta if demand.at_home or last is None else last
        return Route(shard, shard.primary, "no table: home" if shard is meta else "no table: last")
    if demand.pending or demand.whole:
        shard = last if last is not None and last.industry is not None else _first(snapshot)
        return Route(shard, shard.primary, NOT_RUN_YET if demand.pending else MATCHES_NOTHING)
    return Unsaid(_says_nothing(demand))


def _industry(snapshot: Snapshot, login: Login, name: str, known: Known) -> Outcome:
    """A whole industry, for a login that may act for everybody, where it is one database."""
    industry = snapshot.industries.get(name.upper())
    if industry is None:
        names = ", ".join(snapshot.industries)
        return Reject(UnknownDatabase(f'industry "{name}" does not exist', hint=f"Known: {names}."))
    if known.grants is None:
        return NeedOwner("")
    if not any(grant.covers_all for grant in known.grants):
        return Reject(
            NotPermitted(f'service login "{login.name}" may not act for all of {industry.name}')
        )
    if len(industry.shards) > 1:
        return Reject(
            NoRoute(
                f"industry {industry.name} has several shards",
                hint=f"Name an owner, or ask all of them with /* scatter */. {WAYS}",
            )
        )
    shard = industry.shards[0]
    return Route(shard, shard.primary, f"industry {industry.name}")


def scattered(
    snapshot: Snapshot, login: Login, industry: str | None, grants: tuple[Grant, ...] | None
) -> list[Shard] | NeedOwner | Reject:
    """The databases that a scattered read is asked of, each place once.

    ``grants`` count for service logins.
    """
    chosen = list(snapshot.industries.values())
    if industry is not None:
        chosen = [one for one in chosen if one.name == industry.upper()]
        if not chosen:
            return Reject(UnknownDatabase(f'industry "{industry}" does not exist'))
    if login.kind is LoginKind.SERVICE:
        if grants is None:
            return NeedOwner("")
        if not any(grant.covers_all for grant in grants):
            return Reject(NotPermitted(f'service login "{login.name}" may not act for all owners'))
    places = {shard.primary.address: shard for one in chosen for shard in reversed(one.shards)}
    return sorted(places.values(), key=lambda shard: shard.name)


def _first(snapshot: Snapshot) -> Shard:
    return next(iter(snapshot.industries.values())).shards[0]


def _everybodys(login: Login, demand: Demand) -> NotPermitted:
    return NotPermitted(
        f'service login "{login.name}" acts for some owners only, and no key says whose rows of'
        f" {_tables(demand)} the statement uses",
        hint='Say it in the statement ("userId" = $1), whatever else was said. Tables that such'
        " logins may use without a key are named in routing.open_meta_tables.",
    )


def _in_two_places(demand: Demand) -> NoRoute:
    return NoRoute(
        f"tables of the meta database and of an industry are used together: {_tables(demand)}",
        hint="They lie in different databases: use them in statements and transactions apart.",
    )


def _on_two_shards(one: tuple[str, Shard], other: tuple[str, Shard]) -> NoRoute:
    return NoRoute(
        f'owners "{one[0]}" ({one[1].name}) and "{other[0]}" ({other[1].name}) live in'
        " different databases",
        hint="Ask for each by a statement, and write for each in a transaction, of its own.",
    )


def _says_nothing(demand: Demand) -> NoRoute:
    tables = _tables(demand)
    why = _why_nothing(demand)
    return NoRoute(
        f"nothing says whose the statement is{f' ({tables})' if tables else ''}{why}",
        hint=WAYS if demand.keyed else _WAYS_BY_ID,
    )


def _why_nothing(demand: Demand) -> str:
    """What kept the keys that there are from telling it."""
    if demand.opaque and demand.owners:
        return ": not all values of its tenant key can be told, or it only gives rows to an owner"
    if demand.opaque and demand.keyed:
        return ": its tenant key can't be told"
    if demand.keyed:
        missing = ", ".join(f'"{k.table}"."{k.column}" {k.value}' for k in sorted(demand.parents))
        return f": there is no {missing}" if missing else ""
    return ""


def _tables(demand: Demand) -> str:
    return ", ".join(sorted(demand.tables))


def foreign_key_value(owner: str, source: str, keys: AbstractSet[str]) -> NotPermitted:
    """The error for a statement of one owner whose tenant key names another."""
    others = ", ".join(f'"{key}"' for key in sorted(keys - {owner})[:3])
    return NotPermitted(
        f'the statement is for owner "{owner}" ({source}), and its tenant key names {others}',
        hint="To let such statements pass, set routing.key_mismatch to log or allow.",
    )


def elsewhere(bound: Shard, wanted: Route, why: str) -> NoRoute:
    """The error for a statement that belongs to another database than the open transaction."""
    return NoRoute(
        f"the statement belongs to {wanted.shard.name} ({wanted.reason}), and {why} is in"
        f" {bound.name}",
        hint="A transaction stays in one database: end it first, or use one for each owner.",
    )
