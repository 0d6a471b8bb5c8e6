"""Which database gets which SQL files."""

from __future__ import annotations

import pytest

from gateway.migrate import schema
from gateway.migrate.provision import plans
from gateway.settings.model import INDUSTRIES, Settings

HOST = "postgresql://u:p@db.example"


def settings(meta: str, shards: dict[str, list[str]]) -> Settings:
    return Settings.model_validate(
        {
            "meta": {"primary": f"{HOST}/{meta}"},
            "industries": {
                name: {"shards": [{"primary": f"{HOST}/{database}"} for database in databases]}
                for name, databases in shards.items()
            },
        }
    )


def test_one_plan_per_database() -> None:
    made = plans(settings("meta", {"LAW": ["law"], "MEDICAL": ["med_a", "med_b"]}))
    assert [(plan.dsn.database, plan.shards, plan.files) for plan in made] == [
        ("meta", ("meta",), ("meta.sql",)),
        ("law", ("law",), ("industry.sql", "industry/law.sql")),
        ("med_a", ("medical_1",), ("industry.sql", "industry/medical.sql")),
        ("med_b", ("medical_2",), ("industry.sql", "industry/medical.sql")),
    ]


def test_a_database_of_several_industries_is_provisioned_once_with_all_their_files() -> None:
    made = plans(settings("one", {"LAW": ["one"], "RESTAURANT": ["one"]}))
    assert len(made) == 1
    assert made[0].shards == ("meta", "law", "restaurant")
    assert made[0].files == (
        *("meta.sql", "industry.sql", "industry/law.sql", "industry/restaurant.sql"),
    )


def test_a_new_industry_needs_no_file_of_its_own() -> None:
    made = plans(settings("meta", {"VETERINARY": ["vet"]}))
    assert made[1].files == ("industry.sql",)


@pytest.mark.parametrize("industry", INDUSTRIES)
def test_every_known_industry_has_an_extra_table(industry: str) -> None:
    (name,) = schema.extras_of(industry)
    assert "CREATE TABLE IF NOT EXISTS" in schema.read(name)


def test_includes_are_filled_in() -> None:
    text = schema.read("meta.sql")
    assert "CREATE SCHEMA IF NOT EXISTS gateway" in text
    assert "\\ir" not in text
    assert '"Patient"' in schema.read("industry/dentist.sql")


def test_a_missing_file_is_an_error() -> None:
    with pytest.raises(FileNotFoundError):
        schema.read("missing.sql")
