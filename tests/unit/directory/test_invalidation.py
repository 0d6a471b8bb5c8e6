"""Payloads of invalidations, and the pauses between attempts to listen."""

from __future__ import annotations

import pytest

from gateway.directory.invalidation import Kind, parse_payload
from gateway.net.backoff import JITTER, Backoff


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        ("login:ann", (Kind.LOGIN, "ann")),
        ("login:a:b", (Kind.LOGIN, "a:b")),
        ("owner:7", (Kind.OWNER, "7")),
        ("all", (Kind.ALL, "")),
    ],
)
def test_payloads(payload: str, expected: tuple[Kind, str]) -> None:
    assert parse_payload(payload) == expected


@pytest.mark.parametrize("payload", ["", "login", "login:", "owner:", "all:x", "Login:ann", "x:y"])
def test_what_is_not_understood_means_all(payload: str, caplog: pytest.LogCaptureFixture) -> None:
    assert parse_payload(payload) == (Kind.ALL, "")
    assert "not understood" in caplog.text


def test_pauses_double_up_to_a_bound_and_are_jittered() -> None:
    backoff = Backoff(0.1, 1.0)
    for expected in (0.1, 0.2, 0.4, 0.8, 1.0, 1.0):
        assert expected * (1 - JITTER) <= backoff.next_s() <= expected * (1 + JITTER)
    backoff.reset()
    assert backoff.next_s() <= 0.1 * (1 + JITTER)
    assert len({Backoff(0.1, 1.0).next_s() for _ in range(20)}) > 1
