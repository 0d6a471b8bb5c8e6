"""The CRM on SQLAlchemy's asynchronous ORM, written for a single database.

Its argument names the driver: asyncpg or psycopg. It reads a line of JSON per request and writes
one per answer (see ``driver``). Every request looks up the session of its token first; from then on
its statements are about that owner's rows.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import traceback
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

from sqlalchemy import Integer as SqlInteger
from sqlalchemy import (
    Select,
    any_,
    case,
    delete,
    event,
    func,
    insert,
    literal,
    make_url,
    select,
    text,
    union_all,
    update,
    values,
)
from sqlalchemy import column as sql_column
from sqlalchemy.dialects.postgresql import array
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.orm import ORMExecuteState, Session, selectinload, with_loader_criteria

from tests.apps.crm.tables import (
    ApiKey,
    Appointment,
    Campaign,
    Conversation,
    Deal,
    Feature,
    Instance,
    Invoice,
    Lead,
    Login,
    Message,
    Note,
    Owned,
    Payment,
    Subscription,
    Task,
    User,
    Workflow,
)

Arguments = dict[str, Any]
Handler = Callable[["Request"], Awaitable[Any]]

POOL = 10
_PAGE = 5


class Refused(Exception):
    """The CRM's own rules say no."""


class OwnersSession(Session):
    """A session whose ORM queries only see one owner's rows."""


@event.listens_for(OwnersSession, "do_orm_execute")
def _only_mine(state: ORMExecuteState) -> None:
    owner = state.session.info["owner"]
    if state.is_select or state.is_update or state.is_delete:
        state.statement = state.statement.options(
            with_loader_criteria(Owned, lambda table: table.owner == owner, include_aliases=True)
        )


class Request:
    """One request of one owner: what was said, and a session for its rows."""

    def __init__(self, engine: AsyncEngine, user: User, said: Arguments) -> None:
        self.said = said
        self.user = user
        self.owner = user.id
        self.db = AsyncSession(
            engine,
            sync_session_class=OwnersSession,
            info={"owner": user.id},
            expire_on_commit=False,
        )

    def __getitem__(self, name: str) -> Any:
        return self.said[name]

    async def all(self, query: Select[Any]) -> Sequence[Any]:
        return (await self.db.scalars(query)).all()

    async def rows(self, query: Any) -> list[Arguments]:
        return [dict(row) for row in (await self.db.execute(query)).mappings()]

    async def the(self, table: type[Any], key: str, *, lock: bool = False) -> Any:
        """The owner's row that the request names. Raises Refused."""
        query = select(table).where(table.id == self[key])
        row = await self.db.scalar(query.with_for_update() if lock else query)
        if row is None:
            raise Refused(f"no such {table.__name__}")
        return row

    async def add(self, *rows: Any) -> None:
        self.db.add_all(rows)
        await self.db.flush()


# --- identity and billing ---


async def profile(it: Request) -> Any:
    query = text(
        'SELECT u."name", u."email", u."phone", a."name" AS "agency", s."plan", s."seats"'
        ' FROM "User" u LEFT JOIN "Agency" a ON a."id" = u."agencyId"'
        ' LEFT JOIN "UserSubscription" s ON s."userId" = u."id" WHERE u."id" = :owner'
    )
    features = select(Feature).where(Feature.owner == it.owner).order_by(Feature.feature)
    return {
        "who": (await it.db.execute(query, {"owner": it.owner})).mappings().one(),
        "features": {one.feature: one.enabled for one in await it.all(features)},
        "keys": await it.db.scalar(select(func.count()).where(ApiKey.owner == it.owner)),
    }


async def set_feature(it: Request) -> Any:
    new = upsert(Feature).values(owner=it.owner, feature=it["feature"], enabled=it["enabled"])
    return await it.db.scalar(
        new.on_conflict_do_update(
            index_elements=["userId", "feature"], set_={"enabled": new.excluded.enabled}
        ).returning(Feature.enabled)
    )


async def change_plan(it: Request) -> Any:
    query = select(Subscription).where(Subscription.owner == it.owner).with_for_update()
    subscription = (await it.db.scalars(query)).one()
    subscription.plan = it["plan"]
    subscription.seats += it["seats"]
    await it.db.flush()
    return {"plan": subscription.plan, "seats": subscription.seats}


async def make_key(it: Request) -> Any:
    await it.add(ApiKey(owner=it.owner, name=it["name"], hash=it["hash"]))
    return await it.all(
        select(ApiKey.name).where(ApiKey.owner == it.owner).order_by(ApiKey.id.desc()).limit(2)
    )


async def agencies(it: Request) -> Any:
    query = 'SELECT a."name", count(u."id") AS "n" FROM "Agency" a'
    query += ' JOIN "User" u ON u."agencyId" = a."id" GROUP BY a."id" ORDER BY a."name"'
    return await it.rows(text(query))


# --- leads and deals ---


_OVERVIEW: dict[str, type[Any]] = {
    "lead": Lead,
    "deal": Deal,
    "conversation": Conversation,
    "campaign": Campaign,
    "workflow": Workflow,
    "instance": Instance,
    "task": Task,
    "invoice": Invoice,
}


async def overview(it: Request) -> Any:
    """All that there is, in one transaction."""
    return {
        f"{kind}Ids": await it.all(select(table.id).order_by(table.id))
        for kind, table in _OVERVIEW.items()
    }


def _lead(lead: Lead) -> Arguments:
    return {
        "leadId": lead.id,
        "name": lead.name,
        "status": lead.status,
        "score": lead.score,
        "tags": lead.tags,
        "custom": lead.custom,
    }


async def leads(it: Request) -> Any:
    query = select(Lead).order_by(Lead.id)
    if it["status"] is not None:
        query = query.where(Lead.status == it["status"])
    page = await it.all(query.offset(it["skip"]).limit(_PAGE * 3))
    count = await it.db.scalar(select(func.count(Lead.id)))
    return {"page": [_lead(lead) for lead in page], "count": count}


async def find_leads(it: Request) -> Any:
    by_words = Lead.name.ilike(it["words"]) | Lead.email.like(it["words"])
    query = select(Lead).where(by_words, Lead.tags.contains([it["tag"]])).order_by(Lead.id)
    return [_lead(lead) for lead in await it.all(query)]


async def lead(it: Request) -> Any:
    query = select(Lead).where(Lead.id == it["leadId"])
    found = await it.db.scalar(query.options(selectinload(Lead.deals), selectinload(Lead.notes)))
    if found is None:
        raise Refused("no such Lead")
    return {
        **_lead(found),
        "deals": [{"dealId": deal.id, "amount": deal.amount} for deal in found.deals],
        "notes": [{"noteId": note.id, "body": note.body} for note in found.notes],
    }


async def leads_with_deals(it: Request) -> Any:
    query = (
        select(Lead.id.label("leadId"), Lead.name, Deal.id.label("dealId"), Deal.stage)
        .outerjoin(Lead.deals)
        .where(Lead.owner == it.owner, Lead.id.in_(it["leadIds"]))
        .order_by(Lead.id, Deal.id)
    )
    return await it.rows(query)


async def create_lead(it: Request) -> Any:
    new = Lead(owner=it.owner, **it.said)
    await it.add(new)
    return _lead(new)


async def import_leads(it: Request) -> Any:
    new = [Lead(owner=it.owner, **one) for one in it["leads"]]
    await it.add(*new)
    return [_lead(one) for one in new]


async def update_lead(it: Request) -> Any:
    found = await it.the(Lead, "leadId")
    found.status, found.score = it["status"], it["score"]
    found.custom = {**found.custom, "changes": found.custom.get("changes", 0) + 1}
    await it.db.flush()
    return _lead(found)


async def score_leads(it: Request) -> Any:
    by = values(sql_column("id", SqlInteger), sql_column("by", SqlInteger), name="by")
    by = by.data([(lead_id, it["by"]) for lead_id in it["leadIds"]])
    query = (
        update(Lead)
        .where(Lead.id == by.c.id, Lead.owner == it.owner)
        .values(score=Lead.score + by.c.by)
        .returning(Lead.id.label("leadId"), Lead.score)
        .execution_options(synchronize_session=False)
    )
    return sorted(await it.rows(query), key=lambda row: row["leadId"])


async def delete_lead(it: Request) -> Any:
    gone = await it.db.execute(delete(Lead).where(Lead.id == it["leadId"], Lead.owner == it.owner))
    return gone.rowcount  # type: ignore[attr-defined]


async def convert_lead(it: Request) -> Any:
    """Refused where it has happened already: the transaction is taken back."""
    found = await it.the(Lead, "leadId", lock=True)
    deal = Deal(owner=it.owner, title=it["title"], amount=Decimal(it["amount"]), lead_id=found.id)
    await it.add(deal, Task(owner=it.owner, title=f"Call {found.name}", priority=1))
    if found.status == "CONVERTED":
        raise Refused("converted already")
    found.status = "CONVERTED"
    await it.db.flush()
    return {**_lead(found), "dealId": deal.id, "amount": deal.amount}


async def move_deal(it: Request) -> Any:
    query = update(Deal).where(Deal.id == it["dealId"], Deal.owner == it.owner)
    moved = query.values(stage=it["stage"]).returning(Deal.id.label("dealId"), Deal.stage)
    return await it.rows(moved)


async def pipeline(it: Request) -> Any:
    worth = func.sum(Deal.amount)
    query = (
        select(
            Deal.stage,
            func.count().label("n"),
            worth.label("worth"),
            func.rank().over(order_by=worth.desc()).label("rank"),
        )
        .where(Deal.owner == it.owner)
        .group_by(Deal.stage)
        .order_by(Deal.stage)
    )
    return await it.rows(query)


async def dashboard(it: Request) -> Any:
    """Several tables in one statement, each with the owner in its own WHERE."""
    mine = select(Lead.status, Lead.score).where(Lead.owner == it.owner).cte("mine")
    deals = select(func.sum(Deal.amount)).where(Deal.owner == it.owner, Deal.stage == "WON")
    to_do = select(func.count()).where(Task.owner == it.owner, Task.status != "DONE")
    query = select(
        func.count().label("leads"),
        func.avg(mine.c.score).label("score"),
        func.count(case((mine.c.status == "NEW", 1))).label("new"),
        deals.scalar_subquery().label("won"),
        to_do.scalar_subquery().label("tasks"),
    ).select_from(mine)
    return await it.rows(query)


async def report(it: Request) -> Any:
    """A join of User with the owner's rows."""
    query = (
        select(User.name, User.industry, Lead.source, func.count().label("n"))
        .join(Lead, Lead.owner == User.id)
        .where(User.id == it.owner)
        .group_by(User.name, User.industry, Lead.source)
        .order_by(Lead.source)
    )
    return await it.rows(query)


async def activity(it: Request) -> Any:
    parts = [
        select(literal(name).label("what"), words.label("words")).where(table.owner == it.owner)
        for name, table, words in (
            ("deal", Deal, Deal.title),
            ("note", Note, Note.body),
            ("task", Task, Task.title),
        )
    ]
    both = union_all(*parts).subquery()
    return await it.rows(select(both).order_by(both.c.words.collate("C"), both.c.what).limit(8))


async def export_leads(it: Request) -> Any:
    query = select(Lead.name).where(Lead.owner == it.owner).order_by(Lead.id)
    stream = await it.db.stream_scalars(query.execution_options(yield_per=4))
    return [name async for name in stream]


# --- campaigns, workflows, tasks ---


async def create_campaign(it: Request) -> Any:
    said = {**it.said, "budget": Decimal(it["budget"])}
    new = Campaign(owner=it.owner, **said)
    await it.add(new)
    return {"campaignId": new.id, "status": new.status}


async def launch_campaign(it: Request) -> Any:
    campaign = await it.the(Campaign, "campaignId", lock=True)
    if campaign.status == "RUNNING":
        raise Refused("it runs already")
    wanted = (
        select(Lead.owner, func.concat("Write to ", Lead.name), literal(2))
        .where(Lead.owner == it.owner, Lead.status.in_(["NEW", "QUALIFIED"]))
        .order_by(Lead.id)
        .limit(3)
    )
    made = await it.db.execute(
        insert(Task).from_select([Task.owner, Task.title, Task.priority], wanted)
    )
    campaign.status = "RUNNING"
    await it.db.flush()
    return {"campaignId": campaign.id, "tasks": made.rowcount}  # type: ignore[attr-defined]


async def campaigns(it: Request) -> Any:
    found = await it.all(select(Campaign).order_by(Campaign.id))
    return [
        {"campaignId": one.id, "name": one.name, "status": one.status, "budget": one.budget}
        for one in found
    ]


async def create_workflow(it: Request) -> Any:
    new = Workflow(owner=it.owner, name=it["name"], definition={"steps": it["steps"]})
    await it.add(new)
    return {"workflowId": new.id}


async def start_workflow(it: Request) -> Any:
    new = Instance(
        owner=it.owner, workflow_id=it["workflowId"], context={"step": 0, "by": it["by"]}
    )
    await it.add(new)
    return {"instanceId": new.id, "context": new.context}


async def step_workflow(it: Request) -> Any:
    step = func.coalesce(Instance.context["step"].as_integer(), 0) + 1
    query = (
        update(Instance)
        .where(Instance.id == it["instanceId"], Instance.owner == it.owner)
        .values(
            context=func.jsonb_set(Instance.context, array(["step"]), func.to_jsonb(step)),
            state=case((step > 2, "done"), else_="running"),
        )
        .returning(Instance.id.label("instanceId"), Instance.state, Instance.context)
        .execution_options(synchronize_session=False)
    )
    return await it.rows(query)


async def add_task(it: Request) -> Any:
    new = Task(owner=it.owner, title=it["title"], priority=it["priority"])
    await it.add(new)
    return {"taskId": new.id, "status": new.status}


async def finish_tasks(it: Request) -> Any:
    query = update(Task).where(Task.owner == it.owner, Task.id == any_(literal(it["taskIds"])))
    done = query.values(status="DONE").returning(Task.id)
    return {"taskIds": sorted((await it.db.scalars(done)).all())}


async def tasks(it: Request) -> Any:
    query = select(Task.id.label("taskId"), Task.title, Task.status, Task.priority)
    mine = query.where(Task.owner == it.owner)
    return await it.rows(mine.order_by(Task.priority.desc(), Task.id).limit(6))


# --- conversations ---


async def open_conversation(it: Request) -> Any:
    new = Conversation(owner=it.owner, lead_id=it["leadId"], subject=it["subject"])
    await it.add(new)
    first = Message(conversation_id=new.id, sender=it.user.name, body=it["body"])
    await it.add(first)
    return {"conversationId": new.id, "messageId": first.id}


async def conversations(it: Request) -> Any:
    query = (
        select(
            Conversation.id.label("conversationId"),
            Conversation.subject,
            Conversation.open,
            func.count(Message.id).label("n"),
        )
        .outerjoin(Message, Message.conversation_id == Conversation.id)
        .where(Conversation.owner == it.owner)
        .group_by(Conversation.id)
        .order_by(Conversation.id)
    )
    return await it.rows(query)


async def say(it: Request) -> Any:
    conversation = await it.the(Conversation, "conversationId", lock=True)
    if not conversation.open:
        raise Refused("it is closed")
    new = Message(conversation_id=conversation.id, sender=it.user.name, body=it["body"])
    await it.add(new)
    return {"messageId": new.id}


async def messages(it: Request) -> Any:
    query = (
        select(Message.id.label("messageId"), Message.sender, Message.body)
        .join(Conversation, Conversation.id == Message.conversation_id)
        .where(Conversation.id == it["conversationId"], Conversation.owner == it.owner)
        .order_by(Message.id)
    )
    return await it.rows(query)


async def last_message(it: Request) -> Any:
    """Messages do not say whose they are; only their conversation is named."""
    query = (
        select(Message.id.label("messageId"), Message.body)
        .where(Message.conversation_id == it["conversationId"])
        .order_by(Message.id.desc())
        .limit(1)
    )
    return await it.rows(query)


async def close_conversation(it: Request) -> Any:
    conversation = await it.the(Conversation, "conversationId")
    conversation.open = False
    await it.db.flush()
    return {"conversationId": conversation.id}


# --- what may go wrong ---


def _invoice(it: Request, number: str) -> Invoice:
    net = sum((Decimal(item["net"]) for item in it["items"]), Decimal())
    return Invoice(
        owner=it.owner,
        number=number,
        customer="ACME",
        items=it["items"],
        net=net,
        rate=Decimal("0.19"),
        due=date(2026, 6, 1),
    )


async def write_invoice(it: Request) -> Any:
    new = _invoice(it, it["number"])
    await it.add(new)
    return {"invoiceId": new.id, "total": new.total, "net": new.net}


async def write_invoices(it: Request) -> Any:
    """Those whose number is taken are left out, by savepoints."""
    count = await it.db.scalar(select(func.count(Invoice.id)))
    answers: list[Any] = [count]
    for number in it["numbers"]:
        try:
            async with it.db.begin_nested():
                new = _invoice(it, number)
                await it.add(new)
            answers.append({"invoiceId": new.id})
        except DBAPIError as error:
            answers.append(_state(error))
    return answers


async def invoices(it: Request) -> Any:
    found = await it.all(select(Invoice).order_by(Invoice.id))
    return [
        {"invoiceId": one.id, "number": one.number, "items": one.items, "total": one.total}
        for one in found
    ]


async def pay(it: Request) -> Any:
    invoice = await it.the(Invoice, "invoiceId")
    new = Payment(
        owner=it.owner,
        invoice_id=invoice.id,
        amount=invoice.total,
        method=it["method"],
        reference=invoice.number,
    )
    await it.add(new)
    paid = select(func.sum(Payment.amount)).where(
        Payment.owner == it.owner, Payment.invoice_id == invoice.id
    )
    return {"paymentId": new.id, "paid": await it.db.scalar(paid)}


async def book(it: Request) -> Any:
    starts = datetime(2026, 5, it["day"], 9, tzinfo=UTC)
    new = Appointment(
        owner=it.owner,
        lead_id=it["leadId"],
        title=it["title"],
        starts=starts,
        ends=starts + timedelta(minutes=it["minutes"]),
    )
    await it.add(new)
    return {"appointmentId": new.id, "ends": new.ends.isoformat()}


async def add_note(it: Request) -> Any:
    new = Note(owner=it.owner, lead_id=it["leadId"], body=it["body"])
    await it.add(new)
    return {"noteId": new.id}


_HANDLERS: dict[str, Handler] = {
    handler.__name__: handler
    for handler in (
        *(profile, set_feature, change_plan, make_key, agencies),
        *(
            overview,
            leads,
            find_leads,
            lead,
            leads_with_deals,
            create_lead,
            import_leads,
            update_lead,
        ),
        *(score_leads, delete_lead, convert_lead, move_deal, pipeline, dashboard, report),
        *(activity, export_leads, create_campaign, launch_campaign, campaigns),
        *(create_workflow, start_workflow, step_workflow, add_task, finish_tasks, tasks),
        *(open_conversation, conversations, say, messages, last_message, close_conversation),
        *(write_invoice, write_invoices, invoices, pay, book, add_note),
    )
}


# --- sessions of browsers ---


async def sign_in(engine: AsyncEngine, token: str, said: Arguments) -> Any:
    async with AsyncSession(engine) as db, db.begin():
        user = await db.scalar(select(User).where(User.email == said["email"]))
        if user is None:
            raise Refused("no such user")
        later = datetime.now() + timedelta(days=1)
        db.add(Login(owner=user.id, token=token, browser=said["browser"], expires=later))
        return {"name": user.name, "industry": user.industry}


async def sign_out(engine: AsyncEngine, token: str) -> Any:
    async with AsyncSession(engine) as db, db.begin():
        gone = await db.execute(delete(Login).where(Login.token == token))
        return gone.rowcount  # type: ignore[attr-defined]


async def _user(engine: AsyncEngine, token: str) -> User:
    query = select(User).join(Login, Login.owner == User.id).where(Login.token == token)
    async with AsyncSession(engine, expire_on_commit=False) as db:
        user = await db.scalar(query.where(Login.expires > func.now()))
    if user is None:
        raise Refused("not signed in")
    return user


async def _answer(engine: AsyncEngine, what: str, token: str, said: Arguments) -> Any:
    if what == "sign_in":
        return await sign_in(engine, token, said)
    if what == "sign_out":
        return await sign_out(engine, token)
    request = Request(engine, await _user(engine, token), said)
    async with request.db, request.db.begin():
        return await _HANDLERS[what](request)


def _state(error: DBAPIError) -> Arguments:
    cause: Any = error.orig.__cause__ if error.orig else None
    return {
        "state": getattr(error.orig, "sqlstate", None),
        "message": getattr(cause, "message", None) or str(error.orig).splitlines()[0],
        "constraint": getattr(cause, "constraint_name", None),
    }


async def _serve(engine: AsyncEngine, line: str) -> None:
    asked = json.loads(line)
    told: Arguments = {"n": asked["n"]}
    try:
        told["answer"] = await _answer(engine, asked["what"], asked["token"], asked["with"])
    except Refused as no:
        told["error"] = {"refused": str(no)}
    except DBAPIError as error:
        told["error"] = _state(error)
    except Exception as error:
        traceback.print_exc()
        told["error"] = {"bug": repr(error)}
    print(json.dumps(told, default=_plain, ensure_ascii=False), flush=True)


def _plain(value: Any) -> Any:
    return dict(value) if hasattr(value, "keys") else str(value)


async def main() -> None:
    url = make_url(os.environ["DATABASE_URL"])
    url = url.set(drivername=f"postgresql+{sys.argv[1]}")
    engine = create_async_engine(url, pool_size=POOL, max_overflow=0, pool_timeout=60)
    loop = asyncio.get_running_loop()
    async with asyncio.TaskGroup() as requests:
        while line := await loop.run_in_executor(None, sys.stdin.readline):
            requests.create_task(_serve(engine, line))
    await engine.dispose()


if __name__ == "__main__":
    asyncio.run(main())
