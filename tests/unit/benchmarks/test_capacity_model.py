"""The capacity model against arithmetic that can be done by hand."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.capacity import deployment as deploy
from benchmarks.capacity import plan
from benchmarks.capacity.check import Local, check
from benchmarks.capacity.costs import Costs, StatementCost
from benchmarks.capacity.deployment import Deployment, deployment_of
from benchmarks.capacity.model import Kind, Model, hourly_for
from benchmarks.capacity.profile import (
    Machine,
    Mix,
    Profile,
    ProfileError,
    Spread,
    load_profile,
)
from benchmarks.capacity.queueing import erlang_c, shared, wait
from gateway.settings.model import Settings

ONE = StatementCost(gateway_cpu_us=100, primary_cpu_us=200, replay_cpu_us=50, direct_ms=1.0)
COSTS = Costs(
    statements=dict.fromkeys(("row", "list", "report", "insert", "update"), ONE),
    login_cpu_us=0,
    client_kb=10,
    owner_kb=0,
    worker_mb=0,
    backend_mb=5,
)
# One statement per owner and second at the peak.
PROFILE = Profile(
    statements_per_owner_hour=3600,
    peak_factor=1,
    read_share=1,
    network_ms=0,
    commit_ms=0,
    cpu_max=1,
    pool_max=1,
    memory_max=1,
    logins_per_owner_hour=0,
)
HERE = Machine(cores=2, memory_gb=8)


def deployed(profile: Profile = PROFILE, **more: object) -> Deployment:
    """Two industries, the second on two shards, each on a host of its own."""
    settings = Settings.model_validate(
        {
            "meta": {"primary": "postgresql://g@meta/meta"},
            "pool": {"max": 10},
            "industries": {
                "LAW": {
                    "shards": [
                        {
                            "primary": "postgresql://g@law/law",
                            "replicas": ["postgresql://g@law-2/law"],
                        }
                    ]
                },
                "MEDICAL": {
                    "shards": [
                        {"primary": "postgresql://g@medical-1/m"},
                        {"primary": "postgresql://g@medical-2/m"},
                    ]
                },
            },
            **more,
        }
    )
    return deployment_of(settings, profile, HERE)


def costing(**more: float) -> Costs:
    """All classes of statements alike, with other costs."""
    one = replace(ONE, **more)
    return replace(COSTS, statements=dict.fromkeys(COSTS.statements, one))


def test_one_worker_carries_what_its_core_does() -> None:
    verdict = Model(deployed(), PROFILE, COSTS).verdict()
    assert verdict.first.kind is Kind.WORKERS
    assert verdict.carried == pytest.approx(10_000)


def test_each_machine_has_the_owners_of_its_databases() -> None:
    used = Model(deployed(), PROFILE, COSTS).machine_cpu()
    assert used["law"] == pytest.approx(0.5 * 200e-6)
    assert used["medical-1"] == used["medical-2"] == pytest.approx(0.25 * 200e-6)
    assert used["law-2"] == 0
    assert used[deploy.GATEWAY] == pytest.approx(100e-6)


def test_a_pool_is_full_when_all_its_connections_are_busy() -> None:
    law = next(
        one
        for one in Model(deployed(), PROFILE, COSTS).resources()
        if one.kind is Kind.POOL and one.name == "law"
    )
    # 10 connections, 1 ms each, half of the owners.
    assert law.owners == pytest.approx(10 / 0.001 / 0.5)


def test_reads_go_to_replicas_where_the_policy_says_so() -> None:
    reading = deployed(reads={"policy": "prefer-replica"})
    used = Model(reading, PROFILE, COSTS).machine_cpu()
    assert used["law-2"] == pytest.approx(0.5 * 0.9 * 200e-6)
    assert used["law"] == pytest.approx(0.5 * 0.1 * 200e-6)
    # An industry without a replica reads from its primary.
    assert used["medical-1"] == pytest.approx(0.25 * 200e-6)


def test_replicas_replay_writes() -> None:
    writing = PROFILE.model_copy(update={"read_share": 0.0})
    used = Model(deployed(writing), writing, COSTS).machine_cpu()
    assert used["law-2"] == pytest.approx(0.5 * 50e-6)


def test_a_transaction_holds_its_connection_through_the_pauses() -> None:
    profile = Profile(
        read_share=0,
        writes_per_transaction=2,
        network_ms=0.5,
        app_pause_ms=1,
        commit_ms=3,
        statements_per_owner_hour=3600,
        peak_factor=1,
    )
    base = deployed(profile)
    law = next(one for one in base.databases if one.name == "law")
    held = Model(base, profile, COSTS).held(law, law.primary)
    # Two writes of 1.5 ms, BEGIN and COMMIT, three pauses, the commit; one such per 2 s.
    assert held == pytest.approx((2 * 1.5 + 2 * 0.5 + 3 * 1 + 3) / 1000 / 2)


def test_databases_on_loopback_share_the_gateways_machine() -> None:
    settings = Settings.model_validate(
        {
            "meta": {"primary": "postgresql://g@127.0.0.1/meta"},
            "industries": {"LAW": {"shards": [{"primary": "postgresql://g@127.0.0.1/law"}]}},
        }
    )
    here = deployment_of(settings, PROFILE, HERE)
    assert here.machines == {"127.0.0.1": HERE}
    used = Model(here, PROFILE, COSTS).machine_cpu()
    assert used == {"127.0.0.1": pytest.approx(300e-6)}
    assert Model(here, PROFILE, COSTS).verdict().first.kind is Kind.CPU


@pytest.mark.parametrize(
    ("change", "times"),
    [
        (lambda one: deploy.with_workers(one, 2), 2.0),
        (lambda one: deploy.with_pools(one, 2), 1.0),
        (deploy.reading_replicas, 1.0),
    ],
)
def test_what_a_change_gives_where_one_worker_is_full(change: object, times: float) -> None:
    assert callable(change)
    base = deployed()
    carried = Model(base, PROFILE, COSTS).carried()
    assert Model(change(base), PROFILE, COSTS).carried() == pytest.approx(times * carried)


def test_more_shards_and_replicas_relieve_the_databases() -> None:
    dear = costing(gateway_cpu_us=1)
    base = deployed()
    one = Model(base, PROFILE, dear).verdict()
    assert one.first.name == "law"
    shards = Model(deploy.with_shards(base, 2, PROFILE), PROFILE, dear)
    assert shards.carried() == pytest.approx(2 * one.carried)
    replicas = Model(deploy.with_replicas(base, 1, PROFILE), PROFILE, dear)
    assert replicas.carried() == pytest.approx(one.carried / 0.9)


def test_pools_that_a_server_has_no_room_for_are_told() -> None:
    profile = PROFILE.model_copy(update={"max_connections": 12})
    problems = Model(deployed(profile), profile, COSTS).verdict().problems
    assert any("law:5432" in one and "10 connections" in one for one in problems)


def test_latency_grows_to_the_knee_and_ends_where_something_is_full() -> None:
    model = Model(deployed(), PROFILE, COSTS)
    alone = model.latency_s(0)
    assert alone == pytest.approx(1.1e-3)
    knee = model.knee()
    assert model.latency_s(knee) == pytest.approx(2 * alone, rel=1e-3)
    assert knee < model.carried()
    assert math.isinf(model.latency_s(model.carried() + 1))


def test_the_load_that_makes_a_number_the_limit() -> None:
    def make(hourly: float) -> Model:
        changed = PROFILE.model_copy(update={"statements_per_owner_hour": hourly})
        return Model(deployed(), changed, COSTS)

    assert hourly_for(10_000, make) == pytest.approx(3600)
    assert hourly_for(20_000, make) == pytest.approx(1800)


def test_without_pooling_connections_are_what_ends_first() -> None:
    first, *_ = plan.compare(Profile(), COSTS)
    assert first.verdict.first.kind is Kind.CONNECTIONS
    assert first.verdict.carried == pytest.approx((200 - 3) / 0.1)


def test_the_plan_says_how_many_workers_it_takes() -> None:
    _, pooled, _ = plan.compare(Profile(), costing(gateway_cpu_us=300))
    needed = 50_000 * (600 * 4 / 3600) * 300e-6 / 0.7
    assert pooled.workers == math.ceil(needed)
    assert f"{pooled.workers} workers would do" in plan.why(pooled)


def test_a_check_varies_what_is_deployed() -> None:
    settings = Settings.model_validate(
        {
            "meta": {"primary": "postgresql://g@meta/meta"},
            "industries": {"LAW": {"shards": [{"primary": "postgresql://g@law/law"}]}},
        }
    )
    found = check(
        settings, Profile(commit_ms=0, network_ms=0), costing(primary_cpu_us=1, direct_ms=0.1), HERE
    )
    by_name = {one.name: one.verdict.carried for one in found.variations}
    assert by_name["2 workers"] == pytest.approx(2 * found.verdict.carried)
    assert by_name["twice the statements"] == pytest.approx(found.verdict.carried / 2, rel=0.01)


def test_the_machine_measured_is_full_when_its_cores_are() -> None:
    local = Local(PROFILE, COSTS, cores=2, load_us=100)
    # 100 us in the gateway, 250 in PostgreSQL and its standby, 100 in the load.
    assert local.most_per_s == pytest.approx(2 / 450e-6)
    assert math.isinf(local.latency_s(local.most_per_s))


@pytest.mark.parametrize(("servers", "load", "chance"), [(1, 0.5, 0.5), (2, 1.0, 1 / 3), (3, 3, 1)])
def test_erlangs_chance_to_wait(servers: int, load: float, chance: float) -> None:
    assert erlang_c(servers, load) == pytest.approx(chance)


def test_one_server_half_busy_makes_wait_as_long_as_it_serves() -> None:
    assert wait(1, 0.5, 2.0) == pytest.approx(2.0)
    assert math.isinf(wait(2, 2.0, 1.0))
    assert shared(0.5, 0.0, 1.0) == pytest.approx(2.0)  # half a core is a slow one


def test_industries_share_owners_as_told() -> None:
    names = ["LAW", "MEDICAL"]
    of = deploy.industry_shares
    assert of(PROFILE, names) == {"LAW": 0.5, "MEDICAL": 0.5}
    zipf = PROFILE.model_copy(update={"spread": Spread.ZIPF})
    assert of(zipf, names)["LAW"] == pytest.approx(2 / 3)
    told = PROFILE.model_copy(update={"spread": {"LAW": 3.0, "MEDICAL": 1.0}})
    assert of(told, names) == {"LAW": 0.75, "MEDICAL": 0.25}


def test_a_profile_comes_from_a_file_and_options(tmp_path: Path) -> None:
    file = tmp_path / "profile.yaml"
    file.write_text("read_share: 0.5\nmachines:\n  law: {cores: 8, memory_gb: 32}\n")
    found = load_profile(file, ["peak_factor=2", "mix.row=0", "read_share=0.6"])
    assert (found.read_share, found.peak_factor, found.mix.row) == (0.6, 2, 0)
    assert found.machines["law"].cores == 8
    with pytest.raises(ProfileError, match="no_such"):
        load_profile(file, ["no_such=1"])
    with pytest.raises(ProfileError, match="name=value"):
        load_profile(None, ["peak_factor"])


def test_a_mix_without_writes_has_none() -> None:
    assert Mix(insert=0, update=0).shares(("insert", "update")) == {"insert": 0, "update": 0}


def test_costs_are_kept_as_json(tmp_path: Path) -> None:
    COSTS.save(tmp_path / "costs.json")
    assert Costs.load(tmp_path / "costs.json") == COSTS
