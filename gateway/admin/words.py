"""Console commands as words: small texts cut into tokens, statement by statement.

Lexical rules are PostgreSQL's ("Lexical Structure", 4.1): quotes are doubled inside quotes,
comments end at a line's end or nest between /* and */.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum, auto

from gateway.admin.errors import CommandSyntax


class Kind(Enum):
    """What a token is."""

    WORD = auto()
    TEXT = auto()
    """A string constant or a quoted name, without its quotes."""
    SIGN = auto()


@dataclass(frozen=True, slots=True)
class Token:
    """``text`` of a word is in upper case, the others' as written; ``raw`` is always as written."""

    kind: Kind
    text: str
    raw: str


Statement = tuple[Token, ...]

_TOKEN = re.compile(
    r"""(?P<space>\s+|--[^\n]*)
      | (?P<comment>/\*)
      | '(?P<string>(?:[^']|'')*)'
      | "(?P<name>(?:[^"]|"")*)"
      | (?P<word>[\w.$]+)
      | (?P<sign>.)""",
    re.VERBOSE | re.DOTALL,
)
_COMMENT_MARK = re.compile(r"/\*|\*/")


def statements(text: str) -> list[Statement]:
    """The statements of ``text`` between semicolons, empty ones left out.

    Raises CommandSyntax when a quote or a comment is not closed.
    """
    found: list[Statement] = []
    tokens: list[Token] = []
    position = 0
    while match := _TOKEN.match(text, position):
        position = match.end()
        kind, value = str(match.lastgroup), match[match.lastgroup or 0]
        if kind == "comment":
            position = _after_comment(text, position)
        elif value == ";" and kind == "sign":
            found.append(tuple(tokens))
            tokens = []
        elif kind != "space":
            tokens.append(_token(kind, value, match[0]))
    found.append(tuple(tokens))
    return [statement for statement in found if statement]


def _token(kind: str, value: str, raw: str) -> Token:
    if kind == "word":
        return Token(Kind.WORD, value.upper(), raw)
    if kind in ("string", "name"):
        quote = raw[0]
        return Token(Kind.TEXT, value.replace(quote * 2, quote), raw)
    if value in "'\"":
        raise CommandSyntax(f"a quoted text is not closed: {value}")
    return Token(Kind.SIGN, value, raw)


def _after_comment(text: str, position: int) -> int:
    """Where the comment ends that was begun before ``position``."""
    depth = 1
    while depth:
        mark = _COMMENT_MARK.search(text, position)
        if mark is None:
            raise CommandSyntax("a comment is not closed: /*")
        depth += 1 if mark[0] == "/*" else -1
        position = mark.end()
    return position
