"""Who is on the console, as the views show it."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.router.identity import Login


@dataclass(slots=True, eq=False)
class Operator:
    """One console connection: its number and cancel key, and where it came from.

    ``connected_at`` is on the worker's clock; ``commands`` counts what it has run.
    """

    number: int
    secret: bytes
    login: Login
    peer: str
    application: str
    connected_at: float
    commands: int = 0
