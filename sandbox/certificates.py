"""A certificate authority for servers on the loopback interface: Kubernetes' components, OpenBao.

Keys are P-256: making one takes a millisecond, an RSA key a hundred.
"""

from __future__ import annotations

import dataclasses
import datetime
import importlib.util
import ipaddress
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from migrator import errors

# Long enough for a sandbox whose directory is kept for years.
_LIFETIME = datetime.timedelta(days=3650)
_CLOCK_SKEW = datetime.timedelta(minutes=5)


@dataclasses.dataclass(frozen=True, slots=True)
class Pair:
    """The files of a certificate and its private key (PEM; the key is readable by its owner alone)."""

    certificate: Path
    key: Path


class Authority:
    """A certificate authority in a directory; a second object on the same directory is the same authority.

    Args:
        directory: gets `ca.crt`, `ca.key` and the pairs that are issued.
        name: its common name.

    Raises:
        NotFound: `cryptography` is not installed.
    """

    def __init__(self, directory: Path, name: str = "sandbox authority") -> None:
        _require_cryptography()
        self._directory = directory
        self.pair = self._files("ca")
        if not self.pair.certificate.exists():
            directory.mkdir(parents=True, exist_ok=True)
            self._make(name)

    @property
    def certificate(self) -> Path:
        """The certificate that a client trusts."""
        return self.pair.certificate

    def issue(
        self,
        file: str,
        common_name: str,
        *,
        organization: str | None = None,
        hosts: Sequence[str] = (),
        lifetime: datetime.timedelta = _LIFETIME,
    ) -> Pair:
        """Issues a certificate for servers and clients; one that was issued under this file name before is kept.

        Args:
            file: the pair's file name without suffix.
            common_name: the subject; for Kubernetes the user.
            organization: for Kubernetes the group.
            hosts: DNS names and IP addresses of the server.
            lifetime: negative for one that has already expired.
        """
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.x509.oid import ExtendedKeyUsageOID

        pair = self._files(file)
        if pair.certificate.exists():
            return pair
        own: Any = serialization.load_pem_private_key(self.pair.key.read_bytes(), None)
        issuer = x509.load_pem_x509_certificate(self.pair.certificate.read_bytes()).subject
        key = new_key()
        builder = _builder(_name(common_name, organization), issuer, key, lifetime)
        builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        builder = builder.add_extension(_key_usage(signature=True), critical=True)
        both = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        builder = builder.add_extension(x509.ExtendedKeyUsage(both), critical=False)
        if hosts:
            builder = builder.add_extension(x509.SubjectAlternativeName([_host(host) for host in hosts]), critical=False)
        write_key(pair.key, key)
        pair.certificate.write_bytes(builder.sign(own, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
        return pair

    def _make(self, name: str) -> None:
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes, serialization

        key = new_key()
        subject = _name(name)
        builder = _builder(subject, subject, key, _LIFETIME)
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        builder = builder.add_extension(_key_usage(signature=False), critical=True)
        write_key(self.pair.key, key)
        self.pair.certificate.write_bytes(builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))

    def _files(self, name: str) -> Pair:
        return Pair(self._directory / f"{name}.crt", self._directory / f"{name}.key")


def new_key() -> Any:
    """Makes a P-256 private key."""
    from cryptography.hazmat.primitives.asymmetric import ec

    return ec.generate_private_key(ec.SECP256R1())


def write_key(path: Path, key: Any) -> None:
    """Writes the private key as PEM (PKCS #8), readable by its owner alone."""
    from cryptography.hazmat.primitives import serialization

    text = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(text)


def public_pem(key: Any) -> str:
    """Returns the public half of a private key as PEM."""
    from cryptography.hazmat.primitives import serialization

    text: bytes = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return text.decode()


def _require_cryptography() -> None:
    if importlib.util.find_spec("cryptography") is None:
        raise errors.NotFound(
            "`cryptography` is not installed: the sandbox's certificates are made with it",
            code="sandbox-missing",
            hint="pip install 'greylag[dev]', or `make install`",
        )


def _builder(subject: Any, issuer: Any, key: Any, lifetime: datetime.timedelta) -> Any:
    from cryptography import x509

    now = datetime.datetime.now(datetime.UTC)
    begin = now - _CLOCK_SKEW + min(lifetime, datetime.timedelta())  # an expired one must begin before it ends, too
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(now + lifetime)
    )


def _name(common_name: str, organization: str | None = None) -> Any:
    from cryptography import x509

    parts = [(x509.NameOID.ORGANIZATION_NAME, organization), (x509.NameOID.COMMON_NAME, common_name)]
    return x509.Name([x509.NameAttribute(kind, value) for kind, value in parts if value is not None])


def _key_usage(*, signature: bool) -> Any:
    """Returns the key usage: a leaf signs data, an authority signs certificates."""
    from cryptography import x509

    return x509.KeyUsage(
        digital_signature=signature,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=not signature,
        crl_sign=not signature,
        encipher_only=False,
        decipher_only=False,
    )


def _host(name: str) -> Any:
    from cryptography import x509

    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
