"""Nonsense sent to a running gateway: an error or a close, never a hang, a crash, or a leak.

After every example the gateway must be at rest and serve the next client. What is only an unusual
order of good messages must be answered the same however it is cut into packets.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from gateway.protocol import messages
from gateway.settings.model import Settings
from gateway.worker import Worker
from tests.conftest import FreshDatabase, Provisioned
from tests.running import changed, eventually, moved, past_the_gateway, place, rest, running
from tests.wire import (
    COPY_DONE,
    EOF,
    GSSENC_REQUEST,
    SSL_REQUEST,
    Message,
    Place,
    Wire,
    bind,
    close_,
    copy_data,
    copy_fail,
    describe,
    execute,
    function_call,
    parse_,
)

POOL_MAX = 2
LOGIN_TIMEOUT_S = 0.3
ENDS_S = 5.0
"""Longest time until a client that says nothing more has its answer, or is closed."""

EXAMPLES = int(os.environ.get("GATEWAY_TEST_FUZZ_EXAMPLES", "25"))
THE_END = messages.SYNC + messages.query("ROLLBACK") + messages.query("SELECT 'the end'")

fuzzing = settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


@dataclass(frozen=True, slots=True)
class House:
    """A gateway and how its clients log in."""

    worker: Worker
    place: Place


@pytest.fixture(scope="module")
async def house(provisioned: Provisioned, fresh_database: FreshDatabase) -> AsyncIterator[House]:
    url = await fresh_database("fuzz")
    await past_the_gateway(url, "CREATE TABLE fuzz (a text)")
    async with gateway(moved(provisioned.settings, "LAW", url), provisioned) as house:
        yield house


@pytest.fixture(scope="module")
async def hasty(provisioned: Provisioned) -> AsyncIterator[House]:
    options = {"login_timeout_s": LOGIN_TIMEOUT_S}
    async with gateway(changed(provisioned.settings, listen=options), provisioned) as house:
        yield house


@asynccontextmanager
async def gateway(options: Settings, provisioned: Provisioned) -> AsyncIterator[House]:
    """A gateway that must hold no more tasks and files in the end than at its beginning."""
    options = changed(options, auth={"failure_delay_ms": 0}, pool={"max": POOL_MAX})
    async with running(options) as worker:
        house = House(worker, place(worker, provisioned.owner_on("law")))
        await still_serves(house)
        tasks, descriptors = len(asyncio.all_tasks()), open_files()
        yield house
        await eventually(lambda: len(asyncio.all_tasks()) <= tasks)
        await eventually(lambda: open_files() <= descriptors + POOL_MAX)


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208


async def still_serves(house: House) -> None:
    """As many clients at once as there may be servers get their answers; then all is at rest."""
    wires = [await Wire.logged_in(house.place) for _ in range(POOL_MAX)]
    for wire in wires:
        assert await wire.value("BEGIN; SELECT 1") == "1"
    for wire in wires:
        await wire.query("ROLLBACK")
        await wire.close()
    await rest(house.worker)


# --- before the login ------------------------------------------------------------------------

STARTUP = messages.startup({"user": "owner_1", "database": "law"}, 0x30000)
LONG_STARTUP = messages.startup({"user": "x" * 60, "options": "-c a=b", "_pq_.x": "1"}, 0x30002)
CANCEL = b"\0\0\0\x10\x04\xd2\x16\x2e\0\0\0\1\0\0\0\1"
SASL = messages.sasl_initial("SCRAM-SHA-256", b"n,,n=,r=nonce")

greetings = st.sampled_from(
    [STARTUP, LONG_STARTUP, CANCEL, SSL_REQUEST, GSSENC_REQUEST, STARTUP + SASL, b"\x16\x03\x01"]
)


@st.composite
def mutated(draw: st.DrawFn, valid: st.SearchStrategy[bytes]) -> bytes:
    """Good bytes with a few bad ones: changed, cut out, put in, or cut off."""
    data = bytearray(draw(valid))
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(data)))
        change = draw(st.sampled_from(["flip", "length", "insert", "delete", "cut"]))
        if change == "flip" and at < len(data):
            data[at] ^= 1 << draw(st.integers(0, 7))
        elif change == "length":
            number = draw(st.sampled_from([0, 3, 4, 5, 8, 10_001, 0x3FFFFFFF, 0xFFFFFFFF]))
            data[at : at + 4] = number.to_bytes(4, "big")
        elif change == "insert":
            data[at:at] = draw(st.binary(max_size=20))
        elif change == "delete":
            del data[at : at + draw(st.integers(1, 20))]
        elif change == "cut":
            del data[at:]
    return bytes(data)


async def until_closed(hasty: House, data: bytes) -> list[Message]:
    """What is said to a client that sends this and no more; fails when it is not closed in time."""
    wire = await Wire.connect(hasty.place.host, hasty.place.port)
    try:
        wire.send(data)
        async with asyncio.timeout(LOGIN_TIMEOUT_S + ENDS_S):
            return await wire.until("")
    finally:
        wire.rst()


@fuzzing
@given(st.lists(st.binary(max_size=300) | mutated(greetings), min_size=1, max_size=12))
@example([b"\xff" * 100_000, b"\0" * 100_000, b"\0\0\0\0", b"\0\0\x27\x11" + b"x" * 10_001])
@example([b"Q\0\0\0\x08SELECT 1\0", b"GET / HTTP/1.1\r\n\r\n", SSL_REQUEST * 2, CANCEL * 2])
async def test_nonsense_instead_of_a_login(hasty: House, inputs: list[bytes]) -> None:
    await asyncio.gather(*(until_closed(hasty, data) for data in inputs))
    await rest(hasty.worker)


# --- in the middle of the login --------------------------------------------------------------

sasl_first = st.sampled_from(
    [
        SASL,
        messages.sasl_initial("SCRAM-SHA-256", b""),
        messages.sasl_initial("SCRAM-SHA-256-PLUS", b"p=tls-server-end-point,,n=,r=nonce"),
        messages.sasl_initial("NONE", b"n,,n=,r=nonce"),
        messages.password(b"secret"),
        messages.query("SELECT 1"),
    ]
)
sasl_final = st.sampled_from(
    [
        messages.sasl_response(b"c=biws,r=nonce,p=AAAA"),
        messages.sasl_response(b""),
        messages.sasl_response(b"x" * 5000),
        messages.message(b"p", b"\0" * 100),
    ]
)


@fuzzing
@given(st.lists(st.tuples(mutated(sasl_first), mutated(sasl_final)), min_size=1, max_size=12))
async def test_nonsense_instead_of_a_proof(
    hasty: House, answers: list[tuple[bytes, bytes]]
) -> None:
    login = messages.startup({"user": hasty.place.user, "database": "law"}, 0x30000)
    heard = await asyncio.gather(
        *(until_closed(hasty, login + first + final) for first, final in answers)
    )
    assert not any(one.tag == "Z" for said in heard for one in said)
    await rest(hasty.worker)


# --- after the login -------------------------------------------------------------------------

NAMES = st.sampled_from(["", "a", "b"])
TEXTS = st.sampled_from(
    [
        "",
        "SELECT 1",
        "SELECT 2 FROM generate_series(1, 3)",
        "SELECT no_such_column",
        "BEGIN",
        "COMMIT",
        "ROLLBACK",
        "SAVEPOINT s",
        "ROLLBACK TO s",
        "SHOW work_mem",
        "SET work_mem = '5MB'",
        "RESET ALL",
        "COPY fuzz FROM STDIN",
        "COPY (SELECT 1) TO STDOUT",
        "CREATE TEMP TABLE IF NOT EXISTS temporary (a int)",
        "DEALLOCATE ALL",
        "DISCARD ALL",
        "DO $$ BEGIN RAISE NOTICE 'noted'; END $$",
    ]
)
queries = st.builds(messages.query, TEXTS | st.just("SELECT 1; SELECT 2; SELECT 1/0"))
copying = st.sampled_from([copy_data(b"row\n"), copy_data(b""), COPY_DONE, copy_fail("no")])
others = st.sampled_from([function_call(177, b"1", b"2"), function_call(0), messages.FLUSH])


def extended(statements: st.SearchStrategy[str]) -> st.SearchStrategy[bytes]:
    """Messages of the extended protocol; ``statements`` are their statements' names."""
    values = st.lists(st.sampled_from([b"1", None, b"x"]), max_size=1)
    return st.one_of(
        st.builds(parse_, statements, TEXTS | st.just("SELECT $1::int")),
        st.builds(bind, statements, values, NAMES),
        st.builds(describe, st.just("S"), statements),
        st.builds(close_, st.just("S"), statements),
        st.builds(describe, st.just("P"), NAMES),
        st.builds(close_, st.just("P"), NAMES),
        st.builds(execute, NAMES, st.integers(0, 1)),
        st.sampled_from([messages.SYNC, messages.SYNC, messages.FLUSH]),
    )


def traffic(statements: st.SearchStrategy[str] = NAMES) -> st.SearchStrategy[bytes]:
    """Good messages in any order."""
    several = extended(statements)
    return st.lists(queries | several | several | copying | others, max_size=12).map(b"".join)


@st.composite
def cuts(draw: st.DrawFn, data: st.SearchStrategy[bytes]) -> list[bytes]:
    """Bytes in several parts."""
    whole = draw(data)
    places = sorted(draw(st.lists(st.integers(0, len(whole)), max_size=6)))
    return [
        whole[start:end] for start, end in zip([0, *places], [*places, len(whole)], strict=True)
    ]


async def send_in_parts(wire: Wire, parts: list[bytes]) -> None:
    for part in parts:
        wire.send(part)
        await asyncio.sleep(0)


async def left_alone(house: House, parts: list[bytes]) -> None:
    """Send, read what comes for a moment, and vanish."""
    wire = await Wire.logged_in(house.place)
    try:
        await send_in_parts(wire, parts)
        async with asyncio.timeout(0.02):
            await wire.until("")
    except TimeoutError:
        pass
    finally:
        wire.rst()


@fuzzing
@given(st.lists(cuts(st.binary(max_size=200) | mutated(traffic())), min_size=1, max_size=6))
@example([[b"Q\xff\xff\xff\xff"], [b"Q\0\0\0\3"], [b"Q\0\0\0\4"], [b"\0\0\0\0\0"], [b"P\0\0\0\4"]])
@example([[b"d\x3f\xff\xff\xff" + b"x" * 100_000], [b"S\0\0\0\x09abcdeS\0\0\0\4"]])
async def test_nonsense_after_the_login(house: House, inputs: list[list[bytes]]) -> None:
    await asyncio.gather(*(left_alone(house, parts) for parts in inputs))
    await still_serves(house)


async def to_the_end(house: House, parts: list[bytes]) -> list[Message]:
    """What is said up to the last ReadyForQuery or the close; fails when neither comes."""
    wire = await Wire.logged_in(house.place)
    try:
        await send_in_parts(wire, [*parts, THE_END])
        heard: list[Message] = []
        async with asyncio.timeout(ENDS_S):
            while not (heard and (heard[-1] is EOF or said_the_end(heard))):
                heard += await wire.until("Z")
        return heard
    finally:
        wire.rst()


def said_the_end(heard: list[Message]) -> bool:
    """Whether the last query has been answered."""
    answers = [one.cells for one in heard[-4:] if one.tag == "D"]
    return heard[-1].tag == "Z" and answers == [[b"the end"]]


@fuzzing
@given(cuts(traffic(statements=st.just(""))))
async def test_good_messages_in_any_order_and_any_parts_are_answered_alike(
    house: House, parts: list[bytes]
) -> None:
    """With the unnamed statement only: whether a named one exists is taken for granted while its

    Parse is under way, and then the parts matter if an earlier batch of the same pipeline fails.
    """
    whole = b"".join(parts)
    in_one = await to_the_end(house, [whole])
    in_parts = await to_the_end(house, parts)
    byte_by_byte = await to_the_end(house, [bytes([byte]) for byte in whole])
    assert in_one == in_parts == byte_by_byte
    await rest(house.worker)
