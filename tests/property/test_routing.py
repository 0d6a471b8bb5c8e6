"""Generated statements of a service login: no write on a replica, no owner's work at another's."""

from __future__ import annotations

import struct
from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.pool.prepared import Statement
from gateway.protocol.framing import message_size
from gateway.session.gate import Gate
from gateway.session.unit import Ask, Reader
from tests.property.test_facts import INSIDE, _identifier, _literal, poisoned, writing
from tests.unit.router.targets import Client, Value, World, bind, bound, message, query

CLIENT = Client(World(owner="7"))
ALONE = Client(World())

# ---- replicas ------------------------------------------------------------------------------------


@given(st.one_of(poisoned(), writing()), st.booleans())
@settings(max_examples=300)
def test_trap_no_write_lock_or_volatile_function_goes_to_a_replica(text: str, simple: bool) -> None:
    found = CLIENT.run(query(text) if simple else bound(text, []))
    assert not found.endswith("replica"), text


reads = st.sampled_from(["SELECT 1", "SELECT abs(1)", 'SELECT * FROM "Lead"'])


@given(st.lists(reads), st.lists(writing(), max_size=1), st.lists(reads, min_size=1))
@settings(max_examples=100)
def test_trap_a_write_among_reads_goes_to_no_replica(
    before: list[str], writes: list[str], after: list[str]
) -> None:
    texts = before + writes + after
    one_string, one_batch = query("; ".join(texts)), b"".join(bound(text, []) for text in texts)
    for data in (one_string, one_batch.replace(message(b"S", b""), b"") + message(b"S", b"")):
        assert CLIENT.run(data).endswith("replica") is not bool(writes), texts


BROKEN = [
    'SELECT * FROM "Lead" WHERE "userId" = 8 AND',
    'SELEC * FROM "Lead" WHERE "userId" = 8',
    'SELECT \'not closed FROM "Lead" WHERE "userId" = 8',
    'SELECT * FROM "Lead" WHERE "userId" = 8 /* not closed',
    'SELECT * FROM "Lead" WHERE "userId" = 8' + " " * 65_536,
    'SELECT * FROM "Lead" WHERE "userId" = 8 AND 0 = ' + "1+" * 40_000 + "1",
    "SELECT " + "(" * 30_000 + "8" + ")" * 30_000,
]


@pytest.mark.parametrize("text", BROKEN, ids=range(len(BROKEN)))
def test_trap_what_is_not_parsed_is_a_write_of_the_owner_that_is_said_or_goes_nowhere(
    text: str,
) -> None:
    for data in (query(text), bound(text, [])):
        assert CLIENT.run(data) == "law of 7"
        assert ALONE.run(data).startswith("0A000 nothing says whose the statement is")


# ---- hints ---------------------------------------------------------------------------------------

HINT = "/* owner='8' */"


@given(INSIDE, INSIDE, st.sampled_from(["{0} AS x", "lower({0})", "{0} || {0}"]), st.booleans())
def test_trap_a_hint_inside_a_statement_says_nothing(
    one: str, two: str, shape: str, simple: bool
) -> None:
    inside = shape.format(_literal(one + HINT))
    name = _identifier((two + HINT).replace("\0", ""))
    text = f'SELECT {inside}, a AS {name} FROM "Lead" {HINT} WHERE "userId" = {HINT} 7 AND true'
    found = ALONE.run(query(text) if simple else bound(text, []))
    assert found.startswith("law of 7"), text


# ---- owners --------------------------------------------------------------------------------------

OWNERS = {"7": "law", "9": "law", "8": "dentist", "21": "medical_1", "22": "medical_2"}
SHAPES = [
    'SELECT * FROM "Lead" WHERE "userId" IN ({0}, {1})',
    'SELECT * FROM "Lead" WHERE "userId" = {0} OR "userId" = {1}',
    'SELECT * FROM "Lead" l JOIN "Deal" d ON d."leadId" = l."id" WHERE l."userId" = {0}'
    ' AND d."userId" = {1}',
    'SELECT * FROM "Lead" WHERE "userId" = {0} UNION SELECT * FROM "Lead" WHERE "userId" = {1}',
    'WITH x AS (SELECT * FROM "Lead" WHERE "userId" = {0}) SELECT * FROM x, "Deal"'
    ' WHERE "Deal"."userId" = {1}',
    'INSERT INTO "Lead" ("userId", "name") VALUES ({0}, \'a\'), ({1}, \'b\')',
    'INSERT INTO "Lead" ("userId") SELECT {0} FROM "Lead" WHERE "userId" = {1}',
    'UPDATE "Lead" SET "userId" = {0} WHERE "userId" = {1}',
    'UPDATE "Lead" l SET "score" = 1 FROM "Deal" d WHERE l."userId" = {0} AND d."userId" = {1}',
    'DELETE FROM "Lead" WHERE "userId" = {0} AND "id" IN'
    ' (SELECT "leadId" FROM "Deal" WHERE "userId" = {1})',
    'MERGE INTO "Lead" t USING "Import" s ON t."userId" = {0} AND t."id" = s."id"'
    ' WHEN NOT MATCHED THEN INSERT ("userId") VALUES ({1})',
    'SELECT (SELECT count(*) FROM "Lead" WHERE "userId" = {0}),'
    ' (SELECT count(*) FROM "Deal" WHERE "userId" = {1})',
]


def _text(owner: str) -> Value:
    return Value(owner.encode())


def _declared_text(owner: str) -> Value:
    return Value(owner.encode(), True, 25)


def _integer(layout: str, oid: int) -> Callable[[str], Value]:
    return lambda owner: Value(struct.pack(layout, int(owner)), True, oid)


FORMS = [
    _text,
    _declared_text,
    _integer("!h", 21),
    _integer("!i", 23),
    _integer("!q", 20),
    _integer("!h", 0),
    _integer("!i", 0),
    _integer("!q", 0),
]
owners = st.sampled_from(sorted(OWNERS))
forms = st.sampled_from(FORMS)


@given(st.sampled_from(SHAPES), owners, owners, forms, forms)
@settings(max_examples=400)
def test_trap_owners_on_two_shards_are_never_routed_together(
    shape: str, one: str, other: str, form: Callable[[str], Value], another: Callable[[str], Value]
) -> None:
    constants = ALONE.run(query(shape.format(one, f"'{other}'")))
    assert ALONE.run(bound(shape.format("$1", "$2"), [form(one), another(other)])) == constants
    assert ALONE.run(bound(shape.format("$1", other), [form(one)])) == constants
    if OWNERS[one] == OWNERS[other]:
        assert constants.split(",")[0].split()[0] == OWNERS[one]
    else:
        assert constants.startswith("0A000 owners"), constants


@given(st.sampled_from(SHAPES), owners, owners, forms)
@settings(max_examples=200)
def test_trap_nobody_elses_statement_runs_for_the_owner_that_was_said(
    shape: str, one: str, other: str, form: Callable[[str], Value]
) -> None:
    found = CLIENT.run(bound(shape.format("$1", "$2"), [form(one), form(other)]))
    if {one, other} == {"7"}:
        assert found.startswith("law of 7")
    else:
        assert found.startswith("42501"), found


@given(st.lists(owners, min_size=1, max_size=4), st.sampled_from(["int2", "int4", "int8", "text"]))
def test_arrays_say_the_same_in_text_and_binary(ids: list[str], kind: str) -> None:
    sql = 'SELECT * FROM "Lead" WHERE "userId" = ANY ($1)'
    text = Value(("{" + ",".join(ids) + "}").encode())
    layouts = {"int2": ("!h", 21), "int4": ("!i", 23), "int8": ("!q", 20), "text": ("", 25)}
    layout, oid = layouts[kind]
    raw = struct.pack("!iiIii", 1, 0, oid, len(ids), 1)
    for one in ids:
        item = struct.pack(layout, int(one)) if layout else one.encode()
        raw += struct.pack("!i", len(item)) + item
    assert ALONE.run(bound(sql, [text])) == ALONE.run(bound(sql, [Value(raw, True)]))


@given(st.binary(max_size=60), st.sampled_from([0, 20, 21, 23, 25, 2950, 701, 1009]))
@pytest.mark.timeout(30)
def test_trap_no_bytes_of_a_value_hang_or_break_the_reader(raw: bytes, oid: int) -> None:
    for sql in ("= $1", "= ANY ($1)", "IN ($1, 7)", "= $1::text"):
        for key_type in (ALONE, UUIDS, NAMES):
            text = f'SELECT * FROM "Lead" WHERE "userId" {sql}'
            key_type.run(bound(text, [Value(raw, True, oid)]))


UUIDS, NAMES = Client(World(key_type="uuid")), Client(World(key_type="text"))


@pytest.mark.parametrize("size", [-2, -4, -5, -(2**31), 2**31 - 1])
@pytest.mark.timeout(30)
def test_trap_an_array_element_of_an_impossible_length_does_not_hang(size: int) -> None:
    for oid in (23, 25):
        raw = struct.pack("!iiIiii", 1, 0, oid, 1, 1, size) + b"7"
        found = NAMES.run(
            bound('SELECT * FROM "Lead" WHERE "userId" = ANY ($1)', [Value(raw, True)])
        )
        assert found.startswith("0A000")


# ---- split input ---------------------------------------------------------------------------------

LEADS = 'SELECT * FROM "Lead" WHERE "userId" = $1'
MESSAGES = [
    query('SELECT * FROM "Lead" WHERE "userId" = 7'),
    query("BEGIN"),
    query("COPY x FROM STDIN"),
    message(b"P", b"s\0" + LEADS.encode() + b"\0\0\0"),
    bind(b"s", [_text("7")]),
    bind(b"s", [_integer("!i", 23)("8")]),
    bind(b"nobody", []),
    message(b"D", b"Ss\0"),
    message(b"E", b"\0\0\0\0\0"),
    message(b"S", b""),
    message(b"H", b""),
    message(b"C", b"Ss\0"),
    message(b"d", b"7\tx\n" * 5),
    message(b"c", b""),
]
sent = st.lists(st.sampled_from(MESSAGES), min_size=1, max_size=8)
cuts = st.lists(st.integers(1, 600), max_size=12)


def _described(ask: Ask) -> tuple[bytes, bool, str]:
    value = ""
    if ask.values is not None:
        value = str(ask.values.one(CLIENT.world.settings.routing.key_type, 1))
    return ask.text, ask.pending, value


class _Walk:
    """A client whose server answers at once: what its gate lets pass, and what it looked at."""

    def __init__(self) -> None:
        self.seen: list[tuple[bytes, bool, str]] = []
        self.passed = b""
        self._prepared: dict[bytes, Statement] = {}
        self._gate = Gate(Reader(CLIENT.facts, {}, self._prepared.get), self._check)
        self._held = b""
        self._skip = 0

    def _check(self, ask: Ask) -> None:
        self.seen.append(_described(ask))
        if ask.pending:
            self._prepared[b"s"] = Statement(b"", ask.text + bytes(3), ask.facts)

    def feed(self, data: bytes) -> None:
        self._held += data
        while True:
            size = self._gate.walk(self._held, self._skip, copying=False)
            self._skip = _left_over(self._held, self._skip, size)
            self.passed += self._held[:size]
            self._held = self._held[size:]
            if not self._gate.closed:
                return
            self._gate.closed = False
            if not size:
                return


def _left_over(data: bytes, skip: int, size: int) -> int:
    """How much is to come of a message of which a part has passed."""
    at = skip
    while at < size:
        at += message_size(data, at)
    return at - size


@given(sent, cuts)
@settings(max_examples=300)
def test_the_gate_lets_pass_the_same_however_the_input_is_cut(
    messages: list[bytes], at: list[int]
) -> None:
    data = b"".join(messages)
    whole, split = _Walk(), _Walk()
    whole.feed(data)
    marks = [0, *sorted({cut for cut in at if cut < len(data)}), len(data)]
    for begin, end in pairwise(marks):
        split.feed(data[begin:end])
    assert whole.passed == split.passed == data
    assert whole.seen == split.seen


@given(sent, st.integers(0, 600))
@settings(max_examples=300)
def test_a_unit_is_the_same_whatever_stands_behind_it(messages: list[bytes], more: int) -> None:
    reader = Reader(CLIENT.facts, {}, lambda name: None)
    data = b"".join(messages)
    unit = reader.unit(data)
    asks = [_described(ask) for ask in unit.asks]
    if unit.end:
        longer = reader.unit(data[: unit.size + more])
        assert (longer.size, longer.end) == (unit.size, unit.end)
        assert [_described(ask) for ask in longer.asks] == asks
        shorter = reader.unit(data[: max(0, unit.size - 1 - more % unit.size)])
        assert shorter.end == 0


def test_trap_a_bind_that_is_cut_among_its_formats_is_waited_for() -> None:
    """40,000 values have 80 KB of format codes; the values' turn comes when they are asked for."""
    parse = message(b"P", b"s\0" + LEADS.encode() + b"\0\0\0")
    data = bind(b"s", [Value(b"\0\0\0\7", True)] * 40_000)
    assert ALONE.run(parse + data[:66_000]) == "incomplete"
