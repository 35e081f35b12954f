"""Alerts of a run: which are the same event, and what becomes of their texts."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.wandb_runs.events import RunEvents
from shared.domain.errors import InvalidDefinition
from shared.domain.events.decoding import check_published
from shared.domain.events.types import AlertLevel
from tests.unit.dispatcher.wandb_runs.test_streams import RUN

EVENTS = RunEvents("acme", "alice", RUN)
START = datetime(2026, 12, 1, 9, tzinfo=UTC)


def test_an_alert_is_an_event_of_its_run() -> None:
    event = EVENTS.alert("Low\naccuracy", "0.42\nis low\x00", AlertLevel.WARN, START)
    assert (event["type"], event["source"], event["time"]) == ("RUN_ALERT", "/wandb", "2026-12-01T09:00:00.000Z")
    data = event["data"]
    assert (data["title"], data["text"], data["level"]) == ("Low accuracy", "0.42\nis low", "WARN")
    assert (data["entity"], data["project"], data["author"]) == ("acme", "digits", "alice")
    assert data["run"] == {
        "id": "r1",
        "name": "brave-fox",
        "display_name": "brave-fox",
        "tags": ["a"],
        "config": {"lr": 0.1},
    }


def test_a_title_says_something_new_once_in_each_span() -> None:
    def ids(*seconds: float, title: str = "low", wait: int = 60) -> list[str]:
        moments = (START + timedelta(seconds=each) for each in seconds)
        return [EVENTS.alert(title, "", AlertLevel.INFO, at, timedelta(seconds=wait))["id"] for at in moments]

    assert len(set(ids(0, 1, 59.999))) == 1
    assert len(set(ids(0, 60, 120))) == 3
    assert len(set(ids(0, 600, wait=3600))) == 1
    assert len({*ids(0), *ids(0, title="high")}) == 2
    assert len(set(ids(0, 1, wait=0))) == 2


def test_a_blank_title_is_the_beginning_of_the_text() -> None:
    assert EVENTS.alert(" ", "a\nb", AlertLevel.INFO, START)["data"]["title"] == "a b"
    with pytest.raises(InvalidDefinition) as refused:
        EVENTS.alert("\n", "\x00 ", AlertLevel.INFO, START)
    assert [(error.loc, error.msg) for error in refused.value.errors] == [(("title",), "must be text, and not blank")]


@given(st.text(st.characters(exclude_categories=["Cs"])), st.text(st.characters(exclude_categories=["Cs"])))
def test_any_texts_make_an_event_that_is_accepted_or_are_refused(title: str, text: str) -> None:
    try:
        event = EVENTS.alert(title, text, AlertLevel.ERROR, START)
    except InvalidDefinition:
        assert not any(char.isprintable() and not char.isspace() for char in title + text)
        return
    (checked,) = check_published([event])
    assert len(checked.id) <= 512
