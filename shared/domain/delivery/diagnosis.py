"""Diagnoses: the meaning of an attempt's outcome in plain words for an endpoint's owner, and what to do about it.

Goes by the outcome's kind, status and cause, never by the text of its error. Must not show anything that an endpoint
sent.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from shared.domain.delivery.outcomes import FailureCause, Outcome, OutcomeKind
from shared.domain.delivery.retries import GONE, DeliveryPolicy, is_retried


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """The ways in which a webhook's requests are authenticated."""

    has_access_token: bool
    has_signing_secret: bool
    has_basic: bool = False
    has_headers: bool = False

    @property
    def words(self) -> str | None:
        """What the endpoint may check besides the signature, in words; None for nothing."""
        if self.has_access_token:
            return "access token"
        if self.has_basic:
            return "user and password"
        return "headers" if self.has_headers else None


class DiagnosisCode(StrEnum):
    """The diagnosis as a code, for programs. A request without an answer has a `FailureCause`, or one of the last."""

    ACCEPTED = "accepted"
    #: The webhook's success rule does not take the answer.
    UNSUCCESSFUL = "unsuccessful"
    REDIRECTED = "redirected"
    #: 401 or 403, to a request with the webhook's access token, password or own headers.
    TOKEN_REFUSED = "token_refused"  # noqa: S105
    #: 401 or 403, and the webhook has none of these.
    TOKEN_MISSING = "token_missing"  # noqa: S105
    MALFORMED = "malformed"
    PATH_NOT_FOUND = "path_not_found"
    POST_NOT_ALLOWED = "post_not_allowed"
    GONE = "gone"
    TOO_LARGE = "too_large"
    MEDIA_TYPE_REFUSED = "media_type_refused"
    CONTENT_REFUSED = "content_refused"
    #: 429, or a 403 that says when to come back.
    TOO_MANY_REQUESTS = "too_many_requests"
    #: Any other 4xx.
    REFUSED = "refused"
    OVERLOADED = "overloaded"
    #: Any other 5xx.
    ENDPOINT_FAILED = "endpoint_failed"
    #: The guard let nothing out.
    BLOCKED = "blocked"
    #: Hookline itself failed.
    INTERNAL = "internal"
    #: No answer, for no known cause.
    NO_ANSWER = "no_answer"


_CODES = {
    400: DiagnosisCode.MALFORMED,
    404: DiagnosisCode.PATH_NOT_FOUND,
    405: DiagnosisCode.POST_NOT_ALLOWED,
    410: DiagnosisCode.GONE,
    413: DiagnosisCode.TOO_LARGE,
    415: DiagnosisCode.MEDIA_TYPE_REFUSED,
    422: DiagnosisCode.CONTENT_REFUSED,
    429: DiagnosisCode.TOO_MANY_REQUESTS,
    503: DiagnosisCode.OVERLOADED,
}


def diagnosis_code(outcome: Outcome, credentials: Credentials) -> DiagnosisCode | FailureCause:
    """The code of the diagnosis that `diagnose` gives in words."""
    status = outcome.status
    if status is None:
        if outcome.kind is OutcomeKind.BLOCKED:
            return DiagnosisCode.BLOCKED
        if outcome.kind is OutcomeKind.INTERNAL:
            return DiagnosisCode.INTERNAL
        return outcome.cause or DiagnosisCode.NO_ANSWER
    if outcome.kind is OutcomeKind.UNSUCCESSFUL:
        return DiagnosisCode.UNSUCCESSFUL
    if outcome.kind is OutcomeKind.SUCCESS:
        return DiagnosisCode.ACCEPTED
    if status == 403 and outcome.retry_after_seconds is not None:
        return DiagnosisCode.TOO_MANY_REQUESTS
    if status in (401, 403):
        return DiagnosisCode.TOKEN_REFUSED if credentials.words else DiagnosisCode.TOKEN_MISSING
    if status in _CODES:
        return _CODES[status]
    if 300 <= status < 400:
        return DiagnosisCode.REDIRECTED
    return DiagnosisCode.REFUSED if 400 <= status < 500 else DiagnosisCode.ENDPOINT_FAILED


_SIGNED = "The request was signed with the webhook's signing secret; the endpoint should verify the signature."
_UNSIGNED = "No signing secret is configured, so the endpoint can't tell these requests from forged ones."

_NO_PROXY = "Where only a proxy leads outside, an operator of Hookline can set HOOKLINE_EGRESS_PROXY."

_ADVICE: dict[FailureCause, str] = {
    FailureCause.NAME_NOT_RESOLVED: f"The host's name is not found in DNS: check its spelling in the URL. {_NO_PROXY}",
    FailureCause.CONNECTION_REFUSED: "The host is there, but nothing listens on the port: check the port, and whether "
    "the endpoint runs.",
    FailureCause.NO_ROUTE: "There is no route to the host: check the address, and the network of Hookline's hosts. "
    f"{_NO_PROXY}",
    FailureCause.CONNECT_TIMEOUT: "The host did not accept the connection in time: check the address and port, and "
    f"whether a firewall drops it. {_NO_PROXY}",
    FailureCause.RESPONSE_TIMEOUT: "The endpoint accepted the request but did not answer in time: let it answer first "
    "and work afterwards, or raise the policy's timeout_seconds.",
    FailureCause.CERTIFICATE_EXPIRED: "The endpoint's TLS certificate has expired: renew it.",
    FailureCause.CERTIFICATE_NOT_YET_VALID: "The endpoint's TLS certificate is not valid yet: check its dates and the "
    "host's clock.",
    FailureCause.CERTIFICATE_SELF_SIGNED: "The endpoint's TLS certificate is self-signed, or signed by an authority "
    "that is not trusted: use one of a public authority, or have yours added to HOOKLINE_CA_BUNDLE.",
    FailureCause.CERTIFICATE_CHAIN_INCOMPLETE: "The endpoint's TLS certificate can't be traced to a trusted authority: "
    "let the endpoint send its intermediate certificates as well.",
    FailureCause.CERTIFICATE_HOST_MISMATCH: "The endpoint's TLS certificate is for another host name: use a URL with "
    "the name in it, or another certificate.",
    FailureCause.CERTIFICATE_UNTRUSTED: "The endpoint's TLS certificate is not trusted.",
    FailureCause.CERTIFICATE_UNREADABLE: "The endpoint's TLS certificate has text in it that is not UTF-8: use "
    "another.",
    FailureCause.NOT_TLS: "The port does not speak TLS: check the port, or whether the URL should begin with http:.",
    FailureCause.CLIENT_CERTIFICATE_REQUIRED: "The endpoint requires a client certificate: put one into "
    "a secret, and name it as client_certificate.",
    FailureCause.CLIENT_CERTIFICATE_UNTRUSTED: "The endpoint does not know the authority of the webhook's client "
    "certificate: check the secret's value, which must hold the intermediate certificates as well.",
    FailureCause.TLS_REFUSED: "The endpoint refused the TLS connection: it may demand a client certificate "
    "(client_certificate).",
    FailureCause.TLS_FAILED: "No TLS connection could be agreed on: the endpoint needs TLS 1.2 or newer.",
    FailureCause.CONNECTION_CLOSED: "The endpoint closed the connection without an answer: check its log, and "
    "check that the port is an HTTP one (https: for TLS), and whether it demands a client certificate "
    "(client_certificate).",
    FailureCause.RESPONSE_INCOMPLETE: "The answer broke off: check the endpoint's log.",
    FailureCause.NOT_HTTP: "The answer is not HTTP: check the port.",
    FailureCause.PROXY_UNREACHABLE: "Hookline's egress proxy can't be used, so nothing reached the endpoint: an "
    "operator of Hookline should check HOOKLINE_EGRESS_PROXY and the proxy.",
    FailureCause.PROXY_REFUSED: "Hookline's egress proxy let nothing through to the endpoint: its rules may forbid "
    "host or port, the password in HOOKLINE_EGRESS_PROXY may be wrong, or the proxy could not reach the endpoint. Its "
    "log says which.",
}
"""Each cause in the words of an endpoint's owner, with advice."""

_STATUSES = {
    400: "The endpoint cannot read the request (400): compare the payload with what it expects.",
    402: "The endpoint requires payment first (402).",
    404: "The endpoint does not know this path (404): check the path of the URL. Some services answer 404 to a token "
    "without access.",
    405: "The endpoint accepts no POST at this path (405): check the path of the URL.",
    406: "The endpoint cannot answer in a requested format (406).",
    408: "The endpoint timed out before it had the request (408).",
    410: "The endpoint says that it is permanently gone (410).",
    411: "The endpoint does not accept the request's framing (411).",
    413: "The payload is too large for the endpoint (413): send less.",
    415: "The endpoint does not accept application/json (415): check that the URL is that of a JSON webhook.",
    422: "The endpoint read the payload and refuses its content (422): compare it with what it expects.",
    425: "The endpoint is not ready for the request yet (425).",
    429: "The endpoint gets too many requests (429).",
    503: "The endpoint is overloaded or under maintenance (503).",
}


def diagnose(outcome: Outcome, credentials: Credentials, policy: DeliveryPolicy | None = None) -> str:
    """Sentences: what the outcome means, what to do about it, what a delivery would do, how the request was signed.

    `policy` is the webhook's; None stands for the default one.
    """
    signed = _SIGNED if credentials.has_signing_secret else _UNSIGNED
    if outcome.status is None:
        return _without_answer(outcome)
    parts = [_answered(outcome, outcome.status, credentials), _consequence(outcome, policy or DeliveryPolicy()), signed]
    return " ".join(part for part in parts if part)


def _consequence(outcome: Outcome, policy: DeliveryPolicy) -> str:
    """What follows for a delivery, where that does not go without saying."""
    if outcome.kind is OutcomeKind.SUCCESS:
        return ""
    if not is_retried(policy, outcome):
        return "A delivery's 410 disables the webhook." if outcome.status == GONE else ""
    if outcome.retry_after_seconds is None:
        return "A delivery is retried."
    return f"A delivery is retried, not before the {outcome.retry_after_seconds:.0f} s that the endpoint asks for."


def _without_answer(outcome: Outcome) -> str:
    error = outcome.error or "the request failed"
    if outcome.kind is OutcomeKind.BLOCKED:
        return (
            f"Nothing was sent: {error}. An operator of Hookline can allow a network with HOOKLINE_ALLOWED_NETWORKS, a "
            "port with HOOKLINE_ALLOWED_PORTS, and plain http with HOOKLINE_ALLOW_HTTP."
        )
    if outcome.kind is OutcomeKind.INTERNAL:
        return f"{error[:1].upper()}{error[1:]}: try again, and report it to Hookline's operators; the log says more."
    text = f"No answer came: {error}." if outcome.cause is None else _ADVICE[outcome.cause]
    if outcome.proxy is None:
        return text
    return f"{text.removesuffix(_NO_PROXY).rstrip()} The request went through the egress proxy {outcome.proxy}."


def _answered(outcome: Outcome, status: int, credentials: Credentials) -> str:
    if outcome.kind is OutcomeKind.SUCCESS:
        return f"It works: the endpoint accepted the request ({status})."
    if outcome.kind is OutcomeKind.UNSUCCESSFUL:
        return f"The endpoint answered {status}, and this is no success: {outcome.error}."
    if 300 <= status < 400:
        return (
            f"The endpoint redirects ({status}), and Hookline follows no redirects: use the URL that it redirects to."
        )
    if status == 403 and outcome.retry_after_seconds is not None:
        return "The endpoint gets too many requests, and says when to come back (403)."
    if status in (401, 403):
        return _unauthorized(status, credentials)
    if status in _STATUSES:
        return _STATUSES[status]
    if 400 <= status < 500:
        return f"The endpoint refuses the request ({status}): its answer may say why."
    return f"The endpoint failed ({status}): check its log."


def _unauthorized(status: int, credentials: Credentials) -> str:
    if credentials.has_access_token:
        return (
            f"The endpoint does not accept the webhook's access token ({status}): check the secret's value, and that "
            "the token has not expired and may do this."
        )
    if credentials.words is not None:
        return f"The endpoint does not accept the webhook's {credentials.words} ({status}): check the secrets' values."
    return (
        f"The endpoint requires authentication ({status}), and the webhook has no access token: put the token into a "
        "secret, and name it as access_token, in basic, or in headers, as the endpoint asks for it."
    )
