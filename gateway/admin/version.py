"""Which gateway this is, for every place that says so."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

from gateway import WHY_INTERPRETED
from gateway.protocol import framing

_PACKAGE = "postgres-routing-gateway"


def gateway_version() -> str:
    """The installed version, such as 0.1.0."""
    return _version_of(_PACKAGE)


def build() -> str:
    """``compiled`` when the hot modules were compiled ahead of time, else ``interpreted``."""
    return "interpreted" if (framing.__file__ or "").endswith(".py") else "compiled"


def runtime() -> str:
    """The Python and the event loop that run it."""
    return f"Python {platform.python_version()}, uvloop {_version_of('uvloop')}"


def version_line() -> str:
    """All of it in one line for people."""
    why = f" since {WHY_INTERPRETED}" if WHY_INTERPRETED else ""
    return f"gateway {gateway_version()} ({build()}{why}, {runtime()})"


def _version_of(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:  # run from a folder that was never installed
        return "unknown"
