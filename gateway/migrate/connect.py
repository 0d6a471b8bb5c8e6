"""Connections for tools, from the URLs that the gateway itself uses; names and values in SQL."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TypeAlias
from urllib.parse import urlencode

import asyncpg

from gateway.settings.dsn import Dsn

APPLICATION_NAME = "gateway-tools"

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"  # subscripts are for the checker only


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


@asynccontextmanager
async def connected(dsn: Dsn) -> AsyncIterator[Connection]:
    """A connection for as long as the block lasts. Raises what ``connect`` does."""
    connection = await connect(dsn)
    try:
        yield connection
    finally:
        await connection.close()


def identifier(name: str) -> str:
    """A name as SQL writes it, quoted."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """A text as SQL writes it, whatever standard_conforming_strings is."""
    escaped = text.replace("\\", "\\\\").replace("'", "''")
    return f"E'{escaped}'" if "\\" in text else f"'{escaped}'"


def libpq_text(dsn: Dsn) -> str:
    """The login as libpq's ``keyword='value'`` text. Holds the password."""
    parts = {
        "host": dsn.host,
        "port": str(dsn.port),
        "dbname": dsn.database,
        "user": dsn.user,
        "password": dsn.password,
        "sslmode": dsn.sslmode.value,
        "sslrootcert": dsn.sslrootcert,
        "sslcert": dsn.sslcert,
        "sslkey": dsn.sslkey,
    }
    quoted = {
        name: value.replace("\\", "\\\\").replace("'", "\\'")
        for name, value in parts.items()
        if value
    }
    return " ".join(f"{name}='{value}'" for name, value in quoted.items())


async def keep_out_of_the_log(connection: Connection) -> None:
    """What this session runs from here on is not logged, where its role may decide that.

    For statements that hold a password.
    """
    await connection.execute(
        """SELECT set_config(name, quiet, false)
             FROM (VALUES ('log_statement', 'none'), ('log_min_duration_statement', '-1'),
                          ('log_min_duration_sample', '-1'), ('log_min_error_statement', 'panic'))
                  AS wanted (name, quiet)
            WHERE current_setting('is_superuser') = 'on'"""
    )
