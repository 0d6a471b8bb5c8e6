"""Keeps the subset of "User" in every industry database true, by the best means there is.

Placements, whose epochs the industry databases check, travel with it. Why it is done so, and what
becomes of owners who leave: docs/decisions/0003-users-in-industry-databases.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from enum import StrEnum

from gateway.migrate import outbox, replication
from gateway.migrate.connect import Connection, connected
from gateway.migrate.plan import Admin, Plan, ProvisionError, Report
from gateway.settings.dsn import Dsn

_COLUMNS = """
    SELECT a.attname::text FROM pg_attribute a
     WHERE a.attrelid = 'public."User"'::regclass AND a.attnum > 0 AND NOT a.attisdropped
       AND a.attgenerated = '' ORDER BY a.attnum"""


class UserSync(StrEnum):
    """How industry databases hear of changes to "User" and to placements."""

    AUTO = "auto"
    LOGICAL = "logical"
    TRIGGER = "trigger"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Link:
    """An industry database other than the meta database, and a connection to it."""

    plan: Plan
    connection: Connection

    @property
    def name(self) -> str:
        return self.plan.own_shards[0]


async def keep_users(
    meta_plan: Plan,
    plans: Sequence[Plan],
    wanted: UserSync,
    admin: Admin | None,
    timeout_s: float,
    report: Report,
) -> None:
    """Sets up ``wanted`` for all databases of ``plans``, takes down the other means, and copies.

    AUTO is logical replication where the meta database and all others allow it, else the trigger.
    Raises ProvisionError when LOGICAL is wanted and can't be had, or a copy took too long.
    """
    async with AsyncExitStack() as stack:
        meta = await stack.enter_async_context(connected(meta_plan.login(admin)))
        links = [
            Link(plan, await stack.enter_async_context(connected(plan.login(admin))))
            for plan in plans
        ]
        columns = await _shared_columns(meta, links) if links else []
        means = await _means(meta, links, wanted, report)
        if means is not UserSync.LOGICAL:
            await replication.take_down(meta, [(link.name, link.connection) for link in links])
        if means is not UserSync.TRIGGER:
            await outbox.take_down(meta)
        if means is UserSync.NONE or not links:
            return
        for link in links:
            await link.connection.execute("SELECT gateway.follow_users()")
        if means is UserSync.LOGICAL:
            await _by_replication(meta_plan.login(admin), meta, links, columns, timeout_s, report)
        else:
            await _by_outbox(meta, links, columns, report)
        for link in links:
            await _forget_the_gone(meta, link, report)


async def _means(
    meta: Connection, links: Sequence[Link], wanted: UserSync, report: Report
) -> UserSync:
    if wanted not in (UserSync.AUTO, UserSync.LOGICAL) or not links:
        return wanted
    obstacle = await replication.obstacle(meta, [(one.name, one.connection) for one in links])
    if obstacle is None:
        return UserSync.LOGICAL
    if wanted is UserSync.LOGICAL:
        raise ProvisionError(f"logical replication can't be had: {obstacle}")
    report(f"users: by trigger, since logical replication can't be had: {obstacle}")
    return UserSync.TRIGGER


async def _shared_columns(meta: Connection, links: Sequence[Link]) -> list[str]:
    """The columns that "User" has everywhere, in the meta database's order."""
    columns = [row[0] for row in await meta.fetch(_COLUMNS)]
    for link in links:
        here = {row[0] for row in await link.connection.fetch(_COLUMNS)}
        columns = [column for column in columns if column in here]
    if not {"id", "industry"} <= set(columns):
        raise ProvisionError('"User" needs the columns id and industry in every database')
    return columns


async def _by_replication(
    login: Dsn,
    meta: Connection,
    links: Sequence[Link],
    columns: Sequence[str],
    timeout_s: float,
    report: Report,
) -> None:
    industries = sorted({name for link in links for name in link.plan.industries})
    changed = await replication.publish(meta, industries, columns)
    for link in links:
        name = await replication.subscribe(
            replication.Subscriber(link.name, link.connection, link.plan.industries),
            meta,
            login,
            copy_again=changed,
        )
        report(f"{link.name}: users follow by subscription {name}")
    await replication.wait_for_copies(
        meta, [(link.name, link.connection) for link in links], timeout_s
    )


async def _by_outbox(
    meta: Connection, links: Sequence[Link], columns: Sequence[str], report: Report
) -> None:
    feeds = {link.name: link.plan.industries for link in links}
    await outbox.set_up(meta, feeds, columns)
    for link in links:
        await outbox.queue_all(meta, link.name)
        moved = await outbox.deliver(meta, link.connection, link.name)
        report(f"{link.name}: users follow by `gateway sync-users`; {moved} changes delivered")


async def _forget_the_gone(meta: Connection, link: Link, report: Report) -> None:
    """Users that are here, and in the meta database no more or in another industry."""
    here = [row[0] for row in await link.connection.fetch('SELECT "id"::text FROM public."User"')]
    gone = await meta.fetch(
        """SELECT owner FROM unnest($1::text[]) AS owner WHERE NOT EXISTS (
               SELECT FROM public."User" u
                WHERE u."id"::text = owner AND u."industry"::text = ANY ($2::text[]))""",
        here,
        list(link.plan.industries),
    )
    for row in gone:
        await link.connection.execute("SELECT gateway.put_user($1, NULL)", row[0])
    left = await link.connection.fetchval("SELECT count(*) FROM gateway.left_behind")
    if left:
        report(f"{link.name}: {left} owners left rows behind (table gateway.left_behind)")
