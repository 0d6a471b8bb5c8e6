"""The plots of a capacity check; none where matplotlib is missing."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.capacity.check import Check, Local
from benchmarks.capacity.measure import Point
from benchmarks.plots import AVAILABLE

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_STEPS = 200
_MEASURED, _MODEL, _LIMIT = "#d62728", "#1f77b4", "#8c8c8c"


def draw(
    check: Check, points: Sequence[Point], here: Local | None, folder: Path
) -> list[tuple[str, str]]:
    """Title and file of each plot, in ``folder``."""
    if not AVAILABLE:
        return []
    drawn: list[tuple[str, str, Callable[[Axes], None]]] = [
        ("Latency over owners, by the model", "owners.png", lambda axes: _owners(axes, check)),
        ("What fills up", "resources.png", lambda axes: _resources(axes, check)),
        ("What would change it", "variations.png", lambda axes: _variations(axes, check)),
        ("The plan and the model", "plan.png", lambda axes: _plan(axes, check)),
    ]
    if here is not None:
        curve = ("Measured here: latency over throughput", "knee.png", _knee(points, here))
        drawn.insert(0, curve)
    for title, file, how in drawn:
        _save(folder / file, title, how)
    return [(title, file) for title, file, _ in drawn]


def _knee(points: Sequence[Point], here: Local) -> Callable[[Axes], None]:
    def on(axes: Axes) -> None:
        axes.plot(
            [one.per_s for one in points],
            [one.mean_ms for one in points],
            marker="o",
            color=_MEASURED,
            label="measured, mean",
        )
        for one in points:
            axes.annotate(str(one.clients), (one.per_s, one.mean_ms), fontsize=7)
        rates = [here.most_per_s * step / _STEPS for step in range(_STEPS)]
        axes.plot(
            rates,
            [here.latency_s(rate) * 1000 for rate in rates],
            color=_MODEL,
            label="model, from the costs",
        )
        axes.set_ylim(0, max(one.mean_ms for one in points) * 1.1)
        axes.set_xlabel("statements/s (numbers at the points: clients)")
        axes.set_ylabel("ms")
        axes.legend()

    return on


def _owners(axes: Axes, check: Check) -> None:
    most = min(max(check.verdict.knee, check.verdict.carried) * 1.3, 1e9)
    owners = [most * step / _STEPS for step in range(_STEPS)]
    times = [check.model.latency_s(count) * 1000 for count in owners]
    axes.plot(owners, [took if math.isfinite(took) else math.nan for took in times], color=_MODEL)
    for where, label in ((check.verdict.carried, "carried"), (check.verdict.knee, "knee")):
        axes.axvline(where, color=_LIMIT, linestyle="--")
        axes.annotate(label, (where, 0), rotation=90, fontsize=8)
    axes.set_ylim(0, times[0] * 5)
    axes.set_xlabel("owners")
    axes.set_ylabel("mean ms of a statement")


def _resources(axes: Axes, check: Check) -> None:
    found = [one for one in check.verdict.by_kind.values() if math.isfinite(one.owners)]
    _bars(axes, [(f"{one.kind}: {one.name}", one.owners) for one in found])


def _variations(axes: Axes, check: Check) -> None:
    rows = [("as it is", check.verdict.carried)]
    rows += [(one.name, one.verdict.carried) for one in check.variations]
    _bars(axes, rows)


def _plan(axes: Axes, check: Check) -> None:
    names = [one.row.name for one in check.plan]
    places = range(len(names))
    axes.barh(
        [place + 0.2 for place in places],
        [one.row.wanted for one in check.plan],
        0.4,
        color=_LIMIT,
        label="plan",
    )
    carried = [one.verdict.carried for one in check.plan]
    axes.barh([place - 0.2 for place in places], carried, 0.4, color=_MODEL, label="model")
    axes.set_yticks(list(places), names)
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.set_xlabel("owners")
    axes.legend()


def _bars(axes: Axes, rows: Sequence[tuple[str, float]]) -> None:
    axes.barh(range(len(rows)), [owners for _, owners in rows], color=_MODEL)
    axes.set_yticks(range(len(rows)), [name for name, _ in rows], fontsize=7)
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.set_xlabel("owners")


def _save(path: Path, title: str, how: Callable[[Axes], None]) -> None:
    import matplotlib as mpl

    mpl.use("Agg")  # no display
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 3.8))
    how(axes)
    axes.set_title(title, fontsize=10)
    axes.grid(visible=True, alpha=0.3)
    figure.tight_layout()
    figure.savefig(path, dpi=80)
    pyplot.close(figure)
