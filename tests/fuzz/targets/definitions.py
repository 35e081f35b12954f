"""Automations: an accepted definition is read back as it was written, and every event gets one answer from all parts.

What the index finds, what the compiled filter says and what a dry run explains must agree, and an explanation must be
JSON that can be answered.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import orjson
from hypothesis import strategies as st

from shared.domain.automations.model import Automation, Grants
from shared.domain.automations.parsing import parse_automation
from shared.domain.errors import InvalidDefinition
from shared.domain.events.decoding import decode_event
from shared.domain.events.models import Event
from shared.domain.events.types import EventType
from shared.domain.explain.simulator import Arrival, Considered, DryRunOutcome, Reason, Simulator, Subject
from shared.domain.explain.text import explain_outcome
from shared.domain.filters.budget import FilterBudget
from shared.domain.json_text import read_json, write_json
from shared.domain.matching.compiled import CompiledAutomation, compile_automation
from shared.domain.matching.index import AutomationIndex
from shared.domain.payloads.content_types import FORM, PLAIN
from shared.domain.payloads.sealed import shown_payload
from tests.fuzz.oracles import check_refusal, in_time, members_of
from tests.fuzz.strategies import as_json, json_values
from tests.fuzz.target import Target
from tests.unit.domain.samples import event as sample

MAX_EVENTS = 10
GRANTS = Grants(frozenset({"TOKEN"}), has_access_token=True)
OUTCOMES_OF_MATCHES = {DryRunOutcome.FIRED, DryRunOutcome.SKIPPED}


def check(data: bytes) -> None:
    """`{"definition": {…}, "events": [{…}, …]}`."""
    members = members_of(data)
    raw = members.get("definition")
    with in_time(data):
        try:
            automation = _parsed(raw)
        except InvalidDefinition as refusal:
            check_refusal(refusal, raw)
            return
    _check_round_trip(automation)
    compiled = compile_automation(
        automation, automation_id=1, entity_id=1, entity="acme", epoch=1, webhook_id=1 if automation.template else None
    )
    index = AutomationIndex()
    index.put(compiled)
    subject = Subject(compiled)
    simulator = Simulator(subject)
    received_ms = 1_800_000_000_000
    for event in _events(members.get("events")):
        with in_time(data):
            considered = simulator.consider(Arrival(event, received_ms))
            tree, decisive = explain_outcome(subject, considered)
        orjson.dumps([asdict(tree), [asdict(term) for term in decisive]])
        _check_agreement(index, compiled, event, considered)
        received_ms += 1000


def _parsed(raw: object) -> Automation:
    return parse_automation(raw, lambda name: GRANTS if name == "hook" else None, lambda name: name == "slack")


def _events(raw: object) -> Iterator[Event]:
    for one in raw[:MAX_EVENTS] if isinstance(raw, list) else []:
        try:
            yield decode_event(json.dumps(one).encode())
        except InvalidDefinition:
            continue


def _check_round_trip(automation: Automation) -> None:
    written = write_json(automation.to_json())
    assert b"\\u0000" not in written, "no database takes U+0000"
    again = _parsed(read_json(written))
    assert again == automation
    assert write_json(again.to_json()) == written


def _check_agreement(
    index: AutomationIndex, compiled: CompiledAutomation, event: Event, considered: Considered
) -> None:
    found = list(index.matching(event, FilterBudget(), []))
    scoped = considered.outcome is not DryRunOutcome.OUT_OF_SCOPE
    if not scoped:
        assert not found
        return
    if not compiled.automation.enabled:
        assert considered.reason is Reason.AUTOMATION_DISABLED
        return
    assert bool(found) is compiled.matches(event) is considered.matched
    if considered.outcome in OUTCOMES_OF_MATCHES:
        assert considered.matched
        assert considered.delivery_id
        if considered.sealed is not None:
            shown_payload(considered.sealed)


WORDS = (
    *("name", "description", "enabled", "scope", "event", "filter", "conditions", "states", "action", "cooldown"),
    *("rate_limit", "project", "collection", "webhook", "payload", "slack", "title", "message", "severity", "no_op"),
    *("per", "period", "run", "automation", "24h", "1h30m", "0s", "60/min", "1000/d", "hook", "ERROR", "${TOKEN}"),
    *("$regex", "$and", "$not", "alias", "metadata.k", "display_name", "config.a", "${alias}", "definition", "events"),
    *("payload_types", "content_type", "json", "text", FORM, PLAIN, "application/x+json", "${version}", "$schema"),
    *map(str, EventType),
)
_actions = st.sampled_from(
    [
        {"no_op": True},
        {"webhook": "hook"},
        {"webhook": "hook", "payload": {"t": "${TOKEN}", "v": "$alias ${run_id}"}},
        {"webhook": "hook", "payload": ["$alias", {"$schema": "${artifact_metadata.k:-x}"}], "payload_types": "json"},
        {"webhook": "hook", "payload": {"a": "${event_id}", "b": {"c": "$TOKEN"}}, "content_type": FORM},
        {"webhook": "hook", "content_type": FORM, "payload_types": "json"},
        {"webhook": "hook", "payload": "by $event_author ${TOKEN}", "content_type": PLAIN},
        {"slack": "slack", "title": "${metric_name}", "severity": "WARN"},
    ]
)
_filters: st.SearchStrategy[Any] = st.one_of(
    st.just({}),
    st.fixed_dictionaries({"$or": st.lists(st.fixed_dictionaries({"author": json_values}), min_size=1, max_size=2)}),
    st.sampled_from([{"author": {"$regex": "^a"}}, {"project": {"$not": {"$contains": "x"}}}]),
)
_own: dict[EventType, dict[str, Any]] = {
    EventType.RUN_METRIC: {"conditions": [{"metric": "val_accuracy", "op": "$gt", "threshold": 0.9}]},
    EventType.RUN_STATE: {"states": ["finished"]},
}
_more = {
    "scope": st.sampled_from([{}, {"project": "wandb-registry-model"}, {"project": "other"}]),
    "cooldown": st.none() | st.just({"per": "automation", "period": "2s"}),
    "rate_limit": st.sampled_from([None, "1/s", "60/min"]),
    "enabled": st.booleans(),
    "description": st.none() | st.text(max_size=5),
}


@st.composite
def _inputs(draw: st.DrawFn) -> dict[str, Any]:
    event_type = draw(st.sampled_from(EventType))
    definition = draw(st.fixed_dictionaries({"action": _actions, "filter": _filters}, optional=_more))
    definition |= {"name": "n", "event": str(event_type)} | _own.get(event_type, {})
    events = [sample(event_type, **_own_data(event_type, step)) for step in range(draw(st.integers(0, 3)))]
    return {"definition": definition, "events": [one | {"id": str(n)} for n, one in enumerate(events)]}


def _own_data(event_type: EventType, step: int) -> dict[str, Any]:
    return {"step": step, "metrics": {"val_accuracy": 0.8 + step / 10}} if event_type is EventType.RUN_METRIC else {}


TARGET = Target(check, inputs=as_json(_inputs(), WORDS), words=WORDS)
