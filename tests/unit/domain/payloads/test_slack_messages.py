"""Slack messages: what they say, and what no event value can make them say."""

from __future__ import annotations

import re
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.domain.automations.model import Automation, Grants, SlackAction
from shared.domain.automations.parsing import parse_automation
from shared.domain.errors import InvalidDefinition
from shared.domain.events.decoding import check_event
from shared.domain.payloads.links import FiringLinks
from shared.domain.payloads.sealed import mask_payload, open_payload, sealed_secrets
from shared.domain.payloads.slack_messages import (
    MAX_FACT_CHARS,
    MAX_MESSAGE_CHARS,
    MAX_TITLE_CHARS,
    Severity,
    SlackMessage,
    escape,
    parse_slack_message,
)
from shared.domain.payloads.variables import MetricFacts, payload_values
from tests.unit.domain.samples import event


def message(*, name: str = "on-prod", title: object = None, text: object = None, **of: Any) -> SlackMessage:
    return parse_slack_message(name=name, title=title, message=text, severity=of.get("severity", Severity.INFO))


def sent(one: SlackMessage, values: dict[str, str]) -> Any:
    """The message as Slack gets it."""
    return orjson.loads(open_payload(one.render(values), {}))


def facts(body: Any) -> dict[str, str]:
    fields = body["attachments"][0]["blocks"][-1]["fields"]
    return dict(field["text"].removeprefix("*").split("*\n", 1) for field in fields)


def values(raw: dict[str, Any] | None = None, **more: Any) -> dict[str, str]:
    return payload_values(check_event(raw or event()), delivery_id="dlv_1", **more)


def test_a_message_says_what_the_automation_defines_and_what_happened() -> None:
    one = message(title="${alias} for $artifact_collection_name", text="by ${event_author} $$5", severity=Severity.WARN)

    body = sent(one, values())

    assert body["text"] == "WARN: production for llm-models"
    assert body["blocks"][0]["text"]["text"] == ":warning: *production for llm-models*"
    [attachment] = body["attachments"]
    assert attachment["color"] == "#ECB22E"
    assert attachment["blocks"][0]["text"] == {"type": "mrkdwn", "text": "by alice $5", "verbatim": True}
    assert facts(body) == {
        "Event": "ADD_ARTIFACT_ALIAS",
        "Project": "acme/wandb-registry-model",
        "Version": "acme/wandb-registry-model/llm-models:production",
        "Author": "alice",
        "Time": "2026-11-23T09:00:00Z",
    }


def test_a_metric_and_a_run_are_told() -> None:
    raw = event("RUN_METRIC")
    told = facts(sent(message(), values(raw, metric=MetricFacts("acc", 0.97, 0.95))))
    assert told["Run"] == "run one (r1)"
    assert told["Metric"] == "acc = 0.97 (threshold 0.95)"
    jump = MetricFacts("loss", 0.9, 0.5, summarize=lambda: "loss 0.28 → 0.9 (+221 %, limit +50 %)")
    asked = payload_values(check_event(raw), delivery_id="dlv_1", metric=jump, asked=message().asked)
    assert facts(sent(message(), asked))["Metric"] == "loss 0.28 → 0.9 (+221 %, limit +50 %)"
    assert facts(sent(message(), values(event("RUN_STATE"))))["State"] == "finished"
    tagged = facts(sent(message(), values(event("ADD_COLLECTION_TAG"))))
    assert (tagged["Collection"], tagged["Tag"]) == ("llm-models", "approved")


def test_a_blank_title_is_the_name_and_a_blank_text_is_left_out() -> None:
    for title in (None, "", "  ", "${tag}"):
        body = sent(message(name="a <b> & c", title=title, text="${tag}"), values())
        assert body["text"] == "INFO: a &lt;b&gt; &amp; c"
        assert [block["type"] for block in body["attachments"][0]["blocks"]] == ["section"]


def test_no_value_forges_a_link_or_a_mention() -> None:
    evil = "<!channel> <https://evil.example|ok> & <@U1>"
    raw = event(author=evil, alias=evil, project=evil, collection={"name": evil})
    body = sent(message(title="${alias}", text="${event_author} <https://ok.example|docs>"), values(raw))

    text = orjson.dumps(body).decode().replace("<https://ok.example|docs>", "")
    assert not re.search("[<>]", text)
    assert "&lt;!channel&gt;" in body["blocks"][0]["text"]["text"]
    assert body["attachments"][0]["blocks"][0]["text"]["text"].endswith("<https://ok.example|docs>")


def test_links_to_the_console_stand_below_where_its_address_is_known() -> None:
    links = FiringLinks("https://hooks.example.com/console", "acme", 7, "dlv_1")
    known = payload_values(check_event(event()), delivery_id="dlv_1", asked=message().asked, links=links)

    [facts_block, below] = sent(message(), known)["attachments"][0]["blocks"]

    assert facts_block["type"] == "section"
    assert below["type"] == "context"
    assert [element["text"] for element in below["elements"]] == [
        "<https://hooks.example.com/console/e/acme/deliveries/dlv_1|Delivery in Hookline> · "
        "<https://hooks.example.com/console/e/acme/automations/aut_7|Automation>"
    ]
    assert "console" not in str(sent(message(), values(asked=message().asked)))


hostile = st.text(st.sampled_from('<>&!@|#*$\n{}a\\"é😀'), max_size=400)


@settings(max_examples=60, deadline=None)
@given(hostile, hostile)
def test_whatever_a_value_is_the_message_stays_in_form_and_within_slack_s_limits(author: str, alias: str) -> None:
    known = values() | {"event_author": author, "alias": alias}

    body = sent(message(title="${alias}", text="${event_author}" * 20), known)

    texts = [body["text"], body["blocks"][0]["text"]["text"]]
    blocks = body["attachments"][0]["blocks"]
    for block in blocks:
        texts += [part["text"] for part in block.get("fields", [block.get("text")])]
    assert all(texts)
    for text in texts:
        assert not re.search("[<>]", text)
        assert re.fullmatch(r"(?s)(?:[^&]|&(?:amp|lt|gt);)*", text)
        assert len(text) <= 3000
    assert all(len(field["text"]) <= 2000 for field in blocks[-1]["fields"])
    assert len(blocks[-1]["fields"]) <= 10


def test_what_is_too_long_is_cut_between_characters() -> None:
    body = sent(
        message(title="${alias}", text="${event_author}"), values() | {"alias": "&" * 999, "event_author": "<" * 999}
    )

    assert body["text"] == "INFO: " + "&amp;" * ((MAX_TITLE_CHARS - 1) // 5) + "…"
    assert body["attachments"][0]["blocks"][0]["text"]["text"] == "&lt;" * ((MAX_MESSAGE_CHARS - 1) // 4) + "…"
    assert facts(body)["Author"] == "&lt;" * ((MAX_FACT_CHARS - 1) // 4) + "…"


def test_a_rendered_message_is_sealed_and_needs_no_secret() -> None:
    sealed = message(text="$$ ${event_author}").render(values() | {"event_author": "${DEPLOY_TOKEN} $"})

    assert sealed_secrets(sealed) == frozenset()
    assert "$ ${DEPLOY_TOKEN} $" in mask_payload(sealed)
    assert message(title="${alias}").variables == {"alias"}


@pytest.mark.parametrize(
    ("title", "text", "loc"),
    [
        ("${ACCESS_TOKEN}", None, ("title",)),
        (None, "${DEPLOY_TOKEN}", ("message",)),
        (None, "${nope", ("message",)),
        (5, None, ("title",)),
        (None, ["x"], ("message",)),
    ],
)
def test_secrets_and_unknown_names_are_refused(title: object, text: object, loc: tuple[str, ...]) -> None:
    with pytest.raises(InvalidDefinition) as refusal:
        message(title=title, text=text)
    assert [error.loc for error in refusal.value.errors] == [loc]


def test_escaping_is_slack_s() -> None:
    assert escape("<a> & &amp;") == "&lt;a&gt; &amp; &amp;amp;"


def automation(**action: Any) -> Automation:
    raw = {"name": "a", "event": "ADD_ARTIFACT_ALIAS", "action": {"slack": "team-channel", **action}}
    return parse_automation(raw, lambda _: Grants(), lambda name: name in ("team-channel", "slk_1"))


@pytest.mark.parametrize(
    "action",
    [
        {},
        {"title": "t", "message": "${alias}", "severity": "ERROR"},
        {"title": "", "message": None, "severity": None},
        {"slack": "slk_1", "severity": "WARN"},
    ],
)
def test_a_slack_action_reads_back(action: dict[str, Any]) -> None:
    parsed = automation(**action)

    assert isinstance(parsed.action, SlackAction)
    assert isinstance(parsed.template, SlackMessage)
    again = parse_automation(parsed.to_json(), lambda _: Grants(), lambda _: True)
    assert again == parsed
    assert parsed.to_json()["action"]["severity"] == (action.get("severity") or "INFO")


@pytest.mark.parametrize(
    ("action", "locs"),
    [
        ({"slack": "unknown"}, [("action", "slack")]),
        ({"slack": 5}, [("action", "slack")]),
        ({"severity": "FATAL"}, [("action", "severity")]),
        ({"severity": 1, "slack": "unknown"}, [("action", "severity"), ("action", "slack")]),
        ({"title": "${TOKEN}"}, [("action", "title")]),
        ({"message": 5}, [("action", "message")]),
        ({"payload": {}}, [("action", "payload")]),
        ({"webhook": "x"}, [("action",)]),
        ({"no_op": True}, [("action",)]),
    ],
)
def test_a_faulty_slack_action_is_refused_at_its_place(action: dict[str, Any], locs: list[Any]) -> None:
    with pytest.raises(InvalidDefinition) as refusal:
        automation(**action)
    assert [error.loc for error in refusal.value.errors] == locs


def test_without_a_finder_there_is_no_slack_integration() -> None:
    raw = {"name": "a", "event": "ADD_ARTIFACT_ALIAS", "action": {"slack": "x"}}
    with pytest.raises(InvalidDefinition, match="must be the name or id of a Slack integration"):
        parse_automation(raw, lambda _: Grants())


def test_a_name_that_could_mean_several_is_refused_where_it_stands() -> None:
    def several(_name: str) -> Grants:
        raise InvalidDefinition.at((), "means more than one here")

    raw = {"name": "a", "event": "ADD_ARTIFACT_ALIAS", "action": {"webhook": "x"}}
    with pytest.raises(InvalidDefinition) as refusal:
        parse_automation(raw, several)
    assert [(error.loc, error.msg) for error in refusal.value.errors] == [
        (("action", "webhook"), "means more than one here")
    ]
