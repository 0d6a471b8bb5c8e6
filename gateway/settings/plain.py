"""Settings as plain values and back, for another process of ours. The values hold passwords."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, SecretStr

from gateway.settings.model import Settings


def to_plain(value: object) -> Any:
    """Settings, or a part of them, as JSON can carry them, secrets included."""
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if isinstance(value, BaseModel):
        return {name: to_plain(getattr(value, name)) for name in type(value).model_fields}
    if isinstance(value, Mapping):
        return {str(name): to_plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [to_plain(inner) for inner in value]
    return value


def from_plain(value: Any) -> Settings:
    """The settings that `to_plain` wrote."""
    return Settings.model_validate(value)
