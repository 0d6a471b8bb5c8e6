"""Metrics of several workers as those of one gateway: as plain values, and added up."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from prometheus_client import Metric

Plain = dict[str, Any]
"""A family as JSON can carry it: ``name``, ``help``, ``type`` and its samples, each a name, labels
and a value."""

_Labels = tuple[tuple[str, str], ...]


def plain(family: Metric) -> Plain:
    """A family as plain values."""
    samples = [[sample.name, dict(sample.labels), sample.value] for sample in family.samples]
    return {
        "name": family.name,
        "help": family.documentation,
        "type": family.type,
        "samples": samples,
    }


def merged(
    workers: Iterable[Sequence[Plain]],
    rules: Mapping[str, Callable[[float, float], float]] | None = None,
) -> Iterator[Metric]:
    """One family for each name, in the order of the first worker.

    ``rules`` say by name how two values become one; the others are added.
    """
    rules = _RULES if rules is None else rules
    families: dict[str, Metric] = {}
    values: dict[str, dict[tuple[str, _Labels], float]] = {}
    for worker in workers:
        for one in worker:
            name = one["name"]
            families.setdefault(name, Metric(name, one["help"], one["type"]))
            _add(values.setdefault(name, {}), one["samples"], rules.get(name, _sum))
    for name, family in families.items():
        for (sample, labels), value in values[name].items():
            family.add_sample(sample, dict(labels), value)
        yield family


def _add(
    known: dict[tuple[str, _Labels], float],
    samples: Iterable[tuple[str, Mapping[str, str], float]],
    rule: Callable[[float, float], float],
) -> None:
    for name, labels, value in samples:
        key = (name, tuple(labels.items()))
        known[key] = rule(known[key], value) if key in known else value


def _sum(one: float, other: float) -> float:
    return one + other


_RULES: Mapping[str, Callable[[float, float], float]] = {
    "gateway_build_info": max,
    "gateway_ready": max,
    "gateway_settings_epoch": max,
    "gateway_clients_max": max,
    "gateway_pool_servers_max": max,
    "gateway_pool_longest_wait_seconds": max,
    "gateway_pins_oldest_seconds": max,
    "gateway_directory_listening": min,
    # Every worker looks at every database.
    "gateway_endpoint_up": max,
    "gateway_endpoint_primary": max,
    "gateway_endpoint_serves_reads": max,
    "gateway_endpoint_tripped": max,
    "gateway_endpoint_lag_seconds": max,
    "gateway_endpoint_lag_bytes": max,
    "gateway_endpoint_lsn_bytes": max,
    # Figures of processes.
    "process_start_time_seconds": min,
    "process_max_fds": min,
}
