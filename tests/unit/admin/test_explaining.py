"""SHOW ROUTE: each step of a decision in words, with a directory that is a few dictionaries."""

from __future__ import annotations

import pytest

from gateway.admin.errors import CommandSyntax, UnknownLogin
from gateway.admin.explaining import Asked, explained, understood
from gateway.admin.words import statements
from gateway.errors import NoRoute
from gateway.router.build import build_snapshot, tenant_columns
from gateway.router.explain import Reads
from gateway.router.facts import FactsCache
from gateway.router.identity import Grant, Login, LoginKind, Owner, Scope
from gateway.router.slots import slot_of
from gateway.router.topology import Shard
from gateway.settings.model import ReadPolicy, Settings
from tests.unit.router.targets import SETTINGS

_SETTINGS = Settings.model_validate(SETTINGS)
_SNAPSHOT = build_snapshot(_SETTINGS, epoch=1)


class Sources:
    """What the directory of these tests knows; it remembers whom it was asked for."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def login(self, name: str, /) -> Login | None:
        return {
            "anna": Login("anna", LoginKind.OWNER, "", "7"),
            "app": Login("app", LoginKind.SERVICE, ""),
            "op": Login("op", LoginKind.OPERATOR, ""),
            "old": Login("old", LoginKind.SERVICE, "", disabled=True),
        }.get(name)

    async def owner(self, owner_id: str, /) -> Owner | None:
        self.asked.append(owner_id)
        return {
            "7": Owner("7", "LAW", epoch=3, agency="a"),
            "8": Owner("8", "DENTIST"),
            "21": Owner("21", "MEDICAL", "medical_2", 5),
            "22": Owner("22", "MEDICAL"),
            "30": Owner("30", "PIRACY"),
        }.get(owner_id)

    async def grants(self, login_name: str, /) -> tuple[Grant, ...]:
        return (Grant(Scope.AGENCY, "a"),) if login_name == "app" else ()


def _reads(shard: Shard, owner: str) -> Reads:
    return Reads(ReadPolicy.PREFER_REPLICA, [("r1", "usable"), ("r2", "is too far behind")])


async def steps(
    owner: str | None = None, login: str | None = None, statement: str | None = None
) -> list[tuple[str, str]]:
    facts = FactsCache(10, 1_000_000, tenant_columns(_SETTINGS.routing))
    return [
        (one.step, one.found)
        for one in await explained(
            Asked(owner, login, statement), _SETTINGS, _SNAPSHOT, Sources(), facts.facts, _reads
        )
    ]


async def found(step: str, **asked: str) -> str:
    """The first step of that name."""
    return dict(reversed(await steps(**asked)))[step]


async def test_every_step_of_a_read() -> None:
    assert await steps(
        owner="7", login="app", statement='SELECT * FROM "Lead" WHERE "id" = $1'
    ) == [
        ("login", '"app", service login'),
        ("grants", "agency a"),
        ("statement", "SELECT"),
        ("tables", 'industry: "Lead"'),
        ("reads only", "yes: a replica may serve it"),
        ("said", "owner '7' (by SET gateway.owner)"),
        (
            "owner 7",
            "industry LAW, epoch 3, agency a; on law, its only shard"
            f" (hash slot {slot_of('7')} of 1024)",
        ),
        ("rule", "SET gateway.owner 7"),
        ("target", "law (db:5432/law)"),
        ("read policy", "prefer-replica"),
        ("replica r1", "usable"),
        ("replica r2", "is too far behind"),
        ("served by", "a replica: r1"),
    ]


async def test_only_an_owner() -> None:
    assert await found("target", owner="21") == "medical_2 (db:5432/m2)"
    assert "placed on medical_2 by a placement row" in await found("owner 21", owner="21")
    assert f"by hash slot {slot_of('22')} of 1024" in await found("owner 22", owner="22")
    assert "which the settings do not have" in await found("owner 30", owner="30")
    assert (await found("target", owner="30")).startswith("refused, 22023: ")
    assert await found("owner 99", owner="99") == "not known to the directory"
    assert "not known" in await found("target", owner="99")
    assert await found("login", owner="7") == (
        "none named: as a service login that may act for all owners"
    )


LEAD = 'SELECT * FROM "Lead" WHERE "userId" = '


@pytest.mark.parametrize(
    ("asked", "step", "words"),
    [
        ({"statement": LEAD + "8"}, "target", "dentist (db:5432/dentist)"),
        ({"statement": LEAD + "8"}, "key", '"Lead"."userId" read: 8'),
        ({"statement": LEAD + "$1"}, "key", '"Lead"."userId" read: $1, bound later'),
        ({"statement": LEAD + "$1"}, "target", "refused, 0A000: nothing says whose the statement"),
        ({"statement": LEAD + "3 + 4"}, "key", '"Lead"."userId" read: computed'),
        ({"statement": LEAD + "1 OR true"}, "key", '"Lead"."userId" read: 1; only mentioned'),
        ({"statement": f"/* owner='8' */ {LEAD}8", "owner": "7"}, "said", "owner '8' (by comment)"),
        ({"statement": LEAD + "8", "owner": "7"}, "target", "refused, 42501: the statement is for"),
        ({"statement": LEAD + "8", "login": "anna"}, "target", "refused, 42501: "),
        ({"statement": LEAD + "7", "login": "anna"}, "rule", "owner login, by hash slot"),
        ({"statement": LEAD + "8", "login": "app"}, "target", "refused, 42501: service login"),
        ({"statement": LEAD + "8", "login": "op"}, "target", "meta"),
        ({"owner": "8", "login": "op"}, "rule", "gateway.owner of an operator login"),
        ({"owner": "7", "login": "old"}, "login", '"old", service login, disabled'),
        ({"owner": "7", "login": "old"}, "grants", "none: may act for nobody"),
        ({"statement": "SELECT 1"}, "rule", "no table: home"),
        ({"statement": 'SELECT * FROM "User"'}, "tables", "meta, of which each industry has its"),
        ({"statement": 'SELECT * FROM "User"'}, "target", "meta (db:5432/meta)"),
        ({"statement": "SELEC"}, "statement", "not read: too long, or no SQL"),
        ({"statement": ""}, "statement", "empty"),
        ({"statement": LEAD + "8 FOR UPDATE"}, "reads only", "no: locks rows"),
        ({"statement": 'DELETE FROM "Lead" WHERE "userId" = 8'}, "reads only", "no: writes Lead"),
        (
            {"statement": 'DELETE FROM "Lead" WHERE "userId" = 8'},
            "served by",
            "the primary: it may",
        ),
        (
            {"statement": 'SELECT f(id) FROM "Lead" WHERE "userId" = 8'},
            "reads only",
            "no: calls f, not known to be harmless",
        ),
        ({"statement": "LOCK x"}, "reads only", "no: LOCK is no query"),
        ({"statement": f"/* role='primary' */ {LEAD}8"}, "served by", "the primary: the role was"),
        (
            {"statement": 'SELECT * FROM "ConversationMessage" WHERE "conversationId" = 70'},
            "rule",
            'whose "Conversation"."id" = 70 is',
        ),
    ],
)
async def test_steps_of_all_kinds(asked: dict[str, str], step: str, words: str) -> None:
    assert (await found(step, **asked)).startswith(words)


async def test_an_unknown_login_and_a_comment_that_contradicts_itself() -> None:
    with pytest.raises(UnknownLogin):
        await steps(login="nobody", owner="7")
    with pytest.raises(NoRoute):
        await steps(statement="/* owner='7' */ SELECT 1 /* owner='8' */")


@pytest.mark.parametrize(
    ("text", "asked"),
    [
        ("FOR OWNER 7", Asked("7")),
        ("OWNER 'a b' LOGIN app", Asked("a b", "app")),
        ("for login \"App\" statement 'SELECT ''x''' owner 7", Asked("7", "App", "SELECT 'x'")),
        ("FOR STATEMENT 'SELECT 1 LIMIT 5'", Asked(statement="SELECT 1 LIMIT 5")),
    ],
)
def test_what_is_asked(text: str, asked: Asked) -> None:
    (words,) = statements(text)
    assert understood(words) == asked


@pytest.mark.parametrize(
    "text", ["FOR", "OWNER", "OWNER 7 OWNER 8", "FOR OWNER a-b", "7", "FOR OWNER 7 NOW", "OWNER ="]
)
def test_what_is_not_understood(text: str) -> None:
    (words,) = statements(text)
    with pytest.raises(CommandSyntax) as caught:
        understood(words)
    assert caught.value.hint.startswith("SHOW ROUTE FOR")
