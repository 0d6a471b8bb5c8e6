"""The command line: what it says, where, and with which exit status."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from gateway import cli
from gateway.admin.version import gateway_version
from gateway.settings.model import INDUSTRIES

SECRET = "kQ7vZr2mXw9"
GOOD = f"""\
meta:
  primary: postgresql://app:{SECRET}@db/meta
industries:
  LAW:
    shards:
      - primary: postgresql://app:{SECRET}@db/law
"""
BAD = GOOD + "listne: {}\npool:\n  max: many\n"


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GATEWAY_CONFIG", raising=False)
    for name in ("META", *INDUSTRIES):
        monkeypatch.delenv(f"DATABASE_URL_{name}", raising=False)


@pytest.fixture
def good(tmp_path: Path) -> Path:
    file = tmp_path / "good.yaml"
    file.write_text(GOOD)
    return file


@pytest.fixture
def bad(tmp_path: Path) -> Path:
    file = tmp_path / "bad.yaml"
    file.write_text(BAD)
    return file


def run(*arguments: str | Path, text: str | None = None) -> Result:
    result = CliRunner().invoke(cli.app, [str(one) for one in arguments], input=text)
    assert "Traceback" not in result.output
    assert SECRET not in result.output
    return result


def test_version() -> None:
    result = run("--version")
    assert result.exit_code == 0
    assert result.stdout.startswith(f"gateway {gateway_version()} (")


@pytest.mark.parametrize("command", [[], ["owners"], ["owners", "key"], ["owners", "grant"]])
def test_without_more_words_the_help_is_shown(command: list[str]) -> None:
    assert "Usage:" in run(*command).output


@pytest.mark.parametrize(
    "command",
    [
        ["serve"],
        ["check-config"],
        ["demo"],
        ["provision"],
        *(["owners", one] for one in ("add", "list", "show", "disable", "enable", "password")),
        *(["owners", "key", one] for one in ("add", "list", "revoke")),
        *(["owners", "grant", one] for one in ("add", "list", "remove")),
    ],
    ids=" ".join,
)
def test_every_command_has_help(command: list[str]) -> None:
    result = run(*command, "--help")
    assert result.exit_code == 0
    assert "Usage:" in result.stdout


def test_a_word_that_is_no_command_is_refused() -> None:
    assert run("sevre").exit_code == 2


# --- settings ---


def test_good_settings_are_described(good: Path) -> None:
    result = run("check-config", good)
    assert result.exit_code == 0
    assert result.stdout.splitlines()[-1] == "1 industries, 1 shards"
    assert result.stderr == ""


def test_every_mistake_goes_to_stderr(bad: Path) -> None:
    result = run("check-config", bad)
    assert result.exit_code == 2
    assert result.stdout == ""
    first, second = result.stderr.splitlines()
    assert first.startswith(f"{bad}:7:1: listne: ")
    assert second.startswith(f"{bad}:9:8: pool.max: ")


def test_the_file_may_be_named_by_the_environment(
    good: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GATEWAY_CONFIG", str(good))
    assert run("check-config").exit_code == 0


def test_without_a_file_the_environment_is_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    missing = run("check-config")
    assert missing.exit_code == 2
    assert "DATABASE_URL_META: is required" in missing.stderr.splitlines()
    for name in ("META", *INDUSTRIES):
        monkeypatch.setenv(f"DATABASE_URL_{name}", f"postgresql://app:{SECRET}@db/{name.lower()}")
    assert "14 industries, 14 shards" in run("check-config").stdout


@pytest.mark.parametrize(
    "command",
    [
        ["serve"],
        ["provision"],
        ["owners", "list"],
        ["owners", "show", "ann"],
        ["owners", "add", "ann", "--generate"],
        ["owners", "key", "list", "ann"],
        ["owners", "grant", "list", "ann"],
    ],
    ids=" ".join,
)
def test_every_command_tells_of_bad_settings(
    command: list[str], bad: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    result = run(*command, "--config", bad)
    assert result.exit_code == 2
    errors = result.stderr or capfd.readouterr().err
    assert len(errors.splitlines()) == 2
    assert "listne" in errors


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    result = run("check-config", tmp_path / "none.yaml")
    assert result.exit_code == 2
    assert result.stderr == f"{tmp_path / 'none.yaml'}: can't be read: No such file or directory\n"


# --- failures ---


def test_a_meta_database_that_is_away_is_one_line(tmp_path: Path) -> None:
    file = tmp_path / "away.yaml"
    file.write_text(GOOD.replace("@db/", "@127.0.0.1:1/"))
    result = run("owners", "list", "--config", file)
    assert result.exit_code == 1
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith("gateway: can't connect to 127.0.0.1:1/meta: ")


@pytest.mark.parametrize(
    ("arguments", "text", "says"),
    [
        ([], "", "no password on standard input; or use --generate or --no-password"),
        (["--generate", "--no-password"], "", "--generate and --no-password exclude each other"),
    ],
)
def test_a_password_must_come_from_somewhere(
    arguments: list[str], text: str, says: str, good: Path
) -> None:
    result = run("owners", "add", "ann", *arguments, "--config", good, text=text)
    assert result.exit_code == 1
    assert result.stderr == f"gateway: {says}\n"


def test_no_option_takes_a_password() -> None:
    for command in (["owners", "add"], ["owners", "password"]):
        assert run(*command, "ann", "--password", "x").exit_code == 2


def test_a_grant_for_something_else_is_refused(good: Path) -> None:
    result = run("owners", "grant", "add", "app", "everyone", "--config", good)
    assert result.exit_code == 1
    assert result.stderr == "gateway: a grant is for all, agency or owner, not everyone\n"


def test_serving_does_not_load_what_only_people_need() -> None:
    code = (
        "import sys, gateway.supervisor.run; print({'typer', 'rich', 'click'} & set(sys.modules))"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert loaded.stdout.strip() == "set()"


def test_python_m_gateway_is_the_same_command() -> None:
    said = subprocess.run(
        [sys.executable, "-m", "gateway", "--version"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert said.stdout.startswith("gateway ")
