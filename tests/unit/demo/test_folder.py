"""The demo's data folder: kept or thrown away, never somebody else's, one demo at a time."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from gateway.demo.folder import DemoError, open_folder, write_private_json
from gateway.demo.seed import SeedLogin
from gateway.router.identity import LoginKind

LOGIN = SeedLogin(LoginKind.OWNER, "owner_1", "secret", "law", "1", "LAW", "law")


def test_a_temporary_folder_goes_at_the_end() -> None:
    with open_folder(None) as folder:
        folder.save()
        assert folder.path.is_dir()
        assert not folder.kept
    assert not folder.path.exists()


def test_what_killed_demos_left_is_removed_and_running_ones_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    for name in ("gateway-demo-killed", "gateway-demo-no-lock", "other"):
        (tmp_path / name).mkdir()
    (tmp_path / "gateway-demo-killed" / "demo.lock").touch()
    (tmp_path / "other" / "demo.lock").touch()
    with open_folder(None) as first, open_folder(None) as second:
        left = {path.name for path in tmp_path.iterdir()}
        assert left == {first.path.name, second.path.name, "gateway-demo-no-lock", "other"}


def test_a_kept_folder_remembers(tmp_path: Path) -> None:
    with open_folder(tmp_path / "new") as folder:
        folder.state.logins = [LOGIN]
        folder.state.primary_port = 5433
        folder.save()
        password = folder.state.superuser_password
    with open_folder(tmp_path / "new") as folder:
        assert folder.state.logins == [LOGIN]
        assert folder.state.owners == 1
        assert folder.state.primary_port == 5433
        assert folder.state.superuser_password == password


def test_an_unfinished_load_is_emptied_and_a_finished_one_is_not(tmp_path: Path) -> None:
    with open_folder(tmp_path / "demo") as folder:
        folder.primary.mkdir()
        folder.save()
    with open_folder(tmp_path / "demo") as folder:
        assert not folder.primary.exists()
        folder.primary.mkdir()
        folder.state.logins = [LOGIN]
        folder.save()
    with open_folder(tmp_path / "demo") as folder:
        assert folder.primary.exists()


def test_a_folder_with_something_else_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").touch()
    with pytest.raises(DemoError, match="something else"), open_folder(tmp_path):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_two_demos_in_one_folder_are_refused(tmp_path: Path) -> None:
    with (
        open_folder(tmp_path),
        pytest.raises(DemoError, match="another demo"),
        open_folder(tmp_path),
    ):
        pass


def test_a_broken_state_is_named(tmp_path: Path) -> None:
    with open_folder(tmp_path):
        pass
    (tmp_path / "demo.json").write_text('{"logins": [{}]}')
    with pytest.raises(DemoError, match=r"demo\.json"), open_folder(tmp_path):
        pass


def test_private_json_is_ours_alone_and_whole(tmp_path: Path) -> None:
    path = tmp_path / "ready.json"
    path.write_text("old")
    write_private_json(path, {"a": 1})
    assert path.read_text() == '{\n  "a": 1\n}\n'
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with pytest.raises(TypeError):
        write_private_json(path, {"a": object()})
    assert [left.name for left in tmp_path.iterdir()] == ["ready.json"]
    assert path.read_text() == '{\n  "a": 1\n}\n'
