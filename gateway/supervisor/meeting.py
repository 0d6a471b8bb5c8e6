"""The folder where workers and their supervisor meet: a lock, a control socket, a list of workers.

It outlives the supervisor, so that one started again finds the workers that serve on.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import socket
import stat
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from gateway.settings.model import Settings

_CONTROL_BACKLOG = 128
_PATH_MAX_BYTES = 100
"""Of a Unix socket; some systems allow 104."""


@dataclass(frozen=True, slots=True)
class Process:
    """A process that can't be taken for a later one of the same id."""

    pid: int
    started: int
    """In the kernel's ticks since boot; 0 where it doesn't say."""

    @classmethod
    def find(cls, pid: int) -> Process:
        """The one that has this id now."""
        return cls(pid, _started(_stat(pid)))

    @property
    def alive(self) -> bool:
        """Whether it still runs. One that has ended and waits for its parent does not."""
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            return False
        fields = _stat(self.pid)  # once: it may go between two looks
        return _started(fields) == self.started and fields[:1] not in (["Z"], ["X"])

    def send(self, number: int) -> None:
        """A signal, unless it has gone."""
        if self.alive:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)


class Meeting:
    """The folder. Only one supervisor can have it at a time."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.control = folder / "control"
        self._workers = folder / "workers.json"
        self._lock = -1

    def enter(self) -> None:
        """Take the folder, making it if need be. Raises OSError, also when another one has it."""
        if len(os.fsencode(self.control)) > _PATH_MAX_BYTES:
            raise OSError(f"the name of {self.folder} is too long for a socket: set runtime_dir")
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = self.folder.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
            raise OSError(f"{self.folder} belongs to somebody else: set runtime_dir")
        self.folder.chmod(0o700)
        self._lock = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self.leave()
            raise OSError(f"another gateway with these settings runs in {self.folder}") from None
        os.truncate(self._lock, 0)
        os.write(self._lock, b"%d" % os.getpid())

    def supervisor(self) -> int | None:
        """The process id of the supervisor that has the folder; None when none has."""
        try:
            with (self.folder / "lock").open("rb") as lock:
                try:
                    fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
                except OSError:
                    return int(lock.read() or 0) or None
        except OSError:
            pass
        return None

    def leave(self) -> None:
        """Let the next one in."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def listen(self) -> socket.socket:
        """The control socket, in place of an older one."""
        self.control.unlink(missing_ok=True)
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.bind(str(self.control))
            sock.listen(_CONTROL_BACKLOG)
            sock.setblocking(False)
        except BaseException:
            sock.close()
            raise
        return sock

    def note(self, workers: Mapping[int, Process]) -> None:
        """Write down which processes serve, by worker number."""
        plain = {number: [one.pid, one.started] for number, one in workers.items()}
        made = self._workers.with_suffix(".new")
        made.write_text(json.dumps(plain))
        made.replace(self._workers)

    def noted(self) -> dict[int, Process]:
        """Which ones served when somebody last wrote it down; some may have ended."""
        try:
            plain = json.loads(self._workers.read_text())
            return {int(number): Process(*one) for number, one in plain.items()}
        except (OSError, ValueError, TypeError, AttributeError):
            return {}

    def clear(self) -> None:
        """Nobody serves any more."""
        self.control.unlink(missing_ok=True)
        self._workers.unlink(missing_ok=True)


def folder_for(settings: Settings, settings_path: str | None, environ: Mapping[str, str]) -> Path:
    """Where the gateway with these settings meets; another one for other settings or ports."""
    if settings.runtime_dir:
        return Path(settings.runtime_dir)
    name = os.path.realpath(settings_path) if settings_path is not None else "environment"
    place = f"{name}\0{settings.listen.host}\0{settings.listen.port}\0{settings.http.port}"
    own = f"gateway-{os.getuid()}-{hashlib.sha256(place.encode()).hexdigest()[:12]}"
    given = environ.get("RUNTIME_DIRECTORY", "").partition(":")[0]
    return Path(given or tempfile.gettempdir()) / own


def _started(fields: Sequence[str]) -> int:
    return int(fields[19]) if fields else 0


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat from the state on; none where there is no such file."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return []
    return text.rpartition(")")[2].split()
