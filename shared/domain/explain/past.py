"""What an automation made of events in the past: by what it was at the time, and by what evaluation recorded.

A record is the truth: it says that the automation fired or was held back. Where there is none, the events that were
read say why not. What can't be known from them is said in notes. Must not look anything up: callers pass it in.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from functools import cached_property

from shared.domain.conditions.run_starts import KnownStarts
from shared.domain.errors import InvalidDefinition
from shared.domain.events.models import Event
from shared.domain.events.types import EventType
from shared.domain.explain.simulator import (
    Arrival,
    Considered,
    DryRunOutcome,
    Reason,
    Recorded,
    Simulator,
    Subject,
)
from shared.domain.matching.compiled import firing_id

BLUR_MS = 1000
"""An edit may be in force for events that came so long before it: workers evaluate a moment after an event arrives."""
_WAITS = "it was edited {ms} ms after the event arrived, and the event may have been evaluated with the edit"
_NO_RECORD = "whether it fired is not recorded any more, or not yet: this is what the events that were read say"
_UNLIKE = (
    "it is recorded, though the events that were read do not show it: they do not reach back far enough, or an edit"
    " came between"
)


class Presence(StrEnum):
    """What is known of an automation in a period."""

    IN_FORCE = "in_force"
    NOT_CREATED = "not_created"
    DELETED = "deleted"
    NOT_KEPT = "not_kept"


_REASONS = {
    Presence.NOT_CREATED: Reason.NOT_CREATED,
    Presence.DELETED: Reason.DELETED,
    Presence.NOT_KEPT: Reason.NOT_KEPT,
}


@dataclass(frozen=True, slots=True)
class Period:
    """A time in which an automation and its webhook stayed as they were."""

    since_ms: int
    presence: Presence
    subject: Callable[[], Subject] | None = None
    """The automation of the period; None when it was not there or is not kept. Raises InvalidDefinition when this
    version can't read it."""
    number: int | None = None
    """The number of its kept revision; None when there is none."""
    by: str | None = None
    """Who made it so."""
    defined_ms: int | None = None
    """Since when the automation, if not its webhook, was as it was; None for what has no beginning that is known."""
    ended_ms: int | None = None
    """Until when; None when it still is."""


@dataclass(frozen=True, slots=True)
class InForce:
    """The period that an answer goes by."""

    presence: Presence
    revision: int | None
    """The number of the automation's kept revision."""
    since: datetime | None
    """Since when the automation was as it was; null where that is not known."""
    until: datetime | None
    """Until when; null when it still is."""
    by: str | None


class Timeline:
    """The periods of one automation, one after another; the first has no beginning."""

    def __init__(self, automation_id: int, periods: Sequence[Period]) -> None:
        self.automation_id = automation_id
        self.periods = tuple(periods)
        self._begins = [period.since_ms for period in periods]

    def index_at(self, unix_ms: int) -> int:
        """The place of the period that a moment is in."""
        return max(0, bisect_right(self._begins, unix_ms) - 1)

    def facts(self, index: int) -> InForce:
        """The period at a place, for people to read."""
        period = self.periods[index]
        return InForce(period.presence, period.number, _moment(period.defined_ms), _moment(period.ended_ms), period.by)

    def next_edit_ms(self, index: int) -> int | None:
        """When the period at a place ended; None when it lasts."""
        return self._begins[index + 1] if index + 1 < len(self.periods) else None


def _moment(unix_ms: int | None) -> datetime | None:
    return None if unix_ms is None else datetime.fromtimestamp(unix_ms / 1000, UTC)


@dataclass(frozen=True, slots=True)
class Witness:
    """What is known of a batch of events beside the events."""

    recorded: Mapping[str, Recorded]
    """The deliveries that exist, by their ids."""
    complete_since_ms: int
    """Of events that came since, all deliveries are kept."""
    evaluated: Callable[[Arrival], bool]
    """Whether evaluation has passed an event."""


@dataclass(frozen=True, slots=True)
class PastResult:
    """What came of an event, with the automation as it was."""

    considered: Considered
    subject: Subject | None
    """None when nothing is known of the automation at the time."""
    in_force: InForce


class PastSimulator:
    """One automation through its periods, with the state that it keeps from event to event. Used by one thread."""

    def __init__(self, timeline: Timeline) -> None:
        self._timeline = timeline
        self._simulators: dict[int, Simulator] = {}
        self._last: Simulator | None = None
        self._by_epoch: dict[int, Simulator] = {}
        self._starts = KnownStarts()

    def delivery_id_of(self, event: Event) -> str | None:
        """The id of the delivery that the automation would make of an event; None when it never was about its type."""
        return firing_id(self._timeline.automation_id, event) if event.type in self._types else None

    @cached_property
    def _known(self) -> list[Simulator]:
        """The automation in each period in which it was there and can be read."""
        places = range(len(self._timeline.periods))
        return [one for place in places if (one := self._simulator(place)) is not None]

    @cached_property
    def _types(self) -> frozenset[EventType]:
        return frozenset(one.subject.compiled.automation.event for one in self._known)

    def consider(self, arrival: Arrival, witness: Witness) -> PastResult:
        """Let the automation look at the next event."""
        self._starts.note(arrival.event)
        index = self._timeline.index_at(arrival.received_ms)
        identity = self.delivery_id_of(arrival.event)
        found = None if identity is None else witness.recorded.get(identity)
        if found is not None and found.received_ms == arrival.received_ms:
            return self._recorded(arrival, index, found)
        simulator = self._simulator(index)
        if simulator is None:
            return self._absent(arrival, index)
        if not witness.evaluated(arrival):
            return self._result(_no_match(arrival, simulator, Reason.NOT_EVALUATED), index, simulator)
        repeated = found is not None and found.received_ms < arrival.received_ms
        if repeated and identity is not None:
            simulator.know_delivery(identity)
        considered = simulator.consider(arrival)
        notes = self._blur(arrival, index)
        if arrival.received_ms < witness.complete_since_ms:
            notes = (*notes, _NO_RECORD)
        elif considered.outcome in (DryRunOutcome.FIRED, DryRunOutcome.SKIPPED):
            considered = replace(
                considered,
                outcome=DryRunOutcome.NO_MATCH,
                reason=Reason.NOT_RECORDED,
                delivery_id=None,
                sealed=None,
                notes=(),
            )
        return self._result(replace(considered, notes=(*considered.notes, *notes)), index, simulator)

    def _recorded(self, arrival: Arrival, index: int, found: Recorded) -> PastResult:
        """What came of it is recorded: by the period in which it was evaluated, if it waited; else in which it came."""
        evaluated = self._timeline.index_at(found.evaluated_ms)
        waited = found.evaluated_ms - arrival.received_ms > BLUR_MS
        places = dict.fromkeys((evaluated, index) if waited else (index, evaluated))
        simulators = [(place, one) for place in places if (one := self._simulator(place)) is not None]
        fitting = [(place, one) for place, one in simulators if one.would_match(arrival.event)]
        if not simulators:
            return self._absent(arrival, index, found)
        place, simulator = (fitting or simulators)[0]
        considered = simulator.force(arrival, found)
        shown = fitting and (considered.samples is None or considered.samples.observation.held)
        notes = () if shown else (_UNLIKE,)
        return self._result(replace(considered, notes=(*considered.notes, *notes)), place, simulator)

    def _absent(self, arrival: Arrival, index: int, found: Recorded | None = None) -> PastResult:
        """The automation was not there, or what it was is not kept."""
        presence = self._timeline.periods[index].presence
        outcome, reason = DryRunOutcome.NO_MATCH, _REASONS.get(presence, Reason.NOT_KEPT)
        nearest = self._known
        if found is None and nearest and not any(one.in_scope(arrival.event) for one in nearest):
            other_type = arrival.event.type not in self._types
            outcome, reason = DryRunOutcome.OUT_OF_SCOPE, Reason.EVENT_TYPE if other_type else Reason.SCOPE
        considered = Considered(arrival, outcome, reason, recorded=found)
        if found is not None:
            outcome = DryRunOutcome.FIRED if found.skipped is None else DryRunOutcome.SKIPPED
            considered = replace(considered, outcome=outcome, reason=found.skipped, delivery_id=found.delivery_id)
        subject = nearest[-1].subject if nearest and outcome is DryRunOutcome.OUT_OF_SCOPE else None
        return PastResult(considered, subject, self._timeline.facts(index))

    def _blur(self, arrival: Arrival, index: int) -> tuple[str, ...]:
        edited_ms = self._timeline.next_edit_ms(index)
        if edited_ms is None or edited_ms - arrival.received_ms > BLUR_MS:
            return ()
        return (_WAITS.format(ms=edited_ms - arrival.received_ms),)

    def _result(self, considered: Considered, index: int, simulator: Simulator) -> PastResult:
        return PastResult(considered, simulator.subject, self._timeline.facts(index))

    def _simulator(self, index: int) -> Simulator | None:
        """The automation of a period, with the state of its epoch; None when it was not there or can't be read."""
        if index not in self._simulators:
            made = self._make(index)
            if made is None:
                return None
            self._simulators[index] = made
        return self._simulators[index]

    def _make(self, index: int) -> Simulator | None:
        subject_of = self._timeline.periods[index].subject
        if subject_of is None:
            return None
        try:
            subject = subject_of()
        except InvalidDefinition:
            return None
        epoch = subject.compiled.epoch
        before = self._by_epoch.get(epoch) or self._last
        made = Simulator(subject, starts=self._starts) if before is None else before.succeeded_by(subject)
        self._last = made
        self._by_epoch.setdefault(epoch, made)
        return made


def _no_match(arrival: Arrival, simulator: Simulator, reason: Reason) -> Considered:
    if simulator.in_scope(arrival.event):
        return Considered(arrival, DryRunOutcome.NO_MATCH, reason)
    other_type = arrival.event.type != simulator.subject.compiled.automation.event
    return Considered(arrival, DryRunOutcome.OUT_OF_SCOPE, Reason.EVENT_TYPE if other_type else Reason.SCOPE)
