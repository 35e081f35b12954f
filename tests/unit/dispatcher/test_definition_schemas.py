"""Schemas of webhooks, Slack integrations and documents: they take what their parsers take, and what docs show."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from dispatcher.cli import main
from dispatcher.client.input_files import ENTITY_MEMBERS
from dispatcher.client.yaml_documents import read_values
from dispatcher.control.bodies import parse_body, parse_form
from dispatcher.control.catalog import EntityBody
from dispatcher.control.definition_schemas import SCHEMAS, UNSAID_OF_ENDPOINTS, UNSAID_OF_SOURCES
from dispatcher.control.manifests import ManifestBody
from dispatcher.control.slack import SlackBody
from dispatcher.control.source_checks import SourceBody
from dispatcher.control.webhook_checks import WebhookBody, _authentication_faults, _url_faults
from shared.domain.delivery.retries import DeliveryPolicy
from shared.domain.errors import InvalidDefinition
from shared.domain.events.types import NOTICE_TYPES, EventType
from shared.domain.sources.parsing import source_of
from shared.settings import load_settings
from tests.unit.domain.automations.test_schema import EXAMPLES, junk, mapping, now_and_then, or_junk

ROOT = Path(__file__).parents[3]
VALIDATORS = {name: jsonschema_rs.validator_for(make()) for name, make in SCHEMAS.items()}
SETTINGS = load_settings()
MODELS: dict[str, Any] = {"webhook": WebhookBody, "slack": SlackBody}

names = now_and_then(
    ["hook", "a b", "wh_01", "é_1", "x" * 64, "٣"], [" a", "a  b", "wh_1", "slk_9", "x" * 65, "a/b", ""]
)
numbers = now_and_then([1, 0.5, 60, 1.0], [0, -1, 700, 1e9])
statuses = now_and_then([404, 300, 599, "5xx"], [200, 600, "2xx", "1xx"])
success_rules = mapping(
    {},
    {
        "status": or_junk(st.lists(now_and_then([200, 204, 404, "2xx"], ["5xx", 99, "6xx"]), max_size=2)),
        "body": or_junk(st.sampled_from([{}, {"ok": True}, {"$contains": "done"}, {"$regex": "("}])),
    },
)
policies = mapping(
    {},
    {
        **dict.fromkeys(DeliveryPolicy.model_fields, numbers),
        "schedule_seconds": or_junk(st.lists(numbers, max_size=3)),
        "retried_statuses": or_junk(st.lists(statuses, max_size=3)),
        "success": or_junk(st.one_of(st.none(), success_rules)),
        "rate_limit": now_and_then(["10/s", "1000/min", None, "5 / h"], ["0/s"]),
        "concurrency": now_and_then([None, 1, 1000], [1001, 0]),
    },
)
secrets = or_junk(st.sampled_from(["TOKEN", None]))
flags = or_junk(st.booleans())
texts = now_and_then(["a", "${TOKEN}"], ["${", "\n"])


def bodies(kind: str) -> SearchStrategy[Any]:
    """Definitions; members that a later version adds get anything."""
    known: dict[str, SearchStrategy[Any]] = {
        "name": names,
        "url": now_and_then(["https://hooks.example.com/a"], [None, "ftp://a", "https://a/${NOSUCH}"]),
        "former_signing_until": now_and_then([None, "2026-12-01T00:00:00Z"], ["tomorrow"]),
        "basic": or_junk(mapping({"user": or_junk(st.just("me")), "password_secret": secrets}, {})),
        "headers": or_junk(st.dictionaries(st.sampled_from(["X-A", "Authorization", "a b"]), texts, max_size=2)),
        "wandb_signature": now_and_then(["base64", "hex"], ["HEX"]),
        "secrets": or_junk(st.lists(or_junk(st.just("TOKEN")), max_size=2)),
        "policy": policies,
        "enabled": flags,
        "paused": flags,
        **dict.fromkeys(
            ("access_token", "signing_secret", "client_certificate", "team", "channel", "former_signing_secret"),
            secrets,
        ),
    }
    fields = MODELS[kind].model_fields
    members = {name: known.get(name, junk) for name in fields}
    required = {name: members.pop(name) for name, field in fields.items() if field.is_required()}
    required |= {name: members.pop(name) for name in ("url",) if name in members}
    few = st.lists(st.sampled_from(sorted(members)), max_size=4, unique=True)
    return few.flatmap(lambda chosen: mapping(required, {name: members[name] for name in chosen}))


@pytest.mark.slow
@pytest.mark.parametrize("kind", MODELS)
@settings(max_examples=EXAMPLES // 2, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_what_one_accepts_the_other_accepts(kind: str, data: st.DataObject) -> None:
    raw = data.draw(bodies(kind))
    refused: list[str] = []
    try:
        body = parse_body(MODELS[kind], raw)
    except InvalidDefinition as exc:
        refused = [str(error) for error in exc.errors]
    else:
        if isinstance(body, WebhookBody):
            refused = [str(one) for one in (*_url_faults(body, SETTINGS), *_authentication_faults(body))]
    if VALIDATORS[kind].is_valid(raw):
        said = [one for one in refused if not any(re.search(thing.refusal, one) for thing in UNSAID_OF_ENDPOINTS)]
        assert said == []
    else:
        assert refused != [], next(iter(VALIDATORS[kind].iter_errors(raw))).message


@pytest.mark.parametrize(
    ("members", "valid"),
    [
        ({"url": None}, False),
        ({"url": None, "url_secret": "TOKEN"}, True),
        ({"url_secret": "TOKEN"}, False),
        ({"access_token": "TOKEN", "basic": {"user": "me", "password_secret": "P"}}, False),
        ({"access_token": None, "basic": {"user": "me", "password_secret": "P"}}, True),
        ({"former_signing_secret": "A"}, False),
        ({"former_signing_until": "2026-12-01T00:00:00Z"}, False),
        ({"former_signing_secret": "A", "former_signing_until": "2026-12-01T00:00:00Z"}, False),
        ({"signing_secret": "B", "former_signing_secret": "A", "former_signing_until": "2026-12-01T00:00:00Z"}, True),
    ],
)
def test_what_goes_together_is_said(members: dict[str, Any], valid: bool) -> None:
    raw = {"name": "hook", "url": "https://hooks.example.com/a", **members}
    body = parse_body(WebhookBody, raw)
    assert VALIDATORS["webhook"].is_valid(raw) is valid
    assert ([*_url_faults(body, SETTINGS), *_authentication_faults(body)] == []) is valid


headers = now_and_then(["X-Token", "x"], ["", "a b", "é", "x" * 65, "a\n", None])
prefixes = now_and_then(["", "sha256="], ["x" * 65])
proofs = st.one_of(
    mapping(
        {"token": mapping({"header": headers}, {"prefix": prefixes, "query": now_and_then(["code"], ["a b"])})}, {}
    ),
    mapping({"token": mapping({}, {"query": now_and_then(["code", None], ["a b"])})}, {}),
    mapping({"basic": mapping({"user": now_and_then(["me"], ["", "a:b", "x" * 257])}, {})}, {}),
    mapping(
        {
            "hmac": mapping(
                {"header": headers},
                {
                    "algorithm": now_and_then(["sha256", "sha1"], ["md5"]),
                    "prefix": prefixes,
                    "encoding": now_and_then(["hex", "base64"], ["HEX"]),
                    "key": now_and_then(["text", "base64"], ["hex"]),
                    "id_header": headers,
                    "timestamp_header": headers,
                    "signed": now_and_then(["{body}", "{id}.{timestamp}.{body}", None], ["", "{nosuch}"]),
                    "tolerance_seconds": now_and_then([1, 300, 86_400], [0, 86_401, 1.5]),
                },
            )
        },
        {"token": st.none(), "basic": st.just({"user": "me"}) | st.none()},
    ),
)
rules = mapping(
    {"type": now_and_then([str(one) for one in EventType if one not in NOTICE_TYPES], [*NOTICE_TYPES, "NOSUCH"])},
    {
        "when": or_junk(st.sampled_from([{}, {"body.action": "created"}, {"nosuch": 1}])),
        "each": now_and_then(["body.models", None], ["", "nosuch", "x" * 257]),
        "id": now_and_then(["${body.id}", None], ["${nosuch}", "x" * 1025]),
        "time": now_and_then(["${body.time}", None], ["${"]),
        "data": or_junk(st.sampled_from([{"run": {"id": "${body.run}"}, "state": "failed"}, {}])),
    },
)


@st.composite
def sources(draw: st.DrawFn) -> Any:
    kind = draw(now_and_then(["generic", "generic", "github", "mlflow"], ["nosuch", None]))
    required: dict[str, SearchStrategy[Any]] = {
        "name": now_and_then(["in", "a b", "é_1"], [" a", "src_1", "x" * 65, "a/b", ""]),
        "kind": st.just(kind),
        "secret": or_junk(st.just("HOOK")),
    }
    own: dict[str, SearchStrategy[Any]] = {
        "verify": or_junk(proofs),
        "events": or_junk(st.lists(rules, min_size=1, max_size=2)),
    }
    usual = {"project": now_and_then(["p"], [None, "", "x" * 513, "a\n"])}
    some = own if kind == "generic" else usual
    optional = {**own, **usual, "former_secret": secrets, "enabled": flags}
    few = draw(st.lists(st.sampled_from(sorted(optional.keys() - some.keys())), max_size=2, unique=True))
    return draw(mapping({**required, **some}, {name: optional[name] for name in few}))


@pytest.mark.slow
@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
@given(sources())
def test_what_one_accepts_of_sources_the_other_accepts(raw: Any) -> None:
    refused: list[str] = []
    try:
        body = parse_body(SourceBody, raw)
        definition = body.model_dump(mode="json")
        source_of(body.name, body.kind, "acme", definition)
    except InvalidDefinition as exc:
        refused = [str(error) for error in exc.errors]
    if VALIDATORS["source"].is_valid(raw):
        said = [one for one in refused if not any(re.search(thing.refusal, one) for thing in UNSAID_OF_SOURCES)]
        assert said == []
    else:
        assert refused != [], next(iter(VALIDATORS["source"].iter_errors(raw))).message


TOKEN_PROOF = {"token": {"header": "X-Token"}}
RULE = {"type": "CREATE_ARTIFACT", "data": {"collection": {"name": "c"}, "artifact": {"id": "a"}, "project": "p"}}


@pytest.mark.parametrize(
    ("members", "valid"),
    [
        ({"kind": "github", "project": "p"}, True),
        ({"kind": "github"}, False),
        ({"kind": "github", "events": [RULE]}, True),
        ({"kind": "github", "project": "p", "verify": TOKEN_PROOF}, False),
        ({"kind": "generic", "verify": TOKEN_PROOF, "events": [RULE]}, True),
        ({"kind": "generic", "verify": TOKEN_PROOF}, False),
        ({"kind": "generic", "events": [RULE]}, False),
        ({"kind": "generic", "verify": {}, "events": [RULE]}, False),
        ({"kind": "generic", "verify": {**TOKEN_PROOF, "basic": {"user": "u"}}, "events": [RULE]}, False),
    ],
)
def test_what_a_source_needs_is_said(members: dict[str, Any], valid: bool) -> None:
    raw = {"name": "in", "secret": "HOOK", **members}
    body = parse_body(SourceBody, raw)
    assert jsonschema_rs.Draft202012Validator(SCHEMAS["source"]()).is_valid(raw) is valid
    try:
        source_of(body.name, body.kind, "acme", body.model_dump(mode="json"))
    except InvalidDefinition:
        assert not valid
    else:
        assert valid


def test_the_schemas_are_schemas() -> None:
    for name, make in SCHEMAS.items():
        jsonschema_rs.meta.validate(make())
        assert set(make()["properties"]) >= {"manifest": {"entity", "automations"}}.get(name, {"name"})


def test_a_document_has_the_members_that_apply_takes() -> None:
    made = SCHEMAS["manifest"]()
    assert made["properties"].keys() == ManifestBody.model_fields.keys() | {"entities"}
    members = made["properties"]["entities"]["items"]["properties"].keys()
    assert members == {"name", *ENTITY_MEMBERS} == {"name", "quotas", *EntityBody.model_fields}
    listed = {"entities": [{"name": "acme", "parent": "org", "quotas": {"webhooks": 5, "secrets": None}}]}
    assert VALIDATORS["manifest"].is_valid(listed)
    assert not VALIDATORS["manifest"].is_valid({**listed, "entity": "acme"})
    assert not VALIDATORS["manifest"].is_valid({"entities": [{"name": "acme", "color": "red"}]})
    with pytest.raises(InvalidDefinition):
        parse_form(ManifestBody, {"entity": "acme", "nosuch": 1})
    assert not VALIDATORS["manifest"].is_valid({"entity": "acme", "nosuch": 1})
    assert not VALIDATORS["manifest"].is_valid({"automations": []})
    for member, kind in (("webhooks", "webhook"), ("slack", "slack"), ("automations", "automation")):
        fault = {"entity": "acme", member: [{"name": "a", "nosuch": 1}]}
        errors = list(VALIDATORS["manifest"].iter_errors(fault))
        assert {next(iter(error.instance_path)) for error in errors} == {member}
        assert any("('nosuch' was unexpected)" in error.message for error in errors)
        assert (
            made["properties"][member]["items"]["$ref"].lower().endswith({"slack": "slackintegration"}.get(kind, kind))
        )


def _documents() -> list[tuple[str, Any]]:
    found = []
    for path in [*sorted((ROOT / "examples").glob("*.y*ml")), *sorted((ROOT / "docs").glob("**/*.md"))]:
        text = path.read_text()
        blocks = [text] if path.suffix != ".md" else re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
        for block in blocks:
            found += [
                (path.name, one) for one in read_values(block.encode(), max_bytes=1 << 20) if isinstance(one, dict)
            ]
    kinds = {"automations", "webhooks", "slack", "projects"}
    return [(name, one) for name, one in found if "entities" in one or ("entity" in one and kinds & one.keys())]


def test_what_the_docs_and_examples_show_is_valid() -> None:
    documents = _documents()
    assert len(documents) >= 2
    for name, document in documents:
        assert [error.message for error in VALIDATORS["manifest"].iter_errors(document)] == [], name


@pytest.mark.parametrize("name", [*SCHEMAS, "RUN_METRIC"])
def test_the_command_prints_them_without_a_server(name: str) -> None:
    done = CliRunner().invoke(main, ["schema", name])
    assert done.exit_code == 0
    assert json.loads(done.stdout)["type"] == "object"


def test_the_command_knows_no_other() -> None:
    done = CliRunner().invoke(main, ["schema", "nosuch"])
    assert done.exit_code == 2
    assert "there is no schema 'nosuch'; there are automation" in done.stderr
    assert json.loads(CliRunner().invoke(main, ["schema"]).stdout)["title"] == "HooklineDocument"
