"""The demo's data folder: throw-away or kept, locked while in use; and what it holds."""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from gateway.demo.seed import SeedLogin
from gateway.router.identity import LoginKind

_STATE = "demo.json"
_LOCK = "demo.lock"
_PREFIX = "gateway-demo-"


class DemoError(Exception):
    """The demo can't go on; the text says why and what to do."""


@dataclass(slots=True)
class State:
    """What a later run in the same folder has to know. Holds passwords.

    Ports are 0 until chosen; ``joined_port`` is the one by which databases know each other.
    ``logins`` is empty until all rows are loaded.
    """

    superuser_password: str = field(default_factory=lambda: secrets.token_hex(16))
    role_password: str = field(default_factory=lambda: secrets.token_hex(16))
    postgres_major: int = 0
    primary_port: int = 0
    standby_port: int = 0
    joined_port: int = 0
    logins: list[SeedLogin] = field(default_factory=list)

    @property
    def owners(self) -> int:
        return sum(login.kind is LoginKind.OWNER for login in self.logins)


@dataclass(slots=True)
class Folder:
    """A data folder in use by this demo."""

    path: Path
    kept: bool
    state: State

    @property
    def primary(self) -> Path:
        return self.path / "primary"

    @property
    def standby(self) -> Path:
        return self.path / "standby"

    @property
    def gateway_log(self) -> Path:
        return self.path / "gateway.log"

    def save(self) -> None:
        """Writes the state; readable by us alone."""
        write_private_json(self.path / _STATE, asdict(self.state))


@contextmanager
def open_folder(path: Path | None) -> Iterator[Folder]:
    """The folder at ``path``, made if missing and kept; or a new one that is removed at the end.

    A kept folder whose rows were never loaded completely is emptied. Raises DemoError for a folder
    that is in use or holds something else.
    """
    if path is None:
        with _temporary() as folder:
            yield folder
    else:
        with _kept(path.absolute()) as folder:
            yield folder


@contextmanager
def _temporary() -> Iterator[Folder]:
    path = Path(tempfile.mkdtemp(prefix=_PREFIX))
    try:
        path.chmod(0o711)  # the server's user goes through it to its own folder
        with _locked(path):
            _remove_leftovers(path.parent)
            yield Folder(path, False, State())
    finally:
        shutil.rmtree(path, ignore_errors=True)


def _remove_leftovers(parent: Path) -> None:
    """Removes the temporary folders of demos that were killed: ours, and locked by nobody."""
    for path in parent.glob(f"{_PREFIX}*"):
        with suppress(DemoError, OSError):
            if path.lstat().st_uid == os.geteuid() and (path / _LOCK).is_file():
                with _locked(path):
                    shutil.rmtree(path, ignore_errors=True)


@contextmanager
def _kept(path: Path) -> Iterator[Folder]:
    if path.is_dir() and any(path.iterdir()) and not (path / _LOCK).exists():
        raise DemoError(f"{path} holds something else; name an empty folder or a new one")
    if not path.exists():
        path.mkdir(parents=True, mode=0o711)
    with _locked(path):
        folder = Folder(path, True, _read_state(path / _STATE))
        if not folder.state.logins:
            for leftover in (folder.primary, folder.standby):
                shutil.rmtree(leftover, ignore_errors=True)
        yield folder


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with (path / _LOCK).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DemoError(f"another demo is using {path}") from None
        yield


def _read_state(path: Path) -> State:
    try:
        saved: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        logins = [
            SeedLogin(**{**login, "kind": LoginKind(login["kind"])})
            for login in saved.pop("logins")
        ]
        return State(**saved, logins=logins)
    except FileNotFoundError:
        return State()
    except (ValueError, KeyError, TypeError) as error:
        raise DemoError(f"{path} is not a demo's state ({error}); remove its folder") from None


def write_private_json(path: Path, value: object) -> None:
    """Writes a JSON file in one step: readers see the old one or the whole new one, mode 0600."""
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(value, file, indent=2)
            file.write("\n")
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
