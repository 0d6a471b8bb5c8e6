"""Where workers and supervisor meet: one supervisor at a time, and nobody else."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.settings.model import Settings
from gateway.supervisor import meeting
from gateway.supervisor.meeting import Meeting, Process, folder_for
from tests.unit.settings.samples import load


def settings(**options: str) -> Settings:
    made = load(
        "meta: {primary: 'postgresql://a@b/c'}\nindustries: {LAW: {shards: [{primary: 'postgresql://a@b/d'}]}}\n"
    )
    return made.model_copy(update=options)


def test_one_supervisor_at_a_time(tmp_path: Path) -> None:
    first, second = Meeting(tmp_path / "run"), Meeting(tmp_path / "run")
    first.enter()
    assert (tmp_path / "run").stat().st_mode & 0o777 == 0o700
    with pytest.raises(OSError, match="another gateway"):
        second.enter()
    first.leave()
    second.enter()
    second.leave()


def test_a_folder_of_somebody_else_is_not_entered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    with pytest.raises(OSError, match="belongs to somebody else"):
        Meeting(tmp_path).enter()


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "run").symlink_to(tmp_path / "real")
    with pytest.raises(OSError, match="belongs to somebody else"):
        Meeting(tmp_path / "run").enter()


def test_a_name_too_long_for_a_socket_is_told(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="too long"):
        Meeting(tmp_path / ("x" * 120)).enter()


def test_workers_are_noted_and_found_again(tmp_path: Path) -> None:
    meeting = Meeting(tmp_path)
    assert meeting.noted() == {}
    own = Process.find(os.getpid())
    meeting.note({1: own, 2: Process(own.pid, own.started + 1)})
    found = meeting.noted()
    assert found[1].alive
    assert not found[2].alive, "another process had this id"
    (tmp_path / "workers.json").write_text("{broken")
    assert meeting.noted() == {}
    meeting.clear()
    meeting.clear()


def test_a_process_that_has_ended_is_not_alive() -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    process = Process.find(child.pid)

    def alive() -> bool:
        return process.alive

    assert alive()
    process.send(9)
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert not alive(), "nobody has waited for it yet"
    child.communicate()
    assert not alive()
    process.send(9)


def test_other_settings_meet_elsewhere(tmp_path: Path) -> None:
    one = folder_for(settings(), "/etc/a.yaml", {})
    assert folder_for(settings(), "/etc/a.yaml", {}) == one
    assert folder_for(settings(), "/etc/b.yaml", {}) != one
    assert folder_for(settings(), None, {}) != one
    given = folder_for(settings(), "/etc/a.yaml", {"RUNTIME_DIRECTORY": "/run/gateway"})
    assert given == Path("/run/gateway") / one.name
    assert folder_for(settings(runtime_dir=str(tmp_path)), None, {}) == tmp_path


def test_the_supervisor_can_be_found_as_long_as_it_has_the_folder(tmp_path: Path) -> None:
    meeting, other = Meeting(tmp_path / "run"), Meeting(tmp_path / "run")
    assert other.supervisor() is None
    meeting.enter()
    assert other.supervisor() == os.getpid()
    meeting.leave()
    assert other.supervisor() is None


def test_a_process_may_go_while_it_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    own = Process.find(os.getpid())
    looks = iter([meeting._stat(own.pid)])
    monkeypatch.setattr(meeting, "_stat", lambda pid: next(looks, []))
    assert own.alive
    assert not own.alive
