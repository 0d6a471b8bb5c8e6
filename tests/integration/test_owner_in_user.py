"""User ``app.7``: the service login ``app`` that acts for owner 7, where the settings allow it."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from gateway.demo.seed import SeedLogin
from tests.conftest import Provisioned
from tests.integration.conftest import StartGateway
from tests.wire import Message, Place, Refused, Wire

WHERE = 'SELECT current_database() FROM "Lead" LIMIT 1'


@pytest.fixture
async def app(start_gateway: StartGateway, service: SeedLogin) -> AsyncIterator[Place]:
    """The service login's own way in."""
    gateway = await start_gateway({"auth": {"owner_in_user": True, "failure_delay_ms": 0}})
    yield Place("127.0.0.1", gateway.port, service.user, service.password, "crm")


async def refused(where: Place) -> list[tuple[str, object]]:
    """All that is said to a client that is refused, without chance and its name."""
    wire = await Wire.connect(where.host, where.port)
    said = await wire.log_in(where)
    said += await wire.until("") if said[-1].tag == "E" else []
    wire.fin()
    return [(one.tag, _shape(one, where.user)) for one in said]


def _shape(message: Message, user: str) -> object:
    if message.tag == "E":
        return {name: text.replace(user, "USER") for name, text in message.fields.items()}
    if message.tag == "R" and message.body[3] == 11:
        return re.sub(rb"r=[^,]*", b"r=", re.sub(rb"s=[^,]*", b"s=", message.body))
    return message.body


async def salt(where: Place) -> bytes:
    wire = await Wire.connect(where.host, where.port)
    said = await wire.log_in(where)
    wire.fin()
    return said[1].body.split(b",")[1]


async def test_the_owner_in_the_user_name_is_whom_it_acts_for(
    app: Place, provisioned: Provisioned
) -> None:
    for shard in ("law", "dentist"):
        owner = provisioned.owner_on(shard).owner
        wire = await Wire.logged_in(replace(app, user=f"{app.user}.{owner}"))
        assert await wire.value(WHERE) == f"crm_{shard}"
        other = await wire.query('SELECT 1 FROM "Lead" WHERE "userId" = 123456789')
        assert other[0].fields["C"] == "42501"
        await wire.close()
    with pytest.raises(Refused) as caught:
        await Wire.logged_in(replace(app, user=f"{app.user}.123456789"))
    assert "123456789" in str(caught.value)


async def test_it_is_off_by_default(
    start_gateway: StartGateway, service: SeedLogin, provisioned: Provisioned
) -> None:
    gateway = await start_gateway({"auth": {"failure_delay_ms": 0}})
    user = f"{service.user}.{provisioned.owner_on('law').owner}"
    place = Place("127.0.0.1", gateway.port, user, service.password, "crm")
    assert (await refused(place))[-2][0] == "E"


async def test_trap_a_name_with_an_owner_does_not_tell_who_is_known(
    app: Place, provisioned: Provisioned
) -> None:
    law = provisioned.owner_on("law")
    wrong = replace(app, password="wrong")
    expected = await refused(replace(wrong, user=f"{app.user}.{law.owner}"))
    assert [tag for tag, _ in expected] == ["R", "R", "E", "EOF"]
    names = [
        "nobody.7",
        f"{law.user}.7",
        f"{app.user}.123456789",
        "operator.7",
        "a.b.c",
        ".7",
        "x.",
    ]
    for name in names:
        assert await refused(replace(wrong, user=name)) == expected, name
    # An owner's or operator's login is none to act for others with, the right password or not.
    right = replace(app, user=f"{law.user}.{law.owner}", password=law.password)
    assert await refused(right) == expected


async def test_trap_salts_do_not_tell_who_is_known(app: Place, provisioned: Provisioned) -> None:
    wrong = replace(app, password="wrong")
    for name in ("nobody", app.user, provisioned.owner_on("law").user, "operator"):
        salts = {await salt(replace(wrong, user=user)) for user in (name, f"{name}.7", f"{name}.8")}
        assert len(salts) == 1, name
