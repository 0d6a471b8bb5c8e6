"""What the settings of a shard leave unsaid: its name; and its slots as numbers."""

from __future__ import annotations

from gateway.settings.model import IndustrySettings

META = "meta"
"""Name of the meta database's shard; no other shard may have it."""

HUB = "hub"
"""Name of the hub, where there is one."""


def shard_names(industry: str, settings: IndustrySettings) -> list[str]:
    """Names of an industry's shards in order: given, else ``law``, or ``law_1``, ``law_2``, ..."""
    plain = industry.lower()
    default = (
        [plain]
        if len(settings.shards) == 1
        else [f"{plain}_{number}" for number in range(1, len(settings.shards) + 1)]
    )
    return [shard.name or name for shard, name in zip(settings.shards, default, strict=True)]


def slot_ranges(text: str) -> list[tuple[int, int]]:
    """``0-511,600-700`` as inclusive (first, last) pairs; the model has checked the form."""
    pairs = (part.split("-") for part in text.split(","))
    return [(int(first), int(last)) for first, last in pairs]
