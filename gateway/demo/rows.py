"""Believable rows of a tenant: the same ones for the same owner, each naming its owner in a text.

``owner-17`` stands in some text column of every row of owner 17, so that whoever reads rows through
the gateway can tell that none of them is somebody else's.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from random import Random
from types import MappingProxyType
from typing import Any

from gateway.demo.words import (
    ALLERGIES,
    CITIES,
    COURSES,
    DISHES,
    FEATURES,
    FIRST_NAMES,
    INSURERS,
    LAST_NAMES,
    PLANS,
    SOURCES,
    STREETS,
    SUBJECTS,
    TASKS,
    TIMEZONES,
)

Row = tuple[Any, ...]

_EPOCH = datetime(2025, 1, 1)
_STAMPS = ("createdAt", "updatedAt")

COLUMNS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "User": ("id", "email", "name", "industry"),
        "Lead": (
            *("id", "userId", "name", "email", "phone", "source", "status", "score", "tags"),
            *("custom", *_STAMPS),
        ),
        "Deal": (
            *("id", "userId", "leadId", "title", "stage", "amount", "currency", "closesOn"),
            *_STAMPS,
        ),
        "Campaign": ("id", "userId", "name", "channel", "status", "budget", *_STAMPS),
        "Workflow": ("id", "userId", "name", "definition", "active", *_STAMPS),
        "WorkflowInstance": ("id", "userId", "workflowId", "state", "context", *_STAMPS),
        "Website": ("id", "userId", "domain", "title", "published", "theme", *_STAMPS),
        "Task": ("id", "userId", "title", "status", "priority", "dueAt", *_STAMPS),
        "Conversation": ("id", "userId", "leadId", "subject", "channel", "open", *_STAMPS),
        "ConversationMessage": ("id", "conversationId", "sender", "body", *_STAMPS),
        "CallLog": (
            *("id", "userId", "leadId", "direction", "phone", "durationSeconds", "summary"),
            *_STAMPS,
        ),
        "BookingAppointment": (
            *("id", "userId", "leadId", "title", "status", "startsAt", "endsAt", *_STAMPS),
        ),
        "EmailCampaign": (
            *("id", "userId", "campaignId", "subject", "fromEmail", "status", "sent", "opened"),
            *_STAMPS,
        ),
        "SmsCampaign": ("id", "userId", "campaignId", "body", "status", "sent", *_STAMPS),
        "Invoice": (
            *("id", "userId", "number", "customer", "items", "net", "taxRate", "dueOn", *_STAMPS),
        ),
        "Payment": (
            *("id", "userId", "invoiceId", "amount", "currency", "method", "status", "reference"),
            *_STAMPS,
        ),
        "Note": ("id", "userId", "leadId", "body", "pinned", *_STAMPS),
        "Listing": (
            *("id", "userId", "address", "city", "price", "bedrooms", "areaSqm", "status", "url"),
            *_STAMPS,
        ),
        "Patient": (
            *("id", "userId", "name", "email", "bornOn", "insurer", "allergies", "chart"),
            *_STAMPS,
        ),
        "MenuItem": ("id", "userId", "name", "course", "price", "available", *_STAMPS),
        "Reservation": ("id", "userId", "guest", "email", "party", "startsAt", *_STAMPS),
        "Case": ("id", "userId", "number", "title", "court", "status", "openedOn", *_STAMPS),
        "TaxReturn": ("id", "userId", "client", "taxYear", "amountDue", "filedOn", *_STAMPS),
        "Membership": ("id", "userId", "member", "email", "tier", "fee", "joinedOn", *_STAMPS),
        "Project": ("id", "userId", "name", "site", "budget", "startsOn", "progress", *_STAMPS),
        "SupportTicket": ("id", "userId", "subject", "product", "severity", "status", *_STAMPS),
    }
)
"""Tables of an industry database and the columns filled; parents stand before their children."""

META_COLUMNS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "Agency": ("id", "name", "domain", *_STAMPS),
        "User": (
            *("id", "email", "name", "industry", "agencyId", "phone", "timezone"),
            *("emailVerified", *_STAMPS),
        ),
        "Session": ("userId", "sessionToken", "userAgent", "expires"),
        "Account": ("userId", "type", "provider", "providerAccountId", "scope"),
        "UserSubscription": (
            *("userId", "plan", "status", "seats", "monthlyPrice", "currentPeriodEnd", *_STAMPS),
        ),
        "ApiKey": ("userId", "name", "keyHash", "lastUsedAt", "createdAt"),
        "UserFeatureToggle": ("userId", "feature", "enabled", "updatedAt"),
        "VerificationToken": ("identifier", "token", "expires"),
    }
)
"""The same for the meta database."""


@dataclass(frozen=True, slots=True)
class Tenant:
    """One owner to make rows for, and the shard it lives on."""

    id: int
    industry: str
    shard: str

    @property
    def tag(self) -> str:
        """What every row of this owner mentions."""
        return f"owner-{self.id}"

    @property
    def domain(self) -> str:
        return f"{self.tag}.example"

    @property
    def name(self) -> str:
        return _name(Random(self.id))

    @property
    def email(self) -> str:
        return _email(self.name, self)


@dataclass(slots=True)
class IndustryRows:
    """Rows of one industry database, gathered owner by owner.

    Every table's ids start at ``first_id`` and go in steps of ``id_step``.
    """

    first_id: int = 1
    id_step: int = 1
    tables: dict[str, list[Row]] = field(default_factory=lambda: {name: [] for name in COLUMNS})

    def add(self, owner: Tenant) -> None:
        """All rows of one owner."""
        self.tables["User"].append((owner.id, owner.email, owner.name, owner.industry))
        writer = _Writer(self, owner, Random(f"rows {owner.id}"))
        leads = [writer.lead() for _ in range(12)]
        writer.sales(leads)
        writer.marketing()
        writer.workflows()
        writer.talks(leads)
        writer.money()
        if (extra := _EXTRAS.get(owner.industry)) is not None:
            for _ in range(4):
                extra(writer)

    def put(self, table: str, *values: Any) -> int:
        """Appends a row to ``table`` under the next id, which it returns."""
        rows = self.tables[table]
        row_id = self.first_id + len(rows) * self.id_step
        rows.append((row_id, *values))
        return row_id


@dataclass(frozen=True, slots=True)
class _Lead:
    id: int
    name: str
    phone: str


@dataclass(slots=True)
class _Writer:
    """One owner's rows, table by table."""

    rows: IndustryRows
    owner: Tenant
    random: Random

    def put(self, table: str, *values: Any) -> int:
        """A row of this owner, created some time in 2025 and changed within the month."""
        created = _EPOCH + timedelta(minutes=self.random.randrange(500_000))
        changed = created + timedelta(minutes=self.random.randrange(40_000))
        return self.rows.put(table, self.owner.id, *values, created, changed)

    def lead(self) -> _Lead:
        name, phone, random = self.name(), _phone(self.random), self.random
        row_id = self.put(
            "Lead",
            *(name, self.email(name), phone, random.choice(SOURCES)),
            random.choice(("NEW", "CONTACTED", "QUALIFIED", "CONVERTED", "LOST")),
            random.randrange(101),
            random.sample(("hot", "returning", "referral", "newsletter"), random.randrange(3)),
            json.dumps({"city": random.choice(CITIES), "consent": random.random() < 0.8}),
        )
        return _Lead(row_id, name, phone)

    def sales(self, leads: list[_Lead]) -> None:
        random, tag = self.random, self.owner.tag
        for lead in random.sample(leads, 4):
            self.put(
                "Deal",
                *(lead.id, f"Contract with {lead.name} for {tag}"),
                random.choice(("DISCOVERY", "PROPOSAL", "NEGOTIATION", "WON", "LOST")),
                *(self.amount(50_000), "USD", self.day()),
            )
            self.appointment(lead)
            self.put("Note", lead.id, f"{lead.name} {_MOOD[random.randrange(4)]} ({tag})", False)
        for _ in range(5):
            title = f"{random.choice(TASKS)} {random.choice(leads).name} ({tag})"
            status = random.choice(("TODO", "IN_PROGRESS", "DONE"))
            self.put("Task", title, status, random.randrange(1, 6), self.moment())

    def appointment(self, lead: _Lead) -> None:
        starts = self.moment().replace(tzinfo=UTC, minute=0)
        self.put(
            "BookingAppointment",
            *(lead.id, f"Meeting with {lead.name} at {self.owner.tag}"),
            self.random.choice(("BOOKED", "CONFIRMED", "DONE", "CANCELLED", "NO_SHOW")),
            *(starts, starts + timedelta(minutes=self.random.choice((30, 45, 60)))),
        )

    def marketing(self) -> None:
        random, owner = self.random, self.owner
        theme = json.dumps({"colour": random.choice(("teal", "amber", "navy")), "dark": False})
        title = f"{owner.name} ({owner.tag})"
        self.put("Website", f"www.{owner.domain}", title, random.random() < 0.9, theme)
        for season in ("Spring", "Autumn"):
            status = random.choice(("DRAFT", "SCHEDULED", "RUNNING", "DONE"))
            name = f"{season} offer of {owner.tag}"
            campaign = self.put("Campaign", name, "email", status, self.amount(5_000))
            sent = random.randrange(2_000)
            self.put(
                "EmailCampaign",
                *(campaign, f"Our {season.lower()} offer", f"hello@{owner.domain}", status),
                *(sent, random.randrange(sent + 1)),
            )
            text = f"{season} offer: 10 % off until Friday. https://{owner.domain}/offer"
            self.put("SmsCampaign", campaign, text, status, random.randrange(500))

    def workflows(self) -> None:
        random, tag = self.random, self.owner.tag
        for title in ("Welcome new leads", "Ask for a review"):
            steps = [{"send": "email"}, {"wait_days": random.randrange(1, 8)}, {"send": "sms"}]
            workflow = self.put("Workflow", f"{title} ({tag})", json.dumps({"steps": steps}), True)
            for _ in range(2):
                context = json.dumps({"owner": tag, "step": random.randrange(3)})
                state = random.choice(("running", "waiting", "done"))
                self.put("WorkflowInstance", workflow, state, context)

    def talks(self, leads: list[_Lead]) -> None:
        random, tag = self.random, self.owner.tag
        for lead in random.sample(leads, 3):
            subject = random.choice(SUBJECTS)
            conversation = self.put(
                *("Conversation", lead.id, f"{subject} ({tag})"),
                *(random.choice(("email", "sms", "chat")), random.random() < 0.4),
            )
            for sender in (lead.name, self.owner.name, lead.name, self.owner.name):
                at = self.moment()
                body = f"{subject}: {_LINES[random.randrange(4)]} -- {sender}, {tag}"
                self.rows.put("ConversationMessage", conversation, sender, body, at, at)
            self.put(
                "CallLog",
                *(lead.id, random.choice(("inbound", "outbound")), lead.phone),
                *(random.randrange(10, 1_800), f"{subject}; spoke with {lead.name} ({tag})"),
            )

    def money(self) -> None:
        random, tag = self.random, self.owner.tag
        for number in range(1, 4):
            net, rate = self.amount(3_000), Decimal(random.choice(("0", "0.0725", "0.19")))
            items = json.dumps([{"text": "Service", "quantity": 1, "net": str(net)}])
            customer = f"{self.name()}, customer of {tag}"
            invoice = self.put(
                "Invoice", f"2025-{number:04}", customer, items, net, rate, self.day()
            )
            self.put(
                "Payment",
                *(invoice, round(net * (1 + rate), 2), "USD"),
                random.choice(("card", "transfer", "cash")),
                random.choice(("PENDING", "PAID", "PAID", "PAID", "REFUNDED", "FAILED")),
                f"{tag}/2025-{number:04}",
            )

    def name(self) -> str:
        return _name(self.random)

    def email(self, name: str) -> str:
        return _email(name, self.owner)

    def amount(self, up_to: int) -> Decimal:
        return Decimal(self.random.randrange(1_000, up_to * 100)) / 100

    def moment(self) -> datetime:
        return _EPOCH + timedelta(minutes=self.random.randrange(700_000))

    def day(self) -> Any:
        return self.moment().date()


_MOOD = ("prefers mornings", "asked for a quote", "knows us from a friend", "wants a call back")
_LINES = ("when would suit you?", "thank you, that works.", "see the attachment.", "any news?")


def _patient(to: _Writer) -> None:
    name, random = to.name(), to.random
    born = _EPOCH - timedelta(days=random.randrange(365, 33_000))
    chart = json.dumps({"blood": random.choice(("A+", "0+", "B+", "AB-")), "visits": 3})
    allergies = random.sample(ALLERGIES, random.randrange(3))
    to.put(
        "Patient",
        *(name, to.email(name), born.date(), random.choice(INSURERS), allergies, chart),
    )


def _listing(to: _Writer) -> None:
    random, bedrooms = to.random, to.random.randrange(1, 7)
    address = f"{random.randrange(1, 300)} {random.choice(STREETS)}"
    url = f"https://{to.owner.domain}/{address.lower().replace(' ', '-')}"
    area = Decimal(random.randrange(300, 3_000)) / 10
    status = random.choice(("for_sale", "under_offer", "sold"))
    price = Decimal(random.randrange(90, 1_500) * 1_000)
    to.put("Listing", address, random.choice(CITIES), price, bedrooms, area, status, url)


def _restaurant(to: _Writer) -> None:
    dish = f"{to.random.choice(DISHES)} of {to.owner.tag}"
    to.put("MenuItem", dish, to.random.choice(COURSES), to.amount(40), True)
    guest = to.name()
    starts = to.moment().replace(tzinfo=UTC)
    to.put("Reservation", guest, to.email(guest), to.random.randrange(1, 9), starts)


def _case(to: _Writer) -> None:
    number = f"{to.owner.tag}/{to.random.randrange(1_000, 10_000)}"
    title = f"{to.name()} v. {to.name()}"
    status = to.random.choice(("open", "settled", "closed"))
    to.put("Case", number, title, f"{to.random.choice(CITIES)} court", status, to.day())


def _tax_return(to: _Writer) -> None:
    client = f"{to.name()}, client of {to.owner.tag}"
    to.put("TaxReturn", client, to.random.randrange(2019, 2025), to.amount(20_000), to.day())


def _membership(to: _Writer) -> None:
    member = to.name()
    tier = to.random.choice(("basic", "plus", "family"))
    to.put("Membership", member, to.email(member), tier, to.amount(90), to.day())


def _project(to: _Writer) -> None:
    name = f"{to.random.choice(('New roof', 'Extension', 'Office fit-out'))} ({to.owner.tag})"
    site = f"{to.random.choice(STREETS)}, {to.random.choice(CITIES)}"
    to.put("Project", name, site, to.amount(800_000), to.day(), to.random.randrange(101))


def _ticket(to: _Writer) -> None:
    subject = f"{to.random.choice(SUBJECTS)} ({to.owner.tag})"
    product = to.random.choice(("Sync", "Portal", "Reports"))
    status = to.random.choice(("open", "waiting", "closed"))
    to.put("SupportTicket", subject, product, to.random.randrange(1, 5), status)


_PRACTICES = (
    *("MEDICAL", "DENTIST", "MEDICAL_SPA", "OPTOMETRIST", "HEALTH_CLINIC", "HOSPITAL"),
    "ORTHODONTIST",
)
_EXTRAS: Mapping[str, Callable[[_Writer], None]] = MappingProxyType(
    {
        "REAL_ESTATE": _listing,
        "RESTAURANT": _restaurant,
        "LAW": _case,
        "ACCOUNTING": _tax_return,
        "SPORTS_CLUB": _membership,
        "CONSTRUCTION": _project,
        "TECHNOLOGY": _ticket,
        **dict.fromkeys(_PRACTICES, _patient),
    }
)


def meta_rows(owners: list[Tenant], agencies: int = 5) -> dict[str, list[Row]]:
    """The meta database's rows of all owners, who are spread over the agencies."""
    tables: dict[str, list[Row]] = {name: [] for name in META_COLUMNS}
    for number in range(1, agencies + 1):
        agency = f"{LAST_NAMES[number]} & Partners"
        tables["Agency"].append((number, agency, f"agency-{number}.example", _EPOCH, _EPOCH))
    for owner in owners:
        _add_meta(tables, owner, owner.id % agencies + 1)
    return tables


def _add_meta(tables: dict[str, list[Row]], owner: Tenant, agency: int) -> None:
    random, now = Random(f"meta {owner.id}"), datetime(2026, 1, 1)
    later = now + timedelta(days=random.randrange(30, 365))
    token = f"{owner.tag}-{random.getrandbits(128):032x}"
    plan, price = random.choice(PLANS)
    who = (owner.id, owner.email, owner.name, owner.industry)
    zone = random.choice(TIMEZONES)
    tables["User"].append((*who, agency, _phone(random), zone, _EPOCH, _EPOCH, _EPOCH))
    tables["Session"].append((owner.id, token, "Mozilla/5.0", later))
    tables["Account"].append((owner.id, "oauth", "google", owner.tag, "openid email profile"))
    tables["UserSubscription"].append(
        (owner.id, plan, "active", random.randrange(1, 9), price, later, _EPOCH, _EPOCH)
    )
    key_hash = f"{random.getrandbits(256):064x}"
    tables["ApiKey"].append((owner.id, f"Zapier of {owner.tag}", key_hash, None, _EPOCH))
    for feature in random.sample(FEATURES, 3):
        tables["UserFeatureToggle"].append((owner.id, feature, random.random() < 0.5, _EPOCH))
    if random.random() < 0.1:
        tables["VerificationToken"].append((owner.email, f"verify-{token}", later))


def _name(random: Random) -> str:
    return f"{random.choice(FIRST_NAMES)} {random.choice(LAST_NAMES)}"


def _email(name: str, owner: Tenant) -> str:
    return f"{name.lower().replace(' ', '.')}@{owner.domain}"


def _phone(random: Random) -> str:
    return f"+1-555-{random.randrange(100, 1_000)}-{random.randrange(10_000):04}"
