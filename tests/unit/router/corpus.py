"""The corpus of statements with the facts that are expected of them: corpus.txt, read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from gateway.router.facts import FactsCache

TENANT_COLUMNS = frozenset({"userId", "conversationId", "User.id"})
HARMLESS = frozenset({"unaccent", "public.harmless"})


@dataclass(frozen=True)
class Case:
    """A statement, and its facts in the words of ``describe``."""

    section: str
    sql: str
    expected: str

    @property
    def text(self) -> bytes:
        return self.sql.encode()


def new_cache(entries: int = 10_000, bytes_max: int = 100_000_000) -> FactsCache:
    """A cache with the tenant columns that the corpus speaks of."""
    return FactsCache(entries, bytes_max, TENANT_COLUMNS, HARMLESS)


def _read() -> list[Case]:
    cases: list[Case] = []
    section = ""
    for block in Path(__file__).with_name("corpus.txt").read_text().strip().split("\n\n"):
        if block.startswith("## "):
            section = block.removeprefix("## ")
            continue
        lines = [line for line in block.split("\n") if not line.startswith(("# ", "#\n"))]
        if lines and lines != ["#"] and lines[-1].startswith("=> "):
            cases.append(Case(section, "\n".join(lines[:-1]), lines[-1].removeprefix("=> ")))
    return cases


CASES = _read()
