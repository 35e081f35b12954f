"""Events about alerts of runs: what they may hold, and that both decoders agree on it."""

from __future__ import annotations

from typing import Any

import pytest

from shared.domain.automations.parsing import parse_automation
from shared.domain.errors import InvalidDefinition
from shared.domain.events.decoding import check_event, decode_event
from shared.domain.events.fast_decoding import quick_event, read_event
from shared.domain.events.types import AlertLevel
from shared.domain.filters.fields import field_getter
from shared.domain.json_text import write_json
from shared.domain.payloads.sealed import open_payload
from shared.domain.payloads.slack_messages import Severity, parse_slack_message
from shared.domain.payloads.variables import payload_values
from tests.unit.domain.samples import event


def test_text_and_level_may_be_left_out() -> None:
    raw = write_json(event("RUN_ALERT", text=..., level=...))
    for read in (decode_event(raw), quick_event(raw)):
        data: Any = read and read.data
        assert (data.text, data.level) == ("", AlertLevel.INFO)


@pytest.mark.parametrize("text", ["two\nlines\tand a tab", "x" * 4096, "🦊" * 4096, "", 'quo"te \\ and ${alias}'])
def test_texts_that_are_accepted(text: str) -> None:
    raw = write_json(event("RUN_ALERT", text=text))
    data: Any = read_event(raw).data
    assert data.text == text
    assert check_event(event("RUN_ALERT", text=text)).data == decode_event(raw).data


@pytest.mark.parametrize(
    ("field", "wrong"),
    [
        *(("text", wrong) for wrong in ("x" * 4097, "a\x00b", "a\x7f", "\x1b[0m", None, 7)),
        *(("title", wrong) for wrong in ("", "x" * 513, "a\nb", None, 7)),
        *(("level", wrong) for wrong in ("warn", "FATAL", "", None, 30)),
    ],
)
def test_what_is_refused_by_the_name_of_its_field(field: str, wrong: object) -> None:
    raw = event("RUN_ALERT")
    raw["data"][field] = wrong
    with pytest.raises(InvalidDefinition) as refused:
        read_event(write_json(raw))
    assert [error.loc for error in refused.value.errors] == [("data", field)]


def test_filters_read_title_text_and_level() -> None:
    for read in (check_event(event("RUN_ALERT")), quick_event(write_json(event("RUN_ALERT")))):
        assert read is not None
        found = {name: field_getter(read.type, name)(read) for name in ("title", "text", "level")}
        assert found == {"title": "Low accuracy", "text": "accuracy 0.42 is below 0.5", "level": "WARN"}


def test_a_filter_of_levels_is_kept_as_it_is() -> None:
    definition = {
        "name": "grave",
        "event": "RUN_ALERT",
        "filter": {"level": {"$in": ["WARN", "ERROR"]}},
        "action": {"no_op": True},
    }
    automation = parse_automation(definition, lambda _: None, is_new=True)
    assert automation.cooldown is None
    assert automation.to_json()["filter"] == definition["filter"]
    with pytest.raises(InvalidDefinition, match="level is never a number"):
        parse_automation({**definition, "filter": {"level": 30}}, lambda _: None, is_new=True)


def test_a_slack_message_shows_the_alert() -> None:
    message = parse_slack_message(name="n", title="${alert_title}", message=None, severity=Severity.WARN)
    one = check_event(event("RUN_ALERT", text="0.42\n< 0.5"))
    rendered = open_payload(message.render(payload_values(one, delivery_id="d", asked=message.asked)), {}).decode()
    assert '"WARN: Low accuracy"' in rendered
    assert "*Alert*\\nWARN: Low accuracy" in rendered
    assert "*Text*\\n0.42 &lt; 0.5" in rendered
