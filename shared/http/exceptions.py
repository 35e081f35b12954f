"""The errors of a request to an endpoint; `failures.py` turns each into an outcome."""

from __future__ import annotations

from shared.domain.errors import HooklineError


class PoolClosed(ConnectionError):
    """The pool was closed because this process ends: nothing is sent any more."""


class CertificateUnreadable(ConnectionError):
    """The endpoint's certificate is trusted, but holds text that is not UTF-8, at which Python's `ssl` fails."""


class ConnectTimeout(TimeoutError):
    """No connection was established within the time allowed for connecting, TLS included."""


class RemoteProtocolError(Exception):
    """The endpoint sent something other than an HTTP/1.1 answer, or a head larger than `MAX_HEAD_BYTES`."""


class IncompleteResponse(Exception):
    """The connection ended within an answer's body, or the body is not framed as HTTP asks."""


class ServerDisconnected(Exception):
    """The connection ended before the head of an answer was there."""


class ProxyFailed(ConnectionError):
    """The egress proxy could not be reached or gave no answer to CONNECT. `proxy` is its host and port."""

    def __init__(self, proxy: str, why: str) -> None:
        super().__init__(f"the egress proxy {proxy}: {why}")
        self.proxy = proxy
        self.why = why


class ProxyRefused(ConnectionError):
    """The egress proxy answered CONNECT with another status than 2xx."""

    def __init__(self, proxy: str, status: int) -> None:
        super().__init__(f"the egress proxy {proxy} answered {status}")
        self.proxy = proxy
        self.status = status


class EgressBlocked(HooklineError, OSError):
    """The guard refused the address that a socket was about to connect to; `reason` says why.

    It is an OSError, so that a connector goes on to the name's next address as after a failed connection.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
