"""`gateway serve`: one worker, or several under a supervisor, on uvloop; and their signals.

SIGHUP reloads the settings, SIGUSR2 has new workers take over, SIGTERM drains (a second one stops
at once), SIGINT stops at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import resource
import signal
import sys
from collections.abc import Callable, Coroutine
from typing import Any

import uvloop

from gateway.errors import ConfigError
from gateway.settings.load import load
from gateway.settings.model import Settings
from gateway.supervisor.chores import Chores
from gateway.supervisor.ending import Ending
from gateway.supervisor.logs import Logs
from gateway.supervisor.meeting import Meeting, folder_for
from gateway.supervisor.supervisor import Supervisor, worker_count
from gateway.worker import Reread, Worker

_log = logging.getLogger(__name__)

_NO_SUCCESSOR = (
    "not restarted: a process that is alone has nobody to hand its clients to;"
    " with workers: 2 or more it has"
)
FAILED = 1
BAD_SETTINGS = 2


def serve(settings_path: str | None) -> int:
    """Runs a gateway until a signal ends it; the exit status.

    ``settings_path`` None takes the settings from the environment. 0 after a signal, 1 when an
    address can't be had, 2 for settings that can't be used; the reason goes to stderr.
    """

    def reread() -> Settings:
        return load(settings_path, os.environ)

    try:
        settings = reread()
    except ConfigError as error:
        return _complain(error)
    _raise_descriptor_limit()
    logs = Logs(settings.log)
    with logs.open(), asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        try:
            if worker_count(settings) == 1:
                runner.run(_alone(settings, reread, logs))
            else:
                meeting = Meeting(folder_for(settings, settings_path, os.environ))
                runner.run(_above_workers(settings, reread, logs, meeting))
        except (ConfigError, OSError) as error:
            failure = error
        else:
            return 0
    return _complain(failure)


def _complain(error: ConfigError | OSError) -> int:
    """One clear line for each thing that is wrong."""
    if isinstance(error, ConfigError):
        print("\n".join(error.problems), file=sys.stderr)
        return BAD_SETTINGS
    print(f"gateway: can't start: {error.strerror or error}", file=sys.stderr)
    return FAILED


def _raise_descriptor_limit() -> None:
    """Every client and server is a descriptor: take as many as we are allowed."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with contextlib.suppress(ValueError, OSError):  # some systems refuse "unlimited"
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


async def _alone(settings: Settings, reread: Reread, logs: Logs) -> None:
    """One worker in this process, until a signal. Raises OSError or ConfigError."""
    loop = asyncio.get_running_loop()

    def followed() -> Settings:
        # The log follows once the worker has taken the settings, or has not.
        loop.call_soon(lambda: logs.follow(worker.context.settings.log))
        return reread()

    def reload() -> None:
        try:
            worker.reload()
        except ConfigError as error:
            _refuse(error)

    worker = Worker(settings, followed)
    ending = Ending()
    loop.add_signal_handler(signal.SIGHUP, reload)
    loop.add_signal_handler(signal.SIGUSR2, lambda: _log.error(_NO_SUCCESSOR))
    ending.on_signals()
    try:
        await worker.start()
    except BaseException:
        await worker.stop()
        raise
    # What was built by now stays for good: no collection has to walk over it again.
    gc.collect()
    gc.freeze()
    await ending.carry_out(worker)


async def _above_workers(settings: Settings, reread: Reread, logs: Logs, meeting: Meeting) -> None:
    """Several workers, until a signal. Raises OSError or ConfigError."""
    loop = asyncio.get_running_loop()
    chores = Chores()

    async def follow(work: Callable[[], Coroutine[Any, Any, Any]]) -> None:
        try:
            await work()
        except ConfigError as error:
            _refuse(error)
        logs.follow(supervisor.settings.log)

    supervisor = Supervisor(settings, reread, meeting)
    ending = Ending()
    loop.add_signal_handler(signal.SIGHUP, lambda: chores.begin(follow(supervisor.reload)))
    loop.add_signal_handler(signal.SIGUSR2, lambda: chores.begin(follow(supervisor.restart)))
    ending.on_signals()
    try:
        started = await ending.unless_asked(supervisor.start())
    except BaseException:
        await supervisor.stop()
        raise
    if started:
        await ending.carry_out(supervisor)
    else:
        await supervisor.stop()


def _refuse(error: ConfigError) -> None:
    """A mistake in the settings is logged and changes nothing."""
    for problem in error.problems:
        _log.error("not reloaded, nothing has changed: %s", problem)
