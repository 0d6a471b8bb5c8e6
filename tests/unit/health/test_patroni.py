"""What Patroni says, and who is right where the gateway's own looks differ."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.health.marks import Marks
from gateway.health.patroni import Member, Named, matched, read_members
from gateway.health.state import Health
from gateway.router.positions import EndpointStatus
from gateway.router.topology import Endpoint, Role, Shard
from gateway.settings.model import Reads

A = Endpoint("law", "a", 5432, "law", Role.PRIMARY)
B = Endpoint("law-replica-1", "b", 5432, "law", Role.REPLICA)
SHARD = Shard("law", "LAW", A, (B,))

# As Patroni 4 answers.
ANSWER = {
    "members": [
        {
            "name": "one",
            "role": "leader",
            "state": "running",
            "api_url": "http://10.0.0.1:8008/patroni",
            "host": "10.0.0.1",
            "port": 5432,
            "timeline": 3,
        },
        {
            "name": "two",
            "role": "replica",
            "state": "streaming",
            "api_url": "http://10.0.0.2:8008/patroni",
            "host": "10.0.0.2",
            "port": 5432,
            "timeline": 3,
            "lag": 42,
        },
        {"name": "three", "role": "replica", "state": "stopped", "host": "c", "lag": "unknown"},
    ],
    "scope": "law",
}


def test_members_are_read_and_found_among_our_endpoints() -> None:
    one, two, three = read_members(json.dumps(ANSWER).encode())
    assert one.leads
    assert not two.leads
    assert (two.timeline, two.lag_bytes, three.port, three.lag_bytes) == (3, 42, 5432, None)
    assert two.words == "replica, streaming, timeline 3, lag 42"
    addresses = [("db1", 5432, "law"), ("10.0.0.2", 5432, "law"), ("10.0.0.1", 6000, "law")]
    named = matched([one, two, three], addresses, {"db1": frozenset({"10.0.0.1"})})
    assert named.leader == (("db1", 5432, "law"), one)
    assert named.members[addresses[1]] is two
    assert len(named.members) == 2, "another port is another PostgreSQL"


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: (
            st.lists(inner)
            | st.dictionaries(st.sampled_from(["members", "host", "port", "role", "lag"]), inner)
        ),
    )
)
def test_any_answer_is_read_or_refused(answer: object) -> None:
    try:
        members = read_members(json.dumps(answer).encode())
    except ValueError:
        return
    assert all(isinstance(one.port, int) for one in members)


@pytest.mark.parametrize("role", ["leader", "standby_leader", "replica", "sync_standby"])
@pytest.mark.parametrize("state", ["running", "starting", "stopped", "crashed"])
def test_only_a_running_leader_leads(role: str, state: str) -> None:
    leads = Member("one", "a", 5432, role, state).leads
    assert leads is ((role, state) == ("leader", "running"))


# --- who is the primary -----------------------------------------------------------------------


def health(**says: tuple[bool | None, int] | None) -> Health:
    """What our own looks found: in recovery, and the timeline; None of in_recovery: unreachable."""
    made = Health(Marks.private(0.0))
    made.configure({"LAW": Reads()}, {A.address, B.address})
    for name, found in says.items():
        if found is not None:
            recovery, timeline = found
            address = {"a": A, "b": B}[name].address
            reachable = recovery is not None
            made.record(
                EndpointStatus(
                    address, 1.0, 2.0, reachable, recovery, lsn=1, timeline=timeline, system_id=7
                )
            )
    return made


def leader(endpoint: Endpoint, timeline: int | None) -> Named:
    member = Member("it", endpoint.host, 5432, "leader", "running", timeline)
    return Named({endpoint.address: member})


PRIMARY, STANDBY, GONE = False, True, None


@pytest.mark.parametrize(
    ("a", "b", "named", "expected"),
    [
        ((PRIMARY, 1), (STANDBY, 1), leader(A, 1), A),
        (None, None, leader(B, 2), B),  # not looked at yet
        ((PRIMARY, 1), (GONE, 0), leader(B, 2), B),  # the old one is cut off, and sure of itself
        ((PRIMARY, 1), (PRIMARY, 2), leader(A, 1), B),  # Patroni's news is old
        ((PRIMARY, 2), (PRIMARY, 2), leader(B, 2), B),  # a tie
        ((PRIMARY, 1), (STANDBY, 1), leader(B, 1), A),  # B has the lock, and is not promoted yet
        ((GONE, 0), (STANDBY, 1), leader(B, 2), A),  # nor here; nobody can write now
        ((GONE, 0), (PRIMARY, 2), leader(A, 1), B),  # A died, and its lock lives
        ((GONE, 0), (PRIMARY, 2), None, B),
        ((PRIMARY, 1), (GONE, 0), leader(B, None), A),  # an old Patroni: no proof
    ],
)
def test_the_newer_timeline_wins_then_patroni(
    a: tuple[bool | None, int] | None,
    b: tuple[bool | None, int] | None,
    named: Named | None,
    expected: Endpoint,
) -> None:
    known = health(a=a, b=b)
    known.named("law", named)
    assert known.primary_of(SHARD) is expected


def test_what_patroni_no_longer_says_is_forgotten() -> None:
    known = health(a=(PRIMARY, 1))
    known.named("law", leader(B, 2))
    known.named("law", None)
    assert known.primary_of(SHARD) is A
