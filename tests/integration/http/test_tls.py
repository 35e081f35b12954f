"""TLS: certificates are checked, handshakes are bounded in time, and each failure says what is wrong."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from shared.domain.delivery.outcomes import OutcomeKind
from tests.integration.http.hostile import ANSWER, Visit, answering, behaving
from tests.integration.http.sending import SOON_SECONDS, Run, gone, opened, request, send
from tests.integration.http.test_egress import resolving

Trust = Callable[[Path], None]
UNTRUSTED = "the endpoint's certificate is not trusted: "
NOW = datetime.now(UTC)


def certificate(
    folder: Path,
    *,
    address: str | None = "127.0.0.1",
    common_name: str = "hook",
    until: datetime = NOW + timedelta(days=1),
    extension: x509.UnrecognizedExtension | None = None,
) -> Path:
    """A file with a key and a certificate for an address that it signs itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(until - timedelta(days=2))
        .not_valid_after(until)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    )
    if address is not None:
        alternative = x509.SubjectAlternativeName([x509.IPAddress(IPv4Address(address))])
        builder = builder.add_extension(alternative, critical=False)
    if extension is not None:
        builder = builder.add_extension(extension, critical=False)
    made = builder.sign(key, hashes.SHA256())
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path = folder / f"{address}.pem"
    path.write_bytes(private + made.public_bytes(serialization.Encoding.PEM))
    return path


def serving(path: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    return context


@pytest.fixture
def trust(monkeypatch: pytest.MonkeyPatch) -> Trust:
    """Makes senders that are opened from now on trust a certificate, as operators with an authority of their own do."""
    return lambda path: monkeypatch.setenv("SSL_CERT_FILE", str(path))


def test_a_trusted_endpoint_is_spoken_to_over_one_connection(run: Run, tmp_path: Path, trust: Trust) -> None:
    path = certificate(tmp_path)
    trust(path)

    async def scenario() -> None:
        async with behaving(answering(ANSWER), tls=serving(path)) as endpoint:
            async with opened() as sender:
                for _ in range(3):
                    outcome = await send(sender, f"HTTPS://127.0.0.1:{endpoint.port}")
                    assert (outcome.kind, outcome.response_body) == (OutcomeKind.SUCCESS, "ok")
                assert len(endpoint.visits) == 1
            await gone(endpoint.visits[0])

    run(scenario())


def test_a_certificate_that_signs_itself_is_not_trusted_and_nothing_is_sent(run: Run, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with behaving(answering(ANSWER), tls=serving(certificate(tmp_path))) as endpoint, opened() as sender:
            outcome = await send(sender, f"https://127.0.0.1:{endpoint.port}")
            assert (outcome.kind, outcome.error) == (OutcomeKind.NETWORK, f"{UNTRUSTED}self-signed certificate")
            assert endpoint.requests == []

    run(scenario())


def test_a_certificate_for_another_address_is_not_trusted(run: Run, tmp_path: Path, trust: Trust) -> None:
    path = certificate(tmp_path, address="127.0.0.9")
    trust(path)

    async def scenario() -> None:
        async with behaving(answering(ANSWER), tls=serving(path)) as endpoint, opened() as sender:
            outcome = await send(sender, f"https://127.0.0.1:{endpoint.port}")
            mismatch = "IP address mismatch, certificate is not valid for '127.0.0.1'."
            assert (outcome.kind, outcome.error) == (OutcomeKind.NETWORK, UNTRUSTED + mismatch)
            assert endpoint.requests == []

    run(scenario())


def test_a_common_name_is_no_name_of_the_endpoint(
    run: Run, tmp_path: Path, trust: Trust, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = certificate(tmp_path, address=None, common_name="hook.example")
    trust(path)
    resolving(monkeypatch, "127.0.0.1")

    async def scenario() -> None:
        async with behaving(answering(ANSWER), tls=serving(path)) as endpoint, opened() as sender:
            outcome = await send(sender, f"https://hook.example:{endpoint.port}")
            mismatch = "Hostname mismatch, certificate is not valid for 'hook.example'."
            assert (outcome.kind, outcome.error) == (OutcomeKind.NETWORK, UNTRUSTED + mismatch)
            assert endpoint.requests == []

    run(scenario())


def test_a_certificate_that_is_over_is_not_trusted(run: Run, tmp_path: Path, trust: Trust) -> None:
    path = certificate(tmp_path, until=NOW - timedelta(hours=1))
    trust(path)

    async def scenario() -> None:
        async with behaving(answering(ANSWER), tls=serving(path)) as endpoint, opened() as sender:
            outcome = await send(sender, f"https://127.0.0.1:{endpoint.port}")
            assert (outcome.kind, outcome.error) == (OutcomeKind.NETWORK, f"{UNTRUSTED}certificate has expired")

    run(scenario())


def test_an_endpoint_that_speaks_no_tls(run: Run) -> None:
    async def says_http(visit: Visit) -> None:
        await visit.reader.read(100)
        await visit.say(ANSWER)
        await visit.until_gone()

    async def scenario() -> None:
        async with behaving(says_http) as endpoint, opened() as sender:
            outcome = await send(sender, f"https://127.0.0.1:{endpoint.port}")
            assert outcome.kind is OutcomeKind.NETWORK
            assert outcome.error is not None
            assert outcome.error.startswith("TLS failed: ")

    run(scenario())


def test_an_endpoint_that_leaves_in_the_handshake(run: Run) -> None:
    async def leaves(visit: Visit) -> None:
        await visit.reader.read(100)

    async def scenario() -> None:
        async with behaving(leaves) as endpoint, opened() as sender:
            outcome = await send(sender, f"https://127.0.0.1:{endpoint.port}")
            assert outcome.kind is OutcomeKind.NETWORK
            assert outcome.error == "the endpoint closed the connection before it answered"

    run(scenario())


@pytest.mark.parametrize(
    ("within", "connect", "error"),
    [
        (20.0, SOON_SECONDS, f"no connection within {SOON_SECONDS} s"),
        (SOON_SECONDS, 20.0, f"no answer within {SOON_SECONDS} s"),
    ],
)
def test_a_handshake_that_hangs_is_given_up(run: Run, within: float, connect: float, error: str) -> None:
    async def hangs(visit: Visit) -> None:
        await visit.until_gone()

    async def scenario() -> None:
        async with behaving(hangs) as endpoint, opened() as sender:
            outcome = await sender.send(request(f"https://127.0.0.1:{endpoint.port}", within=within, connect=connect))
            assert (outcome.kind, outcome.error) == (OutcomeKind.TIMEOUT, error)
            await gone(endpoint.visits[0])

    run(scenario())


def test_closing_does_not_wait_for_an_endpoint_that_does_not_say_good_bye(
    run: Run, tmp_path: Path, trust: Trust
) -> None:
    path = certificate(tmp_path)
    trust(path)

    async def stays(visit: Visit) -> None:
        await visit.request()
        await visit.say(ANSWER)
        await asyncio.sleep(60)

    async def scenario() -> None:
        async with behaving(stays, tls=serving(path)) as endpoint, opened() as sender:
            assert (await send(sender, f"https://127.0.0.1:{endpoint.port}")).kind is OutcomeKind.SUCCESS

    run(scenario())


def test_a_request_that_was_given_up_is_withdrawn(run: Run, tmp_path: Path, trust: Trust) -> None:
    path = certificate(tmp_path)
    trust(path)
    ends: list[object] = []

    async def behaviour(visit: Visit) -> None:
        await visit.request()
        (end,) = await asyncio.gather(visit.reader.read(1), return_exceptions=True)
        ends.append(end)

    async def scenario() -> None:
        async with behaving(behaviour, tls=serving(path)) as endpoint, opened() as sender:
            outcome = await send(sender, f"https://127.0.0.1:{endpoint.port}", within=SOON_SECONDS)
            assert outcome.kind is OutcomeKind.TIMEOUT
            await gone(endpoint.visits[0])
        assert [type(end) for end in ends] == [ConnectionResetError]

    run(scenario())


def _tagged(tag: int, content: bytes) -> bytes:
    """In DER, for what is shorter than 128 bytes."""
    return bytes([tag, len(content)]) + content


def test_a_certificate_with_text_that_is_none_is_the_endpoints_fault(run: Run, tmp_path: Path, trust: Trust) -> None:
    """Python's own reading of a certificate that OpenSSL takes fails at it, with an error that is none of TLS."""
    point = _tagged(0xA0, _tagged(0xA0, _tagged(0x86, b"http://\xff\xfe")))  # where revocations are, RFC 5280 4.2.1.13
    extension = x509.UnrecognizedExtension(x509.CRLDistributionPoints.oid, _tagged(0x30, _tagged(0x30, point)))
    path = certificate(tmp_path, extension=extension)
    trust(path)

    async def scenario() -> None:
        async with behaving(answering(ANSWER), tls=serving(path)) as endpoint, opened() as sender:
            outcome = await send(sender, f"https://127.0.0.1:{endpoint.port}")
            assert outcome.kind is OutcomeKind.NETWORK
            assert outcome.error == "TLS failed: the endpoint's certificate can't be read"
            assert endpoint.requests == []

    run(scenario())
