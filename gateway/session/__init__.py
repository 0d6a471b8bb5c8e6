"""One client: its login, its state machine, the relay to a server, what its session holds."""
