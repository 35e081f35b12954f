"""Why a request got no answer, in words for the people who own the endpoint.

The libraries' own words are not passed on: they repeat the URL with its query, what the endpoint sent, or the names of
Python classes. Must not let any of these through, since any of them may hold a secret.
"""

from __future__ import annotations

import errno
import os
import socket
import ssl
from collections.abc import Callable
from typing import Any

from shared.domain.delivery.outcomes import OutcomeKind
from shared.http.exceptions import (
    CertificateUnreadable,
    ConnectTimeout,
    EgressBlocked,
    IncompleteResponse,
    PoolClosed,
    RemoteProtocolError,
    ServerDisconnected,
)

Kind = type[BaseException] | tuple[type[BaseException], ...]


def failure_of(exc: BaseException, *, within_seconds: float, connect_within_seconds: float) -> tuple[OutcomeKind, str]:
    """What kind of end an exception is, and its cause in plain words; the times are those that were allowed.

    Errors are wrapped in others, and not always in fitting ones: what counts is what is found in the chain, the deepest
    first, since wrappers of TLS errors lack the details.
    """
    if isinstance(exc, ConnectTimeout):
        return OutcomeKind.TIMEOUT, f"no connection within {connect_within_seconds:g} s"
    if type(exc) is TimeoutError and exc.errno is None:
        return OutcomeKind.TIMEOUT, f"no answer within {within_seconds:g} s"
    chain = _chain(exc)
    if (lacking := _lacking(chain)) is not None:
        return OutcomeKind.INTERNAL, lacking
    for kind, outcome, words in _CAUSES:
        for link in reversed(chain):
            if isinstance(link, kind):
                return outcome, words(link)
    if any(isinstance(link, TimeoutError) for link in chain):
        return OutcomeKind.TIMEOUT, f"no connection within {connect_within_seconds:g} s"
    if any(isinstance(link, OSError) for link in chain):
        return OutcomeKind.NETWORK, _of_the_system(chain) or f"the request failed ({type(chain[-1]).__name__})"
    return OutcomeKind.INTERNAL, own_fault(chain[-1])


def own_fault(exc: BaseException) -> str:
    """What is said of a fault that is Hookline's own. Its text stays where it is: it may hold anything."""
    return f"a fault in Hookline, not in the endpoint ({type(exc).__name__})"


def _lacking(chain: list[BaseException]) -> str | None:
    """What this host ran out of, if that is why nothing was sent."""
    for link in reversed(chain):
        if isinstance(link, MemoryError):
            return "Hookline's host is out of memory"
        # Errors of TLS and of the resolver have numbers of their own.
        if (
            isinstance(link, OSError)
            and not isinstance(link, ssl.SSLError | socket.gaierror)
            and link.errno in _LACKING
        ):
            return f"Hookline's host has no more to give: {os.strerror(link.errno)}"
    return None


def _chain(exc: BaseException | None) -> list[BaseException]:
    chain: list[BaseException] = []
    while exc is not None and all(exc is not link for link in chain):
        chain.append(exc)
        exc = exc.__cause__ or exc.__context__
    return chain


def _of_the_system(chain: list[BaseException]) -> str | None:
    """The operating system's words for the deepest error that has a number, such as `No route to host`."""
    numbers = [link.errno for link in chain if isinstance(link, OSError) and link.errno]
    return os.strerror(numbers[-1]) if numbers else None


def _tls_reason(exc: Any) -> str:
    reason = str(exc.reason or "").replace("_", " ").lower()
    return f"TLS failed: {reason}" if reason else "TLS failed"


def _always(text: str) -> Callable[[Any], str]:
    return lambda _exc: text


_LACKING = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS, errno.EADDRNOTAVAIL})
"""Files, memory, buffers, and ports to connect from."""
_CLOSED = "the endpoint closed the connection before it answered"
_CAUSES: tuple[tuple[Kind, OutcomeKind, Callable[[Any], str]], ...] = (
    (EgressBlocked, OutcomeKind.BLOCKED, lambda exc: str(exc.reason)),
    (socket.gaierror, OutcomeKind.NETWORK, lambda exc: f"the host's name does not resolve: {exc.strerror}"),
    (
        ssl.SSLCertVerificationError,
        OutcomeKind.NETWORK,
        lambda exc: f"the endpoint's certificate is not trusted: {exc.verify_message}",
    ),
    (ssl.SSLError, OutcomeKind.NETWORK, _tls_reason),
    (PoolClosed, OutcomeKind.INTERNAL, _always("Hookline was about to end")),
    (ConnectionRefusedError, OutcomeKind.NETWORK, _always("connection refused")),
    (IncompleteResponse, OutcomeKind.NETWORK, _always("the answer broke off, or its body is not valid HTTP")),
    (RemoteProtocolError, OutcomeKind.NETWORK, _always("the answer is not valid HTTP")),
    ((ServerDisconnected, ConnectionResetError, BrokenPipeError), OutcomeKind.NETWORK, _always(_CLOSED)),
    (CertificateUnreadable, OutcomeKind.NETWORK, _always("TLS failed: the endpoint's certificate can't be read")),
)
