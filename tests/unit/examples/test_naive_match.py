"""The naive evaluator on series small enough to check by eye."""

from __future__ import annotations

from typing import Any

import pytest

from examples.naive_match import firings, holds, matches

AVERAGE = {"metric": "m", "aggregate": "AVERAGE", "window": 2, "op": "$gte", "threshold": 3}
RISE = {"metric": "m", "aggregate": "AVERAGE", "window": 2, "prior_window": 2}
Z = {"metric": "m", "window": 4}


def metric(step: int, run: str = "r", **values: Any) -> dict[str, Any]:
    data = {"project": "p", "run": {"id": run, "name": f"name-{run}", "config": {"lr": 1}}, "step": step}
    return {"type": "RUN_METRIC", "id": f"{run}{step}", "data": data | {"metrics": values}}


def artifact(kind: str = "LINK_ARTIFACT", **data: Any) -> dict[str, Any]:
    version = {"id": "1", "version": "v1", "aliases": ["best", "v1"], "tags": ["t"], "metadata": {"acc": 0.5}}
    collection = {"name": "c", "type": "model"}
    return {"type": kind, "id": "e", "data": {"project": "p", "collection": collection, "artifact": version} | data}


@pytest.mark.parametrize(
    ("condition", "values", "expected"),
    [
        pytest.param(AVERAGE, [3], False, id="window not full"),
        pytest.param(AVERAGE, [0, 2, 4], True, id="average meets the bound"),
        pytest.param(AVERAGE, [9, 2, 3.9], False, id="average of the last two alone"),
        pytest.param(AVERAGE, [9, 9, float("nan")], False, id="NaN satisfies nothing"),
        pytest.param(AVERAGE | {"aggregate": "MIN"}, [3, 3.5], True, id="minimum"),
        pytest.param(AVERAGE | {"aggregate": "MAX", "op": "$lt"}, [2, 3], False, id="maximum, strictly below"),
        pytest.param({"metric": "m", "op": "$gt", "threshold": 3}, [3], False, id="single value, strict"),
        pytest.param({"metric": "m", "op": "$gt", "threshold": 3}, [3.5], True, id="single value"),
        pytest.param(RISE | {"change": {"amount": 1.0}}, [2, 2, 4, 4], True, id="doubled, inclusive"),
        pytest.param(RISE | {"change": {"amount": 1.0}}, [2, 4, 4], False, id="prior window not full"),
        pytest.param(RISE | {"change": {"amount": 0.5}}, [-4, -4, -2, -2], True, id="relative to the absolute prior"),
        pytest.param(RISE | {"change": {"amount": 1.0}}, [0, 0, 9, 9], False, id="prior of zero"),
        pytest.param(
            RISE | {"change": {"type": "ABSOLUTE", "direction": "DECREASE", "amount": 2}}, [4, 4, 2, 2], True, id="fell"
        ),
        pytest.param(
            RISE | {"change": {"direction": "INCREASE", "amount": 0.1}}, [4, 4, 2, 2], False, id="wrong direction"
        ),
        # Mean 2 and population deviation 1 of 1, 3, 1, 3.
        pytest.param(Z | {"zscore": {"threshold": 3}}, [1, 3, 1, 3, 5], True, id="three deviations, inclusive"),
        pytest.param(Z | {"zscore": {"threshold": 3}}, [1, 3, 1, 3, 4.9], False, id="below three deviations"),
        pytest.param(Z | {"zscore": {"direction": "DECREASE"}}, [1, 3, 1, 3, 5], False, id="outlier the other way"),
        pytest.param(Z | {"zscore": {}}, [2, 2, 2, 2, 9], False, id="no deviation"),
        pytest.param(Z | {"zscore": {}}, [3, 1, 3, 9], False, id="z-score window not full"),
    ],
)
def test_condition(condition: dict[str, Any], values: list[float], expected: bool) -> None:
    assert holds(condition, values) is expected


def test_fires_on_each_rising_edge_of_the_conjunction_and_in_each_run_by_itself() -> None:
    automation = {
        "event": "RUN_METRIC",
        "conditions": [
            {"metric": "a", "op": "$gt", "threshold": 1},
            {"metric": "b", "op": "$gt", "threshold": 1},
        ],
    }
    curve = [(2, 0), (2, 2), (2, 2), (0, 2), (2, 2)]
    events = [metric(step, run, a=a, b=b) for step, (a, b) in enumerate(curve) for run in ("r", "s")]
    assert [event["id"] for event in firings(automation, events)] == ["r1", "r4", "s1", "s4"]


def test_a_step_that_does_not_rise_counts_for_nothing() -> None:
    automation = {"event": "RUN_METRIC", "conditions": [{"metric": "a", "op": "$gt", "threshold": 1}]}
    events = [metric(5, a=0), metric(4, a=9), metric(5, a=9), metric(6, a=9)]
    assert [event["id"] for event in firings(automation, events)] == ["r6"]


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ({}, True),
        ({"alias": "best"}, True),
        ({"alias": {"$in": ["worst"]}}, False),
        ({"alias": {"$regex": "^v[0-9]+$"}}, True),
        ({"artifact_type": "model", "metadata.acc": {"$gte": 0.5}}, True),
        ({"metadata.acc": {"$gt": 0.5}}, False),
        ({"metadata.absent": {"$gt": 0}}, False),
        ({"$or": [{"tag": "x"}, {"tag": {"$contains": "t"}}]}, True),
        ({"$and": [{"tag": "x"}, {"alias": "best"}]}, False),
        ({"$not": {"tag": "x"}}, True),
    ],
)
def test_filter_on_an_artifact(expression: dict[str, Any], expected: bool) -> None:
    assert matches(expression, artifact()) is expected


def test_an_alias_event_is_about_its_own_alias() -> None:
    event = artifact("ADD_ARTIFACT_ALIAS", alias="prod")
    assert matches({"alias": "prod"}, event)
    assert not matches({"alias": "best"}, event)


@pytest.mark.parametrize(
    ("automation", "fires"),
    [
        ({}, True),
        ({"scope": {"project": "p", "collection": "c"}}, True),
        ({"scope": {"project": "other"}}, False),
        ({"scope": {"project": "p", "collection": "other"}}, False),
        ({"event": "UNLINK_ARTIFACT"}, False),
        ({"enabled": False}, False),
    ],
)
def test_scope_type_and_switch(automation: dict[str, Any], fires: bool) -> None:
    assert bool(list(firings({"event": "LINK_ARTIFACT"} | automation, [artifact()]))) is fires


def test_what_it_does_not_know_is_refused() -> None:
    with pytest.raises(ValueError, match="no operator"):
        matches({"tag": {"$nin": ["x"]}}, artifact())
    with pytest.raises(ValueError, match="no field"):
        matches({"version": "v1"}, artifact())
    with pytest.raises(ValueError, match="no comparison"):
        holds({"metric": "m", "op": "$ne", "threshold": 1}, [1])
