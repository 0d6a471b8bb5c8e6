"""The same dialogues with PostgreSQL and through the gateway, message by message."""
