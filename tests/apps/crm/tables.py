"""The CRM's tables, as SQLAlchemy's ORM sees them."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import CHAR, Computed, ForeignKey, Numeric, SmallInteger, Text, func
from sqlalchemy.dialects.postgresql import ARRAY, ENUM, JSONB, TIMESTAMP
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

_NOW = func.now()


def _enum(name: str, *words: str) -> ENUM:
    return ENUM(*words, name=name, create_type=False)


class Base(DeclarativeBase):
    """All tables."""


class Owned:
    """A table whose rows say whose they are."""

    owner: Mapped[int] = mapped_column("userId")


class User(Base):
    """A tenant."""

    __tablename__ = "User"

    id: Mapped[int] = mapped_column(primary_key=True)
    email: Mapped[str]
    name: Mapped[str]
    industry: Mapped[str]


class Login(Base):
    """A browser that is signed in."""

    __tablename__ = "Session"

    id: Mapped[int] = mapped_column(primary_key=True)
    owner: Mapped[int] = mapped_column("userId", ForeignKey("User.id"))
    token: Mapped[str] = mapped_column("sessionToken")
    browser: Mapped[str | None] = mapped_column("userAgent")
    expires: Mapped[datetime]


class Subscription(Base):
    """What a tenant pays for."""

    __tablename__ = "UserSubscription"

    id: Mapped[int] = mapped_column(primary_key=True)
    owner: Mapped[int] = mapped_column("userId")
    plan: Mapped[str]
    status: Mapped[str]
    seats: Mapped[int]


class Feature(Base):
    """What a tenant has switched on."""

    __tablename__ = "UserFeatureToggle"

    id: Mapped[int] = mapped_column(primary_key=True)
    owner: Mapped[int] = mapped_column("userId")
    feature: Mapped[str]
    enabled: Mapped[bool]


class ApiKey(Base):
    """How programs of a tenant's come in."""

    __tablename__ = "ApiKey"

    id: Mapped[int] = mapped_column(primary_key=True)
    owner: Mapped[int] = mapped_column("userId")
    name: Mapped[str]
    hash: Mapped[str] = mapped_column("keyHash")


class Lead(Owned, Base):
    """Somebody who may buy."""

    __tablename__ = "Lead"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    email: Mapped[str]
    source: Mapped[str]
    status: Mapped[str] = mapped_column(
        _enum("LeadStatus", "NEW", "CONTACTED", "QUALIFIED", "CONVERTED", "LOST"), default="NEW"
    )
    score: Mapped[int]
    tags: Mapped[list[str]] = mapped_column(ARRAY(Text))
    custom: Mapped[dict[str, Any]] = mapped_column(JSONB)
    changed: Mapped[datetime] = mapped_column("updatedAt", server_default=_NOW, onupdate=_NOW)
    deals: Mapped[list[Deal]] = relationship(order_by="Deal.id", passive_deletes=True)
    notes: Mapped[list[Note]] = relationship(order_by="Note.id", passive_deletes=True)


class Deal(Owned, Base):
    """What somebody may buy."""

    __tablename__ = "Deal"

    id: Mapped[int] = mapped_column(primary_key=True)
    lead_id: Mapped[int | None] = mapped_column("leadId", ForeignKey("Lead.id"))
    title: Mapped[str]
    stage: Mapped[str] = mapped_column(
        _enum("DealStage", "DISCOVERY", "PROPOSAL", "NEGOTIATION", "WON", "LOST"),
        default="DISCOVERY",
    )
    amount: Mapped[Decimal] = mapped_column(Numeric(12, 2))
    currency: Mapped[str] = mapped_column(CHAR(3), default="USD")
    closes: Mapped[date | None] = mapped_column("closesOn")


class Note(Owned, Base):
    """What is worth knowing of a lead."""

    __tablename__ = "Note"

    id: Mapped[int] = mapped_column(primary_key=True)
    lead_id: Mapped[int | None] = mapped_column("leadId", ForeignKey("Lead.id"))
    body: Mapped[str]


class Campaign(Owned, Base):
    """Many leads written to at once."""

    __tablename__ = "Campaign"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    channel: Mapped[str]
    status: Mapped[str] = mapped_column(
        _enum("CampaignStatus", "DRAFT", "SCHEDULED", "RUNNING", "DONE"), default="DRAFT"
    )
    budget: Mapped[Decimal] = mapped_column(Numeric(12, 2))


class Workflow(Owned, Base):
    """Steps taken by themselves."""

    __tablename__ = "Workflow"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    definition: Mapped[dict[str, Any]] = mapped_column(JSONB)
    active: Mapped[bool] = mapped_column(default=True)


class Instance(Owned, Base):
    """A workflow under way."""

    __tablename__ = "WorkflowInstance"

    id: Mapped[int] = mapped_column(primary_key=True)
    workflow_id: Mapped[int] = mapped_column("workflowId", ForeignKey("Workflow.id"))
    state: Mapped[str] = mapped_column(default="running")
    context: Mapped[dict[str, Any]] = mapped_column(JSONB)


class Task(Owned, Base):
    """Something to do."""

    __tablename__ = "Task"

    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]
    status: Mapped[str] = mapped_column(
        _enum("TaskStatus", "TODO", "IN_PROGRESS", "DONE"), default="TODO"
    )
    priority: Mapped[int] = mapped_column(SmallInteger, default=3)


class Conversation(Owned, Base):
    """Messages with a lead."""

    __tablename__ = "Conversation"

    id: Mapped[int] = mapped_column(primary_key=True)
    lead_id: Mapped[int | None] = mapped_column("leadId", ForeignKey("Lead.id"))
    subject: Mapped[str]
    channel: Mapped[str] = mapped_column(default="email")
    open: Mapped[bool] = mapped_column(default=True)


class Message(Base):
    """One of them; it does not say whose it is."""

    __tablename__ = "ConversationMessage"

    id: Mapped[int] = mapped_column(primary_key=True)
    conversation_id: Mapped[int] = mapped_column("conversationId", ForeignKey("Conversation.id"))
    sender: Mapped[str]
    body: Mapped[str]


class Invoice(Owned, Base):
    """What a customer owes."""

    __tablename__ = "Invoice"

    id: Mapped[int] = mapped_column(primary_key=True)
    number: Mapped[str]
    customer: Mapped[str]
    items: Mapped[list[dict[str, Any]]] = mapped_column(JSONB)
    net: Mapped[Decimal] = mapped_column(Numeric(12, 2))
    rate: Mapped[Decimal] = mapped_column("taxRate", Numeric(5, 4))
    total: Mapped[Decimal] = mapped_column(
        Numeric(12, 2), Computed("round(net * (1 + rate), 2)", persisted=True)
    )
    due: Mapped[date] = mapped_column("dueOn")


class Payment(Owned, Base):
    """What a customer has paid."""

    __tablename__ = "Payment"

    id: Mapped[int] = mapped_column(primary_key=True)
    invoice_id: Mapped[int | None] = mapped_column("invoiceId", ForeignKey("Invoice.id"))
    amount: Mapped[Decimal] = mapped_column(Numeric(12, 2))
    method: Mapped[str]
    status: Mapped[str] = mapped_column(
        _enum("PaymentStatus", "PENDING", "PAID", "REFUNDED", "FAILED"), default="PENDING"
    )
    reference: Mapped[str]


class Appointment(Owned, Base):
    """A meeting with a lead."""

    __tablename__ = "BookingAppointment"

    id: Mapped[int] = mapped_column(primary_key=True)
    lead_id: Mapped[int | None] = mapped_column("leadId", ForeignKey("Lead.id"))
    title: Mapped[str]
    starts: Mapped[datetime] = mapped_column("startsAt", TIMESTAMP(timezone=True))
    ends: Mapped[datetime] = mapped_column("endsAt", TIMESTAMP(timezone=True))
