"""Automations that one event after another asks for stay compiled, as many as an entity may have."""

from __future__ import annotations

import orjson

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
