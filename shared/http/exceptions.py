"""What can go wrong between here and an endpoint's answer; `failures.py` turns each into an outcome."""

from __future__ import annotations

from shared.domain.errors import HooklineError


class PoolClosed(ConnectionError):
    """Nothing is sent any more: this process is ending."""


class CertificateUnreadable(ConnectionError):
    """The endpoint's certificate, which is trusted, has text in it that is none."""


class ConnectTimeout(TimeoutError):
    """No connection came about in the time that connecting may take."""


class RemoteProtocolError(Exception):
    """What came is no HTTP/1.1 answer, or has a head without end."""


class IncompleteResponse(Exception):
    """The connection ended within an answer's body, or the body is not framed as HTTP asks."""


class ServerDisconnected(Exception):
    """The connection ended before the head of an answer was there."""


class EgressBlocked(HooklineError, OSError):
    """The guard refused the address that a socket was about to connect to; `reason` says why.

    Its text is always the same: a connector that has tried several addresses then raises the first of these errors
    as it is, where it would otherwise melt different texts into an error of its own.
    """

    def __init__(self, reason: str) -> None:
        super().__init__("the guard refused the address")
        self.reason = reason
