"""Records `training_run.jsonl`: three real training runs and the life of the model that came out of them, as events.

The curves, the accuracies in the artifacts' metadata and the choice of the promoted version come from training that
really happens here (`examples.digits`); who clicked what in the registry afterwards is a fixed story. Seeds, ids and
times are fixed, so that the same library versions on the same kind of processor write the same file again. Nothing
here talks to Hookline.

    .venv/bin/python -m pip install --require-hashes -r requirements/examples.txt
    .venv/bin/python -m examples.record_training
"""

from __future__ import annotations

import base64
import hashlib
import importlib.util
import json
import math
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from examples.digits import Digits, Step

OUTPUT = Path(__file__).with_name("training_run.jsonl")
SOURCE = "/platform/eu-1"
ENTITY = "acme"
PROJECT = "digits"
REGISTRY = "wandb-registry-model"
MODELS, REPORTS, CLASSIFIER = "digits-mlp", "digits-reports", "digits-classifier"
BASE_TIME = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
STEP_SECONDS = 20
CHECKPOINT_STEPS = (59, 119, 179)
TRAINER, REVIEWER, RELEASER = "mira", 'Zoë "Zed" Müller', "release-bot"

Event = dict[str, Any]


@dataclass(frozen=True, slots=True)
class RunPlan:
    """One run of the sweep: its name, its learning rate, and how long after the first one it started."""

    name: str
    learning_rate: float
    delay_seconds: int

    def as_data(self) -> dict[str, Any]:
        """The `run` member of this run's events."""
        run_id = hashlib.sha256(self.name.encode()).hexdigest()[:8]
        config = {"learning_rate": self.learning_rate, "momentum": 0.9, "batch_size": 64, "hidden_units": 48}
        return {"id": run_id, "name": self.name, "config": config}


@dataclass(frozen=True, slots=True)
class Version:
    """A version of a collection, in the state in which an event shows it."""

    collection: str
    number: int
    type: str = "model"
    project: str = PROJECT
    metadata: dict[str, Any] | None = None
    aliases: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()

    def as_data(self) -> dict[str, Any]:
        """The `project`, `collection` and `artifact` members of an event about this version."""
        digest = hashlib.sha256(f"{self.project}/{self.collection}/{self.number}".encode()).digest()
        artifact_id = base64.b64encode(b"Artifact:%d" % int.from_bytes(digest[:4])).decode()
        artifact = {
            "id": artifact_id,
            "version": f"v{self.number}",
            "aliases": [*self.aliases, f"v{self.number}"],
            "tags": list(self.tags),
            "metadata": self.metadata or {},
        }
        collection = {"name": self.collection, "type": self.type}
        return {"project": self.project, "collection": collection, "artifact": artifact}


RUNS = (
    RunPlan("digits-mlp-lr0.2", 0.2, 0),
    RunPlan("digits-mlp-lr1.0", 1.0, 7),
    RunPlan("digits-mlp-lr50", 50.0, 13),
)


def event(kind: str, event_id: str, at: datetime, **data: Any) -> Event:
    """A CloudEvents 1.0 object of this recording's entity and source."""
    return {
        "specversion": "1.0",
        "id": event_id,
        "source": SOURCE,
        "type": kind,
        "time": at.isoformat().replace("+00:00", "Z"),
        "data": {"entity": ENTITY, **data},
    }


def run_events(plan: RunPlan, steps: Iterable[Step], *, planned_steps: int) -> Iterator[tuple[Event, Step | None]]:
    """The events of one run, in order, each metric event with the step that it reports.

    A run that stopped before `planned_steps` has diverged and ends as `failed`.
    """
    start = BASE_TIME + timedelta(seconds=plan.delay_seconds)
    run = plan.as_data()
    run_id, common = run["id"], {"project": PROJECT, "author": TRAINER, "run": run}
    yield event("RUN_STATE", f"{run_id}-running", start, **common, state="running"), None
    count = 0
    for count, step in enumerate(steps, 1):
        at = start + timedelta(seconds=count * STEP_SECONDS)
        metrics = {name: _sample(value) for name, value in step.metrics.items()}
        yield event("RUN_METRIC", f"{run_id}-{step.number}", at, **common, step=step.number, metrics=metrics), step
    state = "finished" if count == planned_steps else "failed"
    end = start + timedelta(seconds=(count + 1) * STEP_SECONDS)
    if state == "failed":
        alert = {"title": "Training diverged", "text": f"it stopped after {count} of {planned_steps} steps"}
        yield event("RUN_ALERT", f"{run_id}-diverged", end, **common, **alert, level="ERROR"), None
    yield event("RUN_STATE", f"{run_id}-{state}", end, **common, state=state), None


def _sample(value: float) -> float | str:
    return round(value, 6) if math.isfinite(value) else "NaN"


def checkpoint_metadata(plan: RunPlan, step: Step) -> dict[str, Any]:
    """What the trainer stores with a checkpoint: how it was made, and how good it really is."""
    return {
        "framework": "scikit-learn",
        "model_type": "mlp-classifier",
        "learning_rate": plan.learning_rate,
        "run": plan.as_data()["id"],
        "step": step.number,
        "val_accuracy": _sample(step.metrics["val_accuracy"]),
        "val_loss": _sample(step.metrics["val_loss"]),
        "weakest_digit": min(step.recall, key=lambda digit: (step.recall[digit], digit)),
        "notes": f'checkpoint "{plan.name}" \\ step {step.number}\n→ not for handwriting outside 8 by 8 pixels',
    }


class Story:
    """Writes down what people and bots did with the versions, one event every 30 seconds."""

    def __init__(self, start: datetime) -> None:
        self._at = start
        self.events: list[Event] = []

    def version_event(self, kind: str, version: Version, *, author: str, **detail: str) -> Event:
        """Adds an event about a version; `detail` is the alias or tag of the types that have one."""
        words = "-".join((kind.lower().replace("_", "-"), *detail.values()))
        event_id = f"{version.collection}-v{version.number}-{words}"
        return self._add(kind, event_id, author=author, **version.as_data(), **detail)

    def collection_event(self, kind: str, collection: str, tag: str) -> Event:
        """Adds an event about a tag of a registry collection."""
        event_id = f"{collection}-{kind.lower().replace('_', '-')}-{tag}"
        named = {"name": collection, "type": "model"}
        return self._add(kind, event_id, author=REVIEWER, project=REGISTRY, collection=named, tag=tag)

    def _add(self, kind: str, event_id: str, **data: Any) -> Event:
        self._at += timedelta(seconds=30)
        self.events.append(event(kind, event_id, self._at, **data))
        return self.events[-1]


def registry_story(start: datetime, checkpoints: list[Version], report: Version) -> list[Event]:
    """What happened in the registry after training: review, approval, promotion, retirement.

    Args:
        start: when the last run had ended.
        checkpoints: the versions that were linked; the last one is the one that review rejects.
        report: a version of another type, linked into the same registry.
    """
    story = Story(start)
    linked = [
        replace(version, collection=CLASSIFIER, project=REGISTRY, number=number, aliases=(), tags=())
        for number, version in enumerate(checkpoints)
    ]
    story.version_event("CREATE_ARTIFACT", report, author=TRAINER)
    for version in (*linked, replace(report, project=REGISTRY)):
        story.version_event("LINK_ARTIFACT", version, author=TRAINER)
    for tag in ("vision", "needs-owner"):
        story.collection_event("ADD_COLLECTION_TAG", CLASSIFIER, tag)
    story.collection_event("REMOVE_COLLECTION_TAG", CLASSIFIER, "needs-owner")
    _review(story, linked)
    _promote(story, linked[:-1], checkpoints)
    return story.events


def _review(story: Story, linked: list[Version]) -> None:
    for version in linked:
        story.version_event("ADD_ARTIFACT_TAG", version, author=TRAINER, tag="needs-review")
    *good, bad = (replace(version, tags=("needs-review",)) for version in linked)
    for version in good:
        story.version_event("REMOVE_ARTIFACT_TAG", version, author=REVIEWER, tag="needs-review")
    for version in good[1:]:
        story.version_event("ADD_ARTIFACT_TAG", replace(version, tags=()), author=REVIEWER, tag="approved")
    story.version_event("ADD_ARTIFACT_ALIAS", bad, author=REVIEWER, alias="rejected")
    story.version_event("UNLINK_ARTIFACT", replace(bad, aliases=("rejected",)), author=REVIEWER)


def _promote(story: Story, good: list[Version], checkpoints: list[Version]) -> None:
    """Aliases on the way to production; one event arrives twice, as after a producer's retry."""
    *_, second, best = sorted(good, key=lambda version: (version.metadata or {})["val_accuracy"])
    story.version_event("ADD_ARTIFACT_ALIAS", second, author=REVIEWER, alias="staging")
    story.version_event("ADD_ARTIFACT_ALIAS", best, author=REVIEWER, alias="candidate-2")
    story.version_event("ADD_ARTIFACT_ALIAS", best, author=REVIEWER, alias="pre-production")
    best = replace(best, aliases=("candidate-2", "pre-production"), tags=("approved",))
    story.version_event("ADD_ARTIFACT_ALIAS", best, author=RELEASER, alias="prod")
    promoted = story.version_event("ADD_ARTIFACT_ALIAS", best, author=RELEASER, alias="production")
    story.events.append(promoted)
    story.version_event("ADD_ARTIFACT_ALIAS", checkpoints[best.number], author=TRAINER, alias="production")
    story.version_event("UNLINK_ARTIFACT", replace(good[0], aliases=("superseded",)), author=RELEASER)
    story.version_event("REMOVE_ARTIFACT_ALIAS", second, author=RELEASER, alias="staging")


def record(digits: Digits) -> list[Event]:
    """All events of the recording, in the order in which the platform published them."""
    from examples.digits import STEPS, train  # here, because it needs scikit-learn

    timeline: list[tuple[str, Event, tuple[RunPlan, Step] | None]] = []
    for plan in RUNS:
        for published, step in run_events(plan, train(digits, plan.learning_rate), planned_steps=STEPS):
            timeline.append((published["time"], published, (plan, step) if step else None))
    timeline.sort(key=lambda entry: entry[0])
    return list(_with_artifacts(timeline))


def _with_artifacts(timeline: list[tuple[str, Event, tuple[RunPlan, Step] | None]]) -> Iterator[Event]:
    checkpoints: list[Version] = []
    best: Step | None = None
    for time, published, origin in timeline:
        yield published
        if origin is None or origin[1].number not in CHECKPOINT_STEPS:
            continue
        version = Version(MODELS, len(checkpoints), metadata=checkpoint_metadata(*origin), aliases=("latest",))
        created = Story(datetime.fromisoformat(time) - timedelta(seconds=29))
        yield created.version_event("CREATE_ARTIFACT", version, author=TRAINER)
        checkpoints.append(version)
        if best is None or origin[1].metrics["val_accuracy"] > best.metrics["val_accuracy"]:
            best = origin[1]
    assert best is not None
    report = Version(REPORTS, 0, type="evaluation", metadata={"recall": best.recall, "framework": "scikit-learn"})
    good = [version for version in checkpoints if _learning_rate(version) == RUNS[0].learning_rate]
    yield from registry_story(datetime.fromisoformat(timeline[-1][0]), [*good, checkpoints[-1]], report)


def _learning_rate(version: Version) -> float:
    return float((version.metadata or {})["learning_rate"])


def main() -> None:
    """Trains, and writes the recording."""
    if importlib.util.find_spec("sklearn") is None:
        sys.exit("scikit-learn is not installed: pip install --require-hashes -r requirements/examples.txt")
    from examples.digits import load  # here, because it needs scikit-learn

    lines = [json.dumps(published, ensure_ascii=False) for published in record(load())]
    OUTPUT.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(f"{OUTPUT}: {len(lines)} events, {OUTPUT.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
