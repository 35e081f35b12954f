"""What an answer means for a delivery: passing refusals, success rules, and how long an endpoint asks to be left alone.

Each is tried by every way on which requests leave: a drain of one webhook, of many, and the fast path.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from shared.messaging.celery_app import DELIVER_QUEUE, SLOW_QUEUE
from tests.integration.processes import wait_until
from tests.integration.receiver import Answer
from tests.integration.scene import Scene, alias_event

RETRIES = {"schedule_seconds": (5.0, 5.0, 5.0), "jitter": 0.0}
SLACK = {**RETRIES, "success": {"body": {"ok": True}}}
NOT_IN_CHANNEL = b'{"ok":false,"error":"channel_not_found"}'


def one_by_one(scene: Scene, hook: int) -> None:
    scene.process.webhooks.drain(hook)
    scene.settle()


def together(scene: Scene, hook: int) -> None:
    scene.process.joint.drain([hook])
    scene.settle()


WAYS: dict[str, Callable[[Scene, int], None]] = {"drain": one_by_one, "joint": together}


def next_attempt_in(scene: Scene) -> float:
    """After how many seconds the only pending delivery is tried again, counted from now."""
    [one] = scene.pending()
    due: datetime = one.next_attempt_at
    return (due.replace(tzinfo=due.tzinfo or UTC) - scene.clock.now()).total_seconds()


@pytest.mark.parametrize("way", WAYS)
def test_a_rate_limit_that_is_a_403_is_waited_for(scene: Scene, way: str) -> None:
    """GitHub's secondary rate limit: 403 with `Retry-After`, then it takes the same request."""
    scene.receiver.answer = lambda _request: Answer(403, {"Retry-After": "20"}, b'{"message":"secondary rate limit"}')
    hook = scene.webhook(policy=RETRIES)
    scene.automation(hook)
    scene.publish(alias_event())
    scene.evaluate()
    WAYS[way](scene, hook)
    assert [row.status for row in scene.rows()] == ["pending"]
    assert 10 < next_attempt_in(scene) <= 20

    scene.receiver.answer = lambda _request: Answer(204, body=b"")
    scene.clock.advance(21)
    WAYS[way](scene, hook)
    assert [row.status for row in scene.rows()] == ["delivered"]
    assert [one.status_code for one in scene.attempts()] == [403, 204]


def test_a_date_counts_by_the_endpoints_clock(scene: Scene) -> None:
    there = datetime.now(UTC) - timedelta(hours=7)

    def answer(_request: object) -> Answer:
        later = (there + timedelta(seconds=40)).strftime("%a, %d %b %Y %H:%M:%S GMT")
        return Answer(429, {"Retry-After": later, "Date": there.strftime("%a, %d %b %Y %H:%M:%S GMT")})

    scene.receiver.answer = answer
    hook = scene.webhook(policy=RETRIES)
    scene.automation(hook)
    scene.publish(alias_event())
    scene.evaluate()
    one_by_one(scene, hook)
    assert 30 < next_attempt_in(scene) <= 40


def test_a_date_alone_counts_by_the_databases_clock(scene: Scene) -> None:
    """The worker's parts go by the database's clock, here some hours ahead of the host's."""
    scene.clock.advance(5 * 3600)
    scene.receiver.answer = lambda _request: Answer(
        429,
        {
            "Date": "",
            "Retry-After": (scene.clock.now() + timedelta(seconds=40)).strftime("%a, %d %b %Y %H:%M:%S GMT"),
        },
    )
    hook = scene.webhook(policy=RETRIES)
    scene.automation(hook)
    scene.publish(alias_event())
    scene.evaluate()
    one_by_one(scene, hook)
    assert 20 < next_attempt_in(scene) <= 40


def test_a_404_of_a_roll_out_is_retried_where_the_policy_says_so(scene: Scene) -> None:
    scene.receiver.answer = lambda _request: Answer(404, body=b"default backend - 404")
    patient = scene.webhook("patient", policy={**RETRIES, "retried_statuses": (404, 408, 425, 429, "5xx")})
    strict = scene.webhook("strict", policy=RETRIES)
    for hook in (patient, strict):
        scene.automation(hook)
    scene.publish(alias_event())
    scene.evaluate()
    together(scene, patient)
    together(scene, strict)
    assert sorted((row.webhook_id, row.status) for row in scene.rows()) == [(patient, "pending"), (strict, "refused")]


@pytest.mark.parametrize("way", WAYS)
def test_an_answer_that_says_failed_is_retried_and_becomes_a_dead_letter(scene: Scene, way: str) -> None:
    scene.receiver.answer = lambda _request: Answer(200, body=NOT_IN_CHANNEL)
    hook = scene.webhook(policy={**SLACK, "schedule_seconds": (5.0,)})
    scene.automation(hook)
    scene.publish(alias_event())
    scene.evaluate()
    WAYS[way](scene, hook)
    [row] = scene.rows()
    assert row.status == "pending"

    scene.clock.advance(6)
    WAYS[way](scene, hook)
    [row] = scene.rows()
    assert row.status == "dead"
    assert row.reason == (
        "out of retries after 2 attempts: the endpoint answered 200, but its body does not pass its success rule: "
        "ok $eq true"
    )
    assert [(one.outcome, one.status_code) for one in scene.attempts()] == [("unsuccessful", 200)] * 2
    assert scene.attempts()[0].response_body == NOT_IN_CHANNEL.decode()


def test_the_fast_path_asks_the_success_rule_too(scene: Scene) -> None:
    scene.consumed |= {DELIVER_QUEUE, SLOW_QUEUE}
    hook = scene.webhook(policy=SLACK)
    scene.automation(hook)
    scene.publish(alias_event())
    scene.receiver.answer = lambda _request: Answer(200, body=b'{"ok":true}')
    scene.evaluate()
    scene.deliver()
    scene.receiver.answer = lambda _request: Answer(200, body=NOT_IN_CHANNEL)
    scene.publish(alias_event())
    scene.evaluate()
    wait_until(lambda: len(scene.attempts()) == 2, "the second attempt")
    scene.settle()
    assert [one.outcome for one in scene.attempts()] == ["2xx", "unsuccessful"]
    assert [row.status for row in scene.rows()] == ["delivered", "pending"]


def test_a_rule_may_take_other_statuses_for_a_success(scene: Scene) -> None:
    """A service that answers 409 to what it has already."""
    scene.receiver.answer = lambda _request: Answer(409, body=b"exists already")
    hook = scene.webhook(policy={**RETRIES, "success": {"status": ["2xx", 409]}})
    scene.automation(hook)
    scene.publish(alias_event())
    scene.evaluate()
    one_by_one(scene, hook)
    assert [row.status for row in scene.rows()] == ["delivered"]


def test_the_words_of_a_failed_rule_repeat_no_secret(scene: Scene) -> None:
    scene.secret("TOKEN", "tok-5e6f2b7c")
    scene.receiver.answer = lambda request: Answer(200, body=str(request.headers).encode())
    hook = scene.webhook(access_token="TOKEN", policy={"success": {"body": {"$regex": "^accepted$"}}})
    scene.automation(hook)
    scene.publish(alias_event())
    scene.evaluate()
    one_by_one(scene, hook)
    shown = str([tuple(row) for row in [*scene.rows(), *scene.attempts()]])
    assert "success rule" in shown
    assert "tok-5e6f2b7c" not in shown
