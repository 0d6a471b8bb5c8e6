"""Tenant keys: where a statement says which tenant it is about, and how that carries over joins."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from gateway.router.sqlparse import Tree
from gateway.router.sqltree import (
    assigned_value,
    cast_of,
    column_name,
    elements,
    is_star,
    output_column,
    uncast,
)
from gateway.router.statement import (
    OPAQUE,
    Const,
    KeyJoin,
    Name,
    Param,
    ParamArray,
    Source,
    TenantRef,
    Use,
)
from gateway.router.values import Unreadable, text_array


class TenantColumns:
    """Which columns name a tenant: ``userId`` in any table, or ``User.id`` in one."""

    __slots__ = ("anywhere", "names", "of_table")

    def __init__(self, columns: Iterable[str]) -> None:
        tables: dict[str, set[str]] = {}
        anywhere: set[str] = set()
        for column in columns:
            table, dot, name = column.rpartition(".")
            if dot:
                tables.setdefault(name, set()).add(table)
            else:
                anywhere.add(name)
        self.anywhere: Final = frozenset(anywhere)
        self.of_table: Final[Mapping[str, set[str]]] = tables
        self.names: Final = self.anywhere | tables.keys()

    def __contains__(self, place: tuple[Name | None, str]) -> bool:
        table, column = place
        return column in self.anywhere or (
            table is not None and table[1] in self.of_table.get(column, ())
        )


Derived = tuple[list[str], Tree]
"""Columns and rows of ``(VALUES ...) AS v (a, b)`` or ``unnest(...) AS v (a, b)``."""


class Scope:
    """What names mean at one place: relations by alias (None: no table), and the CTEs in sight."""

    __slots__ = ("ctes", "derived", "given", "given_in_ctes", "outer", "relations", "target")

    def __init__(self, ctes: dict[str, Derived | None], outer: Scope | None) -> None:
        self.ctes = ctes
        """By name. None: rows that can't be told."""
        self.outer = outer
        self.relations: dict[str, Name | None] = {}
        self.derived: dict[str, Derived] = {}
        """By alias."""
        self.given: dict[str, frozenset[str]] = {}
        """By alias, columns that only are given a tenant column's name: ``id AS "userId"``."""
        self.given_in_ctes: dict[str, frozenset[str]] = {} if outer is None else outer.given_in_ctes
        """The same by the CTE's name."""
        self.target: str | None = None
        """Alias of the relation that the statement changes."""

    @property
    def outermost(self) -> bool:
        """It is that of the whole statement, below the root that has no names."""
        return self.outer is not None and self.outer.outer is None


class Mention:
    """A tenant column and the values it is held against, until the statement is read."""

    __slots__ = (
        "alias",
        "aside",
        "certain",
        "column",
        "scope",
        "sources",
        "table",
        "use",
        "whole",
    )

    def __init__(
        self,
        scope: Scope,
        alias: str | None,
        table: Name | None,
        column: str,
        sources: tuple[Source, ...],
        use: Use,
        certain: bool,
    ) -> None:
        self.scope = scope
        self.alias = alias
        self.table = table
        self.column = column
        self.sources = sources
        self.use = use
        self.certain = certain
        self.whole = scope.outermost
        self.aside = False


VALUES_MAX: Final = 32_768
"""Values that one statement's rows are read for; what comes after is opaque.

Only statements that name the same rows over and over have more than their length allows.
"""


class Keys:
    """Gathers the tenant columns that one statement mentions.

    ``literal`` says afterwards whether another constant in some place could have given other facts
    than another value: a NULL, or a number that is no id.
    """

    __slots__ = ("_values_left", "columns", "joins", "literal", "mentions")

    def __init__(self, columns: TenantColumns) -> None:
        self._values_left = VALUES_MAX
        self.columns = columns
        self.mentions: list[Mention] = []
        self.joins: list[KeyJoin] = []
        self.literal = False

    def refs(self) -> tuple[TenantRef, ...]:
        return tuple(
            [
                TenantRef(
                    m.table,
                    m.column,
                    m.sources,
                    m.use,
                    m.certain,
                    m.whole and m.certain and not m.aside,
                    m.aside,
                )
                for m in self.mentions
            ]
        )

    # ---- comparisons ---------------------------------------------------------------------------

    def equal(
        self, left: Tree, left_scope: Scope, right: Tree, right_scope: Scope, certain: bool
    ) -> None:
        """``left = right``: a mention if one is a tenant column, a key join if both are columns."""
        written = left, right
        left, right = uncast(left), uncast(right)
        left_column, right_column = column_name(left), column_name(right)
        names = self.columns.names
        if left_column not in names and right_column not in names:
            return
        if left_column is None:
            value = self.source(written[0], written[1])
            self.mention(right, right_scope, (value,), certain)
        elif right_column is None:
            value = self.source(written[1], written[0])
            self.mention(left, left_scope, (value,), certain)
        elif values := self.derived(right, right_scope):
            self.mention(left, left_scope, values, certain)
        elif values := self.derived(left, left_scope):
            self.mention(right, right_scope, values, certain)
        elif certain:
            one = (self.place(left, left_scope)[1], left_column)
            other = (self.place(right, right_scope)[1], right_column)
            if one in self.columns or other in self.columns:
                self.joins.append(KeyJoin(one, other))

    def member(self, left: Tree, items: list[Tree], scope: Scope, certain: bool) -> None:
        """``left IN (items)``, also of rows."""
        rows = [elements(item) for item in items]
        for position, column in enumerate(elements(left)):
            compared, column = column, uncast(column)
            if column_name(column) in self.columns.names:
                values = [row[position] if position < len(row) else None for row in rows]
                self.mention(column, scope, self.sources(values, compared), certain)

    def any_element(self, left: Tree, right: Tree, scope: Scope, certain: bool) -> None:
        """``left = ANY (right)`` of an array."""
        left = uncast(left)
        if column_name(left) not in self.columns.names:
            return
        self.mention(left, scope, self.array(right), certain)

    def array(self, tree: Tree) -> tuple[Source, ...]:
        """The elements of an array expression."""
        tree = uncast(tree)
        if "ParamRef" in tree:
            return (ParamArray(tree["ParamRef"].get("number", 0)),)
        if "A_ArrayExpr" in tree:
            items = tree["A_ArrayExpr"].get("elements", [])
            return tuple([self.source(item) for item in items])
        if "A_Const" in tree and "sval" in tree["A_Const"]:
            return self.constant_array(tree["A_Const"]["sval"].get("sval", ""))
        return (OPAQUE,)

    def constant_array(self, text: str) -> tuple[Source, ...]:
        """The elements of ``'{7,8}'``: several values in one constant."""
        self.literal = True
        try:
            return tuple([Const(item) for item in text_array(text)])
        except Unreadable:
            return (OPAQUE,)

    def mention(
        self, column: Tree, scope: Scope, sources: tuple[Source, ...], certain: bool
    ) -> None:
        alias, table, target = self.place(column, scope)
        if alias is not None and alias not in scope.relations:
            certain = False  # of an outer query, to which this is one of many conditions
        name = column["ColumnRef"]["fields"][-1]["String"]["sval"]
        if (table, name) in self.columns and not self.is_given(column, name, scope):
            use = Use.WRITE if target else Use.READ
            self.mentions.append(Mention(scope, alias, table, name, sources, use, certain))

    def is_given(self, column: Tree, name: str, scope: Scope) -> bool:
        """Whether a column is no table's, and only called as a tenant column is."""
        fields = column["ColumnRef"]["fields"]
        alias = fields[-2]["String"]["sval"] if len(fields) > 1 else None
        at: Scope | None = scope
        while at is not None:
            if at.given or at.derived:
                chosen = at.relations if alias is None else (alias,)
                if any(name in at.given.get(one, ()) for one in chosen):
                    return True
            if at.relations and (alias is None or alias in at.relations):
                break
            at = at.outer
        return bool(self.derived(column, scope))

    def given_by(
        self, query: Tree | None, inner: Scope | None, columns: Iterable[Tree]
    ) -> frozenset[str]:
        """Tenant columns' names that a query gives to other columns, or that stand in ``columns``,
        behind an alias."""
        names = self.columns.names
        given = {one["String"]["sval"] for one in columns} & names
        while query is not None and query.get("op", "SETOP_NONE") != "SETOP_NONE":
            query, inner = query["larg"], None
        for target in query.get("targetList", ()) if query is not None else ():
            body = target["ResTarget"]
            value = body.get("val", {})
            column = column_name(value)
            name = body.get("name", column)
            if name in names and (
                column != name or (inner is not None and self.is_given(value, name, inner))
            ):
                given.add(name)
            elif name is None and "ColumnRef" in value and inner is not None:
                given.update(*inner.given.values())
        return frozenset(given)

    def place(self, column: Tree, scope: Scope) -> tuple[str | None, Name | None, bool]:
        """Where a column is: alias, table, and whether that is the relation being changed."""
        fields = column["ColumnRef"]["fields"]
        at: Scope | None = scope
        if len(fields) == 1:
            while at is not None:
                if at.relations:
                    if len(at.relations) > 1:
                        break
                    ((alias, table),) = at.relations.items()
                    return alias, table, alias == at.target
                at = at.outer
            return None, None, False
        alias = fields[-2]["String"]["sval"]
        while at is not None:
            if alias in at.relations:
                table = at.relations[alias]
                if len(fields) > 2:
                    table = (fields[-3]["String"]["sval"], alias)
                return alias, table, alias == at.target
            at = at.outer
        return alias, None, False

    def sources(
        self, values: list[Tree | None], compared: Tree | None = None
    ) -> tuple[Source, ...]:
        """Where the values of several rows come from; None: can't be told."""
        if self._values_left <= 0:
            return (OPAQUE,)
        self._values_left -= len(values)
        return tuple(
            [OPAQUE if value is None else self.source(value, compared) for value in values]
        )

    def source(self, written: Tree, compared: Tree | None = None) -> Source:
        """Where the value of an expression comes from. ``compared`` is what it must be equal to."""
        tree = uncast(written)
        for kind, body in tree.items():
            if kind == "ParamRef":
                cast = cast_of(written, innermost=True)
                if not cast and compared is not None:
                    cast = cast_of(compared, innermost=False)
                return Param(body.get("number", 0), cast)
            if kind == "A_Const":
                return self.constant(body)
        return OPAQUE

    def constant(self, body: Tree) -> Source:
        at: int = body.get("location", 0)
        if "sval" in body:
            return Const(body["sval"].get("sval", ""), at)
        if "ival" in body:
            return Const(str(body["ival"].get("ival", 0)), at)
        if "fval" in body and body["fval"]["fval"].isdigit():
            return Const(body["fval"]["fval"], at)  # more than 32 bits
        self.literal = True
        return OPAQUE

    def together(self, branches: list[list[Mention]], scope: Scope, held: bool) -> None:
        """``a OR b``: certain is a column that every branch holds to some values, and then to all.

        ``branches`` are the certain mentions of each branch about relations of ``scope``. ``held``:
        each branch has some key that holds it, so that all of them together name all owners.
        """
        common = set.intersection(*({(m.alias, m.column) for m in branch} for branch in branches))
        mentions = [mention for branch in branches for mention in branch]
        for alias, column in sorted(common, key=str):
            same = [m for m in mentions if (m.alias, m.column) == (alias, column)]
            sources = tuple([source for mention in same for source in mention.sources])
            table, use = same[0].table, same[0].use
            self.mentions.append(Mention(scope, alias, table, column, sources, use, True))
        for mention in mentions:
            if (mention.alias, mention.column) not in common:
                mention.certain = False
                mention.aside = held
                self.mentions.append(mention)

    def aside(self, first: int) -> None:
        """Those from the ``first`` on stand where they choose no rows of the statement itself."""
        for mention in self.mentions[first:]:
            mention.aside = mention.aside or mention.certain

    def only_certain_of(self, aliases: list[str], first: int, scope: Scope) -> None:
        """An outer join's ON: those from the ``first`` on are certain only of these relations."""
        for mention in self.mentions[first:]:
            mention.whole = False
            if mention.scope is scope and mention.alias not in aliases:
                mention.certain = False

    def using(self, names: list[str], left: list[str], right: list[str], scope: Scope) -> None:
        """JOIN ... USING: where a column is can be told of a side that is one table."""
        first = scope.relations[left[0]] if len(left) == 1 else None
        second = scope.relations[right[0]] if len(right) == 1 else None
        for name in names:
            if (first, name) in self.columns or (second, name) in self.columns:
                self.joins.append(KeyJoin((first, name), (second, name)))

    # ---- new values ----------------------------------------------------------------------------

    def inserted(
        self, table: Name, columns: Iterable[str], query: Tree, inner: Scope | None
    ) -> None:
        """INSERT: the values that new rows get. ``inner`` is the query's scope if it is plain."""
        for position, column in enumerate(columns):
            if (table, column) in self.columns:
                sources = self.output(query, position, inner)
                if (other := self.selected(query, position, inner)) is not None:
                    self.joins.append(KeyJoin((table, column), other))
                self.new(table, column, sources, Use.INSERT)

    def output(self, query: Tree, position: int, scope: Scope | None) -> tuple[Source, ...]:
        """The values in one column of a query's result."""
        if self._values_left <= 0:
            return (OPAQUE,)
        if scope is not None and is_star(query):
            return self.whole_derived(scope, position)
        values = output_column(query, position)
        if scope is not None and len(values) == 1 and values[0] is not None:
            return self.value(values[0], scope)
        return self.sources(values)

    def value(self, tree: Tree, scope: Scope) -> tuple[Source, ...]:
        """The values of an expression that may be a column of rows brought along."""
        tree = uncast(tree)
        if column_name(tree) is None:
            return (self.source(tree),)
        return self.derived(tree, scope) or (OPAQUE,)

    def selected(
        self, query: Tree, position: int, scope: Scope | None
    ) -> tuple[Name | None, str] | None:
        """The column of a table that a plain query's result column is."""
        if scope is None or "valuesLists" in query or self._values_left <= 0:
            return None
        (value,) = output_column(query, position)
        return None if value is None else self.table_column(value, scope)

    def table_column(self, tree: Tree, scope: Scope) -> tuple[Name | None, str] | None:
        """A column reference that is none of rows brought along."""
        tree = uncast(tree)
        name = column_name(tree)
        if name is None or self.derived(tree, scope):
            return None
        return self.place(tree, scope)[1], name

    def merged(self, table: Name, column: str, value: Tree, scope: Scope) -> None:
        """MERGE ... INSERT: the value that a new row gets."""
        if (table, column) in self.columns:
            if (other := self.table_column(value, scope)) is not None:
                self.joins.append(KeyJoin((table, column), other))
            self.new(table, column, self.value(value, scope), Use.INSERT)

    def assigned(self, table: Name, column: str, value: Tree, scope: Scope) -> None:
        """SET column = value; a column set to itself, or to EXCLUDED's, is no news."""
        if (table, column) not in self.columns:
            return
        if column_name(value) == column:
            alias, _, target = self.place(value, scope)
            if target or alias == "excluded":
                return
        self.new(table, column, self.value(assigned_value(value), scope), Use.ASSIGN)

    def new(self, table: Name, column: str, sources: tuple[Source, ...], use: Use) -> None:
        self.mentions.append(Mention(_NOWHERE, None, table, column, sources, use, True))

    # ---- rows that the statement brings along --------------------------------------------------

    def derived(self, column: Tree, scope: Scope) -> tuple[Source, ...]:
        """The values of a column of ``(VALUES ...) AS v (a, b)`` or ``unnest``; none of others."""
        fields = column["ColumnRef"]["fields"]
        alias = fields[-2]["String"]["sval"] if len(fields) > 1 else None
        name = column_name(column)
        for candidate, (columns, rows) in scope.derived.items():
            if name in columns and (alias or candidate) == candidate:
                return self.rows(rows, columns.index(name))
        return ()

    def whole_derived(self, scope: Scope, position: int) -> tuple[Source, ...]:
        """The same for a position of ``SELECT * FROM v``."""
        if len(scope.relations) == 1 and len(scope.derived) == 1:
            ((_, rows),) = scope.derived.values()
            return self.rows(rows, position)
        return (OPAQUE,)

    def rows(self, rows: Tree, position: int) -> tuple[Source, ...]:
        if self._values_left <= 0:
            return (OPAQUE,)
        if "funcname" not in rows:
            return self.sources(output_column(rows, position))
        arguments = rows.get("args", [])
        return self.array(arguments[position]) if position < len(arguments) else (OPAQUE,)


_NOWHERE: Final = Scope({}, None)
"""The scope of mentions that no condition can make uncertain."""
