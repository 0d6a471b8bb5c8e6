"""What is wrong with some settings: where, and in which words; never with a secret in them."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass

Path = tuple[str | int, ...]
"""Where an option is: keys and list indexes from the top, as in ("industries", "LAW", ...)."""

PROBLEMS_MAX = 200
"""Lines shown at most; a file of nonsense should not scroll for ever."""

_SECRETS = frozenset({"password", "primary", "replicas"})


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake, not yet bound to a file or an environment.

    ``on_key`` is true when the name of the option is the mistake rather than its value.
    """

    path: Path
    message: str
    on_key: bool = False


def dotted(path: Path) -> str:
    """``industries.LAW.shards[0].primary``, for people.

    What is no proper option name, or lies below an option that holds a secret, may itself be (part
    of) a secret that slipped into the wrong place, so it is left out.
    """
    shown = ""
    secret = False
    for part in path:
        if isinstance(part, int):
            shown += f"[{part}]"
        elif secret:
            break
        else:
            proper = re.fullmatch(r"[A-Za-z_][A-Za-z0-9_\-]{0,62}", part)
            shown += ("." if shown else "") + (part if proper else "?")
            secret = part in _SECRETS
    return shown


def did_you_mean(word: str, known: Iterable[str], under: str = "") -> str:
    """`` (did you mean 'x'?)`` for the nearest of ``known``, empty when none is near.

    ``under`` is put before what was found, when it belongs into another block.
    """
    by_folded = {name.casefold(): name for name in known}
    # Longer words are mistakes of another kind, and slow to compare.
    close = difflib.get_close_matches(word.casefold()[:100], by_folded, n=1, cutoff=0.6)
    return f" (did you mean '{under}{by_folded[close[0]]}'?)" if close else ""


def limited(lines: list[str]) -> list[str]:
    """Each line once, and PROBLEMS_MAX of them at most."""
    once = list(dict.fromkeys(lines))
    return once if len(once) <= PROBLEMS_MAX else [*once[:PROBLEMS_MAX], "... and more"]
