"""The model that the reply queue is checked against, checked against a real PostgreSQL.

Both get the same messages at once; the types of what they answer must be the same, in order.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.protocol import messages
from tests import reference_server as reference
from tests.conftest import FreshDatabase
from tests.reference_server import ReferenceServer, Sent
from tests.wire import COPY_DONE, EOF, Place, Wire

PG_BACKEND_PID = 2026
"""The function's object id, fixed in PostgreSQL's catalog."""

SQL = {
    reference.ROWS: "SELECT generate_series(1, 2)",
    reference.SUSPENDED: "SELECT generate_series(1, 2)",
    reference.COMMAND: "SET work_mem = '4MB'",
    reference.EMPTY: "",
    reference.ERROR: "DROP TABLE missing",  # not found before it is executed
    reference.COPY_OUT: "COPY (SELECT generate_series(1, 2)) TO STDOUT",
    reference.COPY_IN: "COPY filled FROM STDIN",
    reference.COPY_REFUSED: "COPY refusing FROM STDIN",
}

SCHEMA = """
    CREATE TABLE filled (a int);
    CREATE TABLE refusing (a int);
    CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql
        AS $$ BEGIN RAISE EXCEPTION 'refused'; END $$;
    CREATE TRIGGER refuse BEFORE INSERT ON refusing EXECUTE FUNCTION refuse();
"""


def encoded(script: list[Sent]) -> bytes:
    """The messages on the wire. A Parse has the text of the next Execute."""
    return b"".join(
        _ENCODERS[sent.tag](sent, script[number:]) for number, sent in enumerate(script)
    )


def _query(sent: Sent, rest: list[Sent]) -> bytes:
    return messages.query("; ".join(SQL[fate] for fate in sent.fates))


def _parse(sent: Sent, rest: list[Sent]) -> bytes:
    execute = next((one for one in rest if one.tag == "E"), Sent("E", (reference.ROWS,)))
    text = SQL[execute.fates[0]] if sent.fates[0] != reference.BAD else "SELEC 1"
    return messages.message(b"P", b"\0" + text.encode() + b"\0\0\0")


def _bind(sent: Sent, rest: list[Sent]) -> bytes:
    name = b"missing" if sent.fates[0] == reference.BAD else b""
    return messages.message(b"B", b"\0" + name + b"\0" + bytes(6))


def _describe(sent: Sent, rest: list[Sent]) -> bytes:
    name = b"missing" if sent.fates[0] == reference.BAD else b""
    return messages.message(b"D", b"S" + name + b"\0")


def _execute(sent: Sent, rest: list[Sent]) -> bytes:
    return messages.message(b"E", b"\0" + struct.pack("!i", sent.fates[0] == reference.SUSPENDED))


def _function_call(sent: Sent, rest: list[Sent]) -> bytes:
    function = 0 if sent.fates[0] == reference.BAD else PG_BACKEND_PID
    return messages.message(b"F", struct.pack("!ihhh", function, 0, 0, 0))


def _copy_data(sent: Sent, rest: list[Sent]) -> bytes:
    return messages.message(b"d", b"no number\n" if sent.fates[0] == reference.BAD else b"1\n")


_ENCODERS: dict[str, Callable[[Sent, list[Sent]], bytes]] = {
    "Q": _query,
    "P": _parse,
    "B": _bind,
    "D": _describe,
    "E": _execute,
    "F": _function_call,
    "C": lambda sent, rest: messages.message(b"C", b"P\0"),
    "S": lambda sent, rest: messages.SYNC,
    "H": lambda sent, rest: messages.FLUSH,
    "d": _copy_data,
    "c": lambda sent, rest: COPY_DONE,
    "f": lambda sent, rest: messages.COPY_FAIL,
}


async def real_answer(database: str, script: list[Sent]) -> str:
    """The types of the messages of a real server, up to its end."""
    return await answer_to(database, encoded(script))


async def answer_to(database: str, data: bytes) -> str:
    wire = await Wire.logged_in(Place.of(database))
    wire.send(data, messages.TERMINATE)
    tags = ""
    while (heard := await wire.message()) != EOF:
        tags += heard.tag
    return tags


def model_answer(script: list[Sent]) -> str:
    server = ReferenceServer()
    for sent in script:
        server.receive(sent)
    return "".join(said.tag for said in server.said)


@pytest.fixture(scope="module")
async def database(fresh_database: FreshDatabase) -> str:
    url = await fresh_database("reference")
    assert await answer_to(url, messages.query(SCHEMA)) == "CCCCZ"
    return url


# --- any script ------------------------------------------------------------------------------

FATES = st.sampled_from(sorted(set(SQL) - {reference.COPY_IN, reference.SUSPENDED}))
GOOD_OR_BAD = st.sampled_from([reference.OK, reference.OK, reference.OK, reference.BAD])
DATA = st.lists(
    st.sampled_from([Sent("d"), Sent("d"), Sent("d", (reference.BAD,)), Sent("S"), Sent("H")]),
    max_size=4,
)
END = st.sampled_from([Sent("c"), Sent("f")])
STRAY = st.sampled_from([Sent("c"), Sent("f"), Sent("d"), Sent("H"), Sent("S")]).map(
    lambda sent: [sent]
)


@st.composite
def queries(draw: st.DrawFn) -> list[Sent]:
    return [Sent("Q", tuple(draw(st.lists(FATES, min_size=1, max_size=3))))]


@st.composite
def batches(draw: st.DrawFn) -> list[Sent]:
    fate = draw(FATES | st.just(reference.SUSPENDED))
    describe = reference.OK if fate in (reference.ROWS, reference.SUSPENDED) else reference.NO_DATA
    batch = [Sent("P", (draw(GOOD_OR_BAD),)), Sent("D", (describe,))]
    batch += [Sent("B", (draw(GOOD_OR_BAD),)), Sent("E", (fate,)), Sent("C")]
    return batch + draw(st.sampled_from([[], [Sent("S")], [Sent("H")]]))


@st.composite
def copies(draw: st.DrawFn) -> list[Sent]:
    count = draw(st.integers(1, 2))
    start = [Sent("Q", (reference.COPY_IN,) * count)]
    if draw(st.booleans()):
        count, start = 1, [Sent("P"), Sent("B"), Sent("E", (reference.COPY_IN,))]
    stream: list[Sent] = []
    for _ in range(count):
        stream += [*draw(DATA), draw(END)]
    return start + stream


@st.composite
def function_calls(draw: st.DrawFn) -> list[Sent]:
    return [Sent("F", (draw(GOOD_OR_BAD),))]


SCRIPTS = st.lists(queries() | batches() | copies() | function_calls() | STRAY, max_size=5).map(
    lambda units: [sent for unit in units for sent in unit] + [Sent("S")]
)


@settings(max_examples=120, deadline=None)
@given(script=SCRIPTS)
async def test_the_model_answers_as_postgresql(database: str, script: list[Sent]) -> None:
    assert model_answer(script) == await real_answer(database, script)


# --- what the reply queue must cope with, said outright --------------------------------------


@pytest.mark.parametrize(
    ("script", "answer"),
    [
        ("P B E(copy in) S d c S", "12GCZ"),
        ("P B E(copy in) S d d! d c S", "12GEZ"),
        ("P B E(copy refused) S d c S", "12GEZZ"),
        ("Q(copy refused) S d c", "GEZZ"),
        ("Q(copy in) d! S c", "GEZZ"),
        ("P B! E Q(rows) S", "1EZ"),
        ("P B! H E Q(rows) S", "1EZ"),
        ("Q(copy in,copy in) d c S d c", "GCGCZ"),
    ],
)
async def test_a_sync_near_a_copy(database: str, script: str, answer: str) -> None:
    """The third line and the second differ in nothing that a proxy can see coming."""
    parsed = [_parsed(word) for word in script.replace("copy ", "copy_").split()]
    assert await real_answer(database, parsed) == answer
    assert model_answer(parsed) == answer


def _parsed(word: str) -> Sent:
    if "(" in word:
        return Sent(word[0], tuple(word[2:-1].replace("_", " ").split(",")))
    default = reference.ROWS if word[0] == "E" else reference.OK
    return Sent(word[0], (reference.BAD if word.endswith("!") else default,))
