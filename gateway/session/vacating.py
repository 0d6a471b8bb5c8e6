"""A database that somebody wants for himself, to drop, rename or copy it: we leave it first.

Whether he may is the server's to say, and is asked in front of his statement. That waits a few
seconds for those who are connected, so that ours have gone in time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from gateway.pool.server import IDLE, Answer, ServerConnection
from gateway.router.facts import Facts
from gateway.session.state import literal
from gateway.settings.dsn import Dsn

_MAY = """SELECT true FROM pg_catalog.pg_database AS d, pg_catalog.pg_roles AS r
WHERE d.datname OPERATOR(pg_catalog.=) {name}::pg_catalog.name
AND d.datname OPERATOR(pg_catalog.<>) pg_catalog.current_database()
AND r.rolname OPERATOR(pg_catalog.=) current_user
AND (pg_catalog.pg_has_role(d.datdba, 'USAGE') OR (d.datistemplate AND r.rolcreatedb))"""
"""By PostgreSQL's own rules for DROP, RENAME and CREATE DATABASE; the database that one is
connected to can't be meant."""


def asked_to_leave(
    server: ServerConnection, facts: Facts, here: Dsn, leave: Callable[[str], None]
) -> bytes:
    """What to send in front of a statement, booked; ``leave`` is told the database's place.

    ``here`` is where the statement runs. Nothing inside a transaction or a batch, where it fails.
    """
    if server.status != IDLE or server.replies.sync_due or not facts.single:
        return b""
    name = facts.statements[0].name
    if name is None:
        return b""
    place = replace(here, database=name).place

    def on_answer(answer: Answer) -> None:
        if answer.rows:
            leave(place)

    return server.prepare_ask(_MAY.format(name=literal(name)), on_answer)
