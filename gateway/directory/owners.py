"""What ``gateway owners`` does in the meta database: logins, passwords, API keys and grants.

Each function is one statement or one transaction on a connection of the caller's. The triggers of
the tables tell every gateway about it, so nothing here needs to be announced.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeAlias

import asyncpg

from gateway.directory.directory import NAME_BYTES_MAX
from gateway.directory.meta import connect_arguments, describe
from gateway.directory.rows import grants_of
from gateway.protocol.passwords import is_md5_verifier, new_api_key
from gateway.protocol.scram import ScramVerifier, make_verifier
from gateway.router.identity import Grant, LoginKind, Owner, Scope
from gateway.settings.dsn import Dsn

LIST_LIMIT = 1000
"""Logins listed at most, unless more are asked for."""

_GENERATED_BYTES = 18
_LOGINS = """
    SELECT l.name, l.kind, l.verifier, l.owner_id, o.industry, l.valid_until, l.disabled,
           l.created_at, l.updated_at
    FROM gateway.login l LEFT JOIN gateway.owner o ON o.id = l.owner_id
"""
_API_KEYS = "SELECT id, login, valid_until, disabled, created_at FROM gateway.api_key"
_NO_TABLES = (asyncpg.UndefinedTableError, asyncpg.InvalidSchemaNameError)


Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"


class OwnersError(Exception):
    """What was asked for can't be done; the text says why and holds no secret."""


@dataclass(frozen=True, slots=True)
class LoginInfo:
    """One login as people may see it.

    ``password`` says how it is kept: scram, md5, none, or unusable for anything else. ``industry``
    is None for a login without an owner, or whose owner is gone.
    """

    name: str
    kind: LoginKind
    owner: str | None
    industry: str | None
    password: str
    valid_until: datetime | None
    disabled: bool
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class ApiKeyInfo:
    """One API key as people may see it."""

    id: str
    login: str
    valid_until: datetime | None
    disabled: bool
    created_at: datetime


@dataclass(frozen=True, slots=True)
class NewApiKey:
    """An API key just made. ``key`` is the secret and kept nowhere: show it now or never."""

    info: ApiKeyInfo
    key: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class LoginDetails:
    """A login with all that hangs on it. ``owner`` is None when it has none or it is gone."""

    login: LoginInfo
    owner: Owner | None
    api_keys: tuple[ApiKeyInfo, ...]
    grants: tuple[Grant, ...]


@contextlib.asynccontextmanager
async def open_meta(dsn: Dsn, timeout_s: float = 10.0) -> AsyncIterator[Connection]:
    """A connection to the meta database for these functions.

    Raises OwnersError when it can't be reached, or isn't provisioned once it is used.
    """
    arguments = connect_arguments(dsn, timeout_s)
    arguments["server_settings"] |= {
        "application_name": "gateway owners",
        "default_transaction_read_only": "off",
    }
    try:
        connection = await asyncpg.connect(**arguments)
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise OwnersError(f"can't connect to {dsn.place}: {describe(error)}") from error
    try:
        yield connection
    except _NO_TABLES as error:
        raise OwnersError(f"{dsn.place} isn't provisioned: run `gateway provision`") from error
    finally:
        with contextlib.suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            await connection.close(timeout=1)


# -- logins


async def add_login(
    connection: Connection,
    name: str,
    kind: LoginKind,
    *,
    owner: str | None = None,
    password: str | None = None,
    valid_until: datetime | None = None,
) -> LoginInfo:
    """Make a login; without a password only API keys open it.

    ``owner`` is the id of an owner that exists, for owner logins and no others. Raises OwnersError.
    """
    _check_name(name)
    _check_expiry(valid_until)
    if kind is LoginKind.OWNER:
        if owner is None:
            raise OwnersError("an owner login needs the id of its owner")
        await _require_owner(connection, owner)
    elif owner is not None:
        raise OwnersError(f"a login of kind {kind.value} has no owner of its own")
    try:
        await connection.execute(
            "INSERT INTO gateway.login (name, kind, verifier, owner_id, valid_until)"
            " VALUES ($1, $2, $3, $4, $5)",
            name,
            kind.value,
            _verifier(password),
            owner,
            valid_until,
        )
    except asyncpg.UniqueViolationError:
        raise OwnersError(f'login "{name}" exists already') from None
    return await _login(connection, name)


async def list_logins(
    connection: Connection,
    *,
    find: str = "",
    kind: LoginKind | None = None,
    owner: str | None = None,
    industry: str | None = None,
    limit: int = LIST_LIMIT,
) -> list[LoginInfo]:
    """Logins by name, those that fit every filter given; ``find`` is any part of the name."""
    rows = await connection.fetch(
        _LOGINS + " WHERE strpos(lower(l.name), lower($1)) > 0"
        " AND ($2::text IS NULL OR l.kind = $2) AND ($3::text IS NULL OR l.owner_id = $3)"
        " AND ($4::text IS NULL OR o.industry = $4) ORDER BY l.name LIMIT $5",
        find,
        kind.value if kind else None,
        owner,
        industry,
        limit,
    )
    return [_login_info(row) for row in rows]


async def show_login(connection: Connection, name: str) -> LoginDetails:
    """Everything about one login. Raises OwnersError when there is none of that name."""
    login = await _login(connection, name)
    grants = await connection.fetch(
        "SELECT scope, value FROM gateway.login_grant WHERE login = $1 ORDER BY scope, value", name
    )
    return LoginDetails(
        login=login,
        owner=None if login.owner is None else await _owner(connection, login.owner),
        api_keys=tuple(await list_api_keys(connection, name)),
        grants=grants_of([dict(row) for row in grants]) or (),
    )


async def set_disabled(connection: Connection, name: str, disabled: bool) -> None:
    """Shut a login out, or let it in again. Raises OwnersError when there is none of that name."""
    done = await connection.execute(
        "UPDATE gateway.login SET disabled = $2, updated_at = now() WHERE name = $1", name, disabled
    )
    _require_one(done, f'no login "{name}"')


async def set_password(connection: Connection, name: str, password: str | None) -> None:
    """Give a login a new password, or none. Raises OwnersError when there is none of that name."""
    done = await connection.execute(
        "UPDATE gateway.login SET verifier = $2, updated_at = now() WHERE name = $1",
        name,
        _verifier(password),
    )
    _require_one(done, f'no login "{name}"')


def generate_password() -> str:
    """A new password of 144 random bits, in 24 URL-safe letters."""
    return secrets.token_urlsafe(_GENERATED_BYTES)


# -- API keys


async def add_api_key(
    connection: Connection, login: str, *, valid_until: datetime | None = None
) -> NewApiKey:
    """Make an API key for a login. Raises OwnersError when there is none of that name."""
    _check_expiry(valid_until)
    key, hashed = new_api_key()
    key_id = key.split("_")[1]
    try:
        row = await connection.fetchrow(
            "INSERT INTO gateway.api_key (id, login, hash, valid_until) VALUES ($1, $2, $3, $4)"
            " RETURNING id, login, valid_until, disabled, created_at",
            key_id,
            login,
            hashed,
            valid_until,
        )
    except asyncpg.ForeignKeyViolationError:
        raise OwnersError(f'no login "{login}"') from None
    assert row is not None
    return NewApiKey(_api_key_info(row), key)


async def list_api_keys(connection: Connection, login: str) -> list[ApiKeyInfo]:
    """The API keys of a login, oldest first, revoked and expired ones included."""
    rows = await connection.fetch(_API_KEYS + " WHERE login = $1 ORDER BY created_at, id", login)
    return [_api_key_info(row) for row in rows]


async def revoke_api_key(connection: Connection, key_id: str) -> None:
    """Make an API key useless. Raises OwnersError when there is none of that id."""
    done = await connection.execute(
        "UPDATE gateway.api_key SET disabled = true WHERE id = $1", key_id
    )
    _require_one(done, f'no API key "{key_id}"')


# -- grants


async def add_grant(connection: Connection, login: str, grant: Grant) -> None:
    """Let a service login act for more owners. Granting the same again changes nothing.

    Raises OwnersError for an unknown login or owner, and for a login that is no service login.
    """
    info = await _login(connection, login)
    if info.kind is not LoginKind.SERVICE:
        raise OwnersError(f'"{login}" is of kind {info.kind.value}; grants are for service logins')
    if (grant.scope is Scope.ALL) != (grant.value == ""):
        raise OwnersError("a grant names an agency or an owner by id, or is for all without an id")
    if grant.scope is Scope.OWNER:
        await _require_owner(connection, grant.value)
    await connection.execute(
        "INSERT INTO gateway.login_grant (login, scope, value) VALUES ($1, $2, $3)"
        " ON CONFLICT DO NOTHING",
        login,
        grant.scope.value,
        grant.value or None,
    )


async def remove_grant(connection: Connection, login: str, grant: Grant) -> None:
    """Take a grant back. Raises OwnersError when the login doesn't have it."""
    done = await connection.execute(
        "DELETE FROM gateway.login_grant"
        " WHERE login = $1 AND scope = $2 AND value IS NOT DISTINCT FROM $3",
        login,
        grant.scope.value,
        grant.value or None,
    )
    _require_one(done, f'"{login}" has no such grant')


# -- helpers


async def _login(connection: Connection, name: str) -> LoginInfo:
    row = await connection.fetchrow(_LOGINS + " WHERE l.name = $1", name)
    if row is None:
        raise OwnersError(f'no login "{name}"')
    return _login_info(row)


async def _owner(connection: Connection, owner_id: str) -> Owner | None:
    row = await connection.fetchrow(
        "SELECT id, industry, shard, epoch FROM gateway.owner WHERE id = $1", owner_id
    )
    return None if row is None else Owner(**dict(row))


async def _require_owner(connection: Connection, owner_id: str) -> None:
    if await _owner(connection, owner_id) is None:
        raise OwnersError(f'no owner "{owner_id}" in the meta database')


def _require_one(status: str, otherwise: str) -> None:
    """``status`` is a command tag such as ``UPDATE 1``."""
    if status.endswith(" 0"):
        raise OwnersError(otherwise)


def _check_name(name: str) -> None:
    if not name or "\0" in name or len(name.encode(errors="replace")) > NAME_BYTES_MAX:
        raise OwnersError(f"a login's name has 1 to {NAME_BYTES_MAX} bytes, none of them zero")


def _check_expiry(valid_until: datetime | None) -> None:
    if valid_until is not None and valid_until.tzinfo is None:
        raise OwnersError("the time a credential ends at needs a time zone")


def _verifier(password: str | None) -> str:
    if password is None:
        return ""
    if not password or "\0" in password:
        raise OwnersError("a password can't be empty and has no zero byte")
    return make_verifier(password).format()


def _login_info(row: asyncpg.Record) -> LoginInfo:
    return LoginInfo(
        name=row["name"],
        kind=LoginKind(row["kind"]),
        owner=row["owner_id"],
        industry=row["industry"],
        password=_password_form(row["verifier"]),
        valid_until=row["valid_until"],
        disabled=row["disabled"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )


def _password_form(verifier: str) -> str:
    if not verifier:
        return "none"
    if is_md5_verifier(verifier):
        return "md5"
    try:
        ScramVerifier.parse(verifier)
    except ValueError:
        return "unusable"
    return "scram"


def _api_key_info(row: asyncpg.Record) -> ApiKeyInfo:
    return ApiKeyInfo(**dict(row))
