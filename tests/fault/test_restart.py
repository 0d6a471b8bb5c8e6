"""The gateway is restarted under load, with new processes, and no client notices."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import psycopg
import pytest

from gateway.pool.listening import read_notification
from gateway.protocol import messages
from gateway.settings.model import Settings
from tests.certificates import issue
from tests.conftest import FreshDatabase, Provisioned
from tests.fleet import Fleet, fleet, until
from tests.running import OBSERVER, Backends, backends, moved
from tests.wire import Place, Wire, send_cancel

pytestmark = pytest.mark.long

MAX = 5
CLIENTS = 20
TIMEOUT_S = 10
RESTARTS = 10
LOAD_S = float(os.environ.get("RESTART_LOAD_S", "25"))
"""After so long no further restart is begun; a busy machine does fewer, two at least."""
_QUIET = {"health": {"idle_interval_ms": 0}}
_SCRIPT = """\
\\set n random(1, 1000000)
BEGIN;
SELECT :n, pg_sleep(0.001);
SELECT :n + 1;
END;
SELECT :n;
"""


@dataclass
class House:
    """A database of its own behind a gateway, and who looks at it."""

    one: Fleet
    place: Place
    url: str
    url_of_database: str
    watch: Backends
    folder: Path

    async def restart(self) -> None:
        """Once, until the new workers serve and those before them have ended."""
        before = self.one.workers()
        self.one.signal(signal.SIGUSR2)
        await self.one.logged("restarted: 2 new workers serve")
        after = self.one.workers()
        assert {one.pid for one in before.values()}.isdisjoint(one.pid for one in after.values())
        await until(lambda: not any(one.alive for one in before.values()), 30)


@pytest.fixture
async def house(
    provisioned: Provisioned, fresh_database: FreshDatabase, tmp_path: Path
) -> AsyncIterator[House]:
    url = await fresh_database("restart")
    settings: Settings = moved(provisioned.settings, "LAW", url)
    options = {
        **_QUIET,
        "workers": 2,
        "pool": {"max": MAX},
        "listen": {"shutdown_timeout_s": TIMEOUT_S},
    }
    owner = provisioned.owner_on("law")
    with backends(url) as watch:
        async with fleet(settings, tmp_path, options) as one:
            yield House(one, one.place(owner), one.url(owner), url, watch, tmp_path)


async def pgbench(house: House, protocol: str) -> asyncio.subprocess.Process:
    """Started, for as long as it is let."""
    script = house.folder / "script.sql"
    script.write_text(_SCRIPT)
    place = house.place
    command = [
        "pgbench",
        "-n",
        "-f",
        str(script),
        "-M",
        protocol,
        "-c",
        str(CLIENTS),
        "-j",
        str(CLIENTS),
    ]
    command += ["-T", "600", "-P", "5", "-h", place.host, "-p", str(place.port), "-U", place.user]
    environment = {**os.environ, "PGPASSWORD": place.password or "", "PGSSLMODE": "disable"}
    return await asyncio.create_subprocess_exec(
        *command,
        place.database,
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )


async def stopped(running: asyncio.subprocess.Process) -> str:
    """What it has said, once it is told to stop."""
    if running.returncode is None:
        running.send_signal(signal.SIGINT)
    output, _ = await running.communicate()
    return output.decode()


async def test_ten_restarts_under_pgbench_fail_no_transaction(house: House) -> None:
    loads = {mode: await pgbench(house, mode) for mode in ("simple", "extended", "prepared")}
    try:
        await asyncio.sleep(1.0)
        began = time.monotonic()
        done = 0
        while done < RESTARTS and (done < 2 or time.monotonic() - began < LOAD_S):
            await house.restart()
            done += 1
        took_s = time.monotonic() - began
        ended = [mode for mode, load in loads.items() if load.returncode is not None]
    finally:
        said = {mode: await stopped(load) for mode, load in loads.items()}
    print(f"{done} restarts in {took_s:.1f} s; most {house.watch.most} backends; {said}")
    assert not ended, said
    for text in said.values():
        assert not re.search("error|aborted", text, re.IGNORECASE), text
        assert not re.search("[1-9][0-9]* failed", text), text
    assert house.watch.most == MAX


def _settings_and_statements(url: str) -> psycopg.Connection[tuple[object, ...]]:
    link = psycopg.connect(url, autocommit=True, prepare_threshold=0)
    link.execute("SET TimeZone = 'Asia/Tokyo'")
    link.execute("PREPARE twice AS SELECT 2 * $1::int")
    link.execute("SELECT %s::int + 1", (1,))
    return link


def _still_there(link: psycopg.Connection[tuple[object, ...]], number: int) -> None:
    assert link.execute("SHOW TimeZone").fetchone() == ("Asia/Tokyo",)
    assert link.execute(f"EXECUTE twice({number})").fetchone() == (2 * number,)
    assert link.execute("SELECT %s::int + 1", (number,)).fetchone() == (number + 1,)


async def test_sessions_go_on_with_what_they_hold_and_can_be_cancelled(house: House) -> None:
    link = await asyncio.to_thread(_settings_and_statements, house.url)
    pid = link.info.backend_pid
    for number in (3, 4):
        await house.restart()
        await asyncio.to_thread(_still_there, link, number)
    assert link.info.backend_pid == pid

    running = asyncio.ensure_future(asyncio.to_thread(link.execute, "SELECT pg_sleep(30)"))
    await asyncio.sleep(0.5)
    await asyncio.to_thread(link.cancel)
    with pytest.raises(psycopg.errors.QueryCanceled):
        await asyncio.wait_for(running, 10)
    await asyncio.to_thread(_still_there, link, 5)
    await asyncio.to_thread(link.close)


async def test_an_open_transaction_ends_where_it_began_and_the_client_then_moves(
    house: House,
) -> None:
    wire = await Wire.logged_in(house.place)
    await wire.query("BEGIN")
    backend = await wire.value("SELECT pg_backend_pid()")
    before = house.one.workers()
    house.one.signal(signal.SIGUSR2)
    await house.one.logged("restarted: 2 new workers serve")
    assert any(one.alive for one in before.values())
    assert await wire.value("SELECT pg_backend_pid()") == backend
    wire.send(messages.query("COMMIT"), messages.query("SELECT 'sent ahead'"))
    heard = await wire.until("Z", 2)
    assert [one.cells[0] for one in heard if one.tag == "D"] == [b"sent ahead"]
    await until(lambda: not any(one.alive for one in before.values()), 30)
    assert await wire.value("SELECT 'here'") == "here"
    await wire.close()


async def test_who_cannot_be_moved_is_served_for_a_while_and_then_told(house: House) -> None:
    holds, keeps = await Wire.logged_in(house.place), await Wire.logged_in(house.place)
    await holds.query("BEGIN")
    await keeps.query("CREATE TEMP TABLE kept (a int)")
    before = house.one.workers()
    house.one.signal(signal.SIGUSR2)
    await house.one.logged("restarted: 2 new workers serve")
    began = time.monotonic()
    for wire in (holds, keeps):
        assert (await wire.until("E"))[-1].fields["C"] == "57P01"
    assert time.monotonic() - began < TIMEOUT_S + 2
    await until(lambda: not any(one.alive for one in before.values()), 30)
    fresh = await Wire.logged_in(house.place)
    assert await fresh.value("SELECT 'welcome'") == "welcome"
    for wire in (holds, keeps, fresh):
        await wire.close()


async def _say(url: str, said: list[int]) -> None:
    """Notifications one after the other, past the gateway."""
    direct = await asyncpg.connect(url, server_settings={"application_name": OBSERVER})
    try:
        while True:
            said.append(len(said))
            await direct.execute(f"NOTIFY news, '{said[-1]}'")
            await asyncio.sleep(0.002)
    finally:
        await direct.close()


async def test_listens_move_along_and_no_notification_is_lost_or_heard_twice(
    house: House,
) -> None:
    """Of many clients, some of which are in transactions now and then."""
    wires = [await Wire.logged_in(house.place) for _ in range(12)]
    for wire in wires:
        await wire.query("LISTEN news")
    said: list[int] = []
    speaking = asyncio.create_task(_say(house.url_of_database, said))
    for _ in range(3):
        busy = asyncio.gather(*(wire.query("SELECT pg_sleep(0.2)") for wire in wires[:4]))
        await house.restart()
        await busy
    speaking.cancel()
    await asyncio.gather(speaking, return_exceptions=True)
    for wire in wires:
        await wire.query("NOTIFY news, 'end'")
        heard = [read_notification(one.body)[2] for one in wire.seen if one.tag == "A"]
        notices = [one.fields["M"] for one in wire.seen if one.tag == "N"]
        assert not notices
        numbers = [int(payload) for payload in heard if payload != b"end"]
        assert numbers == said[: len(numbers)]
        assert len(said) - len(numbers) <= 1, "the last may have been broken off"
        assert await wire.value("SELECT string_agg(c, ' ') FROM pg_listening_channels() c") == (
            "news"
        )
    assert house.watch.most <= MAX
    print(f"{len(said)} notifications to {len(wires)} clients through 3 restarts")
    await wires[0].query("UNLISTEN news")
    before = len(wires[0].seen)
    await wires[1].query("NOTIFY news, 'not for the first'")
    await wires[0].query("SELECT 1")
    assert "A" not in [one.tag for one in wires[0].seen[before:]]
    for wire in wires:
        await wire.close()


async def test_old_cancel_keys_work_while_both_generations_run(house: House) -> None:
    """Of who has moved, and of who has stayed in its transaction."""
    moved_on, stays = await Wire.logged_in(house.place), await Wire.logged_in(house.place)
    await stays.query("BEGIN")
    before = house.one.workers()
    house.one.signal(signal.SIGUSR2)
    await house.one.logged("restarted: 2 new workers serve")
    assert any(one.alive for one in before.values())
    for wire in (moved_on, stays):
        wire.send(messages.query("SELECT pg_sleep(30)"))
        await asyncio.sleep(0.3)
        for _ in range(4):  # whichever worker it reaches
            await send_cancel(house.place.host, house.place.port, wire.pid, wire.secret)
        heard = await wire.until("Z")
        assert [one.fields["C"] for one in heard if one.tag == "E"] == ["57014"]
    await stays.query("ROLLBACK")
    assert await stays.value("SELECT 'moves now'") == "moves now"
    await until(lambda: not any(one.alive for one in before.values()), 30)
    for wire in (moved_on, stays):
        assert await wire.value("SELECT 'goes on'") == "goes on"
        await wire.close()


async def test_tls_clients_end_their_transactions_and_are_then_told(
    provisioned: Provisioned, tmp_path: Path
) -> None:
    """The keys of a TLS session are in the memory of its process."""
    authority = issue("a test's authority")
    server = issue("localhost", by=authority, names=("localhost",))
    cert_file, key_file = server.write(tmp_path, "server")
    options = {
        **_QUIET,
        "listen": {
            "shutdown_timeout_s": 4,
            "tls": {"mode": "allow", "certificate_file": cert_file, "key_file": key_file},
        },
    }
    trust = ssl.create_default_context(cadata=authority.certificate_pem.decode())
    async with fleet(provisioned.settings, tmp_path, options) as one:
        where = one.place(provisioned.owner_on("law"))
        wires = []
        for _ in range(2):
            wire = await Wire.connect(where.host, where.port)
            await wire.start_tls(trust, "localhost")
            assert (await wire.log_in(where))[-1].tag == "Z"
            wires.append(wire)
        idle, busy = wires
        await busy.query("BEGIN")
        before = one.workers()
        one.signal(signal.SIGUSR2)
        await one.logged("restarted: 2 new workers serve")
        assert await idle.value("SELECT 'served meanwhile'") == "served meanwhile"
        assert (await idle.until("E"))[-1].fields["C"] == "57P01"
        assert await busy.value("SELECT 'in its transaction'") == "in its transaction"
        heard = await busy.query("COMMIT")
        assert [m.body for m in heard if m.tag == "C"] == [b"COMMIT\0"], "it may end"
        assert heard[-1].tag == "E" or (await busy.until("E"))[-1].fields["C"] == "57P01"
        await until(lambda: not any(process.alive for process in before.values()), 10)
        for wire in wires:
            await wire.close()


def _ready(port: int) -> int:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


async def test_sigterm_makes_it_unready_at_once_and_ends_it_in_time(house: House) -> None:
    assert await asyncio.to_thread(_ready, house.one.http_port) == 200
    wire = await Wire.logged_in(house.place)
    await wire.query("BEGIN")
    began = time.monotonic()
    house.one.signal(signal.SIGTERM)
    await house.one.logged("draining")
    assert await asyncio.to_thread(_ready, house.one.http_port) == 503
    assert await wire.value("SELECT 'let me end'") == "let me end"
    assert (await wire.until("E"))[-1].fields["C"] == "57P01"
    assert TIMEOUT_S - 1 < time.monotonic() - began < TIMEOUT_S + 2
    assert await house.one.ended() == 0
    await wire.close()
