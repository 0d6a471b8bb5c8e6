"""What holds in the end where one level of the settings overrides another."""

from __future__ import annotations

from gateway.settings.model import Pool, Reads, Settings


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
