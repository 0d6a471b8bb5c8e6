"""What asyncpg takes for one of our database URLs; asyncpg is for look-ups, probes and tools."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from gateway.settings.dsn import Dsn


def connect_arguments(
    dsn: Dsn, timeout_s: float, server_settings: Mapping[str, str]
) -> dict[str, Any]:
    """The arguments of ``asyncpg.connect`` and ``create_pool``. Holds the password.

    TLS follows the URL's sslmode and files. ``timeout_s`` bounds the connect.
    """
    # asyncpg reads TLS files from a URL only; the rest goes by name and needs no quoting.
    tls = {
        "sslmode": dsn.sslmode.value,
        "sslrootcert": dsn.sslrootcert,
        "sslcert": dsn.sslcert,
        "sslkey": dsn.sslkey,
    }
    return {
        "dsn": "postgresql:///?" + urlencode({name: text for name, text in tls.items() if text}),
        "host": dsn.host,
        "port": dsn.port,
        "user": dsn.user,
        "password": dsn.password or None,
        "database": dsn.database,
        "timeout": timeout_s,
        "server_settings": dict(server_settings),
    }


def careful_settings(application_name: str, timeout_s: float) -> dict[str, str]:
    """Settings for connections of the gateway's own that only read, whatever the role's are."""
    timeout_ms = str(max(1, round(timeout_s * 1000)))
    return {
        "application_name": application_name,
        "search_path": "pg_catalog",
        "default_transaction_read_only": "on",
        "statement_timeout": timeout_ms,
        "lock_timeout": timeout_ms,
        "idle_in_transaction_session_timeout": timeout_ms,
        "jit": "off",
    }
