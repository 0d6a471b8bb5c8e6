"""SCRAM-SHA-256 and SCRAM-SHA-256-PLUS, both halves, as PostgreSQL speaks them.

Bytes in, bytes out; both peers are untrusted. Sources: RFC 5802 (SCRAM), RFC 7677 (SHA-256),
RFC 5929 section 4 (tls-server-end-point), PostgreSQL documentation chapter "SASL Authentication".
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
import secrets
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum, auto

from gateway.errors import (
    AuthenticationFailed,
    AuthorizationFailed,
    ConnectFailed,
    ProtocolViolation,
)
from gateway.protocol.saslprep import saslprep, utf8

SCRAM = "SCRAM-SHA-256"
SCRAM_PLUS = "SCRAM-SHA-256-PLUS"

MESSAGE_BYTES_MAX = 1024
"""Longest message accepted from either peer, as in PostgreSQL (PG_MAX_SASL_MESSAGE_LENGTH)."""

ITERATIONS_DEFAULT = 4096
"""What PostgreSQL uses unless scram_iterations says otherwise; the least RFC 7677 allows."""

ITERATIONS_MAX = 1_000_000
"""Most that a *server* may ask of us: above every published advice (600,000), and a quarter of a
second of work on one core, so that a hostile server can't buy minutes of ours with one number."""

VERIFIER_ITERATIONS_MAX = 2**31 - 1
"""Most that a stored verifier may have: PostgreSQL's own bound on scram_iterations."""

_KEY_BYTES = 32
_SALT_BYTES = 16
_NONCE_BYTES = 18
_BINDING_TYPE = b"tls-server-end-point"

_PRINTABLE = rb"[\x21-\x2b\x2d-\x7e]+"
_BASE64 = rb"[A-Za-z0-9+/]+={0,2}"
# Optional extensions are ignored; "m" (mandatory) and "p" (the proof) are never optional.
_EXTENSIONS = rb"(?:,[A-Za-ln-oq-z]=[^,\0]*)*"

_CLIENT_FIRST = re.compile(
    rb"(?P<gs2>(?P<flag>n|y|p=(?P<binding>[A-Za-z0-9.\-]+)),(?P<authzid>a=[^,\0]*)?,)"
    rb"(?P<bare>(?P<mandatory>m=[^,\0]*,)?n=[^,\0]*,r=(?P<nonce>%b)%b)" % (_PRINTABLE, _EXTENSIONS)
)
_CLIENT_FINAL = re.compile(
    rb"(?P<unproved>c=(?P<binding>%b),r=(?P<nonce>%b)%b),p=(?P<proof>%b)"
    % (_BASE64, _PRINTABLE, _EXTENSIONS, _BASE64)
)
_SERVER_FIRST = re.compile(
    rb"r=(?P<nonce>%b),s=(?P<salt>%b),i=(?P<iterations>[1-9][0-9]{0,9})%b"
    % (_PRINTABLE, _BASE64, _EXTENSIONS)
)
_SERVER_FINAL = re.compile(
    rb"(?:e=(?P<error>[^,\0]*)|v=(?P<signature>%b))%b" % (_BASE64, _EXTENSIONS)
)
_VERIFIER = re.compile(
    r"SCRAM-SHA-256\$(?P<iterations>[1-9][0-9]{0,9}):(?P<salt>[^:$]+)"
    r"\$(?P<stored_key>[^:$]+):(?P<server_key>[^:$]+)",
    re.ASCII,
)


# --- passwords to keys -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Keys:
    """What a password becomes for one salt and iteration count (RFC 5802 section 3). Secret."""

    client_key: bytes = field(repr=False)
    server_key: bytes = field(repr=False)

    @property
    def stored_key(self) -> bytes:
        return hashlib.sha256(self.client_key).digest()


def derive_keys(password: str, salt: bytes, iterations: int) -> Keys:
    """The expensive step: about 0.3 microseconds per iteration, with the GIL released."""
    salted = hashlib.pbkdf2_hmac("sha256", saslprep(password), salt, iterations)
    return Keys(_hmac(salted, b"Client Key"), _hmac(salted, b"Server Key"))


class KeyCache:
    """Derived keys of the servers' passwords, so that a reconnect skips the expensive step.

    The least recently used entry goes when ``entries_max`` is passed. Safe to use from threads.
    """

    __slots__ = ("_entries", "_entries_max", "_lock")

    def __init__(self, entries_max: int = 1024) -> None:
        self._entries: OrderedDict[tuple[str, bytes, int], Keys] = OrderedDict()
        self._entries_max = entries_max
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, password: str, salt: bytes, iterations: int) -> Keys | None:
        """The keys kept for exactly these three, or None."""
        place = (password, salt, iterations)
        with self._lock:
            keys = self._entries.get(place)
            if keys is not None:
                self._entries.move_to_end(place)
            return keys

    def keep(self, password: str, salt: bytes, iterations: int, keys: Keys) -> None:
        """Keeps ``keys`` as the most recently used."""
        place = (password, salt, iterations)
        with self._lock:
            self._entries[place] = keys
            self._entries.move_to_end(place)
            while len(self._entries) > self._entries_max:
                self._entries.popitem(last=False)


# --- what is stored about a login ------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ScramVerifier:
    """What a server keeps of a password (RFC 5802 section 3): enough to check it, not to use it."""

    iterations: int
    salt: bytes
    stored_key: bytes = field(repr=False)
    server_key: bytes = field(repr=False)

    @classmethod
    def parse(cls, text: str) -> ScramVerifier:
        """Reads PostgreSQL's ``SCRAM-SHA-256$iterations:salt$StoredKey:ServerKey``.

        Raises ValueError, without a word of ``text`` in it.
        """
        match = _VERIFIER.fullmatch(text)
        if match is None:
            raise ValueError("not a SCRAM-SHA-256 verifier")
        iterations = int(match["iterations"])
        salt, stored_key, server_key = (
            _base64_decoded(match[name].encode()) for name in ("salt", "stored_key", "server_key")
        )
        if iterations > VERIFIER_ITERATIONS_MAX or salt is None:
            raise ValueError("a SCRAM-SHA-256 verifier with a bad iteration count or salt")
        if stored_key is None or server_key is None:
            raise ValueError("a SCRAM-SHA-256 verifier whose keys are not base64")
        if not len(stored_key) == len(server_key) == _KEY_BYTES:
            raise ValueError("a SCRAM-SHA-256 verifier whose keys have a wrong length")
        return cls(iterations, salt, stored_key, server_key)

    def format(self) -> str:
        """The form that PostgreSQL keeps in pg_authid and takes in ``CREATE ROLE ... PASSWORD``."""
        salt, stored, server = (
            _base64(part).decode() for part in (self.salt, self.stored_key, self.server_key)
        )
        return f"SCRAM-SHA-256${self.iterations}:{salt}${stored}:{server}"


def make_verifier(
    password: str, iterations: int = ITERATIONS_DEFAULT, salt: bytes | None = None
) -> ScramVerifier:
    """The verifier of a password, with a random 16-byte salt unless one is given."""
    salt = secrets.token_bytes(_SALT_BYTES) if salt is None else salt
    keys = derive_keys(password, salt, iterations)
    return ScramVerifier(iterations, salt, keys.stored_key, keys.server_key)


def mock_verifier(
    user: str, mock_secret: bytes, iterations: int = ITERATIONS_DEFAULT
) -> ScramVerifier:
    """A verifier for a login that does not exist, which no password fits.

    The salt is always the same for one name, so that asking twice tells nothing; that holds over
    restarts and between instances only while ``mock_secret`` stays the same.
    """
    salt = _hmac(mock_secret, utf8(user))[:_SALT_BYTES]
    return ScramVerifier(iterations, salt, bytes(_KEY_BYTES), bytes(_KEY_BYTES))


def password_failed(user: str) -> AuthenticationFailed:
    """The one answer to a wrong password and an unknown, expired or disabled login."""
    return AuthenticationFailed(f'password authentication failed for user "{user}"')


class _Stage(Enum):
    """Which message is due; DONE also after an error, so that an exchange has one try."""

    FIRST = auto()
    CHALLENGE = auto()
    FINAL = auto()
    DONE = auto()


# --- the server half: clients log in to the gateway ------------------------------------------


class ScramServer:
    """One login of a client.

    ``verifier`` is None for a login that must fail (unknown, expired, disabled): the exchange then
    does the same work and fails at the end. ``channel_binding`` is the tls-server-end-point data of
    our certificate; None without TLS, and then -PLUS is not offered.
    """

    def __init__(
        self,
        verifier: ScramVerifier | None,
        *,
        channel_binding: bytes | None,
        mock_secret: bytes,
        user: str,
        mock_iterations: int = ITERATIONS_DEFAULT,
        server_nonce: bytes | None = None,
    ) -> None:
        self._doomed = verifier is None
        # Made for real logins too: the two must cost the same.
        mock = mock_verifier(user, mock_secret, mock_iterations)
        self._verifier = mock if verifier is None else verifier
        self._binding = channel_binding
        self._user = user
        self._server_nonce = _new_nonce() if server_nonce is None else server_nonce
        self._nonce = b""
        self._expected_binding = b""
        self._auth_message_start = b""
        self._stage = _Stage.FIRST
        self._passed = False
        self.mechanisms: tuple[str, ...] = (
            (SCRAM,) if channel_binding is None else (SCRAM_PLUS, SCRAM)
        )
        """What AuthenticationSASL offers, best first."""

    @property
    def passed(self) -> bool:
        """Whether the client has proved that it knows the password."""
        return self._passed

    def first(self, mechanism: str, client_first: bytes) -> bytes:
        """From SASLInitialResponse to the body of AuthenticationSASLContinue.

        Raises ProtocolViolation, or AuthorizationFailed for a downgrade of channel binding.
        """
        self._step(_Stage.FIRST)
        if mechanism not in self.mechanisms:
            raise ProtocolViolation("client selected an invalid SASL authentication mechanism")
        match = _parsed(_CLIENT_FIRST, client_first, "client-first-message")
        if match["authzid"] or match["mandatory"]:
            raise ProtocolViolation(
                "client uses a SCRAM authorization identity or mandatory extension,"
                " which are not supported"
            )
        self._check_binding_flag(mechanism, match["flag"], match["binding"])
        bound = (self._binding or b"") if mechanism == SCRAM_PLUS else b""
        self._expected_binding = _base64(match["gs2"] + bound)
        self._nonce = match["nonce"] + self._server_nonce
        server_first = b"r=%b,s=%b,i=%d" % (
            self._nonce,
            _base64(self._verifier.salt),
            self._verifier.iterations,
        )
        self._auth_message_start = match["bare"] + b"," + server_first
        self._stage = _Stage.FINAL
        return server_first

    def final(self, client_final: bytes) -> bytes:
        """From SASLResponse to the body of AuthenticationSASLFinal; the login has then passed.

        Raises AuthenticationFailed for a wrong proof, AuthorizationFailed when the client sees
        another TLS certificate than ours, ProtocolViolation for anything malformed.
        """
        self._step(_Stage.FINAL)
        match = _parsed(_CLIENT_FINAL, client_final, "client-final-message")
        proof = _base64_decoded(match["proof"])
        if proof is None or len(proof) != _KEY_BYTES:
            raise ProtocolViolation("malformed SCRAM proof")
        if not hmac.compare_digest(match["binding"], self._expected_binding):
            raise AuthorizationFailed("SCRAM channel binding check failed")
        if not hmac.compare_digest(match["nonce"], self._nonce):
            raise ProtocolViolation("SCRAM nonce does not match")
        auth_message = self._auth_message_start + b"," + match["unproved"]
        self._check_proof(proof, auth_message)
        self._passed = True
        return b"v=" + _base64(_hmac(self._verifier.server_key, auth_message))

    def _step(self, due: _Stage) -> None:
        if self._stage is not due:
            raise ProtocolViolation("SCRAM message out of turn")
        self._stage = _Stage.DONE

    def _check_binding_flag(self, mechanism: str, flag: bytes, binding: bytes | None) -> None:
        """RFC 5802 section 6."""
        if (mechanism == SCRAM_PLUS) != (binding is not None):
            raise ProtocolViolation(
                "the SASL mechanism and the SCRAM channel-binding flag contradict each other"
            )
        if binding is not None and binding != _BINDING_TYPE:
            raise ProtocolViolation("unsupported SCRAM channel-binding type")
        if flag == b"y" and SCRAM_PLUS in self.mechanisms:
            raise AuthorizationFailed(
                "SCRAM channel binding negotiation error",
                detail="The client supports channel binding but thinks that the gateway does not,"
                " though it does: somebody may have tampered with the connection.",
            )

    def _check_proof(self, proof: bytes, auth_message: bytes) -> None:
        signature = _hmac(self._verifier.stored_key, auth_message)
        stored_key = hashlib.sha256(_xor(proof, signature)).digest()
        fits = hmac.compare_digest(stored_key, self._verifier.stored_key)
        if not fits or self._doomed:
            raise password_failed(self._user)


# --- the client half: the gateway logs in to PostgreSQL --------------------------------------


class ScramClient:
    """One login to a server.

    ``offered`` are the mechanisms of AuthenticationSASL. ``channel_binding`` is the
    tls-server-end-point data of the server's certificate, None when there is none; it is used when
    the server offers it, and demanded with ``require_channel_binding``. ``user`` may be empty:
    PostgreSQL takes the name from the startup message. All errors are ConnectFailed, since it is
    the connection to the server that could not be opened.

    AuthenticationOk is to be believed only when ``verified`` is true.
    """

    def __init__(
        self,
        user: str,
        password: str,
        *,
        channel_binding: bytes | None,
        offered: Sequence[str],
        require_channel_binding: bool = False,
        cache: KeyCache | None = None,
        nonce: bytes | None = None,
    ) -> None:
        self.mechanism = _chosen(offered, channel_binding is not None, require_channel_binding)
        """What SASLInitialResponse names."""
        self._password = password
        self._cache = cache
        header = _gs2_header(self.mechanism, channel_binding is not None)
        bound = (channel_binding or b"") if self.mechanism == SCRAM_PLUS else b""
        self._gs2 = (header, _base64(header + bound))
        self._nonce = _new_nonce() if nonce is None else nonce
        self._first_bare = b"n=%b,r=%b" % (_saslname(user), self._nonce)
        self._auth_message = b""
        self._keys = Keys(b"", b"")
        self._derivation = (b"", 0)
        self._stage = _Stage.FIRST
        self._verified = False

    @property
    def verified(self) -> bool:
        """Whether the server has proved that it knows our password too."""
        return self._verified

    def first(self) -> bytes:
        """The body of SASLInitialResponse."""
        self._step(_Stage.FIRST)
        self._stage = _Stage.CHALLENGE
        return self._gs2[0] + self._first_bare

    def respond(self, server_first: bytes) -> bytes:
        """From AuthenticationSASLContinue to the body of SASLResponse.

        Takes up to a quarter of a second when the keys are not cached and the server asks for
        ITERATIONS_MAX (1.5 ms for PostgreSQL's default); may be run in a thread.
        """
        self._step(_Stage.CHALLENGE)
        match = _parsed_from_server(_SERVER_FIRST, server_first)
        nonce, salt = match["nonce"], _base64_decoded(match["salt"])
        iterations = int(match["iterations"])
        if not nonce.startswith(self._nonce) or len(nonce) == len(self._nonce):
            raise ConnectFailed("the server's SCRAM nonce does not extend ours")
        if not salt:
            raise ConnectFailed("the server's SCRAM salt is malformed")
        if iterations > ITERATIONS_MAX:
            raise ConnectFailed(
                f"the server asks for {iterations} SCRAM iterations; at most {ITERATIONS_MAX}"
                " are accepted"
            )
        keys = self._keys_for(salt, iterations)
        unproved = b"c=%b,r=%b" % (self._gs2[1], nonce)
        self._auth_message = b",".join((self._first_bare, server_first, unproved))
        proof = _xor(keys.client_key, _hmac(keys.stored_key, self._auth_message))
        self._stage = _Stage.FINAL
        return unproved + b",p=" + _base64(proof)

    def verify(self, server_final: bytes) -> None:
        """Checks AuthenticationSASLFinal: only who has the password's verifier can have sent it."""
        self._step(_Stage.FINAL)
        match = _parsed_from_server(_SERVER_FINAL, server_final)
        if match["error"] is not None:
            raise ConnectFailed(f"the server refused the SCRAM login: {_shown(match['error'])}")
        signature = _base64_decoded(match["signature"])
        expected = _hmac(self._keys.server_key, self._auth_message)
        if signature is None or not hmac.compare_digest(signature, expected):
            raise ConnectFailed(
                "the server does not know the password that it checks: its SCRAM signature is wrong"
            )
        self._verified = True
        if self._cache is not None:
            self._cache.keep(self._password, *self._derivation, self._keys)

    def _step(self, due: _Stage) -> None:
        if self._stage is not due:
            raise ConnectFailed("the server sent a SCRAM message out of turn")
        self._stage = _Stage.DONE

    def _keys_for(self, salt: bytes, iterations: int) -> Keys:
        known = None
        if self._cache is not None:
            known = self._cache.get(self._password, salt, iterations)
        self._keys = known or derive_keys(self._password, salt, iterations)
        self._derivation = (salt, iterations)
        return self._keys


def _chosen(offered: Sequence[str], can_bind: bool, must_bind: bool) -> str:
    if can_bind and SCRAM_PLUS in offered:
        return SCRAM_PLUS
    if must_bind:
        raise ConnectFailed("channel binding is required, but the server does not offer it")
    if SCRAM not in offered:
        raise ConnectFailed("the server offers no SASL mechanism that the gateway knows")
    return SCRAM


def _gs2_header(mechanism: str, can_bind: bool) -> bytes:
    """RFC 5802 section 6: "y" lets the server notice that somebody removed -PLUS from its offer."""
    if mechanism == SCRAM_PLUS:
        return b"p=" + _BINDING_TYPE + b",,"
    return b"y,," if can_bind else b"n,,"


def _saslname(user: str) -> bytes:
    return utf8(user).replace(b"=", b"=3D").replace(b",", b"=2C")


# --- shared small parts ----------------------------------------------------------------------


def _parsed(pattern: re.Pattern[bytes], message: bytes, name: str) -> re.Match[bytes]:
    match = pattern.fullmatch(message) if len(message) <= MESSAGE_BYTES_MAX else None
    if match is None:
        raise ProtocolViolation(f"malformed SCRAM {name}")
    return match


def _parsed_from_server(pattern: re.Pattern[bytes], message: bytes) -> re.Match[bytes]:
    match = pattern.fullmatch(message) if len(message) <= MESSAGE_BYTES_MAX else None
    if match is None:
        raise ConnectFailed("the server sent a malformed SCRAM message")
    return match


def _new_nonce() -> bytes:
    return _base64(secrets.token_bytes(_NONCE_BYTES))


def _base64(data: bytes) -> bytes:
    return base64.b64encode(data)


def _base64_decoded(text: bytes) -> bytes | None:
    """None unless ``text`` is exactly what encoding its content gives."""
    try:
        data = base64.b64decode(text, validate=True)
    except binascii.Error:
        return None
    return data if base64.b64encode(data) == text else None


def _hmac(key: bytes, message: bytes) -> bytes:
    return hmac.digest(key, message, "sha256")


def _xor(left: bytes, right: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(left, right, strict=True))


def _shown(text: bytes) -> str:
    """A stranger's words, made safe to print: short, and printable ASCII."""
    return re.sub(r"[^\x20-\x7e]", "?", text[:100].decode("ascii", "replace"))
