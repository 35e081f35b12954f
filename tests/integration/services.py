"""Endpoints that look at a request as well-known services do, by what their public references ask for.

Each has its address, how it authenticates, the form of its body and the limits of it, and what it answers.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

import jsonschema_rs

from tests.integration.receiver import Answer, Received

Schema = dict[str, Any]
SECRETS = {
    "GITHUB_TOKEN": "github_pat_11AAAAAAA0",
    "GITLAB_TRIGGER_TOKEN": "glptt-0123456789",
    "SLACK_BOT_TOKEN": "xoxb-1-2-abcdefgh",
    "SLACK_WEBHOOK_URL": "/services/T0000/B0000/XXXXXXXXXXXX",
    "TEAMS_WORKFLOW_URL": "/workflows/0123/triggers/manual/paths/invoke?sig=AbCdEfGhIj",
    "DISCORD_WEBHOOK_URL": "/api/webhooks/1/the-token-of-the-webhook",
    "PAGERDUTY_ROUTING_KEY": "0123456789abcdef0123456789abcdef",
    "OPSGENIE_KEY": "eb243592-faa2-4ba2-a551q-1afdf565c889",
    "JENKINS_API_TOKEN": "11aabbccddeeff00112233",
    "AIRFLOW_TOKEN": "eyJhbGciOi.eyJzdWIiOi.c2lnbmF0dXJl",
    "ARGO_EVENTS_TOKEN": "argo-events-secret",
}
"""What each template's secrets are here; those that are a URL are its path."""


def text(longest: int | None = None, *, least: int = 1) -> Schema:
    """A text that is not blank."""
    return {"type": "string", "minLength": least, **({} if longest is None else {"maxLength": longest})}


def closed(required: tuple[str, ...], **properties: Schema) -> Schema:
    """An object with these members and no others."""
    return {"type": "object", "properties": properties, "required": list(required), "additionalProperties": False}


def of_texts(most: int | None = None, names: str = ".") -> Schema:
    """An object of texts."""
    return {
        "type": "object",
        "additionalProperties": text(),
        "propertyNames": {"pattern": names},
        "minProperties": 1,
        **({} if most is None else {"maxProperties": most}),
    }


@dataclass(frozen=True, slots=True)
class Service:
    """What a service asks for, and what it answers to who gives it."""

    path: str
    body: Schema
    authorization: str | None = None
    content_type: str = "application/json"
    most_bytes: int = 1 << 20
    answer: Answer = field(default_factory=lambda: Answer(204, body=b""))
    headers: Mapping[str, str] = field(default_factory=dict)
    failure: Answer | None = None
    """How it says that it failed, where that is no status of 400 and more."""
    look: Callable[[Any], list[str]] = lambda _body: []
    """Faults that no schema says."""

    def faults(self, request: Received) -> list[str]:
        """What is wrong with a request."""
        found = [] if request.path == self.path else [f"the path is {request.path}"]
        if request.headers.get("authorization") != self.authorization:
            found.append(f"Authorization is {request.headers.get('authorization')}")
        wanted = {**self.headers, "content-type": self.content_type}
        found += [
            f"{name} is {request.headers.get(name)}"
            for name, value in wanted.items()
            if request.headers.get(name) != value
        ]
        if "user-agent" not in request.headers:
            found.append("there is no User-Agent")
        if len(request.body) > self.most_bytes:
            found.append(f"the body has {len(request.body)} bytes")
        return found + self._body_faults(request.body)

    def _body_faults(self, raw: bytes) -> list[str]:
        if self.content_type.startswith("application/x-www-form-urlencoded"):
            body: Any = dict(parse_qsl(raw.decode(), keep_blank_values=True, strict_parsing=True))
        else:
            body = json.loads(raw)
        errors = jsonschema_rs.Draft202012Validator(self.body).iter_errors(body)
        return [f"{list(error.instance_path)}: {error.message}" for error in errors] + self.look(body)


def _block_faults(body: Any) -> list[str]:
    faults = []
    for block in body["blocks"]:
        if block["type"] == "section" and not 1 <= len(block["text"]["text"]) <= 3000:
            faults.append("a section has 1 to 3,000 characters")
        if block["type"] == "context" and not 1 <= len(block["elements"]) <= 10:
            faults.append("a context has 1 to 10 elements")
    return faults


_PLAIN_TEXT = closed(("type", "text"), type={"const": "plain_text"}, text=text(3000))
_BLOCKS: Schema = {
    "type": "array",
    "maxItems": 50,
    "items": {
        "oneOf": [
            closed(("type", "text"), type={"const": "section"}, text=_PLAIN_TEXT),
            closed(("type", "elements"), type={"const": "context"}, elements={"type": "array", "items": _PLAIN_TEXT}),
        ]
    },
}
_FACT = closed(("title", "value"), title=text(), value=text())
_CARD = closed(
    ("type", "version", "body"),
    **{"$schema": {"const": "http://adaptivecards.io/schemas/adaptive-card.json"}},
    type={"const": "AdaptiveCard"},
    version={"enum": ["1.2", "1.3", "1.4", "1.5"]},
    body={
        "type": "array",
        "items": {
            "oneOf": [
                closed(
                    ("type", "text"),
                    type={"const": "TextBlock"},
                    text=text(),
                    weight={"enum": ["Default", "Lighter", "Bolder"]},
                    wrap={"type": "boolean"},
                ),
                closed(("type", "facts"), type={"const": "FactSet"}, facts={"type": "array", "items": _FACT}),
            ]
        },
    },
)
_EMBED = closed(
    ("title", "fields"),
    title=text(256),
    fields={
        "type": "array",
        "maxItems": 25,
        "items": closed(("name", "value"), name=text(256), value=text(1024), inline={"type": "boolean"}),
    },
)
_GITHUB = {"accept": "application/vnd.github+json", "x-github-api-version": "2022-11-28"}
_BASIC = "Basic " + base64.b64encode(b"USER:" + SECRETS["JENKINS_API_TOKEN"].encode()).decode()
_PAGERDUTY_EVENT = closed(
    ("summary", "source", "severity"),
    summary=text(1024),
    source=text(),
    severity={"enum": ["critical", "error", "warning", "info"]},
    component=text(),
    custom_details={"type": "object"},
    **{"class": text()},
)
_OPEN_FACTS: Schema = {"type": "object", "required": ["event", "entity", "text"], "minProperties": 5}

SERVICES: Mapping[str, Service] = {
    "github-dispatch": Service(
        "/repos/OWNER/REPOSITORY/dispatches",
        closed(("event_type",), event_type=text(100), client_payload={"type": "object", "maxProperties": 10}),
        f"Bearer {SECRETS['GITHUB_TOKEN']}",
        most_bytes=65_535,
        headers=_GITHUB,
    ),
    "github-workflow": Service(
        "/repos/OWNER/REPOSITORY/actions/workflows/WORKFLOW.yml/dispatches",
        closed(("ref",), ref=text(), inputs=of_texts(10)),
        f"Bearer {SECRETS['GITHUB_TOKEN']}",
        most_bytes=65_535,
        headers=_GITHUB,
    ),
    "gitlab-trigger": Service(
        "/api/v4/projects/PROJECT_ID/trigger/pipeline",
        closed(
            ("token", "ref"),
            token={"const": SECRETS["GITLAB_TRIGGER_TOKEN"]},
            ref=text(),
            variables=of_texts(names="^[A-Za-z0-9_]+$"),
        ),
        answer=Answer(201, body=b'{"id": 8, "status": "created"}'),
    ),
    "slack-webhook": Service(
        SECRETS["SLACK_WEBHOOK_URL"],
        closed(("text",), text=text(40_000), blocks=_BLOCKS),
        answer=Answer(200, body=b"ok"),
        look=_block_faults,
    ),
    "slack-message": Service(
        "/api/chat.postMessage",
        closed(("channel", "text"), channel=text(), text=text(40_000), blocks=_BLOCKS),
        f"Bearer {SECRETS['SLACK_BOT_TOKEN']}",
        answer=Answer(200, body=b'{"ok": true, "channel": "C1", "ts": "1.2"}'),
        failure=Answer(200, body=b'{"ok": false, "error": "channel_not_found"}'),
        look=_block_faults,
    ),
    "teams-card": Service(
        SECRETS["TEAMS_WORKFLOW_URL"],
        closed(
            ("type", "attachments"),
            type={"const": "message"},
            attachments={
                "type": "array",
                "minItems": 1,
                "items": closed(
                    ("contentType", "content"),
                    contentType={"const": "application/vnd.microsoft.card.adaptive"},
                    contentUrl={"type": "null"},
                    content=_CARD,
                ),
            },
        ),
        most_bytes=28 << 10,
        answer=Answer(202, body=b""),
        failure=Answer(
            200, body=b"Webhook message delivery failed with error: Microsoft Teams endpoint returned HTTP error 429"
        ),
    ),
    "discord": Service(
        SECRETS["DISCORD_WEBHOOK_URL"],
        closed(
            ("content",),
            content=text(2000),
            embeds={"type": "array", "maxItems": 10, "items": _EMBED},
            allowed_mentions={"const": {"parse": []}},
        ),
    ),
    "pagerduty": Service(
        "/v2/enqueue",
        closed(
            ("routing_key", "event_action", "payload"),
            routing_key={"const": SECRETS["PAGERDUTY_ROUTING_KEY"], "minLength": 32, "maxLength": 32},
            event_action={"enum": ["trigger", "acknowledge", "resolve"]},
            dedup_key=text(255),
            client=text(),
            payload=_PAGERDUTY_EVENT,
        ),
        most_bytes=512_000,
        answer=Answer(202, body=b'{"status": "success", "message": "Event processed", "dedup_key": "k"}'),
    ),
    "opsgenie": Service(
        "/v2/alerts",
        closed(
            ("message",),
            message=text(130),
            alias=text(512),
            description=text(15_000),
            details=of_texts(),
            source=text(100),
            tags={"type": "array", "maxItems": 20, "items": text(50)},
            priority={"enum": ["P1", "P2", "P3", "P4", "P5"]},
        ),
        f"GenieKey {SECRETS['OPSGENIE_KEY']}",
        answer=Answer(202, body=b'{"result": "Request will be processed", "took": 0.3}'),
        look=lambda body: ["details have 8,000 characters at most"] if len(json.dumps(body["details"])) > 8000 else [],
    ),
    "jenkins": Service(
        "/job/JOB/buildWithParameters",
        of_texts(names="^[A-Za-z_][A-Za-z0-9_]*$"),
        _BASIC,
        content_type="application/x-www-form-urlencoded",
        answer=Answer(201, {"Location": "/queue/item/1/"}, b""),
    ),
    "airflow": Service(
        "/api/v2/dags/DAG_ID/dagRuns",
        closed(
            ("logical_date",),
            dag_run_id=text(250),
            logical_date={"type": ["string", "null"]},
            conf={"type": "object"},
        ),
        f"Bearer {SECRETS['AIRFLOW_TOKEN']}",
        answer=Answer(200, body=b'{"state": "queued"}'),
    ),
    "argo-events": Service(
        "/ENDPOINT",
        _OPEN_FACTS,
        f"Bearer {SECRETS['ARGO_EVENTS_TOKEN']}",
        answer=Answer(200, body=b"success"),
    ),
    "cloudevent": Service(
        "/PATH",
        closed(
            ("specversion", "id", "source", "type"),
            specversion={"const": "1.0"},
            id=text(),
            source=text(),
            type=text(),
            subject=text(),
            time={"anyOf": [{"type": "null"}, {"type": "string", "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d"}]},
            datacontenttype={"const": "application/json"},
            data=_OPEN_FACTS,
        ),
        content_type="application/cloudevents+json",
        answer=Answer(202, body=b""),
    ),
}
"""The services, by the names of their payload templates."""
