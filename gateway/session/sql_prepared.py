"""Statements prepared by SQL: PREPARE, EXECUTE and DEALLOCATE, from server to server.

They keep the client's own names, so a server holds those of one client at a time: another's are
taken away, and the client's own prepared again, in front of the first statement that needs them.
"""

from __future__ import annotations

from collections.abc import Collection

from gateway.pool.server import Answer, ServerConnection
from gateway.protocol import messages
from gateway.router.facts import Effect, Facts
from gateway.session.holdings import Holdings

_CONCERNED = Effect.SQL_PREPARE | Effect.SQL_EXECUTE | Effect.SQL_DEALLOCATE
_MAY_CHANGE_THEIR_MEANING = Effect.SETTING | Effect.ROLE | Effect.UNKNOWN
_VIEW = "pg_prepared_statements"
_TRANSACTION_FAILED = "25P02"


def exchange(server: ServerConnection, holdings: Holdings, facts: Facts) -> bytes:
    """What to send before a statement with these facts, so that it finds the client's own.

    Empty when it isn't concerned or they are there already.
    """
    have, want = server.sql_prepared, holdings.sql_prepared
    if have == want:
        return b""
    needed = _needed(facts, want)
    if needed is None:
        return b""
    # One message each: pg_prepared_statements shows the whole text that a PREPARE came in.
    gone = [name for name, text in have.items() if want.get(name) != text]
    sent = [_deallocate(server, name) for name in gone]
    sent += [_prepare(server, name, want[name]) for name in want if name in needed - have.keys()]
    return b"".join(sent)


def _needed(facts: Facts, own: Collection[str]) -> set[str] | None:
    """Of the client's own statements those that must be there; None when no other's may stay."""
    if facts.effects & _CONCERNED:
        named = (name for one in facts.statements for name in (one.name, one.executes))
        return {name for name in named if name is not None and name in own}
    if any(name == _VIEW for one in facts.statements for _, name in one.reads):
        return set(own)
    if own and facts.effects & _MAY_CHANGE_THEIR_MEANING:
        return set(own)  # with their old meaning, so that the client can keep them here
    return None


def _prepare(server: ServerConnection, name: str, text: str) -> bytes:
    server.sql_prepared[name] = text

    def undo() -> None:
        server.sql_prepared.pop(name, None)

    def on_answer(answer: Answer) -> None:
        if answer.error is not None:
            undo()
            server.replies.blame(messages.message(b"E", answer.error_body))

    if server.replies.sync_due:
        return server.prepare_step(text, undo)
    return server.prepare_ask(text, on_answer)


def _deallocate(server: ServerConnection, name: str) -> bytes:
    sql, text = f"DEALLOCATE {_quoted(name)}", server.sql_prepared.pop(name)

    def undo() -> None:
        server.sql_prepared[name] = text

    def on_answer(answer: Answer) -> None:
        if answer.error is not None and answer.error.get("C") == _TRANSACTION_FAILED:
            undo()

    if server.replies.sync_due:
        return server.prepare_step(sql, undo)
    return server.prepare_ask(sql, on_answer)


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
