"""Pauses: whom they hold, in which order they let go, how many and how long they hold."""

from __future__ import annotations

import json

import pytest

from gateway.errors import GatewayError, Paused
from gateway.router.topology import Endpoint, Industry, Role, Shard, Snapshot
from gateway.session.pauses import Pauses
from gateway.session.standing import Deed, Instruction, Kind, Scope, Standing
from gateway.settings.model import Pause


def shard(name: str, industry: str | None, host: str = "", *replicas: str) -> Shard:
    def endpoint(one: str, role: Role) -> Endpoint:
        return Endpoint(one, host or one, 5432, "db", role)

    return Shard(
        name,
        industry,
        endpoint(name, Role.PRIMARY),
        tuple(Endpoint(one, one, 5432, "db", Role.REPLICA) for one in replicas),
    )


META = shard("meta", None)
LAW = shard("law", "LAW", "", "law-replica-1")
DENTIST = shard("dentist", "DENTIST", "shared")
FLORIST = shard("florist", "FLORIST", "shared")
SHARDS = (META, LAW, DENTIST, FLORIST)
SNAPSHOT = Snapshot(
    1,
    META,
    {one.industry: Industry(one.industry, (one,), ()) for one in SHARDS if one.industry},
    {one.name: one for one in SHARDS},
)
PRIMARIES = [one.primary for one in SHARDS]
ALL = Scope(Kind.ALL)
OF_LAW = Scope(Kind.INDUSTRY, "LAW")


class Client:
    """Somebody who waits."""

    def __init__(self, pauses: Pauses, log: list[str], name: str) -> None:
        self.pauses, self.log, self.name = pauses, log, name

    def try_again(self) -> None:
        self.log.append(self.name)

    def turned_away(self, error: GatewayError) -> None:
        self.log.append(f"{self.name}: {error.sqlstate}")


class House:
    """Pauses with a clock, rooms and clients of the test's own."""

    def __init__(self, **settings: int) -> None:
        self.now = 100.0
        self.room = dict.fromkeys([one.name for one in SHARDS], 1000)
        self.log: list[str] = []
        self.pauses = Pauses(Pause(**settings), lambda: self.now, self.has_room)

    def has_room(self, one: Shard) -> bool:
        self.room[one.name] -= 1
        return self.room[one.name] >= 0

    def order(self, deed: Deed, scope: Scope, ends_at: float = 1e9) -> None:
        self.pauses.standing.apply(Instruction(deed, scope, ends_at))
        if deed is Deed.RESUME:
            self.pauses.changed()

    def park(self, name: str, *shards: Shard, owners: tuple[str, ...] = ()) -> Client:
        client = Client(self.pauses, self.log, name)
        self.pauses.park(client, shards, owners)
        return client


@pytest.mark.parametrize(
    ("scope", "held", "free"),
    [
        (ALL, [((META,), ()), ((LAW,), ("7",))], []),
        (OF_LAW, [((LAW,), ()), ((DENTIST, LAW), ())], [((DENTIST,), ()), ((META,), ("7",))]),
        (Scope(Kind.SHARD, "law"), [((LAW,), ("7",))], [((DENTIST,), ())]),
        (
            Scope(Kind.OWNER, "7"),
            [((LAW,), ("7",)), ((META,), ("5", "7")), ((), ("7",))],
            [((LAW,), ()), ((LAW,), ("5",)), ((), ())],
        ),
    ],
)
def test_a_pause_covers_what_it_names(
    scope: Scope,
    held: list[tuple[tuple[Shard, ...], tuple[str, ...]]],
    free: list[tuple[tuple[Shard, ...], tuple[str, ...]]],
) -> None:
    standing = Standing([Instruction(Deed.PAUSE, scope, 5.0)])
    assert all(standing.pauses_work(shards, owners) for shards, owners in held)
    assert not any(standing.pauses_work(shards, owners) for shards, owners in free)


def test_who_waits_goes_on_in_order_once_nothing_holds_him() -> None:
    house = House()
    house.order(Deed.PAUSE, OF_LAW)
    house.order(Deed.PAUSE, Scope(Kind.OWNER, "7"))
    for name in ("a", "b", "c"):
        house.park(name, LAW)
    house.park("both", LAW, owners=("7",))
    house.park("owner", DENTIST, owners=("7",))
    house.park("d", LAW)
    house.order(Deed.RESUME, OF_LAW)
    assert house.log == ["a", "b", "c", "d"]
    house.order(Deed.RESUME, ALL)
    assert house.log == ["a", "b", "c", "d", "both", "owner"]
    assert not len(house.pauses)


def test_no_more_go_on_at_a_time_than_there_is_room_for() -> None:
    house = House()
    house.order(Deed.PAUSE, ALL)
    for number in range(5):
        house.park(f"law {number}", LAW)
    house.park("dentist", DENTIST)
    house.room["law"] = 2
    house.order(Deed.RESUME, ALL)
    assert house.log == ["law 0", "law 1", "dentist"]
    house.room["law"] = 2
    house.pauses.tick()
    assert house.log[3:] == ["law 2", "law 3"]
    house.room["law"] = 2
    house.pauses.tick()
    assert house.log[5:] == ["law 4"]


def test_a_pause_ends_by_itself_and_is_named_once() -> None:
    house = House()
    house.order(Deed.PAUSE, OF_LAW, 101.0)
    house.park("a", LAW)
    assert house.pauses.tick() == []
    house.now = 101.0
    assert house.pauses.tick() == [OF_LAW]
    assert house.log == ["a"]
    assert house.pauses.tick() == []


def test_a_pause_without_an_end_stands_until_it_is_ended() -> None:
    house = House()
    house.order(Deed.PAUSE, OF_LAW, 0.0)
    house.now += 1e6
    assert house.pauses.tick() == []
    assert [one.scope for one in house.pauses.orders()] == [OF_LAW]
    assert house.pauses.cover((LAW,))
    house.order(Deed.RESUME, OF_LAW)
    assert not house.pauses.cover((LAW,))


def test_a_statement_waits_for_so_long_and_so_many_wait() -> None:
    house = House(hold_ms_max=500, hold_clients_max=2)
    house.order(Deed.PAUSE, ALL)
    house.park("a", LAW)
    house.now += 0.3
    gone = house.park("b", LAW)
    with pytest.raises(Paused):
        house.park("c", LAW)
    count, longest_s = house.pauses.waiting(ALL)
    assert count == 2
    assert longest_s == pytest.approx(0.3)
    house.now += 0.3
    house.pauses.tick()
    assert house.log == ["a: 57P03"]
    house.pauses.leave(gone)
    house.now += 9
    house.pauses.tick()
    assert house.log == ["a: 57P03"]
    assert house.pauses.refusals == 2


def test_who_parks_again_while_others_are_let_go_is_not_lost() -> None:
    house = House()
    house.order(Deed.PAUSE, OF_LAW)
    house.order(Deed.PAUSE, Scope(Kind.SHARD, "dentist"))

    class Mover(Client):
        def try_again(self) -> None:
            self.pauses.park(self, (DENTIST,))

    house.pauses.park(Mover(house.pauses, house.log, "m"), (LAW,))
    house.order(Deed.RESUME, OF_LAW)
    assert house.pauses.waiting(Scope(Kind.SHARD, "dentist"))[0] == 1


# --- what stays in force ---


def test_only_places_all_of_whose_work_is_paused_are_quiet() -> None:
    law, replica = LAW.primary.address, LAW.replicas[0].address
    standing = Standing([Instruction(Deed.PAUSE, OF_LAW, 5.0)])
    assert standing.quiet(SNAPSHOT, PRIMARIES) == {law, replica}
    dentist = Instruction(Deed.PAUSE, Scope(Kind.INDUSTRY, "DENTIST"), 5.0)
    florist = Instruction(Deed.PAUSE, Scope(Kind.SHARD, "florist"), 5.0)
    assert Standing([dentist]).quiet(SNAPSHOT, PRIMARIES) == frozenset()
    assert Standing([dentist, florist]).quiet(SNAPSHOT, PRIMARIES) == {DENTIST.primary.address}
    owner = Instruction(Deed.PAUSE, Scope(Kind.OWNER, "7"), 5.0)
    assert Standing([owner]).quiet(SNAPSHOT, PRIMARIES) == frozenset()


def test_a_drained_replica_that_is_a_primary_now_gets_its_work() -> None:
    replica = LAW.replicas[0]
    standing = Standing([Instruction(Deed.DRAIN, Scope(Kind.ENDPOINT, replica.name))])
    assert standing.quiet(SNAPSHOT, PRIMARIES) == {replica.address}
    assert standing.quiet(SNAPSHOT, [*PRIMARIES, replica]) == frozenset()


def test_instructions_in_force_can_be_told_to_others() -> None:
    told = [
        Instruction(Deed.PAUSE, OF_LAW, 5.0),
        Instruction(Deed.PAUSE, ALL, 1.0),
        Instruction(Deed.DRAIN, Scope(Kind.ENDPOINT, "law-replica-1")),
        Instruction(Deed.DISABLE, Scope(Kind.SHARD, "law")),
        Instruction(Deed.RECONNECT, ALL),
        Instruction(Deed.KILL, Scope(Kind.CLIENT, "7")),
    ]
    sent = json.loads(json.dumps([one.plain() for one in Standing(told).instructions(2.0)]))
    assert [Instruction.of(plain) for plain in sent] == [told[0], told[2], told[3]]


def test_every_order_can_be_taken_back() -> None:
    standing = Standing(
        [
            Instruction(Deed.PAUSE, OF_LAW, 5.0),
            Instruction(Deed.DRAIN, Scope(Kind.ENDPOINT, "x")),
            Instruction(Deed.DISABLE, OF_LAW),
            Instruction(Deed.RESUME, OF_LAW),
            Instruction(Deed.UNDRAIN, Scope(Kind.ENDPOINT, "x")),
            Instruction(Deed.ENABLE, OF_LAW),
        ]
    )
    assert not standing.instructions(0.0)


def numbered(deed: Deed, scope: Scope, number: int, ends_at: float = 100.0) -> Instruction:
    return Instruction(deed, scope, ends_at if deed is Deed.PAUSE else 0.0, "web-1:6432", number)


def test_what_all_gateways_follow_goes_with_the_board_and_the_own_stays() -> None:
    own = Instruction(Deed.PAUSE, Scope(Kind.SHARD, "dentist"), 100.0)
    shared = numbered(Deed.PAUSE, OF_LAW, 3)
    drained = numbered(Deed.DRAIN, Scope(Kind.ENDPOINT, "law-replica-1"), 4)
    standing = Standing([own, shared, drained])
    assert not standing.keep({3, 4})
    assert standing.keep({4})
    assert standing.instructions(0.0) == [own, drained]
    standing.apply(numbered(Deed.PAUSE, own.scope, 5))
    assert not standing.keep({4, 5}), "one of the same scope takes its place"
    assert standing.keep(()), "and is the board's from then on"
    assert standing.instructions(0.0) == []


def test_what_a_supervisor_knows_does_not_undo_what_the_board_says() -> None:
    own = Instruction(Deed.DISABLE, OF_LAW)
    shared = numbered(Deed.PAUSE, OF_LAW, 7)
    for but_shared, expected in ((True, [shared, own]), (False, [own])):
        standing = Standing([shared, Instruction(Deed.DISABLE, ALL)])
        standing.replace([own], but_shared=but_shared)
        assert standing.instructions(0.0) == expected


def test_a_pause_that_is_given_up_ends_no_other() -> None:
    other = numbered(Deed.PAUSE, OF_LAW, 1)
    standing = Standing([other, numbered(Deed.PAUSE, ALL, 2)])
    standing.apply(Instruction(Deed.GIVE_UP, ALL))
    assert standing.instructions(0.0) == [other]
    standing.apply(Instruction(Deed.RESUME, ALL))
    assert standing.instructions(0.0) == []


def test_an_order_that_comes_by_two_ways_is_carried_out_once() -> None:
    pauses = House().pauses
    assert [pauses.first_time(number) for number in (5, 5, 0, 0)] == [True, False, True, True]
    pauses.heard_all(6)
    assert [pauses.first_time(number) for number in (5, 6, 7)] == [False, False, True]


def test_instructions_of_an_older_version_are_understood() -> None:
    plain = numbered(Deed.PAUSE, OF_LAW, 7).plain()
    assert Instruction.of(json.loads(json.dumps(plain))) == numbered(Deed.PAUSE, OF_LAW, 7)
    assert Instruction.of(plain[:4]) == Instruction(Deed.PAUSE, OF_LAW, 100.0)
