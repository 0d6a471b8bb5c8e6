"""What drivers and apps do inside a transaction before its owner can be told, found by the CRM."""

from __future__ import annotations

from collections.abc import AsyncIterator
from itertools import pairwise
from typing import Literal

import asyncpg
import pytest

from tests.apps.crm.conftest import Place

_LEADS = 'SELECT "status", current_database() FROM "Lead" WHERE "userId" = $1 AND "status" <> $2'
_LOOK = 'SELECT "name" FROM "User" WHERE "id" = $1'
_BIND: tuple[tuple[str, Literal["repeatable_read"] | None], ...] = (
    (_LOOK, "repeatable_read"),
    (f"{_LOOK} FOR SHARE", None),
    ('SELECT "expires" FROM "Session" WHERE "userId" = $1', None),
)
"""What is read and how, so that its transaction stays in the meta database."""


@pytest.fixture
async def client(spread: Place) -> AsyncIterator[asyncpg.Connection]:
    """A connection as a CRM has it."""
    connection = await asyncpg.connect(spread.url)
    yield connection
    await connection.close()


def _database(spread: Place, owner: int) -> str:
    shard = next(one.shard for one in spread.owners if one.owner == str(owner))
    assert shard is not None
    return spread.shards[shard].rsplit("/", 1)[1]


async def test_types_are_looked_up_in_a_transaction_of_any_owner(
    client: asyncpg.Connection, spread: Place
) -> None:
    """asyncpg describes a statement, reads the catalogs and sets jit before it binds the key."""
    for before, owner in pairwise(range(1, 12)):
        await client.reload_schema_state()  # it looks up the type anew
        async with client.transaction():
            for status, database in await client.fetch(_LEADS, owner, "LOST"):
                assert isinstance(status, str)
                assert database == _database(spread, owner)
        assert _database(spread, owner) != _database(spread, before)


@pytest.mark.parametrize("local", [True, False])
async def test_set_config_ahead_of_the_key_holds_where_the_key_says(
    client: asyncpg.Connection, spread: Place, local: bool
) -> None:
    await client.fetch(_LEADS, 1, "LOST")
    async with client.transaction():
        await client.fetchval(f"SELECT set_config('statement_timeout', $1, {local})", "7s")
        await client.fetchval("SELECT set_config('application_name', 'it''s', false)")
        (_, database), *_ = await client.fetch(_LEADS, 2, "LOST")
        assert database == _database(spread, 2)
        assert await client.fetchval("SHOW statement_timeout") == "7s"
        assert await client.fetchval("SHOW application_name") == "it's"
    assert await client.fetchval("SHOW statement_timeout") == ("0" if local else "7s")


async def test_set_config_of_unknown_scope_keeps_its_transaction_where_it_is(
    client: asyncpg.Connection, spread: Place
) -> None:
    """It can't be said again elsewhere: better an error than a setting of the wrong scope."""
    await client.fetch(_LEADS, 1, "LOST")
    with pytest.raises(asyncpg.FeatureNotSupportedError):
        async with client.transaction():
            await client.fetchval("SELECT set_config('statement_timeout', '7s', $1)", True)
            await client.fetch(_LEADS, 2, "LOST")
    assert await client.fetchval("SHOW statement_timeout") == "0"


async def test_a_message_is_found_as_soon_as_its_conversation_is_there(
    client: asyncpg.Connection, spread: Place
) -> None:
    """Nobody but the transaction itself can see the conversation at first."""
    last = 'SELECT "body" FROM "ConversationMessage" WHERE "conversationId" = $1'
    for owner in range(1, 12):
        async with client.transaction():
            conversation = await client.fetchval(
                'INSERT INTO "Conversation" ("userId", "subject") VALUES ($1, $2) RETURNING "id"',
                *(owner, "x"),
            )
            await client.execute(
                'INSERT INTO "ConversationMessage" ("conversationId", "sender", "body")'
                " VALUES ($1, 'x', $2)",
                *(conversation, f"of {owner}"),
            )
        assert await client.fetchval(last, conversation) == f"of {owner}"
        assert (
            await client.execute(
                'DELETE FROM "Conversation" WHERE "id" = $1 AND "userId" = $2', conversation, owner
            )
            == "DELETE 1"
        )


async def test_a_look_at_user_binds_no_transaction(
    client: asyncpg.Connection, spread: Place
) -> None:
    """Each industry has its part of "User"; what was read before is READ COMMITTED."""
    async with client.transaction():
        await client.fetchval(_LOOK, 3)
        assert (await client.fetch(_LEADS, 3, "LOST"))[0][1] == _database(spread, 3)
    for read, level in _BIND:
        with pytest.raises(asyncpg.FeatureNotSupportedError, match="the open transaction is in"):
            async with client.transaction(isolation=level):
                await client.fetchval(read, 3)
                await client.fetch(_LEADS, 3, "LOST")
