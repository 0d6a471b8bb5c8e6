"""A shop on SQLAlchemy's ORM, with blocking sessions (psycopg) and asynchronous ones (asyncpg).

Run as a program it makes its tables in DATABASE_URL, goes through everything and prints a line of
JSON per part. Nothing in it knows of a gateway.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any, TypeVar
from uuid import UUID

from sqlalchemy import (
    CheckConstraint,
    Column,
    Engine,
    ForeignKey,
    Integer,
    Numeric,
    Select,
    String,
    Table,
    Uuid,
    create_engine,
    func,
    inspect,
    make_url,
    select,
    text,
    update,
)
from sqlalchemy.dialects.postgresql import ARRAY, ENUM, JSONB, TSTZRANGE, Range, insert
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    joinedload,
    mapped_column,
    relationship,
    selectinload,
)

CLIENTS = 8
SALES = 40
T = TypeVar("T")
_NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


class Base(DeclarativeBase):
    """The shop's tables."""


product_label = Table(
    "product_label",
    Base.metadata,
    Column("product_id", ForeignKey("product.id", ondelete="CASCADE"), primary_key=True),
    Column("label_id", ForeignKey("label.id"), primary_key=True),
)


class Label(Base):
    """A word on products."""

    __tablename__ = "label"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)


class Product(Base):
    """What is sold."""

    __tablename__ = "product"
    __table_args__ = (CheckConstraint("price >= 0", name="price_not_negative"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    sku: Mapped[str] = mapped_column(String(20), unique=True)
    price: Mapped[Decimal] = mapped_column(Numeric(12, 2))
    stock: Mapped[int] = mapped_column(default=0)
    kind: Mapped[str] = mapped_column(ENUM("good", "service", name="product_kind"), default="good")
    sizes: Mapped[list[int]] = mapped_column(ARRAY(Integer), default=list)
    about: Mapped[dict[str, Any]] = mapped_column(JSONB, default=dict)
    on_sale: Mapped[Range[datetime] | None] = mapped_column(TSTZRANGE)
    labels: Mapped[list[Label]] = relationship(secondary=product_label, order_by="Label.name")
    lines: Mapped[list[Line]] = relationship(back_populates="product")


class Order(Base):
    """What somebody bought on a day."""

    __tablename__ = "order"

    id: Mapped[int] = mapped_column(primary_key=True)
    reference: Mapped[UUID] = mapped_column(Uuid, unique=True)
    day: Mapped[date]
    lines: Mapped[list[Line]] = relationship(
        back_populates="order", cascade="all, delete-orphan", order_by="Line.id"
    )


class Line(Base):
    """One product of an order."""

    __tablename__ = "line"

    id: Mapped[int] = mapped_column(primary_key=True)
    order_id: Mapped[int] = mapped_column(ForeignKey("order.id"))
    product_id: Mapped[int] = mapped_column(ForeignKey("product.id"))
    number: Mapped[int] = mapped_column(default=1)
    order: Mapped[Order] = relationship(back_populates="lines")
    product: Mapped[Product] = relationship(back_populates="lines")


def tables(engine: Engine) -> Any:
    """Makes the tables, and reads back what was made."""
    Base.metadata.create_all(engine)
    seen = inspect(engine)
    return {
        "tables": sorted(seen.get_table_names()),
        "enums": [one["labels"] for one in seen.get_enums()],  # type: ignore[attr-defined]
        "columns": [
            (one["name"], str(one["type"]), one["default"]) for one in seen.get_columns("product")
        ],
        "checks": [one["name"] for one in seen.get_check_constraints("product")],
        "foreign": [one["referred_table"] for one in seen.get_foreign_keys("line")],
    }


def stock_up(engine: Engine) -> Any:
    """Many rows at once, and the keys that they got."""
    with Session(engine) as session:
        fruit, tools = Label(name="fruit"), Label(name="tools")
        session.add_all(
            Product(
                sku=f"p{n:03}",
                price=Decimal(n) / 4,
                stock=1000,
                kind="service" if n % 10 == 0 else "good",
                sizes=[n, n + 1],
                about={"weight": n, "parts": [{"name": "ä", "n": None}]},
                on_sale=Range(_NOON, _NOON + timedelta(days=n)) if n else None,
                labels=[label for label, step in ((fruit, 2), (tools, 3)) if n % step == 0],
            )
            for n in range(120)
        )
        session.commit()
        rows = [{"sku": f"p{n:03}", "price": 1, "sizes": [], "about": {}} for n in range(110, 130)]
        upsert = insert(Product).on_conflict_do_update(
            index_elements=["sku"], set_={"price": Product.price + 1}
        )
        changed = session.scalars(upsert.returning(Product.price), rows).all()
        session.commit()
    return {"changed": changed}


def relations(engine: Engine) -> Any:
    """Orders with lines: lazy, joined and selected in; an orphan goes."""
    with Session(engine) as session:
        products = session.scalars(select(Product).order_by(Product.sku).limit(5)).all()
        for n in range(6):
            lines = [Line(product=product, number=n + 1) for product in products[: n + 1]]
            session.add(Order(reference=UUID(int=n), day=date(2026, 1, n + 1), lines=lines))
        session.commit()
        lazy = [
            (order.day, [line.product.sku for line in order.lines])
            for order in session.scalars(select(Order).order_by(Order.day))
        ]
        last = session.scalars(select(Order).order_by(Order.day.desc()).limit(1)).one()
        last.lines.pop()
        session.commit()
    with Session(engine) as session:
        eager = select(Order).options(
            selectinload(Order.lines).joinedload(Line.product).selectinload(Product.labels)
        )
        loaded = [
            [[label.name for label in line.product.labels] for line in order.lines]
            for order in session.scalars(eager.order_by(Order.day))
        ]
        joined = select(Line).options(joinedload(Line.order)).order_by(Line.id)
        days = [line.order.day for line in session.scalars(joined)]
    return {"lazy": lazy, "eager": loaded, "joined": days}


def figures(engine: Engine) -> Any:
    """Aggregates, windows, JSON, arrays, ranges and numbers, in SQL that the ORM writes."""
    with Session(engine) as session:
        sold = (
            select(Product.sku, func.sum(Line.number * Product.price).label("worth"))
            .join(Product.lines)
            .group_by(Product.sku)
            .having(func.count() > 1)
            .subquery()
        )
        ranked = select(sold, func.rank().over(order_by=sold.c.worth.desc()))
        queries: dict[str, Select[Any]] = {
            "ranked": ranked.order_by(sold.c.sku),
            "json": select(Product.sku).where(Product.about["weight"].as_integer() > 116),
            "contains": select(func.count()).where(Product.about.contains({"weight": 7})),
            "arrays": select(Product.sku).where(Product.sizes.overlap([4])),
            "ranges": select(func.count()).where(
                Product.on_sale.contains(_NOON + timedelta(days=90))
            ),
            "kinds": select(Product.kind, func.count(), func.avg(Product.price)).group_by(
                Product.kind
            ),
        }
        one = session.scalars(select(Product).where(Product.sku == "p003")).one()
        whole = (one.price, one.sizes, one.about, one.on_sale and one.on_sale.upper)
        return {
            "whole": whole,
            **{name: sorted(session.execute(query).all()) for name, query in queries.items()},
        }


def savepoints(engine: Engine) -> Any:
    """Nested transactions, one of which fails; then everything is taken back."""
    with Session(engine) as session:
        before = session.scalar(select(func.sum(Product.stock)))
        with session.begin_nested():
            session.execute(update(Product).values(stock=Product.stock + 1))
            failed = failure(session, update(Product).values(price=-1))
        inside = session.scalar(select(func.sum(Product.stock)))
        session.rollback()
        after = session.scalar(select(func.sum(Product.stock)))
    return {"inside": (inside or 0) - (before or 0), "after": after == before, "failed": failed}


def errors(engine: Engine) -> Any:
    """What the database refuses, each in a transaction of its own."""
    wrong: list[Any] = [
        insert(Product).values(sku="p001", price=1, sizes=[], about={}),
        insert(Line).values(order_id=-1, product_id=-1),
        insert(Product).values(sku="x" * 21, price=1, sizes=[], about={}),
        insert(Product).values(sku=None, price=1, sizes=[], about={}),
        text("SELECT * FROM nowhere"),
        text("SELECT 1 / 0"),
        text("SELEC"),
    ]
    with Session(engine) as session:
        return [failure(session, statement) for statement in wrong]


def failure(session: Session, statement: Any) -> Any:
    """The state, message and constraint of the error that the statement ends with."""
    try:
        with session.begin_nested():
            session.execute(statement)
    except DBAPIError as error:
        cause: Any = error.orig
        told = cause.diag
        return (told.sqlstate, told.message_primary, told.constraint_name, told.statement_position)
    return None


def streaming(engine: Engine) -> Any:
    """Server-side cursors, two open at once on one connection."""
    with Session(engine) as session:
        big = select(func.generate_series(1, 5000)).execution_options(yield_per=300)
        names = select(Product.sku).order_by(Product.sku).execution_options(yield_per=50)
        first, second = session.scalars(big), session.scalars(names)
        pairs = list(zip(first, second, strict=False))
        return {"pairs": len(pairs), "last": pairs[-1], "rest": sum(first)}


def raw(engine: Engine) -> Any:
    """SQL as text, parameters, the driver's own connection and COPY."""
    with engine.connect() as connection:
        found = connection.execute(
            text(
                "SELECT sku, CAST(:n AS int) + 1 AS n"
                " FROM product WHERE sku = ANY(:skus) ORDER BY sku"
            ),
            {"n": 1, "skus": ["p001", "p002"]},
        ).mappings()
        rows = [dict(row) for row in found]
        connection.execute(text("CREATE TEMPORARY TABLE loaded (n int, word text)"))
        driver: Any = connection.connection.driver_connection
        with driver.cursor().copy("COPY loaded FROM STDIN") as copy:
            for n in range(1000):
                copy.write_row((n, f"w{n}"))
        connection.commit()
        loaded = connection.execute(text("SELECT count(*), max(word) FROM loaded")).one()
        connection.execute(text("DROP TABLE loaded"))
        connection.commit()
        return {"rows": rows, "loaded": tuple(loaded)}


def sell_together(engine: Engine) -> Any:
    """Clients at once that lock the same rows; nothing is sold twice."""

    def sell(client: int) -> int:
        sold = 0
        for n in range(SALES // CLIENTS):
            with Session(engine) as session, session.begin():
                sku = f"p{(client + n) % 4:03}"
                locked = select(Product).where(Product.sku == sku).with_for_update()
                product = session.scalars(locked).one()
                product.stock -= 1
                sold += 1
        return sold

    return {"sold": sum(at_once(sell)), "left": _stock(engine)}


def serializable(engine: Engine) -> Any:
    """The same counted up under SERIALIZABLE, where who loses tries again."""
    strict = engine.execution_options(isolation_level="SERIALIZABLE")

    def add(client: int) -> bool:
        for _ in range(50):
            try:
                with Session(strict) as session, session.begin():
                    total = session.scalar(select(func.sum(Product.stock)))
                    one = session.scalars(select(Product).where(Product.sku == "p129")).one()
                    one.about = {**one.about, str(client): total}
                return True
            except DBAPIError as error:
                if getattr(error.orig, "sqlstate", "") != "40001":
                    raise
        return False

    done = at_once(add)
    with Session(engine) as session:
        about = session.scalars(select(Product.about).where(Product.sku == "p129")).one()
    return {"done": done, "about": about}


def at_once(work: Callable[[int], T]) -> list[T]:
    with ThreadPoolExecutor(CLIENTS) as threads:
        return list(threads.map(work, range(CLIENTS)))


def _stock(engine: Engine) -> Any:
    with Session(engine) as session:
        left = select(Product.sku, Product.stock).where(Product.sku < "p004")
        return session.execute(left.order_by(Product.sku)).all()


async def asynchronous(engine: AsyncEngine) -> Any:
    """Requests of a web application at once, over asyncpg."""

    async def request(client: int) -> Any:
        async with AsyncSession(engine) as session:
            reference, day = UUID(int=100 + client), date(2026, 2, 1)
            order = Order(reference=reference, day=day)
            product = await session.scalar(select(Product).where(Product.sku == "p005"))
            order.lines = [Line(product=product, number=client)]
            session.add(order)
            await session.commit()
            session.add(Order(reference=reference, day=day))
            try:
                await session.commit()
            except DBAPIError as error:
                await session.rollback()
                state = getattr(error.orig, "sqlstate", None)
            streamed = await session.stream_scalars(
                select(Product.about).order_by(Product.sku).execution_options(yield_per=25)
            )
            return client, state, len([about async for about in streamed])

    answers = await asyncio.gather(*map(request, range(CLIENTS * 3)))
    async with AsyncSession(engine) as session:
        lines = select(func.sum(Line.number)).join(Line.order).where(Order.day == date(2026, 2, 1))
        total = await session.scalar(lines)
    await engine.dispose()
    return {"answers": answers, "total": total}


def gone(engine: Engine) -> Any:
    """Drops the tables."""
    Base.metadata.drop_all(engine)
    return inspect(engine).get_table_names()


def say(parts: Iterable[tuple[str, Any]]) -> None:
    for name, answer in parts:
        print(json.dumps({name: answer}, default=_plain, ensure_ascii=False), flush=True)


def _plain(value: Any) -> Any:
    return list(value) if hasattr(value, "_mapping") else str(value)


def main() -> None:
    url = make_url(os.environ["DATABASE_URL"])
    engine = create_engine(url.set(drivername="postgresql+psycopg"), pool_size=CLIENTS)
    parts = (
        *(tables, stock_up, relations, figures, savepoints, errors, streaming, raw),
        *(sell_together, serializable),
    )
    say((part.__name__, part(engine)) for part in parts)
    waiting = create_async_engine(url.set(drivername="postgresql+asyncpg"), pool_size=CLIENTS)
    say([("asynchronous", asyncio.run(asynchronous(waiting)))])
    say([("gone", gone(engine))])
    engine.dispose()


if __name__ == "__main__":
    main()
