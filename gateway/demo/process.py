"""Child processes: who they run as, how they are started, awaited and stopped."""

from __future__ import annotations

import asyncio
import os
import pwd
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import IO

_LAUNCHER = Path(__file__).with_name("launch.py")
_POLL_S = 0.01
_TAIL_BYTES = 16_384


class ProcessError(Exception):
    """A program we need failed; the text holds the end of what it said."""


@dataclass(frozen=True, slots=True)
class Account:
    """An unprivileged user of this machine."""

    name: str
    uid: int
    gid: int

    def can_use(self, path: Path) -> bool:
        """Whether this user can reach, read and enter (or run) ``path``, by the mode bits."""
        absolute = path.resolve()
        return all(self._may(path, 1) for path in absolute.parents) and self._may(absolute, 5)

    def _may(self, path: Path, wanted: int) -> bool:
        state = path.stat()
        shift = 6 if state.st_uid == self.uid else 3 if state.st_gid == self.gid else 0
        return state.st_mode >> shift & wanted == wanted


def server_account() -> Account | None:
    """Who PostgreSQL has to run as: None means as we are, since it refuses only root."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(name, entry.pw_uid, entry.pw_gid)
    raise ProcessError(
        "PostgreSQL does not run as root, and there is no user postgres or nobody to run it as"
    )


def spawn(
    command: Sequence[str | Path],
    *,
    output: IO[bytes],
    environ: Mapping[str, str],
    account: Account | None = None,
    signal_when_orphaned: signal.Signals = signal.SIGTERM,
    keep_open: Sequence[int] = (),
) -> subprocess.Popen[bytes]:
    """Starts ``command`` in a session of its own, so that a Ctrl-C reaches only us.

    Call it from the main thread: on Linux the child gets ``signal_when_orphaned`` when the thread
    that started it ends. Both its outputs go to ``output``. File descriptors ``keep_open`` are
    inherited.
    """
    uid, gid = (account.uid, account.gid) if account else (-1, -1)
    numbers = (signal_when_orphaned.value, os.getpid(), uid, gid)
    return subprocess.Popen(
        [
            *(sys.executable, "-I", "-S", str(_LAUNCHER)),
            *(str(number) for number in numbers),
            *(str(part) for part in command),
        ],
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        env=dict(environ),
        cwd="/",
        start_new_session=True,
        pass_fds=tuple(keep_open),
    )


async def wait(process: subprocess.Popen[bytes], timeout_s: float) -> int | None:
    """The exit status, or None when it still runs after ``timeout_s``."""
    deadline = monotonic() + timeout_s
    while process.poll() is None and monotonic() < deadline:  # noqa: ASYNC110
        await asyncio.sleep(_POLL_S)
    return process.returncode


async def stop(process: subprocess.Popen[bytes], how: signal.Signals, timeout_s: float) -> None:
    """Sends ``how``, waits, and kills what is still there after ``timeout_s``."""
    if process.poll() is None:
        process.send_signal(how)
        try:
            await wait(process, timeout_s)
        finally:
            if process.poll() is None:
                process.kill()
    process.wait(timeout=10)


def open_log(path: Path) -> IO[bytes]:
    """A new log file that only we can read: logs may quote rows."""
    path.unlink(missing_ok=True)
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")


def tail(log: Path, lines: int = 20) -> str:
    """The last lines of a log file; empty when there is none."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - _TAIL_BYTES))
            text = file.read().decode(errors="replace")
    except FileNotFoundError:
        return ""
    return "\n".join(text.splitlines()[-lines:])
