"""What the demo shows to people: the tour as a table, and commands to paste."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.table import Table
from rich.text import Text

from gateway.demo.seed import SeedLogin
from gateway.demo.tour import Seen, one_per_shard
from gateway.router.identity import LoginKind
from gateway.settings.shards import HUB


def tour_table(seen: Sequence[Seen]) -> Table:
    """One line per connection of the tour."""
    table = Table(title="Who lands where, as clients of the gateway see it")
    for heading in ("login", "asks for", "lands in", "leads", "login ms", ""):
        right = heading in ("leads", "login ms")
        table.add_column(heading, justify="right" if right else "left")
    for one in seen:
        login = one.stop.login.user
        if one.stop.options:
            login += f" for owner {one.stop.owner}"
        verdict = Text(one.problem or "ok", style="red" if one.problem else "green")
        named = one.stop.database
        table.add_row(login, named, one.database, str(one.leads), f"{one.connect_ms:.0f}", verdict)
    return table


def psql_lines(
    logins: Sequence[SeedLogin], host: str, port: int, console: str, psql: str
) -> Iterator[tuple[str, str]]:
    """What a command is for, and the command: one per shard, then the other kinds of login."""
    at = f"{shlex.quote(psql)} -h {host} -p {port}"
    owners = one_per_shard(logins)
    for owner in owners:
        purpose = f"owner {owner.owner} of {owner.industry}, on {owner.shard}"
        yield purpose, f"PGPASSWORD={owner.password} {at} -U {owner.user} -d {owner.database}"
    guest = owners[0]
    for login in logins:
        start = f"PGPASSWORD={login.password}"
        if login.kind is LoginKind.SERVICE:
            options = shlex.quote(f"-c gateway.owner={guest.owner}")
            user = f"-U {login.user} -d {login.database}"
            yield (
                f"the web app, for owner {guest.owner}",
                f"{start} PGOPTIONS={options} {at} {user}",
            )
        elif login.kind is LoginKind.OPERATOR:
            yield "an operator", f"{start} {at} -U {login.user} -d {guest.shard}"
            count = """'SELECT industry, shard, count(*) FROM "Lead" GROUP BY 1, 2'"""
            yield "all industries at once", f"{start} {at} -U {login.user} -d {HUB} -c {count}"
            yield "the console", f"{start} {at} -U {login.user} -d {console} -c 'SHOW POOLS'"


def psql_program(bin_dir: Path) -> str:
    """``psql`` if a shell finds it, else the one beside the server's programs."""
    return "psql" if shutil.which("psql") else str(bin_dir / "psql")
