"""The table of scenarios. A new one is a class beside this file and a line here."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.measure import Scenario
from benchmarks.scenarios.idle import IdleClients
from benchmarks.scenarios.split import Split
from benchmarks.scenarios.streaming import STREAMS, Streaming
from benchmarks.scenarios.tenants import ManyTenants, NoisyOwner, ServiceLogin
from benchmarks.scenarios.transactions import Logins, Pgbench, SystemCalls, Tls
from benchmarks.scenarios.workers import Workers

PROTOCOLS = ("simple", "extended", "prepared")
POLICIES = ("primary", "prefer-replica")
CLIENTS = (1, 8, 32, 100, 500)


def full() -> Iterator[Scenario]:
    """What `make bench` runs."""
    for workload in ("select", "tpcb"):
        for protocol in PROTOCOLS:
            for clients in CLIENTS:
                yield Pgbench(workload, protocol, clients)
    for protocol in PROTOCOLS:
        for clients in (1, 32, 100):
            yield SystemCalls(protocol, clients)
    for what in STREAMS:
        for connections in (1, 8):
            yield Streaming(what, connections)
    for protocol in PROTOCOLS:
        for clients in (32, 100):
            yield Tls("select", protocol, clients)
    yield Logins(8)
    yield IdleClients(1000)
    yield ManyTenants(200)
    yield ManyTenants(1000)
    yield ServiceLogin(200)
    yield NoisyOwner(quiet=20, noisy=100)
    for policy in POLICIES:
        yield Split(policy, 50)
    yield Workers("prepared", 32)


def short() -> Iterator[Scenario]:
    """What `make bench-short` runs: something for every goal, once in less than 5 minutes."""
    for protocol in ("simple", "prepared"):
        for clients in (1, 32, 100):
            yield Pgbench("select", protocol, clients)
    yield Pgbench("select", "extended", 32)
    yield Pgbench("tpcb", "prepared", 32)
    yield SystemCalls("prepared", 32)
    for what in ("result", "copy-in"):
        yield Streaming(what, 1)
    yield Tls("select", "prepared", 32)
    yield Logins(8)
    yield IdleClients(1000)
    yield ManyTenants(200)
    yield ServiceLogin(200)
    yield NoisyOwner(quiet=20, noisy=100)
    for policy in POLICIES:
        yield Split(policy, 50)
    yield Workers("prepared", 32)
