"""Proving who a client is: SCRAM, md5 where allowed, API keys inside TLS.

An unknown login is taken through the same exchange as a known one and fails at its end. A name that
may be ``login.owner`` is looked up both ways at once, and what is unknown is mocked by what stands
before the dot: so ``app.7`` and ``app.8`` look alike, be there an ``app`` or not.
Source: PostgreSQL documentation, "SASL Authentication"; RFC 5802, RFC 7677.
"""

from __future__ import annotations

import asyncio
import secrets

from gateway.clock import wall_clock
from gateway.directory.directory import Directory
from gateway.errors import AuthenticationFailed, ProtocolViolation
from gateway.net.stream import MessageStream
from gateway.protocol import messages
from gateway.protocol.passwords import check_md5_answer, is_md5_verifier
from gateway.protocol.scram import ScramServer, ScramVerifier, password_failed
from gateway.router.identity import Login, LoginKind
from gateway.settings.model import Auth

_PASSWORD_MAX_BYTES = 4096


class LoginRefused(AuthenticationFailed):
    """The same words for every cause; the cause, ``why``, goes to the log alone."""

    def __init__(self, message: str, why: str) -> None:
        super().__init__(message)
        self.why = why


class Authenticator:
    """The login rules of a worker."""

    def __init__(self, auth: Auth, directory: Directory, mock_secret: bytes) -> None:
        self._auth = auth
        self._directory = directory
        self._mock_secret = mock_secret

    async def prove(
        self, stream: MessageStream, user: str, *, in_tls: bool, binding: bytes | None
    ) -> tuple[Login, str | None]:
        """The login that the peer has proved to be, and the owner that its user name says, if any.

        Raises LoginRefused, ProtocolViolation, DirectoryUnavailable, and ConnectionResetError
        when the peer leaves before.
        """
        login, owner, mocked = await self._look_up(user)
        if login is not None and self._has_md5(login):
            proof = await self._md5(stream, login, user)
        elif login is not None and not login.verifier and in_tls and self._auth.api_keys:
            proof = await self._api_key(stream, login, user)
        else:
            proof = await self._scram(stream, login, user, mocked, binding)
        if login is None or (owner is not None and login.kind is not LoginKind.SERVICE):
            raise _failure(user, "no such login")
        _require_usable(login, user)
        # Only now: a right password of a disabled login must look like a wrong one.
        stream.write(proof)
        return login, owner

    async def _look_up(self, user: str) -> tuple[Login | None, str | None, str]:
        """The login to prove, the owner in the user name, and by what name one unknown is mocked.

        One of another kind is proved in vain: it must look no different. Raises
        DirectoryUnavailable.
        """
        name, _, owner = user.rpartition(".")
        if not self._auth.owner_in_user or not (name and owner):
            return await self._directory.login(user), None, user
        whole, before = await asyncio.gather(
            self._directory.login(user), self._directory.login(name)
        )
        return (whole, None, name) if whole is not None else (before, owner, name)

    def _has_md5(self, login: Login) -> bool:
        return self._auth.allow_md5_verifiers and is_md5_verifier(login.verifier)

    async def _scram(
        self,
        stream: MessageStream,
        login: Login | None,
        user: str,
        mocked: str,
        binding: bytes | None,
    ) -> bytes:
        """AuthenticationSASLFinal, to be sent when nothing else speaks against the login."""
        verifier, flaw = _scram_verifier(login)
        server = ScramServer(
            verifier, channel_binding=binding, mock_secret=self._mock_secret, user=mocked
        )
        stream.write(messages.authentication_sasl(server.mechanisms))
        mechanism, data = _sasl_initial(await _answer(stream))
        stream.write(messages.authentication_sasl_continue(server.first(mechanism, data)))
        try:
            return messages.authentication_sasl_final(server.final(await _answer(stream)))
        except AuthenticationFailed:
            raise _failure(user, flaw or "wrong password") from None

    async def _md5(self, stream: MessageStream, login: Login, user: str) -> bytes:
        salt = secrets.token_bytes(4)
        stream.write(messages.authentication_md5(salt))
        answer = (await _answer(stream)).rstrip(b"\0")
        if not check_md5_answer(answer, login.verifier, salt):
            raise _failure(user, "wrong password")
        return b""

    async def _api_key(self, stream: MessageStream, login: Login, user: str) -> bytes:
        stream.write(messages.AUTHENTICATION_CLEARTEXT)
        key = (await _answer(stream)).rstrip(b"\0").decode("utf-8", "replace")
        if not await self._directory.api_key(login.name, key):
            raise _failure(user, "unknown, expired or disabled API key")
        return b""


def _scram_verifier(login: Login | None) -> tuple[ScramVerifier | None, str]:
    """What SCRAM checks against; where there is nothing, None and why no password can be right."""
    if login is None:
        return None, "no such login"
    if not login.verifier:
        return None, "the login has no password, and API keys are taken inside TLS only"
    if is_md5_verifier(login.verifier):
        return None, "md5 verifiers are not allowed (auth.allow_md5_verifiers)"
    try:
        return ScramVerifier.parse(login.verifier), ""
    except ValueError:
        return None, "the stored verifier is unusable"


async def _answer(stream: MessageStream) -> bytes:
    """The body of the password message that must come now."""
    tag, body = await stream.read_message(_PASSWORD_MAX_BYTES)
    if tag != ord("p"):
        raise ProtocolViolation(f"expected a password response, got message type {tag}")
    return body


def _sasl_initial(body: bytes) -> tuple[str, bytes]:
    """Mechanism and data of a SASLInitialResponse."""
    mechanism, pos = messages.read_cstring(body, 0)
    if len(body) < pos + 4:
        raise ProtocolViolation("malformed SASLInitialResponse")
    length = int.from_bytes(body[pos : pos + 4], "big", signed=True)
    data = body[pos + 4 :]
    if length == -1 and not data:
        return mechanism.decode("ascii", "replace"), b""
    if length != len(data):
        raise ProtocolViolation("malformed SASLInitialResponse")
    return mechanism.decode("ascii", "replace"), data


def _require_usable(login: Login, user: str) -> None:
    if login.disabled:
        raise _failure(user, "the login is disabled")
    if login.valid_until is not None and login.valid_until <= wall_clock():
        raise _failure(user, "the login has expired")


def _failure(user: str, why: str) -> LoginRefused:
    return LoginRefused(password_failed(user).message, why)
