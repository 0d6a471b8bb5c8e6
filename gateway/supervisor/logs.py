"""One line per event to stderr, written by a thread of its own so that logging never waits.

Between the callers and that thread stands a bounded queue; what doesn't fit is dropped and counted.
"""

from __future__ import annotations

import json
import logging
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from logging.handlers import QueueHandler, QueueListener
from queue import Full, Queue
from typing import TextIO

from gateway.settings.model import Log

QUEUE_MAX = 10_000
"""Lines that may wait to be written."""

_OURS = "gateway"
_CLOSE_S = 2.0
"""How long a closing log waits for a stderr that takes nothing."""

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_ESCAPES = {number: f"\\x{number:02x}" for number in (*range(32), 127)} | {
    ord("\n"): "\\n",
    ord("\r"): "\\r",
    ord("\t"): "\\t",
}
"""So that nobody forges a line by what they call themselves."""


class TextFormatter(logging.Formatter):
    """``2026-01-31T12:00:00.000Z INFO gateway.worker: message name=value``."""

    def format(self, record: logging.LogRecord) -> str:
        parts = [record.getMessage().translate(_ESCAPES)]
        parts += [f"{name}={json.dumps(value, default=str)}" for name, value in _fields(record)]
        if record.exc_text:
            parts.append("| " + record.exc_text.translate(_ESCAPES))
        return f"{_time(record)} {record.levelname} {record.name}: {' '.join(parts)}"


class JsonFormatter(logging.Formatter):
    """The same as one JSON object."""

    def format(self, record: logging.LogRecord) -> str:
        event = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **dict(_fields(record)),
        }
        if record.exc_text:
            event["exception"] = record.exc_text
        return json.dumps(event, default=str)


def _time(record: logging.LogRecord) -> str:
    """Milliseconds, in UTC."""
    text = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
    return text.removesuffix("+00:00") + "Z"


def _fields(record: logging.LogRecord) -> list[tuple[str, object]]:
    """What the caller gave as ``extra``."""
    return [(name, value) for name, value in vars(record).items() if name not in _STANDARD]


class BoundedHandler(QueueHandler):
    """Puts records into the queue, or counts them as ``dropped``."""

    queue: Queue[logging.LogRecord]

    def __init__(self, records: Queue[logging.LogRecord]) -> None:
        super().__init__(records)
        self.dropped = 0

    def prepare(self, record: logging.LogRecord) -> logging.LogRecord:
        """The record with its message made now, for its arguments may change."""
        record.msg, record.args = record.getMessage(), None
        if record.exc_info and not record.exc_text:
            record.exc_text = logging.Formatter().formatException(record.exc_info)
        record.exc_info = None
        return record

    def enqueue(self, record: logging.LogRecord) -> None:
        try:
            self.queue.put_nowait(record)
        except Full:
            self.dropped += 1


class _Writer(QueueListener):
    """The thread that writes; it says how many lines were dropped before the one it writes."""

    queue: Queue[logging.LogRecord]

    def __init__(self, source: BoundedHandler, output: logging.Handler) -> None:
        super().__init__(source.queue, output)
        self._source = source
        self._output = output
        self._told = 0

    def handle(self, record: logging.LogRecord) -> None:
        missing = self._source.dropped - self._told
        if missing:
            self._told += missing
            text = f"{missing} log lines were dropped: stderr was too slow"
            made = {"name": __name__, "levelno": logging.WARNING, "levelname": "WARNING"}
            self._output.handle(logging.makeLogRecord({**made, "msg": text}))
        super().handle(record)

    def stop(self) -> None:
        """Write what is left and end, or leave the thread behind when stderr takes nothing."""
        thread: threading.Thread | None = self._thread
        if thread is None:
            return
        try:
            self.queue.put(self._sentinel, timeout=_CLOSE_S)  # type: ignore[attr-defined]
        except Full:
            return
        thread.join(_CLOSE_S)
        self._thread = None


class Logs:
    """The process's log while it is open; `follow` applies new settings."""

    def __init__(self, settings: Log, stream: TextIO | None = None) -> None:
        self._output = logging.StreamHandler(stream if stream is not None else sys.stderr)
        self.handler = BoundedHandler(Queue(QUEUE_MAX))
        self._writer = _Writer(self.handler, self._output)
        self.follow(settings)

    def follow(self, settings: Log) -> None:
        """The level and the form of the lines from now on."""
        json_lines = settings.format == "json"
        self._output.setFormatter(JsonFormatter() if json_lines else TextFormatter())
        logging.getLogger(_OURS).setLevel(settings.level.upper())

    @contextmanager
    def open(self) -> Iterator[Logs]:
        """All loggers write here; others' libraries only what is a warning or worse."""
        root = logging.getLogger()
        before = root.handlers[:], root.level
        root.handlers[:] = [self.handler]
        root.setLevel(logging.WARNING)
        self._writer.start()
        try:
            yield self
        finally:
            root.handlers[:], level = before
            root.setLevel(level)
            self._writer.stop()
