"""Signatures, checked by the verifier that receivers use and by figures from openssl."""

from __future__ import annotations

import base64
import hashlib
import hmac
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from standardwebhooks import Webhook, WebhookVerificationError

from shared.domain.delivery.signing import Signer, check_signing_secret, signature_headers, unsigned_headers
from shared.domain.errors import InvalidDefinition

WHSEC = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
AT = datetime(2026, 11, 23, 9, 0, tzinfo=UTC)
SECRETS = st.one_of(
    st.text(st.characters(codec="utf-8"), min_size=1).filter(lambda text: not text.startswith("whsec_")),
    st.binary(min_size=1, max_size=64).map(lambda key: "whsec_" + base64.b64encode(key).decode()),
)


def verifier(secret: str) -> Webhook:
    """As a receiver sets it up: the `whsec_` form as text, any other as the key's bytes."""
    return Webhook(secret if secret.startswith("whsec_") else secret.encode())


@settings(max_examples=60)
@given(secret=SECRETS, body=st.text(st.characters(codec="utf-8")).map(str.encode))
def test_the_standard_verifier_accepts_and_notices_changes(secret: str, body: bytes) -> None:
    headers = signature_headers(message_id="dlv_1", timestamp=datetime.now(UTC), body=body, secret=secret)
    verifier(secret).verify(body, headers, json_parse=False)
    with pytest.raises(WebhookVerificationError):
        verifier(secret).verify(body + b" ", headers, json_parse=False)
    with pytest.raises(WebhookVerificationError):
        verifier(secret).verify(body, headers | {"webhook-id": "dlv_2"}, json_parse=False)
    with pytest.raises(WebhookVerificationError):
        verifier("another").verify(body, headers, json_parse=False)


def test_the_published_vector_of_standard_webhooks() -> None:
    headers = signature_headers(
        message_id="msg_p5jXN8AQM9LWM0D4loKWxJek",
        timestamp=datetime.fromtimestamp(1614265330, UTC),
        body=b'{"test": 2432232314}',
        secret=WHSEC,
    )
    assert headers["webhook-timestamp"] == "1614265330"
    assert headers["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_the_wandb_signature_is_what_openssl_computes() -> None:
    """printf '%s' '{"event":"añb","n":1}' | openssl dgst -sha256 -hmac "$SECRET" -binary | base64"""
    body = '{"event":"añb","n":1}'.encode()
    headers = signature_headers(message_id="m", timestamp=AT, body=body, secret=WHSEC)
    assert headers["X-Wandb-Signature"] == "FJ2eg2puzZJToGNt4cNeM4C8S5XA1O3hpx3t8j80rG0="


@settings(max_examples=40)
@given(secret=SECRETS, body=st.text(st.characters(codec="utf-8")).map(str.encode))
def test_the_wandb_signature_is_under_the_whole_secret(secret: str, body: bytes) -> None:
    expected = base64.b64encode(hmac.new(secret.encode(), body, hashlib.sha256).digest()).decode()
    headers = Signer(secret).headers(message_id="m", timestamp=AT, body=body)
    assert headers["X-Wandb-Signature"] == expected


@pytest.mark.parametrize("hours", [-8, 0, 5.5])
def test_the_zone_of_a_timestamp_changes_nothing(hours: float) -> None:
    local = AT.astimezone(timezone(timedelta(hours=hours)))
    signer = Signer("key")
    expected = signer.headers(message_id="m", timestamp=AT, body=b"{}")
    assert signer.headers(message_id="m", timestamp=local, body=b"{}") == expected


def test_unsigned_headers_are_part_of_the_signed() -> None:
    late = AT + timedelta(microseconds=999_999)
    unsigned = unsigned_headers(message_id="dlv_1", timestamp=late)
    signed = signature_headers(message_id="dlv_1", timestamp=late, body=b"{}", secret=WHSEC)
    assert unsigned == {"webhook-id": "dlv_1", "webhook-timestamp": str(int(AT.timestamp()))}
    assert signed.items() > unsigned.items()
    assert set(signed) - set(unsigned) == {"webhook-signature", "X-Wandb-Signature"}


def test_a_timestamp_without_a_zone_is_refused() -> None:
    naive = AT.replace(tzinfo=None)
    with pytest.raises(ValueError, match="time zone"):
        unsigned_headers(message_id="m", timestamp=naive)
    with pytest.raises(ValueError, match="time zone"):
        Signer("key").headers(message_id="m", timestamp=naive, body=b"{}")


@pytest.mark.parametrize("secret", [WHSEC, "whsec_YWI", "whsec_YWI=", "k", "hünter", "WHSEC_x", " whsec_!"])
def test_a_usable_secret_is_accepted(secret: str) -> None:
    check_signing_secret(secret)


@pytest.mark.parametrize(
    ("secret", "accepted"),
    [
        ("", "must not be empty"),
        ("whsec_", "must not be empty"),
        ("whsec_!!not-base64!!", "standard base64"),
        ("whsec_YWJj\n", "standard base64"),
        ("whsec_YWJj-_", "standard base64"),
        ("whsec_YWJjZ", "standard base64"),
        ("whsec_====", "standard base64"),
        ("whsec_ü", "standard base64"),
        ("whsec_\ud800", "standard base64"),
        ("hidden\ud800", "valid Unicode"),
    ],
)
def test_an_unusable_secret_is_refused_without_being_shown(secret: str, accepted: str) -> None:
    for refuse in (check_signing_secret, Signer):
        with pytest.raises(InvalidDefinition, match=accepted) as refusal:
            refuse(secret)
        shown = secret.removeprefix("whsec_")
        assert not shown or shown not in str(refusal.value)


def test_a_signer_does_not_show_its_secret() -> None:
    assert "key-of-acme" not in repr(Signer("key-of-acme"))
