"""Settings without a file."""

from __future__ import annotations

import pytest

from gateway.settings.load import load_environment
from gateway.settings.model import INDUSTRIES, IndustrySettings
from tests.unit.settings.samples import SECRET, environment, environment_problems, url


def _urls(industry: IndustrySettings) -> list[tuple[str, list[str]]]:
    return [
        (
            shard.primary.get_secret_value(),
            [replica.get_secret_value() for replica in shard.replicas],
        )
        for shard in industry.shards
    ]


def test_meta_and_todays_industries_are_complete() -> None:
    settings = load_environment({**environment(), "HOME": "/root", "DATABASE_URL": "nonsense"})
    assert tuple(settings.industries) == INDUSTRIES
    assert settings.meta.primary.get_secret_value() == url("meta")
    assert _urls(settings.industries["SPORTS_CLUB"]) == [(url("sports_club"), [])]
    assert settings.listen.port == 6432


def test_a_further_variable_is_one_more_industry() -> None:
    settings = load_environment({**environment(), "DATABASE_URL_DOG_GROOMER": url("dogs")})
    assert tuple(settings.industries) == (*INDUSTRIES, "DOG_GROOMER")


def test_shards_and_replicas() -> None:
    environ = environment()
    del environ["DATABASE_URL_REAL_ESTATE"]
    environ |= {
        "DATABASE_URL_META_REPLICA": url("meta", "r"),
        "DATABASE_URL_REAL_ESTATE_1": url("re1"),
        "DATABASE_URL_REAL_ESTATE_2": url("re2"),
        "DATABASE_URL_REAL_ESTATE_2_REPLICA_1": url("re2", "r1"),
        "DATABASE_URL_REAL_ESTATE_2_REPLICA_2": url("re2", "r2"),
        "DATABASE_URL_LAW_REPLICA": url("law", "r"),
    }
    settings = load_environment(environ)
    assert [replica.get_secret_value() for replica in settings.meta.replicas] == [url("meta", "r")]
    assert _urls(settings.industries["REAL_ESTATE"]) == [
        (url("re1"), []),
        (url("re2"), [url("re2", "r1"), url("re2", "r2")]),
    ]
    assert _urls(settings.industries["LAW"]) == [(url("law"), [url("law", "r")])]


def test_ten_shards_are_in_the_order_of_their_numbers() -> None:
    environ = environment()
    del environ["DATABASE_URL_LAW"]
    environ |= {f"DATABASE_URL_LAW_{n}": url(f"law{n}") for n in range(1, 11)}
    law = load_environment(environ).industries["LAW"]
    assert [primary for primary, _ in _urls(law)] == [url(f"law{n}") for n in range(1, 11)]


def test_where_to_listen() -> None:
    given = {"LISTEN_HOST": "::", "LISTEN_PORT": "7000", "HTTP_PORT": "null"}
    settings = load_environment(
        {**environment(), **{f"GATEWAY_{name}": value for name, value in given.items()}}
    )
    assert (settings.listen.host, settings.listen.port) == ("::", 7000)
    assert settings.http.port is None
    plain = load_environment({**environment(), "GATEWAY_LISTEN_PORT": ""})
    assert plain.listen.port == 6432


def test_every_missing_variable_is_named() -> None:
    assert environment_problems({}) == [
        f"DATABASE_URL_{name}: is required" for name in ("META", *INDUSTRIES)
    ]


MISTAKES = {
    "empty is not set": (
        {"DATABASE_URL_LAW": ""},
        ["DATABASE_URL_LAW: is required"],
    ),
    "misspelt": (
        {"DATABASE_URL_MEDICAL": "", "DATABASE_URL_MEDCIAL": url("medical")},
        ["DATABASE_URL_MEDICAL: is required (did you mean 'DATABASE_URL_MEDCIAL'?)"],
    ),
    "no URL": (
        {"DATABASE_URL_LAW": f"{SECRET}@db/law"},
        ["DATABASE_URL_LAW: a database URL should start with postgresql:// or postgres://"],
    ),
    "no URL of a replica": (
        {"DATABASE_URL_LAW_REPLICA": "nonsense"},
        ["DATABASE_URL_LAW_REPLICA: a database URL should start with postgresql:// or postgres://"],
    ),
    "meta database with shards": (
        {"DATABASE_URL_META_2": url("meta2")},
        ["DATABASE_URL_META_2: the meta database has no shards"],
    ),
    "numbered and not": (
        {"DATABASE_URL_LAW_1": url("law1")},
        ["DATABASE_URL_LAW: can't be used together with DATABASE_URL_LAW_1; number all or none"],
    ),
    "gap in the shards": (
        {"DATABASE_URL_GYM_1": url("gym1"), "DATABASE_URL_GYM_3": url("gym3")},
        ["DATABASE_URL_GYM_2: is required, because DATABASE_URL_GYM_3 is used"],
    ),
    "gap in the replicas": (
        {"DATABASE_URL_LAW_REPLICA_2": url("law", "r")},
        ["DATABASE_URL_LAW_REPLICA_1: is required, because DATABASE_URL_LAW_REPLICA_2 is used"],
    ),
    "replica without a primary": (
        {"DATABASE_URL_GYM_REPLICA": url("gym", "r")},
        ["DATABASE_URL_GYM: is required, because DATABASE_URL_GYM_REPLICA is set"],
    ),
    "no name": (
        {"DATABASE_URL_1": url("one")},
        ["DATABASE_URL_1: should be DATABASE_URL_ and a name of letters, digits and '_'"],
    ),
    "port": (
        {"GATEWAY_LISTEN_PORT": "many", "GATEWAY_HTTP_PORT": "70000"},
        [
            "GATEWAY_HTTP_PORT: should be at most 65535",
            "GATEWAY_LISTEN_PORT: should be a whole number",
        ],
    ),
    "bytes that are no text": (
        {
            "DATABASE_URL_LAW": f"postgresql://a:{SECRET}\udcff@db/d",
            "DATABASE_URL_LAW_REPLICA": "\udcff",
            "GATEWAY_LISTEN_HOST": "\udcff",
        },
        [
            "DATABASE_URL_LAW: is not valid text",
            "DATABASE_URL_LAW_REPLICA: is not valid text",
            "GATEWAY_LISTEN_HOST: is not valid text",
        ],
    ),
    "one database, two passwords": (
        {"DATABASE_URL_LAW": f"postgresql://app:other{SECRET}@db/meta"},
        [
            "DATABASE_URL_LAW: names the same database as meta.primary but with another user,"
            " password or parameter; they should be the same"
        ],
    ),
    "two industries with one shard name": (
        {"DATABASE_URL_law": url("law")},
        [
            "DATABASE_URL_law: the name 'law' belongs to industries.LAW.shards[0] already;"
            " give this shard another 'name'"
        ],
    ),
}


@pytest.mark.parametrize(("changes", "expected"), MISTAKES.values(), ids=MISTAKES.keys())
def test_mistakes(changes: dict[str, str], expected: list[str]) -> None:
    found = environment_problems(environment() | changes)
    assert sorted(found) == sorted(expected)
    assert SECRET not in "\n".join(found)
