"""Notices: every one that can be built is an event, and known again when it is appended twice."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from shared.domain.delivery.circuits import Circuit, CircuitState, transition
from shared.domain.delivery.notices import About, DeadLetter, circuit_changed, dead_letter, webhook_disabled
from shared.domain.events.decoding import check_event
from shared.domain.events.types import EventType
from shared.domain.events.values import MAX_NAME_LENGTH

NOW = datetime(2026, 11, 23, 9, tzinfo=UTC)
ABOUT = About("acme", "wh_1", "deploy-hook")
DEAD = DeadLetter(
    id="dlv_x", status="dead", attempts=9, automation="a", event_type="RUN_STATE", event_source="/s", event_id="e"
)


@given(st.text(min_size=1, max_size=2000).filter(lambda text: text.encode("utf-8", "replace").decode() == text))
def test_whatever_a_webhook_is_called_and_an_endpoint_says_is_told_on_one_line(text: str) -> None:
    about = About("acme", "wh_1", text)
    for notice in (
        webhook_disabled(about, reason=text, failing_since=NOW, now=NOW),
        circuit_changed(about, state=CircuitState.OPEN, reason=text, now=NOW),
        dead_letter(about, DEAD, reason=text, now=NOW),
    ):
        checked = check_event(notice)
        reason = notice["data"]["reason"]
        assert checked.time == NOW
        assert len(reason) == min(len(text), MAX_NAME_LENGTH)
        assert not any(ord(char) < 32 or ord(char) == 127 for char in reason)


def test_the_same_fact_has_the_same_id_and_another_has_another() -> None:
    later = NOW + timedelta(microseconds=1)
    ids = [
        circuit_changed(ABOUT, state=state, reason="", now=now)["id"]
        for state in (CircuitState.OPEN, CircuitState.CLOSED)
        for now in (NOW, later, NOW)
    ]
    assert ids[0] == ids[2]
    assert ids[3] == ids[5]
    assert len(set(ids)) == 4
    assert dead_letter(ABOUT, DEAD, reason="", now=NOW)["id"] == dead_letter(ABOUT, DEAD, reason="", now=later)["id"]


def test_the_circuit_says_which_way_it_turned() -> None:
    opened = circuit_changed(ABOUT, state=CircuitState.OPEN, reason="r", now=NOW)
    closed = circuit_changed(ABOUT, state=CircuitState.CLOSED, reason="r", now=NOW)
    assert (opened["type"], closed["type"]) == (EventType.WEBHOOK_CIRCUIT_OPENED, EventType.WEBHOOK_CIRCUIT_CLOSED)


def test_only_opening_and_closing_are_turns() -> None:
    closed, failing = Circuit(), Circuit(failures=3)
    opened = Circuit(failures=20, openings=1, opened_at=NOW, probe_at=NOW)
    again = Circuit(failures=21, openings=2, opened_at=NOW + timedelta(seconds=9), probe_at=NOW)
    assert transition(failing, opened) is CircuitState.OPEN
    assert transition(again, closed) is CircuitState.CLOSED
    assert [transition(*pair) for pair in ((closed, failing), (failing, closed), (opened, again))] == [None, None, None]
