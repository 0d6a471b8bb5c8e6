"""A throw-away certificate for the proxies, signed by itself; clients do not check it."""

from __future__ import annotations

import datetime
import os
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from gateway.demo.process import Account


def write_certificate(folder: Path, name: str, reader: Account | None) -> tuple[Path, Path]:
    """Makes NAME.crt and NAME.key (ECDSA P-256), which only ``reader`` can read, if given."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=2))
        .sign(key, hashes.SHA256())
    )
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    files = folder / f"{name}.crt", folder / f"{name}.key"
    for path, data in zip(
        files, (certificate.public_bytes(serialization.Encoding.PEM), pem), strict=True
    ):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            if reader is not None:
                os.fchown(file.fileno(), reader.uid, reader.gid)
    return files
