"""Proofs: each service's own is taken, anything else is refused with a reason for the source's owners."""

from __future__ import annotations

import base64
import hashlib
import hmac
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook

from shared.domain.errors import InvalidDefinition
from shared.domain.sources.model import PROOFS, InboundRequest, Proof, SourceKind
from shared.domain.sources.parsing import proof_of
from shared.domain.sources.proofs import unproven
from tests.unit.domain.sources.requests import NOW, SECRET, github_headers, mlflow_headers, request

BODY = b'{"a": 1}'
HMAC = {"algorithm": "sha256", "encoding": "hex", "key": "text", "tolerance_seconds": 300}


def reason(
    proof: Proof, headers: dict[str, str], query: dict[str, str] | None = None, body: bytes = BODY
) -> str | None:
    return unproven(proof, InboundRequest(headers, query or {}, body), [SECRET, "the one before it"], NOW)


def test_each_service_proves_itself_as_it_documents() -> None:
    assert reason(PROOFS[SourceKind.MLFLOW], mlflow_headers(BODY)) is None
    assert reason(PROOFS[SourceKind.GITHUB], github_headers(BODY, "push")) is None
    assert reason(PROOFS[SourceKind.GITLAB], {"x-gitlab-token": SECRET}) is None
    assert reason(PROOFS[SourceKind.HUGGING_FACE], {"x-webhook-secret": SECRET}) is None
    assert reason(PROOFS[SourceKind.EVENT_GRID], {"x-hookline-token": SECRET}) is None
    assert reason(PROOFS[SourceKind.EVENT_GRID], {}, {"code": SECRET}) is None


def test_githubs_own_example_is_verified() -> None:
    # https://docs.github.com/webhooks/using-webhooks/validating-webhook-deliveries, "Testing the webhook payload"
    signature = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
    inbound = InboundRequest({"x-hub-signature-256": signature}, {}, b"Hello, World!")
    assert unproven(PROOFS[SourceKind.GITHUB], inbound, ["It's a Secret to Everybody"], NOW) is None


SPELLED = "schl\u00fcssel-\u20ac-lang"
"""A secret beyond ASCII; a server reads the bytes of a header in Latin-1."""


def test_a_secret_beyond_ascii_is_taken_in_utf_8_and_one_in_latin_1() -> None:
    proof = PROOFS[SourceKind.GITLAB]
    sent = SPELLED.encode().decode("latin-1")
    assert unproven(proof, InboundRequest({"x-gitlab-token": sent}, {}, BODY), [SPELLED], NOW) is None
    latin = "schl\u00fcssel-lang"
    assert unproven(proof, InboundRequest({"x-gitlab-token": latin}, {}, BODY), [latin], NOW) is None
    assert unproven(proof, InboundRequest({"x-gitlab-token": "\xff\xfe"}, {}, BODY), [SPELLED], NOW) is not None


def test_an_id_beyond_ascii_is_signed_as_it_was_sent() -> None:
    proof = proof_of({"hmac": HMAC | {"header": "X-Sign", "id_header": "X-Id"}})
    digest = hmac.new(SECRET.encode(), "n\u00b0 1.".encode() + BODY, hashlib.sha256).hexdigest()
    assert reason(proof, {"x-sign": digest, "x-id": "n\u00b0 1".encode().decode("latin-1")}) is None


@pytest.mark.parametrize(
    "time", ["-1795424400", "1e9", "9" * 14, "9" * 13, "0", " ", "", "\u0661\u0662", "0x5", "1795424400.0"]
)
def test_what_is_no_time_of_now_is_refused_though_it_is_signed(time: str) -> None:
    digest = hmac.new(SECRET.encode(), f"d-1.{time}.".encode() + BODY, hashlib.sha256).digest()
    signature = "v1," + base64.b64encode(digest).decode()
    headers = {"x-mlflow-delivery-id": "d-1", "x-mlflow-timestamp": time, "x-mlflow-signature": signature}
    assert reason(PROOFS[SourceKind.MLFLOW], headers) is not None


def test_the_secret_before_is_accepted_as_well() -> None:
    before = github_headers(BODY, "push", secret="the one before it")
    assert reason(PROOFS[SourceKind.GITHUB], before) is None
    assert reason(PROOFS[SourceKind.GITLAB], {"x-gitlab-token": "the one before it"}) is None


@pytest.mark.parametrize("kind", list(PROOFS))
def test_what_is_missing_or_wrong_is_refused(kind: SourceKind) -> None:
    assert "it has no header" in str(reason(PROOFS[kind], {}))
    for value in ("", SECRET[:-1], SECRET + "x", "v1,", "sha256=", "v1,AAAA", "sha256=00", "é"):
        headers = dict.fromkeys(
            ("x-mlflow-signature", "x-hub-signature-256", "x-gitlab-token", "x-webhook-secret", "x-hookline-token"),
            value,
        )
        more = {"x-mlflow-delivery-id": "d", "x-mlflow-timestamp": str(int(NOW.timestamp()))}
        assert reason(PROOFS[kind], headers | more) is not None, value


def test_a_changed_body_id_or_time_does_not_fit_mlflows_signature() -> None:
    proof, good = PROOFS[SourceKind.MLFLOW], mlflow_headers(BODY)
    assert "does not fit" in str(reason(proof, good, body=BODY + b" "))
    for name in ("x-mlflow-delivery-id", "x-mlflow-timestamp"):
        assert "does not fit" in str(reason(proof, good | {name: "1795424401"}))


@pytest.mark.parametrize("seconds", [-301, 301, 86_400])
def test_a_replay_is_refused(seconds: int) -> None:
    headers = mlflow_headers(BODY, at=NOW + timedelta(seconds=seconds))
    assert "replay" in str(reason(PROOFS[SourceKind.MLFLOW], headers))
    assert reason(PROOFS[SourceKind.MLFLOW], mlflow_headers(BODY, at=NOW + timedelta(seconds=seconds % 290))) is None


def test_standard_webhooks_are_taken_by_a_generic_source() -> None:
    key = base64.b64encode(b"k" * 24).decode()
    stamp = str(int(NOW.timestamp()))
    signature = Webhook(f"whsec_{key}").sign("msg_1", NOW, BODY.decode())
    proof = proof_of(
        {
            "hmac": {
                **HMAC,
                "header": "Webhook-Signature",
                "prefix": "v1,",
                "encoding": "base64",
                "key": "base64",
                "id_header": "webhook-id",
                "timestamp_header": "webhook-timestamp",
            }
        }
    )
    headers = {"webhook-id": "msg_1", "webhook-timestamp": stamp, "webhook-signature": f"v1,AAAA {signature}"}
    inbound = InboundRequest(headers, {}, BODY)
    assert unproven(proof, inbound, [f"whsec_{key}"], NOW) is None
    assert inbound.delivery_id(proof) == "msg_1"


@given(
    algorithm=st.sampled_from(["sha1", "sha256", "sha384", "sha512"]),
    encoding=st.sampled_from(["hex", "base64"]),
    prefix=st.sampled_from(["", "sha=", "v0:"]),
    signed=st.sampled_from(["{body}", "{timestamp}.{body}", "v0:{timestamp}:{body}", "{body}{timestamp}{timestamp}"]),
    body=st.binary(max_size=200),
    secret=st.text(min_size=8, max_size=40),
)
def test_what_is_signed_by_the_form_is_proven_and_nothing_else(
    algorithm: str, encoding: str, prefix: str, signed: str, body: bytes, secret: str
) -> None:
    stamp = str(int(NOW.timestamp()))
    more: dict[str, Any] = {"timestamp_header": "X-Time"} if "timestamp" in signed else {}
    members = {"header": "X-Sig", "algorithm": algorithm, "encoding": encoding, "prefix": prefix, "signed": signed}
    proof = proof_of({"hmac": {**HMAC, **members, **more}})
    parts = [part.encode() for part in signed.replace("{timestamp}", stamp).split("{body}")]
    digest = hmac.new(secret.encode(), body.join(parts), algorithm).digest()
    written = digest.hex() if encoding == "hex" else base64.b64encode(digest).decode()
    headers = {"x-sig": prefix + written, "x-time": stamp}
    assert unproven(proof, InboundRequest(headers, {}, body), [secret], NOW) is None
    assert unproven(proof, InboundRequest(headers, {}, body + b"!"), [secret], NOW) is not None
    assert unproven(proof, InboundRequest(headers, {}, body), [secret + "!"], NOW) is not None


def test_basic_and_tokens_of_generic_sources() -> None:
    basic = proof_of({"basic": {"user": "ci"}})
    good = base64.b64encode(f"ci:{SECRET}".encode()).decode()
    assert reason(basic, {"authorization": f"Basic {good}"}) is None
    for wrong in (f"Bearer {good}", "Basic !", "Basic", f"Basic {base64.b64encode(SECRET.encode()).decode()}"):
        assert reason(basic, {"authorization": wrong}) is not None
    bearer = proof_of({"token": {"header": "Authorization", "prefix": "Bearer "}})
    assert reason(bearer, {"authorization": f"Bearer {SECRET}"}) is None
    assert reason(bearer, {"authorization": SECRET}) is not None
    query = proof_of({"token": {"query": "token"}})
    assert reason(query, {}, {"token": SECRET}) is None
    assert reason(query, {"token": SECRET}) == "it has no parameter token in the URL"
    with pytest.raises(InvalidDefinition, match="a header or a query"):
        proof_of({"token": {"prefix": "Bearer "}})


def test_a_reason_never_holds_a_secret_nor_what_was_sent() -> None:
    for kind, proof in PROOFS.items():
        for value in ("what-the-stranger-sent", f"sha256={'0' * 64}"):
            headers = dict.fromkeys(("x-mlflow-signature", "x-hub-signature-256", "x-gitlab-token"), value)
            told = str(reason(proof, headers))
            assert SECRET not in told, kind
            assert "stranger" not in told, kind


def test_a_body_without_an_id_is_known_by_its_digest() -> None:
    first = request({"a": 1}, github_headers(b"", "push", delivery="one"))
    again = request({"a": 1}, github_headers(b"", "push", delivery="another"))
    assert first.delivery_id(PROOFS[SourceKind.GITHUB]) == again.delivery_id(PROOFS[SourceKind.GITHUB])
    assert first.digest == hashlib.sha256(first.body).hexdigest()[:32]
