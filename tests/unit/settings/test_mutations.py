"""However a file is damaged: Settings or a ConfigError, and never a password in it."""

from __future__ import annotations

import random
from collections.abc import Mapping

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.errors import ConfigError
from gateway.settings.load import load_text
from gateway.settings.model import Settings
from tests.unit.settings.samples import SECRET, url

VALID = f"""\
listen:
  host: 127.0.0.1
  port: ${{PORT}}
  tls: &tls
    mode: allow
    minimum_version: "1.2"
http: {{host: localhost, port: null}}
log: {{level: info, format: json}}
auth:
  api_keys: ${{KEYS:-true}}
directory: {{ttl_s: 30, login_query: 'SELECT 1'}}
pool: {{mode: transaction, min: 1, max: 10, queue_timeout_ms: 100}}
operator_role:
  user: operator
  password: {SECRET}
meta:
  primary: {url("meta")}
  replicas: ['{url("meta", "r")}']
  pool: &small {{max: 5}}
industries:
  LAW:
    shards:
      - primary: ${{LAW_URL}}
        slots: 0-511
      - {{primary: "{url("law_2")}", slots: 512-1023, name: second}}
    pool: *small
  MEDICAL:
    shards:
      - primary: {url("medical")}
    pool:
      <<: *small
      min: 0
"""
ENVIRON = {"PORT": "6432", "LAW_URL": url("law_1")}

SCALARS = [
    *(
        "",
        "~",
        "null",
        "true",
        "-1",
        "0",
        "1.5",
        "1e400",
        "9" * 40,
        "x",
        "allow",
        "''",
        '"\\ud800"',
    ),
    *(
        "[]",
        "{}",
        "[1, 2]",
        "{a: b}",
        "*small",
        "*tls",
        "*none",
        "&tls y",
        "!!int 5",
        "!x y",
        "|",
        ">",
    ),
    *(
        "${PORT}",
        "${NONE}",
        "${NONE:-7}",
        "$${X}",
        "${",
        "'${LAW_URL}'",
        "@",
        "`",
        "%",
        "\t",
        "\x07",
    ),
    *("0-1023", "postgresql://db/x", "postgresql://a@b:c/d", "2024-01-01", "0x10", "# y"),
]
KEYS = [
    "listen",
    "prot",
    "port",
    "pool",
    "<<",
    "LAW",
    "primary",
    "''",
    "1",
    "?",
    "- a",
    "[a]",
    "*x",
]


def _split(line: str) -> tuple[str, str, str]:
    """Indent with dash, name, and value of a line; the name is empty when there is none."""
    bare = line.lstrip(" -")
    name, colon, value = bare.partition(":")
    indent = line[: len(line) - len(bare)]
    return (indent, name, value) if colon else (indent, "", bare)


def _mutated(lines: list[str], choose: random.Random) -> list[str]:
    """One change: a line dropped, doubled, moved, indented, renamed, or given another value."""
    lines = list(lines)
    at = choose.randrange(len(lines))
    indent, name, value = _split(lines[at])
    match choose.randrange(8):
        case 0:
            del lines[at]
        case 1:
            lines.insert(choose.randrange(len(lines)), lines[at])
        case 2:
            lines[at] = " " * choose.randrange(6) + lines[at].lstrip()
        case 3:
            lines[at] = f"{indent}{choose.choice(KEYS)}:{value}"
        case 4:
            other = _split(choose.choice(lines))[1]
            lines[at] = f"{indent}{other}:{value}"
        case 5 | 6:
            lines[at] = f"{indent}{name}: {choose.choice(SCALARS)}"
        case 7:
            start = choose.randrange(len(lines[at]) + 1)
            lines[at] = lines[at][:start] + choose.choice("{}[],'\"\t|>") + lines[at][start:]
    return lines or [""]


def _outcome(text: str) -> str:
    """What loading says, in every form that could reach a person."""
    try:
        loaded = load_text(text, "f", ENVIRON)
    except ConfigError as error:
        assert error.problems
        assert all(problem.startswith("f:") or "more" in problem for problem in error.problems)
        return "\n".join(error.problems)
    assert isinstance(loaded, Settings)
    if any(SECRET in text for text in _plain_texts(loaded.model_dump())):
        return ""  # the damage made it a part of an option that is no secret
    return repr(loaded) + str(loaded.model_dump())


def _plain_texts(value: object) -> list[str]:
    """Every text of a dump that is not a secret."""
    if isinstance(value, Mapping):
        return [text for pair in value.items() for part in pair for text in _plain_texts(part)]
    if isinstance(value, list | tuple):
        return [text for part in value for text in _plain_texts(part)]
    return [value] if isinstance(value, str) else []


def test_the_undamaged_file_loads() -> None:
    assert load_text(VALID, "f", ENVIRON).listen.port == 6432


@settings(max_examples=400, deadline=None)
@given(seed=st.integers(0, 2**32), times=st.integers(1, 4))
def test_damaged_lines(seed: int, times: int) -> None:
    choose = random.Random(seed)
    lines = VALID.splitlines()
    for _ in range(times):
        lines = _mutated(lines, choose)
    assert SECRET not in _outcome("\n".join(lines))


@settings(max_examples=100, deadline=None)
@given(at=st.integers(0, len(VALID)), text=st.text(max_size=3), cut=st.integers(0, 3))
def test_damaged_letters(at: int, text: str, cut: int) -> None:
    assert SECRET not in _outcome(VALID[:at] + text + VALID[at + cut :])


@settings(max_examples=100, deadline=None)
@given(st.text(st.sampled_from("abc:-{}[],&*!|>'\"%@`#? \n\t${}0"), max_size=60))
def test_any_text(text: str) -> None:
    _outcome(text)
