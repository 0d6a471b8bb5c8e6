"""Statements prepared by SQL: PREPARE, EXECUTE and DEALLOCATE, from server to server.

They keep the client's own names, so a server holds those of one client at a time: another's are
taken away, and the client's own prepared again, in front of the first statement that needs them.
Where tables have changed since, the server is asked before all else what they return now
(`look_again`): if it is something else, an EXECUTE fails as it would have where they were prepared.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

from gateway.pool.prepared import BySql, Described
from gateway.pool.server import Answer, ServerConnection
from gateway.protocol import messages, replies
from gateway.protocol.replies import Expected
from gateway.router.facts import Effect, Facts
from gateway.session.described import COLUMNS, STALE_ERROR, columns
from gateway.session.holdings import Holdings
from gateway.session.state import Pin

_CONCERNED = Effect.SQL_PREPARE | Effect.SQL_EXECUTE | Effect.SQL_DEALLOCATE
_MAY_CHANGE_THEIR_MEANING = Effect.SETTING | Effect.ROLE | Effect.UNKNOWN
_VIEW = "pg_prepared_statements"
_TRANSACTION_FAILED = "25P02"
_FAILED = ord("E")


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
    gone = [name for name, made in have.items() if want.get(name) != made]
    sent = [_deallocate(server, name) for name in gone]
    executed = {one.executes for one in facts.statements}
    for name in [name for name in want if name in needed and name not in have]:
        if not _is_stale(server, holdings, name):
            sent.append(_prepare(server, name, want[name].text))
            want[name] = have.get(name, want[name])
        elif name in executed:
            _refuse(server)
    sent += [_take_name(server, name) for name in _only_named(facts, want) if name not in have]
    return b"".join(sent)


def close(server: ServerConnection, holdings: Holdings, name: str) -> bool:
    """Book a client's Close of a statement that SQL may have prepared; whether it is to be sent.

    Not to a server that has another client's by that name.
    """
    have, want = server.sql_prepared, holdings.sql_prepared
    there, own = have.get(name), want.pop(name, None)
    mine = there is None or there == own

    def restore() -> None:
        if own is not None:
            want[name] = own
        if mine and there is not None:
            have[name] = there

    if Pin.SQL_PREPARED in holdings.pins:
        holdings.effects |= Effect.SQL_PREPARE  # it may be the last one: the server is asked
    if mine:
        have.pop(name, None)
        server.replies.expect(Expected(replies.CLOSE, restore))
    else:
        reply = messages.CLOSE_COMPLETE
        server.replies.expect(Expected(replies.SYNTHETIC, restore, reply=reply))
    return mine


# --- what they return ---


def look(server: ServerConnection, holdings: Holdings) -> bytes:
    """What to send, booked, to learn what those return that were just prepared there."""
    schema, now = server.schema, server.schema.changes
    sent = b""
    for name in holdings.sql_prepared:
        if name not in server.sql_prepared or (name, schema) in holdings.sql_described:
            continue

        def keep(found: int, name: str = name) -> None:
            holdings.sql_described[name, schema] = Described(found, now)

        sent += _describe(server, name, keep)
    return sent


def look_again(server: ServerConnection, holdings: Holdings) -> bytes:
    """What to send before all else, booked, where tables have changed since they were prepared."""
    schema, now = server.schema, server.schema.changes
    sent = b""
    for name, made in holdings.sql_prepared.items():
        known = holdings.sql_described.get((name, schema))
        if known is None or known.checked_at == now or server.sql_prepared.get(name) == made:
            continue
        known.changed, known.checked_at = False, now

        def compare(found: int, name: str = name, known: Described = known) -> None:
            known.changed = found != known.columns
            if not known.changed and name in server.sql_prepared:
                holdings.sql_prepared[name] = server.sql_prepared[name]

        if name in server.sql_prepared:
            sent += _deallocate(server, name)
        sent += _prepare(server, name, made.text) + _describe(server, name, compare)
    return sent


def _describe(server: ServerConnection, name: str, on_columns: Callable[[int], None]) -> bytes:
    """Ask, unheard, what a statement returns; ``on_columns`` is not told when that fails."""

    def on_message(tag: int, body: bytes) -> None:
        if tag in COLUMNS:
            on_columns(columns(tag, body))

    described = Expected(replies.DESCRIBE, silent=True, unheard=True, on_message=on_message)
    server.replies.expect(described)
    server.replies.expect(Expected(replies.SYNC, silent=True))
    server.prepared.sync_sent()
    return messages.message(b"D", b"S" + messages.cstring(name)) + messages.SYNC


def _is_stale(server: ServerConnection, holdings: Holdings, name: str) -> bool:
    """Whether a server that had it from before its tables changed would refuse to execute it."""
    known = holdings.sql_described.get((name, server.schema))
    return known is not None and known.changed and known.checked_at == server.schema.changes


def _refuse(server: ServerConnection) -> None:
    """What comes next will not find its statement: it is told why."""
    if server.status != _FAILED:
        refuse = _blaming(server, STALE_ERROR)
        server.replies.expect(Expected(replies.SYNTHETIC, on_turn=refuse))


# --- from server to server ---


def _needed(facts: Facts, own: Collection[str]) -> set[str] | None:
    """Of the client's own statements those that must be there; None when no other's may stay."""
    if facts.effects & _CONCERNED:
        executed = (one.executes for one in facts.statements)
        return {name for name in executed if name is not None and name in own}
    if any(name == _VIEW for one in facts.statements for _, name in one.reads):
        return set(own)
    if own and facts.effects & _MAY_CHANGE_THEIR_MEANING:
        return set(own)  # with their old meaning, so that the client can keep them here
    return None


def _only_named(facts: Facts, own: Collection[str]) -> list[str]:
    """Of the client's own statements those that are deallocated, or prepared a second time."""
    if not facts.effects & _CONCERNED:
        return []
    executed = {one.executes for one in facts.statements}
    named = {one.name for one in facts.statements} - executed
    return [name for name in own if name in named]


def _take_name(server: ServerConnection, name: str) -> bytes:
    """Have a name taken, whether or not the tables of what has it are still there."""
    return _prepare(server, name, f"PREPARE {_quoted(name)} AS SELECT")


def _prepare(server: ServerConnection, name: str, text: str) -> bytes:
    server.sql_prepared[name] = BySql(text, server.schema.changes)

    def undo() -> None:
        server.sql_prepared.pop(name, None)

    def on_answer(answer: Answer) -> None:
        if answer.error is not None:
            undo()
            server.replies.blame(messages.message(b"E", answer.error_body))

    if server.replies.sync_due:
        return server.prepare_step(text, undo)
    return server.prepare_ask(text, on_answer)


def _blaming(server: ServerConnection, error: bytes) -> Callable[[], None]:
    def blame() -> None:
        server.replies.blame(error)

    return blame


def _deallocate(server: ServerConnection, name: str) -> bytes:
    sql, made = f"DEALLOCATE {_quoted(name)}", server.sql_prepared.pop(name)

    def undo() -> None:
        server.sql_prepared[name] = made

    def on_answer(answer: Answer) -> None:
        if answer.error is not None and answer.error.get("C") == _TRANSACTION_FAILED:
            undo()

    if server.replies.sync_due:
        return server.prepare_step(sql, undo)
    return server.prepare_ask(sql, on_answer)


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
