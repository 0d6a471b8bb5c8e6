"""What no option can tell by itself: rules that several options have to keep together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from gateway.settings import dsn
from gateway.settings.effective import pool_limits, read_rules
from gateway.settings.model import (
    SLOTS,
    IndustrySettings,
    MetaSettings,
    ReadPolicy,
    Settings,
    ShardSettings,
    TlsMode,
)
from gateway.settings.problems import Path, Problem, dotted
from gateway.settings.shards import HUB, META, shard_names, slot_ranges


def cross_checks(settings: Settings) -> Iterator[Problem]:
    """Every rule that is broken. Messages hold names and numbers, never a URL."""
    yield from _listeners(settings)
    yield from _pools(settings)
    yield from _reads(settings)
    yield from _names(settings)
    for name, industry in settings.industries.items():
        yield from _slots(("industries", name, "shards"), industry)
    yield from _logins(settings)


def _listeners(settings: Settings) -> Iterator[Problem]:
    listen, http = settings.listen, settings.http
    tls = listen.tls
    if tls.mode is TlsMode.REQUIRE and not tls.certificate_file:
        yield Problem(("listen", "tls", "mode"), "require needs a certificate_file")
    if tls.key_file and not tls.certificate_file:
        yield Problem(("listen", "tls", "key_file"), "needs a certificate_file")
    if http.port and http.port == listen.port and http.host == listen.host:
        yield Problem(("http", "port"), "is the same as listen.port")


def _pools(settings: Settings) -> Iterator[Problem]:
    base = settings.pool
    if base.min > base.max:
        yield Problem(("pool", "min"), f"is more than pool.max, {base.max}")
    if base.connect_backoff_min_ms > base.connect_backoff_max_ms:
        path = ("pool", "connect_backoff_min_ms")
        yield Problem(path, f"is more than connect_backoff_max_ms, {base.connect_backoff_max_ms}")
    yield from _pool_override(settings, None, ("meta", "pool"))
    for name in settings.industries:
        yield from _pool_override(settings, name, ("industries", name, "pool"))


def _pool_override(settings: Settings, industry: str | None, path: Path) -> Iterator[Problem]:
    own = settings.meta.pool if industry is None else settings.industries[industry].pool
    limits = pool_limits(settings, industry)
    if limits.min <= limits.max:
        return
    if own.min is not None:
        yield Problem((*path, "min"), f"is more than max, {limits.max}")
    elif own.max is not None:
        yield Problem((*path, "max"), f"is less than min, {limits.min}")


def _reads(settings: Settings) -> Iterator[Problem]:
    """Reads that only a replica may serve need one."""
    yield from _replicas(settings, None, ("meta",), [settings.meta])
    for name, industry in settings.industries.items():
        yield from _replicas(settings, name, ("industries", name), industry.shards)


def _replicas(
    settings: Settings,
    industry: str | None,
    path: Path,
    shards: Sequence[MetaSettings | ShardSettings],
) -> Iterator[Problem]:
    if read_rules(settings, industry).policy is not ReadPolicy.REPLICA_ONLY:
        return
    for number, shard in enumerate(shards):
        if not shard.replicas:
            place = path if industry is None else (*path, "shards", number)
            yield Problem(place, "needs replicas, for its reads.policy is replica-only")


def _names(settings: Settings) -> Iterator[Problem]:
    """Operators name shards as databases, so no two, and no shard and console, share a name."""
    console = settings.console.database
    if console == META:
        yield Problem(("console", "database"), f"'{META}' is the meta database's name")
    taken: dict[str, str] = {META: "the meta database", console: "the console"}
    if settings.hub is not None:
        if console == HUB:
            yield Problem(("console", "database"), f"'{HUB}' is the hub's name")
        taken[HUB] = "the hub"
    for industry_name, industry in settings.industries.items():
        for number, name in enumerate(shard_names(industry_name, industry)):
            path = ("industries", industry_name, "shards", number)
            if name in taken:
                yield Problem(_said(path, industry.shards[number]), _taken(name, taken[name]))
            taken.setdefault(name, dotted(path))


def _said(path: Path, shard: ShardSettings) -> Path:
    """Where the shard's name stands: on its own, or implied by the shard being there."""
    return (*path, "name") if shard.name else path


def _taken(name: str, holder: str) -> str:
    return f"the name '{name}' belongs to {holder} already; give this shard another 'name'"


def _slots(path: Path, industry: IndustrySettings) -> Iterator[Problem]:
    """The shards that name slots must name each of an industry's slots exactly once."""
    named = [shard.slots for shard in industry.shards]
    if not any(named):
        return
    problems = [
        Problem((*path, number), "names no slots, though other shards of the industry do")
        for number, slots in enumerate(named)
        if not slots
    ]
    owner: dict[int, int] = {}
    for number, slots in enumerate(named):
        problems += _claim((*path, number, "slots"), number, slots or "", owner)
    if not problems and len(owner) < SLOTS:
        first = next(slot for slot in range(SLOTS) if slot not in owner)
        others = SLOTS - len(owner) - 1
        message = f"no shard has slot {first}" + (f", nor {others} others" if others else "")
        problems = [Problem(path, message, on_key=True)]
    yield from problems


def _claim(path: Path, number: int, slots: str, owner: dict[int, int]) -> Iterator[Problem]:
    """Gives shard ``number`` its slots in ``owner``, and tells which it may not have."""
    for first, last in slot_ranges(slots) if slots else []:
        if first > last:
            yield Problem(path, f"{first}-{last} is backwards")
        elif last >= SLOTS:
            yield Problem(path, f"{first}-{last} goes past the last slot, {SLOTS - 1}")
        else:
            taken = [slot for slot in range(first, last + 1) if slot in owner]
            if taken:
                whose = "this shard" if owner[taken[0]] == number else f"shards[{owner[taken[0]]}]"
                yield Problem(path, f"{first}-{last} overlaps: {whose} has slot {taken[0]} already")
            owner.update(dict.fromkeys(range(first, last + 1), number))


def _logins(settings: Settings) -> Iterator[Problem]:
    """A database is reached by one login: pools are shared by all that name the same place."""
    first: dict[tuple[str, int, str], tuple[dsn.Dsn, Path]] = {}
    for path, url in database_urls(settings):
        parsed = dsn.parse(url)
        known, known_path = first.setdefault(parsed.address, (parsed, path))
        if known != parsed:
            yield Problem(
                path,
                f"names the same database as {dotted(known_path)} but with another user, password"
                " or parameter; they should be the same",
            )


def database_urls(settings: Settings) -> Iterator[tuple[Path, str]]:
    """Every database URL and its place in the settings, the meta database's first."""
    yield ("meta", "primary"), settings.meta.primary.get_secret_value()
    for number, replica in enumerate(settings.meta.replicas):
        yield ("meta", "replicas", number), replica.get_secret_value()
    if settings.hub is not None:
        yield ("hub", "primary"), settings.hub.primary.get_secret_value()
    for name, industry in settings.industries.items():
        for index, shard in enumerate(industry.shards):
            path: Path = ("industries", name, "shards", index)
            yield (*path, "primary"), shard.primary.get_secret_value()
            for number, replica in enumerate(shard.replicas):
                yield (*path, "replicas", number), replica.get_secret_value()
