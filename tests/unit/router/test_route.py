"""Where each kind of login goes, and what it is told when there is no way."""

from __future__ import annotations

import pytest

from gateway.errors import GatewayError
from gateway.router.build import build_snapshot
from gateway.router.identity import Grant, Login, LoginKind, Owner, Scope
from gateway.router.route import (
    Asked,
    Known,
    NeedOwner,
    Outcome,
    Reject,
    Route,
    home_of,
    owner_not_found,
    route,
)
from gateway.router.slots import SLOTS, slot_of
from gateway.router.topology import Snapshot
from gateway.settings.model import Settings

SNAPSHOT = build_snapshot(
    Settings.model_validate(
        {
            "meta": {"primary": "postgresql://g@db/meta"},
            "industries": {
                "LAW": {"shards": [{"primary": "postgresql://g@db/law"}]},
                "REAL_ESTATE": {"shards": [{"primary": "postgresql://g@db/re"}]},
                "MEDICAL": {
                    "shards": [
                        {"primary": "postgresql://g@db/m1", "slots": "0-511"},
                        {"primary": "postgresql://g@db/m2", "slots": "512-1023"},
                    ]
                },
            },
        }
    ),
    epoch=1,
)

ANNA = Login("anna", LoginKind.OWNER, "", owner="7")
WEB = Login("web", LoginKind.SERVICE, "")
ROOT = Login("root", LoginKind.OPERATOR, "")

LAWYER = Owner("7", "LAW")
LOW = next(str(n) for n in range(100) if slot_of(str(n)) < SLOTS // 2)
HIGH = next(str(n) for n in range(100) if slot_of(str(n)) >= SLOTS // 2)
ALL = (Grant(Scope.ALL),)


def anna_of(owner: Owner, database: str = "anna", names: str | None = None) -> Outcome:
    """What an owner login gets whose owner lives there."""
    login = Login("anna", LoginKind.OWNER, "", owner=owner.id)
    return route(SNAPSHOT, login, Asked(database, names), Known(owner))


def place(outcome: Outcome) -> str:
    assert isinstance(outcome, Route), outcome
    assert outcome.endpoint is outcome.shard.primary
    return outcome.shard.name


def refusal(outcome: Outcome) -> GatewayError:
    assert isinstance(outcome, Reject), outcome
    assert outcome.error.hint, "every refusal says what to do"
    return outcome.error


# --- owner logins ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("owner", "shard", "reason"),
    [
        (LAWYER, "law", "owner login, by hash slot"),
        (Owner("7", "REAL_ESTATE"), "real_estate", "owner login, by hash slot"),
        (Owner(LOW, "MEDICAL"), "medical_1", "owner login, by hash slot"),
        (Owner(HIGH, "MEDICAL"), "medical_2", "owner login, by hash slot"),
        (Owner(LOW, "MEDICAL", shard="medical_2"), "medical_2", "owner login, by placement"),
        (Owner(HIGH, "MEDICAL", shard="medical_1"), "medical_1", "owner login, by placement"),
    ],
)
def test_an_owner_login_goes_home(owner: Owner, shard: str, reason: str) -> None:
    outcome = anna_of(owner)
    assert place(outcome) == shard
    assert isinstance(outcome, Route)
    assert (outcome.reason, outcome.owner) == (reason, owner.id)


@pytest.mark.parametrize(
    "database", ["", "anna", "medical_2", "medical", "Medical", "MEDICAL", "crm", "postgres"]
)
def test_an_owner_may_name_its_own_database_or_one_we_do_not_have(database: str) -> None:
    assert place(anna_of(Owner(HIGH, "MEDICAL"), database)) == "medical_2"


@pytest.mark.parametrize("database", ["medical_1", "law", "LAW", "real_estate", "meta"])
def test_trap_an_owner_has_no_access_to_another_database(database: str) -> None:
    error = refusal(anna_of(Owner(HIGH, "MEDICAL"), database))
    assert error.sqlstate == "42501"
    assert database in error.message
    assert "medical_2" in error.hint


def test_trap_a_login_does_not_override_its_own_owner() -> None:
    for known in (Known(), Known(Owner("8", "LAW")), Known(LAWYER), Known(Owner("8", "LAW"), ALL)):
        error = refusal(route(SNAPSHOT, ANNA, Asked("law", "8"), known))
        assert error.sqlstate == "42501"


def test_an_owner_may_name_itself() -> None:
    assert place(anna_of(LAWYER, names="7")) == "law"


def test_an_owner_whose_place_is_not_known_is_looked_up() -> None:
    assert route(SNAPSHOT, ANNA, Asked()) == NeedOwner("7")


def test_trap_the_answer_about_another_owner_is_not_taken_for_ones_own() -> None:
    assert route(SNAPSHOT, ANNA, Asked(), Known(Owner("8", "LAW"))) == NeedOwner("7")
    assert route(SNAPSHOT, WEB, Asked("", "7"), Known(Owner("8", "LAW"), ALL)) == NeedOwner("7")
    assert route(SNAPSHOT, ROOT, Asked("", "7"), Known(Owner("8", "LAW"))) == NeedOwner("7")


@pytest.mark.parametrize(
    "owner",
    [
        Owner("7", "DENTIST"),
        Owner("7", "law"),
        Owner("7", ""),
        Owner("7", "MEDICAL", shard="medical_3"),
        Owner("7", "MEDICAL", shard="law"),
        Owner("7", "MEDICAL", shard="meta"),
    ],
)
def test_trap_an_owner_outside_the_topology_goes_nowhere(owner: Owner) -> None:
    """Never to a guess: not to its slot's shard, nor to another industry's."""
    assert home_of(SNAPSHOT, owner) is None
    error = refusal(anna_of(owner))
    assert error.sqlstate == "22023"
    assert (owner.shard or owner.industry) in error.message


# --- service logins --------------------------------------------------------------------------


def test_a_service_login_must_say_whom_it_acts_for() -> None:
    error = refusal(route(SNAPSHOT, WEB, Asked("law"), Known(LAWYER, ALL)))
    assert error.sqlstate == "0A000"
    assert "gateway.owner" in error.hint


@pytest.mark.parametrize("known", [Known(), Known(LAWYER), Known(None, ALL)])
def test_a_service_login_needs_the_owner_and_its_grants(known: Known) -> None:
    assert route(SNAPSHOT, WEB, Asked("", "7"), known) == NeedOwner("7")


@pytest.mark.parametrize(
    ("grants", "allowed"),
    [
        ((), False),
        (ALL, True),
        ((Grant(Scope.OWNER, "7"),), True),
        ((Grant(Scope.OWNER, "70"),), False),
        ((Grant(Scope.AGENCY, "a"),), True),
        ((Grant(Scope.AGENCY, "7"),), False),
        ((Grant(Scope.OWNER, "a"),), False),
        ((Grant(Scope.OWNER, "1"), Grant(Scope.AGENCY, "a")), True),
    ],
)
def test_a_service_login_acts_for_those_it_is_granted(
    grants: tuple[Grant, ...], allowed: bool
) -> None:
    outcome = route(SNAPSHOT, WEB, Asked("", "7"), Known(Owner("7", "LAW", agency="a"), grants))
    if allowed:
        assert place(outcome) == "law"
    else:
        assert refusal(outcome).sqlstate == "42501"


def test_trap_an_owner_without_an_agency_is_in_nobodys() -> None:
    for value in ("", "None", "a"):
        outcome = route(SNAPSHOT, WEB, Asked("", "7"), Known(LAWYER, (Grant(Scope.AGENCY, value),)))
        assert refusal(outcome).sqlstate == "42501"


# --- operator logins -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("database", "shard"),
    [
        ("law", "law"),
        ("LAW", "law"),
        ("Real_Estate", "real_estate"),
        ("medical_1", "medical_1"),
        ("medical_2", "medical_2"),
        ("meta", "meta"),
    ],
)
def test_an_operator_names_a_database(database: str, shard: str) -> None:
    outcome = route(SNAPSHOT, ROOT, Asked(database))
    assert place(outcome) == shard
    assert isinstance(outcome, Route)
    assert outcome.owner is None


@pytest.mark.parametrize("database", ["", "root", "postgres", "medical_3", "META", "gateway"])
def test_an_unknown_database_is_refused_with_the_names_there_are(database: str) -> None:
    """The console's name is no place for statements: who gets here with it took a wrong turn."""
    error = refusal(route(SNAPSHOT, ROOT, Asked(database)))
    assert error.sqlstate == "3D000"
    assert f'"{database}" does not exist' in error.message
    assert "law, medical_1, medical_2, meta, real_estate" in error.hint
    assert "the console is gateway" in error.hint


def test_an_industry_with_several_shards_is_not_one_database() -> None:
    error = refusal(route(SNAPSHOT, ROOT, Asked("medical")))
    assert error.sqlstate == "3D000"
    assert "medical_1, medical_2" in error.hint


def test_an_operator_may_name_an_owner() -> None:
    assert route(SNAPSHOT, ROOT, Asked("meta", "7")) == NeedOwner("7")
    outcome = route(SNAPSHOT, ROOT, Asked("meta", "7"), Known(LAWYER))
    assert place(outcome) == "law"
    assert isinstance(outcome, Route)
    assert outcome.reason == "gateway.owner of an operator login, by hash slot"


# --- single-database mode --------------------------------------------------------------------


def one_database() -> Snapshot:
    """The first step of adoption: everything is in one legacy database."""
    legacy = {"shards": [{"primary": "postgresql://g@db/legacy"}]}
    return build_snapshot(
        Settings.model_validate(
            {
                "meta": {"primary": "postgresql://g@db/legacy"},
                "industries": {"LAW": legacy, "MEDICAL": legacy},
            }
        ),
        epoch=1,
    )


def test_all_industries_in_one_database() -> None:
    snapshot = one_database()
    for industry in ("LAW", "MEDICAL"):
        outcome = route(snapshot, ANNA, Asked("legacy"), Known(Owner("7", industry)))
        assert isinstance(outcome, Route)
        assert outcome.endpoint.address == ("db", 5432, "legacy")
        assert outcome.shard.name == industry.lower()


def test_an_owner_who_does_not_exist() -> None:
    error = owner_not_found("77")
    assert error.sqlstate == "22023"
    assert '"77"' in error.message and error.hint
