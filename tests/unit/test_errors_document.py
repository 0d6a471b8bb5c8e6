"""docs/errors.md names every error that a client can get from the gateway, with its SQLSTATE."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.errors import GatewayError

DOCUMENT = (Path(__file__).parents[2] / "docs" / "errors.md").read_text()
RAISED_INSIDE = {"ServerRefused", "ServerSaid", "LoginRefused", "NoPacket"}
"""Carriers of another error's SQLSTATE, or told to the log alone."""


def _kinds(kind: type[GatewayError]) -> list[type[GatewayError]]:
    return [one for sub in kind.__subclasses__() for one in (sub, *_kinds(sub))]


def _clients_errors() -> list[type[GatewayError]]:
    return [
        kind
        for kind in _kinds(GatewayError)
        if kind.__name__ not in RAISED_INSIDE
        and kind.__module__.startswith("gateway.")
        and not kind.__module__.startswith(("gateway.admin", "gateway.demo", "gateway.migrate"))
        and kind.__module__ != "gateway.directory.owners"
        and not kind.__name__.startswith("_")
    ]


@pytest.mark.parametrize("kind", _clients_errors(), ids=lambda kind: kind.__name__)
def test_every_error_is_documented_with_its_sqlstate(kind: type[GatewayError]) -> None:
    rows = [line for line in DOCUMENT.splitlines() if f"`{kind.__name__}`" in line]
    assert any(line.startswith(f"| {kind.sqlstate} |") for line in rows)


def test_the_modules_with_errors_of_their_own_are_looked_at() -> None:
    names = {kind.__name__ for kind in _clients_errors()}
    assert {"OutOfDescriptors", "NotificationsOverflow", "TooManyStatements"} <= names
