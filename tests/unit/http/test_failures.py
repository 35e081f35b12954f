"""Which cause each error of a request has; that real endpoints raise these errors is tested with real endpoints."""

from __future__ import annotations

import errno
import socket
import ssl

import pytest

from shared.domain.delivery.outcomes import FailureCause, OutcomeKind
from shared.http.exceptions import (
    CertificateUnreadable,
    ConnectTimeout,
    EgressBlocked,
    IncompleteResponse,
    PoolClosed,
    ProxyFailed,
    ProxyRefused,
    RemoteProtocolError,
    ServerDisconnected,
)
from shared.http.failures import failure_of


def untrusted(code: int, words: str) -> ssl.SSLCertVerificationError:
    error = ssl.SSLCertVerificationError(1, words)
    error.verify_code, error.verify_message = code, words
    return error


def failed_tls(reason: str) -> ssl.SSLError:
    error = ssl.SSLError(1, "secret")
    error.reason = reason
    return error


@pytest.mark.parametrize(
    ("error", "kind", "cause"),
    [
        (ConnectTimeout(), OutcomeKind.TIMEOUT, FailureCause.CONNECT_TIMEOUT),
        (TimeoutError(errno.ETIMEDOUT, "timed out"), OutcomeKind.TIMEOUT, FailureCause.CONNECT_TIMEOUT),
        (TimeoutError(), OutcomeKind.TIMEOUT, FailureCause.RESPONSE_TIMEOUT),
        (EgressBlocked("10.0.0.1"), OutcomeKind.BLOCKED, None),
        (socket.gaierror(socket.EAI_NONAME, "unknown"), OutcomeKind.NETWORK, FailureCause.NAME_NOT_RESOLVED),
        (ConnectionRefusedError(), OutcomeKind.NETWORK, FailureCause.CONNECTION_REFUSED),
        (OSError(errno.EHOSTUNREACH, "secret"), OutcomeKind.NETWORK, FailureCause.NO_ROUTE),
        (OSError(errno.ENETUNREACH, "secret"), OutcomeKind.NETWORK, FailureCause.NO_ROUTE),
        (OSError(errno.EPERM, "secret"), OutcomeKind.NETWORK, None),
        (OSError("secret"), OutcomeKind.NETWORK, None),
        (OSError(errno.EMFILE, "secret"), OutcomeKind.INTERNAL, None),
        (untrusted(9, "not yet valid"), OutcomeKind.NETWORK, FailureCause.CERTIFICATE_NOT_YET_VALID),
        (untrusted(10, "expired"), OutcomeKind.NETWORK, FailureCause.CERTIFICATE_EXPIRED),
        (untrusted(18, "self-signed"), OutcomeKind.NETWORK, FailureCause.CERTIFICATE_SELF_SIGNED),
        (untrusted(19, "self-signed in chain"), OutcomeKind.NETWORK, FailureCause.CERTIFICATE_SELF_SIGNED),
        (untrusted(20, "no issuer"), OutcomeKind.NETWORK, FailureCause.CERTIFICATE_CHAIN_INCOMPLETE),
        (untrusted(62, "other host"), OutcomeKind.NETWORK, FailureCause.CERTIFICATE_HOST_MISMATCH),
        (untrusted(64, "other address"), OutcomeKind.NETWORK, FailureCause.CERTIFICATE_HOST_MISMATCH),
        (untrusted(12, "CRL expired"), OutcomeKind.NETWORK, FailureCause.CERTIFICATE_UNTRUSTED),
        (failed_tls("WRONG_VERSION_NUMBER"), OutcomeKind.NETWORK, FailureCause.NOT_TLS),
        (
            failed_tls("TLSV13_ALERT_CERTIFICATE_REQUIRED"),
            OutcomeKind.NETWORK,
            FailureCause.CLIENT_CERTIFICATE_REQUIRED,
        ),
        (failed_tls("TLSV1_ALERT_UNKNOWN_CA"), OutcomeKind.NETWORK, FailureCause.CLIENT_CERTIFICATE_UNTRUSTED),
        (failed_tls("SSLV3_ALERT_HANDSHAKE_FAILURE"), OutcomeKind.NETWORK, FailureCause.TLS_REFUSED),
        (failed_tls("UNSUPPORTED_PROTOCOL"), OutcomeKind.NETWORK, FailureCause.TLS_FAILED),
        (CertificateUnreadable(), OutcomeKind.NETWORK, FailureCause.CERTIFICATE_UNREADABLE),
        (ServerDisconnected(), OutcomeKind.NETWORK, FailureCause.CONNECTION_CLOSED),
        (ConnectionResetError(), OutcomeKind.NETWORK, FailureCause.CONNECTION_CLOSED),
        (BrokenPipeError(), OutcomeKind.NETWORK, FailureCause.CONNECTION_CLOSED),
        (IncompleteResponse(), OutcomeKind.NETWORK, FailureCause.RESPONSE_INCOMPLETE),
        (RemoteProtocolError(), OutcomeKind.NETWORK, FailureCause.NOT_HTTP),
        (ProxyFailed("proxy:3128", "no connection to it"), OutcomeKind.NETWORK, FailureCause.PROXY_UNREACHABLE),
        (ProxyRefused("proxy:3128", 407), OutcomeKind.NETWORK, FailureCause.PROXY_REFUSED),
        (PoolClosed(), OutcomeKind.INTERNAL, None),
        (KeyError("secret"), OutcomeKind.INTERNAL, None),
    ],
)
@pytest.mark.parametrize("wrapped", [False, True])
def test_an_error_has_a_kind_and_a_cause_however_it_is_wrapped(
    error: Exception, kind: OutcomeKind, cause: FailureCause | None, wrapped: bool
) -> None:
    if wrapped and not isinstance(error, TimeoutError):  # a time-out of the whole request is told by its very type
        outer = Exception("secret")
        outer.__cause__ = error
        error = outer
    found = failure_of(error, within_seconds=15, connect_within_seconds=5)

    assert (found.kind, found.cause) == (kind, cause)
    assert "secret" not in found.error
