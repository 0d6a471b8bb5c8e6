"""A complete configuration from ``DATABASE_URL_*`` variables alone, for deployments without a file.

``DATABASE_URL_META`` and ``DATABASE_URL_<INDUSTRY>`` for each of today's industries are required;
any further ``DATABASE_URL_<NAME>`` is one more industry. ``_1``, ``_2``, ... after a name are its
shards; ``_REPLICA``, or ``_REPLICA_1``, ``_REPLICA_2``, ..., after that are read replicas.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from gateway.settings.model import INDUSTRIES
from gateway.settings.problems import Path, Problem, did_you_mean, dotted
from gateway.settings.tree import is_text, typed

PREFIX = "DATABASE_URL_"
META = "META"

_URL = re.compile(
    PREFIX + r"(?P<name>[A-Za-z_][A-Za-z0-9_]*?)(_(?P<shard>[1-9][0-9]{0,3}))?"
    r"(?P<replica>_REPLICA(_(?P<number>[1-9][0-9]{0,3}))?)?"
)
_OPTIONS: Mapping[str, tuple[str, ...]] = {
    "GATEWAY_LISTEN_HOST": ("listen", "host"),
    "GATEWAY_LISTEN_PORT": ("listen", "port"),
    "GATEWAY_HTTP_PORT": ("http", "port"),
    "GATEWAY_HUB_URL": ("hub", "primary"),
    "GATEWAY_TRANSPORT": ("transport",),
    "GATEWAY_WORKERS": ("workers",),
}


@dataclass(slots=True)
class Variables:
    """What the environment says: values, and the variable that each came from.

    ``broken`` are the paths whose values are missing and reported; nothing more is said of them.
    """

    value: dict[str, Any] = field(default_factory=dict, repr=False)
    names: dict[Path, str] = field(default_factory=dict)
    texts: dict[Path, str] = field(default_factory=dict, repr=False)
    broken: set[Path] = field(default_factory=set)
    found: list[str] = field(default_factory=list)

    def lines(self, problems: list[Problem]) -> list[str]:
        """``VARIABLE: what is wrong``, for the found problems and these."""
        return [*self.found, *(self._line(problem) for problem in problems)]

    def _line(self, problem: Problem) -> str:
        path = problem.path
        while path and path not in self.names:
            path = path[:-1]
        return f"{self.names.get(path) or dotted(problem.path)}: {problem.message}"


@dataclass(slots=True)
class _Database:
    """The variables of one database; its replicas' by number, 0 for the one without."""

    variable: str
    replicas: dict[int, str] = field(default_factory=dict)


def read(environ: Mapping[str, str]) -> Variables:
    """The values that the environment gives. An empty variable counts as not set."""
    return _Reader({name: value for name, value in environ.items() if value}).read()


class _Reader:
    """One reading of one environment."""

    def __init__(self, given: Mapping[str, str]) -> None:
        self._given = given
        self._variables = Variables()

    def read(self) -> Variables:
        databases = self._databases()
        self._require_all_of_today(databases)
        meta = databases.pop(META, {0: _Database(PREFIX + META)})
        if set(meta) == {0}:
            self._variables.value["meta"] = self._entry(("meta",), meta[0])
        else:
            self._found(meta[max(meta)].variable, "the meta database has no shards")
            self._variables.broken.add(("meta",))
        self._variables.value["industries"] = {
            name: {"shards": self._shards(name, shards)} for name, shards in databases.items()
        }
        for variable, path in _OPTIONS.items():
            if variable in self._given:
                text = self._text(path, variable)
                block = self._variables.value
                for section in path[:-1]:
                    block = block.setdefault(section, {})
                block[path[-1]] = typed(text or "")
                self._variables.texts[path] = text or ""
        return self._variables

    def _databases(self) -> dict[str, dict[int, _Database]]:
        """By name and shard number, 0 for the shard without; today's industries first."""
        found: dict[str, dict[int, _Database]] = {}
        for variable in sorted(name for name in self._given if name.startswith(PREFIX)):
            match = _URL.fullmatch(variable)
            if match is None:
                self._found(variable, f"should be {PREFIX} and a name of letters, digits and '_'")
                continue
            base = variable.removesuffix(match["replica"] or "")
            shards = found.setdefault(match["name"], {})
            database = shards.setdefault(int(match["shard"] or 0), _Database(base))
            if match["replica"]:
                database.replicas[int(match["number"] or 0)] = variable
        order = {name: number for number, name in enumerate(INDUSTRIES)}
        return dict(sorted(found.items(), key=lambda item: order.get(item[0], len(order))))

    def _require_all_of_today(self, databases: Mapping[str, object]) -> None:
        others = [PREFIX + name for name in databases if name not in (META, *INDUSTRIES)]
        for name in (META, *INDUSTRIES):
            if name not in databases:
                variable = PREFIX + name
                self._found(variable, f"is required{did_you_mean(variable, others)}")
        if META not in databases:
            self._variables.broken.add(("meta",))
        if not databases.keys() - {META}:
            self._variables.broken.add(("industries",))

    def _shards(self, name: str, shards: Mapping[int, _Database]) -> list[object]:
        self._check_numbers(PREFIX + name, list(shards))
        return [
            self._entry(("industries", name, "shards", index), shards[number])
            for index, number in enumerate(sorted(shards))
        ]

    def _entry(self, path: Path, database: _Database) -> dict[str, object]:
        """One database's URLs, as the file would write them."""
        self._variables.names[path] = database.variable
        if database.replicas and database.variable not in self._given:
            replica = next(iter(database.replicas.values()))
            self._found(database.variable, f"is required, because {replica} is set")
            self._variables.broken.add((*path, "primary"))
        self._check_numbers(f"{database.variable}_REPLICA", list(database.replicas))
        replicas = [database.replicas[number] for number in sorted(database.replicas)]
        return {
            "primary": self._text((*path, "primary"), database.variable),
            "replicas": [
                self._text((*path, "replicas", number), variable)
                for number, variable in enumerate(replicas)
            ],
        }

    def _text(self, path: Path, variable: str) -> str | None:
        """The variable's value, which is that of the option at ``path``."""
        self._variables.names[path] = variable
        text = self._given.get(variable)
        if text is None or is_text(text):
            return text
        self._found(variable, "is not valid text")
        self._variables.broken.add(path)
        return None

    def _check_numbers(self, base: str, numbers: list[int]) -> None:
        """Numbers go 1, 2, 3, ... without a gap; or there is a single one without a number."""
        last = max(numbers, default=0)
        if last and 0 in numbers:
            self._found(base, f"can't be used together with {base}_{last}; number all or none")
        elif len(numbers) < last:
            missing = next(number for number in range(1, last) if number not in numbers)
            self._found(f"{base}_{missing}", f"is required, because {base}_{last} is used")

    def _found(self, variable: str, message: str) -> None:
        self._variables.found.append(f"{variable}: {message}")
