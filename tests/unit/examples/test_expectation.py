"""The expectation: what is held back, what a payload becomes, and that the demo's manifest is robust and accepted."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from examples.demo import Plan, make_plan
from examples.expectation import Firing, expected_firings, render
from shared.domain.automations.model import Grants
from shared.domain.automations.parsing import parse_automation
from shared.domain.events.types import PUBLISHED_TYPES

SECRETS = {"TOKEN": "t0k", "KEY": "k3y"}
WEBHOOK = {"name": "hook", "access_token": "TOKEN", "secrets": ["KEY"]}


@pytest.fixture(scope="module")
def plan() -> Plan:
    return make_plan()


def tagging(number: int, collection: str = "c") -> dict[str, Any]:
    data = {
        "entity": "acme",
        "project": "p",
        "author": "mira",
        "tag": "x",
        "collection": {"name": collection, "type": "model"},
        "artifact": {"id": str(number), "version": f"v{number}", "aliases": [], "tags": [], "metadata": {"acc": 0.5}},
    }
    time = "2026-01-01T00:00:00Z"
    return {"source": "s", "id": f"{collection}{number}", "type": "ADD_ARTIFACT_TAG", "time": time, "data": data}


def expect(events: list[dict[str, Any]], payload: dict[str, Any] | None = None, **members: Any) -> list[Firing]:
    action = {"webhook": "hook", "payload": payload or {}}
    automation = {"name": "a", "event": "ADD_ARTIFACT_TAG", "action": action} | members
    return expected_firings({"webhooks": [WEBHOOK], "automations": [automation]}, events, SECRETS)


def outcomes(firings: list[Firing]) -> list[tuple[str, str]]:
    return [(firing.event_id, firing.reason or firing.status) for firing in firings]


def test_a_cooldown_holds_back_within_one_collection() -> None:
    events = [tagging(1), tagging(2), tagging(1, "d"), tagging(3)]
    cooldown = {"per": "collection", "period": "24h"}
    assert outcomes(expect(events, cooldown=cooldown)) == [
        ("c1", "delivered"),
        ("c2", "cooldown"),
        ("d1", "delivered"),
        ("c3", "cooldown"),
    ]


def test_a_rate_limit_holds_back_beyond_its_count() -> None:
    firings = expect([tagging(1), tagging(2), tagging(3)], rate_limit="2/h")
    assert outcomes(firings) == [("c1", "delivered"), ("c2", "delivered"), ("c3", "rate_limit")]


def test_a_run_event_has_a_cooldown_by_default() -> None:
    run = {"id": "r", "name": "n", "config": {}}
    data = {"entity": "acme", "project": "p", "author": "mira", "run": run, "state": "failed"}
    events = [
        {"source": "s", "id": name, "type": "RUN_STATE", "time": "t", "data": data | {"run": run | {"id": name[0]}}}
        for name in ("r1", "r2", "s1")
    ]
    assert outcomes(expect(events, event="RUN_STATE", states=["failed"])) == [
        ("r1", "delivered"),
        ("r2", "cooldown"),
        ("s1", "delivered"),
    ]


def test_a_repeated_event_counts_once() -> None:
    assert outcomes(expect([tagging(1), tagging(1)], rate_limit="1/h")) == [("c1", "delivered")]


def test_a_period_that_the_demo_could_outlast_is_refused() -> None:
    with pytest.raises(ValueError, match="hours or days"):
        expect([tagging(1)], cooldown={"per": "collection", "period": "5s"})
    with pytest.raises(ValueError, match="per hour or day"):
        expect([tagging(1)], rate_limit="2/min")


def test_the_body_has_every_variable_filled_in() -> None:
    payload = {
        "$tag": ["${artifact_version_string}", "${artifact_version}", 1, None],
        "m": "${artifact_metadata.acc} $$ ${KEY} ${ACCESS_TOKEN} $event_author.",
    }
    (firing,) = expect([tagging(7)], payload)
    assert firing.body == {"x": ["acme/p/c:v7", "wandb-artifact://_id/7", 1, None], "m": "0.5 $ k3y t0k mira."}


@pytest.mark.parametrize(("types", "value"), [({}, 0.5), ({"payload_types": "text"}, "0.5")])
def test_what_is_one_variable_has_the_type_that_the_automation_asks_for(types: dict[str, str], value: object) -> None:
    action = {"webhook": "hook", "payload": {"m": "${artifact_metadata.acc}"}, **types}
    assert expect([tagging(7)], action=action)[0].body == {"m": value}


def test_a_variable_without_a_value_is_an_error_here() -> None:
    with pytest.raises(KeyError):
        render({"x": "${nothing}"}, {}, typed=True)


def test_the_manifest_is_accepted_and_covers_every_type_that_is_published(plan: Plan) -> None:
    grants = {
        webhook["name"]: Grants(frozenset(webhook.get("secrets", ())), "access_token" in webhook)
        for webhook in plan.manifest["webhooks"]
    }
    parsed = [parse_automation(automation, grants.get) for automation in plan.manifest["automations"]]
    assert {automation.event for automation in parsed} == set(PUBLISHED_TYPES)
    assert {firing.reason for firing in plan.expected} == {"", "cooldown", "rate_limit"}
    silent = {automation.name for automation in parsed} - {firing.automation for firing in plan.expected}
    assert silent == {"other-project", "llm-runs-only", "switched-off"}


def test_no_firing_hangs_on_the_last_digits_of_a_bound(plan: Plan) -> None:
    """Another order of summing may differ in the last bits; the demo must not depend on it."""
    for factor in (1 - 1e-6, 1 + 1e-6):
        manifest = copy.deepcopy(plan.manifest)
        for automation in manifest["automations"]:
            for condition in automation.get("conditions", ()):
                _scale(condition, factor)
        moved = expected_firings(manifest, plan.events, plan.secrets)
        assert outcomes(moved) == outcomes(plan.expected)


def _scale(condition: dict[str, Any], factor: float) -> None:
    for part, member in ((condition, "threshold"), (condition.get("change", {}), "amount")):
        if member in part:
            part[member] *= factor
    if "threshold" in condition.get("zscore", {}):
        condition["zscore"]["threshold"] *= factor
