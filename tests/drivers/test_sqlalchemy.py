"""SQLAlchemy 2, Core and ORM, over each of the drivers."""

from __future__ import annotations

import asyncio
from decimal import Decimal

import pytest
from sqlalchemy import (
    ForeignKey,
    Numeric,
    create_engine,
    delete,
    func,
    insert,
    inspect,
    select,
    text,
    update,
)
from sqlalchemy.dialects.postgresql import ENUM
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship

from tests.drivers.crm import ROUNDS, Client, all_at_once

STATUSES = ("NEW", "CONTACTED", "QUALIFIED", "CONVERTED", "LOST")


class Base(DeclarativeBase):
    """The tables these tests use, as an application would map them."""


class Lead(Base):
    """A part of the industry's "Lead" table."""

    __tablename__ = "Lead"

    id: Mapped[int] = mapped_column(primary_key=True)
    owner: Mapped[int] = mapped_column("userId")
    name: Mapped[str]
    email: Mapped[str]
    source: Mapped[str]
    status: Mapped[str] = mapped_column(
        ENUM(*STATUSES, name="LeadStatus", create_type=False), default="NEW"
    )
    deals: Mapped[list[Deal]] = relationship(
        back_populates="lead", order_by="Deal.id", cascade="all, delete-orphan"
    )


class Deal(Base):
    """A part of its "Deal" table."""

    __tablename__ = "Deal"

    id: Mapped[int] = mapped_column(primary_key=True)
    owner: Mapped[int] = mapped_column("userId")
    lead_id: Mapped[int] = mapped_column("leadId", ForeignKey("Lead.id"))
    title: Mapped[str]
    amount: Mapped[Decimal] = mapped_column(Numeric(12, 2))
    lead: Mapped[Lead] = relationship(back_populates="deals")


def make_lead(client: Client, number: int) -> Lead:
    """A lead of this client's, with two deals."""
    deals = [
        Deal(owner=client.owner, title=client.tag, amount=Decimal(amount)) for amount in (10, 20)
    ]
    return Lead(
        owner=client.owner,
        name=f"lead {number}",
        email=client.email(number),
        source=client.tag,
        deals=deals,
    )


def orm(client: Client, session: Session) -> None:
    """A unit of work, a rollback to a savepoint, an error, eager and lazy loading, a delete."""
    session.add_all(make_lead(client, number) for number in range(ROUNDS))
    session.commit()
    with pytest.raises(IntegrityError), session.begin_nested():
        orphan = {"owner": client.owner, "lead_id": -1, "title": client.tag, "amount": Decimal(1)}
        session.execute(insert(Deal).values(orphan))
    mine = select(Lead).where(Lead.source == client.tag).order_by(Lead.name)
    leads = session.scalars(mine).all()
    assert [lead.name for lead in leads] == [f"lead {n}" for n in range(ROUNDS)]
    assert [deal.title for lead in leads for deal in lead.deals] == [client.tag] * 2 * ROUNDS
    leads[0].status = "QUALIFIED"
    session.commit()
    status = session.scalar(select(Lead.status).where(Lead.source == client.tag).order_by(Lead.id))
    assert status == "QUALIFIED"
    for lead in leads:
        session.delete(lead)
    session.commit()


@pytest.mark.parametrize("driver", ["psycopg", "psycopg2"])
async def test_core(clients: list[Client], driver: str) -> None:
    def script(client: Client) -> None:
        engine = create_engine(client.url(f"postgresql+{driver}"), pool_size=2)
        rows = [
            {"userId": client.owner, "name": f"{n:03}", "email": "x", "source": client.tag}
            for n in range(150)
        ]
        with engine.begin() as connection:
            ids = connection.scalars(insert(Lead).returning(Lead.id), rows).all()
            assert len(set(ids)) == 150
        with engine.connect() as connection:
            mine = Lead.source == client.tag
            assert connection.scalar(select(func.count()).where(mine)) == 150
            changed = connection.execute(update(Lead).where(mine).values(status="LOST"))
            assert changed.rowcount == 150
            connection.rollback()
            states = connection.scalars(select(Lead.status).where(mine).distinct()).all()
            assert states == ["NEW"]
            named = select(Lead.name).where(mine).order_by(Lead.name)
            streamed = connection.scalars(named.execution_options(yield_per=40))
            assert list(streamed) == [f"{n:03}" for n in range(150)]
            connection.execute(delete(Lead).where(mine))
            connection.commit()
        assert "Lead" in inspect(engine).get_table_names()
        engine.dispose()

    await all_at_once(script, clients)


@pytest.mark.parametrize("driver", ["psycopg", "psycopg2"])
async def test_orm(clients: list[Client], driver: str) -> None:
    def script(client: Client) -> None:
        engine = create_engine(client.url(f"postgresql+{driver}"))
        with Session(engine) as session:
            orm(client, session)
        engine.dispose()

    await all_at_once(script, clients)


@pytest.mark.parametrize("driver", ["psycopg", "asyncpg"])
async def test_orm_asynchronous(clients: list[Client], driver: str) -> None:
    async def script(client: Client) -> None:
        engine = create_async_engine(client.url(f"postgresql+{driver}"))
        async with AsyncSession(engine) as session:
            await session.run_sync(lambda blocking: orm(client, blocking))
        await engine.dispose()

    await asyncio.gather(*map(script, clients))


@pytest.mark.parametrize("driver", ["psycopg", "psycopg2"])
@pytest.mark.parametrize("level", ["AUTOCOMMIT", "REPEATABLE READ", "SERIALIZABLE"])
async def test_isolation_levels(clients: list[Client], driver: str, level: str) -> None:
    def script(client: Client) -> None:
        engine = create_engine(client.url(f"postgresql+{driver}"), isolation_level=level)
        shown = text("SHOW transaction_isolation")
        expected = "read committed" if level == "AUTOCOMMIT" else level.lower()
        for _ in range(ROUNDS):
            with engine.connect() as connection:
                assert connection.scalar(shown) == expected
        engine.dispose()

    await all_at_once(script, clients)
