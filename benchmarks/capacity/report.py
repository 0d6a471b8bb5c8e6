"""The report of a capacity check in Markdown: what is carried, what fills up, what helps, the plan.

It says of each part whether it was measured, taken over from settings, assumed or calculated.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.capacity import plots
from benchmarks.capacity.check import Check, Local
from benchmarks.capacity.measure import Point
from benchmarks.capacity.plan import Compared, why
from benchmarks.capacity.profile import described, values

REPORT = "report.md"


@dataclass(frozen=True, slots=True)
class Told:
    """Everything a report is made of. ``points`` is empty where nothing was measured."""

    check: Check
    points: Sequence[Point]
    conditions: Mapping[str, str]
    notes: Sequence[str]


def local(told: Told, cores: float) -> Local | None:
    """The model of the machine measured; None where nothing was measured."""
    if not told.points:
        return None
    last = told.points[-1]
    others = min(one.other_cores for one in told.points)
    load_us = last.load_cores / last.per_s * 1e6
    check = told.check
    return Local(check.profile, check.costs, max(0.1, cores - others), load_us)


def knee(points: Sequence[Point]) -> Point | None:
    """The fullest load whose mean time is at most twice that of a single client."""
    if not points:
        return None
    within = [one for one in points if one.mean_ms <= 2 * points[0].mean_ms]
    return max(within, key=lambda one: one.per_s)


def write_report(told: Told, folder: Path, cores: float) -> Path:
    """Writes report.md and its plots into ``folder``."""
    here = local(told, cores)
    pictures = plots.draw(told.check, told.points, here, folder)
    path = folder / REPORT
    path.write_text("\n".join(_lines(told, here, pictures)) + "\n")
    return path


def _lines(told: Told, here: Local | None, pictures: Sequence[tuple[str, str]]) -> Iterator[str]:
    yield "# Capacity"
    yield ""
    yield from summary(told)
    yield ""
    for note in told.notes:
        yield f"**{note}**"
        yield ""
    for title, file in pictures:
        yield f"![{title}]({file})"
        yield ""
    yield from _resources(told.check)
    yield from _variations(told.check)
    yield from _plan(told.check.plan)
    yield from _measured(told, here)
    yield from _costs(told)
    yield from _profile(told.check)
    yield from _limits()


def summary(told: Told) -> Iterator[str]:
    """What matters, in few lines."""
    check = told.check
    verdict = check.verdict
    yield (
        f"With these settings and this profile the deployment carries **{number(verdict.carried)}"
        f" owners**. First to fill up: **{verdict.first.kind} ({verdict.first.name})**. Waiting"
        f" begins to rule (a statement takes twice as long as alone) at {number(verdict.knee)}."
    )
    yield ""
    yield (
        f"That is {check.profile.statements_per_owner_s * verdict.carried:,.0f} statements/s:"
        f" {check.profile.statements_per_owner_hour:g} per owner in an average hour,"
        f" {check.profile.peak_factor:g} times as many at the peak,"
        f" {check.profile.read_share:.0%} of them reads. Calculated from costs that were measured"
        f" on one machine; no run had so many owners at work."
    )
    for problem in verdict.problems:
        yield ""
        yield f"**Mind: {problem}.**"


def _resources(check: Check) -> Iterator[str]:
    yield "## What fills up, in order"
    yield ""
    yield "The first of each kind; *may be used* is the limit with the profile's headroom."
    yield ""
    rows = [
        [
            f"{kind} ({one.name})",
            f"{number(one.limit)} {kind.unit}",
            number(one.owners),
            f"{one.used(check.verdict.carried):.0%}",
        ]
        for kind, one in check.verdict.by_kind.items()
    ]
    at = f"used at {number(check.verdict.carried)} owners"
    yield from _table(["", "may be used", "full at owners", at], rows)


def _variations(check: Check) -> Iterator[str]:
    yield "## What would change it"
    yield ""
    rows = [_variation("as it is", check.verdict.carried, check)]
    for one in check.variations:
        first = one.verdict.first
        limit = f"{first.kind} ({first.name})"
        rows.append([*_variation(one.name, one.verdict.carried, check)[:3], limit])
    yield from _table(["", "owners", "", "first to fill up"], rows)


def _variation(name: str, carried: float, check: Check) -> list[str]:
    first = check.verdict.first
    times = carried / check.verdict.carried if check.verdict.carried else math.nan
    return [name, number(carried), f"x {times:.2f}", f"{first.kind} ({first.name})"]


def _plan(rows: Sequence[Compared]) -> Iterator[str]:
    yield "## The plan"
    yield ""
    yield (
        "What this product is sized by, against the model with the costs measured and the"
        " profile's machines."
    )
    yield ""
    yield from _table(
        ["deployment", "plan", "model", "where they differ"],
        [
            [
                f"{one.row.name}: {one.row.assumed}",
                _promised(one),
                number(one.verdict.carried),
                why(one),
            ]
            for one in rows
        ],
    )
    yield (
        "The plan does not say how much an owner asks for, on which machines; the profile below"
        " does. Where the model gives more, that is what is left for rows and indexes that outgrow"
        " memory, slower statements, uneven industries and machines that are shared; none of these"
        " was measured here."
    )
    yield ""


def _promised(one: Compared) -> str:
    low, high = one.row.promised
    return f"{low:,} and more" if high is None else f"{low:,} to {high:,}"


def _measured(told: Told, here: Local | None) -> Iterator[str]:
    if here is None:
        return
    yield "## Measured on this machine, everything on it"
    yield ""
    rows = [
        [
            str(one.clients),
            f"{one.per_s:,.0f}",
            f"{one.mean_ms:.2f}",
            f"{one.p50_ms:.2f}",
            f"{one.p95_ms:.2f}",
            f"{one.p99_ms:.2f}",
            _ms(here.latency_s(one.per_s)),
            *(f"{used:.2f}" for used in (one.gateway_cores, one.postgres_cores)),
            *(f"{used:.2f}" for used in (one.load_cores, one.other_cores)),
            str(one.errors),
        ]
        for one in told.points
    ]
    titles = ["clients", "statements/s", "mean ms", "p50", "p95", "p99", "model's mean ms"]
    cores = [f"cores: {who}" for who in ("gateway", "PostgreSQL", "load", "others")]
    yield from _table([*titles, *cores, "errors"], rows)
    best = max(one.per_s for one in told.points)
    turn = knee(told.points)
    assert turn is not None
    yield (
        f"Knee: {turn.per_s:,.0f} statements/s with {turn.clients} clients, the most at which the"
        f" mean is at most twice that of one client. Most: {best:,.0f}/s; the model says"
        f" {here.most_per_s:,.0f}/s for the {here.cores:.2f} cores that others left, the load"
        f" itself included ({best / here.most_per_s:.0%} of it was reached)."
    )
    yield ""


def _costs(told: Told) -> Iterator[str]:
    costs = told.check.costs
    yield "## What things cost"
    yield ""
    for name, value in costs.conditions.items():
        yield f"- {name}: {value}"
    yield ""
    yield from _table(
        ["statement", "gateway CPU us", "PostgreSQL CPU us", "standby CPU us", "alone, direct, ms"],
        [
            [
                name,
                f"{one.gateway_cpu_us:.0f}",
                f"{one.primary_cpu_us:.0f}",
                f"{one.replay_cpu_us:.0f}",
                f"{one.direct_ms:.2f}",
            ]
            for name, one in costs.statements.items()
        ],
    )
    yield from _table(
        ["", ""],
        [
            ["gateway CPU for a login, us", f"{costs.login_cpu_us:.0f}"],
            ["gateway memory for an idle client, KB", f"{costs.client_kb:.1f}"],
            ["gateway memory for a known owner, KB", f"{costs.owner_kb:.2f}"],
            ["memory of a worker without clients, MB", f"{costs.worker_mb:.0f}"],
            ["PostgreSQL's memory for a connection, MB", f"{costs.backend_mb:.1f}"],
        ],
    )


def _profile(check: Check) -> Iterator[str]:
    yield "## The profile: what is assumed"
    yield ""
    rows = [
        [f"`{name}`", value if value == default else f"**{value}** (default: {default})", meaning]
        for (name, default, meaning), value in zip(described(), values(check.profile), strict=True)
    ]
    yield from _table(["", "", ""], rows)


def _limits() -> Iterator[str]:
    yield "## What this does not tell"
    yield ""
    yield from (
        "- Costs are those of this machine, with rows that lie in memory and no fsync; `core_speed`"
        " and `commit_ms` stand for others. Owners with many more rows make statements dearer.",
        "- CPU per statement is taken to stay the same under load and with more workers, pools and"
        " shards. Two workers were not measured by this command; `make bench` does.",
        "- Waiting follows queues with random arrivals; owners who act at the same moment (a"
        " newsletter, the full hour) are the profile's peak factor.",
        "- Disks, locks, autovacuum, backups and the network's bandwidth are not in the model.",
    )


def number(value: float) -> str:
    """For people: two or three digits that mean something."""
    if math.isinf(value):
        return "never"
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    digits = 3 - 1 - math.floor(math.log10(abs(value)))
    rounded = round(value, digits)
    return f"{rounded:,.0f}" if abs(rounded) >= 100 else f"{rounded:g}"


def _ms(seconds: float) -> str:
    return "full" if math.isinf(seconds) else f"{seconds * 1000:.2f}"


def _table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(titles)} |"
    yield "|" + "---|" * len(titles)
    for row in rows:
        yield f"| {' | '.join(row)} |"
    yield ""
