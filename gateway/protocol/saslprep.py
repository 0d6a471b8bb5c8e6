"""SASLprep as PostgreSQL does it: which bytes of a password are hashed.

Sources: RFC 4013, RFC 3454; PostgreSQL's src/common/saslprep.c for the order of the steps.
"""

from __future__ import annotations

import stringprep
import unicodedata


def saslprep(password: str) -> bytes:
    """The password as PostgreSQL hashes it: normalised by RFC 4013, or its bytes as they are.

    Like PostgreSQL, plain ASCII passes unchanged and a password that SASLprep prohibits is taken
    raw; the prohibitions look at the text before it is normalised (src/common/saslprep.c does).
    Bytes that are no UTF-8 come in as surrogate escapes. Never raises.
    """
    raw = utf8(password)
    if password.isascii():
        return raw
    mapped = "".join(map(_mapped, password))
    if not mapped or any(map(_is_prohibited, mapped)) or not _is_one_direction(mapped):
        return raw
    return unicodedata.normalize("NFKC", mapped).encode()


def utf8(text: str) -> bytes:
    """UTF-8, with the bytes that surrogate escapes stand for. Never raises."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # a surrogate that stands for no byte: only a typo in settings
        return text.encode("utf-8", "surrogatepass")


def _mapped(char: str) -> str:
    """RFC 4013 section 2.1; U+200B is in both tables, and PostgreSQL makes a space of it."""
    if stringprep.in_table_c12(char):
        return " "
    return "" if stringprep.in_table_b1(char) else char


def _is_prohibited(char: str) -> bool:
    """RFC 4013 sections 2.3 and 2.5."""
    return (
        stringprep.in_table_c21_c22(char)
        or stringprep.in_table_c3(char)
        or stringprep.in_table_c4(char)
        or stringprep.in_table_c5(char)
        or stringprep.in_table_c6(char)
        or stringprep.in_table_c7(char)
        or stringprep.in_table_c8(char)
        or stringprep.in_table_c9(char)
        or stringprep.in_table_a1(char)
    )


def _is_one_direction(text: str) -> bool:
    """RFC 3454 section 6: right-to-left text has no left-to-right in it, and no other ends."""
    if not any(map(stringprep.in_table_d1, text)):
        return True
    ends_fit = stringprep.in_table_d1(text[0]) and stringprep.in_table_d1(text[-1])
    return ends_fit and not any(map(stringprep.in_table_d2, text))
