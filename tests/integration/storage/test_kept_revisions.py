"""Revisions of what Hookline itself and operators change, by the parts of a worker."""

from __future__ import annotations

from shared.storage.database.transactions import read_transaction
from shared.storage.definitions.kept_revisions import RevisionKind, list_revisions, read_contents
from tests.integration.receiver import Answer
from tests.integration.scene import Scene, alias_event
from worker.operations.audit import OPERATOR
from worker.operations.automations import set_enabled
from worker.operations.webhooks import pause, resume


def kept(scene: Scene, kind: RevisionKind, number: int) -> list[tuple[str, list[str], str | None, str | None]]:
    """What is kept of a target, oldest first."""
    with read_transaction(scene.process.engine) as connection:
        rows = list_revisions(connection, kind, number)
    return [(row.change, row.changed, row.by, row.reason) for row in reversed(rows)]


def test_that_a_worker_disabled_a_webhook_is_kept_with_the_reason(scene: Scene) -> None:
    hook = scene.webhook()
    scene.automation(hook)
    scene.receiver.answer = lambda _request: Answer(410)
    scene.publish(alias_event(), alias_event())
    scene.evaluate()
    scene.deliver()
    assert kept(scene, RevisionKind.WEBHOOK, hook) == [
        ("create", [], None, None),
        ("update", ["enabled"], None, "the endpoint answered 410 Gone"),
    ]
    with read_transaction(scene.process.engine) as connection:
        numbers = [row.id for row in list_revisions(connection, RevisionKind.WEBHOOK, hook)]
        contents = read_contents(connection, RevisionKind.WEBHOOK, [hook], numbers)
    assert [contents[number]["enabled"] for number in numbers] == [False, True]


def test_what_operators_switch_is_kept_once(scene: Scene) -> None:
    hook = scene.webhook()
    number = scene.automation(hook)
    for _ in range(2):
        pause(scene.process.engine, f"wh_{hook}", None)
        set_enabled(scene.process.engine, f"aut_{number}", None, enabled=False)
    for _ in range(2):
        resume(scene.process.engine, f"wh_{hook}", None)
        set_enabled(scene.process.engine, f"aut_{number}", None, enabled=True)
    assert kept(scene, RevisionKind.WEBHOOK, hook)[1:] == [("update", ["paused"], OPERATOR, None)] * 2
    assert kept(scene, RevisionKind.AUTOMATION, number)[1:] == [("update", ["enabled"], OPERATOR, None)] * 2
