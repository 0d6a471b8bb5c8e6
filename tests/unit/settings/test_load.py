"""What a right file means, and what is said of files that can't be read."""

from __future__ import annotations

import traceback
from pathlib import Path

import pytest

from gateway.errors import ConfigError
from gateway.settings.load import FILE_BYTES_MAX, load_file
from gateway.settings.load import load as load_any
from gateway.settings.model import PoolMode, TlsMode
from tests.unit.settings.samples import SECRET, SMALLEST, environment, load, problems, url


def test_the_smallest_file_has_every_default() -> None:
    settings = load(SMALLEST)
    assert settings.listen.port == 6432
    assert settings.pool.mode is PoolMode.TRANSACTION
    assert settings.listen.tls.mode is TlsMode.ALLOW
    assert settings.meta.primary.get_secret_value() == url("meta")
    assert settings.industries["LAW"].shards[0].replicas == []
    assert settings.operator_role is None


def test_a_new_industry_is_one_more_entry() -> None:
    settings = load(f"{SMALLEST}  GYM: {{shards: [primary: '{url('gym')}']}}\n")
    assert list(settings.industries) == ["LAW", "GYM"]


def test_every_industry_may_be_the_same_database() -> None:
    entries = "".join(f"  I{n}: {{shards: [primary: '{url('law')}']}}\n" for n in range(14))
    assert len(load(SMALLEST + entries).industries) == 15


@pytest.mark.parametrize(
    ("written", "environ", "host"),
    [
        ("${HOST}", {"HOST": "a.example"}, "a.example"),
        ("${HOST:-b.example}", {}, "b.example"),
        ("${HOST:-b.example}", {"HOST": ""}, "b.example"),
        ("${HOST:-b.example}", {"HOST": "a.example"}, "a.example"),
        ("'${HOST}'", {"HOST": "127"}, "127"),
        ("${HOST}", {"HOST": "007"}, "007"),  # a number that is wanted as text keeps its form
        ("${A}.${B:-example}", {"A": "x"}, "x.example"),
        ("$${HOST}", {"HOST": "a"}, "${HOST}"),
        ("$HOST", {"HOST": "a"}, "$HOST"),
        ("${HOST}", {"HOST": "${HOST}"}, "${HOST}"),  # what comes out is not read again
        ("${HOST}", {"HOST": "a: [b]"}, "a: [b]"),
        ("${HOST}", {"HOST": ""}, ""),
        ("10", {}, "10"),
        ("1.50", {}, "1.50"),
        ("true", {}, "true"),
    ],
)
def test_references_in_text(written: str, environ: dict[str, str], host: str) -> None:
    assert load(f"{SMALLEST}listen:\n  host: {written}\n", **environ).listen.host == host


def test_an_unquoted_reference_is_read_as_yaml() -> None:
    text = SMALLEST + (
        "listen:\n  port: ${PORT}\n  login_timeout_s: ${SECONDS}\n"
        "  unix_socket_dir: ${FOLDER:-}\n"
        "auth:\n  api_keys: ${KEYS}\nhttp:\n  port: ${HTTP:-null}\n"
    )
    settings = load(text, PORT="5433", SECONDS="1.5", KEYS="false")
    assert settings.listen.port == 5433
    assert settings.listen.login_timeout_s == 1.5
    assert settings.listen.unix_socket_dir is None
    assert settings.auth.api_keys is False
    assert settings.http.port is None


def test_a_quoted_reference_stays_text() -> None:
    assert problems(f"{SMALLEST}listen:\n  port: '${{PORT}}'\n", PORT="5433") == [
        "f:8:9: listen.port: should be a whole number"
    ]


def test_an_unquoted_version_is_text() -> None:
    settings = load(f"{SMALLEST}listen:\n  tls:\n    minimum_version: 1.3\n")
    assert settings.listen.tls.minimum_version == "1.3"


def test_sections_left_empty_are_all_defaults() -> None:
    settings = load(f"{SMALLEST}        replicas:\n    pool:\nlisten:\n  tls:\nlog:\n")
    assert settings == load(SMALLEST)


def test_anchors_aliases_and_merge_keys() -> None:
    text = f"""\
meta:
  primary: {url("meta")}
  pool: &small
    max: 5
    queue_max: 7
industries:
  LAW:
    shards: &shards
      - primary: {url("law")}
    pool:
      queue_max: 9
      <<: *small
  MEDICAL:
    shards:
      - primary: {url("medical")}
    pool:
      <<: [{{max: 3}}, *small]
      min: 1
"""
    settings = load(text)
    law, medical = settings.industries["LAW"].pool, settings.industries["MEDICAL"].pool
    assert (law.max, law.queue_max) == (5, 9)
    assert (medical.min, medical.max, medical.queue_max) == (1, 3, 7)


def test_a_file_by_its_path(tmp_path: Path) -> None:
    path = tmp_path / "gateway.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + SMALLEST.replace("\n", "\r\n").encode())
    assert load_file(path, {}) == load_file(str(path), {}) == load(SMALLEST)
    assert load_any(path, environment()) == load(SMALLEST)


def test_no_file_means_the_environment() -> None:
    assert len(load_any(None, environment()).industries) == 14


def _file_problem(path: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        load_file(path, {})
    [problem] = caught.value.problems
    return problem.removeprefix(str(path))


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    path = tmp_path / "gateway.yaml"
    assert _file_problem(path) == ": can't be read: No such file or directory"
    assert _file_problem(tmp_path) == ": can't be read: Is a directory"
    assert _file_problem(Path("a\0b")).endswith(": can't be read: embedded null byte")
    path.write_bytes(b"listen:\n  h\xc3\xb6st: \xff\n")
    assert _file_problem(path) == ":2:9: is not UTF-8 text"
    path.write_bytes(SMALLEST.encode("utf-16"))
    assert _file_problem(path) == ":1:1: is not UTF-8 text"
    path.write_bytes(b"#" * (FILE_BYTES_MAX + 1))
    assert _file_problem(path) == f": is larger than {FILE_BYTES_MAX} bytes"
    assert _file_problem(Path("/dev/zero")) == f": is larger than {FILE_BYTES_MAX} bytes"


def test_a_problem_begins_with_the_path_that_was_given(tmp_path: Path) -> None:
    path = tmp_path / "gateway.yaml"
    path.write_text(SMALLEST + "lisen: {}\n")
    assert _file_problem(path) == ":7:1: lisen: unknown option (did you mean 'listen'?)"


def test_trap_secrets_are_in_no_repr_dump_or_traceback() -> None:
    text = f"{SMALLEST}operator_role: {{user: app, password: {SECRET}}}\n"
    settings = load(text)
    assert settings.operator_role is not None
    assert settings.operator_role.password.get_secret_value() == SECRET
    assert SECRET not in repr(settings) + str(settings.model_dump()) + settings.model_dump_json()
    try:
        load(text.replace("postgresql://", "mysql://") + "nonsense: 1\n")
    except ConfigError as error:
        assert SECRET not in "".join(traceback.format_exception(error))
    else:
        pytest.fail("a wrong file was taken")
