"""Decides on which events the demo's automations fire, in the plainest way: from whole lists, again for each event.

It shares no code with the service, keeps no windows and no state, and knows only what `automations.yaml` uses.
What it does not know it refuses with ValueError, so that the manifest cannot outgrow it unnoticed.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

Event = Mapping[str, Any]
Automation = Mapping[str, Any]


def firings(automation: Automation, events: Sequence[Event]) -> Iterator[Event]:
    """The events on which an automation fires, in the order of `events`, before cooldown and rate limit."""
    watched = [event for event in events if automation.get("enabled", True) and _is_watched(automation, event)]
    if automation["event"] != "RUN_METRIC":
        yield from watched
        return
    for run_id in dict.fromkeys(event["data"]["run"]["id"] for event in watched):
        yield from rising_edges(
            automation["conditions"], [event for event in watched if event["data"]["run"]["id"] == run_id]
        )


def _is_watched(automation: Automation, event: Event) -> bool:
    data, scope = event["data"], automation.get("scope", {})
    return (
        event["type"] == automation["event"]
        and scope.get("project", data["project"]) == data["project"]
        and ("collection" not in scope or scope["collection"] == data.get("collection", {}).get("name"))
        and ("states" not in automation or data["state"] in automation["states"])
        and matches(automation.get("filter", {}), event)
    )


def matches(expression: Mapping[str, Any], event: Event) -> bool:
    """Whether a filter holds for an event."""
    for name, wanted in expression.items():
        if name == "$and":
            held = all(matches(part, event) for part in wanted)
        elif name == "$or":
            held = any(matches(part, event) for part in wanted)
        elif name == "$not":
            held = not matches(wanted, event)
        else:
            tests = wanted if isinstance(wanted, Mapping) else {"$eq": wanted}
            value = field_value(event, name)
            held = all(_passes(value, test, operand) for test, operand in tests.items())
        if not held:
            return False
    return True


def field_value(event: Event, name: str) -> Any:
    """What a filter field stands for; a list stands for any of its members, None for nothing."""
    data = event["data"]
    artifact, run = data.get("artifact", {}), data.get("run", {})
    if name.startswith("metadata."):
        return artifact["metadata"].get(name.removeprefix("metadata."))
    if name.startswith("config."):
        return run["config"].get(name.removeprefix("config."))
    fields = {
        "alias": data.get("alias", artifact.get("aliases")),
        "tag": data.get("tag", artifact.get("tags")),
        "artifact_type": data.get("collection", {}).get("type"),
        "author": data.get("author"),
        "level": data.get("level"),
        "display_name": run.get("display_name", run.get("name")),
    }
    if name not in fields:
        raise ValueError(f"the naive expectation knows no field {name!r}")
    return fields[name]


def _passes(value: Any, test: str, operand: Any) -> bool:
    if isinstance(value, list):
        return any(_passes(member, test, operand) for member in value)
    if value is None:
        return False
    if test == "$eq":
        return bool(value == operand)
    if test == "$in":
        return value in operand
    if test == "$gt":
        return bool(value > operand)
    if test == "$gte":
        return bool(value >= operand)
    if test == "$regex":
        return re.search(operand, value) is not None
    if test == "$contains":
        return operand in value
    raise ValueError(f"the naive expectation knows no operator {test!r}")


def rising_edges(conditions: Sequence[Mapping[str, Any]], events: Sequence[Event]) -> Iterator[Event]:
    """The metric events of one run on which all conditions hold, and did not all hold on the event before."""
    series: dict[str, list[float]] = {}
    steps: dict[str, int] = {}
    held_before = False
    for event in events:
        news = {
            metric: float(value)
            for metric, value in event["data"]["metrics"].items()
            if event["data"]["step"] > steps.get(metric, -1)
        }
        for metric, value in news.items():
            steps[metric] = event["data"]["step"]
            series.setdefault(metric, []).append(value)
        if not any(condition["metric"] in news for condition in conditions):
            continue
        held = all(holds(condition, series.get(condition["metric"], [])) for condition in conditions)
        if held and not held_before:
            yield event
        held_before = held


def holds(condition: Mapping[str, Any], logged: Sequence[float]) -> bool:
    """Whether a condition holds after these values of its metric, the newest last."""
    if not logged or not math.isfinite(logged[-1]):
        return False
    values = [value for value in logged if math.isfinite(value)]
    if "change" in condition:
        return _change_holds(condition, values)
    if "zscore" in condition:
        return _zscore_holds(condition, values)
    window = condition.get("window", 5) if condition.get("aggregate") else 1
    if len(values) < window:
        return False
    return _compare(_aggregate(condition, values[-window:]), condition["op"], condition["threshold"])


def _compare(value: float, op: str, threshold: float) -> bool:
    if op == "$gt":
        return value > threshold
    if op == "$gte":
        return value >= threshold
    if op == "$lt":
        return value < threshold
    raise ValueError(f"the naive expectation knows no comparison {op!r}")


def _aggregate(condition: Mapping[str, Any], values: Sequence[float]) -> float:
    kind = condition.get("aggregate")
    if kind == "AVERAGE":
        return math.fsum(values) / len(values)
    if kind in ("MIN", "MAX"):
        return min(values) if kind == "MIN" else max(values)
    if kind is None and len(values) == 1:
        return values[0]
    raise ValueError(f"the naive expectation knows no aggregate {kind!r}")


def _change_holds(condition: Mapping[str, Any], values: Sequence[float]) -> bool:
    single = not condition.get("aggregate")
    window = 1 if single else condition.get("window", 10)
    prior_window = 1 if single else condition.get("prior_window", 50)
    if len(values) < window + prior_window:
        return False
    prior = _aggregate(condition, values[-window - prior_window : -window])
    moved = _aggregate(condition, values[-window:]) - prior
    if condition["change"].get("type", "RELATIVE") == "RELATIVE":
        if prior == 0:
            return False
        moved /= abs(prior)
    return _moves(moved, condition["change"].get("direction", "ANY"), condition["change"]["amount"])


def _zscore_holds(condition: Mapping[str, Any], values: Sequence[float]) -> bool:
    window = condition.get("window", 30)
    if len(values) < window + 1:
        return False
    before = values[-window - 1 : -1]
    mean = math.fsum(before) / window
    deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in before) / window)
    if deviation == 0:
        return False
    score = (values[-1] - mean) / deviation
    return _moves(score, condition["zscore"].get("direction", "ANY"), condition["zscore"].get("threshold", 3))


def _moves(amount: float, direction: str, at_least: float) -> bool:
    if direction == "INCREASE":
        return amount >= at_least
    if direction == "DECREASE":
        return -amount >= at_least
    return abs(amount) >= at_least
