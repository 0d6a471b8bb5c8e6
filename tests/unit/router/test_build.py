"""From settings to the snapshot that routing reads."""

from __future__ import annotations

import pytest

from gateway.router.build import build_snapshot, credentials
from gateway.router.slots import SLOTS, even_ranges
from gateway.router.topology import Endpoint, Role, Shard
from gateway.settings.load import load_environment
from gateway.settings.model import INDUSTRIES, Settings
from tests.unit.settings.samples import SECRET, SMALLEST, environment, load, url


def _two_shards(first: str = "", second: str = "") -> Settings:
    return load(f"""\
console: {{database: admin}}
meta:
  primary: {url("meta")}
  replicas: ["{url("meta", "r1")}", "{url("meta", "r2")}"]
industries:
  REAL_ESTATE:
    shards:
      - primary: {url("re_a")}
        {first}
      - primary: {url("re_b")}
        {second}
""")


def test_names_and_endpoints() -> None:
    snapshot = build_snapshot(_two_shards("replicas: ['postgresql://a@h:1/b']"), epoch=7)
    assert snapshot.epoch == 7
    assert snapshot.console_database == "admin"
    assert snapshot.meta == Shard(
        name="meta",
        industry=None,
        primary=Endpoint("meta", "db", 5432, "meta", Role.PRIMARY),
        replicas=(
            Endpoint("meta-replica-1", "r1", 5432, "meta", Role.REPLICA),
            Endpoint("meta-replica-2", "r2", 5432, "meta", Role.REPLICA),
        ),
    )
    first, second = snapshot.industries["REAL_ESTATE"].shards
    assert first == Shard(
        name="real_estate_1",
        industry="REAL_ESTATE",
        primary=Endpoint("real_estate_1", "db", 5432, "re_a", Role.PRIMARY),
        replicas=(Endpoint("real_estate_1-replica-1", "h", 1, "b", Role.REPLICA),),
    )
    assert second.name == "real_estate_2"
    assert snapshot.shards == {
        "meta": snapshot.meta,
        "real_estate_1": first,
        "real_estate_2": second,
    }


def test_a_single_shard_has_its_industrys_name_and_all_slots() -> None:
    industry = build_snapshot(load(SMALLEST), epoch=1).industries["LAW"]
    assert [shard.name for shard in industry.shards] == ["law"]
    assert industry.slot_map == (0,) * SLOTS


def test_given_names_win() -> None:
    snapshot = build_snapshot(_two_shards(second="name: West-2"), epoch=1)
    assert list(snapshot.shards) == ["meta", "real_estate_1", "West-2"]


@pytest.mark.parametrize("count", [2, 3, 7])
def test_slots_are_split_evenly_where_none_are_named(count: int) -> None:
    shards = "".join(f"      - primary: {url(f'law{n}')}\n" for n in range(1, count))
    slot_map = build_snapshot(load(SMALLEST + shards), epoch=1).industries["LAW"].slot_map
    assert len(slot_map) == SLOTS
    for index, (first, end) in enumerate(even_ranges(count)):
        assert set(slot_map[first:end]) == {index}


def test_named_slots() -> None:
    settings = _two_shards("slots: 10-1023", "slots: 0-4,5-9")
    slot_map = build_snapshot(settings, epoch=1).industries["REAL_ESTATE"].slot_map
    assert slot_map == (1,) * 10 + (0,) * (SLOTS - 10)


def test_credentials_of_every_place() -> None:
    settings = _two_shards()
    snapshot = build_snapshot(settings, epoch=1)
    found = credentials(settings)
    endpoints = [
        endpoint
        for shard in snapshot.shards.values()
        for endpoint in (shard.primary, *shard.replicas)
    ]
    assert found.keys() == {endpoint.address for endpoint in endpoints}
    assert {dsn.password for dsn in found.values()} == {SECRET}
    assert all(dsn.address == address for address, dsn in found.items())


def test_all_industries_in_one_database_have_one_place() -> None:
    same = {name: url("legacy") for name in environment()}
    settings = load_environment(same)
    snapshot = build_snapshot(settings, epoch=1)
    assert tuple(snapshot.industries) == INDUSTRIES
    assert len(snapshot.shards) == 15
    assert credentials(settings).keys() == {("db", 5432, "legacy")}
