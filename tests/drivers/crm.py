"""Who the driver tests are, and how they tell their own rows from everybody else's."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from urllib.parse import quote

HOST = "127.0.0.1"
SHARD = "law"
POOL_MAX = 4
CLIENTS = 6
"""More than the pool has connections, so that every client is moved about."""

ROUNDS = 5
TAG_PREFIX = "driver-test-"


@dataclass(frozen=True, slots=True)
class Client:
    """One owner login, and a tag of its own: two clients may be the same owner."""

    port: int
    user: str
    password: str = field(repr=False)
    database: str
    owner: int
    tag: str

    @property
    def dsn(self) -> str:
        """A libpq connection string."""
        return (
            f"host={HOST} port={self.port} user={self.user} password={self.password}"
            f" dbname={self.database}"
        )

    def url(self, scheme: str = "postgresql") -> str:
        """The same as a URL."""
        login = f"{quote(self.user, safe='')}:{quote(self.password, safe='')}"
        return f"{scheme}://{login}@{HOST}:{self.port}/{self.database}"

    def email(self, number: int) -> str:
        """An address that only this client would write."""
        return f"{number}@{self.tag}.example"


async def all_at_once(script: Callable[[Client], None], clients: Sequence[Client]) -> None:
    """Runs a blocking script for every client, each in its own thread.

    Not in the loop's own threads: the gateway, on the same loop, looks up names in them.
    """
    loop = asyncio.get_running_loop()
    with ThreadPoolExecutor(len(clients)) as threads:
        runs = (loop.run_in_executor(threads, script, one) for one in clients)
        ends = await asyncio.gather(*runs, return_exceptions=True)
    for end in ends:
        if end is not None:
            raise end
