"""W&B's event filters: what the client sends is read or refused, and an automation shown to it comes back the same."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import strategies as st

from shared.domain.automations.model import Automation
from shared.domain.automations.parsing import parse_automation
from shared.domain.errors import InvalidDefinition
from shared.domain.filters.normal_form import negation_normal_form
from shared.domain.filters.wandb import LOC, SavedEvent, WandbEventType, event_members, saved_event
from tests.fuzz.oracles import check_refusal, in_time, members_of
from tests.fuzz.strategies import as_json, json_values
from tests.fuzz.target import Target


def check(data: bytes) -> None:
    """`{"type": …, "filter": …}`: the type's name, and what the JSON text of `eventFilter` stands for.

    A filter that is text is that text itself.
    """
    members = members_of(data)
    if not isinstance(members.get("type"), str) or members["type"] not in WandbEventType.__members__:
        return
    event_type, sent = WandbEventType(members["type"]), members.get("filter")
    text = sent if isinstance(sent, str) else json.dumps(sent)
    with in_time(data):
        try:
            automation = _automation(event_type, text)
        except InvalidDefinition as refusal:
            _check_refusal(refusal)
            return
        definition = json.loads(json.dumps(automation.to_json()))
        stock, saved = saved_event(definition), saved_event(definition, all_of=True)
    assert stock == (None if len(automation.conditions) > 1 else saved)
    if saved is None:
        assert _is_beyond(definition), "the client could read this"
        return
    assert saved.type == event_type or "all_of" in text
    again = _automation(saved.type, _as_resent(saved))
    assert _meaning(again) == _meaning(automation)
    resent = event_members(saved.type, _as_resent(saved), stored=definition)
    assert resent["filter"] == definition["filter"]


def _automation(event_type: WandbEventType, text: str) -> Automation:
    members = event_members(event_type, text)
    return parse_automation({"name": "n", "action": {"no_op": True}, **members}, lambda _: None)


def _as_resent(saved: SavedEvent) -> str:
    """What the client sends of what it read: of events of artifacts it takes the filter out of its wrapping."""
    read = json.loads(saved.filter)
    return str(read["filter"]) if "filter" in read else saved.filter


def _check_refusal(refusal: InvalidDefinition) -> None:
    """Places are either in the client's form, or in the definition that was made of it."""
    for error in refusal.errors:
        assert error.msg
        assert error.loc[:1] == LOC or error.loc[:1] in (("filter",), ("conditions",), ("states",), ())
    if any(error.loc[:1] == LOC for error in refusal.errors):
        check_refusal(InvalidDefinition(*(error for error in refusal.errors)), _Anything())


class _Anything(dict[str, Any]):
    """JSON inside JSON text: every place may be there."""

    def __contains__(self, key: object) -> bool:
        return True

    def __getitem__(self, key: object) -> _Anything:
        return self


def _is_beyond(definition: dict[str, Any]) -> bool:
    """Whether the client's form has no words for a definition that came in its form."""
    return any(condition.get("op") in ("$eq", "$ne") for condition in definition.get("conditions", []))


def _meaning(automation: Automation) -> Any:
    normal = negation_normal_form(automation.filter.to_json())
    return automation.event, json.dumps(normal), automation.conditions, automation.states


WORDS = (
    *WandbEventType.__members__,
    *("type", "filter", "run_filter", "run_metric_filter", "run_state_filter", "metric_filter", "threshold_filter"),
    "all_of",
    *("change_filter", "zscore_filter", "name", "agg_op", "window_size", "cmp_op", "threshold", "current_window_size"),
    *(
        "prior_window_size",
        "change_amount",
        "change_type",
        "change_dir",
        "states",
        "RUNNING",
        "FAILED",
        "$gte",
        "AVERAGE",
    ),
    *("INCREASE", "ANY", "RELATIVE", "$or", "$and", "$not", "alias", "tag", "display_name", '{"$and":[]}', "$regex"),
)
_expressions: st.SearchStrategy[Any] = st.sampled_from(
    [
        {},
        {"$and": []},
        {"alias": "prod"},
        {"alias": {"$regex": "^p"}},
        {"$and": [{"alias": "a"}, {"tag": {"$ne": "b"}}]},
        {"$not": {"alias": {"$in": ["a", 1]}}},
    ]
)
_wrapped = _expressions.map(lambda inner: {"$or": [{"$and": [inner]}]})
_run_filters = st.sampled_from(['{"$and":[]}', '{"$and":[{"display_name":{"$contains":"llm"}}]}', "{}"])
_aggregates = st.sampled_from([None, "MAX", "MIN", "AVERAGE"])
_sizes = st.integers(1, 5)
_directions = st.sampled_from(["INCREASE", "DECREASE", "ANY"])
_numbers = st.floats(allow_nan=False) | st.integers(-3, 3)
_metric_filters: dict[str, dict[str, st.SearchStrategy[Any]]] = {
    "RUN_METRIC": {
        "threshold_filter": st.fixed_dictionaries(
            {"name": st.just("loss"), "cmp_op": st.sampled_from(["$gt", "$gte", "$lt", "$lte"]), "threshold": _numbers},
            optional={"agg_op": _aggregates, "window_size": _sizes},
        )
    },
    "RUN_METRIC_CHANGE": {
        "change_filter": st.fixed_dictionaries(
            {"name": st.just("loss"), "change_amount": _numbers, "change_dir": _directions},
            optional={
                "agg_op": _aggregates,
                "current_window_size": _sizes,
                "prior_window_size": _sizes,
                "change_type": st.sampled_from(["ABSOLUTE", "RELATIVE"]),
            },
        )
    },
    "RUN_METRIC_ZSCORE": {
        "zscore_filter": st.fixed_dictionaries(
            {
                "name": st.just("loss"),
                "window_size": st.integers(2, 5),
                "threshold": _numbers,
                "change_dir": _directions,
            }
        )
    },
}
_all_of = st.lists(st.one_of(*(st.fixed_dictionaries(parts) for parts in _metric_filters.values())), max_size=4)
_states = st.fixed_dictionaries({"states": st.lists(st.sampled_from(["RUNNING", "FINISHED", "failed"]), min_size=1)})
_inputs: st.SearchStrategy[Any] = st.one_of(
    st.fixed_dictionaries(
        {"type": st.sampled_from(list(WandbEventType.__members__)), "filter": _wrapped | _expressions | json_values}
    ),
    *(
        st.fixed_dictionaries(
            {
                "type": st.just(event_type),
                "filter": st.fixed_dictionaries(
                    {"run_filter": _run_filters, "run_metric_filter": st.fixed_dictionaries(parts)}
                ),
            }
        )
        for event_type, parts in _metric_filters.items()
    ),
    st.fixed_dictionaries(
        {
            "type": st.just("RUN_METRIC"),
            "filter": st.fixed_dictionaries(
                {"run_filter": _run_filters, "run_metric_filter": st.fixed_dictionaries({"all_of": _all_of})}
            ),
        }
    ),
    st.fixed_dictionaries(
        {
            "type": st.just("RUN_STATE"),
            "filter": st.fixed_dictionaries({"run_filter": _run_filters, "run_state_filter": _states}),
        }
    ),
)

TARGET = Target(check, inputs=as_json(_inputs, WORDS), words=WORDS)
