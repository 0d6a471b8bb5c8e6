"""An owner's route is remembered only for as long as all that decided it holds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from gateway.router.identity import Grant, Login, LoginKind, Owner, Scope
from gateway.router.route import Route
from gateway.session.aims import Aim
from gateway.session.context import Context
from gateway.settings.model import Settings
from gateway.worker import Worker

SETTINGS = Settings.model_validate(
    {
        "meta": {"primary": "postgresql://g@db/meta"},
        "industries": {"LAW": {"shards": [{"primary": "postgresql://g@db/law"}]}},
        "operator_role": None,
    }
)
APP = Login("app", LoginKind.SERVICE, "")


@pytest.fixture
async def context() -> Context:
    """A worker's, whose directory has been asked for one owner and one service login."""
    context = Worker(SETTINGS, lambda: SETTINGS).context

    async def owner(owner_id: str) -> Owner | None:
        return Owner(owner_id, "LAW")

    async def grants(name: str) -> tuple[Grant, ...] | None:
        return (Grant(Scope.ALL),)

    context.directory._owners._load = owner
    context.directory._grants._load = grants
    await context.look_up(APP, "7")
    return context


def route_of(context: Context, owner: str = "7") -> Route:
    shard = context.snapshot.industries["LAW"].shards[0]
    return Route(shard, shard.primary, f"tenant key {owner}", owner)


def known(context: Context, owner: str = "7", login: Login = APP) -> Route | None:
    return context.routes.of(login, owner, context.snapshot, context.clock())


async def test_a_route_is_kept_for_its_owner_and_login(context: Context) -> None:
    assert known(context) is None
    route = route_of(context)
    context.routes.keep(APP, "7", context.snapshot, route)
    assert known(context) is route
    assert known(context, "8") is None
    assert known(context, login=Login("other", LoginKind.SERVICE, "")) is None


async def test_news_of_the_owner_or_of_the_grants_end_it(context: Context) -> None:
    steps: list[Callable[[], None]] = [
        lambda: context.directory.forget_owner("7"),
        lambda: context.directory._grants.invalidate("app"),
        context.directory._owners.expire_all,
        context.directory._grants.expire_all,
    ]
    for forget in steps:
        await context.look_up(APP, "7")
        context.routes.keep(APP, "7", context.snapshot, route_of(context))
        assert known(context) is not None
        forget()
        assert known(context) is None


async def test_so_do_time_and_other_settings(context: Context) -> None:
    context.routes.keep(APP, "7", context.snapshot, route_of(context))
    later = context.clock() + 10 * SETTINGS.directory.ttl_s
    assert context.routes.of(APP, "7", context.snapshot, later) is None
    context.follow(SETTINGS, replace(context.snapshot, epoch=context.snapshot.epoch + 1))
    assert known(context) is None


async def test_what_the_directory_does_not_have_at_hand_is_not_kept(context: Context) -> None:
    context.routes.keep(APP, "8", context.snapshot, route_of(context, "8"))
    assert known(context, "8") is None


def aim(context: Context, target: Route, login: Login = APP) -> Aim:
    return context.aims.of(login, target, context.snapshot, context.modes)


async def test_an_aim_is_found_once_for_each_owner_and_login(context: Context) -> None:
    target = route_of(context)
    first = aim(context, target)
    assert first.tenant.key == "7"
    assert aim(context, replace(target, reason="another")) is first
    assert aim(context, route_of(context, "8")).tenant.key == "8"
    other = Login("other", LoginKind.SERVICE, "")
    assert aim(context, target, other) is not first


async def test_it_follows_the_plan_the_kind_of_login_and_the_limits(context: Context) -> None:
    target = route_of(context)
    first = aim(context, target)
    assert aim(context, replace(target, plan="GOLD")) is not first
    assert aim(context, target, replace(APP, kind=LoginKind.OPERATOR)).tenant.operator
    again = aim(context, target)
    assert not again.limited
    limits = {"every_owner": {"rate": 5}}
    context.budgets.configure(Settings.model_validate({**SETTINGS.model_dump(), "limits": limits}))
    assert aim(context, target).limited
