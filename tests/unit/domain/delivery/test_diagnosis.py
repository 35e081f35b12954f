"""Diagnoses: one for each way that an attempt can end."""

from __future__ import annotations

import pytest

from shared.domain.delivery.diagnosis import Credentials, diagnose, diagnosis_code
from shared.domain.delivery.outcomes import FailureCause, Outcome, OutcomeKind, classify_status
from shared.domain.delivery.retries import DeliveryPolicy

BARE = Credentials(has_access_token=False, has_signing_secret=False)


@pytest.mark.parametrize(
    ("cause", "words"),
    [
        (FailureCause.NAME_NOT_RESOLVED, "not found in DNS"),
        (FailureCause.CONNECTION_REFUSED, "nothing listens"),
        (FailureCause.NO_ROUTE, "no route"),
        (FailureCause.CONNECT_TIMEOUT, "firewall"),
        (FailureCause.RESPONSE_TIMEOUT, "answer first and work afterwards"),
        (FailureCause.CERTIFICATE_EXPIRED, "renew it"),
        (FailureCause.CERTIFICATE_NOT_YET_VALID, "not valid yet"),
        (FailureCause.CERTIFICATE_SELF_SIGNED, "authority that is not trusted"),
        (FailureCause.CERTIFICATE_CHAIN_INCOMPLETE, "intermediate certificates"),
        (FailureCause.CERTIFICATE_HOST_MISMATCH, "another host name"),
        (FailureCause.CERTIFICATE_UNTRUSTED, "certificate is not trusted"),
        (FailureCause.CERTIFICATE_UNREADABLE, "not UTF-8"),
        (FailureCause.NOT_TLS, "does not speak TLS"),
        (FailureCause.CLIENT_CERTIFICATE_REQUIRED, "name it as client_certificate"),
        (FailureCause.CLIENT_CERTIFICATE_UNTRUSTED, "authority of the webhook's client certificate"),
        (FailureCause.TLS_REFUSED, "may demand a client certificate"),
        (FailureCause.TLS_FAILED, "TLS 1.2 or newer"),
        (FailureCause.CONNECTION_CLOSED, "without an answer"),
        (FailureCause.RESPONSE_INCOMPLETE, "broke off"),
        (FailureCause.NOT_HTTP, "is not HTTP"),
        (FailureCause.PROXY_UNREACHABLE, "check HOOKLINE_EGRESS_PROXY and the proxy"),
        (FailureCause.PROXY_REFUSED, "its rules may forbid"),
    ],
)
def test_a_failure_is_explained_by_its_cause_whatever_its_words(cause: FailureCause, words: str) -> None:
    outcome = Outcome(kind=OutcomeKind.NETWORK, duration_seconds=0.1, error="other words", cause=cause)
    text = diagnose(outcome, BARE)

    assert words in text
    assert "other words" not in text
    assert "signing secret" not in text


def test_every_cause_has_an_explanation_of_its_own() -> None:
    texts = {
        diagnose(Outcome(kind=OutcomeKind.NETWORK, duration_seconds=0.1, cause=cause), BARE) for cause in FailureCause
    }

    assert len(texts) == len(FailureCause)


@pytest.mark.parametrize(
    ("kind", "error", "words"),
    [
        (OutcomeKind.NETWORK, "connection refused", "No answer came: connection refused."),
        (OutcomeKind.NETWORK, None, "No answer came"),
        (OutcomeKind.BLOCKED, "10.0.0.1 is not a public address", "HOOKLINE_ALLOWED_NETWORKS"),
        (OutcomeKind.BLOCKED, "port 25 is none that webhooks may use", "HOOKLINE_ALLOWED_PORTS"),
        (
            OutcomeKind.INTERNAL,
            "a fault in Hookline, not in the endpoint (KeyError)",
            "A fault in Hookline, not in the endpoint",
        ),
    ],
)
def test_a_failure_without_a_cause_is_told_by_its_kind(kind: OutcomeKind, error: str | None, words: str) -> None:
    text = diagnose(Outcome(kind=kind, duration_seconds=0.1, error=error), BARE)

    assert words in text
    assert "signing secret" not in text


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (200, "It works"),
        (204, "It works"),
        (301, "follows no redirects"),
        (308, "follows no redirects"),
        (400, "cannot read the request"),
        (401, "has no access token"),
        (403, "has no access token"),
        (404, "does not know this path"),
        (405, "accepts no POST"),
        (408, "is retried"),
        (410, "disables the webhook"),
        (413, "too large"),
        (415, "application/json"),
        (418, "refuses the request (418)"),
        (422, "refuses its content"),
        (425, "not ready"),
        (429, "too many requests"),
        (500, "failed (500)"),
        (503, "overloaded"),
        (599, "failed (599)"),
        (999, "failed (999)"),
    ],
)
def test_an_answer_is_explained(status: int, words: str) -> None:
    text = diagnose(Outcome(kind=classify_status(status), duration_seconds=0.1, status=status), BARE)

    assert words in text
    assert str(status) in text
    assert "No signing secret is configured" in text


@pytest.mark.parametrize("status", [401, 403])
def test_what_is_configured_is_said(status: int) -> None:
    outcome = Outcome(kind=OutcomeKind.CLIENT_ERROR, duration_seconds=0.1, status=status)
    text = diagnose(outcome, Credentials(has_access_token=True, has_signing_secret=True))

    assert "does not accept the webhook's access token" in text
    assert "was signed with the webhook's signing secret" in text


def test_a_403_that_says_when_to_come_back_does_not_blame_the_token() -> None:
    outcome = Outcome(kind=OutcomeKind.CLIENT_ERROR, duration_seconds=0.1, status=403, retry_after_seconds=20)
    credentials = Credentials(has_access_token=True, has_signing_secret=False)
    text = diagnose(outcome, credentials)
    assert "too many requests" in text
    assert "retried, not before the 20 s that the endpoint asks for" in text
    assert "token" not in text
    assert diagnosis_code(outcome, credentials) == "too_many_requests"


def test_an_answer_against_the_success_rule_is_no_success() -> None:
    outcome = Outcome(kind=OutcomeKind.UNSUCCESSFUL, duration_seconds=0.1, status=200, error="its body is wrong")
    text = diagnose(outcome, BARE)
    assert "answered 200, and this is no success: its body is wrong." in text
    assert "A delivery is retried." in text
    assert "It works" not in text
    assert diagnosis_code(outcome, BARE) == "unsuccessful"


@pytest.mark.parametrize(
    ("status", "retried", "is_told"), [(404, (404,), True), (404, (), False), (500, (), False), (410, (410,), True)]
)
def test_whether_a_delivery_is_retried_goes_by_the_policy(
    status: int, retried: tuple[int | str, ...], is_told: bool
) -> None:
    outcome = Outcome(kind=classify_status(status), duration_seconds=0.1, status=status)
    text = diagnose(outcome, BARE, DeliveryPolicy(retried_statuses=retried))
    assert ("A delivery is retried" in text) is is_told
    assert "disables" not in text


def test_a_status_that_the_rule_takes_works() -> None:
    outcome = Outcome(kind=OutcomeKind.SUCCESS, duration_seconds=0.1, status=409)
    assert diagnose(outcome, BARE).startswith("It works: the endpoint accepted the request (409).")
    assert diagnosis_code(outcome, BARE) == "accepted"
