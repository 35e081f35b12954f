"""The HTTP side of a delivery: one POST, guarded, bounded in time and in what is read, answered with an Outcome.

One `WebhookClient` serves a process: its connections are pooled on the event loop that opened it. It goes below
httpx, whose pool and request objects cost more than the request itself. URLs are read by httpx all the same, as they
are when a webhook is saved. It follows no redirect, keeps no cookie, decompresses nothing and uses no proxy.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime

from shared.domain.delivery.outcomes import Outcome, OutcomeKind, classify_status, parse_retry_after
from shared.http.connection import KEPT_RESPONSE_BYTES, MAX_RESPONSE_BYTES, Response
from shared.http.egress import EgressGuard
from shared.http.failures import failure_of
from shared.http.pool import ConnectionPool, Origin
from shared.http.request import USER_AGENT, Request, target, write_head
from shared.http.tls import TlsContexts
from shared.observability.logs import get_logger, traceback_places
from shared.settings import Settings

__all__ = ["KEPT_RESPONSE_BYTES", "MAX_RESPONSE_BYTES", "USER_AGENT", "Request", "WebhookClient"]

log = get_logger("hookline.sender")


class WebhookClient:
    """Sends requests over pooled connections.

    It belongs to the event loop on which it was made: `send` and `aclose` run there and nowhere else. Only `contexts`
    may be used from other threads.
    """

    def __init__(self, settings: Settings) -> None:
        guard, self.contexts = EgressGuard(settings), TlsContexts(settings)
        self._connections = ConnectionPool(tls_socket=guard.tls_socket, plain_socket=guard.plain_socket)

    async def aclose(self) -> None:
        """Close every pooled connection."""
        self._connections.close()

    async def send(self, request: Request) -> Outcome:
        """Make one request. Any failure becomes an Outcome; no exception leaves but the cancellation of the task."""
        started = time.perf_counter()
        try:
            to = target(request.url)
            answer = await self._connections.request(
                # The context is a part of it: a connection made with a client certificate serves its webhook alone.
                Origin(to.host, to.port, (request.tls or self.contexts.anonymous) if to.tls else None),
                write_head(to, request),
                timeout_seconds=request.timeout_seconds,
                connect_timeout_seconds=request.connect_timeout_seconds,
            )
        except Exception as exc:
            kind, error, cause = failure_of(
                exc, within_seconds=request.timeout_seconds, connect_within_seconds=request.connect_timeout_seconds
            )
            if kind is OutcomeKind.INTERNAL:
                log.error("request.fault", error=error, at=traceback_places(exc))
            return Outcome(kind=kind, error=error, cause=cause, duration_seconds=time.perf_counter() - started)
        return _outcome(answer, started)


def _outcome(answer: Response, started: float) -> Outcome:
    # PostgreSQL takes no NUL in text.
    body = answer.body.decode("utf-8", "replace").replace("\0", "\ufffd")
    retry_after = answer.retry_after
    return Outcome(
        kind=classify_status(answer.status),
        status=answer.status,
        retry_after_seconds=None if retry_after is None else parse_retry_after(retry_after, datetime.now(UTC)),
        response_body=body,
        response_truncated=answer.seen_bytes > len(answer.body),
        duration_seconds=time.perf_counter() - started,
    )
