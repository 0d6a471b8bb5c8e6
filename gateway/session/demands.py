"""What a client's statements ask of routing, seen with its search_path and what it prepared."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from gateway.errors import NotPermitted
from gateway.protocol.octets import holds
from gateway.router import demand as demands
from gateway.router.demand import Demand, Keying, demand_of, demand_of_arguments
from gateway.router.facts import UNKNOWN_FACTS
from gateway.router.hints import KEYS, SCATTER, SOURCE, hint
from gateway.router.roaming import SAID_NOTHING, Said
from gateway.router.statement import Const, Facts, StatementFacts, Verb
from gateway.router.tables import PUBLIC, search_path
from gateway.session.context import Context
from gateway.session.holdings import Holdings
from gateway.session.unit import Ask
from gateway.settings.model import AssignedKeys

Path = tuple[str, ...]
"""The schemas of a search path, in order."""

_SEARCH_PATH = "search_path"


class Demands:
    """Reads the statements of one client; ``prepared`` tells what it has parsed under a name."""

    __slots__ = (
        "_context",
        "_holdings",
        "_keying",
        "_path",
        "_prepared",
        "_routing",
        "_settings",
        "path_here",
    )

    def __init__(
        self, context: Context, holdings: Holdings, prepared: Callable[[bytes], Facts | None]
    ) -> None:
        self._context = context
        self._holdings = holdings
        self._prepared = prepared
        self._settings = holdings.settings
        self._routing = context.settings.routing
        self.path_here: Path | None = None
        """The search path that the running transaction has set."""
        self._path: Path | None = None
        self._keying = self._new_keying()

    def together(self, asks: Sequence[Ask]) -> Demand:
        """What these ask for in one transaction. Those only parsed count where none is run.

        Raises Incomplete, NotPermitted.
        """
        keying = self.keying()
        total: Demand = demands.NOTHING
        for ask in asks:
            if not ask.pending:
                total = _both(total, self._of(ask, keying))
        if total is demands.NOTHING:
            for ask in asks:
                if ask.pending:
                    total = _both(total, self._of(ask, keying))
        return total

    def keying(self) -> Keying:
        """How ids and names are read now."""
        settings, routing = self._holdings.settings, self._context.settings.routing
        if (
            settings is not self._settings
            or routing is not self._routing
            or self.path_here is not self._path
        ):
            self._settings, self._routing, self._path = settings, routing, self.path_here
            self._keying = self._new_keying()
        return self._keying

    def heed_path(self, statement: StatementFacts) -> None:
        """SET or set_config() of the search path holds for what follows in the transaction."""
        for change in statement.settings:
            if change.name == _SEARCH_PATH:
                values = [one.value for one in change.values if isinstance(one, Const)]
                if not values:
                    self.path_here = self._path_at_startup()
                elif statement.verb is Verb.SET:
                    self.path_here = tuple(values)
                else:
                    self.path_here = search_path(values[0])

    def _path_at_startup(self) -> Path:
        path = dict(self._holdings.startup).get(_SEARCH_PATH)
        return PUBLIC if path is None else search_path(path)

    def _new_keying(self) -> Keying:
        path = self.path_here
        if path is None:
            kept = dict(self._settings).get(_SEARCH_PATH)
            path = PUBLIC if kept is None else search_path(kept)
        return Keying(
            self._routing.key_type,
            self._context.tables,
            path,
            self._routing.assigned_keys is AssignedKeys.TRUST,
        )

    def _of(self, ask: Ask, keying: Keying) -> Demand:
        if not ask.facts.known:
            return demands.UNKNOWN
        total: Demand = demands.NOTHING
        for statement in ask.facts.statements:
            if statement.settings and demands.sets_what_is_ours(statement):
                raise NotPermitted("settings that begin with gateway. are the gateway's own")
            total = _both(total, self._of_statement(statement, ask, keying))
        return total

    def _of_statement(self, statement: StatementFacts, ask: Ask, keying: Keying) -> Demand:
        if statement.executes is None:
            return demand_of(statement, keying, ask.values, ask.pending)
        inner = self._executed(statement.executes)
        if inner is None:
            return demands.NOTHING  # the server will say that there is none
        if not inner.known or not inner.single:
            return demands.UNKNOWN
        return demand_of_arguments(inner.statements[0], statement.arguments, keying)

    def _executed(self, name: str) -> Facts | None:
        """What EXECUTE of a name runs; None when there is nothing of that name."""
        made = self._holdings.sql_prepared.get(name)
        if made is None:
            return self._prepared(name.encode("utf-8", "surrogateescape"))
        facts = self._context.facts.facts(made.text.encode())
        found = [one.prepares[1] for one in facts.statements if one.prepares is not None]
        return Facts.of((found[0],)) if len(found) == 1 else UNKNOWN_FACTS


def _both(one: Demand, other: Demand) -> Demand:
    if one is demands.NOTHING:
        return other
    return one if other is demands.NOTHING else one + other


_HINTS = (*(f"{key}='".encode() for key in sorted(KEYS)), SCATTER.encode())


def has_comment(text: bytes) -> bool:
    """Whether a text may hold a hint, at next to no cost."""
    return (holds(text, b"*/") or holds(text, b"--")) and any(map(text.__contains__, _HINTS))


def said_in(text: bytes) -> Said:
    """What a statement's own comments say. Raises NoRoute."""
    found = hint(text) if has_comment(text) else None
    if not found:
        return SAID_NOTHING
    return Said(
        found.get("owner"),
        found.get("industry"),
        found.get("role"),
        "comment",
        SCATTER in found,
        found.get(SOURCE, ""),
    )
