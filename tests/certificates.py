"""Throw-away certificates for tests of TLS: an authority, and those that it vouches for."""

from __future__ import annotations

import datetime
import ipaddress
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.x509.oid import NameOID

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate and its private key."""

    certificate: x509.Certificate
    key: Key

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.DER)

    @property
    def certificate_pem(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    def key_pem(self, password: bytes | None = None) -> bytes:
        return self.key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(password)
            if password
            else serialization.NoEncryption(),
        )

    def write(self, folder: Path, name: str) -> tuple[str, str]:
        """Writes NAME.crt and NAME.key; their paths."""
        certificate_file, key_file = folder / f"{name}.crt", folder / f"{name}.key"
        certificate_file.write_bytes(self.certificate_pem)
        key_file.write_bytes(self.key_pem())
        key_file.chmod(0o600)
        return str(certificate_file), str(key_file)


def issue(
    common_name: str,
    *,
    by: Pair | None = None,
    names: tuple[str, ...] = (),
    key: Key | None = None,
    hashed_with: hashes.HashAlgorithm | None = None,
    pss: bool = False,
) -> Pair:
    """A certificate for ``common_name`` and the host ``names``, signed ``by`` another or itself.

    Without ``by`` it is an authority of its own. The default is ECDSA P-256 with SHA-256.
    """
    key = ec.generate_private_key(ec.SECP256R1()) if key is None else key
    signer = key if by is None else by.key
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject if by is None else by.certificate.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=2))
        .add_extension(x509.BasicConstraints(ca=by is None, path_length=None), critical=True)
    )
    if names:
        alternatives = x509.SubjectAlternativeName([_general_name(name) for name in names])
        builder = builder.add_extension(alternatives, critical=False)
    if isinstance(signer, ed25519.Ed25519PrivateKey):
        return Pair(builder.sign(signer, None), key)
    algorithm = hashed_with or hashes.SHA256()
    scheme = padding.PSS(padding.MGF1(algorithm), padding.PSS.DIGEST_LENGTH) if pss else None
    return Pair(builder.sign(signer, algorithm, rsa_padding=scheme), key)  # type: ignore[arg-type]


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
