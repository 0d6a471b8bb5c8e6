"""What the settings ask of each database: which shards live there and which SQL files it needs."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from gateway.migrate import schema
from gateway.settings.dsn import Dsn, parse
from gateway.settings.model import Settings
from gateway.settings.shards import META, shard_names

Report = Callable[[str], None]
"""Takes one line for people to read; never a secret."""


class ProvisionError(Exception):
    """A database could not be made ready; the text names the shard and the reason."""


@dataclass(frozen=True, slots=True)
class Admin:
    """A role with more rights than the URLs' own, by the same name and password on every server."""

    user: str
    password: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What one database needs: ``files`` in order, for the shards (by name) that live there."""

    dsn: Dsn
    shards: tuple[str, ...]
    files: tuple[str, ...]
    industries: tuple[str, ...] = ()

    @property
    def is_meta(self) -> bool:
        """Whether the meta database is here, alone or with shards."""
        return META in self.shards

    @property
    def own_shards(self) -> tuple[str, ...]:
        """The shards of industries that live here."""
        return tuple(name for name in self.shards if name != META)

    @property
    def spared_tables(self) -> list[str]:
        """Tables that are not an industry's, though they are in the same database."""
        return schema.tables_of(schema.META) if self.is_meta else []

    def login(self, admin: Admin | None) -> Dsn:
        """How to log in for what needs more rights."""
        if admin is None:
            return self.dsn
        return replace(self.dsn, user=admin.user, password=admin.password)


def plans(settings: Settings) -> list[Plan]:
    """One plan per database, the meta database first.

    A database that several shards name gets one plan with the files of all of them.
    """
    merged: dict[tuple[str, int, str], Plan] = {}
    for wanted in _wanted(settings):
        known = merged.get(wanted.dsn.address)
        merged[wanted.dsn.address] = wanted if known is None else _merge(known, wanted)
    return list(merged.values())


def _wanted(settings: Settings) -> Iterable[Plan]:
    # First of all: in a database that is both, "User" must be the meta database's fuller one.
    yield Plan(parse(settings.meta.primary.get_secret_value()), (META,), (schema.META,))
    for industry, its in settings.industries.items():
        files = (schema.INDUSTRY, *schema.extras_of(industry))
        for name, shard in zip(shard_names(industry, its), its.shards, strict=True):
            yield Plan(parse(shard.primary.get_secret_value()), (name,), files, (industry,))


def _merge(first: Plan, second: Plan) -> Plan:
    files = tuple(dict.fromkeys((*first.files, *second.files)))
    industries = tuple(dict.fromkeys((*first.industries, *second.industries)))
    return Plan(first.dsn, (*first.shards, *second.shards), files, industries)
