"""Reads on replicas: only what provably reads, and never older than the reader's own writes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from gateway.demo.postgres import Cluster
from gateway.router.identity import LoginKind
from tests.conftest import Provisioned
from tests.integration.conftest import Gateway, run_gateway, until
from tests.standbys import pause_replay, resume_replay, standbys
from tests.wire import Message, Place, Wire, bind, execute, parse_, run

SYNC = b"S\0\0\0\4"
WHERE_AM_I = "SELECT current_setting('in_hot_standby')"


@dataclass(slots=True)
class Replicated:
    """The shared server with one standby, and a gateway that reads LAW's rows there."""

    gateway: Gateway
    standby: Cluster
    provisioned: Provisioned

    async def log_in(self, kind: LoginKind = LoginKind.OWNER) -> Wire:
        logins = self.provisioned.logins.values()
        login = self.provisioned.owner_on("law")
        if kind is not LoginKind.OWNER:
            login = next(one for one in logins if one.kind is kind)
        database = "law" if kind is LoginKind.OPERATOR else "crm"
        return await Wire.logged_in(
            Place("127.0.0.1", self.gateway.port, login.user, login.password, database)
        )


@pytest.fixture(scope="module")
async def replicated(
    postgres: Cluster, cluster_folder: Path, provisioned: Provisioned
) -> AsyncIterator[Replicated]:
    async with standbys(postgres, cluster_folder, "reads") as (standby,), AsyncExitStack() as stack:
        law = {"primary": provisioned.url("law"), "replicas": [standby.dsn("crm_law")]}
        overrides = {
            "reads": {"policy": "prefer-replica"},
            "health": {"interval_ms": 50},
            "industries": {"LAW": {"shards": [law]}},
        }
        gateway = await run_gateway(provisioned, stack, overrides)
        yield Replicated(gateway, standby, provisioned)


@pytest.fixture(autouse=True)
async def _usable(replicated: Replicated) -> None:
    """Each test begins with a replica that serves reads."""
    wire = await replicated.log_in()
    await eventually(wire, WHERE_AM_I)
    await wire.close()


def first(messages: list[Message]) -> bytes | None:
    return next(one.cells[0] for one in messages if one.tag == "D")


async def test_reads_go_to_the_replica_and_all_else_does_not(replicated: Replicated) -> None:
    wire = await replicated.log_in()
    assert await wire.value(WHERE_AM_I) == "on"
    wire.send(run(WHERE_AM_I) + SYNC)
    assert first(await wire.until("Z")) == b"on"
    wire.send(parse_("s", WHERE_AM_I) + bind("s") + execute() + SYNC)
    assert first(await wire.until("Z")) == b"on"
    here = "current_setting('in_hot_standby')"
    owner = replicated.provisioned.owner_on("law").owner
    for text in (
        f'SELECT {here} FROM "Lead" LIMIT 1 FOR UPDATE',
        f"SELECT {here}, txid_current()",
        f"SELECT {here}; SELECT set_config('a.b', '1', false)",
        f"BEGIN; SELECT {here}; COMMIT",
        f'WITH gone AS (DELETE FROM "Lead" WHERE "userId" = {owner} AND false) SELECT {here}',
        f"/* role='primary' */ SELECT {here}",
        f"SELECT {here} /* {'x' * 70_000} */",
    ):
        assert first(await wire.query(text)) == b"off", text
    await wire.close()


async def test_a_transaction_of_reads_stays_on_the_replica(replicated: Replicated) -> None:
    for kind in (LoginKind.OWNER, LoginKind.SERVICE):
        wire = await replicated.log_in(kind)
        owner = replicated.provisioned.owner_on("law").owner
        read = f'{WHERE_AM_I} FROM "User" u JOIN "Lead" l ON l."userId" = u."id"'
        read += f' WHERE u."id" = {owner} LIMIT 1'
        await eventually(wire, f"/* owner='{owner}' */ {WHERE_AM_I}")
        await wire.query("BEGIN READ ONLY")
        assert first(await wire.query(read)) == b"on"
        assert first(await wire.query(read)) == b"on"
        refused = await wire.query(f'UPDATE "Lead" SET "score" = 1 WHERE "userId" = {owner}')
        assert refused[0].fields["C"] == "25006"
        assert (await wire.query("ROLLBACK"))[-1].body == b"I"
        await wire.query("BEGIN")
        assert first(await wire.query(read)) == b"off"
        await wire.query("COMMIT")
        await wire.query("BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY")
        assert first(await wire.query(read)) == b"off"
        await wire.query("COMMIT")
        await wire.close()


async def eventually(wire: Wire, text: str) -> None:
    """Wait until reads are served by the replica again."""
    for _ in range(300):
        if first(await wire.query(text)) == b"on":
            return
        await asyncio.sleep(0.02)
    raise TimeoutError(text)


async def test_what_is_sent_behind_a_read_is_not_a_read(replicated: Replicated) -> None:
    """A pipeline: a write behind a read goes to the primary, and a read behind that sees it."""
    wire = await replicated.log_in()
    owner = str(replicated.provisioned.owner_on("law").owner)
    update = f'UPDATE "Lead" SET "score" = "score" WHERE "userId" = {owner} AND false'
    sent = run(WHERE_AM_I) + SYNC + run(update) + SYNC + run(WHERE_AM_I) + SYNC
    wire.send(sent)
    assert first(await wire.until("Z")) == b"on"
    assert (await wire.until("Z"))[-2].body == b"UPDATE 0\0"
    assert first(await wire.until("Z")) == b"off"
    await wire.close()


async def test_an_owner_never_reads_less_than_it_wrote(replicated: Replicated) -> None:
    """Replay stands still: who wrote reads on the primary, the others on the replica."""
    writer = await replicated.log_in()
    service = await replicated.log_in(LoginKind.SERVICE)
    owner = str(replicated.provisioned.owner_on("law").owner)
    score = f'SELECT max("score") FROM "Lead" WHERE "userId" = {owner}'
    lead = f'(SELECT min("id") FROM "Lead" WHERE "userId" = {owner})'
    before = first(await writer.query(score))
    await pause_replay(replicated.standby)
    try:
        for value in range(1000, 1040):
            update = f'UPDATE "Lead" SET "score" = {value} WHERE "id" = {lead}'
            await writer.query(f'{update} AND "userId" = {owner}')
            for reader in (writer, service):
                messages = await reader.query(score)
                assert first(messages) == str(value).encode()
        assert await writer.value("SELECT 1") == "1"
        other = f"/* industry='LAW' */ {WHERE_AM_I} FROM \"Lead\" LIMIT 1"
        await eventually(service, other)
    finally:
        await resume_replay(replicated.standby)
    await eventually(writer, WHERE_AM_I)
    assert first(await writer.query(score)) == b"1039"
    await writer.query(
        f'UPDATE "Lead" SET "score" = {(before or b"0").decode()} WHERE "id" = {lead}'
    )
    await writer.close()
    await service.close()


async def test_a_replica_that_is_gone_leaves_reads_to_the_primary(replicated: Replicated) -> None:
    wire = await replicated.log_in()
    assert await wire.value(WHERE_AM_I) == "on"
    await replicated.standby.stop()
    await asyncio.sleep(0.3)
    assert await wire.value(WHERE_AM_I) == "off"
    await replicated.standby.start()
    await eventually(wire, WHERE_AM_I)
    await wire.close()


async def test_operators_read_on_the_primary_unless_they_say_so(replicated: Replicated) -> None:
    wire = await replicated.log_in(LoginKind.OPERATOR)
    assert await wire.value(WHERE_AM_I) == "off"
    assert await wire.value(f"/* role='replica' */ {WHERE_AM_I}") == "on"
    refused = await wire.query(f"/* role='queen' */ {WHERE_AM_I}")
    assert refused[0].fields["C"] == "0A000"
    await wire.close()


async def test_marks_end_with_what_they_mark(replicated: Replicated) -> None:
    marks = replicated.gateway.worker.context.health.marks
    wire = await replicated.log_in()
    await wire.query("BEGIN")
    assert marks.under_way == 1
    await wire.query("COMMIT")
    await until(lambda: marks.under_way == 0)
    await wire.query("BEGIN")
    assert marks.under_way == 1
    wire.rst()
    await until(lambda: marks.under_way == 0)
