"""The supervisor's side of permits: carries out what the ledger decides, looks after the dead.

When a worker dies, PostgreSQL notices only once it reads from or writes to that connection: a
statement may run on. So each of them is cancelled, and then asked for by process id, until it is
gone; only then do its permits count as free.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from gateway.clock import Clock
from gateway.errors import GatewayError
from gateway.net.backoff import Backoff
from gateway.net.connect import send_cancel
from gateway.net.tls import ClientContexts
from gateway.pool.login import Opening, open_connection
from gateway.pool.permits import PoolKey
from gateway.pool.server import Answer, ServerConnection
from gateway.protocol.scram import KeyCache
from gateway.router.build import build_snapshot, credentials
from gateway.settings.dsn import Dsn
from gateway.settings.model import Settings
from gateway.supervisor.chores import Chores
from gateway.supervisor.ledger import Grant, Ledger, Order
from gateway.supervisor.member import wire_key
from gateway.worker import limits_by_address

_log = logging.getLogger(__name__)

_TICK_S = 0.1
_DYING_S = 0.25
"""A backend whose client has gone and whose statement is cancelled has ended by then, or nearly."""
_LOOK_S = 0.02
_CANCEL_AGAIN_LOOKS = 50
_LOGGING_IN_S = 1.0
"""What was still logging in when its worker died ends within this time after all others."""
_CONNECT_TIMEOUT_S = 5.0
_RETRY_MIN_S = 0.1
_RETRY_MAX_S = 5.0

Servers = dict[int, bytes]
"""Server process ids with their cancel keys."""

Tell = Callable[..., None]


@dataclass(slots=True)
class Account:
    """What the desk knows of a worker: how to reach it, and the servers it is logged in to."""

    tell: Tell
    servers: dict[PoolKey, Servers]


@dataclass(slots=True)
class _Quarantine:
    """Permits that a dead worker left behind, and the one that asking after it takes."""

    permits: int
    servers: Servers

    def down_to(self, count: int) -> int:
        """How many are free when so many are still needed."""
        freed = max(0, self.permits - count)
        self.permits -= freed
        return freed


class Desk:
    """Permits for all workers, which are named by their process ids."""

    def __init__(self, seats: int, clock: Clock) -> None:
        self.ledger = Ledger(seats)
        self._clock = clock
        self._accounts: dict[int, Account] = {}
        self._dsns: dict[PoolKey, Dsn] = {}
        self._opening = Opening(clock, KeyCache(), ClientContexts())
        self._chores = Chores()

    def configure(self, settings: Settings) -> None:
        """The bounds of these settings, from now on."""
        limits = limits_by_address(settings, build_snapshot(settings, 0))
        bounds: dict[PoolKey, int] = {}
        for address, dsn in credentials(settings).items():
            for one in _logins(dsn, settings):
                bounds[address, one.user] = limits[address].max
                self._dsns[address, one.user] = one
        self._opening = replace(self._opening, contexts=ClientContexts())
        self._carry_out(self.ledger.set_bounds(bounds, self._clock()))

    def start(self) -> None:
        """Look at everything that depends on time, from now on."""
        self._chores.begin(self._tick())

    def stop(self) -> None:
        """Forget everything that is under way."""
        self._chores.drop()

    # --- workers ---

    def join(self, worker: int, tell: Tell, held: Iterable[tuple[PoolKey, int]]) -> None:
        """A worker is there, with what it holds already."""
        self._accounts[worker] = Account(tell, {})
        self._carry_out(self.ledger.join(worker, dict(held), self._clock()))

    def leave(self, worker: int) -> None:
        """A worker's process has ended."""
        account = self._accounts.pop(worker, None)
        if account is None:
            return
        left, orders = self.ledger.leave(worker, self._clock())
        self._carry_out(orders)
        for key, count in left.items():
            self._chores.begin(self._see_off(key, count, account.servers.get(key, {})))

    def retire(self, worker: int) -> None:
        """A worker is to give everything back, as its clients leave it."""
        self._carry_out(self.ledger.retire(worker, self._clock()))

    def want(self, worker: int, key: PoolKey, count: int) -> None:
        """A worker wants so many more."""
        self._carry_out(self.ledger.want(worker, key, count, self._clock()))

    def back(self, worker: int, key: PoolKey, count: int) -> None:
        """A worker has given so many back."""
        self._carry_out(self.ledger.back(worker, key, count, self._clock()))

    def opened(self, worker: int, key: PoolKey, pid: int, secret: bytes) -> None:
        """A worker has logged in to this server process."""
        self._accounts[worker].servers.setdefault(key, {})[pid] = secret

    def gone(self, worker: int, key: PoolKey, pid: int) -> None:
        """That connection has ended."""
        self._accounts[worker].servers.get(key, {}).pop(pid, None)

    def grant_from_now_on(self) -> None:
        """All that is held is known."""
        self.ledger.granting = True
        self._carry_out(self.ledger.balance(self._clock()))

    def _carry_out(self, orders: Iterable[Order]) -> None:
        for order in orders:
            account = self._accounts.get(order.worker)
            if account is None:
                continue
            key = wire_key(order.key)
            if isinstance(order, Grant):
                account.tell("grant", key=key, count=order.count)
            else:
                what = {"ceiling": order.ceiling, "share": order.share, "lend": order.lend}
                account.tell("limit", key=key, **what)

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(_TICK_S)
            self._carry_out(self.ledger.balance(self._clock()))

    # --- the dead worker's connections ---

    async def _see_off(self, key: PoolKey, count: int, servers: Servers) -> None:
        """Have them end, and free their permits one by one as they are gone."""
        dsn = self._dsns.get(key)
        if dsn is None:  # of settings that a supervisor before us had
            await asyncio.sleep(_LOGGING_IN_S)
            self._confirm(key, count)
            return
        _log.info("%s: %d connections of a dead worker are being ended", dsn.place, count)
        quarantine = _Quarantine(count + self.ledger.quarantine(key), dict(servers))
        unknown = max(0, count - len(servers))  # they were still logging in
        await self._cancel(dsn, quarantine.servers)
        await asyncio.sleep(_DYING_S)
        asking = await self._connected(dsn)
        looks = 0
        while quarantine.servers:
            still = await self._still_there(asking, dsn, quarantine.servers)
            if still is None:
                asking = await self._connected(dsn)
                continue
            quarantine.servers = {pid: servers[pid] for pid in still}
            self._confirm(key, quarantine.down_to(len(still) + unknown + 1))
            looks += 1
            if still and looks % _CANCEL_AGAIN_LOOKS == 0:
                await self._cancel(dsn, quarantine.servers)
            await asyncio.sleep(_LOOK_S)
        await self._goodbye(asking)
        self._confirm(key, quarantine.down_to(unknown))
        if unknown:
            await asyncio.sleep(_LOGGING_IN_S)
            self._confirm(key, quarantine.down_to(0))

    def _confirm(self, key: PoolKey, count: int) -> None:
        self._carry_out(self.ledger.confirm_gone(key, count, self._clock()))

    async def _cancel(self, dsn: Dsn, servers: Mapping[int, bytes]) -> None:
        work = (
            send_cancel(dsn, pid, secret, _CONNECT_TIMEOUT_S) for pid, secret in servers.items()
        )
        await asyncio.gather(*work, return_exceptions=True)

    async def _connected(self, dsn: Dsn) -> ServerConnection:
        """A connection to ask on, however long that takes."""
        backoff = Backoff(_RETRY_MIN_S, _RETRY_MAX_S)
        while True:
            try:
                return await open_connection(dsn, self._opening, _CONNECT_TIMEOUT_S, _STARTUP)
            except GatewayError as error:
                _log.warning("%s: %s", dsn.place, error.message)
                await asyncio.sleep(backoff.next_s())

    async def _still_there(
        self, asking: ServerConnection, dsn: Dsn, pids: Iterable[int]
    ) -> set[int] | None:
        """Which of the processes there still are, but for those that are others' by now.

        None when the connection was lost.
        """
        answered: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()

        def lost(server: ServerConnection) -> None:
            answered.cancel()

        asking.on_lost(lost)
        listed = ",".join(map(str, pids))
        asking.ask(f"SELECT pid FROM pg_stat_activity WHERE pid IN ({listed})", answered.set_result)
        try:
            answer = await answered
        except asyncio.CancelledError:
            if asking.lost:
                return None
            raise
        found = {int(row[0]) for row in answer.rows if row[0] is not None}
        return found - self._pids_of_the_living(dsn)

    def _pids_of_the_living(self, dsn: Dsn) -> set[int]:
        """Processes of this PostgreSQL that workers which live are logged in to."""
        return {
            pid
            for account in self._accounts.values()
            for ((host, port, _), _), servers in account.servers.items()
            if (host, port) == (dsn.host, dsn.port)
            for pid in servers
        }

    async def _goodbye(self, asking: ServerConnection) -> None:
        """End it, and wait until it is gone."""
        gone = asyncio.Event()
        asking.on_lost(lambda server: gone.set())
        asking.close()
        try:
            async with asyncio.timeout(_CONNECT_TIMEOUT_S):
                await gone.wait()
        except TimeoutError:
            asking.abort()


_STARTUP = {"client_encoding": "UTF8", "application_name": "gateway supervisor"}


def _logins(dsn: Dsn, settings: Settings) -> list[Dsn]:
    """The roles that pools of a database may use."""
    operator = settings.operator_role
    if operator is None or operator.user == dsn.user:
        return [dsn]
    return [
        dsn,
        replace(dsn, user=operator.user, password=operator.password.get_secret_value()),
    ]
