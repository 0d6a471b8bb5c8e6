"""What a statement asks of routing: the place of its tables, and the owners its keys name.

Pure: facts of the text and the values bound to it go in. Only keys that hold every row of a
relation count; one relation held is enough, since rows are joined within one owner.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from gateway.router.statement import (
    Const,
    Effect,
    Facts,
    Name,
    Opaque,
    Param,
    ParamArray,
    Source,
    StatementFacts,
    TenantRef,
    Verb,
)
from gateway.router.tables import PUBLIC, Place, TableMap
from gateway.router.values import Parameters, Unreadable, canonical
from gateway.settings.model import KeyType

OWNER_SETTING = "gateway.owner"
_OURS = "gateway."
_CLIENTS = frozenset((OWNER_SETTING, "gateway.industry", "gateway.role"))

_AT_HOME = Effect.LISTEN | Effect.UNLISTEN | Effect.NOTIFY | Effect.ADVISORY_LOCK
"""What sessions share with each other only when all of them do it in one database."""

_CONTROL = frozenset(
    {
        Verb.EMPTY,
        Verb.BEGIN,
        Verb.COMMIT,
        Verb.ROLLBACK,
        Verb.SAVEPOINT,
        Verb.RELEASE,
        Verb.ROLLBACK_TO,
        Verb.SET,
        Verb.SHOW,
        Verb.DEALLOCATE,
        Verb.DISCARD,
        Verb.CLOSE,
        Verb.FETCH,
        Verb.LISTEN,
        Verb.UNLISTEN,
        Verb.NOTIFY,
    }
)
"""They touch no table themselves, whatever else their effects are."""


@dataclass(frozen=True, slots=True)
class Keying:
    """How ids are read: their type, the table map and the session's search path."""

    key_type: KeyType
    tables: TableMap
    path: tuple[str, ...] = PUBLIC


@dataclass(frozen=True, slots=True)
class ParentKey:
    """A row of a parent table that says whose a statement is: ``Conversation.id = 7``."""

    table: str
    column: str
    value: str


@dataclass(frozen=True, slots=True)
class Demand:
    """What one statement, or several together, ask for."""

    place: Place
    owners: frozenset[str] = frozenset()
    """The ids that its keys name, in their canonical form."""
    parents: frozenset[ParentKey] = frozenset()
    """The rows that say whose it is, where no key names an owner itself."""
    keyed: bool = False
    """Keys are given, even if all of them are NULL or no ids: then no row can match."""
    opaque: bool = False
    """Whose it is can't be told from the text: a key that is computed, or no text that was read."""
    pending: bool = False
    """Only parsed so far: the values come later."""
    at_home: bool = False
    """LISTEN, NOTIFY and advisory locks: all sessions meet in one database."""
    only_shared: bool = False
    """It reads only tables that the industries' databases have their part of too."""
    tables: frozenset[str] = frozenset()
    """What it touches, for errors."""

    def __add__(self, other: Demand) -> Demand:
        """Both, in one transaction."""
        return Demand(
            _together(self, other),
            self.owners | other.owners,
            self.parents | other.parents,
            self.keyed or other.keyed,
            self.opaque or other.opaque,
            self.pending and other.pending,
            self.at_home or other.at_home,
            self.only_shared and other.only_shared,
            self.tables | other.tables,
        )


NOTHING = Demand(Place.ANYWHERE)
UNKNOWN = Demand(Place.INDUSTRY, opaque=True)
"""Of a text that was not read."""


def _together(one: Demand, other: Demand) -> Place:
    places = {one.place, other.place} - {Place.ANYWHERE}
    if not places:
        return Place.ANYWHERE
    if len(places) == 1:
        return places.pop()
    industry, meta = (one, other) if one.place is Place.INDUSTRY else (other, one)
    if industry.place is Place.INDUSTRY and meta.only_shared and meta.keyed:
        return Place.INDUSTRY
    return Place.BOTH


def demand_of(
    statement: StatementFacts, keying: Keying, values: Parameters | None, *, pending: bool = False
) -> Demand:
    """What one statement asks for; ``values`` are those bound to it, if any.

    ``pending``: it is only parsed, and its values are not known yet. Raises Incomplete.
    """
    if statement.prepares is not None:
        return replace(demand_of(statement.prepares[1], keying, None, pending=True), keyed=False)
    if (chosen := _chosen_owner(statement, keying, values)) is not None:
        return chosen
    relations = keying.tables.expanded(statement.reads | statement.writes, keying.path)
    if not relations:
        return _without_tables(statement)
    place, only_shared = _place(statement, relations, keying)
    owners, parents, keyed, opaque = _keys(statement.tenant, keying, values)
    return Demand(
        place,
        frozenset(owners),
        frozenset(parents) if not owners else frozenset(),
        keyed,
        opaque and not owners,
        pending,
        only_shared=only_shared,
        tables=frozenset(_shown(name) for name in relations),
    )


def demand_of_arguments(
    statement: StatementFacts, arguments: Sequence[Source], keying: Keying
) -> Demand:
    """What EXECUTE asks for, of a prepared statement with these arguments."""
    tenant = tuple(
        TenantRef(
            ref.table,
            ref.column,
            tuple(_argument(source, arguments) for source in ref.sources),
            ref.use,
            ref.certain,
        )
        for ref in statement.tenant
    )
    return demand_of(statement.with_tenant(tenant), keying, None)


def _argument(source: Source, arguments: Sequence[Source]) -> Source:
    if isinstance(source, Param):
        return arguments[source.number - 1] if source.number <= len(arguments) else Opaque()
    return Opaque() if isinstance(source, ParamArray) else source


def _without_tables(statement: StatementFacts) -> Demand:
    at_home = bool(statement.effects & _AT_HOME)
    if statement.effects & Effect.UNKNOWN and statement.verb not in _CONTROL:
        called = frozenset(name + "()" for _, name in statement.functions)
        return Demand(Place.INDUSTRY, opaque=True, at_home=at_home, tables=called)
    return Demand(Place.ANYWHERE, at_home=True) if at_home else NOTHING


def _chosen_owner(
    statement: StatementFacts, keying: Keying, values: Parameters | None
) -> Demand | None:
    """The demand of ``SET gateway.owner = '7'``: to be where that owner is."""
    for change in statement.settings:
        if change.name == OWNER_SETTING and change.values:
            owners, opaque = _read(change.values, keying, values)
            if owners or opaque:
                return Demand(Place.INDUSTRY, frozenset(owners), keyed=True, opaque=opaque)
    return None


def sets_what_is_ours(facts: Facts) -> bool:
    """Whether a text changes a setting by which the gateway talks to the databases."""
    return any(
        change.name.startswith(_OURS) and change.name not in _CLIENTS
        for statement in facts.statements
        for change in statement.settings
    )


def _place(
    statement: StatementFacts, relations: Iterable[Name], keying: Keying
) -> tuple[Place, bool]:
    """Which databases have all the relations, and whether it reads nothing but shared ones."""
    tables, path = keying.tables, keying.path
    meta = {name for name in relations if tables.is_meta(name, path)}
    if not meta:
        return Place.INDUSTRY, False
    shared = {name for name in meta if tables.is_shared(name, path)}
    written = tables.expanded(statement.writes, path) & meta
    if len(meta) == len(set(relations)):
        return Place.META, len(shared) == len(meta) and not written and not statement.lock_clause
    return (Place.INDUSTRY if shared == meta and not written else Place.BOTH), False


def _keys(
    refs: Iterable[TenantRef], keying: Keying, values: Parameters | None
) -> tuple[set[str], set[ParentKey], bool, bool]:
    """Owners named, parents named, whether any key was given, whether one can't be told."""
    owners: set[str] = set()
    parents: set[ParentKey] = set()
    keyed = opaque = False
    for ref in refs:
        if not ref.certain:
            continue
        parent = _parent(ref, keying)
        found, untold = _read(ref.sources, keying, values)
        keyed = True
        opaque = opaque or untold
        if parent is None:
            owners |= found
        elif not untold:
            parents |= {ParentKey(parent[0], parent[1], value) for value in found}
    return owners, parents, keyed, opaque


def _parent(ref: TenantRef, keying: Keying) -> tuple[str, str] | None:
    if ref.table is None:
        return None
    known = keying.tables.parents.get((ref.table[1], ref.column))
    return (known.table, known.column) if known is not None else None


def _read(
    sources: Iterable[Source], keying: Keying, values: Parameters | None
) -> tuple[set[str], bool]:
    """The ids that sources give, and whether one can't be told."""
    found: set[str] = set()
    opaque = False
    for source in sources:
        try:
            found.update(_READERS[type(source)](source, keying, values))
        except Unreadable:
            opaque = True
    return found, opaque


def _of_const(source: Const, keying: Keying, values: Parameters | None) -> Iterable[str]:
    found = canonical(keying.key_type, source.value)
    return (found,) if found is not None else ()


def _of_param(source: Param, keying: Keying, values: Parameters | None) -> Iterable[str]:
    if values is None:
        raise Unreadable("no values are known")
    found = values.one(keying.key_type, source.number)
    return (found,) if found is not None else ()


def _of_array(source: ParamArray, keying: Keying, values: Parameters | None) -> Iterable[str]:
    if values is None:
        raise Unreadable("no values are known")
    return values.each(keying.key_type, source.number)


def _of_opaque(source: Opaque, keying: Keying, values: Parameters | None) -> Iterable[str]:
    raise Unreadable("an expression")


_READERS: dict[type[Source], Callable[[Any, Keying, Parameters | None], Iterable[str]]] = {
    Const: _of_const,
    Param: _of_param,
    ParamArray: _of_array,
    Opaque: _of_opaque,
}


def _shown(name: Name) -> str:
    schema, table = name
    return f'"{table}"' if schema in (None, "public") else f'{schema}."{table}"'
