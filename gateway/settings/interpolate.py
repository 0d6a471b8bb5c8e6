"""``${VAR}`` and ``${VAR:-default}`` in a text, as a shell reads them."""

from __future__ import annotations

import re
from collections.abc import Mapping

_REFERENCE = re.compile(
    r"\$\$\{"  # $${ is a plain ${
    r"|\$\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?P<rest>:-(?P<default>[^{}]*))?\}"
    r"|\$\{"
)


def interpolate(text: str, environ: Mapping[str, str]) -> str:
    """``text`` with every reference replaced by the variable's value, or by its default.

    A default also stands in for an empty variable. Raises ValueError for a variable that is not
    set and for a malformed reference; the text names the variable and no value.
    """
    return _REFERENCE.sub(lambda match: _value(match, environ), text)


def _value(match: re.Match[str], environ: Mapping[str, str]) -> str:
    name = match["name"]
    if name is None:
        if match[0] == "$${":
            return "${"
        raise ValueError("write ${NAME} or ${NAME:-default}, and $${ for a plain ${")
    value = environ.get(name)
    if match["rest"] is not None:
        return value or match["default"]
    if value is None:
        raise ValueError(f"environment variable {name} is not set")
    return value
