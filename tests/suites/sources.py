"""Fetches the suites' sources and makes the Python environment they run in; once, into a cache."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import venv
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.suites.debian import NotServed, upstream_archive
from tests.suites.suites import REQUIREMENTS, Debian, Suite

_INSTALL_TIMEOUT_S = 900


class NoSource(Exception):
    """The tests of a suite can't be had; the text says why."""


def python_of(cache: Path) -> Path:
    """The interpreter with all drivers, installed if the list of them has changed."""
    folder = cache / "venv"
    python, stamp = folder / "bin" / "python", folder / "installed.txt"
    wanted = "\n".join(REQUIREMENTS)
    if not stamp.exists() or stamp.read_text() != wanted:
        print(f"installing drivers into {folder} (first time only) ...")
        venv.create(folder, with_pip=True, clear=True)
        _pip(python, "install", *REQUIREMENTS)
        stamp.write_text(wanted)
    return python


def folder_of(suite: Suite, cache: Path, given: Mapping[str, Path]) -> Path:
    """Where the suite's files are: a folder that was given, else its unpacked source package.

    Raises NoSource.
    """
    if suite.name in given:
        return given[suite.name]
    if suite.source is None:
        raise NoSource("no source package has its tests; give a checkout with --source")
    if isinstance(suite.source, Debian):
        return _from_debian(suite.source, cache)
    unpacked = cache / suite.source.replace("==", "-")
    if not unpacked.exists():
        _unpack(_download(suite.source, cache / "packages"), unpacked)
    return unpacked


def _from_debian(source: Debian, cache: Path) -> Path:
    unpacked = cache / f"{source.package}-{source.version}"
    if not unpacked.exists():
        try:
            _unpack(upstream_archive(source, cache), unpacked)
        except NotServed as error:
            raise NoSource(f"{error}; give a checkout with --source") from error
    return unpacked


def _download(source: str, to: Path) -> Path:
    name, _, version = source.partition("==")
    to.mkdir(parents=True, exist_ok=True)
    try:
        _pip(
            Path(sys.executable),
            *("download", "--no-deps", f"--no-binary={name}", f"--dest={to}", source),
        )
    except subprocess.CalledProcessError as error:
        raise NoSource(f"pip can't download the source of {source}") from error
    found = [path for path in to.glob("*.tar.gz") if path.name == f"{name}-{version}.tar.gz"]
    if not found:
        raise NoSource(f"the source of {source} is no {name}-{version}.tar.gz")
    return found[0]


def _unpack(package: Path, to: Path) -> None:
    """The content of the package's one folder, as ``to``.

    A compiled package's own folder is left out: the installed one is to be tested.
    """
    unfinished = to.with_name(f"{to.name}.unfinished")
    with tarfile.open(package) as archive:
        archive.extractall(unfinished, filter="data")
    (inside,) = unfinished.iterdir()
    for shadow in inside.glob("asyncpg"):
        shadow.rename(inside / "asyncpg.source")
    inside.rename(to)
    unfinished.rmdir()


def _pip(python: Path, *arguments: str) -> None:
    command: Sequence[str | Path] = (
        *(python, "-m", "pip", "--disable-pip-version-check", "--quiet"),
        *arguments,
    )
    subprocess.run(command, check=True, timeout=_INSTALL_TIMEOUT_S)
