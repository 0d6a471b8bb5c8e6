"""The process around a worker: logs, limits, signals."""
