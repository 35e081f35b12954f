"""Slack messages on the way of every delivery: the URL out of a secret, and nowhere else."""

from __future__ import annotations

from typing import Any

from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from shared.storage.definitions.webhook_fields import WebhookKind
from tests.integration.receiver import Answer
from tests.integration.scene import Scene, alias_event, beside
from tests.servers import free_port

PATH = "/services/T0001/B0002/s3cr3tS3cr3t"


def slack(scene: Scene, **fields: Any) -> int:
    """A Slack integration whose incoming webhook is the scene's receiver."""
    scene.secret("SLACK_URL", scene.receiver.url + PATH)
    return scene.webhook(
        "chat",
        url="",
        kind=WebhookKind.SLACK,
        url_secret="SLACK_URL",
        slack_team="Acme",
        slack_channel="#ml",
        **fields,
    )


def tell(scene: Scene, integration: int, **action: Any) -> int:
    return scene.automation(integration, action={"slack": f"slk_{integration}", **action})


def test_a_message_is_posted_to_the_secret_url_and_recorded(scene: Scene) -> None:
    fired = REGISTRY.get_sample_value("hookline_firings_total", {"event_type": "ADD_ARTIFACT_ALIAS", "action": "slack"})
    tell(scene, slack(scene), title="${alias} <https://ok.example|docs>", message="by $event_author", severity="ERROR")
    scene.publish(alias_event("<!here>", author="a & b"))
    scene.evaluate()
    with capture_logs() as logs:
        scene.deliver()

    [request] = scene.receiver.requests
    assert request.path == PATH
    assert request.json["blocks"][0]["text"]["text"] == ":rotating_light: *&lt;!here&gt; <https://ok.example|docs>*"
    assert request.json["attachments"][0]["blocks"][0]["text"]["text"] == "by a &amp; b"
    assert request.headers["content-type"] == "application/json"
    assert not {"authorization", "webhook-signature", "x-wandb-signature"} & request.headers.keys()
    [row] = scene.rows()
    assert (row.status, row.attempts, row.id) == ("delivered", 1, request.headers["webhook-id"])
    assert PATH not in str([scene.rows(), scene.attempts(), logs])
    assert [line["event"] for line in logs] == ["delivery.attempted"]
    labels = {"event_type": "ADD_ARTIFACT_ALIAS", "action": "slack"}
    assert REGISTRY.get_sample_value("hookline_firings_total", labels) == (fired or 0) + 1


def test_a_message_leads_to_the_console_where_its_address_is_known(scene: Scene) -> None:
    automation = tell(scene, slack(scene))
    with beside(scene, public_url="https://hooks.example.com") as there:
        there.publish(alias_event())
        there.evaluate()
        there.deliver()
    scene.publish(alias_event(collection="another"))
    scene.evaluate()
    scene.deliver()
    known, unknown = (request.json["attachments"][0]["blocks"] for request in scene.receiver.requests)
    base, first = "https://hooks.example.com/console/e/acme", scene.rows()[0].id
    assert known[-1]["elements"][0]["text"] == (
        f"<{base}/deliveries/{first}|Delivery in Hookline> · <{base}/automations/aut_{automation}|Automation>"
    )
    assert [block["type"] for block in unknown] == ["section"]


def test_a_message_is_retried_and_refused_as_any_delivery(scene: Scene) -> None:
    tell(scene, slack(scene, policy={"schedule_seconds": (30.0,)}))
    answers = iter([Answer(500), Answer(404, body=b"no_service")])
    scene.receiver.answer = lambda _request: next(answers)
    scene.publish(alias_event(collection="a"), alias_event(collection="b"))
    scene.evaluate()
    scene.deliver()
    assert sorted(row.status for row in scene.rows()) == ["pending", "refused"]


def test_no_trace_of_the_url_is_left_where_it_can_not_be_reached(scene: Scene) -> None:
    scene.secret("SLACK_URL", "http://169.254.169.254" + PATH)
    hook = scene.webhook("chat", url="", kind=WebhookKind.SLACK, url_secret="SLACK_URL")
    scene.secret("OTHER", f"http://127.0.0.1:{free_port()}{PATH}")  # nobody listens there
    other = scene.webhook("gone", url="", kind=WebhookKind.SLACK, url_secret="OTHER")
    tell(scene, hook)
    tell(scene, other)
    scene.publish(alias_event())
    scene.evaluate()
    with capture_logs() as logs:
        scene.deliver()
    assert sorted(attempt.outcome for attempt in scene.attempts()) == ["blocked", "network"]
    assert "s3cr3t" not in str([scene.rows(), scene.attempts(), logs])


def test_slack_and_webhook_fire_for_the_same_event(scene: Scene) -> None:
    tell(scene, slack(scene))
    scene.automation(scene.webhook())
    scene.publish(alias_event())
    scene.evaluate()
    scene.deliver()
    assert {request.path for request in scene.receiver.requests} == {PATH, "/hook"}
    assert "text" in next(request for request in scene.receiver.requests if request.path == PATH).json
