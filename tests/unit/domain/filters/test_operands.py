"""Operands that a field can never meet: which are refused, in which words, and that none of them ever held."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.domain.automations.model import Automation, Grants
from shared.domain.automations.parsing import parse_automation
from shared.domain.errors import InvalidDefinition, Loc
from shared.domain.events.decoding import check_event
from shared.domain.events.types import EventType
from shared.domain.filters.fields import _FIELDS, field_getter, field_refusal
from shared.domain.filters.filters import parse_filter
from shared.domain.filters.operands import operand_faults
from tests.unit.domain.samples import Raw, event

NEVER_NUMBER = "must be text, in quotes: {} is never a number"


def parse(
    filter_: object, event_type: str = "ADD_ARTIFACT_ALIAS", *, is_new: bool = True, **members: Any
) -> Automation:
    raw = {"name": "n", "event": event_type, "filter": filter_, "action": {"no_op": True}, **members}
    return parse_automation(raw, lambda _name: Grants(), is_new=is_new)


def faults(filter_: object, event_type: str = "ADD_ARTIFACT_ALIAS", **members: Any) -> list[tuple[Loc, str]]:
    with pytest.raises(InvalidDefinition) as refused:
        parse(filter_, event_type, **members)
    return [(error.loc[1:], error.msg) for error in refused.value.errors]


@pytest.mark.parametrize(
    ("filter_", "loc", "never"),
    [
        ({"alias": False}, ("alias",), "true or false"),
        ({"alias": {"$ne": 1.1}}, ("alias", "$ne"), "a number"),
        ({"author": None}, ("author",), "null"),
        ({"version": {"$gte": 3}}, ("version", "$gte"), "a number"),
        ({"project": ["a"]}, ("project",), "a list; $in compares with each of several"),
        ({"collection": {"name": "c"}}, ("collection",), "an object"),
        ({"$or": [{"alias": "a"}, {"artifact_type": 0}]}, ("$or", 1, "artifact_type"), "a number"),
        ({"alias": {"$in": ["on", "off", 1.1]}}, ("alias", "$in", 2), "a number"),
        ({"tags": {"$nin": [["a", 2]]}}, ("tags", "$nin", 0, 1), "a number"),
        ({"alias": {"$not": {"$eq": True}}}, ("alias", "$not", "$eq"), "true or false"),
        ({"tag": {"$gt": ["a"]}}, ("tag", "$gt"), None),
    ],
)
def test_the_refusal_names_the_place_and_what_is_accepted(filter_: object, loc: Loc, never: str | None) -> None:
    [(found, message)] = faults(filter_)
    assert found == loc
    if never is not None:
        field = next(part for part in reversed(loc) if isinstance(part, str) and not part.startswith("$"))
        assert message == f"must be text, in quotes: {field} is never {never}"


@pytest.mark.parametrize(
    ("event_type", "filter_", "loc", "accepted"),
    [
        ("RUN_ALERT", {"level": "warn"}, ("level",), "INFO, WARN, ERROR"),
        ("RUN_ALERT", {"level": {"$in": ["ERROR", "WARNING"]}}, ("level", "$in", 1), "INFO, WARN, ERROR"),
        ("RUN_ALERT", {"$nor": [{"level": {"$ne": ""}}]}, ("$nor", 0, "level", "$ne"), "INFO, WARN, ERROR"),
        ("DEAD_LETTER", {"status": "failed"}, ("status",), "dead, refused"),
        ("DEAD_LETTER", {"event_type": {"$nin": ["run_state"]}}, ("event_type", "$nin", 0), "CREATE_ARTIFACT, "),
    ],
)
def test_a_text_that_the_field_never_has_is_refused(event_type: str, filter_: object, loc: Loc, accepted: str) -> None:
    [(found, message)] = faults(filter_, event_type)
    assert found == loc
    assert message.startswith(f"must be one of {accepted}")
    field = next(part for part in reversed(loc) if isinstance(part, str) and not part.startswith("$"))
    for holds in ({field: {"$regex": "(?i)^w"}}, {field: {"$contains": "x"}}, {field: {"$gte": "B"}}):
        parse(holds, event_type)


def test_each_fault_is_named_and_an_unknown_field_is_named_once() -> None:
    assert faults({"alias": 1, "author": 2, "alais": 3}) == [
        (("alias",), NEVER_NUMBER.format("alias")),
        (("author",), NEVER_NUMBER.format("author")),
        (("alais",), str(field_refusal(EventType.ADD_ARTIFACT_ALIAS, "alais"))),
    ]


def test_members_of_a_run() -> None:
    members: dict[str, Any] = {"states": ["failed"]}
    assert faults({"run.id": 7}, "RUN_STATE", **members) == [(("run.id",), NEVER_NUMBER.format("run.id"))]
    [(loc, message)] = faults({"run.config": "a"}, "RUN_STATE", **members)
    assert loc == ("run.config",)
    assert message.startswith("must be an object or null: run.config is never text")
    some: list[Any] = [{"run.user": 7}, {"run.name": None}, {"config.lr": 0.1}, {"run.config": {}}]
    for accepted in some:
        parse(accepted, "RUN_STATE", is_new=True, **members)


@pytest.mark.parametrize(
    "accepted",
    [
        {"alias": "no"},
        {"tags": ["a", "b"]},
        {"aliases": {"$in": ["a", ["a", "b"]]}},
        {"metadata.release": 1.1},
        {"metadata.live": False},
        {"metadata.gone": None},
        {"alias": {"$exists": True}},
        {"alias": {"$in": []}},
    ],
)
def test_what_a_field_may_meet_is_accepted(accepted: object) -> None:
    parse(accepted)


def test_stored_filters_are_read_as_before() -> None:
    assert parse({"alias": False}, is_new=False).filter.to_json() == {"alias": {"$eq": False}}


json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.floats(allow_nan=False) | st.sampled_from(["", "a", "v3"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("ab"), inner, max_size=2),
    max_leaves=6,
)
_SOME = st.sampled_from(["a", "v3", ""])
_LEVELS = st.sampled_from(["INFO", "WARN", "ERROR"])


@st.composite
def _events(draw: st.DrawFn) -> Raw:
    event_type = draw(st.sampled_from(EventType))
    raw = event(event_type)
    data = raw["data"]
    data["author"] = draw(_SOME)
    if event_type is EventType.RUN_ALERT:
        data["level"] = draw(_LEVELS)
    if "artifact" in data:
        data["artifact"] |= {name: draw(st.lists(_SOME, max_size=2)) for name in ("aliases", "tags")}
    if "run" in data:
        sent = {"name": _SOME, "display_name": st.none() | _SOME, "config": st.just({}) | st.just({"a": 1})}
        data["run"] = {"id": "r1"} | draw(st.fixed_dictionaries({}, optional=sent))
    return raw


@given(_events(), st.data())
def test_what_is_refused_never_held(raw: Raw, data: st.DataObject) -> None:
    event_type = EventType(raw["type"])
    names = sorted(_FIELDS[event_type])
    if "run" in raw["data"]:
        names += ["run.id", "run.name", "run.display_name", "run.config"]
    field = data.draw(st.sampled_from(names))
    op = data.draw(st.sampled_from(["$eq", "$in", "$gt", "$lte"]))
    operand = data.draw(json_values | _LEVELS | st.sampled_from(["warn", "dead", "refused"]))
    operand = [operand] if op == "$in" else operand
    if not list(operand_faults(event_type, field, op, operand)):
        return
    try:
        parsed = parse_filter({field: {op: operand}}, lambda _field: None)
    except InvalidDefinition:
        return
    matches = parsed.compile(lambda name: field_getter(event_type, name))
    assert not matches(check_event(raw))
