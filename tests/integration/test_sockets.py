"""The gateway's own transports, on real sockets: what asyncio's transports promise, and no less."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from random import Random
from typing import Any

import pytest

from gateway.net.calls import COMPILED
from gateway.net.handing import detach
from gateway.net.sockets import Sockets, SocketTransport
from tests.integration.conftest import until

BIG = bytes(range(256)) * 32 * 1024  # 8 MiB, more than sockets take


class Heard:
    """A receiver that notes what it is told."""

    def __init__(self, on_data: Callable[[bytes], None] | None = None) -> None:
        self.data = bytearray()
        self.pieces: list[int] = []
        self.told: list[object] = []
        self.transport: SocketTransport
        self.on_data = on_data

    def data_received(self, data: bytes) -> None:
        self.data += data
        self.pieces.append(len(data))
        if self.on_data is not None:
            self.on_data(data)

    def eof_received(self) -> bool:
        self.told.append("eof")
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.told.append(type(exc) if exc else None)

    def pause_writing(self) -> None:
        self.told.append("pause")

    def resume_writing(self) -> None:
        self.told.append("resume")


class Bench:
    """Connections that end with the test. The peers' sockets block, for at most 5 s."""

    def __init__(self) -> None:
        self.sockets = Sockets(asyncio.get_running_loop())
        self._peers: list[socket.socket] = []
        self._opened: list[Heard] = []

    def pair(
        self, on_data: Callable[[bytes], None] | None = None, kind: int = socket.SOCK_STREAM
    ) -> tuple[Heard, socket.socket]:
        """One of our connections, and its peer."""
        return self.take(*socket.socketpair(type=kind), on_data)

    def take(
        self,
        ours: socket.socket,
        peer: socket.socket,
        on_data: Callable[[bytes], None] | None = None,
    ) -> tuple[Heard, socket.socket]:
        ours.setblocking(False)
        peer.settimeout(5)
        self._peers.append(peer)
        heard = Heard(on_data)
        heard.transport = self.sockets.open(ours, heard)
        self._opened.append(heard)
        return heard, peer

    def tcp_pair(
        self, on_data: Callable[[bytes], None] | None = None
    ) -> tuple[Heard, socket.socket]:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            peer = socket.create_connection(listener.getsockname())
            ours, _ = listener.accept()
        return self.take(ours, peer, on_data)

    def end(self) -> None:
        for heard in self._opened:
            heard.transport.abort()
        for peer in self._peers:
            peer.close()


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    made = Bench()
    yield made
    made.end()
    await until(lambda: len(made.sockets) == 0)
    made.sockets.close()


async def received(peer: socket.socket, count: int) -> bytes:
    """So many bytes at the peer's end."""

    def read() -> bytes:
        data = bytearray()
        while len(data) < count and (part := peer.recv(min(1 << 20, count - len(data)))):
            data += part
        return bytes(data)

    return await asyncio.to_thread(read)


async def ended(heard: Heard) -> None:
    await until(lambda: bool(heard.told) and heard.told[-1] not in ("eof", "pause", "resume"))


# --- reading -------------------------------------------------------------------------------------


async def test_what_arrives_is_handed_on_in_order(bench: Bench) -> None:
    heard, peer = bench.pair()
    await asyncio.to_thread(peer.sendall, BIG)
    await until(lambda: len(heard.data) == len(BIG))
    assert heard.data == BIG
    assert max(heard.pieces) > 16 * 1024, "large reads of a connection that brings much"


async def test_paused_nothing_is_handed_on_and_the_loop_sleeps(bench: Bench) -> None:
    heard, peer = bench.pair()
    heard.transport.pause_reading()
    peer.send(b"early")
    await until(lambda: heard.transport.watched == 0)  # else it would be told again and again
    assert heard.data == b""
    heard.transport.resume_reading()
    await until(lambda: heard.data == b"early")


async def test_a_receiver_that_pauses_gets_nothing_more_of_what_has_arrived(bench: Bench) -> None:
    heard, peer = bench.pair(lambda data: heard.transport.pause_reading())
    sending = asyncio.create_task(asyncio.to_thread(peer.sendall, BIG))
    while len(heard.data) < len(BIG):
        before = len(heard.pieces)
        heard.transport.resume_reading()
        await until(lambda count=before: len(heard.pieces) > count)  # type: ignore[misc]
        await asyncio.sleep(0)
        assert len(heard.pieces) == before + 1
    await sending
    assert heard.data == BIG


async def test_a_pause_keeps_what_a_peer_sent_before_it_left(bench: Bench) -> None:
    heard, peer = bench.pair()
    heard.transport.pause_reading()
    peer.send(b"last words")
    peer.close()
    await until(lambda: heard.transport.watched == 0)
    assert heard.told == []
    heard.transport.resume_reading()
    await ended(heard)
    assert heard.data == b"last words"
    assert heard.told == ["eof", None]


@pytest.mark.parametrize("size", [1, 16 * 1024, 16 * 1024 + 1, 144 * 1024, 1 << 20])
async def test_bytes_and_their_end_that_come_together_are_both_heard(
    bench: Bench, size: int
) -> None:
    """The epoll tells of a change once: nothing may be left for a second time that never comes."""
    heard, peer = bench.tcp_pair()

    def say_all_and_leave() -> None:
        peer.sendall(BIG[:size])
        peer.close()

    await asyncio.to_thread(say_all_and_leave)
    await ended(heard)
    assert heard.data == BIG[:size]
    assert heard.told == ["eof", None]


async def test_no_byte_waits_for_another_one(bench: Bench) -> None:
    """Whatever the sizes, and whoever pauses when, all is heard though nothing follows it."""
    random = Random(7)
    for _ in range(40):
        heard, peer = bench.tcp_pair()
        transport = heard.transport
        said = [BIG[: random.choice((1, 5, 16_384, 16_385, 147_456, 700_000))] for _ in range(6)]

        def maybe_pause(data: bytes, transport: SocketTransport = transport) -> None:
            if random.random() < 0.3:
                transport.pause_reading()
                asyncio.get_running_loop().call_later(0.001, transport.resume_reading)

        heard.on_data = maybe_pause
        for part in said:
            await asyncio.to_thread(peer.sendall, part)
        await until(lambda heard=heard, said=said: len(heard.data) == sum(map(len, said)))  # type: ignore[misc]
        assert heard.data == b"".join(said)
        transport.write(BIG)
        assert await received(peer, len(BIG)) == BIG


def say_in_pieces(peer: socket.socket, data: bytes, *, then_leave: bool = False) -> None:
    """As PostgreSQL sends a large result: 8 KiB at a time, faster than anybody looks."""
    for at in range(0, len(data), 8192):
        peer.sendall(data[at : at + 8192])
    if then_leave:
        peer.close()


async def test_a_large_result_in_pieces_is_heard_to_its_last_byte(bench: Bench) -> None:
    heard, peer = bench.tcp_pair()
    said = 0
    for size in (len(BIG), len(BIG) - 5000, 300_000, len(BIG)):
        await asyncio.to_thread(say_in_pieces, peer, BIG[:size])
        said += size
        await until(lambda said=said: len(heard.data) == said)  # type: ignore[misc]
        assert heard.data[-size:] == BIG[:size]
        peer.send(b"!")
        said += 1
        await until(lambda said=said: len(heard.data) == said)  # type: ignore[misc]
    if COMPILED:  # else there is no clock for it
        assert len(heard.pieces) < said // 8192 * 2 // 3


async def test_pauses_and_the_end_within_a_large_result(bench: Bench) -> None:
    random = Random(11)
    for _ in range(10):
        heard, peer = bench.tcp_pair()
        transport = heard.transport

        def maybe_pause(data: bytes, transport: SocketTransport = transport) -> None:
            if random.random() < 0.05:
                transport.pause_reading()
                asyncio.get_running_loop().call_later(0.001, transport.resume_reading)

        heard.on_data = maybe_pause
        await asyncio.to_thread(say_in_pieces, peer, BIG, then_leave=True)
        await ended(heard)
        assert heard.data == BIG
        assert heard.told == ["eof", None]


async def test_who_aborts_within_a_large_result_hears_no_more_of_it(bench: Bench) -> None:
    heard, peer = bench.tcp_pair()
    heard.on_data = lambda data: heard.transport.abort() if len(heard.data) > 2_000_000 else None
    with suppress(OSError):
        await asyncio.to_thread(say_in_pieces, peer, BIG)
    await ended(heard)
    assert 2_000_000 < len(heard.data) < len(BIG)


# --- writing -------------------------------------------------------------------------------------


async def test_a_write_is_sent_at_once(bench: Bench) -> None:
    heard, peer = bench.pair()
    heard.transport.write(b"now")
    peer.setblocking(False)
    assert peer.recv(100) == b"now"
    assert heard.transport.get_write_buffer_size() == 0


async def test_what_a_receiver_writes_in_pieces_is_sent_as_one(bench: Bench) -> None:
    """SEQPACKET sockets show where one send ends and the next begins."""

    def answer(data: bytes) -> None:
        for piece in (b"one ", b"two ", b"three"):
            heard.transport.write(piece)

    heard, peer = bench.pair(answer, socket.SOCK_SEQPACKET)
    peer.send(b"?")
    assert await asyncio.to_thread(peer.recv, 100) == b"one two three"


async def test_what_the_socket_does_not_take_is_kept_and_the_sender_paused(bench: Bench) -> None:
    heard, peer = bench.pair()
    heard.transport.set_write_buffer_limits(high=100_000)
    heard.transport.write(BIG)
    kept = heard.transport.get_write_buffer_size()
    assert 100_000 < kept < len(BIG)
    assert heard.told == ["pause"]
    heard.transport.write(b"behind ")
    heard.transport.write(b"it")
    assert heard.transport.get_write_buffer_size() == kept + 9
    assert await received(peer, len(BIG) + 9) == BIG + b"behind it"
    await until(lambda: heard.told == ["pause", "resume"])
    assert heard.transport.get_write_buffer_size() == 0
    await until(lambda: heard.transport.watched == 1)  # told when readable, not when writable


async def test_below_the_limit_nobody_is_paused(bench: Bench) -> None:
    heard, peer = bench.pair()
    heard.transport.set_write_buffer_limits(high=2 * len(BIG))
    heard.transport.write(BIG)
    assert heard.transport.get_write_buffer_size() > 0
    assert await received(peer, len(BIG)) == BIG
    await until(lambda: not heard.transport.get_write_buffer_size())
    assert heard.told == []


# --- the end -------------------------------------------------------------------------------------


async def test_close_sends_what_is_kept_and_then_ends(bench: Bench) -> None:
    heard, peer = bench.pair()
    heard.transport.write(BIG)
    heard.transport.close()
    heard.transport.write(b"too late")
    assert heard.transport.is_closing()
    assert await received(peer, len(BIG) + 1) == BIG
    await ended(heard)
    assert heard.told == ["pause", None]


async def test_abort_drops_what_is_kept_and_says_so_once(bench: Bench) -> None:
    heard, peer = bench.pair()
    heard.transport.write(BIG)
    heard.transport.abort()
    heard.transport.abort()
    heard.transport.close()
    assert "end" not in heard.told
    await ended(heard)
    await asyncio.sleep(0)
    assert heard.told == ["pause", None]
    assert len(await received(peer, len(BIG))) < len(BIG)


async def test_the_end_is_never_told_inside_a_call_of_the_receivers(bench: Bench) -> None:
    heard, _ = bench.pair()
    heard.transport.abort()
    assert heard.told == []
    await ended(heard)


async def test_a_peer_that_ends_is_sent_what_is_under_way(bench: Bench) -> None:
    heard, peer = bench.pair()
    heard.transport.write(BIG)
    peer.shutdown(socket.SHUT_WR)
    await until(lambda: "eof" in heard.told)
    assert await received(peer, len(BIG) + 1) == BIG
    await ended(heard)
    assert heard.told == ["pause", "eof", None]


async def test_write_eof_follows_what_is_kept(bench: Bench) -> None:
    heard, peer = bench.pair()
    heard.transport.write(BIG)
    heard.transport.write_eof()
    assert await received(peer, len(BIG) + 1) == BIG
    peer.send(b"still heard")
    await until(lambda: heard.data == b"still heard")


@pytest.mark.parametrize("queued", [b"", BIG], ids=["idle", "with writes queued"])
async def test_a_reset_is_told_as_one(bench: Bench, queued: bytes) -> None:
    heard, peer = bench.tcp_pair()
    heard.transport.write(queued)
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.close()
    await ended(heard)
    assert heard.told[-1] in (ConnectionResetError, BrokenPipeError)
    heard.transport.write(b"to nobody")
    assert heard.transport.get_write_buffer_size() == 0


async def test_a_reset_is_noticed_by_a_paused_reader_that_has_to_send(bench: Bench) -> None:
    heard, peer = bench.tcp_pair()
    heard.transport.pause_reading()
    heard.transport.write(BIG)
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.close()
    await ended(heard)
    assert heard.told[-1] in (ConnectionResetError, BrokenPipeError)


# --- one among many ------------------------------------------------------------------------------


@pytest.fixture
async def reported() -> AsyncIterator[list[dict[str, Any]]]:
    """What the event loop's exception handler is told."""
    loop = asyncio.get_running_loop()
    contexts: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: contexts.append(context))
    yield contexts
    loop.set_exception_handler(None)


async def test_an_error_of_a_receiver_ends_its_connection_only(
    bench: Bench, reported: list[dict[str, Any]]
) -> None:
    def fail(data: bytes) -> None:
        raise RuntimeError("a bug")

    failing, peer = bench.pair(fail)
    other, other_peer = bench.pair()
    peer.send(b"x")
    other_peer.send(b"y")
    await ended(failing)
    await until(lambda: other.data == b"y")
    assert failing.told == [RuntimeError]
    assert [str(one["exception"]) for one in reported] == ["a bug"]
    assert other.told == []


async def test_a_connection_aborted_by_another_hears_nothing_more(bench: Bench) -> None:
    """Both are ready at once; whichever is served first ends the other."""
    both: list[Heard] = []

    def end_the_other(data: bytes) -> None:
        for one in both:
            if not one.data:
                one.transport.abort()

    pairs = [bench.pair(end_the_other) for _ in range(2)]
    both += [heard for heard, _ in pairs]
    for _, peer in pairs:
        peer.send(b"x")
    await until(lambda: any(one.told for one in both))
    assert sorted(one.data for one in both) == [b"", b"x"]


async def test_timers_run_beside_connections_that_never_rest(bench: Bench) -> None:
    """Each answers the other for ever."""
    ours, peer = socket.socketpair()
    ends = [
        bench.take(ours, peer.dup(), lambda data: ends[0][0].transport.write(data)),
        bench.take(peer, ours.dup(), lambda data: ends[1][0].transport.write(data)),
    ]
    ends[0][0].transport.write(b"ball")
    await asyncio.sleep(0.05)
    assert len(ends[0][0].data) > 100
    for heard, _ in ends:
        heard.transport.abort()


async def test_a_flood_leaves_the_others_their_turn(bench: Bench) -> None:
    """As much has arrived again by the time that it is read."""

    def send_more(data: bytes) -> None:
        with suppress(BlockingIOError):
            peer.send(BIG)

    flooded, peer = bench.tcp_pair(send_more)
    quiet, quiet_peer = bench.pair()
    peer.setblocking(False)
    send_more(b"")
    await until(lambda: len(flooded.pieces) > 2)
    quiet_peer.send(b"hello")
    await until(lambda: quiet.data == b"hello")
    assert len(flooded.pieces) > 2
    assert flooded.told == []


async def test_a_descriptor_used_again_belongs_to_the_new_connection_only(bench: Bench) -> None:
    first, first_peer = bench.pair()
    number = first.transport.fd
    kept = os.dup(number)  # as of a socket that another process has got
    first.transport.abort()
    await ended(first)
    pair = socket.socketpair()
    ours, peer = pair if pair[0].fileno() == number else pair[::-1]
    assert ours.fileno() == number, "the system gives the lowest number that is free"
    second, _ = bench.take(ours, peer)
    first_peer.send(b"for whoever has the copy")
    peer.send(b"new")
    await until(lambda: second.data == b"new")
    assert not first.data
    assert os.read(kept, 100) == b"for whoever has the copy"
    os.close(kept)


async def test_a_detached_connection_goes_on_elsewhere(bench: Bench) -> None:
    heard, peer = bench.pair()
    peer.send(b"before")
    await until(lambda: heard.data == b"before")
    heard.transport.pause_reading()
    peer.send(b"between")
    sock = detach(heard.transport)  # type: ignore[arg-type]
    again, _ = bench.take(sock, peer)
    peer.send(b" and after")
    await until(lambda: again.data == b"between and after")
    assert heard.data == b"before"
    with pytest.raises(ConnectionResetError):
        detach(heard.transport)  # type: ignore[arg-type]


async def test_closed_it_goes_on_until_the_last_connection_has_ended() -> None:
    bench = Bench()
    heard, peer = bench.pair()
    bench.sockets.close()
    peer.send(b"x")
    await until(lambda: heard.data == b"x")
    peer.close()
    await ended(heard)
    assert len(bench.sockets) == 0
