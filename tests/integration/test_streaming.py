"""Big results, big copies and huge values stream through: the process does not grow with them.

The gateway runs in a process of its own, and the kernel says how large that ever was.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from gateway.demo.postgres import free_port
from gateway.protocol import messages
from tests.conftest import FreshDatabase, Provisioned
from tests.integration.conftest import merged, revealed
from tests.running import moved, past_the_gateway
from tests.wire import COPY_DONE, Place, Wire, bind, copy_data, describe, execute, parse_

MEGABYTES = int(os.environ.get("GATEWAY_TEST_STREAM_MB", "200"))
"""Size of the big result and the big copy."""

VALUE_MB = 50
MB = 1_000_000
GROWTH_MB = 6
"""A few megabytes: the buffers of one connection, on both sides, and what the allocator keeps."""

READY_S = 30


@dataclass(frozen=True, slots=True)
class House:
    """A gateway process."""

    pid: int
    place: Place

    def start_over(self) -> float:
        """Forget how large the process ever was; its size now, in megabytes."""
        Path(f"/proc/{self.pid}/clear_refs").write_text("5")
        return self._status("VmRSS")

    @property
    def largest_mb(self) -> float:
        """How large it was at most since then."""
        return self._status("VmHWM")

    def _status(self, name: str) -> float:
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith(f"{name}:"):
                return int(line.split()[1]) * 1024 / MB
        raise AssertionError(f"no {name}")


@pytest.fixture(scope="module")
async def house(
    provisioned: Provisioned,
    fresh_database: FreshDatabase,
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[House]:
    url = await fresh_database("stream")
    await past_the_gateway(url, "CREATE TABLE sink (a text)")
    port = free_port()
    settings = merged(
        revealed(moved(provisioned.settings, "LAW", url)),
        {"listen": {"port": port}, "http": {"port": None}},
    )
    file = tmp_path_factory.mktemp("streaming") / "gateway.yaml"
    file.write_text(yaml.safe_dump(json.loads(json.dumps(settings))))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gateway", "serve", "--config", str(file)),
        stderr=asyncio.subprocess.DEVNULL,
    )
    login = provisioned.owner_on("law")
    where = Place("127.0.0.1", port, login.user, login.password, login.database)
    try:
        await up(where)
        yield House(process.pid, where)
    finally:
        process.send_signal(signal.SIGINT)
        await process.wait()


async def up(where: Place) -> None:
    """Wait until the gateway takes connections."""
    async with asyncio.timeout(READY_S):
        while True:
            try:
                wire = await Wire.connect(where.host, where.port)
            except ConnectionError:
                await asyncio.sleep(0.05)
            else:
                wire.rst()
                return


# --- what goes through -----------------------------------------------------------------------


async def big_result(wire: Wire, megabytes: int) -> None:
    sql = f"SELECT repeat('x', 995) FROM generate_series(1, {megabytes * 1000})"
    wire.send(messages.query(sql))
    assert await wire.skip("Z") > megabytes * MB


async def big_copy_out(wire: Wire, megabytes: int) -> None:
    sql = f"COPY (SELECT repeat('x', 995) FROM generate_series(1, {megabytes * 1000})) TO STDOUT"
    wire.send(messages.query(sql))
    assert await wire.skip("Z") > megabytes * MB


async def big_copy_in(wire: Wire, megabytes: int) -> None:
    wire.send(messages.query("COPY sink FROM STDIN WHERE length(a) = 0"))
    await wire.until("G")
    lines = copy_data((b"y" * 999 + b"\n") * 100)
    for _ in range(megabytes * 10):
        wire.send(lines)
        await wire.sent()
    wire.send(COPY_DONE)
    assert [one.tag for one in await wire.until("Z")] == ["C", "Z"]


async def slow_reader(wire: Wire, megabytes: int) -> None:
    """Reads a little and stops, for long enough that everything behind it could pile up."""
    wire.send(
        messages.query(f"SELECT repeat('x', 995) FROM generate_series(1, {megabytes * 1000})")
    )
    for _ in range(3):
        await wire.raw(MB)
        await asyncio.sleep(0.4)
    wire.rst()


async def slow_writer(wire: Wire, megabytes: int) -> None:
    """One message that arrives in small parts with pauses, and is big all the same."""
    wire.send(messages.query("COPY sink FROM STDIN WHERE length(a) = 0"))
    await wire.until("G")
    message = copy_data(b"z" * (10 * MB))
    for at in range(0, len(message), MB):
        wire.send(message[at : at + MB])
        await asyncio.sleep(0.05)
    wire.send(COPY_DONE)
    await wire.until("Z")


async def huge_value(wire: Wire, megabytes: int) -> None:
    wire.send(messages.query(f"SELECT repeat('x', {VALUE_MB * MB})"))
    assert await wire.skip("Z") > VALUE_MB * MB


async def huge_parameter(wire: Wire, megabytes: int) -> None:
    value = b"x" * (VALUE_MB * MB)
    wire.send(parse_("", "SELECT length($1)"), bind("", [value]), describe("P"), execute())
    wire.send(messages.SYNC)
    heard = await wire.until("Z")
    assert [one.cells for one in heard if one.tag == "D"] == [[str(len(value)).encode()]]


async def huge_statement(wire: Wire, megabytes: int) -> None:
    text = "SELECT length('" + "x" * (VALUE_MB * MB) + "')"
    for statement in (
        messages.query(text),
        parse_("", text) + bind("") + execute() + messages.SYNC,
    ):
        wire.send(statement)
        heard = await wire.until("Z")
        rows = [one.cells for one in heard if one.tag == "D"]
        assert rows == [[str(VALUE_MB * MB).encode()]]


async def unread_sync(wire: Wire, megabytes: int) -> None:
    """A message of a kind that is always small, and says that it is a gigabyte."""
    wire.send(b"S" + (1 << 29).to_bytes(4, "big"))
    for _ in range(megabytes):
        wire.send(bytes(MB))
        try:
            await wire.sent()
        except ConnectionError:
            return


FLOWS: tuple[Callable[[Wire, int], Awaitable[None]], ...] = (
    big_result,
    big_copy_out,
    big_copy_in,
    slow_reader,
    slow_writer,
    huge_value,
    huge_parameter,
    huge_statement,
    unread_sync,
)


@pytest.mark.parametrize("flow", FLOWS, ids=lambda flow: flow.__name__)
async def test_trap_memory_does_not_grow_with(
    house: House, flow: Callable[[Wire, int], Awaitable[None]]
) -> None:
    warm = await Wire.logged_in(house.place)
    await big_result(warm, 2)
    await big_copy_in(warm, 2)
    await warm.close()
    wire = await Wire.logged_in(house.place)
    before_mb = house.start_over()
    await flow(wire, MEGABYTES)
    growth_mb = house.largest_mb - before_mb
    wire.rst()
    print(f"{flow.__name__}: {before_mb:.1f} MB, and {growth_mb:+.1f} MB at most")
    assert growth_mb < GROWTH_MB
