"""W&B's event filters and Hookline's definitions: the client's own texts, both directions, and what is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.domain.automations.model import Automation
from shared.domain.automations.parsing import parse_automation
from shared.domain.errors import InvalidDefinition
from shared.domain.filters.normal_form import same_normal_form
from shared.domain.filters.wandb import WandbEventType, event_members, saved_event

T = WandbEventType
ALIAS = {"alias": {"$eq": "prod"}}
EVERYTHING: dict[str, Any] = {"$and": []}


def text(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))


def run_filter(expression: object = EVERYTHING, **more: object) -> dict[str, object]:
    return {"run_filter": text(expression), **more}


def metric(kind: str, **values: object) -> dict[str, object]:
    return run_filter(run_metric_filter={kind: values}, metric_filter=None)


def threshold(**changes: object) -> dict[str, object]:
    values = {"name": "loss", "agg_op": "AVERAGE", "window_size": 5, "cmp_op": "$gt", "threshold": 0.5}
    return metric("threshold_filter", **{**values, **changes})


def automation(event_type: WandbEventType, event_filter: object) -> Automation:
    """The checked automation of what the client sends."""
    members = event_members(event_type, text(event_filter))
    return parse_automation({"name": "n", "action": {"no_op": True}, **members}, lambda _: None)


def refusal(event_type: WandbEventType, event_filter: object) -> str:
    with pytest.raises(InvalidDefinition) as caught:
        automation(event_type, event_filter)
    return str(caught.value)


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ({"$or": [{"$and": []}]}, EVERYTHING),
        ({"$or": [{"$and": [{}]}]}, {}),
        ({"$or": [{"$and": [ALIAS]}]}, ALIAS),
        ({"$or": [{"$and": [ALIAS, {"tag": {"$eq": "b"}}]}]}, {"$and": [ALIAS, {"tag": {"$eq": "b"}}]}),
        ({"$or": [{"$and": [{"$or": [ALIAS, {"tag": {"$eq": "b"}}]}]}]}, {"$or": [ALIAS, {"tag": {"$eq": "b"}}]}),
        ({"$or": [ALIAS, {"tag": {"$eq": "b"}}]}, {"$or": [ALIAS, {"tag": {"$eq": "b"}}]}),
        (ALIAS, ALIAS),
        ({"$or": [{"$and": [ALIAS]}], "tag": "b"}, {"$or": [{"$and": [ALIAS]}], "tag": "b"}),
    ],
)
def test_an_artifact_filter_is_taken_out_of_its_wrapping(sent: object, kept: object) -> None:
    members = event_members(T.ADD_ARTIFACT_ALIAS, text(sent))
    assert members == {"event": "ADD_ARTIFACT_ALIAS", "filter": kept, "conditions": [], "states": []}


def test_linking_has_another_name_there() -> None:
    assert event_members(T.LINK_MODEL, '{"$or":[{"$and":[]}]}')["event"] == "LINK_ARTIFACT"
    saved = saved_event({"event": "LINK_ARTIFACT", "filter": {}})
    assert saved is not None
    assert saved.type is T.LINK_MODEL


@pytest.mark.parametrize(
    ("event_type", "sent", "condition"),
    [
        (
            T.RUN_METRIC,
            threshold(),
            {"metric": "loss", "aggregate": "AVERAGE", "window": 5, "op": "$gt", "threshold": 0.5},
        ),
        (
            T.RUN_METRIC,
            metric("threshold_filter", name="loss", cmp_op="$lte", threshold=2),
            {"metric": "loss", "aggregate": None, "window": 1, "op": "$lte", "threshold": 2},
        ),
        (
            T.RUN_METRIC_CHANGE,
            metric(
                "change_filter",
                name="loss",
                agg_op="MAX",
                current_window_size=7,
                change_amount=0.1,
                change_type="RELATIVE",
                change_dir="DECREASE",
            ),
            {
                "metric": "loss",
                "aggregate": "MAX",
                "window": 7,
                "prior_window": 7,
                "change": {"amount": 0.1, "type": "RELATIVE", "direction": "DECREASE"},
            },
        ),
        (
            T.RUN_METRIC_ZSCORE,
            metric("zscore_filter", name="loss", window_size=30, threshold=3, change_dir="ANY"),
            {"metric": "loss", "window": 30, "zscore": {"threshold": 3, "direction": "ANY"}},
        ),
    ],
)
def test_each_kind_of_metric_filter_is_a_condition(
    event_type: WandbEventType, sent: object, condition: dict[str, object]
) -> None:
    members = event_members(event_type, text(sent))
    assert members == {"event": "RUN_METRIC", "filter": EVERYTHING, "conditions": [condition], "states": []}
    assert len(automation(event_type, sent).conditions) == 1


def test_a_failed_run_is_also_a_crashed_one() -> None:
    sent = run_filter(run_state_filter={"states": ["FAILED", "finished"]})
    assert event_members(T.RUN_STATE, text(sent))["states"] == ["crashed", "failed", "finished"]


@pytest.mark.parametrize("given", [{"display_name": {"$contains": "a"}}, {"$and": [{"display_name": "a"}] * 2}])
def test_a_run_filter_may_be_text_or_an_object(given: dict[str, Any]) -> None:
    state = {"states": ["RUNNING"]}
    as_text = event_members(T.RUN_STATE, text(run_filter({"$and": [given]}, run_state_filter=state)))
    as_object = event_members(T.RUN_STATE, text({"run_filter": {"$and": [given]}, "run_state_filter": state}))
    assert as_text == as_object
    assert as_text["filter"] == given


@pytest.mark.parametrize(
    ("event_type", "sent", "told"),
    [
        (T.ADD_ARTIFACT_ALIAS, threshold(), "eventFilter: is about runs, but ADD_ARTIFACT_ALIAS events"),
        (T.ADD_ARTIFACT_ALIAS, [], "eventFilter: must be a JSON object"),
        (
            T.ADD_ARTIFACT_ALIAS,
            {"$or": [{"$and": [{"alias": {"$weird": 1}}]}]},
            "filter.alias.$weird: unknown operator",
        ),
        (T.ADD_ARTIFACT_ALIAS, {"$or": [{"$and": [{"$weird": 1}]}]}, "filter.$weird: unknown operator"),
        (T.ADD_ARTIFACT_ALIAS, {"$or": [{"$and": [{"nope": 1}]}]}, "have no field 'nope'; accepted: alias"),
        (T.ADD_ARTIFACT_ALIAS, {"$or": [{"$and": ["x"]}]}, "must be an object such as"),
        (T.RUN_METRIC, {"$or": [{"$and": []}]}, "eventFilter.$or: is not known here; accepted: run_filter"),
        (T.RUN_METRIC, run_filter(), "eventFilter.run_metric_filter: is required with RUN_METRIC"),
        (T.RUN_METRIC, metric("zscore_filter", name="x"), "with threshold_filter alone when the event is RUN_METRIC"),
        (T.RUN_METRIC, threshold(extra=1), "threshold_filter.extra: is not known here"),
        (T.RUN_METRIC, threshold(threshold=None), "conditions.0.threshold: expected a finite number"),
        (T.RUN_METRIC, threshold(threshold="0.5"), "conditions.0.threshold: expected a finite number"),
        (T.RUN_METRIC, threshold(cmp_op="$eq"), "threshold_filter.cmp_op: must be one of $gt, $gte, $lt, $lte"),
        (T.RUN_METRIC, threshold(cmp_op=None), "cmp_op: must be one of"),
        (T.RUN_METRIC, threshold(window_size=0), "conditions.0.window: expected a whole number from 1"),
        (T.RUN_METRIC, threshold(agg_op="MEDIAN"), "conditions.0.aggregate: expected one of MAX, MIN, AVERAGE"),
        (T.RUN_METRIC, {"run_filter": "{", "run_metric_filter": {}}, "eventFilter.run_filter: must be a JSON text"),
        (T.RUN_METRIC, {**threshold(), "run_filter": text({"nope": 1})}, "RUN_METRIC events have no field 'nope'"),
        (T.RUN_METRIC, {**threshold(), "metric_filter": "{}"}, "eventFilter.metric_filter: is a form of older clients"),
        (T.RUN_METRIC_CHANGE, metric("change_filter", name="x", change_amount=0), "conditions.0.change.amount"),
        (T.RUN_METRIC_ZSCORE, metric("zscore_filter", name="x", threshold=-1), "conditions.0.zscore.threshold"),
        (T.RUN_STATE, run_filter(), "eventFilter.run_state_filter: is required with RUN_STATE"),
        (T.RUN_STATE, run_filter(run_state_filter={"states": []}), "must be a list of RUNNING, FINISHED, FAILED"),
        (T.RUN_STATE, run_filter(run_state_filter={"states": ["KILLED"]}), "must be a list of RUNNING"),
        (T.RUN_STATE, run_filter(run_state_filter={"states": [7]}), "must be a list of RUNNING"),
        (T.RUN_STATE, threshold(), "eventFilter.run_metric_filter: is not known here"),
    ],
)
def test_what_does_not_belong_to_the_event_type_is_refused_by_name(
    event_type: WandbEventType, sent: object, told: str
) -> None:
    assert told in refusal(event_type, sent)


@pytest.mark.parametrize("sent", ["", "{", "[1", "nope", '{"a":NaN}', "[" * 5000])
def test_what_is_no_json_is_refused(sent: str) -> None:
    with pytest.raises(InvalidDefinition, match="eventFilter: must be a JSON text"):
        event_members(T.ADD_ARTIFACT_ALIAS, sent)


def test_saved_artifact_filters_are_wrapped_once_more() -> None:
    saved = saved_event({"event": "ADD_ARTIFACT_ALIAS", "filter": ALIAS})
    assert saved is not None
    assert json.loads(saved.filter) == {"filter": '{"$or":[{"$and":[{"alias":{"$eq":"prod"}}]}]}'}


def test_saved_run_filters_are_as_they_were_sent() -> None:
    sent = metric("threshold_filter", name="loss", agg_op="MIN", window_size=3, cmp_op="$lt", threshold=1)
    saved = saved_event(automation(T.RUN_METRIC, sent).to_json())
    assert saved is not None
    del sent["metric_filter"]
    assert saved.filter == text(sent)


@pytest.mark.parametrize(
    "inexpressible",
    [
        {"event": "RUN_METRIC", "conditions": [{"metric": "a", "op": "$gt", "threshold": 1}] * 2},
        {"event": "RUN_METRIC", "conditions": [{"metric": "a", "op": "$eq", "threshold": 1}]},
        {"event": "RUN_METRIC", "conditions": [{"metric": "a", "op": "$ne", "threshold": 1}]},
        {"event": "RUN_STATE", "states": ["failed"]},
        {"event": "RUN_STATE", "states": ["crashed", "finished"]},
        {"event": "REMOVE_ARTIFACT_ALIAS"},
        {"event": "RUN_ALERT"},
        {"event": "RUN_STATE", "states": ["killed"]},
        {"event": "RUN_STATE", "states": ["crashed", "failed", "preempted"]},
    ],
)
def test_what_the_form_cannot_express_is_not_bent_into_it(inexpressible: dict[str, Any]) -> None:
    definition = {"name": "n", "action": {"no_op": True}, **inexpressible}
    assert saved_event(parse_automation(definition, lambda _: None).to_json()) is None


names = st.text(alphabet="abc/_. ", min_size=1).filter(lambda name: name.strip() == name)
numbers = st.integers(-1000, 1000) | st.floats(allow_nan=False, allow_infinity=False)
positive = st.integers(1, 1000) | st.floats(0.001, 1e9)
windows = st.integers(1, 1000)
aggregates = st.sampled_from(["MAX", "MIN", "AVERAGE"])
directions = st.sampled_from(["INCREASE", "DECREASE", "ANY"])
expressions = st.recursive(
    st.just({}) | st.builds(lambda op, value: {"display_name": {op: value}}, st.sampled_from(["$eq", "$ne"]), names),
    lambda inner: (
        st.builds(lambda op, terms: {op: terms}, st.sampled_from(["$and", "$or", "$nor"]), st.lists(inner, min_size=1))
        | st.builds(lambda term: {"$not": term}, inner)
    ),
    max_leaves=5,
)
thresholds = st.fixed_dictionaries(
    {"metric": names, "op": st.sampled_from(["$gt", "$gte", "$lt", "$lte"]), "threshold": numbers},
    optional={"aggregate": aggregates, "window": windows},
)
changes = st.fixed_dictionaries(
    {
        "metric": names,
        "change": st.fixed_dictionaries(
            {"amount": positive, "type": st.sampled_from(["ABSOLUTE", "RELATIVE"]), "direction": directions}
        ),
    },
    optional={"aggregate": aggregates, "window": windows, "prior_window": windows},
)
zscores = st.fixed_dictionaries(
    {"metric": names, "zscore": st.fixed_dictionaries({"threshold": positive, "direction": directions})},
    optional={"window": st.integers(2, 1000)},
)
states = st.lists(
    st.sampled_from([["running"], ["finished"], ["failed", "crashed"]]), min_size=1, unique_by=lambda s: s[0]
).map(lambda groups: [state for group in groups for state in group])
conditions = thresholds | changes | zscores
definitions = st.builds(lambda condition: {"event": "RUN_METRIC", "conditions": [condition]}, conditions) | st.builds(
    lambda chosen: {"event": "RUN_STATE", "states": chosen}, states
)


@settings(max_examples=150, deadline=None)
@given(definitions, expressions)
def test_a_definition_comes_back_with_the_same_meaning(definition: dict[str, Any], expression: dict[str, Any]) -> None:
    before = checked({**definition, "filter": expression})
    saved = saved_event(before.to_json())
    assert saved is not None
    after = checked(event_members(saved.type, saved.filter))
    assert (after.event, after.conditions, after.states) == (before.event, before.conditions, before.states)
    assert same_normal_form(after.filter.to_json(), before.filter.to_json())
    resent = event_members(saved.type, saved.filter, stored=before.to_json())
    assert checked(resent).to_json() == before.to_json()


ABOVE = {"name": "acc", "cmp_op": "$gt", "threshold": 0.95}
BELOW = {"name": "loss", "agg_op": "MIN", "window_size": 3, "cmp_op": "$lt", "threshold": 0.05}
GROWS = {"name": "loss", "change_amount": 1, "change_type": "ABSOLUTE", "change_dir": "ANY"}


def all_of(*parts: object) -> dict[str, object]:
    return run_filter(run_metric_filter={"all_of": list(parts)})


def test_several_conditions_are_read_in_their_order() -> None:
    made = automation(
        T.RUN_METRIC, all_of({"threshold_filter": ABOVE}, {"change_filter": GROWS, "zscore_filter": None})
    )
    assert [condition.metric for condition in made.conditions] == ["acc", "loss"]
    alone = automation(T.RUN_METRIC, all_of({"change_filter": GROWS}))
    assert alone == automation(T.RUN_METRIC_CHANGE, metric("change_filter", **GROWS))


@settings(max_examples=100, deadline=None)
@given(st.lists(conditions, min_size=2, max_size=4), expressions)
def test_several_conditions_come_back_to_who_can_read_them(several: list[Any], expression: dict[str, Any]) -> None:
    before = checked({"event": "RUN_METRIC", "conditions": several, "filter": expression}).to_json()
    assert saved_event(before) is None
    saved = saved_event(before, all_of=True)
    assert saved is not None
    assert saved.type is T.RUN_METRIC
    assert checked(event_members(saved.type, saved.filter, stored=before)).to_json() == before


@pytest.mark.parametrize("condition", [{"metric": "a", "finite": True}, {"metric": "a", "op": "$eq", "threshold": 1}])
def test_what_has_no_form_has_none_among_others_either(condition: dict[str, Any]) -> None:
    other = {"metric": "a", "op": "$gt", "threshold": 1}
    assert (
        saved_event(checked({"event": "RUN_METRIC", "conditions": [other, condition]}).to_json(), all_of=True) is None
    )


KINDS = "threshold_filter, change_filter, zscore_filter"


@pytest.mark.parametrize(
    ("event_type", "parts", "said"),
    [
        (
            T.RUN_METRIC,
            [],
            f"eventFilter.run_metric_filter.all_of: must be a list of objects, each with one of {KINDS}",
        ),
        (T.RUN_METRIC, {"threshold_filter": ABOVE}, "all_of: must be a list"),
        (T.RUN_METRIC, [ABOVE], f"all_of.0.name: is not known here; accepted: {KINDS}"),
        (T.RUN_METRIC, [{}], f"all_of.0: must be an object with one of {KINDS}"),
        (
            T.RUN_METRIC,
            [{"threshold_filter": ABOVE, "change_filter": GROWS}],
            "all_of.0: must be an object with one of",
        ),
        (T.RUN_METRIC, [{"threshold_filter": ABOVE}, 5], "all_of.1: must be a JSON object"),
        (T.RUN_METRIC, [{"threshold_filter": 5}], "all_of.0.threshold_filter: must be a JSON object"),
        (T.RUN_METRIC, [{"all_of": []}], "all_of.0.all_of: is not known here"),
        (T.RUN_METRIC, [{"threshold_filter": {**ABOVE, "cmp_op": "$eq"}}], "all_of.0.threshold_filter.cmp_op: must be"),
        (
            T.RUN_METRIC_CHANGE,
            [{"change_filter": GROWS}],
            "run_metric_filter: must be an object with change_filter alone",
        ),
    ],
)
def test_a_faulty_list_of_conditions_is_refused_at_its_place(event_type: T, parts: object, said: str) -> None:
    assert said in refusal(event_type, run_filter(run_metric_filter={"all_of": parts}))


def test_a_list_beside_another_kind_is_refused() -> None:
    both = run_filter(run_metric_filter={"all_of": [{"threshold_filter": ABOVE}], "threshold_filter": BELOW})
    assert "must be an object with threshold_filter alone" in refusal(T.RUN_METRIC, both)


@pytest.mark.parametrize(
    "kept",
    [
        EVERYTHING,
        ALIAS,
        {"$and": [ALIAS, ALIAS]},
        {"$or": [ALIAS, ALIAS]},
        {"$not": ALIAS},
        {"$and": [ALIAS]},
        {"$and": [{"$and": [ALIAS]}]},
        {"$and": [EVERYTHING]},
        {"$or": [{"$and": [ALIAS]}]},
        {"$nor": [ALIAS]},
        {"$not": {"$or": [ALIAS]}},
        {"$nor": [ALIAS, {"$nor": [ALIAS, {"tag": {"$eq": "b"}}]}]},
        {"$not": EVERYTHING},
    ],
)
def test_a_definition_that_the_client_sends_back_is_not_changed(kept: dict[str, Any]) -> None:
    before = checked({"event": "ADD_ARTIFACT_ALIAS", "filter": kept})
    saved = saved_event(before.to_json())
    assert saved is not None
    unwrapped = json.loads(saved.filter)["filter"]
    assert checked(event_members(saved.type, unwrapped, stored=before.to_json())).to_json() == before.to_json()
    other = event_members(saved.type, unwrapped, stored=checked({"event": "ADD_ARTIFACT_ALIAS"}).to_json())
    assert same_normal_form(other["filter"], kept)


def checked(members: dict[str, Any]) -> Automation:
    return parse_automation({"name": "n", "action": {"no_op": True}, **members}, lambda _: None)
