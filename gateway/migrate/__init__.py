"""Databases of the topology: made ready, and later moved, split and checked."""
