"""A route in words: each step to it, the rule that decided and what a read would meet.

Pure, and nothing is run: what the directory and the health of replicas say is given.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from gateway.errors import GatewayError
from gateway.router import demand as demands
from gateway.router.demand import Demand, Keying, demand_of
from gateway.router.facts import (
    Const,
    Effect,
    Facts,
    Param,
    ParamArray,
    Source,
    StatementFacts,
    TenantRef,
)
from gateway.router.functions import READ_ONLY
from gateway.router.identity import Grant, Login, LoginKind, Owner
from gateway.router.replicas import USABLE
from gateway.router.roaming import Known, NeedParent, Said, foreign_key_value, route_demand
from gateway.router.route import Asked, Outcome, Reject, Route, home_of, route
from gateway.router.route import Known as OneKnown
from gateway.router.slots import SLOTS, slot_of
from gateway.router.topology import Industry, Shard, Snapshot
from gateway.settings.model import KeyMismatch, ReadPolicy

ANYBODY = Login("", LoginKind.SERVICE, "")
"""Stands for a service login that may act for everybody, where none is named."""


class Step(NamedTuple):
    """One step on the way, and what was found or decided there."""

    step: str
    found: str


@dataclass(frozen=True, slots=True)
class Question:
    """Whose statement is asked about. ``facts`` is None where there is none, but only an owner."""

    snapshot: Snapshot
    login: Login
    said: Said
    keying: Keying
    facts: Facts | None = None
    mismatch: KeyMismatch = KeyMismatch.REFUSE

    @property
    def demand(self) -> Demand:
        """What the statement asks for, with no values bound. One that is not there: any table."""
        if self.facts is None:
            return Demand(demands.UNKNOWN.place)
        if not self.facts.known:
            return demands.UNKNOWN
        total = demands.NOTHING
        for statement in self.facts.statements:
            one = demand_of(statement, self.keying, None)
            total = one if total is demands.NOTHING else total + one
        return total

    @property
    def named(self) -> set[str]:
        """The owners that anything in it names."""
        said = {one for one in (self.said.owner, self.login.owner) if one}
        return said | self.demand.owners


@dataclass(frozen=True, slots=True)
class Reads:
    """How reads of a shard are placed; ``replicas`` are names, each with what it is fit for."""

    policy: ReadPolicy
    replicas: Sequence[tuple[str, str]] = field(default=())


def decide(question: Question, known: Known) -> Outcome | NeedParent:
    """Where it goes; NeedOwner and NeedParent as for a client."""
    login, snapshot, said = question.login, question.snapshot, question.said
    if login.kind is LoginKind.SERVICE:
        return route_demand(snapshot, login, said, question.demand, known, None, question.mismatch)
    if login.kind is LoginKind.OPERATOR and said.owner is None:
        return Route(snapshot.meta, snapshot.meta.primary, "operators name a database; here: meta")
    of = login.owner if login.kind is LoginKind.OWNER else said.owner
    assert of is not None
    outcome = route(snapshot, login, Asked("", said.owner), OneKnown(known.owner(of)))
    foreign = question.demand.owners - {of}
    guarded = login.kind is LoginKind.OWNER and question.mismatch is KeyMismatch.REFUSE
    if isinstance(outcome, Route) and foreign and guarded:
        return Reject(foreign_key_value(of, f'login "{login.name}"', set(foreign)))
    return outcome


def explain(
    question: Question,
    outcome: Outcome | NeedParent,
    known: Known,
    reads: Reads | None,
) -> list[Step]:
    """Each step of a decision. ``reads`` are those of the shard it goes to, if any."""
    steps = [*_of_login(question.login, known)]
    if question.facts is not None:
        steps += _of_facts(question.facts, question.keying)
    steps.append(Step("said", _said(question.said)))
    steps += _of_owners(question, known)
    steps += _of_outcome(outcome)
    if isinstance(outcome, Route) and reads is not None:
        steps += _of_reads(question, outcome.shard, reads)
    return steps


# --- who ---


def _of_login(login: Login, known: Known) -> Iterator[Step]:
    if login is ANYBODY:
        yield Step("login", "none named: as a service login that may act for all owners")
        return
    kind = f'"{login.name}", {login.kind.value} login'
    if login.owner is not None:
        kind += f', bound to owner "{login.owner}"'
    yield Step("login", kind + (", disabled" if login.disabled else ""))
    if login.kind is LoginKind.SERVICE:
        yield Step(
            "grants", ", ".join(map(_grant, known.grants or ())) or "none: may act for nobody"
        )


def _grant(grant: Grant) -> str:
    return "all owners" if grant.covers_all else f"{grant.scope.value} {grant.value}"


def _said(said: Said) -> str:
    words = [
        f"{name} '{value}'"
        for name, value in (("owner", said.owner), ("industry", said.industry), ("role", said.role))
        if value is not None
    ]
    return f"{', '.join(words)} (by {said.source or 'comment'})" if words else "nothing"


def _of_owners(question: Question, known: Known) -> Iterator[Step]:
    """Where those live who are named."""
    for owner_id in sorted(question.named):
        owner = known.owner(owner_id)
        if owner is None:
            yield Step(f"owner {owner_id}", "not known to the directory")
        else:
            yield Step(f"owner {owner_id}", _home(question.snapshot, owner))


def _home(snapshot: Snapshot, owner: Owner) -> str:
    words = [f"industry {owner.industry}", f"epoch {owner.epoch}"]
    words += [f"agency {owner.agency}"] if owner.agency is not None else []
    industry = snapshot.industries.get(owner.industry)
    shard = home_of(snapshot, owner)
    if industry is None:
        return ", ".join([*words, "which the settings do not have"])
    return ", ".join(words) + f"; {_placed(industry, owner, shard)}"


def _placed(industry: Industry, owner: Owner, shard: Shard | None) -> str:
    if owner.shard is not None:
        there = "" if shard is not None else ", which is no shard of the industry"
        return f"placed on {owner.shard} by a placement row{there}"
    slot = slot_of(owner.id)
    assert shard is not None
    if len(industry.shards) == 1:
        return f"on {shard.name}, its only shard (hash slot {slot} of {SLOTS})"
    return f"on {shard.name}, by hash slot {slot} of {SLOTS}"


# --- what ---


def _of_facts(facts: Facts, keying: Keying) -> Iterator[Step]:
    if not facts.known:
        yield Step("statement", "not read: too long, or no SQL to PostgreSQL's grammar")
        return
    if not facts.statements:
        yield Step("statement", "empty")
    for statement in facts.statements:
        yield Step("statement", _statement(statement))
        placed = keying.tables.placement(
            statement.reads, statement.writes, statement.lock_clause, keying.path
        )
        if placed.tables:
            shared = ", of which each industry has its part" if placed.only_shared else ""
            tables = ", ".join(sorted(placed.tables))
            yield Step("tables", f"{placed.place.value}{shared}: {tables}")
        for ref in statement.tenant:
            yield Step("key", _key(ref))
    yield Step("reads only", _why_no_read(facts) or "yes: a replica may serve it")


def _statement(statement: StatementFacts) -> str:
    words = [statement.verb.value]
    effects = [effect.name for effect in Effect if effect and effect in statement.effects]
    words += [f"effects: {', '.join(str(name) for name in effects)}"] if effects else []
    if statement.executes is not None:
        words.append(f'executes "{statement.executes}", which only its session knows')
    return "; ".join(words)


def _key(ref: TenantRef) -> str:
    table = "" if ref.table is None else f'"{ref.table[1]}".'
    values = ", ".join(map(_value, ref.sources))
    note = "" if ref.certain else "; only mentioned, holds no table"
    return f'{table}"{ref.column}" {ref.use.value}: {values}{note}'


def _value(source: Source) -> str:
    if isinstance(source, Const):
        return source.value
    if isinstance(source, Param | ParamArray):
        return f"${source.number}, bound later"
    return "computed"


def _why_no_read(facts: Facts) -> str:
    """What keeps a text from being a provable read; empty when nothing does."""
    if facts.read_only:
        return ""
    return "no: " + "; ".join(
        _why_writes(statement) for statement in facts.statements if not statement.read_only
    )


def _why_writes(statement: StatementFacts) -> str:
    if statement.writes:
        return f"writes {', '.join(sorted(name for _, name in statement.writes))}"
    if statement.lock_clause:
        return "locks rows"
    called = sorted(name for _, name in statement.functions if name not in READ_ONLY)
    if called:
        return f"calls {', '.join(called)}, not known to be harmless"
    return f"{statement.verb.value} is no query"


# --- where ---


def _of_outcome(outcome: Outcome | NeedParent) -> Iterator[Step]:
    if isinstance(outcome, Route):
        end = outcome.endpoint
        yield Step("rule", outcome.reason)
        yield Step("target", f"{outcome.shard.name} ({end.host}:{end.port}/{end.database})")
    elif isinstance(outcome, Reject):
        yield from _refused(outcome.error)
    elif isinstance(outcome, NeedParent):
        key = outcome.key
        yield Step("rule", f'whose "{key.table}"."{key.column}" = {key.value} is')
        yield Step("target", "that of its owner, whom the industries' databases would be asked for")
    else:
        yield Step("target", f"refused: owner {outcome.owner} is not known to the directory")


def _refused(error: GatewayError) -> Iterator[Step]:
    yield Step("target", f"refused, {error.sqlstate}: {error.message}")
    if error.hint:
        yield Step("hint", error.hint)


def _of_reads(question: Question, shard: Shard, reads: Reads) -> Iterator[Step]:
    """Whether a replica would serve, and why not each."""
    yield Step("read policy", reads.policy.value)
    for name, fit in reads.replicas:
        yield Step(f"replica {name}", fit)
    yield Step("served by", _served_by(question, shard, reads))


def _served_by(question: Question, shard: Shard, reads: Reads) -> str:
    said = question.said.role
    policy = {"primary": ReadPolicy.PRIMARY, "replica": ReadPolicy.PREFER_REPLICA}.get(
        said or "", reads.policy
    )
    if question.login.kind is LoginKind.OPERATOR and said is None:
        policy = ReadPolicy.PRIMARY
    if question.facts is not None and not question.facts.read_only:
        return "the primary: it may write"
    if policy is ReadPolicy.PRIMARY:
        return "the primary: " + ("the role was said" if said else "reads go there")
    fit = [name for name, words in reads.replicas if words == USABLE]
    if fit:
        return f"a replica: {', '.join(fit)}"
    return (
        "no replica is fit now"
        if policy is ReadPolicy.REPLICA_ONLY
        else "the primary: no replica is fit"
    )
