"""Facts as one line of text, so that what is expected of a statement reads like the statement."""

from __future__ import annotations

from gateway.router.facts import (
    Const,
    Effect,
    Facts,
    KeyJoin,
    Name,
    Param,
    ParamArray,
    SettingChange,
    Source,
    StatementFacts,
    TenantRef,
)


def describe(facts: Facts) -> str:
    """All of it; what is absent or empty isn't said.

    ``SELECT ro r=Lead,crm.Deal f=count [Lead.userId read $1]``: verb; ``ro`` read-only; ``lock``;
    ``+EFFECT`` each; r= reads; w= writes; f= functions; tenant keys as [table.column use values],
    with ``?`` for a table or value that can't be told, ``~`` before one that isn't certain; key
    joins as [table.column==table.column]; settings as {name=values}, {~name=...} local, {name}
    reset; transaction options as <...>; name: what it names.
    """
    if not facts.known:
        return "unknown"
    return " ; ".join(_statement(statement) for statement in facts.statements) or "nothing"


def _statement(s: StatementFacts) -> str:
    words = [s.verb.value]
    words += ["ro"] if s.read_only else []
    words += ["lock"] if s.lock_clause else []
    words += [f"+{effect.name}" for effect in Effect if effect and effect in s.effects]
    for key, group in (("r", s.reads), ("w", s.writes), ("f", s.functions)):
        words += [f"{key}={','.join(sorted(map(_name, group)))}"] if group else []
    words += [_ref(ref) for ref in s.tenant]
    words += [_join(join) for join in s.joins]
    words += [_setting(setting) for setting in s.settings]
    if s.transaction is not None:
        words += _options(s)
    words += [f"name:{s.name}"] if s.name is not None else []
    words += [f"executes:{s.executes}"] if s.executes is not None else []
    words += [f"({','.join(map(_source, s.arguments))})"] if s.arguments else []
    words += [f"prepares:{s.prepares[0]}({_statement(s.prepares[1])})"] if s.prepares else []
    words += [f"explains({_statement(s.explains)})"] if s.explains else []
    return " ".join(words)


def _name(name: Name) -> str:
    return name[1] if name[0] is None else f"{name[0]}.{name[1]}"


def _place(table: Name | None, column: str) -> str:
    return f"{_name(table) if table else '?'}.{column}"


def _source(source: Source) -> str:
    match source:
        case Param(number):
            return f"${number}"
        case ParamArray(number):
            return f"${number}[]"
        case Const(value):
            return f"'{value}'"
    return "?"


def _ref(ref: TenantRef) -> str:
    values = ",".join(map(_source, ref.sources))
    unsure = "" if ref.certain else "~"
    return f"[{unsure}{_place(ref.table, ref.column)} {ref.use.value} {values}]"


def _join(join: KeyJoin) -> str:
    return f"[{_place(*join.left)}=={_place(*join.right)}]"


def _setting(setting: SettingChange) -> str:
    local = "~" if setting.local else ""
    values = "=" + ",".join(map(_source, setting.values)) if setting.values else ""
    return f"{{{local}{setting.name}{values}}}"


def _options(s: StatementFacts) -> list[str]:
    options = s.transaction
    assert options is not None
    words = [options.isolation] if options.isolation else []
    for value, yes, no in (
        (options.read_only, "read only", "read write"),
        (options.deferrable, "deferrable", "not deferrable"),
    ):
        words += [] if value is None else [yes if value else no]
    words += ["chain"] if options.chain else []
    return [f"<{', '.join(words)}>"] if words else []
