"""Many tenants at once: a child process that holds their connections and keeps them asking.

Run as ``python -m benchmarks.tenant_load SPEC``; the parent's half is in this module too, so that
what one writes and the other reads stand side by side.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import signal
import struct
import sys
import tempfile
import time
from array import array
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, cast

import uvloop

from benchmarks.figures import Transactions
from benchmarks.measure import Failed
from benchmarks.targets import Access
from benchmarks.wire import READY, Connection, parse_message
from gateway.demo.process import spawn, stop, tail, wait
from gateway.protocol import messages
from gateway.protocol.scram import KeyCache

_ROOT = Path(__file__).resolve().parent.parent
_LOGINS_S_MAX = 60
_LAST_ANSWERS_S = 5
_TAIL_BYTES = 64
_DONE = (b"SELECT ", b"INSERT 0 ", b"UPDATE ")
"""Command tags of answers without error."""


@dataclass(frozen=True, slots=True)
class Ask:
    """A statement and its parameters as text."""

    sql: str
    arguments: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Client:
    """One connection: what it asks in turn, over and over with a pause of ``think_s`` between.

    Answers are told apart by ``label``.
    """

    access: Access
    asks: tuple[Ask, ...]
    label: str
    think_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Answers:
    """What the clients of one label got."""

    transactions: Transactions
    errors: int
    load_cpu_us: float = 0.0
    """CPU of the load itself per transaction of all labels."""


# --- the parent's half ---


async def load(
    clients: Sequence[Client], seconds: float, prepared: bool, folder: Path
) -> dict[str, Answers]:
    """Runs the child; the answers by label. Raises Failed."""
    with tempfile.TemporaryDirectory(dir=folder) as here:
        spec, said = Path(here) / "spec", Path(here) / "said"
        spec.touch(0o600)
        asked = [asdict(client) for client in clients]
        spec.write_text(json.dumps({"seconds": seconds, "prepared": prepared, "clients": asked}))
        with said.open("wb") as output:
            process = spawn(
                [sys.executable, "-m", "benchmarks.tenant_load", spec],
                output=output,
                environ={**os.environ, "PYTHONPATH": str(_ROOT)},
            )
            try:
                status = await wait(process, _LOGINS_S_MAX + seconds + _LAST_ANSWERS_S)
            finally:
                await stop(process, signal.SIGTERM, 2)
        if status != 0:
            raise Failed(f"the load ended with status {status}: {tail(said)}")
        return _read(Path(here))


def _read(folder: Path) -> dict[str, Answers]:
    told = json.loads((folder / "told").read_text())
    answers = {}
    for label, count in told["errors"].items():
        values = array("d")
        values.frombytes((folder / f"answers-{label}").read_bytes())
        pairs = list(zip(values[::2], values[1::2], strict=True))
        answers[label] = Answers(Transactions.of(pairs), count, told["cpu_us"])
    return answers


# --- the child's half ---


@dataclass(slots=True)
class _Record:
    """Pairs of end and milliseconds, one after the other, and how many answers were wrong."""

    pairs: array[float] = field(default_factory=lambda: array("d"))
    errors: int = 0


class _Asker(asyncio.Protocol):
    """A logged-in connection that asks until the time is up."""

    def __init__(
        self, requests: Sequence[bytes], think_s: float, until: float, record: _Record
    ) -> None:
        self.done = asyncio.get_running_loop().create_future()
        self._requests = itertools.cycle(requests)
        self._think_s = think_s
        self._until = until
        self._record = record
        self._tail = b""
        self._asked_at = 0.0
        self._transport: asyncio.WriteTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.WriteTransport, transport)
        self._ask()

    def data_received(self, data: bytes) -> None:
        tail = self._tail = (self._tail + data)[-_TAIL_BYTES:]
        if not tail.endswith(READY):
            return
        self._tail = b""
        now = time.perf_counter()
        if any(tag in tail for tag in _DONE):
            self._record.pairs.append(time.time())
            self._record.pairs.append((now - self._asked_at) * 1000)
        else:
            self._record.errors += 1
        if now + self._think_s >= self._until:
            self._end()
        elif self._think_s:
            asyncio.get_running_loop().call_later(self._think_s, self._ask)
        else:
            self._ask()

    def connection_lost(self, error: Exception | None) -> None:
        if not self.done.done():
            self._record.errors += 1
            self.done.set_result(None)

    def _ask(self) -> None:
        assert self._transport is not None
        self._asked_at = time.perf_counter()
        self._transport.write(next(self._requests))

    def _end(self) -> None:
        if not self.done.done():
            self.done.set_result(None)


def main(spec: Path) -> None:
    """Logs all clients in, lets them ask at once, and writes what they got beside ``spec``."""
    wanted = json.loads(spec.read_text())
    clients = [_client(one) for one in wanted["clients"]]
    keys = KeyCache()
    connections = [Connection.open(client.access, keys) for client in clients]
    records = {client.label: _Record() for client in clients}
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        began = time.process_time()
        runner.run(_ask_all(clients, connections, records, wanted["seconds"], wanted["prepared"]))
        cpu_s = time.process_time() - began
    for label, record in records.items():
        spec.with_name(f"answers-{label}").write_bytes(record.pairs.tobytes())
    done = sum(len(record.pairs) // 2 for record in records.values())
    errors = {label: record.errors for label, record in records.items()}
    told = {"errors": errors, "cpu_us": cpu_s * 1e6 / max(1, done)}
    spec.with_name("told").write_text(json.dumps(told))


def _client(raw: dict[str, Any]) -> Client:
    """What asdict() took apart."""
    asks = tuple(Ask(one["sql"], tuple(one["arguments"])) for one in raw["asks"])
    return Client(Access(**raw["access"]), asks, raw["label"], raw["think_s"])


async def _ask_all(
    clients: Sequence[Client],
    connections: Sequence[Connection],
    records: dict[str, _Record],
    seconds: float,
    prepared: bool,
) -> None:
    loop = asyncio.get_running_loop()
    if prepared:
        for client, connection in zip(clients, connections, strict=True):
            for sql, name in _names(client).items():
                connection.prepare(name, sql)
    until = time.perf_counter() + seconds
    askers = []
    for client, connection in zip(clients, connections, strict=True):
        connection.socket.setblocking(False)
        requests = _requests(client, prepared)
        asker = _Asker(requests, client.think_s, until, records[client.label])
        askers.append(asker)
        await loop.create_connection(partial(_same, asker), sock=connection.socket)
    await asyncio.wait([asker.done for asker in askers], timeout=seconds + _LAST_ANSWERS_S)


def _same(asker: _Asker) -> _Asker:
    return asker


def _names(client: Client) -> dict[str, str]:
    """A prepared statement's name by its text."""
    texts = dict.fromkeys(ask.sql for ask in client.asks)
    return {sql: f"s{number}" for number, sql in enumerate(texts)}


def _requests(client: Client, prepared: bool) -> list[bytes]:
    names = _names(client) if prepared else {}
    return [_request(ask, names.get(ask.sql, "")) for ask in client.asks]


def _request(ask: Ask, name: str) -> bytes:
    """Bind, Execute and Sync of the prepared statement; without one, Parse and Describe too."""
    return b"".join(
        [
            b"" if name else parse_message("", ask.sql),
            _bind(name, ask.arguments),
            b"" if name else messages.message(b"D", b"P\0"),
            messages.message(b"E", b"\0" + struct.pack("!i", 0)),
            messages.message(b"S"),
        ]
    )


def _bind(name: str, arguments: Sequence[str]) -> bytes:
    """Bind of the unnamed portal, all in text."""
    body = b"\0" + messages.cstring(name) + struct.pack("!hh", 0, len(arguments))
    for argument in arguments:
        value = argument.encode()
        body += struct.pack("!i", len(value)) + value
    return messages.message(b"B", body + struct.pack("!h", 0))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
