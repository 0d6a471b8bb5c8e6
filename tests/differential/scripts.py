"""Random scripts: messages and fragments of several clients, drawn apart so that they mesh."""

from __future__ import annotations

import struct

from hypothesis import strategies as st

from gateway.protocol import messages
from tests.differential.script import (
    COPY_DONE,
    FLUSH,
    SYNC,
    How,
    Leave,
    Say,
    Script,
    Step,
    bind,
    close,
    copy_data,
    copy_fail,
    describe,
    execute,
    function_call,
    parse,
    query,
    run,
    say,
    without_later_portals,
    without_resets,
)
from tests.differential.states import PARAMETER_TEXTS, STATES, Steps
from tests.differential.talk import Part
from tests.differential.texts import BEGINS, ENDS, ERRORS, READS, SQL, WITHIN, WRITES, one

CLIENTS = 4
FRAGMENTS_MAX = 24
_STRIDES = 6

INT4, TEXT = 23, 25
_INT4PL, _TEXTCAT = 177, 1258

# --- the extended protocol -------------------------------------------------------------------

_NAMES = one("", "", "a", "b")
_NAMES_OF_BOTH = one("", "", "a", "b", "a", "b", "sa", "sb")
_PORTALS = one("", "", "", "p", "p", "q", "cur")
_PARAMETERS = st.sampled_from([(), (), (b"5",), (b"5",), (None,), (b"x",), (b"5", b"five")])
_BINARY_PARAMETERS = st.sampled_from([(struct.pack("!i", 5),), (b"text",), (None,)])
_TO_PARSE = st.one_of(
    READS, READS, PARAMETER_TEXTS, PARAMETER_TEXTS, PARAMETER_TEXTS, WRITES, ERRORS, SQL
)
_TYPES = st.sampled_from([(), (), (), (INT4,), (TEXT,), (0,), (999999,)])

_PARSES = st.builds(parse, _NAMES, _TO_PARSE, _TYPES)
_BINDS = st.one_of(
    st.builds(bind, _PORTALS, _NAMES_OF_BOTH, _PARAMETERS, binary=st.booleans()),
    st.builds(bind, _PORTALS, _NAMES_OF_BOTH, _PARAMETERS, binary=st.booleans()),
    st.builds(
        bind,
        _PORTALS,
        _NAMES_OF_BOTH,
        _BINARY_PARAMETERS,
        binary=st.booleans(),
        binary_values=st.just(True),
    ),
)
_DESCRIBES = st.one_of(
    st.builds(describe, st.just("S"), _NAMES_OF_BOTH), st.builds(describe, st.just("P"), _PORTALS)
)
_EXECUTES = st.builds(execute, _PORTALS, st.sampled_from([0, 0, 1, 2]))
_CLOSES = st.one_of(
    st.builds(close, st.just("S"), _NAMES_OF_BOTH), st.builds(close, st.just("P"), _PORTALS)
)
_RUNS = st.one_of(
    st.builds(run, SQL, name=_NAMES, portal=_PORTALS),
    st.builds(run, PARAMETER_TEXTS, st.sampled_from([b"5", b"6", None]), name=_NAMES),
)
_FUNCTION_CALLS = st.sampled_from(
    [
        function_call(_INT4PL, b"40", b"2"),
        function_call(_INT4PL, b"x", b"2"),
        function_call(_TEXTCAT, b"a", None),
        function_call(999999),
    ]
)
_PIECE = st.one_of(
    _PARSES.map(lambda part: (part,)),
    _BINDS.map(lambda part: (part,)),
    st.tuples(_BINDS, _EXECUTES),
    _DESCRIBES.map(lambda part: (part,)),
    _EXECUTES.map(lambda part: (part,)),
    _CLOSES.map(lambda part: (part,)),
    _RUNS,
    _RUNS,
    st.just((SYNC,)),
    st.just((FLUSH,)),
    _FUNCTION_CALLS.map(lambda part: (part,)),
    SQL.map(lambda text: (query(text),)),
)
_CUTS = st.sampled_from([0, 0, 0, 0, 1, 2, 5])


@st.composite
def _pipelines(draw: st.DrawFn) -> Say:
    pieces = draw(st.lists(_PIECE, min_size=1, max_size=6))
    end = draw(st.sampled_from([SYNC, SYNC, SYNC, SYNC, FLUSH]))
    parts = [part for piece in pieces for part in piece]
    return Say((*without_later_portals(parts), end), draw(_CUTS))


# --- fragments: steps of one client that belong together --------------------------------------


def _alone(step: st.SearchStrategy[Say]) -> Steps:
    return step.map(lambda one: (one,))


_SIMPLE = st.builds(lambda text, cuts: say(text, cuts=cuts), SQL, _CUTS)
_MULTI = st.lists(SQL, min_size=2, max_size=4).map(lambda texts: say("; ".join(texts)))
_SEVERAL = st.lists(SQL, min_size=2, max_size=5).map(lambda texts: say(*texts))
# Alone in its text: see the documented differences.
_DEALLOCATES = st.sampled_from([say("DEALLOCATE a"), Say((*run("DEALLOCATE b"), SYNC))])
_SINGLE_RUN = st.builds(lambda parts, cuts: Say((*parts, SYNC), cuts), _RUNS, _CUTS)


def _transaction(texts: list[str], begin: str, end: str) -> tuple[Step, ...]:
    return tuple(map(say, (begin, *texts, end)))


_TRANSACTIONS: Steps = st.builds(
    _transaction, st.lists(st.one_of(SQL, WITHIN), min_size=1, max_size=4), BEGINS, ENDS
)


def _prepared_use(name: str, text: str, between: str) -> tuple[Step, ...]:
    """Prepare once, use twice, with something in between, then close."""
    use = (bind("", name), describe("P", ""), execute(""), SYNC)
    return (
        say(parse(name, text), describe("S", name), SYNC),
        say(*use),
        say(between),
        say(*use),
        say(close("S", name), SYNC),
    )


_PREPARED_USES: Steps = st.builds(_prepared_use, _NAMES, st.one_of(READS, SQL), SQL)


def _prepared_with_parameter(name: str, text: str, between: Say) -> tuple[Step, ...]:
    return (
        say(parse(name, text), SYNC),
        say(bind("", name, (b"5",)), execute(""), SYNC),
        between,
        say(bind("", name, (b"6",), binary=True), describe("P", ""), execute(""), SYNC),
    )


def _portal(name: str, text: str, rows: int) -> tuple[Step, ...]:
    """A portal in parts, over several Syncs inside a transaction."""
    return (
        say("BEGIN"),
        say(parse("", text), bind(name, ""), describe("P", name), execute(name, rows), SYNC),
        say(execute(name, rows), FLUSH),
        say(execute(name), SYNC),
        say("COMMIT"),
    )


_PORTALS_IN_PARTS: Steps = st.builds(
    _portal, _PORTALS, st.one_of(READS, SQL), st.sampled_from([1, 2])
)

_GOOD = b"41\tcopied\n42\talso\n"
_BAD = b"43\tgood\nnot a number\tbad\n44\tnever\n"
_COPY_TEXT = one(
    "COPY item FROM STDIN",
    "COPY item (id, v) FROM STDIN (FORMAT text)",
    "COPY item FROM STDIN WHERE id > 41",
    "COPY no_such FROM STDIN",
    "COPY tmp FROM STDIN",
)
_COPY_ENDS = st.sampled_from(
    [
        (copy_data(_GOOD), COPY_DONE),
        (copy_data(_GOOD[:7]), copy_data(_GOOD[7:]), COPY_DONE),
        (copy_data(_BAD), COPY_DONE),
        (copy_data(_BAD), copy_data(_GOOD), copy_data(_GOOD), COPY_DONE),
        (copy_data(_GOOD), copy_fail("changed my mind")),
        (copy_fail("at once"),),
        (COPY_DONE,),
        (copy_data(b"".join(b"%d\tmany\n" % n for n in range(100, 9000))), COPY_DONE),
    ]
)


def _copy(text: str, end: tuple[Part, ...], how: str) -> tuple[Step, ...]:
    extended = (parse("", text), bind("", ""), execute(""))
    if how == "simple":
        return (say(text), say(*end))
    if how == "at once":
        return (say(query(text), *end),)
    if how == "several statements":
        return (say(query(f"SELECT 1; {text}; SELECT 2")), say(*end))
    if how == "in a transaction":
        return (say("BEGIN"), say(text), say(*end), say("ROLLBACK"))
    if how == "extended":
        return (say(*extended, FLUSH), say(*end, SYNC))
    return (say(*extended, *end, SYNC),)


_COPY_WAYS = one(
    "simple", "at once", "several statements", "in a transaction", "extended", "extended at once"
)


def _copy_past_sync(end: tuple[Part, ...], behind: tuple[Part, ...]) -> tuple[Step, ...]:
    """As libpq does: the copy swallows the Sync behind its Execute."""
    extended = (parse("", "COPY part (n) FROM STDIN"), bind("", ""), execute(""), SYNC)
    return (say(*extended), say(*end, SYNC, *behind))


_COPIES: Steps = st.one_of(
    st.builds(_copy, _COPY_TEXT, _COPY_ENDS, _COPY_WAYS),
    st.builds(
        _copy_past_sync,
        st.one_of(
            _COPY_ENDS,
            st.sampled_from([b"1\n2\n", b"1\n-1\n", b"3\n" * 20000]).map(
                lambda data: (copy_data(data), COPY_DONE)
            ),
        ),
        st.sampled_from([(), (*run("SELECT 3"), SYNC), (query("SELECT 4"),)]),
    ),
)
_CALLS = _alone(_FUNCTION_CALLS.map(say))
_HALF = messages.query("SELECT 'never whole'")[:12]
_LEAVES: Steps = st.builds(
    Leave,
    st.sampled_from(How),
    st.sampled_from(
        [
            b"",
            b"",
            _HALF,
            b"".join(part.data for part in run("INSERT INTO item VALUES (77, 'lost')")),
            messages.query("SELECT repeat('r', 1000) FROM generate_series(1, 20000)"),
        ]
    ),
).map(lambda leave: (leave if leave.how is not How.GOODBYE else Leave(leave.how),))

FRAGMENTS: Steps = st.one_of(
    _alone(_SIMPLE),
    _alone(_SIMPLE),
    _alone(_SIMPLE),
    _alone(_SIMPLE),
    _alone(_MULTI),
    _alone(_SEVERAL),
    _alone(_SINGLE_RUN),
    _alone(_SINGLE_RUN),
    _alone(_pipelines()),
    _alone(_pipelines()),
    _alone(_pipelines()),
    _TRANSACTIONS,
    _TRANSACTIONS,
    _PREPARED_USES,
    st.builds(_prepared_with_parameter, _NAMES, PARAMETER_TEXTS, st.one_of(_SIMPLE, _pipelines())),
    _PORTALS_IN_PARTS,
    _COPIES,
    _CALLS,
    _alone(_DEALLOCATES),
    _LEAVES,
    STATES,
    STATES,
    STATES,
)

_STARTUPS = st.sampled_from(
    [
        {},
        {},
        {},
        {"application_name": "from startup"},
        {"TimeZone": "Asia/Tokyo", "DateStyle": "German"},
        {"options": "-c work_mem=7MB -c lock_timeout=140"},
        {"options": "-c search_path=s1,public"},
        {"options": "-c my.var=started", "client_encoding": "UTF8"},
    ]
)


@st.composite
def scripts(draw: st.DrawFn) -> Script:
    """A script: fragments of several clients, drawn apart so that they mesh."""
    least = draw(st.sampled_from([1, 6, 12]))
    fragment = st.tuples(st.integers(0, CLIENTS - 1), FRAGMENTS, st.integers(0, _STRIDES))
    fragments = draw(st.lists(fragment, min_size=least, max_size=FRAGMENTS_MAX))
    placed = [
        (at + nth * stride, at, nth, client, step)
        for at, (client, fragment, stride) in enumerate(fragments)
        for nth, step in enumerate(fragment)
    ]
    placed.sort(key=lambda one: one[:3])
    startup = draw(st.tuples(*[_STARTUPS] * CLIENTS))
    steps = tuple(
        (client, without_resets(step, startup[client])) for _, _, _, client, step in placed
    )
    return Script(steps, startup)
