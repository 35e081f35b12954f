"""Clients of other versions: what the first one published is taken for good, and its builders go on making it.

`published.jsonl` has an event of each kind as the first client sent it. Lines are added, never changed.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hookline import events

from shared.domain.events.types import NOTICE_TYPES, EventType
from tests.sdk.conftest import Hookline

PUBLISHED = [json.loads(line) for line in Path(__file__).with_name("published.jsonl").read_text().splitlines()]


def built() -> list[events.Event]:
    """The same by today's builders."""
    collection = events.Collection("llm", "model")
    metadata = {"model_type": "llm", "scores": [1, 2.5, None]}
    artifact = events.Artifact("a1", version="v3", aliases=["v3"], tags=["x"], metadata=metadata)
    run = events.Run("r1", "brave-fox", config={"lr": 0.1, "optim": {"name": "sgd"}}, group="g", tags=["t"])
    common: Any = {
        "project": "p",
        "author": "alice",
        "entity": "acme",
        "source": "/first",
        "time": "2026-01-02T03:04:05Z",
    }
    of: Any = {**common, "collection": collection}
    version: Any = {**of, "artifact": artifact}
    return [
        events.artifact_created(**version, id="1"),
        events.artifact_linked(**version, id="2"),
        events.artifact_unlinked(**version, id="3"),
        events.alias_added(**version, alias="production", id="4"),
        events.alias_removed(**version, alias="production", id="5"),
        events.artifact_tag_added(**version, tag="x", id="6"),
        events.artifact_tag_removed(**version, tag="x", id="7"),
        events.collection_tag_added(**of, tag="x", id="8"),
        events.collection_tag_removed(**of, tag="x", id="9"),
        events.run_state(**common, run=run, state="running", heartbeat_seconds=60, id="10"),
        events.run_metrics(**common, run=run, step=3, metrics={"loss": 0.25, "nan": float("nan"), "n": 3}, id="11"),
        *(events.run_state(**common, run=run, state=state, id=f"12-{state}") for state in ENDS),
        events.run_alert(**common, run=run, title="low", text="accuracy\n0.4", level="WARN", id="13"),
    ]


ENDS: tuple[events.State, ...] = ("finished", "failed", "crashed", "killed", "preempted")


def test_what_the_first_client_published_is_taken(hookline: Hookline) -> None:
    assert {event["type"] for event in PUBLISHED} == {str(kind) for kind in EventType if kind not in NOTICE_TYPES}
    answer = hookline.rest("POST", "/v1/events", PUBLISHED, key="publisher", status=202)
    assert answer == {"accepted": len(PUBLISHED)}


def test_builders_go_on_making_it() -> None:
    assert [
        _without_new(json.loads(made.to_json()), first) for made, first in zip(built(), PUBLISHED, strict=True)
    ] == (PUBLISHED)


def _without_new(made: Any, first: Any) -> Any:
    """Without the members that came later."""
    if isinstance(made, dict) and isinstance(first, dict):
        return {key: _without_new(value, first[key]) for key, value in made.items() if key in first}
    return made
