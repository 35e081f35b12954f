"""What clients make of filters: whatever is edited, a filter that comes back says the same and is not stored anew."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from shared.domain.automations.parsing import parse_automation
from shared.domain.filters.wandb import WandbEventType, event_members, saved_event
from tests.clients.client import Client

names = st.text("ab/_. é🦊", min_size=1)
integers = st.integers(-(2**63), 2**64 - 1)
scalars = st.none() | st.booleans() | integers | st.floats(allow_nan=False, allow_infinity=False) | names
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=2), max_leaves=4
)
orders = integers | st.floats(allow_nan=False, allow_infinity=False) | names
operators = st.one_of(
    *(st.fixed_dictionaries({op: values}) for op in ("$eq", "$ne")),
    *(st.fixed_dictionaries({op: st.lists(values, max_size=3)}) for op in ("$in", "$nin")),
    *(st.fixed_dictionaries({op: orders}) for op in ("$gt", "$gte", "$lt", "$lte")),
    st.fixed_dictionaries({"$contains": names}),
    st.fixed_dictionaries({"$exists": st.booleans()}),
    st.fixed_dictionaries({"$regex": st.sampled_from(["^a", "b+$", "é"])}),
    st.builds(lambda low, high: {"$gt": low, "$lt": high}, orders, orders),
)


def expressions(*fields: str) -> st.SearchStrategy[dict[str, Any]]:
    """Filters on these fields, written in every way that is accepted."""
    comparisons = st.dictionaries(
        st.sampled_from(fields), operators | st.builds(lambda of: {"$not": of}, operators) | scalars, max_size=2
    )
    combined = st.sampled_from(["$and", "$or", "$nor"])
    return st.recursive(
        comparisons,
        lambda inner: (
            st.builds(lambda op, terms: {op: terms}, combined, st.lists(inner, min_size=1, max_size=3))
            | st.builds(lambda term: {"$not": term}, inner)
        ),
        max_leaves=6,
    )


artifact_filters = expressions("alias", "author", "metadata.a b.c-ü")
run_filters = expressions("display_name", "author", "config.depth")
definitions = st.one_of(
    st.builds(lambda of: {"event": "ADD_ARTIFACT_ALIAS", "filter": of}, artifact_filters),
    st.builds(lambda of: {"event": "RUN_STATE", "states": ["finished"], "filter": of}, run_filters),
    st.builds(
        lambda of: {"event": "RUN_METRIC", "conditions": [{"metric": "m", "op": "$lt", "threshold": 1}], "filter": of},
        run_filters,
    ),
)


def stored(definition: dict[str, Any]) -> dict[str, Any]:
    """The definition as it is stored."""
    return parse_automation({"name": "n", "action": {"no_op": True}, **definition}, lambda _: None).to_json()


@settings(
    max_examples=8,
    phases=[Phase.generate],  # a batch is an example: to shrink one would take minutes
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(st.lists(definitions, min_size=20, max_size=40))
def test_any_filter_is_what_it_was(process: Client, batch: list[dict[str, Any]]) -> None:
    before = [stored(definition) for definition in batch]
    saved = [event for definition in before if (event := saved_event(definition)) is not None]
    assert len(saved) == len(before)
    back = process("reread(saved)", saved=[[each.type, each.filter] for each in saved])
    for definition, sent in zip(before, back, strict=True):
        if sent is None:
            assert definition["event"] == "RUN_STATE", "the client can't read it"
            continue
        assert sent[0] == definition["event"]
        resent = event_members(WandbEventType(sent[0]), sent[1], stored=definition)
        assert json.dumps(resent["filter"]) == json.dumps(definition["filter"])
