"""Pool limits: an industry's own, else the common ones."""

from __future__ import annotations

import pytest

from gateway.settings.effective import pool_limits
from gateway.settings.model import Pool, PoolMode
from tests.unit.settings.samples import SMALLEST, load, url

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
