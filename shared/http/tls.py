"""TLS contexts for requests to endpoints: the authorities that are trusted, and webhooks' client certificates.

Certificates of endpoints are always checked, against the system's authorities and those of HOOKLINE_CA_BUNDLE. Must
never write a private key where somebody else could read it.
"""

from __future__ import annotations

import os
import ssl
import tempfile
import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization

from shared.config.certificate_rules import apply_rules
from shared.domain.errors import EndpointUnusable, InvalidDefinition
from shared.settings import Settings

MAX_IDENTITIES = 128
"""Contexts with a client certificate that a process keeps. Each holds the authorities anew, about 0.8 MiB, so this many
take 100 MiB. Beyond it the one used longest ago is dropped, and made again for 30 ms when its webhook is opened."""


class TlsContexts:
    """The contexts of one process: one without a client certificate, and one for each webhook that has one.

    A pooled connection belongs to the context that it was made with, so that webhooks share neither contexts nor
    connections, not even when they have the same certificate.
    """

    def __init__(self, settings: Settings) -> None:
        """Read the authorities. Raises OSError when HOOKLINE_CA_BUNDLE can't be read any more."""
        path = settings.ca_bundle
        self._authorities = None if path is None else path.read_text(encoding="ascii")
        self.anonymous = self._context()
        """The context of all webhooks without a client certificate. Never changed, so any thread may use it."""
        self._identified: OrderedDict[tuple[int, str], ssl.SSLContext] = OrderedDict()
        """By webhook and PEM text, the one used last at the end. Drains' threads read and write it, under `_lock`."""
        self._lock = threading.Lock()

    def with_certificate(self, webhook_id: int, pem: str) -> ssl.SSLContext:
        """The webhook's context with this client certificate and key. The first call takes some 30 ms.

        Any thread may call it, but not the event loop's, which it would hold up.

        Raises:
            EndpointUnusable: when OpenSSL refuses the certificate or key. `check_client_certificate` asked OpenSSL as
                well when the secret was saved, but perhaps on another host with another release or policy.
        """
        key = (webhook_id, pem)
        with self._lock:
            if (known := self._identified.get(key)) is not None:
                self._identified.move_to_end(key)
                return known
        # Made without the lock, since it takes long. Two threads may make the same one; the first one stored is used.
        made = self._context()
        try:
            _load(made, pem)
        except ssl.SSLError as exc:
            raise EndpointUnusable(f"the client certificate can't be used in TLS: {_why(exc)}") from None
        with self._lock:
            kept = self._identified.setdefault(key, made)
            while len(self._identified) > MAX_IDENTITIES:
                self._identified.popitem(last=False)
        return kept

    def _context(self) -> ssl.SSLContext:
        context = ssl.create_default_context()
        apply_rules(context)
        context.set_alpn_protocols(("http/1.1",))
        if self._authorities is not None:
            context.load_verify_locations(cadata=self._authorities)
        return context


def check_client_certificate(pem: str) -> None:
    """Refuse a text that is no client certificate with its private key in PEM.

    Raises:
        InvalidDefinition: saying what is accepted, without any part of the value.
    """
    certificates = _certificates(pem)
    try:
        key = serialization.load_pem_private_key(pem.encode(), password=None)
    except TypeError:
        raise InvalidDefinition.at((), "must have an unencrypted private key; Hookline encrypts the secret") from None
    except (ValueError, UnsupportedAlgorithm):
        raise InvalidDefinition.at((), f"{_FORM}, but no private key can be read in it") from None
    try:
        belongs = certificates[0].public_key() == key.public_key()
    except (ValueError, UnsupportedAlgorithm):
        raise InvalidDefinition.at((), f"{_FORM}, but the certificate's public key can't be read") from None
    if not belongs:
        raise InvalidDefinition.at((), f"{_FORM}, but the private key does not belong to the first certificate")
    try:
        _load(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), pem)
    except ssl.SSLError as exc:
        raise InvalidDefinition.at((), f"{_FORM}, of a kind that TLS can use; OpenSSL says: {_why(exc)}") from None


_FORM = "must be a certificate, those that it is signed with if any, and its private key, all in PEM"


def _certificates(pem: str) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(pem.encode())
    except ValueError:
        raise InvalidDefinition.at((), f"{_FORM}, but no certificate can be read in it") from None


def _why(exc: ssl.SSLError) -> str:
    """OpenSSL's words for the error: a constant of its source, so they hold nothing of the value."""
    return (exc.reason or "it can't be read").replace("_", " ").lower()


def _load(context: ssl.SSLContext, pem: str) -> None:
    with _file_with(pem.encode()) as path:
        context.load_cert_chain(path, password="")  # never asks on the terminal


@contextmanager
def _file_with(content: bytes) -> Iterator[str]:
    """A path under which the content can be read while the block runs.

    OpenSSL reads client certificates from files only. The file is in memory where the system has such files, otherwise
    a temporary one with mode 0600.
    """
    descriptor, path = _in_memory() or tempfile.mkstemp()
    try:
        with os.fdopen(descriptor, "wb", closefd=False) as file:
            file.write(content)
        yield path
    finally:
        os.close(descriptor)
        if not path.startswith(_DESCRIPTORS):
            Path(path).unlink()


_DESCRIPTORS = "/proc/self/fd/"


def _in_memory() -> tuple[int, str] | None:
    """The descriptor and path of a new file in memory (Linux); None where there are none."""
    if not hasattr(os, "memfd_create"):
        return None
    descriptor = os.memfd_create("client-certificate", os.MFD_CLOEXEC)
    path = f"{_DESCRIPTORS}{descriptor}"
    if os.access(path, os.R_OK):
        return descriptor, path
    os.close(descriptor)  # without /proc it has no path
    return None
