"""SCRAM halves against each other: every password fits itself only; no message breaks either."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import AuthenticationFailed, GatewayError
from gateway.protocol.passwords import check_password, md5_verifier
from gateway.protocol.saslprep import saslprep
from gateway.protocol.scram import (
    SCRAM,
    SCRAM_PLUS,
    ScramClient,
    ScramServer,
    ScramVerifier,
    make_verifier,
)

# Any text, the surrogates of undecodable bytes included. No NUL: PostgreSQL's strings end there,
# and HMAC can't tell a key from the same one with NULs behind it.
passwords = st.text(st.characters(exclude_characters="\0"), max_size=40)
users = st.text(st.characters(), max_size=20)
bindings = st.none() | st.binary(min_size=32, max_size=64)
iterations = st.integers(1, 50)


def halves(
    password: str, verifier: ScramVerifier | None, user: str, binding: bytes | None
) -> tuple[ScramClient, ScramServer]:
    theirs = ScramServer(verifier, channel_binding=binding, mock_secret=b"mock", user=user)
    ours = ScramClient(user, password, channel_binding=binding, offered=theirs.mechanisms)
    return ours, theirs


@given(passwords, users, bindings, iterations, st.binary(min_size=1, max_size=40))
def test_the_right_password_fits(
    password: str, user: str, binding: bytes | None, rounds: int, salt: bytes
) -> None:
    verifier = make_verifier(password, rounds, salt)
    assert ScramVerifier.parse(verifier.format()) == verifier
    # A NUL can't stand in a SCRAM name, nor in one of PostgreSQL's.
    ours, theirs = halves(password, verifier, user.replace("\0", ""), binding)
    assert ours.mechanism == (SCRAM if binding is None else SCRAM_PLUS)
    ours.verify(theirs.final(ours.respond(theirs.first(ours.mechanism, ours.first()))))
    assert ours.verified
    assert theirs.passed
    assert check_password(password, verifier.format(), user) == (password != "")


@given(passwords, passwords, bindings)
def test_another_password_does_not(right: str, wrong: str, binding: bytes | None) -> None:
    same = saslprep(right) == saslprep(wrong)
    ours, theirs = halves(wrong, make_verifier(right, 1), "ada", binding)
    answer = ours.respond(theirs.first(ours.mechanism, ours.first()))
    if same:
        theirs.final(answer)
        assert theirs.passed
    else:
        with pytest.raises(AuthenticationFailed):
            theirs.final(answer)
        assert not theirs.passed


@st.composite
def mangled(draw: st.DrawFn, message: bytes) -> bytes:
    """The message as it was, or cut, extended, repeated, with bytes changed, or another one."""
    at = draw(st.integers(0, len(message)))
    junk = draw(st.binary(max_size=8) | st.sampled_from([b",", b"=", b"\0", b",m=x", b",x=1"]))
    changes = [
        message,
        message[:at],
        message[at:],
        message + message,
        message + junk,
        message[:at] + junk + message[at:],
        message[:at] + junk + message[at + len(junk) :],
        junk,
    ]
    return draw(st.sampled_from(changes))


@given(st.data(), bindings)
def test_nobody_in_between_can_change_a_message(data: st.DataObject, binding: bytes | None) -> None:
    """A mangled message never crashes a half, and the login passes only if nothing was changed."""
    ours, theirs = halves("pencil", make_verifier("pencil", 1), "ada", binding)
    changed = False

    def sent(message: bytes) -> bytes:
        nonlocal changed
        arrived = data.draw(mangled(message))
        changed = changed or arrived != message
        return arrived

    try:
        challenge = theirs.first(ours.mechanism, sent(ours.first()))
        theirs.final(sent(ours.respond(sent(challenge))))
    except GatewayError:
        pass
    assert theirs.passed != changed


@given(st.data())
def test_the_servers_signature_can_only_be_extended(data: st.DataObject) -> None:
    """RFC 5802 lets optional extensions follow it, which nothing signs and we ignore."""
    ours, theirs = halves("pencil", make_verifier("pencil", 1), "ada", None)
    final = theirs.final(ours.respond(theirs.first(ours.mechanism, ours.first())))
    arrived = data.draw(mangled(final))
    try:
        ours.verify(arrived)
    except GatewayError:
        assert arrived != final
    extended = re.fullmatch(re.escape(final) + rb"(,[A-Za-z]=[^,\0]+)*", arrived)
    assert ours.verified == (extended is not None and b",m=" not in arrived)


@given(st.binary(max_size=2000), st.sampled_from([SCRAM, SCRAM_PLUS, "", "PLAIN"]), bindings)
def test_random_bytes_from_a_client(message: bytes, mechanism: str, binding: bytes | None) -> None:
    _, theirs = halves("x", None, "ada", binding)
    with pytest.raises(GatewayError):
        theirs.first(mechanism, message)


@given(st.binary(max_size=2000), st.binary(max_size=2000))
def test_random_bytes_from_a_server(challenge: bytes, final: bytes) -> None:
    ours, _ = halves("x", None, "ada", None)
    ours.first()
    with pytest.raises(GatewayError):
        ours.respond(challenge)
    with pytest.raises(GatewayError):
        ours.verify(final)


@given(st.text(max_size=200), passwords)
def test_random_verifiers(text: str, password: str) -> None:
    assert not check_password(password, text, "ada")
    assert not check_password(password, "SCRAM-SHA-256$" + text, "ada")


@given(passwords.filter(bool), users)
def test_md5_is_of_password_and_user(password: str, user: str) -> None:
    assert check_password(password, md5_verifier(password, user), user)
    assert not check_password(password + "x", md5_verifier(password, user), user)
