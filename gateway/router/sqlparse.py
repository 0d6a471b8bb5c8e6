"""The binding to libpg_query, PostgreSQL's own scanner and grammar, with guards around it.

Only the shared library inside the postgast package is used, through ctypes; its Python side costs
memory and time that a worker has no use for. What is guarded against here:

* **Depth.** The library writes its answer by recursion and has no stack guard. By measurement the
  worst text (``1+1+1...``) takes 65 bytes of stack per byte of text, so a short text is parsed
  where we stand and a longer one on a thread with four times the stack that it can need.
* **Size.** ``UPDATE t SET (a, b) = ROW (...)`` is answered with one copy of the right-hand side for
  each column, and such updates nest: 512 bytes of text give 4 MB, 1 KB would take all memory. These
  texts are told by their tokens beforehand and are not parsed.
* **Time.** The scanner looks at the rest of a run of operator characters again at each ``/*`` in
  it: ``/*/*/*...`` of 64 KB would take 5 s. Such runs are told beforehand.
* **Encoding.** Bytes that aren't UTF-8 are carried through (surrogateescape), unless there is a
  backslash: in Shift-JIS, Big5, GBK and their like it may be half a character and end a literal
  elsewhere than the server does.

The scanner assumes ``standard_conforming_strings = on``, as the server's default is.
"""

from __future__ import annotations

import importlib.util
import json
import re
import sys
import threading
from ctypes import POINTER, PyDLL, Structure, c_char_p, c_int, c_size_t, c_void_p, string_at
from pathlib import Path
from typing import Any, Final

from gateway.protocol.octets import replaced
from gateway.router.literals import Mark, constants_of

TEXT_BYTES_MAX: Final = 65_536
"""Longer texts are not parsed."""
ANSWER_BYTES_MAX: Final = 16 << 20
"""Parse trees (as JSON) longer than this are dropped unread."""
SHORT_TEXT_BYTES: Final = 8_192
"""Texts up to here need at most 0.6 MB of stack, which the caller has."""
LONG_TEXT_STACK_BYTES: Final = 16 << 20

Tree = dict[str, Any]
"""A node of the parse tree, in libpg_query's JSON form."""


class Unparsable(Exception):
    """The text is not SQL to this grammar, or not safe to parse."""


class _Error(Structure):
    _fields_ = (
        ("message", c_char_p),
        ("funcname", c_char_p),
        ("filename", c_char_p),
        ("lineno", c_int),
        ("cursorpos", c_int),
        ("context", c_char_p),
    )


class _ParseResult(Structure):
    _fields_ = (
        ("parse_tree", c_char_p),
        ("stderr_buffer", c_char_p),
        ("error", POINTER(_Error)),
    )


class _ScanResult(Structure):
    _fields_ = (
        ("length", c_size_t),
        ("data", c_void_p),
        ("stderr_buffer", c_char_p),
        ("error", POINTER(_Error)),
    )


def _library() -> PyDLL:
    """libpg_query, found beside postgast without importing postgast."""
    spec = importlib.util.find_spec("postgast")
    if spec is None or not spec.submodule_search_locations:
        raise ImportError("the package postgast is not installed")
    name = {"darwin": "libpg_query.dylib", "win32": "pg_query.dll"}.get(
        sys.platform, "libpg_query.so"
    )
    # PyDLL keeps the GIL: the calls are short, and waiting to get it back could take 5 ms.
    library = PyDLL(str(Path(spec.submodule_search_locations[0], name)))
    library.pg_query_parse.argtypes = library.pg_query_scan.argtypes = [c_char_p]
    library.pg_query_parse.restype = _ParseResult
    library.pg_query_scan.restype = _ScanResult
    library.pg_query_free_parse_result.argtypes = [_ParseResult]
    library.pg_query_free_scan_result.argtypes = [_ScanResult]
    library.pg_query_free_parse_result.restype = library.pg_query_free_scan_result.restype = None
    return library


_LIBRARY: Final = _library()
_parse: Final = _LIBRARY.pg_query_parse
_free_parse: Final = _LIBRARY.pg_query_free_parse_result
_scan: Final = _LIBRARY.pg_query_scan
_free_scan: Final = _LIBRARY.pg_query_free_scan_result
_decode_json: Final = json.JSONDecoder().raw_decode

# The scanner answers in protobuf: per token `12 length [08 start] 10 end 20 token [28 keyword]`,
# numbers as varints (seven bits a byte, low ones first, the top bit set on all but the last; a
# start of 0 is left out). Constants are tokens 260 to 266 but for 265 (operators), comments 275 and
# 276. The pattern finds the end and token of those and nothing else: `20 xx 02` with xx of 0x80 and
# more is a token field, since 0x20 as a number's last byte, or as a length, is followed by a tag,
# which is below 0x80; and read backwards from there a varint can only begin in one place.
_MARK: Final = re.compile(rb"\x10([\x80-\xff]*[\x00-\x7f])\x20([\x84-\x88\x8a\x93\x94])\x02")
COMMENTS: Final = (b"\x93", b"\x94")


def _number(varint: bytes) -> int:
    if len(varint) == 1:
        return varint[0]
    value = 0
    for byte in reversed(varint):
        value = value << 7 | byte & 0x7F
    return value


def _start_before(answer: bytes, at: int) -> int:
    """The start field that ends just before ``answer[at]``, read backwards; 0 if none does."""
    at -= 1
    value = answer[at]
    at -= 1
    while answer[at] & 0x80:
        value = value << 7 | answer[at] & 0x7F
        at -= 1
    return value if answer[at] == 0x08 else 0


class Scanned:
    """A text taken apart into what its grammar depends on and what it does not.

    ``marks`` are its constants and comments in order. ``skeleton`` is the text with a placeholder
    for each constant and a space for each comment: texts with one skeleton have one parse tree, but
    for the values of constants. A placeholder begins with NUL, which no text contains.
    """

    __slots__ = ("_answer", "marks", "skeleton", "text")

    def __init__(self, text: bytes, marks: list[Mark], answer: bytes) -> None:
        self.text = text
        self.marks = marks
        self._answer = answer
        """The scanner's, if it was asked."""
        self.skeleton = replaced(text, marks, _PLACEHOLDERS) if marks else text

    @property
    def is_plain(self) -> bool:
        """Whether it was told without PostgreSQL's scanner."""
        return not self._answer

    @property
    def constants(self) -> list[Mark]:
        return [mark for mark in self.marks if mark[2] not in COMMENTS]

    def copies(self) -> int:
        """How often the parser may write parts of this text: see "Size" in the module docstring.

        The product of the column counts of all ``SET (a, b, ...) =`` in the text.
        """
        if not _MULTI_ASSIGN.search(self.skeleton) or b"set" not in self.skeleton.lower():
            return 1
        product, before, closed = 1, b"", 0
        groups: list[
            int
        ] = []  # per open parenthesis: its columns so far, 0 where it can't be a list
        for start, end in _tokens(self._answer or _answer_of(self.text)):
            token = self.text[start:end].lower()
            if token.startswith((b"--", b"/*")):
                continue
            if token == b"(":
                groups.append(1 if before in (b"set", b",") else 0)
            elif token == b"," and groups and groups[-1]:
                groups[-1] += 1
            elif token == b")" and groups:
                closed = groups.pop()
            elif token == b"=" and before == b")":
                product *= max(1, closed)
            before = token
        return product


CONSTANTS: Final = (b"\x84", b"\x85", b"\x86", b"\x87", b"\x88", b"\x8a")
_PLACEHOLDERS: Final = dict.fromkeys(COMMENTS, b" ") | {kind: b"\0" + kind for kind in CONSTANTS}


_MULTI_ASSIGN: Final = re.compile(rb"\)\s*=")


def _tokens(answer: bytes) -> list[tuple[int, int]]:
    """Where each token of a scanner's answer begins and ends, by reading all of its protobuf."""
    found: list[tuple[int, int]] = []
    start = end = 0
    at, size = 0, len(answer)
    while at < size:
        tag = answer[at]
        after = at + 1
        while answer[after] & 0x80:
            after += 1
        after += 1
        if tag == 0x12:  # the next token's record; before the first one stands the version
            start = 0
        elif tag == 0x08:
            start = _number(answer[at + 1 : after])
        elif tag == 0x10:
            end = _number(answer[at + 1 : after])
        elif tag == 0x20:
            found.append((start, end))
        at = after
    return found


_OPERATORS: Final = re.compile(rb"[~!@#^&|`?+\-*/%<>=]{64,}")
_RESCANNED_BYTES_MAX: Final = 1 << 20


def _is_slow(text: bytes) -> bool:
    """See "Time" in the module docstring: 1 MB looked at again takes about 2 ms."""
    if text.count(b"/*") < 16:
        return False
    again = 0
    for run in _OPERATORS.finditer(text):
        again += run[0].count(b"/*") * len(run[0])
    return again > _RESCANNED_BYTES_MAX


def scan(text: bytes) -> Scanned:
    """The constants and comments of a text. Safe for any bytes; about 0.1 ms per KB, or a
    hundredth of that if it is plain.

    Raises:
        Unparsable: a literal or comment is not closed, or the like; or there is a NUL.
    """
    marks = constants_of(text)
    if marks is not None:
        return Scanned(text, marks, b"")
    if b"\0" in text:
        raise Unparsable("NUL in text")
    answer = _answer_of(text)
    return Scanned(text, _marks(answer), answer)


def _marks(answer: bytes) -> list[Mark]:
    """The constants and comments in a scanner's answer."""
    return [
        (_start_before(answer, found.start()), _number(found[1]), found[2])
        for found in _MARK.finditer(answer)
    ]


def _answer_of(text: bytes) -> bytes:
    """The scanner's answer."""
    if _is_slow(text):
        raise Unparsable("too many comments in a row")
    result = _scan(text)
    try:
        if result.error:
            raise Unparsable(_message(result))
        return string_at(result.data, result.length)
    finally:
        _free_scan(result)


def parse(scanned: Scanned) -> list[Tree]:
    """The statements of a text, each as ``{"SelectStmt": {...}}``; none for an empty text.

    Raises:
        Unparsable: see there.
    """
    text = scanned.text
    if len(text) > TEXT_BYTES_MAX or len(text) * scanned.copies() > TEXT_BYTES_MAX:
        raise Unparsable("too long")
    if len(text) <= SHORT_TEXT_BYTES:
        return _parse_here(text)
    return _parse_on_thread(text)


def _parse_here(text: bytes) -> list[Tree]:
    result = _parse(text)
    try:
        if result.error:
            raise Unparsable(_message(result))
        answer: bytes = result.parse_tree
    finally:
        _free_parse(result)
    if len(answer) > ANSWER_BYTES_MAX:
        raise Unparsable("parse tree too large")
    try:
        tree = _decode_json(_decode(answer, text))[0]
    except RecursionError:
        raise Unparsable("nested too deeply") from None
    return [statement["stmt"] for statement in tree["stmts"] if "stmt" in statement]


def _parse_on_thread(text: bytes) -> list[Tree]:
    trees: list[Tree] = []
    failures: list[Unparsable] = []

    def run() -> None:
        try:
            trees.extend(_parse_here(text))
        except Unparsable as failure:
            failures.append(failure)

    before = threading.stack_size(LONG_TEXT_STACK_BYTES)
    try:
        thread = threading.Thread(target=run, name="sqlparse")
        thread.start()
    finally:
        threading.stack_size(before)
    thread.join()
    if failures:
        raise failures[0]
    return trees


def _decode(answer: bytes, text: bytes) -> str:
    try:
        return answer.decode()
    except UnicodeDecodeError:
        if b"\\" in text:
            raise Unparsable("a backslash in a text that isn't UTF-8") from None
        return answer.decode(errors="surrogateescape")


def _message(result: _ParseResult | _ScanResult) -> str:
    return (result.error.contents.message or b"").decode(errors="replace")
