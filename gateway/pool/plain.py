"""Which tables of a database are no more than that: a read of them does what its text says.

A view, a policy or an operator may call a function that writes, and no text of a read shows it. So
the server is asked which names stand for more than a table, and what reads one of them is never
sent in a line (decisions/0010), where it may have to be sent twice. No I/O.
"""

from __future__ import annotations

from collections.abc import Iterable

QUESTION = """SELECT c.relname FROM pg_catalog.pg_class AS c, pg_catalog.pg_namespace AS n
WHERE n.oid OPERATOR(pg_catalog.=) c.relnamespace
AND n.nspname OPERATOR(pg_catalog.<>) ALL (ARRAY['pg_catalog', 'information_schema'])
AND (c.relrowsecurity
OR c.relkind OPERATOR(pg_catalog.=) 'v' OR c.relkind OPERATOR(pg_catalog.=) 'f')
UNION SELECT t.typname FROM pg_catalog.pg_proc AS p, pg_catalog.pg_type AS t
WHERE p.pronargs OPERATOR(pg_catalog.=) 1 AND p.provolatile OPERATOR(pg_catalog.=) 'v'
AND t.oid OPERATOR(pg_catalog.=) p.proargtypes[0] AND t.typtype OPERATOR(pg_catalog.=) 'c'
UNION SELECT NULL FROM pg_catalog.pg_proc AS p
WHERE p.provolatile OPERATOR(pg_catalog.=) 'v'
AND p.oid OPERATOR(pg_catalog.>=) 16384::pg_catalog.oid
AND (EXISTS (SELECT FROM pg_catalog.pg_operator AS o WHERE o.oprcode OPERATOR(pg_catalog.=) p.oid)
OR EXISTS (SELECT FROM pg_catalog.pg_cast AS k WHERE k.castfunc OPERATOR(pg_catalog.=) p.oid))
AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend AS d
WHERE d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_proc'::pg_catalog.regclass
AND d.objid OPERATOR(pg_catalog.=) p.oid AND d.deptype OPERATOR(pg_catalog.=) 'e')
LIMIT 1001"""
"""Views, foreign tables, tables with row security, and those of whose rows a volatile function may
be written as a column (``item.cost`` for ``cost(item)``); NULL where an operator or a cast may
write, but for those of extensions. From 16384 on objects are users'."""

_NAMES_MAX = 1000
"""Where there are more, nothing is known to be plain."""
_GOOD_S = 60.0
"""An answer is believed so long: tables may be changed past the gateway."""
_AGAIN_S = 1.0
"""It is asked no sooner than this after an answer, though tables change all the time."""
_UNANSWERED_S = 60.0
"""It is asked again after so long where no answer came."""


class Plain:
    """What one database has said. ``changes`` is how often its tables are known to have changed,
    ``now`` is on the pool's clock."""

    __slots__ = ("_ask_at", "_changes", "_good_until", "_others", "wanted")

    def __init__(self) -> None:
        self._others: frozenset[str] | None = None
        """The names of what is more than a table; None: everything may be."""
        self._changes = -1
        self._good_until = 0.0
        self._ask_at = 0.0
        self.wanted = False
        """It should be asked."""

    def are(self, tables: frozenset[str] | None, changes: int, now: float) -> bool:
        """Whether all of these are tables, for all that is known; None: they can't be compared."""
        if changes != self._changes or now >= self._good_until:
            if now >= self._ask_at:
                self.wanted = True
            return False
        if tables is None or self._others is None:
            return False
        return not self._others or self._others.isdisjoint(tables)

    def asked(self, now: float) -> None:
        """An answer is under way."""
        self.wanted = False
        self._ask_at = now + _UNANSWERED_S

    def told(self, names: Iterable[bytes | None], changes: int, now: float) -> None:
        """The answer to `QUESTION` has come; ``changes`` is from when it was asked."""
        found = set(names)
        self._changes = changes
        self._good_until = now + _GOOD_S
        self._ask_at = now + _AGAIN_S
        self._others = None
        if None not in found and len(found) <= _NAMES_MAX:
            self._others = frozenset((name or b"").decode("utf-8", "replace") for name in found)
