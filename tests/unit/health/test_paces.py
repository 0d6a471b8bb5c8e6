"""How often each endpoint is looked at."""

from __future__ import annotations

from typing import Any

from gateway.health.prober import Pace, paces
from gateway.router.build import build_snapshot
from gateway.settings.model import Settings


def found(**sections: Any) -> dict[str, float]:
    """The interval of each watched database, in seconds, by host and name."""
    settings = Settings.model_validate(
        {
            "meta": {"primary": "postgresql://app@db/meta"},
            "industries": {
                "LAW": {
                    "shards": [
                        {
                            "primary": "postgresql://app@db/law",
                            "replicas": ["postgresql://app@standby/law"],
                        }
                    ],
                    **sections.pop("law", {}),
                },
                "MEDICAL": {"shards": [{"primary": "postgresql://app@db/medical"}]},
            },
            **sections,
        }
    )
    made = paces(settings, build_snapshot(settings, 1))
    return {f"{host}/{name}": pace.interval_s for (host, _, name), pace in made.items()}


EVERY = {"db/meta": 5.0, "db/law": 5.0, "standby/law": 5.0, "db/medical": 5.0}


def test_often_only_where_replicas_serve_reads() -> None:
    assert found() == EVERY
    often = {"db/law": 0.25, "standby/law": 0.25}
    assert found(reads={"policy": "prefer-replica"}) == EVERY | often
    assert found(law={"reads": {"policy": "replica-only"}}) == EVERY | often
    assert found(reads={"policy": "prefer-replica"}, law={"reads": {"policy": "primary"}}) == EVERY


def test_others_are_left_alone_when_that_is_wished() -> None:
    assert found(health={"idle_interval_ms": 0}) == {}
    assert found(
        health={"idle_interval_ms": 0, "interval_ms": 100}, reads={"policy": "prefer-replica"}
    ) == {"db/law": 0.1, "standby/law": 0.1}


def test_of_one_database_in_several_places_the_busiest_counts() -> None:
    """Industries that share a database, as one begins, are one endpoint."""
    settings = Settings.model_validate(
        {
            "meta": {"primary": "postgresql://app@db/all"},
            "health": {"timeout_ms": 700, "backoff_max_ms": 100},
            "reads": {"policy": "prefer-replica"},
            "industries": {
                "LAW": {
                    "shards": [
                        {
                            "primary": "postgresql://app@db/all",
                            "replicas": ["postgresql://app@standby/all"],
                        }
                    ]
                },
                "MEDICAL": {"shards": [{"primary": "postgresql://app@db/all"}]},
            },
        }
    )
    made = paces(settings, build_snapshot(settings, 1))
    pace = Pace(interval_s=0.25, timeout_s=0.7, backoff_max_s=0.25)
    assert made == {("db", 5432, "all"): pace, ("standby", 5432, "all"): pace}
