"""What clients do who stand in line for a server: the words of rounds, as a report shows them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from tests.differential.script import Say, name_of

GATES = ("gate_a", "gate_b")
"""Tables that are closed for a while: who reads one waits, and everybody behind it in line."""


@dataclass(frozen=True, slots=True)
class Unit:
    """What a client sends at once. ``lone``: it is one read and nothing else, fit for a line."""

    say: Say
    lone: bool = False

    @property
    def readies(self) -> int:
        """How many ReadyForQuery end its answer."""
        return sum(part.tag in "QS" for part in self.say.parts)

    def __repr__(self) -> str:
        return f"{self.say!r}{'' if self.lone else '   (not for a line)'}"


class What(StrEnum):
    """What happens while clients wait, or stand in line."""

    CANCEL = "cancels"
    LATE_CANCEL = "cancels, which arrives after its answer"
    RST = "resets its connection"
    FIN = "closes its socket"
    GOODBYE = "says goodbye"
    MORE = "sends"
    KILL = "has its server's process ended"
    RENEW = "sees all servers replaced"


@dataclass(frozen=True, slots=True)
class Deed:
    """One of them; left out where it can't be told what PostgreSQL would do then."""

    what: What
    client: int
    unit: Unit | None = None

    def __repr__(self) -> str:
        return f"{name_of(self.client)} {self.what}" + (f" {self.unit!r}" if self.unit else "")


@dataclass(frozen=True, slots=True)
class Round:
    """All servers are held by somebody with these settings, while clients send in this order.

    Then they are served at once. ``deeds``: while all wait; while the first gate is closed; while
    the second one is.
    """

    settings: str
    units: tuple[tuple[int, Unit], ...]
    deeds: tuple[tuple[Deed, ...], tuple[Deed, ...], tuple[Deed, ...]] = ((), (), ())
    alike_first: bool = False
    """Who has the same settings as who holds the servers sends before the others."""

    def __repr__(self) -> str:
        stages = zip(("while they wait", *GATES), self.deeds, strict=True)
        lines = [f"    {name_of(client)}: {unit!r}" for client, unit in self.units]
        lines += [f"    {name}: {deed!r}" for name, deeds in stages for deed in deeds]
        order = ", who has the same first" if self.alike_first else ""
        return "\n".join([f"  behind {self.settings or 'nothing set'}{order}", *lines])


@dataclass(frozen=True, slots=True)
class Meeting:
    """Clients on so few servers. By client: whether it is the service login's; what it sends
    before all rounds. ``blind``: the gateway takes views for tables, as those made past it just
    now."""

    servers: int
    service: tuple[bool, ...]
    openings: tuple[tuple[Say, ...], ...]
    rounds: tuple[Round, ...]
    blind: bool = False

    def __repr__(self) -> str:
        lines = [f"{self.servers} servers" + (", views taken for tables" if self.blind else "")]
        for client, (service, opening) in enumerate(zip(self.service, self.openings, strict=True)):
            lines.append(f"  {name_of(client)}{' by the service login' if service else ''}")
            lines += [f"    {one!r}" for one in opening]
        return "\n" + "\n".join([*lines, *map(repr, self.rounds)])
