"""The plots of a report; none where matplotlib is missing."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from benchmarks.figures import FIGURES, Summary
from benchmarks.results import Results

if TYPE_CHECKING:
    from matplotlib.axes import Axes

AVAILABLE = importlib.util.find_spec("matplotlib") is not None

_COLOURS: Mapping[str, str] = MappingProxyType(
    {"direct": "#8c8c8c", "pgbouncer": "#1f77b4", "gateway": "#d62728", "gateway-pure": "#ff9896"}
)
_OTHER_COLOUR = "#2ca02c"


@dataclass(frozen=True, slots=True)
class _Over:
    """A figure over the number of clients: one panel per protocol, one line per target."""

    file: str
    workload: str
    figure: str
    logarithmic: bool = False


_OVER_CLIENTS = (
    _Over("select-throughput.png", "select", "per_s"),
    _Over("select-cpu.png", "select", "cpu_s_per_1000"),
    _Over("select-p50.png", "select", "p50_ms", logarithmic=True),
    _Over("select-p99.png", "select", "p99_ms", logarithmic=True),
    _Over("tpcb-throughput.png", "tpcb", "per_s"),
    _Over("tpcb-p99.png", "tpcb", "p99_ms", logarithmic=True),
)
_BARS = (
    ("streams.png", "large results and COPY", "mb_per_s"),
    ("streams-cpu.png", "large results and COPY", "cpu_ms_per_mb"),
    ("tenants.png", "tenants", "per_s"),
    ("tenants-cpu.png", "tenants", "cpu_s_per_1000"),
    ("tenants-p99.png", "tenants", "p99_ms"),
    ("noisy.png", "noisy owner", "quiet_p99_ms"),
    ("split.png", "read/write split", "primary_cpu_s_per_1000"),
    ("tls-cpu.png", "TLS to the client", "cpu_s_per_1000"),
)


def plots(results: Results) -> list[tuple[str, str]]:
    """Draws into the run's folder; title and file of each plot that has something to show."""
    if not AVAILABLE:
        return []
    lines = [
        (f"{over.workload}: {FIGURES[over.figure].title}", over.file)
        for over in _OVER_CLIENTS
        if _draw_over_clients(results, over)
    ]
    bars = [
        (f"{group}: {FIGURES[figure].title}", file)
        for file, group, figure in _BARS
        if _draw_bars(results, file, group, figure)
    ]
    return lines + bars


def _draw_over_clients(results: Results, over: _Over) -> bool:
    panels = _panels(results, over)
    if not panels:
        return False

    def draw(axes: Sequence[Axes]) -> None:
        for panel, (protocol, lines) in zip(axes, panels.items(), strict=True):
            for target, points in lines.items():
                clients = sorted(points)
                panel.errorbar(
                    clients,
                    [points[one].median for one in clients],
                    yerr=[points[one].median * points[one].spread for one in clients],
                    label=target,
                    color=_COLOURS.get(target, _OTHER_COLOUR),
                    marker="o",
                    markersize=4,
                    capsize=3,
                )
            panel.set_title(f"{over.workload}, {protocol}")
            panel.set_xlabel("clients")
            panel.set_xscale("log")
            every = sorted({one for points in lines.values() for one in points})
            panel.set_xticks(every, [str(one) for one in every])
            panel.minorticks_off()
            if over.logarithmic:
                panel.set_yscale("log")
                panel.yaxis.set_major_formatter("{x:g}")
                panel.yaxis.set_minor_formatter("{x:g}")
            else:
                panel.set_ylim(bottom=0)
        axes[0].set_ylabel(FIGURES[over.figure].title)
        axes[0].legend()

    _save(results, over.file, len(panels), draw)
    return True


def _panels(results: Results, over: _Over) -> dict[str, dict[str, dict[int, Summary]]]:
    """By protocol, target and number of clients."""
    panels: dict[str, dict[str, dict[int, Summary]]] = {}
    for scenario, group in results.scenarios().items():
        workload, _, rest = scenario.partition("-")
        if group != "pgbench" or workload != over.workload:
            continue
        protocol, _, clients = rest.partition("-")
        for target in results.targets():
            summary = results.summary(scenario, target, over.figure)
            if summary is not None:
                lines = panels.setdefault(protocol, {})
                lines.setdefault(target, {})[int(clients)] = summary
    return panels


def _draw_bars(results: Results, file: str, group: str, figure: str) -> bool:
    scenarios = [name for name, its in results.scenarios().items() if its == group]
    bars = {
        target: [results.median(scenario, target, figure) or 0.0 for scenario in scenarios]
        for target in results.targets()
    }
    bars = {target: values for target, values in bars.items() if any(values)}
    if not bars:
        return False

    def draw(axes: Sequence[Axes]) -> None:
        width = 0.8 / len(bars)
        for place, (target, values) in enumerate(bars.items()):
            middle = (place - (len(bars) - 1) / 2) * width
            axes[0].bar(
                [index + middle for index in range(len(scenarios))],
                values,
                width,
                label=target,
                color=_COLOURS.get(target, _OTHER_COLOUR),
            )
        axes[0].set_xticks(range(len(scenarios)), scenarios)
        axes[0].set_ylabel(FIGURES[figure].title)
        axes[0].legend()

    _save(results, file, 1, draw)
    return True


def _save(results: Results, file: str, panels: int, draw: Callable[[Sequence[Axes]], None]) -> None:
    import matplotlib as mpl

    mpl.use("Agg")  # no display
    from matplotlib import pyplot

    width = max(6.0, 4.0 * panels)
    figure, axes = pyplot.subplots(1, panels, figsize=(width, 3.6), sharey=True, squeeze=False)
    draw(list(axes[0]))
    for panel in axes[0]:
        panel.grid(visible=True, alpha=0.3)
    figure.tight_layout()
    figure.savefig(results.folder / file, dpi=80)
    pyplot.close(figure)
