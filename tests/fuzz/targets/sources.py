"""Webhooks in: definitions are taken or refused at their places; no request breaks a source or leaves its entity."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from hypothesis import strategies as st

from dispatcher.control.bodies import parse_body
from dispatcher.control.source_checks import SourceBody
from shared.domain.errors import InvalidDefinition
from shared.domain.events.decoding import check_published
from shared.domain.sources.model import InboundRequest, NotUnderstood, Source, SourceKind
from shared.domain.sources.parsing import source_of
from shared.domain.sources.proofs import unproven
from shared.domain.sources.reading import read_request
from shared.domain.sources.rules import RuleFailed
from tests.fuzz.oracles import check_refusal, in_time
from tests.fuzz.strategies import as_json, json_values
from tests.fuzz.target import Target

NOW = datetime(2026, 11, 23, 9, 0, tzinfo=UTC)
SECRET = "a secret that no input has"


def check(data: bytes) -> None:
    """An object with a source's `definition`, and the `headers` and `body` of a request to it."""
    try:
        given = json.loads(data)
    except (ValueError, RecursionError):
        return
    if not isinstance(given, dict):
        return
    source = _source(given.get("definition"), data)
    sent = given.get("headers")
    headers = {k.lower(): v for k, v in sent.items() if isinstance(v, str)} if isinstance(sent, dict) else {}
    inbound = InboundRequest(headers, headers, data)
    if source is None:
        return
    with in_time(data):
        assert unproven(source.proof, inbound, [SECRET], NOW) is not None, "nobody knows the secret"
    try:
        with in_time(data):
            outcome = read_request(source, "src_1", inbound, given.get("body"))
    except (NotUnderstood, RuleFailed) as refusal:
        assert "\n" not in str(refusal)
        return
    assert outcome.events or outcome.ignored
    ids = [event["id"] for event in outcome.events]
    assert len(set(ids)) == len(ids), "two events of a request would be one"
    assert all(event["data"]["entity"] == "acme" for event in outcome.events)
    again = read_request(source, "src_1", inbound, given.get("body"))
    assert [event["id"] for event in again.events] == ids, "a redelivery would be another event"
    if outcome.events:
        try:
            check_published(outcome.events)
        except InvalidDefinition:
            return


def _source(raw: object, data: bytes) -> Source | None:
    try:
        with in_time(data):
            body = parse_body(SourceBody, raw)
            return source_of(body.name, SourceKind(body.kind), "acme", body.model_dump(mode="json"))
    except InvalidDefinition as refusal:
        check_refusal(refusal, raw)
        return None


_KINDS = st.sampled_from([str(kind) for kind in SourceKind])
_TOKEN: dict[str, Any] = {"token": {"header": "X-Token"}}
_RULE: dict[str, Any] = {
    "when": {"body.a": {"$exists": True}},
    "type": "CREATE_ARTIFACT",
    "data": {"project": "p", "collection": {"name": "${body.a}"}, "artifact": {"id": "${body.b:-x}"}},
}
_RULES = st.lists(
    st.one_of(st.just(_RULE), st.just({**_RULE, "each": "body.a", "id": "${item.b}"}), json_values), max_size=2
)
_DEFINITIONS = st.one_of(
    st.fixed_dictionaries({"name": st.just("in"), "kind": _KINDS, "secret": st.just("S"), "project": st.just("p")}),
    st.builds(
        lambda rules: {"name": "in", "kind": "generic", "secret": "S", "verify": _TOKEN, "events": rules}, _RULES
    ),
    json_values,
)
_BODIES = st.one_of(
    json_values,
    st.dictionaries(st.sampled_from(["entity", "action", "data", "a", "b", "ref", "repository"]), json_values),
)

WORDS = (
    *("definition", "headers", "body", "kind", "secret", "verify", "events", "when", "each", "type", "data", "id"),
    *(str(kind) for kind in SourceKind),
    *("token", "basic", "hmac", "header", "query", "prefix", "signed", "{id}.{timestamp}.{body}", "X-GitHub-Event"),
    *("${body.a}", "${item.b}", "${header.x}", "$$", "${delivery_id:-x}", "refs/tags/a@v1.2.3", "refs/tags/a#b"),
    *("model_version", "created", "updatedRefs", "newSha", "eventType", "object_kind", "tag_push"),
)
_INPUTS = st.fixed_dictionaries(
    {"definition": _DEFINITIONS, "headers": st.just({"X-GitHub-Event": "push"}), "body": _BODIES}
)

TARGET = Target(check, inputs=as_json(_INPUTS, WORDS), words=WORDS)
