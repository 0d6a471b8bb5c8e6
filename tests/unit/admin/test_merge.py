"""Tables and metrics of several workers as one."""

from __future__ import annotations

from dataclasses import replace

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from gateway.admin.commands import own_rows, understand
from gateway.admin.merge import added, concatenated, first, highest, of_the_leader
from gateway.admin.order import Conversation
from gateway.admin.sums import merged, plain
from gateway.admin.view import Row
from gateway.admin.words import statements
from gateway.pool.permits import PoolKey, Purse
from gateway.router.identity import Login, LoginKind
from gateway.router.route import Asked
from gateway.session.standing import Instruction
from tests.unit.admin.samples import add_client, add_server, make_context, make_views

COLUMNS = ("pool", "active", "max", "last_error")


def test_rows_with_the_same_key_are_added_up() -> None:
    merge = added(("pool",), max=highest, last_error=first)
    one: list[Row] = [("law", "2", "5", None), ("medical", "1", "5", None)]
    other: list[Row] = [("law", "3", "10", "gone"), ("hospital", "4", "5", None)]
    assert list(merge(COLUMNS, [one, other])) == [
        ("law", "5", "10", "gone"),
        ("medical", "1", "5", None),
        ("hospital", "4", "5", None),
    ]


def test_the_statement_of_the_oldest_pin_is_shown() -> None:
    columns = ("reason", "clients", "oldest_s", "statement")
    merge = added(("reason",), leader="oldest_s", oldest_s=highest, statement=of_the_leader)
    workers: list[list[Row]] = [
        [("listen", "1", "9.5", "LISTEN a"), ("advisory lock", "0", None, None)],
        [("listen", "2", "10.0", "LISTEN b"), ("advisory lock", "1", "2.0", "SELECT lock()")],
        [("listen", "0", None, None)],
    ]
    assert list(merge(columns, workers)) == [
        ("listen", "3", "10.0", "LISTEN b"),
        ("advisory lock", "1", "2.0", "SELECT lock()"),
    ]


def test_the_age_of_the_oldest_pin_is_not_a_sum() -> None:
    def worker(age: float) -> list[dict[str, object]]:
        family = GaugeMetricFamily("gateway_pins_oldest_seconds", "", labels=["reason"])
        family.add_metric(["listen"], age)
        return [plain(family)]

    (family,) = merged([worker(3), worker(8)])
    assert [sample.value for sample in family.samples] == [8]


def test_rows_are_put_behind_one_another() -> None:
    assert list(concatenated(("a",), [[("1",)], [], [("2",), ("1",)]])) == [("1",), ("2",), ("1",)]


class Others:
    """One worker that answers ``rows``, and one that does not."""

    def __init__(self, rows: list[Row]) -> None:
        self.rows_of_two = rows

    async def rows(self, command: str) -> dict[int, list[Row] | None]:
        return {2: self.rows_of_two, 3: None}

    async def reload(self) -> list[str]:
        return ["all reloaded"]

    async def carry_out(self, instruction: Instruction) -> dict[int, list[Row] | None]:
        return {2: [], 3: None}

    async def cancel(self, number: int, secret: bytes) -> bool:
        return False

    def pass_on(self, standing: list[Instruction]) -> None:
        pass

    def vacate(self, place: str) -> None:
        pass

    def purse(self, key: PoolKey, maximum: int) -> Purse:
        return Purse(maximum)


async def test_a_command_shows_all_workers_and_names_who_is_silent() -> None:
    context = make_context()
    law = context.snapshot.shards["law"]
    add_client(context, Login("ann", LoginKind.OWNER, "", owner="12"), law, Asked())
    add_server(context.pools.get(law.primary))
    views = make_views(context)
    talk = Conversation("op", "gateway", 1, {})

    async def answer(text: str, others: list[Row]) -> tuple[list[Row], list[str]]:
        (statement,) = statements(text)
        order = understand(statement, replace(views, fleet=Others(others)), talk)
        return list(await order.run()), order.notices

    clients = await own_rows("SHOW CLIENTS", views)
    rows, notices = await answer("SHOW CLIENTS", [(*clients[0][:-1], "2")])
    assert [row[-1] for row in rows] == ["1", "2"]
    assert notices == ["no answer from worker 3: not counted here"]
    pools = await own_rows("SHOW POOLS", views)
    rows, _ = await answer("SHOW POOLS", pools)
    assert len(rows) == 1
    assert (pools[0][4], rows[0][4]) == ("1", "2"), "idle is added up"
    assert (pools[0][11], rows[0][11]) == ("5", "5"), "max is the same for all"


async def test_every_table_of_numbers_can_be_added_up() -> None:
    context = make_context()
    add_server(context.pools.get(context.snapshot.shards["law"].primary))
    views = make_views(context)
    talk = Conversation("op", "gateway", 1, {})
    for what in ("POOLS", "STATS", "TOTALS", "CLIENTS", "SERVERS", "OWNERS", "PINS"):
        rows = await own_rows(f"SHOW {what}", views)
        (statement,) = statements(f"SHOW {what}")
        order = understand(statement, replace(views, fleet=Others(rows)), talk)
        assert order.columns is not None
        assert all(len(row) == len(order.columns) for row in await order.run())


def family(value: float) -> list[Metric]:
    gauge = GaugeMetricFamily("gateway_pool_servers", "Servers.", labels=["pool"])
    gauge.add_metric(["law"], value)
    return [
        gauge,
        CounterMetricFamily("gateway_logins", "Logins.", value=value),
        GaugeMetricFamily("gateway_pool_servers_max", "Bound.", value=value),
        GaugeMetricFamily("gateway_directory_listening", "Listening.", value=value),
    ]


def test_metrics_are_added_but_for_those_that_all_workers_share() -> None:
    families = [[plain(one) for one in family(value)] for value in (3, 4)]
    found = {one.name: one.samples[0] for one in merged(families)}
    assert {name: sample.value for name, sample in found.items()} == {
        "gateway_pool_servers": 7,
        "gateway_logins": 7,
        "gateway_pool_servers_max": 4,
        "gateway_directory_listening": 3,
    }
    assert found["gateway_pool_servers"].labels == {"pool": "law"}
    assert found["gateway_logins"].name == "gateway_logins_total"
