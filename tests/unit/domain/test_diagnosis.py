"""Diagnoses: one for each way that an attempt can end."""

from __future__ import annotations

import pytest

from shared.domain.delivery.diagnosis import Credentials, diagnose
from shared.domain.delivery.outcomes import Outcome, OutcomeKind, classify_status

NETWORK, TIMEOUT, BLOCKED = OutcomeKind.NETWORK, OutcomeKind.TIMEOUT, OutcomeKind.BLOCKED
INTERNAL = OutcomeKind.INTERNAL
TLS = "the endpoint's certificate is not trusted: "
BARE = Credentials(has_access_token=False, has_signing_secret=False)


@pytest.mark.parametrize(
    ("kind", "error", "words"),
    [
        (NETWORK, "the host's name does not resolve: Name or service not known", "not found in DNS"),
        (NETWORK, "connection refused", "nothing listens"),
        (TIMEOUT, "no connection within 5 s", "firewall"),
        (TIMEOUT, "no answer within 15 s", "answer first and work afterwards"),
        (NETWORK, TLS + "certificate has expired", "renew it"),
        (NETWORK, TLS + "certificate is not yet valid", "not valid yet"),
        (NETWORK, TLS + "self-signed certificate", "self-signed"),
        (NETWORK, TLS + "self-signed certificate in certificate chain", "authority that is not trusted"),
        (NETWORK, TLS + "unable to get local issuer certificate", "intermediate certificates"),
        (NETWORK, TLS + "Hostname mismatch, certificate is not valid for 'a.example'.", "another host name"),
        (NETWORK, TLS + "IP address mismatch, certificate is not valid for '192.0.2.1'.", "another host name"),
        (NETWORK, TLS + "CRL is too old", "certificate is not trusted"),
        (NETWORK, "TLS failed: wrong version number", "does not speak TLS"),
        (NETWORK, "TLS failed: the endpoint's certificate can't be read", "not UTF-8"),
        (NETWORK, "TLS failed: unsupported protocol", "TLS 1.2 or newer"),
        (NETWORK, "TLS failed: tlsv13 alert certificate required", "name it as client_certificate"),
        (NETWORK, "TLS failed: tlsv1 alert unknown ca", "authority of the webhook's client certificate"),
        (NETWORK, "TLS failed: sslv3 alert handshake failure", "may demand a client certificate"),
        (NETWORK, "the endpoint closed the connection before it answered", "without an answer"),
        (NETWORK, "the answer broke off, or its body is not valid HTTP", "broke off"),
        (NETWORK, "the answer is not valid HTTP", "is not HTTP"),
        (NETWORK, "Network is unreachable", "no route"),
        (NETWORK, "No route to host", "no route"),
        (NETWORK, "something new", "No answer came: something new."),
        (NETWORK, None, "No answer came"),
        (BLOCKED, "10.0.0.1 is not a public address", "HOOKLINE_ALLOWED_NETWORKS"),
        (INTERNAL, "a fault in Hookline, not in the endpoint (KeyError)", "A fault in Hookline, not in the endpoint"),
        (BLOCKED, "port 25 is none that webhooks may use", "HOOKLINE_ALLOWED_PORTS"),
    ],
)
def test_a_failure_is_explained(kind: OutcomeKind, error: str | None, words: str) -> None:
    text = diagnose(Outcome(kind=kind, duration_seconds=0.1, error=error), BARE)

    assert words in text
    assert "signing secret" not in text


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (200, "It works"),
        (204, "It works"),
        (301, "redirects are not followed"),
        (308, "redirects are not followed"),
        (400, "can't read the request"),
        (401, "has no access token"),
        (403, "has no access token"),
        (404, "does not know this path"),
        (405, "takes no POST"),
        (408, "tried again"),
        (410, "disables the webhook"),
        (413, "too large"),
        (415, "application/json"),
        (418, "refuses the request (418)"),
        (422, "refuses what it says"),
        (425, "not ready"),
        (429, "asked too often"),
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
