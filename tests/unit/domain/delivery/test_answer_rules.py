"""Success rules: which answers count as a success."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from shared.domain.delivery.answer_rules import SuccessRule
from shared.domain.payloads.masking import SHOWN_BYTES

SLACK = SuccessRule(body={"ok": True})
TEAMS = SuccessRule(body={"$not": {"$regex": r"HTTP error \d{3}"}})


def failure(rule: SuccessRule, body: str = "", *, status: int = 200, cut: bool = False) -> str | None:
    return rule.failure(status, body, cut=cut)


@pytest.mark.parametrize(
    ("body", "passes"),
    [
        ('{"ok":true}', True),
        ('{"ok": true, "channel": "C1", "message": {"ok": false}}', True),
        ('\ufeff{"ok":true}', True),
        ('{"ok":false,"error":"channel_not_found"}', False),
        ('{"ok":1}', False),
        ('{"ok":"true"}', False),
        ("{}", False),
        ("[true]", False),
        ("true", False),
        ("ok", False),
        ("", False),
        ('{"ok":true', False),
        ("\ud800", False),
        ("[" * 3000, False),
        ("1" * 4096, False),
    ],
)
def test_slack_says_it_in_the_body(body: str, passes: bool) -> None:
    assert (failure(SLACK, body) is None) is passes


def test_the_words_name_what_was_missed_and_nothing_of_the_answer() -> None:
    assert failure(SLACK, '{"ok":false,"error":"secret"}') == "its body does not pass its success rule: ok $eq true"
    assert failure(TEAMS, "secret HTTP error 429") == (
        'its body does not pass its success rule: (the body) $regex "HTTP error \\\\d{3}"'
    )
    assert failure(SuccessRule(status=(200, 204)), status=202) == "202 is not among the statuses of its success rule"


@pytest.mark.parametrize(
    ("rule", "body", "passes"),
    [
        ({"$regex": "^1$"}, "1", True),
        ({"$regex": "^1$"}, "Webhook message delivery failed with error: HTTP error 429", False),
        ({"$contains": "accepted"}, '{"status":"accepted"}', True),
        ({"$regex": "^1$", "$contains": "2"}, "1", False),
        ({"$or": [{"$regex": "^1$"}, {"ok": True}]}, '{"ok":true}', True),
        ({"$or": [{"$regex": "^1$"}, {"ok": True}]}, "1", True),
        ({"$or": [{"$regex": "^1$"}, {"ok": True}]}, "2", False),
        ({"$nor": [{"$contains": "error"}]}, "fine", True),
        ({"$not": {"$contains": "error"}}, "an error", False),
        ({"result.status": "done"}, '{"result":{"status":"done"}}', True),
        ({"result.status": "done"}, '{"result.status":"done"}', True),
        ({"result.status": {"$in": ["done", "queued"]}}, '{"result":{"status":"queued"}}', True),
        ({"error": {"$exists": False}}, '{"id":1}', True),
        ({"error": {"$exists": False}}, '{"error":null}', False),
        ({"errors": 0, "ok": True}, '{"errors":0,"ok":true}', True),
        ({"errors": 0, "ok": True}, '{"errors":1,"ok":true}', False),
        ({"(the body)": "x"}, "x", True),
        ({}, "anything", True),
        ({"$and": []}, "anything", True),
    ],
)
def test_rules_over_text_and_members(rule: dict[str, Any], body: str, passes: bool) -> None:
    assert (failure(SuccessRule(body=rule), body) is None) is passes


def test_a_long_answer_is_judged_by_its_beginning() -> None:
    """Slack's answers repeat the message, so that they may be longer than what is kept."""
    long = json.dumps({"ok": True, "message": {"text": "x" * 9000}, "error": "late"})
    assert failure(SLACK, long, cut=True) is None
    assert failure(SLACK, long) is None
    assert failure(SuccessRule(body={"error": "late"}), long) is not None, "beyond the beginning"
    assert failure(SuccessRule(body={"$contains": "late"}), long) is not None


def test_a_number_that_may_go_on_is_not_read() -> None:
    body = '{"code": 20'
    assert failure(SuccessRule(body={"code": 20}), body, cut=True) is not None
    assert failure(SuccessRule(body={"code": 20}), body + ", ", cut=True) is None


@pytest.mark.parametrize(
    ("statuses", "status", "passes"),
    [
        ((200, 204), 204, True),
        ((200, 204), 202, False),
        (("2xx",), 202, True),
        (("2xx", 409), 409, True),
        (("2xx",), 409, False),
        (("4xx",), 200, False),
    ],
)
def test_a_rule_over_statuses(statuses: tuple[int | str, ...], status: int, passes: bool) -> None:
    assert (failure(SuccessRule(status=statuses), status=status) is None) is passes


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        ({}, "must have status, body or both"),
        ({"status": []}, "at least 1 item"),
        ({"status": [199]}, "must be a status from 200 to 599"),
        ({"status": ["ok"]}, "must be a status from 200 to 599"),
        ({"body": []}, "valid dictionary"),
        ({"body": "ok"}, "valid dictionary"),
        ({"body": {"$regex": "("}}, "$regex must be a valid RE2 pattern"),
        ({"body": {"$regex": 1}}, "$regex must be a string"),
        ({"body": {"$or": [{"$regex": "("}]}}, "$or.0.$regex must be a valid RE2 pattern"),
        ({"body": {"$exists": True}}, "$exists unknown operator"),
        ({"body": {"ok": {"$is": 1}}}, "ok.$is unknown operator"),
        ({"body": {"ok": float("nan")}}, "ok must be a finite number"),
        ({"body": {"$regex": r"\pL+"}}, "must have smaller patterns"),
        ({"body": {"a" * 500: "b" * 8000}}, "must have at most 8000 characters"),
        ({"stats": [200]}, "Extra inputs"),
    ],
)
def test_a_rule_that_can_not_be_is_refused(raw: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError) as refusal:
        SuccessRule.model_validate(raw)
    assert words in str(refusal.value)


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=200)
@given(body=st.one_of(_json.map(json.dumps), st.text(max_size=60)), cut=st.booleans(), status=st.integers(100, 599))
def test_any_answer_is_judged(body: str, cut: bool, status: int) -> None:
    rule = SuccessRule(body={"$or": [{"ok": True}, {"a.b": {"$gt": 1}}, {"$regex": "^1$"}]})
    told = rule.failure(status, body, cut=cut)
    assert (told is None) <= (200 <= status <= 299)


@settings(max_examples=100)
@given(value=_json)
def test_equality_is_equality_of_json(value: Any) -> None:
    try:
        rule = SuccessRule(body={"result": {"$eq": value}})
    except ValidationError:
        return  # NaN, infinities: no rule can name them
    body = json.dumps({"result": value})
    assert len(body) > SHOWN_BYTES or rule.failure(200, body, cut=False) is None
    other = json.dumps({"result": [value, "other"]})
    listed = isinstance(value, list)
    assert listed or len(other) > SHOWN_BYTES or rule.failure(200, other, cut=False) is None, "any element does"
