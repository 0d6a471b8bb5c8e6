"""What owners do and what runs where: the part of a capacity check that nobody can measure for you.

Every number that is assumed and not measured stands here, with its unit and a default.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]

READS = ("row", "list", "report")
WRITES = ("insert", "update")


class ProfileError(Exception):
    """A profile that can't be used; the text says which options and why."""


class Spread(StrEnum):
    """How owners spread over industries."""

    EVEN = "even"
    ZIPF = "zipf"


class Section(BaseModel):
    """An option that is none is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Machine(Section):
    """A machine that databases or gateways run on."""

    cores: Positive = Field(4, description="Processor cores.")
    memory_gb: Positive = Field(16, description="Memory.")


class Mix(Section):
    """What part of reads, and of writes, each class of statement makes up; weights, of any sum."""

    row: NotNegative = Field(5, description="Reads of one row by its id.")
    list: NotNegative = Field(4, description="Reads of a page of rows.")
    report: NotNegative = Field(1, description="Sums over all rows of an owner.")
    insert: NotNegative = Field(4, description="Writes of one new row.")
    update: NotNegative = Field(6, description="Changes of one row.")

    def shares(self, kinds: Iterable[str]) -> dict[str, float]:
        """Of ``kinds``, as parts of 1; all 0 when their weights are."""
        weights = {kind: float(getattr(self, kind)) for kind in kinds}
        total = sum(weights.values()) or 1.0
        return {kind: weight / total for kind, weight in weights.items()}


class Profile(Section):
    """What owners do at their busiest, where it runs, and how full it may get."""

    statements_per_owner_hour: Positive = Field(
        600, description="Statements of an average owner in an average business hour."
    )
    peak_factor: Positive = Field(4, description="The busiest minute, as a multiple of that.")
    read_share: Share = Field(0.85, description="Part of the statements that only read.")
    mix: Mix = Field(default_factory=Mix, description="Classes of statements.")
    writes_per_transaction: Annotated[float, Field(ge=1)] = Field(
        1, description="Writes between BEGIN and COMMIT; 1: each by itself, without these two."
    )
    app_pause_ms: NotNegative = Field(
        1, description="The application's own time between two statements of one transaction."
    )
    commit_ms: NotNegative = Field(
        2, description="What making a commit durable takes beyond what was measured without fsync."
    )
    network_ms: NotNegative = Field(0.5, description="A round trip between gateway and database.")
    replica_share: Share = Field(
        0.9,
        description="Part of the reads that a replica may serve where the policy sends reads there;"
        " the rest follows the owner's own writes too closely.",
    )
    active_share: Share = Field(0.1, description="Part of the owners at work at the peak.")
    clients_per_active_owner: Positive = Field(
        1, description="Connections that an active owner's requests keep open."
    )
    logins_per_owner_hour: NotNegative = Field(
        1, description="New connections to the gateway, of an average owner."
    )
    spread: Spread | dict[str, NotNegative] = Field(
        Spread.EVEN,
        description="Owners by industry: even, zipf (the largest of 14 has 31 %), or weights by"
        " name.",
    )
    cpu_max: Share = Field(0.7, description="How much of its cores a machine may use at the peak.")
    pool_max: Share = Field(0.7, description="The same of a pool's connections.")
    memory_max: Share = Field(0.8, description="The same of a machine's memory.")
    database_machine: Machine = Field(
        default_factory=Machine, description="Machines of databases, each host of the settings one."
    )
    gateway_machine: Machine = Field(
        default_factory=Machine, description="The gateway's, unless a database is on loopback."
    )
    machines: dict[str, Machine] = Field(
        default_factory=dict, description="Machines by the host that the settings name."
    )
    max_connections: Annotated[int, Field(ge=1)] = Field(
        200, description="Of each PostgreSQL server (its own default is 100)."
    )
    core_speed: Positive = Field(
        1, description="A core there, as a multiple of one of the machine measured."
    )

    def statement_shares(self) -> dict[str, float]:
        """Each class of statement as a part of all."""
        reads = {name: part * self.read_share for name, part in self.mix.shares(READS).items()}
        writes = 1 - self.read_share
        return reads | {name: part * writes for name, part in self.mix.shares(WRITES).items()}

    @property
    def statements_per_owner_s(self) -> float:
        """Of an average owner at the peak."""
        return self.statements_per_owner_hour * self.peak_factor / 3600


def load_profile(path: Path | None, options: Iterable[str]) -> Profile:
    """From a YAML file, if there is one, and ``name=value`` options, which may name parts by dots.

    Raises ProfileError.
    """
    try:
        raw = yaml.safe_load(path.read_text()) if path else {}
    except (OSError, yaml.YAMLError) as error:
        raise ProfileError(f"{path}: {error}") from None
    if not isinstance(raw, dict | None):
        raise ProfileError(f"{path}: is no mapping of options")
    values: dict[str, Any] = dict(raw or {})
    for option in options:
        _put(values, option)
    try:
        return Profile.model_validate(values)
    except ValidationError as error:
        lines = (f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())
        raise ProfileError("; ".join(lines)) from None


def described() -> Iterable[tuple[str, str, str]]:
    """Name, default and meaning of each option."""
    for name, field in Profile.model_fields.items():
        default = field.get_default(call_default_factory=True)
        yield name, _shown(default), field.description or ""


def values(profile: Profile) -> Iterable[str]:
    """Of each option, in the order of ``described``."""
    return (_shown(getattr(profile, name)) for name in Profile.model_fields)


def _shown(value: object) -> str:
    if isinstance(value, Section):
        return ", ".join(f"{name} {one:g}" for name, one in value.model_dump().items())
    return f"{value:g}" if isinstance(value, float | int) else str(value or "none")


def _put(values: dict[str, Any], option: str) -> None:
    name, sign, value = option.partition("=")
    if not sign:
        raise ProfileError(f"{option}: say name=value")
    *groups, last = name.split(".")
    here: Any = values
    for group in groups:
        here = here.setdefault(group, {})
        if not isinstance(here, Mapping):
            raise ProfileError(f"{name}: {group} has no parts")
    here[last] = yaml.safe_load(value)
