"""The console has words for everything that it may have to tell, and its vendored files are what they say they are."""

from __future__ import annotations

import gzip
import hashlib
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dispatcher.console
from dispatcher.console.rendering import ago, span, visible
from dispatcher.console.words import EVENTS, OUTCOMES, REASONS, STATUSES, Part, sentence, with_signs
from shared.domain.events.types import EventType
from shared.domain.explain.simulator import DryRunOutcome, Reason
from shared.storage.delivery.history import DeliveryStatus

HERE = Path(dispatcher.console.__file__).parent


def text(parts: list[Part]) -> str:
    return "".join(part.text for part in parts)


def test_there_are_words_for_everything() -> None:
    assert EVENTS.keys() == set(EventType)
    assert REASONS.keys() == set(Reason)
    assert OUTCOMES.keys() == set(DryRunOutcome)
    assert STATUSES.keys() == set(DeliveryStatus)


def test_an_automation_is_a_sentence() -> None:
    deploy = {
        "event": "ADD_ARTIFACT_ALIAS",
        "scope": {"project": "models", "collection": "llm"},
        "filter": {"alias": {"$regex": "^prod"}, "author": "alice"},
        "action": {"webhook": "deploy-hook"},
        "cooldown": {"per": "collection", "period": "1d"},
    }
    assert text(sentence(deploy)) == (
        "When an alias is added to a version in models / llm, where alias matches ^prod and author is alice, "
        "POST to deploy-hook; at most once in 1d for each collection."
    )
    metric = {
        "event": "RUN_METRIC",
        "filter": {"$or": []},
        "conditions": [{"metric": "acc", "aggregate": "AVERAGE", "window": 3, "op": "$gt", "threshold": 0.9}],
        "action": {"no_op": True},
        "rate_limit": "60/min",
    }
    assert text(sentence(metric)) == (
        "When a run's metric meets a condition, where its filter matches, where the average of 3 values of acc > 0.9, "
        "record it; at most 60/min."
    )
    state = {"event": "RUN_STATE", "states": ["failed", "crashed"], "action": {"slack": "alerts"}}
    assert text(sentence(state)) == "When a run changes its state to failed or crashed, post to Slack by alerts."


def test_titles_of_conditions_have_signs() -> None:
    assert with_signs("AVERAGE(loss) over 5 $gte 0.9") == "AVERAGE(loss) over 5 ≥ 0.9"
    assert with_signs("a$gt $gtx $ne 1") == "a$gt $gtx ≠ 1", "a metric's name stays"


def test_what_hides_is_shown() -> None:
    assert visible("a\u202eb\u200bc\x00d\ud800e\ttab\n") == "a\\u202eb\\u200bc\\u0000d\\ud800e\ttab\n"
    assert visible("模型 é 🙂") == "模型 é 🙂"


def test_times_are_told_in_their_largest_unit() -> None:
    now = datetime(2026, 11, 30, 12, tzinfo=UTC)
    assert ago(now - timedelta(seconds=90), now) == "1 min ago"
    assert ago(now + timedelta(hours=5), now) == "in 5 h"
    assert ago(now - timedelta(days=3), now) == "3 days ago"
    assert span(timedelta(milliseconds=12)) == "12 ms"


def test_vendored_files_are_those_that_were_taken() -> None:
    for name, facts in json.loads((HERE / "vendor.json").read_text()).items():
        assert hashlib.sha512((HERE / name).read_bytes()).hexdigest() == facts["sha512"], name
        assert b"sourceMappingURL" not in (HERE / name).read_bytes()
    for package in ("htmx", "lucide"):
        assert (HERE / "static" / "vendor" / f"LICENSE-{package}").stat().st_size > 100


def test_pages_are_light() -> None:
    scripts = sum(len(gzip.compress(path.read_bytes())) for path in HERE.rglob("*.js"))
    styles = sum(len(gzip.compress(path.read_bytes())) for path in HERE.rglob("*.css"))
    assert scripts < 25 << 10
    assert styles < 12 << 10
