"""Settings that several tests start from."""

from __future__ import annotations

import pytest

from gateway.errors import ConfigError
from gateway.settings.load import load_environment, load_text
from gateway.settings.model import INDUSTRIES, Settings

SECRET = "kQ7vZr2mXw9"
"""The password in every sample; it must never be seen in a message."""


def url(database: str, host: str = "db") -> str:
    return f"postgresql://app:{SECRET}@{host}/{database}"


SMALLEST = f"""\
meta:
  primary: {url("meta")}
industries:
  LAW:
    shards:
      - primary: {url("law")}
"""
"""Six lines; tests add to it, so that what they add begins at line 7."""


def environment() -> dict[str, str]:
    """The variables of a complete configuration without a file."""
    return {f"DATABASE_URL_{name}": url(name.lower()) for name in ("META", *INDUSTRIES)}


def load(text: str, **environ: str) -> Settings:
    return load_text(text, "f", environ)


def problems(text: str, **environ: str) -> list[str]:
    """What is wrong with a file called ``f``."""
    with pytest.raises(ConfigError) as caught:
        load(text, **environ)
    return caught.value.problems


def environment_problems(environ: dict[str, str]) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load_environment(environ)
    return caught.value.problems
