"""Dry runs: each kind of "no" with its reason, the terms that decided, and what is kept from event to event."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from shared.domain.automations.model import Grants
from shared.domain.automations.parsing import parse_automation
from shared.domain.events.decoding import check_event
from shared.domain.events.partitioning import subject_key
from shared.domain.events.types import EventType
from shared.domain.explain.dry_run import DryRun, DryRunResult, PageWanted, dry_run
from shared.domain.explain.simulator import Arrival, DryRunOutcome, Reason, Simulator, Subject, WebhookState
from shared.domain.explain.text import GOING_BACK, Explanation
from shared.domain.json_text import read_json, write_json
from shared.domain.matching.compiled import compile_automation, firing_id
from shared.domain.matching.firing_rules import AutomationState
from shared.domain.matching.throttling import FiringState
from tests.unit.domain.samples import event

Raw = dict[str, Any]

START_MS = 1_795_000_000_000
HOUR_MS = 3_600_000
ALL = PageWanted(limit=500)
ON_ALIAS: Raw = {"event": "ADD_ARTIFACT_ALIAS", "filter": {"alias": {"$regex": "^prod"}}}
ON_METRIC: Raw = {
    "event": "RUN_METRIC",
    "conditions": [{"metric": "acc", "aggregate": "AVERAGE", "window": 2, "op": "$gte", "threshold": 0.5}],
}
ON_STATE: Raw = {"event": "RUN_STATE", "states": ["failed", "crashed"]}


def subject(
    *, webhook: WebhookState | None = None, payload: Raw | None = None, organizations: Any = None, **members: Any
) -> Subject:
    """An automation of acme with id 7; on the webhook's state if there is one."""
    action: Raw = {"no_op": True} if webhook is None else {"webhook": webhook.name}
    if payload is not None:
        action["payload"] = payload
    raw = {"name": "tried", "action": action, **members}
    automation = parse_automation(raw, lambda _name: Grants(frozenset({"TOKEN"})))
    compiled = compile_automation(
        automation, automation_id=7, entity_id=1, entity="acme", epoch=1, webhook_id=None if webhook is None else 3
    )
    return Subject(compiled, webhook, organizations or {})


def of(event_type: str = "ADD_ARTIFACT_ALIAS", *, at_ms: int = START_MS, name: str = "event-1", **data: Any) -> Arrival:
    return Arrival(check_event({**event(event_type, **data), "id": name}), at_ms)


def metric(step: int, **metrics: float | str) -> Arrival:
    return of("RUN_METRIC", name=f"step-{step}-{sorted(metrics)}", step=step, metrics=metrics, at_ms=START_MS + step)


def run(tried: Subject, *arrivals: Arrival, page: PageWanted = ALL, **state: Any) -> DryRun:
    return dry_run(Simulator(tried, **state), arrivals, page)


def only(tried: Subject, *arrivals: Arrival, **state: Any) -> DryRunResult:
    """The last result."""
    return run(tried, *arrivals, **state).results[-1]


def decided(result: DryRunResult) -> list[tuple[str, bool | None, Any]]:
    return [(term.text, term.held, term.value) for term in result.decisive]


def terms_of(explanation: Explanation) -> Iterator[Explanation]:
    yield explanation
    for term in explanation.terms:
        yield from terms_of(term)


@pytest.mark.parametrize(
    ("members", "arrival", "reason", "decisive"),
    [
        (
            ON_ALIAS,
            of("RUN_STATE"),
            Reason.EVENT_TYPE,
            [("event is ADD_ARTIFACT_ALIAS", False, "RUN_STATE")],
        ),
        (ON_ALIAS, of(entity="other"), Reason.SCOPE, [("entity is acme", False, "other")]),
        (
            {**ON_ALIAS, "scope": {"project": "p", "collection": "c"}},
            of(project="p"),
            Reason.SCOPE,
            [("collection is c", False, "llm-models")],
        ),
        (
            {**ON_ALIAS, "scope": {"project": "p", "collection": "llm-models"}},
            of(entity="other"),
            Reason.SCOPE,
            [("entity is acme", False, "other"), ("project is p", False, "wandb-registry-model")],
        ),
    ],
)
def test_what_is_out_of_scope_names_the_part_that_differs(
    members: Raw, arrival: Arrival, reason: Reason, decisive: list[Any]
) -> None:
    result = only(subject(**members), arrival)

    assert (result.outcome, result.reason) == (DryRunOutcome.OUT_OF_SCOPE, reason)
    assert decided(result) == decisive
    assert result.payload is None


ABSENT = 'metadata.stage $eq "gold": the event does not have it'


@pytest.mark.parametrize(
    ("members", "arrival", "reason", "decisive"),
    [
        (
            {**ON_ALIAS, "enabled": False},
            of(),
            Reason.AUTOMATION_DISABLED,
            [("automation is enabled", False, False)],
        ),
        (ON_ALIAS, of(alias="latest"), Reason.FILTER, [('alias $regex "^prod"', False, "latest")]),
        (
            {**ON_ALIAS, "filter": {"alias": "production", "metadata.stage": "gold"}},
            of(),
            Reason.FILTER,
            [(ABSENT, False, None)],
        ),
        (
            {**ON_ALIAS, "filter": {"$not": {"alias": "production"}}},
            of(),
            Reason.FILTER,
            [('alias $eq "production"', True, "production")],
        ),
        (ON_STATE, of("RUN_STATE"), Reason.STATE, [("run state is crashed or failed", False, "finished")]),
        (
            {**ON_STATE, "filter": {"display_name": "x"}},
            of("RUN_STATE", state="failed"),
            Reason.FILTER,
            [('display_name $eq "x"', False, "run one")],
        ),
        (
            ON_METRIC,
            metric(1, loss=0.5),
            Reason.NO_NEW_SAMPLE,
            [("has a new sample of acc: the event has no acc", False, 1)],
        ),
        (
            ON_METRIC,
            metric(1, acc=0.9),
            Reason.CONDITIONS,
            [("AVERAGE of acc over 2 $gte 0.5: window has 1 of 2 values", None, None)],
        ),
        (
            ON_METRIC,
            metric(1, acc="NaN"),
            Reason.CONDITIONS,
            [("AVERAGE of acc over 2 $gte 0.5: the newest value of acc is not a finite number", False, None)],
        ),
    ],
)
def test_what_does_not_match_names_the_term_and_the_value(
    members: Raw, arrival: Arrival, reason: Reason, decisive: list[Any]
) -> None:
    result = only(subject(**members), arrival)

    assert (result.outcome, result.reason) == (DryRunOutcome.NO_MATCH, reason)
    assert decided(result) == decisive


def test_conditions_show_what_they_compared() -> None:
    result = only(subject(**ON_METRIC), metric(1, acc=0.2), metric(2, acc=0.6))

    assert (result.outcome, result.reason) == (DryRunOutcome.NO_MATCH, Reason.CONDITIONS)
    assert decided(result) == [("AVERAGE of acc over 2 $gte 0.5", False, 0.4)]


def test_an_old_sample_says_after_which_step_it_came() -> None:
    result = only(subject(**ON_METRIC), metric(5, acc=0.2), metric(4, acc=0.9))

    assert result.reason is Reason.NO_NEW_SAMPLE
    why = "has a new sample of acc: step 4 is not after 5, the last of acc; " + GOING_BACK
    assert decided(result) == [(why, False, 4)]


def test_conditions_that_stay_true_say_since_which_step() -> None:
    results = run(subject(**ON_METRIC), *(metric(step, acc=0.9) for step in (3, 5, 7, 8))).results

    assert [result.outcome for result in results] == ["no_match", "fired", "no_match", "no_match"]
    assert results[-1].reason is Reason.ALREADY_TRUE
    assert decided(results[-1]) == [
        ("conditions became true with this event: they were true already, since step 5", False, 5)
    ]


def test_conditions_that_were_true_in_the_stored_state_say_so() -> None:
    tried = subject(**ON_METRIC)
    assert tried.compiled.conditions is not None
    windows = tried.compiled.conditions.new_state()
    for step in (1, 2):
        tried.compiled.conditions.observe(windows, step, {"acc": 0.9})
    arrival = metric(3, acc=0.9)

    result = only(tried, arrival, kept={subject_key(arrival.event): AutomationState(windows)})

    assert result.reason is Reason.ALREADY_TRUE
    assert "since before this dry run" in result.decisive[0].text


def test_what_fires_names_the_terms_that_held_and_masks_secrets() -> None:
    hook = WebhookState("hook")
    result = only(subject(webhook=hook, payload={"alias": "$alias", "token": "${TOKEN}"}, **ON_ALIAS), of())

    assert (result.outcome, result.reason) == (DryRunOutcome.FIRED, None)
    assert result.payload == {"alias": "production", "token": "***TOKEN***"}
    assert decided(result) == [('alias $regex "^prod"', True, "production")]
    assert result.explanation.held
    assert all(term.held for term in terms_of(result.explanation))


def test_a_payload_has_the_id_that_the_delivery_will_have() -> None:
    tried = subject(webhook=WebhookState("hook"), payload={"id": "${delivery_id}"}, **ON_ALIAS)
    arrival = of()

    assert only(tried, arrival).payload == {"id": firing_id(7, arrival.event)}


@pytest.mark.parametrize(
    ("webhook", "outcome", "reason", "text"),
    [
        (
            WebhookState("hook", enabled=False, disabled_reason="the endpoint answered 410"),
            DryRunOutcome.SKIPPED,
            Reason.WEBHOOK_DISABLED,
            "webhook 'hook' is enabled: the endpoint answered 410",
        ),
        (
            WebhookState("hook", paused=True),
            DryRunOutcome.FIRED,
            Reason.WEBHOOK_PAUSED,
            "webhook 'hook' is not paused: the delivery would wait",
        ),
    ],
)
def test_the_webhook_has_its_say(webhook: WebhookState, outcome: DryRunOutcome, reason: Reason, text: str) -> None:
    result = only(subject(webhook=webhook, **ON_ALIAS), of())

    assert (result.outcome, result.reason) == (outcome, reason)
    assert [term.text for term in terms_of(result.explanation) if term.held is False and not term.terms] == [text]


def test_a_cooldown_says_when_it_began_and_how_long_it_lasts() -> None:
    tried = subject(**ON_STATE, cooldown={"per": "run", "period": "24h"})
    first = of("RUN_STATE", state="failed", name="a")
    second = of("RUN_STATE", state="crashed", name="b", at_ms=START_MS + HOUR_MS)
    other_run = of("RUN_STATE", state="failed", name="c", run={"id": "r2"}, at_ms=START_MS + HOUR_MS)
    later = of("RUN_STATE", state="failed", name="d", at_ms=START_MS + 24 * HOUR_MS)

    results = run(tried, first, second, other_run, later).results

    assert [result.outcome for result in results] == ["fired", "skipped", "fired", "fired"]
    assert results[1].reason is Reason.COOLDOWN
    began = datetime.fromtimestamp(START_MS / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    assert decided(results[1]) == [(f"cooldown of 1d per run: fired for this run at {began}, 23h left", False, began)]


def test_a_rate_limit_says_how_much_of_it_is_used() -> None:
    tried = subject(**ON_ALIAS, rate_limit="2/min")
    arrivals = [of(name=str(n), at_ms=START_MS + ms) for n, ms in enumerate((0, 1000, 2000, 60_000, 60_999))]

    results = run(tried, *arrivals).results

    assert [result.outcome for result in results] == ["fired", "fired", "skipped", "fired", "skipped"]
    assert decided(results[2]) == [("rate limit 2/min: 2 of 2 used in the period before", False, 2)]


def test_a_repeat_fires_nothing_again() -> None:
    tried = subject(**ON_ALIAS)

    within = run(tried, of(), of()).results
    stored = only(tried, of(), delivered={firing_id(7, of().event)})

    assert [result.reason for result in within] == [None, Reason.REPEATED]
    assert (stored.outcome, stored.reason) == (DryRunOutcome.NO_MATCH, Reason.REPEATED)
    assert stored.decisive[0].value == firing_id(7, of().event)


def test_a_payload_that_is_too_large_is_skipped() -> None:
    metadata = {"blob": "x" * 900_000}
    artifact = {"id": "a", "version": "v1", "metadata": metadata}
    payload = {str(n): "${artifact_metadata.blob}" for n in range(5)}
    result = only(subject(webhook=WebhookState("hook"), payload=payload, **ON_ALIAS), of(artifact=artifact))

    assert (result.outcome, result.reason, result.payload) == (
        DryRunOutcome.SKIPPED,
        Reason.PAYLOAD_TOO_LARGE,
        None,
    )


def test_a_team_is_inside_its_organization_but_its_projects_are_its_own() -> None:
    organizations = {"team": ("acme",)}
    whole = subject(organizations=organizations, **ON_ALIAS)
    project = subject(organizations=organizations, **ON_ALIAS, scope={"project": "wandb-registry-model"})

    assert only(whole, of(entity="team")).outcome is DryRunOutcome.FIRED
    result = only(project, of(entity="team"))
    assert decided(result) == [("entity is acme", False, "team")]


def test_stored_state_is_where_it_starts_from() -> None:
    tried = subject(**ON_STATE, cooldown={"per": "automation", "period": "1h"}, rate_limit="1/h")
    arrival = of("RUN_STATE", state="failed", at_ms=START_MS)

    assert only(tried, arrival, kept={"": AutomationState(firing=FiringState(START_MS - 1))}).reason is Reason.COOLDOWN
    used = FiringState(START_MS - 2 * HOUR_MS, (START_MS - 1,))
    assert only(tried, arrival, kept={"": AutomationState(firing=used)}).reason is Reason.RATE_LIMIT


@pytest.mark.parametrize("value", [float("nan"), 2**70, {"deep": [float("inf")]}, "long" * 1000])
def test_whatever_an_event_holds_the_answer_is_json(value: object) -> None:
    arrival = of(artifact={"id": "a", "version": "v1", "metadata": {"key": 1}})
    arrival.event.data.artifact.metadata["key"] = value  # type: ignore[union-attr]
    result = only(subject(event="ADD_ARTIFACT_ALIAS", filter={"metadata.key": 1}), arrival)

    written = read_json(write_json(result))

    assert result.reason is Reason.FILTER
    assert len(str(written["decisive"][0]["value"])) <= 500


def test_counts_are_of_all_events_and_pages_of_the_wanted_results() -> None:
    tried = subject(**ON_ALIAS, rate_limit="3/h")
    aliases = ["prod", "latest"] * 5
    arrivals = [of(name=str(n), alias=alias) for n, alias in enumerate(aliases)] + [of("RUN_STATE")]

    page = run(tried, *arrivals, page=PageWanted(DryRunOutcome.NO_MATCH, 0, 2))
    last = run(tried, *arrivals, page=PageWanted(DryRunOutcome.NO_MATCH, 4, 2))

    counts = page.summary
    assert (counts.events, counts.in_scope, counts.matched, counts.fired, counts.skipped) == (11, 10, 5, 3, 2)
    assert last.summary == counts
    assert ([result.event.id for result in page.results], page.next) == (["1", "3"], 2)
    assert ([result.event.id for result in last.results], last.next) == (["9"], None)


def test_a_page_of_large_payloads_ends_before_its_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shared.domain.explain.dry_run.MAX_PAGE_CHARS", 20_000)
    tried = subject(webhook=WebhookState("hook"), payload={"text": "x" * 9000}, **ON_ALIAS)

    page = run(tried, *(of(name=str(n)) for n in range(10)))

    assert (len(page.results), page.next, page.summary.fired) == (3, 3, 10)


@pytest.mark.parametrize("event_type", list(EventType))
def test_every_type_of_event_can_be_explained(event_type: EventType) -> None:
    members: Raw = {"event": str(event_type), "filter": {"author": "alice"}}
    if event_type is EventType.RUN_METRIC:
        members["conditions"] = [{"metric": "val_accuracy", "op": "$gt", "threshold": 0.9}]
    if event_type is EventType.RUN_STATE:
        members["states"] = ["finished"]

    result = only(subject(**members), of(event_type))

    assert result.outcome is DryRunOutcome.FIRED
    assert result.explanation.terms[0].text == f"event is {event_type}"
