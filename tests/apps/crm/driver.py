"""Sends a service the requests of many owners at once and notes what it answers.

The service is a process that reads a line of JSON per request and writes one per answer, in any
order: ``{"n": 1, "what": "lead", "token": "...", "with": {...}}`` and ``{"n": 1, "answer": ...}``
or ``{"n": 1, "error": {...}}``.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from tests.apps.crm.requests import NO_SUCH_ID, Visitor, draw
from tests.apps.twice import environment

AT_ONCE = 40
"""Owners at work at the same time."""

REQUESTS = 9
"""Of each owner, besides signing in and out."""

_LINE_MAX = 4 * 1024 * 1024
_ANSWER_TIMEOUT_S = 120

Note = tuple[str, Any]
"""What was asked, and the answer without ids of this run."""


@dataclass(slots=True)
class Service:
    """A service that runs."""

    process: asyncio.subprocess.Process
    waiting: dict[int, asyncio.Future[Any]] = field(default_factory=dict)
    asked: int = 0
    ended: bool = False

    async def ask(self, what: str, token: str, arguments: dict[str, Any]) -> Any:
        """The answer, or ``{"error": ...}``. Raises TimeoutError, ConnectionError."""
        if self.ended:
            raise ConnectionError("the service has ended")
        self.asked += 1
        number = self.asked
        answer = asyncio.get_running_loop().create_future()
        self.waiting[number] = answer
        line = json.dumps({"n": number, "what": what, "token": token, "with": arguments})
        assert self.process.stdin is not None
        self.process.stdin.write(f"{line}\n".encode())
        return await asyncio.wait_for(answer, _ANSWER_TIMEOUT_S)

    async def listen(self) -> None:
        """Hands out the answers until the service ends."""
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            told = json.loads(line)
            waiting = self.waiting.pop(told.pop("n"))
            waiting.set_result(told.get("answer", told))
        self.ended = True
        for waiting in self.waiting.values():
            waiting.set_exception(ConnectionError("the service has ended"))


@asynccontextmanager
async def running(command: Sequence[str | Path], url: str, folder: Path) -> AsyncIterator[Service]:
    """Starts a service on a DATABASE_URL, and ends it by the end of its input."""
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=folder,
        env=environment({"DATABASE_URL": url}),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=_LINE_MAX,
    )
    service = Service(process)
    listening = asyncio.create_task(service.listen())
    try:
        yield service
        assert process.stdin is not None
        process.stdin.close()
        await asyncio.wait_for(process.wait(), _ANSWER_TIMEOUT_S)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        await listening
    assert process.returncode == 0, "the service has failed: see what it wrote to stderr"


async def visit_all(
    service: Service, owners: Iterable[tuple[int, str]], seed: str
) -> dict[int, list[Note]]:
    """The notes of every owner, who are given as (id, e-mail)."""
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(owner: int, email: str) -> tuple[int, list[Note]]:
        async with gate:
            return owner, await visit(
                service, Visitor(owner, email, Random(f"{seed} {owner}")), seed
            )

    return dict(await asyncio.gather(*(one(owner, email) for owner, email in owners)))


async def visit(service: Service, who: Visitor, seed: str) -> list[Note]:
    """One owner signs in, works, and signs out; one request after the other."""
    who.token = f"{seed}-{who.owner}"
    notes: list[Note] = []

    async def ask(what: str, arguments: dict[str, Any]) -> None:
        answer = await service.ask(what, who.token, arguments)
        notes.append((f"{what} {plain(who, arguments)}", plain(who, answer)))

    await ask("sign_in", {"email": who.email, "browser": "Mozilla"})
    await ask("overview", {})
    for _ in range(REQUESTS):
        await ask(*draw(who))
    await ask("sign_out", {})
    await ask("profile", {})
    return notes


def plain(who: Visitor, value: Any, key: str = "") -> Any:
    """``value`` with each id replaced by its place among those seen; new ones are noted."""
    if isinstance(value, dict):
        return {name: plain(who, inner, name) for name, inner in value.items()}
    if isinstance(value, list):
        return [plain(who, inner, key.removesuffix("s")) for inner in value]
    kind = key.removesuffix("Id")
    if kind != key and kind in who.seen and isinstance(value, int):
        ids = who.seen[kind]
        if value == NO_SUCH_ID:
            return f"no {kind}"
        if value not in ids:
            ids.append(value)
        return f"{kind} {ids.index(value)}"
    return value
