"""Lines of the log: their form, what a hostile name can't do to them, what a slow stderr costs."""

from __future__ import annotations

import io
import json
import logging
import re
import threading
import time
from collections.abc import Iterator

import pytest

from gateway.settings.model import Log
from gateway.supervisor import logs as module
from gateway.supervisor.logs import Logs

_log = logging.getLogger("gateway.test")


@pytest.fixture(autouse=True)
def level_kept() -> Iterator[None]:
    ours = logging.getLogger("gateway")
    level = ours.level
    yield
    ours.setLevel(level)


def written(settings: Log, *events: tuple[object, ...], **fields: object) -> list[str]:
    """The lines that events make; each is a level, a message and its arguments."""
    stream = io.StringIO()
    with Logs(settings, stream).open():
        for level, message, *arguments in events:
            _log.log(int(str(level)), str(message), *arguments, extra=fields)
    return stream.getvalue().splitlines()


TEXT = Log(level="info")
JSON = Log(level="info", format="json")


def test_a_text_line_has_time_level_logger_message_and_fields() -> None:
    (line,) = written(TEXT, (logging.INFO, "hello %s", "you"), shard="law 1", count=3)
    time_text, rest = line.split(" ", 1)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", time_text)
    assert rest == 'INFO gateway.test: hello you shard="law 1" count=3'


def test_a_json_line_is_an_object() -> None:
    (line,) = written(JSON, (logging.WARNING, "hello %s", "you"), shard="law")
    event = json.loads(line)
    assert event.pop("time").endswith("Z")
    assert event == {
        "level": "warning",
        "logger": "gateway.test",
        "message": "hello you",
        "shard": "law",
    }


@pytest.mark.parametrize("settings", [TEXT, JSON])
def test_nobody_forges_a_line(settings: Log) -> None:
    name = "x\n2026-01-01T00:00:00Z INFO gateway: all is well\r\x1b[2J"
    lines = written(settings, (logging.WARNING, "login failed: %s", name))
    assert len(lines) == 1
    assert "\x1b" not in lines[0]


@pytest.mark.parametrize("settings", [TEXT, JSON])
def test_an_exception_stays_on_its_line(settings: Log) -> None:
    stream = io.StringIO()
    with Logs(settings, stream).open():
        try:
            raise RuntimeError("broken")
        except RuntimeError:
            _log.exception("it failed")
    (line,) = stream.getvalue().splitlines()
    assert "it failed" in line
    assert "RuntimeError: broken" in line
    assert "Traceback" in line


def test_the_message_is_made_when_it_is_logged() -> None:
    changing = ["before"]
    stream = io.StringIO()
    with Logs(TEXT, stream).open():
        _log.info("%s", changing)
        changing[0] = "after"
    assert "before" in stream.getvalue()


def test_the_level_and_the_form_follow_the_settings() -> None:
    stream = io.StringIO()
    with Logs(Log(level="warning"), stream).open() as logs:
        _log.info("unseen")
        logs.follow(Log(level="debug", format="json"))
        _log.debug("seen")
    (line,) = stream.getvalue().splitlines()
    assert json.loads(line)["message"] == "seen"


def test_other_libraries_are_heard_from_warnings_on() -> None:
    stream = io.StringIO()
    with Logs(Log(level="debug"), stream).open():
        logging.getLogger("somebody").info("chatter")
        logging.getLogger("somebody").warning("trouble")
    assert [line.split(": ", 1)[1] for line in stream.getvalue().splitlines()] == ["trouble"]


class Stuck(io.StringIO):
    """A stderr that takes nothing until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.free = threading.Event()
        self.reached = threading.Event()

    def write(self, text: str) -> int:
        self.reached.set()
        self.free.wait(20)
        return super().write(text)


def test_a_stuck_stderr_delays_nobody_and_what_is_lost_is_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "QUEUE_MAX", 100)
    stream = Stuck()
    logs = Logs(TEXT, stream)
    with logs.open():
        _log.info("first")
        assert stream.reached.wait(10)
        began = time.monotonic()
        for number in range(1000):
            _log.info("line %d", number)
        took_s = time.monotonic() - began
        stream.free.set()
    assert took_s < 5
    assert logs.handler.dropped == 900
    lines = stream.getvalue().splitlines()
    assert len(lines) == 102
    assert any("900 log lines were dropped" in line for line in lines)


def test_closing_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_CLOSE_S", 0.05)
    stream = Stuck()
    began = time.monotonic()
    with Logs(TEXT, stream).open():
        _log.info("nobody takes this")
        assert stream.reached.wait(10)
    assert time.monotonic() - began < 10
    stream.free.set()
