"""The HTTP side of a delivery: one POST, guarded, bounded in time and in what is read, answered with an Outcome.

One `WebhookClient` serves a process: its connections are pooled on the event loop that opened it. It goes below
httpx, whose pool and request objects cost more than the request itself. URLs are read by httpx all the same, as they
are when a webhook is saved. It follows no redirect, keeps no cookie, decompresses nothing, and
uses no proxy but HOOKLINE_EGRESS_PROXY.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial

from shared.config.egress_proxy import parse_no_proxy, parse_proxy
from shared.domain.delivery.answer_rules import SuccessRule, includes
from shared.domain.delivery.exchange import Exchange
from shared.domain.delivery.outcomes import Outcome, OutcomeKind, classify_status
from shared.domain.delivery.requested_waits import requested_wait_seconds
from shared.http.connection import KEPT_RESPONSE_BYTES, MAX_RESPONSE_BYTES, Response, Trace
from shared.http.egress import EgressGuard
from shared.http.failures import failure_of
from shared.http.judging import JudgingTurns
from shared.http.pool import ConnectionPool, Origin
from shared.http.request import USER_AGENT, Request, target, write_head
from shared.http.tls import TlsContexts
from shared.http.tunnels import Tunnels
from shared.observability.logs import get_logger, traceback_places
from shared.settings import Settings

__all__ = ["KEPT_RESPONSE_BYTES", "MAX_RESPONSE_BYTES", "USER_AGENT", "Request", "WebhookClient"]

KEPT_EACH = 16
"""Of successes over one connection the first has an exchange, and then each of this many. To keep all of them takes 8%
more CPU time a delivery."""

log = get_logger("hookline.sender")


def _host_time() -> datetime:
    return datetime.now(UTC)


class WebhookClient:
    """Sends requests over pooled connections.

    It belongs to the event loop on which it was made: `send` and `aclose` run there and nowhere else. Only `contexts`
    may be used from other threads.
    """

    def __init__(self, settings: Settings, now: Callable[[], datetime] = _host_time) -> None:
        """`now` gives the time from which an answer's dates count that has no `Date`; it must not block."""
        self._now = now
        self._turns = JudgingTurns()
        guard, self.contexts = EgressGuard(settings), TlsContexts(settings)
        self._tunnels = _tunnels(settings, guard, self.contexts)
        self._connections = ConnectionPool(
            tls_socket=guard.tls_socket, plain_socket=guard.plain_socket, tunnels=self._tunnels
        )

    async def aclose(self) -> None:
        """Close every pooled connection."""
        self._connections.close()

    async def send(self, request: Request) -> Outcome:
        """Make one request. Any failure becomes an Outcome; no exception leaves but the cancellation of the task."""
        started, trace = time.perf_counter(), Trace()
        try:
            to = target(request.url)
            answer = await self._connections.request(
                # The context is a part of it: a connection made with a client certificate serves its webhook alone.
                Origin(to.host, to.port, (request.tls or self.contexts.anonymous) if to.tls else None),
                write_head(to, request),
                timeout_seconds=request.timeout_seconds,
                connect_timeout_seconds=request.connect_timeout_seconds,
                trace=trace,
            )
        except Exception as exc:
            kind, error, cause = failure_of(
                exc, within_seconds=request.timeout_seconds, connect_within_seconds=request.connect_timeout_seconds
            )
            if kind is OutcomeKind.INTERNAL:
                log.error("request.fault", error=error, at=traceback_places(exc))
            return Outcome(
                kind=kind,
                error=error,
                cause=cause,
                duration_seconds=time.perf_counter() - started,
                proxy=self._proxy_of(request.url),
                exchange=_exchange(trace, None),
            )
        return await self._outcome(request, answer, time.perf_counter() - started, trace)

    def _proxy_of(self, url: str) -> str | None:
        """What the egress proxy is called, where a request to this URL goes through it."""
        if self._tunnels is None:
            return None
        try:
            to = target(url)
        except ValueError:
            return None
        return self._tunnels.proxy.name if self._tunnels.lead_to(to.host, to.port) else None

    async def _outcome(self, request: Request, answer: Response, seconds: float, trace: Trace) -> Outcome:
        # PostgreSQL takes no NUL in text.
        body = answer.body.decode("utf-8", "replace").replace("\0", "\ufffd")
        kind, error, truncated = classify_status(answer.status), None, answer.seen_bytes > len(answer.body)
        if request.success is not None:
            judge = partial(_judged, request.success, kind, answer.status, body, cut=truncated)
            kind, error = await self._turns.judged(request.webhook, judge)
        wait = None
        if kind is not OutcomeKind.SUCCESS and answer.waits:
            wait = requested_wait_seconds(answer.status, answer.waits, self._now())
        kept = request.keep_exchange or kind is not OutcomeKind.SUCCESS or trace.place % KEPT_EACH == 1
        return Outcome(
            kind=kind,
            error=error,
            status=answer.status,
            retry_after_seconds=wait,
            response_body=body,
            response_truncated=truncated,
            duration_seconds=seconds,
            exchange=_exchange(trace, answer) if kept else None,
        )


def _tunnels(settings: Settings, guard: EgressGuard, contexts: TlsContexts) -> Tunnels | None:
    if settings.egress_proxy is None:
        return None
    return Tunnels(
        parse_proxy(settings.egress_proxy.get_secret_value()),
        parse_no_proxy(settings.without_egress_proxy),
        context=contexts.anonymous,
        judge=guard.judge,
        judge_unresolved=guard.judge_unresolved,
    )


def _judged(
    rule: SuccessRule, kind: OutcomeKind, status: int, body: str, *, cut: bool
) -> tuple[OutcomeKind, str | None]:
    """The kind of an answer by a success rule, and what the rule says against it."""
    failure = rule.failure(status, body, cut=cut)
    if failure is None:
        return OutcomeKind.SUCCESS, None
    if kind is OutcomeKind.SUCCESS or includes(rule.status, status):
        return OutcomeKind.UNSUCCESSFUL, failure
    return kind, None


def _exchange(trace: Trace, answer: Response | None) -> Exchange:
    return Exchange(
        sent_bytes=trace.sent_bytes,
        received_bytes=0 if answer is None else answer.received_bytes,
        answer_headers="" if answer is None else _lines(answer.headers),
        headers_truncated=answer is not None and answer.headers_cut,
        remote_address=trace.remote_address,
        tls_version=trace.tls_version,
        reused=trace.place > 1,
        lookup_seconds=trace.lookup_seconds,
        connect_seconds=trace.connect_seconds,
        handshake_seconds=trace.handshake_seconds,
        first_byte_seconds=trace.first_byte_seconds,
    )


def _lines(headers: list[tuple[bytes, bytes]]) -> str:
    lines = [b"%b: %b" % pair for pair in headers if pair[0].lower() != b"set-cookie"]
    return b"\n".join(lines).decode("latin-1")
