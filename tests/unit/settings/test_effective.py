"""Pool limits and rules of reads: an industry's own, else the common ones."""

from __future__ import annotations

import pytest

from gateway.settings.effective import pool_limits, read_rules
from gateway.settings.model import Pool, PoolMode, ReadPolicy, Reads
from tests.unit.settings.samples import SMALLEST, load, problems, url

TEXT = f"""\
pool: {{max: 30, queue_max: 5}}
meta:
  primary: {url("meta")}
  pool: {{max: 3}}
industries:
  LAW:
    shards: [primary: "{url("law")}"]
    pool: {{mode: session, min: 2, queue_max: 0}}
  MEDICAL:
    shards: [primary: "{url("medical")}"]
"""


def test_own_limits_win_and_the_rest_is_inherited() -> None:
    settings = load(TEXT)
    common = Pool(max=30, queue_max=5)
    assert pool_limits(settings, "MEDICAL") == common
    assert pool_limits(settings, "LAW") == common.model_copy(
        update={"mode": PoolMode.SESSION, "min": 2, "queue_max": 0}
    )
    assert pool_limits(settings, None) == common.model_copy(update={"max": 3})


def test_every_override_is_an_option_of_the_pool() -> None:
    settings = load(SMALLEST)
    overrides = type(settings.meta.pool).model_fields.keys()
    assert overrides < Pool.model_fields.keys()


def test_unknown_industry() -> None:
    with pytest.raises(KeyError):
        pool_limits(load(SMALLEST), "NOWHERE")


READS = f"""\
reads: {{policy: prefer-replica, lag_max_bytes: 1000}}
meta:
  primary: {url("meta")}
  reads: {{policy: primary}}
industries:
  LAW:
    shards: [{{primary: "{url("law")}", replicas: ["{url("law", "standby")}"]}}]
    reads: {{lag_max_ms: 50}}
  MEDICAL:
    shards: [primary: "{url("medical")}"]
"""


def test_own_rules_of_reads_win_and_the_rest_is_inherited() -> None:
    settings = load(READS)
    common = Reads(policy=ReadPolicy.PREFER_REPLICA, lag_max_bytes=1000)
    assert read_rules(settings, "MEDICAL") == common
    assert read_rules(settings, "LAW") == common.model_copy(update={"lag_max_ms": 50})
    assert read_rules(settings, None).policy is ReadPolicy.PRIMARY
    assert type(settings.meta.reads).model_fields.keys() == Reads.model_fields.keys()
    assert Reads().policy is ReadPolicy.PRIMARY


def test_replica_only_needs_replicas() -> None:
    missing = "needs replicas, for its reads.policy is replica-only"
    text = READS.replace("prefer-replica", "replica-only")
    assert problems(text) == [f"f:10:14: industries.MEDICAL.shards[0]: {missing}"]
    text = READS.replace("{policy: primary}", "{policy: replica-only}")
    assert problems(text) == [f"f:3:3: meta: {missing}"]
