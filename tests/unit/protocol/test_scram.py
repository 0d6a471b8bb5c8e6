"""SCRAM, both halves: the RFC's vector, PostgreSQL's rules, and what a hostile peer may try."""

from __future__ import annotations

import base64
from collections.abc import Callable

import pytest

from gateway.errors import (
    AuthenticationFailed,
    AuthorizationFailed,
    ConnectFailed,
    ProtocolViolation,
)
from gateway.protocol.saslprep import saslprep
from gateway.protocol.scram import (
    ITERATIONS_MAX,
    MESSAGE_BYTES_MAX,
    SCRAM,
    SCRAM_PLUS,
    KeyCache,
    Keys,
    ScramClient,
    ScramServer,
    ScramVerifier,
    derive_keys,
    make_verifier,
    mock_verifier,
)

MOCK_SECRET = b"a secret of this instance"
BINDING = bytes(range(32))
PASSWORD = "pencil"
VERIFIER = make_verifier(PASSWORD, iterations=2, salt=b"0123456789abcdef")


def server(verifier: ScramVerifier | None = VERIFIER, binding: bytes | None = None) -> ScramServer:
    return ScramServer(verifier, channel_binding=binding, mock_secret=MOCK_SECRET, user="ada")


def client(
    password: str = PASSWORD, binding: bytes | None = None, offered: tuple[str, ...] = (SCRAM,)
) -> ScramClient:
    return ScramClient("ada", password, channel_binding=binding, offered=offered)


def log_in(ours: ScramClient, theirs: ScramServer) -> None:
    challenge = theirs.first(ours.mechanism, ours.first())
    ours.verify(theirs.final(ours.respond(challenge)))


class TestRfc7677:
    """The exchange of RFC 7677 section 3, byte for byte."""

    NONCE = b"rOprNGfwEbeRWgbNEkqO"
    SERVER_NONCE = b"%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
    SALT = base64.b64decode(b"W22ZaJ0SNY7soEsUEjb6gQ==")
    CLIENT_FIRST = b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO"
    SERVER_FIRST = (
        b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
    )
    CLIENT_FINAL = (
        b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,"
        b"p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
    )
    SERVER_FINAL = b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="

    def test_client(self) -> None:
        ours = ScramClient(
            "user", PASSWORD, channel_binding=None, offered=[SCRAM], nonce=self.NONCE
        )
        assert ours.first() == self.CLIENT_FIRST
        assert ours.respond(self.SERVER_FIRST) == self.CLIENT_FINAL
        assert not ours.verified
        ours.verify(self.SERVER_FINAL)
        assert ours.verified

    def test_server(self) -> None:
        theirs = ScramServer(
            make_verifier(PASSWORD, 4096, self.SALT),
            channel_binding=None,
            mock_secret=MOCK_SECRET,
            user="user",
            server_nonce=self.SERVER_NONCE,
        )
        assert theirs.first(SCRAM, self.CLIENT_FIRST) == self.SERVER_FIRST
        assert not theirs.passed
        assert theirs.final(self.CLIENT_FINAL) == self.SERVER_FINAL
        assert theirs.passed


class TestVerifier:
    # Written by PostgreSQL 15.18: CREATE ROLE r PASSWORD 'tôp sécrêt'.
    FROM_POSTGRESQL = (
        "SCRAM-SHA-256$4096:wVqRHVZZP7hOppSWdGyYTg=="
        "$EDybh24+7IADJfERoM1DgXiOOXv2GfdD9LklDJzAtUA="
        ":GBLsjLrDm7hRunSj8wEfgh9xrs8hUz3poeASyoaYbZ8="
    )

    def test_reads_and_writes_what_postgresql_stores(self) -> None:
        verifier = ScramVerifier.parse(self.FROM_POSTGRESQL)
        assert verifier.iterations == 4096
        assert len(verifier.salt) == 16
        assert verifier.format() == self.FROM_POSTGRESQL

    def test_is_the_one_that_the_password_gives(self) -> None:
        verifier = ScramVerifier.parse(self.FROM_POSTGRESQL)
        assert make_verifier("tôp sécrêt", verifier.iterations, verifier.salt) == verifier

    def test_salts_differ(self) -> None:
        assert make_verifier("x", 1).salt != make_verifier("x", 1).salt

    @pytest.mark.parametrize(
        "change",
        [
            lambda text: "",
            lambda text: text + " ",
            lambda text: text.replace("SCRAM-SHA-256", "SCRAM-SHA-1"),
            lambda text: text.replace("$4096:", "$0:"),
            lambda text: text.replace("$4096:", "$-1:"),
            lambda text: text.replace("$4096:", "$9999999999:"),
            lambda text: text.replace("$4096:", "$٤:"),
            lambda text: text.replace("$4096:", "$4096:*"),
            lambda text: text.replace("=", ""),
            lambda text: text[:-5] + "=",
            lambda text: text.rpartition(":")[0],
            lambda text: text.rpartition(":")[0] + ":AAAA",
        ],
    )
    def test_anything_else_is_refused_without_showing_it(
        self, change: Callable[[str], str]
    ) -> None:
        text = change(self.FROM_POSTGRESQL)
        with pytest.raises(ValueError, match="SCRAM-SHA-256 verifier") as caught:
            ScramVerifier.parse(text)
        assert not text or text not in str(caught.value)

    def test_no_secret_in_a_repr(self) -> None:
        keys = derive_keys(PASSWORD, b"salt", 1)
        for shown in (repr(VERIFIER), repr(keys), repr(mock_verifier("x", b"secret"))):
            assert "key" not in shown


class TestSaslprep:
    """Texts and results of RFC 4013 section 3, and PostgreSQL's own ways."""

    @pytest.mark.parametrize(
        ("password", "hashed"),
        [
            ("I\u00adX", b"IX"),  # mapped to nothing
            ("user", b"user"),
            ("USER", b"USER"),
            ("\u00aa", b"a"),  # compatibility form
            ("\u2168", b"IX"),
            ("a\u00a0b", b"a b"),  # another space
            ("a\u200bb\u00e9", "a b\u00e9".encode()),
            ("e\u0301", "\u00e9".encode()),  # composed
        ],
    )
    def test_normalises(self, password: str, hashed: bytes) -> None:
        assert saslprep(password) == hashed

    @pytest.mark.parametrize(
        "password",
        [
            "bell\x07",  # plain ASCII is never touched, control or not
            "\u00e9\x07",  # a control character
            "\u0627\u0031",  # right-to-left with no such end
            "\u0627a\u0627",  # both directions
            "\u00ad",  # nothing left
            "\u0221",  # unassigned in Unicode 3.2
            "\ue000",  # private use
            "",
        ],
    )
    def test_trap_prohibited_passwords_are_taken_raw(self, password: str) -> None:
        assert saslprep(password) == password.encode()

    def test_bytes_that_are_no_utf8_come_back(self) -> None:
        assert saslprep(b"\xffpass\xe9".decode("utf-8", "surrogateescape")) == b"\xffpass\xe9"

    def test_a_stray_surrogate_does_not_crash(self) -> None:
        assert saslprep("\ud800x") == b"\xed\xa0\x80x"


class TestExchange:
    @pytest.mark.parametrize("password", ["pencil", "pässword", "密码", "", "a,b=c", "bell\x07"])
    def test_right_password(self, password: str) -> None:
        ours, theirs = client(password), server(make_verifier(password, 1))
        log_in(ours, theirs)
        assert ours.verified
        assert theirs.passed

    def test_wrong_password(self) -> None:
        ours, theirs = client("pencil2"), server()
        with pytest.raises(AuthenticationFailed) as caught:
            log_in(ours, theirs)
        assert caught.value.sqlstate == "28P01"
        assert not ours.verified
        assert not theirs.passed

    def test_trap_few_iterations_are_fine(self) -> None:
        log_in(client(), server(make_verifier(PASSWORD, iterations=1)))

    def test_trap_libpqs_empty_user_name(self) -> None:
        """libpq sends ``n=``: PostgreSQL takes the name from the startup message."""
        theirs = server()
        ours = ScramClient("", PASSWORD, channel_binding=None, offered=[SCRAM])
        assert ours.first().startswith(b"n,,n=,r=")
        ours = ScramClient("", PASSWORD, channel_binding=None, offered=[SCRAM])
        log_in(ours, theirs)
        assert theirs.passed

    def test_a_user_name_is_escaped(self) -> None:
        ours = ScramClient("a,b=c", PASSWORD, channel_binding=None, offered=[SCRAM])
        assert ours.first().startswith(b"n,,n=a=2Cb=3Dc,r=")

    def test_nonces_are_new_each_time(self) -> None:
        assert client().first() != client().first()
        first = client().first()
        assert server().first(SCRAM, first) != server().first(SCRAM, first)

    def test_optional_extensions_are_ignored(self) -> None:
        answer = server().first(SCRAM, b"n,,n=ada,r=abc,x=whatever,Z=1")
        assert answer.startswith(b"r=abc")


class TestUnknownLogin:
    def test_fails_with_the_same_words(self) -> None:
        with pytest.raises(AuthenticationFailed) as unknown:
            log_in(client(), server(verifier=None))
        with pytest.raises(AuthenticationFailed) as wrong:
            log_in(client("other"), server())
        assert str(unknown.value) == str(wrong.value)

    def test_looks_the_same_up_to_the_end(self) -> None:
        """Same fields and lengths as for a login that exists with PostgreSQL's defaults."""
        known = server(make_verifier(PASSWORD)).first(SCRAM, b"n,,n=,r=abc").split(b",")
        unknown = server(verifier=None).first(SCRAM, b"n,,n=,r=abc").split(b",")
        assert [field[:2] for field in unknown] == [b"r=", b"s=", b"i="]
        assert [len(field) for field in unknown] == [len(field) for field in known]
        assert unknown[2] == known[2]

    def test_trap_asking_twice_shows_the_same_salt(self) -> None:
        assert mock_verifier("ada", MOCK_SECRET) == mock_verifier("ada", MOCK_SECRET)
        salts = {mock_verifier(name, MOCK_SECRET).salt for name in ("ada", "bob", "Ada", "")}
        assert len(salts) == 4
        assert mock_verifier("ada", b"another secret").salt not in salts

    def test_fails_even_with_a_proof_that_fits(self) -> None:
        """A client key whose hash is all zeros can't be found; the mark of the mock still rules."""
        theirs = server(verifier=None)
        theirs._verifier = VERIFIER
        with pytest.raises(AuthenticationFailed):
            log_in(client(), theirs)


class TestChannelBinding:
    def test_is_offered_first_and_only_when_there_is_something_to_bind_to(self) -> None:
        assert server(binding=BINDING).mechanisms == (SCRAM_PLUS, SCRAM)
        assert server().mechanisms == (SCRAM,)

    def test_is_used_when_both_can(self) -> None:
        ours, theirs = client(binding=BINDING, offered=(SCRAM_PLUS, SCRAM)), server(binding=BINDING)
        assert ours.mechanism == SCRAM_PLUS
        log_in(ours, theirs)
        assert theirs.passed

    def test_another_certificate_in_between_is_refused(self) -> None:
        ours = client(binding=bytes(32), offered=(SCRAM_PLUS, SCRAM))
        with pytest.raises(AuthorizationFailed, match="channel binding check failed"):
            log_in(ours, server(binding=BINDING))

    def test_a_client_without_it_may_do_without(self) -> None:
        ours, theirs = client(offered=(SCRAM_PLUS, SCRAM)), server(binding=BINDING)
        assert ours.mechanism == SCRAM
        log_in(ours, theirs)
        assert theirs.passed

    def test_an_offer_stripped_on_the_way_is_noticed(self) -> None:
        ours = client(binding=BINDING, offered=(SCRAM,))
        first = ours.first()
        assert first.startswith(b"y,,")
        with pytest.raises(AuthorizationFailed, match="negotiation"):
            server(binding=BINDING).first(SCRAM, first)

    def test_y_is_fine_where_we_have_none(self) -> None:
        theirs = server()
        log_in(client(binding=BINDING, offered=(SCRAM,)), theirs)
        assert theirs.passed

    @pytest.mark.parametrize(
        ("mechanism", "first"),
        [
            (SCRAM_PLUS, b"n,,n=,r=abc"),
            (SCRAM_PLUS, b"y,,n=,r=abc"),
            (SCRAM_PLUS, b"p=tls-unique,,n=,r=abc"),
            (SCRAM_PLUS, b"p=tls-server-end-pointx,,n=,r=abc"),
            (SCRAM_PLUS, b"p=,,n=,r=abc"),
            (SCRAM, b"p=tls-server-end-point,,n=,r=abc"),
        ],
    )
    def test_contradictions_are_refused(self, mechanism: str, first: bytes) -> None:
        with pytest.raises(ProtocolViolation):
            server(binding=BINDING).first(mechanism, first)

    def test_plus_without_tls_is_refused(self) -> None:
        with pytest.raises(ProtocolViolation):
            server().first(SCRAM_PLUS, b"p=tls-server-end-point,,n=,r=abc")

    @pytest.mark.parametrize(
        ("binding", "offered"), [(None, (SCRAM_PLUS, SCRAM)), (BINDING, (SCRAM,))]
    )
    def test_can_be_demanded(self, binding: bytes | None, offered: tuple[str, ...]) -> None:
        with pytest.raises(ConnectFailed, match="channel binding is required"):
            ScramClient(
                "", "", channel_binding=binding, offered=offered, require_channel_binding=True
            )


class TestMalformedFromClients:
    @pytest.mark.parametrize("mechanism", ["", "PLAIN", "SCRAM-SHA-1", "scram-sha-256"])
    def test_mechanism(self, mechanism: str) -> None:
        with pytest.raises(ProtocolViolation, match="mechanism"):
            server().first(mechanism, b"n,,n=,r=abc")

    @pytest.mark.parametrize(
        "message",
        [
            b"",
            b"n,,n=,r=",
            b"n,n=,r=abc",
            b"n,,r=abc",
            b"n,,n=,x=abc",
            b"x,,n=,r=abc",
            b"nn,,n=,r=abc",
            b"N,,n=,r=abc",
            b"n,a=root,n=,r=abc",
            b"n,,m=ext,n=,r=abc",
            b"n,,n=,r=abc,m=ext",
            b"n,,n=,r=a\x00c",
            b"n,,n=\x00,r=abc",
            b"n,,n=,r=abc\x00",
            b"n,,n=,r=abc\n",
            b"n,,n=,r=a c",
            "n,,n=,r=é".encode(),
            b"n,,n=,r=abc,",
            b"n,,n=,r=abc,=",
            b"n,,n=,r=abc,1=x",
            b"n,,n=,r=" + b"a" * MESSAGE_BYTES_MAX,
        ],
    )
    def test_client_first(self, message: bytes) -> None:
        with pytest.raises(ProtocolViolation):
            server().first(SCRAM, message)

    @pytest.mark.parametrize(
        "change",
        [
            lambda message: b"",
            lambda message: message + b",x=1",
            lambda message: message + message,
            lambda message: message + b"\x00",
            lambda message: message + b"=",
            lambda message: message[:-1],
            lambda message: message.replace(b",r=", b",r=x"),
            lambda message: message.replace(b",p=", b"x,p="),
            lambda message: message.replace(b",p=", b",m=ext,p="),
            lambda message: message.replace(b",p=", b",p=AAAA,p="),
            lambda message: message.replace(b"c=biws,", b""),
            lambda message: message[: message.index(b",p=")],
            lambda message: message[: message.index(b",p=")] + b",p=AAAA",
            lambda message: message[: message.index(b",p=")] + b",p=" + b"A" * 44,
            lambda message: message[:-2] + b"$=",
            lambda message: message.replace(b"c=", b"c=" + b"A" * MESSAGE_BYTES_MAX),
        ],
    )
    def test_client_final(self, change: Callable[[bytes], bytes]) -> None:
        ours, theirs = client(), server()
        message = ours.respond(theirs.first(SCRAM, ours.first()))
        with pytest.raises(ProtocolViolation):
            theirs.final(change(message))
        assert not theirs.passed

    def test_base64_has_one_spelling(self) -> None:
        """The last letter's spare bits are zero: "B" decodes like "A" but is not canonical."""
        ours, theirs = client(), server()
        unproved = ours.respond(theirs.first(SCRAM, ours.first())).split(b",p=")[0]
        with pytest.raises(ProtocolViolation, match="proof"):
            theirs.final(unproved + b",p=" + b"A" * 42 + b"B=")

    def test_the_binding_text_is_compared(self) -> None:
        ours, theirs = client(), server()
        message = ours.respond(theirs.first(SCRAM, ours.first()))
        with pytest.raises(AuthorizationFailed):
            theirs.final(message.replace(b"c=biws", b"c=eSws"))

    def test_one_try_per_exchange(self) -> None:
        ours, theirs = client("wrong"), server()
        first = ours.first()
        message = ours.respond(theirs.first(SCRAM, first))
        with pytest.raises(AuthenticationFailed):
            theirs.final(message)
        with pytest.raises(ProtocolViolation, match="out of turn"):
            theirs.final(message)
        with pytest.raises(ProtocolViolation, match="out of turn"):
            theirs.first(SCRAM, first)

    def test_final_before_first(self) -> None:
        with pytest.raises(ProtocolViolation, match="out of turn"):
            server().final(TestRfc7677.CLIENT_FINAL)


class TestHostileServer:
    """Trap: servers are untrusted too (CVE-2026-6664 and its like)."""

    def challenged(self, challenge: bytes) -> ScramClient:
        ours = ScramClient("", PASSWORD, channel_binding=None, offered=[SCRAM], nonce=b"ours")
        ours.first()
        ours.respond(challenge)
        return ours

    @pytest.mark.parametrize(
        "challenge",
        [
            b"",
            b"r=ours,s=AAAA,i=1",  # adds nothing to our nonce
            b"r=our,s=AAAA,i=1",
            b"r=theirs,s=AAAA,i=1",
            b"r=,s=AAAA,i=1",
            b"r=ours\xff,s=AAAA,i=1",
            b"r=oursx\x00,s=AAAA,i=1",
            b"r=oursx,s=,i=1",
            b"r=oursx,s=A,i=1",
            b"r=oursx,s=AB==,i=1",
            b"r=oursx,s=!!!!,i=1",
            b"r=oursx,s=AAAA",
            b"r=oursx,s=AAAA,i=",
            b"r=oursx,s=AAAA,i=0",
            b"r=oursx,s=AAAA,i=-1",
            b"r=oursx,s=AAAA,i=0001",
            b"r=oursx,s=AAAA,i=1e3",
            b"r=oursx,s=AAAA,i=9999999999",
            b"r=oursx,s=AAAA,i=99999999999999999999999",
            b"r=oursx,s=AAAA,i=%d" % (ITERATIONS_MAX + 1),
            b"m=ext,r=oursx,s=AAAA,i=1",
            b"r=oursx,s=AAAA,i=1,m=ext",
            b"e=other-error",
            b"r=ours" + b"x" * MESSAGE_BYTES_MAX + b",s=AAAA,i=1",
            b"r=oursx,s=" + b"A" * MESSAGE_BYTES_MAX + b",i=1",
        ],
    )
    def test_trap_challenge(self, challenge: bytes) -> None:
        with pytest.raises(ConnectFailed):
            self.challenged(challenge)

    @pytest.mark.parametrize(
        "final",
        [b"", b"v=", b"v=AAAA", b"v=" + b"A" * 43 + b"=", b"x=1", b"v=\xff", b"e=", b"e=a\x00b"],
    )
    def test_trap_final(self, final: bytes) -> None:
        ours = self.challenged(b"r=oursx,s=AAAA,i=1")
        with pytest.raises(ConnectFailed):
            ours.verify(final)
        assert not ours.verified

    def test_a_server_that_only_pretends_to_check(self) -> None:
        ours, theirs, impostor = client(), server(), server(make_verifier("another", 2))
        ours.respond(theirs.first(SCRAM, ours.first()))
        signature = b"v=" + base64.b64encode(impostor._verifier.server_key)
        with pytest.raises(ConnectFailed, match="does not know the password"):
            ours.verify(signature)

    def test_its_error_is_told_in_printable_letters(self) -> None:
        ours = self.challenged(b"r=oursx,s=AAAA,i=1")
        with pytest.raises(ConnectFailed, match=r"refused the SCRAM login: invalid-proof\?\?$"):
            ours.verify(b"e=invalid-proof\x1b\xff")

    def test_messages_out_of_turn(self) -> None:
        ours = client()
        with pytest.raises(ConnectFailed, match="out of turn"):
            ours.respond(b"r=oursx,s=AAAA,i=1")
        ours = client()
        ours.first()
        with pytest.raises(ConnectFailed, match="out of turn"):
            ours.verify(TestRfc7677.SERVER_FINAL)
        ours = self.challenged(b"r=oursx,s=AAAA,i=1")
        with pytest.raises(ConnectFailed, match="out of turn"):
            ours.respond(b"r=oursxy,s=AAAA,i=1")

    @pytest.mark.parametrize("offered", [(), ("SCRAM-SHA-1",), (SCRAM_PLUS,), ("OAUTHBEARER",)])
    def test_no_mechanism_in_common(self, offered: tuple[str, ...]) -> None:
        with pytest.raises(ConnectFailed, match="no SASL mechanism"):
            client(offered=offered)


class TestKeyCache:
    def test_saves_the_derivation_after_a_login_that_passed(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        cache = KeyCache()
        for _ in range(2):
            ours = ScramClient("", PASSWORD, channel_binding=None, offered=[SCRAM], cache=cache)
            theirs = server()
            log_in(ours, theirs)
            assert theirs.passed
            # From the second login on the password itself is not touched.
            monkeypatch.setattr("gateway.protocol.scram.derive_keys", None)
        assert len(cache) == 1

    def test_keeps_nothing_of_a_server_that_failed(self) -> None:
        cache = KeyCache()
        ours = ScramClient("", PASSWORD, channel_binding=None, offered=[SCRAM], cache=cache)
        theirs = server()
        ours.respond(theirs.first(SCRAM, ours.first()))
        with pytest.raises(ConnectFailed):
            ours.verify(b"v=" + b"A" * 43 + b"=")
        assert len(cache) == 0

    def test_is_by_password_salt_and_iterations(self) -> None:
        cache, keys = KeyCache(), Keys(b"c", b"s")
        cache.keep("a", b"salt", 1, keys)
        assert cache.get("a", b"salt", 1) is keys
        assert cache.get("b", b"salt", 1) is None
        assert cache.get("a", b"tlas", 1) is None
        assert cache.get("a", b"salt", 2) is None

    def test_is_bounded_and_forgets_the_least_recently_used(self) -> None:
        cache, keys = KeyCache(entries_max=2), Keys(b"c", b"s")
        cache.keep("a", b"", 1, keys)
        cache.keep("b", b"", 1, keys)
        cache.get("a", b"", 1)
        cache.keep("c", b"", 1, keys)
        assert len(cache) == 2
        assert cache.get("b", b"", 1) is None
        assert cache.get("a", b"", 1) is keys

    def test_shows_no_password(self) -> None:
        cache = KeyCache()
        cache.keep("hunter2", b"", 1, Keys(b"c", b"s"))
        assert "hunter2" not in repr(cache)
