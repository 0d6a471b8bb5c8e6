"""What holds in the end where one level of the settings overrides another."""

from __future__ import annotations

from gateway.settings.model import Pool, Reads, Settings
from gateway.settings.shards import META, shard_names


def pool_limits(settings: Settings, industry: str | None) -> Pool:
    """The pool limits of an industry, or of the meta database for None: its own, else `pool`'s.

    Raises KeyError for an industry that the settings don't have.
    """
    own = settings.meta.pool if industry is None else settings.industries[industry].pool
    return settings.pool.model_copy(update=own.model_dump(exclude_none=True))


def read_rules(settings: Settings, industry: str | None) -> Reads:
    """The rules of reads of an industry, or of the meta database for None, as for the pool.

    Raises KeyError for an industry that the settings don't have.
    """
    own = settings.meta.reads if industry is None else settings.industries[industry].reads
    return settings.reads.model_copy(update=own.model_dump(exclude_none=True))


def patroni_urls(settings: Settings) -> dict[str, tuple[str, ...]]:
    """Where to ask who leads the cluster of each shard, by its name; of shards that have one."""
    own = {META: settings.meta.patroni}
    for industry, one in settings.industries.items():
        for name, shard in zip(shard_names(industry, one), one.shards, strict=True):
            own[name] = shard.patroni
    found = {name: settings.health.patroni if urls is None else urls for name, urls in own.items()}
    return {name: tuple(urls) for name, urls in found.items() if urls}
