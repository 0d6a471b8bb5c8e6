"""All workers of a gateway, as one of them sees them."""

from __future__ import annotations

from typing import Protocol

from gateway.admin.view import Row
from gateway.pool.permits import PoolKey, Purse
from gateway.session.standing import Instruction


class Fleet(Protocol):
    """What a worker wants of the others, through the supervisor."""

    async def rows(self, command: str) -> dict[int, list[Row] | None]:
        """What each of the other workers answers to a console command, by its number.

        None for one that did not answer in time, or failed.
        """

    async def reload(self) -> list[str]:
        """Have all of them read the settings anew; what changed. Raises ConfigError."""

    async def carry_out(self, instruction: Instruction) -> dict[int, list[Row] | None]:
        """What each of the other workers has to tell that has carried out an instruction.

        None for one that did not answer in time, or failed.
        """

    def pass_on(self, standing: list[Instruction]) -> None:
        """What stands on the notice board, for workers that come later."""

    async def cancel(self, number: int, secret: bytes) -> bool:
        """Carry out a CancelRequest wherever its client is; False when the key is nobody's."""

    def vacate(self, place: str) -> None:
        """Have the others leave a database that somebody wants to drop."""

    def purse(self, key: PoolKey, maximum: int) -> Purse:
        """Our part of a bound."""
