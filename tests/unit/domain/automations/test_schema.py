"""The JSON Schema of automations and their parser: what one accepts the other does, but for what no schema can say."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import Any

import jsonschema_rs
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from shared.domain.automations.model import CooldownUnit, Grants
from shared.domain.automations.parsing import MEMBERS, parse_automation
from shared.domain.automations.schema import UNSAID, automation_schema
from shared.domain.errors import InvalidDefinition
from shared.domain.events.types import EventType, RunPhase
from shared.domain.filters.fields import filter_fields
from shared.domain.payloads.content_types import FORM, JSON, PLAIN

SCHEMA = automation_schema()
VALIDATOR = jsonschema_rs.validator_for(SCHEMA)
EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "0")) * 10 or 200
NO_OP = {"no_op": True}


def refusals(raw: object) -> list[str]:
    """What the parser says against a new definition, in an entity where every name is known; none if it takes it."""
    try:
        parse_automation(raw, lambda _name: Grants(), lambda _name: True, is_new=True)
    except InvalidDefinition as exc:
        return [str(error) for error in exc.errors]
    return []


def unsaid(refusal: str) -> bool:
    return any(re.search(one.refusal, refusal) for one in UNSAID)


def agree(raw: object) -> None:
    """The schema and the parser say the same of a definition."""
    refused, valid = refusals(raw), VALIDATOR.is_valid(raw)
    if valid:
        assert [one for one in refused if not unsaid(one)] == []
    else:
        assert refused != [], next(iter(VALIDATOR.iter_errors(raw))).message


words = st.sampled_from(
    [
        "",
        " ",
        "a",
        "prod",
        "\x01",
        "x" * 600,
        "run.id",
        "config.lr",
        "metadata.a.b",
        "$eq",
        "\u3000",
        "e\u0301",
        "\ufeff",
        "a\n",
    ]
)
scalars: SearchStrategy[Any] = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 1100), st.floats(-1e6, 1e6), st.just(5.0), st.just(10**400), words
)
junk: SearchStrategy[Any] = st.one_of(
    scalars,
    st.lists(scalars, max_size=3),
    st.dictionaries(words, scalars, max_size=2),
    st.dictionaries(st.sampled_from(["$in", "$regex", "$not", "$exists", "$gt", "alias"]), scalars, max_size=2),
)


def or_junk(values: SearchStrategy[Any]) -> SearchStrategy[Any]:
    """Mostly these values, and seldom something else."""
    return st.sampled_from([*[values] * 40, junk]).flatmap(lambda chosen: chosen)


def mapping(required: dict[str, SearchStrategy[Any]], optional: dict[str, SearchStrategy[Any]]) -> SearchStrategy[Any]:
    """An object of these members, in which seldom a member is missing, or one is too much."""
    whole = st.fixed_dictionaries(required, optional=optional)

    def changed(value: dict[str, Any], way: str, key: str) -> dict[str, Any]:
        if way == "less":
            return {name: member for name, member in value.items() if name != next(iter(value), None)}
        return {**value, key: 1} if way == "more" else value

    return st.builds(changed, whole, st.sampled_from([*["as it is"] * 60, "less", "more"]), words)


def now_and_then(usual: list[Any], odd: list[Any]) -> SearchStrategy[Any]:
    """One of the usual values, or seldom an odd one."""
    return or_junk(st.sampled_from([*usual * (1 + 6 * len(odd) // len(usual)), *odd]))


PATTERNS = now_and_then(["^prod", "", "[a-z]+$"], ["("])
OPERATORS = ["$eq", "$ne", "$gt", "$gte", "$lt", "$lte", "$in", "$nin", "$regex", "$contains", "$exists"]


def operands(depth: int = 2) -> SearchStrategy[Any]:
    text = st.sampled_from(["prod", "v3", ""])
    value = st.sampled_from(
        [*[text] * 30, st.integers(-2, 9), st.none(), st.booleans(), st.lists(text, max_size=2), junk]
    )
    value = value.flatmap(lambda chosen: chosen)
    forms: dict[str, SearchStrategy[Any]] = {
        **dict.fromkeys(["$eq", "$ne", "$gt", "$gte", "$lt", "$lte"], value),
        **dict.fromkeys(["$in", "$nin"], or_junk(st.lists(value, max_size=3))),
        "$regex": or_junk(PATTERNS),
        "$contains": or_junk(text),
        "$exists": or_junk(st.booleans()),
    }
    operators = st.lists(st.sampled_from(OPERATORS), min_size=1, max_size=2, unique=True).flatmap(
        lambda names: st.fixed_dictionaries({name: forms[name] for name in names})
    )
    if depth:
        operators = st.one_of(operators, st.fixed_dictionaries({"$not": operands(depth - 1)}))
    return st.one_of(value, operators, operators)


def filters(event: EventType, depth: int = 2) -> SearchStrategy[Any]:
    fields, prefixes = filter_fields(event)
    members = [f"{prefix}{key}" for prefix in sorted(prefixes) for key in ("id", "name", "config", "lr", "a.b", "\n")]
    names = st.one_of(
        st.sampled_from([*sorted(fields), *members]), st.sampled_from(["nosuch", "metadata.", "alias", ""])
    )
    leaf = st.dictionaries(names, operands(), max_size=2)
    if not depth:
        return leaf
    inner = filters(event, depth - 1)
    lists = or_junk(st.lists(inner, max_size=2))
    return st.one_of(
        leaf,
        leaf,
        st.dictionaries(st.sampled_from(["$and", "$or", "$nor"]), lists, min_size=1, max_size=2),
        st.fixed_dictionaries({"$not": or_junk(inner)}),
    )


metric = or_junk(st.sampled_from(["loss", "val_loss"]))
window = now_and_then([2, 5, 1000], [0, 1, 1001])
number = now_and_then([1, 0.5, 9], [0, -1, 1e300])
aggregate = now_and_then(["MAX", "min", "Average", None], ["MED"])
direction = or_junk(st.sampled_from(["INCREASE", "decrease", "ANY"]))
conditions = st.one_of(
    mapping(
        {"metric": metric, "op": or_junk(st.sampled_from(["$gt", "$LTE", "$eq"])), "threshold": number},
        {"aggregate": aggregate, "window": window},
    ),
    mapping(
        {
            "metric": metric,
            "change": mapping({"amount": number}, {"type": or_junk(st.just("relative")), "direction": direction}),
        },
        {"aggregate": aggregate, "window": window, "prior_window": window},
    ),
    mapping(
        {"metric": metric, "zscore": mapping({}, {"direction": direction, "threshold": number})}, {"window": window}
    ),
    mapping({"metric": metric, "finite": now_and_then([False], [True, None, 0])}, {}),
)
texts = now_and_then(["deploy ${alias}", "plain", None], ["${nosuch}"])
actions = st.one_of(
    mapping(
        {"webhook": or_junk(st.just("hook"))},
        {
            "payload": or_junk(st.dictionaries(st.just("k"), texts) | texts),
            "payload_types": or_junk(st.sampled_from(["json", "text", None])),
            "content_type": or_junk(
                st.sampled_from([JSON, FORM, PLAIN, "application/x+json", "application/X+json", "text/html", None])
            ),
        },
    ),
    mapping(
        {"slack": or_junk(st.just("ops"))},
        {"title": texts, "message": texts, "severity": now_and_then(["INFO", "ERROR", None], ["warn"])},
    ),
    mapping({"no_op": or_junk(st.just(True))}, {}),
)
scopes = or_junk(
    st.one_of(
        st.none(),
        st.just({"project": None, "collection": None}),
        mapping({}, {"project": or_junk(st.just("p"))}),
        mapping({"project": or_junk(st.just("p"))}, {"collection": or_junk(st.just("c"))}),
    )
)
durations = or_junk(
    st.sampled_from(["24h", "1h30m", "1.5h", "0s", "9000000000s", "1 h", "h", "", 3600, 0, -1, 1e9, 10**9])
)
rates = or_junk(
    st.sampled_from(["60/min", "1000/h", "1001/h", "0/s", "007 / day", "0000060/s", "5/week", "1/s\n", None])
)
cooldowns = or_junk(
    st.one_of(
        st.none(),
        mapping({"per": or_junk(st.sampled_from([str(one) for one in CooldownUnit])), "period": durations}, {}),
    )
)


@st.composite
def automations(draw: st.DrawFn) -> Any:
    event = draw(st.sampled_from(EventType))
    common: dict[str, SearchStrategy[Any]] = {
        "description": (now_and_then(["about", None, "x" * 4000], ["x" * 4001])),
        "enabled": or_junk(st.booleans()),
        "scope": scopes,
        "filter": or_junk(st.one_of(st.none(), filters(event))),
        "cooldown": cooldowns,
        "rate_limit": rates,
    }
    required = {"name": or_junk(st.just("a name")), "event": or_junk(st.just(str(event))), "action": actions}
    statements = or_junk(st.lists(conditions, min_size=1, max_size=2))
    phases = st.lists(or_junk(st.sampled_from([str(one) for one in RunPhase])), min_size=1, max_size=3)
    states = or_junk(phases | st.just([str(RunPhase.SILENT)]))
    own: dict[str, Any] = {
        EventType.RUN_METRIC: {"conditions": statements},
        EventType.RUN_STATE: {"states": states},
    }.get(event, {})
    odd: dict[str, SearchStrategy[Any]] = {
        "conditions": st.sampled_from([None, []]),
        "states": st.sampled_from([None, []]),
        "silent_for": durations,
    }
    if event is EventType.RUN_STATE and draw(st.booleans()):
        own["silent_for"] = durations
    rare = odd if draw(st.integers(0, 8)) == 0 else {}
    # Few members at a time: the more there are, the more faults hide each other.
    some = draw(st.lists(st.sampled_from(sorted(common)), max_size=2, unique=True))
    optional = {**{name: common[name] for name in some}, **{k: v for k, v in rare.items() if k not in own}}
    return draw(or_junk(mapping({**required, **own}, optional)))


@pytest.mark.slow
@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
@given(automations())
def test_what_one_accepts_the_other_accepts(raw: Any) -> None:
    agree(raw)


@pytest.mark.slow
@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.sampled_from(EventType).flatmap(lambda event: st.tuples(st.just(event), filters(event))))
@example((EventType.RUN_METRIC, {"run.config": {"$exists": True}}))
@example((EventType.RUN_METRIC, {"run.config": {"$in": [{}, None]}}))
@example((EventType.RUN_METRIC, {"config.": 1}))
@example((EventType.CREATE_ARTIFACT, {"aliases": {"$in": [["a"], "b"]}}))
@example((EventType.CREATE_ARTIFACT, {"alias": {"$not": {"$not": {"$eq": "a"}}}}))
@example((EventType.CREATE_ARTIFACT, {"metadata.x": {"$eq": {"$in": 1}}}))
@example((EventType.CREATE_ARTIFACT, {"metadata.x": {"a": {"$in": 1}}}))
@example((EventType.CREATE_ARTIFACT, {"metadata.x": {"a": 1, "$in": [1]}}))
@example((EventType.CREATE_ARTIFACT, {"alias": {}}))
def test_filters_are_accepted_by_both(pair: tuple[EventType, Any]) -> None:
    event, expression = pair
    own: Any = {
        EventType.RUN_METRIC: {"conditions": [{"metric": "m", "op": "$gt", "threshold": 1}]},
        EventType.RUN_STATE: {"states": ["failed"]},
    }.get(event, {})
    agree({"name": "a", "event": str(event), "action": NO_OP, "filter": expression, **own})


@pytest.mark.parametrize(
    "name", ["a", " a ", " ", "\u2003", "\ufeff", "\x85", "a\x7f", "x" * 255, "x" * 256, "\u00e9", "a\n"]
)
def test_names_are_the_same_to_both(name: str) -> None:
    agree({"name": name, "event": "ADD_ARTIFACT_ALIAS", "action": NO_OP})


def edges() -> Iterator[dict[str, Any]]:
    """Definitions at the borders, each with one member that may be wrong."""
    base: dict[str, Any] = {"name": "a", "event": "ADD_ARTIFACT_ALIAS", "action": NO_OP}
    for rate in ("60/min", "1000/h", "1001/h", "0/s", "007 / day", "0000060/s", "000060/s", "5/week", "1/s\n", 5, ""):
        yield {**base, "rate_limit": rate}
    for period in (
        "24h",
        "1h30m",
        "1.5h",
        ".5h",
        "1.h",
        "0s",
        "h",
        "",
        "1 h",
        "1h\n",
        0,
        -1,
        1.5,
        316224000,
        316224001,
        True,
    ):
        yield {**base, "cooldown": {"per": "automation", "period": period}}
    for event in EventType:
        own: Any = {
            EventType.RUN_METRIC: {"conditions": [{"metric": "m", "op": "$gt", "threshold": 1}]},
            EventType.RUN_STATE: {"states": ["failed"]},
        }.get(event, {})
        whole = {**base, "event": str(event), **own}
        for scope in ({"project": "p"}, {"project": "p", "collection": "c"}, {"collection": "c"}, {"collection": None}):
            yield {**whole, "scope": scope}
        for unit in CooldownUnit:
            yield {**whole, "cooldown": {"per": str(unit), "period": "1h"}}
        for member in ("conditions", "states"):
            yield from ({**whole, member: value} for value in (None, [], ["failed"], own.get(member, [1])))
            yield {name: value for name, value in whole.items() if name != member}
        for field in (
            "alias",
            "tag",
            "aliases",
            "version",
            "collection",
            "run.id",
            "config.lr",
            "webhook",
            "reason",
            "status",
        ):
            yield from (
                {**whole, "filter": {field: value}} for value in ("a", ["a"], 1, {"$in": [["a"]]}, {"$gt": "a"})
            )


def test_the_borders_are_the_same_to_both() -> None:
    for raw in edges():
        agree(raw)


HOLDS = {"name": "a", "event": "ADD_ARTIFACT_ALIAS", "action": NO_OP}
SAID_BY_THE_PARSER_ALONE = {
    "Names of webhooks": {**HOLDS, "action": {"webhook": "nosuch"}},
    "Variables of payloads": {**HOLDS, "action": {"webhook": "hook", "payload": {"a": "${nosuch}"}}},
    "RE2 patterns": {**HOLDS, "filter": {"alias": {"$regex": "("}}},
    "Bounds over": {**HOLDS, "filter": {"$and": [{"alias": "a"}] * 1001}},
    "Text that can't": {**HOLDS, "description": "\0"},
    "How short": {**HOLDS, "event": "RUN_STATE", "states": ["silent"], "silent_for": "5s"},
    "Durations": {**HOLDS, "cooldown": {"per": "collection", "period": "4000d"}},
    "Whole numbers": {
        **HOLDS,
        "event": "RUN_METRIC",
        "conditions": [{"metric": "m", "op": "$gt", "threshold": 1, "aggregate": "MAX", "window": 5.0}],
    },
}


@pytest.mark.parametrize("unsaid_thing", UNSAID, ids=lambda one: one.what[:20])
def test_what_no_schema_can_say_is_a_short_list_of_which_each_happens(unsaid_thing: Any) -> None:
    (raw,) = (raw for start, raw in SAID_BY_THE_PARSER_ALONE.items() if unsaid_thing.what.startswith(start))
    assert VALIDATOR.is_valid(raw)
    try:
        parse_automation(raw, lambda name: Grants() if name == "hook" else None, is_new=True)
    except InvalidDefinition as exc:
        assert all(re.search(unsaid_thing.refusal, str(error)) for error in exc.errors), exc.errors
    else:
        pytest.fail("the parser takes it")
    assert len(SAID_BY_THE_PARSER_ALONE) == len(UNSAID)


def accepted(raw: Any) -> Iterator[list[str]]:
    """The members that the parser says it accepts, where one is not known."""
    for refusal in refusals(raw):
        if found := re.search(r"zzz\S* (?:is not known here; accepted: |unknown field, expected only )(.*)", refusal):
            yield found[1].split(", ")


def test_members_are_the_same_in_both() -> None:
    """A member that only one of them knows is found here, whatever its name."""
    (members,) = accepted({**HOLDS, "zzz": 1})
    assert set(members) == set(MEMBERS) == SCHEMA["properties"].keys()
    (members,) = accepted({**HOLDS, "scope": {"zzz": 1}})
    assert set(members) == SCHEMA["properties"]["scope"]["properties"].keys()
    (members,) = accepted({**HOLDS, "cooldown": {"per": "collection", "period": "1h", "zzz": 1}})
    assert set(members) == SCHEMA["properties"]["cooldown"]["properties"].keys()
    forms = SCHEMA["properties"]["action"]["oneOf"]
    told = refusals({**HOLDS, "action": {"zzz": 1}})
    for form in forms:
        (kind,) = form["required"]
        assert f"{kind}: " in told[0], "the refusal names each kind of action"
        value = {"webhook": "hook", "slack": "ops", "no_op": True}[kind]
        (members,) = accepted({**HOLDS, "action": {kind: value, "zzz": 1}})
        assert set(members) == form["properties"].keys()
    assert told[0].count("{") - told[0].count("{…}") == len(forms)
