"""Sockets, TLS and nothing else: the dull shell that the core is driven by."""
