"""A certificate authority for tests: real certificates for servers and clients, valid for a month."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from ssl import PROTOCOL_TLS_CLIENT, SSLContext

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

_Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
VALID = timedelta(days=30)
TRUSTS_NOBODY = SSLContext(PROTOCOL_TLS_CLIENT)
"""For clients of plain HTTP: without one, httpx makes a context for each call, with all authorities, in some 30 ms."""


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate and its private key, both in PEM."""

    certificate: str
    key: str

    @property
    def pem(self) -> str:
        """Both in one text, as a secret holds them."""
        return self.certificate + self.key


@dataclass(frozen=True, slots=True)
class Authority:
    """Signs certificates, which have no authority key identifier, as many private authorities do it.

    `pem` is what others trust.
    """

    name: str = "Test Authority"
    _key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))
    above: Authority | None = None

    @property
    def pem(self) -> str:
        """Its own certificate, signed by the authority above, or else by itself."""
        above = self.above or self
        return _signed(self.name, self._key, issuer=above.name, signer=above._key, authority=True)

    def issue(self, name: str, *, until: datetime | None = None) -> Issued:
        """A certificate for an address, for a server's name or of a client."""
        return self._issue(name, ec.generate_private_key(ec.SECP256R1()), until)

    def issue_weak(self, name: str) -> Issued:
        """A certificate whose key today's OpenSSL takes for too small."""
        return self._issue(name, rsa.generate_private_key(65537, 1024), None)  # noqa: S505 - that is the point

    def _issue(self, name: str, key: _Key, until: datetime | None) -> Issued:
        certificate = _signed(name, key, issuer=self.name, signer=self._key, until=until)
        return Issued(certificate, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode())


def _signed(
    name: str,
    key: _Key,
    *,
    issuer: str,
    signer: ec.EllipticCurvePrivateKey,
    authority: bool = False,
    until: datetime | None = None,
) -> str:
    until = until or datetime.now(UTC) + VALID
    builder = (
        x509.CertificateBuilder()
        .subject_name(_common_name(name))
        .issuer_name(_common_name(issuer))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(until - 2 * VALID)
        .not_valid_after(until)
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
    )
    if not authority:
        builder = builder.add_extension(x509.SubjectAlternativeName([_general_name(name)]), critical=False)
    return builder.sign(signer, SHA256()).public_bytes(Encoding.PEM).decode()


def _common_name(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)
