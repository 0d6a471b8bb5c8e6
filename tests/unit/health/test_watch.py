"""What a watch makes of looks that fail, each in its own way."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable

import asyncpg
import pytest

from gateway.health import prober
from gateway.health.look import Found
from gateway.health.prober import Pace, Watch
from gateway.router.positions import EndpointStatus
from gateway.settings.dsn import Dsn, parse

WELL = Found(True, 100, 100, 0.0, 1, 7)
PLACE = parse("postgresql://app@standby/law")


class Script:
    """Stands for the looker: gives one outcome after the other, the last for ever."""

    def __init__(self, outcomes: list[Found | BaseException | None]) -> None:
        self.outcomes = outcomes
        self.drops = 0

    async def look(self) -> Found:
        outcome = self.outcomes.pop(0) if len(self.outcomes) > 1 else self.outcomes[0]
        if outcome is None:
            await asyncio.Event().wait()
        if isinstance(outcome, BaseException):
            raise outcome
        assert outcome is not None
        return outcome

    def drop(self) -> None:
        self.drops += 1

    close = drop


async def statuses(
    monkeypatch: pytest.MonkeyPatch, *outcomes: Found | BaseException | None
) -> list[EndpointStatus]:
    """What is recorded of these looks, each once; None is a look that never ends."""
    script = Script([*outcomes])

    def looker(dsn: Dsn, timeout_s: float, on_lost: Callable[[], None]) -> Script:
        return script

    monkeypatch.setattr(prober, "Looker", looker)
    found: list[EndpointStatus] = []
    enough = asyncio.Event()

    def record(status: EndpointStatus) -> None:
        found.append(status)
        if len(found) >= len(outcomes):
            enough.set()

    loop = asyncio.get_running_loop()
    watch = Watch(PLACE, Pace(0.001, 0.05, 0.002), record, loop.time)
    watch.start()
    async with asyncio.timeout(10):
        await enough.wait()
    watch.close()
    await watch.closed()
    return found[: len(outcomes)]


async def test_looks_are_counted_and_good_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = await statuses(monkeypatch, WELL, WELL)
    assert (first.address, first.reachable, first.in_recovery, first.lsn) == (
        PLACE.address,
        True,
        True,
        100,
    )
    assert (first.looks, second.looks, second.failures) == (1, 2, 0)
    assert second.looked_at > first.looked_at
    assert first.expires_at == pytest.approx(first.looked_at + 3 * 0.001 + 0.05)


@pytest.mark.parametrize(
    "error",
    [
        ConnectionRefusedError(111, "refused"),
        asyncpg.CannotConnectNowError("the database system is starting up"),
        asyncpg.AdminShutdownError("terminating connection"),
        asyncpg.InterfaceError("connection is closed"),
        ValueError("whatever else"),
        None,
    ],
    ids=lambda error: type(error).__name__,
)
async def test_who_does_not_answer_is_out_and_comes_back(
    monkeypatch: pytest.MonkeyPatch, error: BaseException | None
) -> None:
    before, during, after = await statuses(monkeypatch, WELL, error, WELL)
    assert [one.reachable for one in (before, during, after)] == [True, False, True]
    assert (during.lsn, during.in_recovery, during.failures) == (None, None, 1)
    assert during.error == ("no answer in time" if error is None else during.error) != ""
    assert (after.lsn, after.error) == (100, "")


@pytest.mark.parametrize(
    "error",
    [
        asyncpg.TooManyConnectionsError("sorry, too many clients already"),
        asyncpg.InvalidPasswordError("password authentication failed"),
        asyncpg.InsufficientPrivilegeError("permission denied"),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_trap_an_error_of_the_server_is_not_taken_for_a_dead_server(
    monkeypatch: pytest.MonkeyPatch, error: asyncpg.PostgresError
) -> None:
    _, during = await statuses(monkeypatch, WELL, error)
    assert (during.reachable, during.lsn, during.error) == (True, None, str(error))


async def test_trap_own_descriptors_running_out_are_not_taken_for_a_dead_server(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    full = OSError(errno.EMFILE, "Too many open files")
    before, during, after = await statuses(monkeypatch, WELL, full, WELL)
    assert (during.reachable, during.lsn, during.looked_at) == (True, 100, before.looked_at)
    assert during.expires_at == before.expires_at, "it is not believed for longer"
    assert (during.failures, "Too many open files" in during.error) == (1, True)
    assert after.error == ""
