"""CPU that a transport alone costs per transaction: uvloop's and the gateway's own, in turns.

    .venv/bin/python -m benchmarks.micro_sockets --clients 1 32 100

A relay that looks at nothing stands between clients and servers, which are another process. A
transaction is 100 bytes there and ``--bytes`` back. Prints microseconds of CPU of the relay, the
median of several rounds with its half range, and per MB where the answers are large.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import os
import resource
import selectors
import socket
import statistics
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import cast

import uvloop

from gateway.net.calls import COMPILED
from gateway.net.carrier import Carrier, LoopCarrier, OwnCarrier
from gateway.net.connect import tune

_QUERY = b"q" * 100
_BUFFER_BYTES = 256 * 1024
_WARM_UP_S = 0.1
_CARRIERS: dict[str, Callable[[], Carrier]] = {"uvloop": LoopCarrier, "own": OwnCarrier}


class Side(asyncio.Protocol):
    """One end of a relayed connection: what it receives goes out at the other end."""

    def __init__(self) -> None:
        self.received = 0
        self.early = b""
        """What came before there was another side."""
        self.other: Side | None = None
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self.received += len(data)
        if self.other is None:
            self.early += data
        elif self.other.transport is not None:
            self.other.transport.write(data)

    def pause_writing(self) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.resume_reading()


@dataclass(frozen=True, slots=True)
class Load:
    """What is relayed, and for how long a slice."""

    clients: int
    answer_bytes: int
    seconds: float


def slice_of(load: Load, make: Callable[[], Carrier]) -> float:
    """Microseconds of CPU per transaction, of this process."""
    with socket.create_server(("127.0.0.1", 0), backlog=2 * load.clients) as listener:
        # Before there is a loop: a fork would share its descriptors.
        ends = multiprocessing.get_context("fork").Process(
            target=_ends, args=(listener.getsockname(), load), daemon=True
        )
        ends.start()
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                return runner.run(_measured(load, make(), listener))
        finally:
            ends.terminate()
            ends.join()


async def _measured(load: Load, carrier: Carrier, listener: socket.socket) -> float:
    clients = [await _relayed(listener, carrier) for _ in range(load.clients)]
    try:
        await asyncio.sleep(_WARM_UP_S)
        before, transactions = _cpu_s(), -_answered(clients, load)
        await asyncio.sleep(load.seconds)
        used, transactions = _cpu_s() - before, transactions + _answered(clients, load)
    finally:
        for client in clients:
            for one in (client, client.other):
                assert one is not None
                assert one.transport is not None
                one.transport.abort()
        carrier.close()
        await asyncio.sleep(0)
    return used / max(1.0, transactions) * 1e6


async def _relayed(listener: socket.socket, carrier: Carrier) -> Side:
    """The client's side of the next pair that connects: the client first, then its server."""
    sides = []
    for _ in range(2):
        sock, _ = listener.accept()
        sock.setblocking(False)
        tune(sock)
        _, side = await carrier.carry(sock, Side())
        sides.append(side)
    client, server = sides
    client.other, server.other = server, client
    if client.early:
        client.data_received(client.early)
    return client


def _answered(clients: Sequence[Side], load: Load) -> float:
    return sum(one.other.received for one in clients if one.other) / load.answer_bytes


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


# --- the other process: clients that ask, servers that answer ---


def _ends(address: tuple[str, int], load: Load) -> None:
    with suppress(OSError):  # the relay ends first
        _talk(address, load)


def _talk(address: tuple[str, int], load: Load) -> None:
    answer = b"a" * load.answer_bytes
    ready = selectors.DefaultSelector()
    missing: dict[socket.socket, int] = {}
    for _ in range(load.clients):
        for is_client in (True, False):
            sock = socket.create_connection(address)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            ready.register(sock, selectors.EVENT_READ, (is_client, sock))
            if is_client:
                missing[sock] = len(answer)
    for client in missing:
        client.send(_QUERY)
    buffer = bytearray(_BUFFER_BYTES)
    while True:
        for key, _ in ready.select():
            is_client, sock = key.data
            count = sock.recv_into(buffer)
            if not count:
                return
            if not is_client:
                _answer(sock, answer)
                continue
            missing[sock] -= count
            if not missing[sock]:
                missing[sock] = len(answer)
                sock.send(_QUERY)


def _answer(sock: socket.socket, answer: bytes) -> None:
    """In a process of its own where it does not fit into the sockets: nobody else would read."""
    if len(answer) <= _BUFFER_BYTES or os.fork() == 0:
        sock.sendall(answer)
        if len(answer) > _BUFFER_BYTES:
            os._exit(0)


# --- the command ---


def main() -> None:
    """Prints a line per number of clients."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 32, 100])
    parser.add_argument("--bytes", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=0.4)
    parser.add_argument("--rounds", type=int, default=7)
    given = parser.parse_args()
    print(f"own sockets {'compiled' if COMPILED else 'interpreted'}; us of CPU per transaction")
    for clients in given.clients:
        load = Load(clients, given.bytes, given.seconds)
        rounds: dict[str, list[float]] = {name: [] for name in _CARRIERS}
        for _ in range(given.rounds):
            for name, make in _CARRIERS.items():
                rounds[name].append(slice_of(load, make))
        print(f"{clients:4} clients  " + "  ".join(_told(load, one) for one in rounds.items()))


def _told(load: Load, measured: tuple[str, list[float]]) -> str:
    name, values = measured
    median, half = statistics.median(values), (max(values) - min(values)) / 2
    large = load.answer_bytes > 10_000
    per_mb = f" = {median / load.answer_bytes * 1000:.3f} ms/MB" if large else ""
    return f"{name} {median:6.2f} (best {min(values):.2f}, ± {half:.2f}){per_mb}"


if __name__ == "__main__":
    main()
