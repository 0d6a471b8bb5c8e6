"""How a real PostgreSQL answers, without any SQL: each message carries its own fate.

The model that the reply queue is checked against. It is itself checked against a real server in
tests/integration/test_reference_server.py.
Source: PostgreSQL documentation, "Message Flow"; src/backend/tcop/postgres.c, copyfromparse.c.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from enum import Enum

# Fates of the statements of a Query, and of an Execute.
ROWS = "rows"
COMMAND = "command"
EMPTY = "empty"
SUSPENDED = "suspended"
COPY_OUT = "copy out"
COPY_IN = "copy in"
COPY_REFUSED = "copy refused"  # begins, and fails before it reads anything
ERROR = "error"

# Fates of all other messages.
OK = "ok"
NO_DATA = "no data"
BAD = "bad"

SYNTHETIC = "v"
"""The tag of a message that never reaches the server: the gateway answers it in its turn."""


@dataclass(frozen=True, slots=True)
class Sent:
    """A message from the client: its tag, and its fate, one for each statement of a Query."""

    tag: str
    fates: tuple[str, ...] = (OK,)
    silent: bool = False

    @property
    def copies(self) -> int:
        """How many times it may ask for copy data."""
        return sum(fate in (COPY_IN, COPY_REFUSED) for fate in self.fates)


@dataclass(frozen=True, slots=True)
class Said:
    """A message from the server: its tag, and the number of the message that it answers."""

    tag: str
    origin: int


class Mode(Enum):
    """What the server does with the next message."""

    OBEYING = "obeying"
    SKIPPING = "skipping everything up to Sync"
    COPYING = "reading copy data"


_SIMPLE_ANSWERS = {
    ROWS: "TDDC",
    COMMAND: "C",
    EMPTY: "I",
    COPY_OUT: "HddcC",
}
_EXECUTE_ANSWERS = {**_SIMPLE_ANSWERS, ROWS: "DDC", SUSPENDED: "Ds"}
_EXTENDED_ANSWERS = {"P": "1", "B": "2", "C": "3"}


class ReferenceServer:
    """``said`` is what it has answered and nobody has heard yet.

    ``void`` are the messages of the extended protocol that had no effect.
    """

    def __init__(self) -> None:
        self.said: deque[Said] = deque()
        self.void: set[int] = set()
        self.mode = Mode.OBEYING
        self.in_batch = False
        self._received = 0
        self._number = 0
        self._statements: deque[str] = deque()
        self._in_query = False

    @property
    def owes(self) -> bool:
        """Whether it has something to say, or must be told something before it is ready."""
        return bool(self.said) or self.in_batch or self.mode is not Mode.OBEYING

    def receive(self, sent: Sent) -> None:
        """Messages are numbered from 0 in the order they are received."""
        number = self._received
        self._received += 1
        if self.mode is Mode.COPYING:
            self._copy(sent)
            return
        if sent.tag in "cdfH":
            return
        if self.mode is Mode.SKIPPING and sent.tag != "S":
            self.void.add(number)
            return
        self._number = number
        self._obey(sent)

    def _obey(self, sent: Sent) -> None:
        self.mode = Mode.OBEYING
        self.in_batch = sent.tag not in "QFS"
        if sent.tag == "Q":
            self._in_query = True
            self._statements = deque(fate for fate in sent.fates if fate != EMPTY)
            self._say("" if self._statements else _SIMPLE_ANSWERS[EMPTY])
            self._run_statements()
        elif sent.tag == "E":
            self._in_query = False
            self._execute(sent.fates[0])
        elif sent.tag in "FS":
            self._say(_ready_answer(sent))
        elif sent.fates[0] == BAD:
            self._fail()
        else:
            self._say(_extended_answer(sent))

    # --- statements ---

    def _run_statements(self) -> None:
        while self._statements:
            fate = self._statements.popleft()
            if fate in (ERROR, COPY_REFUSED):
                self._say("G" if fate == COPY_REFUSED else "")
                self._fail()
                return
            if fate == COPY_IN:
                self._begin_copy()
                return
            self._say(_SIMPLE_ANSWERS[fate])
        self._say("Z")

    def _execute(self, fate: str) -> None:
        if fate in (ERROR, COPY_REFUSED):
            self._say("G" if fate == COPY_REFUSED else "")
            self._fail()
        elif fate == COPY_IN:
            self._begin_copy()
        else:
            self._say(_EXECUTE_ANSWERS[fate])

    # --- copy in ---

    def _begin_copy(self) -> None:
        self._say("G")
        self.mode = Mode.COPYING

    def _copy(self, sent: Sent) -> None:
        assert sent.tag in "dcfSH", "a real server drops the connection here"
        if sent.tag == "f" or (sent.tag == "d" and sent.fates[0] == BAD):
            self.mode = Mode.OBEYING
            self._fail()
        elif sent.tag == "c":
            self.mode = Mode.OBEYING
            self._say("C")
            if self._in_query:
                self._run_statements()

    # --- answers ---

    def _fail(self) -> None:
        self._say("E")
        if self.in_batch:
            self.void.add(self._number)
            self.mode = Mode.SKIPPING
        else:
            self._say("Z")

    def _say(self, tags: str) -> None:
        self.said.extend(Said(tag, self._number) for tag in tags)


def _ready_answer(sent: Sent) -> str:
    if sent.fates[0] == BAD:
        return "EZ"
    return "VZ" if sent.tag == "F" else "Z"


def _extended_answer(sent: Sent) -> str:
    if sent.tag == "D":
        return "tn" if sent.fates[0] == NO_DATA else "tT"
    return _EXTENDED_ANSWERS.get(sent.tag, SYNTHETIC)
