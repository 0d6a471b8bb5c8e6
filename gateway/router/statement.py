"""The words for what a statement is: verbs, effects, relations, tenant keys. Data only.

Names are as PostgreSQL sees them after folding: ``Lead`` and ``"lead"`` are both ``lead``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntFlag, StrEnum

Name = tuple[str | None, str]
"""A relation or function: (schema, name); the schema is None where the text gives none."""


class Verb(StrEnum):
    """What a statement asks for."""

    EMPTY = "EMPTY"
    UNKNOWN = "UNKNOWN"
    SELECT = "SELECT"  # also VALUES and TABLE
    INSERT = "INSERT"
    UPDATE = "UPDATE"
    DELETE = "DELETE"
    MERGE = "MERGE"
    COPY = "COPY"
    BEGIN = "BEGIN"  # also START TRANSACTION
    COMMIT = "COMMIT"  # also END
    ROLLBACK = "ROLLBACK"  # also ABORT
    SAVEPOINT = "SAVEPOINT"
    RELEASE = "RELEASE"
    ROLLBACK_TO = "ROLLBACK TO"
    PREPARE_TRANSACTION = "PREPARE TRANSACTION"
    COMMIT_PREPARED = "COMMIT PREPARED"
    ROLLBACK_PREPARED = "ROLLBACK PREPARED"
    SET = "SET"  # also RESET, SET TRANSACTION, SET CONSTRAINTS
    SHOW = "SHOW"
    EXPLAIN = "EXPLAIN"
    PREPARE = "PREPARE"
    EXECUTE = "EXECUTE"
    DEALLOCATE = "DEALLOCATE"
    DECLARE = "DECLARE"
    FETCH = "FETCH"  # also MOVE
    CLOSE = "CLOSE"
    LISTEN = "LISTEN"
    UNLISTEN = "UNLISTEN"
    NOTIFY = "NOTIFY"
    DISCARD = "DISCARD"
    LOAD = "LOAD"
    LOCK = "LOCK"
    DO = "DO"
    CALL = "CALL"
    TRUNCATE = "TRUNCATE"
    DDL = "DDL"
    UTILITY = "UTILITY"  # VACUUM, ANALYZE, REINDEX, CHECKPOINT, ...

    __hash__ = str.__hash__  # an enumeration's own is a function of Python's


_NEVER_DRAWS = frozenset(
    {
        Verb.BEGIN,
        Verb.COMMIT,
        Verb.ROLLBACK,
        Verb.SAVEPOINT,
        Verb.RELEASE,
        Verb.ROLLBACK_TO,
        Verb.UTILITY,
        Verb.PREPARE_TRANSACTION,
        Verb.COMMIT_PREPARED,
        Verb.ROLLBACK_PREPARED,
        Verb.SET,
        Verb.PREPARE,
        Verb.DEALLOCATE,
        Verb.LISTEN,
        Verb.UNLISTEN,
        Verb.NOTIFY,
        Verb.DISCARD,
        Verb.CLOSE,
        Verb.LOCK,
        Verb.LOAD,
    }
)
"""What is not read-only, and yet takes nothing from a sequence."""
_CHANGE_SCHEMA = frozenset([Verb.DDL, Verb.DO, Verb.CALL])


class Effect(IntFlag):
    """What a statement may leave behind in the session, or needs to find there."""

    NONE = 0
    SETTING = 1 << 0
    """A setting for the session: SET, RESET, ``set_config(.., false)``."""
    SETTING_LOCAL = 1 << 1
    """A setting for the transaction: SET LOCAL, SET TRANSACTION, SET CONSTRAINTS."""
    ROLE = 1 << 2
    """SET ROLE, SET SESSION AUTHORIZATION and their RESETs."""
    SQL_PREPARE = 1 << 3
    SQL_EXECUTE = 1 << 4
    SQL_DEALLOCATE = 1 << 5
    LISTEN = 1 << 6
    UNLISTEN = 1 << 7
    NOTIFY = 1 << 8
    TEMP = 1 << 9
    """Makes a temporary object, or puts pg_temp into the search path. Not with ON COMMIT DROP."""
    DROP = 1 << 10
    """Drops something, which may have been temporary."""
    ADVISORY_LOCK = 1 << 11
    """Takes an advisory lock for the session. Those for a transaction are no effect."""
    ADVISORY_UNLOCK = 1 << 12
    HOLD_CURSOR = 1 << 13
    """DECLARE ... WITH HOLD."""
    CURSOR = 1 << 14
    """Makes, uses or closes a cursor."""
    LOAD = 1 << 15
    """Loads a library: LOAD, and CREATE FUNCTION in C."""
    SEQUENCE_READ = 1 << 16
    """currval, lastval: what this session took from a sequence earlier; also in a definition."""
    SEQUENCE_WRITE = 1 << 17
    """nextval, setval: what a later currval of this session will say."""
    RANDOM_SEED = 1 << 18
    DISCARD = 1 << 19
    TWO_PHASE = 1 << 20
    COPY_IN = 1 << 21
    """COPY FROM STDIN: the client sends rows."""
    COPY_OUT = 1 << 22
    """COPY TO STDOUT: the client gets rows."""
    LARGE_OBJECT = 1 << 23
    UNKNOWN = 1 << 24
    """Can't be told: DO, CALL, functions that aren't PostgreSQL's own, texts not parsed."""
    ALONE = 1 << 25
    """Nobody may be connected to the database that it names: it drops, renames or copies it."""
    SESSION_COUNT = 1 << 26
    """Reads how many sessions there have been, which is how many processes a server has begun."""

    # Which of them it is decides, hardly ever what they are together: a number is enough for that.
    __and__ = __rand__ = int.__and__  # type: ignore[assignment]


_MAY_DRAW = Effect.SEQUENCE_WRITE | Effect.UNKNOWN


@dataclass(frozen=True)
class Param:
    """The value bound to ``$number``.

    ``cast`` is the type that it gets by a cast, ``$1::text``, or by what it is compared with.
    """

    number: int
    cast: str = ""


@dataclass(frozen=True)
class ParamArray:
    """Each element of the array bound to ``$number``."""

    number: int


@dataclass(frozen=True)
class Const:
    """A constant, as text: ``'7'`` and ``7`` are both ``7``. No canonical form beyond that.

    ``at`` is the byte of the text where it stands.
    """

    value: str
    at: int = field(default=-1, compare=False, repr=False)


@dataclass(frozen=True)
class Opaque:
    """A value that can't be told without running the statement: an expression, DEFAULT, NULL."""


OPAQUE = Opaque()
Source = Param | ParamArray | Const | Opaque
"""Where a value comes from."""


class Use(StrEnum):
    """What the rows that a tenant key speaks of are there for."""

    READ = "read"
    WRITE = "write"  # UPDATE, DELETE, MERGE: rows changed must have this key
    INSERT = "insert"  # new rows get this key
    ASSIGN = "assign"  # changed rows get this key: SET "userId" = ...


@dataclass(frozen=True)
class TenantRef:
    """The text names values of a tenant column.

    ``sources`` are all values named: more than one for IN lists, multi-row inserts and ORs of the
    same column. ``table`` is None where the column can't be placed: unqualified among several
    relations, or of a subquery. ``certain``: every row of that relation that the statement uses has
    one of these values; otherwise they are only mentioned (below NOT, in one branch of an OR, in
    the target list, on the preserved side of an outer join). ``whole``: without one of these values
    the statement itself uses no row at all, for it is a condition of all of it. ``aside``: it names
    whose some rows are, where that does not choose the rows of the statement itself: in a SET or a
    select list, below NOT, on the side of an outer join that may be missing, in a branch of an OR.
    """

    table: Name | None
    column: str
    sources: tuple[Source, ...]
    use: Use
    certain: bool
    whole: bool = field(default=False, compare=False)
    aside: bool = field(default=False, compare=False)


@dataclass(frozen=True, slots=True)
class KeyJoin:
    """Two columns are equal, one of them a tenant column: the key carries from table to table.

    Each side is (table or None, column).
    """

    left: tuple[Name | None, str]
    right: tuple[Name | None, str]


@dataclass(frozen=True)
class SettingChange:
    """A setting that a statement changes.

    ``name`` is lower case; ``*`` for all of them, or for one that the text does not say. ``values``
    are the elements in order (several for lists such as search_path); none means back to its
    default. ``certain`` is False where a parameter says whether it is ``local``.
    """

    name: str
    values: tuple[Source, ...] = ()
    local: bool = False
    certain: bool = True


@dataclass(frozen=True, slots=True)
class TransactionOptions:
    """What BEGIN, SET TRANSACTION, COMMIT or ROLLBACK say; None where they say nothing."""

    read_only: bool | None = None
    isolation: str | None = None
    deferrable: bool | None = None
    chain: bool = False


@dataclass(frozen=True)
class StatementFacts:
    """One statement.

    Not seen from a text, and so not said here: what views, rules, triggers, column defaults,
    operators, casts and attribute notation (``t.f`` for ``f(t)``) call.
    """

    verb: Verb
    effects: Effect = Effect.NONE
    reads: frozenset[Name] = frozenset()
    """Tables and views read, and sequences that ``nextval('...')`` names. Not the names of CTEs."""
    writes: frozenset[Name] = frozenset()
    """Tables and views changed, created, altered or dropped."""
    read_only: bool = False
    """May run on a replica: no write, no row lock, no volatile or unknown function."""
    lock_clause: bool = False
    """FOR UPDATE, FOR NO KEY UPDATE, FOR SHARE or FOR KEY SHARE, anywhere in it."""
    functions: frozenset[Name] = frozenset()
    tenant: tuple[TenantRef, ...] = ()
    joins: tuple[KeyJoin, ...] = ()
    settings: tuple[SettingChange, ...] = ()
    transaction: TransactionOptions | None = None
    name: str | None = None
    """The savepoint, cursor, channel, prepared statement, prepared transaction or SHOWn setting
    that it names; ALL, TEMP, PLANS or SEQUENCES of a DISCARD. None where it names none or all of
    them."""
    prepares: tuple[str, StatementFacts] | None = None
    """PREPARE: the name, and what will run."""
    executes: str | None = None
    """EXECUTE, also inside EXPLAIN and CREATE TABLE AS: the name."""
    arguments: tuple[Source, ...] = ()
    """EXECUTE: the values for $1, $2, ..."""
    explains: StatementFacts | None = None
    """EXPLAIN: the statement explained, run or not."""

    @property
    def keyed(self) -> bool:
        """Whether a key or a setting in it may name an owner."""
        return bool(
            self.tenant or self.settings or self.arguments or self.executes or self.prepares
        )

    @property
    def draws(self) -> bool:
        """Whether a later currval could tell of it: nextval, or a write with a column's default."""
        if self.verb is Verb.SELECT and not self.writes:
            return bool(self.effects & _MAY_DRAW)
        return not self.read_only and self.verb not in _NEVER_DRAWS

    @property
    def changes_schema(self) -> bool:
        """Whether tables or types may be others afterwards, for all that the text tells; with a
        temporary one, which may hide another."""
        return self.verb in _CHANGE_SCHEMA or bool(self.effects & Effect.TEMP)

    @property
    def setting_names(self) -> tuple[str, ...]:
        return tuple(change.name for change in self.settings)

    def with_tenant(self, tenant: tuple[TenantRef, ...]) -> StatementFacts:
        """The same with other tenant keys. (dataclasses.replace takes three times as long.)"""
        return StatementFacts(
            self.verb,
            self.effects,
            self.reads,
            self.writes,
            self.read_only,
            self.lock_clause,
            self.functions,
            tenant,
            self.joins,
            self.settings,
            self.transaction,
            self.name,
            self.prepares,
            self.executes,
            self.arguments,
            self.explains,
        )


class Timing:
    """How long the statements of one fingerprint took lately."""

    __slots__ = ("_samples", "tables", "took_s")

    def __init__(self, tables: frozenset[str] | None = frozenset()) -> None:
        self.tables = tables
        """What they read, without schemas; None where a name depends on the client's encoding."""
        self._samples = 0
        self.took_s = 0.0
        """On the average."""

    def took(self, seconds: float) -> None:
        """One more has been answered."""
        if self._samples < _SAMPLES_MAX:
            self._samples += 1
        self.took_s += (seconds - self.took_s) / self._samples

    def shorter_than(self, seconds: float) -> bool:
        """Whether that is known well enough, and they are."""
        return self._samples >= _SAMPLES_MIN and self.took_s < seconds


@dataclass(frozen=True)
class Facts:
    """A whole text: its statements in order. ``known`` is False where it wasn't parsed."""

    statements: tuple[StatementFacts, ...]
    known: bool = True
    effects: Effect = Effect.NONE
    """Those of all statements together."""
    read_only: bool = True
    """All statements are read-only. True of an empty text."""
    single: bool = True
    """Exactly one statement."""
    first: Verb = Verb.EMPTY
    last: Verb = Verb.EMPTY
    keyed: bool = False
    """A key or a setting in it may name an owner."""
    draws: bool = False
    """A later currval could tell of it."""
    changes_schema: bool = False
    """Tables or types may be others afterwards."""
    timing: Timing | None = field(default=None, compare=False, repr=False)
    """Of one read, what all texts that differ in constants alone have taken."""

    def with_statements(self, statements: tuple[StatementFacts, ...]) -> Facts:
        """The same with other tenant keys in its statements."""
        return Facts(
            statements,
            self.known,
            self.effects,
            self.read_only,
            self.single,
            self.first,
            self.last,
            self.keyed,
            self.draws,
            self.changes_schema,
            self.timing,
        )

    @staticmethod
    def of(statements: tuple[StatementFacts, ...]) -> Facts:
        """The facts of a text from those of its statements."""
        if len(statements) == 1:
            only = statements[0]
            verb, keyed = only.verb, only.keyed
            timing = None
            if only.read_only and verb is Verb.SELECT:
                timing = Timing(_unqualified(only.reads))
            return Facts(
                statements,
                True,
                only.effects,
                only.read_only,
                True,
                verb,
                verb,
                keyed,
                only.draws,
                only.changes_schema,
                timing,
            )
        if not statements:
            return Facts((), single=False)
        effects = Effect.NONE
        for statement in statements:
            effects |= statement.effects
        return Facts(
            statements,
            effects=effects,
            read_only=all(statement.read_only for statement in statements),
            single=False,
            first=statements[0].verb,
            last=statements[-1].verb,
            keyed=any(statement.keyed for statement in statements),
            draws=any(statement.draws for statement in statements),
            changes_schema=any(statement.changes_schema for statement in statements),
        )


_SAMPLES_MIN, _SAMPLES_MAX = 3, 8


def _unqualified(names: frozenset[Name]) -> frozenset[str] | None:
    tables = frozenset(name for _, name in names)
    return tables if all(map(str.isascii, tables)) else None


UNKNOWN_FACTS = Facts(
    (),
    False,
    Effect.UNKNOWN,
    read_only=False,
    single=False,
    first=Verb.UNKNOWN,
    last=Verb.UNKNOWN,
    draws=True,
)
"""A text that wasn't parsed: a write with unknown effects, perhaps of several statements."""
