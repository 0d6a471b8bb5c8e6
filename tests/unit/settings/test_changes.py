"""What a reload says: each option, old and new, no secrets, and what needs a restart."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.settings.changes import NEED_RESTART, changes, described
from gateway.settings.model import Settings
from gateway.settings.options import section_at

SECRET = "kQ7vZr2mXw9"
URL = f"postgresql://app:{SECRET}@db"


def settings(**sections: Any) -> Settings:
    base = {
        "meta": {"primary": f"{URL}/meta"},
        "industries": {"LAW": {"shards": [{"primary": f"{URL}/law"}]}},
    }
    return Settings.model_validate({**base, **sections})


def law(*shards: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"LAW": {"shards": list(shards), **more}}


HERE, THERE = {"primary": f"{URL}/law"}, {"primary": f"{URL}2/law"}


@pytest.mark.parametrize(
    ("after", "said"),
    [
        ({}, []),
        ({"pool": {"max": 5}}, ["pool.max: 20 -> 5"]),
        ({"pool": {"pinned_max": 5}}, ["pool.pinned_max: none -> 5"]),
        ({"auth": {"api_keys": False}}, ["auth.api_keys: true -> false"]),
        ({"pool": {"server_lifetime_s": 1.5}}, ["pool.server_lifetime_s: 3600 -> 1.5"]),
        (
            {"http": {"port": None}, "log": {"level": "debug"}},
            ["http.port: 6480 -> none (needs a restart)", "log.level: info -> debug"],
        ),
        ({"listen": {"port": 7}}, ["listen.port: 6432 -> 7 (needs a restart)"]),
        ({"listen": {"login_timeout_s": 7}}, ["listen.login_timeout_s: 15 -> 7"]),
        (
            {"listen": {"tls": {"certificate_file": "new.pem"}}},
            ["listen.tls.certificate_file: none -> new.pem"],
        ),
        (
            {"routing": {"shared_tables": ["User", "Agency"]}},
            ["routing.shared_tables: User -> User, Agency"],
        ),
        ({"routing": {"views": {"v": ["Lead"]}}}, ["routing.views.v: added (Lead)"]),
        (
            {"industries": {**law(HERE), "DENTAL": {"shards": [THERE]}}},
            ["industries.DENTAL: added"],
        ),
        (
            {"industries": {"DENTAL": {"shards": [HERE]}}},
            ["industries.LAW: removed", "industries.DENTAL: added"],
        ),
        ({"industries": law(HERE, THERE)}, ["industries.LAW.shards[1]: added"]),
        (
            {"industries": law(THERE)},
            ["industries.LAW.shards[0].primary: app@db:5432/law -> app@db2:5432/law"],
        ),
        (
            {"industries": law({**HERE, "replicas": [f"{URL}2/law"]})},
            ["industries.LAW.shards[0].replicas[0]: added (app@db2:5432/law)"],
        ),
        ({"industries": law(HERE, pool={"max": 3})}, ["industries.LAW.pool.max: none -> 3"]),
        (
            {"industries": law({"primary": "postgresql://app:other@db/law"})},
            ["industries.LAW.shards[0].primary: changed"],
        ),
        (
            {"meta": {"primary": f"{URL}2/meta"}},
            ["meta.primary: app@db:5432/meta -> app@db2:5432/meta (needs a restart)"],
        ),
        ({"hub": {"primary": f"{URL}/hub"}}, ["hub: none -> set"]),
        ({"operator_role": {"user": "x", "password": SECRET}}, ["operator_role: none -> set"]),
    ],
)
def test_each_option_that_differs_is_named(after: dict[str, Any], said: list[str]) -> None:
    assert described(settings(), settings(**after)) == said


def test_a_password_is_never_told() -> None:
    before = settings(operator_role={"user": "boss", "password": "postgresql://x:y@z/w"})
    after = settings(operator_role={"user": "boss", "password": SECRET})
    assert described(before, after) == ["operator_role.password: changed"]


def test_what_goes_is_told_as_well() -> None:
    replica = {**HERE, "replicas": [f"{URL}2/law"]}
    assert described(settings(industries=law(replica)), settings()) == [
        "industries.LAW.shards[0].replicas[0]: removed (app@db2:5432/law)"
    ]


def test_what_needs_a_restart_are_options_that_exist() -> None:
    for place in NEED_RESTART:
        *path, name = place.split(".")
        section = section_at(tuple(path))
        assert section is not None
        assert name in section.model_fields


def test_a_name_that_only_begins_alike_needs_no_restart() -> None:
    (change,) = changes(settings(), settings(listen={"port": 6433}))
    assert change.needs_restart
    assert not type(change)("listen.ports", "").needs_restart
