"""A dry run in words: what each stage of evaluation saw of an event, as a tree, and the terms that decided.

The stages come in the order of evaluation, and the first that does not hold decides. Must not decide anything itself:
`shared.domain.explain.simulator` found it out.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from shared.domain.automations.model import Automation, Cooldown
from shared.domain.conditions.conditions import needed_values
from shared.domain.conditions.windows import explain
from shared.domain.durations import Rate, format_duration
from shared.domain.events.models import (
    Event,
    OwnData,
    RunAlertData,
    RunMetricData,
    RunMetricEvent,
    RunStateData,
    RunStateEvent,
)
from shared.domain.events.types import RunPhase
from shared.domain.events.values import non_finite
from shared.domain.explain.simulator import Considered, DryRunOutcome, Reason, Samples, Subject
from shared.domain.filters.budget import EVENT_UNITS, FilterBudget, FilterTooCostly
from shared.domain.filters.fields import field_getter
from shared.domain.filters.terms import MISSING, Term
from shared.domain.json_text import read_json, write_json
from shared.domain.matching.throttling import FiringState, cooldown_refusal, rate_refusal
from shared.domain.visible_text import shortened

MAX_SHOWN_CHARS = 500
"""A value or an operand of an explanation is cut here: longer ones hide what an explanation is about."""
GOING_BACK = "a run that goes back to an earlier step has to start again, by a RUN_STATE event `running`"
TOO_COSTLY = (
    f"filter takes at most {EVENT_UNITS:,} units of work on an event: it has too many or too large patterns for this"
    " event's texts and lists"
)


@dataclass(frozen=True, slots=True)
class Explanation:
    """One term: whether it held for the event (null: undecided), and the value that it used."""

    text: str
    held: bool | None
    value: Any = None
    terms: tuple[Explanation, ...] = ()


@dataclass(frozen=True, slots=True)
class _Stage:
    """One stage of evaluation: its terms, those of them that decided, and the reasons that its failure has."""

    node: Explanation
    decisive: tuple[Explanation, ...]
    failing: tuple[Reason, ...]
    telling: bool = False
    """Whether it belongs to the automation's statement, so that it also says why something fired."""


_ABSENT = {
    Reason.NOT_CREATED: "automation exists: it was created later",
    Reason.DELETED: "automation exists: it was deleted before",
    Reason.NOT_KEPT: "what the automation was then is kept: it is not, so nothing more can be said",
}


def explain_absent(name: str, considered: Considered) -> tuple[Explanation, tuple[Explanation, ...]]:
    """The tree of an event that came when the automation was not there, or of which is not kept what it was."""
    text = _ABSENT.get(considered.reason or Reason.NOT_KEPT, _ABSENT[Reason.NOT_KEPT])
    term = Explanation(text, None if considered.outcome is DryRunOutcome.FIRED else False)
    return Explanation(f"automation {name!r} fires", considered.outcome is DryRunOutcome.FIRED, terms=(term,)), (term,)


def explain_outcome(
    subject: Subject, considered: Considered, disabled: str | None = None
) -> tuple[Explanation, tuple[Explanation, ...]]:
    """The whole tree, and the terms that made the outcome. `disabled` says since when and by whom, if it was.

    Of what fired these are the terms of filter, states and conditions that held; else the terms that said no.
    """
    stages = list(_stages(subject, considered, disabled))
    fired = considered.outcome is DryRunOutcome.FIRED
    root = Explanation(
        f"automation {subject.compiled.automation.name!r} fires", fired, terms=tuple(stage.node for stage in stages)
    )
    chosen = (stage for stage in stages if (stage.telling if fired else considered.reason in stage.failing))
    return root, tuple(term for stage in chosen for term in stage.decisive)


def instant(unix_ms: int) -> str:
    """A moment as RFC 3339 writes it, to the millisecond."""
    return datetime.fromtimestamp(unix_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def to_json_value(value: object) -> Any:
    """A value as JSON: absent values become null, infinite ones and NaN become text, long ones are cut."""
    if value is MISSING:
        return None
    if isinstance(value, float) and not math.isfinite(value):
        return non_finite(value)
    text = write_json(value)
    if len(text) <= MAX_SHOWN_CHARS:
        return read_json(text)
    return shortened(value if isinstance(value, str) else text.decode(), MAX_SHOWN_CHARS)


def _stages(subject: Subject, considered: Considered, disabled: str | None) -> Iterator[_Stage]:
    automation, event = subject.compiled.automation, considered.arrival.event
    yield _leaf(f"event is {automation.event}", event.type == automation.event, str(event.type), Reason.EVENT_TYPE)
    yield _scope(subject, event)
    if event.type != automation.event:
        return
    if not automation.enabled:
        why = "" if disabled is None else f": {disabled}"
        yield _leaf(f"automation is enabled{why}", False, False, Reason.AUTOMATION_DISABLED)
    if isinstance(event, RunStateEvent):
        states = " or ".join(sorted(automation.states))
        held = event.data.state in automation.states
        yield _leaf(f"run state is {states}", held, str(event.data.state), Reason.STATE, telling=True)
        if automation.silent_for is not None and event.data.state is RunPhase.SILENT:
            seconds, silent = automation.silent_for.total_seconds(), event.data.silent_seconds
            text = f"the run was silent for {format_duration(automation.silent_for)}"
            yield _leaf(text, silent == seconds, silent, Reason.STATE, telling=True)
    if considered.reason is Reason.FILTER_TOO_COSTLY:
        yield _leaf(TOO_COSTLY, False, None, Reason.FILTER_TOO_COSTLY)
        return
    yield _filter(automation, event)
    if considered.reason is Reason.NOT_EVALUATED:
        yield _leaf("event is evaluated: it waits for a worker", False, None, Reason.NOT_EVALUATED)
        return
    if considered.reason is Reason.REPEATED:
        text = "event is new: an event with this source and id made a delivery of this automation before"
        yield _leaf(text, False, considered.delivery_id, Reason.REPEATED)
    if considered.samples is not None and isinstance(event, RunMetricEvent):
        yield from _samples(automation, event, considered.samples)
    if considered.outcome in (DryRunOutcome.FIRED, DryRunOutcome.SKIPPED):
        yield from _restraints(subject, considered)
    if considered.reason is Reason.NOT_RECORDED:
        text = "a firing is recorded: none is, though the events that were read show no reason"
        yield _leaf(text, False, None, Reason.NOT_RECORDED)


def _leaf(text: str, held: bool, value: object, reason: Reason, *, telling: bool = False) -> _Stage:
    node = Explanation(text, held, to_json_value(value))
    return _Stage(node, (node,), (reason,), telling)


def _scope(subject: Subject, event: Event) -> _Stage:
    terms = tuple(_scope_terms(subject, event))
    node = Explanation("scope", all(term.held for term in terms), terms=terms)
    return _Stage(node, tuple(term for term in terms if not term.held), (Reason.SCOPE,))


def _scope_terms(subject: Subject, event: Event) -> Iterator[Explanation]:
    scope, entity, data = subject.compiled.automation.scope, subject.compiled.entity, event.data
    inside = scope.project is None and entity in subject.organizations.get(data.entity, ())
    yield Explanation(f"entity is {entity}", data.entity == entity or inside, data.entity)
    if isinstance(data, OwnData):
        return
    if scope.project is not None:
        yield Explanation(f"project is {scope.project}", data.project == scope.project, data.project)
    if scope.collection is not None and not isinstance(data, RunMetricData | RunStateData | RunAlertData):
        name = data.collection.name
        yield Explanation(f"collection is {scope.collection}", name == scope.collection, name)


def _filter(automation: Automation, event: Event) -> _Stage:
    try:
        with FilterBudget().applied():
            root = automation.filter.explain(lambda name: field_getter(automation.event, name), event)
    except FilterTooCostly:
        # All terms are asked here, while matching stops at the one that decides.
        node = Explanation(TOO_COSTLY, None)
        return _Stage(node, (node,), (Reason.FILTER, Reason.FILTER_TOO_COSTLY), telling=True)
    decisive = tuple(_term(term) for term in root.decisive())
    if root.terms == ():
        return _Stage(Explanation("filter: none", root.held), (), (Reason.FILTER,))
    terms = root.terms if root.text == "$and" and root.terms else (root,)
    node = Explanation("filter", root.held, terms=tuple(_term(term) for term in terms))
    return _Stage(node, decisive, (Reason.FILTER,), telling=True)


def _term(term: Term) -> Explanation:
    if term.terms is not None:
        return Explanation(term.text, term.held, terms=tuple(_term(inner) for inner in term.terms))
    absent = ": the event does not have it" if term.value is MISSING else ""
    return Explanation(f"{term.text}{absent}", term.held, to_json_value(term.value))


def _samples(automation: Automation, event: RunMetricEvent, samples: Samples) -> Iterator[_Stage]:
    seen = samples.observation
    watched = needed_values(automation.conditions)
    if seen.condition_index is None:
        whys = (_why_no_sample(metric, event, samples) for metric in watched)
        text = f"has a new sample of {' or '.join(watched)}: {'; '.join(whys)}"
        yield _leaf(text, False, event.data.step, Reason.NO_NEW_SAMPLE)
    terms = tuple(
        Explanation(f"{term.text}: {term.reason}" if term.reason else term.text, term.held, to_json_value(term.value))
        for term in explain(automation.conditions, samples.windows)
    )
    decisive = tuple(term for term in terms if bool(term.held) is seen.held)
    if seen.began_anew:
        text = f"the run started again and went back to step {event.data.step}: windows begin anew"
        terms = (Explanation(text, None, event.data.step), *terms)
    yield _Stage(Explanation("conditions", seen.held, terms=terms), decisive, (Reason.CONDITIONS,), telling=True)
    if seen.condition_index is not None and seen.held:
        since = samples.true_since_step
        before = "since before this dry run" if since is None else f"since step {since}"
        text = "conditions became true with this event"
        if not seen.fired:
            text += f": they were true already, {before}"
        yield _leaf(text, seen.fired, event.data.step if seen.fired else since, Reason.ALREADY_TRUE)


def _why_no_sample(metric: str, event: RunMetricEvent, samples: Samples) -> str:
    if metric not in event.data.metrics:
        return f"the event has no {metric}"
    step, last = event.data.step, samples.windows.series[metric].last_step
    if step is None or step == last == 0:
        return "the event was seen before, and has no step that rises"
    return f"step {step} is not after {last}, the last of {metric}; {GOING_BACK}"


def _restraints(subject: Subject, considered: Considered) -> Iterator[_Stage]:
    webhook = subject.webhook
    if webhook is not None:
        why = f": {webhook.disabled_reason}" if webhook.disabled_reason and not webhook.enabled else ""
        yield _leaf(f"webhook {webhook.name!r} is enabled{why}", webhook.enabled, None, Reason.WEBHOOK_DISABLED)
        if webhook.paused:
            text = f"webhook {webhook.name!r} is not paused: the delivery would wait"
            yield _leaf(text, False, None, Reason.WEBHOOK_PAUSED)
    automation, received_ms = subject.compiled.automation, considered.arrival.received_ms
    if automation.cooldown is not None and considered.cooling is not None:
        yield _cooldown(automation.cooldown, considered.cooling, received_ms)
    if automation.rate_limit is not None and considered.counting is not None:
        yield _rate(automation.rate_limit, considered.counting, received_ms)
    if considered.reason is Reason.PAYLOAD_TOO_LARGE:
        yield _leaf("payload is not too large", False, None, Reason.PAYLOAD_TOO_LARGE)


def _cooldown(cooldown: Cooldown, state: FiringState, now_ms: int) -> _Stage:
    held = cooldown_refusal(state, cooldown.period, now_ms) is None
    value, told = None, f"has not fired for this {cooldown.per}"
    if state.last_fired_ms is not None:
        value = instant(state.last_fired_ms)
        told = f"fired for this {cooldown.per} at {value}"
        if not held:
            over_ms = state.last_fired_ms + cooldown.period.total_seconds() * 1000
            told += f", {format_duration(timedelta(milliseconds=over_ms - now_ms))} left"
    text = f"cooldown of {format_duration(cooldown.period)} per {cooldown.per}: {told}"
    return _leaf(text, held, value, Reason.COOLDOWN)


def _rate(rate: Rate, state: FiringState, now_ms: int) -> _Stage:
    used = sum(fired > now_ms - rate.period.total_seconds() * 1000 for fired in state.recent_ms)
    text = f"rate limit {rate}: {used} of {rate.count} used in the period before"
    return _leaf(text, rate_refusal(state, rate, now_ms) is None, used, Reason.RATE_LIMIT)
