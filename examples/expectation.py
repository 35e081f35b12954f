"""What the demo must see: each firing of each automation on the recording, its status, and the body that is sent.

An independent answer to check the service against: it reads the manifest and the recording and works everything out
again in plain Python, without the service's code. Cooldowns and rate limits count from the moment at which the
platform's stream took an event in; the demo publishes within seconds, so each period covers the whole recording.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from examples.naive_match import Automation, Event, firings

DEFAULT_RUN_COOLDOWN = {"per": "run", "period": "24h"}
_LONG_PERIODS = re.compile(r"\d+(h|d)")
_LONG_RATE = re.compile(r"(\d+)/(h|d)")
_VARIABLE = re.compile(r"\$(?:\$|\{([^}]+)\}|([A-Za-z_][A-Za-z0-9_]*))")
_RUN_TYPES = ("RUN_METRIC", "RUN_STATE")
"""The types whose automations have a cooldown by default."""


@dataclass(frozen=True, slots=True)
class Firing:
    """One expected firing; `reason` is why it is skipped (`cooldown`, `rate_limit`), else blank; `body` is sent."""

    automation: str
    event_id: str
    webhook: str
    body: Any
    reason: str = ""

    @property
    def status(self) -> str:
        """How the delivery must end: `delivered` or `skipped`."""
        return "skipped" if self.reason else "delivered"

    @property
    def key(self) -> tuple[str, str]:
        """What identifies a firing: no automation fires twice on one event."""
        return self.automation, self.event_id


def expected_firings(manifest: Mapping[str, Any], events: Iterable[Event], secrets: Mapping[str, str]) -> list[Firing]:
    """Every firing, automation by automation, in the order of the events.

    Args:
        manifest: the decoded manifest.
        events: the recording; an event whose `source` and `id` came before counts once.
        secrets: the value of each secret that the manifest names.
    """
    unique = list({(event["source"], event["id"]): event for event in events}.values())
    webhooks = {webhook["name"]: webhook for webhook in manifest["webhooks"]}
    return [
        firing
        for automation in manifest["automations"]
        for firing in _firings(automation, unique, webhooks[automation["action"]["webhook"]], secrets)
    ]


def _firings(
    automation: Automation, events: Sequence[Event], webhook: Mapping[str, Any], secrets: Mapping[str, str]
) -> Iterable[Firing]:
    known = {name: secrets[name] for name in webhook.get("secrets", ())}
    if "access_token" in webhook:
        known["ACCESS_TOKEN"] = secrets[webhook["access_token"]]
    delivered: list[Event] = []
    for event in firings(automation, events):
        reason = _held_back(automation, event, delivered)
        values = known | variables(event, automation)
        body = render(
            automation["action"]["payload"], values, typed=automation["action"].get("payload_types") != "text"
        )
        yield Firing(automation["name"], event["id"], webhook["name"], body, reason)
        if not reason:
            delivered.append(event)


def _held_back(automation: Automation, event: Event, delivered: Sequence[Event]) -> str:
    """Why a firing is skipped after these that were delivered; blank when it is not."""
    cooldown = automation.get("cooldown", DEFAULT_RUN_COOLDOWN if automation["event"] in _RUN_TYPES else None)
    if cooldown is not None:
        if not _LONG_PERIODS.fullmatch(cooldown["period"]):
            raise ValueError(f"the demo needs a cooldown of hours or days, not {cooldown['period']!r}")
        if any(_subject(cooldown["per"], earlier) == _subject(cooldown["per"], event) for earlier in delivered):
            return "cooldown"
    if "rate_limit" in automation:
        rate = _LONG_RATE.fullmatch(automation["rate_limit"])
        if rate is None:
            raise ValueError(f"the demo needs a rate per hour or day, not {automation['rate_limit']!r}")
        if len(delivered) >= int(rate[1]):
            return "rate_limit"
    return ""


def _subject(per: str, event: Event) -> Any:
    data = event["data"]
    if per == "run":
        return data["project"], data["run"]["id"]
    return (data["project"], data["collection"]["name"]) if per == "collection" else None


def variables(event: Event, automation: Automation) -> dict[str, Any]:
    """The payload variables of one firing, secrets excepted."""
    data = event["data"]
    values = {
        "project_name": data["project"],
        "entity_name": data["entity"],
        "event_author": data["author"],
        "event_type": event["type"],
        "event_id": event["id"],
        "event_time": event["time"],
        "alias": data.get("alias", ""),
        "tag": data.get("tag", ""),
    }
    if "collection" in data:
        values["artifact_collection_name"] = data["collection"]["name"]
    if "artifact" in data:
        values |= _artifact_variables(data, removed=event["type"] == "REMOVE_ARTIFACT_ALIAS")
    if "run" in data:
        values |= {"run_id": data["run"]["id"], "run_name": data["run"]["name"], "run_state": data.get("state", "")}
    if "level" in data:
        values |= {f"alert_{name}": data[name] for name in ("title", "text", "level")}
    if "metrics" in data:
        values |= _metric_variables(data, automation["conditions"][0])
    return values


def _artifact_variables(data: Mapping[str, Any], *, removed: bool) -> dict[str, Any]:
    artifact = data["artifact"]
    # An alias that was removed leads to the version no more.
    label = artifact["version"] if removed else data.get("alias", artifact["version"])
    values = {
        "artifact_version": f"wandb-artifact://_id/{artifact['id']}",
        "artifact_version_string": f"{data['entity']}/{data['project']}/{data['collection']['name']}:{label}",
    }
    for key, value in artifact["metadata"].items():
        values[f"artifact_metadata.{key}"] = value
    return values


def _metric_variables(data: Mapping[str, Any], condition: Mapping[str, Any]) -> dict[str, Any]:
    """The first condition's metric, its newest value, and what it is compared with."""
    threshold = condition.get("threshold")
    if "change" in condition:
        threshold = condition["change"]["amount"]
    if "zscore" in condition:
        threshold = condition["zscore"]["threshold"]
    metric = condition["metric"]
    return {"metric_name": metric, "metric_value": data["metrics"][metric], "metric_threshold": threshold}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))


def render(template: Any, values: Mapping[str, Any], *, typed: bool) -> Any:
    """A payload with its variables filled in, keys included; `typed`: what is one variable becomes its value.

    Raises:
        KeyError: for a variable that has no value here.
    """
    if isinstance(template, Mapping):
        return {render(key, values, typed=False): render(value, values, typed=typed) for key, value in template.items()}
    if isinstance(template, list):
        return [render(value, values, typed=typed) for value in template]
    if not isinstance(template, str):
        return template
    whole = _VARIABLE.fullmatch(template)
    if typed and whole and whole[0] != "$$":
        return values[whole[1] or whole[2]]
    return _VARIABLE.sub(lambda found: "$" if found[0] == "$$" else _text(values[found[1] or found[2]]), template)
