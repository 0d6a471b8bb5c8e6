"""A Postgres proxy that routes every tenant's statements to its own industry database and shard."""

from typing import Final

from gateway.compiled import choose

WHY_INTERPRETED: Final = choose()
"""Why compiled modules are not used, were there any; empty when they are used where they exist."""
