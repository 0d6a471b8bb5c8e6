"""What ten thousand idle clients do not each have of their own."""

from __future__ import annotations

import pytest

from gateway.session.branching_client import BranchingSession
from gateway.session.client import ClientSession
from gateway.session.reading_client import ReadingSession
from gateway.session.reported import Reported
from gateway.session.scattering_client import ScatteringSession

AT_LOGIN = {b"TimeZone": b"UTC", b"client_encoding": b"UTF8"}


@pytest.mark.parametrize("kind", [ReadingSession, ScatteringSession, BranchingSession])
def test_a_session_has_no_dictionary(kind: type[ClientSession]) -> None:
    assert [base.__name__ for base in kind.__mro__ if "__dict__" in vars(base)] == []


def test_what_was_told_at_login_stays_others_to_read() -> None:
    mine, other = Reported(AT_LOGIN), Reported(AT_LOGIN)
    assert mine.tell(b"TimeZone", b"CET")
    assert mine.tell(b"application_name", b"web")
    assert dict(mine) == {**AT_LOGIN, b"TimeZone": b"CET", b"application_name": b"web"}
    assert len(mine) == 3
    assert dict(other) == AT_LOGIN == {b"TimeZone": b"UTC", b"client_encoding": b"UTF8"}


def test_what_was_told_before_is_no_news() -> None:
    reported = Reported(AT_LOGIN)
    assert not reported.tell(b"TimeZone", b"UTC")
    assert reported.tell(b"TimeZone", b"CET")
    assert not reported.tell(b"TimeZone", b"CET")
    assert reported.tell(b"TimeZone", b"UTC")
    assert reported[b"TimeZone"] == b"UTC"
    assert reported.get(b"DateStyle") is None
