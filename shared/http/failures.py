"""Classifying why a request got no answer: its kind, a cause code, and words for the owners of the endpoint.

The libraries' own words are not passed on: they repeat the URL with its query, what the endpoint sent, or the names of
Python classes. Must not let any of these through, since any of them may hold a secret.
"""

from __future__ import annotations

import errno
import os
import socket
import ssl
from collections.abc import Callable
from typing import Any, NamedTuple

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


class Failure(NamedTuple):
    """How a request without an answer ended: its kind, its cause in words, and the code of that cause if it has one."""

    kind: OutcomeKind
    error: str
    cause: FailureCause | None = None


def failure_of(exc: BaseException, *, within_seconds: float, connect_within_seconds: float) -> Failure:
    """Classify the exception that a request ended with; the times are those that the request was allowed.

    Libraries wrap errors in others, not always fitting ones, and wrappers of TLS errors lack the details. So the whole
    chain of causes is searched, the deepest error first.
    """
    if isinstance(exc, ConnectTimeout):
        return _connect_timeout(connect_within_seconds)
    if type(exc) is TimeoutError and exc.errno is None:
        return Failure(OutcomeKind.TIMEOUT, f"no answer within {within_seconds:g} s", FailureCause.RESPONSE_TIMEOUT)
    chain = _chain(exc)
    if (exhausted := _exhausted_resource(chain)) is not None:
        return Failure(OutcomeKind.INTERNAL, exhausted)
    for kind, classify in _RULES:
        for link in reversed(chain):
            if isinstance(link, kind):
                return classify(link)
    if any(isinstance(link, TimeoutError) for link in chain):
        return _connect_timeout(connect_within_seconds)
    if any(isinstance(link, OSError) for link in chain):
        return _of_the_system(chain)
    return Failure(OutcomeKind.INTERNAL, own_fault(chain[-1]))


def own_fault(exc: BaseException) -> str:
    """The words for a fault of Hookline's own. The exception's text is left out: it may hold anything."""
    return f"a fault in Hookline, not in the endpoint ({type(exc).__name__})"


def _connect_timeout(within_seconds: float) -> Failure:
    return Failure(OutcomeKind.TIMEOUT, f"no connection within {within_seconds:g} s", FailureCause.CONNECT_TIMEOUT)


_EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS, errno.EADDRNOTAVAIL})
"""Error numbers of a host that has no more files, memory, buffers, or ports to connect from."""


def _exhausted_resource(chain: list[BaseException]) -> str | None:
    """The resource that this host ran out of, in words, if that is why nothing was sent."""
    for link in reversed(chain):
        if isinstance(link, MemoryError):
            return "Hookline's host is out of memory"
        # Errors of TLS and of the resolver have numbers of their own.
        if (
            isinstance(link, OSError)
            and not isinstance(link, ssl.SSLError | socket.gaierror)
            and link.errno in _EXHAUSTED
        ):
            return f"Hookline's host is out of a resource: {os.strerror(link.errno)}"
    return None


def _chain(exc: BaseException | None) -> list[BaseException]:
    """The exception and its causes, outermost first."""
    chain: list[BaseException] = []
    while exc is not None and all(exc is not link for link in chain):
        chain.append(exc)
        exc = exc.__cause__ or exc.__context__
    return chain


def _of_the_system(chain: list[BaseException]) -> Failure:
    """By the deepest error that has a number: the operating system's words, such as `No route to host`."""
    numbers = [link.errno for link in chain if isinstance(link, OSError) and link.errno]
    if not numbers:
        return Failure(OutcomeKind.NETWORK, f"the request failed ({type(chain[-1]).__name__})")
    cause = FailureCause.NO_ROUTE if numbers[-1] in (errno.ENETUNREACH, errno.EHOSTUNREACH) else None
    return Failure(OutcomeKind.NETWORK, os.strerror(numbers[-1]), cause)


# The codes X509_V_ERR_… of OpenSSL's include/openssl/x509_vfy.h, which `ssl` passes on as `verify_code`.
_CERTIFICATE_CAUSES = {
    9: FailureCause.CERTIFICATE_NOT_YET_VALID,
    10: FailureCause.CERTIFICATE_EXPIRED,
    18: FailureCause.CERTIFICATE_SELF_SIGNED,  # the certificate itself
    19: FailureCause.CERTIFICATE_SELF_SIGNED,  # the last one of its chain
    20: FailureCause.CERTIFICATE_CHAIN_INCOMPLETE,
    62: FailureCause.CERTIFICATE_HOST_MISMATCH,  # of a name
    64: FailureCause.CERTIFICATE_HOST_MISMATCH,  # of an IP address
}
# Endings of the reasons SSL_R_… of OpenSSL's include/openssl/sslerr.h; what comes before is the version of TLS.
_TLS_CAUSES = (
    ("WRONG_VERSION_NUMBER", FailureCause.NOT_TLS),
    ("ALERT_CERTIFICATE_REQUIRED", FailureCause.CLIENT_CERTIFICATE_REQUIRED),
    ("ALERT_UNKNOWN_CA", FailureCause.CLIENT_CERTIFICATE_UNTRUSTED),
    ("ALERT_HANDSHAKE_FAILURE", FailureCause.TLS_REFUSED),
)


def _untrusted_certificate(exc: Any) -> Failure:
    cause = _CERTIFICATE_CAUSES.get(exc.verify_code, FailureCause.CERTIFICATE_UNTRUSTED)
    return Failure(OutcomeKind.NETWORK, f"the endpoint's certificate is not trusted: {exc.verify_message}", cause)


def _failed_tls(exc: Any) -> Failure:
    reason = str(exc.reason or "")
    cause = next((cause for ending, cause in _TLS_CAUSES if reason.endswith(ending)), FailureCause.TLS_FAILED)
    words = reason.replace("_", " ").lower()
    return Failure(OutcomeKind.NETWORK, f"TLS failed: {words}" if words else "TLS failed", cause)


def _always(kind: OutcomeKind, error: str, cause: FailureCause | None) -> Callable[[Any], Failure]:
    failure = Failure(kind, error, cause)
    return lambda _exc: failure


_Kinds = type[BaseException] | tuple[type[BaseException], ...]
# In this order: an error may be of several kinds, and the first that fits is the most telling.
_RULES: tuple[tuple[_Kinds, Callable[[Any], Failure]], ...] = (
    (EgressBlocked, lambda exc: Failure(OutcomeKind.BLOCKED, str(exc.reason))),
    (
        ProxyRefused,
        lambda exc: Failure(
            OutcomeKind.NETWORK,
            f"the egress proxy {exc.proxy} gave no tunnel to the endpoint: it answered {exc.status}",
            FailureCause.PROXY_REFUSED,
        ),
    ),
    (
        ProxyFailed,
        lambda exc: Failure(
            OutcomeKind.NETWORK,
            f"the egress proxy {exc.proxy} can't be used: {exc.why}",
            FailureCause.PROXY_UNREACHABLE,
        ),
    ),
    (
        socket.gaierror,
        lambda exc: Failure(
            OutcomeKind.NETWORK, f"the host's name does not resolve: {exc.strerror}", FailureCause.NAME_NOT_RESOLVED
        ),
    ),
    (ssl.SSLCertVerificationError, _untrusted_certificate),
    (ssl.SSLError, _failed_tls),
    (PoolClosed, _always(OutcomeKind.INTERNAL, "Hookline was shutting down", None)),
    (
        ConnectionRefusedError,
        _always(OutcomeKind.NETWORK, "connection refused", FailureCause.CONNECTION_REFUSED),
    ),
    (
        IncompleteResponse,
        _always(
            OutcomeKind.NETWORK,
            "the answer broke off, or its body is not valid HTTP",
            FailureCause.RESPONSE_INCOMPLETE,
        ),
    ),
    (RemoteProtocolError, _always(OutcomeKind.NETWORK, "the answer is not valid HTTP", FailureCause.NOT_HTTP)),
    (
        (ServerDisconnected, ConnectionResetError, BrokenPipeError),
        _always(
            OutcomeKind.NETWORK,
            "the endpoint closed the connection before it answered",
            FailureCause.CONNECTION_CLOSED,
        ),
    ),
    (
        CertificateUnreadable,
        _always(
            OutcomeKind.NETWORK,
            "TLS failed: the endpoint's certificate can't be read",
            FailureCause.CERTIFICATE_UNREADABLE,
        ),
    ),
)
