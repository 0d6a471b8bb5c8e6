"""TLS contexts: what each option accepts, told by handshakes in memory; channel-binding data."""

from __future__ import annotations

import base64
import hashlib
import ssl
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa

from gateway.errors import ConfigError
from gateway.net.tls import (
    ClientContexts,
    client_context,
    end_point_binding,
    own_binding,
    server_context,
)
from tests.certificates import issue


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ca.crt, other.crt (an authority of somebody else), server.crt for db.example, app.crt."""
    folder = tmp_path_factory.mktemp("tls")
    ca = issue("test authority")
    ca.write(folder, "ca")
    issue("another authority").write(folder, "other")
    issue("db.example", by=ca, names=("db.example", "127.0.0.1")).write(folder, "server")
    issue("only-common-name.example", by=ca).write(folder, "common")
    issue("app", by=ca).write(folder, "app")
    return folder


def path(files: Path, name: str) -> str:
    return str(files / name)


def accepting(files: Path, name: str = "server") -> ssl.SSLContext:
    return server_context(path(files, f"{name}.crt"), path(files, f"{name}.key"))


def shake_hands(
    client: ssl.SSLContext, server: ssl.SSLContext, host: str = "db.example"
) -> tuple[ssl.SSLObject, ssl.SSLObject]:
    """A whole handshake between two contexts, without a socket."""
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = client.wrap_bio(to_client, to_server, server_hostname=host)
    theirs = server.wrap_bio(to_server, to_client, server_side=True)
    waiting = [ours, theirs]
    for _ in range(10):
        for side in list(waiting):
            try:
                side.do_handshake()
                waiting.remove(side)
            except ssl.SSLWantReadError:
                pass
    assert not waiting
    return ours, theirs


def connects(files: Path, host: str = "db.example", server: str = "server", **options: str) -> bool:
    context = client_context(**options)
    assert context is not None
    try:
        shake_hands(context, accepting(files, server), host)
    except ssl.SSLCertVerificationError:
        return False
    return True


class TestClientModes:
    def test_disable_is_no_tls(self) -> None:
        assert client_context("disable") is None

    @pytest.mark.parametrize("mode", ["allow", "prefer", "require"])
    def test_without_root_certificate_nothing_is_verified(self, files: Path, mode: str) -> None:
        assert connects(files, sslmode=mode, host="elsewhere.example")

    @pytest.mark.parametrize("mode", ["allow", "prefer", "require", "verify-ca"])
    def test_with_root_certificate_the_chain_is_verified_but_not_the_name(
        self, files: Path, mode: str
    ) -> None:
        """libpq: with a root certificate, require means what verify-ca means."""
        ca, other = path(files, "ca.crt"), path(files, "other.crt")
        assert connects(files, sslmode=mode, sslrootcert=ca, host="elsewhere.example")
        assert not connects(files, sslmode=mode, sslrootcert=other)

    @pytest.mark.parametrize(
        ("host", "server", "accepted"),
        [
            ("db.example", "server", True),
            ("127.0.0.1", "server", True),
            ("elsewhere.example", "server", False),
            ("127.0.0.2", "server", False),
            ("only-common-name.example", "common", True),
        ],
    )
    def test_verify_full_checks_the_name(
        self, files: Path, host: str, server: str, accepted: bool
    ) -> None:
        ca = path(files, "ca.crt")
        found = connects(files, sslmode="verify-full", sslrootcert=ca, host=host, server=server)
        assert found is accepted

    def test_system_roots_do_not_know_our_authority(self, files: Path) -> None:
        assert not connects(files, sslmode="verify-full", sslrootcert="system")

    @pytest.mark.parametrize("mode", ["disable", "allow", "prefer", "require", "verify-ca"])
    def test_system_roots_want_verify_full(self, mode: str) -> None:
        with pytest.raises(ConfigError, match="too weak"):
            client_context(mode, "system")

    @pytest.mark.parametrize("mode", ["verify-ca", "verify-full"])
    def test_verifying_needs_roots(self, mode: str) -> None:
        with pytest.raises(ConfigError, match="sslrootcert"):
            client_context(mode)

    def test_client_certificate(self, files: Path) -> None:
        server = accepting(files)
        server.verify_mode = ssl.CERT_REQUIRED
        server.load_verify_locations(path(files, "ca.crt"))
        context = client_context(
            "require", sslcert=path(files, "app.crt"), sslkey=path(files, "app.key")
        )
        assert context is not None
        _, theirs = shake_hands(context, server)
        presented = theirs.getpeercert()
        assert presented is not None
        assert presented["subject"] == ((("commonName", "app"),),)

    def test_certificate_and_key_in_one_file(self, files: Path, tmp_path: Path) -> None:
        both = tmp_path / "both.pem"
        both.write_bytes((files / "app.key").read_bytes() + (files / "app.crt").read_bytes())
        assert connects(files, sslmode="require", sslcert=str(both))

    def test_contexts_are_made_once_per_options(self, files: Path) -> None:
        contexts, ca = ClientContexts(), path(files, "ca.crt")
        first = contexts.get("verify-ca", ca, None, None)
        assert contexts.get("verify-ca", ca, None, None) is first
        assert contexts.get("verify-full", ca, None, None) is not first
        assert contexts.get("disable", None, None, None) is None


class TestServer:
    @pytest.mark.parametrize("mode", ["require", "prefer"])
    def test_alpn(self, files: Path, mode: str) -> None:
        context = client_context(mode)
        assert context is not None
        ours, theirs = shake_hands(context, accepting(files))
        assert ours.selected_alpn_protocol() == theirs.selected_alpn_protocol() == "postgresql"

    def test_a_client_without_alpn_is_welcome(self, files: Path) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(path(files, "ca.crt"))
        _, theirs = shake_hands(context, accepting(files))
        assert theirs.selected_alpn_protocol() is None

    @pytest.mark.parametrize(
        ("minimum", "offered", "accepted"),
        [
            ("1.2", ssl.TLSVersion.TLSv1_1, False),
            ("1.2", ssl.TLSVersion.TLSv1_2, True),
            ("1.3", ssl.TLSVersion.TLSv1_2, False),
            ("1.3", ssl.TLSVersion.TLSv1_3, True),
        ],
    )
    @pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1 is deprecated")
    def test_minimum_version(
        self, files: Path, minimum: str, offered: ssl.TLSVersion, accepted: bool
    ) -> None:
        server = server_context(
            path(files, "server.crt"),
            path(files, "server.key"),
            "1.2" if minimum == "1.2" else "1.3",
        )
        client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        client.load_verify_locations(path(files, "ca.crt"))
        client.minimum_version = min(offered, ssl.TLSVersion.TLSv1_2)
        client.maximum_version = offered
        if accepted:
            ours, _ = shake_hands(client, server)
            assert ours.version() == f"TLSv{1.2 if offered is ssl.TLSVersion.TLSv1_2 else 1.3}"
        else:
            with pytest.raises(ssl.SSLError):
                shake_hands(client, server)

    def test_no_session_tickets(self, files: Path) -> None:
        context = client_context("require")
        assert context is not None
        assert accepting(files).num_tickets == 0
        ours, theirs = shake_hands(context, accepting(files))
        theirs.write(b"x")
        assert ours.read(1) == b"x"
        session = ours.session
        assert session is None or not session.has_ticket


class TestUnusableFiles:
    @pytest.mark.parametrize("role", ["server", "client", "roots"])
    def test_a_missing_file_is_named(self, files: Path, role: str) -> None:
        missing = path(files, "missing.pem")
        with pytest.raises(ConfigError) as caught:
            if role == "server":
                server_context(missing, path(files, "server.key"))
            elif role == "client":
                client_context("require", sslcert=path(files, "app.crt"), sslkey=missing)
            else:
                client_context("require", sslrootcert=missing)
        assert len(caught.value.problems) == 1
        assert f"{missing}: No such file or directory" in caught.value.problems[0]

    def test_a_key_of_another_certificate(self, files: Path) -> None:
        with pytest.raises(ConfigError, match="the key belongs to another certificate"):
            server_context(path(files, "server.crt"), path(files, "app.key"))

    def test_rubbish(self, files: Path, tmp_path: Path) -> None:
        rubbish = tmp_path / "rubbish.pem"
        rubbish.write_bytes(b"\xff\x00 no certificate at all")
        with pytest.raises(ConfigError, match=r"rubbish\.pem.*not a PEM certificate"):
            server_context(str(rubbish), path(files, "server.key"))
        with pytest.raises(ConfigError, match=r"rubbish\.pem.*not a PEM certificate"):
            client_context("verify-ca", str(rubbish))
        with pytest.raises(ConfigError, match=r"rubbish\.pem.*not a PEM certificate"):
            own_binding(str(rubbish))

    def test_an_encrypted_key_is_an_error_and_no_question_on_the_terminal(
        self, files: Path, tmp_path: Path
    ) -> None:
        pair = issue("locked")
        certificate_file, _ = pair.write(tmp_path, "locked")
        key_file = tmp_path / "locked.key"
        key_file.write_bytes(pair.key_pem(b"passphrase"))
        with pytest.raises(ConfigError, match="unencrypted key"):
            server_context(certificate_file, str(key_file))


# Made by "openssl req -x509 -sha1": cryptography no longer signs with SHA-1.
SIGNED_WITH_SHA1 = (
    "MIIBbzCCARagAwIBAgIUCkQAA9HSgiQlH3yOW9f4k8QtyS0wCQYHKoZIzj0EATAOMQwwCgYDVQQDDANvbGQwHhcN"
    "MjYxMTIzMDQ0MDUwWhcNMjYxMTI0MDQ0MDUwWjAOMQwwCgYDVQQDDANvbGQwWTATBgcqhkjOPQIBBggqhkjOPQMB"
    "BwNCAAQykFgvOtKymSQrs3egAcDcoywt8gjKGCMKcO9ijKJUlYkw1Aau6BVXqrsDwlrcsrxGeV6bE8m5U0tprOyU"
    "+yZYo1MwUTAdBgNVHQ4EFgQUaCKDKN1e1om9my8XsFBkJ/KlOcswHwYDVR0jBBgwFoAUaCKDKN1e1om9my8XsFBk"
    "J/KlOcswDwYDVR0TAQH/BAUwAwEB/zAJBgcqhkjOPQQBA0gAMEUCIQDDw3NTQ6FHgMfblpIYy+M/WHOT9bzKu7+o"
    "3/N1464TUgIgRCeXVCJp1BTRdNtzmQiemQ6joVV3oGRoeE+h08jZGFE="
)


class TestEndPointBinding:
    """RFC 5929 section 4.1."""

    def test_is_the_hash_of_the_signature(self) -> None:
        for algorithm in (hashes.SHA256(), hashes.SHA384(), hashes.SHA512()):
            der = issue("x", hashed_with=algorithm).der
            assert end_point_binding(der) == hashlib.new(algorithm.name, der).digest()

    def test_sha1_becomes_sha256(self) -> None:
        der = base64.b64decode(SIGNED_WITH_SHA1)
        assert end_point_binding(der) == hashlib.sha256(der).digest()

    def test_rsa_pss_names_its_hash_too(self) -> None:
        key = rsa.generate_private_key(65537, 2048)
        der = issue("x", key=key, hashed_with=hashes.SHA384(), pss=True).der
        assert end_point_binding(der) == hashlib.sha384(der).digest()

    def test_no_hash_no_binding(self) -> None:
        assert end_point_binding(issue("x", key=ed25519.Ed25519PrivateKey.generate()).der) is None

    @pytest.mark.parametrize("der", [b"", b"\x30\x00", b"no certificate"])
    def test_a_broken_certificate_has_none(self, der: bytes) -> None:
        assert end_point_binding(der) is None

    def test_ours_is_of_the_first_certificate_in_the_file(self, tmp_path: Path) -> None:
        ca = issue("authority", hashed_with=hashes.SHA512())
        leaf = issue("leaf", by=ca)
        chain = tmp_path / "chain.pem"
        chain.write_bytes(leaf.certificate_pem + ca.certificate_pem)
        assert own_binding(str(chain)) == hashlib.sha256(leaf.der).digest()
