"""By which statement a client came to keep its server, as the holdings of its session tell."""

from __future__ import annotations

from gateway.router.facts import FactsCache
from gateway.session.holdings import Holdings
from gateway.session.pinned import Pinned
from gateway.session.state import Found, Pin

FACTS = FactsCache(100, 1 << 20)


def told(pin: Pin, *texts: str, found: Found, later: Pin | None = None) -> str:
    """What is told of ``pin`` when these texts were a transaction and ``found`` is left of it."""
    pinned = Pinned({})
    holdings = Holdings((), FACTS, lambda: 1.0, pinned, reads_sequences=False)
    for text in texts:
        holdings.note(FACTS.facts(text.encode()), text.encode())
    holdings.take(found, {}, 0)
    if later is not None:
        holdings.pin(later)
    (reason,) = pinned.reasons()
    assert reason.pin is pin
    assert reason.oldest is not None
    return reason.oldest.statement


def left(*pins: Pin, channels: frozenset[bytes] = frozenset()) -> Found:
    return Found(settings=(), pins=frozenset(pins), channels=channels)


def test_the_first_that_may_have_done_it() -> None:
    texts = ("SELECT unknown(7)", "SELECT pg_advisory_lock(7)", "SELECT pg_advisory_lock(8, 9)")
    said = told(Pin.ADVISORY_LOCK, *texts, found=left(Pin.ADVISORY_LOCK))
    assert said == "SELECT pg_advisory_lock(?)"


def test_one_that_can_do_anything_where_nothing_else_did_it() -> None:
    texts = ("SET work_mem = '5MB'", "SELECT unknown(7)")
    assert told(Pin.TEMPORARY, *texts, found=left(Pin.TEMPORARY)) == "SELECT unknown(?)"


def test_a_listen_that_pins_when_it_could_not_be_placed() -> None:
    found = left(channels=frozenset([b"a"]))
    assert told(Pin.LISTEN, "LISTEN a", found=found, later=Pin.LISTEN) == "LISTEN a"


def test_what_was_said_before_does_not_count() -> None:
    holdings = Holdings((), FACTS, lambda: 1.0, Pinned({}), reads_sequences=False)
    holdings.note(FACTS.facts(b"LISTEN a"), b"LISTEN a")
    holdings.take(left(channels=frozenset([b"a"])), {}, 0)
    holdings.note(FACTS.facts(b"SET work_mem = '5MB'"), b"SET work_mem = '5MB'")
    holdings.take(left(Pin.TEMPORARY), {}, 0)
    assert holdings.pins[Pin.TEMPORARY].statement == ""
    holdings.note(FACTS.facts(b"LOAD 'a'"), b"LOAD 'a'")
    holdings.transaction_ended()
    assert holdings.pins[Pin.LOADED].statement == "LOAD ?"
