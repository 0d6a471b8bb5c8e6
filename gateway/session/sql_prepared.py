"""Statements prepared by SQL: PREPARE, EXECUTE and DEALLOCATE, from server to server.

They keep the client's own names, so a server holds those of one client at a time: another's are
taken away, and the client's own prepared again, in front of the first statement that needs them.
Where tables have changed since, the server is asked before all else what they return now
(`look_again`): if it is something else, an EXECUTE fails as it would have where they were prepared.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import partial

from gateway.pool.prepared import BySql, Described
from gateway.pool.server import Answer, ServerConnection
from gateway.protocol import messages, replies
from gateway.protocol.replies import Expected
from gateway.router.facts import Effect, Facts
from gateway.session.described import reading, refusal
from gateway.session.holdings import Holdings
from gateway.session.state import Pin

_CONCERNED = Effect.SQL_PREPARE | Effect.SQL_EXECUTE | Effect.SQL_DEALLOCATE
_MAY_CHANGE_THEIR_MEANING = Effect.SETTING | Effect.ROLE | Effect.UNKNOWN
_VIEW = "pg_prepared_statements"
_TRANSACTION_FAILED = "25P02"
_IN_TRANSACTION, _FAILED = b"TE"
_ASIDE = "__gateway_aside"


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
    executed = _executed(facts, want)
    missing = [name for name in want if name in needed and name not in have]
    sent += [_put(server, holdings, name, executed=name in executed) for name in missing]
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
    sent = b""
    for name in holdings.sql_prepared:
        key = name, server.schema
        if name in server.sql_prepared and key not in holdings.sql_described:
            sent += _describe(server, name, partial(holdings.sql_described.__setitem__, key))
    return sent


def outdated(server: ServerConnection, holdings: Holdings, facts: Facts | None = None) -> list[str]:
    """Which of those that a statement needs, or of all, may return something else than they did.

    Behind other messages of a batch, where nothing can be tried, those that are executed.
    """
    own = holdings.sql_prepared
    names: Collection[str] | None = own
    if facts is not None:
        names = _executed(facts, own) if server.replies.sync_due else _needed(facts, own)
    schema, known = server.schema, holdings.sql_described
    return [
        name
        for name in names or ()
        if (name, schema) in known
        and known[name, schema].checked_at != schema.changes
        and server.sql_prepared.get(name) != own[name]
    ]


def look_again(server: ServerConnection, holdings: Holdings, names: Collection[str]) -> bytes:
    """What to send, booked, to learn whether those return what they did."""
    return b"".join(_aside(server, partial(_prepare_anew, server, holdings, n)) for n in names)


def _prepare_anew(server: ServerConnection, holdings: Holdings, name: str) -> bytes:
    known = holdings.sql_described[name, server.schema]
    known.refusal, known.checked_at = b"", server.schema.changes
    sent = _deallocate(server, name) if name in server.sql_prepared else b""
    sent += _prepare(server, name, holdings.sql_prepared[name].text, known)
    return sent + _describe(server, name, partial(_compare, server, holdings, name, known))


def _compare(
    server: ServerConnection, holdings: Holdings, name: str, known: Described, found: Described
) -> None:
    """A statement was prepared once more: it is the client's own if it returns the same."""
    known.refusal = refusal(known, found)
    if not known.refusal and name in server.sql_prepared:
        holdings.sql_prepared[name] = server.sql_prepared[name]


def _describe(server: ServerConnection, name: str, on_found: Callable[[Described], None]) -> bytes:
    """Ask, unheard, what a statement returns; ``on_found`` is not told when that fails."""
    in_batch, ask = server.replies.sync_due, messages.message(b"D", b"S" + messages.cstring(name))
    on_message = reading(server.schema.changes, on_found)
    described = Expected(replies.DESCRIBE, silent=True, unheard=True, on_message=on_message)
    server.replies.expect(described)
    if in_batch:
        return ask
    server.replies.expect(Expected(replies.SYNC, silent=True))
    server.prepared.sync_sent()
    return ask + messages.SYNC


def _refuse(server: ServerConnection, known: Described) -> bytes:
    """What comes next will not find its statement: it is told why. Nothing is to be sent."""

    def refuse() -> None:
        if server.status != _FAILED:
            server.replies.blame(known.refusal, known.parameters)

    server.replies.expect(Expected(replies.SYNTHETIC, on_turn=refuse))
    return b""


# --- from server to server ---


def _needed(facts: Facts, own: Collection[str]) -> Collection[str] | None:
    """Of the client's own statements those that must be there; None when no other's may stay."""
    if facts.effects & _CONCERNED:
        return _executed(facts, own)
    if any(name == _VIEW for one in facts.statements for _, name in one.reads):
        return own
    if own and facts.effects & _MAY_CHANGE_THEIR_MEANING:
        return own  # with their old meaning, so that the client can keep them here
    return None


def _executed(facts: Facts, own: Collection[str]) -> set[str]:
    executed = (one.executes for one in facts.statements)
    return {name for name in executed if name is not None and name in own}


def _put(server: ServerConnection, holdings: Holdings, name: str, *, executed: bool) -> bytes:
    """What to send so that a statement of the client's own is there, or refused for what it was."""
    made, known = holdings.sql_prepared[name], holdings.sql_described.get((name, server.schema))
    if known is not None and _is_refused(server, known):
        return _refuse(server, known) if executed else b""
    if executed:
        sent = _prepare(server, name, made.text, known)
    elif server.replies.sync_due and made.changes != server.schema.changes:
        return b""  # it may fail, which would be the batch's failure
    else:
        sent = _aside(server, partial(_prepare, server, name, made.text))
    holdings.sql_prepared[name] = server.sql_prepared.get(name, made)
    return sent


def _is_refused(server: ServerConnection, known: Described) -> bool:
    """Whether it fails for what it is, and not because the transaction has failed."""
    refused = known.refusal and known.checked_at == server.schema.changes
    return bool(refused) and server.status != _FAILED


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


def _prepare(
    server: ServerConnection, name: str, text: str, known: Described | None = None
) -> bytes:
    """Where it fails, a client that executes it is told why, now or later."""
    server.sql_prepared[name] = BySql(text, server.schema.changes)

    def undo() -> None:
        server.sql_prepared.pop(name, None)

    def on_answer(answer: Answer) -> None:
        if answer.error is None:
            return
        undo()
        error, described = messages.message(b"E", answer.error_body), b""
        if known is not None and answer.error.get("C") != _TRANSACTION_FAILED:
            known.refusal, described = error, known.parameters
        server.replies.blame(error, described)

    if server.replies.sync_due:
        return server.prepare_step(text, undo)
    return server.prepare_ask(text, on_answer)


def _aside(server: ServerConnection, send: Callable[[], bytes]) -> bytes:
    """What ``send`` says is to be sent, so that its failure is not the transaction's."""
    if server.status != _IN_TRANSACTION or server.replies.sync_due:
        return send()
    before = server.prepare_ask(f"SAVEPOINT {_ASIDE}", _ignore)
    aside = send()
    back = f"ROLLBACK TO {_ASIDE}; RELEASE {_ASIDE}"  # which does not take a PREPARE back
    return before + aside + server.prepare_ask(back, _ignore)


def _ignore(answer: Answer) -> None:
    """Nothing depends on it."""


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
