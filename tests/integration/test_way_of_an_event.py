"""From a stream entry to a recorded delivery, on SQLite and PostgreSQL."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from sqlalchemy import select, update
from standardwebhooks import Webhook

from shared.messaging.streams import FIELD, stream_key
from shared.observability.metrics import WEBHOOK_ATTEMPTS
from shared.storage.database.transactions import read_transaction, write_transaction
from shared.storage.schema.tables import partitions, pending_deliveries, poison_entries, webhooks
from tests.integration.receiver import Answer
from tests.integration.scene import Scene, alias_event, beside, metric_event


def test_a_matching_event_is_delivered_signed_and_recorded(scene: Scene) -> None:
    scene.secret("SIGNING", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    scene.secret("TOKEN", "t0ken-é-0123")
    scene.secret("DEPLOY", 'dep"loy-key')
    hook = scene.webhook(access_token="TOKEN", signing_secret="SIGNING", secrets=("DEPLOY",))
    scene.automation(
        hook,
        secrets=["DEPLOY"],
        filter={"alias": {"$regex": "^prod"}},
        payload={"version": "${artifact_version_string}", "by": "${event_author}", "key": "$DEPLOY", "id": "$event_id"},
    )
    scene.publish(alias_event("prod", event_id="e1"), alias_event("staging"))
    scene.evaluate()
    scene.deliver()

    [request] = scene.receiver.requests
    assert request.json == {
        "version": "acme/wandb-registry-model/llm:prod",
        "by": "alice",
        "key": 'dep"loy-key',
        "id": "e1",
    }
    assert Webhook("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").verify(request.body, request.headers) == request.json
    assert request.headers["hookline-attempt"] == "1"
    assert request.headers["authorization"].encode("latin-1").decode() == "Bearer t0ken-é-0123"
    [row] = scene.rows()
    assert (row.status, row.attempts, row.id) == ("delivered", 1, request.headers["webhook-id"])
    assert "dep" not in row.payload
    [attempt] = scene.attempts()
    assert (attempt.outcome, attempt.status_code, attempt.response_body) == ("2xx", 200, "ok")
    assert scene.pending() == []


def test_no_payload_sends_every_variable_with_a_value(scene: Scene) -> None:
    scene.automation(scene.webhook())
    scene.publish(alias_event("prod", event_id="e1"))
    scene.evaluate()
    scene.deliver()
    [request] = scene.receiver.requests
    assert request.json["alias"] == "prod"
    assert request.json["delivery_id"] == request.headers["webhook-id"]
    assert "run_id" not in request.json


def test_a_repeated_event_fires_nothing_again(scene: Scene) -> None:
    scene.automation(scene.webhook())
    event = alias_event("prod", event_id="same")
    scene.publish(event, event)
    scene.evaluate()
    scene.publish(event)
    scene.evaluate()
    scene.deliver()
    assert len(scene.receiver.requests) == len(scene.rows()) == 1


def test_scopes_cover_the_entity_a_project_and_a_collection(scene: Scene) -> None:
    hook = scene.webhook()
    wide = scene.automation(hook)
    project = scene.automation(hook, scope={"project": "wandb-registry-model"})
    narrow = scene.automation(hook, scope={"project": "wandb-registry-model", "collection": "llm"})
    scene.automation(hook, scope={"project": "other"})
    scene.automation(hook, event="ADD_ARTIFACT_TAG")
    scene.publish(alias_event(collection="llm", event_id="in"), alias_event(collection="vision", event_id="out"))
    scene.evaluate()
    fired = {(row.event_id, row.automation_id) for row in scene.rows()}
    assert fired == {("in", wide), ("in", project), ("in", narrow), ("out", wide), ("out", project)}


def test_poison_is_set_aside_and_does_not_stop_the_partition(scene: Scene) -> None:
    scene.automation(scene.webhook())
    for partition in range(scene.settings.partitions):
        for body in (
            b"not json",
            b'{"type": "NOPE"}',
            b'{"specversion": "1.0", "type": "RUN_STATE", "id": "x\\u0000"}',
        ):
            scene.redis.xadd(stream_key(partition), {FIELD: body})
        scene.redis.xadd(stream_key(partition), {b"other": b"field"})
    scene.publish(alias_event())
    scene.evaluate()
    assert len(scene.rows()) == 1
    with read_transaction(scene.process.engine) as connection:
        kept = connection.execute(select(poison_entries)).all()
        read = connection.scalars(select(partitions.c.entries_read)).all()
    assert len(kept) == 4 * scene.settings.partitions
    assert sum(read) == len(kept) + 1
    assert {bytes(row.body) for row in kept} >= {b"not json", b'{"type": "NOPE"}', b""}
    assert any("must be one of CREATE_ARTIFACT" in row.reason for row in kept)


def test_a_failure_is_retried_with_the_same_id_and_then_a_dead_letter(scene: Scene) -> None:
    hook = scene.webhook(policy={"schedule_seconds": (30.0, 60.0), "jitter": 0.0})
    scene.automation(hook)
    scene.receiver.answer = lambda _request: Answer(503, body=b"sorry \x00")
    scene.publish(alias_event())
    scene.evaluate()
    began = datetime.now(UTC)
    for expected_delay in (30, 60, None):
        scene.deliver()
        [row] = scene.rows()
        if expected_delay is None:
            break
        [pending] = scene.pending()
        assert row.status == "pending"
        # A second is for the worker's reckoning of the database's clock.
        assert pending.next_attempt_at >= began + timedelta(seconds=expected_delay - 1)
        with write_transaction(scene.process.engine) as connection:
            connection.execute(update(pending_deliveries).values(next_attempt_at=began))
    assert (row.status, row.attempts, scene.pending()) == ("dead", 3, [])
    assert {request.headers["webhook-id"] for request in scene.receiver.requests} == {row.id}
    assert [request.headers["hookline-attempt"] for request in scene.receiver.requests] == ["1", "2", "3"]
    assert [attempt.outcome for attempt in scene.attempts()] == ["5xx"] * 3


def test_a_refusal_is_final_and_gone_disables_the_webhook(scene: Scene) -> None:
    hook = scene.webhook(policy={"schedule_seconds": (30.0,)})
    scene.automation(hook)
    scene.receiver.answer = lambda _request: Answer(410)
    scene.publish(alias_event())
    scene.evaluate()
    scene.deliver()
    assert [row.status for row in scene.rows()] == ["refused"]
    with read_transaction(scene.process.engine) as connection:
        row = connection.execute(select(webhooks)).one()
    assert not row.enabled
    assert "410" in row.disabled_reason
    scene.publish(alias_event())
    scene.evaluate()
    assert [(row.status, row.reason) for row in scene.rows()][1:] == [("skipped", "webhook_disabled")]


def test_a_redirect_is_not_followed(scene: Scene) -> None:
    scene.automation(scene.webhook())
    scene.receiver.answer = lambda _request: Answer(302, {"Location": f"{scene.receiver.url}/elsewhere"})
    scene.publish(alias_event())
    scene.evaluate()
    scene.deliver()
    assert [row.status for row in scene.rows()] == ["refused"]
    assert len(scene.receiver.requests) == 1


def test_an_address_that_is_not_allowed_is_blocked_at_the_socket(scene: Scene) -> None:
    hook = scene.webhook(url="http://169.254.169.254/latest/meta-data", policy={"schedule_seconds": (30.0,)})
    scene.automation(hook)
    scene.publish(alias_event())
    scene.evaluate()
    scene.deliver()
    [row] = scene.rows()
    [attempt] = scene.attempts()
    assert (row.status, attempt.outcome) == ("refused", "blocked")
    assert "is not a public address" in attempt.error
    assert "169.254" not in attempt.error


def test_no_op_is_recorded_and_sends_nothing(scene: Scene) -> None:
    scene.automation(None)
    scene.publish(alias_event())
    scene.evaluate()
    scene.deliver()
    assert [(row.status, row.attempts) for row in scene.rows()] == [("delivered", 0)]
    assert scene.receiver.requests == []


def test_a_paused_webhook_keeps_its_deliveries(scene: Scene) -> None:
    scene.automation(scene.webhook(paused=True))
    scene.publish(alias_event())
    scene.evaluate()
    scene.deliver()
    assert [row.status for row in scene.rows()] == ["pending"]
    with write_transaction(scene.process.engine) as connection:
        connection.execute(update(webhooks).values(paused=False))
    scene.deliver()
    assert [row.status for row in scene.rows()] == ["delivered"]


def test_an_edit_is_seen_by_the_next_drain(scene: Scene) -> None:
    scene.publish(alias_event())
    scene.evaluate()
    scene.automation(scene.webhook())
    scene.publish(alias_event(event_id="after"))
    scene.evaluate()
    assert [row.event_id for row in scene.rows()] == ["after"]


def test_a_metric_fires_once_a_run_and_reports_its_facts(scene: Scene) -> None:
    scene.automation(
        scene.webhook(),
        event="RUN_METRIC",
        conditions=[{"metric": "acc", "aggregate": "AVERAGE", "window": 2, "op": "$gt", "threshold": 0.5}],
        payload={"metric": "$metric_name", "value": "$metric_value", "over": "$metric_threshold", "run": "$run_id"},
    )
    for run in ("r1", "r2"):
        for step, value in enumerate((0.9, 0.9, 0.9, 0.0, 0.0, 0.9, 0.9)):
            scene.publish(metric_event(step, run=run, acc=value))
        scene.publish(metric_event(1, run=run, acc=0.1))
    scene.evaluate()
    scene.deliver()
    assert {request.json["run"] for request in scene.receiver.requests} == {"r1", "r2"}
    assert scene.receiver.requests[0].json | {"run": "-"} == {
        "metric": "acc",
        "value": "0.9",
        "over": "0.5",
        "run": "-",
    }
    by_run = [(row.status, row.reason) for row in scene.rows()]
    assert sorted(by_run, key=str) == [("delivered", None)] * 2 + [("skipped", "cooldown")] * 2


def test_a_rate_limit_holds_across_partitions(scene: Scene) -> None:
    scene.automation(scene.webhook(), rate_limit="3/h")
    scene.publish(*(alias_event(collection=f"c{number}") for number in range(12)))
    scene.evaluate()
    scene.publish(*(alias_event(collection=f"c{number}") for number in range(12)))
    scene.evaluate()
    statuses = [row.status for row in scene.rows()]
    assert (statuses.count("pending"), statuses.count("skipped")) == (3, 21)
    assert {row.reason for row in scene.rows() if row.status == "skipped"} == {"rate_limit"}


def test_a_cooldown_of_a_collection(scene: Scene) -> None:
    scene.automation(scene.webhook(), cooldown={"per": "collection", "period": "1h"})
    scene.publish(alias_event(collection="a"), alias_event(collection="a"), alias_event(collection="b"))
    scene.evaluate()
    assert sorted(row.status for row in scene.rows()) == ["pending", "pending", "skipped"]


def test_a_webhook_is_named_in_metrics_only_where_the_operator_asked_for_it(scene: Scene) -> None:
    hook = scene.webhook()
    scene.automation(hook)
    named = WEBHOOK_ATTEMPTS.labels(webhook=f"wh_{hook}", outcome="2xx")
    before = named._value.get()
    for asked in (False, True):
        with beside(scene, metrics_per_webhook=asked) as other:
            other.publish(alias_event())
            other.evaluate()
            other.deliver()
        assert named._value.get() - before == int(asked)
