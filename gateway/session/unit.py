"""What a client's messages ask for: the statements in them, with the values bound to them.

Reads whole messages at the front of the input and changes nothing. No I/O.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from gateway.pool.prepared import Statement
from gateway.protocol.framing import HEADER_BYTES, message_size
from gateway.protocol.messages import read_cstring
from gateway.protocol.octets import cut, string_end
from gateway.router.facts import UNKNOWN_FACTS, FactsCache
from gateway.router.sqlparse import TEXT_BYTES_MAX
from gateway.router.statement import Effect, Facts, Verb
from gateway.router.values import Parameters
from gateway.session.outbound import reads_backslashes

_SETS = Effect.SETTING | Effect.SETTING_LOCAL

SERIALIZABLE = "serializable"
"""The isolation level that a standby does not have."""
_BIND = ord("B")
_ASKS = b"QFPB"
_NO_EFFECTS: Final = Effect.NONE
_ENDS = b"QFSH"
_ENDS_READY = b"QFS"
"""A ReadyForQuery is the answer."""


class Ask:
    """One text that is run, or only parsed (``pending``) and run later."""

    __slots__ = ("facts", "pending", "text", "values")

    def __init__(
        self, facts: Facts, text: bytes, values: Parameters | None = None, pending: bool = False
    ) -> None:
        self.facts = facts
        self.text = text
        self.values = values
        self.pending = pending


class Unit:
    """Messages up to one that makes the server answer."""

    __slots__ = ("asks", "end", "ends_ready", "size")

    def __init__(self) -> None:
        self.asks: list[Ask] = []
        self.size = 0
        """Bytes of its messages; all that there is of it when it has no end yet."""
        self.end = 0
        """The tag of its last message; 0 when that isn't here."""
        self.ends_ready = False
        """Whether a ReadyForQuery will follow."""


class Reader:
    """Reads one client's messages; ``statement`` tells what it has prepared under a name."""

    __slots__ = ("_facts", "_parameters", "_parsed", "_statement")

    def __init__(
        self,
        facts: FactsCache,
        parameters: Mapping[bytes, bytes],
        statement: Callable[[bytes], Statement | None],
    ) -> None:
        self._facts = facts
        self._parameters = parameters
        self._statement = statement
        self._parsed: dict[bytes, tuple[Facts, bytes]] = {}
        """By name, what was parsed in the messages read now: facts, and Parse's body."""

    def unit(self, data: bytes) -> Unit:
        """The unit at the front. Raises ProtocolViolation."""
        self._parsed = {}
        unit = Unit()
        pos, end = 0, len(data)
        while end - pos >= HEADER_BYTES:
            tag, size = data[pos], message_size(data, pos)
            complete = pos + size <= end
            if tag in _ASKS:
                ask = self.ask(tag, cut(data, pos, min(pos + size, end)), complete)
                if ask is not None:
                    unit.asks.append(ask)
            pos += size
            if not complete:
                break
            if tag in _ENDS:
                unit.end = tag
                unit.ends_ready = tag in _ENDS_READY
                break
        unit.size = min(pos, end)
        return unit

    def begin(self) -> None:
        """What was read before has been sent on, and is known to ``statement``."""
        if self._parsed:
            self._parsed = {}

    def prepared(self, name: bytes) -> Facts | None:
        """What the client has parsed under a name, be it in the messages read now."""
        parsed = self._parsed.get(name)
        if parsed is not None:
            return parsed[0]
        statement = self._statement(name)
        return None if statement is None else statement.facts

    def ask(self, tag: int, message: bytes, complete: bool) -> Ask | None:
        """What one message asks, None for those that run nothing themselves."""
        if tag == _BIND:
            return self._bind(message, complete)
        reader = _READERS.get(tag)
        return reader(self, message, complete) if reader is not None else None

    def _query(self, message: bytes, complete: bool) -> Ask:
        text = message[HEADER_BYTES:-1]
        facts = self._facts_of(text) if complete else UNKNOWN_FACTS
        return Ask(facts, text)

    def _call(self, message: bytes, complete: bool) -> Ask:
        return Ask(UNKNOWN_FACTS, b"")

    def _parse(self, message: bytes, complete: bool) -> Ask:
        if not complete:
            return Ask(UNKNOWN_FACTS, message[HEADER_BYTES:], pending=True)
        name, at = read_cstring(message, HEADER_BYTES)
        body = message[at:]
        text = body[: body.index(b"\0")] if b"\0" in body else body
        facts = self._facts_of(text)
        self._parsed[name] = (facts, body)
        return Ask(facts, text, pending=True)

    def _bind(self, message: bytes, complete: bool) -> Ask | None:
        portal_end = string_end(message, HEADER_BYTES)
        name_end = string_end(message, portal_end + 1) if portal_end >= 0 else -1
        if name_end < 0:
            return None if complete else Ask(UNKNOWN_FACTS, b"")
        name = cut(message, portal_end + 1, name_end)
        parsed = self._parsed.get(name)
        if parsed is not None:
            return read_bind(message, name_end + 1, parsed[0], parsed[1], complete)
        statement = self._statement(name)
        if statement is None:
            return Ask(UNKNOWN_FACTS, b"")
        return read_bind(message, name_end + 1, statement.facts, statement.body, complete)

    def _facts_of(self, text: bytes) -> Facts:
        if len(text) > TEXT_BYTES_MAX or (b"\\" in text and reads_backslashes(self._parameters)):
            return UNKNOWN_FACTS
        return self._facts.facts(text)


def read_bind(message: bytes, at: int, facts: Facts, body: bytes, complete: bool) -> Ask:
    """A Bind, with its values from ``at`` on, of the statement with this Parse body."""
    text = cut(body, 0, max(0, string_end(body, 0)))
    if not facts.keyed and (facts.effects is _NO_EFFECTS or not facts.effects & _SETS):
        return Ask(facts, text)
    return Ask(facts, text, Parameters(message, at, body, complete))


_READERS: dict[int, Callable[[Reader, bytes, bool], Ask | None]] = {
    ord("Q"): Reader._query,
    ord("F"): Reader._call,
    ord("P"): Reader._parse,
}
"""But for Bind, which is most of what comes."""


def reads_only(unit: Unit) -> bool:
    """Whether it is one provable read, or the beginning of a transaction of reads."""
    run = [ask.facts for ask in unit.asks if not ask.pending]
    if not run:
        return False
    return all(facts.known and facts.read_only for facts in run) or (
        len(run) == 1 and begins_reads(run[0])
    )


def begins_reads(facts: Facts) -> bool:
    """Whether it is a BEGIN READ ONLY that a standby knows too."""
    if not facts.single or facts.first is not Verb.BEGIN:
        return False
    options = facts.statements[0].transaction
    return options is not None and bool(options.read_only) and options.isolation != SERIALIZABLE
