"""Runs Gateway.java directly and through the gateway: ``make test-jdbc``.

It needs a JDK and pgjdbc's jar: $PGJDBC_JAR, or Debian's package libpostgresql-jdbc-java.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
from pathlib import Path

from tests.suites.places import direct_place, gateway_place
from tests.suites.suites import Place, Suite

SUITE = Suite("pgjdbc", "jdbc", None, ())
POOL_MAX = 3
SCENARIO_MAX_S = 240
_SOURCE = Path(__file__).with_name("Gateway.java")
_LOG = Path(".cache/suites/jdbc/gateway.log")
_JARS = (Path("/usr/share/java/postgresql.jar"),)


def jar() -> Path:
    """The driver. Exits with what helps when there is none."""
    named = os.environ.get("PGJDBC_JAR")
    for candidate in [Path(named)] if named else _JARS:
        if candidate.is_file():
            return candidate
    sys.exit("no pgjdbc: set $PGJDBC_JAR or install Debian's libpostgresql-jdbc-java")


async def run(place: Place, what: str) -> int:
    """Run all scenarios at ``place``; the exit status."""
    url = f"jdbc:postgresql://{place.host}:{place.port}/{SUITE.database}"
    print(f"--- {what}", flush=True)
    process = await asyncio.create_subprocess_exec(
        *("java", "-cp", str(jar()), str(_SOURCE), url, place.user, place.password)
    )
    try:
        return await asyncio.wait_for(process.wait(), SCENARIO_MAX_S)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def main() -> int:
    """Both sides, one after the other."""
    if shutil.which("java") is None:
        sys.exit("no java: install a JDK, such as Debian's default-jdk-headless")
    _LOG.parent.mkdir(parents=True, exist_ok=True)
    async with direct_place([SUITE]) as place:
        direct = await run(place, "directly")
    async with gateway_place([SUITE], _LOG, {"max": POOL_MAX}) as place:
        through = await run(place, f"through the gateway, over {POOL_MAX} connections")
    return direct or through


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
