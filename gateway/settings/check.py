"""The topology of some settings in a few lines, for people; no user, no password."""

from __future__ import annotations

from pydantic import SecretStr

from gateway.settings import dsn
from gateway.settings.effective import pool_limits
from gateway.settings.model import IndustrySettings, Settings, ShardSettings
from gateway.settings.shards import HUB, META, shard_names


def describe(settings: Settings) -> list[str]:
    """One line for each listener and each shard; the last counts them."""
    listen, http = settings.listen, settings.http
    where = "off" if http.port is None else f"{http.host}:{http.port}"
    rows = [
        ("listen", f"{listen.host}:{listen.port}", f"TLS {listen.tls.mode}"),
        ("http", where, ""),
        (META, _place(settings.meta.primary), _extras(settings, None, settings.meta.replicas)),
    ]
    if settings.hub is not None:
        rows.append((HUB, _place(settings.hub.primary), "for operators"))
    for name, industry in settings.industries.items():
        rows += _industry(settings, name, industry)
    shards = sum(len(industry.shards) for industry in settings.industries.values())
    return [*_aligned(rows), f"{len(settings.industries)} industries, {shards} shards"]


def _industry(
    settings: Settings, industry_name: str, industry: IndustrySettings
) -> list[tuple[str, str, str]]:
    return [
        (f"{industry_name} {name}", _place(shard.primary), _shard(settings, industry_name, shard))
        for name, shard in zip(shard_names(industry_name, industry), industry.shards, strict=True)
    ]


def _shard(settings: Settings, industry: str, shard: ShardSettings) -> str:
    slots = f", slots {shard.slots}" if shard.slots else ""
    return _extras(settings, industry, shard.replicas) + slots


def _extras(settings: Settings, industry: str | None, replicas: list[SecretStr]) -> str:
    limits = pool_limits(settings, industry)
    pool = f"{limits.mode} pool of {limits.min} to {limits.max}"
    others = ", ".join(_place(url) for url in replicas)
    return f"{pool}, replicas {others}" if others else pool


def _place(url: SecretStr) -> str:
    return dsn.parse(url.get_secret_value()).place


def _aligned(rows: list[tuple[str, str, str]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    return [
        f"{first:<{widths[0]}}  {second:<{widths[1]}}  {third}".rstrip()
        for first, second, third in rows
    ]
