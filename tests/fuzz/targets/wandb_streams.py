"""Requests of a `wandb` run's stream: refused, or made into events that evaluation can read, with ids of their own.

What each line says is compared with a second, plain reading by Python's own decoder.
"""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import strategies as st

from dispatcher.wandb_runs.configs import read_config, read_summary
from dispatcher.wandb_runs.events import RunEvents
from dispatcher.wandb_runs.streams import BATCH_BYTES, Plan, StreamRequest, read_request
from shared.domain.errors import InvalidDefinition
from shared.domain.events.decoding import decode_event
from shared.domain.events.limits import MAX_BATCH_EVENTS
from shared.domain.events.types import EventType, RunPhase
from shared.domain.events.values import is_name
from shared.domain.json_text import write_json
from shared.storage.definitions.wandb_runs import StoredRun
from tests.fuzz.oracles import in_time
from tests.fuzz.target import Target

NOW = datetime(2026, 12, 1, 9, tzinfo=UTC)
RUN = StoredRun(
    key="k",
    project="p",
    run="r",
    token="t",
    about={"config": {"lr": 0.1}},
    summary={},
    state=RunPhase.RUNNING,
    preempting=False,
    starts=1,
    streamed=True,
    history_lines=0,
    last_step=None,
    told_at=NOW - timedelta(hours=1),
    seen_at=NOW,
)


def check(data: bytes) -> None:
    """A request's body."""
    with in_time(data, 3.0):
        try:
            request = read_request(data)
        except InvalidDefinition:
            return
        texts = _published(request)
        assert texts == _published(request)
        events = [decode_event(text) for text in texts]
        ids = [event.id for event in events]
        assert len(set(ids)) == len(ids)
        found: dict[str, Any] = {}
        for event in events:
            if event.type is EventType.RUN_METRIC:
                found.setdefault("/".join(event.id.split("/")[:4]), {}).update(event.data.metrics)
    for number, line in enumerate(request.history.content, request.history.offset):
        for name, value in _plain(line).items():
            assert found[f"t/1/history/{number}"][name] == value
        _kept(line)


def _published(request: StreamRequest) -> list[bytes]:
    plan = Plan(RunEvents("e", "a", RUN), request, timedelta(minutes=5), NOW)
    batches = [texts for _, texts in plan.batches()]
    for texts in batches:
        assert len(texts) <= MAX_BATCH_EVENTS
        assert len(texts) == 1 or sum(map(len, texts)) <= BATCH_BYTES
    plan.written()
    return [text for texts in batches for text in texts]


def _plain(line: str) -> dict[str, float]:
    """The finite numbers of a line under names that need no change, where no other name could become one of them."""
    try:
        members = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    if not isinstance(members, dict) or any("." in name or not _is_plain(name) for name in members):
        return {}
    return {
        name: value
        for name, value in members.items()
        if not name.startswith("_") and type(value) in (int, float) and math.isfinite(value) and abs(value) < 2**63
    }


def _is_plain(name: str) -> bool:
    return is_name(name) and name == name.strip() and name.isascii()


def _kept(text: str) -> None:
    """The same text as a config and as a summary: what is kept of it can be written."""
    write_json(read_summary(text))
    try:
        write_json(read_config(text))
    except InvalidDefinition as exc:
        assert [error.loc for error in exc.errors] == [("config",)]


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)
_LINES = st.dictionaries(st.sampled_from(["_step", "_timestamp", "loss", "val"]) | st.text(max_size=5), _VALUES)
_REQUESTS = st.fixed_dictionaries(
    {
        "files": st.fixed_dictionaries(
            {
                "wandb-history.jsonl": st.fixed_dictionaries(
                    {
                        "offset": st.integers(0, 9),
                        "content": st.lists(_LINES.map(json.dumps), max_size=4),
                    }
                )
            }
        )
    },
    optional={"complete": st.booleans(), "exitcode": st.integers(-300, 300), "preempting": st.booleans()},
)

TARGET = Target(
    check=check,
    inputs=_REQUESTS.map(lambda request: json.dumps(request).encode()),
    words=("files", "wandb-history.jsonl", "wandb-summary.json", "offset", "content", "complete", "exitcode", "_type"),
)
