"""Statements prepared by SQL: PREPARE, EXECUTE and DEALLOCATE, from server to server.

They keep the client's own names, so a server holds those of one client at a time; another's are
put in their place in front of the first statement that concerns them.
"""

from __future__ import annotations

from gateway.pool.server import Answer, ServerConnection
from gateway.router.facts import Effect, Facts
from gateway.session.holdings import Holdings

CONCERNED = Effect.SQL_PREPARE | Effect.SQL_EXECUTE | Effect.SQL_DEALLOCATE
_VIEW = "pg_prepared_statements"


def exchange(server: ServerConnection, holdings: Holdings, facts: Facts) -> bytes:
    """What to send before a statement with these facts, so that it finds the client's own.

    Empty when it isn't concerned or they are there already.
    """
    have, want = server.sql_prepared, holdings.sql_prepared
    if have == want or not _is_concerned(facts):
        return b""
    gone = [f"DEALLOCATE {_quoted(name)}" for name in have if want.get(name) != have[name]]
    missing = [text for name, text in want.items() if have.get(name) != text]
    server.sql_prepared = dict(want)

    def on_answer(answer: Answer) -> None:
        if answer.error is not None:
            # Some table has gone, perhaps. Nobody knows how far it went: ask at the end.
            server.sql_prepared = {"": ""}
            holdings.effects |= Effect.SQL_PREPARE

    # One message each: pg_prepared_statements shows the whole text that a PREPARE came in.
    return b"".join(server.prepare_ask(sql, on_answer) for sql in gone + missing)


def _is_concerned(facts: Facts) -> bool:
    if facts.effects & CONCERNED:
        return True
    return any(name == _VIEW for one in facts.statements for _, name in one.reads)


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
