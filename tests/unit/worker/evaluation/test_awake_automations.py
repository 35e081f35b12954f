"""Automations that one event after another asks for stay compiled, as many as an entity may have."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from shared.domain.errors import InvalidDefinition
from shared.domain.json_text import write_json
from shared.domain.matching.compiled import LazyAutomation
from shared.storage.evaluation.automation_feed import AutomationRow
from worker.evaluation.automation_cache import _dormant

AUTOMATIONS = 1000
"""As many as an entity may have by default."""


def dormant(number: int, description: str) -> LazyAutomation:
    definition = {
        "name": f"fanned {number}",
        "description": description,
        "enabled": True,
        "scope": {"project": "theirs"},
        "event": "ADD_ARTIFACT_ALIAS",
        "filter": {"alias": {"$regex": f"^(prod|stage-{number})"}},
        "cooldown": None,
        "rate_limit": None,
        "action": {"no_op": True},
    }
    text = orjson.dumps(definition).decode()
    about = (number, 1, "acme", True, "ADD_ARTIFACT_ALIAS", "theirs", None, text, 0, None, frozenset[str](), False)
    return _dormant(AutomationRow(*about))


def test_long_descriptions_make_nobody_compile_anew() -> None:
    all_of_it = [dormant(number, "x" * 4000) for number in range(AUTOMATIONS)]
    first = [one.compiled() for one in all_of_it]
    again = [one.compiled() for one in all_of_it]
    anew = sum(one is not other for one, other in zip(first, again, strict=True))
    assert anew == 0
    assert first[7].automation.name == "fanned 7"
    assert first[7].definition_bytes < 1000


RUN = {"event": "RUN_METRIC", "conditions": [{"metric": "loss", "op": "$gt", "threshold": 1}]}
DEFINITIONS: list[dict[str, Any]] = [
    {"filter": {}},
    {"filter": {"alias": "prod"}},
    {"filter": {"$and": []}},
    {"filter": {"$nor": [{"$and": []}]}},
    {"filter": {"$or": [{"alias": {"$in": ["a", "b"]}}, {"tags": {"$regex": "^gold"}}]}},
    {"filter": {"metadata.k": {"$gt": 1, "$lt": 5}, "author": {"$ne": "me"}}},
    {"filter": {"$not": {"version": {"$exists": True}}}},
    {"event": "RUN_STATE", "states": ["failed", "crashed"], "filter": {"config.lr": 0.1}},
    RUN,
    RUN | {"filter": {"display_name": {"$contains": "nightly"}}},
    {"action": {"webhook": "hook", "payload": {"n": 10**30, "v": "${artifact_version_string}"}}},
]


@pytest.mark.parametrize("members", DEFINITIONS)
def test_what_an_automation_is_found_by_is_the_same_read_alone_or_with_all_of_it(members: dict[str, Any]) -> None:
    one = dormant_of({"name": "n", "event": "ADD_ARTIFACT_ALIAS", "action": {"no_op": True}} | members)
    assert one.covers == one.compiled().covers


def test_what_an_automation_is_found_by_is_refused_as_all_of_it_is() -> None:
    one = dormant_of(
        {"name": "n", "event": "ADD_ARTIFACT_ALIAS", "action": {"no_op": True}, "filter": {"alias": {"$x": 1}}}
    )
    with pytest.raises(InvalidDefinition, match="unknown operator"):
        _ = one.covers
    with pytest.raises(InvalidDefinition, match="unknown operator"):
        one.compiled()


def dormant_of(definition: dict[str, Any]) -> LazyAutomation:
    text, event = write_json(definition).decode(), definition["event"]
    return _dormant(AutomationRow(1, 1, "acme", True, event, None, None, text, 0, None, frozenset[str](), False))
