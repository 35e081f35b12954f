"""The outcome of one attempt, as a value: an endpoint that answers 500 is an outcome, not an error.

Reads answers; must not decide what to do about them, which is `shared.domain.delivery.retries`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from shared.domain.delivery.exchange import Exchange


class OutcomeKind(StrEnum):
    """How an attempt ended; the label of `hookline_attempts_total`."""

    #: The endpoint took it.
    SUCCESS = "2xx"
    #: It redirected; redirects are not followed.
    REDIRECTION = "3xx"
    #: It refused the request.
    CLIENT_ERROR = "4xx"
    #: It failed, or its answer was no valid HTTP answer.
    SERVER_ERROR = "5xx"
    #: It answered, and the webhook's success rule takes that for a failure, whatever the status.
    UNSUCCESSFUL = "unsuccessful"
    #: No whole answer came in time.
    TIMEOUT = "timeout"
    #: No connection, broken TLS, or the connection broke off.
    NETWORK = "network"
    #: The guard against private addresses let nothing out.
    BLOCKED = "blocked"
    #: Hookline itself failed while it built or sent the request, or its host ran out of something.
    INTERNAL = "internal"


class FailureCause(StrEnum):
    """Why a request got no answer: the code behind `Outcome.error`, which is the same in words.

    `shared.http.failures` sets it where it classifies an exception, and `shared.domain.delivery.diagnosis` gives advice
    by it. It is not stored with attempts.
    """

    NAME_NOT_RESOLVED = "name_not_resolved"
    CONNECTION_REFUSED = "connection_refused"
    NO_ROUTE = "no_route"
    #: Neither TCP nor TLS was established within the policy's `connect_timeout_seconds`.
    CONNECT_TIMEOUT = "connect_timeout"
    #: The request was sent, and the whole answer was not there within the policy's `timeout_seconds`.
    RESPONSE_TIMEOUT = "response_timeout"
    CERTIFICATE_EXPIRED = "certificate_expired"
    CERTIFICATE_NOT_YET_VALID = "certificate_not_yet_valid"
    #: Signed by itself, or by an authority at the end of its chain that this host does not trust.
    CERTIFICATE_SELF_SIGNED = "certificate_self_signed"
    #: The endpoint left out the certificates between its own and an authority.
    CERTIFICATE_CHAIN_INCOMPLETE = "certificate_chain_incomplete"
    CERTIFICATE_HOST_MISMATCH = "certificate_host_mismatch"
    #: Any other reason of OpenSSL's not to trust the certificate.
    CERTIFICATE_UNTRUSTED = "certificate_untrusted"
    CERTIFICATE_UNREADABLE = "certificate_unreadable"
    #: The port answered the TLS handshake with something else, such as plain HTTP.
    NOT_TLS = "not_tls"
    CLIENT_CERTIFICATE_REQUIRED = "client_certificate_required"
    CLIENT_CERTIFICATE_UNTRUSTED = "client_certificate_untrusted"
    TLS_REFUSED = "tls_refused"
    TLS_FAILED = "tls_failed"
    CONNECTION_CLOSED = "connection_closed"
    RESPONSE_INCOMPLETE = "response_incomplete"
    NOT_HTTP = "not_http"
    #: HOOKLINE_EGRESS_PROXY can't be reached, or does not speak HTTP.
    PROXY_UNREACHABLE = "proxy_unreachable"
    #: HOOKLINE_EGRESS_PROXY answered CONNECT with a refusal.
    PROXY_REFUSED = "proxy_refused"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One attempt's end. `error` is a short text for people and never holds a secret's value."""

    kind: OutcomeKind
    duration_seconds: float
    status: int | None = None
    error: str | None = None
    cause: FailureCause | None = None
    """None with an answer, for what has no code, and for an outcome that was read back from an attempt's row."""
    retry_after_seconds: float | None = None
    """How long the endpoint asks to be left alone, see `requested_waits`; None where it does not ask for it."""
    response_body: str = ""
    """The beginning of the answer's body, as `KEPT_RESPONSE_BYTES` of `shared.http.connection` bounds it."""
    response_truncated: bool = False
    proxy: str | None = None
    """Host and port of the egress proxy that the request went through, without its password; None for none."""
    exchange: Exchange | None = None
    """None where no request was made, for most successes over used connections, and for an outcome that was read back
    from an attempt's row."""


_KINDS = {
    2: OutcomeKind.SUCCESS,
    3: OutcomeKind.REDIRECTION,
    4: OutcomeKind.CLIENT_ERROR,
}


def classify_status(status: int) -> OutcomeKind:
    """The kind of an answer by its status.

    A status that cannot end a request (1xx) or is invalid (below 100, 600 and above) counts as 5xx, as RFC 9110 section
    15 asks of clients.
    """
    return _KINDS.get(status // 100, OutcomeKind.SERVER_ERROR)
