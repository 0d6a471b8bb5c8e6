"""How many workers: a number, or auto, in the file and in the environment."""

from __future__ import annotations

import pytest

from gateway.errors import ConfigError
from gateway.settings.load import load_environment, load_text
from gateway.settings.model import AUTO
from tests.unit.settings.samples import environment

FILE = "meta: {primary: 'postgresql://a@b/c'}\nindustries: {LAW: {shards: [{primary: 'postgresql://a@b/d'}]}}\n"


@pytest.mark.parametrize(("text", "count"), [("1", 1), ("4", 4), ("auto", AUTO), ("0", AUTO)])
def test_a_number_or_auto(text: str, count: int) -> None:
    assert load_text(f"workers: {text}\n{FILE}", "f.yaml", {}).workers == count
    assert load_environment({**environment(), "GATEWAY_WORKERS": text}).workers == count


def test_one_process_unless_asked_for() -> None:
    assert load_text(FILE, "f.yaml", {}).workers == 1


@pytest.mark.parametrize(
    ("text", "why"),
    [("many", "whole number"), ("1.5", "whole number"), ("64", "at most 63"), ("-1", "at least 0")],
)
def test_mistakes_are_told(text: str, why: str) -> None:
    with pytest.raises(ConfigError, match=rf"f.yaml:1:10: workers: .*{why}"):
        load_text(f"workers: {text}\n{FILE}", "f.yaml", {})
