"""YAML and environment to typed, validated settings."""
