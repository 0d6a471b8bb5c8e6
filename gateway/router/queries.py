"""Queries and changes: what SELECT, INSERT, UPDATE, DELETE and MERGE read, write, call and name.

The tree is PostgreSQL's raw one, before any catalog is looked at: names are as written, resolved
here only by the statement's own aliases and CTEs. What isn't listed in this module is not
understood, and a statement that holds it is never read-only and has the effect UNKNOWN.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from gateway.router.functions import EFFECTS, READ_ONLY
from gateway.router.keys import Keys, Mention, Scope, TenantColumns
from gateway.router.sqlparse import Tree
from gateway.router.sqltree import (
    called_function,
    column_name,
    elements,
    is_equal,
    is_temporary,
    is_true_constant,
    named_relation,
    names,
    qualified_name,
    relation_name,
    rows_of,
    uncast,
)
from gateway.router.statement import (
    OPAQUE,
    Const,
    Effect,
    Name,
    SettingChange,
    Source,
    StatementFacts,
    TransactionOptions,
    Verb,
)

# Effects as plain numbers: an IntFlag takes 30 times as long to join.
_UNKNOWN: Final = int(Effect.UNKNOWN)
_TEMP: Final = int(Effect.TEMP)
_CURSOR: Final = int(Effect.CURSOR)
_SETTING: Final = int(Effect.SETTING)
_SETTING_LOCAL: Final = int(Effect.SETTING_LOCAL)
_SEQUENCE_WRITE: Final = int(Effect.SEQUENCE_WRITE)
_ROLE: Final = int(Effect.ROLE)
_SESSION_COUNT: Final = int(Effect.SESSION_COUNT)
_EFFECTS: Final = {name: int(effect) for name, effect in EFFECTS.items()}


_COUNTS_SESSIONS: Final = frozenset(
    {(None, "pg_stat_database"), ("pg_catalog", "pg_stat_database")}
)

_Visitor = Callable[["Extractor", Tree, Scope], Any]


class Extractor:
    """Gathers the facts of one statement; ``statement.StatementFacts`` says what they mean.

    ``literal`` says afterwards whether constants decided more than the values of tenant keys.
    """

    __slots__ = (
        "arguments",
        "effects",
        "executes",
        "explains",
        "functions",
        "harmless",
        "keys",
        "literal",
        "lock_clause",
        "name",
        "prepares",
        "read_only",
        "reads",
        "settings",
        "transaction",
        "verb",
        "writes",
    )

    def __init__(self, columns: TenantColumns, harmless: frozenset[str]) -> None:
        self.keys = Keys(columns)
        self.harmless = harmless
        self.verb = Verb.UNKNOWN
        self.effects = 0
        self.read_only = True
        self.lock_clause = False
        self.literal = False
        self.reads: set[Name] = set()
        self.writes: set[Name] = set()
        self.functions: set[Name] = set()
        self.settings: list[SettingChange] = []
        self.transaction: TransactionOptions | None = None
        self.name: str | None = None
        self.prepares: tuple[str, StatementFacts] | None = None
        self.executes: str | None = None
        self.arguments: tuple[Source, ...] = ()
        self.explains: StatementFacts | None = None

    # ---- any node ------------------------------------------------------------------------------

    def node(self, tree: Tree, scope: Scope) -> None:
        for kind, body in tree.items():
            if kind not in _LEAVES:
                _NODES.get(kind, Extractor.unknown)(self, body, scope)

    def nodes(self, trees: Iterable[Tree], scope: Scope) -> None:
        for tree in trees:
            for kind, body in tree.items():
                if kind not in _LEAVES:
                    _NODES.get(kind, Extractor.unknown)(self, body, scope)

    def children(self, body: Tree, scope: Scope) -> None:
        """All that hangs below: nodes have names that begin in upper case, plain fields don't."""
        for key, value in body.items():
            if key[0].isupper():
                self.node({key: value}, scope)
            elif type(value) is dict:
                self.children(value, scope)
            elif type(value) is list:
                for item in value:
                    self.children(item, scope)

    def unknown(self, body: Tree, scope: Scope) -> None:
        """A kind of node that this module does not know."""
        self.effects |= _UNKNOWN
        self.read_only = False
        self.children(body, scope)

    # ---- queries -------------------------------------------------------------------------------

    def query(self, tree: Tree, scope: Scope) -> Scope | None:
        """A whole query in its own scope, which is returned where it is a plain SELECT."""
        body = tree.get("SelectStmt")
        if body is not None:
            return self.select(body, scope)
        self.node(tree, scope)
        return None

    def select(self, body: Tree, outer: Scope) -> Scope | None:
        if not body.keys() <= _SELECT_FIELDS:
            self.unknown({}, outer)
        scope = Scope(outer.ctes, outer)
        if "withClause" in body:
            self.with_clause(body["withClause"], scope)
        if "intoClause" in body:
            self.into(body["intoClause"])
        if "lockingClause" in body:
            self.lock_clause = True
        plain = body["op"] == "SETOP_NONE"
        if plain:
            if "fromClause" in body:
                for item in body["fromClause"]:
                    self.from_item(item, scope)
            if "targetList" in body:
                first = len(self.keys.mentions)
                self.nodes(body["targetList"], scope)
                if any(scope.relations.values()):
                    self.keys.aside(first)
            if "whereClause" in body:
                self.condition(body["whereClause"], scope)
            if "valuesLists" in body:
                for row in body["valuesLists"]:
                    self.nodes(row["List"]["items"], scope)
        else:
            self.set_operation(body, scope)
        for field in _SELECT_NODES:
            if field in body:
                self.node(body[field], scope)
        for field in _SELECT_LISTS:
            if field in body:
                self.nodes(body[field], scope)
        return scope if plain else None

    def set_operation(self, body: Tree, scope: Scope) -> None:
        """UNION, INTERSECT, EXCEPT: long ones lean to the left, so that way is walked by a loop."""
        right = [body["rarg"]]
        left = body["larg"]
        while left["op"] != "SETOP_NONE" and left.keys() <= _SET_OPERATION_FIELDS:
            right.append(left["rarg"])
            left = left["larg"]
        self.select(left, scope)
        for branch in reversed(right):
            self.select(branch, scope)

    def with_clause(self, body: Tree, scope: Scope) -> None:
        """Adds the CTEs to the scope. Each sees those before it; all of them, where RECURSIVE."""
        ctes = [item["CommonTableExpr"] for item in body["ctes"]]
        scope.ctes = dict(scope.ctes)  # those outside don't see them
        if body.get("recursive"):
            scope.ctes.update(dict.fromkeys([cte["ctename"] for cte in ctes]))
        for cte in ctes:
            query = cte["ctequery"]
            inner, columns = self.query(query, scope), cte.get("aliascolnames", [])
            scope.ctes[cte["ctename"]] = rows_of(query.get("SelectStmt"), columns)
            given = self.keys.given_by(query.get("SelectStmt"), inner, columns)
            if given:
                scope.given_in_ctes = {**scope.given_in_ctes, cte["ctename"]: given}

    def into(self, body: Tree) -> None:
        self.creates(body["rel"], body.get("onCommit"))

    def creates(self, relation: Tree, on_commit: str | None = None) -> None:
        """A relation that comes into being."""
        self.writes.add(relation_name(relation))
        if is_temporary(relation) and on_commit != "ONCOMMIT_DROP":
            self.effects |= _TEMP

    # ---- FROM ----------------------------------------------------------------------------------

    def from_item(self, tree: Tree, scope: Scope) -> None:
        for kind, body in tree.items():
            _FROM_ITEMS.get(kind, Extractor.unknown)(self, body, scope)

    def range_var(self, body: Tree, scope: Scope) -> None:
        name: str = body["relname"]
        alias: str = body["alias"]["aliasname"] if "alias" in body else name
        if "schemaname" not in body and name in scope.ctes:
            scope.relations[alias] = None
            if (rows := scope.ctes[name]) is not None:
                scope.derived[alias] = rows
            if (given := scope.given_in_ctes.get(name)) is not None:
                scope.given[alias] = given
        else:
            table = (body.get("schemaname"), name)
            self.reads.add(table)
            scope.relations[alias] = table
            if table in _COUNTS_SESSIONS:
                self.effects |= _SESSION_COUNT
        if "alias" in body and "colnames" in body["alias"]:
            given = self.keys.given_by(None, None, body["alias"]["colnames"])
            scope.given[alias] = scope.given.get(alias, given) | given

    def join(self, body: Tree, scope: Scope) -> None:
        before, mentioned = len(scope.relations), len(self.keys.mentions)
        self.from_item(body["larg"], scope)
        if body["jointype"] in ("JOIN_RIGHT", "JOIN_FULL"):
            self.keys.aside(mentioned)
        middle, mentioned = len(scope.relations), len(self.keys.mentions)
        self.from_item(body["rarg"], scope)
        if body["jointype"] in ("JOIN_LEFT", "JOIN_FULL"):
            self.keys.aside(mentioned)
        aliases = list(scope.relations)
        left, right = aliases[before:middle], aliases[middle:]
        if "usingClause" in body:
            columns = [item["String"]["sval"] for item in body["usingClause"]]
            self.keys.using(columns, left, right, scope)
        if "quals" in body:
            first = len(self.keys.mentions)
            self.condition(body["quals"], scope)
            if body["jointype"] != "JOIN_INNER":
                bound = {"JOIN_LEFT": right, "JOIN_RIGHT": left}.get(body["jointype"], [])
                self.keys.only_certain_of(bound, first, scope)
                self.keys.aside(first)
        if "alias" in body:
            name = body["alias"]["aliasname"]
            inside = [scope.given[one] for one in (*left, *right) if one in scope.given]
            given = self.keys.given_by(None, None, body["alias"].get("colnames", ()))
            scope.relations[name] = None
            scope.given[name] = given.union(*inside)

    def subselect(self, body: Tree, scope: Scope) -> None:
        inner, query = self.query(body["subquery"], scope), body["subquery"].get("SelectStmt")
        self.derived(body, scope, query)
        alias = body.get("alias", {})
        given = self.keys.given_by(query, inner, alias.get("colnames", ()))
        if given:
            scope.given[alias.get("aliasname", "")] = given

    def range_function(self, body: Tree, scope: Scope) -> None:
        self.children(body, scope)
        self.derived(body, scope, called_function(body))
        alias = body.get("alias", {})
        scope.given[alias.get("aliasname", "")] = self.keys.columns.names

    def table_sample(self, body: Tree, scope: Scope) -> None:
        self.from_item(body["relation"], scope)
        if qualified_name(body["method"])[1] not in ("system", "bernoulli"):
            self.unknown({}, scope)
        self.nodes(body.get("args", ()), scope)
        if "repeatable" in body:
            self.node(body["repeatable"], scope)

    def derived(self, body: Tree, scope: Scope, rows: Tree | None) -> None:
        """Something that can be selected from but is no table. ``rows``: what it may consist of."""
        alias = body.get("alias", {})
        name: str = alias.get("aliasname", "")
        scope.relations[name] = None
        known = rows_of(rows, alias.get("colnames", []))
        if known is not None:
            scope.derived[name] = known

    # ---- expressions ---------------------------------------------------------------------------

    def cast(self, body: Tree, scope: Scope) -> None:
        if "arg" in body:
            self.node(body["arg"], scope)

    def result(self, body: Tree, scope: Scope) -> None:
        if "val" in body:
            self.node(body["val"], scope)

    def call(self, body: Tree, scope: Scope) -> None:
        name = qualified_name(body["funcname"])
        self.functions.add(name)
        if name[0] is None or name[0] == "pg_catalog":
            if name[1] not in READ_ONLY:
                self.call_with_effect(name, body)
        else:
            self.call_unknown(name)
        if "args" in body:
            self.nodes(body["args"], scope)
        if not body.keys() <= _PLAIN_CALL:
            rest = {key: value for key, value in body.items() if key not in _PLAIN_CALL}
            self.children(rest, scope)

    def call_with_effect(self, name: Name, body: Tree) -> None:
        effect = _EFFECTS.get(name[1])
        if effect is None:
            self.call_unknown(name)
            return
        self.read_only = False
        if effect == _SETTING:
            self.set_config(body.get("args", []))
        else:
            self.effects |= effect
            if effect == _SEQUENCE_WRITE and "args" in body:
                self.sequence(body["args"][0])

    def sequence(self, argument: Tree) -> None:
        """``nextval('"Lead_id_seq"')`` uses what the constant names."""
        self.literal = True
        name = named_relation(argument)
        if name is not None:
            self.reads.add(name)

    def call_unknown(self, name: Name) -> None:
        written = name[1] if name[0] is None else f"{name[0]}.{name[1]}"
        if written not in self.harmless:
            self.effects |= _UNKNOWN
            self.read_only = False

    def current_of(self, body: Tree, scope: Scope) -> None:
        self.effects |= _CURSOR

    def sublink(self, body: Tree, scope: Scope) -> None:
        self.any_subquery(body, scope, False)

    def any_subquery(self, body: Tree, scope: Scope, certain: bool) -> None:
        """EXISTS (...), (SELECT ...), x IN (SELECT ...): the last may carry the tenant key."""
        inner = self.query(body["subselect"], scope)
        test = body.get("testexpr")
        if test is None:
            return
        self.node(test, scope)
        if inner is None or body["subLinkType"] != "ANY_SUBLINK" or not is_equal(body, "operName"):
            return
        targets = body["subselect"]["SelectStmt"].get("targetList", [])
        for left, target in zip(elements(test), targets, strict=False):
            self.keys.equal(left, scope, target["ResTarget"].get("val", {}), inner, certain)

    def multi_assign(self, body: Tree, scope: Scope) -> None:
        if body["colno"] == 1:  # the others hold the same source again
            self.node(body["source"], scope)

    # ---- conditions, and the tenant keys in them -----------------------------------------------

    def condition(self, tree: Tree, scope: Scope) -> None:
        """An expression that must be true of every row that is used."""
        for kind, body in tree.items():
            if kind == "BoolExpr" and body["boolop"] == "AND_EXPR":
                for item in body["args"]:
                    self.condition(item, scope)
            elif kind == "BoolExpr" and body["boolop"] == "OR_EXPR":
                self.alternatives(body["args"], scope)
            elif kind == "A_Expr":
                self.comparison(body, scope, True)
            elif kind == "SubLink":
                self.any_subquery(body, scope, True)
            else:
                first = len(self.keys.mentions)
                self.node({kind: body}, scope)
                self.keys.aside(first)

    def alternatives(self, branches: list[Tree], scope: Scope) -> None:
        """``a OR b``. Key joins in a branch are no joins of the whole."""
        mentions, joins = self.keys.mentions, self.keys.joins
        own: list[list[Mention]] = []
        before, held = len(mentions), True
        for branch in branches:
            self.keys.mentions, self.keys.joins = [], []
            self.condition(branch, scope)
            own.append([m for m in self.keys.mentions if m.scope is scope and m.certain])
            held = held and any(m.certain and not m.aside for m in self.keys.mentions)
            mentions.extend(m for m in self.keys.mentions if m.scope is not scope or not m.certain)
        self.keys.mentions, self.keys.joins = mentions, joins
        self.keys.together(own, scope, held)
        if not held:
            self.keys.aside(before)

    def operator(self, body: Tree, scope: Scope) -> None:
        self.comparison(body, scope, False)

    def comparison(self, body: Tree, scope: Scope, certain: bool) -> None:
        left, right = body.get("lexpr"), body.get("rexpr")
        if left is not None and right is not None:
            simple = "ColumnRef" in left and ("ParamRef" in right or "A_Const" in right)
            if simple and column_name(left) not in self.keys.columns.names:
                return  # most comparisons: nothing in it to follow
            if is_equal(body, "name"):
                self.equality(body["kind"], left, right, scope, certain)
        if left is not None:
            self.node(left, scope)
        if right is not None:
            self.node(right, scope)

    def equality(self, kind: str, left: Tree, right: Tree, scope: Scope, certain: bool) -> None:
        """``=``, IN, ``= ANY`` and IS NOT DISTINCT FROM; NULLIF, ``= ALL`` and others are none."""
        if kind == "AEXPR_OP" or kind == "AEXPR_NOT_DISTINCT":
            for one, other in zip(elements(left), elements(right), strict=False):
                self.keys.equal(one, scope, other, scope, certain)
        elif kind == "AEXPR_IN":
            self.keys.member(left, right["List"]["items"], scope, certain)
        elif kind == "AEXPR_OP_ANY":
            self.keys.any_element(left, right, scope, certain)

    # ---- INSERT, UPDATE, DELETE, MERGE ---------------------------------------------------------

    def changed(self, body: Tree, outer: Scope) -> Scope:
        """The scope of a statement that changes ``relation``."""
        scope = Scope(outer.ctes, outer)
        if "withClause" in body:
            self.with_clause(body["withClause"], scope)
        relation = body["relation"]
        table = relation_name(relation)
        self.writes.add(table)
        scope.target = relation["alias"]["aliasname"] if "alias" in relation else table[1]
        scope.relations[scope.target] = table
        return scope

    def insert(self, body: Tree, outer: Scope) -> None:
        self.check_fields(body, _INSERT_FIELDS)
        scope = self.changed(body, outer)
        table = relation_name(body["relation"])
        if "selectStmt" in body:
            query = body["selectStmt"]["SelectStmt"]
            without_target = Scope(scope.ctes, outer)
            inner = self.select(query, without_target)
            columns = [column["ResTarget"]["name"] for column in body.get("cols", ())]
            self.keys.inserted(table, columns, query, inner)
        if "onConflictClause" in body:
            conflict = body["onConflictClause"]
            scope.relations["excluded"] = table
            self.assigned(conflict.get("targetList", ()), table, scope)
            first = len(self.keys.mentions)
            if "whereClause" in conflict:
                self.condition(conflict["whereClause"], scope)
            self.keys.aside(first)
            rest = {key: conflict[key] for key in conflict.keys() - {"targetList", "whereClause"}}
            self.children(rest, scope)
            del scope.relations["excluded"]
        self.returning(body, scope)

    def assigned(self, targets: Iterable[Tree], table: Name, scope: Scope) -> None:
        """SET column = value, ..."""
        for target in targets:
            body = target["ResTarget"]
            self.keys.assigned(table, body["name"], body["val"], scope)
            first = len(self.keys.mentions)
            self.node(body["val"], scope)
            self.keys.aside(first)
            if "indirection" in body:
                self.nodes(body["indirection"], scope)

    def update(self, body: Tree, outer: Scope) -> None:
        self.check_fields(body, _UPDATE_FIELDS)
        scope = self.changed(body, outer)
        for item in body.get("fromClause", ()):
            self.from_item(item, scope)
        self.assigned(body["targetList"], relation_name(body["relation"]), scope)
        if "whereClause" in body:
            self.condition(body["whereClause"], scope)
        self.returning(body, scope)

    def delete(self, body: Tree, outer: Scope) -> None:
        self.check_fields(body, _DELETE_FIELDS)
        scope = self.changed(body, outer)
        for item in body.get("usingClause", ()):
            self.from_item(item, scope)
        if "whereClause" in body:
            self.condition(body["whereClause"], scope)
        self.returning(body, scope)

    def merge(self, body: Tree, outer: Scope) -> None:
        self.check_fields(body, _MERGE_FIELDS)
        scope = self.changed(body, outer)
        table = relation_name(body["relation"])
        before = len(self.keys.mentions)
        self.from_item(body["sourceRelation"], scope)
        first = len(self.keys.mentions)
        self.condition(body["joinCondition"], scope)
        # Source rows without a match are used too.
        clauses = body["mergeWhenClauses"]
        unmatched = any(
            one["MergeWhenClause"].get("matchKind") == "MERGE_WHEN_NOT_MATCHED_BY_SOURCE"
            for one in clauses
        )  # that is rows which neither the condition nor the source holds
        self.keys.only_certain_of([] if unmatched else [scope.target or ""], first, scope)
        if unmatched:
            self.keys.aside(before)
        for item in clauses:
            self.merge_when(item["MergeWhenClause"], table, scope)
        self.returning(body, scope)

    def merge_when(self, body: Tree, table: Name, scope: Scope) -> None:
        if "condition" in body:
            self.node(body["condition"], scope)
        targets = body.get("targetList", [])
        if body["commandType"] == "CMD_UPDATE":
            self.assigned(targets, table, scope)
            return
        values = body.get("values", [])
        self.nodes(values, scope)
        for target, value in zip(targets, values, strict=False):
            self.keys.merged(table, target["ResTarget"]["name"], value, scope)

    def returning(self, body: Tree, scope: Scope) -> None:
        if "returningClause" in body:
            first = len(self.keys.mentions)
            self.nodes(body["returningClause"].get("exprs", ()), scope)
            self.keys.aside(first)

    def check_fields(self, body: Tree, known: frozenset[str]) -> None:
        """A clause that a later PostgreSQL may bring is not understood."""
        if not body.keys() <= known:
            self.effects |= _UNKNOWN

    # ---- settings ------------------------------------------------------------------------------

    def set_config(self, arguments: list[Tree]) -> None:
        """``set_config(name, value, is_local)``."""
        self.literal = True
        if len(arguments) != 3 or any("NamedArgExpr" in argument for argument in arguments):
            self.effects |= _UNKNOWN | _ROLE
            self.change("*", (OPAQUE,), False)
            return
        name, value, is_local = (uncast(argument) for argument in arguments)
        constant = self.keys.source(name)
        values: tuple[Source, ...] = (self.keys.source(value),)
        if "A_Const" in value and value["A_Const"].get("isnull"):
            values = ()
        local, certain = is_true_constant(is_local), "A_Const" in is_local
        if isinstance(constant, Const):
            self.change(constant.value.lower(), values, local, certain)
        else:
            self.effects |= _ROLE
            self.change("*", values, local, certain)

    def change(
        self, name: str, values: tuple[Source, ...], local: bool, certain: bool = True
    ) -> None:
        """A setting is changed; ``name`` is lower case."""
        local = local or name in _TRANSACTION_SETTINGS
        self.settings.append(SettingChange(name, values, local, certain))
        if local:
            self.effects |= _SETTING_LOCAL
        elif name in ("role", "session_authorization"):
            self.effects |= _ROLE
        else:
            self.effects |= _SETTING
        if name == "seed":
            self.effects |= int(Effect.RANDOM_SEED)
        elif name == "search_path" and any(
            isinstance(value, Const) and "pg_temp" in value.value for value in values
        ):
            self.effects |= _TEMP  # what is created then, is temporary


# ---- tables ------------------------------------------------------------------------------------

_TRANSACTION_SETTINGS: Final = names(
    "transaction_isolation transaction_read_only transaction_deferrable"
)
"""However they are set, they end with the transaction."""

_PLAIN_CALL: Final = names(
    "funcname args funcformat location agg_star agg_distinct agg_within_group func_variadic"
)

_SELECT_LISTS: Final = ("distinctClause", "groupClause", "windowClause", "sortClause")
_SELECT_NODES: Final = ("havingClause", "limitOffset", "limitCount")
_SET_OPERATION_FIELDS: Final = names("op all larg rarg limitOption")
_SELECT_FIELDS: Final = _SET_OPERATION_FIELDS.union(
    _SELECT_LISTS,
    _SELECT_NODES,
    names("withClause lockingClause intoClause targetList fromClause whereClause"),
    names("valuesLists groupDistinct"),
)
_CHANGE_FIELDS: Final = names("relation withClause returningClause")
_INSERT_FIELDS: Final = _CHANGE_FIELDS | names("cols selectStmt onConflictClause override")
_UPDATE_FIELDS: Final = _CHANGE_FIELDS | names("targetList whereClause fromClause")
_DELETE_FIELDS: Final = _CHANGE_FIELDS | names("usingClause whereClause")
_MERGE_FIELDS: Final = _CHANGE_FIELDS | names("sourceRelation joinCondition mergeWhenClauses")

# Nodes with nothing in them to follow.
_LEAVES: Final = names(
    """
    ColumnRef ParamRef A_Const SQLValueFunction SetToDefault A_Star String Integer Float Boolean
    BitString TypeName RoleSpec MergeSupportFunc Alias ReturningOption JsonFormat JsonReturning
    """
)

# Expressions and clauses that do nothing by themselves.
_PLAIN_NODES: Final = names(
    """
    A_ArrayExpr A_Indices A_Indirection BoolExpr BooleanTest CaseExpr CaseWhen CoalesceExpr
    ColumnDef GroupingFunc GroupingSet IndexElem JsonAggConstructor JsonArgument JsonArrayAgg
    JsonArrayConstructor JsonArrayQueryConstructor JsonBehavior JsonFuncExpr JsonIsPredicate
    JsonKeyValue JsonObjectAgg JsonObjectConstructor JsonOutput JsonParseExpr JsonScalarExpr
    JsonSerializeExpr JsonTableColumn JsonTablePathSpec JsonValueExpr List MinMaxExpr NamedArgExpr
    NullTest RangeTableFuncCol RowExpr SortBy WindowDef XmlExpr XmlSerialize AlterTableCmd
    Constraint PartitionCmd PartitionBoundSpec PartitionRangeDatum DefElem PartitionSpec
    PartitionElem ReplicaIdentityStmt ATAlterConstraint
"""
)

_NODES: Final[Mapping[str, _Visitor]] = {
    **dict.fromkeys(_PLAIN_NODES, Extractor.children),
    "A_Expr": Extractor.operator,
    "CollateClause": Extractor.cast,
    "CurrentOfExpr": Extractor.current_of,
    "DeleteStmt": Extractor.delete,
    "FuncCall": Extractor.call,
    "InsertStmt": Extractor.insert,
    "MergeStmt": Extractor.merge,
    "MultiAssignRef": Extractor.multi_assign,
    "RangeVar": Extractor.range_var,
    "ResTarget": Extractor.result,
    "SelectStmt": Extractor.select,
    "SubLink": Extractor.sublink,
    "TypeCast": Extractor.cast,
    "UpdateStmt": Extractor.update,
}

_FROM_ITEMS: Final[Mapping[str, _Visitor]] = {
    "RangeVar": Extractor.range_var,
    "JoinExpr": Extractor.join,
    "RangeSubselect": Extractor.subselect,
    "RangeFunction": Extractor.range_function,
    "RangeTableFunc": Extractor.range_function,
    "JsonTable": Extractor.range_function,
    "RangeTableSample": Extractor.table_sample,
}
