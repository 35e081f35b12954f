"""The receiver catches wrong tokens, wrong signatures and wrong forms, and fails on purpose when asked to."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from standardwebhooks.webhooks import Webhook

from examples.receiver import Endpoint, Receiver, request_faults

SECRET = "whsec_" + base64.b64encode(b"0123456789abcdef0123456789abcdef").decode()
OTHER = "whsec_" + base64.b64encode(b"another secret of thirty-two by!").decode()
BODY = json.dumps({"automation": "a", "event": "é"}, ensure_ascii=False).encode()
STRICT = Endpoint("/strict", access_token="t0ken", signing_secret=SECRET)
PLAIN = Endpoint("/plain")


def signed(
    raw: bytes = BODY, *, secret: str = SECRET, wandb_secret: str | None = None, age: timedelta = timedelta()
) -> dict[str, str]:
    """Headers as the service sends them, made with the reference library and openssl's arithmetic."""
    at = datetime.now(UTC) - age
    digest = hmac.new((wandb_secret or secret).encode(), raw, hashlib.sha256).digest()
    return {
        "content-type": "application/json",
        "user-agent": "hookline/1.0",
        "authorization": "Bearer t0ken",
        "webhook-id": "d1",
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": Webhook(secret).sign("d1", at.replace(microsecond=0), raw.decode()),
        "x-wandb-signature": base64.b64encode(digest).decode(),
        "hookline-attempt": "1",
    }


def test_a_right_request_has_no_fault() -> None:
    assert request_faults(STRICT, signed(), BODY) == ()


@pytest.mark.parametrize(
    ("headers", "raw", "faulty"),
    [
        pytest.param(lambda: signed() | {"authorization": "Bearer other"}, BODY, ["Authorization"], id="wrong token"),
        pytest.param(lambda: signed() | {"authorization": "t0ken"}, BODY, ["Authorization"], id="no Bearer"),
        pytest.param(
            lambda: signed(secret=OTHER, wandb_secret=SECRET), BODY, ["webhook-signature"], id="other signing secret"
        ),
        pytest.param(lambda: signed(wandb_secret=OTHER), BODY, ["X-Wandb-Signature"], id="other W&B secret"),
        pytest.param(
            signed,
            BODY.replace(b'"a"', b'"b"'),
            ["webhook-signature", "X-Wandb-Signature"],
            id="changed body",
        ),
        pytest.param(lambda: signed() | {"webhook-id": "d2"}, BODY, ["webhook-signature"], id="signed for another id"),
        pytest.param(lambda: signed() | {"webhook-signature": "v1"}, BODY, ["webhook-signature"], id="no signature"),
        pytest.param(lambda: signed(age=timedelta(hours=1)), BODY, ["webhook-signature"], id="an hour old"),
        pytest.param(lambda: signed() | {"content-type": "text/plain"}, BODY, ["Content-Type"], id="wrong type"),
        pytest.param(lambda: signed() | {"user-agent": "curl"}, BODY, ["User-Agent"], id="wrong agent"),
        pytest.param(lambda: signed() | {"hookline-attempt": "first"}, BODY, ["hookline-attempt"], id="no attempt"),
        pytest.param(lambda: signed(b"[]"), b"[]", ["body"], id="no object"),
        pytest.param(lambda: signed(b"{"), b"{", ["body"], id="no JSON"),
    ],
)
def test_a_wrong_request_is_caught(headers: Callable[[], dict[str, str]], raw: bytes, faulty: list[str]) -> None:
    assert [fault.partition(":")[0] for fault in request_faults(STRICT, headers(), raw)] == faulty


@pytest.mark.parametrize("header", ["authorization", "webhook-signature", "webhook-timestamp", "x-wandb-signature"])
def test_a_missing_credential_is_caught(header: str) -> None:
    headers = {name: value for name, value in signed().items() if name != header}
    assert len(request_faults(STRICT, headers, BODY)) == 1


def test_an_endpoint_without_a_token_must_not_get_one() -> None:
    assert [fault.partition(":")[0] for fault in request_faults(PLAIN, signed(), BODY)] == ["Authorization"]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver([STRICT, Endpoint("/flaky", fail_first=2)]) as server:
        yield server


@pytest.fixture
def client(receiver: Receiver) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"http://127.0.0.1:{receiver.port}") as opened:
        yield opened


def test_answers_by_what_it_finds_and_records_all(receiver: Receiver, client: httpx.Client) -> None:
    answers = [
        client.post("/strict", content=BODY, headers=signed()).status_code,
        client.post("/strict", content=BODY, headers=signed(secret=OTHER)).status_code,
        client.post("/strict", content=BODY, headers=signed() | {"hookline-attempt": ""}).status_code,
        client.post("/nowhere", content=BODY, headers=signed()).status_code,
    ]
    assert answers == [200, 401, 400, 404]
    records = receiver.records()
    assert [record.status for record in records] == answers
    assert [bool(record.faults) for record in records] == [False, True, True, True]
    assert (records[0].webhook_id, records[0].attempt, records[0].body) == ("d1", 1, {"automation": "a", "event": "é"})


def test_fails_the_first_attempts_of_the_first_deliveries(receiver: Receiver, client: httpx.Client) -> None:
    headers = {name: value for name, value in signed().items() if name != "authorization"}
    deliveries = ("d1", "d2", "d3", "d1", "d2")
    answers = [
        client.post("/flaky", content=BODY, headers=headers | {"webhook-id": delivery}).status_code
        for delivery in deliveries
    ]
    assert answers == [500, 500, 200, 200, 200]
    assert [record.webhook_id for record in receiver.records()] == list(deliveries)
