"""The table map: which relations live in the meta database, which in the industries' databases."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from gateway.router.statement import Name

PUBLIC: tuple[str, ...] = ("public",)
"""The search path that is reckoned with when the session has set none."""

_SYSTEM_SCHEMAS = frozenset(("pg_catalog", "information_schema", "pg_toast"))


class Place(StrEnum):
    """Which databases can run a statement, for all that its tables say."""

    ANYWHERE = "anywhere"  # no table, or the system catalogs, which every database has
    META = "meta"
    INDUSTRY = "industry"
    BOTH = "both"  # tables that lie in different databases: none can


@dataclass(frozen=True, slots=True)
class Parent:
    """A table without the tenant column: a column of it names a row of one that has it."""

    table: str
    column: str


@dataclass(frozen=True, slots=True)
class TableMap:
    """Every relation that is not listed is an industry's.

    ``shared`` are meta tables of which each industry's database has the subset that joins need;
    ``views`` stand for the relations they read; ``parents`` are by (table, column).
    """

    meta: frozenset[tuple[str, str]] = frozenset()
    shared: frozenset[tuple[str, str]] = frozenset()
    views: Mapping[tuple[str, str], tuple[Name, ...]] = field(default_factory=dict)
    parents: Mapping[tuple[str, str], Parent] = field(default_factory=dict)

    def found(
        self, name: Name, entries: Iterable[tuple[str, str]], path: tuple[str, ...]
    ) -> tuple[str, str] | None:
        """The one of ``entries`` that ``name`` means on this search path, None if none does."""
        schema, table = name
        for candidate in (schema,) if schema is not None else path:
            if (candidate, table) in entries:
                return (candidate, table)
        return None

    def is_meta(self, name: Name, path: tuple[str, ...]) -> bool:
        """Whether the relation lives in the meta database."""
        return self.found(name, self.meta, path) is not None

    def is_shared(self, name: Name, path: tuple[str, ...]) -> bool:
        """Whether each industry's database has what joins need of it."""
        return self.found(name, self.shared, path) is not None

    def expanded(self, names: Iterable[Name], path: tuple[str, ...]) -> set[Name]:
        """The relations themselves in place of the listed views; system catalogs left out."""
        relations: set[Name] = set()
        for name in names:
            view = self.found(name, self.views, path) if self.views else None
            for relation in self.views[view] if view is not None else (name,):
                if not _is_system(relation):
                    relations.add(relation)
        return relations


def _is_system(name: Name) -> bool:
    schema, table = name
    return schema in _SYSTEM_SCHEMAS or (schema is None and table.startswith("pg_"))


def named(text: str) -> tuple[str, str]:
    """``Lead`` or ``crm.Lead`` as settings write it."""
    schema, dot, table = text.rpartition(".")
    return (schema, table) if dot else ("public", text)


def search_path(value: str) -> tuple[str, ...]:
    """The schemas of a search_path setting, in order: ``"$user", public`` is all that may hit."""
    return tuple(part.strip().strip('"') for part in value.split(","))
