"""Grouped automations with remembered answers, and dormant ones: they match what each would match by itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.domain.errors import InvalidDefinition
from shared.domain.events.decoding import check_event
from shared.domain.events.fast_decoding import read_event
from shared.domain.events.types import EventType
from shared.domain.filters.budget import FilterBudget
from shared.domain.filters.clues import Equal
from shared.domain.json_text import read_json, write_json
from shared.domain.matching import scope_groups
from shared.domain.matching.compiled import CompiledAutomation, LazyAutomation, TextReader, _awake, scope_key
from shared.domain.matching.index import AutomationIndex
from tests.unit.domain.matching.test_matching import compiled, ids, index_of
from tests.unit.domain.samples import event

TYPE = "ADD_ARTIFACT_ALIAS"


def dormant(number: int, **members: Any) -> LazyAutomation:
    def awake(text: bytes) -> CompiledAutomation:
        return compiled(number, TYPE, **read_json(text))

    reader = TextReader(awake, lambda text: awake(text).covers)
    return LazyAutomation(
        number, scope_key(EventType.ADD_ARTIFACT_ALIAS, "acme", None, None), write_json(members), reader
    )


class Aliases:
    """Events of which every field is the alias."""

    def getter(self, _name: str) -> Callable[[Any], Any]:
        return lambda subject: subject.data.alias

    def member_of(self, _name: str) -> None:
        return None


FILTERS: list[dict[str, Any]] = [
    {},
    {"alias": "prod"},
    {"alias": {"$ne": "prod"}},
    {"alias": {"$regex": "^p"}},
    {"alias": {"$in": ["prod", "staging"]}},
    {"author": "alice", "alias": {"$contains": "o"}},
    {"aliases": "v3"},
    {"aliases": {"$regex": "^v"}},
    {"tags": {"$ne": "golden"}},
    {"version": {"$gt": "v2"}},
    {"metadata.k": 1},
    {"metadata.k": True},
    {"metadata.k": {"$gte": 0.5}},
    {"metadata.k": {"$exists": False}},
    {"metadata.k": None},
    {"metadata.k": "1"},
    {"$or": [{"metadata.k": "x"}, {"alias": "dev"}]},
    {"$nor": [{"alias": "prod"}, {"author": "bob"}]},
    {"$not": {"alias": {"$regex": "d$"}}},
]
values = st.sampled_from([..., None, 1, 1.0, True, False, 0, "1", "x", "", [1], ["x"], {"x": 1}, 0.5])


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    kept = draw(values)
    artifact: dict[str, Any] = {
        "id": "a",
        "version": draw(st.sampled_from(["v1", "v3"])),
        "aliases": draw(st.sampled_from([[], ["v3"]])),
    }
    artifact |= {} if kept is ... else {"metadata": {"k": kept}}
    alias, author = draw(st.sampled_from(["prod", "dev", "staging"])), draw(st.sampled_from(["alice", "bob"]))
    return orjson.dumps(event(TYPE, alias=alias, author=author, artifact=artifact))


@settings(max_examples=150, deadline=None)
@given(st.lists(st.sampled_from(FILTERS), min_size=1, max_size=12), st.lists(bodies(), min_size=1, max_size=12))
def test_remembered_answers_are_those_that_each_automation_gives(filters: list[Any], happened: list[bytes]) -> None:
    each = [compiled(number, TYPE, filter=expression) for number, expression in enumerate(filters)]
    index = AutomationIndex()
    for number, expression in enumerate(filters):
        index.put(dormant(number, filter=expression))
    for body in happened * 2:
        plain = check_event(orjson.loads(body))
        expected = [one.id for one in each if one.matches(plain)]
        assert [one.id for one in index.matching(read_event(body), FilterBudget(), [])] == expected
        assert [one.id for one in index.matching(plain, FilterBudget(), [])] == expected


def test_an_edit_is_seen_although_the_answer_to_the_same_event_is_remembered() -> None:
    index = index_of(compiled(1, TYPE, filter={"alias": "prod"}), compiled(2, TYPE, filter={"alias": "dev"}))
    for _ in range(3):
        assert ids(index, event(alias="prod")) == [1]
    edited = index.copy()
    edited.put(compiled(2, TYPE, filter={"alias": "prod"}))
    edited.put(compiled(1, TYPE, filter={"alias": "dev"}))
    assert ids(edited, event(alias="prod")) == [2]
    assert ids(index, event(alias="prod")) == [1]
    edited.drop(2)
    assert ids(edited, event(alias="prod")) == []


def test_the_memory_is_bounded_and_forgets_the_older_answers_only() -> None:
    memory = scope_groups.Memory()
    memory.size = 10
    bucket = scope_groups.Bucket(("t", "e", None, None), {1: compiled(1, TYPE, filter={"alias": {"$regex": "7$"}})})
    (group,) = bucket.group_members(Aliases(), lambda *_: None)
    for number in range(200):
        if number % 50 == 0:
            group.misses = 0
        found = memory.answers([group], check_event(event(alias=f"a{number}")), FilterBudget(), [])
        assert bool(found) is (number % 10 == 7)
        assert len(memory._new) + len(memory._old) <= 2 * memory.size


def test_values_that_never_repeat_are_no_longer_remembered() -> None:
    memory = scope_groups.Memory()
    bucket = scope_groups.Bucket(("t", "e", None, None), {1: compiled(1, TYPE, filter={"alias": "a1"})})
    (group,) = bucket.group_members(Aliases(), lambda *_: None)
    for number in range(3 * scope_groups.COLD):
        found = memory.answers([group], check_event(event(alias=f"a{number}")), FilterBudget(), [])
        assert bool(found) is (number == 1)
    assert len(memory._new) == scope_groups.COLD


def test_what_cannot_be_read_matches_nothing_is_told_once_and_keeps_nobody_else_back() -> None:
    told: list[int] = []
    index = AutomationIndex(lambda one, _refusal: told.append(one.id))
    index.put(dormant(1, filter={"alias": "prod"}))
    index.put(_unreadable(2))
    assert told == []
    for _ in range(3):
        assert ids(index, event(alias="prod")) == [1]
    assert told == [2]


def test_only_what_matches_stays_compiled() -> None:
    index, prod, dev = AutomationIndex(), dormant(1, filter={"alias": "prod"}), dormant(2, filter={"alias": "dev"})
    index.put(prod)
    index.put(dev)
    assert ids(index, event(alias="prod")) == [1]
    assert (_awake.get(prod) is None, _awake.get(dev) is None) == (False, True)


@pytest.mark.parametrize("covered", [False, True])
def test_the_same_in_a_large_scope_whether_or_not_its_covers_can_be_read(covered: bool) -> None:
    told: list[int] = []
    index = AutomationIndex(lambda one, _refusal: told.append(one.id))
    for number in range(scope_groups.MANY):
        index.put(dormant(number, filter={"alias": "prod"}))
    index.put(_unreadable(99, covered=covered))
    for alias in ("dev", "prod", "prod"):
        assert ids(index, event(alias=alias)) == ([] if alias == "dev" else [*range(scope_groups.MANY)])
    assert told == [99]


def test_what_cannot_be_read_is_not_read_again_for_each_event() -> None:
    reads: list[int] = []
    index = AutomationIndex(lambda _one, _refusal: None)
    for number in range(scope_groups.MANY):
        index.put(dormant(number, filter={"alias": "prod"}))
    index.put(_unreadable(99, covered=True, told=reads.append))
    for _ in range(3):
        ids(index, event(alias="prod"))
    assert reads == [99]


def _unreadable(
    number: int, *, covered: bool = False, told: Callable[[int], None] = lambda _number: None
) -> LazyAutomation:
    def refuse(_text: bytes) -> Any:
        told(number)
        raise InvalidDefinition.at((), "from another time")

    covers = (lambda _text: ((Equal("alias", "prod"),),)) if covered else refuse
    key = scope_key(EventType.ADD_ARTIFACT_ALIAS, "acme", None, None)
    return LazyAutomation(number, key, b"", TextReader(refuse, covers))
