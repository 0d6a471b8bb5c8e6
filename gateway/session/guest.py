"""A client as its login, or the process it comes from, hands it over to its session."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from gateway.router.identity import Login
from gateway.router.route import Asked
from gateway.session.state import Settings


@dataclass(frozen=True, slots=True)
class Guest:
    """Who has come in, and what was agreed with it.

    ``number`` and ``secret`` are its BackendKeyData; ``parameters`` are what it was told of the
    server's settings so far, and may be many clients'.
    """

    login: Login
    asked: Asked
    number: int
    secret: bytes
    startup_settings: Settings
    parameters: Mapping[bytes, bytes]
    peer: str
    application: str
