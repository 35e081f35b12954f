"""Lines of a run's history, as the client writes them."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.wandb_runs.history import MAX_SAMPLES_BYTES, Logged, clean_text, read_line
from shared.domain.events.values import MAX_METRICS, MAX_NAME_LENGTH, is_name

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


def samples(members: dict[str, Any]) -> dict[str, Any]:
    """The samples of a line with these members."""
    logged = read_line(json.dumps(members))
    assert logged is not None
    return dict(logged.samples)


def test_a_line_of_the_client() -> None:
    line = (
        '{"val":{"acc":0.5},"n":1152921504606846976,"loss":NaN,"_timestamp":1.7960999707278423e+09,'
        '"_runtime":0.12,"_step":3}'
    )
    assert read_line(line) == Logged(
        3, "2026-12-01T04:39:30.727Z", {"val.acc": 0.5, "n": 1152921504606846976, "loss": "NaN"}
    )


def test_what_is_no_number_is_left_out() -> None:
    media = {"_type": "image-file", "size": 3, "path": "media/x.png"}
    logged = {"a": True, "b": "text", "c": None, "d": [1, 2], "e": media, "f": {"g": media}, "_own": 1, "h": {"_x": 2}}
    assert samples(logged) == {"h._x": 2}


def test_numbers_stay_what_they_are() -> None:
    assert samples({"a": 2**63 - 1, "b": -(2**63), "c": 0.1, "d": -0.0}) == {
        "a": 2**63 - 1,
        "b": -(2**63),
        "c": 0.1,
        "d": -0.0,
    }
    assert samples({"a": 2**63, "b": 10**400, "c": -(10**400)}) == {
        "a": float(2**63),
        "b": "Infinity",
        "c": "-Infinity",
    }
    assert samples({"a": math.inf, "b": -math.inf}) == {"a": "Infinity", "b": "-Infinity"}


@pytest.mark.parametrize("step", [None, -1, 1.5, "3", True, 2**63])
def test_a_step_that_is_none(step: object) -> None:
    logged = read_line(json.dumps({"_step": step, "a": 1}))
    assert logged == Logged(None, None, {"a": 1})


@pytest.mark.parametrize("time", [-1, 1e30, "now", True, math.nan])
def test_a_time_that_is_none(time: object) -> None:
    logged = read_line(json.dumps({"_timestamp": time, "_step": 2.0, "a": 1}))
    assert logged == Logged(2, None, {"a": 1})


@pytest.mark.parametrize("text", ["", "[]", "1", "{", '{"a":1}x', '"a"', "nul", "[" * 2000, '{"a":' * 2000, "\ud800"])
def test_what_is_no_line(text: str) -> None:
    assert read_line(text) is None


def test_names_become_names() -> None:
    assert samples({"a\nb": 1, "": 2, "\x7f": 3, "x" * 600: 4}) == {"a b": 1, "x" * 512: 4}
    assert clean_text(7) == ""
    nested: dict[str, Any] = {"leaf": 1}
    for _ in range(30):
        nested = {"k" * 100: nested}
    assert all(len(name) <= MAX_NAME_LENGTH for name in samples(nested))


def test_very_many_samples_become_several_events() -> None:
    many = {f"metric-{number}": number for number in range(2 * MAX_METRICS + 1)}
    parts = list(Logged(0, None, many).parts())
    assert [len(part) for part in parts] == [MAX_METRICS, MAX_METRICS, 1]
    assert {name: value for part in parts for name, value in part.items()} == many
    long = {f"{number}{'ü' * 500}": number for number in range(400)}
    for part in Logged(0, None, long).parts():
        assert len(json.dumps(part, ensure_ascii=False).encode()) <= MAX_SAMPLES_BYTES
    assert not list(Logged(0, None, {}).parts())


@given(st.dictionaries(st.text(), JSON))
def test_any_line_gives_samples_that_events_may_have(members: dict[str, Any]) -> None:
    logged = read_line(json.dumps(members, ensure_ascii=False))
    if logged is None:  # half a character
        return
    for name, value in logged.samples.items():
        assert is_name(name)
        if isinstance(value, str):
            assert value in {"NaN", "Infinity", "-Infinity"}
        else:
            assert math.isfinite(value)
            assert not isinstance(value, bool)
