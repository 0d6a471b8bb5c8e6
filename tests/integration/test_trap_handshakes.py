"""Traps in a connection's first moments: handshakes that break while descriptors are used again."""

from __future__ import annotations

import asyncio
import random
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from gateway.worker import Worker
from tests.certificates import issue
from tests.conftest import Provisioned
from tests.running import changed, eventually, place, rest, running
from tests.wire import SSL_REQUEST, Place, Wire

HOST = "localhost"
STORMS = 20
BROKEN = 12
SOUND = 4


@dataclass(frozen=True, slots=True)
class House:
    """A gateway with a certificate for localhost."""

    worker: Worker
    place: Place
    root: str

    def context(self, alpn: str = "postgresql") -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=self.root)
        context.set_alpn_protocols([alpn])
        return context


@pytest.fixture
async def house(provisioned: Provisioned, tmp_path: Path) -> AsyncIterator[House]:
    authority = issue("handshakes")
    certificate, key = issue(HOST, by=authority, names=(HOST,)).write(tmp_path, "gateway")
    tls = {"mode": "allow", "certificate_file": certificate, "key_file": key}
    settings = changed(provisioned.settings, listen={"tls": tls, "login_timeout_s": 5})
    async with running(settings) as worker:
        root = authority.write(tmp_path, "root")[0]
        yield House(worker, place(worker, provisioned.owner_on("law")), root)


async def break_off(house: House, chance: random.Random) -> None:
    """Begin a handshake and leave in the middle, or be refused; the descriptor is free again."""
    hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + chance.randbytes(100)
    wire = await Wire.connect(house.place.host, house.place.port)
    if chance.random() < 0.5:
        wire.send(SSL_REQUEST)
        assert await wire.raw(1) == b"S"
    wire.send(hello[: chance.randrange(1, len(hello))])
    await asyncio.sleep(chance.random() / 50)
    chance.choice((Wire.fin, Wire.rst))(wire)
    if chance.random() < 0.3:
        (await refused(house)).fin()


async def refused(house: House) -> Wire:
    """Direct TLS by another protocol's name: the gateway closes after the handshake."""
    try:
        return await Wire.connect(
            house.place.host, house.place.port, tls=house.context("http/1.1"), name=HOST
        )
    except (ssl.SSLError, ConnectionError):
        return await Wire.connect(house.place.host, house.place.port)


async def work(house: House, tls: bool, number: int) -> None:
    """Log in, ask something large, leave: the answer is one's own, to the last byte."""
    wire = await Wire.connect(house.place.host, house.place.port)
    if tls:
        await wire.start_tls(house.context(), HOST)
    assert (await wire.log_in(house.place))[-1].tag == "Z"
    text = await wire.value(f"SELECT repeat('{number} ', 20000)")
    assert text == f"{number} " * 20_000
    await wire.close()


async def test_trap_broken_handshakes_hurt_nobody_who_gets_their_descriptor(house: House) -> None:
    """A socket closed under a handshake was watched on: whoever got its number lost bytes."""
    chance = random.Random(1)
    for storm in range(STORMS):
        async with asyncio.timeout(20):
            await asyncio.gather(
                *(break_off(house, chance) for _ in range(BROKEN)),
                *(work(house, n % 2 == 0, storm * SOUND + n) for n in range(SOUND)),
            )
    await eventually(lambda: not any(one.in_progress for one in house.worker._listeners))
    await rest(house.worker)
