"""Requests of a run's stream, and the events that they become."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from dispatcher.wandb_runs.events import RunEvents
from dispatcher.wandb_runs.streams import BATCH_BYTES, Plan, read_request, writer_of
from shared.domain.errors import InvalidDefinition
from shared.domain.events.limits import MAX_BATCH_EVENTS
from shared.domain.events.types import RunPhase
from shared.domain.events.values import MAX_METRICS
from shared.storage.definitions.wandb_runs import StoredRun, Streamed

NOW = datetime(2026, 12, 1, 9, tzinfo=UTC)
HEARTBEAT = timedelta(minutes=5)
RUN = StoredRun(
    key="k",
    project="digits",
    run="r1",
    token="abc",
    about={"display_name": "brave-fox", "tags": ["a"], "notes": "long", "config": {"lr": 0.1}},
    summary={"acc": 0.5, "_step": 3},
    state=RunPhase.RUNNING,
    preempting=False,
    starts=2,
    streamed=True,
    history_lines=4,
    last_step=3,
    told_at=NOW,
    seen_at=NOW,
)


def plan(request: Mapping[str, Any] | bytes, run: StoredRun = RUN, now: datetime = NOW) -> Plan:
    """The plan for a request's body."""
    body = request if isinstance(request, bytes) else json.dumps(request).encode()
    return Plan(RunEvents("acme", "alice", run), read_request(body), HEARTBEAT, now)


def published(of: Plan) -> list[dict[str, Any]]:
    """All events of a plan."""
    return [json.loads(text) for _, texts in of.batches() for text in texts]


def lines(*content: str, offset: int = 4) -> dict[str, Any]:
    """A request with these lines of history."""
    return {"files": {"wandb-history.jsonl": {"offset": offset, "content": list(content)}}}


def test_lines_become_metrics_with_ids_of_their_own() -> None:
    of = plan(lines('{"_step":4,"loss":0.5,"_timestamp":1796100000}', '{"_step":5,"s":"x"}', '{"_step":6,"loss":NaN}'))
    first, second = published(of)
    assert first == {
        "specversion": "1.0",
        "id": "abc/2/history/4",
        "source": "/wandb",
        "type": "RUN_METRIC",
        "time": "2026-12-01T04:40:00.000Z",
        "data": {
            "entity": "acme",
            "project": "digits",
            "author": "alice",
            "run": {
                "id": "r1",
                "name": "brave-fox",
                "display_name": "brave-fox",
                "tags": ["a"],
                "config": {"lr": 0.1},
            },
            "step": 4,
            "metrics": {"loss": 0.5},
        },
    }
    assert (second["id"], second["data"]["metrics"]) == ("abc/2/history/6", {"loss": "NaN"})
    assert of.written() == Streamed(7, 6, None, None, False, NOW)
    assert of.unread_lines == 0


def test_lines_of_several_writers_are_told_apart() -> None:
    one, other = (
        published(replace(of, of=replace(of.of, writer=writer_of(header))))
        for of, header in ((plan(lines('{"a":1}')), "x"), (plan(lines('{"a":1}')), "y"))
    )
    assert one[0]["id"] != other[0]["id"] != published(plan(lines('{"a":1}')))[0]["id"]


def test_what_a_writer_sends_again_is_the_same_after_another_has_joined() -> None:
    before, after = (
        published(replace(plan(lines('{"a":1}')), of=RunEvents("acme", "alice", run, writer_of("x"))))
        for run in (RUN, replace(RUN, starts=RUN.starts + 1))
    )
    assert before == after


def test_the_same_request_is_the_same_events() -> None:
    request = {**lines('{"_step":4,"loss":1}'), "complete": True, "exitcode": 1}
    ids = [event["id"] for event in published(plan(request))]
    assert ids == ["abc/2/history/4", "abc/2/failed"]
    assert [event["id"] for event in published(plan(request, now=NOW + timedelta(seconds=9)))] == ids


def test_what_is_published_is_skipped_in_a_request_that_comes_again() -> None:
    request = lines(*(f'{{"_step":{step},"a":1}}' for step in range(2, 7)), offset=2)
    of = plan(request)
    assert [event["id"] for event in published(of)] == [f"abc/2/history/{number}" for number in (4, 5, 6)]
    assert of.written() == Streamed(7, 6, None, None, False, NOW)
    # All of it: nothing is left but what was not written down, as the step.
    of = plan({**request, "complete": True}, replace(RUN, history_lines=7, last_step=3))
    assert [event["id"] for event in published(of)] == ["abc/2/finished"]
    assert of.written() == Streamed(7, 6, None, RunPhase.FINISHED, False, NOW)
    # Another writer of the same run has other lines under the same numbers.
    of = replace(plan(request), of=RunEvents("acme", "alice", RUN, writer_of("x")))
    assert len(published(of)) == 5
    written = of.written()
    assert written is not None
    assert written.history_lines == RUN.history_lines


def test_lines_of_a_process_that_was_left_behind_let_skip_none() -> None:
    of = plan(lines('{"_step":500,"a":1}', offset=500))
    assert [event["id"] for event in published(of)] == ["abc/2/history/500"]
    written = of.written()
    assert written is not None
    assert written.history_lines == RUN.history_lines


@pytest.mark.parametrize("samples", [1, 3 * MAX_METRICS])
def test_lines_that_are_surely_published(samples: int) -> None:
    count = 2 * MAX_BATCH_EVENTS
    wide = json.dumps({f"m{number}": number for number in range(samples)})
    of = plan(lines(*[wide] * (count if samples == 1 else 500)))
    parts = ["", *(f"/{part}" for part in range(1, -(-samples // MAX_METRICS)))]
    ids: set[str] = set()
    for _, texts in of.batches():
        ids |= {json.loads(text)["id"] for text in texts}
        skipped = range(4, of.sure_lines)
        assert ids >= {f"abc/2/history/{line}{part}" for line in skipped for part in parts}
    assert of.sure_lines == 4 + len(of.request.history.content)


@pytest.mark.parametrize(
    ("members", "phase"),
    [
        ({"exitcode": 0}, "finished"),
        ({}, "finished"),
        ({"exitcode": 3}, "failed"),
        ({"exitcode": -9}, "failed"),
        ({"exitcode": 1, "preempting": True}, "preempted"),
        ({"exitcode": 0, "preempting": True}, "finished"),
    ],
)
def test_how_a_run_ends(members: dict[str, Any], phase: str) -> None:
    summary = {"files": {"wandb-summary.json": {"offset": 0, "content": ['{"acc":0.9,"_step":7}']}}}
    of = plan({"complete": True, **members, **summary})
    (event,) = published(of)
    assert (event["data"]["state"], event["data"]["run"]["summary"]) == (phase, {"acc": 0.9})
    written = of.written()
    assert written is not None
    assert (written.state, written.summary) == (phase, {"acc": 0.9, "_step": 7})


def test_a_run_that_was_preempted_ends_so_later() -> None:
    (event,) = published(plan({"complete": True, "exitcode": 1}, replace(RUN, preempting=True)))
    assert event["data"]["state"] == "preempted"


def test_a_beat_is_told_four_times_in_a_heartbeat() -> None:
    early, due = (plan(b"{}", now=NOW + HEARTBEAT * part / 4) for part in (0.9, 1))
    assert not published(early)
    assert early.written() is None
    (event,) = published(due)
    assert (event["id"], event["data"]["state"], event["data"]["heartbeat_seconds"]) == (
        "abc/2/running",
        "running",
        300,
    )
    assert due.written() == Streamed(4, None, None, None, False, due.now)
    ended = plan(b"{}", replace(RUN, state=RunPhase.FINISHED), NOW + HEARTBEAT)
    assert not published(ended)
    first = plan(b"", replace(RUN, streamed=False))
    assert not published(first)
    assert first.written() is not None


def test_what_is_no_line_is_left_out_and_counted() -> None:
    of = plan(lines("nope", '{"_step":5,"a":1}', "[]"))
    assert [event["data"]["step"] for event in published(of)] == [5]
    assert of.unread_lines == 2


def test_many_lines_are_made_into_batches_while_they_are_asked_for() -> None:
    count = 2 * MAX_BATCH_EVENTS + 1
    batches = list(plan(lines(*(f'{{"_step":{step},"a":1}}' for step in range(count)))).batches())
    assert [len(texts) for _, texts in batches] == [MAX_BATCH_EVENTS, MAX_BATCH_EVENTS, 1]
    wide = {f"{'m' * 300}{number}": number for number in range(40)}
    batches = list(plan(lines(*(json.dumps({"_step": step, **wide}) for step in range(800)))).batches())
    assert len(batches) > 1
    assert all(sum(map(len, texts)) <= BATCH_BYTES for _, texts in batches)
    assert sum(len(events) for events, _ in batches) == 800


def test_metrics_carry_less_of_a_large_config_than_states() -> None:
    large = replace(RUN, about={"config": {"lr": 0.1, "text": "x" * 8000}})
    metric, state = published(plan({**lines('{"_step":4,"a":1}'), "complete": True}, large))
    assert metric["data"]["run"]["config"] == {"lr": 0.1}
    assert state["data"]["run"]["config"] == {"lr": 0.1, "text": "x" * 8000}


@pytest.mark.parametrize(
    "body",
    [
        b"[]",
        b"x",
        b"\xff",
        b'{"files":1}',
        b'{"complete":"yes"}',
        b'{"exitcode":1e9}',
        b'{"files":{"wandb-history.jsonl":{"offset":-1}}}',
        b'{"files":{"wandb-history.jsonl":{"content":[1]}}}',
        b'{"files":' * 2000,
    ],
)
def test_what_is_no_request(body: bytes) -> None:
    with pytest.raises(InvalidDefinition):
        read_request(body)


def test_files_that_do_not_matter_are_not_looked_at() -> None:
    request = read_request(
        b'{"files":{"output.log":{"offset":"any","content":7},"wandb-events.jsonl":[]},"uploaded":1}'
    )
    assert request.history.content == []
