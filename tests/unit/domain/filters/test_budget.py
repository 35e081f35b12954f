"""What filters, payloads and windows may cost: no definition and no event has evaluation take what it likes.

Costs are counted in units and bytes, so nothing here depends on the machine.
"""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from shared.domain.automations.model import Grants
from shared.domain.automations.parsing import parse_automation
from shared.domain.bounded_cache import BoundedCache
from shared.domain.conditions.conditions import MAX_KEPT_VALUES, parse_conditions
from shared.domain.errors import InvalidDefinition
from shared.domain.events.decoding import check_event, decode_event
from shared.domain.events.fast_decoding import quick_event, read_event
from shared.domain.filters import patterns
from shared.domain.filters.budget import EVENT_UNITS, FREE_UNITS, FilterBudget, FilterTooCostly
from shared.domain.filters.fields import field_getter
from shared.domain.filters.filters import MAX_FIELD_CHARS, MAX_FILTER_CHARS, MAX_PATTERNS, Filter, Getter, parse_filter
from shared.domain.filters.patterns import MAX_PROGRAM_SIZE, pattern_fault
from shared.domain.matching import scope_groups
from shared.domain.matching.compiled import FREE_VALUES, CompiledAutomation, compile_automation
from shared.domain.matching.firing_rules import MAX_EVENT_PAYLOAD_BYTES, EventPayloads
from shared.domain.matching.index import AutomationIndex
from shared.domain.payloads.cutting import MAX_VALUES, MAX_VARIABLE_SLOTS, parse_payload
from shared.domain.payloads.sealed import MAX_INSERTED_BYTES
from shared.domain.payloads.templates import PayloadTooLarge
from tests.unit.domain.matching.test_scope_groups import dormant
from tests.unit.domain.samples import event

# Linear in the text, and in its 1,961 instructions: 20 kB take 0.1 s.
SLOW_PATTERN = "(?:a?b?){490}c"
TYPE = "CREATE_ARTIFACT"
Raw = dict[str, Any]


def happened(event_type: str = TYPE, **metadata: Any) -> Raw:
    return event(event_type, artifact={"id": "a", "version": "v1", "metadata": metadata})


def automation(number: int, *, payload: Raw | None = None, **members: Any) -> CompiledAutomation:
    action: Raw = {"no_op": True} if payload is None else {"webhook": "hook", "payload": payload}
    raw = {"name": f"a{number}", "event": TYPE, "action": action, **members}
    return compile_automation(
        parse_automation(raw, lambda _name: Grants()),
        automation_id=number,
        entity_id=1,
        entity="acme",
        epoch=1,
        webhook_id=None if payload is None else 3,
    )


def parsed(expression: object) -> Filter:
    return parse_filter(expression, lambda _field: None)


def holds(expression: object, subject: Raw, budget: FilterBudget | None = None) -> bool:
    def resolve(name: str) -> Getter[Raw]:
        return lambda of: of.get(name)

    predicate = parsed(expression).compile(resolve)
    with (budget or FilterBudget()).applied():
        return predicate(subject)


def refusal(expression: object) -> str:
    with pytest.raises(InvalidDefinition) as caught:
        parsed(expression)
    return str(caught.value)


def test_a_pattern_may_not_grow_beyond_what_a_program_may_have() -> None:
    assert pattern_fault(SLOW_PATTERN) is None
    assert f"at most {MAX_PROGRAM_SIZE:,} are accepted" in (pattern_fault("(?:a?b?){500}c") or "")
    assert refusal({"alias": {"$regex": "(?:.?){300}c"}}).startswith("alias.$regex: must be a smaller RE2 pattern")
    for usual in (r"\p{L}+", "^.{1,200}$", r"(?i)^[\w.-]{1,64}$", "x" * 1000, r"^release-\d{4}\.\d{2}\.\d{2}$"):
        assert pattern_fault(usual) is None


def test_a_filter_has_a_bounded_number_of_patterns_and_bounded_names_and_values() -> None:
    parsed({"$or": [{"alias": {"$regex": f"^{number}"}} for number in range(MAX_PATTERNS)]})
    many = {"$or": [{"alias": {"$regex": f"^{number}"}} for number in range(MAX_PATTERNS + 1)]}
    assert refusal(many) == f"must have at most {MAX_PATTERNS} $regex: one pattern can hold several, as in ^(dev|test)-"
    assert "must not name a field by more than 512 characters" in refusal({"metadata." + "k" * MAX_FIELD_CHARS: 1})
    assert f"at most {MAX_FILTER_CHARS:,} characters" in refusal({"alias": {"$in": ["x" * 1000] * 300}})


def test_a_long_text_and_a_large_pattern_are_too_costly_together_and_not_alone() -> None:
    assert holds({"k": {"$regex": SLOW_PATTERN}}, {"k": "ab" * 1000 + "c"})
    with pytest.raises(FilterTooCostly):
        holds({"k": {"$regex": SLOW_PATTERN}}, {"k": "ab" * 10_000})
    assert holds({"k": {"$regex": "7$"}}, {"k": "x" * 1_000_000 + "7"})


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ({"$contains": "nowhere"}, "x" * (EVENT_UNITS + 1)),
        ({"$regex": "^prod-"}, ["dev"] * 20_000),
        ({"$contains": "x"}, ["dev"] * 600_000),
        ({"$eq": "x"}, ["dev"] * 600_000),
        ({"$ne": "x"}, ["dev"] * 600_000),
        ({"$gt": 7}, [1] * 600_000),
        ({"$in": [[number] for number in range(4_000)]}, [[0, 1]] * 500),
        ({"$eq": list(range(1_000))}, [[*range(999), 0]] * 600),
    ],
)
def test_whatever_takes_long_is_counted(expression: Raw, value: object) -> None:
    with pytest.raises(FilterTooCostly):
        holds({"k": expression}, {"k": value})


def test_finding_a_number_among_many_takes_no_longer_than_a_text() -> None:
    many = [*range(4_000), *map(str, range(4_000)), 0.5, None, True]
    for value, expected in [(3_999, True), (3_999.0, True), ("17", True), (True, True), (None, True), (False, False)]:
        assert holds({"k": {"$in": many}}, {"k": value}, FilterBudget(0)) is expected
    assert not holds({"k": {"$in": [1, 0]}}, {"k": True})


def test_many_terms_draw_on_the_budget_and_few_never_do() -> None:
    usual = {"$or": [{"alias": {"$regex": f"(?i)^(staging|production)-{number}"}} for number in range(5)]}
    assert not holds(usual, {"alias": "dev"}, FilterBudget(0))
    large = {"$and": [{"alias": {"$ne": str(number)}} for number in range(900)]}
    with pytest.raises(FilterTooCostly):
        holds(large, {"alias": "dev"}, FilterBudget(0))
    assert holds(large, {"alias": "dev"}, FilterBudget(900 * 50 - FREE_UNITS))


def test_nothing_is_taken_where_too_little_is_left() -> None:
    budget = FilterBudget(100)
    budget.take(60)
    with pytest.raises(FilterTooCostly):
        budget.take(41)
    budget.take(40)
    budget.begin()
    assert budget.left == 100


def test_a_costly_filter_matches_nothing_is_told_and_keeps_no_other_from_matching() -> None:
    index = AutomationIndex()
    index.put(automation(1, filter={"metadata.k": {"$regex": "b$"}}))
    index.put(automation(2, filter={"metadata.k": {"$regex": SLOW_PATTERN}}))
    index.put(automation(3, filter={"$not": {"metadata.k": {"$regex": SLOW_PATTERN}}}))
    index.put(automation(4, filter={"metadata.k": {"$exists": True}}))
    long, short = check_event(happened(k="ab" * 10_000)), check_event(happened(k="ab"))
    for _ in range(3):
        budget, refused = FilterBudget(), list[Any]()
        with budget.applied():
            assert [one.id for one in index.matching(long, budget, refused)] == [1, 4]
        assert [one.id for one in refused] == [2, 3]
    refused = []
    with budget.applied():
        assert [one.id for one in index.matching(short, budget, refused)] == [1, 3, 4]
    assert refused == []


def test_the_automations_of_an_entity_share_what_an_event_may_cost() -> None:
    index = AutomationIndex()
    for number in range(100):
        index.put(automation(number, filter={"metadata.k": {"$regex": SLOW_PATTERN}}))
    budget, refused = FilterBudget(), list[Any]()
    with budget.applied():
        assert list(index.matching(check_event(happened(k="ab" * 500)), budget, refused)) == []
    each = 1_000 * patterns.pattern_of(SLOW_PATTERN).size
    assert 0 <= budget.left < each + EVENT_UNITS // 10
    assert len(refused) == 100 - EVENT_UNITS // (each + EVENT_UNITS // 80)


def test_long_texts_are_not_remembered() -> None:
    index = AutomationIndex()
    index.put(automation(1, filter={"metadata.k": "short"}))
    for length in (10, scope_groups.LONGEST_REMEMBERED, scope_groups.LONGEST_REMEMBERED + 1, 1_000_000):
        list(index.matching(check_event(happened(k="x" * length)), FilterBudget(), []))
    assert sorted(len(value) for _, value in index._memory._new) == [10, scope_groups.LONGEST_REMEMBERED]


def test_patterns_are_kept_by_what_they_take_and_forgotten_with_their_automations() -> None:
    index = AutomationIndex()
    happening = check_event(event("ADD_ARTIFACT_ALIAS", alias="prod"))
    for number in range(50):
        index.put(dormant(number, filter={"alias": {"$regex": f"^kept-{number}$"}}))
    list(index.matching(happening, FilterBudget(), []))
    assert patterns._kept.get("^kept-7$") is not None
    index.drop(7)
    assert patterns._kept.get("^kept-7$") is None
    index.put(dormant(8, filter={"alias": "prod"}))
    assert patterns._kept.get("^kept-8$") is None
    assert patterns._kept.get("^kept-9$") is not None
    for make, least in (("^flood-{}", 2_300), ("\\pL{}", 500)):
        for number in range(10_000 if least > 2_000 else 2_000):
            size = patterns.pattern_of(make.format(number)).size
        each = min(patterns.KEPT_PATTERN_BYTES, patterns.LEAST_PATTERN_BYTES + patterns.INSTRUCTION_BYTES * size)
        assert least < len(patterns._kept) <= patterns.KEPT_PATTERNS_BYTES // each


def test_a_bounded_cache_keeps_the_newest_half_and_nothing_that_is_too_heavy() -> None:
    cache: BoundedCache[int, str] = BoundedCache(100, len)
    for number in range(50):
        cache.put(number, "x" * 10)
        assert cache.get(0) is not None  # what is in use stays
        assert len(cache) <= 10
    assert cache.get(49) is not None
    assert cache.get(30) is None
    cache.put(1, "x" * 51)
    assert cache.get(1) is None
    cache.forget(49)
    assert cache.get(49) is None


def test_conditions_keep_a_bounded_number_of_values() -> None:
    wide = {"change": {"amount": 1}, "aggregate": "MAX", "window": 1000, "prior_window": 1000}
    assert len(parse_conditions([{"metric": f"m{n}", **wide} for n in range(MAX_KEPT_VALUES // 2000)])) == 2
    with pytest.raises(InvalidDefinition, match="would keep 6,000 values of each run"):
        parse_conditions([{"metric": f"m{n}", **wide} for n in range(3)])
    assert len(parse_conditions([{"metric": "same", **wide}] * 20)) == 20


def test_wide_windows_draw_on_the_budget_at_each_event() -> None:
    def watching(window: int) -> list[Raw]:
        return [{"metric": "m", "aggregate": "MAX", "window": window, "op": "$gt", "threshold": 0}]

    index = AutomationIndex()
    index.put(automation(1, event="RUN_METRIC", conditions=watching(FREE_VALUES)))
    index.put(automation(2, event="RUN_METRIC", conditions=watching(FREE_VALUES + 1)))
    budget, refused = FilterBudget(0), list[Any]()
    for step in range(3):
        with budget.applied():
            found = index.matching(check_event(event("RUN_METRIC", step=step)), budget, refused)
            assert [one.id for one in found] == [1]
    assert [one.id for one in refused] == [2, 2, 2]


def test_a_payload_has_bounded_values_and_variables() -> None:
    def parse(payload: Raw) -> object:
        return parse_payload(payload, secrets=(), has_access_token=False)

    assert parse({"a": [1] * (MAX_VALUES - 2)})
    with pytest.raises(InvalidDefinition, match="at most 10,000 values"):
        parse({"a": [1] * (MAX_VALUES - 1)})
    assert parse({"a": "$tag" * MAX_VARIABLE_SLOTS})
    with pytest.raises(InvalidDefinition, match="variables at most 1,000 times"):
        parse({"a": "$tag" * (MAX_VARIABLE_SLOTS + 1)})


@pytest.mark.parametrize("character", ["x", "\N{CJK UNIFIED IDEOGRAPH-4E00}", '"', "$"])
def test_all_payloads_of_an_event_are_bounded_together(character: str) -> None:
    fitting = MAX_INSERTED_BYTES // 4 // len(character.encode())
    payloads = EventPayloads(check_event(happened(large=character * fitting, small="y")))
    large = automation(1, payload={"a": "${artifact_metadata.large}"})
    made: list[str | None] = []
    with pytest.raises(PayloadTooLarge, match=f"all payloads of one event may be {MAX_EVENT_PAYLOAD_BYTES} bytes"):
        made.extend(payloads.sealed(large, delivery_id="d", metric=None) for _ in range(100))
    assert 8 <= len(made) <= 32
    assert payloads.bytes <= MAX_EVENT_PAYLOAD_BYTES
    small = automation(2, payload={"a": "${artifact_metadata.small}"})
    assert payloads.sealed(small, delivery_id="d", metric=None) == '{"a":"y"}'


@pytest.mark.parametrize("character", ["x", "\N{CJK UNIFIED IDEOGRAPH-4E00}"])
def test_a_payload_is_bounded_in_bytes(character: str) -> None:
    fitting = MAX_INSERTED_BYTES // 2 // len(character.encode())
    template = automation(1, payload={"a": "${artifact_metadata.k}", "b": "${artifact_metadata.k}"})
    payloads = EventPayloads(check_event(happened(k=character * fitting)))
    assert payloads.sealed(template, delivery_id="d", metric=None)
    payloads = EventPayloads(check_event(happened(k=character * (fitting + 1))))
    with pytest.raises(PayloadTooLarge, match=r"the payload would insert 10485[0-9]+ bytes of event values"):
        payloads.sealed(template, delivery_id="d", metric=None)


@pytest.mark.parametrize("depth", [150, 198, 254, 500, 900, 960, 990])
def test_what_nests_too_deep_for_the_models_is_read_by_no_other_way(depth: int) -> None:
    body = orjson.dumps(happened(k="here")).replace(b'"here"', b"[" * depth + b'"]]]\\\\"' + b"]" * depth)
    try:
        expected: object = decode_event(body).model_dump()
    except InvalidDefinition:
        expected = None
    assert quick_event(body) is None or expected is not None
    if expected is None:
        with pytest.raises(InvalidDefinition):
            read_event(body)


def test_a_dotted_path_of_any_length_is_walked() -> None:
    value: object = 1
    for _ in range(190):
        value = {"a": value}
    read = field_getter(check_event(event(TYPE)).type, "metadata." + ".".join("a" * 190))
    assert read(check_event(happened(**{"a": value["a"]} if isinstance(value, dict) else {}))) == 1
    assert field_getter(check_event(event(TYPE)).type, "metadata." + "." * 400)(check_event(happened(a=1))) is not None
