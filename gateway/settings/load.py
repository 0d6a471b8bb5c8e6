"""Settings from a YAML file or from the environment; or one ConfigError with all that is wrong."""

from __future__ import annotations

import codecs
from collections.abc import Mapping
from pathlib import Path

from gateway.errors import ConfigError
from gateway.settings import environment, tree
from gateway.settings.model import Settings
from gateway.settings.problems import limited
from gateway.settings.validate import validate

FILE_BYTES_MAX = 1024 * 1024


def load(path: Path | str | None, environ: Mapping[str, str]) -> Settings:
    """The settings of a file, or of the environment when there is no file.

    Raises ConfigError.
    """
    return load_environment(environ) if path is None else load_file(path, environ)


def load_file(path: Path | str, environ: Mapping[str, str]) -> Settings:
    """The settings of a YAML file, with ``${VAR}`` and ``${VAR:-default}`` from ``environ``.

    Raises ConfigError with a line ``file:line:column: option: what is wrong`` for each mistake.
    """
    return load_text(_read(Path(path)), str(path), environ)


def load_text(text: str, name: str, environ: Mapping[str, str]) -> Settings:
    """As load_file, of a text that is in memory already; ``name`` stands for the file's name."""
    return _checked(tree.parse(name, text, environ))


def load_environment(environ: Mapping[str, str]) -> Settings:
    """The settings of ``DATABASE_URL_META``, ``DATABASE_URL_<INDUSTRY>`` and a few more variables.

    Raises ConfigError with a line ``VARIABLE: what is wrong`` for each mistake.
    """
    return _checked(environment.read(environ))


def _checked(source: tree.Tree | environment.Variables) -> Settings:
    settings, problems = validate(source.value, source.texts, source.broken)
    lines = source.lines(problems)
    if lines or settings is None:
        raise ConfigError(limited(lines))
    return settings


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(FILE_BYTES_MAX + 1)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise ConfigError([f"{path}: can't be read: {reason}"]) from None
    if len(data) > FILE_BYTES_MAX:
        raise ConfigError([f"{path}: is larger than {FILE_BYTES_MAX} bytes"])
    try:
        return data.removeprefix(codecs.BOM_UTF8).decode()
    except UnicodeDecodeError as error:
        raise ConfigError([_not_utf8(path, data[: error.start])]) from None


def _not_utf8(path: Path, before: bytes) -> str:
    line = before.count(b"\n") + 1
    column = len(before[before.rfind(b"\n") + 1 :].decode()) + 1
    return f"{path}:{line}:{column}: is not UTF-8 text"
