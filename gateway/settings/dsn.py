"""Database URLs by libpq's rules, into parts, without ever letting a password out.

Source: PostgreSQL documentation, "Connection URIs" (libpq, 34.1.1.2), and the parameter key words
of 34.1.2. Not taken over from libpq: several hosts in one URL, service files, the environment.
"""

from __future__ import annotations

import difflib
import os
import pwd
import re
from dataclasses import dataclass, field
from enum import StrEnum
from ipaddress import IPv6Address
from typing import TypeVar
from urllib.parse import unquote

PORT_DEFAULT = 5432
SYSTEM_ROOTS = "system"
"""The sslrootcert that means the certificates the operating system trusts; implies verify-full."""

_SCHEMES = ("postgresql://", "postgres://")
_KNOWN = (
    "host",
    "port",
    "dbname",
    "user",
    "password",
    "sslmode",
    "sslrootcert",
    "sslcert",
    "sslkey",
    "channel_binding",
    "connect_timeout",
    "ssl",
)
# Prisma puts these into URLs; they tune its own pool and say nothing about the database.
_IGNORED = ("schema", "pgbouncer", "connection_limit", "pool_timeout")


class SslMode(StrEnum):
    """How much TLS is asked of a server, by libpq's names."""

    DISABLE = "disable"
    ALLOW = "allow"
    PREFER = "prefer"
    REQUIRE = "require"
    VERIFY_CA = "verify-ca"
    VERIFY_FULL = "verify-full"


class ChannelBinding(StrEnum):
    """Whether SCRAM must, may or must not be tied to the TLS connection, by libpq's names."""

    DISABLE = "disable"
    PREFER = "prefer"
    REQUIRE = "require"


@dataclass(frozen=True, slots=True)
class Dsn:
    """One database and how to log in to it.

    ``host`` is a name, an address without brackets, or the folder of a Unix socket (it starts with
    ``/``). ``connect_timeout`` is in seconds, None when the URL sets none. Files are PEM files.
    """

    host: str
    port: int
    database: str
    user: str
    password: str = field(default="", repr=False)
    sslmode: SslMode = SslMode.PREFER
    sslrootcert: str | None = None
    sslcert: str | None = None
    sslkey: str | None = None
    channel_binding: ChannelBinding = ChannelBinding.PREFER
    connect_timeout: int | None = None

    @property
    def address(self) -> tuple[str, int, str]:
        """Host, port and database: the same for every URL of the same place."""
        return (self.host, self.port, self.database)

    @property
    def place(self) -> str:
        """``host:port/database`` for people to read; no user, no password."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}/{self.database}"


def parse(url: str) -> Dsn:
    """The parts of a ``postgresql://`` or ``postgres://`` URL.

    Raises ValueError saying what is wrong with it; the text never quotes any part of the URL.
    """
    rest = _without_scheme(url)
    userinfo, rest = _split_userinfo(rest)
    hostspec, path, query = _split_rest(rest)
    parts: dict[str, str] = {}
    if userinfo is not None:
        user, _, password = userinfo.partition(":")
        parts |= {"user": _decode(user), "password": _decode(password)}
    parts |= _host_and_port(hostspec)
    parts["dbname"] = _decode(path)
    # Parameters after the '?' win over what stands before it, as in libpq.
    return _build(parts | _parameters(query))


def _without_scheme(url: str) -> str:
    if any(character.isspace() or ord(character) < 32 for character in url):
        raise ValueError("a space or control character in a database URL should be percent-encoded")
    for scheme in _SCHEMES:
        if url.startswith(scheme):
            return url.removeprefix(scheme)
    raise ValueError("a database URL should start with postgresql:// or postgres://")


def _split_userinfo(rest: str) -> tuple[str | None, str]:
    """What stands before the first '@', if one comes before the first '/'."""
    end = re.search("[@/]", rest)
    if end is None or end[0] == "/":
        return None, rest
    return rest[: end.start()], rest[end.end() :]


def _split_rest(rest: str) -> tuple[str, str, str]:
    """Host with port, database, and parameters, all still encoded."""
    before, _, query = rest.partition("?")
    hostspec, _, path = before.partition("/")
    return hostspec, path, query


def _host_and_port(hostspec: str) -> dict[str, str]:
    host, port = _split_port(hostspec)
    return {"host": _decode(host)} | ({"port": _decode(port)} if port else {})


def _split_port(hostspec: str) -> tuple[str, str]:
    if not hostspec.startswith("["):
        host, _, port = hostspec.partition(":")
        return host, port
    host, bracket, after = hostspec[1:].partition("]")
    if not bracket or (after and not after.startswith(":")):
        raise ValueError("an IPv6 address should stand in brackets, as in [::1]:5432")
    try:
        IPv6Address(host)
    except ValueError:
        raise ValueError("what stands in brackets is not an IPv6 address") from None
    return host, after[1:]


def _decode(text: str) -> str:
    """Percent-decoding; '+' is a plus sign, as in libpq."""
    if re.search("%(?![0-9A-Fa-f]{2})", text):
        raise ValueError("a '%' should be followed by two hex digits; write a plain one as %25")
    if "%00" in text:
        raise ValueError("%00 can't be part of a database URL")
    try:
        return unquote(text, errors="strict")
    except UnicodeDecodeError:
        raise ValueError("percent-encoded bytes should be UTF-8") from None


def _parameters(query: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for number, pair in enumerate(query.split("&") if query else [], start=1):
        key, equals, value = pair.partition("=")
        key = _decode(key)
        if not equals or not key or "=" in value:
            raise ValueError(f"parameter {number} after the '?' should be written name=value")
        if key in found:
            raise ValueError(f"parameter {number} after the '?' repeats an earlier one")
        # The name is not quoted: after an unescaped '?' it may be the end of a password.
        if key not in _KNOWN + _IGNORED:
            raise ValueError(f"parameter {number} after the '?' is not known{_meant(key, _KNOWN)}")
        found[key] = _decode(value)
    return {key: value for key, value in found.items() if key not in _IGNORED}


def _build(parts: dict[str, str]) -> Dsn:
    user = parts.get("user") or _system_user()
    sslmode = _sslmode(parts)
    _check_ssl_files(parts, sslmode)
    return Dsn(
        host=_host(parts["host"]),
        port=_port(parts.get("port", "")),
        database=parts["dbname"] or user,
        user=user,
        password=parts.get("password", ""),
        sslmode=sslmode,
        sslrootcert=parts.get("sslrootcert") or None,
        sslcert=parts.get("sslcert") or None,
        sslkey=parts.get("sslkey") or None,
        channel_binding=_choice(ChannelBinding, "channel_binding", parts) or ChannelBinding.PREFER,
        connect_timeout=_connect_timeout(parts.get("connect_timeout", "")),
    )


def _system_user() -> str:
    """libpq's default: the name of the operating system's user."""
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        raise ValueError("the database URL names no user") from None


def _host(host: str) -> str:
    if not host:
        raise ValueError(
            "the database URL names no host; a Unix socket is written ?host=/its/folder"
        )
    if host.startswith("/"):
        return host
    if "," in host:
        raise ValueError("a database URL should name one host; list replicas under 'replicas'")
    if "@" in host or "/" in host:
        raise ValueError(
            "the host is not a host name; '@' and '/' in a user or password are %40 and %2F"
        )
    return host.lower()


def _port(text: str) -> int:
    if not text:
        return PORT_DEFAULT
    if not re.fullmatch("[0-9]{1,5}", text) or not 1 <= int(text) <= 65535:
        raise ValueError(
            "the port should be a number from 1 to 65535;"
            " ':', '@' and '/' in a user or password are %3A, %40 and %2F"
        )
    return int(text)


def _sslmode(parts: dict[str, str]) -> SslMode:
    mode = _choice(SslMode, "sslmode", parts)
    if "ssl" not in parts:
        system = parts.get("sslrootcert") == SYSTEM_ROOTS
        return mode or (SslMode.VERIFY_FULL if system else SslMode.PREFER)
    # JDBC's way to ask for TLS; libpq reads exactly this one form of it.
    if parts["ssl"] != "true" or mode is not None:
        raise ValueError("'ssl' should be written as sslmode, such as sslmode=require")
    return SslMode.REQUIRE


_Choice = TypeVar("_Choice", SslMode, ChannelBinding)


def _choice(kind: type[_Choice], key: str, parts: dict[str, str]) -> _Choice | None:
    if key not in parts:
        return None
    known = [member.value for member in kind]
    if parts[key] not in known:
        raise ValueError(f"{key} should be one of {', '.join(known)}{_meant(parts[key], known)}")
    return kind(parts[key])


def _check_ssl_files(parts: dict[str, str], mode: SslMode) -> None:
    root = parts.get("sslrootcert")
    if parts.get("sslkey") and not parts.get("sslcert"):
        raise ValueError("sslkey needs an sslcert")
    if root == SYSTEM_ROOTS and mode is not SslMode.VERIFY_FULL:
        raise ValueError("sslrootcert=system goes with sslmode=verify-full only")
    if mode in (SslMode.VERIFY_CA, SslMode.VERIFY_FULL) and not root:
        raise ValueError(f"sslmode={mode} needs an sslrootcert: a file, or system")


def _connect_timeout(text: str) -> int | None:
    """Whole seconds; 0 means no limit of the URL's own, as in libpq."""
    if not text:
        return None
    if not re.fullmatch("[0-9]{1,5}", text):
        raise ValueError("connect_timeout should be whole seconds")
    return int(text) or None


def _meant(word: str, known: list[str] | tuple[str, ...]) -> str:
    close = difflib.get_close_matches(word, known, n=1)
    return f" (did you mean '{close[0]}'?)" if close else ""
