"""The SQL files of the package: which belong to which database, read with their includes."""

from __future__ import annotations

import posixpath
import re
from importlib.resources import files
from importlib.resources.abc import Traversable

META = "meta.sql"
INDUSTRY = "industry.sql"
OUTBOX = "outbox.sql"

_INCLUDE = re.compile(r"^\\ir[ \t]+(\S+)[ \t]*$", re.MULTILINE)
_TABLE = re.compile(r'^CREATE TABLE IF NOT EXISTS "(\w+)"', re.MULTILINE)


def extras_of(industry: str) -> list[str]:
    """The industry's own file, if it has one: ``industry/law.sql`` for LAW."""
    name = f"industry/{industry.lower()}.sql"
    return [name] if _file(name).is_file() else []


def read(name: str) -> str:
    r"""The text of a file below gateway/migrate/sql, with each ``\ir other`` replaced by its text.

    ``\ir`` is psql's: a path relative to the including file. Raises FileNotFoundError.
    """
    folder = posixpath.dirname(name)
    return _INCLUDE.sub(
        lambda include: read(posixpath.normpath(posixpath.join(folder, include[1]))),
        _file(name).read_text(encoding="utf-8"),
    )


def _file(name: str) -> Traversable:
    return files("gateway.migrate").joinpath("sql", *name.split("/"))


def tables_of(name: str) -> list[str]:
    """The tables that a file of ours makes in schema public, in its order."""
    return _TABLE.findall(read(name))
