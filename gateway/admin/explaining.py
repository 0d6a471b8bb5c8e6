"""SHOW ROUTE and `gateway route`: the directory is asked what a decision needs; nothing is run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

from gateway.admin.errors import CommandSyntax, UnknownLogin
from gateway.admin.words import Kind, Statement, Token
from gateway.router.build import build_tables
from gateway.router.demand import Keying, ParentKey
from gateway.router.explain import ANYBODY, Question, Reads, Step, decide, explain
from gateway.router.facts import Facts
from gateway.router.identity import Grant, Login, LoginKind, Owner, Scope
from gateway.router.roaming import SAID_NOTHING, Said
from gateway.router.route import NeedOwner, Route
from gateway.router.topology import Shard, Snapshot
from gateway.router.values import canonical
from gateway.session.demands import said_in
from gateway.settings.model import AssignedKeys, Settings

USAGE = "SHOW ROUTE FOR [OWNER <id>] [LOGIN <name>] [STATEMENT '<sql>']"
_WORDS = ("OWNER", "LOGIN", "STATEMENT")
_ASKED_MAX = 100
"""Owners looked up for one statement."""


@dataclass(frozen=True, slots=True)
class Asked:
    """Whose statement is asked about; ``owner`` is what a setting would say."""

    owner: str | None = None
    login: str | None = None
    statement: str | None = None


class Sources(Protocol):
    """The directory, of a worker or of the command line."""

    async def login(self, name: str, /) -> Login | None:
        """The login of that name."""

    async def owner(self, owner_id: str, /) -> Owner | None:
        """Where that owner lives."""

    async def grants(self, login_name: str, /) -> tuple[Grant, ...]:
        """For whom a service login may act."""


class _Known:
    """What was asked so far."""

    def __init__(self, grants: tuple[Grant, ...]) -> None:
        self.grants: tuple[Grant, ...] | None = grants
        self.owners: dict[str, Owner | None] = {}

    def owner(self, owner_id: str) -> Owner | None:
        return self.owners.get(owner_id)

    def parent(self, key: ParentKey) -> str | None:
        return None


def understood(words: Statement) -> Asked:
    """What stands behind SHOW ROUTE: pairs of a word and a value. Raises CommandSyntax."""
    if words and words[0].text == "FOR":
        words = words[1:]
    found: dict[str, str] = {}
    for at in range(0, len(words), 2):
        word = words[at]
        value = words[at + 1] if at + 1 < len(words) else None
        if word.text not in _WORDS or word.text in found or value is None or not _is_value(value):
            raise CommandSyntax("what SHOW ROUTE is for can't be read", hint=f"{USAGE}.")
        found[word.text] = value.text if value.kind is Kind.TEXT else value.raw
    if not found:
        raise CommandSyntax("SHOW ROUTE for whom, or for what statement?", hint=f"{USAGE}.")
    return Asked(found.get("OWNER"), found.get("LOGIN"), found.get("STATEMENT"))


def _is_value(token: Token) -> bool:
    return token.kind is not Kind.SIGN


async def explained(
    asked: Asked,
    settings: Settings,
    snapshot: Snapshot,
    sources: Sources,
    facts_of: Callable[[bytes], Facts],
    reads: Callable[[Shard, str], Reads],
) -> list[Step]:
    """Every step of a route. ``reads`` tells what a shard's replicas are fit for, for an owner.

    Raises UnknownLogin, NoRoute for comments that contradict each other, DirectoryUnavailable.
    """
    login = await _login(asked, sources)
    grants = await _grants(login, sources)
    known = _Known(grants)
    text = None if asked.statement is None else asked.statement.encode()
    routing = settings.routing
    question = Question(
        snapshot,
        login,
        _said(asked, said_in(text) if text is not None else SAID_NOTHING, settings),
        Keying(
            routing.key_type,
            build_tables(routing),
            trust_assigned=routing.assigned_keys is AssignedKeys.TRUST,
        ),
        None if text is None else facts_of(text),
        routing.key_mismatch,
    )
    for one in sorted(question.named)[:_ASKED_MAX]:
        known.owners[one] = await sources.owner(one)
    outcome = decide(question, known)
    while isinstance(outcome, NeedOwner) and outcome.owner not in known.owners:
        known.owners[outcome.owner] = await sources.owner(outcome.owner)
        outcome = decide(question, known)
    of = reads(outcome.shard, outcome.owner or "") if isinstance(outcome, Route) else None
    return explain(question, outcome, known, of)


async def _login(asked: Asked, sources: Sources) -> Login:
    if asked.login is None:
        return ANYBODY
    login = await sources.login(asked.login)
    if login is None:
        raise UnknownLogin(f'login "{asked.login}" does not exist')
    return login


async def _grants(login: Login, sources: Sources) -> tuple[Grant, ...]:
    if login is ANYBODY:
        return (Grant(Scope.ALL),)
    return await sources.grants(login.name) if login.kind is LoginKind.SERVICE else ()


def _said(asked: Asked, comment: Said, settings: Settings) -> Said:
    """The comment first, then the owner that a setting would say."""
    if comment.owner is not None or asked.owner is None:
        owner, source = comment.owner, comment.source
    else:
        owner, source = asked.owner, "SET gateway.owner"
    if owner is not None:
        owner = canonical(settings.routing.key_type, owner) or owner
    return replace(comment, owner=owner, source=source)
