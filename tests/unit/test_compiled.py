"""Which modules run compiled: the choice, and that the tests run what they are said to run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import gateway
from gateway.admin.version import build
from gateway.compiled import SourcesOnly, is_out_of_date

_SUFFIX = ".cpython-311-x86_64-linux-gnu.so"


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package with one module that was compiled after its last change."""
    monkeypatch.setattr("gateway.compiled.EXTENSION_SUFFIXES", [_SUFFIX])
    inside = tmp_path / "some" / "part"
    inside.mkdir(parents=True)
    for number, name in enumerate(("hot.py", "hot.pxd", f"hot{_SUFFIX}")):
        (inside / name).touch()
        os.utime(inside / name, (1_000 + number, 1_000 + number))
    return tmp_path / "some"


def test_what_was_compiled_last_is_used(package: Path) -> None:
    assert not is_out_of_date(package)


@pytest.mark.parametrize("changed", ["hot.py", "hot.pxd"])
def test_a_change_puts_all_that_is_compiled_aside(package: Path, changed: str) -> None:
    os.utime(package / "part" / changed, (2_000, 2_000))
    assert is_out_of_date(package)


def test_a_module_that_is_not_compiled_may_change(package: Path) -> None:
    (package / "part" / "cold.py").touch()
    assert not is_out_of_date(package)


def test_nothing_compiled_is_nothing_out_of_date(package: Path) -> None:
    (package / "part" / f"hot{_SUFFIX}").unlink()
    assert not is_out_of_date(package)


def test_the_source_is_found_beside_what_is_compiled(package: Path) -> None:
    found = SourcesOnly("some").find_spec("some.part.hot", [str(package / "part")])
    assert found is not None
    assert found.origin == str(package / "part" / "hot.py")
    assert SourcesOnly("some").find_spec("other.hot", [str(package / "part")]) is None


def test_the_environment_makes_all_interpreted_in_every_process() -> None:
    code = "from gateway.admin.version import version_line; print(version_line())"
    environ = {**os.environ, "GATEWAY_PURE": "1"}
    place = Path(gateway.__file__).parents[1]
    ran = subprocess.run(
        [sys.executable, "-c", code], env=environ, cwd=place, capture_output=True, check=True
    )
    assert b"(interpreted since GATEWAY_PURE is set, " in ran.stdout


def test_compiled_tests_run_compiled_modules() -> None:
    """`make test-compiled` would prove nothing otherwise."""
    wanted = os.environ.get("GATEWAY_COMPILED_TESTS") == "1"
    assert build() == "compiled" or not wanted
