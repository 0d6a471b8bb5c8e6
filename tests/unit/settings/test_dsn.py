"""Database URLs, by libpq's rules."""

from __future__ import annotations

import os
import pwd
import traceback
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.settings.dsn import ChannelBinding, Dsn, SslMode, parse
from tests.unit.settings.samples import SECRET

SYSTEM_USER = pwd.getpwuid(os.geteuid()).pw_name

RIGHT = {
    "everything": (
        "postgresql://app:pw@db.example:5433/crm?sslmode=verify-full&sslrootcert=/ca.pem"
        "&sslcert=/c.pem&sslkey=/k.pem&channel_binding=require&connect_timeout=7",
        Dsn(
            "db.example",
            5433,
            "crm",
            "app",
            "pw",
            SslMode.VERIFY_FULL,
            "/ca.pem",
            "/c.pem",
            "/k.pem",
            ChannelBinding.REQUIRE,
            7,
        ),
    ),
    "short scheme": ("postgres://app@db/crm", Dsn("db", 5432, "crm", "app")),
    "database is the user": ("postgresql://app@db", Dsn("db", 5432, "app", "app")),
    "empty database": ("postgresql://app@db/", Dsn("db", 5432, "app", "app")),
    "user of the system": ("postgresql://db/crm", Dsn("db", 5432, "crm", SYSTEM_USER)),
    "no port after the colon": ("postgresql://app@db:/crm", Dsn("db", 5432, "crm", "app")),
    "IPv4": ("postgresql://app@10.0.0.1:1/crm", Dsn("10.0.0.1", 1, "crm", "app")),
    "IPv6": ("postgresql://app@[::1]:65535/crm", Dsn("::1", 65535, "crm", "app")),
    "IPv6 without a port": ("postgresql://app@[fe80::1]/crm", Dsn("fe80::1", 5432, "crm", "app")),
    "Unix socket": ("postgresql:///crm?host=/run/pg", Dsn("/run/pg", 5432, "crm", SYSTEM_USER)),
    "Unix socket in the host": (
        "postgresql://app@%2Frun%2Fpg:5433/crm",
        Dsn("/run/pg", 5433, "crm", "app"),
    ),
    "parameters win": (
        "postgresql://a:b@c:1/d?host=e&port=2&dbname=f&user=g&password=h",
        Dsn("e", 2, "f", "g", "h"),
    ),
    "percent-encoding": (
        "postgresql://a%40b:c%3Ad%2Fe%25@db/%C3%BCber%20all",
        Dsn("db", 5432, "über all", "a@b", "c:d/e%"),
    ),
    "plus is a plus": ("postgresql://a+b:c+d@db/e+f", Dsn("db", 5432, "e+f", "a+b", "c+d")),
    "colon in the password": ("postgresql://a:b:c@db/d", Dsn("db", 5432, "d", "a", "b:c")),
    "question mark in the password": ("postgresql://a:b?c@db/d", Dsn("db", 5432, "d", "a", "b?c")),
    "host names have no case": ("postgresql://A@DB.Example/D", Dsn("db.example", 5432, "D", "A")),
    "folders have": ("postgresql://a@/d?host=/Run", Dsn("/Run", 5432, "d", "a")),
    "what Prisma adds": (
        "postgresql://a@db/d?schema=public&pgbouncer=true&connection_limit=5&pool_timeout=2",
        Dsn("db", 5432, "d", "a"),
    ),
    "no parameters": ("postgresql://a@db/d?", Dsn("db", 5432, "d", "a")),
    "no time limit": ("postgresql://a@db/d?connect_timeout=0", Dsn("db", 5432, "d", "a")),
    "JDBC's TLS": (
        "postgresql://a@db/d?ssl=true",
        Dsn("db", 5432, "d", "a", sslmode=SslMode.REQUIRE),
    ),
    "system certificates imply all checks": (
        "postgresql://a@db/d?sslrootcert=system",
        Dsn("db", 5432, "d", "a", sslmode=SslMode.VERIFY_FULL, sslrootcert="system"),
    ),
    "certificate and key in one file": (
        "postgresql://a@db/d?sslcert=/both.pem",
        Dsn("db", 5432, "d", "a", sslcert="/both.pem"),
    ),
}


@pytest.mark.parametrize(("url", "expected"), RIGHT.values(), ids=RIGHT.keys())
def test_right(url: str, expected: Dsn) -> None:
    assert parse(url) == expected


def test_every_sslmode() -> None:
    modes = ["disable", "allow", "prefer", "require", "verify-ca", "verify-full"]
    parsed = [parse(f"postgresql://a@db/d?sslrootcert=/ca&sslmode={mode}") for mode in modes]
    assert [one.sslmode for one in parsed] == modes == list(SslMode)


WRONG = {
    "no scheme": (f"a:{SECRET}@db/d", "should start with postgresql:// or postgres://"),
    "empty": ("", "should start with"),
    "another scheme": (f"mysql://a:{SECRET}@db/d", "should start with"),
    "space": (f"postgresql://a:{SECRET} @db/d", "should be percent-encoded"),
    "line end": (f"postgresql://a:{SECRET}@db/d\n", "should be percent-encoded"),
    "no host": (f"postgresql://a:{SECRET}@/d", "names no host"),
    "nothing at all": ("postgresql://", "names no host"),
    "several hosts": (f"postgresql://a:{SECRET}@b,c/d", "one host"),
    "at sign in the password": (f"postgresql://a:{SECRET}@x@db/d", "%40"),
    "slash in the password": (f"postgresql://a:{SECRET}/x@db/d", "%2F"),
    "port of letters": (f"postgresql://a:{SECRET}@db:x/d", "port should be a number"),
    "port zero": ("postgresql://a@db:0/d", "port should be a number"),
    "port too large": ("postgresql://a@db:65536/d", "port should be a number"),
    "port of other digits": ("postgresql://a@db:٣/d", "port should be a number"),
    "port of many digits": (f"postgresql://a@db:{'9' * 5000}/d", "port should be a number"),
    "IPv6 without brackets": ("postgresql://a@fe80::1/d", "port should be a number"),
    "IPv6 without an end": ("postgresql://a@[::1/d", "brackets"),
    "IPv6 and more": ("postgresql://a@[::1]x/d", "brackets"),
    "no IPv6": (f"postgresql://a@[{SECRET}]/d", "not an IPv6 address"),
    "bad percent": (f"postgresql://a:{SECRET}%zz@db/d", "%25"),
    "percent at the end": (f"postgresql://a:{SECRET}%@db/d", "%25"),
    "NUL": (f"postgresql://a:{SECRET}%00@db/d", "%00"),
    "no UTF-8": (f"postgresql://a:{SECRET}%ff@db/d", "UTF-8"),
    "no value": (f"postgresql://a@db/d?{SECRET}", "parameter 1 after the '?' should be written"),
    "no name": (f"postgresql://a@db/d?={SECRET}", "parameter 1 after the '?' should be written"),
    "two values": ("postgresql://a@db/d?user=x=y", "parameter 1 after the '?' should be written"),
    "trailing &": ("postgresql://a@db/d?user=x&", "parameter 2 after the '?' should be written"),
    "unknown parameter": (f"postgresql://a@db/d?{SECRET}=1", "parameter 1 after the '?' is not k"),
    "misspelt parameter": (
        "postgresql://a@db/d?user=a&sslrotcert=x",
        "parameter 2 after the '?' is not known (did you mean 'sslrootcert'?)",
    ),
    "parameter twice": ("postgresql://a@db/d?user=a&user=b", "parameter 2 after the '?' repeats"),
    "misspelt sslmode": (
        "postgresql://a@db/d?sslmode=verifyfull",
        "sslmode should be one of disable, allow, prefer, require, verify-ca, verify-full"
        " (did you mean 'verify-full'?)",
    ),
    "channel_binding": ("postgresql://a@db/d?channel_binding=yes", "channel_binding should be one"),
    "ssl=1": ("postgresql://a@db/d?ssl=1", "sslmode=require"),
    "ssl and sslmode": ("postgresql://a@db/d?ssl=true&sslmode=disable", "sslmode=require"),
    "connect_timeout": ("postgresql://a@db/d?connect_timeout=1.5", "whole seconds"),
    "key without certificate": ("postgresql://a@db/d?sslkey=/k", "sslkey needs an sslcert"),
    "no roots to verify by": ("postgresql://a@db/d?sslmode=verify-ca", "needs an sslrootcert"),
    "weak with system roots": (
        "postgresql://a@db/d?sslmode=require&sslrootcert=system",
        "goes with sslmode=verify-full only",
    ),
}


@pytest.mark.parametrize(("url", "expected"), WRONG.values(), ids=WRONG.keys())
def test_wrong(url: str, expected: str) -> None:
    with pytest.raises(ValueError) as caught:
        parse(url)
    assert expected in str(caught.value)
    assert SECRET not in "".join(traceback.format_exception(caught.value))


def test_password_is_not_in_the_repr() -> None:
    parsed = parse(f"postgresql://app:{SECRET}@db/crm")
    assert parsed.password == SECRET
    assert SECRET not in f"{parsed!r} {parsed} {parsed.place} {parsed.address}"


def test_place_and_address() -> None:
    parsed = parse("postgresql://app:x@[::1]:6000/crm")
    assert parsed.place == "[::1]:6000/crm"
    assert parsed.address == ("::1", 6000, "crm")


# NUL can't be part of a URL, nor lone surrogates of UTF-8.
TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1)


@given(user=TEXT, password=TEXT, database=TEXT)
def test_encoded_parts_come_out_as_they_went_in(user: str, password: str, database: str) -> None:
    encoded = [quote(part, safe="") for part in (user, password, database)]
    parsed = parse("postgresql://{}:{}@db/{}".format(*encoded))
    assert (parsed.user, parsed.password, parsed.database) == (user, password, database)


@given(st.text(st.sampled_from("postgresql:/@?&=%[],.:ab1 \0\n€"), max_size=40))
def test_any_text_is_a_url_or_a_value_error(text: str) -> None:
    for url in (text, f"postgresql://{text}", f"postgresql://a@db/d?{text}"):
        try:
            parsed = parse(url)
        except ValueError:
            continue
        assert parsed.host and parsed.user and parsed.database and 1 <= parsed.port <= 65535
