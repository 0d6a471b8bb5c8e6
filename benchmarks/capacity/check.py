"""A capacity check as a whole: the deployment in use, what could be changed, the plan. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.capacity import deployment as deploy
from benchmarks.capacity import plan
from benchmarks.capacity.costs import Costs
from benchmarks.capacity.deployment import Deployment, deployment_of
from benchmarks.capacity.model import Model, Verdict
from benchmarks.capacity.profile import Machine, Profile
from benchmarks.capacity.queueing import shared
from gateway.settings.model import WORKERS_MAX, Settings


@dataclass(frozen=True, slots=True)
class Variation:
    """The deployment with one thing changed."""

    name: str
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Check:
    """What the report tells."""

    profile: Profile
    costs: Costs
    deployment: Deployment
    model: Model
    verdict: Verdict
    variations: Sequence[Variation]
    plan: Sequence[plan.Compared]


def check(settings: Settings, profile: Profile, costs: Costs, here: Machine) -> Check:
    """Everything that follows from these; ``here`` is the machine that loopback stands for."""
    deployment = deployment_of(settings, profile, here)
    model = Model(deployment, profile, costs)
    return Check(
        profile=profile,
        costs=costs,
        deployment=deployment,
        model=model,
        verdict=model.verdict(),
        variations=[
            Variation(name, Model(*changed, costs).verdict())
            for name, changed in _variations(deployment, profile)
        ],
        plan=plan.compare(profile, costs),
    )


def _variations(base: Deployment, profile: Profile) -> list[tuple[str, tuple[Deployment, Profile]]]:
    """Name, deployment and profile of each; the ones that build on others come last."""
    spread = deploy.apart(base, profile)
    workers = base.workers
    changed: Mapping[str, Deployment] = {
        f"{2 * workers} workers": deploy.with_workers(base, 2 * workers),
        "pools half as big": deploy.with_pools(base, 0.5),
        "pools twice as big": deploy.with_pools(base, 2),
        "reads on the replicas there are": deploy.reading_replicas(base),
        "every database, and the gateway, on a machine of its own": spread,
        "... and reads on the replicas there are": deploy.reading_replicas(spread),
        f"... and {4 * workers} workers": deploy.with_workers(spread, 4 * workers),
        f"... and {4 * workers} workers, 1 replica each": deploy.with_workers(
            deploy.with_replicas(spread, 1, profile), 4 * workers
        ),
        f"... and {4 * workers} workers, twice the shards": deploy.with_workers(
            deploy.with_shards(spread, 2, profile), 4 * workers
        ),
        f"... and {WORKERS_MAX} workers, the most": deploy.with_workers(spread, WORKERS_MAX),
        f"... and {WORKERS_MAX} workers, twice the shards, 1 replica each": deploy.with_workers(
            deploy.with_shards(deploy.with_replicas(spread, 1, profile), 2, profile), WORKERS_MAX
        ),
    }
    found = [(name, (one, profile)) for name, one in changed.items()]
    for name, update in _PROFILES.items():
        other = profile.model_copy(update=update(profile))
        found.append((name, (base, other)))
    return found


_PROFILES: Mapping[str, Callable[[Profile], dict[str, object]]] = {
    "twice the statements": lambda one: {
        "statements_per_owner_hour": one.statements_per_owner_hour * 2
    },
    "half as many reads": lambda one: {"read_share": one.read_share / 2},
    "transactions of 4 writes": lambda one: {"writes_per_transaction": 4.0},
}


# --- the model against what was measured on this machine ---


@dataclass(frozen=True, slots=True)
class Local:
    """What the model says of the machine measured, where everything runs beside each other."""

    profile: Profile
    costs: Costs
    cores: float
    """What is left of the machine by others."""
    load_us: float
    """CPU of the load itself, per statement."""

    @property
    def most_per_s(self) -> float:
        """Where the machine, or one worker's core, is full."""
        return min(self.cores / self._all_s, 1 / self._gateway_s)

    def latency_s(self, per_s: float) -> float:
        """Mean time of a statement at a rate; inf where something is full."""
        busy = per_s * self._all_s
        if busy >= self.cores or per_s * self._gateway_s >= 1:
            return math.inf
        in_worker = shared(1.0, per_s * self._gateway_s, self._gateway_s)
        on_cores = shared(self.cores, busy, self._all_s) - self._all_s
        return in_worker + on_cores + self._mean(self._direct_ms) * 1e-3

    @property
    def _gateway_s(self) -> float:
        return self._mean(lambda name: self.costs.statements[name].gateway_cpu_us) * 1e-6

    @property
    def _all_s(self) -> float:
        postgres = self._mean(self._postgres_us)
        return self._gateway_s + (postgres + self.load_us) * 1e-6

    def _direct_ms(self, name: str) -> float:
        return self.costs.statements[name].direct_ms

    def _postgres_us(self, name: str) -> float:
        cost = self.costs.statements[name]
        return cost.primary_cpu_us + cost.replay_cpu_us

    def _mean(self, of: Callable[[str], float]) -> float:
        return sum(of(name) * part for name, part in self.profile.statement_shares().items())
