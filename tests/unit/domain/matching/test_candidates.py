"""Candidates found by clues: in large scopes the same automations match, in the same order, as where each is tested."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.domain.conditions.windows import WindowState
from shared.domain.events.decoding import check_event
from shared.domain.events.fast_decoding import read_event
from shared.domain.filters.budget import FilterBudget, FilterTooCostly
from shared.domain.json_text import read_json, write_json
from shared.domain.matching import candidates, scope_groups
from shared.domain.matching.compiled import CompiledAutomation
from shared.domain.matching.index import AutomationIndex
from tests.unit.domain.matching.test_matching import compiled
from tests.unit.domain.matching.test_scope_groups import dormant
from tests.unit.domain.samples import event

TYPE = "ADD_ARTIFACT_ALIAS"
LONG = "prod-" + "long" * 30
Raw = dict[str, Any]

texts = st.sampled_from(["prod", "production", "dev", "dev-1", "PROD", "", "a.b", "aab", "ab", "é-prod", "1", LONG])
numbers = st.sampled_from([0, 1, 1.0, -1, 0.5, 2, 2.5, 10, 2**63 - 1, 10**40, 1e300, -1e300])
scalars = st.one_of(texts, numbers, st.sampled_from([True, False, None]))
values = st.one_of(
    scalars,
    st.lists(scalars, max_size=4),
    st.lists(texts, min_size=17, max_size=20),
    st.dictionaries(st.sampled_from(["b", "c"]), scalars, max_size=2),
    st.lists(st.one_of(st.lists(scalars, max_size=2), st.just({"b": 1})), max_size=2),
)
PATTERNS = (
    "^prod", "^prod$", "rod", "(?i)PROD", "^(dev|test)-", "^a{2}", "^a+b", "^a*b", "^ab?", "^a\\.b$", "^é", "$", "",
    "^prod|dev", "^$", "^prod*uction", "\\pL+", "^\\Qa.b\\E", "^dev-[0-9]+$", "long", "(?:a?b?){490}c",
)  # fmt: skip
own = st.sampled_from(["alias", "author", "version", "aliases", "tags", "project"])
paths = st.sampled_from(["metadata.k", "metadata.a", "metadata.a.b", "metadata.a.b.c", "metadata.none", "metadata.b"])
fields = st.one_of(own, paths)


@st.composite
def comparisons(draw: st.DrawFn) -> Raw:
    op = draw(
        st.sampled_from(
            ["$eq", "$eq", "$ne", "$in", "$nin", "$gt", "$gte", "$lt", "$lte", "$regex", "$contains", "$exists"]
        )
    )
    operand: Any
    if op in ("$in", "$nin"):
        operand = draw(st.lists(values, max_size=4))
    elif op in ("$gt", "$gte", "$lt", "$lte"):
        operand = draw(st.one_of(numbers, texts))
    elif op == "$regex":
        operand = draw(st.sampled_from(PATTERNS))
    elif op == "$contains":
        operand = draw(texts)
    else:
        operand = draw(st.booleans()) if op == "$exists" else draw(values)
    return {draw(fields): {op: operand}}


def combined(terms: st.SearchStrategy[Raw]) -> st.SearchStrategy[Raw]:
    some = st.lists(terms, min_size=1, max_size=3)
    return st.one_of(
        some.map(lambda each: {"$and": each}),
        some.map(lambda each: {"$or": each}),
        some.map(lambda each: {"$nor": each}),
        terms.map(lambda each: {"$not": each}),
    )


filters: st.SearchStrategy[Raw] = st.one_of(st.just({}), st.recursive(comparisons(), combined, max_leaves=6))
metadata: st.SearchStrategy[Raw] = st.dictionaries(st.sampled_from(["k", "a", "a.b", "b", "z"]), values, max_size=4)


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    names = st.lists(texts, max_size=20)
    artifact: Raw = {"id": "a", "version": draw(texts), "aliases": draw(names), "tags": draw(names)}
    artifact["metadata"] = draw(metadata)
    return write_json(event(TYPE, alias=draw(texts) or "x", author=draw(texts), artifact=artifact))


@contextmanager
def from_the_first_on() -> Iterator[None]:
    """Candidates are looked up in scopes of any size."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scope_groups, "MANY", 1)
        patch.setattr(candidates, "LITTER", 3)
        yield


def plain(automations: dict[int, CompiledAutomation], happened: Any) -> list[int]:
    """What matches, said without the index: each is tested, in the order in which they were put."""
    return [number for number, one in automations.items() if one.matches(happened)]


def found(index: AutomationIndex, happened: Any, refused: list[Any] | None = None) -> list[int]:
    budget, told = FilterBudget(), [] if refused is None else refused
    with budget.applied():
        return [one.id for one in index.matching(happened, budget, told)]


@settings(max_examples=150, deadline=None)
@given(st.lists(filters, min_size=1, max_size=24), st.lists(bodies(), min_size=1, max_size=5))
def test_candidates_are_those_that_match_each_by_itself(expressions: list[Raw], happened: list[bytes]) -> None:
    with from_the_first_on():
        each = {number: compiled(number, TYPE, filter=one) for number, one in enumerate(expressions)}
        index = AutomationIndex()
        for number, one in enumerate(expressions):
            index.put(dormant(number, filter=one))
        for body in happened:
            by_models = check_event(read_json(body))
            expected = plain(each, by_models)
            refused: list[Any] = []
            assert found(index, read_event(body), refused) == expected
            assert found(index, by_models, refused) == expected
            assert refused == []


edits = st.lists(
    st.one_of(st.tuples(st.integers(1, 12), filters), st.integers(1, 12), st.sampled_from(["copy", "look"])),
    min_size=1,
    max_size=40,
)


@settings(max_examples=80, deadline=None)
@given(edits, st.lists(bodies(), min_size=1, max_size=3))
def test_each_edition_finds_its_own_automations_whatever_others_do(history: list[Any], happened: list[bytes]) -> None:
    with from_the_first_on():
        index, known = AutomationIndex(), dict[int, CompiledAutomation]()
        editions: list[tuple[AutomationIndex, dict[int, CompiledAutomation]]] = []
        events = [read_event(body) for body in happened]
        for edit in history:
            if edit == "copy":
                editions.append((index, dict(known)))
                index = index.copy()
            elif edit == "look":
                for one, expected in [*editions[-2:], (index, known)]:
                    assert found(one, events[0]) == plain(expected, events[0])
            elif isinstance(edit, int):
                index.drop(edit)
                known.pop(edit, None)
            else:
                number, expression = edit
                index.put(dormant(number, filter=expression))
                known.pop(number, None)
                known[number] = compiled(number, TYPE, filter=expression)
        for one, expected in [*editions, (index, known)]:
            for each in events:
                assert found(one, each) == plain(expected, each)


@settings(max_examples=60, deadline=None)
@given(st.lists(filters, min_size=1, max_size=30), bodies(), st.integers(0, 200_000))
def test_who_asks_for_too_much_is_told_and_nobody_matches_who_should_not(
    expressions: list[Raw], body: bytes, units: int
) -> None:
    with from_the_first_on():
        index = AutomationIndex()
        for number, one in enumerate(expressions):
            index.put(dormant(number, filter=one))
        each = {number: compiled(number, TYPE, filter=one) for number, one in enumerate(expressions)}
        happened, refused, budget = read_event(body), list[Any](), FilterBudget(units)
        with budget.applied():
            matched = {one.id for one in index.matching(happened, budget, refused)}
        told = {one.id for one in refused}
        true = set(plain(each, happened))
        assert matched <= true
        assert true - matched <= told
        # Whoever is told would have asked for too much alone, or the others have used the budget up.
        for number in told:
            alone = FilterBudget(units)
            with alone.applied():
                try:
                    each[number].matches(happened)
                except FilterTooCostly:
                    continue
            assert alone.left < units


def test_only_conditions_on_other_metrics_are_left_out_and_they_would_have_changed_nothing() -> None:
    index = AutomationIndex()
    each = {}
    for number in range(40):
        condition = {"metric": f"m{number % 20}", "aggregate": "AVERAGE", "window": 2, "op": "$gt", "threshold": 0}
        second = {"metric": "loss", "change": {"amount": 1}} if number == 39 else {**condition, "metric": "other"}
        expression = {"author": "alice"} if number % 2 else {}
        each[number] = compiled(number, "RUN_METRIC", filter=expression, conditions=[condition, second])
        index.put(each[number])
    for author, metrics in [
        ("alice", {"m3": 1.0, "loss": 2.0}),
        ("bob", {"m4": 0.0}),
        ("alice", {"else": 1.0}),
        ("alice", {"other": 1.0}),
    ]:
        happened = check_event(event("RUN_METRIC", author=author, metrics=metrics, step=3))
        matched = found(index, happened)
        left_out = set(plain(each, happened)) - set(matched)
        assert set(matched) <= set(plain(each, happened))
        for number, one in each.items():
            assert one.conditions is not None
            state = one.conditions.new_state()
            observed = one.conditions.observe(state, 3, metrics)
            if number in left_out:
                assert observed.condition_index is None
                assert observed.ignored_samples == 0
                assert state == WindowState([None, None])
            else:
                assert (number in matched) is (number in plain(each, happened))


def test_states_find_those_that_ask_for_them() -> None:
    index = AutomationIndex()
    each = {
        number: compiled(number, "RUN_STATE", states=[("failed", "crashed", "finished")[number % 3]], filter=expression)
        for number, expression in enumerate([{}, {"display_name": {"$regex": "^llm"}}, {"config.lr": {"$gt": 0}}] * 10)
    }
    for one in each.values():
        index.put(one)
    for state in ("failed", "crashed", "running", "finished"):
        for run in ({"id": "r", "name": "llm-7"}, {"id": "r", "config": {"lr": 1}}, {"id": "r"}):
            happened = check_event(event("RUN_STATE", state=state, run=run))
            assert found(index, happened) == plain(each, happened)


def test_filters_of_candidates_only_are_tested() -> None:
    tested: list[int] = []

    def counted(number: int, one: CompiledAutomation) -> CompiledAutomation:
        def matches(happened: Any) -> bool:
            tested.append(number)
            return one.matches(happened)

        return CompiledAutomation(
            id=number,
            entity_id=1,
            entity="acme",
            epoch=1,
            webhook_id=None,
            automation=one.automation,
            conditions=None,
            matches=matches,
        )

    kinds: list[Any] = [
        lambda n: {"alias": f"a{n}"},
        lambda n: {"alias": {"$in": [f"b{n}", f"c{n}"]}, "artifact_type": "model"},
        lambda n: {"alias": {"$regex": f"^d{n}-"}},
        lambda n: {"alias": {"$regex": f"team-{n}-(dev|prod)$"}},
        lambda n: {"alias": {"$contains": f"<{n}>"}},
        lambda n: {"metadata.k": {"$gt": n, "$lt": n + 0.5}},
        lambda n: {"metadata.score": {"$gte": n}, "author": "alice"},
        lambda n: {f"metadata.key-{n}": {"$ne": None}},
        lambda n: {"$or": [{"tags": f"t{n}"}, {"$nor": [{"$not": {"aliases": f"u{n}"}}, {"author": "bob"}]}]},
    ]
    index = AutomationIndex()
    number = 0
    for n in range(100):
        for kind in kinds:
            index.put(counted(number, compiled(number, TYPE, filter=kind(n))))
            number += 1
    artifact = {"id": "a", "version": "v1", "tags": ["t7"], "metadata": {"k": 50.25, "score": -1, "key-9": 1}}
    happened = check_event(event(TYPE, alias="team-3-prod", author="alice", artifact=artifact))
    matched = found(index, happened)
    assert sorted(matched) == sorted([3 * 9 + 3, 50 * 9 + 5, 9 * 9 + 7, 7 * 9 + 8])
    assert len(tested) < number // 25


def test_searching_long_texts_is_counted_as_work_of_the_entity_and_short_ones_are_free() -> None:
    index = AutomationIndex()
    for number in range(200):
        index.put(compiled(number, TYPE, filter={"metadata.k": {"$regex": f"team-{number}-prod"}}))
    spent = []
    for text in ("team-7-prod", "team-7-prod" + "x" * 100, "x" * 200):
        budget = FilterBudget()
        happened = check_event(event(TYPE, artifact={"id": "a", "metadata": {"k": text}}))
        with budget.applied():
            matched = [one.id for one in index.matching(happened, budget, [])]
        assert matched == ([7] if text.startswith("team") else [])
        spent.append(budget.spent)
        assert budget.left > budget.units - 10_000
    assert spent[0] == 0
    assert 0 < spent[1] < spent[2]


def test_an_index_that_is_being_edited_serves_other_threads_exactly() -> None:
    index, known = AutomationIndex(), dict[int, CompiledAutomation]()
    kinds: list[Any] = [
        lambda n: {"alias": f"a{n % 7}"},
        lambda n: {"alias": {"$regex": f"^a{n % 5}"}},
        lambda n: {"alias": {"$regex": f"{n % 3}$"}},
        lambda n: {"metadata.k": {"$gt": n % 11}},
        lambda n: {"metadata.k": {"$gt": n % 4, "$lt": n % 9}},
        lambda n: {"author": {"$ne": f"b{n % 2}"}},
    ]
    happened = [
        check_event(event(TYPE, alias=f"a{n}", author=f"b{n % 3}", artifact={"id": "a", "metadata": {"k": n}}))
        for n in range(10)
    ]
    editions: list[tuple[AutomationIndex, dict[int, CompiledAutomation]]] = [(index, known)]
    wrong: list[Any] = []
    ended = threading.Event()

    def look() -> None:
        while not ended.is_set():
            edition, expected = editions[-1]
            for one in happened:
                if found(edition, one) != plain(expected, one):
                    wrong.append((one, len(expected)))

    threads = [threading.Thread(target=look) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        for edit in range(150):
            index, known = index.copy(), dict(known)
            for number in range(edit * 3, edit * 3 + 3):
                one = compiled(number % 200, TYPE, filter=kinds[number % len(kinds)](number))
                index.put(one)
                known.pop(one.id, None)
                known[one.id] = one
            index.drop(edit % 200)
            known.pop(edit % 200, None)
            editions.append((index, known))
    finally:
        ended.set()
        for thread in threads:
            thread.join()
    assert wrong == []
