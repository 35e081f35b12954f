"""Client certificates: what is accepted, where keys are while they are loaded, and who shares a context."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from shared.domain.errors import EndpointUnusable, InvalidDefinition
from shared.http import tls
from shared.http.tls import TlsContexts, check_client_certificate
from shared.settings import load_settings
from tests.authority import Authority

AUTHORITY = Authority()
ONE, TWO = AUTHORITY.issue("one"), AUTHORITY.issue("two")


def encrypted(key: str) -> str:
    private = load_pem_private_key(key.encode(), None)
    return private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x")).decode()


ACCEPTED = {
    "certificate, key": ONE.pem,
    "key, certificate": ONE.key + ONE.certificate,
    "chain": ONE.certificate + AUTHORITY.pem + ONE.key,
    "with words between": f"Bag Attributes\n{ONE.certificate}\nissuer=x\n{ONE.key}\n",
    "with the line ends of Windows": ONE.pem.replace("\n", "\r\n"),
}
REFUSED = {
    "nothing": ("", "no certificate can be read"),
    "other text": ("s3cret", "no certificate can be read"),
    "a key alone": (ONE.key, "no certificate can be read"),
    "a certificate alone": (ONE.certificate, "no private key can be read"),
    "another's key": (ONE.certificate + TWO.key, "does not belong to the first certificate"),
    "a chain the wrong way round": (AUTHORITY.pem + ONE.pem, "does not belong to the first certificate"),
    "an encrypted key": (ONE.certificate + encrypted(ONE.key), "must have an unencrypted private key"),
    "a cut certificate": (ONE.certificate[:200] + ONE.key, "can be read"),
    "a cut key": (ONE.certificate + ONE.key[:60], "no private key can be read"),
    "a key that is too small": (AUTHORITY.issue_weak("weak").pem, "OpenSSL says: ee key too small"),
    "no ASCII": (ONE.pem.replace("A", "Ä"), "can be read"),
}


@pytest.mark.parametrize("pem", ACCEPTED.values(), ids=ACCEPTED)
def test_a_certificate_with_its_key_is_accepted_and_can_be_used(pem: str) -> None:
    check_client_certificate(pem)
    TlsContexts(load_settings()).with_certificate(1, pem)


@pytest.mark.parametrize(("pem", "message"), REFUSED.values(), ids=REFUSED)
def test_anything_else_is_refused_without_being_repeated(pem: str, message: str) -> None:
    with pytest.raises(InvalidDefinition) as caught:
        check_client_certificate(pem)
    (error,) = caught.value.errors
    assert message in error.msg
    assert not any(line in error.msg for line in pem.splitlines() if line.strip())


def test_what_this_hosts_openssl_refuses_is_told_in_its_words_and_without_the_value() -> None:
    weak = AUTHORITY.issue_weak("weak")
    with pytest.raises(EndpointUnusable) as caught:
        TlsContexts(load_settings()).with_certificate(1, weak.pem)
    assert str(caught.value) == "the client certificate can't be used in TLS: ee key too small"
    assert caught.value.__cause__ is None and caught.value.__suppress_context__


def test_each_webhook_has_a_context_of_its_own() -> None:
    contexts = TlsContexts(load_settings())
    first = contexts.with_certificate(1, ONE.pem)
    assert contexts.with_certificate(1, ONE.pem) is first
    assert (
        len({first, contexts.with_certificate(2, ONE.pem), contexts.with_certificate(1, TWO.pem), contexts.anonymous})
        == 4
    )


def test_no_more_contexts_are_kept_than_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tls, "MAX_IDENTITIES", 2)
    contexts = TlsContexts(load_settings())
    first = contexts.with_certificate(1, ONE.pem)
    second = contexts.with_certificate(2, ONE.pem)
    assert contexts.with_certificate(1, ONE.pem) is first
    contexts.with_certificate(3, ONE.pem)
    assert contexts.with_certificate(1, ONE.pem) is first
    assert contexts.with_certificate(2, ONE.pem) is not second


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_a_key_is_never_in_a_file_that_others_may_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    contexts, before, seen = TlsContexts(load_settings()), descriptors(), list[tuple[str, int]]()
    load = tls._file_with

    @contextmanager
    def watched(content: bytes) -> Iterator[str]:
        with load(content) as path:
            seen.append((path, stat.S_IMODE(Path(path).stat().st_mode)))
            yield path

    monkeypatch.setattr(tls, "_file_with", watched)
    contexts.with_certificate(1, ONE.pem)
    assert list(tmp_path.iterdir()) == []
    monkeypatch.delattr(os, "memfd_create", raising=False)
    contexts.with_certificate(2, ONE.pem)
    assert seen[-1] == (seen[-1][0], 0o600)
    assert Path(seen[-1][0]).parent == tmp_path
    with pytest.raises(EndpointUnusable):
        contexts.with_certificate(3, ONE.certificate)
    assert list(tmp_path.iterdir()) == []
    assert descriptors() == before


def test_authorities_of_the_bundle_come_on_top_of_the_systems(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    system, own = Authority("System"), Authority("Own")
    (tmp_path / "system.pem").write_text(system.pem)
    (tmp_path / "own.pem").write_text(f"# ours\n{own.pem}")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "system.pem"))
    contexts = TlsContexts(load_settings(ca_bundle=str(tmp_path / "own.pem")))
    (tmp_path / "own.pem").unlink()  # read once: what is running needs it no more
    for context in (contexts.anonymous, contexts.with_certificate(1, ONE.pem)):
        subjects = str([known["subject"] for known in context.get_ca_certs()])
        assert "'System'" in subjects
        assert "'Own'" in subjects
