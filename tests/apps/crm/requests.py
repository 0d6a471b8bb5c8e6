"""What owners ask of the CRM: one table of requests, drawn from a seed, the same in every run.

A request names rows by the ids that earlier answers brought. Ids differ from run to run; their
order within one owner does not, so that draws are made by that order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any

KINDS = (
    *("lead", "deal", "campaign", "workflow", "instance", "task", "conversation", "message"),
    *("invoice", "payment", "note", "appointment"),
)
"""An answer holds ids under ``<kind>Id`` only."""

NO_SUCH_ID = 2_147_483_647

Arguments = dict[str, Any]


@dataclass(slots=True)
class Visitor:
    """One owner at work: its draws, and the ids it has seen, per kind in order of sight."""

    owner: int
    email: str
    random: Random
    seen: dict[str, list[int]] = field(default_factory=lambda: {kind: [] for kind in KINDS})
    token: str = ""
    made: int = 0

    @property
    def tag(self) -> str:
        """A word that no other row has."""
        self.made += 1
        return f"{self.token} {self.made}"

    def some(self, kind: str) -> int:
        """An id seen before; now and then, or when there is none, that of no row."""
        ids = self.seen[kind]
        if not ids or self.random.random() < 0.03:
            return NO_SUCH_ID
        return self.random.choice(ids)

    def several(self, kind: str) -> list[int]:
        return [self.some(kind) for _ in range(self.random.randrange(1, 5))]

    def number(self, below: int) -> int:
        return self.random.randrange(below)

    def pick(self, *words: str) -> str:
        return self.random.choice(words)


def _new_lead(who: Visitor) -> Arguments:
    tag = who.tag
    return {
        "name": f"Léa {tag}",
        "email": f"{tag.replace(' ', '.')}@example.com",
        "source": who.pick("website", "call", "fair"),
        "score": who.number(100),
        "tags": [who.pick("hot", "cold", "vip"), "new"],
        "custom": {"city": who.pick("Köln", "Paris"), "visits": [who.number(9), None]},
    }


def _items(who: Visitor) -> list[Arguments]:
    return [
        {"text": who.pick("Advice", "Work", "Parts"), "net": f"{who.number(100_000) / 100:.2f}"}
        for _ in range(1 + who.number(3))
    ]


_Draw = Callable[[Visitor], Arguments]

_NOTHING: _Draw = lambda who: {}  # noqa: E731

DRAWS: Mapping[str, tuple[int, _Draw]] = {
    # identity and billing: the meta database's
    "profile": (4, _NOTHING),
    "set_feature": (
        3,
        lambda who: {"feature": who.pick("sms", "calls", "ai"), "enabled": who.number(2) == 1},
    ),
    "change_plan": (
        2,
        lambda who: {"plan": who.pick("FREE", "PRO", "TEAM"), "seats": who.number(9)},
    ),
    "make_key": (1, lambda who: {"name": who.tag, "hash": who.tag}),
    "agencies": (1, _NOTHING),
    # leads and deals
    "overview": (1, _NOTHING),
    "leads": (
        9,
        lambda who: {
            "status": who.pick("NEW", "QUALIFIED", "CONVERTED") if who.number(3) else None,
            "skip": who.number(3) * 5,
        },
    ),
    "find_leads": (3, lambda who: {"words": who.pick("%a%", "%Léa%", "%.5%"), "tag": "new"}),
    "lead": (7, lambda who: {"leadId": who.some("lead")}),
    "leads_with_deals": (4, lambda who: {"leadIds": who.several("lead")}),
    "create_lead": (7, _new_lead),
    "import_leads": (2, lambda who: {"leads": [_new_lead(who) for _ in range(2 + who.number(6))]}),
    "update_lead": (
        6,
        lambda who: {
            "leadId": who.some("lead"),
            "status": who.pick("CONTACTED", "QUALIFIED", "LOST"),
            "score": who.number(100),
        },
    ),
    "score_leads": (
        2,
        lambda who: {"leadIds": sorted(set(who.several("lead"))), "by": who.number(20)},
    ),
    "delete_lead": (1, lambda who: {"leadId": who.some("lead")}),
    "convert_lead": (
        6,
        lambda who: {
            "leadId": who.some("lead"),
            "title": who.tag,
            "amount": f"{who.number(1_000_000) / 100:.2f}",
        },
    ),
    "move_deal": (
        4,
        lambda who: {
            "dealId": who.some("deal"),
            "stage": who.pick("PROPOSAL", "NEGOTIATION", "WON", "LOST"),
        },
    ),
    "pipeline": (4, _NOTHING),
    "dashboard": (5, _NOTHING),
    "report": (4, _NOTHING),
    "activity": (3, _NOTHING),
    "export_leads": (2, _NOTHING),
    # campaigns, workflows, tasks
    "create_campaign": (
        3,
        lambda who: {"name": who.tag, "channel": who.pick("email", "sms"), "budget": "99.50"},
    ),
    "launch_campaign": (3, lambda who: {"campaignId": who.some("campaign")}),
    "campaigns": (2, _NOTHING),
    "create_workflow": (
        2,
        lambda who: {"name": who.tag, "steps": [{"send": who.pick("email", "sms")}, {"wait": 3}]},
    ),
    "start_workflow": (3, lambda who: {"workflowId": who.some("workflow"), "by": who.tag}),
    "step_workflow": (4, lambda who: {"instanceId": who.some("instance")}),
    "add_task": (4, lambda who: {"title": who.tag, "priority": 1 + who.number(5)}),
    "finish_tasks": (3, lambda who: {"taskIds": who.several("task")}),
    "tasks": (3, _NOTHING),
    # conversations: messages hang on them
    "open_conversation": (
        4,
        lambda who: {"leadId": who.some("lead"), "subject": who.tag, "body": "Hello?"},
    ),
    "conversations": (3, _NOTHING),
    "say": (6, lambda who: {"conversationId": who.some("conversation"), "body": who.tag}),
    "messages": (5, lambda who: {"conversationId": who.some("conversation")}),
    "last_message": (3, lambda who: {"conversationId": who.some("conversation")}),
    "close_conversation": (1, lambda who: {"conversationId": who.some("conversation")}),
    # what goes wrong
    "write_invoice": (
        4,
        lambda who: {"number": f"{who.token}/{who.number(3)}", "items": _items(who)},
    ),
    "write_invoices": (
        2,
        lambda who: {
            "numbers": [f"{who.token}/{who.number(6)}" for _ in range(3)],
            "items": _items(who),
        },
    ),
    "invoices": (2, _NOTHING),
    "pay": (3, lambda who: {"invoiceId": who.some("invoice"), "method": who.pick("card", "cash")}),
    "book": (
        3,
        lambda who: {
            "leadId": who.some("lead"),
            "title": who.tag,
            "day": 1 + who.number(28),
            "minutes": who.number(4) * 30,
        },
    ),
    "add_note": (3, lambda who: {"leadId": who.some("lead"), "body": who.tag}),
}
"""Per request: how often it is asked, and what it says."""

_NAMES = tuple(DRAWS)
_WEIGHTS = tuple(weight for weight, _ in DRAWS.values())


def draw(who: Visitor) -> tuple[str, Arguments]:
    """The next request of this owner."""
    name = who.random.choices(_NAMES, _WEIGHTS)[0]
    return name, DRAWS[name][1](who)
