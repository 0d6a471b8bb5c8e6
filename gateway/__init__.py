"""A Postgres proxy that routes every tenant's statements to its own industry database and shard."""
