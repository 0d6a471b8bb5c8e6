"""From an owner's id to a hash slot, by a hash that plain SQL computes too.

The SQL twin is ``gateway.slot(text)`` in the meta database:
``('x' || substr(md5(id), 1, 8))::bit(32)::bigint % slots``. A fixed number of slots stands between
owners and shards, so that adding a shard moves only the slots it is given.
"""

from __future__ import annotations

import hashlib
import itertools

from gateway.settings.model import SLOTS

__all__ = ["SLOTS", "even_ranges", "slot_of"]


def slot_of(owner_id: str) -> int:
    """The slot, 0 to SLOTS - 1, of an owner's id in its text form."""
    digest = hashlib.md5(owner_id.encode(), usedforsecurity=False).digest()
    return int.from_bytes(digest[:4], "big") % SLOTS


def even_ranges(shards: int) -> list[tuple[int, int]]:
    """Slots split evenly over ``shards``, as half-open (first, past-last) ranges in order."""
    bounds = [SLOTS * n // shards for n in range(shards + 1)]
    return list(itertools.pairwise(bounds))
