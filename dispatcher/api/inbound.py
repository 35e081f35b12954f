"""`POST /v1/in/{token}`: webhooks in. What is not proven is answered alike, whether or not there is such a source.

A request is proven, read and published as `POST /v1/events` publishes; nobody waits for evaluation. What became of it
is kept after the answer was sent, so that neither the sender waits for it nor a stranger learns by it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Path, Request, Response
from pydantic import BaseModel
from sqlalchemy.exc import SQLAlchemyError
from starlette.background import BackgroundTask

from dispatcher.api import problems
from dispatcher.api.bodies import CLIENT_LEFT, decode_json, read_body
from dispatcher.api.cloud_events import with_trace_of_request
from dispatcher.api.problems import Problem
from dispatcher.api.resources import ApiResources, ResourcesDep
from dispatcher.api.source_cache import KnownSource
from dispatcher.api.threads import run_in
from dispatcher.control.source_history import kept_request
from dispatcher.publishing.event_rates import RateExceeded
from shared.domain.errors import HooklineError
from shared.domain.events.fast_decoding import AnyEvent
from shared.domain.json_text import quote_bare_numbers
from shared.domain.sources.model import MAX_REQUEST_BYTES, PROOFS, InboundRequest, NotUnderstood, SourceKind
from shared.domain.sources.proofs import unproven
from shared.domain.sources.reading import Outcome, json_of, publishable, read_request
from shared.domain.sources.rules import RuleFailed
from shared.observability import metrics
from shared.observability.logs import get_logger
from shared.storage.database.transactions import write_transaction
from shared.storage.definitions.source_requests import SourceRequest, insert_request

router = APIRouter(prefix="/v1/in", tags=["sources"])
log = get_logger("hookline.api")

_JUDGED_INLINE_BYTES = 16 << 10
_MOST_WAITING = 20
"""So many requests may wait to be kept; those that come then are not."""
_NOBODY = ("a secret that nobody has",)
_BODY = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": {}}},
        "description": "Whatever the service sends; GitHub's may be a form.",
    }
}


_HANDSHAKE: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The answer to Event Grid's validation of the endpoint.",
        "content": {"application/json": {"schema": {"type": "object"}}},
    }
}


class Taken(BaseModel):
    """What became of a request."""

    accepted: int
    """How many events were published."""
    ignored: list[str]
    """Why it, or parts of it, are no events."""


@dataclass(slots=True)
class _Judgement:
    """What became of a request: the answer, and what is kept of it."""

    outcome: str
    answer: Response
    reason: str | None = None
    events: Sequence[AnyEvent] = field(default_factory=tuple)


@router.post("/{token}", status_code=202, openapi_extra=_BODY, response_model=Taken, responses=_HANDSHAKE)
async def take_webhook(
    token: Annotated[str, Path(description="The last part of a source's `path`.")],
    request: Request,
    resources: ResourcesDep,
) -> Response:
    """Take a webhook of another service for the source of this URL, which the service proves to know the secret of.

    No API key is needed. The answer is 401 for an unknown URL and for a wrong proof alike.
    """
    unread: Problem | None = None
    body = b""
    try:
        body = await read_body(request, MAX_REQUEST_BYTES)
    except Problem as exc:
        if exc.kind == CLIENT_LEFT:
            raise
        unread = exc
    inbound = InboundRequest(_headers(request), dict(request.query_params), body)
    known = await resources.sources.addressed(token, resources.threads.callers)
    if unread is None:
        judged = await _judge(resources, known, request, inbound)
    else:  # nothing is proven by it, so it counts among what strangers send
        judged = _Judgement("refused", problems.answer(unread), str(unread))
    metrics.SOURCE_REQUESTS.labels(
        kind="unknown" if known is None else str(known.source.kind), outcome=judged.outcome
    ).inc()
    if known is not None and (judged.outcome != "refused" or resources.sources.keeps_refusal(known.number)):
        client = request.client.host if request.client else ""
        kept = kept_request(
            inbound,
            known.source.proof,
            known.secrets,
            outcome=judged.outcome,
            reason=judged.reason,
            events=judged.events,
            sender=client,
            now=datetime.now(UTC),
        )
        judged.answer.background = BackgroundTask(_keep, resources, known, kept)
    return judged.answer


def _headers(request: Request) -> dict[str, str]:
    """The headers by name; of several of one name the first."""
    return {name.lower(): value for name, value in reversed(request.headers.items())}


async def _judge(
    resources: ApiResources, known: KnownSource | None, request: Request, inbound: InboundRequest
) -> _Judgement:
    proof = PROOFS[SourceKind.GITHUB] if known is None else known.source.proof
    secrets = _NOBODY if known is None else tuple(known.secrets.values())
    reason = unproven(proof, inbound, secrets, datetime.now(UTC))
    if known is None or reason is not None:
        refusal = Problem(
            401,
            "unproven",
            "no source takes this request: the URL or the proof is wrong; the history of the source says which",
            headers={"WWW-Authenticate": 'Bearer realm="hookline"'},
        )
        return _Judgement("refused", problems.answer(refusal), reason)
    if not known.enabled:
        return _taken((), ("the source is disabled",))
    read = partial(_read, known, inbound)
    try:
        inline = len(inbound.body) <= _JUDGED_INLINE_BYTES and not known.source.rules
        outcome, events, texts = read() if inline else await run_in(resources.threads.publishing, read)
        if outcome.answer is not None:
            answer = Response(orjson.dumps(outcome.answer), 200, media_type="application/json")
            return _Judgement("ignored", answer, outcome.ignored[0])
        if events:
            await resources.event_rates.take(events)
            await resources.publisher.append(events, with_trace_of_request(texts, request.headers))
    except RateExceeded as exc:
        limit = Problem(429, "event-rate-exceeded", str(exc), headers={"Retry-After": str(exc.retry_after_seconds)})
        return _Judgement("failed", problems.answer(limit), str(exc))
    except (NotUnderstood, RuleFailed) as exc:
        return _Judgement("failed", problems.answer(Problem(422, "not-understood", str(exc))), str(exc))
    except HooklineError as exc:
        return _Judgement("failed", problems.answer(problems.problem_of(exc)), str(exc))
    return _taken(events, outcome.ignored)


def _taken(events: Sequence[AnyEvent], ignored: Sequence[str]) -> _Judgement:
    body = orjson.dumps({"accepted": len(events), "ignored": list(ignored)})
    answer = Response(body, 202, media_type="application/json")
    return _Judgement("accepted" if events else "ignored", answer, "; ".join(ignored) or None, events)


def _read(known: KnownSource, inbound: InboundRequest) -> tuple[Outcome, Sequence[AnyEvent], list[bytes]]:
    """What a proven request becomes, its events checked as those of any publisher."""
    body: Any = decode_json(quote_bare_numbers(json_of(inbound)))
    outcome = read_request(known.source, known.public_id, inbound, body)
    return outcome, *publishable(outcome.events)


async def _keep(resources: ApiResources, known: KnownSource, kept: SourceRequest) -> None:
    threads = resources.threads.source_history
    if threads.statistics().tasks_waiting >= _MOST_WAITING:
        return  # a slow database must not hold the places of requests that come

    def write() -> None:
        with write_transaction(resources.engine) as connection:
            insert_request(connection, known.number, kept)

    try:
        await run_in(threads, write)
    except SQLAlchemyError as exc:  # the request was answered already; its events are safe
        log.warning("source.request_not_kept", source=known.public_id, error=type(exc).__name__)
