"""How much of a client's input may go to the server it is linked to: one unit at a time.

For clients whose every statement may belong elsewhere. What follows a unit waits until the server
is ready, and each statement is checked before it passes. No I/O.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto

from gateway.errors import ProtocolViolation
from gateway.protocol.framing import HEADER_BYTES, message_size
from gateway.router.roaming import NeedParent
from gateway.router.route import NeedOwner, Reject, Route
from gateway.session.unit import Ask, Reader, Unit

GATHER_MAX_BYTES = 1024 * 1024
"""A statement is gathered up to this size, so that the values bound to it can be read."""

_NEED_NO_CHECK = frozenset(b"dcfSHX")
"""Copy data, Sync, Flush, Terminate: they run nothing."""
_HELD = frozenset(b"QFPBDEC")
_CLOSES = frozenset(b"QFS")
_ENDS_COPY = frozenset(b"cf")
_COPY_DATA = ord("d")
_SYNC = ord("S")


class Elsewhere(Enum):
    """A statement that belongs to another database, which the transaction may still go to."""

    SWITCH = auto()


@dataclass(frozen=True, slots=True)
class Join:
    """It belongs to another database, which the transaction is to have a branch in."""

    target: Route


@dataclass(frozen=True, slots=True)
class Together:
    """It is to be run on all branches of the transaction: first on the others, as this text."""

    text: bytes


@dataclass(frozen=True, slots=True)
class Settle:
    """It ends a transaction of several branches."""

    commit: bool


@dataclass(frozen=True, slots=True)
class NeedPassage:
    """An operator has paused the work of one of these owners, which has not begun here yet."""

    owners: frozenset[str]


Objection = Elsewhere | Join | Together | Settle | NeedOwner | NeedParent | NeedPassage | Reject
"""Why a statement may not pass, or not yet."""


class Stop:
    """A message that may not pass as it is."""

    __slots__ = ("complete", "objection", "size", "tag")

    def __init__(self, tag: int, size: int, complete: bool, objection: Objection) -> None:
        self.tag = tag
        self.size = size
        self.complete = complete
        self.objection = objection


class Gate:
    """The gate of one client. ``check`` says None of a statement that may pass."""

    __slots__ = ("_admitted", "_check", "_reader", "closed", "stop")

    def __init__(self, reader: Reader, check: Callable[[Ask], Objection | None]) -> None:
        self._reader = reader
        self._check = check
        self._admitted = 0
        self.closed = False
        """A unit has passed whose ReadyForQuery has not come."""
        self.stop: Stop | None = None
        """What the last walk found standing behind what may pass."""

    def admit(self, unit: Unit) -> None:
        """The unit at the front was checked already, and may pass."""
        self._admitted = unit.size
        self.closed = unit.ends_ready

    def unsent(self, size: int) -> None:
        """So many bytes have passed and could not be sent yet: they need no second look."""
        self._admitted = size

    def walk(self, data: bytes, skip: int, copying: bool, skipping: bool = False) -> int:
        """How many bytes may pass now; ``stop`` is what stands behind them if that was refused.

        The first ``skip`` bytes are the rest of a message that has passed. ``copying``: the server
        reads copy data, and has no answer to a Sync; whatever else comes then ends the copy with
        an error. ``skipping``: it answers nothing up to the next Sync. Raises ProtocolViolation.
        """
        end = len(data)
        pos = min(skip, end)
        admitted, self._admitted = self._admitted, 0
        self.stop = None
        self._reader.begin()
        while end - pos >= HEADER_BYTES:
            tag, size = data[pos], message_size(data, pos)
            complete = pos + size <= end
            if pos < admitted:
                pos += size  # looked at before; there may be more of it now
                continue
            if tag in _HELD:
                waits = self.closed and not copying
                if waits or (not complete and end - pos < GATHER_MAX_BYTES):
                    break
                if not skipping:
                    self.stop = self._look(tag, data[pos : pos + size], size, complete)
                if self.stop is not None:
                    break
            elif tag not in _NEED_NO_CHECK:
                raise ProtocolViolation(f"invalid frontend message type {tag}")
            elif not complete and tag != _COPY_DATA:
                break
            skipping = skipping and tag != _SYNC
            if tag in _CLOSES and not skipping and not copying:
                self.closed = True
            copying = copying and tag not in _ENDS_COPY
            pos += size
        return min(pos, end)

    def _look(self, tag: int, message: bytes, size: int, complete: bool) -> Stop | None:
        ask = self._reader.ask(tag, message, complete)
        objection = self._check(ask) if ask is not None else None
        return Stop(tag, size, complete, objection) if objection is not None else None
