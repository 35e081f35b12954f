"""A dry run says what evaluation then does, for random events and several automations, from nothing and from state."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from sqlalchemy import select, update

from shared.domain.events.decoding import check_event
from shared.domain.explain.dry_run import DryRunResult, PageWanted
from shared.domain.explain.simulator import DryRunOutcome, Reason, Simulator, Subject
from shared.domain.explain.text import Explanation
from shared.dry_runs import service, time_range
from shared.dry_runs.event_history import EventHistoryReader
from shared.dry_runs.time_range import TimeRange
from shared.messaging.streams import FIELD, stream_key
from shared.storage.database.transactions import read_transaction, write_transaction
from shared.storage.definitions.automations import find_automation
from shared.storage.definitions.revisions import next_revision
from shared.storage.schema.tables import automations, deliveries, metric_windows, webhooks
from tests.integration.scene import Scene, alias_event, beside, metric_event

ALL = PageWanted(limit=500)
START_MS = 1_700_000_000_000
_clock = itertools.count(START_MS, 400 * 3_600_000)  # each example has a time of its own, and streams only grow

ACC = {"metric": "acc", "op": "$gte", "threshold": 0.5}
AVERAGE = {"metric": "acc", "aggregate": "AVERAGE", "window": 3, "op": "$gt", "threshold": 0.4}
LOSS_FALLS = {"metric": "loss", "change": {"type": "ABSOLUTE", "direction": "DECREASE", "amount": 0.5}}
DEFINITIONS: list[dict[str, Any]] = [
    {"event": "ADD_ARTIFACT_ALIAS", "filter": {"alias": "prod"}},
    {"event": "ADD_ARTIFACT_ALIAS", "cooldown": {"per": "collection", "period": "2h"}, "rate_limit": "3/d"},
    {"event": "ADD_ARTIFACT_ALIAS", "cooldown": {"per": "automation", "period": "1h"}, "rate_limit": "2/h"},
    {"event": "RUN_METRIC", "conditions": [ACC]},
    {"event": "RUN_METRIC", "conditions": [ACC, LOSS_FALLS], "cooldown": None},
    {"event": "RUN_METRIC", "conditions": [AVERAGE], "cooldown": {"per": "run", "period": "3h"}, "rate_limit": "2/d"},
    {"event": "RUN_METRIC", "conditions": [ACC], "scope": {"project": "elsewhere"}},
    {"event": "RUN_STATE", "states": ["failed", "crashed"], "cooldown": {"per": "automation", "period": "1h"}},
    {"event": "RUN_METRIC", "conditions": [{"metric": "acc", "finite": False}], "cooldown": None},
    {"event": "RUN_STATE", "states": ["silent", "failed"], "silent_for": "30m", "cooldown": None},
    {"event": "RUN_ALERT", "filter": {"level": {"$ne": "INFO"}}, "cooldown": {"per": "run", "period": "2h"}},
    {"event": "REMOVE_ARTIFACT_ALIAS", "filter": {"alias": "prod"}, "cooldown": None},
]

samples = st.sampled_from([0.1, 0.4, 0.5, 0.6, 0.9, 1.5, "NaN", None])
aliases = st.builds(
    lambda kind, alias, collection: (kind, {"alias": alias, "collection": collection}),
    st.sampled_from(["alias", "alias", "removal"]),
    st.sampled_from(["prod", "latest"]),
    st.sampled_from(["a", "b"]),
)
alerts = st.builds(
    lambda run, level: ("alert", {"run": run, "level": level}),
    st.sampled_from(["r1", "r2"]),
    st.sampled_from(["INFO", "WARN", "ERROR"]),
)
metrics = st.builds(
    lambda run, step, values: ("metric", {"run": run, "step": step, "metrics": values}),
    st.sampled_from(["r1", "r2"]),
    st.integers(0, 12) | st.none(),
    st.dictionaries(st.sampled_from(["acc", "loss", "other"]), samples, min_size=1),
)
states = st.builds(
    lambda run, state: ("state", {"run": run, "state": state}),
    st.sampled_from(["r1", "r2"]),
    st.sampled_from(["failed", "crashed", "finished", "running", "running", "silent 1800", "silent 60"]),
)
# A number instead of an event repeats the one at that place before.
steps = st.tuples(st.integers(0, 4 * 3_600_000), st.one_of(metrics, aliases, states, alerts, st.integers(1, 5)))
histories = st.lists(steps, min_size=1, max_size=25)


def raw_event(kind: str, facts: dict[str, Any], number: int) -> Any:
    name = f"event-{number}"
    if kind in ("alias", "removal"):
        changed = alias_event(facts["alias"], collection=facts["collection"], event_id=name)
        return changed if kind == "alias" else {**changed, "type": "REMOVE_ARTIFACT_ALIAS"}
    if kind == "metric":
        return metric_event(facts["step"], run=facts["run"], event_id=name, **facts["metrics"])
    event = metric_event(0, run=facts["run"], event_id=name, acc=1)
    data: dict[str, Any] = {"entity": "acme", "project": "digits", "run": {"id": facts["run"]}}
    if kind == "alert":
        return {**event, "type": "RUN_ALERT", "data": {**data, "title": "Look here", "level": facts["level"]}}
    state, _, silent_seconds = facts["state"].partition(" ")
    lasts = {"silent_seconds": float(silent_seconds)} if silent_seconds else {}
    return {**event, "type": "RUN_STATE", "data": {**data, "state": state, **lasts}}


def append(scene: Scene, history: list[Any], base_ms: int, events: list[Any]) -> TimeRange:
    """Write a history to one partition, each entry at its own time; `events` are those before, and get the new ones."""
    at_ms = base_ms
    for wait_ms, step in history:
        at_ms += wait_ms + 1
        if isinstance(step, int):
            event = events[-step] if len(events) >= step else alias_event("prod", event_id=f"repeated-{base_ms}")
        else:
            event = raw_event(step[0], step[1], base_ms + len(events))
        events.append(event)
        scene.redis.xadd(stream_key(0), {FIELD: orjson.dumps(event)}, id=f"{at_ms}-*")
    return TimeRange(base_ms, at_ms + 1)


def subject_of(scene: Scene, automation_id: int) -> Subject:
    with read_transaction(scene.process.engine) as connection:
        stored = find_automation(connection, scene.entity_id, automation_id=automation_id)
        assert stored is not None
        return service.saved_subject(connection, stored)


def from_nothing(scene: Scene, automation_id: int, span: TimeRange) -> service.DryRunAnswer:
    subject = subject_of(scene, automation_id)
    return service.dry_run_range(subject, scene.redis, scene.settings.partitions, span, ALL)


def from_stored_state(scene: Scene, automation_id: int, span: TimeRange) -> service.DryRunAnswer:
    subject = subject_of(scene, automation_id)
    arrivals = list(EventHistoryReader(scene.redis, scene.settings.partitions, span, {"acme"}).arrivals())
    with read_transaction(scene.process.engine) as connection:
        simulator = service.stored_simulator(connection, subject, [arrival.event for arrival in arrivals])
    return service.dry_run_events(simulator, arrivals, ALL)


def made(scene: Scene, automation_id: int, span: TimeRange) -> list[tuple[str, str, str | None, str | None]]:
    """What evaluation made of a span: event, outcome, reason and payload, in order."""
    since, until = (time_range.moment(ms) for ms in (span.since_ms, span.until_ms))
    query = select(deliveries).where(
        deliveries.c.automation_id == automation_id,
        deliveries.c.event_received_at >= since,
        deliveries.c.event_received_at < until,
    )
    with read_transaction(scene.process.engine) as connection:
        rows = connection.execute(query.order_by(deliveries.c.seq)).all()
    return [(row.event_id, "skipped" if row.status == "skipped" else "fired", row.reason, row.payload) for row in rows]


def predicted(results: tuple[DryRunResult, ...]) -> list[tuple[str, str, str | None, str | None]]:
    return [
        (
            result.event.id,
            str(result.outcome),
            None if result.reason is None else str(result.reason),
            None if result.payload is None else orjson.dumps(result.payload).decode(),
        )
        for result in results
        if result.outcome in (DryRunOutcome.FIRED, DryRunOutcome.SKIPPED)
    ]


def assert_coherent(result: DryRunResult) -> None:
    """What the tree says fits the outcome: the scope's part to being in scope, and something decided."""
    parts: dict[str, Explanation] = {term.text: term for term in result.explanation.terms}
    if result.reason is not Reason.EVENT_TYPE:
        assert parts["scope"].held is (result.outcome is not DryRunOutcome.OUT_OF_SCOPE)
    if result.outcome is not DryRunOutcome.FIRED:
        assert result.decisive
        assert result.explanation.held is False
    else:
        assert all(term.held for term in result.explanation.terms)


@pytest.fixture
def small_batches(scene: Scene) -> Iterator[Scene]:
    """A scene whose batches end in the middle of histories."""
    with beside(scene, evaluate_batch=7) as small:
        yield small


@given(first=histories, second=histories)
@settings(
    max_examples=15,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    phases=[Phase.explicit, Phase.reuse, Phase.generate],  # shrinking takes minutes on real servers
)
def test_a_dry_run_says_what_evaluation_then_does(small_batches: Scene, first: list[Any], second: list[Any]) -> None:
    scene = small_batches
    base_ms = next(_clock)
    with write_transaction(scene.process.engine) as connection:  # the automations of the example before
        values = {"deleted_at": datetime.now(UTC), "revision": next_revision(connection)}
        connection.execute(update(automations).where(automations.c.deleted_at.is_(None)).values(values))
        connection.execute(update(webhooks).where(webhooks.c.deleted_at.is_(None)).values(values))
    hook = scene.webhook()
    made_of = [scene.automation(hook if n % 2 else None, **one) for n, one in enumerate(DEFINITIONS)]

    events: list[Any] = []
    spans = [append(scene, first, base_ms, events)]
    answers = {number: from_nothing(scene, number, spans[0]) for number in made_of}
    scene.process.partitions.drain(0)
    for number in made_of:
        assert predicted(answers[number].results) == made(scene, number, spans[0])

    spans.append(append(scene, second, spans[0].until_ms + 1, events))
    answers_then = {number: from_stored_state(scene, number, spans[1]) for number in made_of}
    scene.process.partitions.drain(0)
    for number in made_of:
        assert predicted(answers_then[number].results) == made(scene, number, spans[1])

    for answer in (*answers.values(), *answers_then.values()):
        for result in answer.results:
            assert_coherent(result)


def test_a_disabled_webhook_skips_as_evaluation_does(scene: Scene) -> None:
    number = scene.automation(scene.webhook(enabled=False))
    span = append(scene, [(0, ("alias", {"alias": "prod", "collection": "a"}))], next(_clock), [])

    answer = from_nothing(scene, number, span)
    scene.evaluate()

    assert [(result.outcome, result.reason) for result in answer.results] == [("skipped", "webhook_disabled")]
    assert [event[1:3] for event in made(scene, number, span)] == [("skipped", "webhook_disabled")]


def test_a_dry_run_from_stored_state_leaves_it_as_it_is(scene: Scene) -> None:
    number = scene.automation(None, event="RUN_METRIC", conditions=[AVERAGE], rate_limit="5/d")
    scene.publish(*(metric_event(step, acc=0.9) for step in range(3)))
    scene.evaluate()

    def stored() -> list[Any]:
        with read_transaction(scene.process.engine) as connection:
            tables = (metric_windows, deliveries)
            return [connection.execute(select(table)).all() for table in tables]

    before = stored()
    subject = subject_of(scene, number)
    event = check_event(metric_event(9, acc=0.1))
    arrivals = service.arrivals_of([event], datetime.now(UTC), as_of_now=True)
    with read_transaction(scene.process.engine) as connection:
        simulator = service.stored_simulator(connection, subject, [event])
    result = service.dry_run_events(simulator, arrivals, ALL).results[0]
    empty = service.dry_run_events(Simulator(subject), arrivals, ALL).results[0]

    assert result.decisive[0].value is None or result.decisive[0].value < 0.7
    assert "window has 1 of 3" in empty.decisive[0].text
    assert stored() == before


def test_a_span_is_read_in_order_over_partitions_and_stops_at_its_bound(scene: Scene) -> None:
    for ms in range(10, 40):
        event = alias_event("prod", event_id=f"e{ms}", **({"entity": "other"} if ms % 5 == 0 else {}))
        scene.redis.xadd(stream_key(ms % 4), {FIELD: orjson.dumps(event)}, id=f"{ms}-1")
    scene.redis.xadd(stream_key(0), {b"x": b"no event"}, id="41-1")

    whole = EventHistoryReader(scene.redis, 4, TimeRange(12, 35), {"acme"})
    ids = [arrival.event.id for arrival in whole.arrivals()]
    short = EventHistoryReader(scene.redis, 4, TimeRange(12, 35), {"acme"}, max_entries=5)
    first = [(arrival.event.id, arrival.received_ms) for arrival in short.arrivals()]

    assert ids == [f"e{ms}" for ms in range(12, 35) if ms % 5]
    assert (whole.truncated, whole.read_until_ms) == (False, 34)
    assert first == [(f"e{ms}", ms) for ms in (12, 13, 14, 16)]
    assert (short.truncated, short.read_until_ms) == (True, 16)
    assert list(EventHistoryReader(scene.redis, 4, TimeRange(41, 50), {"acme"}).arrivals()) == []
