"""Whole applications, unchanged but for DATABASE_URL: directly, and through the gateway."""
