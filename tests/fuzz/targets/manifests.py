"""Manifests: YAML is read or refused with its place, and what was applied is exported and applied again unchanged."""

from __future__ import annotations

import io
import json
import re
from typing import Any

import yaml
from hypothesis import strategies as st

from dispatcher.client.input_files import Document, UnreadableInput, read_documents
from dispatcher.client.yaml_documents import write_documents
from dispatcher.control import manifest_export, manifests
from dispatcher.control.errors import Conflict
from shared.domain.errors import InvalidDefinition
from tests.fuzz.oracles import check_refusal, in_time
from tests.fuzz.stage import AUTOMATION, ENTITY, SLACK, WEBHOOK, stage
from tests.fuzz.strategies import as_json, json_values
from tests.fuzz.target import Target

PLACE = re.compile(r"f\.yaml(:[0-9]+:[0-9]+|, document [0-9]+)?: .")
MAX_APPLIED = 3


def check(data: bytes) -> None:
    """A file of YAML documents."""
    try:
        with in_time(data, 2.0):
            documents = read_documents("f.yaml", io.BytesIO(data))
    except UnreadableInput as refusal:
        assert PLACE.match(str(refusal)), str(refusal)
        assert "\n" not in str(refusal), "a refusal is one line"
        return
    assert documents
    definitions = [one for one in documents if isinstance(one, Document)]
    for document in definitions:
        _check_round_trip(document)
    for document in definitions[:MAX_APPLIED]:
        _check_applied(json.loads(document.json), data)


def _check_round_trip(document: Document) -> None:
    assert document.entity
    value = json.loads(document.json)
    try:
        text = write_documents([{"entity": document.entity, **value}])
    except RecursionError:
        return  # hundreds of levels: the API refuses them
    try:
        (again,) = read_documents("again.yaml", io.BytesIO(text.encode()))
    except UnicodeEncodeError:
        return  # a lone surrogate by way of an escape: the API refuses it
    assert isinstance(again, Document)
    assert again.entity == document.entity
    assert json.loads(again.json) == value


def _check_applied(body: Any, data: bytes) -> None:
    scene = stage()
    with scene.rolled_back() as connection:
        try:
            with in_time(data, 2.0):
                manifests.apply(
                    connection, scene.principal, ENTITY, body, checks=scene.resources.checks, dry_run=False
                )  # fmt: skip
        except InvalidDefinition as refusal:
            check_refusal(refusal, body)
            return
        except Conflict:
            return
        exported = json.loads(json.dumps(manifest_export.export(connection, scene.principal, ENTITY)))
        whole = exported | {"prune": True}
        changes = manifests.apply(
            connection, scene.principal, ENTITY, whole, checks=scene.resources.checks, dry_run=False
        )
        assert {change.change for change in changes} <= {"unchanged"}, changes
        assert json.loads(json.dumps(manifest_export.export(connection, scene.principal, ENTITY))) == exported


WORDS = (
    *("entity", "webhooks", "slack", "automations", "prune", "name", "url", "access_token", "secrets", "policy"),
    *("schedule_seconds", "timeout_seconds", "rate_limit", "10/s", "jitter", "enabled", "paused", "TOKEN", "SLACK_URL"),
    *("basic", "headers", "url_secret", "signing_secret", "former_signing_secret", "former_signing_until", "success"),
    *("wandb_signature", "hex", "retried_statuses", "${TOKEN}", "Authorization", "user", "password_secret", "5xx"),
    *("deploy-hook", "alerts", "on-production", "wh_1", "https://a.example/", "event", "filter", "action", "webhook"),
    *("scope", "project", "conditions", "cooldown", "states", "payload", "no_op", "RUN_STATE", "failed", "concurrency"),
    *(
        "&a",
        "*a",
        "<<",
        "---\n",
        "!!int ",
        "!!binary ",
        "!!timestamp ",
        "? ",
        "0x_",
        "1:60",
        "0b_",
        ".nan",
        "0o17 ",
        "0123 ",
        "12e4567 ",
        "on: ",
        "<<: [*a, *a]\n",
        "%YAML 1.1\n",
    ),
)
_webhooks = st.fixed_dictionaries(
    {
        "name": st.sampled_from(["deploy-hook", "b", "c d"]),
        "url": st.sampled_from(["https://a.example/", WEBHOOK["url"], "https://a.example/${TOKEN}", None]),
    },
    optional={
        "access_token": st.sampled_from([None, "TOKEN", "NONE"]),
        "secrets": st.sampled_from([[], ["TOKEN"], ["NONE"]]),
        "policy": st.sampled_from(
            [
                {},
                {"rate_limit": "60/min", "jitter": 0},
                {"schedule_seconds": [1, 2.5]},
                {"success": {"body": {"ok": True, "error": None}}, "retried_statuses": [404, "5xx"]},
            ]
        ),
        "paused": st.booleans(),
        "basic": st.sampled_from([None, {"user": "ci", "password_secret": "TOKEN"}, {"user": "a:b"}]),
        "headers": st.sampled_from([{}, {"X-Api-Key": "${TOKEN}"}, {"X-Team": "ml $$"}, {"Host": "x"}]),
        "url_secret": st.sampled_from([None, "SLACK_URL"]),
        "signing_secret": st.sampled_from([None, "SIGNING", "TOKEN"]),
        "former_signing_secret": st.sampled_from([None, "OLD_SIGNING"]),
        "former_signing_until": st.sampled_from([None, "2026-12-08T00:00:00+02:00", "soon"]),
        "wandb_signature": st.sampled_from(["base64", "hex", "x"]),
    },
)
_automations = st.fixed_dictionaries(
    {
        "name": st.sampled_from(["on-production", "x"]),
        "event": st.sampled_from(["ADD_ARTIFACT_ALIAS", "RUN_STATE", "RUN_METRIC"]),
        "action": st.sampled_from(
            [
                {"no_op": True},
                {"webhook": "deploy-hook"},
                {"webhook": "b", "payload": {"a": "${TOKEN}"}},
                {"slack": "alerts"},
            ]
        ),
    },
    optional={
        "states": st.just(["failed"]),
        "conditions": st.just([{"metric": "loss", "op": "$gt", "threshold": 1}]),
        "cooldown": st.sampled_from([None, {"per": "run", "period": "24h"}, {"per": "automation", "period": 0.0004}]),
        "filter": st.sampled_from([{}, {"$and": []}, {"author": "a"}, {"author": {"$eq": "a", "$ne": "b"}}]),
        "enabled": st.booleans(),
    },
)
_manifests = st.fixed_dictionaries(
    {"entity": st.just(ENTITY)},
    optional={
        "webhooks": st.lists(_webhooks | st.just(WEBHOOK), max_size=2),
        "slack": st.just([SLACK]),
        "automations": st.lists(_automations | st.just(AUTOMATION), max_size=2),
        "prune": st.booleans(),
    },
)
_yaml_texts = st.lists(
    st.sampled_from(
        [*WORDS[-18:], "entity: acme\n", "a: ", "- ", "[", "]", "{", "}", ": ", "\n", "'", '"', "|\n ", "#", "~"]
    ),
    max_size=12,
).map("".join)
_inputs = st.one_of(
    as_json(_manifests, WORDS),
    st.builds(
        lambda value: yaml.safe_dump(value).encode(), _manifests | st.fixed_dictionaries({"entity": json_values})
    ),
    _yaml_texts.map(str.encode),
    _yaml_texts.map(lambda text: b"entity: acme\nwebhooks: " + text.encode()),
)

TARGET = Target(check, inputs=_inputs, words=WORDS)
