"""The verdict is empty for exactly what was expected, and names every other thing that can happen."""

from __future__ import annotations

from dataclasses import replace

import pytest

from examples.expectation import Firing
from examples.receiver import Received
from examples.service import HistoryRow
from examples.verdict import differences, leaks

PATHS = {"hook": "/hook", "other": "/other"}
EXPECTED = [
    Firing("a", "e1", "hook", {"automation": "a", "event": "e1", "n": 1}),
    Firing("a", "e2", "hook", {"automation": "a", "event": "e2", "n": 2}, reason="cooldown"),
]
FAILED = Received("d1", "/hook", 1, b"x", {"automation": "a", "event": "e1", "n": 1}, (), 500)
OK = replace(FAILED, attempt=2, status=200)
SENT = HistoryRow("d1", "a", "hook", "e1", "delivered", "", 2)
SKIPPED = HistoryRow("d2", "a", "hook", "e2", "skipped", "cooldown", 0)


def test_no_difference_when_all_is_as_expected() -> None:
    assert differences(EXPECTED, [FAILED, OK], [SENT, SKIPPED], PATHS) == []


@pytest.mark.parametrize(
    ("records", "history", "begins"),
    [
        pytest.param([], [SENT, SKIPPED], ["missing: a on e1"], id="missing"),
        pytest.param([FAILED], [SENT, SKIPPED], ["missing: a on e1"], id="never retried"),
        pytest.param(
            [FAILED, OK, replace(OK, attempt=3)], [SENT, SKIPPED], ["doubled: a on e1 arrived 2 times"], id="doubled"
        ),
        pytest.param(
            [FAILED, OK, replace(OK, webhook_id="d9", attempt=1)], [SENT, SKIPPED], ["doubled: a on e1"], id="two ids"
        ),
        pytest.param(
            [FAILED, replace(OK, faults=("webhook-signature: no",), status=401)],
            [SENT, SKIPPED],
            ["faulty request to /hook for a on e1: webhook-signature: no", "missing: a on e1"],
            id="wrongly signed",
        ),
        pytest.param(
            [FAILED, replace(OK, body=OK.body | {"n": 9})],
            [SENT, SKIPPED],
            ["wrongly rendered: a on e1"],
            id="wrongly rendered",
        ),
        pytest.param([FAILED, replace(OK, path="/other")], [SENT, SKIPPED], ["wrong webhook: a on e1"], id="webhook"),
        pytest.param(
            [FAILED, OK, replace(OK, webhook_id="d2", attempt=1, body=OK.body | {"event": "e2", "n": 2})],
            [SENT, SKIPPED],
            ["unexpected: a on e2 arrived and must be skipped"],
            id="sent although skipped",
        ),
        pytest.param(
            [FAILED, OK, replace(OK, webhook_id="d3", attempt=1, body=[])],
            [SENT, SKIPPED],
            ["unexpected: ? on ? arrived and must not fire"],
            id="unknown body",
        ),
        pytest.param(
            [FAILED, replace(OK, attempt=1)], [SENT, SKIPPED], ["wrong attempts: a on e1 arrived as"], id="numbers"
        ),
        pytest.param(
            [FAILED, replace(OK, raw=b"y")], [SENT, SKIPPED], ["wrong attempts: a on e1 changed its body"], id="body"
        ),
        pytest.param(
            [FAILED, OK], [SENT], ["history lacks 1 x a on e2 on hook: skipped cooldown"], id="not in the history"
        ),
        pytest.param(
            [FAILED, OK],
            [SENT, replace(SKIPPED, reason="rate_limit")],
            ["history lacks 1 x a on e2 on hook: skipped cooldown", "history has, unexpected, 1 x a on e2 on hook"],
            id="another reason",
        ),
        pytest.param(
            [FAILED, OK], [SENT, SENT, SKIPPED], ["history has, unexpected, 1 x a on e1 on hook: delivered"], id="twice"
        ),
    ],
)
def test_each_difference_is_named(records: list[Received], history: list[HistoryRow], begins: list[str]) -> None:
    found = differences(EXPECTED, records, history, PATHS)
    assert len(found) == len(begins)
    for difference, beginning in zip(found, begins, strict=True):
        assert difference.startswith(beginning)


def test_a_leaked_secret_is_named_without_its_value() -> None:
    (found,) = leaks({"KEY": "s3cr3t", "TOKEN": "t0k"}, {"the log": "so s3cr3t", "elsewhere": ""})
    assert found == "leaked: the value of KEY is in the log"
