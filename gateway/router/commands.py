"""One statement of any kind, from its parse tree to its facts.

Queries and changes are read by ``queries``; here is every other command. A kind that is in no table
here is not understood: it is taken for a write with unknown effects.

A visitor takes (extractor, body, scope): where facts are gathered, the node's fields, and what
names mean there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from gateway.router.functions import WITH_EFFECT
from gateway.router.keys import Mention, Scope, TenantColumns
from gateway.router.queries import Extractor
from gateway.router.sqlparse import Tree
from gateway.router.sqltree import (
    is_true,
    names,
    qualified_name,
    relation_name,
    transaction_options,
)
from gateway.router.statement import (
    OPAQUE,
    Const,
    Effect,
    SettingChange,
    Source,
    StatementFacts,
    Verb,
)

_CURSOR_OPT_HOLD: Final = 0x20  # parsenodes.h

_Visitor = Callable[[Extractor, Tree, Scope], Any]


def extract(
    tree: Tree, columns: TenantColumns, harmless: frozenset[str]
) -> tuple[StatementFacts, bool]:
    """The facts of ``{"SelectStmt": {...}}``, and ``Extractor.literal``.

    ``harmless`` are functions to be taken for stable, though they aren't PostgreSQL's own.

    Raises:
        RecursionError: it is nested more deeply than the interpreter's limit allows.
    """
    ((kind, body),) = tree.items()
    x = Extractor(columns, harmless)
    scope = Scope({}, None)
    x.verb, visit = _STATEMENTS.get(kind, _NOT_KNOWN)
    visit(x, body, scope)
    if x.writes or x.lock_clause:
        x.read_only = False
    facts = StatementFacts(
        x.verb,
        Effect(x.effects) if x.effects else Effect.NONE,
        frozenset(x.reads),
        frozenset(x.writes),
        x.read_only,
        x.lock_clause,
        frozenset(x.functions),
        x.keys.refs(),
        tuple(x.keys.joins),
        tuple(x.settings),
        x.transaction,
        x.name,
        x.prepares,
        x.executes,
        x.arguments,
        x.explains,
    )
    return facts, x.literal or x.keys.literal


def _inner(x: Extractor, tree: Tree) -> StatementFacts:
    """The facts of a statement inside this one, by itself."""
    return extract(tree, x.keys.columns, x.harmless)[0]


def _set_statement(x: Extractor, body: Tree, scope: Scope) -> None:
    x.read_only = False
    x.literal = True
    kind, name = body["kind"], body.get("name", "")
    if kind == "VAR_SET_MULTI":
        _set_transaction(x, name, body.get("args", []))
        return
    values: tuple[Source, ...] = ()
    if kind == "VAR_RESET_ALL":
        name = "*"
    elif kind == "VAR_SET_VALUE":
        values = tuple([_setting_value(x, value) for value in body["args"]])
    elif kind not in ("VAR_SET_DEFAULT", "VAR_RESET"):
        x.effects |= Effect.UNKNOWN
    x.change(name.lower(), values, body.get("is_local", False))


def _setting_value(x: Extractor, tree: Tree) -> Source:
    """A value of SET. Numbers with a point keep their digits; SET TIME ZONE INTERVAL is opaque."""
    constant = tree.get("A_Const", {})
    if "fval" in constant:
        return Const(constant["fval"]["fval"], constant.get("location", 0))
    return x.keys.constant(constant) if constant else OPAQUE


def _set_transaction(x: Extractor, name: str, arguments: list[Tree]) -> None:
    """SET TRANSACTION ..., or SET SESSION CHARACTERISTICS AS TRANSACTION ..."""
    if name == "TRANSACTION SNAPSHOT":
        x.effects |= Effect.SETTING_LOCAL
        return
    if name == "TRANSACTION":
        x.transaction = transaction_options(arguments)
        x.effects |= Effect.SETTING_LOCAL
        return
    for argument in arguments:
        option = argument["DefElem"]
        value = x.keys.constant(option["arg"]["A_Const"])
        if option["defname"] != "transaction_isolation" and isinstance(value, Const):
            value = Const("off" if value.value == "0" else "on")
        x.change(f"default_{option['defname']}", (value,), False)


def _show(x: Extractor, body: Tree, scope: Scope) -> None:
    x.name = body["name"].lower()


def _discard(x: Extractor, body: Tree, scope: Scope) -> None:
    x.read_only = False
    x.effects |= Effect.DISCARD
    x.name = body["target"].removeprefix("DISCARD_")
    if x.name == "ALL":
        x.effects |= Effect.SETTING
        x.settings.append(SettingChange("*"))


def _transaction_statement(x: Extractor, body: Tree, scope: Scope) -> None:
    x.read_only = False
    x.literal = True
    kind = body["kind"].removeprefix("TRANS_STMT_")
    verb = _TRANSACTION_VERBS.get(kind)
    if verb is None:
        x.effects |= Effect.UNKNOWN
        return
    x.verb = verb
    x.name = body.get("savepoint_name") or body.get("gid")
    if verb in (Verb.BEGIN, Verb.COMMIT, Verb.ROLLBACK):
        chain = body.get("chain", False)
        x.transaction = transaction_options(body.get("options", []), chain)
    if kind in ("PREPARE", "COMMIT_PREPARED", "ROLLBACK_PREPARED"):
        x.effects |= Effect.TWO_PHASE


def _explain(x: Extractor, body: Tree, scope: Scope) -> None:
    x.literal = True
    inner = x.explains = _inner(x, body["query"])
    runs = any(
        option["DefElem"]["defname"] == "analyze" and is_true(option["DefElem"])
        for option in body.get("options", ())
    )
    x.reads |= inner.reads
    if runs:
        x.effects |= int(inner.effects)
        x.writes |= inner.writes
        x.settings.extend(inner.settings)
    else:
        x.effects |= int(inner.effects & Effect.SQL_EXECUTE)
        x.reads |= inner.writes
    x.read_only = inner.read_only
    x.lock_clause = inner.lock_clause
    x.functions |= inner.functions
    x.keys.joins.extend(inner.joins)
    x.executes = inner.executes
    x.arguments = inner.arguments
    for ref in inner.tenant:
        mention = Mention(scope, None, ref.table, ref.column, ref.sources, ref.use, ref.certain)
        mention.aside = ref.aside
        x.keys.mentions.append(mention)


def _prepare(x: Extractor, body: Tree, scope: Scope) -> None:
    x.literal = True
    _named_effect(x, body["name"], Effect.SQL_PREPARE)
    x.prepares = (body["name"], _inner(x, body["query"]))


def _execute(x: Extractor, body: Tree, scope: Scope) -> None:
    x.literal = True
    _named_effect(x, body["name"], Effect.SQL_EXECUTE)
    x.executes = body["name"]
    arguments = body.get("params", [])
    x.nodes(arguments, scope)
    x.arguments = tuple([x.keys.source(argument) for argument in arguments])


def _named_effect(x: Extractor, name: str | None, effect: Effect) -> None:
    x.read_only = False
    x.effects |= int(effect)
    x.name = name


def _deallocate(x: Extractor, body: Tree, scope: Scope) -> None:
    _named_effect(x, body.get("name"), Effect.SQL_DEALLOCATE)


def _declare(x: Extractor, body: Tree, scope: Scope) -> None:
    hold = body.get("options", 0) & _CURSOR_OPT_HOLD
    x.query(body["query"], scope)
    _named_effect(x, body["portalname"], Effect.HOLD_CURSOR if hold else Effect.CURSOR)


def _cursor(x: Extractor, body: Tree, scope: Scope) -> None:
    _named_effect(x, body.get("portalname"), Effect.CURSOR)


def _copy(x: Extractor, body: Tree, scope: Scope) -> None:
    incoming = body.get("is_from", False)
    if "relation" in body:
        (x.writes if incoming else x.reads).add(relation_name(body["relation"]))
    if "query" in body:
        x.query(body["query"], scope)
    if "whereClause" in body:
        x.node(body["whereClause"], scope)
    if "filename" in body or "is_program" in body:
        x.read_only = False
    else:
        x.effects |= int(Effect.COPY_IN if incoming else Effect.COPY_OUT)


def _listen(x: Extractor, body: Tree, scope: Scope) -> None:
    _named_effect(x, body["conditionname"], Effect.LISTEN)


def _unlisten(x: Extractor, body: Tree, scope: Scope) -> None:
    _named_effect(x, body.get("conditionname"), Effect.UNLISTEN)


def _notify(x: Extractor, body: Tree, scope: Scope) -> None:
    _named_effect(x, body["conditionname"], Effect.NOTIFY)


def _load(x: Extractor, body: Tree, scope: Scope) -> None:
    _named_effect(x, body["filename"], Effect.LOAD)


def _set_constraints(x: Extractor, body: Tree, scope: Scope) -> None:
    _named_effect(x, None, Effect.SETTING_LOCAL)


def _lock_tables(x: Extractor, body: Tree, scope: Scope) -> None:
    x.read_only = False
    x.reads.update(relation_name(item["RangeVar"]) for item in body["relations"])


def _call_procedure(x: Extractor, body: Tree, scope: Scope) -> None:
    x.call(body["funccall"], scope)
    _opaque(x, body, scope)


def _opaque(x: Extractor, body: Tree, scope: Scope) -> None:
    """Whatever it does is not in its text."""
    x.read_only = False
    x.effects |= Effect.UNKNOWN


def _create_as(x: Extractor, body: Tree, scope: Scope) -> None:
    if "ExecuteStmt" in body["query"]:
        _execute(x, body["query"]["ExecuteStmt"], scope)
        x.name = None
    else:
        x.query(body["query"], scope)
    x.into(body["into"])


def _create_view(x: Extractor, body: Tree, scope: Scope) -> None:
    """The query is stored, not run: only what it reads counts."""
    x.creates(body["view"])
    stored = _inner(x, body["query"])
    x.reads |= stored.reads | stored.writes


def _alter_table(x: Extractor, body: Tree, scope: Scope) -> None:
    """Defaults, checks and USING expressions run over the rows."""
    _objects(x, body)
    x.read_only = False
    x.nodes(body.get("cmds", ()), scope)


def _drop(x: Extractor, body: Tree, scope: Scope) -> None:
    x.read_only = False
    x.effects |= Effect.DROP
    if body["removeType"] in _DROPPED_RELATIONS:
        for item in body["objects"]:
            x.writes.add(qualified_name(item["List"]["items"]))


def _drop_owned(x: Extractor, body: Tree, scope: Scope) -> None:
    x.read_only = False
    x.effects |= Effect.DROP


def _ddl(x: Extractor, body: Tree, scope: Scope) -> None:
    """Any other definition: nothing of it runs now, so its relations are all there is to it."""
    x.read_only = False
    _objects(x, body, body.get("oncommit"))


def _database(x: Extractor, body: Tree, scope: Scope) -> None:
    """DROP DATABASE, ALTER DATABASE ... SET TABLESPACE among others."""
    _named_effect(x, body["dbname"], Effect.ALONE)


def _create_database(x: Extractor, body: Tree, scope: Scope) -> None:
    """The template is copied, which nobody else may use meanwhile."""
    options = [option["DefElem"] for option in body.get("options", ())]
    templates = [one["arg"]["String"]["sval"] for one in options if _is_template(one)]
    _named_effect(x, templates[-1] if templates else "template1", Effect.ALONE)


def _is_template(option: Tree) -> bool:
    return option["defname"] == "template" and "String" in option.get("arg", ())


def _rename(x: Extractor, body: Tree, scope: Scope) -> None:
    _ddl(x, body, scope)
    if body["renameType"] == "OBJECT_DATABASE":
        _named_effect(x, body["subname"], Effect.ALONE)


def _create_function(x: Extractor, body: Tree, scope: Scope) -> None:
    """A function in C has its library loaded at once, as LOAD does."""
    _ddl(x, body, scope)
    for option in body.get("options", ()):
        element = option["DefElem"]
        if element["defname"] == "language" and element["arg"]["String"]["sval"] == "c":
            x.effects |= Effect.LOAD


def _objects(x: Extractor, value: Any, on_commit: str | None = None) -> None:
    """Relations anywhere below, and whether something is put into pg_temp."""
    if type(value) is list:
        for item in value:
            _objects(x, item)
    elif type(value) is dict:
        if "relname" in value:
            x.creates(value, on_commit)
        if "funcname" in value and qualified_name(value["funcname"])[1] in _SEQUENCE_READERS:
            x.effects |= Effect.SEQUENCE_READ
        if value.get("String", {}).get("sval", "").startswith("pg_temp"):
            x.effects |= Effect.TEMP
        for key, item in value.items():
            if key in _REFERENCES:
                _referenced(x, item)
            elif type(item) is dict or type(item) is list:
                _objects(x, item, on_commit if key == "relation" else None)


def _referenced(x: Extractor, value: Any) -> None:
    """Relations that a definition looks at: REFERENCES, LIKE, INHERITS, FROM of a trigger."""
    if type(value) is list:
        for item in value:
            _referenced(x, item)
    elif type(value) is dict:
        if "relname" in value:
            x.reads.add(relation_name(value))
        for item in value.values():
            _referenced(x, item)


_SEQUENCE_READERS: Final = WITH_EFFECT[Effect.SEQUENCE_READ]
"""In a column's default or a check, whoever writes there later asks for what they drew."""

_REFERENCES: Final = names("pktable inhRelations constrrel TableLikeClause")

_DROPPED_RELATIONS: Final = frozenset(
    f"OBJECT_{kind}" for kind in names("TABLE VIEW MATVIEW SEQUENCE FOREIGN_TABLE")
)

_TRANSACTION_VERBS: Final[Mapping[str, Verb]] = {
    "BEGIN": Verb.BEGIN,
    "START": Verb.BEGIN,
    "COMMIT": Verb.COMMIT,
    "ROLLBACK": Verb.ROLLBACK,
    "SAVEPOINT": Verb.SAVEPOINT,
    "RELEASE": Verb.RELEASE,
    "ROLLBACK_TO": Verb.ROLLBACK_TO,
    "PREPARE": Verb.PREPARE_TRANSACTION,
    "COMMIT_PREPARED": Verb.COMMIT_PREPARED,
    "ROLLBACK_PREPARED": Verb.ROLLBACK_PREPARED,
}

_DDL: Final = names(
    """
    CreateSchemaStmt AlterCollationStmt AlterDomainStmt GrantStmt GrantRoleStmt
    AlterDefaultPrivilegesStmt CreateStmt CreateTableSpaceStmt DropTableSpaceStmt
    AlterTableSpaceOptionsStmt AlterTableMoveAllStmt CreateFdwStmt AlterFdwStmt
    CreateForeignServerStmt AlterForeignServerStmt CreateForeignTableStmt CreateUserMappingStmt
    AlterUserMappingStmt DropUserMappingStmt ImportForeignSchemaStmt CreatePolicyStmt
    AlterPolicyStmt CreateAmStmt CreateTrigStmt CreateEventTrigStmt AlterEventTrigStmt
    CreatePLangStmt CreateRoleStmt AlterRoleStmt AlterRoleSetStmt DropRoleStmt CreateSeqStmt
    AlterSeqStmt DefineStmt CreateDomainStmt CreateOpClassStmt CreateOpFamilyStmt AlterOpFamilyStmt
    CommentStmt SecLabelStmt IndexStmt CreateStatsStmt AlterStatsStmt CreateFunctionStmt
    AlterFunctionStmt AlterObjectDependsStmt AlterObjectSchemaStmt AlterOwnerStmt
    AlterOperatorStmt AlterTypeStmt RuleStmt CompositeTypeStmt CreateEnumStmt CreateRangeStmt
    AlterEnumStmt AlterDatabaseRefreshCollStmt AlterDatabaseSetStmt
    AlterSystemStmt RefreshMatViewStmt CreateConversionStmt CreateCastStmt
    CreateTransformStmt ReassignOwnedStmt AlterTSDictionaryStmt AlterTSConfigurationStmt
    CreatePublicationStmt AlterPublicationStmt CreateSubscriptionStmt AlterSubscriptionStmt
    DropSubscriptionStmt
"""
)

_UTILITIES: Final = names("ClusterStmt VacuumStmt CheckPointStmt ReindexStmt")

_NOT_KNOWN: Final[tuple[Verb, _Visitor]] = (Verb.UNKNOWN, Extractor.unknown)

_STATEMENTS: Final[Mapping[str, tuple[Verb, _Visitor]]] = {
    **dict.fromkeys(_DDL, (Verb.DDL, _ddl)),
    **dict.fromkeys(_UTILITIES, (Verb.UTILITY, _ddl)),
    "AlterDatabaseStmt": (Verb.DDL, _database),
    "AlterExtensionContentsStmt": (Verb.DDL, _opaque),
    "AlterExtensionStmt": (Verb.DDL, _opaque),
    "AlterTableStmt": (Verb.DDL, _alter_table),
    "CallStmt": (Verb.CALL, _call_procedure),
    "ClosePortalStmt": (Verb.CLOSE, _cursor),
    "ConstraintsSetStmt": (Verb.SET, _set_constraints),
    "CopyStmt": (Verb.COPY, _copy),
    "CreateExtensionStmt": (Verb.DDL, _opaque),
    "CreateFunctionStmt": (Verb.DDL, _create_function),
    "CreateTableAsStmt": (Verb.DDL, _create_as),
    "CreatedbStmt": (Verb.DDL, _create_database),
    "DeallocateStmt": (Verb.DEALLOCATE, _deallocate),
    "DeclareCursorStmt": (Verb.DECLARE, _declare),
    "DeleteStmt": (Verb.DELETE, Extractor.delete),
    "DiscardStmt": (Verb.DISCARD, _discard),
    "DoStmt": (Verb.DO, _opaque),
    "DropOwnedStmt": (Verb.DDL, _drop_owned),
    "DropStmt": (Verb.DDL, _drop),
    "DropdbStmt": (Verb.DDL, _database),
    "ExecuteStmt": (Verb.EXECUTE, _execute),
    "ExplainStmt": (Verb.EXPLAIN, _explain),
    "FetchStmt": (Verb.FETCH, _cursor),
    "InsertStmt": (Verb.INSERT, Extractor.insert),
    "ListenStmt": (Verb.LISTEN, _listen),
    "LoadStmt": (Verb.LOAD, _load),
    "LockStmt": (Verb.LOCK, _lock_tables),
    "MergeStmt": (Verb.MERGE, Extractor.merge),
    "NotifyStmt": (Verb.NOTIFY, _notify),
    "PrepareStmt": (Verb.PREPARE, _prepare),
    "RenameStmt": (Verb.DDL, _rename),
    "SelectStmt": (Verb.SELECT, Extractor.select),
    "TransactionStmt": (Verb.UNKNOWN, _transaction_statement),
    "TruncateStmt": (Verb.TRUNCATE, _ddl),
    "UnlistenStmt": (Verb.UNLISTEN, _unlisten),
    "UpdateStmt": (Verb.UPDATE, Extractor.update),
    "VariableSetStmt": (Verb.SET, _set_statement),
    "VariableShowStmt": (Verb.SHOW, _show),
    "ViewStmt": (Verb.DDL, _create_view),
}
