"""From a request that was proven to be a source's to the events that it becomes, or the reasons why it becomes none."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import parse_qs

from shared.domain.errors import InvalidDefinition
from shared.domain.events.decoding import check_published
from shared.domain.events.fast_decoding import AnyEvent
from shared.domain.events.limits import MAX_BATCH_BYTES
from shared.domain.events.own_sources import source_of_webhooks
from shared.domain.filters.filters import MISSING
from shared.domain.json_text import write_json
from shared.domain.sources import event_grid, github, gitlab, hugging_face, mlflow
from shared.domain.sources.bodies import fit_key
from shared.domain.sources.event_grid import envelope_key, envelopes
from shared.domain.sources.model import Draft, InboundRequest, Reading, Source, SourceKind
from shared.domain.sources.rules import MAX_ITEMS, RequestBudget, RuleFailed, RuleSubject, filled, filled_id, holds

FORM: Final = "application/x-www-form-urlencoded"
_READERS: Mapping[SourceKind, Callable[[Source, InboundRequest, object], Reading]] = {
    SourceKind.MLFLOW: mlflow.read,
    SourceKind.GITHUB: github.read,
    SourceKind.GITLAB: gitlab.read,
    SourceKind.HUGGING_FACE: hugging_face.read,
    SourceKind.EVENT_GRID: event_grid.read,
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a request becomes: events as JSON objects that are yet to be checked, and why parts of it are none."""

    events: tuple[dict[str, Any], ...] = ()
    ignored: tuple[str, ...] = ()
    answer: dict[str, Any] | None = None


def json_of(request: InboundRequest) -> bytes:
    """The JSON text of a request: its body, or the field `payload` of a form, which GitHub sends by default."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != FORM:
        return request.body
    try:
        fields = parse_qs(request.body.decode("ascii"), max_num_fields=20)
    except (UnicodeDecodeError, ValueError):
        return b""
    return fields.get("payload", [""])[0].encode("utf-8", "surrogatepass")


def read_request(source: Source, source_id: str, request: InboundRequest, body: object) -> Outcome:
    """What a proven request with this decoded body becomes.

    The events are of the source's own entity, whatever the body says, and those of a redelivery have the same ids.

    Raises:
        NotUnderstood: when the body is none of this kind of source.
        RuleFailed: when a rule can't be applied to it.
    """
    if source.kind is SourceKind.EVENT_GRID and (answer := event_grid.handshake(body)) is not None:
        return Outcome(ignored=("Event Grid's validation of the endpoint was answered",), answer=answer)
    reading = _by_rules(source, request, body) if source.rules else _READERS[source.kind](source, request, body)
    if not reading.drafts and not reading.ignored:
        reading.ignore("it says nothing of a model or a run")
    return Outcome(tuple(_events(source, source_id, reading.drafts)), tuple(reading.ignored[:10]))


def _by_rules(source: Source, request: InboundRequest, body: object) -> Reading:
    reading, budget = Reading(), RequestBudget()
    for subject in _subjects(source, request, body):
        held = False
        for rule in source.rules:
            for place, one in enumerate(rule.subjects(subject)):
                if not holds(rule, one, budget):
                    continue
                held = True
                if len(reading.drafts) == MAX_ITEMS:
                    raise RuleFailed(f"the request would become more than {MAX_ITEMS} events")
                data = filled(rule.data, one, budget)
                key = fit_key(filled_id(rule.id, one, budget), *((place,) if rule.each is not None else ()))
                time = filled(rule.time, one, budget)
                reading.drafts.append(
                    Draft(type=rule.type, key=key, data=data, time=None if time is MISSING else time or None)
                )
        if not held:
            reading.ignore("no rule's `when` holds of it")
    return reading


def _subjects(source: Source, request: InboundRequest, body: object) -> Iterator[RuleSubject]:
    """The bodies that rules read: Event Grid's events one by one."""
    if source.kind is SourceKind.EVENT_GRID:
        for envelope in envelopes(body):
            yield RuleSubject(envelope, request.headers, envelope_key(envelope))
    else:
        yield RuleSubject(body, request.headers, request.delivery_id(source.proof))


def _events(source: Source, source_id: str, drafts: list[Draft]) -> Iterator[dict[str, Any]]:
    seen: dict[str, int] = {}
    for draft in drafts:
        event_id = f"{draft.key}/{draft.type}"
        seen[event_id] = repeated = seen.get(event_id, 0) + 1
        data = {"project": source.project, **draft.data} if source.project is not None else dict(draft.data)
        yield {
            "specversion": "1.0",
            "id": event_id if repeated == 1 else f"{event_id}/{repeated}",
            "source": source_of_webhooks(source_id),
            "type": str(draft.type),
            **({} if draft.time is None else {"time": draft.time}),
            "data": {**data, "entity": source.entity},
        }


def publishable(candidates: Sequence[dict[str, Any]]) -> tuple[Sequence[AnyEvent], list[bytes]]:
    """The events that a request becomes, checked as those of any publisher, each with its JSON text.

    Raises:
        InvalidDefinition: naming each fault.
    """
    if not candidates:
        return (), []
    events = check_published(candidates)
    texts = [write_json(candidate) for candidate in candidates]
    if sum(map(len, texts)) > MAX_BATCH_BYTES:
        raise InvalidDefinition.at((), f"the events must be at most {MAX_BATCH_BYTES} bytes together")
    return events, texts
