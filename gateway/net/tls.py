"""TLS contexts for both directions, and what SCRAM binds to in a TLS connection.

Sources: PostgreSQL documentation, "SSL Support" (libpq, 34.19) for the meaning of sslmode;
RFC 5929 section 4 for tls-server-end-point.
"""

from __future__ import annotations

import asyncio
import errno
import ssl
from pathlib import Path
from typing import Literal

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization

from gateway.errors import ConfigError
from gateway.settings.dsn import SslMode

ALPN = "postgresql"
"""The protocol's name in ALPN (PostgreSQL 17 and later)."""

SYSTEM_ROOTS = "system"
"""The value of sslrootcert that means the operating system's trusted roots."""

OUT_OF_DESCRIPTORS = frozenset({errno.EMFILE, errno.ENFILE})
"""Error numbers that mean: not the peer's or the file's fault, we have too much open."""

_VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}
_VERIFYING = (SslMode.VERIFY_CA, SslMode.VERIFY_FULL)


# --- contexts --------------------------------------------------------------------------------


def server_context(
    certificate_file: str, key_file: str, minimum_version: Literal["1.2", "1.3"] = "1.2"
) -> ssl.SSLContext:
    """What clients' TLS connections are accepted with. Raises ConfigError for unusable files."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = _VERSIONS[minimum_version]
    context.set_alpn_protocols([ALPN])
    # A ticket would be of use only at the worker that gave it; PostgreSQL gives none either.
    context.options |= ssl.OP_NO_TICKET | ssl.OP_NO_RENEGOTIATION
    context.num_tickets = 0
    _load_pair(context, certificate_file, key_file, ("certificate_file", "key_file"))
    return context


def client_context(
    sslmode: str,
    sslrootcert: str | None = None,
    sslcert: str | None = None,
    sslkey: str | None = None,
) -> ssl.SSLContext | None:
    """What a server's TLS connection is opened with, by libpq's meaning of the options.

    None for sslmode=disable. As in libpq, a root certificate makes every other mode verify the
    certificate's chain, and verify-full the host name too; sslrootcert=system goes with verify-full
    only. Unlike libpq, files are used only when named, and a named file must exist. Raises
    ConfigError; reading sslrootcert=system takes 20 ms, see ClientContexts.
    """
    mode = SslMode(sslmode)
    _check_root_choice(mode, sslrootcert)
    if mode is SslMode.DISABLE:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols([ALPN])
    context.check_hostname = mode is SslMode.VERIFY_FULL
    context.verify_mode = ssl.CERT_REQUIRED if sslrootcert else ssl.CERT_NONE
    if sslrootcert:
        _load_roots(context, sslrootcert)
    if sslcert:
        _load_pair(context, sslcert, sslkey or sslcert, ("sslcert", "sslkey"))
    return context


class ClientContexts:
    """Contexts made once per set of options; a new one of these reads the files anew."""

    __slots__ = ("_made",)

    def __init__(self) -> None:
        self._made: dict[tuple[str | None, ...], ssl.SSLContext | None] = {}

    def get(
        self, sslmode: str, sslrootcert: str | None, sslcert: str | None, sslkey: str | None
    ) -> ssl.SSLContext | None:
        """As client_context."""
        options = (sslmode, sslrootcert, sslcert, sslkey)
        if options not in self._made:
            self._made[options] = client_context(*options)
        return self._made[options]


def _check_root_choice(mode: SslMode, sslrootcert: str | None) -> None:
    if sslrootcert == SYSTEM_ROOTS and mode is not SslMode.VERIFY_FULL:
        raise ConfigError(
            [f"sslmode: {mode} is too weak for sslrootcert=system; use verify-full"],
        )
    if mode in _VERIFYING and not sslrootcert:
        raise ConfigError(
            [f"sslrootcert: sslmode={mode} needs a file of trusted certificates, or 'system'"]
        )


def _load_roots(context: ssl.SSLContext, sslrootcert: str) -> None:
    if sslrootcert == SYSTEM_ROOTS:
        context.set_default_verify_paths()
        return
    _read(sslrootcert, "sslrootcert")
    try:
        context.load_verify_locations(cafile=sslrootcert)
    except ssl.SSLError as error:
        raise ConfigError(
            [f"sslrootcert: {sslrootcert}: {_no_pem('certificate', error)}"]
        ) from None


def _load_pair(
    context: ssl.SSLContext, certificate_file: str, key_file: str, options: tuple[str, str]
) -> None:
    _read(certificate_file, options[0])
    _read(key_file, options[1])
    try:
        # Without a password given, OpenSSL would ask for one on the terminal.
        context.load_cert_chain(certificate_file, key_file, password="")
    except ssl.SSLError as error:
        problem = _no_pem("certificate with its unencrypted key", error)
        raise ConfigError([f"{options[0]}: {certificate_file}, {key_file}: {problem}"]) from None


def _no_pem(what: str, error: ssl.SSLError) -> str:
    if error.reason == "KEY_VALUES_MISMATCH":
        return "the key belongs to another certificate"
    return f"not a PEM {what} ({error.reason or 'unreadable'})"


def _read(path: str, option: str) -> bytes:
    """The file's bytes, so that what is wrong with it can be said by name."""
    try:
        return Path(path).read_bytes()
    except OSError as error:
        if error.errno in OUT_OF_DESCRIPTORS:
            raise
        raise ConfigError([f"{option}: {path}: {error.strerror}"]) from None


# --- channel binding -------------------------------------------------------------------------


def end_point_binding(certificate_der: bytes) -> bytes | None:
    """The tls-server-end-point data of a server's certificate (RFC 5929 section 4.1).

    The certificate's hash, by the hash of its signature, or SHA-256 where that is MD5 or SHA-1.
    None when the RFC defines none: a signature without a hash of its own, such as Ed25519.
    """
    try:
        algorithm = x509.load_der_x509_certificate(certificate_der).signature_hash_algorithm
    except (ValueError, UnsupportedAlgorithm):
        return None
    if algorithm is None:
        return None
    if isinstance(algorithm, (hashes.MD5, hashes.SHA1)):
        algorithm = hashes.SHA256()
    digest = hashes.Hash(algorithm)
    digest.update(certificate_der)
    return digest.finalize()


def own_binding(certificate_file: str) -> bytes | None:
    """The binding of our own certificate: the first of the file, which TLS sends as ours."""
    pem = _read(certificate_file, "certificate_file")
    try:
        leaf = x509.load_pem_x509_certificates(pem)[0]
    except ValueError:
        raise ConfigError(
            [f"certificate_file: {certificate_file}: not a PEM certificate"]
        ) from None
    return end_point_binding(leaf.public_bytes(serialization.Encoding.DER))


def peer_binding(transport: asyncio.BaseTransport) -> bytes | None:
    """The binding of the server at the other end; None without TLS."""
    tls = transport.get_extra_info("ssl_object")
    certificate_der = tls.getpeercert(binary_form=True) if tls is not None else None
    return end_point_binding(certificate_der) if certificate_der else None
