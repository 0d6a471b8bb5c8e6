"""The `gateway` command: what people type, each a thin layer over the part that does it.

What a command needs is imported when it runs, so that `gateway serve` carries nothing of the rest.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from gateway.errors import ConfigError, GatewayError
from gateway.router.identity import Grant, LoginKind, Scope

if TYPE_CHECKING:
    from gateway.directory.owners import Connection, LoginDetails, LoginInfo
    from gateway.settings.model import Settings

T = TypeVar("T")

FAILED = 1
BAD_SETTINGS = 2

app = typer.Typer(
    help="A Postgres proxy that routes every tenant's statements to its own industry database.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
owners = typer.Typer(help="Logins of the gateway, kept in the meta database.", no_args_is_help=True)
keys = typer.Typer(
    help="API keys, which open a login in place of its password.", no_args_is_help=True
)
grants = typer.Typer(help="For whom a service login may act.", no_args_is_help=True)
app.add_typer(owners, name="owners")
owners.add_typer(keys, name="key")
owners.add_typer(grants, name="grant")

Config = Annotated[
    Path | None,
    typer.Option(
        "--config",
        envvar="GATEWAY_CONFIG",
        help="YAML file; without one the DATABASE_URL_* variables are the settings.",
    ),
]
Name = Annotated[str, typer.Argument(help="Name of the login.", show_default=False)]
Generate = Annotated[bool, typer.Option("--generate", help="Make a password and show it once.")]
NoPassword = Annotated[
    bool, typer.Option("--no-password", help="No password: only API keys open the login.")
]
ValidUntil = Annotated[
    datetime | None,
    typer.Option(
        "--valid-until",
        formats=["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M:%S%z"],
        help="When it ends; UTC unless it says otherwise.",
    ),
]


def main() -> None:
    """The console script."""
    app()


@contextmanager
def _told_clearly() -> Iterator[None]:
    """Failures as one line for each thing that is wrong, and an exit status."""
    from asyncpg import InterfaceError, PostgresError

    from gateway.directory.owners import OwnersError
    from gateway.migrate.provision import ProvisionError

    try:
        yield
    except ConfigError as error:
        _fail("\n".join(error.problems), BAD_SETTINGS)
    except GatewayError as error:
        _fail(f"gateway: {error.message}" + (f" ({error.hint})" if error.hint else ""))
    except (OwnersError, ProvisionError, ValueError, OSError) as error:
        _fail(f"gateway: {error}")
    except (InterfaceError, PostgresError) as error:
        _fail(f"gateway: the meta database says: {error}")


def _fail(text: str, status: int = FAILED) -> None:
    print(text, file=sys.stderr)
    raise typer.Exit(status)


def _settings(config: Path | None) -> Settings:
    from gateway.settings.load import load

    return load(config, os.environ)


# --- the gateway itself ---


def _print_version(wanted: bool) -> None:
    if wanted:
        from gateway.admin.version import version_line

        print(version_line())
        raise typer.Exit


@app.callback()
def gateway(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Say which this is."
        ),
    ] = False,
) -> None:
    """A Postgres proxy that routes every tenant's statements to its own industry database."""


@app.command()
def serve(config: Config = None) -> None:
    """Run the gateway. SIGHUP reloads the settings, SIGUSR2 restarts, SIGTERM drains."""
    from gateway.supervisor.run import serve as run

    raise typer.Exit(run(None if config is None else str(config)))


@app.command()
def restart(config: Config = None) -> None:
    """Have the gateway that runs with these settings start anew; clients don't notice."""
    from gateway.supervisor.meeting import Meeting, folder_for

    with _told_clearly():
        settings = _settings(config)
        path = None if config is None else str(config)
        supervisor = Meeting(folder_for(settings, path, os.environ)).supervisor()
        if supervisor is None:
            raise OSError("no gateway of several workers runs with these settings")
        os.kill(supervisor, signal.SIGUSR2)
    print(f"restarting: the log of process {supervisor} says how it goes")


@app.command("check-config")
def check_config(
    file: Annotated[
        Path | None,
        typer.Argument(
            envvar="GATEWAY_CONFIG", help="YAML file; else the DATABASE_URL_* variables."
        ),
    ] = None,
) -> None:
    """Check the settings: print what they say, or every mistake in them."""
    from gateway.settings.check import describe

    with _told_clearly():
        print("\n".join(describe(_settings(file))))


@app.command()
def provision(
    config: Config = None,
    user_sync: Annotated[
        str,
        typer.Option(
            metavar="auto|logical|trigger|none",
            help='How "User" in industry databases follows the meta database.',
        ),
    ] = "auto",
    epoch_check: Annotated[
        bool, typer.Option(help="Refuse work that was sent before its owner moved.")
    ] = True,
    id_stride: Annotated[
        int, typer.Option(min=2, help="Step of all ids: one more than the databases there can be.")
    ] = 128,
    stride_sequences: Annotated[
        bool,
        typer.Option("--stride-sequences", help="Also the sequences of tables that have rows."),
    ] = False,
    hub: Annotated[
        str | None,
        typer.Option(help="Build the hub: its URL, or its name beside the meta database."),
    ] = None,
    admin_user: Annotated[
        str | None,
        typer.Option(
            help="Superuser for subscriptions and extensions; password: GATEWAY_ADMIN_PASSWORD."
        ),
    ] = None,
) -> None:
    """Create the databases that the settings name, and what they need; what is there stays."""
    from gateway.migrate.provision import Admin, Options, UserSync
    from gateway.migrate.provision import provision as run

    with _told_clearly():
        if user_sync not in set(UserSync):
            raise ValueError(f"--user-sync is {', '.join(UserSync)}, not {user_sync}")
        password = os.environ.get("GATEWAY_ADMIN_PASSWORD", "")
        options = Options(
            user_sync=UserSync(user_sync),
            stamp_check=epoch_check,
            id_stride=id_stride,
            stride_sequences=stride_sequences,
            hub=hub,
            admin=None if admin_user is None else Admin(admin_user, password),
        )
        asyncio.run(run(_settings(config), report=print, options=options))


@app.command("sync-users")
def sync_users(
    config: Config = None,
    once: Annotated[bool, typer.Option("--once", help="Deliver what waits, and end.")] = False,
) -> None:
    """Bring changes of owners to the industry databases, where replication does not."""
    import logging

    from gateway.migrate.outbox import deliver_once, follow

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    with _told_clearly():
        settings = _settings(config)
        if once:
            print(f"{asyncio.run(deliver_once(settings))} changes delivered")
            return
        with suppress(KeyboardInterrupt):
            asyncio.run(follow(settings))


@app.command()
def demo(
    data_dir: Annotated[
        Path | None, typer.Option(help="Keep the data here and use it again next time.")
    ] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 for any free one.")] = 6432,
    owners: Annotated[int, typer.Option(min=1, help="How many owners to make.")] = 280,
    exit_after_tour: Annotated[
        bool, typer.Option("--exit-after-tour", help="Stop when the tour is over.")
    ] = False,
    ready_file: Annotated[
        Path | None, typer.Option(help="Write where everything is, as JSON, when all is up.")
    ] = None,
) -> None:
    """Start PostgreSQL servers, fill them, run the gateway and show it around; Ctrl-C stops it."""
    from gateway.demo.run import demo as run

    raise typer.Exit(run(data_dir, port, owners, exit_after_tour, ready_file))


@app.command()
def route(
    statement: Annotated[
        str | None, typer.Argument(help="The statement, if any.", show_default=False)
    ] = None,
    owner: Annotated[
        str | None, typer.Option(help="Id of the owner that SET gateway.owner would say.")
    ] = None,
    login: Annotated[
        str | None, typer.Option(help="The login; none: a service login for all owners.")
    ] = None,
    config: Config = None,
) -> None:
    """Say where a statement would go, step by step and why, without running anything."""
    if owner is None and statement is None and login is None:
        _fail("gateway: whose route? Give --owner, --login or a statement", BAD_SETTINGS)
    with _told_clearly():
        steps = asyncio.run(_explained(_settings(config), owner, login, statement))
        _table(("step", "found"), steps)


async def _explained(
    settings: Settings, owner: str | None, login: str | None, statement: str | None
) -> list[tuple[str, str]]:
    """The steps, by the settings and the meta database; what replicas are fit for isn't known."""
    from gateway.admin.explaining import Asked, explained
    from gateway.directory.directory import Directory
    from gateway.router.build import build_snapshot, tenant_columns
    from gateway.router.explain import Reads
    from gateway.router.facts import FactsCache
    from gateway.router.topology import Shard
    from gateway.settings.dsn import parse
    from gateway.settings.effective import read_rules

    def reads(shard: Shard, owner: str) -> Reads:
        policy = read_rules(settings, shard.industry).policy
        unknown = "not known here: ask a running gateway's console (SHOW ROUTE, SHOW HEALTH)"
        return Reads(policy, [(replica.name, unknown) for replica in shard.replicas])

    routing = settings.routing
    facts = FactsCache(1, 1 << 20, tenant_columns(routing), routing.harmless_functions)
    directory = Directory(parse(settings.meta.primary.get_secret_value()), settings.directory)
    await directory.start()
    try:
        steps = await explained(
            Asked(owner, login, statement),
            settings,
            build_snapshot(settings, epoch=1),
            directory,
            facts.facts,
            reads,
        )
    finally:
        await directory.close()
    return [(step.step, step.found) for step in steps]


# --- logins ---


def _in_meta(config: Path | None, work: Callable[[Connection], Awaitable[T]]) -> T:
    """The result of ``work`` on a connection to the meta database."""
    from gateway.directory.owners import open_meta
    from gateway.settings.dsn import parse

    async def run() -> T:
        dsn = parse(_settings(config).meta.primary.get_secret_value())
        async with open_meta(dsn) as connection:
            return await work(connection)

    return asyncio.run(run())


def _new_password(generate: bool, none: bool) -> str | None:
    """The password to set: made, left out, asked for, or the line on standard input."""
    from gateway.directory.owners import generate_password

    if generate and none:
        raise ValueError("--generate and --no-password exclude each other")
    if none:
        return None
    if generate:
        return generate_password()
    if sys.stdin.isatty():
        asked: str = typer.prompt("Password", hide_input=True, confirmation_prompt=True)
        return asked
    line = sys.stdin.readline().rstrip("\r\n")
    if not line:
        raise ValueError("no password on standard input; or use --generate or --no-password")
    return line


def _show_once(generated: bool, password: str | None) -> None:
    if generated:
        print(f"password: {password}")


def _in_utc(when: datetime | None) -> datetime | None:
    return when.replace(tzinfo=UTC) if when is not None and when.tzinfo is None else when


@owners.command("add")
def add_owner(
    name: Name,
    kind: Annotated[LoginKind, typer.Option(help="What the login may act for.")] = LoginKind.OWNER,
    owner: Annotated[
        str | None, typer.Option(help="Id of the owner (User.id) that an owner login is bound to.")
    ] = None,
    generate: Generate = False,
    no_password: NoPassword = False,
    valid_until: ValidUntil = None,
    config: Config = None,
) -> None:
    """Make a login. The password is asked for, or read from standard input."""
    from gateway.directory.owners import add_login

    with _told_clearly():
        password = _new_password(generate, no_password)
        until = _in_utc(valid_until)
        login = _in_meta(
            config,
            lambda meta: add_login(
                meta, name, kind, owner=owner, password=password, valid_until=until
            ),
        )
        print(f'added {login.kind} login "{login.name}"')
        _show_once(generate, password)


@owners.command("list")
def list_owners(
    find: Annotated[str, typer.Option(help="Any part of the name.")] = "",
    kind: Annotated[LoginKind | None, typer.Option(help="Only of this kind.")] = None,
    owner: Annotated[str | None, typer.Option(help="Only of the owner with this id.")] = None,
    industry: Annotated[str | None, typer.Option(help="Only of this industry.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many at most.")] = 1000,
    config: Config = None,
) -> None:
    """List logins by name."""
    from gateway.directory.owners import list_logins

    with _told_clearly():
        found = _in_meta(
            config,
            lambda meta: list_logins(
                meta, find=find, kind=kind, owner=owner, industry=industry, limit=limit
            ),
        )
        _table(
            ("name", "kind", "owner", "industry", "password", "valid until", "disabled"),
            [_login_row(login) for login in found],
        )


def _login_row(login: LoginInfo) -> tuple[str, ...]:
    return (
        login.name,
        login.kind,
        login.owner or "",
        login.industry or "",
        login.password,
        _when(login.valid_until),
        "yes" if login.disabled else "",
    )


def _when(time: datetime | None) -> str:
    return "" if time is None else time.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%SZ")


@owners.command("show")
def show_owner(name: Name, config: Config = None) -> None:
    """Show a login: its owner and where that lives, its API keys and grants."""
    from gateway.directory.owners import show_login

    with _told_clearly():
        _table(("what", "value"), _details(_in_meta(config, lambda meta: show_login(meta, name))))


def _details(details: LoginDetails) -> list[tuple[str, ...]]:
    login, owner = details.login, details.owner
    rows: list[tuple[str, ...]] = [
        ("name", login.name),
        ("kind", str(login.kind)),
        ("password", login.password),
        ("valid until", _when(login.valid_until)),
        ("disabled", "yes" if login.disabled else "no"),
        ("created", _when(login.created_at)),
        ("changed", _when(login.updated_at)),
    ]
    if login.owner is not None:
        rows.append(("owner", login.owner if owner else f"{login.owner} (gone)"))
    if owner is not None:
        rows += [("industry", owner.industry), ("shard", owner.shard or "by hash slot")]
    rows += [("grant", _grant_text(grant)) for grant in details.grants]
    rows += [
        ("API key", key.id + (" (revoked)" if key.disabled else "")) for key in details.api_keys
    ]
    return rows


@owners.command("disable")
def disable_owner(name: Name, config: Config = None) -> None:
    """Shut a login out; those connected stay until they leave."""
    _set_disabled(name, True, config)


@owners.command("enable")
def enable_owner(name: Name, config: Config = None) -> None:
    """Let a disabled login in again."""
    _set_disabled(name, False, config)


def _set_disabled(name: str, disabled: bool, config: Path | None) -> None:
    from gateway.directory.owners import set_disabled

    with _told_clearly():
        _in_meta(config, lambda meta: set_disabled(meta, name, disabled))
        print(f'{"disabled" if disabled else "enabled"} "{name}"')


@owners.command("password")
def change_password(
    name: Name,
    generate: Generate = False,
    no_password: NoPassword = False,
    config: Config = None,
) -> None:
    """Give a login a new password, asked for or read from standard input."""
    from gateway.directory.owners import set_password

    with _told_clearly():
        password = _new_password(generate, no_password)
        _in_meta(config, lambda meta: set_password(meta, name, password))
        print(f'"{name}" has {"no" if password is None else "a new"} password')
        _show_once(generate, password)


# --- API keys ---


@keys.command("add")
def add_key(name: Name, valid_until: ValidUntil = None, config: Config = None) -> None:
    """Make an API key for a login and show it, this once."""
    from gateway.directory.owners import add_api_key

    with _told_clearly():
        until = _in_utc(valid_until)
        made = _in_meta(config, lambda meta: add_api_key(meta, name, valid_until=until))
        print(f"id: {made.info.id}\nkey: {made.key}")


@keys.command("list")
def list_keys(name: Name, config: Config = None) -> None:
    """List a login's API keys, oldest first."""
    from gateway.directory.owners import list_api_keys

    with _told_clearly():
        _table(
            ("id", "created", "valid until", "revoked"),
            [
                (
                    key.id,
                    _when(key.created_at),
                    _when(key.valid_until),
                    "yes" if key.disabled else "",
                )
                for key in _in_meta(config, lambda meta: list_api_keys(meta, name))
            ],
        )


@keys.command("revoke")
def revoke_key(
    key_id: Annotated[str, typer.Argument(help="Id of the key, from `key list`.")],
    config: Config = None,
) -> None:
    """Make an API key useless."""
    from gateway.directory.owners import revoke_api_key

    with _told_clearly():
        _in_meta(config, lambda meta: revoke_api_key(meta, key_id))
        print(f'revoked "{key_id}"')


# --- grants ---

Reach = Annotated[str, typer.Argument(help="all, agency or owner.", metavar="all|agency|owner")]
ReachId = Annotated[str, typer.Argument(help="Id of the agency or owner; none for all.")]


@grants.command("add")
def add_grant(name: Name, scope: Reach, value: ReachId = "", config: Config = None) -> None:
    """Let a service login act for all owners, for an agency's, or for one."""
    from gateway.directory.owners import add_grant as add

    with _told_clearly():
        grant = _grant(scope, value)
        _in_meta(config, lambda meta: add(meta, name, grant))
        print(f'"{name}" may act for {_grant_text(grant)}')


@grants.command("remove")
def remove_grant(name: Name, scope: Reach, value: ReachId = "", config: Config = None) -> None:
    """Take a grant back."""
    from gateway.directory.owners import remove_grant as remove

    with _told_clearly():
        grant = _grant(scope, value)
        _in_meta(config, lambda meta: remove(meta, name, grant))
        print(f'"{name}" may no longer act for {_grant_text(grant)}')


@grants.command("list")
def list_grants(name: Name, config: Config = None) -> None:
    """List for whom a service login may act."""
    from gateway.directory.owners import show_login

    with _told_clearly():
        found = _in_meta(config, lambda meta: show_login(meta, name)).grants
        _table(("scope", "id"), [(grant.scope, grant.value) for grant in found])


def _grant(scope: str, value: str) -> Grant:
    try:
        return Grant(Scope(scope), value)
    except ValueError:
        raise ValueError(f"a grant is for all, agency or owner, not {scope}") from None


def _grant_text(grant: Grant) -> str:
    return f"{grant.scope} {grant.value}".rstrip()


# --- output ---


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table on a terminal; tab-separated lines, the columns first, for programs."""
    if not sys.stdout.isatty():
        print("\n".join("\t".join(row) for row in (columns, *rows)))
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(*columns)
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    Console().print(table)
