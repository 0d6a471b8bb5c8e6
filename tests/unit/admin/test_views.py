"""What the views show of clients, servers, pools, owners and settings."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

import pytest

from gateway.admin import views as shown
from gateway.admin.options import SECRET as HIDDEN
from gateway.admin.view import Row
from gateway.pool.pool import Pool
from gateway.protocol import replies
from gateway.router.identity import Login, LoginKind
from gateway.router.route import Asked
from gateway.session.client import ClientSession, Phase
from gateway.session.context import Context
from gateway.session.state import Pin
from gateway.settings.model import Settings
from tests.unit.admin.samples import (
    NOW,
    SECRET,
    SETTINGS,
    add_client,
    add_operators,
    add_server,
    make_context,
    make_views,
)

OWNER = Login("ann", LoginKind.OWNER, "", owner="12")
SERVICE = Login("web", LoginKind.SERVICE, "")


def table(columns: tuple[str, ...], rows: Iterable[Row]) -> list[dict[str, str | None]]:
    return [dict(zip(columns, row, strict=True)) for row in rows]


def law_pool(context: Context) -> Pool:
    return context.pools.get(context.snapshot.shards["law"].primary)


def test_pools_show_servers_by_state_and_who_waits() -> None:
    context = make_context()
    pool = law_pool(context)
    add_server(pool)
    busy = add_server(pool, 78)
    assert pool.core.checkout() is busy
    pool.core.enqueue("a client", NOW - 0.25)
    (row,) = table(shown.POOLS.columns, make_views(context).pools())
    assert row == {
        "pool": "law/app",
        "database": "db:5432/law",
        "role": "app",
        "mode": "transaction",
        "idle": "1",
        "active": "1",
        "resting": "1",
        "cleaning": "0",
        "closing": "0",
        "opening": "0",
        "min": "0",
        "max": "5",
        "waiting": "1",
        "kept_back": "0",
        "owners_waiting": "1",
        "longest_wait_ms": "250",
        "retiring": "no",
        "last_error": None,
    }


def test_servers_show_their_state_and_their_client() -> None:
    context = make_context()
    pool = law_pool(context)
    add_server(pool)
    client = add_client(context, OWNER, context.snapshot.shards["law"], Asked())
    server = pool.core.checkout()
    assert server is not None
    server.link(client, client.number)
    server.status = ord("T")
    (row,) = table(shown.SERVER_COLUMNS, make_views(context).servers())
    assert row["state"] == "busy"
    assert row["client"] == str(client.number)
    assert row["transaction"] == "open"
    assert (row["opened_s"], row["expires_s"]) == ("10.0", "60.0")


def linked(context: Context, client: ClientSession) -> None:
    pool = law_pool(context)
    client.server = add_server(pool)
    client.phase = Phase.LINKED


def test_clients_show_what_they_do() -> None:
    context = make_context()
    law = context.snapshot.shards["law"]
    views = make_views(context)
    client = add_client(context, OWNER, law, Asked("law"))

    def state() -> str | None:
        return table(shown.CLIENT_COLUMNS, views.clients())[0]["state"]

    assert state() == "idle"
    client.phase = Phase.SEEKING
    assert state() == "waiting"
    linked(context, client)
    assert client.server is not None
    client.server.replies.expect(replies.CLIENT_QUERY)
    assert state() == "active"
    client.server.replies.on_ready()
    client.server.status = ord("T")
    assert state() == "in transaction"
    client.server.status = ord("I")
    client.holdings.pin(Pin.LISTEN)
    assert state() == "pinned"
    (row,) = table(shown.CLIENT_COLUMNS, views.clients())
    assert row["server_pid"] == "77"
    assert row["pins"] == "listen"


def test_clients_show_who_they_are_and_consoles_are_among_them() -> None:
    context = make_context()
    law = context.snapshot.shards["law"]
    add_client(context, SERVICE, law, Asked("app", owner="99"))
    add_operators(context, 1)
    service, console = table(shown.CLIENT_COLUMNS, make_views(context).clients())
    assert service["login"] == "web"
    assert service["kind"] == "service"
    assert service["owner"] == "99"
    assert service["application"] == "web"
    assert service["endpoint"] == "law"
    assert (console["kind"], console["state"], console["owner"]) == ("operator", "console", None)
    assert console["connected_s"] == "1.0"


async def test_owners_are_counted_over_their_clients() -> None:
    context = make_context()
    law, medical = context.snapshot.shards["law"], context.snapshot.shards["medical_1"]
    first = add_client(context, OWNER, law, Asked())
    first.transactions = 3
    second = add_client(context, SERVICE, law, Asked(owner="12"))
    second.transactions = 4
    second.phase = Phase.SEEKING
    add_client(context, SERVICE, medical, Asked(owner="99"))
    add_client(context, SERVICE, medical, Asked())
    add_operators(context, 2)
    ann, other = table(shown.OWNERS.columns, await make_views(context).owners())
    assert ann == {
        "owner": "12",
        "endpoint": "law",
        "clients": "2",
        "idle": "1",
        "linked": "0",
        "waiting": "1",
        "transactions": "7",
    }
    assert (other["owner"], other["clients"]) == ("99", "1")


def test_pins_are_counted_now_and_since_the_start() -> None:
    context = make_context()
    first, second = (
        add_client(context, OWNER, context.snapshot.shards["law"], Asked()) for _ in range(2)
    )
    context.clock = lambda: NOW
    for client, ago, statement in ((first, 7, "LISTEN a"), (second, 3, "LISTEN b")):
        client.holdings._clock = itertools.repeat(NOW - ago).__next__
        client.holdings.pin(Pin.LISTEN, statement)
    first.holdings.pin(Pin.TEMPORARY)
    first.holdings.unpin(Pin.TEMPORARY)
    assert list(make_views(context).pins()) == [
        ("listen", "2", "7.0", "2", "LISTEN a"),
        ("temporary object", "0", None, "1", None),
    ]
    first.holdings.end()
    assert next(make_views(context).pins()) == ("listen", "1", "3.0", "2", "LISTEN b")


def test_routes_show_slots_and_replicas() -> None:
    rows = list(make_views().routes())
    assert rows == [
        (None, "meta", None, "meta", "primary", "db:5432/meta"),
        ("LAW", "law", "0-1023", "law", "primary", "db:5432/law"),
        ("LAW", "law", "0-1023", "law-replica-1", "replica", "standby:5433/law"),
        ("MEDICAL", "medical_1", "0-511", "medical_1", "primary", "db:5432/medical_1"),
        ("MEDICAL", "medical_2", "512-1023", "medical_2", "primary", "db:5432/medical_2"),
    ]


def test_slots_in_several_ranges_are_all_shown() -> None:
    medical = {
        "shards": [
            {"primary": "postgresql://u@db/a", "slots": "0-99,200-1023"},
            {"primary": "postgresql://u@db/b", "slots": "100-199"},
        ]
    }
    settings = Settings.model_validate({**SETTINGS, "industries": {"MEDICAL": medical}})
    rows = table(shown.ROUTES.columns, make_views(make_context(settings)).routes())
    assert [row["slots"] for row in rows] == [None, "0-99,200-1023", "100-199"]


# --- settings ---


def config() -> dict[str, dict[str, str | None]]:
    rows = table(shown.CONFIG.columns, make_views().config())
    return {str(row["setting"]): row for row in rows}


def test_config_shows_value_default_and_what_was_changed() -> None:
    options = config()
    assert options["pool.max"] == {
        "setting": "pool.max",
        "value": "5",
        "default": "20",
        "changed": "yes",
    }
    assert options["pool.min"]["changed"] == "no"
    assert options["listen.tls.mode"]["value"] == "allow"
    assert options["listen.login_timeout_s"]["value"] == "15"
    assert options["industries.LAW.pool.max"]["value"] is None


def test_config_never_shows_a_secret() -> None:
    options = config()
    assert options["operator_role.password"]["value"] == HIDDEN
    assert options["meta.primary"]["value"] == HIDDEN
    assert options["industries.LAW.shards[0].replicas[0]"]["value"] == HIDDEN
    assert SECRET not in str(options)


# --- health ---


@pytest.mark.parametrize("state", ["starting", "draining"])
def test_a_worker_that_is_not_up_is_not_ready(state: str) -> None:
    assert make_views(state=lambda: state).not_ready() == state


def test_a_worker_whose_directory_never_answered_is_not_ready() -> None:
    assert make_views().not_ready() == "the meta database has not answered yet"


def test_totals_hold_every_counter_and_every_pin() -> None:
    context = make_context()
    context.counters.logins = 3
    context.counters.pins[Pin.LISTEN] = 5
    totals = set(make_views(context).totals())
    expected = {
        ("logins", "3"),
        ("pins (listen)", "5"),
        ("clients", "0"),
        ("directory lookups", "0"),
        ("prepared statements", "0"),
        ("prepared statement bytes", "0"),
        ("statement facts hits", "0"),
    }
    assert expected <= totals
