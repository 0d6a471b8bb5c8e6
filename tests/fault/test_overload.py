"""More than there is room for: a thousand clients that vanish, floods of logins, no descriptors, no
meta database. Traffic goes on, and afterwards nothing is left over.
"""

from __future__ import annotations

import asyncio
import re
import resource
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.demo.seed import SeedLogin
from gateway.directory.directory import Directory
from gateway.errors import DirectoryUnavailable
from gateway.settings.dsn import parse
from gateway.settings.model import Settings
from gateway.worker import Worker
from tests.conftest import Provisioned
from tests.fault.traffic import Traffic, descriptors, memory_mb, traffic
from tests.fault_proxy import FaultProxy, fault_proxy
from tests.fleet import fleet
from tests.integration.conftest import revealed
from tests.running import changed, eventually, place, pool_of, rest, running
from tests.wire import Place, Refused, Wire

pytestmark = pytest.mark.long

VANISHING = 1000
IN_TRANSACTION = 4
FLOOD_S = 2.0
META_AWAY_S = 60.0


def per_second(one: Traffic, since: float) -> float:
    """Answers a second from ``since`` until now."""
    count = sum(at >= since for at in one.answered_at)
    return count / (time.monotonic() - since)


async def quiet(worker: Worker, clients: int) -> None:
    await eventually(lambda: len(worker.context.registry) == clients, 30)


async def test_trap_a_thousand_clients_vanish_without_a_word(provisioned: Provisioned) -> None:
    """Half-open: no FIN, no RST. Those in a transaction give their servers back in bounded time."""
    settings = changed(
        provisioned.settings, pool={"max": IN_TRANSACTION, "idle_transaction_timeout_s": 1}
    )
    law, logins = provisioned.owner_on("law"), asyncio.Semaphore(50)
    async with running(settings) as worker, fault_proxy(*worker.address) as proxy:
        where = replace(place(worker, law), port=proxy.own_port)

        async def client() -> Wire:
            async with logins:
                return await Wire.logged_in(where)

        await (await client()).close()
        before_mb, before_fds = memory_mb(), descriptors()
        wires = await asyncio.gather(*(client() for _ in range(VANISHING)))
        with_mb = memory_mb()
        for wire in wires[:IN_TRANSACTION]:
            await wire.query("BEGIN")
        proxy.half_open = True
        began = time.monotonic()
        async with traffic([place(worker, law)], 4) as others:
            await others.answered(1)
            first_s = time.monotonic() - began
            await others.answered(200)
        assert not others.errors
        assert first_s < 4, "their servers came back"
        proxy.heal()  # in place of the kernel's keepalive, which ends them within a minute
        healed = time.monotonic()
        await quiet(worker, 0)
        print(
            f"{VANISHING} vanished; next served after {first_s:.1f} s; all gone"
            f" {time.monotonic() - healed:.1f} s after their ends were known; memory"
            f" {before_mb:.0f} -> {with_mb:.0f} -> {memory_mb():.0f} MB with both their ends"
        )
        for wire in wires:
            wire.rst()
        await eventually(lambda: descriptors() <= before_fds + 10)
        await rest(worker)


async def test_trap_a_flood_of_logins_does_not_stop_the_traffic(provisioned: Provisioned) -> None:
    law = provisioned.owner_on("law")
    async with running(provisioned.settings) as worker:
        where, refused = place(worker, law), list[str]()

        async def guess(number: int) -> None:
            names = (law.user, f"nobody_{number}")
            end, count = time.monotonic() + FLOOD_S, 0
            while time.monotonic() < end:
                count += 1
                wrong = replace(where, user=names[count % 2], password="wrong")
                with pytest.raises(Refused) as caught:
                    await Wire.logged_in(wrong)
                refused.append(caught.value.sqlstate)

        async with traffic([where], 4) as served:
            await served.answered(200)
            before, began = per_second(served, served.answered_at[0]), time.monotonic()
            served.longest_s = 0.0
            await asyncio.gather(*(guess(number) for number in range(100)))
            during = per_second(served, began)
            await served.answered(50)
        print(
            f"{len(refused) / FLOOD_S:.0f} wrong logins a second; statements a second"
            f" {before:.0f} -> {during:.0f}, longest {served.longest_s * 1000:.0f} ms"
        )
        assert set(refused) == {"28P01"}
        assert not served.errors
        assert served.longest_s < 2
        await rest(worker)


async def test_trap_no_descriptors_left_is_no_database_down(
    provisioned: Provisioned, tmp_path: Path
) -> None:
    """The limit is met by clients; who is in is served, and when they leave others come in."""
    law, dentist = provisioned.owner_on("law"), provisioned.owner_on("dentist")
    overrides = {"workers": 1, "health": {"idle_interval_ms": 200}}
    async with fleet(provisioned.settings, tmp_path, overrides) as one, AsyncExitStack() as stack:
        assert one.supervisor is not None
        pid = one.supervisor.pid
        soft, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        assert soft == hard, "raised at the start as far as allowed"
        first = await Wire.logged_in(one.place(law))
        stack.callback(first.rst)
        await asyncio.sleep(1)  # health has its connections
        limit = descriptors(pid) + 10
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (limit, hard))
        wires: list[Wire] = []
        with pytest.raises((TimeoutError, Refused, OSError)):
            for _ in range(20):
                async with asyncio.timeout(2):
                    wires.append(await Wire.logged_in(one.place(law)))
        assert len(wires) >= 5
        assert await first.value("SELECT 'served'") == "served"
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (descriptors(pid) + 1, hard))
        for wire in wires:
            wire.rst()
        began = time.monotonic()
        for login in (law, dentist):
            await admitted(one.place(login))
        print(f"served {time.monotonic() - began:.1f} s after clients had left")
        log = one.log.read_text()
        assert re.search("cannot accept clients|ran out of file descriptors", log)
        assert "can't be reached" not in log


async def admitted(where: Place) -> None:
    """Until a login and a statement succeed."""
    end = time.monotonic() + 10
    while True:
        try:
            wire = await Wire.logged_in(where)
            assert await wire.value("SELECT 'in'") == "in"
        except (OSError, Refused, TimeoutError) as error:
            assert time.monotonic() < end, error
            await asyncio.sleep(0.05)
        else:
            return await wire.close()


async def test_trap_a_full_disk_is_one_statements_error(provisioned: Provisioned) -> None:
    """What the kernel says of a full disk (53100) reaches who caused it; all others go on."""
    law = provisioned.owner_on("law")
    async with running(changed(provisioned.settings, pool={"max": 2})) as worker:
        where = place(worker, law)
        async with traffic([where], 4) as others:
            await others.answered(50)
            wire = await Wire.logged_in(where)
            for _ in range(30):
                heard = await wire.query("COPY (SELECT 1) TO '/dev/full'")
                assert [one.fields["C"] for one in heard if one.tag == "E"] == ["53100"]
                assert await wire.value("SELECT 'goes on'") == "goes on"
            await wire.close()
            await others.answered(50)
        print(f"a full disk: 30 x 53100 told to one client; the others: {dict(others.errors)}")
        assert not others.errors
        pool = pool_of(worker, provisioned.url("law"))
        assert (pool.counters.lost, pool.breaker.trips) == (0, 0)
        await rest(worker)


# --- without a meta database ------------------------------------------------------------------


def behind(settings: Settings, proxy: FaultProxy) -> Settings:
    """The same with the meta database behind the proxy."""
    plain = revealed(settings)
    plain["meta"]["primary"] = proxy.url(plain["meta"]["primary"])
    plain["directory"]["lookup_timeout_ms"] = 500
    return Settings.model_validate(plain)


@pytest.fixture
async def meta(provisioned: Provisioned) -> AsyncIterator[FaultProxy]:
    dsn = parse(provisioned.url("meta"))
    async with fault_proxy(dsn.host, dsn.port) as proxy:
        yield proxy


async def refusal(worker: Worker, login: SeedLogin) -> tuple[str, float]:
    """SQLSTATE and seconds of a login that fails."""
    began = time.monotonic()
    with pytest.raises(Refused) as caught:
        await Wire.logged_in(place(worker, login))
    return caught.value.sqlstate, time.monotonic() - began


@pytest.mark.timeout(300)
@pytest.mark.parametrize("silent", [False, True], ids=["refuses", "is silent"])
async def test_trap_the_meta_database_is_away_for_a_while(
    provisioned: Provisioned, meta: FaultProxy, silent: bool
) -> None:
    """Who is known goes on and comes back; who is not gets a clear error; then all is as before."""
    known, unknown = provisioned.owner_on("law"), provisioned.owner_on("dentist")
    async with running(behind(provisioned.settings, meta)) as worker:
        directory: Directory = worker.context.directory
        await eventually(lambda: directory.connected)
        async with traffic([place(worker, known)], 4) as served:
            await served.answered(100)
            meta.half_open, meta.refusing = silent, not silent
            if not silent:
                meta.reset()
            began = time.monotonic()
            sqlstate, took_s = await refusal(worker, unknown)
            assert sqlstate == DirectoryUnavailable.sqlstate
            assert took_s < 2
            while time.monotonic() - began < META_AWAY_S:
                wire = await Wire.logged_in(place(worker, known))
                await wire.close()
                await asyncio.sleep(0.2)
            away_s = time.monotonic() - began
            meta.heal()
            began = time.monotonic()
            await admitted(place(worker, unknown))
            back_s = time.monotonic() - began
            await eventually(lambda: directory.connected, 15)
            listening_s = time.monotonic() - began
            await served.answered(100)
        assert not served.errors
        print(
            f"meta database {'silent' if silent else 'refusing'} for {away_s:.1f} s: known"
            f" {served.answers} statements, no error; unknown {sqlstate} after {took_s:.2f} s, in"
            f" {back_s:.2f} s after its return, news again after {listening_s:.2f} s"
        )
        await rest(worker)
