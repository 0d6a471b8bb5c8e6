"""Connections for tools, from the same URLs that the gateway itself uses."""

from __future__ import annotations

from urllib.parse import urlencode

import asyncpg

from gateway.settings.dsn import Dsn

APPLICATION_NAME = "gateway-tools"


async def connect(
    dsn: Dsn, *, database: str | None = None, timeout_s: float = 10
) -> asyncpg.Connection[asyncpg.Record]:
    """A connection to the place ``dsn`` names, or to another ``database`` of the same server.

    TLS follows the URL's sslmode and files. Raises OSError, TimeoutError or asyncpg's errors.
    """
    # asyncpg reads TLS files from a URL only; the rest goes by name and needs no quoting.
    tls = {
        "sslmode": dsn.sslmode.value,
        "sslrootcert": dsn.sslrootcert,
        "sslcert": dsn.sslcert,
        "sslkey": dsn.sslkey,
    }
    return await asyncpg.connect(
        dsn="postgresql:///?" + urlencode({name: value for name, value in tls.items() if value}),
        host=dsn.host,
        port=dsn.port,
        user=dsn.user,
        password=dsn.password or None,
        database=database or dsn.database,
        timeout=dsn.connect_timeout or timeout_s,
        server_settings={"application_name": APPLICATION_NAME},
    )
