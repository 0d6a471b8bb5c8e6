"""A run before a real Patroni cluster: `make test-patroni`."""
