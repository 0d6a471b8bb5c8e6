"""pg_terminate_backend() and pg_cancel_backend() of a client's number, as BackendKeyData has it."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack

import pytest

from gateway.pool.core import ServerState
from gateway.protocol import messages
from gateway.router.identity import LoginKind
from tests.conftest import Provisioned
from tests.integration.conftest import HOST, Gateway, run_gateway, until
from tests.wire import Message, Place, Wire, bind, describe, execute, parse_, sqlstate

SHARD = "law"
INT4 = 23
ENDED = [("FATAL", "57P01")]


@pytest.fixture(scope="module")
async def gateway(provisioned: Provisioned) -> AsyncIterator[Gateway]:
    """One whose pools have three connections."""
    async with AsyncExitStack() as stack:
        pool = {"max": 3, "operator_reserve": 0}
        yield await run_gateway(provisioned, stack, {"pool": pool})


def _place(gateway: Gateway, kind: LoginKind) -> Place:
    owner, logins = gateway.provisioned.owner_on(SHARD), gateway.provisioned.logins.values()
    login = owner if kind is LoginKind.OWNER else next(one for one in logins if one.kind is kind)
    acting = (("options", f"-c gateway.owner={owner.owner}"),)
    startup = acting if kind is LoginKind.SERVICE else ()
    return Place(HOST, gateway.port, login.user, login.password, SHARD, startup)


def _as_text(function: str, number: int) -> bytes:
    return messages.query(f"select {function}({number})")


def _bound(function: str, number: int) -> bytes:
    parse = parse_("", f"SELECT pg_catalog.{function}( $1::int );")
    return parse + bind("", [b"%d" % number]) + describe("P") + execute() + messages.SYNC


def _bound_binary(function: str, number: int) -> bytes:
    parameter = struct.pack("!hhhii", 1, 1, 1, 4, number)
    asked = messages.message(b"B", b"\0\0" + parameter + struct.pack("!h", 0))
    return parse_("", f"SELECT {function}($1)", [INT4]) + asked + execute() + messages.SYNC


WAYS: list[Callable[[str, int], bytes]] = [_as_text, _bound, _bound_binary]


async def _said(wire: Wire, data: bytes) -> list[Message]:
    wire.send(data)
    return await wire.until("Z")


def _value(heard: list[Message]) -> bytes | None:
    return next((one.cells[0] for one in heard if one.tag == "D"), None)


def _errors(heard: list[Message]) -> list[tuple[str, str]]:
    return [(one.fields["S"], one.fields["C"]) for one in heard if one.tag == "E"]


async def _nothing_left(gateway: Gateway) -> None:
    """Nobody is there any more, and no server is kept for anybody."""
    pools = list(gateway.worker.context.pools)
    await until(lambda: not len(gateway.worker.context.registry))
    await until(
        lambda: all(one.core.total == one.core.count(ServerState.IDLE) for one in pools), 20.0
    )
    assert not any(server.cancels for one in pools for server in one.core.servers(ServerState.IDLE))


BEFORE: dict[str, tuple[str, ...]] = {
    "new": (),
    "idle": ("SELECT 1",),
    "in a transaction": ("BEGIN", "SELECT 1 FROM pg_class"),
    "pinned": ("CREATE TEMP TABLE mine ()",),
}


@pytest.mark.parametrize("kind", LoginKind)
@pytest.mark.parametrize("before", BEFORE)
async def test_another_client_is_ended(gateway: Gateway, before: str, kind: LoginKind) -> None:
    place = _place(gateway, kind)
    one, other = await Wire.logged_in(place), await Wire.logged_in(place)
    for sql in BEFORE[before]:
        await other.query(sql)
    # Where a service login's client would go is known from its first statement on.
    placeless = kind is LoginKind.SERVICE and before == "new"
    heard = await _said(one, _as_text("pg_terminate_backend", other.pid))
    if placeless:
        assert _value(heard) == b"f"
        assert await other.value("SELECT 1") == "1"
        await other.close()
    else:
        assert _value(heard) == b"t"
        assert _errors(await other.until("")) == ENDED
    assert await one.value("SELECT 1") == "1"
    await one.close()
    await _nothing_left(gateway)


@pytest.mark.parametrize("way", WAYS)
async def test_however_it_is_said(gateway: Gateway, way: Callable[[str, int], bytes]) -> None:
    place = _place(gateway, LoginKind.OWNER)
    one, other, third = [await Wire.logged_in(place) for _ in range(3)]
    await third.query("BEGIN")
    nobody = await _said(one, way("pg_terminate_backend", other.pid + 1_000_000))
    assert (_value(nobody), [one.tag for one in nobody if one.tag == "N"]) == (b"f", ["N"])
    assert _value(await _said(one, way("pg_cancel_backend", other.pid))) == b"t"
    assert await other.value("SELECT 1") == "1"
    other.send(messages.query("SELECT pg_sleep(60)"))
    await until(lambda: sum(pool.core.in_use for pool in gateway.worker.context.pools) == 2)
    assert _value(await _said(one, way("pg_cancel_backend", other.pid))) == b"t"
    assert _errors(await other.until("Z")) == [("ERROR", "57014")]
    assert _value(await _said(one, way("pg_terminate_backend", other.pid))) == b"t"
    assert _errors(await other.until("")) == ENDED
    one.send(way("pg_terminate_backend", one.pid))  # itself
    assert _errors(await one.until("")) == ENDED
    assert await third.value("SELECT 3") == "3"
    await third.close()
    await _nothing_left(gateway)


async def test_the_server_says_who_may_and_nobody_else_is_hit(gateway: Gateway) -> None:
    place = _place(gateway, LoginKind.OWNER)
    one, other, third, fourth = [await Wire.logged_in(place) for _ in range(4)]
    await one.query("SET ROLE pg_read_all_stats")
    for way in WAYS:
        refused = await _said(one, way("pg_terminate_backend", other.pid))
        assert _errors(refused) == [("ERROR", "42501")]
    assert await other.value("SELECT 1") == "1"
    await one.query("RESET ROLE")
    for busy in (third, fourth):
        await busy.query("BEGIN")
    # There is no server left to stand in for the client's own.
    assert _value(await _said(one, _as_text("pg_terminate_backend", other.pid))) == b"f"
    said = f"SELECT pg_terminate_backend({third.pid}), {third.pid}"  # more than that: left alone
    assert _value(await _said(one, messages.query(said))) == b"f"
    for busy in (third, fourth):
        assert await busy.value("SELECT 2") == "2"
    for wire in (one, other, third, fourth):
        await wire.close()
    await _nothing_left(gateway)


async def test_tenants_do_not_reach_each_other(gateway: Gateway) -> None:
    """They share a role of the server, which would allow it."""
    owner = _place(gateway, LoginKind.OWNER)
    neighbours = [one for one in gateway.provisioned.owners if one.shard == SHARD]
    other_owner = Place(HOST, gateway.port, neighbours[1].user, neighbours[1].password, SHARD)
    one = await Wire.logged_in(owner)
    for place in (other_owner, _place(gateway, LoginKind.OPERATOR)):
        other = await Wire.logged_in(place)
        assert await other.value("SELECT 1") == "1"
        assert _value(await _said(one, _as_text("pg_terminate_backend", other.pid))) == b"f"
        assert await other.value("SELECT 1") == "1"
        await other.close()
    await one.close()
    await _nothing_left(gateway)


async def test_who_has_left_meanwhile_leaves_no_server_behind(gateway: Gateway) -> None:
    place = _place(gateway, LoginKind.OWNER)
    one, other, third, fourth = [await Wire.logged_in(place) for _ in range(4)]
    for busy in (third, fourth):
        await busy.query("BEGIN")
    one.send(_as_text("pg_terminate_backend", other.pid))
    await until(lambda: any(one.core.fair.places for one in gateway.worker.context.pools))
    one.rst()
    await until(lambda: len(gateway.worker.context.registry) == 3)
    await third.query("COMMIT")
    assert await other.value("SELECT 1") == "1"
    for wire in (other, third, fourth):
        await wire.close()
    await _nothing_left(gateway)


async def test_those_who_are_signalled_all_at_once(gateway: Gateway) -> None:
    """While others are at work: none of them hears of it."""
    place = _place(gateway, LoginKind.OWNER)
    one, *others = [await Wire.logged_in(place) for _ in range(13)]
    ended, working = others[:6], others[6:]

    async def work(wire: Wire) -> int:
        return [await wire.value("SELECT pg_sleep(0.002)") for _ in range(100)].count("")

    busy = [asyncio.ensure_future(work(wire)) for wire in working]
    for other in ended:
        assert _value(await _said(one, _bound("pg_terminate_backend", other.pid))) == b"t"
        assert _errors(await other.until("")) == ENDED
    assert await asyncio.gather(*busy) == [100] * 6
    assert sqlstate(await one.query("SELECT 1")) is None
    for wire in (one, *working):
        await wire.close()
    await _nothing_left(gateway)
