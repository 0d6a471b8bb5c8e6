"""All pools of a worker, by endpoint and role; made when first used, changed by a reload."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import replace

from gateway.clock import Clock
from gateway.errors import GatewayError
from gateway.net.carrier import Carrier
from gateway.net.tls import ClientContexts
from gateway.pool.breaker import State
from gateway.pool.fairness import Others
from gateway.pool.listening import Listening
from gateway.pool.login import Opening, open_connection
from gateway.pool.permits import OpenPurse, PoolKey, Purse, alone
from gateway.pool.pool import Pool
from gateway.pool.server import ServerConnection
from gateway.protocol.scram import KeyCache
from gateway.router.topology import Endpoint
from gateway.settings.dsn import Dsn
from gateway.settings.model import Pool as PoolSettings
from gateway.settings.model import RoleCredentials


class Pools:
    """The pools in use, and those being retired."""

    def __init__(
        self,
        clock: Clock,
        open_purse: OpenPurse = alone,
        carrier: Carrier | None = None,
        others_of: Callable[[str], Others] | None = None,
    ) -> None:
        self._clock = clock
        self._others_of = others_of
        """For the name of a bound on one pool's servers, where several workers share it."""
        self.on_vacate: Callable[[str], None] | None = None
        """Who else is to leave a database that `vacate` names."""
        self._open_purse = open_purse
        self._purses: dict[PoolKey, Purse] = {}
        self._pools: dict[PoolKey, Pool] = {}
        self._retired: list[Pool] = []
        self._listening: dict[Pool, Listening] = {}
        self._credentials: dict[tuple[str, int, str], Dsn] = {}
        self._limits: dict[tuple[str, int, str], PoolSettings] = {}
        self._operator: RoleCredentials | None = None
        self._suspended: frozenset[tuple[str, int, str]] = frozenset()
        self._opening = Opening(clock, KeyCache(), ClientContexts(), carrier)

    def configure(
        self,
        credentials: dict[tuple[str, int, str], Dsn],
        limits: dict[tuple[str, int, str], PoolSettings],
        operator: RoleCredentials | None,
        endpoints: Iterable[Endpoint] = (),
    ) -> None:
        """New settings: pools grow or shrink; one whose endpoint or login changed is retired.

        Who listens there listens at the one of the same name among ``endpoints``.
        """
        named = {endpoint.name: endpoint for endpoint in endpoints}
        self._credentials, self._limits, self._operator = credentials, limits, operator
        self._opening = replace(self._opening, contexts=ClientContexts())
        for key, pool in list(self._pools.items()):
            address, user = key
            if self._dsn(address, user) == pool.dsn:
                pool.resize(limits[address])
                continue
            del self._pools[key]
            self._retire(pool, named)

    def get(self, endpoint: Endpoint, *, operator: bool = False) -> Pool:
        """The pool to use for ``endpoint``. Raises KeyError for one that is not configured."""
        address = endpoint.address
        user = self._credentials[address].user
        if operator and self._operator is not None:
            user = self._operator.user
        pool = self._pools.get((address, user))
        return pool if pool is not None else self._make(endpoint, user)

    def outstanding(self, endpoint: Endpoint) -> int:
        """Clients that an endpoint's pools serve, and that wait for them."""
        address = endpoint.address
        return sum(pool.core.in_use for key, pool in self._pools.items() if key[0] == address)

    def have_room(self, endpoint: Endpoint) -> bool:
        """Whether the pools of an endpoint can take many more who wait for a server."""
        address = endpoint.address
        return all(pool.has_room for key, pool in self._pools.items() if key[0] == address)

    def breakers(self) -> dict[tuple[str, int, str], State]:
        """The worst state of the pools of each address where one is not closed."""
        found: dict[tuple[str, int, str], State] = {}
        for (address, _), pool in self._pools.items():
            if pool.breaker.tripped and found.get(address) is not State.OPEN:
                found[address] = pool.breaker.state
        return found

    def tripped(self) -> frozenset[tuple[str, int, str]]:
        """Addresses where connects fail: the next trial is under way, or not due yet."""
        now = self._clock()
        return frozenset(key[0] for key, pool in self._pools.items() if pool.is_shunned(now))

    def suspend(self, addresses: frozenset[tuple[str, int, str]]) -> None:
        """These addresses get no new work for now, all others do."""
        if addresses == self._suspended:
            return
        self._suspended = addresses
        for (address, _), pool in self._pools.items():
            if pool.suspended != (address in addresses):
                pool.suspend(address in addresses)

    @property
    def suspended(self) -> frozenset[tuple[str, int, str]]:
        """Addresses that get no new work for now."""
        return self._suspended

    def reconnect(self, addresses: Collection[tuple[str, int, str]]) -> None:
        """Every connection there is replaced by a new one as it comes free."""
        for pool in self:
            if pool.dsn.address in addresses:
                pool.reconnect()
        for pool, listening in list(self._listening.items()):
            if pool.dsn.address in addresses:
                listening.reconnect()

    def drop(self, addresses: Collection[tuple[str, int, str]]) -> None:
        """Close what no client has there."""
        for pool in self:
            if pool.dsn.address in addresses:
                pool.drop()

    def __iter__(self) -> Iterator[Pool]:
        yield from self._pools.values()
        yield from self._retired

    def listening(self, pool: Pool) -> Listening:
        """The shared listener of a pool."""
        listening = self._listening.get(pool)
        if listening is None:
            listening = self._listening[pool] = Listening(pool)
        return listening

    def vacate(self, place: str) -> None:
        """Leave a database, by its `Dsn.place`, that can't be dropped while somebody is connected.

        PostgreSQL waits a few seconds for those who are about to go.
        """
        self.vacate_here(place)
        if self.on_vacate is not None:
            self.on_vacate(place)

    def vacate_here(self, place: str) -> None:
        """The same, telling nobody else."""
        for pool in self:
            if pool.dsn.place == place:
                pool.vacate()

    def tick(self) -> None:
        """Upkeep of every pool."""
        for pool in self:
            pool.tick()
        for pool in self._retired:
            if pool.empty:
                pool.forget_permits()
        self._retired = [pool for pool in self._retired if not pool.empty]

    def fence(self, endpoint: Endpoint, error: GatewayError) -> None:
        """The endpoint is no primary any more, whatever it says: nobody goes on writing there."""
        for (address, _), pool in self._pools.items():
            if address == endpoint.address:
                pool.fence(error)

    def listen_elsewhere(self, before: Endpoint, now: Endpoint) -> None:
        """Who listens at the endpoint ``before`` listens at ``now``: it is the primary."""
        for (address, user), pool in list(self._pools.items()):
            if address == before.address and pool in self._listening:
                self._hand_over(pool, now, operator=self._is_operators(user))

    def _hand_over(self, pool: Pool, endpoint: Endpoint, *, operator: bool) -> None:
        other = self.listening(self.get(endpoint, operator=operator))
        self._listening.pop(pool).hand_over(other)

    def _retire(self, pool: Pool, endpoints: Mapping[str, Endpoint]) -> None:
        pool.retire()
        self._retired.append(pool)
        if pool not in self._listening:
            return
        name, _, user = pool.name.rpartition("/")
        if name in endpoints:
            self._hand_over(pool, endpoints[name], operator=self._is_operators(user))
        else:
            self._listening.pop(pool).shut()

    def _is_operators(self, user: str) -> bool:
        return self._operator is not None and self._operator.user == user

    async def shut(self) -> None:
        """Close every server connection."""
        for listening in self._listening.values():
            listening.shut()
        await asyncio.gather(*(pool.shut() for pool in self))

    def _make(self, endpoint: Endpoint, user: str) -> Pool:
        address = endpoint.address
        dsn = self._dsn(address, user)
        assert dsn is not None

        async def opener(timeout_s: float, startup: Mapping[str, str]) -> ServerConnection:
            return await open_connection(dsn, self._opening, timeout_s, startup)

        name = f"{endpoint.name}/{user}"
        limits, key = self._limits[address], (address, user)
        purse = self._purses.get(key)
        if purse is None:
            purse = self._purses[key] = self._open_purse(key, limits.max)
        purse.resize(limits.max)
        pool = Pool(name, dsn, limits, opener, self._clock, purse)
        if (others_of := self._others_of) is not None:
            pool.core.fair.others_of = lambda bound: others_of(f"{name}: {bound}")
        self._pools[key] = pool
        if address in self._suspended:
            pool.suspend(True)
        return pool

    def _dsn(self, address: tuple[str, int, str], user: str) -> Dsn | None:
        dsn = self._credentials.get(address)
        if dsn is None or dsn.user == user:
            return dsn
        if self._operator is not None and self._operator.user == user:
            return replace(dsn, user=user, password=self._operator.password.get_secret_value())
        return None
