"""What evaluation benchmarks watch and what happens there: automations as teams write them, events of about 690 bytes.

Each project has `PER_PROJECT` automations of several kinds, and every event happens in a project that is watched and
meets those of its type, whose filters then say no: nothing here fires.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

Json = dict[str, Any]

ENTITY = "bench"
PER_PROJECT = 20
RUNS = 100
WINDOW = 30
_ALIASES = ("staging", "candidate", "latest", "nightly", "shadow", "v-next")
_PAYLOAD = {"ref": "main", "version": "${artifact_version_string}", "by": "${event_author}", "alias": "${alias}"}


def _filters(number: int) -> tuple[tuple[str, Json], ...]:
    """Kinds of automations; some share their filter with others, some have one of their own."""
    return (
        ("ADD_ARTIFACT_ALIAS", {"alias": {"$regex": "^prod(uction)?$"}}),
        ("ADD_ARTIFACT_ALIAS", {"alias": f"release-{number}"}),
        ("ADD_ARTIFACT_ALIAS", {"alias": {"$in": ["champion", f"winner-{number}"]}}),
        ("ADD_ARTIFACT_ALIAS", {"$and": [{"artifact_type": "model"}, {"alias": {"$regex": f"^rc-{number}-[0-9]+$"}}]}),
        ("ADD_ARTIFACT_ALIAS", {"metadata.val_accuracy": {"$gt": 0.99}, "metadata.model_type": "llm"}),
        ("ADD_ARTIFACT_TAG", {"tag": {"$regex": "^approved"}}),
        ("ADD_ARTIFACT_TAG", {"tag": f"gate-{number}"}),
        ("LINK_ARTIFACT", {"$or": [{"tags": "golden"}, {"author": f"bot-{number}"}]}),
        ("LINK_ARTIFACT", {"version": {"$regex": "^v0$"}}),
        ("CREATE_ARTIFACT", {"metadata.framework": {"$contains": "jax"}, "author": {"$ne": "alice"}}),
    )


def automations(count: int) -> Iterator[Json]:
    """`count` automations that no event of `events` fires."""
    for number in range(count):
        kinds = _filters(number)
        event_type, expression = kinds[number % len(kinds)]
        yield {
            "name": f"automation-{number}",
            "event": event_type,
            "scope": {"project": project(number // PER_PROJECT)},
            "filter": expression,
            "action": {"webhook": "hook", "payload": {**_PAYLOAD, "client": f"team-{number}"}},
        }


def project(number: int) -> str:
    """The name of a project."""
    return f"wandb-registry-model-{number}"


def events(label: str, count: int, *, projects: int) -> list[Json]:
    """`count` events, spread over the projects so that neighbours in a stream are of different ones."""
    return [_event(f"{label}-{number:06d}", number, project((number * 7919) % projects)) for number in range(count)]


def _event(event_id: str, number: int, project_name: str) -> Json:
    event_type = ("ADD_ARTIFACT_ALIAS", "ADD_ARTIFACT_ALIAS", "LINK_ARTIFACT", "ADD_ARTIFACT_TAG")[number % 4]
    own: Json = {}
    if event_type == "ADD_ARTIFACT_ALIAS":
        own = {"alias": _ALIASES[number % len(_ALIASES)]}
    if event_type == "ADD_ARTIFACT_TAG":
        own = {"tag": "evaluated"}
    return {
        "specversion": "1.0",
        "id": event_id,
        "source": "/platform/bench-1",
        "type": event_type,
        "time": "2026-11-23T09:00:00Z",
        "data": {
            "entity": ENTITY,
            "project": project_name,
            "author": "alice",
            "collection": {"name": f"llm-models-{number % 48:02d}", "type": "model"},
            "artifact": {
                "id": f"QXJ0aWZhY3Q6{number:08d}",
                "version": f"v{number % 500 + 1}",
                "aliases": [f"v{number % 500 + 1}", "latest"],
                "tags": ["evaluated", "eu"],
                "metadata": {
                    "model_type": "llm",
                    "dataset": "support-tickets-2026-10",
                    "val_accuracy": 0.9731,
                    "framework": "torch",
                    "parameters": 7_000_000_000,
                },
            },
            **own,
        },
    }


def metric_automation() -> Json:
    """Watches one metric of every run in a project: a series for each run, whose average never passes the threshold."""
    return {
        "name": "watch-loss",
        "event": "RUN_METRIC",
        "scope": {"project": "training"},
        "conditions": [{"metric": "loss", "aggregate": "AVERAGE", "window": WINDOW, "op": "$gt", "threshold": 1e9}],
        "action": {"webhook": "hook"},
    }


def samples(label: str, count: int, *, first_step: int) -> list[Json]:
    """`count` metric events of `RUNS` runs in turn, steps rising from `first_step`."""
    return [_sample(f"{label}-{number:06d}", number, first_step + number // RUNS) for number in range(count)]


def _sample(event_id: str, number: int, step: int) -> Json:
    return {
        "specversion": "1.0",
        "id": event_id,
        "source": "/platform/bench-1",
        "type": "RUN_METRIC",
        "time": "2026-11-23T09:00:00Z",
        "data": {
            "entity": ENTITY,
            "project": "training",
            "author": "alice",
            "run": {"id": f"run-{number % RUNS}", "name": f"sweep {number % RUNS}", "config": {"lr": 0.001}},
            "step": step,
            "metrics": {"loss": 1.0 / (step + 1) + number % 7 * 0.01, "accuracy": 0.5, "cpu": 71.5},
        },
    }
