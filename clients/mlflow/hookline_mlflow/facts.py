"""What happened to runs, as it is written in MLflow's transaction: what is known there without a query.

The relay makes events of facts (`completion`), with the run's name, parameters and experiment. Must not do I/O.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

from hookline import ids
from hookline.events import State
from hookline.values import MAX_METRICS, clean_name

Fact = dict[str, Any]
STATES: dict[str, State] = {"RUNNING": "running", "FINISHED": "finished", "FAILED": "failed", "KILLED": "killed"}
"""MLflow's states and Hookline's. SCHEDULED has none: nothing runs yet."""
_LARGEST = 1.7976931348623157e308
"""What MLflow stores for infinity, since not every database has it."""


class Sample(Protocol):
    """One row of MLflow's table `metrics`."""

    run_uuid: str
    key: str
    value: float
    is_nan: bool
    step: int
    timestamp: int


def state_fact(run_id: str, status: str, at_ms: int | None, author: str) -> Fact | None:
    """A run entered a state; None for one that Hookline does not have."""
    if (state := STATES.get(status)) is None:
        return None
    return {"fact": "state", "id": ids.event_id(), "run": run_id, "state": state, "at_ms": at_ms, "author": author}


def metric_facts(samples: Iterable[Sample], author: str) -> list[Fact]:
    """What runs logged, one fact for each run and step, in the order of the steps.

    A name that comes twice at a step, as it does when a script names no steps, makes another fact.
    """
    facts: list[Fact] = []
    open_facts: dict[tuple[str, int], Fact] = {}
    for one in samples:
        name = clean_name(one.key)
        if not name:
            continue
        # Hookline has no steps below 0; its rule for runs whose steps are all 0 fits.
        step = max(0, one.step)
        place = one.run_uuid, step
        fact = open_facts.get(place)
        if fact is None or name in fact["metrics"] or len(fact["metrics"]) >= MAX_METRICS:
            fact = open_facts[place] = {
                "fact": "metrics",
                "id": ids.event_id(),
                "run": one.run_uuid,
                "step": step,
                "metrics": {},
                "at_ms": one.timestamp,
                "author": author,
            }
            facts.append(fact)
        fact["metrics"][name] = sample_value(one.value, one.is_nan)
    return sorted(facts, key=lambda fact: int(fact["step"]))


def sample_value(value: float, is_nan: bool) -> float | str:
    """A metric's value as events have it; MLflow stores NaN and infinities as other numbers."""
    if is_nan:
        return "NaN"
    if abs(value) >= _LARGEST:
        return "Infinity" if value > 0 else "-Infinity"
    return value


def typed(param: str | None) -> Any:
    """A parameter's value. MLflow keeps text only: what a number or a truth value wrote becomes that again."""
    if param in ("True", "False"):
        return param == "True"
    for kind in (int, float):
        try:
            number = kind(param or "")
        except ValueError:
            continue
        if repr(number) == param and number == number and abs(number) != float("inf"):
            return number
    return param
