"""Reading small pieces of libpg_query's parse tree."""

from __future__ import annotations

import re
from typing import Any, Final

from gateway.router.sqlparse import Tree
from gateway.router.statement import Name, TransactionOptions


def names(text: str) -> frozenset[str]:
    """The words of a text. For the tables of node, field and function names."""
    return frozenset(text.split())


_NAMELESS: Final = ({"String": {"sval": "?"}},)
_ID_TYPES: Final = names("text varchar uuid int2 int4 int8 numeric citext")


def relation_name(relation: Tree) -> Name:
    return (relation.get("schemaname"), relation["relname"])


def is_temporary(relation: Tree) -> bool:
    return relation.get("relpersistence") == "t" or relation.get("schemaname", "").startswith(
        "pg_temp"
    )


def qualified_name(parts: list[Tree]) -> Name:
    name: str = parts[-1]["String"]["sval"]
    return (parts[-2]["String"]["sval"] if len(parts) > 1 else None, name)


def column_name(tree: Tree) -> str | None:
    """The name of a column reference; None for anything else, ``t.*`` included."""
    if "ColumnRef" not in tree:
        return None
    last = tree["ColumnRef"]["fields"][-1]
    return last["String"]["sval"] if "String" in last else None


def uncast(tree: Tree) -> Tree:
    """Without casts to types that keep an id's text: ``$1::uuid`` is ``$1``."""
    while "TypeCast" in tree:
        cast = tree["TypeCast"]
        type_name = cast["typeName"]
        names = type_name.get("names", ())
        if (
            not names
            or names[-1]["String"]["sval"] not in _ID_TYPES
            or "typmods" in type_name  # varchar(3) cuts
        ):
            return tree
        tree = cast["arg"]
    return tree


def cast_of(tree: Tree, *, innermost: bool) -> str:
    """The type of the first cast that `uncast` takes off, or of the last; empty without any."""
    found = ""
    while "TypeCast" in tree and (innermost or not found):
        found = tree["TypeCast"]["typeName"].get("names", _NAMELESS)[-1]["String"]["sval"]
        tree = tree["TypeCast"]["arg"]
    return found


def elements(tree: Tree) -> list[Tree]:
    """The elements of a row, or a plain expression by itself."""
    row = tree.get("RowExpr")
    return [tree] if row is None else row.get("args", [])


def named_relation(tree: Tree) -> Name | None:
    """What ``'crm."Lead_id_seq"'`` or ``'lead_id_seq'::regclass`` names; None of anything else."""
    while "TypeCast" in tree:
        tree = tree["TypeCast"]["arg"]
    text = tree.get("A_Const", {}).get("sval", {}).get("sval", "")
    parts = [quoted.replace('""', '"') or plain.lower() for quoted, plain in _PARTS.findall(text)]
    if not 1 <= len(parts) <= 3 or not _RELATION.fullmatch(text):
        return None
    return (parts[-2] if len(parts) > 1 else None, parts[-1])


_PART: Final = r'(?:"((?:[^"]|"")+)"|([^\W\d][\w$]*))'
_PARTS: Final = re.compile(_PART)
_RELATION: Final = re.compile(rf"\s*{_PART}(?:\.{_PART})*\s*")


def is_equal(body: Tree, field: str) -> bool:
    """The operator is PostgreSQL's ``=``; IN (SELECT ...) leaves it out."""
    names = body.get(field)
    if names is None:
        return field == "operName"
    if len(names) > 1 and names[0]["String"]["sval"] != "pg_catalog":
        return False
    return bool(names[-1]["String"]["sval"] == "=")


def assigned_value(value: Tree) -> Tree:
    """The value of one column of ``SET (a, b) = (1, 2)``, or the value itself."""
    multiple = value.get("MultiAssignRef")
    if multiple is None:
        return value
    row = multiple["source"].get("RowExpr", {}).get("args", [])
    return row[multiple["colno"] - 1] if len(row) == multiple["ncolumns"] else {}


def output_column(query: Tree, position: int) -> list[Tree | None]:
    """One column of a query's result: an expression per row or branch, None where unclear."""
    if query["op"] != "SETOP_NONE":
        return output_column(query["larg"], position) + output_column(query["rarg"], position)
    if "valuesLists" in query:
        rows = [row["List"]["items"] for row in query["valuesLists"]]
        return [row[position] if position < len(row) else None for row in rows]
    targets = [target["ResTarget"].get("val", {}) for target in query.get("targetList", [])]
    before = targets[: position + 1]
    if len(before) <= position or any("ColumnRef" in t and column_name(t) is None for t in before):
        return [None]
    return [before[position]]


def is_star(query: Tree) -> bool:
    """``SELECT *`` and nothing else."""
    targets = query.get("targetList", ())
    if len(targets) != 1:
        return False
    value = targets[0]["ResTarget"].get("val", {})
    return "ColumnRef" in value and column_name(value) is None


def rows_of(rows: Tree | None, columns: list[Tree]) -> tuple[list[str], Tree] | None:
    """Column names and rows of VALUES or ``unnest``; None of anything else."""
    if rows is None:
        return None
    given = [column["String"]["sval"] for column in columns]
    if "valuesLists" in rows:
        width = len(rows["valuesLists"][0]["List"]["items"])
        return given + [f"column{n + 1}" for n in range(len(given), width)], rows
    return (given, rows) if "funcname" in rows else None


def called_function(body: Tree) -> Tree | None:
    """The call of ``unnest`` that a function in FROM consists of."""
    functions = body.get("functions", ())
    if len(functions) != 1:
        return None
    call: Tree = functions[0]["List"]["items"][0].get("FuncCall", {})
    return call if call and qualified_name(call["funcname"])[1] == "unnest" else None


def is_true_constant(tree: Tree) -> bool:
    """A constant that PostgreSQL reads as true; anything else is no promise of that."""
    constant = tree.get("A_Const", {})
    if "boolval" in constant:
        return bool(constant["boolval"].get("boolval", False))
    return constant.get("sval", {}).get("sval", "").strip().lower() in _TRUE


_TRUE: Final = names("t tr tru true y ye yes on 1")


def is_true(option: Tree) -> bool:
    """A boolean option, as defGetBoolean reads it; what isn't plainly false counts as true."""
    value = option.get("arg", {})
    if "Integer" in value:
        return bool(value["Integer"].get("ival", 0))
    return value.get("String", {}).get("sval", "").lower() not in ("false", "off")


def transaction_options(options: list[Tree], chain: bool = False) -> TransactionOptions:
    values: dict[str, Any] = {}
    for option in options:
        body = option["DefElem"]
        constant = body["arg"]["A_Const"]
        if "sval" in constant:
            values[body["defname"]] = constant["sval"]["sval"]
        else:
            values[body["defname"]] = bool(constant["ival"].get("ival", 0))
    return TransactionOptions(
        values.get("transaction_read_only"),
        values.get("transaction_isolation"),
        values.get("transaction_deferrable"),
        chain,
    )
