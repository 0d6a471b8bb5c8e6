"""From settings to what routing and pools read: the snapshot, and the login of each database."""

from __future__ import annotations

from pydantic import SecretStr

from gateway.router.slots import SLOTS, even_ranges
from gateway.router.tables import Parent, TableMap, named
from gateway.router.topology import Endpoint, Industry, Role, Shard, Snapshot
from gateway.settings import dsn
from gateway.settings.checks import database_urls
from gateway.settings.dsn import Dsn
from gateway.settings.model import IndustrySettings, Routing, Settings
from gateway.settings.shards import HUB, META, shard_names, slot_ranges


def build_snapshot(settings: Settings, epoch: int) -> Snapshot:
    """The topology of checked settings, numbered ``epoch``.

    A primary's endpoint has its shard's name, a replica's is ``<shard>-replica-<n>``, n from 1.
    """
    meta = _shard(META, None, settings.meta.primary, settings.meta.replicas)
    industries = {name: _industry(name, industry) for name, industry in settings.industries.items()}
    shards = {shard.name: shard for industry in industries.values() for shard in industry.shards}
    if settings.hub is not None:
        # Like the meta database it is no industry's, so only operators can name it.
        shards[HUB] = _shard(HUB, None, settings.hub.primary, [])
    return Snapshot(
        epoch=epoch,
        meta=meta,
        industries=industries,
        shards={META: meta, **shards},
        console_database=settings.console.database,
    )


def credentials(settings: Settings) -> dict[tuple[str, int, str], Dsn]:
    """How to log in to each database, by ``Endpoint.address``; the first URL of a place counts.

    Checked settings have the same login in all URLs of a place. Holds passwords.
    """
    found: dict[tuple[str, int, str], Dsn] = {}
    for _, url in database_urls(settings):
        parsed = dsn.parse(url)
        found.setdefault(parsed.address, parsed)
    return found


def build_tables(settings: Routing) -> TableMap:
    """The table map of checked settings."""
    parents: dict[tuple[str, str], Parent] = {}
    for column, parent in settings.parents.items():
        table, _, name = column.rpartition(".")
        parent_table, _, parent_column = parent.rpartition(".")
        parents[table, name] = Parent(parent_table, parent_column)
    return TableMap(
        meta=frozenset(map(named, settings.meta_tables)),
        shared=frozenset(map(named, settings.shared_tables)),
        open=frozenset(map(named, settings.open_meta_tables)),
        views={named(view): tuple(map(named, of)) for view, of in settings.views.items()},
        parents=parents,
    )


def tenant_columns(settings: Routing) -> list[str]:
    """The columns whose values are read: owners' ids, and those that lead to a parent."""
    return [*settings.tenant_columns, *settings.parents]


def owner_column(settings: Routing) -> str:
    """The column that names the owner in the tables of the industries."""
    return next(
        (column for column in settings.tenant_columns if "." not in column),
        settings.tenant_columns[0].rpartition(".")[2],
    )


def _industry(name: str, settings: IndustrySettings) -> Industry:
    shards = tuple(
        _shard(shard_name, name, shard.primary, shard.replicas)
        for shard_name, shard in zip(shard_names(name, settings), settings.shards, strict=True)
    )
    return Industry(name, shards, _slot_map(settings))


def _slot_map(settings: IndustrySettings) -> tuple[int, ...]:
    """The shard's index for each slot: as the shards name them, else split evenly in order."""
    slot_map = [0] * SLOTS
    for index, even in enumerate(even_ranges(len(settings.shards))):
        slots = settings.shards[index].slots
        ranges = [(first, last + 1) for first, last in slot_ranges(slots)] if slots else [even]
        for first, end in ranges:
            slot_map[first:end] = [index] * (end - first)
    return tuple(slot_map)


def _shard(name: str, industry: str | None, primary: SecretStr, replicas: list[SecretStr]) -> Shard:
    return Shard(
        name=name,
        industry=industry,
        primary=_endpoint(name, primary, Role.PRIMARY),
        replicas=tuple(
            _endpoint(f"{name}-replica-{number}", url, Role.REPLICA)
            for number, url in enumerate(replicas, start=1)
        ),
    )


def _endpoint(name: str, url: SecretStr, role: Role) -> Endpoint:
    parsed = dsn.parse(url.get_secret_value())
    return Endpoint(name, parsed.host, parsed.port, parsed.database, role)
