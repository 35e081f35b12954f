"""`/v1/events` and `/v1/schemas`: intake.

An event is answered with 202 once the stream has it, and not before.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache, partial
from typing import Any

from fastapi import APIRouter, Depends, Request, Response
from fastapi.routing import APIRoute
from pydantic import BaseModel

from dispatcher.api.authentication import CallerDep, authenticated
from dispatcher.api.bodies import check_few_values, decode_json, media_type, read_body
from dispatcher.api.caller_cache import Caller
from dispatcher.api.cloud_events import binary_attributes, with_trace_of_request
from dispatcher.api.described_forms import reference
from dispatcher.api.operation_index import checked_query
from dispatcher.api.problems import Problem, too_large
from dispatcher.api.resources import ApiResources, ResourcesDep
from dispatcher.api.threads import run_in
from dispatcher.control.definition_schemas import SCHEMAS
from dispatcher.control.errors import Forbidden, NotFound
from dispatcher.control.vocabulary import Vocabulary, vocabulary
from dispatcher.publishing.event_rates import RateExceeded
from shared.domain.errors import FieldError, InvalidDefinition
from shared.domain.events.decoding import check_published, json_schema, refuse_own_sources
from shared.domain.events.fast_decoding import AnyEvent, quick_event, quick_events
from shared.domain.events.limits import MAX_BATCH_BYTES, MAX_BATCH_EVENTS, MAX_EVENT_BYTES
from shared.domain.events.models import Event
from shared.domain.events.types import EventType
from shared.domain.json_text import quote_bare_numbers, write_json

router = APIRouter(prefix="/v1", tags=["events"])

_OPEN = (Depends(checked_query),)
_ACCEPTED = 202
ONE_TYPE = "application/cloudevents+json"
BATCH_TYPE = "application/cloudevents-batch+json"
EITHER_TYPE = "application/json"
# A body up to this size is checked on the event loop: handing it to a thread would take longer.
_CHECKED_INLINE_BYTES = 16 << 10
# One media type only: with several, the standard Python generator writes a test of types that Python refuses.
_BODY = {
    "requestBody": {
        "required": True,
        "content": {EITHER_TYPE: {"schema": {"anyOf": [reference("CloudEvent"), reference("EventBatch")]}}},
        "description": f"One event, or a batch. `{ONE_TYPE}` and `{BATCH_TYPE}` are accepted as well.",
    }
}


class _Direct(APIRoute):
    """The route of publishing, described like all others, and served without solving its dependencies.

    FastAPI looks anew at each request how to call what the handler depends on: a quarter of the cost of publishing one
    event, the most frequent request.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """What gives a request's answer."""

        async def handle(request: Request) -> Response:
            resources: ApiResources = request.app.state.resources
            accepted = await publish_events(request, await authenticated(request, resources), resources)
            return Response(b'{"accepted":%d}' % accepted.accepted, _ACCEPTED, media_type=EITHER_TYPE)

        return handle


class Accepted(BaseModel):
    """The number of events that the streams accepted."""

    accepted: int


async def publish_events(request: Request, caller: CallerDep, resources: ResourcesDep) -> Accepted:
    """Publish one event, or a batch that is accepted or refused as a whole.

    You may repeat it without an `Idempotency-Key`: `source` and `id` identify an event, and a repeat fires nothing.
    An event may also have its attributes in `ce-` headers, and its `data` as the body (CloudEvents' binary mode).
    """
    kind = media_type(request)
    structured = kind in (ONE_TYPE, BATCH_TYPE)
    attributes = None if structured else binary_attributes(request.headers)
    if attributes is not None:
        return await _publish_binary(request, kind, attributes, caller, resources)
    if not structured and kind != EITHER_TYPE:
        raise Problem(415, "unsupported-media-type", f"the body must be {ONE_TYPE}, {BATCH_TYPE} or {EITHER_TYPE}")
    limit_bytes = MAX_EVENT_BYTES if kind == ONE_TYPE else MAX_BATCH_BYTES
    body = await read_body(request, limit_bytes, what="an event" if kind == ONE_TYPE else "a batch")
    if len(body) <= _CHECKED_INLINE_BYTES:
        events, texts = _check_body(body, kind)
    else:
        events, texts = await run_in(resources.threads.publishing, partial(_check_body, body, kind))
    return await _append(request, caller, resources, events, texts)


router.add_api_route(
    "/events",
    publish_events,
    methods=["POST"],
    status_code=_ACCEPTED,
    openapi_extra=_BODY,
    route_class_override=_Direct,
)


async def _publish_binary(
    request: Request, kind: str, attributes: dict[str, str], caller: Caller, resources: ApiResources
) -> Accepted:
    if kind and kind != EITHER_TYPE and not kind.endswith("+json"):
        raise Problem(415, "unsupported-media-type", f"with `ce-` headers the body must be {EITHER_TYPE}, the data")
    body = await read_body(request, MAX_EVENT_BYTES, what="an event")
    check = partial(_check_binary, attributes, body)
    inline = len(body) <= _CHECKED_INLINE_BYTES
    events, texts = check() if inline else await run_in(resources.threads.publishing, check)
    return await _append(request, caller, resources, events, texts)


async def _append(
    request: Request, caller: Caller, resources: ApiResources, events: Sequence[AnyEvent], texts: Sequence[bytes]
) -> Accepted:
    await _authorize(resources, caller, events)
    with refused_rates():
        await resources.event_rates.take(events)
    texts = with_trace_of_request(texts, request.headers)
    return Accepted(accepted=await resources.publisher.append(events, texts))


@contextmanager
def refused_rates() -> Iterator[None]:
    """Answer with 429 where an entity publishes more events than it may."""
    try:
        yield
    except RateExceeded as exc:
        seconds = str(exc.retry_after_seconds)
        raise Problem(429, "event-rate-exceeded", str(exc), headers={"Retry-After": seconds}) from None


def _check_binary(attributes: dict[str, str], body: bytes) -> tuple[Sequence[AnyEvent], Sequence[bytes]]:
    """The event whose data are the body, and its JSON text."""
    candidate: dict[str, Any] = dict(attributes)
    if body:
        candidate["data"] = decode_json(quote_bare_numbers(body))
    return _check_one(candidate), [write_json(candidate)]


def _check_one(candidate: object) -> list[Event]:
    """A single event, whose faults carry no index."""
    try:
        events = check_published([candidate])
    except InvalidDefinition as exc:
        raise InvalidDefinition(*(FieldError(error.loc[1:], error.msg) for error in exc.errors)) from None
    refuse_own_sources([events[0].source], single=True)
    return events


def _check_body(body: bytes, kind: str) -> tuple[Sequence[AnyEvent], Sequence[bytes]]:
    """The events of a body, each with its JSON text: the quick way where that leaves no doubt."""
    check_few_values(body)
    quick = None if kind == ONE_TYPE else quick_events(body)
    if quick is not None and quick[0]:
        refuse_own_sources([event.source for event in quick[0]], single=False)
        return quick
    if kind != BATCH_TYPE and (event := quick_event(body)) is not None:
        refuse_own_sources([event.source], single=True)
        return [event], [body]
    candidates, events = _check_with_models(body, kind)
    return events, [write_json(candidate) for candidate in candidates]


def _check_with_models(body: bytes, kind: str) -> tuple[Sequence[object], list[Event]]:
    """The events of a body, as they came and checked; faults of a single event carry no index."""
    value = decode_json(quote_bare_numbers(body))
    if isinstance(value, list) and kind != ONE_TYPE:
        if len(value) > MAX_BATCH_EVENTS:
            raise Problem(413, "too-large", f"a batch must have at most {MAX_BATCH_EVENTS} events")
        events = check_published(value)
        refuse_own_sources([event.source for event in events], single=False)
        return value, events
    if kind == BATCH_TYPE:
        raise InvalidDefinition.at((), "must be an array of events")
    if len(body) > MAX_EVENT_BYTES:
        raise too_large("an event", MAX_EVENT_BYTES)
    return [value], _check_one(value)


async def _authorize(resources: ApiResources, caller: Caller, events: Sequence[AnyEvent]) -> None:
    names = {event.data.entity for event in events}
    if names <= caller.publishes:
        return
    refused = await run_in(resources.threads.publishing, partial(resources.callers.refused_entities, caller, names))
    if refused:
        faults = (
            FieldError((index, "data", "entity"), "must be an entity that this key may publish to")
            for index, event in enumerate(events)
            if event.data.entity in refused
        )
        raise Forbidden(f"this key may not publish to {', '.join(map(repr, sorted(refused)))}", *faults)


class EventTypes(BaseModel):
    """Everything that has a schema."""

    types: list[str]
    """The event types."""
    definitions: list[str]
    """What teams define: automations, webhooks, Slack integrations, sources, and the document of `hookline apply`."""


@router.get("/schemas", dependencies=_OPEN)
def list_schemas() -> EventTypes:
    """List the event types and definitions that have a schema."""
    return EventTypes(types=[str(event_type) for event_type in EventType], definitions=list(SCHEMAS))


@router.get("/vocabulary", dependencies=_OPEN)
def get_vocabulary() -> Vocabulary:
    """List for each event type the variables of payloads and the fields of filters, for forms and editors."""
    return vocabulary()


@router.get("/schemas/{event_type}", dependencies=_OPEN, response_model=dict[str, Any])
def get_schema(event_type: str) -> Response:
    """Get the JSON Schema of an event type, or of `automation`, `webhook`, `slack`, `source` or `manifest`.

    Editors complete and check by it: a YAML file begins with `# yaml-language-server: $schema=<this URL>`.
    """
    if event_type not in EventType.__members__ and event_type not in SCHEMAS:
        raise NotFound(f"there is no event type {event_type!r}; there are {', '.join((*EventType, *SCHEMAS))}")
    return Response(_schema_text(event_type), media_type="application/json")


@lru_cache(maxsize=len(EventType) + len(SCHEMAS))
def _schema_text(name: str) -> bytes:
    """Made once for each: whoever has no key may ask for it again and again."""
    return write_json(SCHEMAS[name]() if name in SCHEMAS else json_schema(EventType(name)))
