"""The whole gateway stands still for seconds, as a machine that is moved or overcommitted does."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import pytest

from tests.conftest import Provisioned
from tests.fault.traffic import traffic
from tests.fleet import fleet

pytestmark = pytest.mark.long

STILL_S = 6.0
"""Longer than any look at a database may take, and shorter than clients wait for a server."""
CLIENTS = 30


async def test_nobody_is_told_anything_after_a_standstill(
    provisioned: Provisioned, tmp_path: Path
) -> None:
    async with fleet(provisioned.settings, tmp_path, {"pool": {"max": 5}}) as one:
        places = [one.place(provisioned.owner_on(name)) for name in ("law", "dentist")]
        async with traffic(places, CLIENTS) as clients:
            await clients.answered(300)
            for _ in range(2):
                for process in one.workers().values():
                    process.send(signal.SIGSTOP)
                one.signal(signal.SIGSTOP)
                await asyncio.sleep(STILL_S)
                one.signal(signal.SIGCONT)
                for process in one.workers().values():
                    process.send(signal.SIGCONT)
                assert await clients.recovered() < 3
                await clients.answered(300)
        print(f"{clients.answers} answers, the longest {clients.longest_s:.1f} s")
        assert not clients.errors
