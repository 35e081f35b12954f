"""`delivery.attempted`: one line for each attempt, with every id by which its parts are known outside."""

from __future__ import annotations

import json
import logging
import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from shared.observability.logs import configure_logging
from tests.integration.receiver import Answer
from tests.integration.scene import Scene, alias_event


@contextmanager
def _json_logs(scene: Scene) -> Iterator[None]:
    handlers, level = logging.root.handlers[:], logging.root.level
    configure_logging(scene.settings.model_copy(update={"log_format": "json"}), "worker")
    try:
        yield
    finally:
        logging.root.handlers[:] = handlers
        logging.root.setLevel(level)
        logging.captureWarnings(False)


def _attempts(captured: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in captured.splitlines()]
    return [line for line in lines if line["event"] == "delivery.attempted"]


def test_a_line_names_everything_that_an_attempt_is_about(scene: Scene, capsys: pytest.CaptureFixture[str]) -> None:
    scene.secret("TOKEN", "a-token-of-many-letters")
    hook = scene.webhook(access_token="TOKEN", policy={"schedule_seconds": (30.0, 60.0), "jitter": 0})
    automation = scene.automation(hook)
    answers = iter([Answer(503, body=b"busy a-token-of-many-letters"), Answer(204)])
    scene.receiver.answer = lambda _request: next(answers)
    scene.publish(alias_event(event_id="promote-1"))
    scene.evaluate()
    with _json_logs(scene):
        scene.deliver()
    text = capsys.readouterr().err

    [line] = _attempts(text)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", line.pop("timestamp"))
    assert line.pop("duration_ms") >= 0
    assert line == {
        "event": "delivery.attempted",
        "level": "info",
        "logger": "hookline.deliver",
        "process": "worker",
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "delivery_id": scene.rows()[0].id,
        "webhook_id": f"wh_{hook}",
        "automation_id": f"aut_{automation}",
        "entity": "acme",
        "event_id": "promote-1",
        "event_source": "/test",
        "event_type": "ADD_ARTIFACT_ALIAS",
        "attempt": 1,
        "max_attempts": 3,
        "outcome": "5xx",
        "status": 503,
        "error": None,
        "verdict": "retry",
        "retry_in_seconds": 30.0,
    }
    assert "a-token-of-many-letters" not in text


def test_there_is_one_line_for_each_attempt_of_a_batch(scene: Scene, capsys: pytest.CaptureFixture[str]) -> None:
    scene.automation(scene.webhook())
    scene.publish(*(alias_event(collection=f"c{number}") for number in range(20)))
    scene.evaluate()
    with _json_logs(scene):
        scene.deliver()

    lines = _attempts(capsys.readouterr().err)
    assert {line["delivery_id"] for line in lines} == {row.id for row in scene.rows()}
    assert len(lines) == 20
    assert {(line["verdict"], line["retry_in_seconds"]) for line in lines} == {("delivered", None)}
