"""The PostgreSQL wire protocol, version 3: framing, messages, logins, outstanding replies. No I/O."""
