"""The facts of a statement text, cached: by the text, then by the text without its literals.

A text seen before is one dictionary look-up. A new text whose skeleton (constants and comments
taken out, see ``sqlparse.Scanned``) was seen before costs a scan, which is several times cheaper
than a parse: only the constants that name a tenant are read anew. Where it is plain, the next one
like it costs a comparison with it, before any look-up. Most texts of a known skeleton never come
again: one is remembered itself when it comes a second time soon. Everything else is parsed once;
what can't be parsed is remembered and never tried again.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from typing import Final

from gateway.protocol.octets import sample
from gateway.router import sqlparse
from gateway.router.commands import extract
from gateway.router.keys import TenantColumns
from gateway.router.literals import STRING, Mark, follows, may_be_followed
from gateway.router.recent import Recent
from gateway.router.sqlparse import TEXT_BYTES_MAX, scan
from gateway.router.statement import (
    OPAQUE,
    UNKNOWN_FACTS,
    Const,
    Effect,
    Facts,
    KeyJoin,
    Name,
    Opaque,
    Param,
    ParamArray,
    SettingChange,
    Source,
    StatementFacts,
    TenantRef,
    TransactionOptions,
    Use,
    Verb,
)

__all__ = [
    "OPAQUE",
    "UNKNOWN_FACTS",
    "Const",
    "Effect",
    "Facts",
    "FactsCache",
    "KeyJoin",
    "Name",
    "Opaque",
    "Param",
    "ParamArray",
    "SettingChange",
    "Source",
    "StatementFacts",
    "TenantRef",
    "TransactionOptions",
    "Use",
    "Verb",
]

UNPARSABLE_MAX: Final = 16_384
"""Texts remembered as unparsable; the oldest are forgotten first."""
# Memory, as measured: of the facts of one statement, of each tenant value in them, and of an entry
# whose facts are another text's.
STATEMENT_BYTES: Final = 2_000
SOURCE_BYTES: Final = 150
ENTRY_BYTES: Final = 300

_SEEN_SLOTS: Final = 4_096
"""About how many texts of known skeletons may come in between, for one to be seen as coming again.
"""

_MODELS: Final = 256
"""Texts that others are compared with first, whatever that finds: cheaper than a look-up."""

# As C integers.
_TEXT_BYTES_MAX, _SLOTS, _PARTS, _BYTE = TEXT_BYTES_MAX, _SEEN_SLOTS, 1 << 16, 1 << 8

_WITH_TEMPLATE: Final = frozenset((Verb.SELECT, Verb.INSERT, Verb.UPDATE, Verb.DELETE, Verb.MERGE))

# One constant of a template: (which source of the mention, which mark of the text).
_Slot = tuple[int, int]
# One mention: (which of the statement's tenant keys, its constants).
_SlotsOfRef = tuple[int, tuple[_Slot, ...]]


class _Template:
    """The facts that all texts of one skeleton share, and where their tenant constants stand."""

    __slots__ = ("_slots", "facts", "shared")

    def __init__(self, facts: Facts, scanned: sqlparse.Scanned) -> None:
        """
        Raises:
            ValueError: a constant is written in a way that can't be read without the parser.
        """
        self.facts = facts
        marks = {start: index for index, (start, _, _) in enumerate(scanned.marks)}
        slots: list[tuple[int, tuple[_SlotsOfRef, ...]]] = []
        for number, statement in enumerate(facts.statements):
            refs: list[_SlotsOfRef] = []
            for at, ref in enumerate(statement.tenant):
                if constants := _constants(ref, marks, scanned):
                    refs.append((at, constants))
            if refs:
                slots.append((number, tuple(refs)))
        self._slots = tuple(slots)
        self.shared = not slots
        """The facts hold no constant: they are the same object for every text."""

    def fill(self, text: bytes, marks: list[Mark]) -> Facts:
        """The facts of another text with the same skeleton, by its constants and comments.

        Raises:
            ValueError: one of its tenant constants can't be read without the parser.
        """
        if not self._slots:
            return self.facts
        statements = list(self.facts.statements)
        for number, refs in self._slots:
            tenant = list(statements[number].tenant)
            for at, slots in refs:
                ref = tenant[at]
                sources = list(ref.sources)
                for position, mark in slots:
                    sources[position] = _read_constant(text, marks[mark])
                tenant[at] = TenantRef(
                    ref.table,
                    ref.column,
                    tuple(sources),
                    ref.use,
                    ref.certain,
                    ref.whole,
                    ref.aside,
                )
            statements[number] = statements[number].with_tenant(tuple(tenant))
        return self.facts.with_statements(tuple(statements))


class _Model:
    """A plain text of a known skeleton: those that follow it are told without a look-up."""

    __slots__ = ("_last", "_last_text", "_marks", "_template", "_text")

    def __init__(self, scanned: sqlparse.Scanned, template: _Template) -> None:
        self._text = scanned.text
        self._marks = scanned.marks
        self._template = template
        self._last_text = b""
        self._last = template.facts
        """Of the last text that has tenant constants: who looks ahead asks twice in a row."""

    def facts_of(self, text: bytes) -> Facts | None:
        """The facts of a text that differs in its constants; None of any other."""
        template = self._template
        if template.shared:
            return self._last if follows(text, self._text, self._marks, None) else None
        if text == self._last_text:
            return self._last
        marks: list[Mark] = []
        if not follows(text, self._text, self._marks, marks):
            return None
        try:
            self._last = template.fill(text, marks)
        except ValueError:
            return None
        self._last_text = text
        return self._last


def _constants(
    ref: TenantRef, marks: dict[int, int], scanned: sqlparse.Scanned
) -> tuple[_Slot, ...]:
    slots: list[_Slot] = []
    for position, source in enumerate(ref.sources):
        if isinstance(source, Const):
            mark = marks.get(source.at, -1)
            if mark < 0 or _read_constant(scanned.text, scanned.marks[mark]) != source:
                raise ValueError("not a constant of one token, or not where it is said to be")
            slots.append((position, mark))
    return tuple(slots)


def _read_constant(text: bytes, mark: Mark) -> Const:
    """A plain literal: ``'text'`` or decimal digits. All others are left to the parser."""
    start, end, kind = mark
    raw = text[start:end]
    if kind == STRING:
        if raw[:1] != b"'" or b"'" in (inside := raw[1:-1]):
            raise ValueError("a literal with quotes or escapes")
        return Const(inside.decode(), start)
    if not raw.isdigit() or (raw[:1] == b"0" and len(raw) > 1):
        raise ValueError("not a plain number")
    return Const(raw.decode(), start)


def _size(text: bytes, facts: Facts | None) -> int:
    """Of an entry in bytes; without the facts when they are another entry's."""
    size = ENTRY_BYTES + len(text)
    if facts is None:
        return size
    for statement in facts.statements:
        size += STATEMENT_BYTES
        for ref in statement.tenant:
            size += SOURCE_BYTES * len(ref.sources)
    return size


class FactsCache:
    """Answers what a text is. One per worker; not for use by several threads at once.

    ``entries`` bounds the texts and, apart from them, the skeletons remembered; ``bytes_max`` the
    memory of both together, as far as it can be reckoned. ``tenant_columns`` are column names,
    ``userId``, or ``table.column`` for a column of one table only, ``User.id``. ``harmless`` are
    functions, ``name`` or ``schema.name``, that aren't PostgreSQL's own but may be taken for
    stable.
    """

    __slots__ = (
        "_by_skeleton",
        "_by_text",
        "_columns",
        "_harmless",
        "_last",
        "_last_text",
        "_models",
        "_seen",
        "_unparsable",
        "hits",
        "misses",
        "skeleton_hits",
        "too_long",
        "unparsable",
    )

    def __init__(
        self,
        entries: int,
        bytes_max: int,
        tenant_columns: Iterable[str] = frozenset({"userId"}),
        harmless: Iterable[str] = (),
    ) -> None:
        self._by_text: Recent = Recent(entries, bytes_max // 2)
        self._by_skeleton: Recent = Recent(entries, bytes_max // 2)
        self._seen = bytearray(2 * _SEEN_SLOTS)
        """Of texts that came once, two bytes of the hash by other bits of it: small, so that it
        stays in the processor's cache. One in 65,536 is taken for another."""
        self._models: list[_Model | None] = []
        """One at each place, by a sample of its text."""
        self._unparsable: OrderedDict[int, None] = OrderedDict()
        self._last_text = b""
        self._last = UNKNOWN_FACTS
        """Of a text that is not remembered otherwise: who looks ahead asks twice in a row."""
        self.configure(tenant_columns, harmless)
        self.hits = 0
        """Texts found."""
        self.skeleton_hits = 0
        """Texts that differed from another one only in literals and comments."""
        self.misses = 0
        """Texts parsed."""
        self.too_long = 0
        """Texts not looked at because of their length."""
        self.unparsable = 0
        """Times a text was asked for that can't be parsed."""

    def configure(self, tenant_columns: Iterable[str], harmless: Iterable[str]) -> None:
        """Other columns and functions, from now on: all texts are read anew."""
        self._columns = TenantColumns(tenant_columns)
        self._harmless = frozenset(harmless)
        self._by_text.clear()
        self._by_skeleton.clear()
        self._models = [None] * _MODELS
        self._last_text = b""

    @property
    def entries(self) -> int:
        """Texts and skeletons held."""
        return len(self._by_text) + len(self._by_skeleton)

    @property
    def bytes_held(self) -> int:
        """Memory held, as far as it can be reckoned."""
        return self._by_text.size + self._by_skeleton.size

    def facts(self, text: bytes) -> Facts:
        """What the text is. Never raises; ``known`` is False where it can't be told."""
        model = self._models[sample(text) % _MODELS]
        facts: Facts | None = None if model is None else model.facts_of(text)
        if facts is not None:
            self.skeleton_hits += 1
            return facts
        known: Facts | None = self._by_text.get(text)
        if known is None:
            return self._look(text)
        self.hits += 1
        return known

    def _look(self, text: bytes) -> Facts:
        if text and text == self._last_text:
            self.hits += 1
            return self._last
        if len(text) > _TEXT_BYTES_MAX:
            self.too_long += 1
            return UNKNOWN_FACTS
        digest = hash(text)  # keyed, 64 bits; a collision makes a text unknown, which is safe
        if self._unparsable and digest in self._unparsable:
            self.unparsable += 1
            return UNKNOWN_FACTS
        try:
            scanned = scan(text)
            template = self._by_skeleton.get(scanned.skeleton) if scanned.marks else None
            facts = self._filled(template, scanned) if template is not None else None
            if facts is not None and self._is_new(digest):
                self._last_text, self._last = text, facts
                return facts
            if facts is None:
                facts, template = self._parsed(scanned, template is None)
        except _NOT_UNDERSTOOD:
            self.unparsable += 1
            self._unparsable[digest] = None
            if len(self._unparsable) > UNPARSABLE_MAX:
                self._unparsable.popitem(last=False)
            return UNKNOWN_FACTS
        shared = template is not None and template.shared
        self._by_text.keep(text, facts, _size(text, None if shared else facts))
        return facts

    def _filled(self, template: _Template, scanned: sqlparse.Scanned) -> Facts | None:
        """The facts by the skeleton's; None when a constant is one for the parser."""
        try:
            facts = template.fill(scanned.text, scanned.marks)
        except ValueError:
            return None
        self.skeleton_hits += 1
        if scanned.is_plain and may_be_followed(scanned.text, scanned.marks):
            self._models[sample(scanned.text) % _MODELS] = _Model(scanned, template)
        return facts

    def _is_new(self, digest: int) -> bool:
        """Whether a text has not come lately, by its hash."""
        seen, at, part = self._seen, 2 * (digest % _SLOTS), digest // _SLOTS % _PARTS
        low, high = part % _BYTE, part // _BYTE
        if seen[at] == low and seen[at + 1] == high:
            return False
        seen[at], seen[at + 1] = low, high
        return True

    def _parsed(self, scanned: sqlparse.Scanned, is_new: bool) -> tuple[Facts, _Template | None]:
        """The facts, and the template they gave for their skeleton if that ``is_new``."""
        self.misses += 1
        facts, literal = self._extracted(scanned)
        if not is_new or not scanned.marks or literal:
            return facts, None
        try:
            template = _Template(facts, scanned)
        except ValueError:
            return facts, None
        self._by_skeleton.keep(scanned.skeleton, template, _size(scanned.skeleton, facts))
        return facts, template

    def _extracted(self, scanned: sqlparse.Scanned) -> tuple[Facts, bool]:
        """The facts, and whether constants decided more of them than the values of tenant keys."""
        statements: list[StatementFacts] = []
        literal = False
        for tree in sqlparse.parse(scanned):
            statement, decided = extract(tree, self._columns, self._harmless)
            statements.append(statement)
            literal = literal or decided or statement.verb not in _WITH_TEMPLATE
        return Facts.of(tuple(statements)), literal and bool(scanned.constants)


# A tree of an unexpected shape is a text not understood: the safe default, not the client's error.
_NOT_UNDERSTOOD: Final = (
    sqlparse.Unparsable,
    RecursionError,
    LookupError,
    TypeError,
    ValueError,
    AttributeError,
)
