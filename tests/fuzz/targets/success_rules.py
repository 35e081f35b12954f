"""Success rules: any definition is a policy or is refused, and an accepted rule judges any answer in time.

A rule that is stored and read again is the same rule. The words against an answer have nothing of it in them.
"""

from __future__ import annotations

import json
from typing import Any

from hypothesis import strategies as st
from pydantic import ValidationError

from shared.domain.delivery.retries import DeliveryPolicy
from tests.fuzz.oracles import in_time, members_of
from tests.fuzz.strategies import as_json, json_values
from tests.fuzz.target import Target

CANARY = "canary-of-the-answer"


def check(data: bytes) -> None:
    """`{"policy": {…}, "status": 200, "body": "…", "cut": false}`."""
    members = members_of(data)
    raw = members.get("policy")
    with in_time(data):
        try:
            policy = DeliveryPolicy.model_validate(raw)
        except ValidationError as refusal:
            assert refusal.error_count()
            return
    stored = json.loads(json.dumps(policy.stored_form()))
    assert DeliveryPolicy.model_validate(stored) == policy
    rule, status, body = policy.success, members.get("status"), members.get("body")
    if rule is None or type(status) is not int or not isinstance(body, str):
        return
    cut = members.get("cut") is True
    with in_time(data):
        told = rule.failure(status, body, cut=cut)
    again = DeliveryPolicy.model_validate(stored).success
    assert again is not None
    assert again.failure(status, body, cut=cut) == told
    if told is not None and CANARY not in json.dumps(raw):
        assert CANARY not in (rule.failure(status, CANARY + body, cut=cut) or "")


_paths = st.sampled_from(["ok", "error", "result.status", "a.b.c", "$regex", "$contains", "$not", "$or", "$and", "x"])
_operands: st.SearchStrategy[Any] = st.one_of(
    st.sampled_from([True, False, None, 0, 1, "ok", "^ok$", "(", {"$exists": False}, {"$in": ["a", 1]}]), json_values
)
_bodies: st.SearchStrategy[Any] = st.recursive(
    st.dictionaries(_paths, _operands, max_size=3),
    lambda inner: st.dictionaries(_paths, inner | st.lists(inner, max_size=2), max_size=2),
    max_leaves=5,
)
_statuses = st.lists(st.sampled_from([200, 204, 409, "2xx", "4xx", 199, "ok", 404.0]), max_size=3)
_rules = st.fixed_dictionaries({}, optional={"status": _statuses, "body": _bodies})
_policies = st.fixed_dictionaries({"success": _rules | st.none()}, optional={"retried_statuses": _statuses})
_answers = st.one_of(
    st.text(max_size=30), json_values.map(json.dumps), st.sampled_from(['{"ok":true', '{"ok":tr', "ok"])
)

TARGET = Target(
    check,
    inputs=as_json(
        st.fixed_dictionaries(
            {"policy": _policies, "status": st.integers(100, 599), "body": _answers, "cut": st.booleans()}
        ),
        (),
    ),
    words=(
        "policy",
        "success",
        "status",
        "body",
        "cut",
        "retried_statuses",
        "$regex",
        "$not",
        "$or",
        "ok",
        "2xx",
        "5xx",
    ),
)
