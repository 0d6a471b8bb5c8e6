"""Which suites are run, in which version, how each is told where its database is, what is left out.

A test is left out on both sides or on neither.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Place:
    """A server to test against, directly or through the gateway, by the same names."""

    host: str
    port: int
    user: str
    password: str = field(repr=False)
    options: str = ""
    """What libpq's programs and drivers ask for at startup, with ``{database}`` filled in."""


@dataclass(frozen=True, slots=True)
class Debian:
    """A source package of Debian, for what its authors released."""

    package: str
    version: str


@dataclass(frozen=True, slots=True)
class Suite:
    """One suite. ``{host}``, ``{port}``, ``{user}``, ``{password}``, ``{database}`` are filled in.

    ``source`` is the package with the tests, as pip names it, or Debian's; ``None`` where a folder
    has to be given. ``runner`` is the kind of suite (`runners.RUNNERS`), ``tests`` what is run of
    it. ``prepare`` is SQL for its empty database, ``more`` are the other databases that it makes
    and connects to.
    """

    name: str
    database: str
    source: str | Debian | None
    tests: tuple[str, ...]
    runner: str = "pytest"
    environ: Mapping[str, str] = field(default_factory=dict)
    arguments: tuple[str, ...] = ()
    prepare: tuple[str, ...] = ()
    more: tuple[str, ...] = ()
    deselected: Mapping[str, str] = field(default_factory=dict)
    """Test id (or its beginning) to the reason why it is run on neither side."""

    def at(self, place: Place) -> tuple[dict[str, str], list[str]]:
        """Environment and pytest arguments for a run against ``place``."""
        values = {
            "host": place.host,
            "port": str(place.port),
            "user": place.user,
            "password": place.password,
            "database": self.database,
        }
        environ = {name: value.format(**values) for name, value in self.environ.items()}
        if place.options:
            environ["PGOPTIONS"] = place.options.format(**values)
        arguments = [argument.format(**values) for argument in self.arguments]
        arguments += [f"--deselect={test}" for test in self.deselected]
        return environ, [*self.tests, *arguments]


REQUIREMENTS = (
    "asyncpg==0.32.0",
    "psycopg[binary]==3.3.9",
    "psycopg-pool==3.3.3",
    "psycopg2-binary==2.9.13",
    "pg8000==1.31.6",
    "greenlet",
    "typing_extensions",
    "uvloop",
    "anyio",
    "asgiref",
    "distro",
    "dnspython",
    "jinja2",
    "PyYAML",
    "pytest==8.4.2",
    "pytest-mock",
    "pytest-timeout==2.4.0",
    "pytz",
    "sqlparse",
    "tblib",
    "unittest-xml-reporting==3.2.0",
)
"""What the suites' own Python environment holds. The tests of a package are of the same version."""

_PG_VARIABLES = {
    "PGHOST": "{host}",
    "PGPORT": "{port}",
    "PGUSER": "{user}",
    "PGPASSWORD": "{password}",
    "PGDATABASE": "{database}",
}

_SQLALCHEMY = "sqlalchemy==2.1.9"
_SQLALCHEMY_TESTS = (
    "test/dialect/postgresql",
    "test/dialect/test_suite.py",
    "test/engine/test_execute.py",
    "test/engine/test_transaction.py",
    "test/engine/test_reconnect.py",
    "test/engine/test_reflection.py",
    "test/sql/test_resultset.py",
    "test/sql/test_query.py",
    "test/sql/test_insert_exec.py",
    "test/sql/test_update.py",
    "test/orm/test_session.py",
    "test/orm/test_unitofwork.py",
    "test/orm/test_transaction.py",
)


_DJANGO_TESTS = (
    *("aggregation", "annotations", "async", "backends", "basic", "bulk_create", "cache"),
    *("constraints", "db_functions", "dbshell", "delete", "expressions", "get_or_create"),
    *("indexes", "inspectdb", "introspection", "lookup", "many_to_many", "migrations"),
    *("model_fields", "postgres_tests", "prefetch_related", "queries", "raw_query", "schema"),
    *("select_for_update", "sessions_tests", "test_utils", "transaction_hooks", "transactions"),
    "update",
)


def _sqlalchemy(driver: str) -> Suite:
    database = f"sqlalchemy_{driver}"
    return Suite(
        f"SQLAlchemy, {driver}",
        database,
        _SQLALCHEMY,
        _SQLALCHEMY_TESTS,
        arguments=(
            f"--dburi=postgresql+{driver}://{{user}}:{{password}}@{{host}}:{{port}}/{{database}}",
            "--maxfail=100000",
            "--backend-only",
        ),
        prepare=(
            "CREATE SCHEMA test_schema",
            "CREATE SCHEMA test_schema_2",
            "CREATE EXTENSION hstore",
            "CREATE EXTENSION citext",
            f"ALTER DATABASE {database} SET default_text_search_config = 'pg_catalog.english'",
        ),
    )


SUITES = (
    Suite(
        "asyncpg",
        "asyncpg_tests",
        "asyncpg==0.32.0",
        ("tests",),
        environ=_PG_VARIABLES,
        more=("asyncpg_intro_test",),
        deselected={"tests/test__sourcecode.py": "checks the style of its own source"},
    ),
    Suite(
        "psycopg2",
        "psycopg2_test",
        "psycopg2==2.9.13",
        ("tests",),
        environ={
            "PSYCOPG2_TESTDB": "{database}",
            "PSYCOPG2_TESTDB_HOST": "{host}",
            "PSYCOPG2_TESTDB_PORT": "{port}",
            "PSYCOPG2_TESTDB_USER": "{user}",
            "PSYCOPG2_TESTDB_PASSWORD": "{password}",
        },
        prepare=("CREATE EXTENSION hstore",),
    ),
    Suite(
        "psycopg 3",
        "psycopg_test",
        Debian("psycopg3", "3.3.5-1"),
        ("tests",),
        environ={
            "PSYCOPG_TEST_DSN": "host={host} port={port} user={user} password={password}"
            " dbname={database}"
        },
        arguments=("-m", "not mypy and not proxy"),
    ),
    _sqlalchemy("psycopg"),
    _sqlalchemy("asyncpg"),
    _sqlalchemy("psycopg2"),
    Suite(
        "pg8000",
        "postgres",
        "pg8000==1.31.6",
        ("test",),
        environ=_PG_VARIABLES,
        more=("pg8000_scram_sha_256",),
        deselected={
            f"test/{kind}/test_benchmarks.py": "measures speed"
            for kind in ("dbapi", "legacy", "native")
        },
        prepare=("CREATE EXTENSION hstore",),
    ),
    Suite(
        "Django",
        "django_tests",
        "django==5.2.19",
        _DJANGO_TESTS,
        "django",
        environ=_PG_VARIABLES,
        more=("test_django_default", "test_django_other"),
    ),
    Suite(
        "node-postgres",
        "node_postgres",
        Debian("node-postgres", "8.16.3+~cs35.24.27-5"),
        ("packages/pg", "packages/pg-pool", "packages/pg-cursor"),
        "node",
        environ=_PG_VARIABLES,
    ),
    Suite(
        "DBD::Pg",
        "dbd_pg",
        Debian("libdbd-pg-perl", "3.18.0-1"),
        (),
        "prove",
        environ={
            "DBI_DSN": "dbi:Pg:dbname={database};host={host};port={port}",
            "DBI_USER": "{user}",
            "DBI_PASS": "{password}",
            "DBDPG_TEST_ALWAYS_ENV": "1",
            "PERL_HASH_SEED": "0",
        },
    ),
)
