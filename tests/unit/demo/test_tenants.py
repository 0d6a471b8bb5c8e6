"""Owners of the demo: who is chosen, where they live, and what their rows say."""

from __future__ import annotations

import re

import pytest

from gateway.demo.rows import COLUMNS, META_COLUMNS, IndustryRows, Tenant, meta_rows
from gateway.demo.seed import choose_tenants, make_logins
from gateway.router.build import build_snapshot
from gateway.router.identity import LoginKind
from gateway.router.slots import slot_of
from gateway.router.topology import Snapshot
from gateway.settings.model import INDUSTRIES, Settings


def snapshot_of(shards: dict[str, int]) -> Snapshot:
    def url(name: str) -> str:
        return f"postgresql://u:p@db.example/{name}"

    return build_snapshot(
        Settings.model_validate(
            {
                "meta": {"primary": url("meta")},
                "industries": {
                    name: {"shards": [{"primary": url(f"{name}{n}")} for n in range(number)]}
                    for name, number in shards.items()
                },
            }
        ),
        1,
    )


ALL = snapshot_of({name: 2 if name in ("MEDICAL", "REAL_ESTATE") else 1 for name in INDUSTRIES})


@pytest.mark.parametrize("number", [16, 17, 42, 280, 1000])
def test_every_shard_gets_an_owner_and_industries_are_even(number: int) -> None:
    tenants = choose_tenants(number, ALL.industries)
    assert len({tenant.id for tenant in tenants}) == len(tenants) == number
    assert {tenant.shard for tenant in tenants} == set(ALL.shards) - {"meta"}
    sizes = [sum(tenant.industry == name for tenant in tenants) for name in INDUSTRIES]
    assert max(sizes) - min(sizes) <= 1 or number < 28


def test_280_owners_are_20_per_industry() -> None:
    tenants = choose_tenants(280, ALL.industries)
    assert {sum(t.industry == name for t in tenants) for name in INDUSTRIES} == {20}


def test_the_hash_of_the_id_says_which_shard() -> None:
    for tenant in choose_tenants(200, ALL.industries):
        industry = ALL.industries[tenant.industry]
        assert industry.shards[industry.slot_map[slot_of(str(tenant.id))]].name == tenant.shard


def test_many_shards_each_get_an_owner_by_passing_over_ids() -> None:
    snapshot = snapshot_of({"LAW": 40})
    tenants = choose_tenants(40, snapshot.industries)
    assert sorted(t.shard for t in tenants) == sorted(set(snapshot.shards) - {"meta"})
    assert max(t.id for t in tenants) > 40


def test_fewer_owners_than_shards_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 16 owners"):
        choose_tenants(15, ALL.industries)


def test_logins_of_every_kind_have_passwords_of_their_own() -> None:
    logins = make_logins(choose_tenants(16, ALL.industries), ALL)
    assert [login.kind for login in logins[:2]] == [LoginKind.SERVICE, LoginKind.OPERATOR]
    assert len({login.password for login in logins}) == len(logins) == 18
    assert logins[0].password not in repr(logins[0])


@pytest.mark.parametrize("industry", INDUSTRIES)
def test_every_row_mentions_its_owner_and_fits_its_columns(industry: str) -> None:
    rows = IndustryRows()
    for owner in (7, 70):
        rows.add(Tenant(owner, industry, industry.lower()))
    conversations = {row[0]: row[1] for row in rows.tables["Conversation"]}
    filled = {table: found for table, found in rows.tables.items() if found}
    assert len(filled) >= 18, "17 tables and at least one extra of the industry"
    for table, found in filled.items():
        for row in found:
            assert len(row) == len(COLUMNS[table])
            owner = row[0] if table == "User" else row[1]
            if table == "ConversationMessage":
                owner = conversations[row[1]]
            assert set(re.findall(r"owner-(\d+)", repr(row))) == {str(owner)}, (table, row)


def test_rows_are_the_same_each_time() -> None:
    first, second = IndustryRows(), IndustryRows()
    for rows in (first, second):
        rows.add(Tenant(3, "RESTAURANT", "restaurant"))
    assert first.tables == second.tables


def test_ids_follow_on_from_the_first() -> None:
    rows = IndustryRows(first_id=1000)
    for owner in (1, 2):
        rows.add(Tenant(owner, "LAW", "law"))
    ids = [row[0] for row in rows.tables["Lead"]]
    assert ids == list(range(1000, 1000 + len(ids)))


def test_meta_rows_fit_their_columns_and_names_agree_with_the_industry() -> None:
    tenants = [Tenant(number, "LAW", "law") for number in range(1, 40)]
    tables = meta_rows(tenants)
    for table, found in tables.items():
        assert found, table
        assert {len(row) for row in found} == {len(META_COLUMNS[table])}
    rows = IndustryRows()
    for tenant in tenants:
        rows.add(tenant)
    assert rows.tables["User"] == [row[:4] for row in tables["User"]]
