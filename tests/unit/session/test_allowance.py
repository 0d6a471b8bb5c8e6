"""What the settings allow whom."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import pytest

from gateway.errors import RateExceeded, TooManyClients
from gateway.pool.seats import Seats, new_seats
from gateway.router.identity import Login, LoginKind
from gateway.router.route import Route
from gateway.router.topology import Endpoint, Role, Shard
from gateway.session.allowance import Bucket, Budgets, Tally
from gateway.session.rates import Rates, new_rates
from gateway.settings.model import Settings

LAW = Shard("law", "LAW", Endpoint("law", "127.0.0.1", 5432, "law", Role.PRIMARY))
OWNER = Login("owner_7", LoginKind.OWNER, "", owner="7")
WEB = Login("web", LoginKind.SERVICE, "")
ADMIN = Login("admin", LoginKind.OPERATOR, "")


class Time:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def budgets(
    limits: Mapping[str, Any], plans: Mapping[str, float] | None = None
) -> tuple[Budgets, Time]:
    url = "postgresql://gateway@localhost/x"
    settings = Settings.model_validate(
        {
            "meta": {"primary": url},
            "industries": {"LAW": {"shards": [{"primary": url}]}},
            "limits": limits,
            "fairness": {"plans": dict(plans or {})},
        }
    )
    clock = Time()
    made = Budgets(clock)
    made.configure(settings)
    return made, clock


def to(owner: str | None, plan: str | None = None) -> Route:
    return Route(LAW, LAW.primary, "a test", owner, 0, plan)


def test_without_limits_there_is_nothing_to_look_at() -> None:
    made, _ = budgets({})
    allowance = made.allowance(OWNER, to("7"))
    assert allowance.buckets == ()
    assert (allowance.tenant.key, allowance.tenant.weight) == ("7", 1.0)
    assert (allowance.tenant.bounds, allowance.tenant.hurried) == ((), False)


def test_who_has_no_owner_stands_in_line_under_the_logins_name() -> None:
    made, _ = budgets({})
    assert made.allowance(WEB, to(None)).tenant.key == "web"
    assert made.allowance(WEB, to("7")).tenant.key == "7"
    assert made.allowance(ADMIN, to("7")).tenant.key == "admin"


def test_bounds_of_owner_login_and_industry_hold_together() -> None:
    made, _ = budgets(
        {
            "owners": {7: {"servers": 2}},
            "logins": {"web": {"servers": 9}},
            "industries": {"LAW": {"servers": 5}},
        }
    )
    assert made.allowance(WEB, to("7")).tenant.bounds == (
        ('owner "7"', 2),
        ('login "web"', 9),
        ("industry LAW", 5),
    )
    assert made.allowance(OWNER, to("8")).tenant.bounds == (("industry LAW", 5),)
    assert made.allowance(ADMIN, to("7")).tenant.bounds == ()


def test_the_first_that_names_a_time_is_heard() -> None:
    made, _ = budgets(
        {
            "every_owner": {"query_timeout_ms": 900},
            "owners": {"7": {"queue_timeout_ms": 100}},
            "logins": {"web": {"query_timeout_ms": 500, "queue_timeout_ms": 200}},
            "industries": {"LAW": {"idle_transaction_timeout_s": 3}},
        }
    )
    seven = made.allowance(WEB, to("7")).tenant
    assert (seven.queue_timeout_s, seven.query_timeout_s) == (0.1, 0.5)
    assert (seven.idle_transaction_timeout_s, seven.hurried) == (3, True)
    assert made.allowance(WEB, to("8")).tenant.query_timeout_s == 0.9


def test_a_plan_weighs_what_the_settings_say() -> None:
    made, _ = budgets({}, plans={"PRO": 4.0})
    assert made.allowance(OWNER, to("7", "PRO")).tenant.weight == 4.0
    assert made.allowance(OWNER, to("7", "FREE")).tenant.weight == 1.0


def test_a_bucket_refills_and_remembers_what_is_owed() -> None:
    clock = Time()
    bucket = Bucket("somebody", 10.0, 5.0, Rates.private(), clock, Tally())
    assert bucket.missing_s() == 0.0
    bucket.take(5)
    assert bucket.missing_s() == pytest.approx(0.1)
    clock.now = 0.1
    assert bucket.missing_s() == 0.0
    bucket.take(21)
    assert bucket.missing_s() == pytest.approx(2.1)
    clock.now = 100.0
    assert bucket.missing_s() == 0.0
    bucket.take(5)
    assert bucket.missing_s() == pytest.approx(0.1), "no more than the burst is saved"


def test_all_clients_of_an_owner_share_its_rate() -> None:
    made, clock = budgets({"every_owner": {"rate": 10, "burst": 2}})
    for _ in range(2):
        made.allowance(OWNER, to("7")).take_one()
    with pytest.raises(RateExceeded, match="10 per second, 2 at once") as caught:
        made.allowance(WEB, to("7")).take_one()
    assert caught.value.sqlstate == "53R01"
    assert made.refusals == 1
    made.allowance(WEB, to("8")).take_one()
    clock.now += 0.1
    made.allowance(OWNER, to("7")).take_one()


def test_a_refused_statement_takes_no_token_of_anybody() -> None:
    made, _ = budgets(
        {"owners": {"7": {"rate": 100, "burst": 3}}, "logins": {"web": {"rate": 1, "burst": 1}}}
    )
    allowance = made.allowance(WEB, to("7"))
    allowance.take_one()
    for _ in range(5):
        with pytest.raises(RateExceeded, match='login "web"'):
            allowance.take_one()
    made.allowance(OWNER, to("7")).take_one()
    made.allowance(OWNER, to("7")).take_one()


def test_a_rate_is_that_of_all_workers_together() -> None:
    descriptor = new_rates()
    clock = Time()
    workers = []
    for _ in range(3):
        made = Budgets(clock, rates=Rates.shared(descriptor))
        settings = budgets({"every_owner": {"rate": 2, "burst": 4}})[0]._settings
        assert settings is not None
        made.configure(settings)
        workers.append(made.allowance(OWNER, to("7")))
    os.close(descriptor)
    for worker in (0, 1, 2, 0):
        workers[worker].take_one()
    for allowance in workers:
        with pytest.raises(RateExceeded, match="2 per second, 4 at once"):
            allowance.take_one()
    clock.now += 0.5
    workers[2].take_one()
    with pytest.raises(RateExceeded):
        workers[0].take_one()
    clock.now += 100
    for _ in range(4):
        workers[1].take_one()
    with pytest.raises(RateExceeded):
        workers[2].take_one()


def test_clients_are_counted_over_all_workers() -> None:
    """Exactly: three clients of an owner in all, wherever they are."""
    descriptor = new_seats(3)
    workers = []
    for row in (1, 2):
        made = Budgets(lambda: 0.0, Seats.shared(descriptor, row))
        settings = budgets({"every_owner": {"clients": 3}})[0]._settings
        assert settings is not None
        made.configure(settings)
        workers.append(made)
    os.close(descriptor)
    first, second = workers
    for number in (1, 2, 3):
        first.seat(number, OWNER, "7", "LAW")
    with pytest.raises(TooManyClients):
        second.seat(4, OWNER, "7", "LAW")
    first.leave(2)
    second.seat(5, OWNER, "7", "LAW")
    with pytest.raises(TooManyClients):
        first.seat(6, OWNER, "7", "LAW")
    first.seat(7, OWNER, "8", "LAW")


def test_seats_are_counted_until_their_clients_leave() -> None:
    made, _ = budgets({"every_owner": {"clients": 2}, "logins": {"owner_7": {"clients": 1}}})
    made.seat(1, OWNER, "7", "LAW")
    with pytest.raises(TooManyClients, match='login "owner_7"'):
        made.seat(2, OWNER, "7", "LAW")
    made.seat(3, WEB, "7", "LAW")
    with pytest.raises(TooManyClients, match='owner "7"'):
        made.seat(4, WEB, "7", "LAW")
    made.seat(5, ADMIN, "7", "LAW")
    made.leave(1)
    made.leave(1)
    made.seat(6, OWNER, "7", "LAW")


def test_a_reload_changes_the_rate_and_keeps_what_did_not_change() -> None:
    made, _ = budgets({"every_owner": {"rate": 10, "burst": 1}})
    made.allowance(OWNER, to("7")).take_one()
    other, _ = budgets({"every_owner": {"rate": 10, "burst": 1}})
    assert other._settings is not None
    made.configure(other._settings)
    with pytest.raises(RateExceeded):
        made.allowance(OWNER, to("7")).take_one()
