"""A fault that lasts is written now and then, with how often it was; nothing else is left out."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import structlog
from hypothesis import given
from hypothesis import strategies as st

from shared.observability.repeated_lines import RepeatedLines


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def written(lines: RepeatedLines, *events: dict[str, Any]) -> list[dict[str, Any]]:
    through = []
    for event in events:
        try:
            through.append(dict(lines(None, "", dict(event))))
        except structlog.DropEvent:
            continue
    return through


FAULT = {"event": "webhook.secret_unreadable", "level": "error", "webhook_id": "wh_6"}


def test_the_same_line_is_counted_for_a_while() -> None:
    clock = Clock()
    lines = RepeatedLines(clock=clock)
    stamped = [{**FAULT, "timestamp": number, "request_id": f"r{number}"} for number in range(60)]
    assert written(lines, *stamped) == stamped[:1]
    clock.now = 10.0
    assert written(lines, FAULT) == [{**FAULT, "repeated": 59}]
    clock.now = 30.0
    assert written(lines, FAULT) == [FAULT]


def test_other_facts_and_lower_levels_are_written() -> None:
    lines = RepeatedLines(clock=Clock())
    others = [{**FAULT, "webhook_id": f"wh_{number}"} for number in range(20)]
    routine = [{"event": "delivery.attempted", "level": "info"}] * 20
    assert written(lines, *others, *routine) == [*others, *routine]


def test_few_lines_are_remembered() -> None:
    lines = RepeatedLines(kept=3, clock=Clock())
    many = [{**FAULT, "webhook_id": f"wh_{number}"} for number in range(5)]
    assert written(lines, *many, many[4], many[0]) == [*many, many[0]]


@given(st.lists(st.tuples(st.sampled_from("abc"), st.floats(0, 8)), max_size=60))
def test_no_line_is_lost_from_the_count(steps: Iterable[tuple[str, float]]) -> None:
    clock = Clock()
    lines = RepeatedLines(clock=clock)
    sent: dict[str, int] = {}
    told: dict[str, int] = {}
    for name, pause in steps:
        clock.now += pause
        sent[name] = sent.get(name, 0) + 1
        for line in written(lines, {"event": name, "level": "warning"}):
            told[name] = told.get(name, 0) + 1 + line.get("repeated", 0)
    clock.now += 100
    for name, count in sent.items():
        [last] = written(lines, {"event": name, "level": "warning"})
        assert told[name] + last.get("repeated", 0) == count
