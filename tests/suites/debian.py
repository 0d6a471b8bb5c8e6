"""Fetches the upstream archive of a Debian source package, by apt, into a folder of its own.

Nothing of the machine's own package lists is touched.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from tests.suites.suites import Debian

_RELEASES = "stable unstable"
_KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
_HELPER = "/usr/lib/apt/apt-helper"
_TIMEOUT_S = 300


class NotServed(Exception):
    """The mirror does not have it, or there is no apt here; the text says which."""


def upstream_archive(source: Debian, cache: Path) -> Path:
    """The archive as its authors released it. Raises NotServed."""
    upstream = source.version.rpartition("-")[0]
    found = list((cache / "packages").glob(f"{source.package}_{upstream}.orig.tar.*"))
    if found:
        return found[0]
    try:
        return _download(source, f"{source.package}_{upstream}.orig.tar.", cache)
    except (OSError, subprocess.SubprocessError) as error:
        raise NotServed(f"apt can't get the source of {source.package} {source.version}") from error


def _download(source: Debian, beginning: str, cache: Path) -> Path:
    options = _lists_of_our_own(cache / "apt")
    wanted = f"{source.package}={source.version}"
    said = _apt(*options, "source", "--download-only", "--print-uris", wanted)
    for found in re.finditer(r"^'(\S+)' (\S+) \d+ (\S+)$", said, re.MULTILINE):
        address, name, checksum = found.groups()
        if name.startswith(beginning):
            archive: Path = cache / "packages" / name
            archive.parent.mkdir(parents=True, exist_ok=True)
            _run(_HELPER, "download-file", address, str(archive), checksum)
            return archive
    raise NotServed(f"{source.package} {source.version} has no upstream archive")


def _lists_of_our_own(folder: Path) -> list[str]:
    """apt's options for the lists in ``folder``, which are loaded if they are not there."""
    sources, lists = folder / "sources", folder / "lists"
    for one in (sources, lists / "partial", folder / "cache" / "archives" / "partial"):
        one.mkdir(parents=True, exist_ok=True)
    options = {
        "Dir::Etc::sourcelist": "/dev/null",
        "Dir::Etc::sourceparts": sources,
        "Dir::State::lists": lists,
        "Dir::Cache": folder / "cache",
    }
    arguments = [part for name, value in options.items() for part in ("-o", f"{name}={value}")]
    described = sources / "suites.sources"
    if not described.exists():
        described.write_text(
            f"Types: deb-src\nURIs: {_mirror()}\nSuites: {_RELEASES}\n"
            f"Components: main\nSigned-By: {_KEYRING}\n"
        )
        _apt(*arguments, "update")
    return arguments


def _mirror() -> str:
    """Where this machine gets its own packages from."""
    sites = _apt("indextargets", "--format", "$(REPO_URI)", "Created-By: Packages").split()
    mirrors = [site for site in sites if site.rstrip("/").endswith("/debian")]
    if not mirrors:
        raise NotServed("this machine gets its packages from no Debian mirror")
    return mirrors[0]


def _apt(*arguments: str) -> str:
    return _run("apt-get", "--quiet", *arguments)


def _run(*command: str) -> str:
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=_TIMEOUT_S)
    return done.stdout
