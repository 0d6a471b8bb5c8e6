"""Side-by-side benchmarks: PostgreSQL itself, PgBouncer and the gateway, in one run on loopback."""
