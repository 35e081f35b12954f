"""The index of compiled automations, and the ids of firings."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.domain.automations.model import Grants
from shared.domain.automations.parsing import parse_automation
from shared.domain.errors import InvalidDefinition
from shared.domain.events.decoding import check_event
from shared.domain.events.models import Event
from shared.domain.events.types import NOTICE_TYPES, RUN_TYPES, EventType
from shared.domain.filters.budget import FilterBudget
from shared.domain.filters.fields import field_getter
from shared.domain.matching.compiled import CompiledAutomation, compile_automation, firing_id
from shared.domain.matching.index import AutomationIndex
from tests.unit.domain.samples import Raw, event

CONDITION = {"metric": "val_accuracy", "op": "$gt", "threshold": 0.5}


def compiled(number: int, event_type: str, *, entity: str = "acme", **members: Any) -> CompiledAutomation:
    raw: Raw = {"name": f"a{number}", "event": event_type, "action": {"no_op": True}, **members}
    if event_type == "RUN_METRIC":
        raw.setdefault("conditions", [CONDITION])
    if event_type == "RUN_STATE":
        raw.setdefault("states", ["finished"])
    automation = parse_automation(raw, lambda _: Grants())
    return compile_automation(automation, automation_id=number, entity_id=1, entity=entity, epoch=1, webhook_id=None)


def ids(index: AutomationIndex, raw: Raw) -> list[int]:
    return [one.id for one in index.matching(check_event(raw), FilterBudget(), [])]


def index_of(*automations: CompiledAutomation) -> AutomationIndex:
    index = AutomationIndex()
    for one in automations:
        index.put(one)
    return index


def test_a_scope_covers_what_is_inside_and_nothing_else() -> None:
    index = index_of(
        compiled(1, "ADD_ARTIFACT_ALIAS"),
        compiled(2, "ADD_ARTIFACT_ALIAS", scope={"project": "p"}),
        compiled(3, "ADD_ARTIFACT_ALIAS", scope={"project": "p", "collection": "c"}),
        compiled(4, "ADD_ARTIFACT_ALIAS", scope={"project": "p", "collection": "other"}),
        compiled(5, "ADD_ARTIFACT_ALIAS", scope={"project": "other", "collection": "c"}),
        compiled(6, "ADD_ARTIFACT_ALIAS", entity="other"),
        compiled(7, "ADD_ARTIFACT_TAG"),
    )
    assert ids(index, event(project="p", collection={"name": "c"})) == [1, 2, 3]
    assert ids(index, event(project="p", collection={"name": "new"})) == [1, 2]
    assert ids(index, event(project="new")) == [1]
    assert ids(index, event(entity="other", project="p")) == [6]
    assert ids(index, event(entity="new")) == []


def test_a_run_named_like_a_collection_is_in_no_collection() -> None:
    index = index_of(compiled(1, "RUN_STATE"), compiled(2, "RUN_STATE", scope={"project": "p"}))
    assert ids(index, event("RUN_STATE", project="p", run={"id": "c"})) == [1, 2]


def test_only_automations_whose_filter_holds_match() -> None:
    index = index_of(
        compiled(1, "ADD_ARTIFACT_ALIAS", filter={"alias": {"$regex": "^prod(uction)?$"}}),
        compiled(2, "ADD_ARTIFACT_ALIAS", filter={"metadata.model_type": "llm", "author": {"$ne": "bob"}}),
    )
    assert ids(index, event(alias="production")) == [1, 2]
    assert ids(index, event(alias="staging")) == [2]
    assert ids(index, event(alias="prod", author="bob")) == [1]


def test_states_are_part_of_the_match_and_conditions_are_not() -> None:
    index = index_of(
        compiled(1, "RUN_STATE", states=["failed", "crashed"], filter={"display_name": {"$contains": "llm"}}),
        compiled(2, "RUN_METRIC"),
    )
    llm = {"id": "r", "name": "llm-7"}
    assert ids(index, event("RUN_STATE", state="failed", run=llm)) == [1]
    assert ids(index, event("RUN_STATE", state="running", run=llm)) == []
    assert ids(index, event("RUN_STATE", state="failed", run={"id": "r", "name": "vit"})) == []
    assert ids(index, event("RUN_METRIC", metrics={"other": 0})) == [2]
    assert compiled(1, "RUN_STATE").conditions is None
    assert compiled(2, "RUN_METRIC").conditions is not None


def test_putting_replaces_the_older_self_wherever_it_was() -> None:
    index = index_of(compiled(1, "ADD_ARTIFACT_ALIAS"), compiled(2, "ADD_ARTIFACT_ALIAS"))
    index.put(compiled(1, "ADD_ARTIFACT_ALIAS", scope={"project": "elsewhere"}))
    assert ids(index, event()) == [2]
    assert ids(index, event(project="elsewhere")) == [2, 1]
    assert len(index) == 2


def test_dropping_forgets_and_dropping_again_does_no_harm() -> None:
    index = index_of(compiled(1, "RUN_STATE"))
    for _ in range(2):
        index.drop(1)
        assert len(index) == 0
        assert ids(index, event("RUN_STATE")) == []
    index.put(compiled(1, "RUN_STATE"))
    assert ids(index, event("RUN_STATE")) == [1]


def test_an_index_that_is_being_read_is_not_disturbed_by_edits_of_its_copy() -> None:
    index = index_of(*(compiled(number, "RUN_STATE") for number in range(5)))
    reading = index.matching(check_event(event("RUN_STATE")), FilterBudget(), [])
    assert next(reading).id == 0
    copy = index.copy()
    copy.put(compiled(9, "RUN_STATE"))
    copy.drop(3)
    assert [one.id for one in reading] == [1, 2, 3, 4]


# A small world, so that scopes and events meet often.
entities, projects, collections = st.sampled_from(["e", "f"]), st.sampled_from(["p", "q"]), st.sampled_from(["c", "d"])
types = st.sampled_from(["ADD_ARTIFACT_ALIAS", "ADD_COLLECTION_TAG", "RUN_STATE", "DEAD_LETTER"])
filters = st.sampled_from([{}, {"project": "p"}, {"author": {"$ne": "x"}}, {"$nor": [{"project": "q"}]}])
notice_filters = st.sampled_from([{}, {"webhook": "c"}, {"$nor": [{"webhook": "d"}]}])


@st.composite
def automations(draw: st.DrawFn) -> CompiledAutomation:
    event_type, scope = draw(types), {}
    if event_type not in NOTICE_TYPES and draw(st.booleans()):
        scope["project"] = draw(projects)
        if event_type not in RUN_TYPES and draw(st.booleans()):
            scope["collection"] = draw(collections)
    number = draw(st.integers(1, 12))
    expressions = notice_filters if event_type in NOTICE_TYPES else filters
    return compiled(number, event_type, entity=draw(entities), scope=scope, filter=draw(expressions))


@st.composite
def events(draw: st.DrawFn) -> Event:
    event_type = draw(types)
    if event_type in NOTICE_TYPES:
        return check_event(event(event_type, entity=draw(entities), webhook={"id": "wh_1", "name": draw(collections)}))
    about: Raw = {"run": {"id": "c"}} if event_type in RUN_TYPES else {"collection": {"name": draw(collections)}}
    return check_event(event(event_type, entity=draw(entities), project=draw(projects), **about))


def covers(one: CompiledAutomation, happened: Event) -> bool:
    """What the index has to find, said without it."""
    automation, data = one.automation, happened.data
    name = getattr(getattr(data, "collection", None), "name", None)
    return (
        (automation.event, one.entity) == (happened.type, data.entity)
        and automation.scope.project in (None, getattr(data, "project", None))
        and automation.scope.collection in (None, name)
        and automation.filter.compile(lambda field: field_getter(automation.event, field))(happened)
    )


edits = st.lists(
    st.one_of(automations(), st.integers(1, 12), st.just("copy"), st.just("swap")), min_size=1, max_size=40
)


@settings(max_examples=80, deadline=None)
@given(edits, st.lists(events(), min_size=1, max_size=4))
def test_the_index_finds_what_a_scan_over_all_automations_finds_and_copies_live_on_their_own(
    history: list[CompiledAutomation | int | str], happened: list[Event]
) -> None:
    index, model = AutomationIndex(), dict[int, CompiledAutomation]()
    others: list[tuple[AutomationIndex, dict[int, CompiledAutomation]]] = []
    for edit in history:
        if edit == "copy":
            others.append((index.copy(), dict(model)))
        elif edit == "swap":
            others.append((index, model))
            index, model = others[0][0].copy(), dict(others[0][1])
        elif isinstance(edit, int):
            index.drop(edit)
            model.pop(edit, None)
        elif isinstance(edit, CompiledAutomation):
            index.put(edit)
            model[edit.id] = edit
    for searched, known in [(index, model), *others]:
        assert len(searched) == len(known)
        for one in happened:
            found = [match.id for match in searched.matching(one, FilterBudget(), [])]
            assert sorted(found) == sorted(number for number, each in known.items() if covers(each, one))


def test_the_id_of_a_firing_is_the_same_whenever_and_wherever_it_is_worked_out() -> None:
    assert firing_id(7, check_event(event())) == "dlv_sx5jiugn3mvylfzgrbipvvhfna"
    assert firing_id(7, check_event(event(project="other", alias="else"))) == firing_id(7, check_event(event()))
    assert re.fullmatch(r"dlv_[a-z2-7]{26}", firing_id(7, check_event(event())))


def test_another_automation_source_or_event_makes_another_id() -> None:
    known = {firing_id(number, check_event(event() | {"id": i, "source": s})) for number, s, i in _KEYS}
    assert len(known) == len(_KEYS)


# Keys that would run into one another without a separator.
_KEYS = [(1, "a", "b"), (11, "a", "b"), (1, "1a", "b"), (1, "a", "1b"), (1, "ab", "b"), (1, "a", "bb"), (2, "a", "b")]
_KEYS += [(1, "a b", "c"), (1, "a", "b c"), (1, "é", "b"), (1, "e\u0301", "b")]


@pytest.mark.parametrize("event_type", EventType)
def test_the_separator_of_a_firing_id_cannot_be_part_of_a_source_or_an_id(event_type: EventType) -> None:
    for member in ("source", "id"):
        with pytest.raises(InvalidDefinition):
            check_event(event(event_type) | {member: "a\0b"})
