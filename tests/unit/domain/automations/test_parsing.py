"""Definitions of automations: everything that is accepted, everything that is refused, and the way back to JSON."""

from __future__ import annotations

import datetime as dt
import json
from datetime import timedelta
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared.domain.automations.model import (
    Automation,
    Cooldown,
    CooldownUnit,
    Grants,
    NoOpAction,
    Scope,
    SlackAction,
    WebhookAction,
)
from shared.domain.automations.parsing import (
    DEFAULT_DEAD_LETTER_COOLDOWN,
    DEFAULT_RUN_COOLDOWN,
    MAX_FAULTS,
    MEMBERS,
    parse_automation,
)
from shared.domain.durations import Rate
from shared.domain.errors import InvalidDefinition
from shared.domain.events.types import (
    ARTIFACT_TYPES,
    COLLECTION_TAG_TYPES,
    NOTICE_TYPES,
    RUN_TYPES,
    EventType,
    RunPhase,
)
from shared.domain.payloads.slack_messages import Severity

Raw = dict[str, Any]
Loc = tuple[str | int, ...]

HOOK = Grants(frozenset({"DEPLOY_TOKEN"}), has_access_token=True)
HOOKS = {"deploy-hook": HOOK, "wh_1": HOOK, "bare": Grants()}
CONDITION: Raw = {"metric": "val_accuracy", "op": "$gt", "threshold": 0.95}
ALIAS: Raw = {"name": "n", "event": "ADD_ARTIFACT_ALIAS", "action": {"no_op": True}}
METRIC: Raw = {"name": "n", "event": "RUN_METRIC", "action": {"no_op": True}, "conditions": [CONDITION]}
STATE: Raw = {"name": "n", "event": "RUN_STATE", "action": {"no_op": True}, "states": ["failed"]}
MINIMAL = {
    event_type: {EventType.RUN_METRIC: METRIC, EventType.RUN_STATE: STATE}.get(event_type, ALIAS)
    | {"event": event_type}
    for event_type in EventType
}
CONTRACT = """
- name: production-deployment-trigger
  description: Trigger the deployment pipeline when a model is promoted
  enabled: true
  scope: {project: wandb-registry-model, collection: llm-models}
  event: ADD_ARTIFACT_ALIAS
  filter: {alias: {$regex: "^prod(uction)?$"}}
  action:
    webhook: deploy-hook
    payload: {event_type: DEPLOY_MODEL, client_payload:
      {version: "${artifact_version_string}", by: "${event_author}", token: "${DEPLOY_TOKEN}"}}
- name: overfits
  event: RUN_METRIC
  filter: {display_name: {$contains: llm}}
  conditions:
    - {metric: val_accuracy, aggregate: AVERAGE, window: 5, op: $gt, threshold: 0.95}
    - {metric: val_loss, change: {type: RELATIVE, direction: DECREASE, amount: 0.2}, aggregate: AVERAGE, window: 5,
       prior_window: 5}
    - {metric: grad_norm, zscore: {direction: ANY, threshold: 3}, window: 30}
  action: {webhook: wh_1}
- name: broken
  event: RUN_STATE
  states: [failed, crashed]
  cooldown: {per: run, period: 24h}
  rate_limit: 60/min
  action: {no_op: true}
"""


def parse(raw: object) -> Automation:
    return parse_automation(raw, HOOKS.get, {"alerts", "slk_1"}.__contains__)


def faults(raw: object) -> list[tuple[Loc, str]]:
    with pytest.raises(InvalidDefinition) as caught:
        parse(raw)
    return [(error.loc, error.msg) for error in caught.value.errors]


def test_the_examples_of_the_contract() -> None:
    promoted, overfits, broken = map(parse, yaml.safe_load(CONTRACT))
    assert promoted.name == "production-deployment-trigger"
    assert promoted.scope == Scope("wandb-registry-model", "llm-models")
    assert promoted.filter.to_json() == {"alias": {"$regex": "^prod(uction)?$"}}
    assert promoted.cooldown is None
    assert promoted.template is not None
    assert promoted.template.variables == {"artifact_version_string", "event_author"}
    assert promoted.template.secrets == {"DEPLOY_TOKEN"}
    assert len(overfits.conditions) == 3
    assert overfits.action == WebhookAction("wh_1")
    assert (overfits.template, overfits.cooldown) == (None, DEFAULT_RUN_COOLDOWN)
    assert broken.states == {RunPhase.FAILED, RunPhase.CRASHED}
    assert broken.rate_limit == Rate(60, timedelta(minutes=1))
    assert broken.action == NoOpAction()


@pytest.mark.parametrize("event_type", EventType)
def test_the_least_that_is_needed(event_type: EventType) -> None:
    automation = parse(MINIMAL[event_type])
    assert automation.event is event_type
    assert (automation.scope, automation.description, automation.enabled) == (Scope(), None, True)
    assert automation.filter.matches_everything
    assert automation.rate_limit is None
    of_runs = dict.fromkeys(RUN_TYPES, DEFAULT_RUN_COOLDOWN)
    cooldowns = {**of_runs, EventType.RUN_ALERT: None, EventType.DEAD_LETTER: DEFAULT_DEAD_LETTER_COOLDOWN}
    assert automation.cooldown == cooldowns.get(event_type)
    assert parse(automation.to_json()) == automation


@pytest.mark.parametrize("event_type", sorted(NOTICE_TYPES))
def test_notices_are_watched_in_the_whole_entity(event_type: EventType) -> None:
    raw = ALIAS | {"event": event_type, "scope": {"project": "p"}, "cooldown": {"per": "run", "period": "1h"}}
    with pytest.raises(InvalidDefinition) as refused:
        parse(raw)
    assert [(error.loc, error.msg) for error in refused.value.errors] == [
        (("scope", "project"), f"{event_type} events are in no project: leave it out"),
        (("cooldown", "per"), f"must be {_units(event_type)}: {event_type} events have no run"),
    ]
    for unit in _units(event_type).split(" or "):
        assert parse(raw | {"scope": {}, "cooldown": {"per": unit, "period": "1h"}}).cooldown is not None


def _units(event_type: EventType) -> str:
    return "automation" if event_type is EventType.AUTOMATION_UNMATCHED else "webhook or automation"


@pytest.mark.parametrize(
    ("raw", "member", "value"),
    [
        (ALIAS | {"name": "x" * 255}, "name", "x" * 255),
        (ALIAS | {"name": " größe / 模型 "}, "name", " größe / 模型 "),
        (ALIAS | {"description": None}, "description", None),
        (ALIAS | {"description": "two\nlines"}, "description", "two\nlines"),
        (ALIAS | {"description": "x" * 4000}, "description", "x" * 4000),
        (ALIAS | {"enabled": False}, "enabled", False),
        (ALIAS | {"scope": None}, "scope", Scope()),
        (ALIAS | {"scope": {}}, "scope", Scope()),
        (ALIAS | {"scope": {"project": None, "collection": None}}, "scope", Scope()),
        (ALIAS | {"scope": {"project": "p"}}, "scope", Scope("p")),
        (ALIAS | {"scope": {"project": "p", "collection": "c" * 512}}, "scope", Scope("p", "c" * 512)),
        (STATE | {"scope": {"project": "p", "collection": None}}, "scope", Scope("p")),
        (ALIAS | {"conditions": None, "states": None}, "conditions", ()),
        (ALIAS | {"conditions": [], "states": []}, "states", frozenset()),
        (STATE | {"states": ["failed", "failed"]}, "states", {RunPhase.FAILED}),
        (STATE | {"states": list(RunPhase), "silent_for": "1m"}, "states", set(RunPhase)),
        (STATE | {"states": ["silent"], "silent_for": 90}, "silent_for", timedelta(seconds=90)),
        (STATE | {"cooldown": None}, "cooldown", None),
        (
            STATE | {"cooldown": {"per": "automation", "period": 90}},
            "cooldown",
            Cooldown(CooldownUnit.AUTOMATION, timedelta(seconds=90)),
        ),
        (
            ALIAS | {"cooldown": {"per": "collection", "period": "1.0004s"}},
            "cooldown",
            Cooldown(CooldownUnit.COLLECTION, timedelta(seconds=1)),
        ),
        (ALIAS | {"cooldown": None}, "cooldown", None),
        (ALIAS | {"rate_limit": None}, "rate_limit", None),
        (ALIAS | {"rate_limit": "5 / hour"}, "rate_limit", Rate(5, timedelta(hours=1))),
        (ALIAS | {"action": {"webhook": "bare"}}, "action", WebhookAction("bare")),
        (ALIAS | {"action": {"webhook": "bare", "payload": None}}, "action", WebhookAction("bare")),
        (ALIAS | {"action": {"webhook": "bare", "payload": {}}}, "action", WebhookAction("bare", {})),
        (ALIAS | {"action": {"slack": "alerts"}}, "action", SlackAction("alerts")),
        (
            ALIAS | {"action": {"slack": "slk_1", "title": "T", "message": "${alias}", "severity": "WARN"}},
            "action",
            SlackAction("slk_1", "T", "${alias}", Severity.WARN),
        ),
    ],
)
def test_what_is_accepted(raw: Raw, member: str, value: object) -> None:
    automation = parse(raw)
    assert getattr(automation, member) == value
    assert parse(json.loads(json.dumps(automation.to_json()))) == automation


EVENTS = f"must be one of {', '.join(EventType)}"
PHASES = f"must be one of {', '.join(RunPhase)}"
STATES = f"is required with RUN_STATE: a list of {', '.join(RunPhase)}"
SILENCE = "a duration from 1m to 30d"
NAME = (
    "is required: 1 to 255 characters, not only spaces, without control characters; "
    "no other automation of the entity may have it"
)
SCOPE = "must be an object with project and collection, or empty for the whole entity"
SCOPE_NAME = "must be a name of 1 to 512 characters, without control characters, or left out"
ACTION = "must be {webhook: <name>, payload: …}, {slack: <name>, title: …, message: …} or {no_op: true}"
WEBHOOK = "must be the name or id of a webhook of this entity"
SLACK = "must be the name or id of a Slack integration of this entity"
SEVERITY = "must be one of INFO, WARN, ERROR"
DURATION = "must be a duration such as 30s, 15m, 24h or 5d"
RATE = "must be a rate such as 10/s, 60/min, 5/h or 100/d, with a count from 1 to 1000"
UNKNOWN = f"is not known here; accepted: {', '.join(MEMBERS)}"
NEEDED = "is required with RUN_METRIC: at least one statement about a metric"
FLAG = "must be true or false"
DESCRIPTION = "must be text of at most 4000 characters"
TEXT = "must not hold U+0000 or lone surrogates"
HOUR = "1h"


@pytest.mark.parametrize(
    ("raw", "loc", "message"),
    [
        (ALIAS | {"name": None}, ("name",), NAME),
        (ALIAS | {"name": ""}, ("name",), NAME),
        (ALIAS | {"name": "  "}, ("name",), NAME),
        (ALIAS | {"name": "x" * 256}, ("name",), NAME),
        (ALIAS | {"name": "two\nlines"}, ("name",), NAME),
        (ALIAS | {"name": 5}, ("name",), NAME),
        (ALIAS | {"name": ["n"]}, ("name",), NAME),
        (ALIAS | {"name": "a\0b"}, ("name",), TEXT),
        (ALIAS | {"description": 5}, ("description",), DESCRIPTION),
        (ALIAS | {"description": "x" * 4001}, ("description",), DESCRIPTION),
        (ALIAS | {"description": dt.date(2026, 11, 23)}, ("description",), DESCRIPTION),
        (ALIAS | {"description": "\ud800"}, ("description",), TEXT),
        (ALIAS | {"enabled": None}, ("enabled",), FLAG),
        (ALIAS | {"enabled": 1}, ("enabled",), FLAG),
        (ALIAS | {"enabled": "true"}, ("enabled",), FLAG),
        (ALIAS | {"event": None}, ("event",), EVENTS),
        (ALIAS | {"event": "add_artifact_alias"}, ("event",), EVENTS),
        (ALIAS | {"event": ["RUN_STATE"]}, ("event",), EVENTS),
        (ALIAS | {"event": {}}, ("event",), EVENTS),
        (ALIAS | {"owner": "me"}, ("owner",), UNKNOWN),
        (ALIAS | {"": "me"}, ("",), UNKNOWN),
        (ALIAS | {"scope": 0}, ("scope",), SCOPE),
        (ALIAS | {"scope": ""}, ("scope",), SCOPE),
        (ALIAS | {"scope": []}, ("scope",), SCOPE),
        (ALIAS | {"scope": False}, ("scope",), SCOPE),
        (ALIAS | {"scope": "wandb-registry-model"}, ("scope",), SCOPE),
        (ALIAS | {"scope": {"project": ""}}, ("scope", "project"), SCOPE_NAME),
        (ALIAS | {"scope": {"project": 5}}, ("scope", "project"), SCOPE_NAME),
        (ALIAS | {"scope": {"project": "a\tb"}}, ("scope", "project"), SCOPE_NAME),
        (ALIAS | {"scope": {"project": "x" * 513}}, ("scope", "project"), SCOPE_NAME),
        (ALIAS | {"scope": {"project": "p", "collection": ["c"]}}, ("scope", "collection"), SCOPE_NAME),
        (
            ALIAS | {"scope": {"collection": "c"}},
            ("scope", "project"),
            "is required with a collection: the project or registry it is in",
        ),
        (
            ALIAS | {"scope": {"registry": "r"}},
            ("scope", "registry"),
            "is not known here; accepted: project, collection",
        ),
        (
            STATE | {"scope": {"project": "p", "collection": "c"}},
            ("scope", "collection"),
            "RUN_STATE events happen in a project, not in a collection",
        ),
        (ALIAS | {"filter": []}, ("filter",), 'must be an object such as {"alias": {"$regex": "^prod"}}'),
        (
            ALIAS | {"filter": {"$or": [{"alias": {"$regex": "("}}]}},
            ("filter", "$or", 0, "alias", "$regex"),
            "must be a valid RE2 pattern: missing ): (",
        ),
        (
            STATE | {"filter": {"alias": "prod"}},
            ("filter", "alias"),
            "RUN_STATE events have no field 'alias'; accepted: author, display_name, project, run.<key>, config.<key>",
        ),
        (METRIC | {"conditions": None}, ("conditions",), NEEDED),
        (METRIC | {"conditions": []}, ("conditions",), NEEDED),
        (METRIC | {"conditions": {}}, ("conditions",), "expected a list of 1 to 20 conditions"),
        (METRIC | {"conditions": 0}, ("conditions",), "expected a list of 1 to 20 conditions"),
        (METRIC | {"conditions": [CONDITION] * 21}, ("conditions",), "expected a list of 1 to 20 conditions"),
        (
            METRIC | {"conditions": [CONDITION, CONDITION | {"window": 0}]},
            ("conditions", 1, "window"),
            "expected a whole number from 1 to 1000",
        ),
        (ALIAS | {"conditions": [CONDITION]}, ("conditions",), "is only for RUN_METRIC automations"),
        (STATE | {"conditions": False}, ("conditions",), "is only for RUN_METRIC automations"),
        (STATE | {"states": None}, ("states",), STATES),
        (STATE | {"states": []}, ("states",), STATES),
        (STATE | {"states": "failed"}, ("states",), STATES),
        (STATE | {"states": {"failed": True}}, ("states",), STATES),
        (STATE | {"states": ["failed", "FAILED"]}, ("states", 1), PHASES),
        (STATE | {"states": [["failed"]]}, ("states", 0), PHASES),
        (METRIC | {"states": ["failed"]}, ("states",), "is only for RUN_STATE automations"),
        (ALIAS | {"states": ""}, ("states",), "is only for RUN_STATE automations"),
        (STATE | {"cooldown": "24h"}, ("cooldown",), "must be an object with per and period, or null for none"),
        (STATE | {"cooldown": False}, ("cooldown",), "must be an object with per and period, or null for none"),
        (STATE | {"cooldown": {"per": "run"}}, ("cooldown", "period"), DURATION),
        (STATE | {"cooldown": {"per": "run", "period": None}}, ("cooldown", "period"), DURATION),
        (STATE | {"cooldown": {"per": "run", "period": "soon"}}, ("cooldown", "period"), DURATION),
        (
            STATE | {"cooldown": {"per": "run", "period": "11w521w"}},
            ("cooldown", "period"),
            f"{DURATION}, and no longer than ten years",
        ),
        (
            STATE | {"cooldown": {"period": HOUR}},
            ("cooldown", "per"),
            "must be one of run, collection, webhook, automation",
        ),
        (
            STATE | {"cooldown": {"per": "collection", "period": HOUR}},
            ("cooldown", "per"),
            "must be run or automation: RUN_STATE events have no collection",
        ),
        (
            ALIAS | {"cooldown": {"per": "run", "period": HOUR}},
            ("cooldown", "per"),
            "must be collection or automation: ADD_ARTIFACT_ALIAS events have no run",
        ),
        (
            STATE | {"cooldown": {"per": "run", "period": HOUR, "jitter": 1}},
            ("cooldown", "jitter"),
            "is not known here; accepted: per, period",
        ),
        (ALIAS | {"rate_limit": ""}, ("rate_limit",), RATE),
        (ALIAS | {"rate_limit": 60}, ("rate_limit",), RATE),
        (ALIAS | {"rate_limit": "0/s"}, ("rate_limit",), RATE),
        (ALIAS | {"action": None}, ("action",), ACTION),
        (ALIAS | {"action": {}}, ("action",), ACTION),
        (ALIAS | {"action": "no_op"}, ("action",), ACTION),
        (ALIAS | {"action": {"payload": {}}}, ("action",), ACTION),
        (ALIAS | {"action": {"no_op": True, "webhook": "bare"}}, ("action",), ACTION),
        (ALIAS | {"action": {"no_op": False}}, ("action", "no_op"), "must be true"),
        (ALIAS | {"action": {"no_op": 1}}, ("action", "no_op"), "must be true"),
        (
            ALIAS | {"action": {"no_op": True, "payload": {}}},
            ("action", "payload"),
            "is not known here; accepted: no_op",
        ),
        (ALIAS | {"action": {"no_op": True, "slack": "alerts"}}, ("action",), ACTION),
        (ALIAS | {"action": {"slack": "unknown"}}, ("action", "slack"), SLACK),
        (ALIAS | {"action": {"slack": None}}, ("action", "slack"), SLACK),
        (ALIAS | {"action": {"slack": "alerts", "severity": "warn"}}, ("action", "severity"), SEVERITY),
        (ALIAS | {"action": {"slack": "alerts", "title": ["T"]}}, ("action", "title"), "must be text"),
        (
            ALIAS | {"action": {"slack": "alerts", "payload": {}}},
            ("action", "payload"),
            "is not known here; accepted: slack, title, message, severity",
        ),
        (ALIAS | {"action": {"webhook": "unknown"}}, ("action", "webhook"), WEBHOOK),
        (ALIAS | {"action": {"webhook": None}}, ("action", "webhook"), WEBHOOK),
        (ALIAS | {"action": {"webhook": ["bare"]}}, ("action", "webhook"), WEBHOOK),
        (
            ALIAS | {"action": {"webhook": "bare", "channel": "#ml"}},
            ("action", "channel"),
            "is not known here; accepted: webhook, payload, payload_types, content_type",
        ),
        (
            ALIAS | {"action": {"webhook": "bare", "payload": [], "content_type": "text/plain"}},
            ("action", "payload"),
            "must be text with the content type text/plain",
        ),
        (
            ALIAS | {"action": {"webhook": "bare", "content_type": "text/plain"}},
            ("action", "payload"),
            "is required with the content type text/plain: the text to send",
        ),
        (
            ALIAS | {"action": {"webhook": "bare", "content_type": "text/html"}},
            ("action", "content_type"),
            "must be application/json, application/<name>+json, application/x-www-form-urlencoded or text/plain; "
            "bodies are UTF-8, so it takes no parameters",
        ),
        (
            ALIAS | {"action": {"webhook": "bare", "payload_types": "typed"}},
            ("action", "payload_types"),
            "must be one of json, text",
        ),
        (
            ALIAS | {"action": {"webhook": "bare", "payload": {"at": dt.date(2026, 11, 23)}}},
            ("action", "payload", "at"),
            "must be an object, an array, a string, a number, true, false or null",
        ),
    ],
)
def test_what_is_refused(raw: Raw, loc: Loc, message: str) -> None:
    assert faults(raw) == [(loc, message)]


@pytest.mark.parametrize("secret", ["DEPLOY_TOKEN", "ACCESS_TOKEN"])
def test_a_secret_must_be_granted_to_the_webhook_that_is_named(secret: str) -> None:
    payload = {"deep": [{"token": f"${{{secret}}}"}]}
    assert parse(ALIAS | {"action": {"webhook": "deploy-hook", "payload": payload}}).template
    ((loc, message),) = faults(ALIAS | {"action": {"webhook": "bare", "payload": payload}})
    assert loc == ("action", "payload", "deep", 0, "token")
    assert message.startswith(f"${{{secret}}} is not available; available: ${{project_name}}, ")


@pytest.mark.parametrize("secret", ["ghp_16C7e42F292c6912E7710c838347Ae178B4a", "whsec_MDEy", "Xk9-prod", "a1b2c3d4"])
def test_what_may_be_a_secret_itself_is_not_repeated(secret: str) -> None:
    action = {"webhook": "deploy-hook", "payload": {"token": f"key ${{{secret}}}"}}
    ((_, message),) = faults(ALIAS | {"action": action})
    assert secret not in message


@pytest.mark.parametrize("raw", [None, [], "name: n", 5, True, [ALIAS], object()])
def test_a_definition_is_an_object(raw: object) -> None:
    assert faults(raw) == [((), f"must be an object with the members {', '.join(MEMBERS)}")]


def test_every_fault_is_named_at_once() -> None:
    raw = {
        "surplus": 1,
        "event": "RUN_METRIC",
        "name": "",
        "scope": {"project": "", "collection": 5, "more": 1},
        "action": {"webhook": "bare", "payload": {"a": "${NOPE}", "b": "${", "c": {1, 2}}, "more": 1},
        "description": 5,
        "enabled": "yes",
        "rate_limit": "often",
        "filter": {"alias": "x", "$xor": []},
        "conditions": [{"metric": ""}, {"metric": "m", "zscore": {"threshold": 0}, "window": 1}],
        "states": ["failed"],
        "cooldown": {"per": "day", "period": "long", "more": 1},
    }
    assert [loc for loc, _ in faults(raw)] == [
        ("surplus",),
        ("name",),
        ("scope", "more"),
        ("scope", "project"),
        ("scope", "collection"),
        ("action", "more"),
        ("action", "payload", "a"),
        ("action", "payload", "b"),
        ("action", "payload", "c"),
        ("filter", "alias"),
        ("filter", "$xor"),
        ("conditions", 0),
        ("conditions", 1, "zscore", "threshold"),
        ("conditions", 1, "window"),
        ("states",),
        ("cooldown", "more"),
        ("cooldown", "per"),
        ("cooldown", "period"),
        ("description",),
        ("enabled",),
        ("rate_limit",),
    ]


def test_faults_are_bounded() -> None:
    assert len(faults(ALIAS | {f"x{number}": 1 for number in range(5000)})) == MAX_FAULTS
    assert len(faults(STATE | {"states": ["x"] * 5000})) == MAX_FAULTS


def nested(levels: int) -> object:
    value: object = "bottom"
    for _ in range(levels):
        value = [value]
    return value


def endless() -> Raw:
    value: Raw = {}
    value["self"] = value
    return value


def unfolding() -> object:
    """What a YAML document of a few lines unfolds into with anchors: 2 to the power of 60 values."""
    value: object = [1, 1]
    for _ in range(60):
        value = [value, value]
    return value


KEYS = "names must be text, put it in quotes"
TOO_DEEP = "must not nest deeper than 100 levels"
HOSTILE: dict[str, object] = {
    "a number as a name": {1: "x"},
    "null as a name": {None: "x"},
    "a list as a name": {("a", "b"): "x"},
    "a huge number as a name": {10**5000: "x"},
    "deep": nested(300),
    "very deep": nested(50_000),
    "endless": endless(),
    "a huge number": 10**5000,
    "a number too large": 10**4000,
    "a number too small": -(10**4000),
    "infinite": float("inf"),
    "no number": float("nan"),
    "lone surrogate": "\udfff",
    "a lone surrogate as a name": {"\ud800": 1},
    "null character": {"a": ["\0"]},
    "long": "x" * 2_000_000,
    "a date": dt.date(2026, 11, 23),
    "bytes": b"\xff",
    "a set": {"a"},
    "an object": object(),
}


@pytest.mark.parametrize("member", [*MEMBERS, "surplus"])
@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_values_are_refused_and_nothing_else_is_raised(member: str, kind: str) -> None:
    for minimal in (ALIAS, METRIC, STATE):
        assert faults(minimal | {member: HOSTILE[kind]})


@pytest.mark.parametrize("huge", [unfolding(), ["x"] * 200_000], ids=["unfolding", "wide"])
def test_what_has_too_many_values_is_refused_as_a_whole(huge: object) -> None:
    assert faults(STATE | {"filter": huge, "states": 5}) == [((), "must have at most 150,000 values")]


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_values_deep_inside_are_refused_too(kind: str) -> None:
    hostile = HOSTILE[kind]
    for raw in (
        METRIC | {"conditions": [CONDITION | {"threshold": hostile}]},
        METRIC | {"conditions": [{"metric": hostile, "op": "$gt", "threshold": 1}]},
        METRIC | {"conditions": [CONDITION | {"op": hostile}]},
        STATE | {"states": [hostile]},
        STATE | {"cooldown": {"per": hostile, "period": HOUR}},
        STATE | {"cooldown": {"per": "run", "period": hostile}},
        ALIAS | {"scope": {"project": hostile}},
        ALIAS | {"action": {"webhook": hostile}},
        ALIAS | {"action": {"no_op": hostile}},
        ALIAS | {"filter": {"alias": {"$regex": hostile}}},
    ):
        assert faults(raw)
    assert faults({hostile if isinstance(hostile, bytes | int) else "x": 1})


@pytest.mark.parametrize(
    ("payload", "loc", "message"),
    [
        ({"a": {1: "x"}}, ("action", "payload", "a"), f"has a member name of type int: {KEYS}"),
        ({"a": "\0"}, ("action", "payload", "a"), TEXT),
        ({"a": ["\ud800"]}, ("action", "payload", "a", 0), TEXT),
        ({"a\0": 1}, ("action", "payload"), "has a member name with U+0000 or a lone surrogate"),
        ({"a": 10**4000}, ("action", "payload", "a"), "must be a whole number of at most 4000 digits, or a fraction"),
        ({"a": nested(98)}, ("action", "payload", "a", *[0] * 97), TOO_DEEP),
        ({"a": unfolding()}, (), "must have at most 150,000 values"),
    ],
)
def test_what_no_database_could_keep_is_refused_at_its_place(payload: Raw, loc: Loc, message: str) -> None:
    assert (loc, message) in faults(ALIAS | {"action": {"webhook": "bare", "payload": payload}})


def test_webhooks_are_looked_up_by_text_that_a_database_takes_and_only_once() -> None:
    asked: list[str] = []

    def find(name: str) -> Grants | None:
        asked.append(name)
        return Grants()

    parse_automation(ALIAS | {"action": {"webhook": "hook"}}, find)
    for bad in ("a\0b", "\ud800", 5, None):
        with pytest.raises(InvalidDefinition):
            parse_automation(ALIAS | {"action": {"webhook": bad}}, find)
    assert asked == ["hook"]


names = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=8).filter(str.strip)
texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=8)
scalars = (
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False)
)
payloads = st.dictionaries(
    texts.filter(lambda text: "$" not in text),
    st.recursive(
        scalars | texts.map(lambda text: text.replace("$", "$$")) | st.just("${alias} $$ ${DEPLOY_TOKEN}"),
        lambda inner: (
            st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "${tag}"]), inner, max_size=2)
        ),
        max_leaves=5,
    ),
    max_size=3,
)
actions = st.one_of(
    st.just({"no_op": True}),
    st.fixed_dictionaries({"webhook": st.sampled_from(["deploy-hook", "wh_1"])}, optional={"payload": payloads}),
    st.fixed_dictionaries(
        {"slack": st.sampled_from(["alerts", "slk_1"])},
        optional={
            "title": st.none() | texts.map(lambda text: text.replace("$", "$$")),
            "message": st.sampled_from(["${alias}: $tag", None, "<b>"]),
            "severity": st.sampled_from(["INFO", "WARN", "ERROR", None]),
        },
    ),
)
periods = st.integers(0, 10**9).map(lambda ms: ms / 1000) | st.sampled_from(["1.5h", "0s", "1w2d", "0.0004s", "3ms"])
rates = st.builds("{}/{}".format, st.integers(1, 1000), st.sampled_from(["s", "minute", "hour", "d"]))
numbers = st.floats(allow_nan=False, allow_infinity=False)
positive = st.floats(min_value=1e-9, max_value=1e9)
aggregates = {"aggregate": st.sampled_from(["MAX", "min", "Average", None]), "window": st.integers(1, 1000)}
conditions = st.one_of(
    st.fixed_dictionaries(
        {"metric": names, "op": st.sampled_from(["$gt", "$ne"]), "threshold": numbers}, optional=aggregates
    ),
    st.fixed_dictionaries(
        {
            "metric": names,
            "change": st.fixed_dictionaries({"amount": positive}, optional={"type": st.just("ABSOLUTE")}),
        },
        optional={**aggregates, "prior_window": st.integers(1, 1000)},
    ),
    st.fixed_dictionaries(
        {"metric": names, "zscore": st.fixed_dictionaries({}, optional={"threshold": positive})},
        optional={"window": st.integers(2, 1000)},
    ),
)
comparisons = st.one_of(
    st.fixed_dictionaries({"author": texts | numbers | st.lists(texts, max_size=3)}),
    st.fixed_dictionaries({"project": st.fixed_dictionaries({"$in": st.lists(texts, max_size=3)})}),
    st.just({"author": {"$not": {"$regex": "^a+$"}}, "project": {"$exists": True}}),
)
notice_comparisons = st.fixed_dictionaries({"webhook": texts | st.fixed_dictionaries({"$in": st.lists(texts)})})


def expressions(leaves: st.SearchStrategy[Raw]) -> st.SearchStrategy[Raw]:
    return st.recursive(
        leaves | st.just({}),
        lambda inner: st.one_of(
            st.fixed_dictionaries({"$and": st.lists(inner, max_size=3)}),
            st.fixed_dictionaries({"$nor": st.lists(inner, min_size=1, max_size=3)}),
            st.fixed_dictionaries({"$not": inner}),
        ),
        max_leaves=5,
    )


@st.composite
def definitions(draw: st.DrawFn) -> Raw:
    event_type = draw(st.sampled_from(EventType))
    own = dict.fromkeys(RUN_TYPES, "run") | dict.fromkeys(NOTICE_TYPES, "webhook")
    own[EventType.AUTOMATION_UNMATCHED] = "automation"
    units = ["automation", own.get(event_type, "collection")]
    scopes: list[st.SearchStrategy[Any]] = [st.none(), st.just({})]
    if event_type not in NOTICE_TYPES:
        scopes.append(st.fixed_dictionaries({"project": names}))
    if event_type in ARTIFACT_TYPES | COLLECTION_TAG_TYPES:
        scopes.append(st.fixed_dictionaries({"project": names, "collection": st.one_of(names, st.none())}))
    needed: dict[str, st.SearchStrategy[Any]] = {"name": names, "event": st.just(str(event_type)), "action": actions}
    if event_type is EventType.RUN_METRIC:
        needed["conditions"] = st.lists(conditions, min_size=1, max_size=3)
    if event_type is EventType.RUN_STATE:
        phases = [str(phase) for phase in RunPhase if phase is not RunPhase.SILENT]
        needed["states"] = st.lists(st.sampled_from(phases), min_size=1)
        if draw(st.booleans()):
            needed["states"] = st.just(["silent", "failed"])
            needed["silent_for"] = st.sampled_from(["1m", "90s", "30d", 3600])
    cooldowns = st.fixed_dictionaries({"per": st.sampled_from(units), "period": periods})
    comparing: st.SearchStrategy[Raw] = notice_comparisons if event_type in NOTICE_TYPES else comparisons
    if event_type is EventType.AUTOMATION_UNMATCHED:
        comparing = st.just({"automation": "deploy"})
    optional = {
        "description": st.none() | texts,
        "enabled": st.booleans(),
        "scope": st.one_of(*scopes),
        "filter": expressions(comparing) | st.none(),
        "cooldown": st.none() | cooldowns,
        "rate_limit": st.none() | rates,
    }
    return draw(st.fixed_dictionaries(needed, optional=optional))


@settings(max_examples=120, suppress_health_check=[HealthCheck.too_slow])
@given(definitions())
def test_what_is_written_is_read_back_as_the_same_automation(raw: Raw) -> None:
    automation = parse(raw)
    written = json.loads(json.dumps(automation.to_json()))
    assert parse(written) == automation
    assert parse(written).to_json() == written
    assert set(written) <= set(MEMBERS)


@settings(max_examples=100, suppress_health_check=[HealthCheck.too_slow])
@given(definitions(), st.data())
def test_garbage_anywhere_is_refused_or_means_something(raw: Raw, data: st.DataObject) -> None:
    garbage = data.draw(
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4) | st.binary(max_size=2),
            lambda inner: (
                st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3) | st.integers(), inner, max_size=2)
            ),
            max_leaves=4,
        )
    )
    member = data.draw(st.sampled_from(sorted(raw)))
    target, key = raw, member
    if isinstance(raw[member], dict) and raw[member] and data.draw(st.booleans()):
        target, key = raw[member], data.draw(st.sampled_from(sorted(raw[member])))
    target[key] = garbage
    try:
        automation = parse(raw)
    except InvalidDefinition as refusal:
        assert refusal.errors
        assert all(error.msg for error in refusal.errors)
    else:
        assert parse(automation.to_json()) == automation


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"states": ["silent"]}, f"is required with the state silent: {SILENCE}"),
        ({"states": ["silent"], "silent_for": "59s"}, f"must be {SILENCE}"),
        ({"states": ["silent"], "silent_for": "31d"}, f"must be {SILENCE}"),
        ({"states": ["silent"], "silent_for": "soon"}, "must be a duration such as 30s, 15m, 24h or 5d"),
        ({"states": ["failed"], "silent_for": "5m"}, "is only for the state silent"),
    ],
)
def test_how_long_a_silence_lasts(members: dict[str, Any], message: str) -> None:
    assert faults(STATE | members) == [(("silent_for",), message)]
    assert faults(ALIAS | {"silent_for": "5m"}) == [(("silent_for",), "is only for the state silent")]
