"""`gateway serve`: one worker on uvloop, and the signals that steer it.

SIGHUP reloads the settings, SIGTERM drains (a second one stops at once), SIGINT stops at once.
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

import uvloop

from gateway.errors import ConfigError
from gateway.settings.load import load
from gateway.settings.model import Settings
from gateway.supervisor.logs import Logs
from gateway.worker import Reread, Worker

_log = logging.getLogger(__name__)

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
            runner.run(_Process(logs).run(settings, reread))
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


class _Process:
    """A worker and the signals of its process."""

    def __init__(self, logs: Logs) -> None:
        self._logs = logs
        self._drain = asyncio.Event()
        self._stop = asyncio.Event()

    async def run(self, settings: Settings, reread: Reread) -> None:
        """Until a signal. Raises OSError or ConfigError when the worker can't start."""
        loop = asyncio.get_running_loop()

        def followed() -> Settings:
            # The log follows once the worker has taken the settings, or has not.
            loop.call_soon(lambda: self._logs.follow(worker.context.settings.log))
            return reread()

        worker = Worker(settings, followed)
        loop.add_signal_handler(signal.SIGHUP, _reload, worker)
        loop.add_signal_handler(signal.SIGTERM, self._terminate)
        loop.add_signal_handler(signal.SIGINT, self._interrupt)
        try:
            await worker.start()
        except BaseException:
            await worker.stop()
            raise
        # What was built by now stays for good: no collection has to walk over it again.
        gc.collect()
        gc.freeze()
        await self._drain.wait()
        await self._end(worker)

    def _terminate(self) -> None:
        """SIGTERM: first drain, then stop."""
        if self._drain.is_set():
            self._interrupt()
        else:
            _log.info("draining: running transactions may end; SIGTERM again stops at once")
            self._drain.set()

    def _interrupt(self) -> None:
        """SIGINT: stop. One more signal of either kind kills, should that not come to an end."""
        _log.info("stopping")
        self._stop.set()
        self._drain.set()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().remove_signal_handler(number)

    async def _end(self, worker: Worker) -> None:
        """Drain until that is done or a stop is asked for."""
        if self._stop.is_set():
            await worker.stop()
            return
        draining = asyncio.ensure_future(worker.drain())
        stop_wanted = asyncio.ensure_future(self._stop.wait())
        await asyncio.wait((draining, stop_wanted), return_when=asyncio.FIRST_COMPLETED)
        stop_wanted.cancel()
        if draining.done():
            draining.result()
            return
        draining.cancel()
        await asyncio.gather(draining, return_exceptions=True)
        await worker.stop()


def _reload(worker: Worker) -> None:
    """SIGHUP: a mistake in the settings is logged and changes nothing."""
    try:
        worker.reload()
    except ConfigError as error:
        for problem in error.problems:
            _log.error("not reloaded, nothing has changed: %s", problem)
