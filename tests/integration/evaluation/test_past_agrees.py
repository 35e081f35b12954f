"""What is explained of the past is what evaluation did: for random definitions, edits and events, on real servers."""

from __future__ import annotations

import itertools
from dataclasses import replace
from datetime import timedelta
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from shared.domain.automations.model import Grants
from shared.domain.automations.parsing import parse_automation
from shared.domain.delivery.retries import DeliveryPolicy
from shared.domain.explain.dry_run import DryRunResult, PageWanted, past_run
from shared.domain.explain.past import BLUR_MS, PastSimulator, Witness
from shared.domain.explain.simulator import Arrival, DryRunOutcome, Reason
from shared.dry_runs import service
from shared.dry_runs.event_history import EventHistoryReader
from shared.dry_runs.time_range import TimeRange, moment
from shared.messaging.edits import revision_key
from shared.messaging.streams import FIELD, stream_key
from shared.storage.database.transactions import read_transaction, write_transaction
from shared.storage.definitions import automations as store
from shared.storage.definitions.automations import AutomationFields, StoredAutomation, find_automation, find_deleted
from shared.storage.definitions.revisions import next_revision
from shared.storage.definitions.webhook_fields import WebhookFields
from shared.storage.definitions.webhooks import (
    WebhookEdit,
    find_webhook,
    insert_webhook,
    keep_changed,
    keep_disabled,
    update_webhooks,
)
from shared.storage.delivery.webhook_health import disable_webhook
from shared.storage.delivery.webhook_states import pause_webhook, resume_webhook
from shared.storage.schema.tables import deliveries
from tests.integration.evaluation.test_dry_run_agrees import DEFINITIONS, alerts, aliases, metrics, raw_event, states
from tests.integration.scene import Scene

START_MS = 2_000_000_000_000
"""Later than now, since the worker's clock is set to the time of each event, and only goes forward."""
_clock = itertools.count(START_MS, 4000 * 3_600_000)
ALL = PageWanted(limit=500)

edits = st.one_of(
    st.tuples(st.just("define"), st.integers(0, len(DEFINITIONS) - 1)),
    st.tuples(st.just("cooldown"), st.sampled_from([None, {"per": "automation", "period": "5h"}])),
    st.tuples(st.just("enable"), st.booleans()),
    st.tuples(st.just("enable"), st.just(True)),
    st.tuples(st.just("webhook"), st.sampled_from(["disable", "pause", "resume", "policy"])),
    st.tuples(st.just("move"), st.none()),
    st.tuples(st.just("delete"), st.none()),
)
steps = st.tuples(st.integers(1, 4 * 3_600_000), st.one_of(metrics, metrics, metrics, aliases, states, alerts, edits))
histories = st.lists(steps, min_size=8, max_size=30)


class Story:
    """One automation and its two webhooks, edited at moments that a test chooses."""

    def __init__(self, scene: Scene, first: int, begin_ms: int) -> None:
        self.scene = scene
        self.deleted = False
        now, owner = moment(begin_ms), scene.entity_id
        self.name = f"story-{begin_ms}"
        webhooks = [
            WebhookFields(
                name=f"{self.name}-{number}",
                url=f"{scene.receiver.url}/story",
                access_token=None,
                signing_secret=None,
                secrets=(),
                policy=DeliveryPolicy().model_dump(mode="json"),
                enabled=True,
                paused=False,
            )
            for number in (1, 2)
        ]
        with write_transaction(scene.process.engine) as connection:
            revision = next_revision(connection)
            self.hook, self.other = (
                insert_webhook(connection, owner, one, secret_ids={}, revision=revision, now=now) for one in webhooks
            )
            fields = self._fields(DEFINITIONS[first], revision)
            self.number = store.insert_automation(connection, owner, fields, revision=revision, now=now, by="alice")
        self.tell()

    def _fields(self, definition: dict[str, Any], epoch: int) -> AutomationFields:
        raw = {**definition, "name": self.name, "action": {"webhook": f"wh_{self.hook}"}}
        checked = parse_automation(raw, lambda _name: Grants(), lambda _name: True)
        return AutomationFields(
            name=checked.name,
            enabled=checked.enabled,
            event_type=str(checked.event),
            scope_project=checked.scope.project,
            scope_collection=checked.scope.collection,
            webhook_id=self.hook,
            definition=checked.to_json(),
            epoch=epoch,
        )

    def stored(self) -> StoredAutomation:
        """What the automation is now, or was when it was deleted."""
        with read_transaction(self.scene.process.engine) as connection:
            found = find_automation(connection, self.scene.entity_id, automation_id=self.number)
            found = found or find_deleted(connection, self.scene.entity_id, self.number)
        assert found is not None
        return found

    def edit(self, kind: str, value: Any, at_ms: int) -> None:
        """Make an edit at a moment; of a deleted automation only its webhook is edited."""
        if self.deleted and kind != "webhook":
            return
        now, stored = moment(at_ms), self.stored()
        with write_transaction(self.scene.process.engine) as connection:
            revision = next_revision(connection)
            if kind == "webhook":
                self._edit_webhook(connection, value, revision, at_ms)
            elif kind == "delete":
                store.delete_automation(connection, stored, revision=revision, now=now, by="bob")
                self.deleted = True
            elif kind == "enable":
                store.set_enabled(connection, stored, enabled=value, revision=revision, now=now, by="bob")
            else:
                keeps_epoch = kind in ("cooldown", "move")
                raw = DEFINITIONS[value] if kind == "define" else stored.definition
                if kind == "cooldown":
                    raw = {**raw, "cooldown": value}
                elif kind == "move":
                    self.hook, self.other = self.other, self.hook
                fields = self._fields(
                    {key: member for key, member in raw.items() if key not in ("name", "action")},
                    stored.epoch if keeps_epoch else revision,
                )
                store.update_automations(connection, [(stored, fields, revision)], now=now, by="carol")
        self.tell()

    def _edit_webhook(self, connection: Any, value: str, revision: int, at_ms: int) -> None:
        now = moment(at_ms)
        before = find_webhook(connection, self.scene.entity_id, webhook_id=self.hook)
        assert before is not None
        if value == "disable":
            if disable_webhook(connection, self.hook, reason="a test", now=now):
                keep_disabled(connection, self.hook, reason="a test", now=now)
            return
        if value == "policy":
            policy = {**before.fields.policy, "timeout_seconds": 1 + before.fields.policy["timeout_seconds"] % 20}
            after = replace(before.fields, policy=policy)
            edit = WebhookEdit(stored=before, after=after, revision=revision, clear_failures=False)
            update_webhooks(connection, [edit], secret_ids={}, now=now, by="dan")
            return
        change = pause_webhook if value == "pause" else resume_webhook
        change(connection, self.hook, revision=revision, now=now)
        keep_changed(connection, before, now=now, by="dan")

    def tell(self) -> None:
        """Let the worker know that there is an edit."""
        self.scene.redis.incr(revision_key(self.scene.redis, 0))


def explained(story: Story, span: TimeRange, page: PageWanted = ALL) -> service.DryRunAnswer:
    """What is answered about the past."""
    engine, scene = story.scene.process.engine, story.scene
    with read_transaction(engine) as connection:
        past = service.prepare_past(
            connection, story.stored(), span, _forever(scene), moment(span.until_ms), deleted=story.deleted
        )
    return service.dry_run_past(past, scene.redis, scene.settings.partitions, engine, page)


def replayed(story: Story, span: TimeRange) -> tuple[DryRunResult, ...]:
    """The same without any record: by the definitions of the time alone."""
    scene = story.scene
    with read_transaction(scene.process.engine) as connection:
        past = service.prepare_past(
            connection, story.stored(), span, _forever(scene), moment(span.until_ms), deleted=story.deleted
        )
    arrivals = EventHistoryReader(scene.redis, scene.settings.partitions, span, {"acme"}).arrivals()
    simulator = PastSimulator(past.timeline)
    nothing = Witness({}, span.until_ms + 1, _always)
    return past_run((simulator.consider(one, nothing) for one in arrivals), ALL, past.name).results


def _always(_arrival: Arrival) -> bool:
    return True


def _forever(scene: Scene) -> Any:
    return scene.settings.model_copy(update={"delivery_retention": timedelta(), "dead_letter_retention": timedelta()})


def made(story: Story, span: TimeRange) -> list[tuple[str, str, str | None]]:
    """What evaluation made of a span: event, outcome and reason, in order."""
    query = select(deliveries).where(
        deliveries.c.automation_id == story.number,
        deliveries.c.event_received_at >= moment(span.since_ms),
        deliveries.c.event_received_at < moment(span.until_ms),
    )
    with read_transaction(story.scene.process.engine) as connection:
        rows = connection.execute(query.order_by(deliveries.c.seq)).all()
    return [(row.event_id, "skipped" if row.status == "skipped" else "fired", row.reason) for row in rows]


def told(results: tuple[DryRunResult, ...]) -> list[tuple[str, str, str | None]]:
    """The firings among results, in the same form."""
    outcomes = (DryRunOutcome.FIRED, DryRunOutcome.SKIPPED)
    return [
        (one.event.id, str(one.outcome), str(one.reason) if one.outcome is DryRunOutcome.SKIPPED else None)
        for one in results
        if one.outcome in outcomes
    ]


def accurate(step: int) -> tuple[str, dict[str, Any]]:
    """A sample that is over the threshold of most conditions."""
    return "metric", {"run": "r1", "step": step, "metrics": {"acc": 0.9}}


# What is true stays true, but an automation that was switched off and on looks at it anew; one that was edited in
# what does not concern its conditions does not.
SWITCHED = [(1, accurate(1)), (1, accurate(2)), (1, ("enable", False)), (1, accurate(3)), (1, ("enable", True))]
MOVED = [(1, ("webhook", "disable")), (1, accurate(1)), (1, ("move", None)), (1, accurate(2)), (1, ("move", None))]
COOLED = [(1, accurate(1)), (1, ("cooldown", None)), (1, accurate(2)), (1, ("webhook", "disable"))]


@pytest.mark.timeout(600)
@given(first=st.integers(0, len(DEFINITIONS) - 1), history=histories)
@example(first=3, history=[*SWITCHED, (1, accurate(4))])
@example(first=5, history=[*SWITCHED, *((1, accurate(step)) for step in range(4, 9))])
@example(first=3, history=[*COOLED, (1, ("enable", False)), (1, ("enable", True)), (1, accurate(4))])
@example(first=3, history=[*MOVED, (1, ("webhook", "policy")), (1, accurate(3)), (1, ("delete", None))])
@example(
    first=3, history=[(1, accurate(1)), *MOVED, (1, ("define", 10)), (1, ("alert", {"run": "r1", "level": "WARN"}))]
)
@example(first=9, history=[(1, ("state", {"run": "r1", "state": f"silent {lasts}"})) for lasts in (60, 1800)])
@settings(
    max_examples=8,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    phases=[Phase.explicit, Phase.reuse, Phase.generate],  # shrinking takes minutes on real servers
)
def test_what_is_explained_of_the_past_is_what_evaluation_did(scene: Scene, first: int, history: list[Any]) -> None:
    base_ms = next(_clock)
    before_ms = base_ms - 10_000
    at_ms = base_ms
    early = raw_event("alias", {"alias": "prod", "collection": "a"}, before_ms)
    scene.redis.xadd(stream_key(0), {FIELD: orjson.dumps(early)}, id=f"{before_ms}-*")
    scene.clock.advance_to(moment(before_ms))
    scene.process.partitions.drain(0)
    story = Story(scene, first, base_ms + 1)
    for place, (wait_ms, (kind, value)) in enumerate(history):
        at_ms += wait_ms + 2 * BLUR_MS
        if isinstance(value, dict) and kind != "cooldown":
            event = raw_event(kind, value, base_ms + place)
            scene.redis.xadd(stream_key(0), {FIELD: orjson.dumps(event)}, id=f"{at_ms}-*")
            scene.clock.advance_to(moment(at_ms))
            scene.process.partitions.drain(0)
        else:
            story.edit(kind, value, at_ms)
    span = TimeRange(before_ms, at_ms + 1)

    truth = made(story, span)
    assert told(replayed(story, span)) == truth
    answer = explained(story, span)
    assert told(answer.results) == truth
    assert answer.judged_by == "past"
    for result in answer.results:
        assert result.reason is not Reason.NOT_RECORDED
        assert result.in_force is not None
        if result.outcome in (DryRunOutcome.FIRED, DryRunOutcome.SKIPPED):
            assert result.recorded is not None
        assert result.notes == ()
    newest = explained(story, span, PageWanted(limit=500, newest_first=True)).results
    assert list(reversed(newest)) == list(answer.results)
