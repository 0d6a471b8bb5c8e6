"""The PostgreSQL wire protocol, version 3: framing, messages, logins, replies owed. No I/O."""
