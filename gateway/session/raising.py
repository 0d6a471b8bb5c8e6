"""A command that makes a server fail with an error of the gateway's own.

So the server's transaction fails as it would have for an error of its own, and what the client has
sent behind is skipped by the same rules.
"""

from __future__ import annotations

from gateway.errors import GatewayError
from gateway.session.state import literal


def raise_sql(error: GatewayError) -> str:
    """SQL that raises ``error``, with its SQLSTATE, detail and hint."""
    options = [f"ERRCODE = {literal(error.sqlstate)}", f"MESSAGE = {literal(error.message)}"]
    options += [f"DETAIL = {literal(error.detail)}"] if error.detail else []
    options += [f"HINT = {literal(error.hint)}"] if error.hint else []
    body = f"BEGIN RAISE EXCEPTION USING {', '.join(options)}; END"
    return f"DO LANGUAGE plpgsql {literal(body)}"
