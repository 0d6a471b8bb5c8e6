"""What a statement asks of routing: the place of its tables, and the owners its keys name.

Pure: facts of the text and the values bound to it go in. A key tells whose a statement is when it
holds every row of a relation and all its values can be told; one relation held is enough, since
rows are joined within one owner.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from gateway.router.statement import (
    Const,
    Effect,
    Opaque,
    Param,
    ParamArray,
    Source,
    StatementFacts,
    TenantRef,
    Use,
    Verb,
)
from gateway.router.tables import PUBLIC, Parent, Place, TableMap
from gateway.router.values import Parameters, Unreadable, canonical
from gateway.settings.model import KeyType

OWNER_SETTING = "gateway.owner"
_OURS = "gateway."
_CLIENTS = frozenset((OWNER_SETTING, "gateway.industry", "gateway.role"))

_AT_HOME = Effect.LISTEN | Effect.UNLISTEN | Effect.NOTIFY | Effect.ADVISORY_LOCK
"""What sessions share with each other only when all of them do it in one database."""

_ELSEWHERE_TOLD = Effect.UNKNOWN | Effect.LARGE_OBJECT | Effect.SEQUENCE_WRITE
"""What it touches is not in the text: large objects are numbers, alike in all databases, and a
sequence may be named by a value."""

_READ_UNNAMED = frozenset(
    f"{what}_to_xml{also}"
    for what in ("table", "schema", "database")
    for also in ("", "_and_xmlschema")
)
"""Functions that read the tables of which they are given the names."""

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


_CHANGES = frozenset({Verb.UPDATE, Verb.DELETE})
"""Verbs of which a condition of the whole statement holds the rows that are written."""


@dataclass(frozen=True)
class Keying:
    """How ids are read: their type, the table map and the session's search path.

    ``trust_assigned``: ``SET "userId" = 7`` in an UPDATE says that the rows are 7's already.
    """

    key_type: KeyType
    tables: TableMap
    path: tuple[str, ...] = PUBLIC
    trust_assigned: bool = False


@dataclass(frozen=True, order=True)
class ParentKey:
    """A row of a parent table that says whose a statement is: ``Conversation.id = 7``."""

    table: str
    column: str
    value: str


@dataclass
class Demand:
    """What one statement, or several together, ask for. Never changed once it is made."""

    place: Place
    owners: frozenset[str] = frozenset()
    """The ids that its keys name, in their canonical form."""
    parents: frozenset[ParentKey] = frozenset()
    """The rows that say whose it is, where no key names an owner itself."""
    keyed: bool = False
    """Keys are given, if only NULL."""
    opaque: bool = False
    """Whose it is can't be told, whatever its keys name: a key is computed, only some of a list
    are told, rows are only given to an owner; or no text was read."""
    whole: bool = False
    """No row is used but those of its keys: where they name nobody, it can be run anywhere."""
    pending: bool = False
    """Only parsed so far: the values come later."""
    at_home: bool = False
    """LISTEN, NOTIFY and advisory locks: all sessions meet in one database."""
    only_shared: bool = False
    """It reads only tables that the industries' databases have their part of too."""
    loose: bool = False
    """It uses rows of meta tables that no key holds, and that may be anybody's."""
    tables: frozenset[str] = frozenset()
    """What it touches, for errors."""

    @property
    def tells(self) -> bool:
        """Whether it says whose it is."""
        return not self.opaque and bool(self.owners or self.parents)

    @property
    def _only_keys(self) -> bool:
        return self.whole or self.place is Place.ANYWHERE

    def __add__(self, other: Demand) -> Demand:
        """Both, in one transaction: where one tells whose it is, the other follows."""
        return Demand(
            _together(self, other),
            self.owners | other.owners,
            self.parents | other.parents,
            self.keyed or other.keyed,
            (self.opaque or other.opaque) and not (self.tells or other.tells),
            self._only_keys and other._only_keys and (self.whole or other.whole),
            self.pending and other.pending,
            self.at_home or other.at_home,
            self.only_shared and other.only_shared,
            self.loose or other.loose,
            self.tables | other.tables,
        )


NOTHING = Demand(Place.ANYWHERE)
HOME = Demand(Place.ANYWHERE, at_home=True)
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
    statement: StatementFacts, keying: Keying, values: Parameters | None, pending: bool = False
) -> Demand:
    """What one statement asks for; ``values`` are those bound to it, if any.

    ``pending``: it is only parsed, and its values are not known yet. Raises Incomplete.
    """
    if statement.prepares is not None:
        inner = demand_of(statement.prepares[1], keying, None, True)
        return replace(inner, keyed=False, whole=False)
    chosen = _chosen_owner(statement, keying, values) if statement.settings else None
    found = keying.tables.placement(
        statement.reads, statement.writes, statement.lock_clause, keying.path
    )
    if found.place is _ANYWHERE:
        return chosen or _without_tables(statement)
    owners, parents, keyed, opaque, whole = _keys(statement.tenant, keying, values)
    whole = whole and len(statement.writes) <= (statement.verb in _CHANGES)
    held = whole or (not opaque and (bool(owners) or bool(parents)))
    demand = Demand(
        found.place,
        owners,
        parents,
        keyed,
        opaque,
        whole,
        pending,
        False,
        found.only_shared,
        not (held or pending or found.open or found.place is not _META),
        found.tables,
    )
    return demand if chosen is None else demand + chosen


_ANYWHERE: Final = Place.ANYWHERE
_META: Final = Place.META


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
            ref.whole,
            ref.aside,
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
    told_elsewhere = statement.effects & _ELSEWHERE_TOLD and statement.verb not in _CONTROL
    if told_elsewhere or any(name in _READ_UNNAMED for _, name in statement.functions):
        called = frozenset(name + "()" for _, name in statement.functions)
        return Demand(Place.INDUSTRY, opaque=True, at_home=at_home, tables=called)
    return HOME if at_home else NOTHING


def _chosen_owner(
    statement: StatementFacts, keying: Keying, values: Parameters | None
) -> Demand | None:
    """The demand of ``SET gateway.owner = '7'``: to be where that owner is."""
    for change in statement.settings:
        if change.name == OWNER_SETTING and change.values:
            owners, told, _ = _read(change.values, keying, values)
            if owners or not told:
                return Demand(Place.INDUSTRY, frozenset(owners), keyed=True, opaque=not told)
    return None


def sets_what_is_ours(statement: StatementFacts) -> bool:
    """Whether it changes a setting by which the gateway talks to the databases."""
    return any(
        change.name.startswith(_OURS) and change.name not in _CLIENTS
        for change in statement.settings
    )


def _keys(
    refs: Iterable[TenantRef], keying: Keying, values: Parameters | None
) -> tuple[frozenset[str], frozenset[ParentKey], bool, bool, bool]:
    """What the certain keys of one statement say together: owners, parents, keyed, opaque, whole.

    What a key names counts against other owners, even if the key tells nothing.
    """
    owners, parents = _NOBODY, _NO_PARENTS
    keyed = whole = holds = untold = False
    for ref in refs:
        if not (ref.certain or ref.aside):
            continue
        keyed = True
        found, told, null = _read(ref.sources, keying, values)
        if told and not ref.aside and _tells(ref.use, null, keying):
            holds = True
            whole = whole or ref.whole
        else:
            untold = True
        if not found:
            continue
        known = _parent(ref, keying)
        if known is None:
            owners = owners.union(found) if owners else frozenset(found)
        elif told:
            parents |= {ParentKey(known.table, known.column, value) for value in found}
    return owners, _NO_PARENTS if owners else parents, keyed, untold and not holds, whole


_NOBODY: frozenset[str] = frozenset()
_NO_PARENTS: frozenset[ParentKey] = frozenset()


def _tells(use: Use, null: bool, keying: Keying) -> bool:
    """Whether a key of which all is told says whose rows these are."""
    if use is _READ or use is _WRITE:
        return True
    # Nobody can say where a row without an owner belongs, nor whose a row was that is given away.
    return not null and (use is Use.INSERT or keying.trust_assigned)


_READ: Final = Use.READ
_WRITE: Final = Use.WRITE


def _parent(ref: TenantRef, keying: Keying) -> Parent | None:
    parents = keying.tables.parents
    return parents.get((ref.table[1], ref.column)) if parents and ref.table else None


def _read(
    sources: tuple[Source, ...], keying: Keying, values: Parameters | None
) -> tuple[Collection[str], bool, bool]:
    """The ids that sources give, whether all of them can be told, and whether one is NULL."""
    if len(sources) == 1:  # nearly always: the same in short
        source = sources[0]
        ids: Sequence[str]
        try:
            if type(source) is Param:  # and of these nearly all
                ids = _of_param(source, keying, values)
            else:
                ids = _READERS[type(source)](source, keying, values)
        except Unreadable:
            return (), False, False
        return ids, True, not ids
    found: set[str] = set()
    told, null = True, False
    for source in sources:
        try:
            ids = _READERS[type(source)](source, keying, values)
        except Unreadable:
            told = False
        else:
            found.update(ids)
            null = null or not ids
    return found, told, null


def _of_const(source: Const, keying: Keying, values: Parameters | None) -> Sequence[str]:
    found = canonical(keying.key_type, source.value)
    if found is None:
        raise Unreadable("no id as it stands; a cast may make one of it")
    return (found,)


def _of_param(source: Param, keying: Keying, values: Parameters | None) -> tuple[str, ...]:
    if values is None:
        raise Unreadable("no values are known")
    found = values.one(keying.key_type, source.number, source.cast)
    return (found,) if found is not None else ()


def _of_array(source: ParamArray, keying: Keying, values: Parameters | None) -> Sequence[str]:
    if values is None:
        raise Unreadable("no values are known")
    return values.each(keying.key_type, source.number)


def _of_opaque(source: Opaque, keying: Keying, values: Parameters | None) -> Sequence[str]:
    raise Unreadable("an expression")


_READERS: dict[type[Source], Callable[[Any, Keying, Parameters | None], Sequence[str]]] = {
    Const: _of_const,
    Param: _of_param,
    ParamArray: _of_array,
    Opaque: _of_opaque,
}
