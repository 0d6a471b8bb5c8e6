"""EXECUTE by SQL of a statement that the protocol prepared: the server has it by another name.

What EXPLAIN or CREATE TABLE AS execute, and names behind a comment, are left as they are.
"""

from __future__ import annotations

import re

_EXECUTE = re.compile(rb'\s*EXECUTE\s+("(?:[^"]|"")+"|[^\s();"]+)', re.IGNORECASE)


def calling(text: bytes, name: bytes, real: bytes) -> bytes | None:
    """``text`` with ``real`` in the place of ``name``; None when that can't be told."""
    found = _EXECUTE.match(text)
    if found is None or _meant(found[1]) != name:
        return None
    return text[: found.start(1)] + b'"' + real + b'"' + text[found.end(1) :]


def _meant(written: bytes) -> bytes:
    """The name that an identifier means; of one beyond ASCII only as it is written."""
    if written.startswith(b'"'):
        return written[1:-1].replace(b'""', b'"')
    return written.lower()
