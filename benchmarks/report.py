"""The report of a run in Markdown: tables, ratios, goals, plots, and how to do it again.

`python -m benchmarks.report FOLDER` writes it anew from the measurements.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.figures import FIGURES, Figure
from benchmarks.goals import BASE, verdicts
from benchmarks.plots import plots
from benchmarks.results import Results

REPORT = "report.md"

_DIRECT = "direct"
# Told in one line for all; else each figure has a table of its own.
_ADDED = ("p50_ms", "p99_ms")
_WITHOUT_RATIO = ("cores", "system_share", "errors", "reads_of_own_writes", "stale_reads")


def write_report(results: Results) -> Path:
    """Writes report.md and its plots into the run's folder."""
    path = results.folder / REPORT
    path.write_text("\n".join(_lines(results)) + "\n")
    return path


def _lines(results: Results) -> Iterator[str]:
    about = results.abouts[-1]
    yield f"# Benchmark of {about.started}"
    yield ""
    yield from _conditions(results)
    yield from _goals(results)
    pictures = plots(results)
    if pictures:
        yield "## Plots"
        yield ""
        for title, file in pictures:
            yield f"![{title}]({file})"
            yield ""
    for group in dict.fromkeys(results.scenarios().values()):
        yield f"## {group[0].upper()}{group[1:]}"
        yield ""
        yield from _group(results, group)
    yield from _failures(results)
    yield from _commands(results)


def _conditions(results: Results) -> Iterator[str]:
    about = results.abouts[-1]
    yield (
        "All on one machine and loopback, targets in turns within one run. Medians over the"
        " repetitions; ± is half the range. Ratios are to PgBouncer, taken within each repetition"
        " first."
    )
    yield ""
    yield "| | |"
    yield "|---|---|"
    for name, value in {**about.machine, **about.versions}.items():
        yield f"| {name} | {value} |"
    settings = ", ".join(f"{name} = {value}" for name, value in about.postgres_settings.items())
    yield f"| PostgreSQL's settings | {settings} |"
    yield f"| data | pgbench scale {about.scale}; {about.owners:,} owners |"
    yield f"| each load | {about.seconds:g} s{', short run' if about.short else ''} |"
    yield f"| command | `{about.command}` |"
    yield ""
    if len(results.abouts) > 1:
        versions = {str(sorted(one.versions.items())) for one in results.abouts}
        differ = "" if len(versions) == 1 else ", **with other versions**"
        yield f"Stopped and taken up again {len(results.abouts) - 1} times{differ}."
        yield ""
    for note in about.notes:
        yield f"**{note}**"
        yield ""


def _goals(results: Results) -> Iterator[str]:
    for target in _gateways(results):
        rows = list(verdicts(results, target))
        if not any(one.measured for one in rows):
            continue
        yield f"## Goals of {target}"
        yield ""
        yield "| ratio to PgBouncer, or as it says | at least | aim | best | worst | where | |"
        yield "|---|---|---|---|---|---|---|"
        for one in rows:
            sign = ">=" if FIGURES[one.goal.figure].more_is_better else "<="
            yield (
                f"| {one.goal.title} | {sign} {one.goal.at_least:g} | {sign} {one.goal.aim:g} |"
                f" {_shown(one.best)} | {_shown(one.worst)} | {one.worst_scenario} | {one.text} |"
            )
        yield ""


def _shown(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.2f}"


def _group(results: Results, group: str) -> Iterator[str]:
    scenarios = [name for name, its in results.scenarios().items() if its == group]
    for name, figure in FIGURES.items():
        rows = [row for one in scenarios if (row := _row(results, one, name, figure))]
        if not rows:
            continue
        gateways = _compared(results, name)
        titles = [figure.title, *results.targets(), *(f"{one} / {BASE}" for one in gateways)]
        yield from _table(titles, rows)
        if name in _ADDED:
            yield from _added(results, scenarios, name, figure)


def _row(results: Results, scenario: str, name: str, figure: Figure) -> list[str]:
    cells, found = [scenario], False
    for target in results.targets():
        summary = results.summary(scenario, target, name)
        if summary is None:
            cells.append("")
            continue
        found = True
        spread = f" ±{summary.spread:.0%}" if summary.count > 1 else ""
        cells.append(f"{summary.median:,.{figure.digits}f}{spread}")
    cells += [_ratio(results, scenario, target, name) for target in _compared(results, name)]
    return cells if found else []


def _compared(results: Results, name: str) -> list[str]:
    """Targets that have a column for the ratio to PgBouncer."""
    return _gateways(results) if BASE in results.targets() and name not in _WITHOUT_RATIO else []


def _ratio(results: Results, scenario: str, target: str, name: str) -> str:
    ratio = results.ratio(scenario, target, BASE, name)
    return "" if ratio is None else f"{ratio:.2f}"


def _added(results: Results, scenarios: Sequence[str], name: str, figure: Figure) -> Iterator[str]:
    """How much longer than PostgreSQL alone."""
    proxies = [one for one in results.targets() if one != _DIRECT]
    rows = []
    for scenario in scenarios:
        base = results.median(scenario, _DIRECT, name)
        values = [results.median(scenario, target, name) for target in proxies]
        if base is not None and any(value is not None for value in values):
            cells = ["" if one is None else f"{one - base:+.{figure.digits}f}" for one in values]
            rows.append([scenario, *cells])
    if rows:
        yield from _table([f"{figure.title} added to direct", *proxies], rows)


def _failures(results: Results) -> Iterator[str]:
    failures = list(results.failures())
    if failures:
        yield "## Failed"
        yield ""
        for one in failures:
            reason = " ".join(one.error.split())
            yield f"- {one.scenario} on {one.target}, repetition {one.repetition + 1}: {reason}"
        yield ""


def _commands(results: Results) -> Iterator[str]:
    yield "## What was run"
    yield ""
    yield "```"
    for scenario, command in results.commands().items():
        yield f"{scenario}: {command}"
    yield "```"


def _table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(titles)} |"
    yield "|---|" + "---:|" * (len(titles) - 1)
    for row in rows:
        yield f"| {' | '.join(row)} |"
    yield ""


def _gateways(results: Results) -> list[str]:
    return [target for target in results.targets() if target not in (_DIRECT, BASE)]


if __name__ == "__main__":
    print(write_report(Results(Path(sys.argv[1]))))
