"""New signing secrets, two keys at a time, and the forms of `X-Wandb-Signature`."""

from __future__ import annotations

import base64
import hashlib
import hmac
from datetime import UTC, datetime, timedelta

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from shared.domain.delivery.signing import FormerKey, Signer, WandbSignature, check_new_signing_secret
from shared.domain.errors import InvalidDefinition

RAW = "0123456789abcdef0123456789abcdef"
WHSEC = "whsec_" + base64.b64encode(RAW.encode()).decode()
OTHER = "whsec_" + base64.b64encode(b"another key of thirty-two bytes!").decode()
BODY = b'{"a":1}'


def signed(signer: Signer, at: datetime) -> dict[str, str]:
    return signer.headers(message_id="dlv_1", timestamp=at, body=BODY)


def accepts(secret: str, headers: dict[str, str]) -> bool:
    try:
        Webhook(secret).verify(BODY, headers)
    except WebhookVerificationError:
        return False
    return True


def test_both_keys_sign_until_the_time_and_then_the_new_one_alone() -> None:
    now = datetime.now(UTC)
    signer = Signer(WHSEC, former=FormerKey(OTHER, now))
    before, after = signed(signer, now - timedelta(seconds=1)), signed(signer, now)
    assert [accepts(one, before) for one in (WHSEC, OTHER)] == [True, True]
    assert [accepts(one, after) for one in (WHSEC, OTHER)] == [True, False]
    assert before["webhook-signature"].count("v1,") == 2
    assert after["webhook-signature"] == signed(Signer(WHSEC), now)["webhook-signature"]
    assert before["X-Wandb-Signature"] == after["X-Wandb-Signature"], "it has room for one: the new secret's"


def test_the_wandb_signature_is_base64_or_hex_of_the_same() -> None:
    digest = hmac.new(WHSEC.encode(), BODY, hashlib.sha256)
    now = datetime.now(UTC)
    assert signed(Signer(WHSEC), now)["X-Wandb-Signature"] == base64.b64encode(digest.digest()).decode()
    hexadecimal = signed(Signer(WHSEC, wandb=WandbSignature.HEX), now)
    assert hexadecimal["X-Wandb-Signature"] == digest.hexdigest()
    assert accepts(WHSEC, hexadecimal)


@pytest.mark.parametrize("secret", [RAW, WHSEC, "whsec_" + base64.b64encode(b"x" * 24).decode(), "x" * 24, "é" * 12])
def test_a_fit_secret_is_taken(secret: str) -> None:
    check_new_signing_secret(secret)


@pytest.mark.parametrize(
    ("secret", "words"),
    [
        (f"{RAW}\n", "white space or a line break"),
        (f" {WHSEC}", "white space or a line break"),
        (f"{WHSEC}\r\n", "white space or a line break"),
        (f"v1,{WHSEC}", "leave out what stands before it, such as 'v1,'"),
        (f"\ufeff{RAW}", "white space or a line break"),
        (f"{RAW}\u200b", "white space or a line break"),
        (WHSEC.replace("whsec_", "WHSEC_"), "in small letters"),
        ("Whsk_" + base64.b64encode(b"x" * 64).decode(), "ed25519"),
        (f'"{WHSEC}"', "leave out what stands before it"),
        ("whsk_" + base64.b64encode(b"x" * 64).decode(), "ed25519"),
        ("whpk_" + base64.b64encode(b"x" * 32).decode(), "ed25519"),
        ("x", "at least 24 bytes"),
        ("x" * 23, "at least 24 bytes"),
        ("whsec_" + base64.b64encode(b"x" * 23).decode(), "at least 24 bytes"),
        ("whsec_!!", "standard base64"),
    ],
)
def test_a_secret_that_is_nearly_one_is_refused_without_being_repeated(secret: str, words: str) -> None:
    with pytest.raises(InvalidDefinition) as refusal:
        check_new_signing_secret(secret)
    assert words in str(refusal.value)
    assert len(secret) < 5 or secret.strip()[6:] not in str(refusal.value)


def test_nothing_shows_a_former_key() -> None:
    assert OTHER not in repr(FormerKey(OTHER, datetime.now(UTC)))
