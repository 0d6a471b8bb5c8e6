"""Passwords in the older forms and API keys: how they are hashed, answered and compared.

Sources: PostgreSQL documentation, "Password Authentication" and message AuthenticationMD5Password.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets

from gateway.protocol.saslprep import utf8
from gateway.protocol.scram import ITERATIONS_DEFAULT, ScramVerifier, derive_keys

_MD5_VERIFIER = re.compile(r"md5[0-9a-f]{32}", re.ASCII)
_API_KEY = re.compile(r"gwk_[0-9a-f]{12}_[A-Za-z0-9_-]{43}", re.ASCII)
_API_KEY_ID_BYTES = 6
_API_KEY_SECRET_BYTES = 32


def is_md5_verifier(verifier: str) -> bool:
    """Whether a stored verifier is PostgreSQL's md5 form."""
    return _MD5_VERIFIER.fullmatch(verifier) is not None


def md5_verifier(password: str, user: str) -> str:
    """What PostgreSQL stores with password_encryption = md5: ``md5`` + md5(password + user)."""
    return "md5" + _md5(utf8(password) + utf8(user))


def md5_answer(password: str, user: str, salt: bytes) -> bytes:
    """The password that answers AuthenticationMD5Password with its 4-byte ``salt``."""
    return _md5_answer_of(md5_verifier(password, user), salt)


def check_md5_answer(answer: bytes, verifier: str, salt: bytes) -> bool:
    """Whether a client's answer to AuthenticationMD5Password fits the stored verifier.

    False for a verifier of any other form, such as the empty one of an unknown login.
    """
    usable = is_md5_verifier(verifier)
    expected = _md5_answer_of(verifier if usable else "md5" + "0" * 32, salt)
    return hmac.compare_digest(answer, expected) and usable


def check_password(password: str, verifier: str, user: str) -> bool:
    """Whether a clear-text password fits the stored verifier, SCRAM or md5.

    Compares in constant time. A verifier of no known form (empty for an unknown login) costs what
    a default SCRAM one does and is False. A SCRAM check takes 1.5 ms at 4096 iterations; many
    more belong in a thread. The empty password never fits, as in PostgreSQL.
    """
    if is_md5_verifier(verifier):
        return password != "" and _same(md5_verifier(password, user), verifier)
    try:
        known = ScramVerifier.parse(verifier)
    except ValueError:
        derive_keys(password, b"", ITERATIONS_DEFAULT)
        return False
    keys = derive_keys(password, known.salt, known.iterations)
    return hmac.compare_digest(keys.stored_key, known.stored_key) and password != ""


def new_api_key() -> tuple[str, str]:
    """A fresh API key ``gwk_<id>_<secret>``, to be shown once, and the hash to store.

    ``id`` is 12 hex digits and may be shown; ``secret`` is 256 random bits in URL-safe letters.
    """
    key_id = secrets.token_hex(_API_KEY_ID_BYTES)
    key = f"gwk_{key_id}_{secrets.token_urlsafe(_API_KEY_SECRET_BYTES)}"
    return key, hash_api_key(key)


def hash_api_key(key: str) -> str:
    """SHA-256 of the whole key, as 64 hex digits. 256 random bits need no slow hash."""
    return hashlib.sha256(utf8(key)).hexdigest()


def check_api_key(key: str, stored_hash: str) -> bool:
    """Whether ``key`` is the one that ``stored_hash`` was made of, in constant time."""
    return _same(hash_api_key(key), stored_hash)


def looks_like_api_key(password: str) -> bool:
    """Whether a password has the form of an API key; says nothing of its being valid."""
    return _API_KEY.fullmatch(password) is not None


def _md5_answer_of(verifier: str, salt: bytes) -> bytes:
    return b"md5" + _md5(verifier.removeprefix("md5").encode() + salt).encode()


def _md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def _same(left: str, right: str) -> bool:
    return hmac.compare_digest(utf8(left), utf8(right))
